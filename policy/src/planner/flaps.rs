//! How often mitigations came and went.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_model::{BackendId, MitigationKey, Nlri, Prefix, Timestamp};

use crate::policy::FlapBudget;

/// Most targets whose withdrawals are remembered. Beyond, the one quiet for longest is forgotten.
pub const MAX_FLAPS_REMEMBERED: usize = 4096;
/// Most withdrawals remembered of one target, and so the largest budget.
pub(crate) const MAX_CYCLES: u32 = 1000;

/// What routers damp: the prefix, whatever the rule says of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flapper {
    backend: BackendId,
    destination: Option<Prefix>,
    flowspec: bool,
}

impl Flapper {
    fn of(key: &MitigationKey) -> Self {
        Self {
            backend: key.backend.clone(),
            destination: key.nlri.destination(),
            flowspec: matches!(key.nlri, Nlri::FlowSpec(_)),
        }
    }
}

/// The latest withdrawals of each target at each backend.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    remembered: BTreeMap<Flapper, VecDeque<Timestamp>>,
    /// How many keys of each are wanted.
    wanted: BTreeMap<Flapper, usize>,
    /// Those whose last key went since [`settle`](Self::settle).
    left: BTreeSet<Flapper>,
}

impl Flaps {
    /// A key is wanted that was not.
    pub(super) fn add(&mut self, key: &MitigationKey) {
        let flapper = Flapper::of(key);
        self.left.remove(&flapper);
        *self.wanted.entry(flapper).or_default() += 1;
    }

    /// A key is not wanted any more.
    pub(super) fn remove(&mut self, key: &MitigationKey) {
        let flapper = Flapper::of(key);
        let Some(count) = self.wanted.get_mut(&flapper) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.wanted.remove(&flapper);
            self.left.insert(flapper);
        }
    }

    /// Notes a withdrawal of what is gone at the end of a call. What was put back, or has another
    /// rule in its place, did not go.
    pub(super) fn settle(&mut self, now: Timestamp, budget: FlapBudget) {
        for flapper in std::mem::take(&mut self.left) {
            self.record(now, flapper, budget);
        }
    }

    fn record(&mut self, now: Timestamp, flapper: Flapper, budget: FlapBudget) {
        if !self.remembered.contains_key(&flapper) && self.remembered.len() >= MAX_FLAPS_REMEMBERED
        {
            let oldest = self.remembered.iter().min_by_key(|(_, times)| times.back());
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.remembered.remove(&key);
            }
        }
        let times = self.remembered.entry(flapper).or_default();
        if times.back() != Some(&now) {
            times.push_back(now);
        }
        let most = budget.cycles.clamp(1, MAX_CYCLES);
        while times.len() > usize::try_from(most).unwrap_or(usize::MAX) {
            times.pop_front();
        }
    }

    /// When `key` may be withdrawn without going over the budget; `None` if it may be now.
    pub(super) fn free_at(
        &self,
        now: Timestamp,
        key: &MitigationKey,
        budget: FlapBudget,
    ) -> Option<Timestamp> {
        let times = self.remembered.get(&Flapper::of(key))?;
        let recent = times.iter().filter(|at| now.since(**at) < budget.within);
        let spent = recent.count() >= usize::try_from(budget.cycles).unwrap_or(usize::MAX);
        let oldest = times.iter().find(|at| now.since(**at) < budget.within)?;
        spent.then(|| *oldest + budget.within)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_spent_budget_is_free_again_when_the_oldest_is_forgotten() {
        let budget = FlapBudget::default();
        let at = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
        let key = |host: &str| MitigationKey {
            backend: BackendId::Kernel,
            nlri: Nlri::Unicast(host.parse().unwrap()),
        };
        let mut flaps = Flaps::default();
        flaps.record(at(10), Flapper::of(&key("203.0.113.7")), budget);
        flaps.record(at(10), Flapper::of(&key("203.0.113.7")), budget);
        assert_eq!(flaps.free_at(at(20), &key("203.0.113.7"), budget), None);
        flaps.record(at(20), Flapper::of(&key("203.0.113.7")), budget);
        assert_eq!(flaps.free_at(at(30), &key("203.0.113.7"), budget), Some(at(3610)));
        assert_eq!(flaps.free_at(at(30), &key("203.0.113.8"), budget), None);
        assert_eq!(flaps.free_at(at(3610), &key("203.0.113.7"), budget), None);
        flaps.record(at(3610), Flapper::of(&key("203.0.113.7")), budget);
        assert_eq!(flaps.free_at(at(3611), &key("203.0.113.7"), budget), Some(at(3620)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut flaps = Flaps::default();
        for index in 0..u32::try_from(MAX_FLAPS_REMEMBERED).unwrap() + 10 {
            let host = Prefix::host(std::net::Ipv4Addr::from(index).into());
            let key = MitigationKey { backend: BackendId::Kernel, nlri: Nlri::Unicast(host) };
            let now = Timestamp::ZERO + Duration::from_secs(u64::from(index));
            flaps.record(now, Flapper::of(&key), FlapBudget::default());
        }
        assert_eq!(flaps.remembered.len(), MAX_FLAPS_REMEMBERED);
    }
}
