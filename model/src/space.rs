//! Address space that tidegate may and may not touch.

use crate::prefix::Prefix;

/// The address space as the policy states it.
///
/// This is data only. Planner, reconciler and egress gate each judge by it with code of their own,
/// so that one mistake cannot pass all three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedSpace {
    /// Prefixes whose traffic tidegate may divert.
    pub owned: Vec<Prefix>,
    /// Prefixes that no mitigation may cover or intersect.
    pub never_touch: Vec<Prefix>,
}
