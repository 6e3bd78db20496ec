//! From the summaries of several workers to one for each tick.
//!
//! Workers end their ticks at the same times of the same clock; one that is late ends several at
//! once. A joined summary ends at the first time at which all of them ended one, so that what a late
//! worker counted is still spread over the time in which it came.

use std::collections::VecDeque;

use tidegate_model::Timestamp;

use crate::{TICK, TrafficSummary};

/// Ticks that the others wait for a worker that says nothing. Then its part is missing, and the
/// summary is blind.
const PATIENCE: u32 = 20;

/// Summaries that wait for those of other workers.
#[derive(Debug)]
pub(super) struct Join {
    waiting: Vec<VecDeque<TrafficSummary>>,
    /// End of the latest joined summary.
    joined: Timestamp,
}

impl Join {
    pub(super) fn new(workers: usize, begin: Timestamp) -> Self {
        Self { waiting: vec![VecDeque::new(); workers], joined: begin }
    }

    /// Takes in what `worker` counted.
    pub(super) fn handle_summary(&mut self, worker: usize, mut summary: TrafficSummary) {
        // What a worker that was given up on says at last counts in the time that is left.
        summary.start = summary.start.max(self.joined);
        summary.end = summary.end.max(summary.start);
        if let Some(waiting) = self.waiting.get_mut(worker) {
            waiting.push_back(summary);
        }
    }

    /// The next joined summary, if enough is there.
    pub(super) fn poll_summary(&mut self) -> Option<TrafficSummary> {
        let (end, complete) = match self.common_end() {
            Some(end) => (end, true),
            None => (self.overdue_end()?, false),
        };
        let mut joined: Option<TrafficSummary> = None;
        for waiting in &mut self.waiting {
            while let Some(summary) = waiting.pop_front_if(|summary| summary.end <= end) {
                match &mut joined {
                    Some(joined) => joined.merge(summary),
                    None => joined = Some(summary),
                }
            }
        }
        let mut joined = joined?;
        (joined.start, joined.end) = (self.joined, end);
        joined.blind |= !complete;
        self.joined = end;
        Some(joined)
    }

    /// The first time at which every worker ended a tick.
    fn common_end(&self) -> Option<Timestamp> {
        let mut places = vec![0; self.waiting.len()];
        let mut end = Timestamp::ZERO;
        loop {
            let mut agreed = true;
            for (waiting, place) in self.waiting.iter().zip(&mut places) {
                while waiting.get(*place)?.end < end {
                    *place += 1;
                }
                let found = waiting.get(*place)?.end;
                agreed &= found == end;
                end = found;
            }
            if agreed {
                return Some(end);
            }
        }
    }

    /// The latest end that anyone has reported, if the others have waited too long.
    fn overdue_end(&self) -> Option<Timestamp> {
        let latest = self.waiting.iter().filter_map(|waiting| waiting.back()).map(|last| last.end);
        latest.max().filter(|end| end.since(self.joined) > TICK * PATIENCE)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ticks: u32) -> Timestamp {
        Timestamp::from_nanos(7) + TICK * ticks
    }

    fn summary(start: u32, end: u32, packets: u64) -> TrafficSummary {
        TrafficSummary { start: at(start), end: at(end), packets, ..TrafficSummary::default() }
    }

    fn poll(join: &mut Join) -> Option<(Timestamp, Timestamp, u64, bool)> {
        join.poll_summary().map(|joined| (joined.start, joined.end, joined.packets, joined.blind))
    }

    #[test]
    fn a_tick_is_joined_when_the_last_worker_ended_it() {
        let mut join = Join::new(2, at(0));
        join.handle_summary(0, summary(0, 1, 10));
        assert_eq!(poll(&mut join), None);
        join.handle_summary(0, summary(1, 2, 20));
        join.handle_summary(1, summary(0, 1, 1));
        assert_eq!(poll(&mut join), Some((at(0), at(1), 11, false)));
        assert_eq!(poll(&mut join), None);
        join.handle_summary(1, summary(1, 2, 2));
        assert_eq!(poll(&mut join), Some((at(1), at(2), 22, false)));
    }

    #[test]
    fn a_late_worker_makes_one_long_tick() {
        let mut join = Join::new(2, at(0));
        for tick in 0..3 {
            join.handle_summary(0, summary(tick, tick + 1, 10));
        }
        join.handle_summary(1, summary(0, 3, 5));
        assert_eq!(poll(&mut join), Some((at(0), at(3), 35, false)));
        // Each in turn late: they meet at the end of both.
        join.handle_summary(0, summary(3, 5, 1));
        join.handle_summary(1, summary(3, 4, 1));
        join.handle_summary(0, summary(5, 6, 1));
        join.handle_summary(1, summary(4, 6, 1));
        assert_eq!(poll(&mut join), Some((at(3), at(6), 4, false)));
    }

    #[test]
    fn a_silent_worker_is_blindness_and_delays_nobody_for_long() {
        let mut join = Join::new(2, at(0));
        for tick in 0..=PATIENCE {
            assert_eq!(poll(&mut join), None);
            join.handle_summary(0, summary(tick, tick + 1, 1));
        }
        let all = u64::from(PATIENCE) + 1;
        assert_eq!(poll(&mut join), Some((at(0), at(PATIENCE + 1), all, true)));
        // What it says at last is not lost.
        join.handle_summary(1, summary(0, PATIENCE, 100));
        join.handle_summary(0, summary(PATIENCE + 1, PATIENCE + 2, 1));
        join.handle_summary(1, summary(PATIENCE, PATIENCE + 2, 1));
        let expected = (at(PATIENCE + 1), at(PATIENCE + 2), 102, false);
        assert_eq!(poll(&mut join), Some(expected));
    }

    proptest! {
        /// Joined ticks touch, and nothing is lost or counted twice.
        #[test]
        fn everything_comes_out_once(
            lengths in proptest::collection::vec(
                proptest::collection::vec(1_u32..4, 1..40),
                1..4,
            ),
        ) {
            let mut join = Join::new(lengths.len(), at(0));
            let (mut given, mut taken, mut last) = (0, 0, at(0));
            let mut ends = vec![0; lengths.len()];
            for turn in 0..40 {
                for (worker, lengths) in lengths.iter().enumerate() {
                    let length = lengths[turn % lengths.len()];
                    let end = ends[worker] + length;
                    join.handle_summary(worker, summary(ends[worker], end, 1));
                    ends[worker] = end;
                    given += 1;
                }
                while let Some(joined) = join.poll_summary() {
                    prop_assert_eq!(joined.start, last);
                    prop_assert!(joined.end >= joined.start);
                    last = joined.end;
                    taken += joined.packets;
                }
            }
            let left: u64 = join.waiting.iter().flatten().map(|summary| summary.packets).sum();
            prop_assert_eq!(given, taken + left);
        }
    }
}
