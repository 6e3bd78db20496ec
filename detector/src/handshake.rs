//! Connection requests whose senders proved that they are there.
//!
//! A protected host answers a SYN with a number of its own choice; only who received that answer
//! can acknowledge it. A segment that does is proof of a real peer, whatever else is forged: a
//! flood of forged SYNs, each followed by a forged ACK, has to guess 32 bits each time. What a tap
//! sees of one direction only proves nothing and excuses nothing.
//!
//! A real peer may still open connections without end. What it completes beyond
//! [`MOST_OF_ONE_PEER`] in one generation is counted, and not excused.

use std::time::Duration;

use tidegate_model::Timestamp;

use crate::filter::Recent;

/// For how long an answer may be acknowledged, at least.
const GENERATION: Duration = Duration::from_secs(2);
/// Answers that are remembered in one generation: with more the filter would know numbers that
/// were never sent. The rest excuse nothing, as under a flood that makes the host answer.
const MOST_ANSWERS: u32 = 100_000;
/// Connections of one peer with one host that are excused in one generation: browsers open six.
const MOST_OF_ONE_PEER: u8 = 8;
/// Counters of one row, and rows: Cormode and Muthukrishnan, "Count-min sketch", 2005.
const COUNTERS: usize = 1 << 14;
const ROWS: u32 = 2;

/// A handshake that was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    /// By a peer that does not do it too often.
    Excused,
    /// By one that does.
    Excessive,
}

/// Answers to connection requests, and who completed how many.
pub(crate) struct Handshakes {
    offered: Recent,
    by_peer: Box<[u8]>,
}

impl Handshakes {
    pub(crate) fn new() -> Self {
        Self {
            offered: Recent::new(GENERATION, MOST_ANSWERS),
            by_peer: vec![0; COUNTERS * ROWS as usize].into(),
        }
    }

    /// A SYN-ACK left. `hash` is of both ends and of the number that acknowledges it.
    #[inline]
    pub(crate) fn offer(&mut self, hash: u64) {
        self.offered.insert(hash);
    }

    /// No answer is waiting to be acknowledged.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.offered.is_empty()
    }

    /// A segment came that acknowledges the number in `hash`; `pair` is the hash of host and peer.
    /// `None` if no such answer was sent.
    #[inline]
    pub(crate) fn complete(&mut self, hash: u64, pair: u64) -> Option<Completed> {
        if !self.offered.contains(hash) {
            return None;
        }
        let mut least = u8::MAX;
        for row in 0..ROWS {
            #[expect(clippy::cast_possible_truncation, reason = "masked to the row's size")]
            let place = pair.rotate_right(row * 16) as usize & (COUNTERS - 1);
            if let Some(count) = self.by_peer.get_mut(row as usize * COUNTERS + place) {
                *count = count.saturating_add(1);
                least = least.min(*count);
            }
        }
        let excused = least <= MOST_OF_ONE_PEER;
        Some(if excused { Completed::Excused } else { Completed::Excessive })
    }

    pub(crate) fn advance(&mut self, now: Timestamp) {
        if self.offered.advance(now) {
            self.by_peer.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn a_peer_is_excused_a_few_times_and_others_are_not_charged_for_it() {
        let hasher = foldhash::quality::FixedState::with_seed(7);
        let mut handshakes = Handshakes::new();
        assert!(handshakes.is_idle());
        let mut excused = 0;
        for number in 0..100 {
            let hash = hasher.hash_one((1, number));
            assert_eq!(handshakes.complete(hash, 9), None, "nothing was offered");
            handshakes.offer(hash);
            let completed = handshakes.complete(hash, 9).unwrap();
            excused += u32::from(completed == Completed::Excused);
        }
        assert_eq!(excused, u32::from(MOST_OF_ONE_PEER));
        let hash = hasher.hash_one((2, 2));
        handshakes.offer(hash);
        assert_eq!(handshakes.complete(hash, hasher.hash_one(77)), Some(Completed::Excused));
        handshakes.advance(Timestamp::ZERO + GENERATION);
        assert_eq!(handshakes.complete(hash, 9), Some(Completed::Excused));
    }

    #[test]
    fn guesses_hit_rarely_however_many_answers_wait() {
        let hasher = foldhash::quality::FixedState::with_seed(7);
        let mut handshakes = Handshakes::new();
        (0..1_000_000).for_each(|number| handshakes.offer(hasher.hash_one((1, number))));
        let hits = (0..10_000)
            .filter(|number| handshakes.complete(hasher.hash_one((2, number)), *number).is_some())
            .count();
        assert!(hits < 500, "{hits} of 10,000 guesses");
    }
}
