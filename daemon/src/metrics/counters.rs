//! What is counted as it happens. Nothing here waits.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tidegate_detector::TrafficSummary;
use tidegate_model::{AttackEvent, AttackId, CommandId, OutcomeKind, Timestamp};

use crate::api::Applied;
use crate::event::{Event, EventKind, Verb};

/// Attacks and commands of which the times are remembered. Beyond it the oldest are forgotten: they
/// lack in a histogram, nothing else.
const MAX_REMEMBERED: usize = 4_096;

/// From a tick to what a person would call late.
const SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VectorLabel {
    vector: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    backend: String,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    backend: String,
    verb: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// When attacks were recognised, and for which of them commands are under way.
#[derive(Debug, Default)]
struct Times {
    detected: BTreeMap<AttackId, Timestamp>,
    commands: BTreeMap<CommandId, Timestamp>,
}

/// The counters of a run.
#[derive(Debug)]
pub struct Counters {
    registry: Registry,
    packets: Counter,
    lost: Counter,
    malformed: Counter,
    blind: Counter<f64, AtomicU64>,
    lag: Gauge<f64, AtomicU64>,
    attacks: Family<VectorLabel, Counter>,
    attacks_ended: Counter,
    detection: Histogram,
    delivery: Histogram,
    commands: Family<CommandLabels, Counter>,
    outcomes: Family<OutcomeLabels, Counter>,
    not_enforced: Counter,
    loads: Family<ResultLabel, Counter>,
    /// Only the engine takes this lock: it is never contended.
    times: Mutex<Times>,
}

impl Default for Counters {
    fn default() -> Self {
        let mut counters = Self {
            registry: Registry::with_prefix("tidegate"),
            packets: Counter::default(),
            lost: Counter::default(),
            malformed: Counter::default(),
            blind: Counter::default(),
            lag: Gauge::default(),
            attacks: Family::default(),
            attacks_ended: Counter::default(),
            detection: Histogram::new(SECONDS),
            delivery: Histogram::new(SECONDS),
            commands: Family::default(),
            outcomes: Family::default(),
            not_enforced: Counter::default(),
            loads: Family::default(),
            times: Mutex::default(),
        };
        counters.register();
        counters
    }
}

impl Counters {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("packets", "Frames that were captured", self.packets.clone());
        registry.register(
            "packets_lost",
            "Frames that the kernel or the ring dropped before they were seen",
            self.lost.clone(),
        );
        registry.register(
            "packets_malformed",
            "Frames whose headers cannot be read or contradict themselves",
            self.malformed.clone(),
        );
        registry.register_with_unit(
            "blind",
            "Time in which nothing could be seen",
            Unit::Seconds,
            self.blind.clone(),
        );
        registry.register_with_unit(
            "engine_lag",
            "How old the latest tick of traffic was when the engine took it",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register(
            "attacks_started",
            "Attacks that were recognised, by vector",
            self.attacks.clone(),
        );
        registry.register("attacks_ended", "Attacks that are over", self.attacks_ended.clone());
        registry.register_with_unit(
            "detection",
            "From the onset of an attack to its recognition",
            Unit::Seconds,
            self.detection.clone(),
        );
        registry.register_with_unit(
            "delivery",
            "From the recognition of an attack to a backend having a mitigation of it",
            Unit::Seconds,
            self.delivery.clone(),
        );
        registry.register("commands", "What backends were told", self.commands.clone());
        registry.register("outcomes", "What backends answered", self.outcomes.clone());
        registry.register(
            "not_enforced",
            "Mitigations that the guard or a full ledger kept from being announced",
            self.not_enforced.clone(),
        );
        registry.register(
            "policy_loads",
            "Times that the policy was read again, by what came of it",
            self.loads.clone(),
        );
    }

    /// What is exported.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A tick of traffic, taken at `now`.
    pub fn summary(&self, now: Timestamp, summary: &TrafficSummary) {
        self.packets.inc_by(summary.packets);
        self.lost.inc_by(summary.lost);
        self.malformed.inc_by(summary.malformed);
        if summary.blind {
            self.blind.inc_by(summary.span().as_secs_f64());
        }
        self.lag.set(now.since(summary.end).as_secs_f64());
    }

    /// An event of the engine.
    pub fn event(&self, event: &Event) {
        match &event.kind {
            EventKind::Attack(AttackEvent::Started(attack)) => {
                let vector = attack.main_vector().to_string();
                self.attacks.get_or_create(&VectorLabel { vector }).inc();
                self.detection.observe(seconds(attack.detected.since(attack.onset)));
                let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                times.detected.insert(attack.id, attack.detected);
                bound(&mut times.detected);
            }
            EventKind::Attack(AttackEvent::Ended(attack, _)) => {
                self.attacks_ended.inc();
                let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                times.detected.remove(&attack.id);
            }
            EventKind::Announce { command, key, attacks, .. } => {
                self.command(key.backend.to_string(), Verb::Announce);
                let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                // Each attack's first mitigation counts.
                let detected = attacks.iter().find_map(|attack| times.detected.remove(attack));
                if let Some(detected) = detected {
                    times.commands.insert(*command, detected);
                    bound(&mut times.commands);
                }
            }
            EventKind::Withdraw { key, .. } => {
                self.command(key.backend.to_string(), Verb::Withdraw);
            }
            EventKind::Outcome { verb, outcome } => {
                let labels = OutcomeLabels {
                    backend: outcome.backend.to_string(),
                    verb: verb_name(*verb),
                    outcome: match outcome.kind {
                        OutcomeKind::Applied { .. } => "applied",
                        OutcomeKind::Pending { .. } => "pending",
                        OutcomeKind::Rejected { .. } => "rejected",
                        OutcomeKind::Failed { .. } => "failed",
                    },
                };
                self.outcomes.get_or_create(&labels).inc();
                if matches!(outcome.kind, OutcomeKind::Applied { .. }) {
                    let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(detected) = times.commands.remove(&outcome.command) {
                        self.delivery.observe(seconds(event.time.since(detected)));
                    }
                }
            }
            EventKind::Ledger(_) => {
                self.not_enforced.inc();
            }
            EventKind::Attack(AttackEvent::Updated(_))
            | EventKind::Decision(_)
            | EventKind::Backend(..) => {}
        }
    }

    /// The policy was read again.
    pub fn policy_read(&self, applied: &Applied) {
        let result = match applied {
            Applied::Applied => "applied",
            Applied::Unchanged => "unchanged",
            Applied::Refused(_) => "refused",
        };
        self.loads.get_or_create(&ResultLabel { result }).inc();
    }

    fn command(&self, backend: String, verb: Verb) {
        self.commands.get_or_create(&CommandLabels { backend, verb: verb_name(verb) }).inc();
    }
}

fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Announce => "announce",
        Verb::Withdraw => "withdraw",
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

fn bound<K: Ord, V>(remembered: &mut BTreeMap<K, V>) {
    while remembered.len() > MAX_REMEMBERED {
        remembered.pop_first();
    }
}
