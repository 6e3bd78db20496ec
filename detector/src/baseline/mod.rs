//! What is normal for whom: thresholds that are learned.
//!
//! Every second in which a host gets something, what came is laid beside what came before. For each
//! metric a quantile of these rates is kept (the 99th percentile, in logarithmic steps); from hour
//! to hour it moves what has been learned, at most by [a quarter a day](profile) upwards once there
//! is something to go by. A host keeps its total by the hour of the week and its other metrics over
//! all hours; a group keeps all by the hour of the week, of whichever of its hosts had most.
//!
//! The policy's threshold is the most that is ever borne. What has been learned, times
//! [`Learning::margin`], takes its place little by little while a day to three days of traffic have
//! been seen: first that of the group, then that of the host. It never falls below
//! [`Learning::floor`] of the policy's.
//!
//! Nothing is learned of a host and of its group while it is under attack, nor of anything while
//! the capture is blind or loses packets.
//!
//! Bounds: [`Learning::max_hosts`] hosts. Beyond it new ones have their group's thresholds, and are
//! counted in [`Baselines::refused`]. A host makes room once it has been silent for four times as long
//! as was learned of it, four weeks at most: addresses that someone sends to for a moment, however
//! many, are gone within two hours. Silence is measured by the clock that never steps.

mod profile;
mod saved;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::FixedState;
use tidegate_model::{BitsPerSecond, Limit, Metric, PacketsPerSecond, Thresholds, Timestamp};

use crate::config::{Group, Learning};
use crate::summary::{MetricCounts, TargetTraffic};
use profile::{Kind, Profile, Unit};
pub use saved::{RestoreError, SavedBaselines, SavedProfile};
pub use table::{BaselineMetric, BaselineRow, BaselineTable};

/// Over how long rates are taken.
const SAMPLE: Duration = Duration::from_secs(1);
/// Packets a second from which on a host is worth remembering.
const WORTHWHILE: u64 = 8;
/// Hours of silence after which a host makes room for another: four weeks, and less for one of which
/// less is known: so many times what was learned.
const SILENT_HOURS: u16 = 4 * 168;
const PATIENCE: u16 = 4;
const HOUR: u64 = 3600;
/// Part of the packets lost from which on a second teaches nothing.
const TOO_MUCH_LOST: f64 = 0.01;

/// Where a threshold comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The policy, because nothing lower has been learned.
    Policy,
    /// What the host's group is used to.
    LearnedOfGroup,
    /// What the host is used to.
    LearnedOfHost,
}

/// A threshold that is in force, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InForce {
    /// Of which metric.
    pub metric: Metric,
    /// What is judged by.
    pub limit: Limit,
    /// What the policy says: the most.
    pub policy: Limit,
    /// Why they differ, if they do: of the limit in packets, or in bits if only those are judged.
    pub origin: Origin,
    /// How far the host's own baseline has come, `0.0..=1.0`: zero until a day of its traffic was
    /// seen, one after three.
    pub maturity: f64,
    /// The same of its group's.
    pub group_maturity: f64,
}

/// What came to one host in the second that is under way.
#[derive(Clone, Copy, Debug)]
struct Second {
    group: u16,
    counts: MetricCounts,
}

/// What has been learned.
pub(crate) struct Baselines {
    learning: Option<Learning>,
    hosts: hashbrown::HashMap<IpAddr, Profile, FixedState>,
    groups: BTreeMap<String, Profile>,
    second: hashbrown::HashMap<IpAddr, Second, FixedState>,
    second_start: Timestamp,
    /// The second under way teaches nothing.
    spoilt: bool,
    /// A moment and how long after the Unix epoch it was.
    clock: (Timestamp, Duration),
    refused: u64,
    /// The hour that is being learned about, since the Unix epoch, and when it is over. Only then is
    /// the world's clock asked again: however it steps, an hour takes an hour.
    hour: u64,
    hour_end: Timestamp,
}

impl Baselines {
    pub(crate) fn new(learning: Option<Learning>) -> Self {
        Self {
            learning,
            // Not iterated for output without being sorted; keys come from the bounded meter.
            hosts: hashbrown::HashMap::with_hasher(FixedState::default()),
            groups: BTreeMap::new(),
            second: hashbrown::HashMap::with_hasher(FixedState::default()),
            second_start: Timestamp::ZERO,
            spoilt: true,
            clock: (Timestamp::ZERO, Duration::ZERO),
            refused: 0,
            hour: 0,
            hour_end: Timestamp::ZERO,
        }
    }

    pub(crate) fn handle_config(&mut self, learning: Option<Learning>, groups: &[Group]) {
        self.learning = learning;
        self.second.clear();
        self.spoilt = true;
        if learning.is_none() {
            self.hosts.clear();
        }
        self.groups.retain(|name, _| groups.iter().any(|group| group.name == *name));
    }

    pub(crate) fn handle_wall_clock(&mut self, now: Timestamp, since_epoch: Duration) {
        let first = std::mem::replace(&mut self.clock, (now, since_epoch)).1.is_zero();
        if first {
            self.begin_hour(now);
        }
    }

    /// The hour in which `now` is by the world's clock begins, or the next if that is closer.
    fn begin_hour(&mut self, now: Timestamp) {
        let (then, since_epoch) = self.clock;
        let since_epoch = (since_epoch + now.since(then)).saturating_sub(then.since(now)).as_secs();
        let left = HOUR - since_epoch % HOUR;
        let (hour, left) = if left * 2 > HOUR { (0, left) } else { (1, left + HOUR) };
        self.hour = since_epoch / HOUR + hour;
        self.hour_end = now + Duration::from_secs(left);
    }

    pub(crate) const fn is_off(&self) -> bool {
        self.learning.is_none()
    }

    /// Hosts that were not remembered because there were too many.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes in one tick. `group_of` is the group of an address unless it is under attack.
    pub(crate) fn add(
        &mut self,
        end: Timestamp,
        (loss, blind): (f64, bool),
        targets: &[TargetTraffic],
        groups: &[Group],
        group_of: impl Fn(IpAddr) -> Option<u16>,
    ) {
        let Some(learning) = self.learning else { return };
        if end >= self.hour_end {
            self.finish_hour(end);
        }
        self.spoilt |= blind || loss > TOO_MUCH_LOST;
        for target in targets {
            let Some(group) = group_of(target.address) else {
                // What came just before it was known to be an attack.
                self.second.remove(&target.address);
                continue;
            };
            let counts = target.unasked.without_syns(target.connections.excused);
            let empty = || Second { group, counts: MetricCounts::default() };
            self.second.entry(target.address).or_insert_with(empty).counts.add(&counts);
        }
        let elapsed = end.since(self.second_start);
        if elapsed >= SAMPLE {
            // A pause in what is watched is no second.
            if !self.spoilt && elapsed < SAMPLE * 2 {
                self.learn(elapsed, groups, &learning);
            }
            self.second.clear();
            self.second_start = end;
            self.spoilt = false;
        }
    }

    /// An hour is over, or several: who has been silent for long makes room.
    fn finish_hour(&mut self, now: Timestamp) {
        let over = now.since(self.hour_end).as_secs() / HOUR + 1;
        let over = u16::try_from(over).unwrap_or(u16::MAX);
        self.begin_hour(now);
        self.hosts.retain(|_, profile| {
            let patience = profile.learned.saturating_mul(PATIENCE).clamp(1, SILENT_HOURS);
            profile.silent = profile.silent.saturating_add(over);
            profile.silent <= patience
        });
    }

    fn learn(&mut self, elapsed: Duration, groups: &[Group], learning: &Learning) {
        let hour = self.hour;
        let per_second = 1.0 / elapsed.as_secs_f64();
        let mut most: BTreeMap<u16, MetricCounts> = BTreeMap::new();
        for (&address, second) in &self.second {
            let rates = second.counts.scaled(per_second);
            most.entry(second.group).or_default().raise_to(&rates);
            if !self.hosts.contains_key(&address) {
                if rates.get(Metric::Total).packets < WORTHWHILE {
                    continue;
                }
                if self.hosts.len() >= learning.max_hosts {
                    self.refused += 1;
                    continue;
                }
            }
            let profile = self.hosts.entry(address).or_insert_with(|| Profile::new(Kind::Host));
            profile.sample(hour, &rates);
        }
        for (index, rates) in most {
            let Some(group) = groups.get(usize::from(index)) else { continue };
            let profile = match self.groups.get_mut(&group.name) {
                Some(profile) => profile,
                None => {
                    let new = Profile::new(Kind::Group);
                    self.groups.entry(group.name.clone()).or_insert(new)
                }
            };
            profile.sample(hour, &rates);
        }
    }

    /// What is judged by at least, whoever is the target; nothing below can be over a threshold.
    pub(crate) fn floor(&self, thresholds: &Thresholds) -> Thresholds {
        let Some(learning) = self.learning else { return *thresholds };
        map(thresholds, |_, _, ceiling| ceiling * learning.floor_ratio())
    }

    /// The thresholds of `address`, which belongs to `group`.
    pub(crate) fn thresholds(&self, address: IpAddr, group: &Group) -> Thresholds {
        if self.learning.is_none() {
            return group.thresholds;
        }
        let known = (self.groups.get(&group.name), self.hosts.get(&address));
        let hour = self.hour;
        map(&group.thresholds, |metric, unit, ceiling| {
            self.limit(known, hour, (metric, unit), ceiling).0
        })
    }

    /// The limit in force, and where it comes from.
    fn limit(
        &self,
        (group, host): (Option<&Profile>, Option<&Profile>),
        hour: u64,
        series: (Metric, Unit),
        ceiling: f64,
    ) -> (f64, Origin) {
        let Some(learning) = self.learning else { return (ceiling, Origin::Policy) };
        let floor = ceiling * learning.floor_ratio();
        let (mut limit, mut origin) = (ceiling, Origin::Policy);
        for (profile, of) in [(group, Origin::LearnedOfGroup), (host, Origin::LearnedOfHost)] {
            let Some(profile) = profile.filter(|profile| profile.maturity() > 0.0) else {
                continue;
            };
            let learned = profile.usual(hour, series) * learning.margin.max(1.0);
            let target = learned.clamp(floor, limit);
            // Halfway between the two in the logarithm when half of the baseline is there.
            let next = limit * (target / limit).powf(profile.maturity());
            if next < limit {
                (limit, origin) = (next, of);
            }
        }
        (limit, origin)
    }

    /// Every threshold of `address` with its reasons.
    pub(crate) fn in_force(&self, address: IpAddr, group: &Group) -> Vec<InForce> {
        let known = (self.groups.get(&group.name), self.hosts.get(&address));
        let hour = self.hour;
        let maturity = |profile: Option<&Profile>| profile.map_or(0.0, Profile::maturity);
        let thresholds = self.thresholds(address, group);
        let judged = group.thresholds.iter().filter(|(_, policy)| *policy != Limit::default());
        judged
            .map(|(metric, policy)| {
                let (unit, ceiling) = match (policy.packets, policy.bits) {
                    (Some(packets), _) => (Unit::Packets, float(packets.0)),
                    (None, bits) => (Unit::Bits, bits.map_or(0.0, |bits| float(bits.0))),
                };
                InForce {
                    metric,
                    limit: thresholds.get(metric),
                    policy,
                    origin: self.limit(known, hour, (metric, unit), ceiling).1,
                    maturity: maturity(known.1),
                    group_maturity: maturity(known.0),
                }
            })
            .collect()
    }
}

/// Every limit put through `change`, which is given what it limits and how much.
fn map(thresholds: &Thresholds, change: impl Fn(Metric, Unit, f64) -> f64) -> Thresholds {
    let mut changed = Thresholds::default();
    for (metric, limit) in thresholds.iter() {
        let limit = Limit {
            packets: limit.packets.map(|PacketsPerSecond(rate)| {
                PacketsPerSecond(whole(change(metric, Unit::Packets, float(rate))))
            }),
            bits: limit.bits.map(|BitsPerSecond(rate)| {
                BitsPerSecond(whole(change(metric, Unit::Bits, float(rate))))
            }),
        };
        changed.set(metric, limit);
    }
    changed
}

#[expect(clippy::cast_precision_loss, reason = "a limit beyond 2^52 is none")]
fn float(rate: u64) -> f64 {
    rate as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and saturate"
)]
fn whole(rate: f64) -> u64 {
    rate.round().max(1.0) as u64
}
