//! What the sensor sees of an attack while it is mitigated: the effect, and when there is none.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tidegate_model::{Attack, AttackId, BackendId, MitigationKey, Rate, Timestamp};

use super::decision::DecisionKind;
use super::plan::{Phase, Plan, Stage, Tracked};
use super::{Planner, reason};
use crate::policy::{Progress, SensorPlace};

/// A mitigation shows its effect this long after it is in force: the window in which the detector
/// measures a rate, and time for routers to act.
pub const SETTLE: Duration = Duration::from_secs(3);

/// What the sensor sees of an attack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    /// All traffic to the target that nobody there asked for.
    pub rate: Rate,
    /// How many times over its threshold it is.
    pub excess: f64,
}

/// Whether the sensor sees anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensor {
    /// It does.
    Seeing,
    /// Packets are lost, the interface is gone, or nobody reads it: a quiet target proves nothing.
    Blind,
}

/// What a mitigation does to its attack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// The attack's rate at the sensor before the mitigation.
    pub before: Rate,
    /// The latest there; `None` if it was not seen since.
    pub after: Option<Rate>,
    /// How much of the attack it stops.
    pub coverage: Coverage,
}

/// The share of an attack that a mitigation stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coverage {
    /// It cannot be known, for this reason.
    Unknown(&'static str),
    /// What is missing at the sensor, `0.0..=1.0`.
    AtSensor(f64),
    /// What the backends counted, `0.0..=1.0`.
    ByCounters(f64),
}

impl Coverage {
    /// The share, if it is known.
    #[must_use]
    pub const fn share(self) -> Option<f64> {
        match self {
            Self::Unknown(_) => None,
            Self::AtSensor(share) | Self::ByCounters(share) => Some(share),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.coverage {
            Coverage::Unknown(why) => write!(formatter, "effect unknown: {why}"),
            Coverage::AtSensor(share) => {
                write!(formatter, "{:.0} % of {} gone at the sensor", share * 100.0, self.before)
            }
            Coverage::ByCounters(share) => {
                write!(formatter, "{:.0} % of {} matched by counters", share * 100.0, self.before)
            }
        }
    }
}

impl Planner {
    /// Takes note of what the sensor sees of attacks now. To be called about once a second, and
    /// not while the sensor is blind.
    pub fn handle_sights(
        &mut self,
        now: Timestamp,
        sights: impl IntoIterator<Item = (AttackId, Sight)>,
    ) {
        self.now = now;
        for (id, sight) in sights {
            let Some(tracked) = self.attacks.get_mut(&id) else { continue };
            tracked.sight = Some(sight);
            if tracked.ended.is_none() && !tracked.is_frozen() {
                self.judge_effect(now, id);
            }
        }
        self.settle(now);
    }

    /// Takes note of how much rules at backends matched per second of late, where they count.
    pub fn handle_counters(&mut self, matched: impl IntoIterator<Item = (MitigationKey, Rate)>) {
        for (key, rate) in matched {
            if self.claims.contains_key(&key) {
                self.matched.insert(key, rate);
            }
        }
    }

    /// Takes note of whether the sensor sees anything. While it does not, no blackhole is lifted
    /// to look, and one that is lifted comes back.
    pub fn handle_sensor(&mut self, now: Timestamp, sensor: Sensor) {
        if self.sensor == sensor {
            return;
        }
        self.now = now;
        self.sensor = sensor;
        self.touched.extend(self.attacks.keys());
        if sensor == Sensor::Blind {
            let probing = |tracked: &Tracked| {
                tracked.plan().is_some_and(|plan| plan.phase != Phase::Installed)
                    && !tracked.is_frozen()
            };
            let ids: Vec<AttackId> = self
                .attacks
                .iter()
                .filter(|(_, tracked)| tracked.ended.is_none() && probing(tracked))
                .map(|(id, _)| *id)
                .collect();
            for id in ids {
                self.cover_again(now, id);
            }
        }
        self.settle(now);
        self.handle_timeout(now);
    }

    /// What the mitigation of an attack does to it; `None` if there is none.
    #[must_use]
    pub fn effect(&self, now: Timestamp, attack: AttackId) -> Option<Effect> {
        let tracked = self.attacks.get(&attack)?;
        Some(self.effect_of(now, tracked, tracked.plan()?))
    }

    pub(super) fn effect_of(&self, now: Timestamp, tracked: &Tracked, plan: &Plan) -> Effect {
        let after = tracked.sight.map(|sight| sight.rate);
        let long = |since| now.since(since) >= SETTLE;
        // Rules that change all the time never get to show an effect: then what comes through shows
        // what they are worth together.
        let shown = long(plan.changed) || plan.through.is_some_and(|(since, _)| long(since));
        let settled = plan.in_force.is_some_and(long) && shown;
        let local = plan.routes.iter().all(|(backend, _)| *backend == BackendId::Kernel);
        let coverage = match (after, self.policy.effect.sensor) {
            _ if plan.in_force.is_none() => Coverage::Unknown("it is not in force"),
            _ if !settled || plan.phase != Phase::Installed => {
                Coverage::Unknown("too early to say")
            }
            (Some(after), _) if local => self.counted(plan, after),
            (_, SensorPlace::BeforeFilters) => {
                Coverage::Unknown("the sensor stands before the filters")
            }
            (None, _) => Coverage::Unknown("the sensor has not seen the target since"),
            (Some(after), SensorPlace::BehindFilters) => {
                Coverage::AtSensor(1.0 - share(&tracked.attack, after, plan.before))
            }
        };
        Effect { before: plan.before, after, coverage }
    }

    /// By the counters of the rules: the sensor sees packets before the kernel drops them.
    fn counted(&self, plan: &Plan, seen: Rate) -> Coverage {
        let keys = plan.wanted_keys();
        let rates: BTreeMap<&MitigationKey, &Rate> =
            keys.iter().filter_map(|key| Some((key, self.matched.get(key)?))).collect();
        if rates.is_empty() {
            return Coverage::Unknown("nothing counts what the rules match");
        }
        let packets: u64 = rates.values().map(|rate| rate.packets.0).sum();
        Coverage::ByCounters(ratio(packets, seen.packets.0))
    }

    /// How far the step in force has come, for the conditions of the next.
    pub(super) fn progress(&self, now: Timestamp, tracked: &Tracked, plan: &Plan) -> Progress {
        let through = tracked.sight.is_some_and(|sight| sight.excess >= 1.0);
        let effect = self.effect_of(now, tracked, plan);
        Progress {
            in_force: plan.in_force.map(|since| now.since(since)),
            falls_short: effect.coverage.share().filter(|_| through),
        }
    }

    fn judge_effect(&mut self, now: Timestamp, id: AttackId) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        let (Some(plan), Some(sight)) = (tracked.plan(), tracked.sight) else { return };
        let through = sight.excess >= 1.0;
        if plan.phase != Phase::Installed {
            if through {
                self.reannounce(now, id, "above its limit");
            }
            return;
        }
        if through && let Some(plan) = self.attacks.get_mut(&id).and_then(Tracked::plan_mut) {
            let span = plan.through.filter(|(_, last)| now.since(*last) <= SETTLE);
            plan.through = Some((span.map_or(now, |(first, _)| first), now));
        }
        let Some(tracked) = self.attacks.get(&id) else { return };
        let Some(plan) = tracked.plan() else { return };
        let aim = self.policy.effect;
        let covered = self.effect_of(now, tracked, plan).coverage.share();
        let futile = through && covered.is_some_and(|share| share < aim.none_below);
        let since = match covered {
            _ if futile => plan.futile_since.or(Some(now)),
            None if through => plan.futile_since,
            _ => None,
        };
        let given_up = futile && since.is_some_and(|since| now.since(since) >= aim.none_after);
        let climbs = self.has_next_step(plan);
        if let Some(plan) = self.attacks.get_mut(&id).and_then(Tracked::plan_mut) {
            plan.futile_since = since;
        }
        if climbs {
            self.decide(now, id);
        }
        if given_up {
            self.give_up(now, id);
        }
    }

    fn has_next_step(&self, plan: &Plan) -> bool {
        let mut responses = self.policy.responses.iter();
        responses.any(|response| response.name == plan.response && plan.step + 1 < response.steps())
    }

    /// Withdraws what has no effect, and tries what else there is.
    fn give_up(&mut self, now: Timestamp, id: AttackId) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        // Another step may have taken its place just now.
        let Some(plan) = tracked.plan().filter(|plan| plan.futile_since.is_some()) else { return };
        let effect = self.effect_of(now, tracked, plan);
        let choice = plan.choice();
        let reason = format!(
            "`{}` has no effect for {}: {effect}; withdrawn, and not tried again for this attack",
            plan.response,
            reason::span(self.policy.effect.none_after),
        );
        self.say_about(id, DecisionKind::NoEffect, reason);
        if let Some(tracked) = self.attacks.get_mut(&id) {
            tracked.failed.insert(choice);
        }
        self.put(id, Stage::Idle);
        self.room_made = true;
        self.decide(now, id);
    }
}

/// What `after` is of `before`, in the unit by which the attack was recognised.
fn share(attack: &Attack, after: Rate, before: Rate) -> f64 {
    let trigger = attack.trigger;
    let packets = tidegate_model::Limit { packets: trigger.limit.packets, bits: None };
    if packets.excess(trigger.rate) >= trigger.limit.excess(trigger.rate) {
        ratio(after.packets.0, before.packets.0)
    } else {
        ratio(after.bits.0, before.bits.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of rates far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole.max(1) as f64).clamp(0.0, 1.0)
}
