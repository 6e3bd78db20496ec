//! The journal of intents: what a backend may hold because of us, written before it is told.
//!
//! There is one row a route and backend: the latest intent and what became of it. So the journal
//! is as small as the ledger, and to replay it twice changes nothing. A route whose withdrawal was
//! confirmed has no row.
//!
//! ```text
//!  intend(announce) --durable--> command --> confirm(applied)     row: announce, applied
//!  command(withdraw) --> intend(withdraw) --> confirm(applied)    no row
//! ```
//!
//! An announcement may wait for its [`Receipt`] before it is sent, as long as the caller chooses. A
//! withdrawal never does: it is sent first and journalled afterwards, so that a full disk or a dead
//! one cannot keep a route installed. If the journal is lost, nothing is known and nothing is
//! announced; what backends hold of ours is learnt from them by its mark.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use rusqlite::{Connection, Transaction, params};
use tidegate_bgpd::convert::{decode_flowspec, encode_nlri};
use tidegate_model::{
    AddressFamily, BackendId, Command, CommandKind, MitigationKey, Nlri, Outcome, OutcomeKind,
};

use super::Store;
use super::read::time;
use super::write::{Write, signed};
use crate::event::Verb;
use crate::incident::WallTime;
use crate::json::hex;

/// Keeps the journal of one run.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    /// Start of the run: command numbers begin anew with each.
    run: u64,
    unwritable: AtomicU64,
}

/// An intent, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    backend: String,
    nlri: String,
    run: u64,
    command: u64,
    verb: Verb,
    time: WallTime,
    lease_until: Option<WallTime>,
    description: String,
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confirmation {
    backend: String,
    nlri: String,
    run: u64,
    command: u64,
    verb: Verb,
    state: &'static str,
}

/// Whether an intent is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is, and survives a power cut.
    Durable,
    /// Not within the time that was given; it may yet be.
    NotYet,
    /// It will not be: the queue is full or the writer is gone.
    Lost,
}

/// Answers whether an intent is on disk.
#[derive(Debug)]
pub struct Receipt(Option<Receiver<()>>);

impl Receipt {
    /// Waits for the disk, at most `patience`.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> Durability {
        match self.0.as_ref().map(|receiver| receiver.recv_timeout(patience)) {
            Some(Ok(())) => Durability::Durable,
            Some(Err(RecvTimeoutError::Timeout)) => Durability::NotYet,
            Some(Err(RecvTimeoutError::Disconnected)) | None => Durability::Lost,
        }
    }
}

/// What a backend may hold of ours, by the journal of earlier runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where and what.
    pub key: MitigationKey,
    /// What was wanted last.
    pub intent: Verb,
    /// Whether the backend had confirmed it.
    pub confirmed: bool,
    /// When the lease of an announcement is over.
    pub lease_until: Option<WallTime>,
}

impl Journal {
    /// The journal of the run that began at `started`.
    #[must_use]
    pub fn new(store: Store, started: WallTime) -> Self {
        Self { store, run: started.as_nanos(), unwritable: AtomicU64::new(0) }
    }

    /// Writes down what `command` is about to do. Never waits; the [`Receipt`] can.
    pub fn intend(&self, now: WallTime, command: &Command) -> Receipt {
        let nlri = command.nlri();
        let Some(encoded) = encode(nlri) else {
            self.unwritable.fetch_add(1, Ordering::Relaxed);
            return Receipt(None);
        };
        let (verb, lease_until) = match &command.kind {
            CommandKind::Announce { lease, .. } => (Verb::Announce, Some(now.after(*lease))),
            CommandKind::Withdraw(_) => (Verb::Withdraw, None),
        };
        let intent = Intent {
            backend: command.backend.to_string(),
            nlri: encoded,
            run: self.run,
            command: command.id.0,
            verb,
            time: now,
            lease_until,
            description: nlri.to_string(),
        };
        let (done, receipt) = sync_channel(1);
        let sent = self.store.send(Write::Intent(intent, done));
        Receipt(sent.then_some(receipt))
    }

    /// Writes down what a backend answered to a command that did `verb`.
    pub fn confirm(&self, verb: Verb, outcome: &Outcome) {
        let Some(nlri) = encode(&outcome.nlri) else { return };
        let state = match outcome.kind {
            OutcomeKind::Applied { .. } => "applied",
            OutcomeKind::Pending { .. } => "pending",
            OutcomeKind::Rejected { .. } | OutcomeKind::Failed { .. } => "failed",
        };
        let confirmation = Confirmation {
            backend: outcome.backend.to_string(),
            nlri,
            run: self.run,
            command: outcome.command.0,
            verb,
            state,
        };
        self.store.send(Write::Confirm(confirmation));
    }

    /// Intents that cannot be written because their NLRI has no encoding. No backend takes such a
    /// route either.
    #[must_use]
    pub fn unwritable(&self) -> u64 {
        self.unwritable.load(Ordering::Relaxed)
    }
}

const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Announce => "announce",
        Verb::Withdraw => "withdraw",
    }
}

impl Intent {
    /// A later intent takes the place of an earlier one, never the other way round.
    pub(super) fn apply(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction
            .prepare(
                "INSERT INTO intents (backend, nlri, run, command, verb, state, time, lease_until, \
                 description) VALUES (?, ?, ?, ?, ?, 'intended', ?, ?, ?) \
                 ON CONFLICT (backend, nlri) DO UPDATE SET run = excluded.run, \
                 command = excluded.command, verb = excluded.verb, state = excluded.state, \
                 time = excluded.time, lease_until = excluded.lease_until \
                 WHERE (excluded.run, excluded.command) > (run, command)",
            )?
            .execute(params![
                self.backend,
                self.nlri,
                signed(self.run),
                signed(self.command),
                verb_name(self.verb),
                self.time.to_string(),
                self.lease_until.map(|time| time.to_string()),
                self.description,
            ])
            .map(drop)
    }
}

impl Confirmation {
    /// An answer to a command that a later one overtook says nothing any more.
    pub(super) fn apply(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let gone = self.verb == Verb::Withdraw && self.state == "applied";
        let sql = if gone {
            "DELETE FROM intents WHERE backend = ?1 AND nlri = ?2 AND run = ?3 AND command = ?4 \
             AND verb = 'withdraw' AND ?5 = 'applied'"
        } else {
            "UPDATE intents SET state = ?5 WHERE backend = ?1 AND nlri = ?2 AND run = ?3 \
             AND command = ?4"
        };
        transaction
            .prepare(sql)?
            .execute(params![
                self.backend,
                self.nlri,
                signed(self.run),
                signed(self.command),
                self.state
            ])
            .map(drop)
    }
}

/// What backends may hold. A row that cannot be read is left out with a warning: its route is still
/// found by its mark at the backend.
pub(super) fn held(connection: &Connection) -> rusqlite::Result<Vec<Held>> {
    let mut statement = connection.prepare(
        "SELECT backend, nlri, verb, state, lease_until, description FROM intents \
         ORDER BY backend, nlri",
    )?;
    let mut rows = statement.query([])?;
    let mut held = Vec::new();
    while let Some(row) = rows.next()? {
        let (backend, nlri): (String, String) = (row.get(0)?, row.get(1)?);
        let key = backend_from(&backend)
            .zip(decode(&nlri))
            .map(|(backend, nlri)| MitigationKey { backend, nlri });
        let Some(key) = key else {
            let description: String = row.get(5)?;
            tracing::warn!(backend, route = description, "an intent of the journal is not known");
            continue;
        };
        let verb: String = row.get(2)?;
        let state: String = row.get(3)?;
        let lease: Option<String> = row.get(4)?;
        held.push(Held {
            key,
            intent: if verb == "announce" { Verb::Announce } else { Verb::Withdraw },
            confirmed: state == "applied",
            lease_until: lease.map(|_| time(row, 4)).transpose()?,
        });
    }
    Ok(held)
}

fn backend_from(text: &str) -> Option<BackendId> {
    match text.split_once(' ') {
        Some(("peer", name)) => Some(BackendId::Peer(name.to_owned())),
        Some(("backend", name)) => Some(BackendId::External(name.to_owned())),
        None if text == "kernel" => Some(BackendId::Kernel),
        _ => None,
    }
}

/// `203.0.113.7/32`, or `flow4 ` and the octets of RFC 8955 §4.1 in hexadecimal.
fn encode(nlri: &Nlri) -> Option<String> {
    match nlri {
        Nlri::Unicast(prefix) => Some(prefix.to_string()),
        Nlri::FlowSpec(rule) => {
            let family = match rule.family() {
                AddressFamily::Ipv4 => "flow4",
                AddressFamily::Ipv6 => "flow6",
            };
            Some(format!("{family} {}", hex(&encode_nlri(nlri).ok()?)))
        }
    }
}

fn decode(text: &str) -> Option<Nlri> {
    let (family, octets) = match text.split_once(' ') {
        None => return text.parse().ok().map(Nlri::Unicast),
        Some(("flow4", octets)) => (AddressFamily::Ipv4, octets),
        Some(("flow6", octets)) => (AddressFamily::Ipv6, octets),
        Some(_) => return None,
    };
    let octets: Option<Vec<u8>> = octets
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let rule = decode_flowspec(family, &octets?).ok()?.into_iter().next()?;
    Some(Nlri::FlowSpec(rule))
}
