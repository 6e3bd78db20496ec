//! Reading, beside the writer and without disturbing it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use super::StoreError;
use super::write::{AlertKey, JobRow, MessageRow};
use crate::incident::{Incident, Status, WallTime};

/// The most incidents that one listing yields.
const MAX_LISTED: u32 = 1_000;

/// Which incidents are listed, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Only those with this status.
    pub status: Option<Status>,
    /// Only those of this target, written as in the record.
    pub target: Option<String>,
    /// Only those whose onset is before this.
    pub before: Option<WallTime>,
    /// No more than these; at most 1,000.
    pub limit: u32,
}

/// Reads the store of a daemon that may be running.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens the file at `path` for reading.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = |error: rusqlite::Error| StoreError::File {
            what: "read",
            path: path.to_path_buf(),
            why: error.to_string(),
        };
        let connection = Connection::open_with_flags(path, flags).map_err(file)?;
        connection.busy_timeout(Duration::from_secs(2)).map_err(file)?;
        Ok(Self { connection, path: path.to_path_buf() })
    }

    /// The incident `id`.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub fn incident(&self, id: &str) -> Result<Option<Incident>, StoreError> {
        self.connection
            .query_row("SELECT document FROM incidents WHERE id = ?", params![id], document)
            .optional()
            .map_err(|error| self.error(&error))
    }

    /// Those that `listing` asks for, newest first.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read.
    pub fn incidents(&self, listing: &Listing) -> Result<Vec<Incident>, StoreError> {
        let query = || {
            self.connection
                .prepare(
                    "SELECT document FROM incidents WHERE (?1 IS NULL OR status = ?1) \
                     AND (?2 IS NULL OR target = ?2) AND (?3 IS NULL OR onset < ?3) \
                     ORDER BY onset DESC, id DESC LIMIT ?4",
                )?
                .query_map(
                    params![
                        listing.status.map(Status::name),
                        listing.target,
                        listing.before.map(|time| time.to_string()),
                        listing.limit.min(MAX_LISTED),
                    ],
                    document,
                )?
                .collect::<Result<Vec<_>, _>>()
        };
        query().map_err(|error| self.error(&error))
    }

    fn error(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::Sqlite { path: self.path.clone(), why: error.to_string() }
    }
}

fn document(row: &Row<'_>) -> rusqlite::Result<Incident> {
    let text: String = row.get(0)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Incidents that the last run left open. A document that cannot be read is left out: it is of no
/// use here, and stays in the file.
pub(super) fn unfinished(connection: &Connection) -> rusqlite::Result<Vec<Incident>> {
    let mut statement = connection
        .prepare("SELECT document FROM incidents WHERE status != 'closed' ORDER BY onset, id")?;
    let documents = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut incidents = Vec::new();
    for text in documents {
        match serde_json::from_str(&text?) {
            Ok(incident) => incidents.push(incident),
            Err(error) => tracing::warn!(%error, "an incident of the last run cannot be read"),
        }
    }
    Ok(incidents)
}

pub(super) fn jobs(connection: &Connection) -> rusqlite::Result<Vec<JobRow>> {
    let mut statement = connection.prepare(
        "SELECT channel, alert, event, revision, created, snapshot FROM alert_jobs \
         ORDER BY created, rowid",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(JobRow {
            key: AlertKey { channel: row.get(0)?, alert: row.get(1)? },
            event: row.get(2)?,
            revision: u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default(),
            created: time(row, 4)?,
            snapshot: row.get(5)?,
        })
    })?;
    rows.collect()
}

pub(super) fn messages(connection: &Connection) -> rusqlite::Result<Vec<MessageRow>> {
    let mut statement = connection
        .prepare("SELECT channel, alert, remote, severity, updated FROM alert_messages")?;
    let rows = statement.query_map([], |row| {
        Ok(MessageRow {
            key: AlertKey { channel: row.get(0)?, alert: row.get(1)? },
            remote: row.get(2)?,
            severity: row.get(3)?,
            updated: time(row, 4)?,
        })
    })?;
    rows.collect()
}

/// A time that someone wrote by hand becomes the epoch: it is old.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<WallTime> {
    Ok(row.get::<_, String>(column)?.parse().unwrap_or_default())
}
