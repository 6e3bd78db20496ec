//! Delays between attempts.

use std::time::Duration;

/// Bounds of the delay before something that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryDelays {
    /// After the first failure.
    pub minimum: Duration,
    /// However many failures there were.
    pub maximum: Duration,
}

impl Default for RetryDelays {
    fn default() -> Self {
        Self { minimum: Duration::from_millis(200), maximum: Duration::from_secs(30) }
    }
}

/// Seeded source of jitter, so that a run can be repeated exactly (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The delay before attempt number `attempts + 1`: doubled with every failure, then somewhere
    /// between half and all of it, so that many failures of one cause do not return together.
    pub(crate) fn delay(&mut self, delays: RetryDelays, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let full = delays.minimum.saturating_mul(1 << doublings).min(delays.maximum);
        let nanoseconds = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        let half = nanoseconds / 2;
        Duration::from_nanos(half + self.next() % (nanoseconds - half + 1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_maximum_and_repeat_with_the_seed() {
        let delays = RetryDelays::default();
        let series = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..40).map(|attempts| jitter.delay(delays, attempts)).collect::<Vec<_>>()
        };
        assert_eq!(series(7), series(7));
        assert_ne!(series(7), series(8));
        let delays_seen = series(7);
        assert!(delays_seen[1] >= delays.minimum / 2 && delays_seen[1] <= delays.minimum);
        assert!(delays_seen[20..].iter().all(|delay| *delay >= delays.maximum / 2));
        assert!(delays_seen.iter().all(|delay| *delay <= delays.maximum));
    }

    #[test]
    fn extreme_bounds_do_not_overflow() {
        let delays = RetryDelays { minimum: Duration::ZERO, maximum: Duration::MAX };
        assert_eq!(Jitter::new(1).delay(delays, u32::MAX), Duration::ZERO);
        let delays = RetryDelays { minimum: Duration::MAX, maximum: Duration::MAX };
        assert!(Jitter::new(1).delay(delays, u32::MAX) > Duration::from_secs(1));
    }
}
