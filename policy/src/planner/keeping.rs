//! What is installed, for how long, and how it goes.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_model::{
    AttackId, BackendId, Lifetime, Mitigation, MitigationKey, Nlri, Route, Timestamp,
};

use super::decision::Refusal;
use super::hold::Hidden;
use super::plan::{Phase, Plan, Stage, Strength, Tracked};
use super::routes::{self, Bridge, Candidate};
use super::{Planner, reason};
use crate::guard;
use crate::policy::Response;

impl Planner {
    /// Makes `candidate` the plan of the attack and returns the reason. `old` is what it replaces.
    pub(super) fn adopt(
        &mut self,
        now: Timestamp,
        id: AttackId,
        (response, step): (&Response, usize),
        candidate: Candidate,
        refusals: &[Refusal],
        old: Option<Plan>,
    ) -> String {
        let Some(tracked) = self.attacks.get(&id) else { return String::new() };
        let target = tracked.attack.target;
        let strength = Strength::of(response.action);
        let hidden = match strength {
            Strength::Blackhole => Hidden::Everything,
            _ => Hidden::Vector(tracked.attack.main_vector()),
        };
        let (continued, begun) = continued(now, old.as_ref(), (response, step));
        let not_after = begun + response.max_lifetime;
        let (hold, at_least_until, phase) = match continued {
            Some(old) => (old.hold, old.lifetime.at_least_until, old.phase.clone()),
            None => {
                let hold = self.holds.first(now, target, hidden, response.min_lifetime);
                (hold, now + hold, Phase::Installed)
            }
        };
        if old.is_none() && candidate.keys().any(|key| !self.claims.contains_key(&key)) {
            self.breaker.record(now, target, self.policy.breaker);
        }
        let fresh = || fresh_reason(tracked, (response, step), &candidate, hold, refusals);
        // The same routes for the same reason are the same mitigation, not a change.
        let unchanged = old
            .as_ref()
            .filter(|old| old.response == response.name && old.routes == candidate.routes);
        let reason = unchanged.map_or_else(fresh, |old| old.reason.clone());
        // What another answer has hidden since is not what the attack was before.
        let current = tracked.attack.current;
        let before = old.as_ref().map_or(current, |old| old.before.max(current));
        let same = continued.filter(|old| old.response == response.name && old.step == step);
        let settled = same.filter(|old| old.routes == candidate.routes);
        let armed = old.as_ref().map(|old| old.armed.clone()).filter(|_| phase != Phase::Installed);
        let plan = Plan {
            response: response.name.clone(),
            step,
            strength,
            hidden,
            routes: candidate.routes,
            armed: armed.unwrap_or_default(),
            bridge: candidate.bridge,
            rules: candidate.rules,
            in_force: same.map_or(Some(now), |old| old.in_force),
            before,
            futile_since: same.and_then(|old| old.futile_since),
            through: same.and_then(|old| old.through),
            reason: reason.clone(),
            begun,
            changed: settled.map_or(now, |old| old.changed),
            hold,
            lifetime: Lifetime { at_least_until: at_least_until.min(not_after), not_after },
            phase,
            refresh_due: None,
        };
        self.room_made |= old.is_some();
        self.put(id, Stage::Mitigated(Box::new(plan)));
        self.check_enforcement(now, id);
        reason
    }

    /// Keeps what outlives its attack, as far as another policy allows.
    pub(super) fn keep_if_allowed(&mut self, now: Timestamp, id: AttackId, mut plan: Plan) {
        plan.keep_routes(|(backend, route)| self.allows(backend, route));
        let Some(tracked) = self.attacks.get(&id) else { return };
        let plan_target = tracked.attack.target;
        let candidate = Candidate {
            routes: plan.all_routes().cloned().collect(),
            rules: Vec::new(),
            losses: Vec::new(),
            missing: Vec::new(),
            bridge: Bridge::default(),
            made: Vec::new(),
        };
        let admitted = self.admit(now, &tracked.attack, Some(&plan), candidate);
        let admitted = admitted.map_or_else(|_| Vec::new(), |admitted| admitted.routes);
        plan.keep_routes(|route| admitted.contains(route));
        if plan.routes.is_empty() {
            self.say_release(id, "the policy changed: withdrawn".to_owned());
            self.lingering.remove(&plan_target);
            self.attacks.remove(&id);
            self.touched.insert(id);
            self.room_made = true;
        } else {
            self.put(id, Stage::Mitigated(Box::new(plan)));
        }
    }

    pub(super) fn allows(&self, backend: &BackendId, route: &Route) -> bool {
        let carried = match backend {
            BackendId::Kernel => true,
            _ => self.policy.peer_at(backend).is_some_and(|peer| {
                peer.families.iter().any(|family| routes::carries(*family, route))
                    && routes::accepts(peer, route)
            }),
        };
        carried
            && guard::judge(&self.policy.space, &self.sessions, route).is_ok()
            && guard::judge_sources(&self.policy.allowed_remotes, route).is_ok()
    }

    pub(super) fn change_plan(&mut self, id: AttackId, change: impl FnOnce(&mut Plan)) {
        let Some(plan) = self.attacks.get(&id).and_then(|tracked| tracked.plan()) else { return };
        let mut plan = plan.clone();
        change(&mut plan);
        self.put(id, Stage::Mitigated(Box::new(plan)));
    }

    /// Sets the stage of an attack and brings claims and desired set up to date with it.
    pub(super) fn put(&mut self, id: AttackId, stage: Stage) {
        let Some(tracked) = self.attacks.get_mut(&id) else { return };
        let keys = |plan: Option<&Plan>| -> BTreeSet<MitigationKey> {
            plan.map(|plan| routes::keys(plan.all_routes()).collect()).unwrap_or_default()
        };
        let old = keys(tracked.plan());
        tracked.stage = stage;
        tracked.told = tracked.told.take().filter(|_| tracked.plan().is_none());
        let new = keys(tracked.plan());
        for key in old.difference(&new) {
            self.unclaim(key, id);
        }
        for key in new.difference(&old) {
            self.claim(key, id);
        }
        for key in old.union(&new) {
            self.update_desired(key);
        }
        self.touched.insert(id);
    }

    fn claim(&mut self, key: &MitigationKey, id: AttackId) {
        let ids = self.claims.entry(key.clone()).or_default();
        if ids.is_empty() {
            let claimed = self.claimed_at.entry(key.backend.clone()).or_default();
            claimed.routes += 1;
            claimed.rules += usize::from(matches!(key.nlri, Nlri::FlowSpec(_)));
        }
        ids.insert(id);
    }

    fn unclaim(&mut self, key: &MitigationKey, id: AttackId) {
        let Some(ids) = self.claims.get_mut(key) else { return };
        ids.remove(&id);
        if ids.is_empty() {
            self.claims.remove(key);
            self.unclaimed.insert(key.clone());
            if let Some(claimed) = self.claimed_at.get_mut(&key.backend) {
                let rule = usize::from(matches!(key.nlri, Nlri::FlowSpec(_)));
                claimed.routes = claimed.routes.saturating_sub(1);
                claimed.rules = claimed.rules.saturating_sub(rule);
            }
            self.claimed_at.retain(|_, claimed| claimed.routes > 0);
        }
    }

    pub(super) fn claimants(&self, key: &MitigationKey) -> Vec<AttackId> {
        self.claims.get(key).into_iter().flatten().copied().collect()
    }

    fn update_desired(&mut self, key: &MitigationKey) {
        let wanted = self.merged(key);
        if self.desired.mitigations.get(key) == wanted.as_ref() {
            return;
        }
        self.set_changed = true;
        if let Nlri::Unicast(target) = key.nlri {
            let backends = self.blackholed.entry(target).or_default();
            match wanted {
                Some(_) => backends.insert(key.backend.clone()),
                None => backends.remove(&key.backend),
            };
            if backends.is_empty() {
                self.blackholed.remove(&target);
            }
        }
        match wanted {
            Some(mitigation) => {
                if self.desired.mitigations.insert(key.clone(), mitigation).is_none() {
                    self.flaps.add(key);
                }
            }
            None => {
                self.desired.mitigations.remove(key);
                self.flaps.remove(key);
            }
        }
    }

    /// What all attacks that want `key` installed make of it: the strongest says how and why, the
    /// longest how long.
    fn merged(&self, key: &MitigationKey) -> Option<Mitigation> {
        let mut strongest: Option<(Strength, Mitigation)> = None;
        for id in self.claimants(key) {
            let Some(plan) = self.attacks.get(&id).and_then(|tracked| tracked.plan()) else {
                continue;
            };
            let mut wanted = plan
                .wanted()
                .filter(|(backend, route)| *backend == key.backend && route.nlri == key.nlri);
            let Some((backend, route)) = wanted.next() else { continue };
            let mut mitigation = Mitigation {
                backend: backend.clone(),
                route: route.clone(),
                attacks: BTreeSet::from([id]),
                response: plan.response.clone(),
                reason: plan.reason.clone(),
                lifetime: plan.lifetime,
            };
            let mut strength = plan.strength;
            if plan.bridge.routes.iter().any(|(at, it)| at == backend && it.nlri == route.nlri) {
                mitigation.response.clone_from(&plan.bridge.response);
                mitigation.reason =
                    format!("{}; stays until `{}` is in force", plan.bridge.reason, plan.response);
            }
            // What takes the place of a blackhole is none.
            if matches!(key.nlri, Nlri::FlowSpec(_)) {
                strength = strength.min(Strength::FlowSpecDiscard);
            }
            if let Some((other_strength, other)) = strongest.take() {
                mitigation = combine((strength, mitigation), (other_strength, other));
                strength = strength.max(other_strength);
            }
            strongest = Some((strength, mitigation));
        }
        strongest.map(|(_, mitigation)| mitigation)
    }
}

/// What of `old` goes on under this step of `response`, and since when it counts. Another rule for the
/// same answer, or another form of the same blackhole, is no new start.
fn continued<'a>(
    now: Timestamp,
    old: Option<&'a Plan>,
    (response, step): (&Response, usize),
) -> (Option<&'a Plan>, Timestamp) {
    let blackhole = Strength::of(response.action) == Strength::Blackhole;
    match old {
        Some(old) if old.is_blackhole() != blackhole => (None, now),
        Some(old) if old.response == response.name && old.step == step => (Some(old), old.begun),
        Some(old) if old.is_blackhole() => (Some(old), now),
        _ => (None, now),
    }
}

/// Why `candidate` is adopted.
fn fresh_reason(
    tracked: &Tracked,
    (response, step): (&Response, usize),
    candidate: &Candidate,
    hold: Duration,
    refusals: &[Refusal],
) -> String {
    format!(
        "{}; {}{}{}; {}{}",
        reason::attack(&tracked.attack, tracked.severity),
        reason::action(response, step, &candidate.routes),
        reason::losses(&candidate.losses),
        reason::made(&candidate.made),
        reason::lifetime(hold.min(response.max_lifetime), response.max_lifetime),
        reason::refusals(refusals),
    )
}

/// Equal strength leaves the older attack's word.
fn combine(new: (Strength, Mitigation), old: (Strength, Mitigation)) -> Mitigation {
    let ((new_strength, new), (old_strength, old)) = (new, old);
    let (mut first, second) = if new_strength > old_strength { (new, old) } else { (old, new) };
    first.attacks.extend(second.attacks);
    first.lifetime = Lifetime {
        at_least_until: first.lifetime.at_least_until.max(second.lifetime.at_least_until),
        not_after: first.lifetime.not_after.max(second.lifetime.not_after),
    };
    first
}
