//! Attack streams: packets that answer to nothing.

use std::net::IpAddr;

use tidegate_model::AttackVector;

use super::address::{Origins, Targets};
use super::frame::{Fragment, FrameBuilder, Ip, MTU, Tcp, flag, protocol, put_ipv4_udp, put_udp};
use super::random::Random;
use super::reflect::{Answer, answer};
use super::scenario::Source;
use super::schedule::Schedule;
use super::stream::Stream;

/// Distinct answers that the reflectors of one stream give.
const ANSWERS: usize = 64;

/// TTLs that systems start with.
const INITIAL_TTLS: [u8; 3] = [64, 128, 255];

/// What is left to send of a datagram that does not fit one packet.
#[derive(Debug)]
struct Tail {
    ip: Ip,
    /// Octets of `Flood::datagram` that are sent already.
    sent: usize,
}

/// One attack stream.
#[derive(Debug)]
pub(crate) struct Flood {
    vector: AttackVector,
    schedule: Schedule,
    random: Random,
    targets: Targets,
    origins: Origins,
    packet_length: Option<u16>,
    port: Option<u16>,
    answers: Vec<Answer>,
    /// Random octets to take payloads from.
    noise: Vec<u8>,
    /// The UDP datagram whose fragments are being sent.
    datagram: Vec<u8>,
    tail: Option<Tail>,
}

/// How many sources such an attack usually has.
fn usual_sources(vector: AttackVector) -> u32 {
    match vector {
        // Spoofed at random.
        AttackVector::SynFlood => u32::MAX,
        AttackVector::Amplification(_) => 2_000,
        AttackVector::SynAckReflection => 7_000,
        _ => 10_000,
    }
}

impl Flood {
    pub(crate) fn new(vector: AttackVector, stream: &Stream, mut random: Random) -> Self {
        let sources = stream.sources.unwrap_or_else(|| usual_sources(vector));
        let origins = Origins::new(random.bits(), sources, stream.source_prefix, stream.target);
        let answers = match vector {
            AttackVector::Amplification(reflector) => {
                (0..ANSWERS).map(|_| fitted(answer(reflector, &mut random), stream)).collect()
            }
            _ => Vec::new(),
        };
        let mut noise = Vec::new();
        random.fill(&mut noise, 2 * MTU);
        Self {
            vector,
            schedule: Schedule::new(stream, &mut random),
            targets: Targets::new(stream.target),
            origins,
            packet_length: stream.packet_length,
            port: stream.port,
            answers,
            noise,
            datagram: Vec::new(),
            tail: None,
            random,
        }
    }

    fn ip(&mut self) -> (Ip, u64) {
        let destination = self.targets.pick(&mut self.random);
        let (source, identity) = self.origins.pick(&mut self.random);
        let initial = INITIAL_TTLS.get((identity % 3) as usize).copied().unwrap_or(64);
        let ttl = initial - 5 - ((identity >> 8) % 20) as u8;
        let identification = (self.random.bits() >> 48) as u16;
        (Ip { source, destination, ttl, identification }, identity)
    }

    /// Octets after the IP header and `header`: as the stream says, or `usual`.
    fn payload_length(&self, ip: &Ip, header: usize, usual: usize) -> usize {
        let room = MTU - ip.header_length() - header;
        self.packet_length
            .map_or(usual, |length| usize::from(length).saturating_sub(ip.header_length() + header))
            .min(room)
    }

    /// `length` octets from the noise, starting anywhere.
    fn noise(&mut self, length: usize) -> &[u8] {
        let last = self.noise.len().saturating_sub(length) as u64;
        let start = self.random.below(last + 1) as usize;
        self.noise.get(start..start + length).unwrap_or_default()
    }

    fn syn(&mut self, builder: &mut FrameBuilder) {
        let (ip, identity) = self.ip();
        let ports = (self.random.port(1024, 65_535), self.port.unwrap_or(443));
        let sequence = self.random.bits() as u32;
        let window = self.random.pick(&[8192, 14_600, 29_200, 64_240, 65_535]);
        let tcp = Tcp { sequence, acknowledgement: 0, flags: flag::SYN, window };
        // Maximum segment size, and for half of the sources what a Linux client adds.
        let options: &[u8] = match self.packet_length {
            None if identity & 0x100 != 0 => {
                &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7]
            }
            None => &[2, 4, 5, 0xb4],
            Some(_) => &[],
        };
        let payload = self.payload_length(&ip, 20, 0);
        let payload = self.noise.get(..payload).unwrap_or_default();
        builder.tcp(&ip, ports, &tcp, options, payload);
    }

    fn syn_ack(&mut self, builder: &mut FrameBuilder) {
        let (ip, identity) = self.ip();
        let service = [80, 443, 443, 22, 25, 8080][(identity % 6) as usize];
        let ports = (service, self.port.unwrap_or_else(|| self.random.port(1024, 65_535)));
        let (sequence, acknowledgement) = (self.random.bits() as u32, self.random.bits() as u32);
        // One server in twelve refuses the connection instead.
        let refused = identity.is_multiple_of(12);
        let flags = if refused { flag::RST | flag::ACK } else { flag::SYN | flag::ACK };
        let window = if refused { 0 } else { 65_535 };
        let tcp = Tcp { sequence, acknowledgement, flags, window };
        let options: &[u8] = if refused { &[] } else { &[2, 4, 5, 0xb4] };
        builder.tcp(&ip, ports, &tcp, options, &[]);
    }

    fn tcp(&mut self, builder: &mut FrameBuilder) {
        let (ip, _) = self.ip();
        let ports = (self.random.port(1024, 65_535), self.port.unwrap_or(443));
        let (sequence, acknowledgement) = (self.random.bits() as u32, self.random.bits() as u32);
        let flags = if self.random.chance(80) { flag::ACK } else { flag::PSH | flag::ACK };
        let tcp = Tcp { sequence, acknowledgement, flags, window: 1024 };
        let length = self.payload_length(&ip, 20, 0);
        builder.tcp(&ip, ports, &tcp, &[], self.noise(length));
    }

    fn udp(&mut self, builder: &mut FrameBuilder) {
        let (ip, _) = self.ip();
        let source = self.random.port(1024, 65_535);
        let ports = (source, self.port.unwrap_or_else(|| self.random.port(1, 65_535)));
        let length = self.payload_length(&ip, 8, 512);
        builder.udp(&ip, ports, self.noise(length));
    }

    fn icmp(&mut self, builder: &mut FrameBuilder) {
        let (ip, _) = self.ip();
        let kind = if ip.destination.is_ipv4() { 8 } else { 128 };
        let length = self.payload_length(&ip, 4, 60);
        builder.icmp(&ip, (kind, 0), self.noise(length));
    }

    /// A later fragment of a datagram whose first one never comes.
    fn orphan(&mut self, builder: &mut FrameBuilder) {
        let (ip, _) = self.ip();
        let header = if ip.destination.is_ipv4() { 0 } else { 8 };
        let more = self.random.chance(50);
        let length = self.payload_length(&ip, header, 1400);
        let length = if more { length & !7 } else { length };
        let part = Fragment { offset: 8 * self.random.between(1, 7_000) as usize, more };
        builder.fragment(&ip, protocol::UDP, part, self.noise(length));
    }

    /// Generic Routing Encapsulation (RFC 2784) around a UDP datagram between strangers.
    fn encapsulated(&mut self, builder: &mut FrameBuilder) {
        let (ip, identity) = self.ip();
        let address = |bits: u64| IpAddr::from((bits as u32 | 0x0100_0000).to_be_bytes());
        let inner = Ip {
            source: address(self.random.bits() & 0x7fff_ffff),
            destination: address(identity & 0x7fff_ffff),
            ..ip
        };
        // GRE, inner IPv4 and inner UDP headers are 32 octets together.
        let length = self.payload_length(&ip, 32, 512);
        let ports = (self.random.port(1024, 65_535), self.random.port(1, 65_535));
        let mut payload = std::mem::take(&mut self.datagram);
        payload.clear();
        payload.extend_from_slice(&[0, 0, 0x08, 0x00]);
        put_ipv4_udp(&mut payload, &inner, ports, self.noise(length));
        builder.raw(&ip, protocol::GRE, &payload);
        self.datagram = payload;
    }

    /// A bit of everything: no single kind carries the flood.
    fn mixture(&mut self, builder: &mut FrameBuilder) {
        match self.random.below(6) {
            0 => self.tcp(builder),
            1 => self.udp(builder),
            2 => self.icmp(builder),
            3 => self.orphan(builder),
            4 => self.encapsulated(builder),
            _ => {
                let (ip, _) = self.ip();
                let length = self.payload_length(&ip, 0, 120).max(16);
                builder.raw(&ip, protocol::ESP, self.noise(length));
            }
        }
    }

    fn reflected(&mut self, builder: &mut FrameBuilder) {
        let (ip, _) = self.ip();
        let to = self.port.unwrap_or_else(|| self.random.port(1024, 65_535));
        let index = self.random.below(self.answers.len() as u64) as usize;
        let Some(answer) = self.answers.get(index) else { return };
        let ports = (answer.port, to);
        if ip.header_length() + 8 + answer.payload.len() <= MTU {
            builder.udp(&ip, ports, &answer.payload);
            return;
        }
        self.datagram.clear();
        put_udp(&mut self.datagram, &ip, ports, &answer.payload);
        self.tail = Some(Tail { ip, sent: 0 });
        self.continue_datagram(builder);
    }

    /// Sends the next fragment of the datagram under way; whether there was one.
    fn continue_datagram(&mut self, builder: &mut FrameBuilder) -> bool {
        let Some(Tail { ip, sent }) = self.tail.take() else { return false };
        let header = if ip.destination.is_ipv4() { 0 } else { 8 };
        let room = (MTU - ip.header_length() - header) & !7;
        let rest = self.datagram.get(sent..).unwrap_or_default();
        let more = rest.len() > room;
        let part = rest.get(..room).unwrap_or(rest);
        builder.fragment(&ip, protocol::UDP, Fragment { offset: sent, more }, part);
        if more {
            self.tail = Some(Tail { ip, sent: sent + room });
        }
        true
    }
}

/// The answer with its payload cut or repeated to the length that the stream asks for.
fn fitted(mut answer: Answer, stream: &Stream) -> Answer {
    let Some(length) = stream.packet_length else { return answer };
    let headers = if stream.target.address().is_ipv4() { 28 } else { 48 };
    let wanted = usize::from(length).saturating_sub(headers);
    while answer.payload.len() < wanted && !answer.payload.is_empty() {
        let more = (wanted - answer.payload.len()).min(answer.payload.len());
        answer.payload.extend_from_within(..more);
    }
    answer.payload.truncate(wanted);
    answer
}

impl Source for Flood {
    fn next_time(&self) -> Option<u64> {
        self.schedule.next()
    }

    fn emit(&mut self, builder: &mut FrameBuilder) {
        if !self.continue_datagram(builder) {
            match self.vector {
                AttackVector::SynFlood => self.syn(builder),
                AttackVector::SynAckReflection => self.syn_ack(builder),
                AttackVector::TcpFlood => self.tcp(builder),
                AttackVector::UdpFlood => self.udp(builder),
                AttackVector::Amplification(_) => self.reflected(builder),
                AttackVector::IcmpFlood => self.icmp(builder),
                AttackVector::FragmentFlood => self.orphan(builder),
                AttackVector::ProtocolFlood => self.encapsulated(builder),
                AttackVector::Unknown => self.mixture(builder),
            }
        }
        self.schedule.advance(&mut self.random);
    }
}
