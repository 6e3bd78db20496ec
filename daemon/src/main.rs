//! Entry point of the `tidegate` command.

use std::process::ExitCode;

use clap::Parser;
use tidegate::cli::Cli;

fn main() -> ExitCode {
    tidegate::commands::main(&Cli::parse())
}
