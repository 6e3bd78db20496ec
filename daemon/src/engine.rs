//! The engine: detector, planner and reconciler as one deterministic state machine.
//!
//! ```text
//!  Summary -> detector -> AttackEvent -> planner -> DesiredSet -> reconciler -> Command
//!                 ^                        |                          ^
//!                 +----- Occlusion --------+        Outcome, Backend -+
//! ```
//!
//! Live capture, replay and tests drive the same engine: they differ only in where summaries come
//! from, who carries out the commands and what clock is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_detector::{Detector, TrafficSummary};
use tidegate_model::{
    AttackEvent, BackendId, BackendState, Command, CommandId, CommandKind, MitigationKey, Nlri,
    Occlusion, Outcome, OutcomeKind, Prefix, Timestamp,
};
use tidegate_policy::{Planner, Policy};
use tidegate_reconciler::{Change, Entry, EntryState, Goal, Reconciler};

use crate::event::{Event, EventKind, Verb};
use crate::pipeline;

/// What happens to the engine.
#[derive(Clone, Debug)]
pub enum EngineInput<'a> {
    /// A tick of traffic.
    Summary(&'a TrafficSummary),
    /// A backend answered a command.
    Outcome(Outcome),
    /// A backend came up or went down.
    Backend(BackendId, BackendState),
    /// What a backend really holds of ours.
    Observed(BackendId, Vec<Nlri>),
    /// A new policy, already checked.
    Policy(Arc<Policy>),
    /// A timer of [`Engine::poll_timeout`] has run out.
    Timeout,
    /// There will be no more traffic: the end of a capture file.
    InputEnded,
    /// Withdraw everything and want nothing any more.
    Shutdown,
}

/// What the engine asks for.
#[derive(Clone, Debug)]
pub enum EngineOutput {
    /// To be carried out by a backend.
    Command(Command),
    /// To be recorded and shown.
    Event(Event),
}

/// Commands whose outcome is awaited. A command that a later one overtakes is never answered; so
/// beyond this the oldest are forgotten, which costs an entry of the timeline and nothing else.
const MAX_IN_FLIGHT: usize = 50_000;

/// How often a desired set that has not changed is compared with the ledger again: for what found
/// no room there. Comparing it at every answer would make a storm of answers hold up withdraws.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);

/// The state machine.
pub struct Engine {
    detector: Detector,
    planner: Planner,
    reconciler: Reconciler,
    /// The targets under attack, and what the detector was last told of each.
    occlusions: BTreeMap<Prefix, Occlusion>,
    /// Those of which there may be something new to tell.
    uncertain: BTreeSet<Prefix>,
    /// Every backend that was commanded or reported. Few: the policy names them.
    backends: BTreeSet<BackendId>,
    /// Those that said that they are down.
    down: BTreeSet<BackendId>,
    /// What each command that has no final outcome yet was about.
    in_flight: BTreeMap<CommandId, Verb>,
    /// Generation of the desired set that the ledger was last compared with, and when.
    compared: Option<(u64, Timestamp)>,
    outputs: Vec<EngineOutput>,
    stopped: bool,
}

impl Engine {
    /// An engine under `policy`. `seed` decides the jitter of retries.
    #[must_use]
    pub fn new(policy: &Arc<Policy>, seed: u64) -> Self {
        Self {
            detector: Detector::new(pipeline::detector_config(policy)),
            planner: Planner::new(Arc::clone(policy)),
            reconciler: Reconciler::new(pipeline::reconciler_config(policy, seed)),
            occlusions: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            backends: BTreeSet::new(),
            down: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            compared: None,
            outputs: Vec::new(),
            stopped: false,
        }
    }

    /// Takes one input and returns everything that follows from it, in order.
    pub fn handle(&mut self, now: Timestamp, input: EngineInput<'_>) -> Vec<EngineOutput> {
        match input {
            EngineInput::Summary(summary) if !self.stopped => {
                self.detector.handle_summary(summary);
            }
            EngineInput::Summary(_) => {}
            EngineInput::Outcome(outcome) => {
                self.reconciler.handle_outcome(now, &outcome);
                self.doubt(&outcome.nlri);
                self.take_outcome(now, outcome);
            }
            EngineInput::Backend(backend, state) => {
                self.reconciler.handle_backend(now, &backend, &state);
                self.backends.insert(backend.clone());
                match state {
                    BackendState::Up => self.down.remove(&backend),
                    BackendState::Down { .. } => self.down.insert(backend.clone()),
                };
                self.doubt_all();
                self.record(now, EventKind::Backend(backend, state));
            }
            EngineInput::Observed(backend, nlris) => {
                self.reconciler.handle_observed(now, &backend, nlris);
                self.backends.insert(backend);
                self.doubt_all();
            }
            EngineInput::Policy(policy) => self.take_policy(now, &policy),
            EngineInput::Timeout => {}
            EngineInput::InputEnded => self.detector.handle_input_end(now),
            EngineInput::Shutdown => {
                self.stopped = true;
                self.reconciler.withdraw_all(now);
            }
        }
        self.settle(now);
        std::mem::take(&mut self.outputs)
    }

    /// When [`EngineInput::Timeout`] is wanted at the latest, if nothing else comes before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        [self.planner.poll_timeout(), self.reconciler.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether no backend holds anything of ours any more, as far as they have answered.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.reconciler.is_clear()
    }

    /// Whether no attack is on and nothing is installed or about to be.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.detector.attacks().next().is_none()
            && self.planner.desired().mitigations.is_empty()
            && self.reconciler.entries().next().is_none()
    }

    fn take_policy(&mut self, now: Timestamp, policy: &Arc<Policy>) {
        // The reconciler first: what is no longer owned is withdrawn before anything is planned.
        self.reconciler.handle_space(now, policy.space.clone());
        self.detector.handle_config(now, pipeline::detector_config(policy));
        self.planner.handle_policy(now, Arc::clone(policy));
        self.compared = None;
        self.doubt_all();
    }

    fn take_outcome(&mut self, now: Timestamp, outcome: Outcome) {
        let verb = match outcome.kind {
            OutcomeKind::Pending { .. } => self.in_flight.get(&outcome.command).copied(),
            _ => self.in_flight.remove(&outcome.command),
        };
        // A second answer to the same command says nothing new.
        if let Some(verb) = verb {
            self.record(now, EventKind::Outcome { verb, outcome });
        }
    }

    /// Carries every consequence through, until nothing moves any more.
    fn settle(&mut self, now: Timestamp) {
        while let Some(event) = self.detector.poll_event() {
            let target = event.attack().target;
            match &event {
                AttackEvent::Started(_) => {
                    self.occlusions.insert(target, Occlusion::Visible);
                    self.uncertain.insert(target);
                }
                AttackEvent::Updated(_) => {}
                AttackEvent::Ended(..) => {
                    self.occlusions.remove(&target);
                }
            }
            self.planner.handle_attack(now, &event);
            self.record(now, EventKind::Attack(event));
        }
        self.planner.handle_timeout(now);
        while let Some(decision) = self.planner.poll_decision() {
            self.record(now, EventKind::Decision(decision));
        }
        self.compare(now);
        self.reconciler.handle_timeout(now);
        while let Some(command) = self.reconciler.poll_command() {
            let event = self.take_command(&command);
            self.record(now, event);
            self.outputs.push(EngineOutput::Command(command));
        }
        while let Some(change) = self.reconciler.poll_event() {
            // The rest of an entry's life is told by commands and outcomes already.
            let refused = match &change.change {
                Change::Entered(state) => matches!(state, EntryState::Refused(_)),
                Change::Waiting | Change::Overflowed => true,
                Change::Gone(_) => false,
            };
            if refused {
                self.record(now, EventKind::Ledger(change));
            }
        }
        self.tell_occlusions();
    }

    /// Hands the desired set to the reconciler, if it is new or was not looked at for a while.
    fn compare(&mut self, now: Timestamp) {
        let generation = self.planner.desired().generation;
        let known = self.compared.is_some_and(|(compared, at)| {
            compared == generation && now.since(at) < COMPARE_INTERVAL
        });
        if !self.stopped && !known {
            self.compared = Some((generation, now));
            self.reconciler.handle_desired(now, self.planner.desired());
        }
    }

    fn take_command(&mut self, command: &Command) -> EventKind {
        self.doubt(command.nlri());
        if !self.backends.contains(&command.backend) {
            self.backends.insert(command.backend.clone());
        }
        let verb = match &command.kind {
            CommandKind::Announce { .. } => Verb::Announce,
            CommandKind::Withdraw(_) => Verb::Withdraw,
        };
        self.in_flight.insert(command.id, verb);
        if self.in_flight.len() > MAX_IN_FLIGHT {
            self.in_flight.pop_first();
        }
        let key = MitigationKey { backend: command.backend.clone(), nlri: command.nlri().clone() };
        let wanted = self.planner.desired().mitigations.get(&key);
        match &command.kind {
            CommandKind::Announce { route, .. } => EventKind::Announce {
                command: command.id,
                key,
                route: route.clone(),
                attacks: wanted.map(|wanted| wanted.attacks.clone()).unwrap_or_default(),
            },
            CommandKind::Withdraw(_) => {
                let why = self.withdraw_reason(&key);
                EventKind::Withdraw { command: command.id, key, why }
            }
        }
    }

    fn withdraw_reason(&self, key: &MitigationKey) -> String {
        match self.reconciler.entry(key).map(Entry::goal) {
            Some(Goal::Remove(reason)) => reason.to_string(),
            Some(Goal::Refuse(refusal)) => refusal.to_string(),
            Some(Goal::Hold) | None => "to be announced anew".to_owned(),
        }
    }

    /// A route of `nlri` may have come or gone.
    fn doubt(&mut self, nlri: &Nlri) {
        if let Nlri::Unicast(target) = nlri {
            self.uncertain.insert(*target);
        }
    }

    fn doubt_all(&mut self) {
        self.uncertain.extend(self.occlusions.keys());
    }

    /// Tells the detector which targets have become hidden or visible by our own doing.
    fn tell_occlusions(&mut self) {
        for target in std::mem::take(&mut self.uncertain) {
            let occlusion = self.occlusion(target);
            if let Some(told) = self.occlusions.get_mut(&target)
                && *told != occlusion
            {
                *told = occlusion;
                self.detector.handle_occlusion(target, occlusion);
            }
        }
    }

    /// A target is hidden as long as a blackhole for it may be in place, whatever is desired: a
    /// withdraw that a peer has not taken yet lifts nothing, and one that was never installed hides
    /// nothing.
    fn occlusion(&self, target: Prefix) -> Occlusion {
        let hidden = self.backends.iter().any(|backend| {
            let key = MitigationKey { backend: backend.clone(), nlri: Nlri::Unicast(target) };
            let entry = self.reconciler.entry(&key);
            entry.is_some_and(|entry| may_hide(entry, self.down.contains(backend)))
        });
        if hidden { Occlusion::Blackholed } else { Occlusion::Visible }
    }

    fn record(&mut self, now: Timestamp, kind: EventKind) {
        self.outputs.push(EngineOutput::Event(Event { time: now, kind }));
    }
}

/// Whether traffic may be dropped because of `entry`, at a backend that is `down` or is not.
fn may_hide(entry: &Entry, down: bool) -> bool {
    match entry.state() {
        EntryState::Rejected { .. } => false,
        // Without a session the peer holds nothing of ours. With one it may be on its way.
        EntryState::Pending { .. } => !down && entry.may_be_held(),
        _ => entry.may_be_held(),
    }
}
