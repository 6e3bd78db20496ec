//! From attacks to what should be installed, with reasons.
//!
//! The planner keeps, for each attack, what is done about it. It is deterministic: the same calls
//! give the same set and the same decisions.
//!
//! # Which response
//!
//! The first response of the policy that matches and can be carried out decides, by the step of its
//! ladder whose turn it is. One cannot be carried out when the [guard](crate::guard) refuses a
//! route, no peer has the family, no [rule](crate::rule) can be made, there is no room, it was tried
//! in vain, or nobody approved it; the next that matches follows, and the reason says so. During an
//! attack the severity never sinks and what is done never gets weaker
//! (local, FlowSpec, blackhole; a rate limit before discard). It gets stronger at once. Rules are
//! replaced when the attack gets through and they no longer fit it, at most once in
//! [`REFRESH_INTERVAL`]: behind rules that work there is nothing to learn.
//!
//! # How long
//!
//! ```text
//!           can be carried out                 hold is over (blackhole)
//! +------+ ------------------> +-----------+ --------------------------> +---------+
//! | Idle |                     | Installed |                             | Probing |
//! +------+ <----- new policy - +-----------+ <-- goes on: hold doubled -- +---------+
//!   |  ^                         |   |   |                                  |    |
//!   |  | room appears    maximum |   |   | Ended, minimum       maximum     |    |
//!   v  |                lifetime |   |   | lifetime not passed  lifetime    |    |
//! +---------+                    |   |   +--------> +---------+             |    |
//! | Waiting |      +-------+ <---+   |              | Staying |             |    |
//! +---------+      | Spent | <-------|--------------|---------|-------------+    |
//!                  +-------+         | Ended        +---------+                  |
//!                      | Ended       |                   | minimum passed   Ended |
//!                      v             v                   v                       v
//!                   forgotten; what was installed is withdrawn; its hold is remembered
//! ```
//!
//! Idle and Waiting end with the attack too. An attack that is over because the input ended, or
//! because its target is not protected any more, does not stay.
//!
//! A blackhole hides its own evidence: the detector is told of it ([`Planner::occlusion`]) and does
//! not end the attack for being quiet. So the planner lifts the blackhole when its hold is over and
//! looks. Reported above its limit, the attack goes on: announced again, hold doubled, up to
//! [`MAX_HOLD`]. Ended by the detector, it is over. If neither happens within the detector's own
//! time to call an end and [`PROBE_WINDOW`], it is announced again too: what is not called over may
//! be an attack just below the limit, or a blind capture. Where several peers have it, it is lifted
//! at one for that long before it is at all of them. It is not lifted while the sensor is blind
//! ([`Sensor`]), while no peer has it in force ([`Standing`]), or beyond the flap budget; and while
//! it is lifted the filters of an earlier step of its ladder take its place.
//!
//! A filter upstream hides its vector as well, but the detector cannot be told so. An attack that
//! comes back within [`RELAPSE`] of the filter going is the same one: the filter's hold then grows
//! in the same way, so that a hidden attack causes a few changes and not one every few seconds.
//!
//! # How many
//!
//! At most [`MAX_ATTACKS`] attacks, [`MAX_MITIGATIONS`] in all, [`MAX_KERNEL_RULES`] in the kernel,
//! four fifths of `max_routes` and of `max_rules` at a peer (beyond its own limit the peer resets the
//! session), and as many new targets at once and mitigations of one group as the policy allows. What
//! has no room is refused, waits and is decided again when room appears, worst first.
//!
//! # What came of it
//!
//! The ledger says what became of each mitigation ([`Planner::handle_standings`]), the sensor what
//! became of the attack ([`Planner::handle_sights`]). What no backend has in force in time is said,
//! and the next step or response tried where the policy says so. A step that stops too little leads
//! to the next; what stops nothing is withdrawn. Other rules of the same step begin no new trial.
//! What was in force goes when what takes its place is, where there is room for both. People have
//! the last word ([`Planner::handle_order`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{
    Attack, AttackEvent, AttackId, AttackSample, BackendId, DesiredSet, EndReason, Mitigation,
    MitigationKey, Occlusion, Prefix, Rate, Severity, Timestamp,
};

use crate::policy::{Budgets, Policy, RuleSource, minute_of_week};

mod agenda;
mod breaker;
mod choice;
mod decision;
mod flaps;
mod followed;
mod hold;
mod keeping;
mod lifting;
mod orders;
mod plan;
mod reason;
mod routes;
mod sight;
mod standing;

pub(crate) use breaker::MOST_NEW_TARGETS;
pub use decision::{Cause, Decision, DecisionKind, Proposal, Refusal};

pub(crate) use flaps::MAX_CYCLES;
pub use flaps::MAX_FLAPS_REMEMBERED;
pub use followed::Followed;
pub use hold::{FIRST_RELAPSE_HOLD, MAX_HOLD, MAX_REMEMBERED, MIN_BLACKHOLE_HOLD, RELAPSE};
pub use orders::{MAX_ORDER_TEXT, MAX_TTL, ManualAction, Order, OrderRefused};
pub use sight::{Coverage, Effect, SETTLE, Sensor, Sight};
pub use standing::Standing;

use agenda::{Agenda, Awaits};
use breaker::Breaker;
use flaps::Flaps;
use hold::Holds;
use plan::{Choice, Claimed, Origin, Phase, Plan, Stage, Tracked, gets_through};
use standing::Heard;

/// Most attacks that are followed. Further ones are refused until one ends.
pub const MAX_ATTACKS: usize = 16_384;
/// Most mitigations wanted at once, over all backends, if the policy does not allow fewer.
pub const MAX_MITIGATIONS: usize = Budgets::MOST_MITIGATIONS;
/// Most rules wanted in the kernel, if the policy does not allow fewer.
pub const MAX_KERNEL_RULES: usize = Budgets::MOST_KERNEL_RULES;
/// Rules of one attack are replaced at most once in this time.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// How much longer than the detector needs to call an end a blackhole is lifted to look.
pub const PROBE_WINDOW: Duration = Duration::from_secs(2);
/// Most decisions that wait to be polled. The oldest go first, and are counted.
pub const MAX_DECISIONS: usize = 4096;
/// Most waiting attacks that are decided again when room appears, the worst first. The others get
/// their turn a [`RECONSIDER_INTERVAL`] later, or with their next update.
pub const MAX_RECONSIDERED: usize = 64;
/// See [`MAX_RECONSIDERED`].
pub const RECONSIDER_INTERVAL: Duration = Duration::from_secs(10);

/// Most attacks of which packets are kept.
pub const MAX_SAMPLED: usize = 512;

/// Plans what to do about attacks.
#[derive(Debug)]
pub struct Planner {
    policy: Arc<Policy>,
    sessions: Vec<IpAddr>,
    attacks: BTreeMap<AttackId, Tracked>,
    /// Every route of every plan, installed or lifted for a probe: what limits count, so that what
    /// is lifted has room to come back.
    claims: BTreeMap<MitigationKey, BTreeSet<AttackId>>,
    claimed_at: BTreeMap<BackendId, Claimed>,
    /// What was last heard of each claimed route.
    heard: BTreeMap<MitigationKey, Heard>,
    /// How much each claimed route matches, where somebody counts.
    matched: BTreeMap<MitigationKey, Rate>,
    holds: Holds,
    flaps: Flaps,
    /// What stays in place beyond its attack, by target: the next pulse goes on from there.
    lingering: BTreeMap<Prefix, Choice>,
    breaker: Breaker,
    sensor: Sensor,
    /// A time on the planner's clock, and the seconds since 1970-01-01 UTC that it was then.
    wall: Option<(Timestamp, u64)>,
    /// Which responses were in their hours when the wall clock was last looked at.
    in_time: Vec<bool>,
    last_manual: u64,
    /// The time of the current call.
    now: Timestamp,
    desired: DesiredSet,
    /// Where each blackhole in the desired set is wanted.
    blackholed: BTreeMap<Prefix, BTreeSet<BackendId>>,
    decisions: VecDeque<Decision>,
    decisions_lost: u64,
    agenda: Agenda,
    /// When to go on with those that wait, if there were too many for one turn.
    more_waiting: Option<Timestamp>,
    /// What the current call has done.
    set_changed: bool,
    room_made: bool,
    /// Attacks that may be waiting for something else now.
    touched: BTreeSet<AttackId>,
    /// Packets of attacks, for rules. At most of [`MAX_SAMPLED`].
    samples: BTreeMap<AttackId, AttackSample>,
    /// Keys that an attack does not claim any more.
    unclaimed: BTreeSet<MitigationKey>,
}

impl Planner {
    /// A planner that knows of no attack.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self {
            sessions: policy.session_addresses().into_iter().collect(),
            policy,
            attacks: BTreeMap::new(),
            claims: BTreeMap::new(),
            claimed_at: BTreeMap::new(),
            heard: BTreeMap::new(),
            matched: BTreeMap::new(),
            holds: Holds::default(),
            flaps: Flaps::default(),
            lingering: BTreeMap::new(),
            breaker: Breaker::default(),
            sensor: Sensor::Seeing,
            wall: None,
            in_time: Vec::new(),
            last_manual: 0,
            now: Timestamp::ZERO,
            desired: DesiredSet::default(),
            blackholed: BTreeMap::new(),
            decisions: VecDeque::new(),
            decisions_lost: 0,
            agenda: Agenda::default(),
            more_waiting: None,
            set_changed: false,
            room_made: false,
            touched: BTreeSet::new(),
            samples: BTreeMap::new(),
            unclaimed: BTreeSet::new(),
        }
    }

    /// Takes news of an attack. An update of an attack never heard of starts it; news of one that
    /// has ended is ignored.
    pub fn handle_attack(&mut self, now: Timestamp, event: &AttackEvent) {
        self.now = now;
        match event {
            AttackEvent::Started(attack) | AttackEvent::Updated(attack) => {
                self.learn(now, event, attack)
            }
            AttackEvent::Ended(attack, reason) => self.end(now, attack, *reason),
        }
        self.settle(now);
    }

    /// Whether [`handle_sample`](Self::handle_sample) serves a purpose.
    #[must_use]
    pub fn wants_samples(&self) -> bool {
        let samples = RuleSource::Samples;
        self.policy.responses.iter().any(|response| {
            response.rules_from == samples
                || response.then.iter().any(|step| step.rules_from == samples)
        })
    }

    /// Takes packets of an attack and of what came before it, for rules. To be called just before
    /// the news that they belong to. Of more than [`MAX_SAMPLED`] attacks there are none, and rules
    /// are made from signatures.
    pub fn handle_sample(&mut self, attack: AttackId, sample: AttackSample) {
        if self.samples.len() < MAX_SAMPLED || self.samples.contains_key(&attack) {
            self.samples.insert(attack, sample);
            self.touched.insert(attack);
        }
    }

    /// Plans everything anew by another policy. What that policy does not allow goes at once,
    /// whatever its minimum lifetime.
    pub fn handle_policy(&mut self, now: Timestamp, policy: Arc<Policy>) {
        self.now = now;
        self.sessions = policy.session_addresses().into_iter().collect();
        let old = std::mem::replace(&mut self.policy, policy);
        let same = standing::unchanged(&old, &self.policy);
        let before = self.desired.mitigations.clone();
        let mut order: Vec<(bool, Reverse<Severity>, AttackId)> = Vec::new();
        let mut plans: BTreeMap<AttackId, Plan> = BTreeMap::new();
        let ids: Vec<AttackId> = self.attacks.keys().copied().collect();
        for id in ids {
            let Some(tracked) = self.attacks.get_mut(&id) else { continue };
            let stays = tracked.ended.is_some() || tracked.is_frozen();
            // What was tried in vain is so under the same response too.
            tracked.failed.retain(|choice| same.contains(&choice.response));
            tracked.proposals.clear();
            if tracked.origin == Origin::Policy {
                tracked.severity = self.policy.severity(now, &tracked.attack);
                tracked.judged = now;
            }
            order.push((stays, Reverse(tracked.severity), id));
            if let Some(plan) = tracked.plan().cloned() {
                plans.insert(id, plan);
                self.put(id, Stage::Idle);
            }
        }
        // Where limits shrank, what still goes on comes before what is over, the worst first.
        order.sort_unstable();
        for (stays, _, id) in order {
            match plans.remove(&id) {
                Some(plan) if stays => self.keep_if_allowed(now, id, plan),
                None if stays => {}
                plan => self.replan(now, id, plan),
            }
        }
        self.touched.extend(self.attacks.keys());
        self.in_time = self.times(now);
        self.set_changed = self.desired.mitigations != before;
        self.settle(now);
    }

    /// Does what time alone makes due. Early, late and needless calls are harmless.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        self.now = now;
        for id in self.agenda.due(now) {
            self.touched.insert(id);
            self.expire(now, id);
        }
        self.settle(now);
    }

    /// Takes note that it is `unix` seconds since 1970-01-01 UTC. To be called now and then: what
    /// has its hours begins and ends with these calls. Without one, it never begins.
    pub fn handle_wall(&mut self, now: Timestamp, unix: u64) {
        self.now = now;
        self.wall = Some((now, unix));
        let in_time = self.times(now);
        if in_time == self.in_time {
            return;
        }
        self.in_time = in_time;
        let ids: Vec<AttackId> = self.attacks.keys().copied().collect();
        for id in ids {
            self.reconsider(now, id);
        }
        self.settle(now);
    }

    /// The minute of the week on the policy's clock.
    fn minute(&self, now: Timestamp) -> Option<u32> {
        let (then, unix) = self.wall?;
        let unix = unix.saturating_add(now.since(then).as_secs());
        Some(minute_of_week(unix, self.policy.utc_offset))
    }

    fn times(&self, now: Timestamp) -> Vec<bool> {
        let minute = self.minute(now);
        self.policy.responses.iter().map(|response| response.matcher.is_time(minute)).collect()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next needed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let others = [self.breaker.tripped_until(), self.more_waiting];
        self.agenda.first().into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Everything that should be installed now.
    #[must_use]
    pub fn desired(&self) -> &DesiredSet {
        &self.desired
    }

    /// The next decision, oldest first.
    pub fn poll_decision(&mut self) -> Option<Decision> {
        self.decisions.pop_front()
    }

    /// Decisions that were dropped because nobody polled them.
    #[must_use]
    pub fn decisions_lost(&self) -> u64 {
        self.decisions_lost
    }

    /// What hides `target` from the detector.
    #[must_use]
    pub fn occlusion(&self, target: Prefix) -> Occlusion {
        if self.blackholed.contains_key(&target) {
            Occlusion::Blackholed
        } else {
            Occlusion::Visible
        }
    }

    /// What waits for approval, by attack.
    pub fn proposals(&self) -> impl Iterator<Item = &Proposal> {
        self.attacks.values().flat_map(|tracked| &tracked.proposals)
    }

    /// The desired mitigations of an attack that are wanted now, by key.
    pub fn mitigations_of(&self, attack: AttackId) -> impl Iterator<Item = &Mitigation> {
        let of = move |mitigation: &&Mitigation| mitigation.attacks.contains(&attack);
        self.desired.mitigations.values().filter(of)
    }

    fn learn(&mut self, now: Timestamp, event: &AttackEvent, attack: &Attack) {
        let severity = self.policy.severity(now, attack);
        if !self.attacks.contains_key(&attack.id) && self.attacks.len() >= MAX_ATTACKS {
            if matches!(event, AttackEvent::Started(_)) {
                let cause = Cause::TooManyAttacks { limit: MAX_ATTACKS };
                let refusal = Refusal { response: None, cause };
                self.say_idle(attack, severity, None, vec![refusal]);
            }
            return;
        }
        let tracked = self
            .attacks
            .entry(attack.id)
            .or_insert_with(|| Tracked::new(now, attack.clone(), severity, Origin::Policy));
        if tracked.ended.is_some() || tracked.origin == Origin::Manual {
            return;
        }
        tracked.attack = attack.clone();
        tracked.severity = tracked.severity.max(severity);
        tracked.judged = now;
        self.touched.insert(attack.id);
        match &tracked.stage {
            Stage::Spent => {}
            _ if tracked.is_frozen() => {}
            Stage::Mitigated(plan) if plan.phase != Phase::Installed => {
                if gets_through(attack) {
                    self.reannounce(now, attack.id, "above its limit");
                }
            }
            _ => self.decide(now, attack.id),
        }
    }

    fn end(&mut self, now: Timestamp, attack: &Attack, reason: EndReason) {
        let Some(tracked) = self.attacks.get_mut(&attack.id) else { return };
        if tracked.ended.is_some() || tracked.origin == Origin::Manual {
            return;
        }
        tracked.attack = attack.clone();
        if tracked.plan().is_none() {
            self.attacks.remove(&attack.id);
            self.touched.insert(attack.id);
            return;
        }
        if reason.may_return() && self.outlasts(now, attack.id, reason) {
            return;
        }
        self.release(now, attack.id, &format!("over: {reason}"));
    }

    /// Ends a call: gives room to those who wait, counts the change, sets the timers.
    fn settle(&mut self, now: Timestamp) {
        self.now = now;
        self.room_made |= self.breaker.recover(now);
        self.room_made |= self.more_waiting.take_if(|due| *due <= now).is_some();
        self.note_touched();
        if std::mem::take(&mut self.room_made) && self.breaker.tripped_until().is_none() {
            if self.agenda.waiting().len() > MAX_RECONSIDERED {
                self.more_waiting.get_or_insert(now + RECONSIDER_INTERVAL);
            }
            let waiting: Vec<AttackId> = self.agenda.waiting().take(MAX_RECONSIDERED).collect();
            for id in waiting {
                self.touched.insert(id);
                self.decide(now, id);
            }
            self.note_touched();
        }
        for key in std::mem::take(&mut self.unclaimed) {
            if !self.claims.contains_key(&key) {
                self.heard.remove(&key);
                self.matched.remove(&key);
            }
        }
        self.flaps.settle(now, self.policy.flapping);
        if std::mem::take(&mut self.set_changed) {
            self.desired.generation += 1;
        }
    }

    /// Brings the agenda up to date with the attacks that were touched.
    fn note_touched(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let awaits = self.attacks.get(&id).map_or(Awaits::default(), |tracked| Awaits {
                due: self.due(tracked),
                room: matches!(tracked.stage, Stage::Waiting).then_some(tracked.severity),
            });
            self.agenda.set(id, awaits);
            if !self.attacks.contains_key(&id) {
                self.samples.remove(&id);
            }
        }
    }

    fn say(&mut self, decision: Decision) {
        if self.decisions.len() >= MAX_DECISIONS {
            self.decisions.pop_front();
            self.decisions_lost += 1;
        }
        self.decisions.push_back(decision);
    }

    /// The attack's plan, for `reason`.
    fn say_plan(&mut self, id: AttackId, reason: String) {
        let Some(plan) = self.attacks.get(&id).and_then(Tracked::plan) else { return };
        let keys = plan.wanted_keys();
        self.say_about(id, DecisionKind::Mitigate(keys), reason);
    }

    fn say_release(&mut self, id: AttackId, reason: String) {
        self.say_about(id, DecisionKind::Release, reason);
    }

    fn say_about(&mut self, id: AttackId, kind: DecisionKind, reason: String) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        self.say(Decision {
            attack: id,
            target: tracked.attack.target,
            severity: tracked.severity,
            response: tracked.plan().map(|plan| plan.response.clone()),
            kind,
            reason,
        });
    }

    fn say_idle(
        &mut self,
        attack: &Attack,
        severity: Severity,
        response: Option<String>,
        refusals: Vec<Refusal>,
    ) {
        let done = match (&response, refusals.is_empty()) {
            (Some(name), _) => format!("`{name}`: observed only"),
            (None, true) => "no response matches: observed only".to_owned(),
            (None, false) => "not mitigated".to_owned(),
        };
        let reason =
            format!("{}; {done}{}", reason::attack(attack, severity), reason::refusals(&refusals));
        let kind = match response {
            None if !refusals.is_empty() => DecisionKind::Refused(refusals),
            _ => DecisionKind::Observe,
        };
        self.say(Decision {
            attack: attack.id,
            target: attack.target,
            severity,
            response,
            kind,
            reason,
        });
    }
}

#[cfg(test)]
mod tests;
