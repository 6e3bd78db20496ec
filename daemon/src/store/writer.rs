//! The one thread that writes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::write::Write;
use super::{Counters, Limits, retention};
use crate::incident::WallTime;

/// Writes that go into one commit.
const BATCH: usize = 256;

/// Writes that are kept while the disk refuses. Beyond it the oldest go.
const MAX_BACKLOG: usize = 8_192;

/// How long after a failed commit the next is tried.
const RETRY: Duration = Duration::from_secs(1);

/// How often what is too old or too much is removed.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// Writes until every [`super::Store`] is gone.
pub(super) fn run(
    mut connection: Connection,
    writes: &Receiver<Write>,
    limits: Limits,
    counters: &Counters,
) {
    let mut backlog = Vec::new();
    let mut open = true;
    let mut swept = Instant::now();
    while open {
        let patience = if backlog.is_empty() { RETENTION_INTERVAL } else { RETRY };
        match writes.recv_timeout(patience) {
            Ok(write) => backlog.push(write),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => open = false,
        }
        backlog.extend(writes.try_iter().take(BATCH));
        keep_latest(&mut backlog);
        match commit(&mut connection, &backlog) {
            Ok(()) => {
                backlog.iter().for_each(Write::done);
                backlog.clear();
            }
            Err(error) => {
                let failed = counters.failed.fetch_add(1, Ordering::Relaxed) + 1;
                if failed.is_power_of_two() {
                    tracing::error!(
                        failed, %error,
                        "cannot write the incident store; records wait in memory"
                    );
                }
                let excess = backlog.len().saturating_sub(MAX_BACKLOG);
                backlog.drain(..excess);
                counters.lost.fetch_add(excess as u64, Ordering::Relaxed);
                // The queue fills up meanwhile, which is bounded and harms nobody.
                if open {
                    std::thread::sleep(RETRY);
                }
            }
        }
        if swept.elapsed() >= RETENTION_INTERVAL {
            swept = Instant::now();
            if let Err(error) = retention::enforce(&mut connection, limits, wall_now()) {
                tracing::warn!(%error, "cannot remove old incidents");
            }
        }
    }
}

fn wall_now() -> WallTime {
    let now = jiff::Timestamp::now().as_nanosecond();
    WallTime::from_nanos(u64::try_from(now).unwrap_or_default())
}

/// Of an incident only the latest state is written.
fn keep_latest(backlog: &mut Vec<Write>) {
    let mut latest = BTreeMap::new();
    for (index, write) in backlog.iter().enumerate() {
        if let Write::Incident(incident) = write {
            latest.insert(incident.id.clone(), index);
        }
    }
    let mut index = 0;
    backlog.retain(|write| {
        let here = index;
        index += 1;
        match write {
            Write::Incident(incident) => latest.get(&incident.id) == Some(&here),
            _ => true,
        }
    });
}

fn commit(connection: &mut Connection, writes: &[Write]) -> rusqlite::Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for write in writes {
        if let Err(error) = write.apply(&transaction) {
            if !is_own_fault(&error) {
                return Err(error);
            }
            // Tried again it would fail again, and keep all the others from the disk.
            tracing::error!(%error, "a record does not fit the incident store; it is left out");
        }
    }
    transaction.commit()
}

/// Whether the write itself is wrong rather than the disk.
fn is_own_fault(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ConstraintViolation | TooBig | TypeMismatch),
        None => matches!(error, rusqlite::Error::ToSqlConversionFailure(_)),
    }
}
