//! Which response, and whether there is room for it.

use std::collections::BTreeSet;

use tidegate_model::{Attack, AttackId, BackendId, MitigationKey, Nlri, Timestamp};

use super::breaker::{MAX_NEW_TARGETS, WINDOW};
use super::decision::{Cause, Refusal};
use super::plan::{Plan, Stage, Strength, Told, Tracked, gets_through};
use super::routes::{self, Candidate};
use super::{MAX_KERNEL_RULES, MAX_MITIGATIONS, Planner, REFRESH_INTERVAL};
use crate::policy::{Response, ResponseAction};
use crate::rule;

/// What to do about an attack now.
enum Verdict {
    /// What is done stays.
    Keep,
    /// What is done stays; look again then.
    Later(Timestamp),
    /// These routes, by this response.
    Mitigate { response: Box<Response>, candidate: Candidate, refusals: Vec<Refusal> },
    /// Nothing: the response says so, or none matches, or those that match were refused.
    Idle { response: Option<String>, refusals: Vec<Refusal> },
}

impl Planner {
    /// Chooses a response and carries it out.
    pub(super) fn decide(&mut self, now: Timestamp, id: AttackId) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        match self.choose(now, tracked, tracked.plan(), None) {
            Verdict::Keep => {}
            Verdict::Later(due) => {
                if let Some(plan) = self.attacks.get_mut(&id).and_then(Tracked::plan_mut) {
                    plan.refresh_due = Some(due);
                    self.timers_changed = true;
                }
            }
            Verdict::Mitigate { response, candidate, refusals } => {
                let plan = tracked.plan().cloned();
                let reason = self.adopt(now, id, &response, candidate, &refusals, plan);
                self.say_plan(id, reason);
            }
            Verdict::Idle { response, refusals } => self.idle(now, id, response, refusals),
        }
    }

    /// Plans an attack anew under another policy; `former` is what the old one had in place.
    pub(super) fn replan(&mut self, now: Timestamp, id: AttackId, former: Option<Plan>) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        if matches!(tracked.stage, Stage::Spent) {
            return;
        }
        match self.choose(now, tracked, None, former.as_ref()) {
            Verdict::Keep | Verdict::Later(_) => {}
            Verdict::Mitigate { response, candidate, refusals } => {
                let known = former.as_ref().is_some_and(|plan| {
                    plan.response == response.name && plan.routes == candidate.routes
                });
                let reason = self.adopt(now, id, &response, candidate, &refusals, former);
                if !known {
                    self.say_plan(id, format!("the policy changed; {reason}"));
                }
            }
            Verdict::Idle { response, refusals } => {
                if former.is_some() {
                    self.room_made = true;
                    self.say_release(id, "the policy changed: withdrawn".to_owned());
                }
                self.idle(now, id, response, refusals);
            }
        }
    }

    /// `current` is what must not get weaker; `former` what another policy put in place.
    fn choose(
        &self,
        now: Timestamp,
        tracked: &Tracked,
        current: Option<&Plan>,
        former: Option<&Plan>,
    ) -> Verdict {
        let attack = &tracked.attack;
        let mut refusals = Vec::new();
        let matching = self.policy.responses.iter().filter(|response| {
            response.matcher.matches(
                &attack.group,
                attack.main_vector(),
                tracked.severity,
                attack.confidence(),
            )
        });
        for response in matching {
            let strength = Strength::of(response.action);
            if let Some(plan) = current {
                let same = response.name == plan.response;
                if strength < plan.strength || (same && !outgrown(plan, attack)) {
                    return Verdict::Keep;
                }
                let due = plan.changed + REFRESH_INTERVAL;
                if strength == plan.strength && now < due {
                    return Verdict::Later(due);
                }
            }
            if response.action == ResponseAction::Observe {
                return Verdict::Idle { response: Some(response.name.clone()), refusals };
            }
            let kept = former.map_or(&[][..], |plan| &plan.rules);
            let own = current.or(former);
            let carried = routes::carry_out(&self.policy, &self.sessions, attack, response, kept)
                .and_then(|candidate| self.admit(now, attack, own, candidate));
            let refusal = |cause| Refusal { response: Some(response.name.clone()), cause };
            match carried {
                Ok(mut candidate) => {
                    refusals.extend(candidate.missing.drain(..).map(refusal));
                    let response = Box::new(response.clone());
                    return Verdict::Mitigate { response, candidate, refusals };
                }
                Err(causes) => refusals.extend(causes.into_iter().map(refusal)),
            }
        }
        match current {
            Some(_) => Verdict::Keep,
            None => Verdict::Idle { response: None, refusals },
        }
    }

    /// What of `candidate` there is room for.
    pub(super) fn admit(
        &self,
        now: Timestamp,
        attack: &Attack,
        own: Option<&Plan>,
        mut candidate: Candidate,
    ) -> Result<Candidate, Vec<Cause>> {
        let adds = candidate.keys().any(|key| !self.claims.contains_key(&key));
        if own.is_none() && adds && !self.breaker.permits(now, attack.target) {
            return Err(vec![Cause::MassTrigger { targets: MAX_NEW_TARGETS, window: WINDOW }]);
        }
        let wanted: BTreeSet<MitigationKey> = candidate.keys().collect();
        // What the attack alone holds now and would not keep makes room.
        let freed: Vec<MitigationKey> = own
            .into_iter()
            .flat_map(|plan| routes::keys(&plan.routes))
            .filter(|key| !wanted.contains(key))
            .filter(|key| {
                self.claims.get(key).is_some_and(|ids| ids.len() == 1 && ids.contains(&attack.id))
            })
            .collect();
        let at = |backend: &BackendId, key: &&MitigationKey| key.backend == *backend;
        let backends: BTreeSet<BackendId> = wanted.iter().map(|key| key.backend.clone()).collect();
        let mut total = self.claims.len().saturating_sub(freed.len());
        for backend in backends {
            let new: Vec<&MitigationKey> = wanted
                .iter()
                .filter(|key| at(&backend, key) && !self.claims.contains_key(*key))
                .collect();
            let freed: Vec<&MitigationKey> = freed.iter().filter(|key| at(&backend, key)).collect();
            let claimed = self.claimed_at.get(&backend).copied().unwrap_or_default();
            let used = claimed.routes.saturating_sub(freed.len());
            let rules_used = claimed.rules.saturating_sub(rules(&freed));
            let (limit, rule_limit) = self.limits(&backend);
            let new_rules = rules(&new);
            let new = new.len();
            let cause = if new > 0 && used + new > limit {
                Cause::BackendFull { backend: backend.clone(), limit }
            } else if new_rules > 0 && rules_used + new_rules > rule_limit {
                Cause::RulesFull { backend: backend.clone(), limit: rule_limit }
            } else if new > 0 && total + new > MAX_MITIGATIONS {
                Cause::Full { limit: MAX_MITIGATIONS }
            } else {
                total += new;
                continue;
            };
            candidate.routes.retain(|(other, _)| *other != backend);
            candidate.losses.retain(|(other, _)| *other != backend);
            candidate.missing.push(cause);
        }
        if candidate.routes.is_empty() { Err(candidate.missing) } else { Ok(candidate) }
    }

    /// Most routes, and most rules among them. Four fifths of what the peer takes: beyond, it
    /// resets the session and loses all routes.
    fn limits(&self, backend: &BackendId) -> (usize, usize) {
        match backend {
            BackendId::Kernel => (MAX_KERNEL_RULES, MAX_KERNEL_RULES),
            // Policies name none.
            BackendId::External(_) => (0, 0),
            BackendId::Peer(name) => {
                let peer = self.policy.peer(name);
                let routes = peer.map_or(0, |peer| peer.max_routes);
                let rules = peer.map_or(0, |peer| peer.flowspec.max_rules);
                (four_fifths(routes), four_fifths(rules))
            }
        }
    }

    /// Leaves the attack without mitigation.
    fn idle(
        &mut self,
        now: Timestamp,
        id: AttackId,
        response: Option<String>,
        refusals: Vec<Refusal>,
    ) {
        let mass = |refusal: &Refusal| matches!(refusal.cause, Cause::MassTrigger { .. });
        if refusals.iter().any(mass) && self.breaker.trip(now) {
            self.timers_changed = true;
        }
        let waits = refusals.iter().any(|refusal| refusal.cause.passes());
        let Some(tracked) = self.attacks.get_mut(&id) else { return };
        tracked.stage = if waits { Stage::Waiting } else { Stage::Idle };
        let codes = |refusal: &Refusal| (refusal.response.clone(), refusal.cause.code());
        let told = Told {
            response: response.clone(),
            severity: tracked.severity,
            refusals: refusals.iter().map(codes).collect(),
        };
        if tracked.told.as_ref() == Some(&told) {
            return;
        }
        tracked.told = Some(told);
        let (attack, severity) = (tracked.attack.clone(), tracked.severity);
        self.say_idle(&attack, severity, response, refusals);
    }
}

/// At least one, unless there is nothing.
fn four_fifths(most: u32) -> usize {
    let fifths = u64::from(most) * 4 / 5;
    usize::try_from(fifths.max(u64::from(most.min(1)))).unwrap_or(usize::MAX)
}

fn rules(keys: &[&MitigationKey]) -> usize {
    keys.iter().filter(|key| matches!(key.nlri, Nlri::FlowSpec(_))).count()
}

/// Whether the attack gets through and the rules of `plan` are not what would be made of it now.
fn outgrown(plan: &Plan, attack: &Attack) -> bool {
    !plan.rules.is_empty()
        && gets_through(attack)
        && !rule::synthesise(attack.target, &attack.vectors)
            .is_ok_and(|rules| rule::still_fits(&plan.rules, &rules))
}
