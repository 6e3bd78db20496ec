//! When to connect again (RFC 4271 §8.2.1, §10).

use std::time::Duration;

/// Waits between attempts to connect: short at first, so that a session is back soon after a
/// router restarted, then [`ConnectRetry::LONGEST`].
#[derive(Debug)]
pub(crate) struct ConnectRetry {
    failures: u32,
    random: u64,
}

impl ConnectRetry {
    /// The wait that is never exceeded.
    pub(crate) const LONGEST: Duration = Duration::from_secs(10);
    const SHORTEST: Duration = Duration::from_secs(1);

    /// `seed` should differ between the sessions of a process, so that they do not all connect in
    /// the same moment.
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed }
    }

    /// The session came up and stayed: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait before the next attempt: doubles, and is shortened by up to a quarter at random
    /// (RFC 4271 §10).
    pub(crate) fn next_wait(&mut self) -> Duration {
        let doubled = Self::SHORTEST.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        let fraction = (self.next_random() >> 48) as u32;
        let wait = doubled.min(Self::LONGEST);
        wait - wait / 4 * fraction / 65_536
    }

    /// splitmix64: any seed will do, zero included.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        for seed in 0..1000 {
            let mut retry = ConnectRetry::new(seed);
            for full in [1, 2, 4, 8, 10, 10, 10] {
                let full = Duration::from_secs(full);
                let wait = retry.next_wait();
                assert!(wait <= full && wait >= full * 3 / 4, "{wait:?} of {full:?}, seed {seed}");
            }
            retry.reset();
            assert!(retry.next_wait() <= Duration::from_secs(1));
        }
    }

    #[test]
    fn seeds_tell_sessions_apart() {
        assert_ne!(ConnectRetry::new(1).next_wait(), ConnectRetry::new(2).next_wait());
        assert_eq!(ConnectRetry::new(1).next_wait(), ConnectRetry::new(1).next_wait());
    }
}
