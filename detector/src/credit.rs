//! What a protected host asked for is no attack on it.
//!
//! Every packet that the host sends may call for answers: a SYN for a SYN-ACK or an RST, a DNS
//! query for a DNS answer, an acknowledgement for more of a transfer, any packet for an ICMP
//! error. The meter grants credit for these and lets inbound packets use it up; only what comes
//! without credit is judged.
//!
//! Two conditions keep a flood from hiding behind a host's own traffic: credit is counted, per
//! kind, halved every second and capped; and, for everything but resets and ICMP errors, which
//! third parties send as well, the host must have asked this very peer.
//!
//! Only what leaves the protected space asks: between two protected hosts each packet would call for
//! the next, and who forges both sources would be excused. Such traffic counts at its destination.
//! Where everything is protected (a prefix of length zero), no direction can be told and all asks.

use std::time::Duration;

use tidegate_model::Reflector;

use crate::class::TrafficClass;
use crate::filter::Recent;
use crate::packet::{Fragment, Packet, Ports, Upper};
use crate::reflector;

/// What credit is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// SYN-ACKs, for SYNs sent.
    Handshake,
    /// RSTs, for any segment sent that is no RST itself.
    Reset,
    /// Segments of established connections, for such segments sent: transfers either way. A
    /// forged segment is answered with RST or not at all.
    Established,
    /// UDP from a service port that is no reflector's: QUIC.
    UdpService,
    /// Replies of ICMP, for requests sent.
    Echo,
    /// ICMP errors, for anything sent that is none.
    IcmpError,
    /// Later fragments, for requests whose answers may be long, and fragments sent.
    Fragment,
    /// Other protocols both ways: GRE, ESP.
    Tunnel,
    /// Answers of a reflector.
    Reflected(Reflector),
}

const GENERAL_KINDS: usize = 8;
const KINDS: usize = GENERAL_KINDS + Reflector::ALL.len();

impl Kind {
    const fn index(self) -> usize {
        match self {
            Self::Handshake => 0,
            Self::Reset => 1,
            Self::Established => 2,
            Self::UdpService => 3,
            Self::Echo => 4,
            Self::IcmpError => 5,
            Self::Fragment => 6,
            Self::Tunnel => 7,
            Self::Reflected(reflector) => GENERAL_KINDS + reflector as usize,
        }
    }

    /// Most unused credit. Resets, ICMP errors and fragments are answered to a small part of what
    /// is sent; without a low cap a busy server's credit would hide a flood of them for seconds.
    const fn cap(self) -> u16 {
        match self {
            Self::Reset | Self::IcmpError | Self::Fragment => 2_000,
            _ => u16::MAX,
        }
    }

    /// Whether the answer must come from a peer that was asked.
    const fn peer_bound(self) -> bool {
        !matches!(self, Self::Reset | Self::IcmpError)
    }
}

/// SYN-ACKs for one SYN: servers repeat them until they are acknowledged, Linux five times.
const SYN_ACKS_PER_SYN: u16 = 6;
/// Segments for one segment sent. Receivers with offloading acknowledge 64 KiB at once, 45 full
/// segments; a request without acknowledgements calls for ten (RFC 6928).
const SEGMENTS_PER_SEGMENT: u16 = 45;
/// Datagrams for one datagram sent to a service: QUIC acknowledges every tenth or less.
const DATAGRAMS_PER_DATAGRAM: u16 = 32;
/// Later fragments for one request: a 4096-byte answer has two, a 64 KiB one 44.
const FRAGMENTS_PER_REQUEST: u16 = 4;
/// Tunnel packets for one tunnel packet.
const TUNNEL_PACKETS_PER_PACKET: u16 = 32;

/// Ports that clients are expected to talk to and not from: the system ports (RFC 6335 §6) and the
/// usual alternatives for the web.
fn is_service(port: u16) -> bool {
    port < 1024 || port == 8080 || port == 8443
}

/// ICMP messages by their role (RFC 792, RFC 4443).
#[derive(Clone, Copy, PartialEq, Eq)]
enum IcmpRole {
    Request,
    Reply,
    Error,
    Other,
}

fn icmp_role(upper: Upper<'_>) -> IcmpRole {
    match upper {
        Upper::Icmp { kind: 8 | 10 | 13 | 15 | 17 }
        | Upper::Icmpv6 { kind: 128 | 130 | 133 | 135 | 139 } => IcmpRole::Request,
        Upper::Icmp { kind: 0 | 9 | 14 | 16 | 18 }
        | Upper::Icmpv6 { kind: 129 | 131 | 134 | 136 | 140 } => IcmpRole::Reply,
        Upper::Icmp { kind: 3 | 4 | 5 | 11 | 12 } | Upper::Icmpv6 { kind: 1..=127 } => {
            IcmpRole::Error
        }
        _ => IcmpRole::Other,
    }
}

/// Unused credit of one host.
#[derive(Clone, Debug)]
pub(crate) struct Credits([u16; KINDS]);

impl Default for Credits {
    fn default() -> Self {
        Self([0; KINDS])
    }
}

impl Credits {
    /// Notes what `packet`, sent by the host, calls for. True if its peer must be remembered.
    #[inline]
    pub(crate) fn grant(&mut self, packet: &Packet<'_>, class: TrafficClass) -> bool {
        if packet.fragment == Fragment::Later {
            self.add(Kind::Fragment, 1);
            return true;
        }
        let role = icmp_role(packet.upper);
        if role == IcmpRole::Error {
            return false;
        }
        self.add(Kind::IcmpError, 1);
        match packet.upper {
            Upper::Tcp { .. } => self.grant_tcp(class),
            Upper::Udp { ports, payload } => self.grant_udp(ports, payload),
            Upper::Icmp { .. } | Upper::Icmpv6 { .. } => {
                if role == IcmpRole::Request {
                    self.add(Kind::Echo, 1);
                }
                role == IcmpRole::Request
            }
            Upper::Other(_) => {
                self.add(Kind::Tunnel, TUNNEL_PACKETS_PER_PACKET);
                true
            }
            Upper::Headless(_) => false,
        }
    }

    fn grant_tcp(&mut self, class: TrafficClass) -> bool {
        let (kind, amount) = match class {
            TrafficClass::Syn => (Kind::Handshake, SYN_ACKS_PER_SYN),
            TrafficClass::Tcp => (Kind::Established, SEGMENTS_PER_SEGMENT),
            // A SYN-ACK may be refused, and calls for nothing more until it is acknowledged.
            TrafficClass::SynAck => {
                self.add(Kind::Reset, 1);
                return false;
            }
            _ => return false,
        };
        self.add(Kind::Reset, 1);
        self.add(kind, amount);
        true
    }

    fn grant_udp(&mut self, ports: Ports, payload: &[u8]) -> bool {
        if let Some(row) = reflector::of_port(ports.destination) {
            // An answer of the host's own server to another server asks nothing. In an IKE
            // exchange every message but the first has the form of an answer.
            let answers = row.ports.contains(&ports.source)
                && (row.is_answer)(payload) == Some(true)
                && row.reflector != Reflector::Ike;
            if answers {
                return false;
            }
            self.add(Kind::Reflected(row.reflector), row.answers_per_request);
        } else if is_service(ports.destination) && !is_service(ports.source) {
            self.add(Kind::UdpService, DATAGRAMS_PER_DATAGRAM);
        } else {
            return false;
        }
        self.add(Kind::Fragment, FRAGMENTS_PER_REQUEST);
        true
    }

    /// The peer proved that it is there: its first flight needs no segment of the host before it.
    pub(crate) fn grant_connection(&mut self) {
        self.add(Kind::Established, SEGMENTS_PER_SEGMENT);
    }

    fn add(&mut self, kind: Kind, amount: u16) {
        if let Some(credit) = self.0.get_mut(kind.index()) {
            *credit = credit.saturating_add(amount).min(kind.cap());
        }
    }

    /// Uses up credit for `packet`, sent to the host. True if there was some. `asked` says whether
    /// the host lately asked the packet's source.
    #[inline]
    pub(crate) fn take(
        &mut self,
        packet: &Packet<'_>,
        class: TrafficClass,
        asked: impl FnOnce() -> bool,
    ) -> bool {
        let Some(kind) = needed(packet, class) else { return false };
        let Some(credit) = self.0.get_mut(kind.index()).filter(|credit| **credit > 0) else {
            return false;
        };
        if kind.peer_bound() && !asked() {
            return false;
        }
        *credit -= 1;
        true
    }

    /// Forgets half of the credit, and all but a last answer in the end.
    pub(crate) fn halve(&mut self) {
        for credit in &mut self.0 {
            *credit = credit.div_ceil(2);
        }
    }
}

/// The credit that excuses `packet`; `None` if nothing does.
#[inline]
fn needed(packet: &Packet<'_>, class: TrafficClass) -> Option<Kind> {
    if packet.fragment == Fragment::Later {
        return Some(Kind::Fragment);
    }
    let from_service = |ports: Ports| is_service(ports.source) && !is_service(ports.destination);
    match (class, packet.upper) {
        (TrafficClass::SynAck, _) => Some(Kind::Handshake),
        (TrafficClass::Rst, _) => Some(Kind::Reset),
        (TrafficClass::Tcp, _) => Some(Kind::Established),
        (TrafficClass::Udp, Upper::Udp { ports, .. }) if from_service(ports) => {
            Some(Kind::UdpService)
        }
        (TrafficClass::Reflected(reflector), _) => Some(Kind::Reflected(reflector)),
        (TrafficClass::Icmp, upper) => match icmp_role(upper) {
            IcmpRole::Reply => Some(Kind::Echo),
            IcmpRole::Error => Some(Kind::IcmpError),
            IcmpRole::Request | IcmpRole::Other => None,
        },
        (TrafficClass::Other, _) if !packet.damaged => Some(Kind::Tunnel),
        _ => None,
    }
}

/// How long a peer is remembered that was asked, at least.
const GENERATION: Duration = Duration::from_secs(8);

/// Which hosts lately asked which peers. When it overflows, as under a flood with forged sources
/// inside the protected space, it says "asked" too often, and counted credit alone decides.
pub(crate) fn asked_peers() -> Recent {
    Recent::new(GENERATION, u32::MAX)
}
