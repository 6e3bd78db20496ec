//! What there is to show of the attacks that are followed.

use tidegate_model::{Attack, EndReason, Severity};

use super::Planner;
use super::decision::Proposal;
use super::plan::{Origin, Plan, Tracked};

/// One attack that is followed, or a mitigation that a person asked for.
#[derive(Clone, Copy, Debug)]
pub struct Followed<'a> {
    /// As last reported.
    pub attack: &'a Attack,
    /// The worst so far.
    pub severity: Severity,
    /// Set while what was done stays beyond the end of the attack.
    pub ended: Option<EndReason>,
    /// A person asked for it; there is no attack.
    pub is_manual: bool,
    /// Who holds everything as it is.
    pub held_by: Option<&'a str>,
    /// The response that is carried out.
    pub response: Option<&'a str>,
    /// What waits for approval.
    pub proposals: &'a [Proposal],
}

impl Planner {
    /// Everything that is followed, by number.
    pub fn followed(&self) -> impl Iterator<Item = Followed<'_>> {
        self.attacks.values().map(Tracked::followed)
    }
}

impl Tracked {
    fn followed(&self) -> Followed<'_> {
        Followed {
            attack: &self.attack,
            severity: self.severity,
            ended: self.ended,
            is_manual: self.origin == Origin::Manual,
            held_by: self.held.as_deref(),
            response: self.plan().map(|plan: &Plan| plan.response.as_str()),
            proposals: &self.proposals,
        }
    }
}
