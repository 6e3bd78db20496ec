//! A small generator of pseudo-random numbers: the same seed gives the same bytes everywhere.

/// xoshiro256++ (Blackman and Vigna), seeded through SplitMix64.
#[derive(Clone, Debug)]
pub struct Random([u64; 4]);

/// One step of SplitMix64: spreads `value` over all 64 bits.
#[must_use]
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Random {
    /// A generator whose whole future is decided by `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let first = mix(seed);
        let second = mix(first);
        let third = mix(second);
        Self([first, second, third, mix(third)])
    }

    /// A generator for a part of the work, independent of its siblings.
    #[must_use]
    pub(crate) fn branch(&self, index: u64) -> Self {
        Self::new(mix(self.0[0] ^ mix(index)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let [first, second, third, fourth] = &mut self.0;
        let result = first.wrapping_add(*fourth).rotate_left(23).wrapping_add(*first);
        let shifted = *second << 17;
        *third ^= *first;
        *fourth ^= *second;
        *second ^= *third;
        *first ^= *fourth;
        *third ^= shifted;
        *fourth = fourth.rotate_left(45);
        result
    }

    /// A number below `bound`; zero if `bound` is zero.
    ///
    /// The bias of the multiply-and-shift reduction is below 2^-32 for bounds under 2^32.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// A number from `low` to `high`, both inclusive.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A port from `low` to `high`, both inclusive.
    pub(crate) fn port(&mut self, low: u16, high: u16) -> u16 {
        u16::try_from(self.between(low.into(), high.into())).unwrap_or(high)
    }

    /// One octet.
    pub(crate) fn octet(&mut self) -> u8 {
        (self.bits() >> 56) as u8
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, or the default of none.
    pub(crate) fn pick<T: Copy + Default>(&mut self, items: &[T]) -> T {
        let index = self.below(items.len() as u64);
        usize::try_from(index).ok().and_then(|index| items.get(index)).copied().unwrap_or_default()
    }

    /// Appends `length` random octets to `to`.
    pub(crate) fn fill(&mut self, to: &mut Vec<u8>, length: usize) {
        let end = to.len() + length;
        while to.len() < end {
            to.extend_from_slice(&self.bits().to_le_bytes());
        }
        to.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers() {
        let (mut one, mut other) = (Random::new(7), Random::new(7));
        let first: Vec<u64> = (0..100).map(|_| one.bits()).collect();
        assert_eq!(first, (0..100).map(|_| other.bits()).collect::<Vec<_>>());
        assert_ne!(first.first(), Some(&Random::new(8).bits()));
        assert_ne!(one.branch(1).bits(), one.branch(2).bits());
    }

    #[test]
    fn bounds_hold_and_are_reached() {
        let mut random = Random::new(1);
        let mut seen = [false; 3];
        for _ in 0..1000 {
            let value = random.between(5, 7);
            assert!((5..=7).contains(&value));
            seen[usize::try_from(value - 5).unwrap()] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.between(9, 9), 9);
    }

    #[test]
    fn fills_exactly() {
        let mut bytes = vec![1];
        Random::new(3).fill(&mut bytes, 13);
        assert_eq!(bytes.len(), 14);
    }
}
