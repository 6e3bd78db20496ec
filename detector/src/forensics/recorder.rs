//! The copying end: bounded work on the capture thread.

use std::time::Duration;

use tidegate_model::Timestamp;

use crate::TICK;
use crate::packet::LinkType;

/// Bytes of the buffer that packets are copied to: the most that is copied in one tick.
const CAPACITY: usize = 256 << 10;

/// How long copied packets stay in the buffer at most.
const HAND_OVER: Duration = Duration::from_millis(100);

/// Of the packets beyond the full part of a tick's budget, one in so many is copied.
const SAMPLING: u32 = 64;

/// The part of a tick's budget, in quarters, in which every packet is copied.
const FULL_QUARTERS: usize = 3;

/// Packets to one address that are copied in full in a second, as far as the budget goes; of those
/// after them a sample is: a flood on one must not use up what all others need.
const FULL_OF_ONE: u16 = 1_000;

/// Counters of packets by the place of the address that they are for. Places beyond share them.
const PLACES: usize = 4096;
const SECOND: Duration = Duration::from_secs(1);

/// Octets before the packet in a record.
const HEADER: usize = 20;

/// How much may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes a second in the long run.
    pub rate: u64,
    /// Bytes beyond that after a quiet time: what keeps the first packets of a flood in full.
    pub burst: u64,
}

/// Copies packets to a buffer: the first of each address in a second, then a sample of its packets;
/// and of all of them together every one while the budget lasts, then a sample, then none.
#[derive(Debug)]
pub struct Recorder {
    budget: Budget,
    /// Bytes that may be copied now.
    credit: u64,
    buffer: Vec<u8>,
    /// Length of the buffer up to which every packet of this tick is copied, and any packet.
    full: usize,
    most: usize,
    /// Packets until the next one of the sample.
    skip: u32,
    left_out: u64,
    /// Packets to each address in this second.
    of_place: Box<[u16]>,
    second: Timestamp,
    /// When the buffer's first tick began, and when the latest ended.
    from: Timestamp,
    until: Timestamp,
    length_at_tick: usize,
}

impl Recorder {
    /// A recorder that begins at `now`.
    #[must_use]
    pub fn new(budget: Budget, now: Timestamp) -> Self {
        let mut recorder = Self {
            budget,
            credit: budget.burst,
            buffer: Vec::with_capacity(CAPACITY),
            full: 0,
            most: 0,
            skip: SAMPLING,
            left_out: 0,
            of_place: vec![0; PLACES].into(),
            second: now,
            from: now,
            until: now,
            length_at_tick: 0,
        };
        recorder.allot();
        recorder
    }

    /// Copies the packet of `record`, if the budget allows. `place` is that of the protected address
    /// that it is for, as [`Meter::observe`](crate::Meter::observe) says.
    #[inline]
    pub fn record(&mut self, place: Option<u32>, record: Record<'_>) {
        let Record { time, interface, link, data, wire_length } = record;
        let end = self.buffer.len() + HEADER + data.len();
        let many = place.is_some_and(|place| self.has_many(place));
        if (many || end > self.full) && !self.is_of_sample(end) {
            self.left_out += 1;
            return;
        }
        let captured = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut header = [0; HEADER];
        let fields = time.to_le_bytes().into_iter().chain(wire_length.to_le_bytes());
        let fields = fields.chain(captured.to_le_bytes()).chain(interface.to_le_bytes());
        for (octet, value) in header.iter_mut().zip(fields.chain(link.number().to_le_bytes())) {
            *octet = value;
        }
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(data);
    }

    /// Counts a packet to the address at `place`; whether it is beyond those that are copied in full.
    #[inline]
    fn has_many(&mut self, place: u32) -> bool {
        let count = self.of_place.get_mut(place as usize & (PLACES - 1));
        count.is_some_and(|count| {
            *count = count.saturating_add(1);
            *count > FULL_OF_ONE
        })
    }

    fn is_of_sample(&mut self, end: usize) -> bool {
        self.skip -= 1;
        if self.skip > 0 {
            return false;
        }
        self.skip = SAMPLING;
        end <= self.most
    }

    /// Ends the tick, and hands over what was copied when there is enough of it or it is old.
    pub fn finish_tick(&mut self, end: Timestamp) -> Option<Segment> {
        let used = self.buffer.len() - self.length_at_tick;
        let earned = u128::from(self.budget.rate) * end.since(self.until).as_nanos();
        let earned = u64::try_from(earned / 1_000_000_000).unwrap_or(u64::MAX);
        let credit = self.credit.saturating_sub(used as u64).saturating_add(earned);
        self.credit = credit.min(self.budget.burst.max(self.tick_rate()));
        self.until = end;
        if end.since(self.second) >= SECOND {
            self.second = end;
            self.of_place.fill(0);
        }
        let due = self.buffer.len() > CAPACITY / 2 || end.since(self.from) >= HAND_OVER;
        let segment = due.then(|| self.hand_over()).flatten();
        self.allot();
        segment
    }

    /// What was copied and not handed over yet.
    pub fn hand_over(&mut self) -> Option<Segment> {
        let from = std::mem::replace(&mut self.from, self.until);
        if self.buffer.is_empty() && self.left_out == 0 {
            return None;
        }
        let segment = Segment {
            from,
            until: self.until,
            left_out: std::mem::take(&mut self.left_out),
            bytes: self.buffer.as_slice().into(),
        };
        self.buffer.clear();
        Some(segment)
    }

    fn tick_rate(&self) -> u64 {
        self.budget.rate
            / u64::try_from(Duration::from_secs(1).as_nanos() / TICK.as_nanos()).unwrap_or(1)
    }

    /// Gives the next tick its part of the budget.
    fn allot(&mut self) {
        self.length_at_tick = self.buffer.len();
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let part = credit.min(CAPACITY - self.buffer.len().min(CAPACITY));
        self.full = self.length_at_tick + part / 4 * FULL_QUARTERS;
        self.most = self.length_at_tick + part;
    }
}

/// Packets copied one after the other on one capture thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// When the first tick that it may hold packets of began, on the driver's clock.
    pub from: Timestamp,
    /// When the last one ended.
    pub until: Timestamp,
    /// Packets of that time that were not copied.
    pub left_out: u64,
    bytes: Box<[u8]>,
}

/// One copied packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was captured, in nanoseconds since the Unix epoch, by the kernel's clock.
    pub time: u64,
    /// Number of the interface.
    pub interface: u16,
    /// What the packet begins with.
    pub link: LinkType,
    /// Its bytes, as many as were captured.
    pub data: &'a [u8],
    /// Its length on the wire, in bytes.
    pub wire_length: u32,
}

impl Segment {
    /// Bytes of memory that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }

    /// The packets, in the order in which they came.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            let (header, behind) = rest.split_first_chunk::<HEADER>()?;
            let [t0, t1, t2, t3, t4, t5, t6, t7, w0, w1, w2, w3, c0, c1, c2, c3, i0, i1, l0, l1] =
                *header;
            let captured = u32::from_le_bytes([c0, c1, c2, c3]);
            let (data, after) = behind.split_at_checked(captured as usize)?;
            rest = after;
            Some(Record {
                time: u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
                interface: u16::from_le_bytes([i0, i1]),
                link: LinkType::from_dlt(i32::from(u16::from_le_bytes([l0, l1])))?,
                data,
                wire_length: u32::from_le_bytes([w0, w1, w2, w3]),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: [u8; 100] = [7; 100];

    fn at(ticks: u32) -> Timestamp {
        Timestamp::ZERO + TICK * ticks
    }

    fn record(time: u64, data: &[u8]) -> Record<'_> {
        Record { time, interface: 3, link: LinkType::Ethernet, data, wire_length: 1500 }
    }

    fn recorder(rate: u64, burst: u64) -> Recorder {
        Recorder::new(Budget { rate, burst }, at(0))
    }

    fn put(recorder: &mut Recorder, count: u64) {
        for time in 0..count {
            recorder.record(None, record(time, &DATA));
        }
    }

    #[test]
    fn what_is_copied_comes_out_again() {
        let mut recorder = recorder(1 << 20, 1 << 20);
        let given = [
            Record { time: u64::MAX - 1, link: LinkType::RawIp, ..record(0, &[1, 2, 3]) },
            Record {
                time: 5,
                interface: 0,
                link: LinkType::LinuxCooked2,
                data: &[],
                wire_length: 0,
            },
        ];
        given.iter().for_each(|given| recorder.record(Some(9), *given));
        assert_eq!(recorder.finish_tick(at(1)), None, "little and young");
        let segment = recorder.finish_tick(at(10)).unwrap();
        assert_eq!((segment.from, segment.until, segment.left_out), (at(0), at(10), 0));
        let records: Vec<_> = segment.records().collect();
        assert_eq!(records, given);
        assert_eq!(recorder.finish_tick(at(30)), None, "nothing came");
    }

    #[test]
    fn the_first_packets_are_kept_in_full_and_a_sample_after_them() {
        let mut recorder = recorder(12_000, 120_000);
        put(&mut recorder, 100_000);
        let segment = recorder.finish_tick(at(10)).unwrap();
        let kept: Vec<u64> = segment.records().map(|record| record.time).collect();
        // Three quarters of 1000 records, then one in 64 up to a thousand.
        assert_eq!(kept.len(), 1000);
        assert!(kept.iter().take(750).copied().eq(0..750));
        let sample = kept.iter().skip(750);
        assert!(sample.clone().zip(sample.skip(1)).all(|(one, next)| next - one == 64));
        assert_eq!(segment.left_out, 99_000);
        assert_eq!(recorder.buffer.capacity(), CAPACITY, "the buffer never grows");
    }

    #[test]
    fn a_long_flood_is_kept_at_the_rate() {
        let mut recorder = recorder(120_000, 600_000);
        let mut bytes = 0;
        for tick in 1..=1000 {
            put(&mut recorder, 5000);
            if let Some(segment) = recorder.finish_tick(at(tick)) {
                bytes += segment.records().count() * (HEADER + DATA.len());
            }
        }
        // Ten seconds at the rate and one burst, less what a tick's part does not divide into.
        assert!((1_500_000..=1_800_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_flood_on_one_address_leaves_room_for_the_others() {
        let mut recorder = recorder(1 << 20, 1 << 20);
        let (mut segments, mut kept) = (Vec::new(), (0_u64, 0_u64));
        for tick in 1..=200 {
            // To one address five thousand a tick, to another ten.
            for number in 0..5010 {
                let place = u32::from(number >= 5000);
                recorder.record(Some(place), record(place.into(), &DATA));
            }
            segments.extend(recorder.finish_tick(at(tick)));
        }
        segments.extend(recorder.hand_over());
        for found in segments.iter().flat_map(Segment::records) {
            let count = if found.time == 0 { &mut kept.0 } else { &mut kept.1 };
            *count += 1;
        }
        // The first thousand of each second, and a sample of the others.
        let sample = 2 * (500_000 - 1000) / u64::from(SAMPLING);
        assert!(kept.0 > 2000 && kept.0 <= 2000 + sample + 2, "{kept:?}");
        assert_eq!(kept.1, 2000, "every one");
    }

    #[test]
    fn no_budget_is_no_copy() {
        let mut recorder = recorder(0, 0);
        put(&mut recorder, 1000);
        let segment = recorder.finish_tick(at(100)).unwrap();
        assert_eq!((segment.records().count(), segment.left_out), (0, 1000));
    }
}
