//! What happened, as the timeline shows it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_model::{
    AttackEvent, AttackId, BackendId, BackendState, CommandId, MitigationKey, Outcome, Route,
    Timestamp,
};
use tidegate_policy::{Decision, Revision};

/// One entry of the timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, on the driver's clock.
    pub time: Timestamp,
    /// State of the policy repository that was in force, if the policy is from one.
    pub policy: Option<Arc<Revision>>,
    /// What.
    pub kind: EventKind,
}

/// Kinds of events.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The detector's word.
    Attack(AttackEvent),
    /// The planner's decision, with its reason.
    Decision(Decision),
    /// A backend was told to install a route.
    Announce {
        /// For the outcome to refer to.
        command: CommandId,
        /// What and where.
        key: MitigationKey,
        /// The route in full.
        route: Route,
        /// The attacks it answers.
        attacks: BTreeSet<AttackId>,
    },
    /// A backend was told to remove a route.
    Withdraw {
        /// For the outcome to refer to.
        command: CommandId,
        /// What and where.
        key: MitigationKey,
        /// Why.
        why: String,
    },
    /// A backend's answer.
    Outcome {
        /// What it had been told.
        verb: Verb,
        /// What it said.
        outcome: Outcome,
    },
    /// A backend came up or went down.
    Backend(BackendId, BackendState),
    /// The ledger's word.
    Ledger(tidegate_reconciler::Event),
}

/// What a backend was told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Install a route.
    Announce,
    /// Remove a route.
    Withdraw,
}
