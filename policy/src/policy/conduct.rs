//! How the planner conducts itself beside the choice of a response: what counts as carried out,
//! what effect is expected, how often a mitigation may come and go, and who has to agree.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{ResponseAction, named};
use crate::synthesis::Bounds;

named! {
    /// What follows when a mitigation is not enforced.
    Otherwise, "what follows when a mitigation is not enforced" {
        /// It stays wanted, and people are told.
        Stay "stay",
        /// People are told, and the next step or response is tried.
        Next "next",
    }
}

/// When a mitigation counts as not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// A backend that has not taken a mitigation after this long does not enforce it.
    pub deadline: Duration,
    /// What follows, for responses that do not say it themselves.
    pub otherwise: Otherwise,
}

impl Default for Enforcement {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), otherwise: Otherwise::Stay }
    }
}

named! {
    /// Where the sensor stands, seen from the filters of the peers.
    SensorPlace, "a place of the sensor" {
        /// It sees only what the filters let through.
        BehindFilters "behind-filters",
        /// It sees the traffic before it is filtered: what a mitigation does cannot be seen there.
        BeforeFilters "before-filters",
    }
}

/// What a mitigation is expected to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EffectAim {
    /// Where the sensor stands.
    pub sensor: SensorPlace,
    /// A mitigation that stops a smaller share of the attack than this has no effect.
    pub none_below: f64,
    /// One that had no effect for this long is withdrawn.
    pub none_after: Duration,
}

impl Default for EffectAim {
    fn default() -> Self {
        Self {
            sensor: SensorPlace::BeforeFilters,
            none_below: 0.05,
            none_after: Duration::from_secs(30),
        }
    }
}

/// How often the mitigations of one target may be withdrawn at one backend.
///
/// A router that damps routes suppresses what comes and goes more often than every quarter of an
/// hour (RFC 2439). When the budget is spent a mitigation stays until there is room again or its
/// longest lifetime is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlapBudget {
    /// At most so many withdrawals.
    pub cycles: u32,
    /// In this time.
    pub within: Duration,
}

impl Default for FlapBudget {
    fn default() -> Self {
        Self { cycles: 2, within: Duration::from_secs(3_600) }
    }
}

/// Beyond these many targets at once are more likely one mistake than many attacks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerLimits {
    /// More new targets than this trip the breaker.
    pub targets: u32,
    /// New targets that are a larger share of the owned addresses of a family than this do too.
    pub share: f64,
    /// The time in which new targets are counted.
    pub within: Duration,
    /// A tripped breaker adds nothing for this long: time for a person to look.
    pub cool_down: Duration,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            targets: 100,
            share: 1.0,
            within: Duration::from_secs(10),
            cool_down: Duration::from_secs(60),
        }
    }
}

named! {
    /// What the rules of a response are made from.
    RuleSource, "what rules are made from" {
        /// What the packets of a vector have in common.
        Signature "signature",
        /// Samples of the attack's packets and of the target's own, as far as there are enough.
        Samples "samples",
    }
}

/// How many mitigations there may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budgets {
    /// Over all backends.
    pub mitigations: usize,
    /// For the targets of one group.
    pub per_group: usize,
    /// FlowSpec rules asked for by one attack, before they take the form of each backend.
    pub rules_per_attack: usize,
    /// TCAM entries of the rules from samples for one attack at one backend, estimated.
    pub tcam_entries: u32,
    /// The share of the target's traffic before the attack that rules from samples may hit.
    pub collateral: f64,
    /// Rules in the kernel of this host.
    pub kernel_rules: usize,
}

impl Budgets {
    /// No policy may ask for more over all backends.
    pub const MOST_MITIGATIONS: usize = 4096;
    /// No policy may ask for more in the kernel.
    pub const MOST_KERNEL_RULES: usize = 1024;
    /// No policy may ask for more rules for one attack.
    pub const MOST_RULES_PER_ATTACK: usize = 8;
    /// No policy may let one attack take more of a TCAM.
    pub const MOST_TCAM_ENTRIES: u32 = 65_536;
    /// Rules that hit more are no remedy.
    pub const MOST_COLLATERAL: f64 = 0.1;
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            mitigations: Self::MOST_MITIGATIONS,
            per_group: Self::MOST_MITIGATIONS,
            rules_per_attack: Self::MOST_RULES_PER_ATTACK,
            tcam_entries: Bounds::default().tcam_entries,
            collateral: Bounds::default().collateral,
            kernel_rules: Self::MOST_KERNEL_RULES,
        }
    }
}

named! {
    /// Who has to agree to an action.
    Mode, "an approval mode" {
        /// Nothing is done; what would be done is said.
        Observe "observe",
        /// It is done once a person has approved it.
        Propose "propose",
        /// It is done at once.
        Auto "auto",
    }
}

/// The mode of each action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// Rules in the kernel of this host.
    pub local: Mode,
    /// FlowSpec rules at peers.
    pub flowspec: Mode,
    /// Blackholes at peers.
    pub rtbh: Mode,
}

impl Approvals {
    /// The mode of `action`. To observe needs nobody's consent.
    #[must_use]
    pub const fn mode(self, action: ResponseAction) -> Mode {
        match action {
            ResponseAction::Observe => Mode::Auto,
            ResponseAction::Local(_) => self.local,
            ResponseAction::FlowSpec(_) => self.flowspec,
            ResponseAction::Rtbh => self.rtbh,
        }
    }
}

impl Default for Approvals {
    fn default() -> Self {
        Self { local: Mode::Auto, flowspec: Mode::Auto, rtbh: Mode::Auto }
    }
}
