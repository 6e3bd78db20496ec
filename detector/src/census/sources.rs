//! The set of all sources.

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::Distinct;

/// Registers of the estimate: standard error `1.04 / sqrt(16384)`, 0.8 %.
const REGISTER_BITS: u32 = 14;
const REGISTERS: usize = 1 << REGISTER_BITS;
/// Octets of the smallest table of either kind, at most.
const SMALLEST: usize = 256;
/// Sources that were seen last, so that who sends much is not looked up each time.
const RECENT: usize = 1024;

/// Distinct sources, exact while there is room.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    ipv4: HashTable<u32>,
    ipv6: HashTable<u128>,
    /// Keys both tables.
    hasher: FixedState,
    /// Some source found no room.
    full: bool,
    recent: Box<[u64]>,
    registers: Box<[u8]>,
}

impl Sources {
    pub(super) fn new(hasher: FixedState) -> Self {
        Self {
            ipv4: HashTable::new(),
            ipv6: HashTable::new(),
            hasher,
            full: false,
            recent: vec![0; RECENT].into(),
            registers: vec![0; REGISTERS].into(),
        }
    }

    /// None yet, under the same key.
    pub(super) fn fresh(&self) -> Self {
        Self::new(self.hasher.clone())
    }

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
        self.keep(source, room);
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

    #[inline]
    fn keep(&mut self, source: IpAddr, room: &mut usize) {
        // What is full stays as it is: a set that goes on and off says nothing.
        if self.full {
            return;
        }
        let hasher = &self.hasher;
        let kept = match source {
            IpAddr::V4(source) => put(&mut self.ipv4, u32::from(source), hasher, room),
            IpAddr::V6(source) => put(&mut self.ipv6, u128::from(source), hasher, room),
        };
        self.full = !kept;
    }

    pub(super) fn merge(&mut self, other: &Self, room: &mut usize) {
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            *mine = (*mine).max(*theirs);
        }
        other.iter().for_each(|source| self.keep(source, room));
        self.full |= other.full;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.iter().map(|source| IpAddr::V4(Ipv4Addr::from(*source)));
        let ipv6 = self.ipv6.iter().map(|source| IpAddr::V6(Ipv6Addr::from(*source)));
        ipv4.chain(ipv6)
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    /// Octets that the tables take.
    pub(super) fn cost(&self) -> usize {
        self.ipv4.allocation_size() + self.ipv6.allocation_size()
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

/// Puts `source` into `table`. False if it was not there and there is no room for it: a table grows to
/// twice its size, and needs both for a moment.
#[inline]
fn put<A: Copy + Eq + Hash>(
    table: &mut HashTable<A>,
    source: A,
    hasher: &FixedState,
    room: &mut usize,
) -> bool {
    let hash = hasher.hash_one(source);
    if table.find(hash, |held| *held == source).is_some() {
        return true;
    }
    if table.len() < table.capacity() {
        table.insert_unique(hash, source, |held| hasher.hash_one(held));
        return true;
    }
    let before = table.allocation_size();
    if *room < before * 2 + SMALLEST {
        return false;
    }
    table.insert_unique(hash, source, |held| hasher.hash_one(held));
    *room = room.saturating_sub(table.allocation_size() - before);
    true
}
