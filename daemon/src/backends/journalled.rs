//! A backend that outlives us, whose announcements are on disk before it is told.

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tidegate_adapters::{Backend, BackendEvent, Capabilities};
use tidegate_bgpd::egress::GatePolicy;
use tidegate_model::{BackendId, Command, CommandKind, Nlri, Outcome};
use tokio::sync::mpsc;

use crate::incident::WallTime;
use crate::store::journal::{Durability, Journal, Receipt};

/// How long an announcement waits for the disk. Then it goes without: what is held is found by its
/// mark, and the reaper ends its lease.
const PATIENCE: Duration = Duration::from_millis(500);
/// Announcements that wait for the disk together.
const BATCH: usize = 1024;

/// The journal of this run.
#[derive(Clone, Debug)]
pub(super) struct SharedJournal(Arc<Journal>);

impl SharedJournal {
    pub(super) fn new(journal: Journal) -> Self {
        Self(Arc::new(journal))
    }

    fn intend(&self, command: &Command) -> Receipt {
        let now = jiff::Timestamp::now().as_nanosecond();
        let now = WallTime::from_nanos(u64::try_from(now).unwrap_or_default());
        self.0.intend(now, command)
    }
}

impl Deref for SharedJournal {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        &self.0
    }
}

/// Wraps a backend. A withdraw is handed over at once and written afterwards; an announcement is
/// written by a thread of its own, which hands it over when it is on disk, unless a later command
/// for the same route has come meanwhile.
pub(super) struct Journalled<B> {
    shared: Arc<Shared<B>>,
}

struct Shared<B> {
    backend: B,
    journal: SharedJournal,
    events: mpsc::Sender<BackendEvent>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Not handed over yet. As bounded as the ledger: one for each route.
    announces: BTreeMap<Nlri, Command>,
    ended: bool,
}

impl<B: Backend + 'static> Journalled<B> {
    /// Starts the thread.
    pub(super) fn start(
        backend: B,
        journal: SharedJournal,
        events: mpsc::Sender<BackendEvent>,
    ) -> io::Result<Self> {
        let (waiting, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { backend, journal, events, waiting, changed });
        let thread = Arc::clone(&shared);
        thread::Builder::new().name("intents".to_owned()).spawn(move || thread.run())?;
        Ok(Self { shared })
    }
}

impl<B> Drop for Journalled<B> {
    fn drop(&mut self) {
        self.shared.waiting().ended = true;
        self.shared.changed.notify_one();
    }
}

impl<B: Backend> Backend for Journalled<B> {
    fn serves(&self, backend: &BackendId) -> bool {
        self.shared.backend.serves(backend)
    }

    fn capabilities(&self, backend: &BackendId) -> Capabilities {
        self.shared.backend.capabilities(backend)
    }

    fn submit(&self, command: Command) -> Result<(), Box<Outcome>> {
        // In hand until the command is handed over, so that no announcement overtakes it.
        let mut waiting = self.shared.waiting();
        match &command.kind {
            CommandKind::Announce { route, .. } => {
                waiting.announces.insert(route.nlri.clone(), command);
                self.shared.changed.notify_one();
                Ok(())
            }
            CommandKind::Withdraw(nlri) => {
                waiting.announces.remove(nlri);
                let submitted = self.shared.backend.submit(command.clone());
                drop(waiting);
                drop(self.shared.journal.intend(&command));
                submitted
            }
        }
    }

    fn observe(&self, backend: &BackendId) {
        self.shared.backend.observe(backend);
    }

    fn set_gate(&self, policy: &GatePolicy) {
        self.shared.backend.set_gate(policy);
    }
}

impl<B> Shared<B> {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend> Shared<B> {
    fn run(&self) {
        let mut lost = false;
        loop {
            let batch = {
                let mut waiting = self.waiting();
                while waiting.announces.is_empty() && !waiting.ended {
                    let woken = self.changed.wait(waiting);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner);
                }
                if waiting.ended {
                    return;
                }
                let batch: Vec<_> = waiting.announces.values().take(BATCH).cloned().collect();
                batch
            };
            let receipts: Vec<_> = batch.iter().map(|one| self.journal.intend(one)).collect();
            // They are written in order: with the last, all are.
            let written = receipts.last().map(|last| last.wait(PATIENCE));
            let missing = written != Some(Durability::Durable);
            if missing && !lost {
                tracing::error!(
                    "the journal is not written: routes are announced without, and found by their mark"
                );
            }
            lost = missing;
            for command in batch {
                self.hand_over(command);
            }
        }
    }

    /// Hands an announcement over unless it was overtaken.
    fn hand_over(&self, command: Command) {
        let mut waiting = self.waiting();
        let nlri = command.nlri();
        if waiting.announces.get(nlri).is_none_or(|current| current.id != command.id) {
            return;
        }
        waiting.announces.remove(nlri);
        let submitted = self.backend.submit(command);
        drop(waiting);
        if let Err(outcome) = submitted
            && self.events.try_send(BackendEvent::Outcome(*outcome)).is_err()
        {
            tracing::warn!("too many answers wait; the reconciler will ask again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    use tidegate_model::{CommandId, Route};

    use crate::event::Verb;
    use crate::store::{self, Limits};

    /// Remembers what it was told.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<u64>>>);

    impl Backend for Told {
        fn serves(&self, _backend: &BackendId) -> bool {
            true
        }

        fn submit(&self, command: Command) -> Result<(), Box<Outcome>> {
            self.0.lock().unwrap().push(command.id.0);
            Ok(())
        }

        fn observe(&self, _backend: &BackendId) {}
    }

    impl Told {
        fn wait_for(&self, expected: &[u64]) {
            let started = Instant::now();
            while *self.0.lock().unwrap() != expected {
                let told = self.0.lock().unwrap().clone();
                assert!(started.elapsed() < Duration::from_secs(20), "{told:?}");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn command(id: u64, last: u8, announce: bool) -> Command {
        let nlri = Nlri::Unicast(format!("203.0.113.{last}").parse().unwrap());
        let route = Route {
            nlri: nlri.clone(),
            next_hop: None,
            communities: [].into(),
            large_communities: [].into(),
            actions: vec![],
        };
        let kind = if announce {
            CommandKind::Announce { route, lease: Duration::from_secs(60) }
        } else {
            CommandKind::Withdraw(nlri)
        };
        Command { id: CommandId(id), backend: BackendId::External("x".to_owned()), kind }
    }

    #[test]
    fn announcements_are_on_disk_before_they_are_told_and_withdraws_wait_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("incidents.db");
        let now = WallTime::from_nanos(1_000_000_000);
        let opened = store::open(&path, Limits::default(), now).unwrap();
        let journal = SharedJournal::new(Journal::new(opened.store.clone(), now));
        let told = Told::default();
        let (events, _kept) = mpsc::channel(10);
        let backend = Journalled::start(told.clone(), journal, events).unwrap();
        backend.submit(command(1, 1, true)).unwrap();
        told.wait_for(&[1]);
        let again = store::open(&path, Limits::default(), now).unwrap();
        assert_eq!(again.held.len(), 1, "told, and not written");
        assert_eq!(again.held[0].intent, Verb::Announce);
        drop(again);

        // Nothing can be written: a lock that nobody gives up.
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        backend.submit(command(2, 2, true)).unwrap();
        backend.submit(command(3, 2, false)).unwrap();
        backend.submit(command(4, 1, false)).unwrap();
        // The announcement that the withdraw overtook is never told.
        told.wait_for(&[1, 3, 4]);
        backend.submit(command(5, 3, true)).unwrap();
        told.wait_for(&[1, 3, 4, 5]);
    }
}
