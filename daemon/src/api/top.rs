//! The targets with the most traffic, while somebody looks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_detector::{Count, TrafficSummary};
use tidegate_model::{BitsPerSecond, Metric, PacketsPerSecond, Rate, Timestamp};

/// Targets that are told, and of each tick those that are counted.
pub(super) const MAX_TARGETS: usize = 64;
/// Targets that are counted in one second. Further ones are not, until the next.
const MAX_COUNTED: usize = 4_096;
/// What is told is of this long.
const SPAN: Duration = Duration::from_secs(1);

/// What came to one target in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetRate {
    /// Without being asked for.
    pub unasked: Rate,
    /// Asked for, or from allowed remotes.
    pub asked: Rate,
}

/// One second.
#[derive(Clone, Debug, PartialEq)]
pub struct Second {
    /// When it ended.
    pub end: Timestamp,
    /// The busiest targets, most packets first.
    pub targets: Vec<(IpAddr, TargetRate)>,
    /// All packets, and the bits of those toward protected addresses.
    pub captured: Rate,
    /// Packets that were dropped before they were seen.
    pub lost: u64,
    /// Nothing could be seen for some of it.
    pub blind: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    unasked: Count,
    asked: Count,
}

/// Counts what comes to whom, while that is wanted.
#[derive(Debug)]
pub(super) struct Top {
    wanted_until: Arc<AtomicU64>,
    /// When the second that is under way began; `None` while nobody looks.
    begun: Option<Timestamp>,
    counts: BTreeMap<IpAddr, Counts>,
    captured: Count,
    lost: u64,
    blind: bool,
    last: Option<Arc<Second>>,
}

impl Top {
    pub(super) fn new(wanted_until: Arc<AtomicU64>) -> Self {
        Self {
            wanted_until,
            begun: None,
            counts: BTreeMap::new(),
            captured: Count::default(),
            lost: 0,
            blind: false,
            last: None,
        }
    }

    /// The last whole second; `None` if nobody looked.
    pub(super) fn last(&self) -> Option<Arc<Second>> {
        self.last.clone()
    }

    /// Takes a tick in. Costs nothing while nobody looks.
    pub(super) fn add(&mut self, summary: &TrafficSummary) {
        if self.wanted_until.load(Ordering::Relaxed) <= summary.end.as_nanos() {
            self.begun = None;
            self.last = None;
            return;
        }
        let begun = *self.begun.get_or_insert_with(|| {
            self.counts.clear();
            (self.captured, self.lost, self.blind) = (Count::default(), 0, false);
            summary.start
        });
        self.count(summary);
        let span = summary.end.since(begun);
        if span >= SPAN {
            self.last = Some(Arc::new(self.told(summary.end, span)));
            self.begun = None;
        }
    }

    fn count(&mut self, summary: &TrafficSummary) {
        self.captured.packets += summary.packets;
        self.lost += summary.lost;
        self.blind |= summary.blind;
        let mut busiest: Vec<(u64, usize)> = Vec::with_capacity(summary.targets.len());
        for (index, target) in summary.targets.iter().enumerate() {
            let unasked = target.unasked.get(Metric::Total);
            let all = sum(sum(unasked, target.answers), target.allowed);
            self.captured.bytes = self.captured.bytes.saturating_add(all.bytes);
            busiest.push((all.packets, index));
        }
        if busiest.len() > MAX_TARGETS {
            busiest.select_nth_unstable_by_key(MAX_TARGETS, |(packets, _)| Reverse(*packets));
            busiest.truncate(MAX_TARGETS);
        }
        for target in busiest.into_iter().filter_map(|(_, index)| summary.targets.get(index)) {
            if self.counts.len() >= MAX_COUNTED && !self.counts.contains_key(&target.address) {
                continue;
            }
            let counts = self.counts.entry(target.address).or_default();
            counts.unasked = sum(counts.unasked, target.unasked.get(Metric::Total));
            counts.asked = sum(counts.asked, sum(target.answers, target.allowed));
        }
    }

    fn told(&self, end: Timestamp, span: Duration) -> Second {
        let mut targets: Vec<(IpAddr, TargetRate)> = self
            .counts
            .iter()
            .map(|(address, counts)| {
                let rates = TargetRate {
                    unasked: rate(counts.unasked, span),
                    asked: rate(counts.asked, span),
                };
                (*address, rates)
            })
            .collect();
        targets.sort_by_key(|(_, rates)| {
            Reverse(rates.unasked.packets.0.saturating_add(rates.asked.packets.0))
        });
        targets.truncate(MAX_TARGETS);
        Second {
            end,
            targets,
            captured: rate(self.captured, span),
            lost: self.lost,
            blind: self.blind,
        }
    }
}

fn sum(one: Count, other: Count) -> Count {
    Count {
        packets: one.packets.saturating_add(other.packets),
        bytes: one.bytes.saturating_add(other.bytes),
    }
}

fn rate(count: Count, span: Duration) -> Rate {
    let nanoseconds = span.as_nanos().max(1);
    let per_second = |number: u64, times: u128| {
        let rate = u128::from(number) * times * 1_000_000_000 / nanoseconds;
        u64::try_from(rate).unwrap_or(u64::MAX)
    };
    Rate {
        packets: PacketsPerSecond(per_second(count.packets, 1)),
        bits: BitsPerSecond(per_second(count.bytes, 8)),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_detector::TargetTraffic;

    use super::*;

    fn tick(number: u64, targets: u32) -> TrafficSummary {
        let at = |number: u64| Timestamp::from_nanos(number * 10_000_000);
        let target = |index: u32| TargetTraffic {
            address: std::net::Ipv4Addr::from(index).into(),
            unasked: Default::default(),
            answers: Count { packets: u64::from(index), bytes: u64::from(index) * 100 },
            allowed: Count::default(),
            connections: Default::default(),
            classes: Vec::new(),
            sampled: Vec::new(),
        };
        TrafficSummary {
            start: at(number),
            end: at(number + 1),
            targets: (0..targets).map(target).collect(),
            packets: 1000,
            lost: 1,
            ..TrafficSummary::default()
        }
    }

    #[test]
    fn nobody_looks_nothing_is_counted() {
        let mut top = Top::new(Arc::default());
        (0..200).for_each(|number| top.add(&tick(number, 10)));
        assert!(top.last().is_none() && top.counts.is_empty());
    }

    #[test]
    fn the_busiest_of_a_second_come_first() {
        let mut top = Top::new(Arc::new(AtomicU64::new(u64::MAX)));
        (0..100).for_each(|number| top.add(&tick(number, 1000)));
        let second = top.last().unwrap();
        assert_eq!(second.targets.len(), MAX_TARGETS);
        let (address, rates) = second.targets[0];
        assert_eq!(address, std::net::Ipv4Addr::from(999).into_canonical());
        assert_eq!(rates.asked.packets, PacketsPerSecond(99_900));
        assert_eq!(rates.asked.bits, BitsPerSecond(99_900 * 800));
        assert_eq!((second.captured.packets.0, second.lost), (100_000, 100));
        top.wanted_until.store(0, Ordering::Relaxed);
        top.add(&tick(100, 10));
        assert!(top.last().is_none());
    }

    trait Canonical {
        fn into_canonical(self) -> IpAddr;
    }

    impl Canonical for std::net::Ipv4Addr {
        fn into_canonical(self) -> IpAddr {
            self.into()
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut top = Top::new(Arc::new(AtomicU64::new(u64::MAX)));
        for number in 0..90 {
            let mut tick = tick(number, 64);
            for (index, target) in (0_u32..).zip(&mut tick.targets) {
                let base = u32::try_from(number).unwrap() * 64;
                target.address = std::net::Ipv4Addr::from(base + index).into();
            }
            top.add(&tick);
        }
        assert_eq!(top.counts.len(), MAX_COUNTED);
    }
}
