//! `tidegate-lab`: traffic generation, demonstration and measurements around the daemon.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidegate_interop_tests::{demo, traffic};

/// Traffic, demonstration and measurements around the tidegate daemon.
#[derive(Debug, Parser)]
#[command(name = "tidegate-lab", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// One subcommand a module: the module owns its arguments and its `run`.
#[derive(Debug, Subcommand)]
enum Command {
    Traffic(traffic::command::Arguments),
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Traffic(arguments) => traffic::command::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}
