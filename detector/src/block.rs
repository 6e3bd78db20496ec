//! Floods over a whole network, of which no single address gets much ("carpet bombing").
//!
//! The addresses of a group with [`Group::aggregate`](crate::Group) are judged together as well,
//! by blocks of /24 or /64, or by the prefix of the group if that is longer. Traffic to addresses
//! that have an attack of their own does not count, and a block of which one address has got most
//! since it came near a threshold is that address's matter; a flood that goes from one address to the
//! next is the block's. All addresses of a family together are judged in the same way, if
//! [`Config::interface`] says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tidegate_model::{AttackId, Metric, Prefix};

use crate::config::{Config, Group, Judging};
use crate::judge::{Crossing, is_notable};
use crate::memory::Memory;
use crate::space::{GroupIndex, Space};
use crate::summary::TargetTraffic;
use crate::tracker::{Progress, Tick, Tracked, Watch};

/// Length of a block.
const BLOCK_IPV4: u8 = 24;
const BLOCK_IPV6: u8 = 64;
/// Most blocks that are judged at the same time; the others are counted as overlooked.
const MAX_BLOCKS: usize = 4096;
/// Most addresses of one block that are looked at closely in one tick, evenly spread.
const MAX_LOOKED_AT: usize = 128;
/// A block is one address's matter if this one in so many packets or more go there.
const CONCENTRATED: u64 = 2;
/// An address inside a flooded block has an attack of its own from this excess on, if since its onset
/// it also got as much as one in [`LARGE_PART`] packets of a second of the block's.
const CLEARLY_OVER: f64 = 3.0;
const LARGE_PART: u64 = 4;

/// Which addresses are judged together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of one /24 or /64.
    #[default]
    Network,
    /// All of one address family.
    Interface,
}

/// What came to one block in one tick.
struct Gathered<'a> {
    group: GroupIndex,
    traffic: TargetTraffic,
    members: Vec<&'a TargetTraffic>,
}

/// A block with something over a threshold, but no attack yet.
struct Watched {
    group: GroupIndex,
    watch: Watch,
    receivers: Receivers,
}

/// Which addresses of a block got most since it came near a threshold: Misra and Gries, 1982. No
/// count is too high, and none is too low by more than one in `SLOTS + 1` packets.
#[derive(Default)]
struct Receivers {
    counts: Vec<(IpAddr, u64)>,
    packets: u64,
}

impl Receivers {
    const SLOTS: usize = 8;

    fn add(&mut self, address: IpAddr, packets: u64) {
        self.packets = self.packets.saturating_add(packets);
        if let Some((_, count)) = self.counts.iter_mut().find(|(held, _)| *held == address) {
            *count = count.saturating_add(packets);
            return;
        }
        self.counts.push((address, packets));
        if self.counts.len() > Self::SLOTS {
            let least = self.counts.iter().map(|(_, count)| *count).min().unwrap_or(0);
            self.counts.iter_mut().for_each(|(_, count)| *count -= least);
            self.counts.retain(|(_, count)| *count > 0);
        }
    }

    /// Whether one address got most.
    fn are_one(&self) -> bool {
        let most = self.counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
        most.saturating_mul(CONCENTRATED) >= self.packets
    }
}

/// Networks of a group that are smaller than a block, longest prefix first.
#[derive(Default)]
struct Small {
    lengths: BTreeSet<std::cmp::Reverse<u8>>,
    prefixes: BTreeSet<Prefix>,
}

impl Small {
    fn of(group: &Group) -> Self {
        let small =
            group.prefixes.iter().filter(|prefix| prefix.length() > usual_length(prefix.address()));
        let prefixes: BTreeSet<Prefix> = small.copied().collect();
        let lengths = prefixes.iter().map(|prefix| std::cmp::Reverse(prefix.length())).collect();
        Self { lengths, prefixes }
    }

    fn around(&self, address: IpAddr) -> Option<Prefix> {
        let mut lengths = self.lengths.iter().filter_map(|length| Prefix::new(address, length.0));
        lengths.find(|prefix| self.prefixes.contains(prefix))
    }
}

/// Length of the block around `address` that no smaller network of the policy's is in the way of.
const fn usual_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => BLOCK_IPV4,
        IpAddr::V6(_) => BLOCK_IPV6,
    }
}

/// A group whose blocks are judged.
struct Judged {
    /// With the thresholds of its blocks.
    group: Group,
    small: Small,
}
/// The blocks that are not quiet.
#[derive(Default)]
pub(crate) struct Blocks {
    scope: Scope,
    /// By group: its name with the thresholds of its blocks; `None` is not judged.
    groups: Vec<Option<Judged>>,
    watched: BTreeMap<Prefix, Watched>,
    pub(crate) attacks: BTreeMap<Prefix, Tracked>,
}

/// What one tick did to the blocks.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) progress: Vec<(Prefix, Progress)>,
    /// Blocks whose attack starts now; the caller numbers them.
    pub(crate) crossed: Vec<(Prefix, Crossing)>,
    pub(crate) overlooked: u64,
    pub(crate) borne: u64,
}

impl Blocks {
    pub(crate) fn new(scope: Scope, config: &Config) -> Self {
        Self { scope, groups: aggregated(scope, config), ..Self::default() }
    }

    /// A new policy. Returns the attacks on blocks that it does not judge any more.
    pub(crate) fn handle_config(&mut self, space: &Space, config: &Config) -> Vec<Tracked> {
        self.groups = aggregated(self.scope, config);
        self.watched.clear();
        let mut dropped = Vec::new();
        for (block, mut tracked) in std::mem::take(&mut self.attacks) {
            let group = match self.scope {
                Scope::Network => space.group_of(block.address()).map(usize::from),
                Scope::Interface => Some(0),
            };
            match group.and_then(|index| self.groups.get(index)?.as_ref()) {
                Some(judged) => {
                    tracked.regroup(&judged.group);
                    self.attacks.insert(block, tracked);
                }
                None => dropped.push(tracked),
            }
        }
        dropped
    }

    /// Takes in one tick. `attacked` are the addresses with attacks of their own.
    pub(crate) fn advance(
        &mut self,
        space: &Space,
        judging: &Judging,
        memory: &Memory,
        tick: &Tick<'_>,
        targets: &[TargetTraffic],
        attacked: impl Fn(IpAddr) -> bool,
    ) -> Turn {
        let mut turn = Turn::default();
        if self.groups.iter().all(Option::is_none) {
            return turn;
        }
        let mut gathered = self.gather(space, targets, attacked);
        for (block, tracked) in &mut self.attacks {
            let traffic = gathered.remove(block).map(Gathered::looked_at);
            let progress = tracked.advance(&Tick { traffic: traffic.as_ref(), ..*tick }, judging);
            turn.progress.push((*block, progress));
        }
        for (block, gathered) in gathered {
            self.watch(block, gathered, judging, memory, tick, &mut turn);
        }
        self.forget_calm(judging, tick);
        turn
    }

    /// The /24 or /64 around `address`, or the prefix of its group around it if that is longer; or
    /// everything. `None` if it is not judged.
    fn block_of(&self, space: &Space, address: IpAddr) -> Option<(GroupIndex, Prefix)> {
        let index = space.group_of(address)?;
        let judged = self.groups.get(usize::from(index))?.as_ref()?;
        let block = match self.scope {
            Scope::Interface => Prefix::new(address, 0)?,
            Scope::Network => match judged.small.around(address) {
                Some(small) => small,
                None => Prefix::new(address, usual_length(address))?,
            },
        };
        Some((index, block))
    }

    fn gather<'a>(
        &self,
        space: &Space,
        targets: &'a [TargetTraffic],
        attacked: impl Fn(IpAddr) -> bool,
    ) -> BTreeMap<Prefix, Gathered<'a>> {
        let mut blocks: BTreeMap<Prefix, Gathered<'a>> = BTreeMap::new();
        for target in targets.iter().filter(|target| !attacked(target.address)) {
            let Some((group, block)) = self.block_of(space, target.address) else { continue };
            let entry = blocks.entry(block).or_insert_with(|| Gathered {
                group,
                traffic: TargetTraffic::new(block.address()),
                members: Vec::new(),
            });
            entry.traffic.add_counts(target);
            entry.members.push(target);
        }
        blocks
    }

    /// Judges a block on which there is no attack yet.
    fn watch(
        &mut self,
        block: Prefix,
        gathered: Gathered<'_>,
        judging: &Judging,
        memory: &Memory,
        tick: &Tick<'_>,
        turn: &mut Turn,
    ) {
        let Some(Some(judged)) = self.groups.get(usize::from(gathered.group)) else { return };
        let thresholds = &judged.group.thresholds;
        if !self.watched.contains_key(&block) {
            if !is_notable(&gathered.traffic.unasked, tick.span, thresholds) {
                return;
            }
            if self.watched.len() + self.attacks.len() >= MAX_BLOCKS {
                turn.overlooked += 1;
                return;
            }
        }
        let (start, index) = (tick.end - tick.span, gathered.group);
        let new = || {
            let past = memory.recall(tick.end, block);
            Watched {
                group: index,
                watch: Watch::new(start, past),
                receivers: Receivers::default(),
            }
        };
        let watched = self.watched.entry(block).or_insert_with(new);
        // Time without traffic leaks first, so that the onset is not put before it.
        watched.watch.add(start, None, thresholds, judging);
        if watched.watch.judge.over(thresholds, judging.tolerance).is_empty() {
            watched.receivers = Receivers::default();
        }
        for member in &gathered.members {
            let packets = member.unasked.get(Metric::Total).packets;
            watched.receivers.add(member.address, packets);
        }
        let traffic = gathered.looked_at();
        watched.watch.add(tick.end, Some(&traffic), thresholds, judging);
        let crossing = watched.watch.judge.crossing(thresholds, judging.tolerance);
        let Some(crossing) = crossing.filter(|_| !watched.receivers.are_one()) else { return };
        if watched.watch.is_borne(tick.end, &crossing, thresholds, judging) {
            turn.borne += 1;
        } else {
            turn.crossed.push((block, crossing));
        }
    }

    /// Starts the attack that `crossing` gave away.
    pub(crate) fn start(
        &mut self,
        id: AttackId,
        block: Prefix,
        crossing: &Crossing,
        judging: &Judging,
        tick: &Tick<'_>,
    ) -> Option<&Tracked> {
        let Watched { group, watch, .. } = self.watched.remove(&block)?;
        let judged = self.groups.get(usize::from(group))?.as_ref()?;
        let tracked = Tracked::start(id, block, &judged.group, judging, watch, crossing, tick);
        Some(self.attacks.entry(block).or_insert(tracked))
    }

    fn forget_calm(&mut self, judging: &Judging, tick: &Tick<'_>) {
        let groups = &self.groups;
        self.watched.retain(|_, watched| {
            let Some(Some(judged)) = groups.get(usize::from(watched.group)) else { return false };
            watched.watch.add(tick.end, None, &judged.group.thresholds, judging);
            !watched.watch.judge.is_calm()
        });
    }

    /// Whether `address` lies in a block that is flooded.
    pub(crate) fn is_attacked(&self, space: &Space, address: IpAddr) -> bool {
        self.flooded(space, address).is_some()
    }

    /// Whether a crossing of `address` is part of the flood over the block around it.
    pub(crate) fn explains(&self, space: &Space, address: IpAddr, crossing: &Crossing) -> bool {
        self.flooded(space, address).is_some_and(|tracked| {
            let own = crossing.total.packets.saturating_mul(LARGE_PART);
            crossing.excess < CLEARLY_OVER || own < tracked.attack.current.packets.0
        })
    }

    /// The attack on the block around `address`.
    fn flooded(&self, space: &Space, address: IpAddr) -> Option<&Tracked> {
        if self.attacks.is_empty() {
            return None;
        }
        let (_, block) = self.block_of(space, address)?;
        self.attacks.get(&block)
    }
}

impl Gathered<'_> {
    /// The traffic of the block, with a close look at its addresses.
    fn looked_at(mut self) -> TargetTraffic {
        let step = self.members.len().div_ceil(MAX_LOOKED_AT).max(1);
        for member in self.members.iter().step_by(step) {
            self.traffic.add_classes(member);
        }
        self.traffic
    }
}

fn aggregated(scope: Scope, config: &Config) -> Vec<Option<Judged>> {
    let of = |group: &Group| match scope {
        Scope::Network => {
            let thresholds = group.aggregate?;
            let small = Small::of(group);
            Some(Judged { group: Group { thresholds, ..group.clone() }, small })
        }
        Scope::Interface => {
            let (name, prefixes) = ("interface".to_owned(), Vec::new());
            let group = Group { name, prefixes, thresholds: config.interface?, aggregate: None };
            Some(Judged { group, small: Small::default() })
        }
    };
    config.groups.iter().map(of).collect()
}
