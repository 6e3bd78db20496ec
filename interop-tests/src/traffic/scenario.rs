//! Several streams merged in time order into one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tidegate_model::{AttackVector, Timestamp};

use super::conversation::Conversations;
use super::flood::Flood;
use super::frame::{FrameBuilder, LinkAddresses};
use super::random::Random;
use super::stream::{Kind, Stream};

/// Something that knows when its next packet is due, and makes it.
pub(crate) trait Source {
    /// Nanoseconds from the scenario's start; `None` at the end.
    fn next_time(&self) -> Option<u64>;

    /// Builds the packet that is due and moves on to the next.
    fn emit(&mut self, builder: &mut FrameBuilder);
}

/// What to generate. The same scenario gives the same packets, byte for byte.
///
/// ```
/// use tidegate_interop_tests::traffic::{Scenario, Stream};
/// use tidegate_model::AttackVector;
///
/// let target = "203.0.113.10".parse().unwrap();
/// let scenario = Scenario::new(7)
///     .with(Stream::benign(target).rate(500))
///     .with(Stream::attack(AttackVector::SynFlood, target).rate(5_000));
/// let mut packets = scenario.packets();
/// let mut count = 0;
/// while let Some(packet) = packets.next_packet() {
///     assert!(packet.frame.len() >= 54);
///     count += 1;
/// }
/// assert!(count >= 50_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    seed: u64,
    link: LinkAddresses,
    streams: Vec<Stream>,
}

/// One generated packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When it is sent, from the scenario's start.
    pub time: Timestamp,
    /// The Ethernet frame, without frame check sequence.
    pub frame: &'a [u8],
}

impl Scenario {
    /// A scenario without streams.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, link: LinkAddresses::default(), streams: Vec::new() }
    }

    /// The same scenario with one stream more.
    #[must_use]
    pub fn with(mut self, stream: Stream) -> Self {
        self.streams.push(stream);
        self
    }

    /// The same scenario between other stations.
    #[must_use]
    pub fn on_link(mut self, link: LinkAddresses) -> Self {
        self.link = link;
        self
    }

    /// Its streams.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Its packets in the order of time.
    #[must_use]
    pub fn packets(&self) -> Packets {
        let random = Random::new(self.seed);
        let sources: Vec<Box<dyn Source>> = self
            .streams
            .iter()
            .enumerate()
            .map(|(index, stream)| {
                let random = random.branch(index as u64);
                match stream.kind {
                    Kind::Attack(AttackVector::TcpConnectionFlood)
                    | Kind::Benign
                    | Kind::FlashCrowd => {
                        Box::new(Conversations::new(stream, random)) as Box<dyn Source>
                    }
                    Kind::Attack(vector) => Box::new(Flood::new(vector, stream, random)),
                }
            })
            .collect();
        let due = sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| Some(Reverse((source.next_time()?, index))))
            .collect();
        Packets { sources, due, builder: FrameBuilder::new(self.link) }
    }
}

/// The packets of a scenario: an iterator that lends, so that a packet costs no allocation.
pub struct Packets {
    sources: Vec<Box<dyn Source>>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    builder: FrameBuilder,
}

impl Packets {
    /// When the next packet is due; `None` at the end.
    #[must_use]
    pub fn next_time(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((time, _))| Timestamp::from_nanos(*time))
    }

    /// The next packet; `None` at the end.
    pub fn next_packet(&mut self) -> Option<Packet<'_>> {
        let mut first = self.due.peek_mut()?;
        let Reverse((time, index)) = *first;
        let source = self.sources.get_mut(index)?;
        source.emit(&mut self.builder);
        match source.next_time() {
            Some(next) => {
                *first = Reverse((next, index));
                drop(first);
            }
            None => {
                std::collections::binary_heap::PeekMut::pop(first);
            }
        }
        Some(Packet { time: Timestamp::from_nanos(time), frame: self.builder.frame() })
    }
}
