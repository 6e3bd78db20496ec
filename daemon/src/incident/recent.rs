//! The latest incidents, for those who look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::change::Change;
use super::record::{Incident, Status};

/// Incidents that are kept. Beyond it the closed ones go first, the oldest before.
const MAX_KEPT: usize = 2_048;
/// Changes that somebody who watches may be behind. Who is further behind misses the oldest.
const CHANGES: usize = 1_024;

/// The latest incidents, and whoever watches them. The recorder writes, others read; neither the
/// engine nor the disk has a part in it.
#[derive(Debug)]
pub struct Recent {
    incidents: Mutex<BTreeMap<String, Arc<Incident>>>,
    changes: broadcast::Sender<Change>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { incidents: Mutex::default(), changes: broadcast::channel(CHANGES).0 }
    }
}

impl Recent {
    /// Takes a change in.
    pub fn take(&self, change: &Change) {
        let mut incidents = self.lock();
        incidents.insert(change.incident.id.clone(), Arc::clone(&change.incident));
        if incidents.len() > MAX_KEPT {
            // Ids begin with the onset: they are in the order of time.
            let closed = incidents.iter().find(|(_, it)| it.status == Status::Closed);
            let oldest = closed.or(incidents.first_key_value()).map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                incidents.remove(&oldest);
            }
        }
        drop(incidents);
        if self.changes.receiver_count() > 0 {
            // Whoever watched last may have gone meanwhile.
            drop(self.changes.send(change.clone()));
        }
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Incident>> {
        self.lock().values().cloned().collect()
    }

    /// The one of this id, or the latest of an attack of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Incident>> {
        let incidents = self.lock();
        let of_attack = || incidents.values().rev().find(|incident| incident.attack == name);
        incidents.get(name).or_else(of_attack).cloned()
    }

    /// What changes from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Incident>>> {
        // A map is whole after every call on it.
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::{ChangeKind, sample};

    fn change(number: usize, status: Status) -> Change {
        let id = format!("{number:06}");
        let attack = format!("attack-{number}");
        let incident = Incident { id, attack, status, ..sample::incident() };
        Change { kind: ChangeKind::Updated, incident: Arc::new(incident) }
    }

    #[test]
    fn closed_ones_make_room_first() {
        let recent = Recent::default();
        recent.take(&change(0, Status::Active));
        recent.take(&change(1, Status::Closed));
        (2..MAX_KEPT + 1).for_each(|number| recent.take(&change(number, Status::Active)));
        assert_eq!(recent.all().len(), MAX_KEPT);
        assert!(recent.find("attack-0").is_some() && recent.find("000001").is_none());
        recent.take(&change(MAX_KEPT + 1, Status::Active));
        assert!(recent.find("attack-0").is_none());
        assert_eq!(recent.all().len(), MAX_KEPT);
    }

    #[test]
    fn who_is_too_slow_misses_the_oldest() {
        let recent = Recent::default();
        let mut watch = recent.watch();
        (0..CHANGES + 5).for_each(|number| recent.take(&change(number, Status::Active)));
        let lagged = broadcast::error::TryRecvError::Lagged(5);
        assert_eq!(watch.try_recv().unwrap_err(), lagged);
        assert_eq!(watch.try_recv().unwrap().incident.attack, "attack-5");
    }
}
