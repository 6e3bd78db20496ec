//! Attack streams: packets that answer to nothing.

use std::net::IpAddr;

use tidegate_model::AttackVector;

use super::address::{Origins, Targets};
use super::frame::{Fragment, FrameBuilder, Ip, MTU, Tcp, flag, protocol, put_ipv4_udp, put_udp};
use super::random::Random;
use super::reflect::{Answer, answer, dns_query, dns_random_query};
use super::scenario::Source;
use super::schedule::Schedule;
use super::stream::Stream;

/// Distinct answers that the reflectors of one stream give.
const ANSWERS: usize = 64;

/// Octets below which no request is cut: what is left of it would be none.
const SHORTEST_REQUEST: usize = 64;

/// TTLs that systems start with.
const INITIAL_TTLS: [u8; 3] = [64, 128, 255];

/// Four segments in five are plain acknowledgements.
const ACKNOWLEDGING: &[u8] = &[flag::ACK, flag::ACK, flag::ACK, flag::ACK, flag::PSH | flag::ACK];
/// All lights on.
const XMAS: u8 = flag::FIN | flag::PSH | flag::URG;

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
        AttackVector::MiddleboxReflection | AttackVector::IcmpBackscatter => 2_000,
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

    /// A segment of no connection, with one of these flag octets.
    fn tcp(&mut self, builder: &mut FrameBuilder, flags: &[u8]) {
        let (ip, _) = self.ip();
        let ports = (self.random.port(1024, 65_535), self.port.unwrap_or(443));
        let (sequence, acknowledgement) = (self.random.bits() as u32, self.random.bits() as u32);
        let flags = self.random.pick(flags);
        let tcp = Tcp { sequence, acknowledgement, flags, window: 1024 };
        let length = self.payload_length(&ip, 20, 0);
        builder.tcp(&ip, ports, &tcp, &[], self.noise(length));
    }

    /// The page of a firewall that saw a forged request for something forbidden.
    fn page(&mut self, builder: &mut FrameBuilder) {
        let (ip, _) = self.ip();
        let ports = (80, self.port.unwrap_or_else(|| self.random.port(1024, 65_535)));
        let (sequence, acknowledgement) = (self.random.bits() as u32, self.random.bits() as u32);
        let flags = self.random.pick(&[flag::PSH | flag::ACK, flag::FIN | flag::PSH | flag::ACK]);
        let tcp = Tcp { sequence, acknowledgement, flags, window: 8192 };
        let usual = self.random.between(300, 1200) as usize;
        let length = self.payload_length(&ip, 20, usual);
        let mut page = std::mem::take(&mut self.datagram);
        page.clear();
        page.extend_from_slice(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<html>");
        page.resize(length, b'x');
        builder.tcp(&ip, ports, &tcp, &[], &page);
        self.datagram = page;
    }

    /// From the target to itself, to a port of which it has an open one.
    fn land(&mut self, builder: &mut FrameBuilder) {
        let (mut ip, _) = self.ip();
        ip.source = ip.destination;
        let port = self.port.unwrap_or(139);
        let sequence = self.random.bits() as u32;
        let tcp = Tcp { sequence, acknowledgement: 0, flags: flag::SYN, window: 1024 };
        let length = self.payload_length(&ip, 20, 0);
        builder.tcp(&ip, (port, port), &tcp, &[], self.noise(length));
    }

    /// A UDP payload that is padded, or cut, to the length that the stream asks for.
    fn request(
        &mut self,
        builder: &mut FrameBuilder,
        port: u16,
        make: fn(&mut Random, &mut Vec<u8>),
    ) {
        let (ip, _) = self.ip();
        let ports = (self.random.port(1024, 65_535), port);
        let mut payload = std::mem::take(&mut self.datagram);
        payload.clear();
        make(&mut self.random, &mut payload);
        let length = self.payload_length(&ip, 8, payload.len());
        payload.resize(length.max(payload.len().min(SHORTEST_REQUEST)), 0);
        builder.udp(&ip, ports, &payload);
        self.datagram = payload;
    }

    /// An error about a datagram that the target never sent (RFC 792, RFC 4443 §3).
    fn unreachable(&mut self, builder: &mut FrameBuilder) {
        let (ip, identity) = self.ip();
        let kinds: [(u8, u8); 2] =
            if ip.destination.is_ipv4() { [(3, 3), (11, 0)] } else { [(1, 4), (3, 0)] };
        let kind = kinds.get((identity % 2) as usize).copied().unwrap_or_default();
        // Four unused octets, then the datagram as far as it is quoted.
        let length = self.payload_length(&ip, 8, 28);
        let mut rest = std::mem::take(&mut self.datagram);
        rest.clear();
        rest.extend_from_slice(&[0; 4]);
        rest.extend_from_slice(self.noise(length));
        builder.icmp(&ip, kind, &rest);
        self.datagram = rest;
    }

    /// A packet of a protocol of which nothing but the number matters.
    fn protocol(&mut self, builder: &mut FrameBuilder, number: u8, usual: usize) {
        let (ip, _) = self.ip();
        let length = self.payload_length(&ip, 0, usual).max(8);
        builder.raw(&ip, number, self.noise(length));
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
            0 => self.tcp(builder, ACKNOWLEDGING),
            1 => self.udp(builder),
            2 => self.icmp(builder),
            3 => self.orphan(builder),
            4 => self.encapsulated(builder),
            _ => self.protocol(builder, protocol::ESP, 120),
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

impl Flood {
    /// Sends a packet that continues nothing.
    fn begin(&mut self, builder: &mut FrameBuilder) {
        match self.vector {
            // Connections that are completed are conversations; half of one is this.
            AttackVector::SynFlood | AttackVector::TcpConnectionFlood => self.syn(builder),
            AttackVector::SynAckReflection => self.syn_ack(builder),
            AttackVector::SynAckFlood => self.tcp(builder, &[flag::SYN | flag::ACK]),
            AttackVector::AckFlood => self.tcp(builder, ACKNOWLEDGING),
            AttackVector::RstFlood => self.tcp(builder, &[flag::RST, flag::RST | flag::ACK]),
            AttackVector::FinFlood => self.tcp(builder, &[flag::FIN, flag::FIN | flag::ACK]),
            AttackVector::XmasFlood => self.tcp(builder, &[XMAS]),
            AttackVector::NullFlood => self.tcp(builder, &[0]),
            AttackVector::TcpFlood => {
                self.tcp(builder, &[0, XMAS, flag::FIN | flag::ACK, flag::ACK, flag::URG]);
            }
            AttackVector::MiddleboxReflection => self.page(builder),
            AttackVector::LandFlood => self.land(builder),
            AttackVector::UdpFlood => self.udp(builder),
            AttackVector::DnsQueryFlood => self.request(builder, 53, dns_query),
            AttackVector::DnsWaterTorture => self.request(builder, 53, dns_random_query),
            AttackVector::QuicFlood => self.request(builder, 443, quic_initial),
            AttackVector::Amplification(_) => self.reflected(builder),
            AttackVector::IcmpFlood => self.icmp(builder),
            AttackVector::IcmpBackscatter => self.unreachable(builder),
            AttackVector::FragmentFlood => self.orphan(builder),
            AttackVector::GreFlood => self.encapsulated(builder),
            AttackVector::EspFlood => self.protocol(builder, protocol::ESP, 120),
            AttackVector::IgmpFlood => self.protocol(builder, protocol::IGMP, 8),
            AttackVector::ProtocolFlood => self.protocol(builder, protocol::SCTP, 400),
            AttackVector::Unknown => self.mixture(builder),
        }
    }
}

/// The first datagram of a connection: a long header of version 1 (RFC 9000 §17.2.2), padded.
fn quic_initial(random: &mut Random, to: &mut Vec<u8>) {
    to.extend_from_slice(&[0xc0 | random.octet() & 0x0f, 0, 0, 0, 1, 8]);
    random.fill(to, 1194);
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
            self.begin(builder);
        }
        self.schedule.advance(&mut self.random);
    }
}
