//! What is written, and how.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use rusqlite::{Transaction, params};

use super::journal::{Confirmation, Intent};
use crate::incident::{Incident, WallTime};

/// Alerts of one channel that wait to be sent; beyond it the oldest go. The same bound as in
/// memory, see [`crate::alerts::MAX_WAITING`].
const MAX_JOBS: usize = crate::alerts::MAX_WAITING;

/// An alert at a channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertKey {
    /// Name of the channel in the configuration.
    pub channel: String,
    /// The alert.
    pub alert: String,
}

/// An alert that waits to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Which alert, and where to.
    pub key: AlertKey,
    /// What happened.
    pub event: String,
    /// Grows with every newer state of the same alert and event.
    pub revision: u64,
    /// When it was to be sent first.
    pub created: WallTime,
    /// What is to be sent, as JSON.
    pub snapshot: String,
}

/// What a channel knows of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Which alert, and where.
    pub key: AlertKey,
    /// What the service calls the message, if it can be changed.
    pub remote: Option<String>,
    /// The severity that was told last.
    pub severity: String,
    /// When.
    pub updated: WallTime,
}

/// One thing for the writer thread to do.
#[derive(Debug)]
pub(super) enum Write {
    Incident(Arc<Incident>),
    Job(JobRow),
    JobDone {
        key: AlertKey,
        event: String,
        revision: u64,
    },
    Message(MessageRow),
    MessageGone(AlertKey),
    /// Answered when it is on disk.
    Intent(Intent, SyncSender<()>),
    Confirm(Confirmation),
    Settle(SyncSender<()>),
}

impl Write {
    /// Carries it out within `transaction`.
    pub(super) fn apply(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Incident(incident) => put_incident(transaction, incident),
            Self::Job(job) => put_job(transaction, job),
            Self::JobDone { key, event, revision } => transaction
                .prepare(
                    "DELETE FROM alert_jobs WHERE channel = ? AND alert = ? AND event = ? \
                     AND revision <= ?",
                )?
                .execute(params![key.channel, key.alert, event, signed(*revision)])
                .map(drop),
            Self::Message(message) => transaction
                .prepare(
                    "INSERT OR REPLACE INTO alert_messages (channel, alert, remote, severity, \
                     updated) VALUES (?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    message.key.channel,
                    message.key.alert,
                    message.remote,
                    message.severity,
                    message.updated.to_string(),
                ])
                .map(drop),
            Self::MessageGone(key) => transaction
                .prepare("DELETE FROM alert_messages WHERE channel = ? AND alert = ?")?
                .execute(params![key.channel, key.alert])
                .map(drop),
            Self::Intent(intent, _) => intent.apply(transaction),
            Self::Confirm(confirmation) => confirmation.apply(transaction),
            Self::Settle(_) => Ok(()),
        }
    }

    /// Tells whoever waits that it is on disk.
    pub(super) fn done(&self) {
        if let Self::Intent(_, done) | Self::Settle(done) = self {
            // Who asked may have given up waiting.
            let _ = done.try_send(());
        }
    }
}

/// SQLite's integers are signed.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn put_incident(transaction: &Transaction<'_>, incident: &Incident) -> rusqlite::Result<()> {
    let document = serde_json::to_string(incident)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let time = |time: Option<WallTime>| time.map(|time| time.to_string());
    transaction
        .prepare(
            "INSERT OR REPLACE INTO incidents (id, target, policy_group, status, severity, vector, \
             onset, detected, ended, withdrawn, updated, peak_packets_per_second, \
             peak_bits_per_second, packets, bytes, sources, response, policy_commit, document) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            incident.id,
            incident.target.to_string(),
            incident.group,
            incident.status.name(),
            incident.severity.map(tidegate_model::Severity::name),
            incident.main_vector(),
            incident.times.onset.to_string(),
            incident.times.detected.to_string(),
            time(incident.times.ended),
            time(incident.times.withdrawn),
            incident.updated.to_string(),
            signed(incident.peak.packets_per_second),
            signed(incident.peak.bits_per_second),
            signed(incident.packets),
            signed(incident.bytes),
            signed(incident.sources),
            incident.policy.response,
            incident.policy.commit,
            document,
        ])
        .map(drop)
}

fn put_job(transaction: &Transaction<'_>, job: &JobRow) -> rusqlite::Result<()> {
    transaction
        .prepare(
            "INSERT OR REPLACE INTO alert_jobs (channel, alert, event, revision, created, \
             snapshot) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            job.key.channel,
            job.key.alert,
            job.event,
            signed(job.revision),
            job.created.to_string(),
            job.snapshot,
        ])?;
    transaction
        .prepare(
            "DELETE FROM alert_jobs WHERE rowid IN (SELECT rowid FROM alert_jobs WHERE channel = ? \
             ORDER BY created DESC, rowid DESC LIMIT -1 OFFSET ?)",
        )?
        .execute(params![job.key.channel, signed(MAX_JOBS as u64)])
        .map(drop)
}
