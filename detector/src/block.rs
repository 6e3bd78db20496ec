//! Floods over a whole network, of which no single address gets much ("carpet bombing").
//!
//! The addresses of a group with [`Group::aggregate`](crate::Group) are judged together as well,
//! by blocks of /24 or /64, or by the prefix of the group if that is longer. Traffic to addresses
//! that have an attack of their own does not count, and a block of which one address gets most is
//! that address's matter. All addresses of a family together are judged in the same way, if
//! [`Config::interface`] says so.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tidegate_model::{AttackId, Metric, Prefix};

use crate::config::{Config, Group, Judging};
use crate::judge::{Crossing, is_notable};
use crate::memory::Memory;
use crate::sample::scaled;
use crate::space::{GroupIndex, Space};
use crate::summary::{Count, TargetTraffic};
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
/// An address inside a flooded block has an attack of its own from this excess on, if it also gets
/// one in [`LARGE_PART`] packets of the block.
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
    /// Packets to the address that got most.
    most: u64,
}

/// A block with something over a threshold, but no attack yet.
struct Watched {
    group: GroupIndex,
    watch: Watch,
}

/// The blocks that are not quiet.
#[derive(Default)]
pub(crate) struct Blocks {
    scope: Scope,
    /// By group: its name with the thresholds of its blocks; `None` is not judged.
    groups: Vec<Option<Group>>,
    watched: BTreeMap<Prefix, Watched>,
    pub(crate) attacks: BTreeMap<Prefix, Tracked>,
    /// Packets to each flooded block in the latest tick.
    latest: BTreeMap<Prefix, u64>,
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
        self.latest.clear();
        let mut dropped = Vec::new();
        for (block, mut tracked) in std::mem::take(&mut self.attacks) {
            let group = match self.scope {
                Scope::Network => space.group_of(block.address()).map(usize::from),
                Scope::Interface => Some(0),
            };
            match group.and_then(|index| self.groups.get(index)?.as_ref()) {
                Some(group) => {
                    tracked.regroup(group);
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
        self.latest.clear();
        for (block, tracked) in &mut self.attacks {
            let traffic = gathered.remove(block).map(Gathered::looked_at);
            if let Some(traffic) = &traffic {
                self.latest.insert(*block, traffic.unasked.get(Metric::Total).packets);
            }
            let progress = tracked.advance(&Tick { traffic: traffic.as_ref(), ..*tick }, judging);
            turn.progress.push((*block, progress));
        }
        for (block, gathered) in gathered {
            self.watch(block, gathered, judging, memory, tick, &mut turn);
        }
        self.forget_calm(judging, tick);
        turn
    }

    /// The /24 or /64 around `address`, or the prefix of `group` around it if that is longer; or
    /// everything.
    fn block_of(&self, group: &Group, address: IpAddr) -> Option<Prefix> {
        if self.scope == Scope::Interface {
            return Prefix::new(address, 0);
        }
        let usual = if address.is_ipv4() { BLOCK_IPV4 } else { BLOCK_IPV6 };
        let around = group.prefixes.iter().filter(|prefix| prefix.contains_address(address));
        let length = around.map(Prefix::length).max()?.max(usual);
        Prefix::new(address, length)
    }

    fn gather<'a>(
        &self,
        space: &Space,
        targets: &'a [TargetTraffic],
        attacked: impl Fn(IpAddr) -> bool,
    ) -> BTreeMap<Prefix, Gathered<'a>> {
        let mut blocks: BTreeMap<Prefix, Gathered<'a>> = BTreeMap::new();
        for target in targets.iter().filter(|target| !attacked(target.address)) {
            let Some(index) = space.group_of(target.address) else { continue };
            let Some(Some(group)) = self.groups.get(usize::from(index)) else { continue };
            let Some(block) = self.block_of(group, target.address) else { continue };
            let entry = blocks.entry(block).or_insert_with(|| Gathered {
                group: index,
                traffic: TargetTraffic::new(block.address()),
                members: Vec::new(),
                most: 0,
            });
            entry.traffic.add_counts(target);
            entry.most = entry.most.max(target.unasked.get(Metric::Total).packets);
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
        let Some(Some(group)) = self.groups.get(usize::from(gathered.group)) else { return };
        let thresholds = &group.thresholds;
        if !self.watched.contains_key(&block) {
            let counts = scaled(&gathered.traffic.unasked, tick.scale());
            if !is_notable(&counts, tick.span, thresholds) {
                return;
            }
            if self.watched.len() + self.attacks.len() >= MAX_BLOCKS {
                turn.overlooked += 1;
                return;
            }
        }
        let (start, index) = (tick.end - tick.span, gathered.group);
        let Count { packets, .. } = gathered.traffic.unasked.get(Metric::Total);
        let concentrated = gathered.most * CONCENTRATED >= packets;
        let new = || {
            let past = memory.recall(tick.end, block);
            Watched { group: index, watch: Watch::new(start, past) }
        };
        let watched = self.watched.entry(block).or_insert_with(new);
        // Time without traffic leaks first, so that the onset is not put before it.
        watched.watch.add(start, None, thresholds, judging, 1.0);
        let traffic = gathered.looked_at();
        watched.watch.add(tick.end, Some(&traffic), thresholds, judging, tick.scale());
        let crossing = watched.watch.judge.crossing(thresholds, judging.tolerance);
        let Some(crossing) = crossing.filter(|_| !concentrated) else { return };
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
        let Watched { group, watch } = self.watched.remove(&block)?;
        let group = self.groups.get(usize::from(group))?.as_ref()?;
        let tracked = Tracked::start(id, block, group, judging, watch, crossing, tick);
        Some(self.attacks.entry(block).or_insert(tracked))
    }

    fn forget_calm(&mut self, judging: &Judging, tick: &Tick<'_>) {
        let groups = &self.groups;
        self.watched.retain(|_, watched| {
            let Some(Some(group)) = groups.get(usize::from(watched.group)) else { return false };
            watched.watch.add(tick.end, None, &group.thresholds, judging, 1.0);
            !watched.watch.judge.is_calm()
        });
    }

    /// Whether `address` lies in a block that is flooded.
    pub(crate) fn is_attacked(&self, address: IpAddr) -> bool {
        self.attacks.keys().any(|block| block.contains_address(address))
    }

    /// Whether a crossing of `address`, with `packets` in this tick, is part of the flood over the
    /// block around it.
    pub(crate) fn explains(&self, address: IpAddr, crossing: &Crossing, packets: u64) -> bool {
        self.attacks.keys().filter(|block| block.contains_address(address)).any(|block| {
            let all = self.latest.get(block).copied().unwrap_or(0);
            crossing.excess < CLEARLY_OVER || packets.saturating_mul(LARGE_PART) < all
        })
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

fn aggregated(scope: Scope, config: &Config) -> Vec<Option<Group>> {
    let of = |group: &Group| match scope {
        Scope::Network => group.aggregate.map(|thresholds| Group { thresholds, ..group.clone() }),
        Scope::Interface => config.interface.map(|thresholds| Group {
            name: "interface".to_owned(),
            prefixes: Vec::new(),
            thresholds,
            aggregate: None,
        }),
    };
    config.groups.iter().map(of).collect()
}
