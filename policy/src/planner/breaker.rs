//! The mass-trigger breaker: many targets at once are more likely one mistake than many attacks.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_model::{Prefix, Timestamp};

/// More new targets than this within [`WINDOW`] trip the breaker.
pub const MAX_NEW_TARGETS: usize = 100;
/// The time in which new targets are counted.
pub const WINDOW: Duration = Duration::from_secs(10);
/// A tripped breaker adds nothing for this long: time for a person to look.
pub const COOL_DOWN: Duration = Duration::from_secs(60);

/// Counts new targets.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// When each target was last newly mitigated. At most [`MAX_NEW_TARGETS`].
    recent: BTreeMap<Prefix, Timestamp>,
    tripped_until: Option<Timestamp>,
}

impl Breaker {
    /// Whether a mitigation for a new target may be added.
    pub(super) fn permits(&self, now: Timestamp, target: Prefix) -> bool {
        if self.tripped_until.is_some_and(|until| now < until) {
            return false;
        }
        self.recent.contains_key(&target)
            || self.recent.values().filter(|at| now.since(**at) < WINDOW).count() < MAX_NEW_TARGETS
    }

    /// A mitigation for a new target was added.
    pub(super) fn record(&mut self, now: Timestamp, target: Prefix) {
        self.recent.retain(|_, at| now.since(*at) < WINDOW);
        self.recent.insert(target, now);
    }

    /// A mitigation for a new target was turned down; whether that trips the breaker now.
    pub(super) fn trip(&mut self, now: Timestamp) -> bool {
        let first = self.tripped_until.is_none();
        self.tripped_until.get_or_insert(now + COOL_DOWN);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(index: usize) -> Prefix {
        let index = u32::try_from(index).unwrap();
        Prefix::host(std::net::Ipv4Addr::from(index).into())
    }

    #[test]
    fn trips_on_too_many_targets_and_recovers() {
        let mut breaker = Breaker::default();
        let start = Timestamp::ZERO;
        for index in 0..MAX_NEW_TARGETS {
            assert!(breaker.permits(start, target(index)), "{index}");
            breaker.record(start, target(index));
        }
        assert!(breaker.permits(start, target(0)), "known already");
        assert!(!breaker.permits(start, target(MAX_NEW_TARGETS)));
        assert!(breaker.trip(start));
        assert!(!breaker.trip(start + WINDOW));
        assert!(!breaker.permits(start + WINDOW, target(0)));
        assert!(!breaker.recover(start + WINDOW));
        assert_eq!(breaker.tripped_until(), Some(start + COOL_DOWN));
        assert!(breaker.recover(start + COOL_DOWN));
        assert!(breaker.permits(start + COOL_DOWN, target(MAX_NEW_TARGETS)));
    }

    #[test]
    fn slow_growth_does_not_trip() {
        let mut breaker = Breaker::default();
        for index in 0..1000 {
            let now = Timestamp::ZERO + Duration::from_millis(101) * u32::try_from(index).unwrap();
            assert!(breaker.permits(now, target(index)), "{index}");
            breaker.record(now, target(index));
        }
        assert!(breaker.recent.len() <= MAX_NEW_TARGETS);
    }
}
