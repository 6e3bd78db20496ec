//! `tidegate-lab interop`: the speaker with the BGP daemons that operators run.
//!
//! Purpose: one table, of what each daemon really holds after what our side did. Every daemon runs
//! in network namespaces of its own and is asked by its own means (birdc, vtysh, gobgp, bgpctl,
//! ExaBGP's JSON). Our side is the speaker's library in a process of its own, [`speaker`].
//!
//! ```text
//!   ours (AS 65010) ----- router (AS 65001): the daemon ----- third (AS 65003): BIRD
//! ```
//!
//! Absent on purpose: the rest of the daemon, whose tests are elsewhere; speed, which is measured by
//! [`crate::bench`].

mod bench;
mod column;
mod ours;
mod peer;
mod profile;
mod report;
mod route;
pub mod speaker;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use crate::lab::{LabError, catch_signals, require};

pub use column::{Case, Cell, Column, Operation, Told, run_column};
pub use peer::PeerKind;
pub use route::{Held, Kind};

/// Runs the matrix of sessions with real BGP daemons and prints it as a table.
///
/// A daemon that is not installed is shown as absent. The exit code is 1 if any cell failed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,

    /// Write the table to this file as well.
    #[arg(long)]
    write: Option<PathBuf>,

    /// Only this peer; may be given more than once.
    #[arg(long)]
    peer: Vec<PeerKind>,

    /// An absent daemon is a failure, as where `CI` is set.
    #[arg(long)]
    required: bool,
}

/// Why something could not be done or seen.
#[derive(Debug, thiserror::Error)]
pub enum InteropError {
    /// The laboratory.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// An answer that says something else than expected.
    #[error("{0}")]
    Answer(String),
    /// The daemon cannot do this, and that is known.
    #[error("{0}")]
    Unsupported(String),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Runs the subcommand.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match matrix(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Nothing more can be done if standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn matrix(arguments: &Arguments) -> Result<ExitCode, InteropError> {
    catch_signals().map_err(|error| InteropError::Answer(format!("signals: {error}")))?;
    let program = env::current_exe()
        .map_err(|error| InteropError::Answer(format!("this program has no path: {error}")))?;
    let peers: &[PeerKind] =
        if arguments.peer.is_empty() { &PeerKind::ALL } else { &arguments.peer };
    let columns = columns(&program, peers)?;
    let printed = if arguments.json {
        writeln!(io::stdout(), "{}", report::json(&columns))
    } else {
        write!(io::stdout(), "{}", report::text(&columns))
    };
    printed.map_err(|source| InteropError::Write { path: "standard output".into(), source })?;
    if let Some(path) = &arguments.write {
        fs::write(path, report::markdown(&columns))
            .map_err(|source| InteropError::Write { path: path.clone(), source })?;
    }
    let bad = columns.iter().flat_map(|column| &column.cells).any(|(_, cell)| match cell {
        Cell::Fail(_) => true,
        Cell::Absent(_) => arguments.required || require::in_ci(),
        Cell::Ok | Cell::Unsupported(_) => false,
    });
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// All columns at once: they share nothing, and mostly wait.
fn columns(program: &Path, peers: &[PeerKind]) -> Result<Vec<Column>, InteropError> {
    thread::scope(|scope| {
        let running: Vec<_> =
            peers.iter().map(|peer| scope.spawn(|| run_column(program, *peer, progress))).collect();
        running.into_iter().map(|column| column::joined(column.join())).collect()
    })
}

/// One line on standard error.
fn progress(peer: PeerKind, case: Case, cell: &Cell) {
    let why = cell.why().map_or(String::new(), |why| format!(" ({why})"));
    // Nobody has to see it.
    let _ = writeln!(io::stderr(), "{}: {case}: {}{why}", peer.name(), cell.word());
}
