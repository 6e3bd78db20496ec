//! The bounded record of everything that backends may hold because of us.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidegate_model::{
    BackendId, CommandId, Mitigation, MitigationKey, Nlri, OutcomeKind, Timestamp,
};

use crate::guard::Refusal;

/// What an entry is heading for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The backend shall hold the route.
    Hold,
    /// The backend shall not hold it, and then the entry goes.
    Remove(RemoveReason),
    /// The route is desired but not allowed: the backend shall not hold it, and the entry stays
    /// to say so until the desire ends.
    Refuse(Refusal),
}

/// Why something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoveReason {
    /// It is no longer desired.
    NotDesired,
    /// Its lease ran out and was not renewed.
    LeaseOver,
    /// Everything is withdrawn: shutdown or panic.
    WithdrawAll,
    /// A backend reported it as ours, but nothing here knows it.
    LeftBehind,
}

impl fmt::Display for RemoveReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotDesired => "no longer desired",
            Self::LeaseOver => "lease ran out",
            Self::WithdrawAll => "everything is withdrawn",
            Self::LeftBehind => "left behind by an earlier run",
        })
    }
}

/// What is known of an entry at its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// To be announced as soon as the rate allows.
    Wanted,
    /// Announced; the answer is outstanding.
    Announcing,
    /// The backend keeps it until it can carry it out.
    Pending {
        /// What it waits for.
        why: String,
    },
    /// The backend holds it.
    Applied,
    /// The backend held it, but is down: whether it still does is not known.
    Unknown {
        /// What is known of the cause.
        why: String,
    },
    /// The backend could not; it is tried again.
    Failed {
        /// What went wrong.
        why: String,
    },
    /// The backend will not; final until something else is desired.
    Rejected {
        /// Who refused and why.
        why: String,
    },
    /// Our own guard will not; final until the route or the owned space changes.
    Refused(Refusal),
    /// To be withdrawn at once, or withdrawn with the answer outstanding.
    Withdrawing,
}

impl fmt::Display for EntryState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => formatter.write_str("wanted"),
            Self::Announcing => formatter.write_str("announcing"),
            Self::Pending { why } => write!(formatter, "pending: {why}"),
            Self::Applied => formatter.write_str("applied"),
            Self::Unknown { why } => write!(formatter, "unknown: {why}"),
            Self::Failed { why } => write!(formatter, "failed: {why}"),
            Self::Rejected { why } => write!(formatter, "rejected: {why}"),
            Self::Refused(refusal) => write!(formatter, "refused: {refusal}"),
            Self::Withdrawing => formatter.write_str("withdrawing"),
        }
    }
}

/// One mitigation at one backend. Its key in the ledger alone is enough to withdraw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What the planner asked for; `None` for what an earlier run left behind.
    pub(crate) mitigation: Option<Mitigation>,
    pub(crate) goal: Goal,
    pub(crate) state: EntryState,
    pub(crate) since: Timestamp,
    /// Whether the backend may hold a route of this NLRI because of us.
    pub(crate) may_hold: bool,
    /// The command whose answer counts; answers to earlier ones are too late.
    pub(crate) command: Option<CommandId>,
    /// Attempts that failed since the goal was set.
    pub(crate) attempts: u32,
    /// When the goal's command is to be sent (again); `None` while an event must come first.
    pub(crate) due: Option<Timestamp>,
}

impl Entry {
    /// For something desired; `goal` is to hold or to refuse it.
    pub(crate) fn desired(mitigation: Mitigation, goal: Goal, now: Timestamp) -> Self {
        Self::new(Some(mitigation), goal, false, now)
    }

    /// For what a backend holds of ours and nobody knows, to be withdrawn at `due`.
    pub(crate) fn left_behind(now: Timestamp, due: Timestamp) -> Self {
        let entry = Self::new(None, Goal::Remove(RemoveReason::LeftBehind), true, now);
        Self { due: Some(due), ..entry }
    }

    fn new(mitigation: Option<Mitigation>, goal: Goal, may_hold: bool, now: Timestamp) -> Self {
        let mut entry = Self {
            mitigation,
            goal: Goal::Hold,
            state: EntryState::Wanted,
            since: now,
            may_hold,
            command: None,
            attempts: 0,
            due: None,
        };
        entry.head_for(goal, now);
        entry
    }

    /// What the planner asked for last; `None` for what an earlier run left behind.
    #[must_use]
    pub fn mitigation(&self) -> Option<&Mitigation> {
        self.mitigation.as_ref()
    }

    /// What the entry is heading for.
    #[must_use]
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// What is known of it at its backend.
    #[must_use]
    pub fn state(&self) -> &EntryState {
        &self.state
    }

    /// When it entered its state.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// The lease: it is withdrawn then unless renewed. `None` for what an earlier run left behind.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.mitigation.as_ref().map(|mitigation| mitigation.lifetime.not_after)
    }

    /// Whether the backend may hold the route because of us.
    #[must_use]
    pub fn may_be_held(&self) -> bool {
        self.may_hold
    }

    /// Attempts that failed or were not answered since the goal was set.
    #[must_use]
    pub fn failed_attempts(&self) -> u32 {
        self.attempts
    }

    /// Sets out for `goal` afresh; answers to earlier commands no longer count.
    pub(crate) fn head_for(&mut self, goal: Goal, now: Timestamp) {
        self.command = None;
        self.attempts = 0;
        self.due = Some(now);
        self.state = match &goal {
            Goal::Hold => EntryState::Wanted,
            Goal::Refuse(refusal) if !self.may_hold => {
                self.due = None;
                EntryState::Refused(refusal.clone())
            }
            Goal::Remove(_) | Goal::Refuse(_) => EntryState::Withdrawing,
        };
        self.goal = goal;
    }

    /// The state that the answer to an announcement puts a reachable backend's entry in.
    pub(crate) fn state_after(kind: &OutcomeKind) -> EntryState {
        match kind {
            OutcomeKind::Applied { .. } => EntryState::Applied,
            OutcomeKind::Pending { why } => EntryState::Pending { why: why.clone() },
            OutcomeKind::Rejected { why } => EntryState::Rejected { why: why.clone() },
            OutcomeKind::Failed { why } => EntryState::Failed { why: why.clone() },
        }
    }
}

/// Where an entry stands in the indexes.
#[derive(Clone, Copy, PartialEq)]
struct Marks {
    left_behind: bool,
    withdraw: Option<Timestamp>,
    announce: Option<Timestamp>,
    lease: Option<Timestamp>,
}

impl Marks {
    fn of(entry: &Entry) -> Self {
        let hold = entry.goal == Goal::Hold;
        let ending = matches!(entry.goal, Goal::Remove(_));
        Self {
            left_behind: entry.mitigation.is_none(),
            withdraw: entry.due.filter(|_| !hold),
            announce: entry.due.filter(|_| hold),
            lease: entry.not_after().filter(|_| !ending),
        }
    }
}

/// Entries by key, and by when something is due for them.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    entries: BTreeMap<MitigationKey, Entry>,
    bound: usize,
    /// Entries without a mitigation: left behind by an earlier run. They have room of their own,
    /// or a full ledger would keep them in place.
    left_behind: usize,
    withdraws: BTreeSet<(Timestamp, MitigationKey)>,
    announces: BTreeMap<BackendId, BTreeSet<(Timestamp, Nlri)>>,
    leases: BTreeSet<(Timestamp, MitigationKey)>,
}

impl Ledger {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            bound,
            left_behind: 0,
            withdraws: BTreeSet::new(),
            announces: BTreeMap::new(),
            leases: BTreeSet::new(),
        }
    }

    /// Whether there is no room for something desired.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.bound.saturating_add(self.left_behind)
    }

    /// Whether there is no room for something left behind.
    pub(crate) fn is_full_of_left_behind(&self) -> bool {
        self.left_behind >= self.bound
    }

    pub(crate) fn get(&self, key: &MitigationKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&MitigationKey, &Entry)> {
        self.entries.iter()
    }

    /// Adds an entry; the caller has looked that there is room and no such entry.
    pub(crate) fn insert(&mut self, key: MitigationKey, entry: Entry) {
        self.index(&key, Marks::of(&entry));
        self.entries.insert(key, entry);
    }

    pub(crate) fn remove(&mut self, key: &MitigationKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.unindex(key, Marks::of(&entry));
        }
    }

    /// Changes an entry and keeps the indexes true. `None` if there is no such entry.
    pub(crate) fn update<R>(
        &mut self,
        key: &MitigationKey,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> Option<R> {
        let entry = self.entries.get_mut(key)?;
        let before = Marks::of(entry);
        let result = change(entry);
        let after = Marks::of(entry);
        if before != after {
            self.unindex(key, before);
            self.index(key, after);
        }
        Some(result)
    }

    fn index(&mut self, key: &MitigationKey, marks: Marks) {
        self.left_behind += usize::from(marks.left_behind);
        if let Some(due) = marks.withdraw {
            self.withdraws.insert((due, key.clone()));
        }
        if let Some(due) = marks.announce {
            let queue = self.announces.entry(key.backend.clone()).or_default();
            queue.insert((due, key.nlri.clone()));
        }
        if let Some(not_after) = marks.lease {
            self.leases.insert((not_after, key.clone()));
        }
    }

    fn unindex(&mut self, key: &MitigationKey, marks: Marks) {
        self.left_behind -= usize::from(marks.left_behind);
        if let Some(due) = marks.withdraw {
            self.withdraws.remove(&(due, key.clone()));
        }
        if let (Some(due), Some(queue)) = (marks.announce, self.announces.get_mut(&key.backend)) {
            queue.remove(&(due, key.nlri.clone()));
            if queue.is_empty() {
                self.announces.remove(&key.backend);
            }
        }
        if let Some(not_after) = marks.lease {
            self.leases.remove(&(not_after, key.clone()));
        }
    }

    /// The withdraw that is due first.
    pub(crate) fn first_withdraw(&self) -> Option<&(Timestamp, MitigationKey)> {
        self.withdraws.first()
    }

    /// Each backend's announcement that is due first.
    pub(crate) fn first_announces(&self) -> impl Iterator<Item = (&BackendId, &(Timestamp, Nlri))> {
        self.announces.iter().filter_map(|(backend, queue)| Some((backend, queue.first()?)))
    }

    /// The lease that runs out first.
    pub(crate) fn first_lease(&self) -> Option<&(Timestamp, MitigationKey)> {
        self.leases.first()
    }
}
