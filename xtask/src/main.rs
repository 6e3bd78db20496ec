//! `cargo xtask`: the one developer command.
//!
//! Purpose: from a clone with only git, Rust and a C linker to a running demonstration
//! (`cargo xtask demo`) or a full check (`cargo xtask test`). It brings what is missing from the
//! distribution's packages, builds, and hands over to the programs that do the work.
//!
//! Absent on purpose: any dependency that needs a system library, and any change to the services
//! or the network of the host.

mod apt;
mod build;
mod check;
mod fuzz;
mod packages;
mod progress;
mod python;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use packages::Purpose;
use tools::Tools;

/// Demonstration, checks and benchmarks of tidegate.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a flood being detected, and its route appear in BIRD and go again.
    Demo {
        #[command(flatten)]
        install: Install,
        /// Print one JSON object a line instead of the timeline.
        #[arg(long)]
        json: bool,
    },
    /// Check formatting and lints, build the fuzz targets, run every test of the workspace.
    Test {
        #[command(flatten)]
        install: Install,
    },
    /// Measure throughput and reaction time.
    Bench {
        #[command(flatten)]
        install: Install,
        /// Passed on to `tidegate-lab bench`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Measure what the detector recognises, misses and mistakes.
    Accuracy {
        #[command(flatten)]
        install: Install,
        /// Passed on to `tidegate-lab accuracy`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Feed the decoders with mutated inputs, and keep those that break one.
    Fuzz {
        #[command(flatten)]
        install: Install,
        /// Which one; without it all in turn.
        #[arg(value_parser = fuzz::TARGETS)]
        target: Option<String>,
        /// How long each of them runs.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Print what other BGP daemons hold after what the speaker did, as one table.
    Interop {
        #[command(flatten)]
        install: Install,
        /// Passed on to `tidegate-lab interop`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Install {
    /// Install nothing: list what is missing and stop, with exit code 1 if anything is.
    #[arg(long)]
    no_install: bool,
}

/// Why the command ends without success. The text is complete: it is all that is printed.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(code) => code,
        Err(Failure(text)) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let (purpose, install) = match &command {
        Command::Demo { install, .. } => (Purpose::Demo, install),
        Command::Test { install } => (Purpose::Test, install),
        Command::Bench { install, .. } => (Purpose::Bench, install),
        Command::Accuracy { install, .. } => (Purpose::Accuracy, install),
        Command::Fuzz { install, .. } => (Purpose::Fuzz, install),
        Command::Interop { install, .. } => (Purpose::Interop, install),
    };
    let tools = Tools::new(&workspace());
    if install.no_install {
        return Ok(packages::list(purpose, &tools));
    }
    packages::install(purpose, &tools)?;
    match command {
        Command::Demo { json, .. } => {
            let arguments = if json { vec!["--json".to_owned()] } else { Vec::new() };
            build::run_lab(&tools, "demo", &arguments)
        }
        Command::Test { .. } => check::run(&tools),
        Command::Bench { arguments, .. } => build::run_lab(&tools, "bench", &arguments),
        Command::Accuracy { arguments, .. } => build::run_lab(&tools, "accuracy", &arguments),
        Command::Fuzz { target, seconds, .. } => fuzz::run(&tools, target.as_deref(), seconds),
        Command::Interop { arguments, .. } => build::run_lab(&tools, "interop", &arguments),
    }
}

/// The root of the workspace: the folder above this package.
fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
