//! The only clocks that are read: time since boot for the engine, wall time for records.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use rustix::time::{ClockId, clock_gettime};
use tidegate_model::Timestamp;

/// A clock whose origin is its own creation, tied to the wall clock at that moment.
///
/// It never runs backwards, and goes on while the machine is suspended (`CLOCK_BOOTTIME`): leases run
/// out in that time as well. A later step of the wall clock moves nothing: times shown stay consistent
/// with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Time since boot.
    started: Duration,
    wall: WallOrigin,
}

impl Clock {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Self { started: since_boot(), wall: WallOrigin(nanoseconds) }
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::ZERO + since_boot().saturating_sub(self.started)
    }

    /// Seconds since the Unix epoch as the wall clock has it now, for the hours of the day.
    #[must_use]
    pub fn unix_seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// How this clock's timestamps relate to wall time.
    #[must_use]
    pub const fn wall(&self) -> WallOrigin {
        self.wall
    }
}

/// Time since boot, also what of it the machine was suspended.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Wall time, in nanoseconds since the Unix epoch, at the origin of a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct WallOrigin(u64);

impl WallOrigin {
    /// For timestamps that already count from the Unix epoch, as a capture file's do.
    pub const EPOCH: Self = Self(0);

    /// Nanoseconds since the Unix epoch at `time`.
    #[must_use]
    pub const fn nanos_at(self, time: Timestamp) -> u64 {
        self.0.saturating_add(time.as_nanos())
    }

    /// `time` in UTC. A time beyond year 9999 is shown as the epoch.
    #[must_use]
    pub fn at(self, time: Timestamp) -> jiff::Timestamp {
        let nanoseconds = i64::try_from(self.nanos_at(time)).unwrap_or_default();
        jiff::Timestamp::from_duration(SignedDuration::from_nanos(nanoseconds)).unwrap_or_default()
    }

    /// `time` as RFC 3339 with milliseconds, UTC.
    #[must_use]
    pub fn rfc3339(self, time: Timestamp) -> String {
        format!("{:.3}", self.at(time))
    }

    /// `time` as hours, minutes, seconds and milliseconds, UTC.
    #[must_use]
    pub fn time_of_day(self, time: Timestamp) -> String {
        self.at(time).strftime("%H:%M:%S%.3f").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_on() {
        let clock = Clock::start();
        let (one, next) = (clock.now(), clock.now());
        assert!(one <= next && next < Timestamp::ZERO + Duration::from_secs(3600));
        assert!(clock.wall().nanos_at(one) > 1_600_000_000_000_000_000);
    }

    #[test]
    fn formats_utc() {
        let time = Timestamp::from_nanos(1_623_699_901_003_299_000);
        assert_eq!(WallOrigin::EPOCH.rfc3339(time), "2021-06-14T19:45:01.003Z");
        assert_eq!(WallOrigin::EPOCH.time_of_day(time), "19:45:01.003");
    }
}
