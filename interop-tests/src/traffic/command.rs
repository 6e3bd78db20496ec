//! The `traffic` subcommand.

use std::process::ExitCode;

/// Generates traffic into a capture file or onto an interface.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Lists the vectors and mixtures by name.
    #[arg(long)]
    list: bool,
}

/// Runs the subcommand.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.list {
        for vector in tidegate_model::AttackVector::all() {
            println!("{vector}");
        }
    }
    ExitCode::SUCCESS
}
