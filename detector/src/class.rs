//! The class of a packet: what the meter counts apart.

use tidegate_model::{Metric, Reflector};

use crate::packet::{Fragment, Packet, Ports, Upper, flag, protocol};
use crate::reflector;

/// The shortest first fragment that an honest sender makes: a path carries 576 bytes at least, and
/// the piece is cut to a multiple of eight (RFC 791 §3.1, RFC 1122 §3.3.2).
const MIN_FIRST_FRAGMENT: u16 = 500;

/// Traffic that is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficClass {
    /// TCP SYN without ACK, whatever the other flags.
    Syn,
    /// TCP SYN with ACK.
    SynAck,
    /// TCP RST.
    Rst,
    /// All other TCP.
    Tcp,
    /// UDP that does not come from a reflector's port, or is a request though it does.
    Udp,
    /// UDP from the port of a reflector.
    Reflected(Reflector),
    /// Later UDP fragments, and first ones too short to be honest.
    UdpFragment,
    /// ICMP and ICMPv6, fragments included.
    Icmp,
    /// Fragments of TCP and of any other protocol.
    Fragment,
    /// Every other IP protocol.
    Other,
}

impl TrafficClass {
    /// The class of `packet`.
    #[inline]
    #[must_use]
    pub fn of(packet: &Packet<'_>) -> Self {
        match packet.upper {
            Upper::Tcp { flags, .. } => match flags & (flag::SYN | flag::RST | flag::ACK) {
                bits if bits & flag::SYN != 0 && bits & flag::ACK == 0 => Self::Syn,
                bits if bits & flag::RST != 0 => Self::Rst,
                bits if bits & flag::SYN != 0 => Self::SynAck,
                _ => Self::Tcp,
            },
            Upper::Udp { .. }
                if packet.fragment == Fragment::First && packet.length < MIN_FIRST_FRAGMENT =>
            {
                Self::UdpFragment
            }
            Upper::Udp { ports, payload } => Self::of_datagram(ports, payload),
            Upper::Icmp { .. } | Upper::Icmpv6 { .. } => Self::Icmp,
            Upper::Headless(number) => Self::of_headless(number, packet),
            Upper::Other(_) if packet.fragment != Fragment::Whole => Self::Fragment,
            Upper::Other(_) => Self::Other,
        }
    }

    #[inline]
    fn of_datagram(ports: Ports, payload: &[u8]) -> Self {
        let Some(row) = reflector::of_port(ports.source) else { return Self::Udp };
        // Between two servers both ports are the service's; only the payload tells who asks.
        let asks = row.ports.contains(&ports.destination)
            && ((row.is_answer)(payload) == Some(false) || is_esp(ports, payload));
        if asks { Self::Udp } else { Self::Reflected(row.reflector) }
    }

    fn of_headless(number: u8, packet: &Packet<'_>) -> Self {
        let whole = packet.fragment == Fragment::Whole;
        match (number, packet.source.is_ipv6()) {
            (protocol::ICMP, false) | (protocol::ICMPV6, true) => Self::Icmp,
            (protocol::UDP, _) if whole => Self::Udp,
            (protocol::UDP, _) => Self::UdpFragment,
            (protocol::TCP, _) if whole => Self::Tcp,
            _ if whole => Self::Other,
            _ => Self::Fragment,
        }
    }

    /// The metric that judges the class, besides [`Metric::Total`], and [`Metric::Fragment`] for
    /// those of its packets that are fragments.
    #[inline]
    #[must_use]
    pub const fn metric(self) -> Metric {
        match self {
            Self::Syn => Metric::TcpSyn,
            Self::SynAck | Self::Rst | Self::Tcp => Metric::Tcp,
            Self::Udp => Metric::Udp,
            Self::Reflected(_) | Self::UdpFragment => Metric::Amplification,
            Self::Icmp => Metric::Icmp,
            Self::Fragment => Metric::Fragment,
            Self::Other => Metric::Other,
        }
    }
}

/// ESP inside UDP (RFC 3948 §2.1): a tunnel's payload, not an answer of IKE.
fn is_esp(ports: Ports, payload: &[u8]) -> bool {
    ports.source == 4500 && payload.first_chunk::<4>().is_some_and(|marker| *marker != [0; 4])
}
