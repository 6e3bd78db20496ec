//! The tables, and how an older file becomes one of today.

use rusqlite::{Connection, Transaction};

/// Version of the schema, kept in `PRAGMA user_version`.
pub const SCHEMA_VERSION: i64 = 1;

/// `PRAGMA application_id`: "tide". Tells our files from other programs'.
pub(super) const APPLICATION_ID: i64 = 0x7469_6465;

/// `MIGRATIONS[n]` leads from version n to n + 1. Never changed once released; new ones are added.
const MIGRATIONS: &[&str] = &[r"
CREATE TABLE incidents (
  id TEXT PRIMARY KEY NOT NULL,
  target TEXT NOT NULL,
  policy_group TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('active', 'ended', 'closed')),
  severity TEXT,
  vector TEXT NOT NULL,
  onset TEXT NOT NULL,
  detected TEXT NOT NULL,
  ended TEXT,
  withdrawn TEXT,
  updated TEXT NOT NULL,
  peak_packets_per_second INTEGER NOT NULL,
  peak_bits_per_second INTEGER NOT NULL,
  packets INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  sources INTEGER NOT NULL,
  response TEXT,
  policy_commit TEXT,
  document TEXT NOT NULL CHECK (json_valid(document))
) STRICT;
CREATE INDEX incidents_by_onset ON incidents (onset);
CREATE INDEX incidents_by_target ON incidents (target, onset);
CREATE INDEX incidents_by_status ON incidents (status, updated);

CREATE TABLE intents (
  backend TEXT NOT NULL,
  nlri TEXT NOT NULL,
  run INTEGER NOT NULL,
  command INTEGER NOT NULL,
  verb TEXT NOT NULL CHECK (verb IN ('announce', 'withdraw')),
  state TEXT NOT NULL CHECK (state IN ('intended', 'applied', 'pending', 'failed')),
  time TEXT NOT NULL,
  lease_until TEXT,
  description TEXT NOT NULL,
  PRIMARY KEY (backend, nlri)
) STRICT;

CREATE TABLE alert_jobs (
  channel TEXT NOT NULL,
  alert TEXT NOT NULL,
  event TEXT NOT NULL,
  revision INTEGER NOT NULL,
  created TEXT NOT NULL,
  snapshot TEXT NOT NULL CHECK (json_valid(snapshot)),
  PRIMARY KEY (channel, alert, event)
) STRICT;
CREATE INDEX alert_jobs_by_age ON alert_jobs (channel, created);

CREATE TABLE alert_messages (
  channel TEXT NOT NULL,
  alert TEXT NOT NULL,
  remote TEXT,
  severity TEXT NOT NULL,
  updated TEXT NOT NULL,
  PRIMARY KEY (channel, alert)
) STRICT;
"];

/// Brings the file from `version` to [`SCHEMA_VERSION`], all or nothing.
pub(super) fn migrate(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let done = usize::try_from(version).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    stamp(&transaction)?;
    transaction.commit()
}

fn stamp(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_its_migration() {
        assert_eq!(i64::try_from(MIGRATIONS.len()), Ok(SCHEMA_VERSION));
    }
}
