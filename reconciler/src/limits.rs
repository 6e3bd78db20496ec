//! How fast routes may be announced.

use std::num::NonZeroU32;
use std::time::Duration;

use tidegate_model::Timestamp;

/// Rate of announcements to one backend. Withdraws are never limited.
///
/// Many targets attacked at once must not become a storm of routes that resets a router: what is
/// over the rate waits in the ledger, nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceLimit {
    /// Sustained announcements per second.
    pub per_second: NonZeroU32,
    /// Announcements that may go at once after a quiet time.
    pub burst: NonZeroU32,
}

impl Default for AnnounceLimit {
    fn default() -> Self {
        const PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
        const BURST: NonZeroU32 = NonZeroU32::new(100).unwrap();
        Self { per_second: PER_SECOND, burst: BURST }
    }
}

impl AnnounceLimit {
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.get()
    }
}

/// A token bucket kept as one time (generic cell rate algorithm): when it will be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at: Timestamp,
}

impl Bucket {
    /// When the next announcement may go; in the past if it may go now.
    pub(crate) fn ready_at(self, limit: AnnounceLimit) -> Timestamp {
        self.full_at - limit.interval().saturating_mul(limit.burst.get() - 1)
    }

    /// Counts one announcement at `now`.
    pub(crate) fn take(&mut self, limit: AnnounceLimit, now: Timestamp) {
        self.full_at = self.full_at.max(now) + limit.interval();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let limit = AnnounceLimit::default();
        let mut bucket = Bucket::default();
        let mut now = Timestamp::from_nanos(5_000_000_000);
        let mut sent = 0;
        while bucket.ready_at(limit) <= now {
            bucket.take(limit, now);
            sent += 1;
        }
        assert_eq!(sent, 100);
        assert_eq!(bucket.ready_at(limit), now + Duration::from_millis(20));
        now = now + Duration::from_secs(1);
        while bucket.ready_at(limit) <= now {
            bucket.take(limit, now);
            sent += 1;
        }
        assert_eq!(sent, 150);
    }

    #[test]
    fn the_first_announcement_never_waits() {
        let limit = AnnounceLimit { burst: NonZeroU32::MIN, ..AnnounceLimit::default() };
        assert_eq!(Bucket::default().ready_at(limit), Timestamp::ZERO);
    }
}
