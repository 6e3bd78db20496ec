//! A backend in memory: for tests, and for runs that are to change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_model::{
    BackendId, BackendState, Command, CommandKind, MitigationKey, Nlri, Outcome, OutcomeKind, Route,
};

use crate::backend::{Backend, BackendEvent, EventSender, Held, answer};

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<MitigationKey, Route>,
    refusals: BTreeMap<MitigationKey, OutcomeKind>,
    down: BTreeSet<BackendId>,
}

/// Holds routes for the backends that it stands for, and answers at once.
///
/// Like the embedded speaker it keeps routes while it is down, and it never waits: an answer for
/// which the channel of events has no room is lost.
#[derive(Debug)]
pub struct FakeBackend {
    serves: BTreeSet<BackendId>,
    events: EventSender,
    state: Mutex<State>,
}

impl FakeBackend {
    /// Stands for the backends `serves`, all of them up.
    #[must_use]
    pub fn new(serves: BTreeSet<BackendId>, events: EventSender) -> Self {
        Self { serves, events, state: Mutex::default() }
    }

    /// What `backend` holds, by NLRI.
    #[must_use]
    pub fn routes(&self, backend: &BackendId) -> Vec<Route> {
        let state = self.state();
        let held = state.held.iter().filter(|(key, _)| key.backend == *backend);
        held.map(|(_, route)| route.clone()).collect()
    }

    /// Answers announcements of `key` with `kind` from now on, and does not carry them out. `None`:
    /// carries them out again.
    pub fn set_refusal(&self, key: MitigationKey, kind: Option<OutcomeKind>) {
        let mut state = self.state();
        match kind {
            Some(kind) => state.refusals.insert(key, kind),
            None => state.refusals.remove(&key),
        };
    }

    /// Brings `backend` up or down, and says so.
    pub fn set_state(&self, backend: &BackendId, state: BackendState) {
        match state {
            BackendState::Up => self.state().down.remove(backend),
            BackendState::Down { .. } => self.state().down.insert(backend.clone()),
        };
        self.send(BackendEvent::State { backend: backend.clone(), state });
    }

    /// Forgets a route, as if somebody had removed it by hand.
    pub fn forget(&self, backend: &BackendId, nlri: &Nlri) {
        let key = MitigationKey { backend: backend.clone(), nlri: nlri.clone() };
        self.state().held.remove(&key);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, event: BackendEvent) {
        drop(self.events.try_send(event));
    }

    fn carry_out(&self, command: &Command) -> OutcomeKind {
        let mut state = self.state();
        let key = MitigationKey { backend: command.backend.clone(), nlri: command.nlri().clone() };
        match &command.kind {
            CommandKind::Withdraw(_) => {
                state.held.remove(&key);
            }
            CommandKind::Announce { route, .. } => {
                if let Some(refusal) = state.refusals.get(&key) {
                    return refusal.clone();
                }
                state.held.insert(key, route.clone());
                if state.down.contains(&command.backend) {
                    return OutcomeKind::Pending { why: "the backend is down".to_owned() };
                }
            }
        }
        OutcomeKind::Applied { bytes: [].into() }
    }
}

impl Backend for FakeBackend {
    fn serves(&self, backend: &BackendId) -> bool {
        self.serves.contains(backend)
    }

    fn submit(&self, command: Command) -> Result<(), Box<Outcome>> {
        let kind = self.carry_out(&command);
        self.send(BackendEvent::Outcome(answer(&command, kind)));
        Ok(())
    }

    fn observe(&self, backend: &BackendId) {
        let routes = self.routes(backend);
        let held = routes.into_iter().map(|route| Held { nlri: route.nlri, dropped: None });
        self.send(BackendEvent::Observed { backend: backend.clone(), held: held.collect() });
    }
}
