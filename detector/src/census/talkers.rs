//! Who sends most: Metwally et al., "Space-Saving", 2005, in small sets side by side.
//!
//! A source belongs to one set of [`WAYS`] counters by its hash. A new one takes the place of the
//! smallest and inherits its count as its error: no count is too low, and none is too high by more
//! than is said.

use std::net::IpAddr;

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

/// Counters for the sources that send most.
#[derive(Clone, Debug)]
pub(super) struct Talkers(Box<[[Option<Talker>; WAYS]]>);

impl Default for Talkers {
    fn default() -> Self {
        Self(vec![[None; WAYS]; SETS].into())
    }
}

impl Talkers {
    #[inline]
    pub(super) fn insert(&mut self, source: IpAddr, hash: u64, bytes: u64) {
        let Some(set) = self.0.get_mut((hash >> 20) as usize & (SETS - 1)) else { return };
        put(set, Talker { source, packets: 1, bytes, error: 0 });
    }

    /// What `other` counted, set by set: both were filled by the same hashes.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            theirs.iter().flatten().for_each(|talker| put(mine, *talker));
        }
    }

    pub(super) fn most(&self, most: usize) -> Vec<Talker> {
        let mut all: Vec<Talker> = self.0.iter().flatten().flatten().copied().collect();
        all.sort_by_key(|talker| (std::cmp::Reverse(talker.packets - talker.error), talker.source));
        // What may have sent nothing at all is no talker.
        all.retain(|talker| talker.packets > 2 * talker.error);
        all.truncate(most);
        all
    }
}

#[inline]
fn put(set: &mut [Option<Talker>; WAYS], new: Talker) {
    let mut smallest = (u64::MAX, 0);
    for (way, held) in set.iter_mut().enumerate() {
        match held {
            Some(held) if held.source == new.source => {
                held.packets += new.packets;
                held.bytes = held.bytes.saturating_add(new.bytes);
                held.error += new.error;
                return;
            }
            Some(held) => smallest = smallest.min((held.packets, way)),
            None => {
                *held = Some(new);
                return;
            }
        }
    }
    if let Some(place) = set.get_mut(smallest.1) {
        let inherited = smallest.0;
        *place =
            Some(Talker { packets: new.packets + inherited, error: new.error + inherited, ..new });
    }
}
