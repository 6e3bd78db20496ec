//! The mass-trigger breaker: many targets at once, or much of the owned space, are more likely one
//! mistake than many attacks.

use std::collections::BTreeMap;

use tidegate_model::{AddressFamily, Prefix, Timestamp};

use crate::policy::BreakerLimits;

/// No policy may allow more new targets at once.
pub(crate) const MOST_NEW_TARGETS: u32 = 4096;

/// Counts new targets.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// When each target was last newly mitigated. At most [`MOST_NEW_TARGETS`].
    recent: BTreeMap<Prefix, Timestamp>,
    tripped_until: Option<Timestamp>,
}

impl Breaker {
    /// Whether a mitigation for a new target may be added; `owned` are the owned prefixes.
    pub(super) fn permits(
        &self,
        now: Timestamp,
        target: Prefix,
        limits: BreakerLimits,
        owned: &[Prefix],
    ) -> bool {
        if self.tripped_until.is_some_and(|until| now < until) {
            return false;
        }
        if self.recent.contains_key(&target) {
            return true;
        }
        let recent = || {
            let recent = self.recent.iter().filter(|(_, at)| now.since(**at) < limits.within);
            recent.map(|(target, _)| *target)
        };
        let targets = usize::try_from(limits.targets.min(MOST_NEW_TARGETS)).unwrap_or_default();
        let family = target.family();
        let space = addresses(owned.iter().copied(), family);
        let hit = addresses(recent().chain([target]), family);
        recent().count() < targets && hit <= space * limits.share
    }

    /// A mitigation for a new target was added.
    pub(super) fn record(&mut self, now: Timestamp, target: Prefix, limits: BreakerLimits) {
        self.recent.retain(|_, at| now.since(*at) < limits.within);
        self.recent.insert(target, now);
    }

    /// A mitigation for a new target was turned down; whether that trips the breaker now.
    pub(super) fn trip(&mut self, now: Timestamp, limits: BreakerLimits) -> bool {
        let first = self.tripped_until.is_none();
        self.tripped_until.get_or_insert(now + limits.cool_down);
        first
    }

    /// When it lets new targets pass again; `None` if it does now.
    pub(super) fn tripped_until(&self) -> Option<Timestamp> {
        self.tripped_until
    }

    /// Closes again after the cool-down; whether it did so now.
    pub(super) fn recover(&mut self, now: Timestamp) -> bool {
        let over = self.tripped_until.is_some_and(|until| until <= now);
        if over {
            self.tripped_until = None;
            self.recent.clear();
        }
        over
    }
}

/// How many addresses of `family` the prefixes have.
fn addresses(prefixes: impl Iterator<Item = Prefix>, family: AddressFamily) -> f64 {
    let of_family = prefixes.filter(|prefix| prefix.family() == family);
    of_family.map(|prefix| f64::from(family.bits() - prefix.length()).exp2()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MAX_NEW_TARGETS: usize = 100;

    fn target(index: usize) -> Prefix {
        let index = u32::try_from(index).unwrap();
        Prefix::host(std::net::Ipv4Addr::from(index).into())
    }

    fn everything() -> [Prefix; 1] {
        ["0.0.0.0/0".parse().unwrap()]
    }

    #[test]
    fn trips_on_too_many_targets_and_recovers() {
        let (limits, owned) = (BreakerLimits::default(), everything());
        let mut breaker = Breaker::default();
        let start = Timestamp::ZERO;
        for index in 0..MAX_NEW_TARGETS {
            assert!(breaker.permits(start, target(index), limits, &owned), "{index}");
            breaker.record(start, target(index), limits);
        }
        assert!(breaker.permits(start, target(0), limits, &owned), "known already");
        assert!(!breaker.permits(start, target(MAX_NEW_TARGETS), limits, &owned));
        assert!(breaker.trip(start, limits));
        let later = start + limits.within;
        assert!(!breaker.trip(later, limits));
        assert!(!breaker.permits(later, target(0), limits, &owned));
        assert!(!breaker.recover(later));
        let cool = start + limits.cool_down;
        assert_eq!(breaker.tripped_until(), Some(cool));
        assert!(breaker.recover(cool));
        assert!(breaker.permits(cool, target(MAX_NEW_TARGETS), limits, &owned));
    }

    #[test]
    fn trips_on_much_of_the_space() {
        let limits = BreakerLimits { share: 0.01, ..BreakerLimits::default() };
        let owned: [Prefix; 2] =
            ["203.0.113.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let mut breaker = Breaker::default();
        let now = Timestamp::ZERO;
        let host = |last: u8| Prefix::host(std::net::Ipv4Addr::new(203, 0, 113, last).into());
        for last in [1, 2] {
            assert!(breaker.permits(now, host(last), limits, &owned), "{last}");
            breaker.record(now, host(last), limits);
        }
        // A third of 256 is more than one in a hundred.
        assert!(!breaker.permits(now, host(3), limits, &owned));
        assert!(breaker.permits(now, "2001:db8:1::/64".parse().unwrap(), limits, &owned));
        assert!(!breaker.permits(now, "2001:db8::/38".parse().unwrap(), limits, &owned));
    }

    #[test]
    fn slow_growth_does_not_trip() {
        let (limits, owned) = (BreakerLimits::default(), everything());
        let mut breaker = Breaker::default();
        for index in 0..1000 {
            let now = Timestamp::ZERO + Duration::from_millis(101) * u32::try_from(index).unwrap();
            assert!(breaker.permits(now, target(index), limits, &owned), "{index}");
            breaker.record(now, target(index), limits);
        }
        assert!(breaker.recent.len() <= MAX_NEW_TARGETS);
    }
}
