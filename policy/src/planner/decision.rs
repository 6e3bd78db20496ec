//! What the planner decided, and what stood in the way.

use std::time::Duration;

use tidegate_model::{AttackId, BackendId, MitigationKey, Prefix, Severity};

use crate::guard;
use crate::policy::{Family, ServicePort};
use crate::profile::NotAccepted;
use crate::rule::NoRule;

/// One decision about one attack.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The attack.
    pub attack: AttackId,
    /// Whom it hits.
    pub target: Prefix,
    /// How bad it is.
    pub severity: Severity,
    /// The response that decided; `None` if none matches or none could be carried out.
    pub response: Option<String>,
    /// What is done.
    pub kind: DecisionKind,
    /// Why, for people: one line.
    pub reason: String,
}

/// What is done about an attack.
#[derive(Clone, Debug, PartialEq)]
pub enum DecisionKind {
    /// These are wanted now.
    Mitigate(Vec<MitigationKey>),
    /// Nothing but telling people.
    Observe,
    /// Responses match, but none could be carried out. Never empty.
    Refused(Vec<Refusal>),
    /// These would be wanted if a person approved.
    Propose(Vec<MitigationKey>),
    /// These are wanted, but their backends do not have them in force, each for a reason.
    NotEnforced(Vec<(MitigationKey, String)>),
    /// What was wanted had no effect and is not wanted any more.
    NoEffect,
    /// What was wanted for the attack is not wanted any more.
    Release,
}

impl DecisionKind {
    /// A stable word for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mitigate(_) => "mitigate",
            Self::Observe => "observe",
            Self::Refused(_) => "refused",
            Self::Propose(_) => "propose",
            Self::NotEnforced(_) => "not-enforced",
            Self::NoEffect => "no-effect",
            Self::Release => "release",
        }
    }
}

/// What waits for a person's approval.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The attack.
    pub attack: AttackId,
    /// Name of the response.
    pub response: String,
    /// Which step of it, the first being 0.
    pub step: usize,
    /// What would be wanted.
    pub keys: Vec<MitigationKey>,
    /// Why, for people: one line.
    pub reason: String,
}

/// Why a response is not carried out, or not everywhere.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}{cause}", .response.as_ref().map(|name| format!("not `{name}`: ")).unwrap_or_default())]
pub struct Refusal {
    /// The response; `None` if none was tried.
    pub response: Option<String>,
    /// What stands in the way.
    pub cause: Cause,
}

/// What stands in the way of a response.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Cause {
    /// A route of it may not exist.
    #[error(transparent)]
    Guard(#[from] guard::Refusal),
    /// No rule can be made from what the attack's packets have in common.
    #[error(transparent)]
    Rule(#[from] NoRule),
    /// None of its peers has the address family.
    #[error("none of its peers has the family {family}; add it to `families` of a peer")]
    NoPeer {
        /// The family that is needed.
        family: Family,
    },
    /// One of its peers cannot be given it.
    #[error("{backend} {why} (profile `{profile}`)")]
    Profile {
        /// The peer.
        backend: BackendId,
        /// What describes the peer.
        profile: String,
        /// What the peer cannot take.
        why: NotAccepted,
    },
    /// One backend has as many FlowSpec rules as it takes.
    #[error("{backend} is at its limit of {limit} FlowSpec rules")]
    RulesFull {
        /// The backend.
        backend: BackendId,
        /// The most that are announced there.
        limit: usize,
    },
    /// One backend is at its limit.
    #[error("{backend} is at its limit of {limit} routes")]
    BackendFull {
        /// The backend.
        backend: BackendId,
        /// The most that are announced there.
        limit: usize,
    },
    /// All backends together are at their limit.
    #[error("the limit of {limit} mitigations is reached")]
    Full {
        /// The most that are wanted at once.
        limit: usize,
    },
    /// The targets of one group have as many as they may have.
    #[error("group {group} is at its limit of {limit} mitigations")]
    GroupFull {
        /// The group.
        group: String,
        /// The most for its targets.
        limit: usize,
    },
    /// The policy only observes.
    #[error("observed only, as the policy says; would {would}")]
    ObserveMode {
        /// What would be done otherwise.
        would: String,
    },
    /// A person has to approve.
    #[error("waits for approval; would {would}")]
    NeedsApproval {
        /// What would be done.
        would: String,
    },
    /// It was tried and not enforced, or had no effect.
    #[error("tried in vain before")]
    Failed,
    /// It would cut off every client of a service.
    #[error("it would cut off every client of {service}, which is among the `allowed-ports`")]
    AllowedPort {
        /// The service.
        service: ServicePort,
    },
    /// Too many targets at once: more likely our mistake than as many attacks.
    #[error(
        "{targets} targets were newly mitigated within {} s: what is installed stays, nothing is \
         added for now", .window.as_secs()
    )]
    MassTrigger {
        /// How many new targets were mitigated.
        targets: usize,
        /// Within which time.
        window: Duration,
    },
    /// The table of attacks is full.
    #[error("{limit} attacks are under way already: this one is not looked at")]
    TooManyAttacks {
        /// The size of the table.
        limit: usize,
    },
}

impl Cause {
    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Guard(_) => "guard",
            Self::Rule(_) => "no-rule",
            Self::NoPeer { .. } => "no-peer",
            Self::Profile { .. } => "profile",
            Self::RulesFull { .. } => "rules-full",
            Self::BackendFull { .. } => "backend-full",
            Self::Full { .. } => "full",
            Self::GroupFull { .. } => "group-full",
            Self::ObserveMode { .. } => "observe-mode",
            Self::NeedsApproval { .. } => "needs-approval",
            Self::Failed => "failed",
            Self::AllowedPort { .. } => "allowed-port",
            Self::MassTrigger { .. } => "mass-trigger",
            Self::TooManyAttacks { .. } => "too-many-attacks",
        }
    }

    /// Whether it may go away without anything new about the attack.
    pub(super) const fn passes(&self) -> bool {
        matches!(
            self,
            Self::BackendFull { .. }
                | Self::RulesFull { .. }
                | Self::Full { .. }
                | Self::GroupFull { .. }
                | Self::MassTrigger { .. }
        )
    }
}
