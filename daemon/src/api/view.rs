//! How everything is at one moment, for those who look.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_model::{
    Attack, AttackId, BackendId, BackendState, MitigationKey, Route, Severity, Timestamp,
};
use tidegate_policy::{Policy, Proposal};
use tidegate_reconciler::{Entry, EntryState};

use super::link::PanicOrder;
use super::top::Second;
use crate::engine::Engine;

/// How everything is.
#[derive(Clone, Debug)]
pub struct View {
    /// When.
    pub time: Timestamp,
    /// In force.
    pub policy: Arc<Policy>,
    /// What is followed, by number.
    pub attacks: Vec<AttackView>,
    /// The ledger, by backend and NLRI.
    pub mitigations: Vec<MitigationView>,
    /// Every backend, and since when it is so; `None` if it was not heard of.
    pub backends: BTreeMap<BackendId, Option<(BackendState, Timestamp)>>,
    /// The panic that is in force.
    pub panic: Option<PanicOrder>,
    /// Packets that were captured since the start.
    pub packets: u64,
    /// Packets that were lost since the start.
    pub lost: u64,
    /// The sensor saw nothing in the last tick.
    pub blind: bool,
    /// The busiest targets, while somebody looks.
    pub top: Option<Arc<Second>>,
}

/// An attack, or a manual mitigation.
#[derive(Clone, Debug)]
pub struct AttackView {
    /// As last reported, with the rate that the detector sees now.
    pub attack: Attack,
    /// The worst so far.
    pub severity: Severity,
    /// Whether it is over, and what was done stays for a while.
    pub over: bool,
    /// Who holds everything as it is.
    pub held_by: Option<String>,
    /// The response that is carried out.
    pub response: Option<String>,
    /// What waits for approval.
    pub proposals: Vec<Proposal>,
}

/// An entry of the ledger.
#[derive(Clone, Debug)]
pub struct MitigationView {
    /// What and where.
    pub key: MitigationKey,
    /// How it stands.
    pub state: EntryState,
    /// Since when.
    pub since: Timestamp,
    /// Whether the backend may hold it because of us.
    pub may_be_held: bool,
    /// What it was wanted as; `None` for what an earlier run left behind.
    pub wanted: Option<Wanted>,
}

/// What is wanted of a mitigation.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// In full.
    pub route: Route,
    /// The attacks it answers.
    pub attacks: Vec<AttackId>,
    /// The response of the policy.
    pub response: String,
    /// Why, in one line.
    pub reason: String,
    /// Its lease.
    pub not_after: Timestamp,
}

/// What the engine is followed by.
pub(super) fn attacks(engine: &Engine) -> Vec<AttackView> {
    let current: BTreeMap<AttackId, &Attack> =
        engine.attacks().map(|attack| (attack.id, attack)).collect();
    let followed = engine.planner().followed();
    followed
        .map(|followed| AttackView {
            attack: (*current.get(&followed.attack.id).unwrap_or(&followed.attack)).clone(),
            severity: followed.severity,
            over: followed.ended.is_some(),
            held_by: followed.held_by.map(str::to_owned),
            response: followed.response.map(str::to_owned),
            proposals: followed.proposals.to_vec(),
        })
        .collect()
}

/// The ledger.
pub(super) fn mitigations(engine: &Engine) -> Vec<MitigationView> {
    let view = |(key, entry): (&MitigationKey, &Entry)| MitigationView {
        key: key.clone(),
        state: entry.state().clone(),
        since: entry.since(),
        may_be_held: entry.may_be_held(),
        wanted: entry.mitigation().map(|mitigation| Wanted {
            route: mitigation.route.clone(),
            attacks: mitigation.attacks.iter().copied().collect(),
            response: mitigation.response.clone(),
            reason: mitigation.reason.clone(),
            not_after: mitigation.lifetime.not_after,
        }),
    };
    engine.ledger().map(view).collect()
}
