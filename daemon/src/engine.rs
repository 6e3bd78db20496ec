//! The engine: detector, planner and reconciler as one deterministic state machine.
//!
//! ```text
//!  Summary -> detector -> AttackEvent, Sight -> planner -> DesiredSet -> reconciler -> Command
//!                 ^                             |   ^                       |  ^
//!                 +----- Occlusion -------------+   +------ Standing -------+  Outcome, Backend
//! ```
//!
//! What the planner wants and what is in force are two things: the ledger tells the planner what
//! became of each mitigation ([`Standing`]), and the sensor what became of the attack ([`Sight`]).
//!
//! Live capture, replay and tests drive the same engine: they differ only in where summaries come
//! from, who carries out the commands and what clock is read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_detector::{Detector, InForce, RestoreError, SavedBaselines, TrafficSummary};
use tidegate_model::{
    Attack, AttackEvent, AttackId, BackendId, BackendState, Command, CommandId, CommandKind,
    MitigationKey, Nlri, Occlusion, Outcome, OutcomeKind, Prefix, Rate, Timestamp,
};
use tidegate_policy::{Order, OrderRefused, Planner, Policy, Revision, Sensor, Sight, Standing};
use tidegate_reconciler::{Change, Entry, EntryState, Goal, Reconciler};

use crate::event::{Event, EventKind, Verb};
use crate::pipeline;
use crate::reports::{Report, ReportRefused, Reported, Reports};

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
    /// What backends may hold because of an earlier run, by its journal.
    LeftBehind(Vec<MitigationKey>),
    /// What rules at a backend matched per second of late.
    Counters(BackendId, Vec<(Nlri, Rate)>),
    /// Seconds since 1970-01-01 UTC. For responses that have their hours.
    Wall(u64),
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

/// How often the planner is told what the sensor sees of each attack.
const SIGHT_INTERVAL: Duration = Duration::from_secs(1);

/// Who loses more packets than this for each that is kept is blind.
const MOST_LOST: u64 = 9;

/// Times that a change of plan may follow from what became of the one before, in one input. What is
/// left then waits for the next.
const MAX_ROUNDS: usize = 8;

/// The state machine.
pub struct Engine {
    /// In force.
    policy: Arc<Policy>,
    revision: Option<Arc<Revision>>,
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
    watch: Watch,
    /// Attacks that other detectors feed in.
    reports: Reports,
    /// A person ordered everything to be withdrawn and nothing to be announced.
    panic: bool,
    outputs: Vec<EngineOutput>,
    stopped: bool,
}

/// How well the sensor saw since it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    /// When the current look began, and up to when summaries tell; `None` before the first.
    span: Option<(Timestamp, Timestamp)>,
    blind: Duration,
    packets: u64,
    lost: u64,
}

impl Watch {
    /// Takes a tick in; at the end of a look, whether the sensor saw for most of it.
    fn add(&mut self, summary: &TrafficSummary) -> Option<Sensor> {
        let (begun, seen_to) = self.span.unwrap_or((summary.start, summary.start));
        // What no summary tells of was not seen.
        self.blind += summary.start.since(seen_to);
        self.blind += if summary.blind { summary.span() } else { Duration::ZERO };
        self.packets = self.packets.saturating_add(summary.packets);
        self.lost = self.lost.saturating_add(summary.lost);
        let seen_to = seen_to.max(summary.end);
        let span = seen_to.since(begun);
        if span < SIGHT_INTERVAL {
            self.span = Some((begun, seen_to));
            return None;
        }
        let lost = self.lost / MOST_LOST > self.packets;
        let blind = lost || self.blind * 2 >= span;
        *self = Self { span: Some((seen_to, seen_to)), ..Self::default() };
        Some(if blind { Sensor::Blind } else { Sensor::Seeing })
    }

    /// Whether nothing has been heard for longer than a look takes.
    fn is_stale(&self, now: Timestamp) -> bool {
        self.span.is_some_and(|(_, seen_to)| now.since(seen_to) > SIGHT_INTERVAL * 2)
    }
}

impl Engine {
    /// An engine under `policy`. `seed` decides the jitter of retries.
    #[must_use]
    pub fn new(policy: &Arc<Policy>, seed: u64) -> Self {
        Self {
            policy: Arc::clone(policy),
            revision: policy.revision.clone().map(Arc::new),
            detector: Detector::new(pipeline::detector_config(policy)),
            planner: Planner::new(Arc::clone(policy)),
            reconciler: Reconciler::new(pipeline::reconciler_config(policy, seed)),
            occlusions: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            backends: BTreeSet::new(),
            down: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            compared: None,
            watch: Watch::default(),
            reports: Reports::default(),
            panic: false,
            outputs: Vec::new(),
            stopped: false,
        }
    }

    /// Takes one input and returns everything that follows from it, in order.
    pub fn handle(&mut self, now: Timestamp, input: EngineInput<'_>) -> Vec<EngineOutput> {
        match input {
            EngineInput::Summary(summary) if !self.stopped => {
                self.detector.handle_summary(summary);
                self.look(now, summary);
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
                    BackendState::Up => {
                        self.down.remove(&backend);
                        self.planner.handle_backend_up(now, &backend);
                    }
                    BackendState::Down { .. } => {
                        self.down.insert(backend.clone());
                    }
                }
                self.doubt_all();
                self.record(now, EventKind::Backend(backend, state));
            }
            EngineInput::Observed(backend, nlris) => {
                self.reconciler.handle_observed(now, &backend, nlris);
                self.backends.insert(backend);
                self.doubt_all();
            }
            EngineInput::LeftBehind(keys) => {
                self.backends.extend(keys.iter().map(|key| key.backend.clone()));
                self.reconciler.handle_left_behind(now, keys);
                self.doubt_all();
            }
            EngineInput::Counters(backend, matched) => {
                let key = |(nlri, rate)| (MitigationKey { backend: backend.clone(), nlri }, rate);
                self.planner.handle_counters(matched.into_iter().map(key));
            }
            EngineInput::Wall(unix) => {
                self.planner.handle_wall(now, unix);
                self.detector.handle_wall_clock(now, Duration::from_secs(unix));
            }
            EngineInput::Policy(policy) => self.take_policy(now, &policy),
            EngineInput::Timeout => {}
            EngineInput::InputEnded => {
                self.detector.handle_input_end(now);
                self.reports.handle_input_end();
            }
            EngineInput::Shutdown => {
                self.stopped = true;
                self.reconciler.withdraw_all(now);
            }
        }
        self.settle(now);
        std::mem::take(&mut self.outputs)
    }

    /// Carries out an order of a person; which attack or manual mitigation it is about, and
    /// everything that follows from it, in order.
    ///
    /// # Errors
    /// [`OrderRefused`] if it cannot be carried out. Nothing has changed then.
    pub fn order(
        &mut self,
        now: Timestamp,
        order: &Order,
    ) -> Result<(AttackId, Vec<EngineOutput>), OrderRefused> {
        let attack = self.planner.handle_order(now, order)?;
        self.settle(now);
        Ok((attack, std::mem::take(&mut self.outputs)))
    }

    /// Takes a report of another detector; what becomes of it, and everything that follows from it.
    ///
    /// # Errors
    /// [`ReportRefused`] if it is not taken. Nothing has changed then.
    pub fn report(
        &mut self,
        now: Timestamp,
        report: Report,
    ) -> Result<(Reported, Vec<EngineOutput>), ReportRefused> {
        let reported = self.reports.handle_report(now, &self.policy, report)?;
        self.settle(now);
        Ok((reported, std::mem::take(&mut self.outputs)))
    }

    /// Withdraws everything everywhere, whatever is wanted, until [`Self::release`].
    pub fn panic(&mut self, now: Timestamp) -> Vec<EngineOutput> {
        self.panic = true;
        self.reconciler.withdraw_all(now);
        self.settle(now);
        std::mem::take(&mut self.outputs)
    }

    /// Ends a panic: what is wanted is announced again.
    pub fn release(&mut self, now: Timestamp) -> Vec<EngineOutput> {
        self.panic = false;
        if !self.stopped {
            self.reconciler.resume(now);
            self.compared = None;
        }
        self.settle(now);
        std::mem::take(&mut self.outputs)
    }

    /// Whether a panic is in force.
    #[must_use]
    pub const fn is_in_panic(&self) -> bool {
        self.panic
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Everything that a backend may hold because of us, or should.
    pub fn ledger(&self) -> impl Iterator<Item = (&MitigationKey, &Entry)> {
        self.reconciler.entries()
    }

    /// The thresholds that `address` is judged by, and why; empty if it is not protected.
    #[must_use]
    pub fn thresholds_of(&self, address: IpAddr) -> Vec<InForce> {
        self.detector.in_force(address)
    }

    /// What is planned, proposed and seen of effects.
    #[must_use]
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// When [`EngineInput::Timeout`] is wanted at the latest, if nothing else comes before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let parts = [
            self.planner.poll_timeout(),
            self.reconciler.poll_timeout(),
            self.reports.poll_timeout(),
        ];
        parts.into_iter().flatten().min()
    }

    /// Whether no backend holds anything of ours any more, as far as they have answered.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.reconciler.is_clear()
    }

    /// What the detector has learned: see [`Detector::baselines`] for people, and
    /// [`Detector::save_baselines`] for files.
    #[must_use]
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Takes back what was learned before. Nothing of it is taken if it is damaged.
    ///
    /// # Errors
    /// As [`Detector::restore_baselines`].
    pub fn restore_baselines(&mut self, saved: &SavedBaselines) -> Result<(), RestoreError> {
        self.detector.restore_baselines(saved)
    }

    /// The attacks that go on.
    pub fn attacks(&self) -> impl Iterator<Item = &Attack> {
        self.detector.attacks()
    }

    /// Whether no attack is on and nothing is installed or about to be.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.detector.attacks().next().is_none()
            && self.planner.desired().mitigations.is_empty()
            && self.reconciler.entries().next().is_none()
    }

    fn take_policy(&mut self, now: Timestamp, policy: &Arc<Policy>) {
        self.policy = Arc::clone(policy);
        self.revision = policy.revision.clone().map(Arc::new);
        self.reports.handle_policy(policy);
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

    /// Tells the planner once in a while what the sensor sees, or that it sees nothing.
    fn look(&mut self, now: Timestamp, summary: &TrafficSummary) {
        let Some(sensor) = self.watch.add(summary) else { return };
        self.planner.handle_sensor(now, sensor);
        // While everything is withdrawn nothing can have an effect.
        if sensor == Sensor::Seeing && !self.panic {
            let sights = self
                .detector
                .excesses()
                .map(|(attack, excess)| (attack.id, Sight { rate: attack.current, excess }));
            self.planner.handle_sights(now, sights);
        }
    }

    /// Carries every consequence through, until nothing moves any more.
    fn settle(&mut self, now: Timestamp) {
        if self.watch.is_stale(now) {
            self.planner.handle_sensor(now, Sensor::Blind);
        }
        self.reports.handle_timeout(now);
        let sampled = self.planner.wants_samples();
        while let Some(event) = self.detector.poll_event().or_else(|| self.reports.poll_event()) {
            let target = event.attack().target;
            let is_ours = event.attack().id.0 < AttackId::REPORTED;
            match &event {
                // Of what others see, it is not ours to say what is hidden.
                _ if !is_ours => {}
                AttackEvent::Started(_) => {
                    self.occlusions.insert(target, Occlusion::Visible);
                    self.uncertain.insert(target);
                }
                AttackEvent::Updated(_) => {}
                AttackEvent::Ended(..) => {
                    self.occlusions.remove(&target);
                }
            }
            if sampled && is_ours && !matches!(event, AttackEvent::Ended(..)) {
                let attack = event.attack();
                self.planner.handle_sample(attack.id, self.detector.sample_of(attack));
            }
            self.planner.handle_attack(now, &event);
            self.record(now, EventKind::Attack(event));
        }
        // All plans first, then all commands: no withdrawal waits behind an announcement.
        for _ in 0..MAX_ROUNDS {
            self.planner.handle_timeout(now);
            self.compare(now);
            self.reconciler.handle_timeout(now);
            if !self.tell_standings(now) {
                break;
            }
        }
        while let Some(decision) = self.planner.poll_decision() {
            self.record(now, EventKind::Decision(decision));
        }
        while let Some(command) = self.reconciler.poll_command() {
            let event = self.take_command(&command);
            self.record(now, event);
            self.outputs.push(EngineOutput::Command(command));
        }
        self.tell_occlusions();
    }

    /// Tells the planner what became of its mitigations; whether there was anything to tell.
    fn tell_standings(&mut self, now: Timestamp) -> bool {
        let mut standings = Vec::new();
        while let Some(change) = self.reconciler.poll_event() {
            standings.push((change.key.clone(), standing(&change.change)));
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
        // A panic is nobody's failure: no other response is to be tried for it.
        let any = !standings.is_empty() && !self.panic;
        if any {
            self.planner.handle_standings(now, standings);
        }
        any
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
        let policy = self.revision.clone();
        self.outputs.push(EngineOutput::Event(Event { time: now, policy, kind }));
    }
}

/// What a change in the ledger means to the planner.
fn standing(change: &Change) -> Standing {
    match change {
        Change::Entered(EntryState::Applied) => Standing::Enforced,
        Change::Entered(state @ (EntryState::Rejected { .. } | EntryState::Refused(_))) => {
            Standing::Rejected { why: state.to_string() }
        }
        Change::Entered(EntryState::Withdrawing) | Change::Gone(_) => Standing::Gone,
        Change::Entered(state) => Standing::Awaited { why: state.to_string() },
        Change::Waiting => Standing::Awaited { why: "the ledger is full".to_owned() },
        Change::Overflowed => {
            Standing::Rejected { why: "the ledger and its waiting list are full".to_owned() }
        }
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
