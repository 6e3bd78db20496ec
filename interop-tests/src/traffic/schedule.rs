//! When the packets of a stream are sent.

use std::time::Duration;

use super::random::Random;
use super::stream::{Pulse, Stream};

const SECOND: u128 = 1_000_000_000;

/// The time of one packet after the other, evenly spread with a jitter of up to one gap.
///
/// The `n`-th packet lies in the `n`-th slot of `1 / rate` seconds, so that a stream of `rate` for
/// `length` has exactly their product in packets, and rates that divide no second do not drift.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start: u64,
    end: u64,
    rate: u64,
    pulse: Option<(u64, u64)>,
    count: u64,
    next: Option<u64>,
}

/// A span in nanoseconds, the longest if it does not fit.
pub(crate) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Schedule {
    pub(crate) fn new(stream: &Stream, random: &mut Random) -> Self {
        let start = nanoseconds(stream.start);
        let pulse = stream
            .pulse
            .map(|Pulse { period, on }| (nanoseconds(period).max(1), nanoseconds(on).max(1)));
        let end = start.saturating_add(nanoseconds(stream.length));
        let mut schedule = Self { start, end, rate: stream.rate.0, pulse, count: 0, next: None };
        schedule.advance(random);
        schedule
    }

    /// When the next packet is due, in nanoseconds from the scenario's start.
    pub(crate) fn next(&self) -> Option<u64> {
        self.next
    }

    /// Counts the packet that was due and finds the time of the one after it.
    pub(crate) fn advance(&mut self, random: &mut Random) {
        if self.rate == 0 {
            return;
        }
        let slot = |index: u64| u128::from(index) * SECOND / u128::from(self.rate);
        let (begin, limit) = (slot(self.count), slot(self.count + 1));
        self.count += 1;
        let gap = u64::try_from(limit - begin).unwrap_or(u64::MAX);
        let active = u64::try_from(begin).unwrap_or(u64::MAX).saturating_add(random.below(gap));
        let offset = match self.pulse {
            Some((period, on)) => (active / on).saturating_mul(period).saturating_add(active % on),
            None => active,
        };
        self.next = Some(self.start.saturating_add(offset)).filter(|time| *time < self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::stream::Kind;

    fn times(stream: &Stream) -> Vec<u64> {
        let mut random = Random::new(3);
        let mut schedule = Schedule::new(stream, &mut random);
        let mut times = Vec::new();
        while let Some(time) = schedule.next() {
            times.push(time);
            schedule.advance(&mut random);
        }
        times
    }

    #[test]
    fn rate_times_length_packets_in_order() {
        for rate in [1, 7, 333, 50_000] {
            let stream = Stream::new(Kind::Benign, "192.0.2.1".parse().unwrap())
                .rate(rate)
                .during(Duration::from_secs(3), Duration::from_secs(2));
            let times = times(&stream);
            assert_eq!(times.len() as u64, rate * 2);
            assert!(times.is_sorted());
            assert!(times.iter().all(|time| (3_000_000_000..5_000_000_000).contains(time)));
        }
        assert!(times(&Stream::new(Kind::Benign, "192.0.2.1".parse().unwrap()).rate(0)).is_empty());
    }

    #[test]
    fn bursts_are_bursts() {
        let mut stream = Stream::new(Kind::Benign, "192.0.2.1".parse().unwrap()).rate(1000);
        stream.pulse =
            Some(Pulse { period: Duration::from_secs(2), on: Duration::from_millis(500) });
        let times = times(&stream);
        assert_eq!(times.len(), 2500);
        assert!(times.iter().all(|time| time % 2_000_000_000 < 500_000_000));
    }
}
