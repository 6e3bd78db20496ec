//! Opening: the file as it is, brought up to date, or moved aside.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::journal::Held;
use super::schema::{APPLICATION_ID, SCHEMA_VERSION, migrate};
use super::write::{JobRow, MessageRow};
use super::{Counters, Limits, QUEUE, Store, StoreError, read, retention, writer};
use crate::incident::{Incident, WallTime};

/// How long a commit waits for someone else who has the file locked, such as `sqlite3`.
const BUSY: Duration = Duration::from_secs(2);

/// The log is cut back to this after a checkpoint, in bytes.
const WAL_LIMIT: i64 = 16 << 20;

/// An opened store, and what the last run left in it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Incidents that were not closed, oldest first.
    pub unfinished: Vec<Incident>,
    /// Alerts that were not sent, oldest first.
    pub jobs: Vec<JobRow>,
    /// What channels knew of alerts.
    pub messages: Vec<MessageRow>,
    /// What backends may hold of ours, by the journal.
    pub held: Vec<Held>,
    /// Where a file was moved that could not be read. Nothing is known of the last run then: the
    /// journal is lost, and what backends hold must be learnt from them.
    pub moved: Option<PathBuf>,
}

/// What a file turned out to be.
enum Failure {
    /// No database, or a damaged one.
    Damaged(String),
    /// Anything else.
    Error(StoreError),
}

/// Opens or creates the file at `path` and starts its writer thread. `now` is wall time, for the
/// retention and the name of a damaged file.
///
/// # Errors
/// [`StoreError`] if there can be no store at `path`. A damaged file is no error: it is moved aside.
pub fn open(path: &Path, limits: Limits, now: WallTime) -> Result<Opened, StoreError> {
    let mut moved = None;
    let mut connection = match prepare(path) {
        Ok(connection) => connection,
        Err(Failure::Error(error)) => return Err(error),
        Err(Failure::Damaged(why)) => {
            let aside = move_aside(path, now)?;
            tracing::error!(
                file = %path.display(), moved_to = %aside.display(), why,
                "the incident store is damaged; it was moved aside and a new one begun"
            );
            moved = Some(aside);
            prepare(path).map_err(|failure| match failure {
                Failure::Error(error) => error,
                Failure::Damaged(why) => StoreError::Sqlite { path: path.to_path_buf(), why },
            })?
        }
    };
    let sqlite = |error: rusqlite::Error| StoreError::Sqlite {
        path: path.to_path_buf(),
        why: error.to_string(),
    };
    retention::enforce(&mut connection, limits, now).map_err(sqlite)?;
    let unfinished = read::unfinished(&connection).map_err(sqlite)?;
    let jobs = read::jobs(&connection).map_err(sqlite)?;
    let messages = read::messages(&connection).map_err(sqlite)?;
    let held = super::journal::held(&connection).map_err(sqlite)?;
    let counters = Arc::new(Counters::default());
    let (queue, writes) = sync_channel(QUEUE);
    let store = Store { queue, counters: Arc::clone(&counters) };
    thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || writer::run(connection, &writes, limits, &counters))
        .map_err(|error| file_error("start the writer of", path, &error))?;
    Ok(Opened { store, unfinished, jobs, messages, held, moved })
}

fn file_error(what: &'static str, path: &Path, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::File { what, path: path.to_path_buf(), why: why.to_string() }
}

fn prepare(path: &Path) -> Result<Connection, Failure> {
    let new = !path.exists();
    let judge = |error: rusqlite::Error| judge(path, &error);
    let mut connection =
        Connection::open(path).map_err(|error| Failure::Error(file_error("open", path, &error)))?;
    connection.busy_timeout(BUSY).map_err(judge)?;
    if new {
        // Records say who was attacked and what was done: not for everyone.
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(path, mode)
            .map_err(|error| Failure::Error(file_error("set the mode of", path, &error)))?;
    }
    let version: i64 = pragma(&connection, "user_version").map_err(judge)?;
    check_owner(&connection, path, version)?;
    if version == 0 {
        // Before the first table, or it has no effect.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(judge)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(judge)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(judge)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT).map_err(judge)?;
    if version != 0 {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(judge)?;
        if verdict != "ok" {
            return Err(Failure::Damaged(verdict));
        }
    }
    migrate(&mut connection, version).map_err(judge)?;
    check_tables(&connection).map_err(judge)?;
    Ok(connection)
}

fn check_owner(connection: &Connection, path: &Path, version: i64) -> Result<(), Failure> {
    let judge = |error: rusqlite::Error| judge(path, &error);
    let application: i64 = pragma(connection, "application_id").map_err(judge)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(judge)?;
    let path = path.to_path_buf();
    if application != APPLICATION_ID && (tables > 0 || application != 0 || version != 0) {
        return Err(Failure::Error(StoreError::Foreign { path }));
    }
    if version > SCHEMA_VERSION {
        return Err(Failure::Error(StoreError::Newer { path, found: version }));
    }
    Ok(())
}

/// The stamp may be there and the tables not: someone has been at it by hand.
fn check_tables(connection: &Connection) -> rusqlite::Result<()> {
    for table in ["incidents", "intents", "alert_jobs", "alert_messages"] {
        connection.prepare(&format!("SELECT * FROM {table} LIMIT 0"))?;
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Whether an error says that the file is damaged, or something that passes.
fn judge(path: &Path, error: &rusqlite::Error) -> Failure {
    let passing = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
        )
    );
    if passing {
        Failure::Error(file_error("use", path, error))
    } else {
        Failure::Damaged(error.to_string())
    }
}

/// Moves the file and what belongs to it away, and says where.
fn move_aside(path: &Path, now: WallTime) -> Result<PathBuf, StoreError> {
    let with = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    let damaged = with(&format!(".damaged-{}", now.compact()));
    for suffix in ["", "-wal", "-shm"] {
        let from = with(suffix);
        let mut to = damaged.clone().into_os_string();
        to.push(suffix);
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error("move aside", &from, &error)),
        }
    }
    Ok(damaged)
}
