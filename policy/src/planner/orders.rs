//! What people order: approvals, holds, withdrawals, renewals, and mitigations of their own.

use std::time::Duration;

use tidegate_model::{
    Attack, AttackId, AttackVector, Confidence, FlowSpecRule, Metric, Prefix, Rate, Severity,
    Signature, Timestamp, Trigger, VectorEstimate,
};

use super::decision::{Cause, DecisionKind};
use super::plan::{Choice, Origin, Phase, Stage, Tracked};
use super::routes::{self, Rules};
use super::{Planner, reason};
use crate::policy::{FilterAction, Response, ResponseAction, RuleSource};
use crate::profile::Widen;

/// A mitigation that is wanted for longer is a configuration of the network.
pub const MAX_TTL: Duration = Duration::from_secs(7 * 86_400);
/// Most characters of a name or a reason in an order.
pub const MAX_ORDER_TEXT: usize = 500;
/// Most mitigations that people asked for at once.
const MAX_MANUAL: usize = 256;
/// The response that decisions about manual mitigations name.
const MANUAL: &str = "manual";

/// An order of a person, who is named for the record.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Carry out what waits for approval.
    Approve {
        /// Of which attack.
        attack: AttackId,
        /// Only what this response asks for; `None` is all that waits.
        response: Option<String>,
        /// Who.
        by: String,
    },
    /// Leave everything about an attack as it is: nothing is added, changed, lifted or withdrawn
    /// until [`Order::Resume`] or the longest lifetime.
    Hold {
        /// Which attack.
        attack: AttackId,
        /// Who.
        by: String,
    },
    /// End a hold.
    Resume {
        /// Which attack.
        attack: AttackId,
        /// Who.
        by: String,
    },
    /// Withdraw what is done about an attack, and do nothing more about it.
    Withdraw {
        /// Which attack, or which manual mitigation.
        attack: AttackId,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Let a mitigation last longer than the policy's longest lifetime; also one that is over.
    Renew {
        /// Which attack, or which manual mitigation.
        attack: AttackId,
        /// How much longer. Nothing lasts longer than [`MAX_TTL`] from now.
        extra: Duration,
        /// Who.
        by: String,
    },
    /// Mitigate without an attack. Guard, profiles and budgets apply as to everything else.
    Announce {
        /// For whom. A rule must lead there.
        target: Prefix,
        /// What.
        action: ManualAction,
        /// Names of peers; empty is every peer that can carry it.
        peers: Vec<String>,
        /// For how long.
        ttl: Duration,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What a person wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum ManualAction {
    /// A blackhole at the peers.
    Blackhole,
    /// A FlowSpec rule at the peers.
    FlowSpec(FlowSpecRule, FilterAction),
    /// A rule in the kernel of this host.
    Local(FlowSpecRule, FilterAction),
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrderRefused {
    /// There is no such attack.
    #[error("there is no {0}; it may be over: list the attacks again")]
    Unknown(AttackId),
    /// Nothing waits for approval.
    #[error("nothing of {0} waits for approval; list the proposals again")]
    NothingToApprove(AttackId),
    /// It was withdrawn, or its time was over.
    #[error("{0} was withdrawn before, and that counts; renew it if it is wanted after all")]
    Withdrawn(AttackId),
    /// Nothing is done about it.
    #[error("nothing is done about {0}; there is nothing to do this to")]
    Nothing(AttackId),
    /// A duration that cannot be.
    #[error("the time must be from 1 s to {}, not {}", reason::span(MAX_TTL), reason::span(*.0))]
    Time(Duration),
    /// A text that is too long.
    #[error("{0} is longer than {MAX_ORDER_TEXT} characters; shorten it")]
    TooLong(&'static str),
    /// A rule that leads elsewhere.
    #[error("the rule does not lead to {0}; give it that destination")]
    Elsewhere(Prefix),
    /// No such peer.
    #[error("there is no peer `{0}`")]
    NoPeer(String),
    /// Too many.
    #[error("people have asked for {MAX_MANUAL} mitigations already; withdraw one first")]
    TooMany,
    /// Nothing can carry it out.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Impossible(Vec<Cause>),
}

impl Planner {
    /// Carries out an order; which attack or manual mitigation it was about.
    ///
    /// # Errors
    /// [`OrderRefused`] if there is nothing to do it to, or it may not be done. Nothing has
    /// changed then.
    pub fn handle_order(
        &mut self,
        now: Timestamp,
        order: &Order,
    ) -> Result<AttackId, OrderRefused> {
        self.now = now;
        let done = match order {
            Order::Approve { attack, response, by } => {
                self.approve(now, *attack, response.as_deref(), checked("the name", by)?)
            }
            Order::Hold { attack, by } => self.hold(*attack, checked("the name", by)?),
            Order::Resume { attack, by } => self.resume(now, *attack, checked("the name", by)?),
            Order::Withdraw { attack, by, reason } => {
                let why =
                    format!("{}: {}", checked("the name", by)?, checked("the reason", reason)?);
                self.withdraw(now, *attack, &why)
            }
            Order::Renew { attack, extra, by } => {
                self.renew(now, *attack, *extra, checked("the name", by)?)
            }
            Order::Announce { target, action, peers, ttl, by, reason } => {
                let why =
                    format!("{}: {}", checked("the name", by)?, checked("the reason", reason)?);
                self.announce(now, *target, action, peers, *ttl, &why)
            }
        };
        self.settle(now);
        done
    }

    fn of_policy(&mut self, id: AttackId) -> Result<&mut Tracked, OrderRefused> {
        let tracked = self.attacks.get_mut(&id).filter(|it| it.origin == Origin::Policy);
        tracked.ok_or(OrderRefused::Unknown(id))
    }

    fn approve(
        &mut self,
        now: Timestamp,
        id: AttackId,
        response: Option<&str>,
        by: &str,
    ) -> Result<AttackId, OrderRefused> {
        let tracked = self.of_policy(id)?;
        if matches!(tracked.stage, Stage::Spent) {
            return Err(OrderRefused::Withdrawn(id));
        }
        let chosen: Vec<Choice> = tracked
            .proposals
            .iter()
            .filter(|proposal| response.is_none_or(|name| name == proposal.response))
            .map(|it| Choice { response: it.response.clone(), step: it.step })
            .collect();
        if chosen.is_empty() {
            return Err(OrderRefused::NothingToApprove(id));
        }
        let names: Vec<String> = chosen.iter().map(|it| format!("`{}`", it.response)).collect();
        tracked.approved.extend(chosen);
        self.say_order(id, format!("{by} approved {}", names.join(", ")));
        self.reconsider(now, id);
        Ok(id)
    }

    fn hold(&mut self, id: AttackId, by: &str) -> Result<AttackId, OrderRefused> {
        self.of_policy(id)?.held = Some(by.to_owned());
        self.touched.insert(id);
        self.say_order(id, format!("{by} holds everything as it is"));
        Ok(id)
    }

    fn resume(&mut self, now: Timestamp, id: AttackId, by: &str) -> Result<AttackId, OrderRefused> {
        let tracked = self.of_policy(id)?;
        if tracked.held.take().is_none() {
            return Err(OrderRefused::Nothing(id));
        }
        let ended = tracked.ended;
        self.touched.insert(id);
        self.say_order(id, format!("{by} ended the hold"));
        match ended {
            Some(reason) if !self.outlasts(now, id, reason) => {
                self.release(now, id, &format!("over: {reason}"));
            }
            Some(_) => {}
            None => self.reconsider(now, id),
        }
        Ok(id)
    }

    fn withdraw(
        &mut self,
        now: Timestamp,
        id: AttackId,
        why: &str,
    ) -> Result<AttackId, OrderRefused> {
        let tracked = self.attacks.get_mut(&id).ok_or(OrderRefused::Unknown(id))?;
        tracked.proposals.clear();
        tracked.approved.clear();
        if tracked.origin == Origin::Manual || tracked.ended.is_some() {
            self.release(now, id, why);
            return Ok(id);
        }
        self.say_release(id, format!("{why}; withdrawn, and nothing more for this attack"));
        self.put(id, Stage::Spent);
        self.room_made = true;
        Ok(id)
    }

    fn renew(
        &mut self,
        now: Timestamp,
        id: AttackId,
        extra: Duration,
        by: &str,
    ) -> Result<AttackId, OrderRefused> {
        check_time(extra)?;
        let tracked = self.attacks.get_mut(&id).ok_or(OrderRefused::Unknown(id))?;
        match &tracked.stage {
            Stage::Mitigated(_) => {
                self.change_plan(id, |plan| {
                    let latest = (plan.lifetime.not_after + extra).min(now + MAX_TTL);
                    let gained = latest.since(plan.lifetime.not_after);
                    plan.begun = plan.begun + gained;
                    plan.lifetime.not_after = latest;
                });
                let longer = reason::span(extra);
                self.say_order(id, format!("{by} renewed it for {longer}"));
            }
            Stage::Spent => {
                tracked.stage = Stage::Idle;
                self.touched.insert(id);
                self.say_order(id, format!("{by} renewed it"));
                self.reconsider(now, id);
            }
            Stage::Idle | Stage::Waiting => return Err(OrderRefused::Nothing(id)),
        }
        Ok(id)
    }

    fn announce(
        &mut self,
        now: Timestamp,
        target: Prefix,
        action: &ManualAction,
        peers: &[String],
        ttl: Duration,
        why: &str,
    ) -> Result<AttackId, OrderRefused> {
        check_time(ttl)?;
        let manual = self.attacks.values().filter(|it| it.origin == Origin::Manual).count();
        if manual >= MAX_MANUAL {
            return Err(OrderRefused::TooMany);
        }
        if let Some(name) = peers.iter().find(|name| self.policy.peer(name).is_none()) {
            return Err(OrderRefused::NoPeer(name.clone()));
        }
        let (kind, rules, filter) = match action {
            ManualAction::Blackhole => (ResponseAction::Rtbh, Vec::new(), None),
            ManualAction::FlowSpec(rule, filter) => {
                (ResponseAction::FlowSpec(*filter), vec![rule.clone()], Some(*filter))
            }
            ManualAction::Local(rule, filter) => {
                (ResponseAction::Local(*filter), vec![rule.clone()], Some(*filter))
            }
        };
        if rules.iter().any(|rule| rule.destination() != Some(target)) {
            return Err(OrderRefused::Elsewhere(target));
        }
        let response = self.manual_response(kind, peers, ttl);
        let parts = (Rules::Given(rules), filter.map(routes::filter_action));
        let group = self.policy.group_of(target).map_or("", |group| &group.name);
        let attack =
            manual_attack(AttackId(AttackId::MANUAL + self.last_manual), target, group, now);
        let candidate = routes::put(&self.policy, &self.sessions, target, &response, parts)
            .and_then(|candidate| self.admit(now, &attack, None, candidate))
            .map_err(OrderRefused::Impossible)?;
        self.last_manual += 1;
        let id = attack.id;
        self.attacks.insert(id, Tracked::new(now, attack, Severity::Low, Origin::Manual));
        self.adopt(now, id, (&response, 0), candidate, &[], None);
        let text = format!("{why}; for {}", reason::span(ttl));
        self.change_plan(id, |plan| {
            plan.reason.clone_from(&text);
            plan.phase = Phase::Installed;
        });
        self.say_plan(id, text);
        Ok(id)
    }

    fn manual_response(&self, action: ResponseAction, peers: &[String], ttl: Duration) -> Response {
        let every = || self.policy.peers.iter().map(|peer| peer.name.clone()).collect();
        Response {
            name: MANUAL.to_owned(),
            matcher: crate::policy::Matcher::default(),
            action,
            peers: if peers.is_empty() { every() } else { peers.to_vec() },
            widen: Widen::Never,
            rules_from: RuleSource::Signature,
            min_lifetime: Duration::ZERO,
            max_lifetime: ttl,
            otherwise: None,
            then: Vec::new(),
        }
    }

    /// Tells what a person ordered, with what is done now.
    fn say_order(&mut self, id: AttackId, reason: String) {
        let keys = self.attacks.get(&id).and_then(Tracked::plan).map(super::Plan::wanted_keys);
        let kind = keys.map_or(DecisionKind::Observe, DecisionKind::Mitigate);
        self.say_about(id, kind, reason);
    }
}

fn checked<'a>(what: &'static str, text: &'a str) -> Result<&'a str, OrderRefused> {
    if text.chars().count() > MAX_ORDER_TEXT { Err(OrderRefused::TooLong(what)) } else { Ok(text) }
}

fn check_time(time: Duration) -> Result<(), OrderRefused> {
    if (Duration::from_secs(1)..=MAX_TTL).contains(&time) {
        Ok(())
    } else {
        Err(OrderRefused::Time(time))
    }
}

/// What stands for the attack where there is none.
fn manual_attack(id: AttackId, target: Prefix, group: &str, now: Timestamp) -> Attack {
    Attack {
        id,
        target,
        group: group.to_owned(),
        onset: now,
        detected: now,
        trigger: Trigger {
            metric: Metric::Total,
            rate: Rate::default(),
            limit: tidegate_model::Limit::default(),
        },
        vectors: vec![VectorEstimate {
            vector: AttackVector::Unknown,
            share: 1.0,
            confidence: Confidence::default(),
            signature: Signature::default(),
            evidence: Vec::new(),
        }],
        current: Rate::default(),
        peak: Rate::default(),
        excess: 0.0,
        packets: 0,
        bytes: 0,
        sources: 0,
    }
}
