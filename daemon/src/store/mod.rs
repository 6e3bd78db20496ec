//! What survives a restart: incidents, alerts that wait to be sent, and the journal of intents, in
//! one SQLite file.
//!
//! ```text
//!  recorder, alerts, journal --Store (bounded queue, never waits)--> writer thread --> SQLite
//!                                            CLI, API --> Reader (read only) ----------^
//! ```
//!
//! Write-ahead log with `synchronous = FULL`: what was committed survives a power cut. One thread
//! writes; whoever hands it something never waits for the disk. A file that SQLite cannot read is
//! moved aside and a new one begun: records are worth less than a daemon that starts. The schema is
//! described in `docs/incidents.md`; any SQLite tool can read it.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod journal;
mod open;
mod read;
mod retention;
mod schema;
mod write;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::incident::Incident;

pub use open::{Opened, open};
pub use read::{Listing, Reader};
pub use schema::SCHEMA_VERSION;
pub use write::{AlertKey, JobRow, MessageRow};

use write::Write;

/// Writes that wait for the writer thread. What finds no room is counted and forgotten: an
/// incident is written again with its next change.
const QUEUE: usize = 8_192;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Closed incidents go when they are older than this.
    pub keep: Duration,
    /// The oldest closed incidents go while the file is larger than this, in bytes.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { keep: Duration::from_secs(90 * 86_400), max_bytes: 256 << 20 }
    }
}

/// Why a store cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, created or moved.
    #[error("cannot {what} {}: {why}; check that the directory exists and tidegate may write there", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It was written by a later version.
    #[error(
        "{} has schema {found}, this tidegate knows {SCHEMA_VERSION}; use the newer tidegate, or name another file",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It is a database of something else.
    #[error("{} is the database of another program; name another file", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// SQLite refused.
    #[error("{}: {why}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        why: String,
    },
}

/// Hands things to the writer thread. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Store {
    queue: SyncSender<Write>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    /// Writes that found no room in a queue.
    lost: AtomicU64,
    /// Commits that failed.
    failed: AtomicU64,
}

impl Store {
    /// Keeps `incident`, in place of what was kept of it before.
    pub fn put_incident(&self, incident: Arc<Incident>) {
        self.send(Write::Incident(incident));
    }

    /// Keeps an alert until it is sent.
    pub fn put_job(&self, job: JobRow) {
        self.send(Write::Job(job));
    }

    /// Forgets an alert that was sent or given up, unless a later revision has taken its place.
    pub fn remove_job(&self, key: AlertKey, event: &str, revision: u64) {
        self.send(Write::JobDone { key, event: event.to_owned(), revision });
    }

    /// Keeps what a channel knows of an alert.
    pub fn put_message(&self, message: MessageRow) {
        self.send(Write::Message(message));
    }

    /// Forgets what a channel knows of an alert.
    pub fn remove_message(&self, key: AlertKey) {
        self.send(Write::MessageGone(key));
    }

    /// Waits until everything handed over so far is on disk, at most `patience`; whether it is.
    /// For the end of a run and for tests.
    #[must_use]
    pub fn settle(&self, patience: Duration) -> bool {
        let (done, settled) = sync_channel(1);
        self.send(Write::Settle(done)) && settled.recv_timeout(patience).is_ok()
    }

    /// Writes that were lost because the disk was too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counters.lost.load(Ordering::Relaxed)
    }

    /// Commits that failed. Each was tried again.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.counters.failed.load(Ordering::Relaxed)
    }

    fn send(&self, write: Write) -> bool {
        match self.queue.try_send(write) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                let lost = self.counters.lost.fetch_add(1, Ordering::Relaxed) + 1;
                if lost.is_power_of_two() {
                    tracing::warn!(lost, "the incident store is too slow; records are incomplete");
                }
                false
            }
        }
    }
}
