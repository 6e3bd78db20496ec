//! What happened to mitigations, for timelines and alerts.

use std::collections::VecDeque;

use tidegate_model::{MitigationKey, Timestamp};

use crate::ledger::{EntryState, RemoveReason};

/// Something that happened to one mitigation.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// To which.
    pub key: MitigationKey,
    /// What.
    pub change: Change,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Its entry is in this state now.
    Entered(EntryState),
    /// It is gone from the backend and from the ledger.
    Gone(RemoveReason),
    /// The ledger is full: it waits until another entry is gone.
    Waiting,
    /// Ledger and waiting list are both full: it is forgotten until it is desired again.
    Overflowed,
}

/// A bounded queue: when full, the oldest event makes room and is counted.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    bound: usize,
    lost: u64,
}

impl Events {
    pub(crate) fn new(bound: usize) -> Self {
        Self { queue: VecDeque::new(), bound, lost: 0 }
    }

    pub(crate) fn push(&mut self, at: Timestamp, key: MitigationKey, change: Change) {
        if self.queue.len() >= self.bound && self.queue.pop_front().is_some() {
            self.lost += 1;
        }
        self.queue.push_back(Event { at, key, change });
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}
