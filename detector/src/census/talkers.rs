//! Who sends most: Metwally et al., "Space-Saving", 2005, in small sets side by side.
//!
//! A source belongs to one set of [`WAYS`] counters by its hash. A new one takes the place of the
//! smallest and inherits its count as its error: no count is too low, and none is too high by more
//! than is said.

use std::net::{IpAddr, Ipv4Addr};

const SETS: usize = 64;
const WAYS: usize = 8;

/// A source and what it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talker {
    /// Its address.
    pub source: IpAddr,
    /// Packets, at most; at least `packets - error`.
    pub packets: u64,
    /// Bytes on the wire of those packets that were counted under its own name.
    pub bytes: u64,
    /// How many of the packets may be others'.
    pub error: u64,
}

/// Counters of one set, each kind in a row of its own: they are compared all at once.
#[derive(Clone, Copy, Debug, Default)]
struct Set {
    hashes: [u64; WAYS],
    /// Zero is a place that is free.
    packets: [u64; WAYS],
    errors: [u64; WAYS],
    bytes: [u64; WAYS],
}

/// Counters for the sources that send most.
#[derive(Clone, Debug)]
pub(super) struct Talkers {
    sets: Box<[Set]>,
    sources: Box<[[IpAddr; WAYS]]>,
}

impl Default for Talkers {
    fn default() -> Self {
        let nobody = [IpAddr::V4(Ipv4Addr::UNSPECIFIED); WAYS];
        Self { sets: vec![Set::default(); SETS].into(), sources: vec![nobody; SETS].into() }
    }
}

impl Talkers {
    #[inline]
    pub(super) fn insert(&mut self, source: IpAddr, hash: u64, bytes: u64) {
        self.put(hash, Talker { source, packets: 1, bytes, error: 0 });
    }

    /// What `other` counted, set by set: both were filled by the same hashes.
    pub(super) fn merge(&mut self, other: &Self) {
        for (hash, talker) in other.iter() {
            self.put(hash, talker);
        }
    }

    pub(super) fn most(&self, most: usize) -> Vec<Talker> {
        let mut all: Vec<Talker> = self.iter().map(|(_, talker)| talker).collect();
        all.sort_by_key(|talker| (std::cmp::Reverse(talker.packets - talker.error), talker.source));
        // What may have sent nothing at all is no talker.
        all.retain(|talker| talker.packets > 2 * talker.error);
        all.truncate(most);
        all
    }

    fn iter(&self) -> impl Iterator<Item = (u64, Talker)> {
        self.sets.iter().zip(&self.sources).flat_map(|(set, sources)| {
            let Set { hashes, packets, errors, bytes } = set;
            let counts = packets.iter().zip(errors).zip(bytes);
            let all = hashes.iter().zip(sources).zip(counts);
            all.filter_map(|((&hash, &source), ((&packets, &error), &bytes))| {
                (packets > 0).then_some((hash, Talker { source, packets, bytes, error }))
            })
        })
    }

    /// Counts what `new` sent. The whole hash stands for the source: two that share it are as rare
    /// as 2^-64.
    #[inline]
    fn put(&mut self, hash: u64, new: Talker) {
        let index = (hash >> 20) as usize & (SETS - 1);
        let (Some(set), Some(sources)) = (self.sets.get_mut(index), self.sources.get_mut(index))
        else {
            return;
        };
        let known = set
            .hashes
            .iter()
            .zip(&set.packets)
            .position(|(held, packets)| *held == hash && *packets > 0);
        let way = known.unwrap_or_else(|| {
            let mut smallest = (u64::MAX, 0);
            for (way, packets) in set.packets.iter().enumerate() {
                if *packets < smallest.0 {
                    smallest = (*packets, way);
                }
            }
            smallest.1
        });
        let (Some(held), Some(packets), Some(error), Some(bytes), Some(source)) = (
            set.hashes.get_mut(way),
            set.packets.get_mut(way),
            set.errors.get_mut(way),
            set.bytes.get_mut(way),
            sources.get_mut(way),
        ) else {
            return;
        };
        if known.is_none() {
            // What the one before was counted under is the new one's error.
            (*held, *source, *error, *bytes) = (hash, new.source, *packets, 0);
        }
        *packets += new.packets;
        *error += new.error;
        *bytes = bytes.saturating_add(new.bytes);
    }
}
