//! Change detection: is there more than is normal, and since when?
//!
//! For each metric and unit a one-sided CUSUM in the form of a leaky bucket: it fills with what
//! comes, leaks at the threshold and overflows at [`tolerance`](crate::Judging::tolerance) times
//! the threshold. Traffic below the threshold never fills it. At `r` times the threshold it
//! overflows after `tolerance / (r - 1)`: with half a second, 500 ms at twice, 125 ms at five times.
//! A second one beside it is for what is far over: it leaks at [`STEEP`] times the threshold,
//! overflows at [`STEEP_MARK`] of the other's mark, and takes no more than [`STEEP_GULP`] of its own
//! at once, so that no burst of a single tick fills it: 33 ms at ten times. The flood began when
//! the first bucket last left zero.
//! (Page, "Continuous inspection schemes", 1954; Siris and Papagalou, 2004, compare it with
//! adaptive thresholds for SYN floods.)

use std::time::Duration;

use tidegate_model::{
    BitsPerSecond, Limit, Metric, PacketsPerSecond, Rate, Thresholds, Timestamp, Trigger,
};

use crate::summary::{Count, MetricCounts};

/// Least overflow mark in packets: fewer are no flood, however low the threshold.
const MIN_PACKETS: f64 = 20.0;
/// Least overflow mark in bits: ten full Ethernet frames.
const MIN_BITS: f64 = 120_000.0;
/// A bucket holds no more than this many times its overflow mark, so that it empties soon.
const BRIM: f64 = 2.0;
/// Part of the overflow mark from which a metric counts as over its threshold.
const OVER: f64 = 0.2;

/// How long a connection request may wait for its handshake to be completed: a round trip.
const HANDSHAKE: f64 = 0.25;
/// How fast completed handshakes are forgotten, in seconds.
const HANDSHAKE_MEMORY: f64 = 1.0;
/// A target that was flooded a short while ago is believed to be flooded again this much sooner.
const EAGERNESS: f64 = 0.25;

/// How many times the threshold the steep bucket leaks.
const STEEP: f64 = 4.0;
/// Where it overflows, as a part of the other's mark.
const STEEP_MARK: f64 = 0.4;
/// But not for less than this many times what fills the other at least.
const STEEP_LEAST: f64 = 2.0;

/// The most of its mark that it takes in one tick.
const STEEP_GULP: f64 = 0.45;

/// Metrics as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MetricSet(u8);

impl MetricSet {
    pub(crate) fn insert(&mut self, metric: Metric) {
        self.0 |= 1 << metric as u8;
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn contains(self, metric: Metric) -> bool {
        self.0 & 1 << metric as u8 != 0
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One metric in one unit.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    level: f64,
    /// Of the steep bucket beside it.
    steep: f64,
    /// When it last left zero.
    since: Timestamp,
    /// Counts of its metric and of everything before that.
    before: Count,
    before_total: Count,
}

impl Bucket {
    fn pour(&mut self, amount: f64, leak: f64, (mark, least): (f64, f64)) {
        self.level = (self.level + amount - leak).clamp(0.0, mark * BRIM);
        let steep = steep_mark(mark, least);
        let gulp = (amount - leak * STEEP).min(steep * STEEP_GULP);
        self.steep = (self.steep + gulp).clamp(0.0, steep * BRIM);
    }

    /// How full the fuller of both is.
    fn fill(&self, mark: f64, least: f64) -> f64 {
        (self.level / mark).max(self.steep / steep_mark(mark, least))
    }
}

/// Overflow mark of the steep bucket beside one with `mark`.
fn steep_mark(mark: f64, least: f64) -> f64 {
    (mark * STEEP_MARK).max(least * STEEP_LEAST)
}

/// A crossed threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crossing {
    pub(crate) trigger: Trigger,
    pub(crate) onset: Timestamp,
    /// All that came since the onset.
    pub(crate) total: Count,
    /// Of the metric that was crossed.
    pub(crate) crossed: Count,
    /// How many times over the threshold.
    pub(crate) excess: f64,
}

/// Judges one target.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    packets: [Bucket; Metric::ALL.len()],
    bits: [Bucket; Metric::ALL.len()],
    seen: MetricCounts,
    now: Timestamp,
    /// Connection requests a second that turned out to be honest, of late.
    honest: f64,
    /// Metrics of which less is borne, because they were over a short while ago.
    eager: MetricSet,
}

impl Judge {
    pub(crate) fn new(start: Timestamp) -> Self {
        Self {
            honest: 0.0,
            eager: MetricSet::default(),
            packets: Default::default(),
            bits: Default::default(),
            seen: MetricCounts::default(),
            now: start,
        }
    }

    /// Bears less of `metrics` from now on.
    pub(crate) fn expect(&mut self, metrics: MetricSet) {
        self.eager = metrics;
    }

    /// Takes in what came between the last call and `end`. `excused` are connection requests,
    /// of now or of a little before, whose handshakes were completed.
    pub(crate) fn pour(
        &mut self,
        end: Timestamp,
        counts: &MetricCounts,
        excused: u64,
        thresholds: &Thresholds,
        tolerance: Duration,
    ) {
        let (start, seconds) = (self.now, end.since(self.now).as_secs_f64());
        let total = self.seen.get(Metric::Total);
        let excused = packets(Count { packets: excused, bytes: 0 });
        self.honest = self.honest * (-seconds / HANDSHAKE_MEMORY).exp() + excused;
        for (metric, limit) in thresholds.iter() {
            let (count, before) = (counts.get(metric), self.seen.get(metric));
            let excused =
                if matches!(metric, Metric::Total | Metric::TcpSyn) { excused } else { 0.0 };
            let marks = self.marks(metric, limit, tolerance);
            let amounts = [packets(count) - excused, bits(count)];
            let pairs = [
                (
                    limit.packets.map(packets_of),
                    amounts[0],
                    (marks[0], MIN_PACKETS),
                    &mut self.packets,
                ),
                (limit.bits.map(bits_of), amounts[1], (marks[1], MIN_BITS), &mut self.bits),
            ];
            for (limit, amount, mark, buckets) in pairs {
                let (Some(limit), Some(bucket)) = (limit, buckets.get_mut(metric as usize)) else {
                    continue;
                };
                if bucket.level <= 0.0 {
                    *bucket =
                        Bucket { since: start, before, before_total: total, ..Bucket::default() };
                }
                bucket.pour(amount, limit * seconds, mark);
            }
        }
        self.seen.add(counts);
        self.now = end;
    }

    /// Nothing is above zero: there is nothing to remember.
    pub(crate) fn is_calm(&self) -> bool {
        self.packets.iter().chain(&self.bits).all(|bucket| bucket.level <= 0.0)
    }

    /// Metrics that have lately been over their thresholds.
    pub(crate) fn over(&self, thresholds: &Thresholds, tolerance: Duration) -> MetricSet {
        let mut set = MetricSet::default();
        for (metric, limit) in thresholds.iter() {
            let fill = self.fill(metric, limit, tolerance);
            if fill.into_iter().any(|fill| fill >= OVER) {
                set.insert(metric);
            }
        }
        set
    }

    /// Overflow marks of `metric` in packets and in bits.
    fn marks(&self, metric: Metric, limit: Limit, tolerance: Duration) -> [f64; 2] {
        let eager = if self.eager.contains(metric) { EAGERNESS } else { 1.0 };
        let tolerance = tolerance.as_secs_f64() * eager;
        // Of the requests that wait for their handshakes as many are honest as were before.
        let waiting = match metric {
            Metric::Total | Metric::TcpSyn => self.honest / HANDSHAKE_MEMORY * HANDSHAKE,
            _ => 0.0,
        };
        let mark = |limit: Option<f64>, least: f64| (limit.unwrap_or(0.0) * tolerance).max(least);
        [
            mark(limit.packets.map(packets_of), MIN_PACKETS) + waiting,
            mark(limit.bits.map(bits_of), MIN_BITS),
        ]
    }

    /// How full the buckets of `metric` are: 1.0 is the overflow mark.
    fn fill(&self, metric: Metric, limit: Limit, tolerance: Duration) -> [f64; 2] {
        let [packets, bits] = self.marks(metric, limit, tolerance);
        let of = |buckets: &[Bucket], judged: bool, mark: f64, least: f64| {
            let bucket = buckets.get(metric as usize).filter(|_| judged);
            bucket.map_or(0.0, |bucket| bucket.fill(mark, least))
        };
        [
            of(&self.packets, limit.packets.is_some(), packets, MIN_PACKETS),
            of(&self.bits, limit.bits.is_some(), bits, MIN_BITS),
        ]
    }

    /// The threshold that is crossed, if one is. Of several the one that says most: a class before
    /// the total, then the one that is furthest over.
    pub(crate) fn crossing(
        &self,
        thresholds: &Thresholds,
        tolerance: Duration,
    ) -> Option<Crossing> {
        let mut best: Option<Crossing> = None;
        for (metric, limit) in thresholds.iter() {
            let [packets, bits] = self.fill(metric, limit, tolerance);
            if packets <= 1.0 && bits <= 1.0 {
                continue;
            }
            let buckets = if packets >= bits { &self.packets } else { &self.bits };
            let Some(bucket) = buckets.get(metric as usize) else { continue };
            let crossing = self.crossing_of(metric, limit, bucket);
            let better = best.is_none_or(|best| {
                best.trigger.metric == Metric::Total || crossing.excess > best.excess
            });
            if better {
                best = Some(crossing);
            }
        }
        best
    }

    fn crossing_of(&self, metric: Metric, limit: Limit, bucket: &Bucket) -> Crossing {
        let crossed = self.seen.get(metric).minus(bucket.before);
        let rate = rate(crossed, self.now.since(bucket.since));
        Crossing {
            trigger: Trigger { metric, rate, limit },
            onset: bucket.since,
            total: self.seen.get(Metric::Total).minus(bucket.before_total),
            crossed,
            excess: limit.excess(rate),
        }
    }
}

/// Whether traffic of this much in `span` could fill any bucket.
pub(crate) fn is_notable(counts: &MetricCounts, span: Duration, thresholds: &Thresholds) -> bool {
    let seconds = span.as_secs_f64();
    thresholds.iter().any(|(metric, limit)| {
        let count = counts.get(metric);
        limit.packets.is_some_and(|limit| packets(count) > packets_of(limit) * seconds)
            || limit.bits.is_some_and(|limit| bits(count) > bits_of(limit) * seconds)
    })
}

/// `count` spread over `span`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and saturate"
)]
pub(crate) fn rate(count: Count, span: Duration) -> Rate {
    let seconds = span.as_secs_f64();
    if seconds <= 0.0 {
        return Rate::default();
    }
    Rate {
        packets: PacketsPerSecond((packets(count) / seconds).round() as u64),
        bits: BitsPerSecond((bits(count) / seconds).round() as u64),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of packets stay far below 2^52")]
fn packets(count: Count) -> f64 {
    count.packets as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of bits stay far below 2^52")]
fn bits(count: Count) -> f64 {
    count.bytes as f64 * 8.0
}

#[expect(clippy::cast_precision_loss, reason = "a limit beyond 2^52 is none")]
fn packets_of(limit: PacketsPerSecond) -> f64 {
    limit.0 as f64
}

#[expect(clippy::cast_precision_loss, reason = "a limit beyond 2^52 is none")]
fn bits_of(limit: BitsPerSecond) -> f64 {
    limit.0 as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TICK;
    use crate::class::TrafficClass;
    use crate::packet::Fragment;

    const TOLERANCE: Duration = Duration::from_millis(500);

    fn thresholds(pps: u64) -> Thresholds {
        let mut thresholds = Thresholds::default();
        let limit = Limit { packets: Some(PacketsPerSecond(pps)), bits: None };
        thresholds.set(Metric::Udp, limit);
        thresholds
    }

    fn datagrams(number: u64) -> MetricCounts {
        let mut counts = MetricCounts::default();
        for _ in 0..number {
            counts.add_packet(TrafficClass::Udp, Fragment::Whole, 100);
        }
        counts
    }

    /// Judges `per_tick` packets a tick; the crossing and how many ticks it took.
    fn judge(limit: u64, per_tick: impl IntoIterator<Item = u64>) -> Option<(Crossing, u32)> {
        let thresholds = thresholds(limit);
        let mut judge = Judge::new(Timestamp::ZERO);
        let mut end = Timestamp::ZERO;
        for (tick, number) in (1..).zip(per_tick) {
            end = end + TICK;
            judge.pour(end, &datagrams(number), 0, &thresholds, TOLERANCE);
            if let Some(crossing) = judge.crossing(&thresholds, TOLERANCE) {
                return Some((crossing, tick));
            }
        }
        None
    }

    #[test]
    fn delay_shrinks_as_the_flood_grows() {
        for (times, ticks) in [(2, 51), (3, 26), (5, 13), (7, 7), (10, 4), (30, 2), (100, 1)] {
            let flood = std::iter::repeat_n(10 * times, 100);
            let (crossing, taken) = judge(1000, flood).unwrap();
            assert_eq!(taken, ticks, "{times} times the threshold");
            assert_eq!(crossing.onset, Timestamp::ZERO);
            assert_eq!(crossing.trigger.rate.packets.0, 1000 * times);
            assert!((crossing.excess - times as f64).abs() < 1e-6);
        }
    }

    #[test]
    fn onset_is_found_behind_quiet_traffic() {
        let ticks = std::iter::repeat_n(9, 200).chain(std::iter::repeat_n(100, 20));
        let (crossing, taken) = judge(1000, ticks).unwrap();
        assert_eq!(taken, 204);
        assert_eq!(crossing.onset, Timestamp::ZERO + TICK * 200);
        assert_eq!(crossing.trigger.rate.packets.0, 10_000);
        assert_eq!((crossing.crossed.packets, crossing.total.packets), (400, 400));
    }

    #[test]
    fn a_short_burst_barely_over_is_borne() {
        assert_eq!(judge(1000, std::iter::repeat_n(15, 99)), None);
        assert_eq!(judge(1000, std::iter::repeat_n(14, 110).chain([0; 90])), None);
    }

    #[test]
    fn a_handful_is_no_flood() {
        assert_eq!(judge(1, [20]), None);
        assert!(judge(1, [22]).is_some());
    }

    #[test]
    fn a_class_is_named_before_the_total() {
        let mut thresholds = thresholds(1000);
        thresholds.set(Metric::Total, Limit { packets: Some(PacketsPerSecond(10)), bits: None });
        let mut judge = Judge::new(Timestamp::ZERO);
        judge.pour(Timestamp::ZERO + TICK, &datagrams(600), 0, &thresholds, TOLERANCE);
        let crossing = judge.crossing(&thresholds, TOLERANCE).unwrap();
        assert_eq!(crossing.trigger.metric, Metric::Udp);
        assert!(judge.over(&thresholds, TOLERANCE).contains(Metric::Total));
        assert!(!judge.over(&thresholds, TOLERANCE).contains(Metric::Tcp));
    }

    #[test]
    fn bits_are_judged_as_well() {
        let mut thresholds = Thresholds::default();
        let limit = Limit { packets: None, bits: Some(BitsPerSecond(1_000_000)) };
        thresholds.set(Metric::Udp, limit);
        let mut judge = Judge::new(Timestamp::ZERO);
        for tick in 1..=6 {
            // 125 packets of 100 bytes in 10 ms: 10 Mbit/s.
            judge.pour(Timestamp::ZERO + TICK * tick, &datagrams(125), 0, &thresholds, TOLERANCE);
        }
        let crossing = judge.crossing(&thresholds, TOLERANCE).unwrap();
        assert_eq!(crossing.trigger.rate.bits.0, 10_000_000);
    }

    proptest! {
        #[test]
        fn never_crosses_below_the_threshold(
            limit in 100_u64..100_000,
            ticks in proptest::collection::vec(0.0_f64..1.0, 1..200),
        ) {
            let per_tick = ticks.iter().map(|part| (part * limit as f64 / 100.0) as u64);
            prop_assert_eq!(judge(limit, per_tick), None);
        }

        #[test]
        fn always_crosses_at_ten_times(limit in 100_u64..100_000) {
            let (_, ticks) = judge(limit, std::iter::repeat_n(limit / 10, 20)).unwrap();
            prop_assert!(ticks <= 10);
        }
    }
}
