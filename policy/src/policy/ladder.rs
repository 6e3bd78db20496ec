//! The steps of a response beyond its first, and when each is taken.

use std::time::Duration;

use tidegate_model::{Attack, Limit, Severity};

use super::{Response, ResponseAction, RuleSource};
use crate::profile::Widen;

/// A stronger answer to the same attack.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Taken when one of these holds. Never empty.
    pub when: Vec<Condition>,
    /// What is done in place of the step before.
    pub action: ResponseAction,
    /// As in [`Response::peers`].
    pub peers: Vec<String>,
    /// As in [`Response::widen`].
    pub widen: Widen,
    /// As in [`Response::rules_from`].
    pub rules_from: RuleSource,
    /// As in [`Response::min_lifetime`].
    pub min_lifetime: Duration,
    /// As in [`Response::max_lifetime`].
    pub max_lifetime: Duration,
}

/// What must be true of an attack for the next step; every part that is given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Condition {
    /// The step before stops a smaller share of the attack than this, and the attack still comes
    /// through above its limit.
    pub coverage_below: Option<f64>,
    /// The step before has been in force for this long.
    pub after: Duration,
    /// The attack is at least this severe.
    pub severity: Option<Severity>,
    /// The highest rate of the attack is at least this, in either unit that is given.
    pub rate: Limit,
}

/// What is known of the step before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// For how long it has been in force; `None` if it is not.
    pub in_force: Option<Duration>,
    /// The share of the attack that it stops, where that can be seen and the attack still comes
    /// through above its limit.
    pub falls_short: Option<f64>,
}

impl Condition {
    /// Whether the next step is to be taken.
    #[must_use]
    pub fn holds(&self, attack: &Attack, severity: Severity, before: Progress) -> bool {
        let severe = self.severity.is_none_or(|least| severity >= least);
        let fast = self.rate == Limit::default() || self.rate.excess(attack.peak) >= 1.0;
        let long = self.after.is_zero() || before.in_force.is_some_and(|span| span >= self.after);
        let uncovered = self
            .coverage_below
            .is_none_or(|aim| before.falls_short.is_some_and(|covered| covered < aim));
        severe && fast && long && uncovered
    }

    /// Whether it looks at what the step before does.
    #[must_use]
    pub const fn looks_at_effect(&self) -> bool {
        self.coverage_below.is_some()
    }
}

impl Response {
    /// The response as it is at `step`, the first being 0; the last there is if there are fewer.
    #[must_use]
    pub fn at(&self, step: usize) -> Self {
        let mut view = self.clone();
        if let Some(index) = step.checked_sub(1)
            && let Some(step) = self.then.get(index).or(self.then.last())
        {
            view.action = step.action;
            view.peers.clone_from(&step.peers);
            view.widen = step.widen;
            view.rules_from = step.rules_from;
            view.min_lifetime = step.min_lifetime;
            view.max_lifetime = step.max_lifetime;
        }
        view
    }

    /// How many steps there are. At least one.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.then.len() + 1
    }
}
