//! Link-layer framing: from a frame to the IP packet in it.

use super::{LinkType, Unreadable, read_u16};

/// Ethertypes (<https://www.iana.org/assignments/ieee-802-numbers>).
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const QINQ: u16 = 0x88a8;
    pub(super) const QINQ_OLD: u16 = 0x9100;
    pub(super) const MPLS: u16 = 0x8847;
    pub(super) const MPLS_MULTICAST: u16 = 0x8848;
    pub(super) const PPPOE_SESSION: u16 = 0x8864;
}

/// PPP protocol numbers (RFC 1661, RFC 5072).
mod ppp {
    pub(super) const IPV4: u16 = 0x0021;
    pub(super) const IPV6: u16 = 0x0057;
    /// RFC 3032 §4.1.
    pub(super) const MPLS: u16 = 0x0281;
    /// Address and control octets of HDLC framing (RFC 1662 §3.1).
    pub(super) const HDLC: u16 = 0xff03;
}

/// VLAN tags that are followed; a frame with more is not read.
const MAX_VLAN_TAGS: usize = 4;
/// MPLS labels that are followed; a deeper stack is not read.
const MAX_MPLS_LABELS: usize = 8;

/// The bytes of `frame` from the IP header on.
#[inline]
pub(super) fn strip(link: LinkType, frame: &[u8]) -> Result<&[u8], Unreadable> {
    match link {
        LinkType::Ethernet => by_ethertype(frame, 12, 14),
        LinkType::LinuxCooked => by_ethertype(frame, 14, 16),
        LinkType::LinuxCooked2 => by_ethertype(frame, 0, 20),
        LinkType::RawIp => Ok(frame),
        LinkType::Null => null(frame),
        LinkType::Ppp => {
            let start = if read_u16(frame, 0) == Some(ppp::HDLC) { 2 } else { 0 };
            by_ppp_protocol(frame, start)
        }
    }
}

/// Follows tags from the ethertype at `type_offset`; what it names begins at `payload_offset`.
#[inline]
fn by_ethertype(
    frame: &[u8],
    type_offset: usize,
    payload_offset: usize,
) -> Result<&[u8], Unreadable> {
    let kind = read_u16(frame, type_offset).ok_or(Unreadable::Malformed)?;
    let rest = frame.get(payload_offset..).ok_or(Unreadable::Malformed)?;
    behind(kind, rest)
}

/// The bytes from the IP header on, where `rest` is what the ethertype `kind` names.
#[inline]
pub(super) fn behind(mut kind: u16, mut rest: &[u8]) -> Result<&[u8], Unreadable> {
    for _ in 0..=MAX_VLAN_TAGS {
        match kind {
            ethertype::IPV4 | ethertype::IPV6 => return Ok(rest),
            ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD => {
                kind = read_u16(rest, 2).ok_or(Unreadable::Malformed)?;
                rest = rest.get(4..).ok_or(Unreadable::Malformed)?;
            }
            ethertype::MPLS | ethertype::MPLS_MULTICAST => return mpls(rest),
            // RFC 2516 §4: six octets, then PPP.
            ethertype::PPPOE_SESSION => return by_ppp_protocol(rest, 6),
            _ => return Err(Unreadable::NotIp),
        }
    }
    Err(Unreadable::Malformed)
}

/// Behind the bottom of the label stack (RFC 3032 §2.1) the first nibble tells IP from the rest.
fn mpls(mut rest: &[u8]) -> Result<&[u8], Unreadable> {
    for _ in 0..MAX_MPLS_LABELS {
        let (label, behind) = rest.split_first_chunk::<4>().ok_or(Unreadable::Malformed)?;
        rest = behind;
        let [_, _, bottom_of_stack, _] = label;
        if bottom_of_stack & 1 == 1 {
            return match rest.first().map(|octet| octet >> 4) {
                Some(4 | 6) => Ok(rest),
                Some(_) => Err(Unreadable::NotIp),
                None => Err(Unreadable::Malformed),
            };
        }
    }
    Err(Unreadable::Malformed)
}

fn by_ppp_protocol(frame: &[u8], offset: usize) -> Result<&[u8], Unreadable> {
    let header = frame.get(offset..).ok_or(Unreadable::Malformed)?;
    // An odd first octet is a protocol number of one octet (RFC 1661 §6.5).
    let (number, rest) = match *header {
        [number, ref rest @ ..] if number & 1 == 1 => (u16::from(number), rest),
        [high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]), rest),
        _ => return Err(Unreadable::Malformed),
    };
    match number {
        ppp::IPV4 | ppp::IPV6 => Ok(rest),
        ppp::MPLS => mpls(rest),
        _ => Err(Unreadable::NotIp),
    }
}

/// Four octets of address family in the byte order of the capturing host (`AF_INET` is 2
/// everywhere; `AF_INET6` is 10, 24, 28 or 30).
fn null(frame: &[u8]) -> Result<&[u8], Unreadable> {
    let (family, rest) = frame.split_first_chunk::<4>().ok_or(Unreadable::Malformed)?;
    let little = u32::from_le_bytes(*family);
    let family = if little > 0xffff { u32::from_be_bytes(*family) } else { little };
    match family {
        2 | 10 | 24 | 28 | 30 => Ok(rest),
        _ => Err(Unreadable::NotIp),
    }
}
