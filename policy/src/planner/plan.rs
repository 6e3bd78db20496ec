//! What is done about one attack, and in which stage that is.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_model::{
    Attack, BackendId, EndReason, FlowSpecRule, Lifetime, MitigationKey, Rate, Route, Severity,
    Timestamp,
};

use super::decision::Proposal;
use super::hold::Hidden;
use super::routes::{self, Bridge};
use super::sight::Sight;
use crate::policy::{FilterAction, ResponseAction};

/// How drastic an action is. During an attack it never sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    Observe,
    LocalMark,
    LocalLimit,
    LocalDiscard,
    FlowSpecMark,
    FlowSpecLimit,
    FlowSpecRedirect,
    FlowSpecDiscard,
    Blackhole,
}

impl Strength {
    pub(super) fn of(action: ResponseAction) -> Self {
        match action {
            ResponseAction::Observe => Self::Observe,
            ResponseAction::Local(FilterAction::Discard) => Self::LocalDiscard,
            ResponseAction::Local(FilterAction::Mark(_)) => Self::LocalMark,
            ResponseAction::Local(_) => Self::LocalLimit,
            ResponseAction::FlowSpec(FilterAction::Discard) => Self::FlowSpecDiscard,
            ResponseAction::FlowSpec(FilterAction::Mark(_)) => Self::FlowSpecMark,
            ResponseAction::FlowSpec(FilterAction::Redirect(_) | FilterAction::RedirectToIp(_)) => {
                Self::FlowSpecRedirect
            }
            ResponseAction::FlowSpec(
                FilterAction::RateLimitBytes(_) | FilterAction::RateLimitPackets(_),
            ) => Self::FlowSpecLimit,
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

/// One step of one response.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Choice {
    pub(super) response: String,
    pub(super) step: usize,
}

/// Who asked for what is done about an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The policy, for an attack that was detected.
    Policy,
    /// A person, without an attack.
    Manual,
}

/// An attack that is followed.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    /// As last reported.
    pub(super) attack: Attack,
    /// The worst so far.
    pub(super) severity: Severity,
    /// When that was last judged.
    pub(super) judged: Timestamp,
    pub(super) origin: Origin,
    /// Set when the attack is over and its mitigation stays for its minimum lifetime.
    pub(super) ended: Option<EndReason>,
    pub(super) stage: Stage,
    /// What was last said while nothing was mitigated: not said twice.
    pub(super) told: Option<Told>,
    /// What was tried and not enforced, or had no effect. At most every step of every response.
    pub(super) failed: BTreeSet<Choice>,
    /// What a person approved. At most every step of every response.
    pub(super) approved: BTreeSet<Choice>,
    /// What waits for approval.
    pub(super) proposals: Vec<Proposal>,
    /// Who wants everything to stay as it is.
    pub(super) held: Option<String>,
    /// How much of it the sensor saw last.
    pub(super) sight: Option<Sight>,
}

#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Not mitigated: observed, refused, or never decided.
    Idle,
    /// Not mitigated because there is no room now.
    Waiting,
    Mitigated(Box<Plan>),
    /// The maximum lifetime has passed, or a person withdrew it: nothing more for this attack.
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
    /// Which step of it.
    pub(super) step: usize,
    pub(super) strength: Strength,
    pub(super) hidden: Hidden,
    pub(super) routes: Vec<(BackendId, Route)>,
    /// Cheaper routes that take the place of a blackhole while it is lifted.
    pub(super) armed: Vec<(BackendId, Route)>,
    /// What stays of the answer before until this one is in force.
    pub(super) bridge: Bridge,
    /// The rules that were asked for, before they took the form that each backend takes.
    pub(super) rules: Vec<FlowSpecRule>,
    pub(super) reason: String,
    /// When the response was first carried out: its maximum lifetime counts from here.
    pub(super) begun: Timestamp,
    /// When the routes last changed.
    pub(super) changed: Timestamp,
    /// Since when some backend has this step in force, by whichever rules; `None` while none has.
    pub(super) in_force: Option<Timestamp>,
    /// The rate of the attack before the mitigation.
    pub(super) before: Rate,
    /// Since when it has been seen to have no effect.
    pub(super) futile_since: Option<Timestamp>,
    /// From when to when the attack was last seen above its limit despite this step, with gaps of
    /// at most [`SETTLE`](super::SETTLE).
    pub(super) through: Option<(Timestamp, Timestamp)>,
    pub(super) hold: Duration,
    pub(super) lifetime: Lifetime,
    pub(super) phase: Phase,
    /// When to look whether the rules still fit, if that had to wait.
    pub(super) refresh_due: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Installed,
    /// A blackhole is lifted until then, to see whether the attack goes on.
    Probing {
        until: Timestamp,
        lifted: Lifted,
    },
}

/// Where a blackhole is lifted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lifted {
    /// At this backend: what comes through there shows whether the attack goes on.
    At(BackendId),
    Everywhere,
}

impl Plan {
    pub(super) fn is_blackhole(&self) -> bool {
        self.strength == Strength::Blackhole
    }

    /// Keeps the routes for which `keep` holds.
    pub(super) fn keep_routes(&mut self, mut keep: impl FnMut(&(BackendId, Route)) -> bool) {
        for routes in [&mut self.routes, &mut self.armed, &mut self.bridge.routes] {
            routes.retain(&mut keep);
        }
    }

    pub(super) fn choice(&self) -> Choice {
        Choice { response: self.response.clone(), step: self.step }
    }

    /// Everything that it has room for, wanted now or not.
    pub(super) fn all_routes(&self) -> impl Iterator<Item = &(BackendId, Route)> {
        self.routes.iter().chain(&self.armed).chain(&self.bridge.routes)
    }

    /// What of it is wanted now, and what stays until that is in force.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &(BackendId, Route)> {
        self.own().chain(&self.bridge.routes)
    }

    /// What of it is wanted now for its own sake.
    pub(super) fn own(&self) -> impl Iterator<Item = &(BackendId, Route)> {
        let routes = self.routes.iter().filter(|(backend, _)| match &self.phase {
            Phase::Installed => true,
            Phase::Probing { lifted: Lifted::At(lifted), .. } => backend != lifted,
            Phase::Probing { lifted: Lifted::Everywhere, .. } => false,
        });
        let armed = self
            .armed
            .iter()
            .filter(|_| matches!(&self.phase, Phase::Probing { lifted: Lifted::Everywhere, .. }));
        routes.chain(armed)
    }

    /// The keys of what is wanted now.
    pub(super) fn wanted_keys(&self) -> Vec<MitigationKey> {
        routes::keys(self.wanted()).collect()
    }

    /// The keys of what is wanted now for its own sake.
    pub(super) fn own_keys(&self) -> Vec<MitigationKey> {
        routes::keys(self.own()).collect()
    }
}

impl Tracked {
    /// Nothing is done about it yet.
    pub(super) fn new(now: Timestamp, attack: Attack, severity: Severity, origin: Origin) -> Self {
        Self {
            attack,
            severity,
            judged: now,
            origin,
            ended: None,
            stage: Stage::Idle,
            told: None,
            failed: BTreeSet::new(),
            approved: BTreeSet::new(),
            proposals: Vec::new(),
            held: None,
            sight: None,
        }
    }

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

    /// Whether nothing may be changed but by time and by people.
    pub(super) fn is_frozen(&self) -> bool {
        self.held.is_some() || self.origin == Origin::Manual
    }
}

/// Whether the attack reaches the detector above its limit: what is done does not stop it there.
pub(super) fn gets_through(attack: &Attack) -> bool {
    attack.trigger.limit.excess(attack.current) >= 1.0
}
