//! The set of all sources.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use roaring::RoaringBitmap;

use super::Distinct;

/// Registers of the estimate: standard error `1.04 / sqrt(16384)`, 0.8 %.
const REGISTER_BITS: u32 = 14;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// Octets that an IPv4 source takes at most: among the first ones of a census each may need a
/// container of the bitmap of its own, of which there are 65,536; later ones share them.
const FIRST_COST: usize = 64;
const CONTAINERS: u64 = 65_536;
const LATER_COST: usize = 8;
/// The same for an IPv6 source, in a tree.
const IPV6_COST: usize = 48;
/// IPv4 sources that wait to be put into the bitmap in order, which costs a fraction of putting
/// them there as they come.
const PENDING: usize = 1 << 12;
/// Sources that were seen last, so that who sends much is not looked up each time.
const RECENT: usize = 1024;

/// Distinct sources, exact while there is room.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    /// By the first octet: a bitmap keeps its containers in one row, and to put one into a long row
    /// takes as long as the row.
    ipv4: Box<[RoaringBitmap]>,
    ipv4_count: u64,
    ipv6: BTreeSet<u128>,
    /// Some source found no room.
    full: bool,
    cost: usize,
    recent: Box<[u64]>,
    pending: Vec<u32>,
    registers: Box<[u8]>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            ipv4: vec![RoaringBitmap::new(); 256].into(),
            ipv4_count: 0,
            ipv6: BTreeSet::new(),
            full: false,
            cost: 0,
            recent: vec![0; RECENT].into(),
            pending: Vec::new(),
            registers: vec![0; REGISTERS].into(),
        }
    }
}

impl Sources {
    #[inline]
    pub(super) fn insert(&mut self, source: IpAddr, hash: u64, room: &mut usize) {
        let place = (hash >> 40) as usize & (RECENT - 1);
        match self.recent.get_mut(place) {
            // The whole hash stands for the source: two that share it are as rare as 2^-64.
            Some(held) if *held == hash => return,
            Some(held) => *held = hash,
            None => {}
        }
        self.count(hash);
        match source {
            // What is full stays as it is: a set that goes on and off says nothing.
            _ if self.full => {}
            IpAddr::V4(source) => {
                self.pending.push(u32::from(source));
                if self.pending.len() >= PENDING {
                    self.settle(room);
                }
            }
            IpAddr::V6(_) => self.keep(source, room),
        }
    }

    /// Puts what waits into the bitmap.
    pub(super) fn settle(&mut self, room: &mut usize) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_unstable();
        pending.dedup();
        for source in pending.drain(..) {
            self.keep(IpAddr::V4(Ipv4Addr::from(source)), room);
        }
        // The room that it takes is used again.
        self.pending = pending;
    }

    /// Flajolet et al., "HyperLogLog", 2007: the rank of the first one in what chooses no register.
    #[inline]
    fn count(&mut self, hash: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "masked to the number of registers")]
        let register = hash as usize & (REGISTERS - 1);
        let rank = (hash >> REGISTER_BITS | 1 << (63 - REGISTER_BITS)).trailing_zeros() + 1;
        #[expect(clippy::cast_possible_truncation, reason = "at most 50")]
        let rank = rank as u8;
        if let Some(held) = self.registers.get_mut(register) {
            *held = rank.max(*held);
        }
    }

    fn keep(&mut self, source: IpAddr, room: &mut usize) {
        if self.full {
            return;
        }
        let cost = match source {
            IpAddr::V4(_) if self.ipv4_count < CONTAINERS => FIRST_COST,
            IpAddr::V4(_) => LATER_COST,
            IpAddr::V6(_) => IPV6_COST,
        };
        let is_new = match source {
            _ if *room < cost => {
                self.full = !self.contains(source);
                false
            }
            IpAddr::V4(source) => {
                let [first, ..] = source.octets();
                let bitmap = self.ipv4.get_mut(usize::from(first));
                let is_new = bitmap.is_some_and(|bitmap| bitmap.insert(u32::from(source)));
                self.ipv4_count += u64::from(is_new);
                is_new
            }
            IpAddr::V6(source) => self.ipv6.insert(u128::from(source)),
        };
        if is_new {
            *room -= cost;
            self.cost += cost;
        }
    }

    fn contains(&self, source: IpAddr) -> bool {
        match source {
            IpAddr::V4(source) => {
                let [first, ..] = source.octets();
                let bitmap = self.ipv4.get(usize::from(first));
                bitmap.is_some_and(|bitmap| bitmap.contains(u32::from(source)))
            }
            IpAddr::V6(source) => self.ipv6.contains(&u128::from(source)),
        }
    }

    pub(super) fn merge(&mut self, other: &Self, room: &mut usize) {
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            *mine = (*mine).max(*theirs);
        }
        let waiting = other.pending.iter().map(|source| IpAddr::V4(Ipv4Addr::from(*source)));
        for source in other.iter().chain(waiting) {
            self.keep(source, room);
        }
        self.settle(room);
        self.full |= other.full;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.iter().flatten().map(|source| IpAddr::V4(Ipv4Addr::from(source)));
        let ipv6 = self.ipv6.iter().map(|source| IpAddr::V6(Ipv6Addr::from(*source)));
        ipv4.chain(ipv6)
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> usize {
        usize::try_from(self.ipv4_count).unwrap_or(usize::MAX) + self.ipv6.len()
    }

    /// Octets that the sets take, as they say themselves; a tree takes half as much again as what
    /// is in it.
    #[cfg(test)]
    pub(super) fn octets(&self) -> usize {
        let (mut containers, mut arrays, mut others) = (0, 0, 0);
        for statistics in self.ipv4.iter().map(RoaringBitmap::statistics) {
            containers += statistics.n_containers as usize;
            arrays += statistics.n_bytes_array_containers as usize;
            others += statistics.n_bytes_bitset_containers as usize;
            others += statistics.n_bytes_run_containers as usize;
        }
        // Besides its content a container has a header, and a small one room to grow.
        let growth = arrays.min(self.kept() * 2);
        arrays + others + growth + containers * 40 + self.ipv6.len() * 24
    }

    pub(super) const fn cost(&self) -> usize {
        self.cost
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn distinct(&self) -> Distinct {
        let kept = self.kept() as u64;
        if !self.full {
            return Distinct::Exact(kept);
        }
        let error = 1.04 / (REGISTERS as f64).sqrt();
        Distinct::Estimate { sources: self.estimate().max(kept), error }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, positive and below 2^64"
    )]
    fn estimate(&self) -> u64 {
        let count = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|&rank| (-f64::from(rank)).exp2()).sum();
        let empty = self.registers.iter().filter(|&&rank| rank == 0).count();
        let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
        let estimate =
            if raw <= 2.5 * count && empty > 0 { count * (count / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }
}
