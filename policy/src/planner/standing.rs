//! Whether what is wanted is really in force, and what follows if it is not.

use std::collections::BTreeSet;

use tidegate_model::{AttackId, BackendId, MitigationKey, Route, Timestamp};

use super::Planner;
use super::decision::DecisionKind;
use super::plan::{Choice, Phase, Plan, Tracked};
use super::routes::{Bridge, Candidate};
use crate::policy::{Otherwise, Policy};

/// What is known of a wanted mitigation at its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The backend has it in force.
    Enforced,
    /// It is on its way, waits for the backend, or is tried again.
    Awaited {
        /// What for.
        why: String,
    },
    /// It will not be.
    Rejected {
        /// Who refused and why.
        why: String,
    },
    /// It is not wanted there any more, and gone or going.
    Gone,
}

/// What was last heard of a key that is wanted. Nothing heard counts as in force: the planner may
/// be asked what it would do without anybody to do it.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    standing: Standing,
    since: Timestamp,
    /// People were told that it is not enforced.
    told: bool,
}

/// The responses under which the same would come of the same: neither they, nor their peers, nor
/// what counts as in vain differs.
pub(super) fn unchanged(old: &Policy, new: &Policy) -> BTreeSet<String> {
    if old.enforcement != new.enforcement || old.effect != new.effect || old.peers != new.peers {
        return BTreeSet::new();
    }
    let same = new.responses.iter().filter(|response| old.responses.contains(response));
    same.map(|response| response.name.clone()).collect()
}

impl Planner {
    /// Takes note of what became of mitigations.
    pub fn handle_standings(
        &mut self,
        now: Timestamp,
        news: impl IntoIterator<Item = (MitigationKey, Standing)>,
    ) {
        self.now = now;
        let mut concerned = BTreeSet::new();
        for (key, standing) in news {
            let Some(ids) = self.claims.get(&key) else { continue };
            concerned.extend(ids.iter().copied());
            if standing == Standing::Gone {
                self.heard.remove(&key);
                continue;
            }
            match self.heard.get_mut(&key) {
                None => {
                    self.heard.insert(key, Heard { standing, since: now, told: false });
                }
                Some(heard) => {
                    let same = std::mem::discriminant(&heard.standing)
                        == std::mem::discriminant(&standing);
                    heard.standing = standing;
                    heard.since = if same { heard.since } else { now };
                }
            }
        }
        for id in concerned {
            self.check_enforcement(now, id);
        }
        self.settle(now);
    }

    /// Takes note that a backend can be reached again: what it did not take before may be tried.
    pub fn handle_backend_up(&mut self, now: Timestamp, backend: &BackendId) {
        self.now = now;
        let ids: Vec<AttackId> = self
            .attacks
            .iter()
            .filter(|(_, tracked)| !tracked.failed.is_empty() && tracked.ended.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(tracked) = self.attacks.get(&id) else { continue };
            let failed: BTreeSet<Choice> = tracked
                .failed
                .iter()
                .filter(|choice| !self.may_use(choice, backend))
                .cloned()
                .collect();
            if failed.len() == tracked.failed.len() {
                continue;
            }
            if let Some(tracked) = self.attacks.get_mut(&id) {
                tracked.failed = failed;
            }
            self.reconsider(now, id);
        }
        self.settle(now);
    }

    fn may_use(&self, choice: &Choice, backend: &BackendId) -> bool {
        let mut responses = self.policy.responses.iter();
        let Some(response) = responses.find(|response| response.name == choice.response) else {
            return true;
        };
        match backend {
            BackendId::Kernel => response.at(choice.step).peers.is_empty(),
            _ => {
                let peers = response.at(choice.step).peers;
                self.policy.peer_at(backend).is_some_and(|peer| peers.contains(&peer.name))
            }
        }
    }

    /// Whether its backend has `key` in force, as far as was heard.
    pub(super) fn is_enforced(&self, key: &MitigationKey) -> bool {
        self.heard.get(key).is_none_or(|heard| heard.standing == Standing::Enforced)
    }

    /// When the next of `plan` is late.
    pub(super) fn enforcement_due(&self, plan: &Plan) -> Option<Timestamp> {
        let due = |key: &MitigationKey| {
            let heard = self.heard.get(key)?;
            let waits = matches!(heard.standing, Standing::Awaited { .. }) && !heard.told;
            waits.then(|| heard.since + self.policy.enforcement.deadline)
        };
        let own = plan.own_keys();
        let unheard =
            !plan.bridge.routes.is_empty() && own.iter().any(|key| !self.heard.contains_key(key));
        let silence = unheard.then(|| plan.changed + self.policy.enforcement.deadline);
        own.iter().filter_map(due).chain(silence.filter(|due| *due > self.now)).min()
    }

    /// Those of `routes` that a backend said to have in force.
    pub(super) fn in_force_of(&self, routes: &[(BackendId, Route)]) -> Vec<(BackendId, Route)> {
        let in_force = |(backend, route): &&(BackendId, Route)| {
            let key = MitigationKey { backend: backend.clone(), nlri: route.nlri.clone() };
            self.heard.get(&key).is_some_and(|heard| heard.standing == Standing::Enforced)
        };
        routes.iter().filter(in_force).cloned().collect()
    }

    /// What of `old` has to stay until `candidate` is in force: what is, unless there is no room
    /// for both. Rules that are made anew for the same step replace the old ones at once.
    pub(super) fn bridge(
        &self,
        now: Timestamp,
        id: AttackId,
        old: &Plan,
        choice: &Choice,
        candidate: &Candidate,
    ) -> Bridge {
        let Some(tracked) = self.attacks.get(&id) else { return Bridge::default() };
        let same = *choice == old.choice();
        let mut bridge = if same || old.own().next().is_none() {
            old.bridge.clone()
        } else {
            let wanted: Vec<_> = old.wanted().cloned().collect();
            let (response, reason) = (old.response.clone(), old.reason.clone());
            Bridge { routes: self.in_force_of(&wanted), response, reason }
        };
        let wanted: BTreeSet<MitigationKey> = candidate.keys().collect();
        bridge.routes.retain(|(backend, route)| {
            let key = MitigationKey { backend: backend.clone(), nlri: route.nlri.clone() };
            !wanted.contains(&key) && self.allows(backend, route)
        });
        let mut both = candidate.clone();
        both.routes.extend(bridge.routes.iter().cloned());
        let fits = self.admit(now, &tracked.attack, Some(old), both).is_ok_and(|both| {
            candidate.routes.iter().chain(&bridge.routes).all(|it| both.routes.contains(it))
        });
        if fits { bridge } else { Bridge::default() }
    }

    /// Lets go of what stayed until the plan is in force, once it is: at each backend, or at one
    /// where others do not take it.
    fn cross(&mut self, now: Timestamp, id: AttackId) {
        let Some(plan) = self.attacks.get(&id).and_then(Tracked::plan) else { return };
        if plan.bridge.routes.is_empty() {
            return;
        }
        let deadline = self.policy.enforcement.deadline;
        let (mut in_force, mut awaited) = (false, false);
        for key in plan.own_keys() {
            match self.heard.get(&key).map(|heard| (&heard.standing, heard.since)) {
                Some((Standing::Enforced, _)) => in_force = true,
                Some((Standing::Awaited { .. }, since)) => awaited |= now.since(since) < deadline,
                Some((Standing::Rejected { .. } | Standing::Gone, _)) => {}
                // Nobody says anything about it.
                None if now.since(plan.changed) >= deadline => in_force = true,
                None => awaited = true,
            }
        }
        if in_force && !awaited {
            self.change_plan(id, |plan| plan.bridge = Bridge::default());
        }
    }

    /// Looks whether what is wanted for an attack is in force.
    pub(super) fn check_enforcement(&mut self, now: Timestamp, id: AttackId) {
        let Some(plan) = self.attacks.get(&id).and_then(Tracked::plan) else { return };
        self.touched.insert(id);
        let keys = plan.own_keys();
        let deadline = self.policy.enforcement.deadline;
        // Other rules of the same step are on their way.
        let renewed = now.since(plan.changed) < deadline
            && !plan.is_blackhole()
            && plan.in_force.is_some_and(|since| since < plan.changed);
        let carried = renewed
            && plan.in_force.is_some()
            && keys.iter().any(|key| {
                let heard = self.heard.get(key);
                heard.is_some_and(|heard| matches!(heard.standing, Standing::Awaited { .. }))
            });
        let in_force = carried || keys.iter().any(|key| self.is_enforced(key));
        self.note_force(now, id, in_force);
        self.cross(now, id);
        let mut failing: Vec<(MitigationKey, String)> = Vec::new();
        let mut news = false;
        let mut back = Vec::new();
        for key in &keys {
            let Some(heard) = self.heard.get_mut(key) else { continue };
            let why = match &heard.standing {
                Standing::Rejected { why } => why,
                Standing::Awaited { why } if now.since(heard.since) >= deadline => why,
                Standing::Enforced if heard.told => {
                    heard.told = false;
                    back.push(key.clone());
                    continue;
                }
                _ => continue,
            };
            failing.push((key.clone(), why.clone()));
            news |= !std::mem::replace(&mut heard.told, true);
        }
        if !back.is_empty() {
            let shown: Vec<String> = back.iter().map(ToString::to_string).collect();
            let reason = format!("enforced after all: {}", shown.join(", "));
            self.say_about(id, DecisionKind::Mitigate(keys.clone()), reason);
        }
        if news {
            let all = failing.len() == keys.len();
            let shown: Vec<String> =
                failing.iter().map(|(key, why)| format!("{key}: {why}")).collect();
            let reason = format!("NOT enforced: {}", shown.join("; "));
            self.say_about(id, DecisionKind::NotEnforced(failing), reason);
            if all {
                self.fail_over(now, id);
            }
        }
    }

    fn note_force(&mut self, now: Timestamp, id: AttackId, in_force: bool) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        let changes = tracked.plan().is_some_and(|plan| {
            plan.phase == Phase::Installed && in_force != plan.in_force.is_some()
        });
        if !changes {
            return;
        }
        let peak = tracked.attack.peak;
        self.change_plan(id, |plan| {
            plan.in_force = in_force.then_some(now);
            if in_force {
                // It grew while the mitigation was on its way.
                plan.before = plan.before.max(peak);
            }
            if !in_force {
                plan.futile_since = None;
            }
            if in_force && plan.is_blackhole() {
                // It hides the attack from now on, not from when it was asked for.
                let until = (now + plan.hold).min(plan.lifetime.not_after);
                plan.lifetime.at_least_until = plan.lifetime.at_least_until.max(until);
            }
        });
    }

    /// Nothing of the plan is in force: tries what comes next, if the policy says so.
    fn fail_over(&mut self, now: Timestamp, id: AttackId) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        let Some(plan) = tracked.plan() else { return };
        if tracked.ended.is_some() || tracked.is_frozen() {
            return;
        }
        if self.otherwise(&plan.response) == Otherwise::Next {
            let choice = plan.choice();
            if let Some(tracked) = self.attacks.get_mut(&id) {
                tracked.failed.insert(choice);
            }
            self.decide(now, id);
        }
    }

    /// What follows when the response of this name is not enforced.
    pub(super) fn otherwise(&self, response: &str) -> Otherwise {
        let mut responses = self.policy.responses.iter();
        let own = responses.find(|it| it.name == response).and_then(|it| it.otherwise);
        own.unwrap_or(self.policy.enforcement.otherwise)
    }
}
