//! What changed in a record.

use std::sync::Arc;

use super::record::Incident;

/// A change of one record, with the record as it is after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The record.
    pub incident: Arc<Incident>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// An attack was recognised, and the policy has judged it.
    Opened,
    /// Its severity rose.
    Escalated,
    /// More is known: a peak, vectors, a census, a capture.
    Updated,
    /// The first backend has a mitigation.
    Mitigated,
    /// A mitigation is not enforced: what, and why.
    NotEnforced(String),
    /// Someone has taken note: who.
    Acknowledged(String),
    /// The attack is over.
    Ended,
    /// Nothing of what was done is left: the record changes no more.
    Closed,
}
