//! Wall time in records.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Clock;

/// A point in wall time, in whole microseconds. Written as RFC 3339 in UTC with six decimals, so
/// that the text sorts as the time does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(Timestamp);

/// Text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time; write it as `2026-08-22T12:00:00Z`")]
pub struct ParseTimeError(String);

impl WallTime {
    /// The time `nanoseconds` after the Unix epoch. A time beyond year 9999 becomes the epoch.
    #[must_use]
    pub fn from_nanos(nanoseconds: u64) -> Self {
        let nanoseconds = i64::try_from(nanoseconds).unwrap_or_default();
        let time = Timestamp::from_duration(SignedDuration::from_nanos(nanoseconds));
        Self::cut(time.unwrap_or_default())
    }

    /// Wall time of `clock` now.
    #[must_use]
    pub fn at(clock: &Clock) -> Self {
        Self::from_nanos(clock.wall().nanos_at(clock.now()))
    }

    fn cut(time: Timestamp) -> Self {
        let rounding =
            jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
        Self(time.round(rounding).unwrap_or(time))
    }

    /// Nanoseconds since the Unix epoch; zero for what came before it.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanosecond()).unwrap_or_default()
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn as_seconds(self) -> i64 {
        self.0.as_second()
    }

    /// `span` earlier; the earliest time there is if that is before it.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.checked_sub(span).unwrap_or(Timestamp::MIN))
    }

    /// `span` later; the latest time there is if that is past it.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.checked_add(span).unwrap_or(Timestamp::MAX))
    }

    /// Time from `earlier` to `self`; zero if `earlier` is in fact later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0).try_into().unwrap_or_default()
    }

    /// RFC 3339 with milliseconds, UTC.
    #[must_use]
    pub fn milliseconds(self) -> String {
        format!("{:.3}", self.0)
    }

    /// `2026-08-22 12:00:00 UTC`, for people.
    #[must_use]
    pub fn for_people(self) -> String {
        self.0.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    }

    /// `20260822T120000.123Z`: short, and fit for a file name.
    #[must_use]
    pub fn compact(self) -> String {
        self.0.strftime("%Y%m%dT%H%M%S%.3fZ").to_string()
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.6}", self.0)
    }
}

impl FromStr for WallTime {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        text.parse().map(Self::cut).map_err(|_| ParseTimeError(text.to_owned()))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_to_the_microsecond() {
        let time = WallTime::from_nanos(1_787_400_000_123_456_789);
        let text = time.to_string();
        assert_eq!(text, "2026-08-22T12:00:00.123456Z");
        assert_eq!(text.parse(), Ok(time));
        assert_eq!(time.as_nanos(), 1_787_400_000_123_456_000);
        assert_eq!(time.milliseconds(), "2026-08-22T12:00:00.123Z");
        assert_eq!(time.compact(), "20260822T120000.123Z");
        assert_eq!(time.for_people(), "2026-08-22 12:00:00 UTC");
    }

    #[test]
    fn arithmetic_saturates() {
        let time = WallTime::from_nanos(u64::MAX);
        assert_eq!(time, WallTime::default());
        assert_eq!(time.before(Duration::MAX).as_nanos(), 0);
        assert!(time.after(Duration::MAX) > time);
        assert_eq!(time.since(time.after(Duration::from_secs(5))), Duration::ZERO);
        assert!("yesterday".parse::<WallTime>().is_err());
    }
}
