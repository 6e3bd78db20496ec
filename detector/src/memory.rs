//! Who was attacked a short while ago: attacks in pulses come back.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_model::{Prefix, Timestamp};

use crate::judge::MetricSet;

/// For how long an attack that is over is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Most targets that are remembered; the longest over is forgotten first.
const MOST: usize = 4096;
/// The longest that an attack is held open because it has come back before.
const MAX_HOLD: Duration = Duration::from_secs(300);

/// An attack that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Past {
    pub(crate) ended: Timestamp,
    /// How long it had been quiet by then.
    pub(crate) quiet: Duration,
    /// How often it had come back.
    pub(crate) returns: u32,
    /// What was over its threshold.
    pub(crate) over: MetricSet,
}

/// How long an attack is held open that came back for the `returns`-th time, after `pause`; at
/// least `usual`. Once may be chance.
pub(crate) fn hold_after(returns: u32, pause: Duration, usual: Duration) -> Duration {
    if returns < 2 { usual } else { usual.max(pause.saturating_mul(2).min(MAX_HOLD)) }
}

/// Attacks that are over, by target.
#[derive(Default)]
pub(crate) struct Memory(BTreeMap<Prefix, Past>);

impl Memory {
    pub(crate) fn note(&mut self, target: Prefix, past: Past) {
        if self.0.len() >= MOST && !self.0.contains_key(&target) {
            let oldest = self.0.iter().min_by_key(|(_, past)| past.ended).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(target, past);
    }

    /// The latest attack on `target`, if that was not long ago.
    pub(crate) fn recall(&self, now: Timestamp, target: Prefix) -> Option<Past> {
        self.0.get(&target).copied().filter(|past| now.since(past.ended) < REMEMBERED)
    }

    pub(crate) fn forget_old(&mut self, now: Timestamp) {
        self.0.retain(|_, past| now.since(past.ended) < REMEMBERED);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_over_goes_first_and_all_go_in_the_end() {
        let at = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
        let target = |number: u32| Prefix::host(std::net::Ipv4Addr::from(number).into());
        let (quiet, over) = (Duration::ZERO, MetricSet::default());
        let past = |ended| Past { ended, quiet, returns: 0, over };
        let mut memory = Memory::default();
        for number in 0..5_000 {
            memory.note(target(number), past(Timestamp::from_nanos(u64::from(number))));
        }
        assert_eq!(memory.0.len(), MOST);
        assert!(memory.recall(at(1), target(0)).is_none());
        assert!(memory.recall(at(1), target(4_999)).is_some());
        assert!(memory.recall(at(601), target(4_999)).is_none());
        memory.forget_old(at(601));
        assert!(memory.0.is_empty());
    }

    #[test]
    fn the_hold_follows_the_pauses_up_to_a_bound() {
        let usual = Duration::from_secs(10);
        for (gap, hold) in [(1, 10), (5, 10), (9, 18), (100, 200), (1000, 300)] {
            let pause = Duration::from_secs(gap);
            assert_eq!(hold_after(2, pause, usual), Duration::from_secs(hold));
            assert_eq!(hold_after(1, pause, usual), usual);
        }
    }
}
