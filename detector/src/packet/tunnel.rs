//! Tunnels that can be opened: IP in IP and GRE, without what is encrypted.

use super::{LinkType, framing, protocol, read_u16};

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tunnel {
    /// GRE with IPv4, IPv6, MPLS or an Ethernet frame in it (RFC 2784, RFC 2890, RFC 7637).
    Gre,
    /// IPv4 or IPv6 right behind an IP header (RFC 2003, RFC 2473, RFC 4213).
    IpInIp,
}

/// The tunnels whose packets are counted at the addresses inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tunnels(u8);

impl Tunnels {
    /// Every tunnel is traffic to its end.
    pub const NONE: Self = Self(0);

    /// Whether none is opened.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn contains(self, tunnel: Tunnel) -> bool {
        self.0 & Self::bit(tunnel) != 0
    }

    const fn bit(tunnel: Tunnel) -> u8 {
        1 << tunnel as u8
    }

    /// The IP packet in the payload of a packet of protocol `number`; `None` if it is of no tunnel
    /// that is to be opened, or carries something else.
    pub(super) fn open(self, number: u8, payload: &[u8]) -> Option<&[u8]> {
        match number {
            protocol::IPV4 | protocol::IPV6 if self.contains(Tunnel::IpInIp) => Some(payload),
            protocol::GRE if self.contains(Tunnel::Gre) => gre(payload),
            _ => None,
        }
    }
}

impl FromIterator<Tunnel> for Tunnels {
    fn from_iter<I: IntoIterator<Item = Tunnel>>(tunnels: I) -> Self {
        Self(tunnels.into_iter().fold(0, |bits, tunnel| bits | Self::bit(tunnel)))
    }
}

/// Transparent Ethernet bridging (RFC 7637 §3.2).
const BRIDGED_ETHERNET: u16 = 0x6558;

/// Flags of the GRE header (RFC 2784 §2.1, RFC 2890 §2): each of these adds four octets.
const CHECKSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
/// Bits that must be zero: source routing (RFC 1701) and all versions but 0.
const NOT_FOLLOWED: u16 = 0x4007;

fn gre(header: &[u8]) -> Option<&[u8]> {
    let flags = read_u16(header, 0)?;
    if flags & NOT_FOLLOWED != 0 {
        return None;
    }
    let options = [CHECKSUM, KEY, SEQUENCE].into_iter().filter(|flag| flags & flag != 0).count();
    let payload = header.get(4 + 4 * options..)?;
    match read_u16(header, 2)? {
        BRIDGED_ETHERNET => framing::strip(LinkType::Ethernet, payload).ok(),
        kind => framing::behind(kind, payload).ok(),
    }
}
