//! What another policy would do about what happened, and about what may.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidegate_model::AttackId;

use crate::play::{self, Moment, Recorded};
use crate::policy::Policy;
use crate::scenario::Scenario;
use crate::text::show_duration;

/// When two policies are compared after the beginning of an attack: at once, when steps were
/// climbed, and when mitigations that were not needed are gone.
const LOOKS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(30),
    Duration::from_secs(5 * 60),
    Duration::from_secs(3_600),
];

/// How two policies differ on the same attacks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyDiff {
    /// Incidents that were compared.
    pub incidents: usize,
    /// Scenarios that were compared.
    pub scenarios: usize,
    /// Those that are handled differently.
    pub changed: Vec<Change>,
}

/// One attack or scenario that is handled differently.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The incident by attack, target and vector, or the name of the scenario.
    pub what: String,
    /// Whether it is a scenario.
    pub kind: ChangeOf,
    /// When the difference begins, from the start.
    pub at: Duration,
    /// Wanted by the old policy only.
    pub only_old: Vec<String>,
    /// Wanted by the new policy only.
    pub only_new: Vec<String>,
    /// The new policy's latest reasons.
    pub reasons: Vec<String>,
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOf {
    /// A recorded incident.
    Incident,
    /// A scenario.
    Scenario,
}

/// Plays every incident, each for itself, and every scenario under both policies.
#[must_use]
pub fn diff(
    old: &Arc<Policy>,
    new: &Arc<Policy>,
    incidents: &[Recorded],
    scenarios: &[Scenario],
) -> PolicyDiff {
    let mut changed = Vec::new();
    for incident in incidents {
        let moments = |policy: &Arc<Policy>| {
            let judged = Recorded { begins: Duration::ZERO, ..judged(policy, incident) };
            // Below the thresholds of this policy there is no attack.
            let attacks: &[Recorded] = if judged.attack.excess < 1.0 { &[] } else { &[judged] };
            play::play(policy, attacks, None, &LOOKS)
        };
        let attack = &incident.attack;
        let what = format!("{}: {} on {}", attack.id, attack.main_vector(), attack.target);
        let both = (moments(old), moments(new));
        changed.extend(change(what, ChangeOf::Incident, &LOOKS, both));
    }
    for scenario in scenarios {
        let times = scenario.times();
        let moments = |policy: &Arc<Policy>| {
            play::play(policy, &scenario.attacks(policy), scenario.unix, &times)
        };
        let both = (moments(old), moments(new));
        changed.extend(change(scenario.name.clone(), ChangeOf::Scenario, &times, both));
    }
    PolicyDiff { incidents: incidents.len(), scenarios: scenarios.len(), changed }
}

/// The incident as `policy` would judge it.
fn judged(policy: &Policy, incident: &Recorded) -> Recorded {
    let mut judged = incident.clone();
    let attack = &incident.attack;
    if let Some(estimate) = attack.vectors.first() {
        let vector = (estimate.vector, estimate.confidence, estimate.signature.clone());
        let anew = play::attack(policy, AttackId(1), attack.target, vector, attack.peak);
        judged.attack.group = anew.group;
        judged.attack.trigger = anew.trigger;
        judged.attack.excess = anew.excess;
        judged.attack.current = attack.peak;
    }
    judged
}

/// The first time at which the two differ.
fn change(
    what: String,
    kind: ChangeOf,
    times: &[Duration],
    (old, new): (Vec<Moment>, Vec<Moment>),
) -> Option<Change> {
    let mut pairs = times.iter().zip(old.into_iter().zip(new));
    let (at, (old, new)) = pairs.find(|(_, (old, new))| old.mitigations != new.mitigations)?;
    let only = |one: &Moment, other: &Moment| -> Vec<String> {
        let missing = |line: &&String| !other.mitigations.contains(line);
        one.mitigations.iter().filter(missing).cloned().collect()
    };
    Some(Change {
        what,
        kind,
        at: *at,
        only_old: only(&old, &new),
        only_new: only(&new, &old),
        reasons: new.reasons.into_values().collect(),
    })
}

impl PolicyDiff {
    fn count(&self, kind: ChangeOf) -> usize {
        self.changed.iter().filter(|change| change.kind == kind).count()
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let changed: Vec<Json> = self
            .changed
            .iter()
            .map(|change| {
                json!({
                    "what": change.what,
                    "kind": match change.kind {
                        ChangeOf::Incident => "incident",
                        ChangeOf::Scenario => "scenario",
                    },
                    "at": show_duration(change.at),
                    "only_old": change.only_old,
                    "only_new": change.only_new,
                    "reasons": change.reasons,
                })
            })
            .collect();
        json!({
            "incidents": self.incidents,
            "scenarios": self.scenarios,
            "incidents_changed": self.count(ChangeOf::Incident),
            "scenarios_changed": self.count(ChangeOf::Scenario),
            "changed": changed,
        })
    }
}

impl fmt::Display for PolicyDiff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} of {} incidents and {} of {} scenarios would be handled differently",
            self.count(ChangeOf::Incident),
            self.incidents,
            self.count(ChangeOf::Scenario),
            self.scenarios,
        )?;
        for change in &self.changed {
            write!(formatter, "\n{}, after {}:", change.what, show_duration(change.at))?;
            for line in &change.only_old {
                write!(formatter, "\n  - {line}")?;
            }
            for line in &change.only_new {
                write!(formatter, "\n  + {line}")?;
            }
            for reason in &change.reasons {
                write!(formatter, "\n  because: {reason}")?;
            }
        }
        Ok(())
    }
}
