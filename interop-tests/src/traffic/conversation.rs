//! Benign streams: conversations between the target and its clients and servers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use super::address::{Origins, Targets};
use super::frame::{FrameBuilder, Ip, MTU, Tcp, flag};
use super::random::Random;
use super::reflect::{dns_query, dns_response};
use super::scenario::Source;
use super::schedule::nanoseconds;
use super::stream::{Direction, Kind, Stream};

const MILLISECOND: u64 = 1_000_000;

/// Conversations that one stream keeps open at once; those beyond it are left out.
const MAX_OPEN: usize = 200_000;

/// What a conversation is about.
#[derive(Clone, Copy, Debug)]
enum Service {
    Web {
        port: u16,
    },
    /// A connection that is opened and then left alone.
    Connection {
        port: u16,
    },
    Dns,
    Ntp,
    Quic,
    Echo,
}

impl Service {
    /// A service as everyday traffic has them, and whether the target is the one that serves.
    fn draw(random: &mut Random) -> (Self, bool) {
        let (service, percent) = match random.below(100) {
            0..35 => (Self::Web { port: random.pick(&[443, 443, 443, 80]) }, 70),
            35..65 => (Self::Dns, 40),
            65..72 => (Self::Ntp, 0),
            72..90 => (Self::Quic, 60),
            _ => (Self::Echo, 80),
        };
        (service, random.chance(percent))
    }

    fn port(self) -> u16 {
        match self {
            Self::Web { port } | Self::Connection { port } => port,
            Self::Dns => 53,
            Self::Ntp => 123,
            Self::Quic => 443,
            Self::Echo => 0,
        }
    }
}

/// What one packet of a conversation carries.
#[derive(Clone, Copy, Debug)]
enum Content {
    Tcp { flags: u8, length: u16 },
    DnsQuery,
    DnsResponse,
    Ntp { mode: u8 },
    QuicInitial,
    QuicShort { length: u16 },
    Echo { reply: bool },
}

/// One packet of a script: who sends it, how long after the one before, and what it holds.
#[derive(Clone, Copy, Debug)]
struct Step {
    from_client: bool,
    gap: u32,
    content: Content,
}

/// One conversation under way.
#[derive(Debug)]
struct Conversation {
    client: IpAddr,
    server: IpAddr,
    client_port: u16,
    server_port: u16,
    /// Next sequence numbers of client and server.
    sequence: (u32, u32),
    script: Vec<Step>,
    next: usize,
    ttl: u8,
}

/// A stream of conversations, begun so that packets come at the stream's rate.
#[derive(Debug)]
pub(crate) struct Conversations {
    kind: Kind,
    random: Random,
    targets: Targets,
    origins: Origins,
    direction: Direction,
    /// Port that connections are opened to.
    port: u16,
    rate: u64,
    start: u64,
    end: u64,
    /// Packets of all conversations begun so far.
    scripted: u64,
    /// When the next conversation begins.
    next_birth: u64,
    open: Vec<Option<Conversation>>,
    free: Vec<usize>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    spare: Vec<Vec<Step>>,
    noise: Vec<u8>,
    payload: Vec<u8>,
}

impl Conversations {
    pub(crate) fn new(stream: &Stream, mut random: Random) -> Self {
        let usual = match stream.kind {
            Kind::FlashCrowd => 50_000,
            Kind::Attack(_) => 60,
            Kind::Benign => 500,
        };
        let sources = stream.sources.unwrap_or(usual);
        let origins = Origins::new(random.bits(), sources, stream.source_prefix, stream.target);
        let mut noise = Vec::new();
        random.fill(&mut noise, 4 * MTU);
        let start = nanoseconds(stream.start);
        let mut conversations = Self {
            kind: stream.kind,
            random,
            targets: Targets::new(stream.target),
            origins,
            direction: stream.direction,
            port: stream.port.unwrap_or(443),
            rate: stream.rate.0,
            start,
            end: start.saturating_add(nanoseconds(stream.length)),
            scripted: 0,
            next_birth: start,
            open: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            spare: Vec::new(),
            noise,
            payload: Vec::new(),
        };
        if conversations.rate > 0 {
            conversations.settle();
        }
        conversations
    }

    /// Begins conversations until the earliest packet of all is known.
    fn settle(&mut self) {
        while self.next_birth < self.end
            && self.due.peek().is_none_or(|Reverse((time, _))| self.next_birth <= *time)
        {
            self.begin();
        }
    }

    fn begin(&mut self) {
        let at = self.next_birth;
        let conversation = self.conversation();
        // A flood of connections is measured in connections, everything else in packets.
        self.scripted += match self.kind {
            Kind::Attack(_) => 1,
            Kind::Benign | Kind::FlashCrowd => conversation.script.len().max(1) as u64,
        };
        self.next_birth = self.birth_time();
        let first = conversation.script.first().map_or(0, |step| u64::from(step.gap));
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.open.len() < MAX_OPEN => {
                self.open.push(None);
                self.open.len() - 1
            }
            None => return,
        };
        if let Some(place) = self.open.get_mut(slot) {
            *place = Some(conversation);
            self.due.push(Reverse((at.saturating_add(first), slot)));
        }
    }

    /// When as many packets as are scripted are due: steady, or rising for a flash crowd.
    fn birth_time(&self) -> u64 {
        let steady = u128::from(self.scripted) * 1_000_000_000 / u128::from(self.rate);
        let span = u128::from(self.end - self.start);
        let ramp = if self.kind == Kind::FlashCrowd { span / 4 } else { 0 };
        // The rate rises linearly over the ramp: n packets are due at the square root of 2 n ramp,
        // and half a ramp later than steadily once it is over.
        let offset =
            if steady < ramp / 2 { (2 * steady * ramp).isqrt() } else { steady + ramp / 2 };
        self.start.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    fn conversation(&mut self) -> Conversation {
        let random = &mut self.random;
        let target = self.targets.pick(random);
        let (stranger, identity) = self.origins.pick(random);
        let mut script = self.spare.pop().unwrap_or_default();
        script.clear();
        let round_trip = 4 * MILLISECOND + (identity % 80) * MILLISECOND;
        let (service, serves) = match self.kind {
            Kind::FlashCrowd => (Service::Web { port: 443 }, true),
            Kind::Attack(_) => (Service::Connection { port: self.port }, true),
            Kind::Benign => Service::draw(random),
        };
        let mut writer = Writer { script: &mut script, round_trip, random };
        match service {
            Service::Web { .. } => writer.web(),
            Service::Connection { .. } => writer.open(),
            Service::Dns => writer.pair(Content::DnsQuery, Content::DnsResponse),
            Service::Ntp => writer.pair(Content::Ntp { mode: 3 }, Content::Ntp { mode: 4 }),
            Service::Quic => writer.quic(),
            Service::Echo => writer.echo(),
        }
        if self.direction == Direction::Inbound {
            keep_one_side(&mut script, serves);
        }
        let (client, server) = if serves { (stranger, target) } else { (target, stranger) };
        Conversation {
            client,
            server,
            client_port: random.port(32_768, 60_999),
            server_port: service.port(),
            sequence: (random.bits() as u32, random.bits() as u32),
            script,
            next: 0,
            ttl: 50 + (identity >> 16 & 7) as u8,
        }
    }

    fn write(&mut self, conversation: &mut Conversation, step: Step, builder: &mut FrameBuilder) {
        let Conversation { client, server, client_port, server_port, ttl, .. } = *conversation;
        let identification = (self.random.bits() >> 48) as u16;
        let forward = (client_port, server_port);
        let (ip, ports) = if step.from_client {
            (Ip { source: client, destination: server, ttl, identification }, forward)
        } else {
            let ip = Ip { source: server, destination: client, ttl: 64, identification };
            (ip, (forward.1, forward.0))
        };
        self.payload.clear();
        match step.content {
            Content::Tcp { flags, length } => {
                write_tcp(conversation, step, (flags, length), &ip, ports, builder, &self.noise);
                return;
            }
            Content::Echo { reply } => {
                let kind = match (ip.destination.is_ipv4(), reply) {
                    (true, true) => 0,
                    (true, false) => 8,
                    (false, true) => 129,
                    (false, false) => 128,
                };
                builder.icmp(&ip, (kind, 0), self.noise.get(..60).unwrap_or_default());
                return;
            }
            Content::DnsQuery => dns_query(&mut self.random, &mut self.payload),
            Content::DnsResponse => dns_response(&mut self.random, &mut self.payload),
            Content::Ntp { mode } => {
                self.payload.extend_from_slice(&[0x20 | mode, 2, 6, 0xe9]);
                self.random.fill(&mut self.payload, 44);
            }
            Content::QuicInitial => {
                // A long header of version 1 (RFC 9000 §17.2.2), padded to 1200 octets.
                self.payload.extend_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
                self.random.fill(&mut self.payload, 1194);
            }
            Content::QuicShort { length } => {
                self.payload.push(0x40 | (identification & 0x1f) as u8);
                self.payload
                    .extend_from_slice(self.noise.get(..usize::from(length)).unwrap_or_default());
            }
        }
        builder.udp(&ip, ports, &self.payload);
    }
}

/// Leaves the steps of one side, each as late as it was before.
fn keep_one_side(script: &mut Vec<Step>, client: bool) {
    let mut skipped = 0_u32;
    script.retain_mut(|step| {
        let kept = step.from_client == client;
        step.gap = step.gap.saturating_add(skipped);
        skipped = if kept { 0 } else { step.gap };
        kept
    });
}

/// A segment of the conversation, with the sequence numbers that both sides have come to.
fn write_tcp(
    conversation: &mut Conversation,
    step: Step,
    (flags, length): (u8, u16),
    ip: &Ip,
    ports: (u16, u16),
    builder: &mut FrameBuilder,
    noise: &[u8],
) {
    let (own, other) = if step.from_client {
        (&mut conversation.sequence.0, conversation.sequence.1)
    } else {
        (&mut conversation.sequence.1, conversation.sequence.0)
    };
    let acknowledgement = if flags & flag::ACK == 0 { 0 } else { other };
    let tcp = Tcp { sequence: *own, acknowledgement, flags, window: 64_240 };
    let options: &[u8] = if flags & flag::SYN == 0 {
        &[]
    } else {
        &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7]
    };
    let start = usize::try_from(*own % 1024).unwrap_or(0);
    let payload = noise.get(start..start + usize::from(length)).unwrap_or_default();
    builder.tcp(ip, ports, &tcp, options, payload);
    let consumed = u32::from(length) + u32::from(flags & (flag::SYN | flag::FIN) != 0);
    *own = own.wrapping_add(consumed);
}

/// Writes scripts.
struct Writer<'a> {
    script: &'a mut Vec<Step>,
    round_trip: u64,
    random: &'a mut Random,
}

impl Writer<'_> {
    fn step(&mut self, from_client: bool, gap: u64, content: Content) {
        // Jitter of up to an eighth keeps conversations from marching in step.
        let gap = gap + self.random.below(gap / 8 + 1000);
        let gap = u32::try_from(gap).unwrap_or(u32::MAX);
        self.script.push(Step { from_client, gap, content });
    }

    fn pair(&mut self, question: Content, reply: Content) {
        let half = self.round_trip / 2;
        self.step(true, 0, question);
        self.step(false, half, reply);
    }

    fn echo(&mut self) {
        for index in 0..4 {
            let pause = if index == 0 { 0 } else { 1000 * MILLISECOND };
            self.step(true, pause, Content::Echo { reply: false });
            self.step(false, self.round_trip / 2, Content::Echo { reply: true });
        }
    }

    fn quic(&mut self) {
        let half = self.round_trip / 2;
        self.step(true, 0, Content::QuicInitial);
        self.step(false, half, Content::QuicInitial);
        self.step(false, 40_000, Content::QuicShort { length: 1100 });
        for _ in 0..self.random.between(1, 4) {
            let request = self.random.port(60, 400);
            self.step(true, half, Content::QuicShort { length: request });
            for _ in 0..self.random.between(1, 10) {
                self.step(false, 120_000, Content::QuicShort { length: 1250 });
            }
            self.step(true, half, Content::QuicShort { length: 40 });
        }
    }

    fn open(&mut self) {
        let half = self.round_trip / 2;
        for (flags, from_client) in
            [(flag::SYN, true), (flag::SYN | flag::ACK, false), (flag::ACK, true)]
        {
            let gap = if flags == flag::SYN { 0 } else { half };
            self.step(from_client, gap, Content::Tcp { flags, length: 0 });
        }
    }

    fn web(&mut self) {
        let half = self.round_trip / 2;
        let tcp = |flags, length| Content::Tcp { flags, length };
        self.open();
        for _ in 0..self.random.between(1, 5) {
            let request = self.random.port(200, 900);
            self.step(true, 2 * MILLISECOND, tcp(flag::PSH | flag::ACK, request));
            let segments = self.random.between(1, 12);
            for index in 1..=segments {
                let last = index == segments;
                let length = if last { self.random.port(100, 1400) } else { 1400 };
                let flags = if last { flag::PSH | flag::ACK } else { flag::ACK };
                let gap = if index == 1 { half } else { 120_000 };
                self.step(false, gap, tcp(flags, length));
                if index % 2 == 0 || last {
                    self.step(true, 60_000, tcp(flag::ACK, 0));
                }
            }
        }
        self.step(true, half, tcp(flag::FIN | flag::ACK, 0));
        self.step(false, half, tcp(flag::FIN | flag::ACK, 0));
        self.step(true, half, tcp(flag::ACK, 0));
    }
}

impl Source for Conversations {
    fn next_time(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((time, _))| *time).filter(|time| *time < self.end)
    }

    fn emit(&mut self, builder: &mut FrameBuilder) {
        let Some(Reverse((time, slot))) = self.due.pop() else { return };
        let Some(mut conversation) = self.open.get_mut(slot).and_then(Option::take) else { return };
        if let Some(step) = conversation.script.get(conversation.next).copied() {
            self.write(&mut conversation, step, builder);
            conversation.next += 1;
        }
        if let Some(step) = conversation.script.get(conversation.next) {
            self.due.push(Reverse((time.saturating_add(u64::from(step.gap)), slot)));
            if let Some(place) = self.open.get_mut(slot) {
                *place = Some(conversation);
            }
        } else {
            self.spare.push(conversation.script);
            self.free.push(slot);
        }
        self.settle();
    }
}
