//! `tidegate-lab bench`: throughput and reaction time, to be read by people.
//!
//! Each figure stands beside a reference measured in the same run, because absolute figures say
//! more about the machine than about the program.

mod announce;
mod live;
mod offline;
mod peer;
mod reaction;
pub(crate) mod table;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::lab::{Lab, LabError, require};
use crate::traffic::transmit::TransmitError;

/// Measures throughput, reaction time and announcing.
///
/// Throughput: a generated capture through the whole pipeline, beside a loop that only counts its
/// packets with libpcap. Reaction time: a live flood on a virtual link, from its first packet to
/// the UPDATE at the other end of a BGP session. Announcing: one route and ten thousand, from the call
/// until the peer has them, beside BIRD, GoBGP and ExaBGP.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Packets in the generated capture.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    packets: u64,

    /// Floods to measure the reaction to.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    runs: u16,

    /// Measure throughput only; needs no privileges.
    #[arg(long)]
    offline_only: bool,

    /// Measure announcing only.
    #[arg(long, conflicts_with = "offline_only")]
    announce_only: bool,

    /// Random sources of the measurement of memory.
    #[arg(long, default_value_t = 100_000_000)]
    sources: u64,

    /// Write the tables of throughput, live capture and announcing into this document, between the
    /// lines that mark them.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Arguments of the part that runs in a network namespace of its own.
#[derive(Debug, clap::Args)]
pub struct InsideArguments {
    /// Floods to measure.
    #[arg(long)]
    runs: u16,

    /// Measure announcing only.
    #[arg(long)]
    announce_only: bool,

    /// Document to write into.
    #[arg(long)]
    write: Option<PathBuf>,

    /// Folder for configuration and logs.
    #[arg(long)]
    directory: PathBuf,
}

/// Arguments of the process that feeds ExaBGP.
#[derive(Debug, clap::Args)]
pub struct FeedArguments {
    /// Socket to read from.
    socket: PathBuf,
}

/// Why a benchmark could not be run.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error(transparent)]
    Transmit(#[from] TransmitError),
    #[error("cannot {action}: {source}")]
    System { action: &'static str, source: io::Error },
    #[error("libpcap cannot read the capture: {0}")]
    Pcap(#[from] pcap::Error),
    #[error("the policy of the benchmark is refused:\n{0}")]
    Policy(#[from] tidegate_policy::Report),
    #[error("the replay failed: {0}")]
    Replay(#[from] tidegate::replay::ReplayError),
    #[error("{0}")]
    Unexpected(String),
}

fn system(action: &'static str) -> impl Fn(io::Error) -> BenchError {
    move |source| BenchError::System { action, source }
}

/// Runs the subcommand.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    conclude(measure(arguments))
}

/// Runs the part that needs a network namespace of its own.
#[must_use]
pub fn run_inside(arguments: &InsideArguments) -> ExitCode {
    let InsideArguments { runs, announce_only, write, directory } = arguments;
    let others =
        if *announce_only { Ok(()) } else { run_others(*runs, directory, write.as_deref()) };
    conclude(others.and_then(|()| announce::measure(directory, write.as_deref())))
}

fn run_others(runs: u16, directory: &Path, write: Option<&Path>) -> Result<(), BenchError> {
    let table = live::measure(directory)?;
    if let Some(path) = write {
        table::write_part(path, "live", &table)?;
    }
    reaction::measure(runs, directory)
}

/// Copies a socket to standard output, for ExaBGP to read.
#[must_use]
pub fn run_feed(arguments: &FeedArguments) -> ExitCode {
    conclude(announce::feed(&arguments.socket))
}

fn conclude(done: Result<(), BenchError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing more can be done if standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), BenchError> {
    if !arguments.announce_only {
        let table = offline::measure(arguments.packets)?;
        let memory = offline::measure_memory(arguments.sources)?;
        if let Some(path) = &arguments.write {
            table::write_part(path, "offline", &format!("{table}\n{memory}.\n"))?;
        }
    }
    if arguments.offline_only {
        return Ok(());
    }
    let lab = Lab::new()?;
    let namespace = lab.namespace("bench")?;
    let program = std::env::current_exe().map_err(system("find this program"))?;
    let mut command = namespace.command(program);
    command.arg("bench-inside").arg("--runs").arg(arguments.runs.to_string());
    command.arg("--directory").arg(lab.directory());
    command.args(arguments.announce_only.then_some("--announce-only"));
    if let Some(path) = &arguments.write {
        command.arg("--write").arg(path);
    }
    let status = command.status().map_err(system("start the measurement"))?;
    if status.success() {
        Ok(())
    } else {
        Err(BenchError::Unexpected(format!("the measurement in the namespace ended: {status}")))
    }
}

/// Runs `ip` in the namespace of this process.
fn run_ip<const N: usize>(arguments: [&str; N]) -> Result<(), BenchError> {
    let status = std::process::Command::new(require::program("ip")?)
        .args(arguments)
        .status()
        .map_err(system("run ip"))?;
    if status.success() {
        Ok(())
    } else {
        Err(BenchError::Unexpected(format!("ip {} ended: {status}", arguments.join(" "))))
    }
}

/// Writes `policy` as the only file of a policy directory below `directory`.
fn write_policy(directory: &Path, policy: &str) -> Result<PathBuf, BenchError> {
    let path = directory.join("policy");
    fs::create_dir_all(&path).map_err(system("make the policy directory"))?;
    fs::write(path.join("policy.toml"), policy).map_err(system("write the policy"))?;
    Ok(path)
}
