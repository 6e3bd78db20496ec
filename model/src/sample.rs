//! Samples of the packets that came to a target: what rules are made from.

use std::net::IpAddr;

use crate::flowspec::{BitmaskMatch, FlowSpecComponent, FlowSpecRule, NumericMatch};

/// A fragment other than the first (RFC 8955 §4.2.2.12, IsF).
const FRAGMENT_LATER: u16 = 2;
/// The first of several fragments (RFC 8955 §4.2.2.12, FF).
const FRAGMENT_FIRST: u16 = 4;

/// What is known of who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// Nobody asked for it, and nothing proves its source.
    Unasked,
    /// It completes a TCP handshake: its source received an answer that it could not guess.
    Completing,
    /// The target asked for it, or its source is allowed by the policy.
    Welcome,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first of several fragments: it carries the ports.
    First,
    /// A later fragment: no ports.
    Later,
}

/// One packet, as far as a FlowSpec rule can tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketRecord {
    /// Source address.
    pub source: IpAddr,
    /// IP protocol, as FlowSpec matches it.
    pub protocol: u8,
    /// Which part of a datagram it is.
    pub part: Part,
    /// Source and destination port, if it carries them.
    pub ports: Option<(u16, u16)>,
    /// The TCP flag octet, if it has one.
    pub tcp_flags: Option<u8>,
    /// ICMP type, if it has one.
    pub icmp_type: Option<u8>,
    /// Length of the IP packet in bytes.
    pub length: u16,
    /// What is known of its sender.
    pub sender: Sender,
    /// How many packets it stands for. At least one.
    pub weight: u32,
}

/// Packets of one target, of which each stands for several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PacketSample {
    /// The packets.
    pub records: Vec<PacketRecord>,
    /// The time over which they came, in seconds.
    pub seconds: f64,
}

/// What came to a target during an attack, and before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttackSample {
    /// Since the onset, of late: what nobody asked for. The target's everyday traffic is among it.
    pub during: PacketSample,
    /// Before the onset: everything.
    pub before: PacketSample,
}

impl FlowSpecRule {
    /// Whether a packet to the rule's destination is matched (RFC 8955 §4.2). A component that the
    /// packet has no value for does not match.
    #[must_use]
    pub fn matches(&self, packet: &PacketRecord) -> bool {
        self.components().iter().all(|component| component.matches(packet))
    }
}

impl FlowSpecComponent {
    fn matches(&self, packet: &PacketRecord) -> bool {
        let number = |numeric: &NumericMatch, value: Option<u64>| {
            value.is_some_and(|value| numeric.matches(value))
        };
        let bits = |mask: &BitmaskMatch, value: Option<u16>| {
            value.is_some_and(|value| mask.matches(value))
        };
        let source = packet.ports.map(|(source, _)| u64::from(source));
        let destination = packet.ports.map(|(_, destination)| u64::from(destination));
        match self {
            Self::DestinationPrefix(_) => true,
            Self::SourcePrefix(prefix) => prefix.contains_address(packet.source),
            Self::IpProtocol(numeric) => number(numeric, Some(packet.protocol.into())),
            Self::Port(numeric) => number(numeric, source) || number(numeric, destination),
            Self::DestinationPort(numeric) => number(numeric, destination),
            Self::SourcePort(numeric) => number(numeric, source),
            Self::IcmpType(numeric) => number(numeric, packet.icmp_type.map(u64::from)),
            Self::TcpFlags(mask) => bits(mask, packet.tcp_flags.map(u16::from)),
            Self::PacketLength(numeric) => number(numeric, Some(packet.length.into())),
            Self::Fragment(mask) => bits(
                mask,
                Some(match packet.part {
                    Part::Whole => 0,
                    Part::First => FRAGMENT_FIRST,
                    Part::Later => FRAGMENT_LATER,
                }),
            ),
            // What is not sampled is not known to match.
            Self::IcmpCode(_) | Self::Dscp(_) | Self::FlowLabel(_) => false,
        }
    }
}
