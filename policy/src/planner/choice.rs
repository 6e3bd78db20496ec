//! Which response, and whether there is room for it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use tidegate_model::{Attack, AttackId, BackendId, MitigationKey, Nlri, Timestamp};

use super::decision::{Cause, DecisionKind, Proposal, Refusal};
use super::plan::{Choice, Plan, Stage, Strength, Told, Tracked, gets_through};
use super::routes::{self, Candidate};
use super::{Planner, REFRESH_INTERVAL, reason};
use crate::policy::{Mode, Otherwise, Progress, Response, ResponseAction, RuleSource};
use crate::rule;
use crate::synthesis;

/// Rules from samples are looked at again if they match a smaller share of the attack than this.
const ENOUGH: f64 = 0.95;

/// What to do about an attack now.
enum Verdict {
    /// What is done stays.
    Keep,
    /// What is done stays; look again then.
    Later(Timestamp),
    /// These routes, by this step of this response.
    Mitigate { response: Box<Response>, step: usize, candidate: Candidate, refusals: Vec<Refusal> },
    /// Nothing: the response says so, or none matches, or those that match were refused.
    Idle { response: Option<String>, refusals: Vec<Refusal> },
}

/// The search for a response.
struct Search<'a> {
    now: Timestamp,
    tracked: &'a Tracked,
    /// What must not get weaker.
    current: Option<&'a Plan>,
    /// What another policy put in place.
    former: Option<&'a Plan>,
    refusals: Vec<Refusal>,
    proposals: Vec<Proposal>,
}

impl Planner {
    /// Chooses a response and carries it out.
    pub(super) fn decide(&mut self, now: Timestamp, id: AttackId) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        let (verdict, proposals) = self.choose(now, tracked, tracked.plan(), None);
        let former = tracked.plan().cloned();
        self.propose(id, proposals);
        match verdict {
            Verdict::Keep => {}
            Verdict::Later(due) => {
                if let Some(plan) = self.attacks.get_mut(&id).and_then(Tracked::plan_mut) {
                    plan.refresh_due = Some(due);
                    self.touched.insert(id);
                }
            }
            Verdict::Mitigate { response, step, mut candidate, refusals } => {
                if let Some(old) = &former {
                    let choice = Choice { response: response.name.clone(), step };
                    candidate.bridge = self.bridge(now, id, old, &choice, &candidate);
                }
                let same = former.as_ref().is_some_and(|old| {
                    (&old.response, old.step) == (&response.name, step)
                        && old.routes == candidate.routes
                });
                let reason = self.adopt(now, id, (&response, step), candidate, &refusals, former);
                if !same {
                    self.say_plan(id, reason);
                }
            }
            Verdict::Idle { response, refusals } => self.idle(now, id, response, refusals),
        }
    }

    /// Decides again where something beside the attack has changed.
    pub(super) fn reconsider(&mut self, now: Timestamp, id: AttackId) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        let settled = match &tracked.stage {
            Stage::Spent => true,
            Stage::Mitigated(plan) => plan.phase != super::plan::Phase::Installed,
            Stage::Idle | Stage::Waiting => false,
        };
        if !settled && tracked.ended.is_none() && !tracked.is_frozen() {
            self.decide(now, id);
        }
    }

    /// Plans an attack anew under another policy; `former` is what the old one had in place.
    pub(super) fn replan(&mut self, now: Timestamp, id: AttackId, former: Option<Plan>) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        if matches!(tracked.stage, Stage::Spent) {
            return;
        }
        let (verdict, proposals) = self.choose(now, tracked, None, former.as_ref());
        self.propose(id, proposals);
        match verdict {
            Verdict::Keep | Verdict::Later(_) => {}
            Verdict::Mitigate { response, step, mut candidate, refusals } => {
                let choice = Choice { response: response.name.clone(), step };
                if let Some(old) = former.as_ref().filter(|old| old.choice() == choice) {
                    candidate.bridge = self.bridge(now, id, old, &choice, &candidate);
                }
                let known = former.as_ref().is_some_and(|plan| {
                    plan.response == response.name && plan.routes == candidate.routes
                });
                let reason = self.adopt(now, id, (&response, step), candidate, &refusals, former);
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
    ) -> (Verdict, Vec<Proposal>) {
        let attack = &tracked.attack;
        let (refusals, proposals) = (Vec::new(), Vec::new());
        let mut search = Search { now, tracked, current, former, refusals, proposals };
        let minute = self.minute(now);
        let matching = self.policy.responses.iter().filter(|response| {
            let matcher = &response.matcher;
            let (vector, confidence) = (attack.main_vector(), attack.confidence());
            matcher.matches(&attack.group, vector, tracked.severity, confidence)
                && matcher.is_time(minute)
        });
        for response in matching {
            if let ControlFlow::Break(verdict) = self.try_response(&mut search, response) {
                return (verdict, search.proposals);
            }
        }
        let verdict = match current {
            Some(_) => Verdict::Keep,
            None => Verdict::Idle { response: None, refusals: search.refusals },
        };
        (verdict, search.proposals)
    }

    fn try_response(&self, search: &mut Search<'_>, response: &Response) -> ControlFlow<Verdict> {
        if response.action == ResponseAction::Observe && response.then.is_empty() {
            // What is wanted but not in force yet is not given up for nothing.
            return ControlFlow::Break(match search.current {
                Some(_) => Verdict::Keep,
                None => Verdict::Idle {
                    response: Some(response.name.clone()),
                    refusals: std::mem::take(&mut search.refusals),
                },
            });
        }
        let mut highest = usize::MAX;
        for step in self.steps(search, response) {
            if step <= highest {
                highest = highest.min(self.try_step(search, response, step)?);
            }
        }
        ControlFlow::Continue(())
    }

    /// The steps of `response` to try: the one whose turn it is; stronger ones where the policy
    /// wants them in place of what cannot be done; then weaker ones.
    fn steps(&self, search: &Search<'_>, response: &Response) -> Vec<usize> {
        let tracked = search.tracked;
        let own = |plan: &&Plan| plan.response == response.name;
        let current = search.current.filter(own);
        let known = current.or(search.former.filter(own)).map_or(0, |plan| plan.step);
        let lingering = self.lingering.get(&tracked.attack.target);
        let lingering = lingering.filter(|choice| choice.response == response.name);
        let begun = lingering.map_or(known, |choice| choice.step.max(known));
        let mut step = begun.min(response.then.len());
        let mut progress =
            current.map_or(Progress::default(), |plan| self.progress(search.now, tracked, plan));
        while let Some(next) = response.then.get(step) {
            let mut conditions = next.when.iter();
            if !conditions.any(|it| it.holds(&tracked.attack, tracked.severity, progress)) {
                break;
            }
            step += 1;
            progress = Progress::default();
        }
        let mut steps = vec![step];
        if self.otherwise(&response.name) == Otherwise::Next {
            steps.extend(step + 1..response.steps());
        }
        steps.extend((0..step).rev());
        steps
    }

    /// Tries one step. If it is not taken: the highest that may still be.
    fn try_step(
        &self,
        search: &mut Search<'_>,
        response: &Response,
        step: usize,
    ) -> ControlFlow<Verdict, usize> {
        let (now, tracked) = (search.now, search.tracked);
        let view = response.at(step);
        let choice = Choice { response: response.name.clone(), step };
        let refusal = |cause| Refusal { response: Some(response.name.clone()), cause };
        if tracked.failed.contains(&choice) {
            search.refusals.push(refusal(Cause::Failed));
            return ControlFlow::Continue(usize::MAX);
        }
        let strength = Strength::of(view.action);
        if let Some(plan) = search.current
            && let Some(verdict) = self.compare(now, tracked, plan, &choice, strength)
        {
            return ControlFlow::Break(verdict);
        }
        if view.action == ResponseAction::Observe {
            return ControlFlow::Continue(usize::MAX);
        }
        let from_samples = view.rules_from == RuleSource::Samples;
        let old = search.former.or(search.current.filter(|_| from_samples));
        let kept = old.map_or(&[][..], |plan| &plan.rules);
        let own = search.current.or(search.former);
        let attack = &tracked.attack;
        let of = (attack, self.samples.get(&attack.id));
        let carried = routes::carry_out(&self.policy, &self.sessions, of, &view, kept)
            .and_then(|candidate| self.admit(now, attack, own, candidate));
        let mut candidate = match carried {
            Ok(candidate) => candidate,
            Err(causes) => {
                search.refusals.extend(causes.into_iter().map(refusal));
                return ControlFlow::Continue(usize::MAX);
            }
        };
        let would = || reason::action(&view, step, &candidate.routes);
        let cause = match self.policy.mode(&attack.group, view.action) {
            Mode::Propose if !tracked.approved.contains(&choice) => {
                search.proposals.push(Proposal {
                    attack: attack.id,
                    response: response.name.clone(),
                    step,
                    keys: candidate.keys().collect(),
                    reason: format!("{}; {}", reason::attack(attack, tracked.severity), would()),
                });
                Cause::NeedsApproval { would: would() }
            }
            Mode::Observe => Cause::ObserveMode { would: would() },
            Mode::Propose | Mode::Auto => {
                search.refusals.extend(candidate.missing.drain(..).map(refusal));
                let refusals = std::mem::take(&mut search.refusals);
                let response = Box::new(view);
                return ControlFlow::Break(Verdict::Mitigate {
                    response,
                    step,
                    candidate,
                    refusals,
                });
            }
        };
        search.refusals.push(refusal(cause));
        // What nobody agreed to is no reason for something stronger.
        ControlFlow::Continue(step)
    }

    /// Holds a choice against what is in place; `None` if it may take its place.
    fn compare(
        &self,
        now: Timestamp,
        tracked: &Tracked,
        plan: &Plan,
        choice: &Choice,
        strength: Strength,
    ) -> Option<Verdict> {
        if tracked.failed.contains(&plan.choice()) {
            return None;
        }
        let same = *choice == plan.choice();
        if strength < plan.strength || (same && !self.outgrown(plan, &tracked.attack)) {
            return Some(Verdict::Keep);
        }
        let due = plan.changed + REFRESH_INTERVAL;
        (strength == plan.strength && now < due).then_some(Verdict::Later(due))
    }

    /// Remembers what waits for approval, and tells people of what is new.
    fn propose(&mut self, id: AttackId, proposals: Vec<Proposal>) {
        let Some(tracked) = self.attacks.get_mut(&id) else { return };
        let known = std::mem::replace(&mut tracked.proposals, proposals);
        let same = |one: &Proposal, other: &Proposal| {
            one.response == other.response && one.step == other.step
        };
        let new: Vec<Proposal> = tracked
            .proposals
            .iter()
            .filter(|proposal| !known.iter().any(|other| same(proposal, other)))
            .cloned()
            .collect();
        for proposal in new {
            let reason = format!("approval wanted: {}", proposal.reason);
            self.say_about(id, DecisionKind::Propose(proposal.keys), reason);
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
        let limits = self.policy.breaker;
        let owned = &self.policy.space.owned;
        if own.is_none() && adds && !self.breaker.permits(now, attack.target, limits, owned) {
            let targets = usize::try_from(limits.targets).unwrap_or(usize::MAX);
            return Err(vec![Cause::MassTrigger { targets, window: limits.within }]);
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
        let per_group = self.policy.budgets.per_group;
        let most = self.policy.budgets.mitigations;
        let mut in_group = self.claimed_by_group(attack, per_group).saturating_sub(freed.len());
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
            } else if new > 0 && total + new > most {
                Cause::Full { limit: most }
            } else if new > 0 && in_group + new > per_group {
                Cause::GroupFull { group: attack.group.clone(), limit: per_group }
            } else {
                total += new;
                in_group += new;
                continue;
            };
            candidate.routes.retain(|(other, _)| *other != backend);
            candidate.losses.retain(|(other, _)| *other != backend);
            candidate.missing.push(cause);
        }
        if candidate.routes.is_empty() { Err(candidate.missing) } else { Ok(candidate) }
    }

    /// How many mitigations there are for the targets of the attack's group, if that matters.
    fn claimed_by_group(&self, attack: &Attack, limit: usize) -> usize {
        if limit >= self.policy.budgets.mitigations {
            return 0;
        }
        let of_group = |id: &AttackId| {
            self.attacks.get(id).is_some_and(|tracked| tracked.attack.group == attack.group)
        };
        self.claims.values().filter(|ids| ids.iter().any(of_group)).count()
    }

    /// Most routes, and most rules among them. Four fifths of what the peer takes: beyond, it
    /// resets the session and loses all routes.
    fn limits(&self, backend: &BackendId) -> (usize, usize) {
        match backend {
            BackendId::Kernel => {
                (self.policy.budgets.kernel_rules, self.policy.budgets.kernel_rules)
            }
            _ => {
                let peer = self.policy.peer_at(backend);
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
        if refusals.iter().any(mass) {
            self.breaker.trip(now, self.policy.breaker);
        }
        self.touched.insert(id);
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

    /// Whether the attack gets through and the rules of `plan` are not what would be made of it now.
    fn outgrown(&self, plan: &Plan, attack: &Attack) -> bool {
        if plan.rules.is_empty() || !gets_through(attack) {
            return false;
        }
        let mut responses = self.policy.responses.iter();
        let response = responses.find(|response| response.name == plan.response);
        let from = response.map(|response| response.at(plan.step).rules_from);
        let sample = self.samples.get(&attack.id).filter(|_| from == Some(RuleSource::Samples));
        if let Some((coverage, collateral)) =
            sample.and_then(|sample| synthesis::measure(&plan.rules, sample))
        {
            return coverage < ENOUGH || collateral > routes::bounds(&self.policy).collateral;
        }
        !rule::synthesise(attack.target, &attack.vectors).is_ok_and(|mut rules| {
            rules.truncate(self.policy.budgets.rules_per_attack);
            rule::still_fits(&plan.rules, &rules)
        })
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
