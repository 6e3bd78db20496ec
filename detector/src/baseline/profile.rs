//! What one host, or one group, is used to.

use tidegate_model::Metric;

use crate::summary::MetricCounts;

/// Rates are kept as logarithms in sixths of an octave: an error of six per cent, and one octet for
/// up to four terabits a second.
const STEPS: f64 = 6.0;
/// Parts of a step that a level is kept in while it moves.
const PARTS: u16 = 256;
/// How far a quantile moves when a rate is above it, and when it is below: it comes to rest where
/// one rate in a hundred is above.
const UP: u16 = 198;
const DOWN: u16 = 2;
/// Samples that make an hour worth learning from.
const ENOUGH: u16 = 10;
/// Hours in which what is learned may grow freely: nothing is judged by it yet.
const FREE: u16 = 24;
/// How far it may grow in an hour after that: a quarter in a day.
const GROWTH: u16 = 20;
/// How far it falls in an hour: by a quarter in a week.
const DECAY: u16 = 3;
/// The same for one hour of the week, which comes once a week, in whole steps.
const WEEKLY_GROWTH: u8 = 13;
/// Hours of traffic before a baseline is used at all, and until it is used in full.
const EARLIEST: u16 = 24;
const FULL: u16 = 72;

const HOURS: usize = 168;
const SERIES: usize = Metric::ALL.len() * 2;

/// What a rate is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Packets,
    Bits,
}

/// Whose profile it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keeps its packets in total by the hour of the week.
    Host,
    /// Keeps everything by the hour of the week.
    Group,
}

impl Kind {
    /// Series that are kept by the hour.
    pub(super) const fn hourly(self) -> usize {
        match self {
            Self::Host => 1,
            Self::Group => SERIES,
        }
    }
}

/// Fewer than 300 octets for a host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Profile {
    /// Quantiles of the rates of late, as levels.
    pub(super) quantiles: [u16; SERIES],
    /// What has been learned over all hours.
    pub(super) levels: [u16; SERIES],
    /// What has been learned for each hour of the week, in whole steps; zero was never seen.
    pub(super) hourly: Box<[[u8; HOURS]]>,
    /// Hours that were learned from.
    pub(super) learned: u16,
    samples: u16,
    /// Hours since the Unix epoch, of the latest sample.
    pub(super) hour: u64,
    /// Hours without a sample, the present one included.
    pub(super) silent: u16,
}

const fn index(metric: Metric, unit: Unit) -> usize {
    metric as usize * 2 + unit as usize
}

/// The level of `rate`: it fits for every rate up to 2^42 and saturates there.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a logarithm, positive and capped"
)]
fn level(rate: u64) -> u16 {
    ((rate as f64 + 1.0).log2() * STEPS * f64::from(PARTS)).min(f64::from(u16::MAX)) as u16
}

/// The rate at `level`.
fn rate(level: u16) -> f64 {
    (f64::from(level) / f64::from(PARTS) / STEPS).exp2() - 1.0
}

/// In whole steps, rounded up, never zero.
fn steps(level: u16) -> u8 {
    u8::try_from(level.div_ceil(PARTS)).unwrap_or(u8::MAX).max(1)
}

/// Hour of the week, Monday 00:00 UTC is 0. The epoch was a Thursday.
pub(super) fn of_week(hour: u64) -> usize {
    usize::try_from((hour + 72) % 168).unwrap_or(0)
}

impl Profile {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            quantiles: [0; SERIES],
            levels: [0; SERIES],
            hourly: vec![[0; HOURS]; kind.hourly()].into(),
            learned: 0,
            samples: 0,
            hour: 0,
            silent: 0,
        }
    }

    /// How far it may be relied on.
    pub(super) fn maturity(&self) -> f64 {
        let over = self.learned.saturating_sub(EARLIEST);
        (f64::from(over) / f64::from(FULL - EARLIEST)).min(1.0)
    }

    /// Takes in the rates of one second in this hour since the Unix epoch.
    pub(super) fn sample(&mut self, hour: u64, rates: &MetricCounts) {
        if hour != self.hour {
            self.finish_hour();
            self.hour = hour;
        }
        let first = self.learned == 0 && self.samples == 0;
        for metric in Metric::ALL {
            let count = rates.get(metric);
            for (unit, rate) in
                [(Unit::Packets, count.packets), (Unit::Bits, count.bytes.saturating_mul(8))]
            {
                let (level, Some(quantile)) =
                    (level(rate), self.quantiles.get_mut(index(metric, unit)))
                else {
                    continue;
                };
                if first {
                    *quantile = level;
                } else if level > *quantile {
                    *quantile += UP.min(level - *quantile);
                } else {
                    *quantile -= DOWN.min(*quantile - level);
                }
            }
        }
        self.samples = self.samples.saturating_add(1);
        self.silent = 0;
    }

    /// Moves what has been learned toward what the hour was like.
    fn finish_hour(&mut self) {
        let samples = std::mem::take(&mut self.samples);
        if samples < ENOUGH {
            return;
        }
        let growth = if self.learned < FREE { u16::MAX } else { GROWTH };
        self.learned = self.learned.saturating_add(1);
        let now = of_week(self.hour);
        for (series, &quantile) in self.quantiles.iter().enumerate() {
            let Some(learned) = self.levels.get_mut(series) else { continue };
            if quantile > *learned {
                *learned += growth.min(quantile - *learned);
            } else {
                *learned -= DECAY.min(*learned - quantile);
            }
            // No hour may be busier than what has been learned over all.
            let seen = steps(quantile.min(*learned));
            let Some(slot) = self.hourly.get_mut(series).and_then(|hours| hours.get_mut(now))
            else {
                continue;
            };
            *slot = match *slot {
                0 => seen,
                known if seen > known => known + WEEKLY_GROWTH.min(seen - known),
                known => known - (known - seen).div_ceil(4),
            };
        }
    }

    /// The usual rate of a series at this hour since the Unix epoch. An hour of the week that was
    /// never seen is like that hour of other days; if none of those was either, like any.
    pub(super) fn usual(&self, hour: u64, (metric, unit): (Metric, Unit)) -> f64 {
        let series = index(metric, unit);
        let over_all = rate(self.levels.get(series).copied().unwrap_or(0));
        let Some(hours) = self.hourly.get(series) else { return over_all };
        let around = |hour: usize| {
            let nearby = [hour + HOURS - 1, hour, hour + 1];
            let seen = nearby.map(|hour| hours.get(hour % HOURS).copied().unwrap_or(0));
            seen.into_iter().max().unwrap_or(0)
        };
        let now = of_week(hour);
        let best = match around(now) {
            0 => (0..7).map(|day| around(now + day * 24)).max().unwrap_or(0),
            seen => seen,
        };
        if best == 0 { over_all } else { rate(u16::from(best).saturating_mul(PARTS)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_model::Metric;

    use super::*;
    use crate::summary::Count;

    fn rates(packets: u64) -> MetricCounts {
        let mut counts = MetricCounts::default();
        let count = Count { packets, bytes: packets * 100 };
        counts.set(Metric::Total, count);
        counts.set(Metric::Udp, count);
        counts
    }

    /// Weeks of traffic, a rate for each hour of the week.
    fn live(profile: &mut Profile, hours: std::ops::Range<u64>, rate: impl Fn(u64) -> u64) {
        for hour in hours {
            for second in 0..600 {
                // A ripple of a tenth.
                let rate = rate(hour);
                profile.sample(hour, &rates(rate - rate * (second % 10) / 100));
            }
        }
    }

    const TOTAL: (Metric, Unit) = (Metric::Total, Unit::Packets);

    #[test]
    fn levels_keep_rates_within_a_step() {
        for number in [0, 1, 9, 100, 12_345, 1 << 20, 1 << 41] {
            let back = rate(level(number));
            let error = (back - number as f64).abs() / (number as f64 + 1.0);
            assert!(error < 0.01, "{number} came back as {back}");
        }
        assert_eq!(level(u64::MAX), u16::MAX);
    }

    #[test]
    fn busy_and_quiet_hours_are_told_apart_after_a_week() {
        let mut profile = Profile::new(Kind::Host);
        let rate = |hour: u64| if (8..20).contains(&(hour % 24)) { 1000 } else { 50 };
        live(&mut profile, 0..3 * 168, rate);
        let noon = profile.usual(3 * 168 + 12, TOTAL);
        let night = profile.usual(3 * 168 + 3, TOTAL);
        assert!((900.0..1300.0).contains(&noon), "{noon}");
        assert!((45.0..70.0).contains(&night), "{night}");
        assert!((profile.maturity() - 1.0).abs() < 1e-9);
        assert!(std::mem::size_of::<Profile>() + HOURS < 400);
    }

    #[test]
    fn maturity_comes_between_the_first_day_and_the_third() {
        let mut profile = Profile::new(Kind::Group);
        for (hours, expected) in [(0, 0.0), (24, 0.0), (48, 0.5), (72, 1.0), (500, 1.0)] {
            profile.learned = hours;
            assert!((profile.maturity() - expected).abs() < 1e-9, "{hours}");
        }
        live(&mut profile, 0..1, |_| 100);
        assert_eq!(profile.learned, 500, "an hour counts when it is over");
    }

    #[test]
    fn growth_is_a_quarter_a_day_however_hard_it_is_pushed() {
        let mut profile = Profile::new(Kind::Host);
        live(&mut profile, 0..168, |_| 1000);
        let before = profile.usual(168, TOTAL).max(rate(profile.levels[0]));
        let mut bound = before;
        for day in 7..14 {
            live(&mut profile, day * 24..(day + 1) * 24, |_| 1_000_000);
            bound *= 1.25;
            for hour in 0..168 {
                // A step is twelve per cent.
                let usual = profile.usual(day * 24 + hour, TOTAL);
                assert!(usual <= bound * 1.13, "day {day}: {usual} over {bound}");
            }
        }
    }

    #[test]
    fn one_second_in_a_thousand_teaches_nothing() {
        let mut profile = Profile::new(Kind::Host);
        for hour in 0..48 {
            for second in 0..3600 {
                profile.sample(hour, &rates(if second % 1000 == 7 { 100_000 } else { 100 }));
            }
        }
        let usual = profile.usual(50, TOTAL);
        assert!((90.0..150.0).contains(&usual), "{usual}");
    }

    proptest! {
        #[test]
        fn what_is_usual_lies_among_what_was_seen(
            seen in proptest::collection::vec(1_u64..1_000_000, 30..60),
        ) {
            let mut profile = Profile::new(Kind::Group);
            for (hour, &packets) in (0..).zip(&seen) {
                for _ in 0..20 {
                    profile.sample(hour, &rates(packets));
                }
            }
            profile.sample(9999, &rates(1));
            let most = *seen.iter().max().unwrap() as f64;
            for hour in 0..168 {
                prop_assert!(profile.usual(hour, TOTAL) <= most * 1.15 + 1.0);
            }
        }
    }
}
