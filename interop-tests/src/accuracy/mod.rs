//! `tidegate-lab accuracy`: what is recognised, what is missed and what is taken for something
//! else.
//!
//! Floods from the generator and labelled captures go through meter and detector; what is told of
//! them is laid beside what is right. The generator does not know the classifier's signatures, so
//! that either can be wrong about a protocol and be found out.

mod case;
mod chain;
mod recorded;
mod report;
mod score;
mod synthesis;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use tidegate_detector::capture::CaptureError;

use crate::lab::require;
use case::Case;
use recorded::Recorded;
use report::Report;
use score::{Judged, Verdict};

/// Judges the detector by generated traffic and by labelled captures.
///
/// Prints tables: detected and missed, the right vector, delay, false starts, and how far the
/// confidence can be believed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Seeds of the generator: each makes other sources, ports and lengths.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,

    /// Only trials whose name contains this.
    #[arg(long)]
    only: Option<String>,

    /// Print one JSON object instead of the tables.
    #[arg(long)]
    json: bool,

    /// Write the tables to this file as well.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Why accuracy could not be measured.
#[derive(Debug, thiserror::Error)]
enum AccuracyError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    #[error("{path} is no list of labels: {source}")]
    Labels { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("the report cannot be laid out")]
    Format(#[from] std::fmt::Error),
}

/// Runs the subcommand.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match measure(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing more can be done if standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), AccuracyError> {
    let wanted = |case: &Case| arguments.only.as_ref().is_none_or(|only| case.name.contains(only));
    let cases = (1..=arguments.seeds).flat_map(case::all).filter(wanted).collect();
    let judged = judge_all(cases);
    let recorded = if arguments.only.is_some() { Vec::new() } else { judge_recorded()? };
    let filters = synthesis::measure(arguments.seeds, arguments.only.as_deref())?;
    let report = Report { seeds: arguments.seeds, judged, recorded, filters };
    let markdown = report.markdown()?;
    if let Some(path) = &arguments.write {
        let unwritable = |source| AccuracyError::Write { path: path.clone(), source };
        fs::write(path, &markdown).map_err(unwritable)?;
    }
    let mut output = io::stdout().lock();
    if arguments.json {
        writeln!(output, "{}", report.json())?;
    } else {
        write!(output, "{markdown}")?;
    }
    Ok(output.flush()?)
}

/// The captures beside the workspace, if there are any.
fn judge_recorded() -> Result<Vec<Recorded>, AccuracyError> {
    let mut all = Vec::new();
    for folder in ["attacks", "benign"] {
        match require::shared_data(folder) {
            Ok(path) => all.extend(recorded::judge_all(&path)?),
            Err(missing) => writeln!(io::stderr(), "skipped: {missing}")?,
        }
    }
    Ok(all)
}

/// Runs the trials on all cores; the verdicts come in the order of the trials.
fn judge_all(cases: Vec<Case>) -> Vec<Judged> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = cases.len().div_ceil(workers).max(1);
    let judge = |case: &Case| {
        let told = case.run();
        let verdict = Verdict::of(&case.expected, case.onset, &told);
        Judged { case: case.clone(), watched: told.watched, verdict }
    };
    thread::scope(|scope| {
        let running: Vec<_> = cases
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(judge).collect::<Vec<Judged>>()))
            .collect();
        running.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}
