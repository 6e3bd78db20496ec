//! Which attacks time or room concerns next: kept up to date for those that were touched, so that
//! a call costs by what it changes and not by how many attacks there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{AttackId, Severity, Timestamp};

/// What an attack is waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Awaits {
    /// When time alone changes something for it.
    pub(super) due: Option<Timestamp>,
    /// How severe it is, if it waits for room.
    pub(super) room: Option<Severity>,
}

/// The attacks by what they are waiting for. At most as many as are followed.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    known: BTreeMap<AttackId, Awaits>,
    by_time: BTreeSet<(Timestamp, AttackId)>,
    by_severity: BTreeSet<(Reverse<Severity>, AttackId)>,
    /// How often an attack was looked at, for tests of how much work a call is.
    #[cfg(test)]
    pub(super) looks: usize,
}

impl Agenda {
    /// Notes what `id` is waiting for now.
    pub(super) fn set(&mut self, id: AttackId, awaits: Awaits) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let known = match awaits {
            Awaits { due: None, room: None } => self.known.remove(&id),
            some => self.known.insert(id, some),
        };
        let known = known.unwrap_or_default();
        if known == awaits {
            return;
        }
        if let Some(due) = known.due {
            self.by_time.remove(&(due, id));
        }
        if let Some(severity) = known.room {
            self.by_severity.remove(&(Reverse(severity), id));
        }
        self.by_time.extend(awaits.due.map(|due| (due, id)));
        self.by_severity.extend(awaits.room.map(|severity| (Reverse(severity), id)));
    }

    /// When the first is due.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Those that are due.
    pub(super) fn due(&self, now: Timestamp) -> BTreeSet<AttackId> {
        self.by_time.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect()
    }

    /// Those that wait for room, the worst first.
    pub(super) fn waiting(&self) -> impl ExactSizeIterator<Item = AttackId> {
        self.by_severity.iter().map(|(_, id)| *id)
    }
}
