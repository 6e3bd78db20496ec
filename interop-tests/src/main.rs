//! `tidegate-lab`: traffic generation, demonstration and measurements around the daemon.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidegate_interop_tests::{accuracy, bench, demo, interop, traffic};

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
    Bench(bench::Arguments),
    Accuracy(accuracy::Arguments),
    Interop(interop::Arguments),
    #[command(hide = true)]
    BenchInside(bench::InsideArguments),
    #[command(hide = true)]
    BenchFeed(bench::FeedArguments),
    #[command(hide = true)]
    InteropSpeaker(interop::speaker::SpeakerArguments),
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Traffic(arguments) => traffic::command::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Accuracy(arguments) => accuracy::run(&arguments),
        Command::BenchInside(arguments) => bench::run_inside(&arguments),
        Command::BenchFeed(arguments) => bench::run_feed(&arguments),
        Command::Interop(arguments) => interop::run(&arguments),
        Command::InteropSpeaker(arguments) => interop::speaker::run(&arguments),
    }
}
