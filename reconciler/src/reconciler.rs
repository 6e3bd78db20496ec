//! The facade: inputs, the difference, commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_model::{
    BackendId, BackendState, Command, CommandId, CommandKind, DesiredSet, Mitigation,
    MitigationKey, Nlri, Outcome, OutcomeKind, OwnedSpace, Timestamp,
};

use crate::backoff::{Jitter, RetryDelays};
use crate::event::{Change, Event, Events};
use crate::guard;
use crate::ledger::{Entry, EntryState, Goal, Ledger, RemoveReason};
use crate::limits::{AnnounceLimit, Bucket};

/// Longest delay before a withdraw that failed is sent again, however often it failed: what is
/// left behind harms, what is announced late is only late.
const WITHDRAW_RETRY_MAXIMUM: Duration = Duration::from_secs(2);
/// Events kept for [`Reconciler::poll_event`], for each entry that the ledger may hold. When
/// nobody fetches them the oldest are dropped and counted.
const EVENTS_PER_ENTRY: usize = 4;

/// What a [`Reconciler`] works by.
#[derive(Clone, Debug)]
pub struct Config {
    /// What may be announced.
    pub space: OwnedSpace,
    /// Delays before a failed announcement is tried again.
    pub retry: RetryDelays,
    /// How long an answer may take before the command is sent again. Zero: for ever.
    pub answer_within: Duration,
    /// How fast each backend is told to announce.
    pub announces: AnnounceLimit,
    /// Most desired entries in the ledger, and most entries left behind by an earlier run. As many
    /// again wait for room; what is beyond that is dropped with an event, and taken up when it is
    /// desired or observed again.
    pub max_entries: usize,
    /// What an earlier run left behind stays so long after the first input, so that what is desired
    /// again by then does not flap. Zero: it is withdrawn at once.
    pub adopt_within: Duration,
    /// For the jitter of retries.
    pub seed: u64,
}

impl Config {
    /// The defaults, for `space`.
    #[must_use]
    pub fn new(space: OwnedSpace) -> Self {
        Self {
            space,
            retry: RetryDelays::default(),
            answer_within: Duration::from_secs(10),
            announces: AnnounceLimit::default(),
            max_entries: 10_000,
            adopt_within: Duration::ZERO,
            seed: 0,
        }
    }
}

/// `span` after `now`; `None` if that is not later, as at the end of time.
fn later(now: Timestamp, span: Duration) -> Option<Timestamp> {
    Some(now + span).filter(|then| *then > now)
}

/// What is known of a backend as a whole.
#[derive(Clone, Copy, Debug, Default)]
struct Backend {
    /// It said that it is down. A backend that has not said anything is tried.
    down: bool,
    bucket: Bucket,
}

/// Makes backends hold what is desired and nothing else. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Reconciler {
    config: Config,
    now: Timestamp,
    /// The time of the first input.
    began: Option<Timestamp>,
    ledger: Ledger,
    /// Desired, but the ledger had no room. At most as many as the ledger may hold.
    waiting: BTreeMap<MitigationKey, Mitigation>,
    backends: BTreeMap<BackendId, Backend>,
    /// Set by [`Reconciler::withdraw_all`]: nothing is desired until resumed.
    halted: bool,
    jitter: Jitter,
    last_command: u64,
    events: Events,
}

impl Reconciler {
    /// A reconciler that knows of nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            now: Timestamp::ZERO,
            began: None,
            ledger: Ledger::new(config.max_entries),
            waiting: BTreeMap::new(),
            backends: BTreeMap::new(),
            halted: false,
            jitter: Jitter::new(config.seed),
            last_command: 0,
            events: Events::new(config.max_entries.max(1).saturating_mul(EVENTS_PER_ENTRY)),
            config,
        }
    }

    /// Judges everything by `space` from now on. What is no longer allowed is withdrawn first; what
    /// a backend rejected is tried again, since backends judge by it too.
    pub fn handle_space(&mut self, now: Timestamp, space: OwnedSpace) {
        self.advance(now);
        self.config.space = space;
        for key in self.keys(|_, entry| !matches!(entry.goal, Goal::Remove(_))) {
            let Some(mitigation) = self.ledger.get(&key).and_then(Entry::mitigation) else {
                continue;
            };
            let goal = self.judged(mitigation);
            self.change(&key, |entry, now| {
                if goal != entry.goal || matches!(entry.state, EntryState::Rejected { .. }) {
                    entry.head_for(goal, now);
                }
            });
        }
        self.settle();
    }

    /// Takes `desired` as everything that should be installed from now on.
    pub fn handle_desired(&mut self, now: Timestamp, desired: &DesiredSet) {
        self.advance(now);
        if self.halted {
            return;
        }
        let live = |mitigation: &Mitigation| mitigation.lifetime.not_after > self.now;
        let gone = self.keys(|key, entry| {
            !matches!(entry.goal, Goal::Remove(_))
                && !desired.mitigations.get(key).is_some_and(live)
        });
        for key in gone {
            self.release(&key, RemoveReason::NotDesired);
        }
        self.waiting.clear();
        for (key, mitigation) in &desired.mitigations {
            if mitigation.lifetime.not_after > self.now {
                self.want(key, mitigation);
            }
        }
        self.settle();
    }

    /// Takes note of a backend's answer. An answer to anything but the latest command for the
    /// route is too late to count.
    pub fn handle_outcome(&mut self, now: Timestamp, outcome: &Outcome) {
        self.advance(now);
        let key = MitigationKey { backend: outcome.backend.clone(), nlri: outcome.nlri.clone() };
        let Some(entry) = self.ledger.get(&key) else { return };
        if entry.command != Some(outcome.command) {
            return;
        }
        match entry.goal {
            Goal::Hold => self.announce_answered(&key, &outcome.kind),
            Goal::Remove(_) | Goal::Refuse(_) => self.withdraw_answered(&key, &outcome.kind),
        }
        self.settle();
    }

    /// Takes note that a backend is up or down.
    ///
    /// Down: what was applied becomes unknown; nothing is withdrawn or forgotten. Up: a BGP peer
    /// is sent everything again by the speaker, so its entries are announced again only if no
    /// answer or observation confirms them; others are told again at once. Withdraws, and what
    /// failed, are sent again at once; so is what a kernel or another daemon rejected.
    pub fn handle_backend(&mut self, now: Timestamp, backend: &BackendId, state: &BackendState) {
        self.advance(now);
        self.note_backend(backend);
        let down = matches!(state, BackendState::Down { .. });
        if let Some(known) = self.backends.get_mut(backend) {
            known.down = down;
        }
        for key in self.keys(|key, _| key.backend == *backend) {
            match state {
                BackendState::Down { why } => self.backend_went_down(&key, why),
                BackendState::Up => self.backend_came_up(&key),
            }
        }
        self.settle();
    }

    /// Compares with everything that `backend` really holds of ours, as of after its latest
    /// answer. What is missing is announced again, what nobody knows is withdrawn.
    pub fn handle_observed(&mut self, now: Timestamp, backend: &BackendId, held: Vec<Nlri>) {
        self.advance(now);
        let held: BTreeSet<Nlri> = held.into_iter().collect();
        for key in self.keys(|key, _| key.backend == *backend) {
            let is_held = held.contains(&key.nlri);
            self.change(&key, |entry, now| {
                entry.may_hold |= is_held;
                match (&entry.goal, &entry.state, is_held) {
                    (Goal::Hold, EntryState::Applied | EntryState::Unknown { .. }, false) => {
                        entry.head_for(Goal::Hold, now);
                    }
                    (Goal::Hold, EntryState::Unknown { .. }, true) => {
                        entry.state = EntryState::Applied;
                        entry.due = None;
                    }
                    (Goal::Refuse(refusal), EntryState::Refused(_), true) => {
                        entry.head_for(Goal::Refuse(refusal.clone()), now);
                    }
                    _ => {}
                }
            });
        }
        for nlri in held {
            self.leave_behind(MitigationKey { backend: backend.clone(), nlri });
        }
        self.settle();
    }

    /// Takes note of what backends may hold because of an earlier run, by the journal's word: it is
    /// withdrawn unless it is desired, also at backends that cannot be asked yet.
    pub fn handle_left_behind(
        &mut self,
        now: Timestamp,
        keys: impl IntoIterator<Item = MitigationKey>,
    ) {
        self.advance(now);
        for key in keys {
            self.leave_behind(key);
        }
        self.settle();
    }

    /// Lets time pass: leases run out, retries fall due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance(now);
        self.settle();
    }

    /// Withdraws everything and desires nothing until [`Reconciler::resume`].
    pub fn withdraw_all(&mut self, now: Timestamp) {
        self.advance(now);
        self.halted = true;
        self.waiting.clear();
        // Nothing left behind is adopted any more either.
        let waits = |entry: &Entry| entry.due.is_some_and(|due| due > self.now);
        for key in self.keys(|_, entry| {
            !matches!(entry.goal, Goal::Remove(_)) || entry.command.is_none() && waits(entry)
        }) {
            self.release(&key, RemoveReason::WithdrawAll);
        }
    }

    /// Ends what [`Reconciler::withdraw_all`] began: the next desired set counts again.
    pub fn resume(&mut self, now: Timestamp) {
        self.advance(now);
        self.halted = false;
    }

    /// The next thing to tell a backend: first withdraws, then announcements as the rate allows.
    pub fn poll_command(&mut self) -> Option<Command> {
        if let Some((due, key)) = self.ledger.first_withdraw()
            && *due <= self.now
        {
            let key = key.clone();
            let id = self.sent(&key, EntryState::Withdrawing);
            let kind = CommandKind::Withdraw(key.nlri);
            return Some(Command { id, backend: key.backend, kind });
        }
        let key = self.ledger.first_announces().find_map(|(backend, (due, nlri))| {
            let ready = self.backends.get(backend).map(|known| self.ready_at(*known));
            let ready = ready.unwrap_or(Timestamp::ZERO).max(*due) <= self.now;
            ready.then(|| MitigationKey { backend: backend.clone(), nlri: nlri.clone() })
        })?;
        self.note_backend(&key.backend);
        if let Some(backend) = self.backends.get_mut(&key.backend) {
            backend.bucket.take(self.config.announces, self.now);
        }
        let id = self.sent(&key, EntryState::Announcing);
        let now = self.now;
        let (route, lease) = self.ledger.update(&key, |entry| {
            let mitigation = entry.mitigation.as_ref()?;
            let route = mitigation.route.clone();
            entry.may_hold = true;
            Some((route, mitigation.lifetime.not_after.since(now)))
        })??;
        Some(Command { id, backend: key.backend, kind: CommandKind::Announce { route, lease } })
    }

    /// When [`Reconciler::handle_timeout`] is to be called next, if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let announces = self.ledger.first_announces().map(|(backend, (due, _))| {
            let ready = self.backends.get(backend).map(|known| self.ready_at(*known));
            ready.unwrap_or(Timestamp::ZERO).max(*due)
        });
        let withdraw = self.ledger.first_withdraw().map(|(due, _)| *due);
        let lease = self.ledger.first_lease().map(|(not_after, _)| *not_after);
        announces.chain(withdraw).chain(lease).min()
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// Events that were dropped because nobody fetched them.
    #[must_use]
    pub fn events_lost(&self) -> u64 {
        self.events.lost()
    }

    /// Everything that a backend may hold because of us, or should.
    pub fn entries(&self) -> impl Iterator<Item = (&MitigationKey, &Entry)> {
        self.ledger.iter()
    }

    /// The entry of this key.
    #[must_use]
    pub fn entry(&self, key: &MitigationKey) -> Option<&Entry> {
        self.ledger.get(key)
    }

    /// Whether no backend may hold anything because of us any more, as far as is known.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.ledger.iter().all(|(_, entry)| !entry.may_hold)
    }
}

/// The parts of the difference.
impl Reconciler {
    /// Time never runs backwards, whatever the driver says.
    fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.began.get_or_insert(self.now);
    }

    fn keys(&self, which: impl Fn(&MitigationKey, &Entry) -> bool) -> Vec<MitigationKey> {
        let chosen = self.ledger.iter().filter(|(key, entry)| which(key, entry));
        chosen.map(|(key, _)| key.clone()).collect()
    }

    fn ready_at(&self, backend: Backend) -> Timestamp {
        backend.bucket.ready_at(self.config.announces)
    }

    /// Remembers a backend. Those that no entry names make room when there are very many.
    fn note_backend(&mut self, backend: &BackendId) {
        if self.backends.contains_key(backend) {
            return;
        }
        if self.backends.len() > self.config.max_entries {
            let named: BTreeSet<_> = self.ledger.iter().map(|(key, _)| &key.backend).collect();
            self.backends.retain(|known, _| named.contains(known));
        }
        self.backends.insert(backend.clone(), Backend::default());
    }

    fn is_down(&self, backend: &BackendId) -> bool {
        self.backends.get(backend).is_some_and(|known| known.down)
    }

    /// Changes an entry; a new state is dated and reported.
    fn change(&mut self, key: &MitigationKey, change: impl FnOnce(&mut Entry, Timestamp)) {
        let now = self.now;
        let entered = self.ledger.update(key, |entry| {
            let before = entry.state.clone();
            change(entry, now);
            (entry.state != before).then(|| {
                entry.since = now;
                entry.state.clone()
            })
        });
        if let Some(Some(state)) = entered {
            self.events.push(now, key.clone(), Change::Entered(state));
        }
    }

    /// Adds what nobody here knows, to be withdrawn. What finds no room now is reported by the next
    /// observation again.
    fn leave_behind(&mut self, key: MitigationKey) {
        if self.ledger.get(&key).is_none() && !self.ledger.is_full_of_left_behind() {
            let due = self.began.unwrap_or(self.now) + self.config.adopt_within;
            self.add(key, Entry::left_behind(self.now, due.max(self.now)));
        }
    }

    fn add(&mut self, key: MitigationKey, entry: Entry) {
        self.events.push(self.now, key.clone(), Change::Entered(entry.state.clone()));
        self.ledger.insert(key, entry);
    }

    fn drop_entry(&mut self, key: &MitigationKey, reason: RemoveReason) {
        self.ledger.remove(key);
        self.events.push(self.now, key.clone(), Change::Gone(reason));
    }

    /// Heads for the end of an entry, which is at once if no backend can hold it.
    fn release(&mut self, key: &MitigationKey, reason: RemoveReason) {
        if self.ledger.get(key).is_some_and(|entry| entry.may_hold) {
            self.change(key, |entry, now| entry.head_for(Goal::Remove(reason), now));
        } else {
            self.drop_entry(key, reason);
        }
    }

    /// Makes sure that the ledger heads for `mitigation`, or that it waits for room.
    fn want(&mut self, key: &MitigationKey, mitigation: &Mitigation) {
        let goal = self.judged(mitigation);
        let entry = self.ledger.get(key);
        if entry.and_then(Entry::mitigation).is_none() && self.ledger.is_full() {
            return self.wait(key, mitigation);
        }
        let Some(entry) = entry else {
            let entry = Entry::desired(mitigation.clone(), goal, self.now);
            return self.add(key.clone(), entry);
        };
        if entry.mitigation.as_ref() == Some(mitigation) && entry.goal == goal {
            return;
        }
        let route_changed =
            entry.mitigation.as_ref().is_none_or(|known| known.route != mitigation.route);
        self.change(key, |entry, now| {
            entry.mitigation = Some(mitigation.clone());
            if goal != entry.goal || (route_changed && goal == Goal::Hold) {
                entry.head_for(goal, now);
            }
        });
    }

    fn wait(&mut self, key: &MitigationKey, mitigation: &Mitigation) {
        let change = if self.waiting.len() < self.config.max_entries {
            self.waiting.insert(key.clone(), mitigation.clone());
            Change::Waiting
        } else {
            Change::Overflowed
        };
        self.events.push(self.now, key.clone(), change);
    }

    /// What an entry for `mitigation` is to head for.
    fn judged(&self, mitigation: &Mitigation) -> Goal {
        match guard::judge(&self.config.space, &mitigation.route) {
            Ok(()) => Goal::Hold,
            Err(refusal) => Goal::Refuse(refusal),
        }
    }

    /// Ends leases that ran out, then fills the room that there is.
    fn settle(&mut self) {
        while let Some((not_after, key)) = self.ledger.first_lease()
            && *not_after <= self.now
        {
            let key = key.clone();
            self.release(&key, RemoveReason::LeaseOver);
        }
        while !self.ledger.is_full()
            && let Some((key, mitigation)) = self.waiting.pop_first()
        {
            if mitigation.lifetime.not_after > self.now {
                self.want(&key, &mitigation);
            }
        }
    }

    /// Notes that the goal's command is on its way, and when to lose patience.
    fn sent(&mut self, key: &MitigationKey, state: EntryState) -> CommandId {
        self.last_command += 1;
        let id = CommandId(self.last_command);
        let patience = self.config.answer_within;
        self.change(key, |entry, now| {
            // Without an answer to the one before: that one counts as a failure.
            if entry.state == state && entry.command.is_some() {
                entry.attempts = entry.attempts.saturating_add(1);
            }
            entry.command = Some(id);
            entry.due = later(now, patience);
            entry.state = state;
        });
        id
    }

    fn announce_answered(&mut self, key: &MitigationKey, kind: &OutcomeKind) {
        let down = self.is_down(&key.backend);
        let patience = self.config.answer_within;
        let retry = self.config.retry;
        let attempts = self.ledger.get(key).map_or(0, |entry| entry.attempts);
        let delay = self.jitter.delay(retry, attempts.saturating_add(1));
        self.change(key, |entry, now| {
            entry.state = Entry::state_after(kind);
            match kind {
                OutcomeKind::Applied { .. } => {
                    entry.attempts = 0;
                    entry.due = None;
                    if down {
                        let why = "the backend went down".to_owned();
                        entry.state = EntryState::Unknown { why };
                    }
                }
                // A backend that is down says when it is up; until then there is no hurry.
                OutcomeKind::Pending { .. } => {
                    entry.due = later(now, patience).filter(|_| !down);
                }
                OutcomeKind::Rejected { .. } => entry.due = None,
                OutcomeKind::Failed { .. } => {
                    entry.attempts = entry.attempts.saturating_add(1);
                    entry.due = Some(now + delay);
                }
            }
        });
    }

    fn withdraw_answered(&mut self, key: &MitigationKey, kind: &OutcomeKind) {
        match kind {
            OutcomeKind::Applied { .. } => match self.ledger.get(key).map(|entry| &entry.goal) {
                Some(Goal::Remove(reason)) => {
                    let reason = *reason;
                    self.drop_entry(key, reason);
                }
                Some(Goal::Refuse(refusal)) => {
                    let goal = Goal::Refuse(refusal.clone());
                    self.change(key, |entry, now| {
                        entry.may_hold = false;
                        entry.head_for(goal, now);
                    });
                }
                Some(Goal::Hold) | None => {}
            },
            OutcomeKind::Pending { .. } => {}
            // Withdrawing is never given up, not even when the backend says that it will not.
            OutcomeKind::Failed { .. } | OutcomeKind::Rejected { .. } => {
                let retry = RetryDelays {
                    maximum: self.config.retry.maximum.min(WITHDRAW_RETRY_MAXIMUM),
                    ..self.config.retry
                };
                let attempts = self.ledger.get(key).map_or(0, |entry| entry.attempts);
                let delay = self.jitter.delay(retry, attempts.saturating_add(1));
                self.change(key, |entry, now| {
                    entry.command = None;
                    entry.attempts = entry.attempts.saturating_add(1);
                    entry.due = Some(now + delay);
                });
            }
        }
    }

    fn backend_went_down(&mut self, key: &MitigationKey, why: &str) {
        self.change(key, |entry, _| {
            if entry.goal == Goal::Hold && entry.state == EntryState::Applied {
                entry.state = EntryState::Unknown { why: why.to_owned() };
            }
        });
    }

    fn backend_came_up(&mut self, key: &MitigationKey) {
        let patience = match key.backend {
            BackendId::Peer(_) => self.config.answer_within,
            BackendId::Kernel | BackendId::External(_) => Duration::ZERO,
        };
        self.change(key, |entry, now| match (&entry.goal, &entry.state) {
            // Not yet told: it may still be adopted.
            (Goal::Remove(RemoveReason::LeftBehind), _)
                if entry.command.is_none() && entry.attempts == 0 => {}
            (Goal::Remove(_), _)
            | (Goal::Refuse(_), EntryState::Withdrawing)
            | (Goal::Hold, EntryState::Failed { .. }) => entry.due = Some(now),
            // Who judges anew may judge otherwise: a kernel with another module, a driver that
            // reaches another version. A peer's speaker is the same one.
            (Goal::Hold, EntryState::Rejected { .. })
                if !matches!(key.backend, BackendId::Peer(_)) =>
            {
                entry.due = Some(now);
            }
            (Goal::Hold, EntryState::Unknown { .. } | EntryState::Pending { .. }) => {
                entry.due = Some(now + patience);
            }
            _ => {}
        });
    }
}
