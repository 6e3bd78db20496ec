//! A prefix that neighbours come from, and what each of them is to hold: all the same.
//!
//! Commands are for the prefix. They are answered once: an announcement when the first neighbour
//! has been sent it, or when none is left that could be; a withdraw when every neighbour has been
//! sent it. A neighbour that comes later is given what is wanted then.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{BackendId, BackendState, CommandId, Nlri, Outcome, OutcomeKind, Route};

use crate::speaker::{DynamicPeers, SpeakerEvent};

/// The prefix and its state.
#[derive(Debug)]
pub(crate) struct Range {
    pub(super) config: DynamicPeers,
    /// At most `max_routes`: what is beyond has been refused by every neighbour.
    routes: BTreeMap<Nlri, (CommandId, Route)>,
    /// Commands that are not answered yet: one for each NLRI.
    asked: BTreeMap<Nlri, Asked>,
    /// Neighbours with an established session, by name.
    up: BTreeSet<String>,
}

#[derive(Debug)]
struct Asked {
    command: CommandId,
    withdraw: bool,
    /// Neighbours that have not answered.
    waiting: BTreeSet<String>,
}

impl Range {
    pub(super) fn new(config: DynamicPeers) -> Self {
        let (routes, asked, up) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { config, routes, asked, up }
    }

    /// What a neighbour is to hold, and whose command each is.
    pub(super) fn routes(&self) -> impl Iterator<Item = &(CommandId, Route)> {
        self.routes.values()
    }

    /// Whether a neighbour is there to be told.
    pub(super) fn is_up(&self) -> bool {
        !self.up.is_empty()
    }

    /// Whether the session with `neighbour` is up.
    pub(super) fn has_up(&self, neighbour: &str) -> bool {
        self.up.contains(neighbour)
    }

    pub(crate) fn announce(&mut self, command: CommandId, route: &Route) {
        let room =
            self.routes.len() < usize::try_from(self.config.max_routes).unwrap_or(usize::MAX);
        if room || self.routes.contains_key(&route.nlri) {
            self.routes.insert(route.nlri.clone(), (command, route.clone()));
        }
        self.ask(command, &route.nlri, false);
    }

    pub(crate) fn withdraw(&mut self, command: CommandId, nlri: &Nlri) {
        self.routes.remove(nlri);
        self.ask(command, nlri, true);
    }

    fn ask(&mut self, command: CommandId, nlri: &Nlri, withdraw: bool) {
        if self.up.is_empty() {
            self.asked.remove(nlri);
        } else {
            let waiting = self.up.clone();
            self.asked.insert(nlri.clone(), Asked { command, withdraw, waiting });
        }
    }

    /// What is to be told when the session with `neighbour` is in `state`.
    pub(super) fn handle_state(
        &mut self,
        neighbour: &str,
        state: &BackendState,
    ) -> Vec<SpeakerEvent> {
        match state {
            BackendState::Up => {
                let first = self.up.is_empty();
                self.up.insert(neighbour.to_owned());
                first.then(|| self.state(BackendState::Up)).into_iter().collect()
            }
            BackendState::Down { .. } => self.handle_gone(neighbour),
        }
    }

    /// What is to be told when `neighbour` is not there any more, if that is news.
    pub(super) fn handle_gone(&mut self, neighbour: &str) -> Vec<SpeakerEvent> {
        if !self.up.remove(neighbour) {
            return Vec::new();
        }
        let mut answered = Vec::new();
        for (nlri, asked) in &mut self.asked {
            if asked.waiting.remove(neighbour) && asked.waiting.is_empty() {
                answered.push(nlri.clone());
            }
        }
        let mut events: Vec<_> = answered
            .into_iter()
            .filter_map(|nlri| {
                let asked = self.asked.remove(&nlri)?;
                let kind = if asked.withdraw {
                    // It went with the session.
                    OutcomeKind::Applied { bytes: [].into() }
                } else {
                    OutcomeKind::Failed { why: self.absent() }
                };
                Some(self.outcome(asked.command, nlri, kind))
            })
            .collect();
        if self.up.is_empty() {
            events.push(self.state(BackendState::Down { why: self.absent() }));
        }
        events
    }

    /// What is to be told when `neighbour` answers.
    pub(super) fn handle_outcome(
        &mut self,
        neighbour: &str,
        outcome: &Outcome,
    ) -> Option<SpeakerEvent> {
        let asked = self.asked.get_mut(&outcome.nlri)?;
        let applied = match &outcome.kind {
            OutcomeKind::Applied { .. } => true,
            OutcomeKind::Pending { .. } => return None,
            OutcomeKind::Rejected { .. } | OutcomeKind::Failed { .. } => false,
        };
        if asked.command != outcome.command {
            return None;
        }
        asked.waiting.remove(neighbour);
        let first = applied && !asked.withdraw;
        if !first && !asked.waiting.is_empty() {
            return None;
        }
        self.asked.remove(&outcome.nlri);
        if matches!(outcome.kind, OutcomeKind::Rejected { .. }) {
            self.routes.remove(&outcome.nlri);
        }
        Some(self.outcome(outcome.command, outcome.nlri.clone(), outcome.kind.clone()))
    }

    fn outcome(&self, command: CommandId, nlri: Nlri, kind: OutcomeKind) -> SpeakerEvent {
        let backend = BackendId::Peer(self.config.name.clone());
        SpeakerEvent::Outcome(Outcome { command, backend, nlri, kind })
    }

    fn state(&self, state: BackendState) -> SpeakerEvent {
        SpeakerEvent::State { peer: self.config.name.clone(), state }
    }

    fn absent(&self) -> String {
        format!("no neighbour from {} is there", self.config.prefix)
    }
}
