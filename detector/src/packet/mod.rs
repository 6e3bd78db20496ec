//! Packet headers, read from hostile bytes.
//!
//! [`parse`] walks from the link layer to the ports without allocating and without panicking,
//! whatever the bytes say. What it cannot read it leaves out: a packet whose destination is
//! readable is still a packet toward that destination.
//!
//! GRE and IP in IP are traffic to the tunnel's end; [`parse_inner`] reads the packet inside.
//!
//! Absent on purpose: reassembly, checksums (a flood need not have right ones), tunnels in tunnels.
#![deny(clippy::indexing_slicing)]

mod framing;
mod link;
mod network;
mod tunnel;

use std::net::IpAddr;

pub use link::LinkType;
pub use tunnel::{Tunnel, Tunnels};

/// IP protocol numbers (<https://www.iana.org/assignments/protocol-numbers>).
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IGMP: u8 = 2;
    pub(crate) const IPV4: u8 = 4;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const ESP: u8 = 50;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
    pub(crate) const MOBILITY: u8 = 135;
    pub(crate) const HIP: u8 = 139;
    pub(crate) const SHIM6: u8 = 140;
}

/// TCP flag bits (RFC 9293 §3.1).
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const URG: u8 = 0x20;
}

/// What the headers of one IP packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IPv4: the protocol field. IPv6: the first next-header value that is no extension header,
    /// as FlowSpec matches it (RFC 8956 §3.3).
    pub protocol: u8,
    /// Length of the IP packet in bytes as its header states it, as FlowSpec matches it.
    pub length: u16,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// What is above IP.
    pub upper: Upper<'a>,
    /// The headers contradict themselves: a header length below its minimum, a total length below
    /// the header's. Addresses are still as the header states them.
    pub damaged: bool,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first of several: it carries the ports.
    First,
    /// A later one: no ports.
    Later,
}

/// Source and destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}

/// The header above IP, behind any extension headers and Authentication Headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper<'a> {
    /// A TCP segment.
    Tcp {
        /// Ports.
        ports: Ports,
        /// Flag octet, FIN is bit 0.
        flags: u8,
        /// Number of the first octet.
        sequence: u32,
        /// Number that the sender expects next. Means nothing without ACK.
        acknowledgement: u32,
    },
    /// A UDP datagram, or its first fragment.
    Udp {
        /// Ports.
        ports: Ports,
        /// The captured part of the payload.
        payload: &'a [u8],
    },
    /// ICMP in IPv4.
    Icmp {
        /// Message type.
        kind: u8,
    },
    /// ICMPv6 in IPv6.
    Icmpv6 {
        /// Message type.
        kind: u8,
    },
    /// A header that is not there: a later fragment, or cut off. The protocol number is known.
    Headless(u8),
    /// Any other protocol.
    Other(u8),
}

/// Why a frame yields no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The frame carries something else than IP.
    NotIp,
    /// Too short or too wrong for a destination address to be read.
    Malformed,
}

/// Reads the headers of `frame`, whose length was `wire_length` before the capture cut it.
///
/// # Errors
/// [`Unreadable`] if no destination address can be read.
#[inline]
pub fn parse(link: LinkType, frame: &[u8], wire_length: u32) -> Result<Packet<'_>, Unreadable> {
    read(link, frame, wire_length).map(|(packet, _)| packet)
}

/// Reads the headers of the packet inside `frame`, if that is a packet of one of `tunnels`. Only
/// one level is opened.
///
/// `None` if it is no such packet, or what is in it cannot be read: a later fragment, for one.
#[must_use]
pub fn parse_inner(
    link: LinkType,
    frame: &[u8],
    wire_length: u32,
    tunnels: Tunnels,
) -> Option<Packet<'_>> {
    let (outer, rest) = read(link, frame, wire_length).ok()?;
    let Upper::Other(number) = outer.upper else { return None };
    let inner = tunnels.open(number, rest)?;
    let header_length = rest.len() - inner.len();
    // A fragment's own length says nothing of the packet inside it; the inner header does.
    let inner_length = usize::from(outer.length).saturating_sub(header_length).max(inner.len());
    network::read(inner, inner_length).ok().map(|(packet, _)| packet)
}

#[inline]
fn read(link: LinkType, frame: &[u8], wire_length: u32) -> Result<(Packet<'_>, &[u8]), Unreadable> {
    let datagram = framing::strip(link, frame)?;
    let framing_length = frame.len() - datagram.len();
    let wire_length = usize::try_from(wire_length).unwrap_or(usize::MAX).max(frame.len());
    network::read(datagram, wire_length - framing_length)
}

/// The big-endian 16-bit number at `offset`.
#[inline]
fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*field))
}
