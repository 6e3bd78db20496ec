//! Entry point of the `tidegate` command.

mod helpers;

use std::process::ExitCode;

use clap::Parser;
use tidegate::cli::Cli;

fn main() -> ExitCode {
    helpers::main().unwrap_or_else(|| tidegate::commands::main(&Cli::parse()))
}
