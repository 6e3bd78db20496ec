//! What was copied of late.

use std::collections::VecDeque;
use std::time::Duration;

use super::recorder::Segment;

/// Segments that are young enough and fit. The oldest go first.
#[derive(Debug)]
pub struct Ring {
    segments: VecDeque<Segment>,
    bytes: usize,
    max_bytes: usize,
    span: Duration,
}

impl Ring {
    /// A ring that keeps `span`, or less if that takes more than `max_bytes`.
    #[must_use]
    pub fn new(span: Duration, max_bytes: usize) -> Self {
        Self { segments: VecDeque::new(), bytes: 0, max_bytes, span }
    }

    /// Adds `segment` and drops what is older than the span before its end, or has no room.
    pub fn push(&mut self, segment: Segment) {
        let newest = segment.until;
        self.bytes += segment.size();
        self.segments.push_back(segment);
        while self.bytes > self.max_bytes
            || self.segments.front().is_some_and(|oldest| newest.since(oldest.until) > self.span)
        {
            let Some(dropped) = self.segments.pop_front() else { return };
            self.bytes -= dropped.size();
        }
    }

    /// Bytes of memory that the segments take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is kept, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::Timestamp;

    use super::*;
    use crate::forensics::{Budget, Record, Recorder};
    use crate::packet::LinkType;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(milliseconds)
    }

    #[test]
    fn age_and_size_are_bounds() {
        let budget = Budget { rate: 1 << 30, burst: 1 << 30 };
        let mut recorder = Recorder::new(budget, at(0));
        let mut fill = |ring: &mut Ring, from: u64, count: u64| {
            for turn in 1..=count {
                let (link, data) = (LinkType::RawIp, &[0; 1000][..]);
                let time = from + turn;
                let record = Record { time, interface: 0, link, data, wire_length: 1000 };
                recorder.record(None, record);
                ring.push(recorder.finish_tick(at(from + turn * 100)).unwrap());
            }
        };
        let mut ring = Ring::new(Duration::from_secs(1), 1 << 20);
        fill(&mut ring, 0, 100);
        assert_eq!(ring.segments().count(), 11);
        assert_eq!(ring.bytes(), ring.segments().map(Segment::size).sum());
        let mut small = Ring::new(Duration::from_secs(1000), 5000);
        fill(&mut small, 100_000, 100);
        assert_eq!(small.segments().count(), 4);
        assert!(small.bytes() <= 5000);
        // One that does not fit by itself is not kept.
        let mut tiny = Ring::new(Duration::from_secs(1), 10);
        fill(&mut tiny, 200_000, 1);
        assert_eq!((tiny.segments().count(), tiny.bytes()), (0, 0));
    }
}
