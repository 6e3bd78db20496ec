//! What was lately said, remembered in a fixed amount of memory: a Bloom filter in two generations,
//! and counters that many share.

use std::time::Duration;

use tidegate_model::Timestamp;

/// Bits of one generation: 128 KiB.
const BITS: usize = 1 << 20;
const WORDS: usize = BITS / 64;

/// Hashes that were noted within one to two generations.
///
/// Of fixed size. It never forgets too early; how often it knows what was never noted depends on
/// how many are noted in a generation, of which there is a most.
pub(crate) struct Recent {
    current: Box<[u64]>,
    previous: Box<[u64]>,
    rotated: Timestamp,
    generation: Duration,
    /// Notes in the current generation and in the one before.
    held: (u32, u32),
    most: u32,
}

impl Recent {
    /// Remembers for `generation` to twice that. Of more than `most` notes in one generation the
    /// rest are not taken.
    pub(crate) fn new(generation: Duration, most: u32) -> Self {
        Self {
            current: vec![0; WORDS].into(),
            previous: vec![0; WORDS].into(),
            rotated: Timestamp::ZERO,
            generation,
            held: (0, 0),
            most,
        }
    }

    /// Notes `hash`.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u64) {
        if self.held.0 >= self.most {
            return;
        }
        self.held.0 += 1;
        for (word, bit) in probes(hash) {
            if let Some(word) = self.current.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether `hash` was noted.
    #[inline]
    pub(crate) fn contains(&self, hash: u64) -> bool {
        [&self.current, &self.previous].into_iter().any(|generation| {
            probes(hash)
                .iter()
                .all(|&(word, bit)| generation.get(word).is_some_and(|word| word & bit != 0))
        })
    }

    /// Nothing is remembered.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.held == (0, 0)
    }

    /// Forgets what is older than two generations. True if a new generation begins.
    pub(crate) fn advance(&mut self, now: Timestamp) -> bool {
        let age = now.since(self.rotated);
        if age < self.generation {
            return false;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.fill(0);
        self.held = (0, self.held.0);
        if age >= self.generation * 2 {
            self.previous.fill(0);
            self.held.1 = 0;
        }
        self.rotated = now;
        true
    }
}

/// Counters of one row of [`Owed`]: 256 KiB.
const COUNTERS: usize = 1 << 17;

/// How many answers are owed to each of many: a count-min sketch (Cormode and Muthukrishnan, 2005).
///
/// Of fixed size. Nobody is owed less than was put down for him, and halving apart; how often more
/// depends on how many there are.
pub(crate) struct Owed([Box<[u16]>; 2]);

impl Owed {
    pub(crate) fn new() -> Self {
        Self([vec![0; COUNTERS].into(), vec![0; COUNTERS].into()])
    }

    /// Puts `amount` down for `hash`.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64, amount: u16) {
        for counter in self.counters(hash).into_iter().flatten() {
            *counter = counter.saturating_add(amount);
        }
    }

    /// Takes one from what is owed to `hash`. False if nothing is.
    #[inline]
    pub(crate) fn take(&mut self, hash: u64) -> bool {
        match self.counters(hash) {
            [Some(one), Some(other)] if *one > 0 && *other > 0 => {
                *one -= 1;
                *other -= 1;
                true
            }
            _ => false,
        }
    }

    /// Forgets half of everything.
    pub(crate) fn halve(&mut self) {
        self.0.iter_mut().flatten().for_each(|counter| *counter /= 2);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "masked to the size of a row")]
    fn counters(&mut self, hash: u64) -> [Option<&mut u16>; 2] {
        let [one, other] = &mut self.0;
        let place = |hash: u64| hash as usize & (COUNTERS - 1);
        [one.get_mut(place(hash)), other.get_mut(place(hash >> 32))]
    }
}

/// Two places from one hash.
#[inline]
fn probes(hash: u64) -> [(usize, u64); 2] {
    [hash, hash.rotate_right(32)].map(|hash| {
        #[expect(clippy::cast_possible_truncation, reason = "masked to the filter's size")]
        let place = hash as usize & (BITS - 1);
        (place / 64, 1 << (place % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_owed_what_was_put_down_for_him() {
        let mut owed = Owed::new();
        let (one, other) = (0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);
        assert!(!owed.take(one));
        owed.add(one, 3);
        owed.add(other, 1);
        assert!(owed.take(one) && owed.take(one) && owed.take(one) && !owed.take(one));
        assert!(owed.take(other) && !owed.take(other));
        owed.add(one, 5);
        owed.halve();
        assert!(owed.take(one) && owed.take(one) && !owed.take(one));
        owed.add(one, u16::MAX);
        owed.add(one, u16::MAX);
        assert!(owed.take(one));
    }

    #[test]
    fn it_remembers_for_a_generation_and_takes_no_more_than_its_most() {
        let generation = Duration::from_secs(2);
        let mut recent = Recent::new(generation, 3);
        assert!(recent.is_empty());
        for hash in [11, 22, 33, 44] {
            recent.insert(hash);
        }
        assert!([11, 22, 33].into_iter().all(|hash| recent.contains(hash)));
        assert!(!recent.contains(44), "there is no room for it");
        assert!(!recent.advance(Timestamp::ZERO + generation / 2));
        assert!(recent.advance(Timestamp::ZERO + generation));
        assert!(recent.contains(11) && !recent.is_empty());
        recent.insert(44);
        assert!(recent.advance(Timestamp::ZERO + generation * 2));
        assert!(!recent.contains(11) && recent.contains(44));
        assert!(recent.advance(Timestamp::ZERO + generation * 9));
        assert!(recent.is_empty() && !recent.contains(44));
    }
}
