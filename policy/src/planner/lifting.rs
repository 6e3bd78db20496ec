//! How a mitigation goes: what time makes due, lifting a blackhole to look, and the end.

use tidegate_model::{AttackId, BackendId, EndReason, MitigationKey, Route, Timestamp};

use super::decision::DecisionKind;
use super::hold::doubled;
use super::plan::{Lifted, Origin, Phase, Plan, Stage, Strength, Tracked};
use super::routes::Bridge;
use super::{PROBE_WINDOW, Planner, Sensor, reason, routes};
use crate::policy::Mode;

impl Planner {
    /// When time alone changes something for an attack.
    pub(super) fn due(&self, tracked: &Tracked) -> Option<Timestamp> {
        let on = tracked.ended.is_none() && tracked.origin == Origin::Policy;
        let grows = self.policy.severities.grows_at(tracked.judged, &tracked.attack);
        let grows = grows.filter(|_| on && !matches!(tracked.stage, Stage::Spent));
        let Some(plan) = tracked.plan() else { return grows };
        let sooner = match &plan.phase {
            _ if tracked.is_frozen() => None,
            Phase::Probing { until, .. } => Some(*until).filter(|_| tracked.ended.is_none()),
            Phase::Installed if tracked.ended.is_some() => Some(plan.lifetime.at_least_until),
            Phase::Installed if plan.is_blackhole() => {
                // What hides nothing needs no look; who is blind cannot look.
                let looks = plan.in_force.is_some() && self.sensor == Sensor::Seeing;
                looks.then_some(plan.lifetime.at_least_until)
            }
            Phase::Installed => plan.refresh_due,
        };
        let others = [sooner, grows, self.enforcement_due(plan), Some(plan.lifetime.not_after)];
        others.into_iter().flatten().min()
    }

    /// Does what is due for one attack.
    pub(super) fn expire(&mut self, now: Timestamp, id: AttackId) {
        self.grow(now, id);
        let Some(plan) = self.attacks.get(&id).and_then(Tracked::plan) else { return };
        if self.enforcement_due(plan).is_some_and(|due| due <= now) {
            self.check_enforcement(now, id);
        }
        let Some(tracked) = self.attacks.get(&id) else { return };
        let Some(plan) = tracked.plan() else { return };
        let over = now >= plan.lifetime.at_least_until;
        match (tracked.ended, &plan.phase) {
            _ if now >= plan.lifetime.not_after => self.spend(now, id),
            (Some(reason), Phase::Installed) if over && !tracked.is_frozen() => {
                if !self.outlasts(now, id, reason) {
                    self.release(now, id, &format!("over: {reason}"));
                }
            }
            (Some(_), _) => {}
            _ if tracked.is_frozen() => {}
            (None, Phase::Probing { until, lifted }) => {
                if now < *until {
                } else if matches!(lifted, Lifted::At(_)) {
                    self.lift_everywhere(now, id);
                } else {
                    self.reannounce(now, id, "not over");
                }
            }
            (None, Phase::Installed) if plan.is_blackhole() => {
                let looks = plan.in_force.is_some() && self.sensor == Sensor::Seeing;
                if over && looks {
                    self.probe(now, id);
                }
            }
            (None, Phase::Installed) => {
                if plan.refresh_due.is_some_and(|due| due <= now) {
                    self.change_plan(id, |plan| plan.refresh_due = None);
                    self.reconsider(now, id);
                }
            }
        }
    }

    /// An attack that lasts becomes more severe.
    fn grow(&mut self, now: Timestamp, id: AttackId) {
        let Some(tracked) = self.attacks.get_mut(&id) else { return };
        if tracked.ended.is_some() || tracked.origin == Origin::Manual {
            return;
        }
        let severity = self.policy.severity(now, &tracked.attack);
        tracked.judged = now;
        if severity > tracked.severity {
            tracked.severity = severity;
            self.reconsider(now, id);
        }
    }

    /// Lifts a blackhole to look: at one backend if there are several, and if nothing comes through
    /// there, at the others. Not while another attack keeps it in place: then with that one. Not
    /// more often than the flap budget allows.
    fn probe(&mut self, now: Timestamp, id: AttackId) {
        let Some(plan) = self.attacks.get(&id).and_then(|tracked| tracked.plan()) else { return };
        let others = routes::keys(&plan.routes).flat_map(|key| self.claimants(&key));
        let kept = others
            .filter(|other| *other != id)
            .filter_map(|other| self.attacks.get(&other)?.plan())
            .filter(|other| other.phase == Phase::Installed)
            .map(|other| other.lifetime.at_least_until)
            .filter(|until| *until > now)
            .max();
        let first = self.first_to_lift(plan);
        let lifted_keys = routes::keys(&plan.routes)
            .filter(|key| first.as_ref().is_none_or(|first| key.backend == *first))
            .collect();
        if let Some(until) = kept.or(self.free_at(now, lifted_keys)) {
            self.change_plan(id, |plan| {
                plan.lifetime.at_least_until = until.min(plan.lifetime.not_after);
            });
            return;
        }
        let held = reason::span(plan.hold);
        let until = now + self.policy.judging.exit_hold + PROBE_WINDOW;
        match first {
            Some(backend) => {
                let why = format!(
                    "blackholed for {held}: lifted at {backend} to see whether the attack goes on"
                );
                self.change_plan(id, |plan| {
                    plan.phase = Phase::Probing { until, lifted: Lifted::At(backend) };
                });
                self.say_release(id, why);
            }
            None => {
                let why =
                    format!("blackholed for {held}: lifted to see whether the attack goes on");
                self.lift(now, id, why);
            }
        }
    }

    /// The backend at which to look first: with an internal session if there is one, since a
    /// neighbour may damp routes that come and go. `None` if there is but one, or none that is in
    /// force alone.
    fn first_to_lift(&self, plan: &Plan) -> Option<BackendId> {
        let in_force = |key: &MitigationKey| self.is_enforced(key);
        let keys: Vec<MitigationKey> = routes::keys(&plan.routes).filter(in_force).collect();
        let internal = |backend: &BackendId| match backend {
            BackendId::Kernel => true,
            _ => {
                let peer = self.policy.peer_at(backend);
                peer.is_some_and(|peer| peer.asn == self.policy.speaker.asn)
            }
        };
        let first = keys.iter().map(|key| &key.backend).min_by_key(|it| (!internal(it), *it))?;
        (keys.len() > 1).then(|| first.clone())
    }

    fn lift_everywhere(&mut self, now: Timestamp, id: AttackId) {
        let why = "nothing came through: lifted everywhere to see whether the attack is over";
        self.lift(now, id, why.to_owned());
    }

    /// Lifts everywhere, and leaves cheaper rules of an earlier step in place if there are any.
    fn lift(&mut self, now: Timestamp, id: AttackId, why: String) {
        let until = now + self.policy.judging.exit_hold + PROBE_WINDOW;
        let armed = self.milder(now, id);
        let kept = if armed.is_empty() { "" } else { "; the filters of an earlier step take over" };
        self.change_plan(id, |plan| {
            plan.phase = Phase::Probing { until, lifted: Lifted::Everywhere };
            plan.armed = armed;
        });
        self.say_release(id, format!("{why}{kept}"));
    }

    /// The routes of the strongest earlier step of the same response that is no blackhole.
    fn milder(&self, now: Timestamp, id: AttackId) -> Vec<(BackendId, Route)> {
        let Some(tracked) = self.attacks.get(&id) else { return Vec::new() };
        let Some(plan) = tracked.plan() else { return Vec::new() };
        let mut responses = self.policy.responses.iter();
        let Some(response) = responses.find(|it| it.name == plan.response) else {
            return Vec::new();
        };
        let attack = &tracked.attack;
        let views = (0..plan.step).rev().map(|step| response.at(step));
        let usable = views.filter(|view| {
            let filters = Strength::of(view.action) < Strength::Blackhole;
            filters && self.policy.mode(&attack.group, view.action) == Mode::Auto
        });
        usable
            .filter_map(|view| {
                let of = (attack, self.samples.get(&id));
                let carried = routes::carry_out(&self.policy, &self.sessions, of, &view, &[]);
                let mut candidate = carried.ok()?;
                let armed = candidate.routes.clone();
                // The blackhole keeps its own room to come back.
                candidate.routes.extend(plan.routes.iter().cloned());
                let admitted = self.admit(now, attack, Some(plan), candidate).ok()?;
                armed.iter().all(|it| admitted.routes.contains(it)).then_some(armed)
            })
            .next()
            .unwrap_or_default()
    }

    /// Puts a lifted blackhole back, for twice as long.
    pub(super) fn reannounce(&mut self, now: Timestamp, id: AttackId, why: &str) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        let Some(plan) = tracked.plan() else { return };
        let hold = doubled(plan.hold);
        let reason = format!(
            "{why} while the blackhole was lifted: back for {}; {}; `{}`",
            reason::span(hold),
            reason::attack(&tracked.attack, tracked.severity),
            plan.response,
        );
        self.cover(now, id, hold, reason);
    }

    /// Puts a lifted blackhole back because nobody can look: that proves nothing, so its hold does
    /// not grow.
    pub(super) fn cover_again(&mut self, now: Timestamp, id: AttackId) {
        let Some(plan) = self.attacks.get(&id).and_then(Tracked::plan) else { return };
        let hold = plan.hold;
        let reason = format!(
            "the sensor went blind while the blackhole was lifted: back for {}; `{}`",
            reason::span(hold),
            plan.response,
        );
        self.cover(now, id, hold, reason);
    }

    fn cover(&mut self, now: Timestamp, id: AttackId, hold: std::time::Duration, reason: String) {
        let text = reason.clone();
        let armed = self.attacks.get(&id).and_then(Tracked::plan).map(|plan| Bridge {
            routes: self.in_force_of(&plan.armed),
            response: plan.response.clone(),
            reason: plan.reason.clone(),
        });
        self.change_plan(id, |plan| {
            plan.hold = hold;
            plan.phase = Phase::Installed;
            plan.armed.clear();
            plan.bridge = armed.unwrap_or_default();
            plan.changed = now;
            plan.reason = text;
            plan.in_force = Some(now);
            plan.lifetime.at_least_until = (now + hold).min(plan.lifetime.not_after);
        });
        self.check_enforcement(now, id);
        self.say_plan(id, reason);
    }

    /// The hard end: nothing more for this attack.
    fn spend(&mut self, now: Timestamp, id: AttackId) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        let Some(plan) = tracked.plan() else { return };
        let most = reason::span(plan.lifetime.not_after.since(plan.begun));
        if tracked.origin == Origin::Manual {
            return self.release(now, id, &format!("its time of {most} is over"));
        }
        if let Some(reason) = tracked.ended {
            return self.release(now, id, &format!("over: {reason}"));
        }
        self.say_release(
            id,
            format!(
                "the maximum lifetime of {most} is over: withdrawn, and not again for this attack"
            ),
        );
        self.put(id, Stage::Spent);
        self.room_made = true;
    }

    /// Whether what is in place stays beyond the end of its attack: for its minimum lifetime, and
    /// for the flap budget. Cheap rules that took the place of a blackhole stay too: the attack
    /// may come in pulses.
    pub(super) fn outlasts(&mut self, now: Timestamp, id: AttackId, reason: EndReason) -> bool {
        let Some(tracked) = self.attacks.get_mut(&id) else { return false };
        if tracked.held.is_some() {
            tracked.ended = Some(reason);
            self.touched.insert(id);
            return true;
        }
        let Some(plan) = self.attacks.get(&id).and_then(Tracked::plan) else { return false };
        if plan.in_force.is_none() && plan.phase == Phase::Installed {
            return false;
        }
        let until = match (&plan.phase, plan.armed.is_empty()) {
            (Phase::Installed, _) => {
                let early = Some(plan.lifetime.at_least_until).filter(|until| *until > now);
                early.or(self.free_at(now, plan.wanted_keys()))
            }
            (Phase::Probing { .. }, false) => Some(now + plan.hold),
            (Phase::Probing { .. }, true) => None,
        };
        let Some(until) = until.map(|until| until.min(plan.lifetime.not_after)) else {
            return false;
        };
        if until <= now {
            return false;
        }
        let steps_down = plan.phase != Phase::Installed;
        let response = plan.response.clone();
        self.change_plan(id, |plan| {
            if steps_down {
                plan.routes = std::mem::take(&mut plan.armed);
                plan.phase = Phase::Installed;
                plan.strength = Strength::FlowSpecLimit;
                plan.step = plan.step.saturating_sub(1);
                plan.changed = now;
            }
            plan.lifetime.at_least_until = until;
        });
        if let Some(tracked) = self.attacks.get_mut(&id) {
            tracked.ended = Some(reason);
            self.touched.insert(id);
            if let Some(plan) = tracked.plan() {
                self.lingering.insert(tracked.attack.target, plan.choice());
            }
        }
        if steps_down {
            let keys = self.attacks.get(&id).and_then(Tracked::plan).map(Plan::wanted_keys);
            let text = format!(
                "over: {reason}; the blackhole stays lifted, the filters of an earlier step of \
                 `{response}` stay for {}",
                reason::span(until.since(now))
            );
            self.say_about(id, DecisionKind::Mitigate(keys.unwrap_or_default()), text);
        }
        true
    }

    /// When all of `keys` may be withdrawn within the flap budget; `None` if they may now.
    fn free_at(&self, now: Timestamp, keys: Vec<MitigationKey>) -> Option<Timestamp> {
        let budget = self.policy.flapping;
        // What others keep in place does not go.
        let goes = keys.iter().filter(|key| self.claimants(key).len() == 1);
        goes.filter_map(|key| self.flaps.free_at(now, key, budget)).max()
    }

    /// Withdraws what is left of an attack that is over, and forgets it.
    pub(super) fn release(&mut self, now: Timestamp, id: AttackId, why: &str) {
        let Some(tracked) = self.attacks.get(&id) else { return };
        let Some(plan) = tracked.plan() else { return };
        let (target, hidden, hold) = (tracked.attack.target, plan.hidden, plan.hold);
        if tracked.origin == Origin::Policy {
            self.holds.remember(now, target, hidden, hold);
        }
        let what = match plan.phase {
            Phase::Installed => "withdrawn",
            Phase::Probing { .. } => "the blackhole stays lifted",
        };
        if self.lingering.get(&target) == Some(&plan.choice()) {
            self.lingering.remove(&target);
        }
        self.say_release(id, format!("{why}; {what}"));
        self.put(id, Stage::Idle);
        self.attacks.remove(&id);
        self.room_made = true;
    }
}
