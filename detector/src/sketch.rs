//! Small fixed-size summaries of what packets have in common.
//!
//! Every sketch has a fixed size, merges with its like, and errs to the safe side: ports and
//! flags are never claimed to cover more packets than they do.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::FixedState;

/// The hash under which an address is counted.
#[inline]
pub(crate) fn address_hash(hasher: &FixedState, address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => hasher.hash_one(u32::from(address)),
        IpAddr::V6(address) => hasher.hash_one(u128::from(address)),
    }
}

/// Registers of a [`SourceSketch`]: standard error `1.04 / sqrt(256)`, 6.5 %.
const REGISTERS: usize = 256;

/// Counts distinct sources by their hashes: HyperLogLog (Flajolet et al., 2007), with linear
/// counting while few registers are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSketch([u8; REGISTERS]);

impl Default for SourceSketch {
    fn default() -> Self {
        Self([0; REGISTERS])
    }
}

impl SourceSketch {
    /// Counts the source with this hash.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        let [low, ..] = hash.to_le_bytes();
        // The lowest bits choose the register, the others the rank.
        let rank = (hash | 0x80).leading_zeros() + 1;
        #[expect(clippy::cast_possible_truncation, reason = "at most 57")]
        let rank = rank as u8;
        if let Some(register) = self.0.get_mut(usize::from(low)) {
            *register = rank.max(*register);
        }
    }

    /// Adds the sources of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = theirs.max(*mine);
        }
    }

    /// How many distinct sources there are, about.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, positive and below 2^64"
    )]
    pub fn estimate(&self) -> u64 {
        let count = REGISTERS as f64;
        let sum: f64 = self.0.iter().map(|&rank| (-f64::from(rank)).exp2()).sum();
        let empty = self.0.iter().filter(|&&rank| rank == 0).count();
        let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
        let estimate =
            if raw <= 2.5 * count && empty > 0 { count * (count / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }
}

/// Values from which on it can be said how many of them are new.
const ENOUGH_VALUES: u64 = 64;
/// Values after which the count of distinct ones begins anew.
const MAX_VALUES: u64 = 4096;

/// How many of the values are ones that were not seen before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variety {
    distinct: SourceSketch,
    values: u64,
    /// What was true before the count began anew.
    before: Option<f64>,
}

impl Variety {
    /// Counts the value with this hash.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        self.values += 1;
        self.distinct.insert(hash);
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.values += other.values;
        self.distinct.merge(&other.distinct);
        self.before = self.before.or(other.before);
    }

    /// The part of the values that were new, `0.0..=1.0`, about; `None` while there are few.
    #[must_use]
    pub fn share_new(&self) -> Option<f64> {
        let now = (self.values >= ENOUGH_VALUES)
            .then(|| part(self.distinct.estimate(), self.values).min(1.0));
        now.or(self.before)
    }

    /// Begins anew after many values: a set that is only large enough would look like new values
    /// for ever if the distinct ones were kept and the values forgotten.
    pub(crate) fn age(&mut self) {
        if self.values >= MAX_VALUES {
            *self = Self { before: self.share_new(), ..Self::default() };
        }
    }
}

/// The most frequent of many values: Misra and Gries, 1982.
///
/// A count is never too high and too low by at most the packets that found no slot, divided by
/// `SLOTS + 1`; with no more than `SLOTS` distinct values it is exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequent<const SLOTS: usize> {
    values: [u16; SLOTS],
    counts: [u32; SLOTS],
    used: usize,
}

impl<const SLOTS: usize> Default for Frequent<SLOTS> {
    fn default() -> Self {
        Self { values: [0; SLOTS], counts: [0; SLOTS], used: 0 }
    }
}

impl<const SLOTS: usize> Frequent<SLOTS> {
    /// Counts one packet with `value`.
    #[inline]
    pub fn insert(&mut self, value: u16) {
        for (held, count) in self.values.iter().zip(&mut self.counts).take(self.used) {
            if *held == value {
                *count = count.saturating_add(1);
                return;
            }
        }
        if let (Some(held), Some(count)) =
            (self.values.get_mut(self.used), self.counts.get_mut(self.used))
        {
            (*held, *count) = (value, 1);
            self.used += 1;
        } else {
            self.subtract(1);
        }
    }

    /// Lowers every count by `amount` and drops those that reach zero.
    fn subtract(&mut self, amount: u32) {
        let mut lowest = u32::MAX;
        for count in &mut self.counts {
            *count = count.saturating_sub(amount);
            lowest = lowest.min(*count);
        }
        if lowest == 0 {
            self.retain_counted();
        }
    }

    fn retain_counted(&mut self) {
        let mut kept = 0;
        for index in 0..self.used {
            if self.counts[index] > 0 {
                self.values[kept] = self.values[index];
                self.counts[kept] = self.counts[index];
                kept += 1;
            }
        }
        self.used = kept;
    }

    fn assign(&mut self, pairs: &[(u16, u32)]) {
        *self = Self::default();
        for ((held, count), &pair) in self.values.iter_mut().zip(&mut self.counts).zip(pairs) {
            (*held, *count) = pair;
            self.used += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u16, u32)> {
        self.values.iter().copied().zip(self.counts).take(self.used)
    }

    /// Values with their counts, most frequent first, equal counts by value.
    #[must_use]
    pub fn sorted(&self) -> Vec<(u16, u32)> {
        let mut pairs: Vec<(u16, u32)> = self.iter().collect();
        pairs.sort_unstable_by_key(|&(value, count)| (std::cmp::Reverse(count), value));
        pairs
    }

    /// Adds the counts of `other` (Agarwal et al., "Mergeable Summaries", 2012).
    pub fn merge(&mut self, other: &Self) {
        let mut pairs = self.sorted();
        for (value, count) in other.iter() {
            match pairs.iter_mut().find(|(held, _)| *held == value) {
                Some((_, mine)) => *mine = mine.saturating_add(count),
                None => pairs.push((value, count)),
            }
        }
        pairs.sort_unstable_by_key(|&(value, count)| (std::cmp::Reverse(count), value));
        let beyond = pairs.get(SLOTS).map_or(0, |&(_, count)| count);
        pairs.truncate(SLOTS);
        for (_, count) in &mut pairs {
            *count -= beyond.min(*count);
        }
        pairs.retain(|&(_, count)| count > 0);
        self.assign(&pairs);
    }

    /// The fewest values that together cover `share` of `total` packets, most frequent first;
    /// empty if `most` values do not.
    #[must_use]
    pub fn covering(&self, share: f64, total: u64, most: usize) -> Vec<u16> {
        let mut chosen = Vec::new();
        let mut covered = 0;
        for (value, count) in self.sorted().into_iter().take(most) {
            chosen.push(value);
            covered += u64::from(count);
            if total > 0 && part(covered, total) >= share {
                return chosen;
            }
        }
        Vec::new()
    }

    /// Packets that carry one of the held values, at least.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.iter().map(|(_, count)| u64::from(count)).sum()
    }

    /// Forgets half of the past.
    pub fn halve(&mut self) {
        for count in &mut self.counts {
            *count /= 2;
        }
        self.retain_counted();
    }
}

/// Width of a length bin in bytes.
const BIN_WIDTH: u16 = 48;
/// Bins of lengths; the last holds all from 1488 bytes on, which is one full Ethernet frame.
const BINS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bin {
    count: u32,
    low: u16,
    high: u16,
}

/// How packet lengths are spread: coarse counts with exact edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LengthBands([Bin; BINS]);

impl Default for LengthBands {
    fn default() -> Self {
        Self([Bin { count: 0, low: u16::MAX, high: 0 }; BINS])
    }
}

impl LengthBands {
    /// Counts one packet of `length` bytes.
    #[inline]
    pub fn insert(&mut self, length: u16) {
        if let Some(bin) = self.0.get_mut(usize::from(length / BIN_WIDTH).min(BINS - 1)) {
            bin.count = bin.count.saturating_add(1);
            bin.low = bin.low.min(length);
            bin.high = bin.high.max(length);
        }
    }

    /// Adds the packets of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            mine.count = mine.count.saturating_add(theirs.count);
            mine.low = mine.low.min(theirs.low);
            mine.high = mine.high.max(theirs.high);
        }
    }

    /// The narrowest band of lengths, both ends inclusive, that leaves out no more than
    /// `1 - share` of the packets; `None` without packets.
    #[must_use]
    pub fn covering(&self, share: f64) -> Option<(u16, u16)> {
        let total: u64 = self.0.iter().map(|bin| u64::from(bin.count)).sum();
        let mut bins: &[Bin] = &self.0;
        let mut kept = total;
        loop {
            let (first, last) = (bins.first()?, bins.last()?);
            let (smaller, rest) = if first.count <= last.count {
                (first, bins.get(1..)?)
            } else {
                (last, bins.get(..bins.len() - 1)?)
            };
            let without = kept - u64::from(smaller.count);
            if total == 0 || (smaller.count > 0 && part(without, total) < share) {
                break;
            }
            (kept, bins) = (without, rest);
        }
        let used = || bins.iter().filter(|bin| bin.count > 0);
        Some((used().map(|bin| bin.low).min()?, used().map(|bin| bin.high).max()?))
    }

    /// Forgets half of the past.
    pub fn halve(&mut self) {
        for bin in &mut self.0 {
            bin.count /= 2;
            if bin.count == 0 {
                (bin.low, bin.high) = (u16::MAX, 0);
            }
        }
    }
}

/// `count / total` as a fraction; zero of nothing is zero.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a share, three digits matter")]
pub(crate) fn part(count: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { count as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources_are_counted_within_a_fifth() {
        let hasher = foldhash::quality::FixedState::with_seed(7);
        for count in [0_u64, 1, 2, 10, 100, 600, 1_000, 10_000, 1_000_000] {
            let mut sketch = SourceSketch::default();
            for source in 0..count {
                sketch.insert(hasher.hash_one(source));
                sketch.insert(hasher.hash_one(source));
            }
            let error = part(sketch.estimate().abs_diff(count), count);
            assert!(error < 0.2, "{count} counted as {}", sketch.estimate());
        }
    }

    #[test]
    fn few_values_are_exact() {
        let mut frequent = Frequent::<4>::default();
        for value in [53, 53, 123, 53, 80, 80] {
            frequent.insert(value);
        }
        assert_eq!(frequent.sorted(), [(53, 3), (80, 2), (123, 1)]);
        assert_eq!(frequent.covering(0.5, 6, 4), [53]);
        assert_eq!(frequent.covering(0.8, 6, 4), [53, 80]);
        assert!(frequent.covering(0.8, 6, 1).is_empty());
        assert!(frequent.covering(0.8, 0, 4).is_empty());
    }

    #[test]
    fn random_values_are_never_called_frequent() {
        let mut frequent = Frequent::<16>::default();
        for value in 0..60_000 {
            frequent.insert(value);
        }
        assert!(frequent.covered() < 60_000 / 16);
        assert!(frequent.covering(0.1, 60_000, 16).is_empty());
    }

    #[test]
    fn one_in_a_hundred_does_not_widen_the_band() {
        let mut bands = LengthBands::default();
        for _ in 0..1000 {
            bands.insert(468);
        }
        for length in [40, 60, 1400, 1500, 9000] {
            bands.insert(length);
        }
        assert_eq!(bands.covering(0.99), Some((468, 468)));
        assert_eq!(bands.covering(1.0), Some((40, 9000)));
        assert_eq!(LengthBands::default().covering(0.99), None);
    }

    proptest! {
        #[test]
        fn counts_are_never_too_high(
            values in proptest::collection::vec(0_u16..40, 0..400),
            cut in 0_usize..400,
        ) {
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = Frequent::<8>::default();
            left.iter().for_each(|&value| merged.insert(value));
            let mut other = Frequent::<8>::default();
            right.iter().for_each(|&value| other.insert(value));
            merged.merge(&other);
            for (value, count) in merged.sorted() {
                let real = values.iter().filter(|&&held| held == value).count();
                let lost = values.len() / 9 + 1;
                prop_assert!(count as usize <= real && count as usize + lost >= real);
            }
        }

        #[test]
        fn a_band_covers_what_it_says(
            lengths in proptest::collection::vec(0_u16..2000, 1..300),
            share in 0.5_f64..1.0,
        ) {
            let mut bands = LengthBands::default();
            lengths.iter().for_each(|&length| bands.insert(length));
            let (low, high) = bands.covering(share).unwrap();
            let inside = lengths.iter().filter(|&&length| (low..=high).contains(&length)).count();
            prop_assert!(part(inside as u64, lengths.len() as u64) >= share);
        }
    }
}
