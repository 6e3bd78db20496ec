//! What is done about one attack, and in which stage that is.

use std::time::Duration;

use tidegate_model::{
    Attack, BackendId, EndReason, FlowSpecRule, Lifetime, Route, Severity, Timestamp,
};

use super::hold::Hidden;
use crate::policy::{FilterAction, ResponseAction};

/// How drastic an action is. During an attack it never sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    Observe,
    LocalLimit,
    LocalDiscard,
    FlowSpecLimit,
    FlowSpecDiscard,
    Blackhole,
}

impl Strength {
    pub(super) fn of(action: ResponseAction) -> Self {
        match action {
            ResponseAction::Observe => Self::Observe,
            ResponseAction::Local(FilterAction::Discard) => Self::LocalDiscard,
            ResponseAction::Local(_) => Self::LocalLimit,
            ResponseAction::FlowSpec(FilterAction::Discard) => Self::FlowSpecDiscard,
            ResponseAction::FlowSpec(_) => Self::FlowSpecLimit,
            ResponseAction::Rtbh => Self::Blackhole,
        }
    }
}

/// How much is claimed at one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claimed {
    /// All routes.
    pub(super) routes: usize,
    /// The FlowSpec rules among them.
    pub(super) rules: usize,
}

/// An attack that is followed.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    /// As last reported.
    pub(super) attack: Attack,
    /// The worst so far.
    pub(super) severity: Severity,
    /// Set when the attack is over and its mitigation stays for its minimum lifetime.
    pub(super) ended: Option<EndReason>,
    pub(super) stage: Stage,
    /// What was last said while nothing was mitigated: not said twice.
    pub(super) told: Option<Told>,
}

#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Not mitigated: observed, refused, or never decided.
    Idle,
    /// Not mitigated because there is no room now.
    Waiting,
    Mitigated(Box<Plan>),
    /// The maximum lifetime has passed: nothing more for this attack.
    Spent,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) response: Option<String>,
    pub(super) severity: Severity,
    /// Of each refusal the response and the code: numbers in the text may change all the time.
    pub(super) refusals: Vec<(Option<String>, &'static str)>,
}

/// A mitigation of one attack.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Name of the response.
    pub(super) response: String,
    pub(super) strength: Strength,
    pub(super) hidden: Hidden,
    pub(super) routes: Vec<(BackendId, Route)>,
    /// The rules that were asked for, before they took the form that each backend takes.
    pub(super) rules: Vec<FlowSpecRule>,
    pub(super) reason: String,
    /// When the response was first carried out: its maximum lifetime counts from here.
    pub(super) begun: Timestamp,
    /// When the routes last changed.
    pub(super) changed: Timestamp,
    pub(super) hold: Duration,
    pub(super) lifetime: Lifetime,
    pub(super) phase: Phase,
    /// When to look whether the rules still fit, if that had to wait.
    pub(super) refresh_due: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Installed,
    /// A blackhole is lifted until then, to see whether the attack goes on.
    Probing(Timestamp),
}

impl Plan {
    pub(super) fn is_blackhole(&self) -> bool {
        self.strength == Strength::Blackhole
    }
}

impl Tracked {
    pub(super) fn plan(&self) -> Option<&Plan> {
        match &self.stage {
            Stage::Mitigated(plan) => Some(plan),
            Stage::Idle | Stage::Waiting | Stage::Spent => None,
        }
    }

    pub(super) fn plan_mut(&mut self) -> Option<&mut Plan> {
        match &mut self.stage {
            Stage::Mitigated(plan) => Some(plan),
            Stage::Idle | Stage::Waiting | Stage::Spent => None,
        }
    }

    /// When time alone changes something.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let plan = self.plan()?;
        let lifetime = plan.lifetime;
        let sooner = match plan.phase {
            Phase::Probing(until) => Some(until),
            Phase::Installed if self.ended.is_some() || plan.is_blackhole() => {
                Some(lifetime.at_least_until)
            }
            Phase::Installed => plan.refresh_due,
        };
        Some(sooner.map_or(lifetime.not_after, |sooner| sooner.min(lifetime.not_after)))
    }
}

/// Whether the attack reaches the detector above its limit: what is done does not stop it there.
pub(super) fn gets_through(attack: &Attack) -> bool {
    attack.trigger.limit.excess(attack.current) >= 1.0
}
