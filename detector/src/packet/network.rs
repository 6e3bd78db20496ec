//! IPv4 and IPv6 headers, extension headers, and the first octets above them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Fragment, Packet, Ports, Unreadable, Upper, protocol, read_u16};

/// Extension headers and Authentication Headers that are followed. A longer chain counts as a
/// packet of the protocol at which the walk stopped.
const MAX_EXTENSION_HEADERS: usize = 8;

/// Reads an IP packet of which `datagram` was captured and `wire_length` was on the wire. Also
/// what lies behind the last header that was walked over; empty if nothing whole does.
#[inline]
pub(super) fn read(datagram: &[u8], wire_length: usize) -> Result<(Packet<'_>, &[u8]), Unreadable> {
    match datagram.first().map(|octet| octet >> 4) {
        Some(4) => ipv4(datagram, wire_length),
        Some(6) => ipv6(datagram, wire_length),
        _ => Err(Unreadable::Malformed),
    }
}

#[inline]
fn ipv4(datagram: &[u8], wire_length: usize) -> Result<(Packet<'_>, &[u8]), Unreadable> {
    let header = datagram.first_chunk::<20>().ok_or(Unreadable::Malformed)?;
    let [ihl, _, l0, l1, _, _, f0, f1, ttl, stated, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let header_length = usize::from(ihl & 0x0f) * 4;
    let total_length = u16::from_be_bytes([l0, l1]);
    // Zero is how a capture below segmentation offload shows a packet too long for the field.
    let length = if total_length == 0 { saturating_u16(wire_length) } else { total_length };
    let offset = u16::from_be_bytes([f0, f1]);
    let fragment = fragment_of(offset & 0x1fff, offset & 0x2000 != 0);
    let damaged = header_length < 20 || usize::from(length) < header_length;
    // Behind the total length lies padding, not payload.
    let end = usize::from(length).min(datagram.len());
    let payload = datagram.get(header_length..end).unwrap_or(&[]);
    let (upper, rest) = if damaged {
        (Upper::Other(stated), &[][..])
    } else if fragment == Fragment::Later {
        (Upper::Headless(stated), &[][..])
    } else {
        behind_authentication(stated, payload)
    };
    let packet = Packet {
        source: IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3)),
        destination: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
        protocol: stated,
        length,
        fragment,
        ttl,
        upper,
        damaged,
    };
    Ok((packet, rest))
}

/// Walks over Authentication Headers, the only extension header that IPv4 has as well.
#[inline]
fn behind_authentication(stated: u8, payload: &[u8]) -> (Upper<'_>, &[u8]) {
    let (mut next, mut rest) = (stated, payload);
    for _ in 0..MAX_EXTENSION_HEADERS {
        if next != protocol::AUTHENTICATION {
            return (upper(Family::Ipv4, next, rest), rest);
        }
        let Some((behind, after)) = skip_extension(next, rest) else { break };
        (next, rest) = (behind, after);
    }
    (Upper::Other(next), &[])
}

#[inline]
fn ipv6(datagram: &[u8], wire_length: usize) -> Result<(Packet<'_>, &[u8]), Unreadable> {
    let (header, behind) = datagram.split_first_chunk::<40>().ok_or(Unreadable::Malformed)?;
    let [_, _, _, _, l0, l1, next, hop_limit, addresses @ ..] = header;
    let (Some(source), Some(destination)) =
        (addresses.first_chunk::<16>(), addresses.last_chunk::<16>())
    else {
        return Err(Unreadable::Malformed);
    };
    let payload_length = u16::from_be_bytes([*l0, *l1]);
    // Zero with something behind it is a jumbogram (RFC 2675) or segmentation offload.
    let length = if payload_length == 0 && *next != NO_NEXT_HEADER {
        saturating_u16(wire_length)
    } else {
        payload_length.saturating_add(40)
    };
    let end = usize::from(length).saturating_sub(40).min(behind.len());
    let payload = behind.get(..end).unwrap_or(&[]);
    let chain = walk_extensions(*next, payload);
    let packet = Packet {
        source: IpAddr::V6(Ipv6Addr::from(*source)),
        destination: IpAddr::V6(Ipv6Addr::from(*destination)),
        protocol: chain.protocol,
        length,
        fragment: chain.fragment,
        ttl: *hop_limit,
        upper: chain.upper,
        damaged: false,
    };
    Ok((packet, chain.rest))
}

/// RFC 8200 §4.7.
const NO_NEXT_HEADER: u8 = 59;

struct Chain<'a> {
    protocol: u8,
    fragment: Fragment,
    upper: Upper<'a>,
    rest: &'a [u8],
}

/// Follows the extension headers of IPv6 (RFC 8200 §4), at most [`MAX_EXTENSION_HEADERS`].
#[inline]
fn walk_extensions(first: u8, payload: &[u8]) -> Chain<'_> {
    let (mut next, mut rest) = (first, payload);
    let mut fragment = Fragment::Whole;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(next) {
            return Chain {
                protocol: next,
                fragment,
                upper: upper(Family::Ipv6, next, rest),
                rest,
            };
        }
        if next == protocol::FRAGMENT {
            let offset = read_u16(rest, 2).unwrap_or(0);
            // An atomic fragment (RFC 6946) is a whole datagram.
            fragment = fragment_of(offset >> 3, offset & 1 != 0);
        }
        let Some((behind, after)) = skip_extension(next, rest) else { break };
        (next, rest) = (behind, after);
        if fragment == Fragment::Later {
            return Chain { protocol: next, fragment, upper: Upper::Headless(next), rest: &[] };
        }
    }
    Chain { protocol: next, fragment, upper: Upper::Other(next), rest: &[] }
}

#[inline]
fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
    )
}

/// The next-header value of the extension header `kind` and what lies behind it.
fn skip_extension(kind: u8, header: &[u8]) -> Option<(u8, &[u8])> {
    let [next, units, ..] = *header.first_chunk::<2>()?;
    let length = match kind {
        protocol::FRAGMENT => 8,
        // RFC 4302 §2.2: in 4-octet units, minus 2.
        protocol::AUTHENTICATION => (usize::from(units) + 2) * 4,
        _ => (usize::from(units) + 1) * 8,
    };
    Some((next, header.get(length..)?))
}

#[derive(Clone, Copy)]
enum Family {
    Ipv4,
    Ipv6,
}

#[inline]
fn upper(family: Family, number: u8, payload: &[u8]) -> Upper<'_> {
    let read = match (number, family) {
        (protocol::TCP, _) => tcp(payload),
        (protocol::UDP, _) => udp(payload),
        (protocol::ICMP, Family::Ipv4) => payload.first().map(|&kind| Upper::Icmp { kind }),
        (protocol::ICMPV6, Family::Ipv6) => payload.first().map(|&kind| Upper::Icmpv6 { kind }),
        _ => return Upper::Other(number),
    };
    read.unwrap_or(Upper::Headless(number))
}

#[inline]
fn tcp(payload: &[u8]) -> Option<Upper<'_>> {
    let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, _, flags] =
        *payload.first_chunk::<14>()?;
    Some(Upper::Tcp {
        ports: ports([s0, s1, d0, d1]),
        flags,
        sequence: u32::from_be_bytes([q0, q1, q2, q3]),
        acknowledgement: u32::from_be_bytes([a0, a1, a2, a3]),
    })
}

#[inline]
fn udp(payload: &[u8]) -> Option<Upper<'_>> {
    let numbers = payload.first_chunk::<4>()?;
    Some(Upper::Udp { ports: ports(*numbers), payload: payload.get(8..).unwrap_or(&[]) })
}

#[inline]
fn ports([s0, s1, d0, d1]: [u8; 4]) -> Ports {
    Ports { source: u16::from_be_bytes([s0, s1]), destination: u16::from_be_bytes([d0, d1]) }
}

#[inline]
fn fragment_of(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

fn saturating_u16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
