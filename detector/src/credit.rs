//! What a protected host asked for is no attack on it.
//!
//! Every packet that the host sends may call for answers: a SYN for a SYN-ACK or an RST, a DNS
//! query for a DNS answer, an acknowledgement for more of a transfer, any packet for an ICMP
//! error. The meter grants credit for these and lets inbound packets use it up; only what comes
//! without credit is judged.
//!
//! Three conditions keep a flood from hiding behind a host's own traffic. Credit is counted, per
//! kind, halved every second and capped. The host must have asked this very peer; of refusals and
//! ICMP errors, which others send as well, no more are excused without that in a second than
//! [a few](Kind::most_in_a_second). And where one packet calls for many, segments and
//! datagrams of a connection, each peer has credit of its own, so that one download of somebody's does
//! not excuse a flood in his name or in another's.
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
    /// RSTs of peers that were sent a SYN-ACK, perhaps because somebody forged their address.
    Refusal,
    /// Segments of connections, RSTs among them, for such segments sent: transfers either way. A
    /// forged segment is answered with RST or not at all.
    Established,
    /// UDP from a service port that is no reflector's: QUIC.
    UdpService,
    /// Replies of ICMP, for requests sent.
    Echo,
    /// ICMP errors of anyone, for anything sent that is none.
    IcmpError,
    /// ICMP errors of the peer itself.
    PeerError,
    /// Later fragments, for requests whose answers may be long, and fragments sent.
    Fragment,
    /// Other protocols both ways: GRE, ESP.
    Tunnel,
    /// Answers of a reflector.
    Reflected(Reflector),
}

const GENERAL_KINDS: usize = 9;
/// Those with a [`Kind::most_in_a_second`] come first.
const BOUNDED_KINDS: usize = 3;
const KINDS: usize = GENERAL_KINDS + Reflector::ALL.len();

impl Kind {
    const fn index(self) -> usize {
        match self {
            Self::Refusal => 0,
            Self::IcmpError => 1,
            Self::Fragment => 2,
            Self::Handshake => 3,
            Self::Established => 4,
            Self::UdpService => 5,
            Self::Echo => 6,
            Self::Tunnel => 7,
            Self::PeerError => 8,
            Self::Reflected(reflector) => GENERAL_KINDS + reflector as usize,
        }
    }

    /// Most that are excused in a second, whatever was sent; `None` is no such bound. They are answers
    /// to a small part of what is sent, and without a bound a busy host would excuse a flood of them.
    const fn most_in_a_second(self) -> Option<u16> {
        match self {
            Self::Refusal | Self::Fragment => Some(2_000),
            Self::IcmpError => Some(500),
            _ => None,
        }
    }

    /// What must be known of the peer.
    const fn proof(self) -> Proof {
        match self {
            Self::Refusal | Self::IcmpError => Proof::None,
            Self::Established | Self::UdpService | Self::Tunnel | Self::PeerError => Proof::Owed,
            _ => Proof::Asked,
        }
    }
}

/// What must be known of a peer for its packet to be excused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing: anyone may send it.
    None,
    /// It was asked lately.
    Asked,
    /// It has credit of its own left.
    Owed,
}

/// What a packet that the host sends calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Nothing, or what anyone may send.
    Nothing,
    /// An answer of its peer.
    Answer,
    /// So many packets of its peer.
    Packets(u16),
}

/// SYN-ACKs for one SYN: servers repeat them until they are acknowledged, Linux five times.
const SYN_ACKS_PER_SYN: u16 = 6;
/// Segments for one short segment sent. Receivers with offloading acknowledge 64 KiB at once, 45 full
/// segments; a request without acknowledgements calls for ten (RFC 6928).
const SEGMENTS_PER_SEGMENT: u16 = 45;
/// From this IP packet length on a segment is one of a transfer. It calls for acknowledgements, of
/// which there is one for each full segment at most and [`BYTES_PER_SEGMENT`] allow two.
const TRANSFER: u16 = 1000;
const BYTES_PER_SEGMENT: u16 = 730;
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
pub(crate) struct Credits {
    unused: [u16; KINDS],
    /// Credit that was used in this second, of the kinds of which only so much may be.
    used: [u16; BOUNDED_KINDS],
}

impl Default for Credits {
    fn default() -> Self {
        Self { unused: [0; KINDS], used: [0; BOUNDED_KINDS] }
    }
}

impl Credits {
    /// Notes what `packet`, sent by the host, calls for.
    #[inline]
    pub(crate) fn grant(&mut self, packet: &Packet<'_>, class: TrafficClass) -> Call {
        if packet.fragment == Fragment::Later {
            self.add(Kind::Fragment, 1);
            return Call::Answer;
        }
        let role = icmp_role(packet.upper);
        if role == IcmpRole::Error {
            return Call::Nothing;
        }
        self.add(Kind::IcmpError, 1);
        self.add(Kind::PeerError, 1);
        match packet.upper {
            Upper::Tcp { .. } => self.grant_tcp(class, packet.length),
            Upper::Udp { ports, payload } => self.grant_udp(ports, payload),
            Upper::Icmp { .. } | Upper::Icmpv6 { .. } if role == IcmpRole::Request => {
                self.add(Kind::Echo, 1);
                Call::Answer
            }
            Upper::Other(_) => {
                self.add(Kind::Tunnel, TUNNEL_PACKETS_PER_PACKET);
                Call::Packets(TUNNEL_PACKETS_PER_PACKET)
            }
            _ => Call::Nothing,
        }
    }

    fn grant_tcp(&mut self, class: TrafficClass, length: u16) -> Call {
        let segments = match class {
            TrafficClass::Syn => {
                self.add(Kind::Handshake, SYN_ACKS_PER_SYN);
                // It may be refused, by RST or by an error.
                2
            }
            // It may be refused, and calls for nothing more until it is acknowledged.
            TrafficClass::SynAck => {
                self.add(Kind::Refusal, 1);
                return Call::Nothing;
            }
            TrafficClass::Tcp if length >= TRANSFER => 1 + length / BYTES_PER_SEGMENT,
            TrafficClass::Tcp => SEGMENTS_PER_SEGMENT,
            _ => return Call::Nothing,
        };
        self.add(Kind::Established, segments);
        Call::Packets(segments)
    }

    fn grant_udp(&mut self, ports: Ports, payload: &[u8]) -> Call {
        if let Some(row) = reflector::of_port(ports.destination) {
            // An answer of the host's own server to another server asks nothing. In an IKE
            // exchange every message but the first has the form of an answer.
            let answers = row.ports.contains(&ports.source)
                && (row.is_answer)(payload) == Some(true)
                && row.reflector != Reflector::Ike;
            if answers {
                return Call::Nothing;
            }
            self.add(Kind::Reflected(row.reflector), row.answers_per_request);
            self.add(Kind::Fragment, FRAGMENTS_PER_REQUEST);
            Call::Answer
        } else if is_service(ports.destination) && !is_service(ports.source) {
            self.add(Kind::UdpService, DATAGRAMS_PER_DATAGRAM);
            self.add(Kind::Fragment, FRAGMENTS_PER_REQUEST);
            Call::Packets(DATAGRAMS_PER_DATAGRAM)
        } else {
            // An error.
            Call::Packets(1)
        }
    }

    /// The peer proved that it is there: its first flight needs no segment of the host before it.
    /// Returns what it is owed.
    pub(crate) fn grant_connection(&mut self) -> u16 {
        self.add(Kind::Established, SEGMENTS_PER_SEGMENT);
        SEGMENTS_PER_SEGMENT
    }

    fn add(&mut self, kind: Kind, amount: u16) {
        let used = self.used.get(kind.index()).copied().unwrap_or(0);
        let most = kind.most_in_a_second().map_or(u16::MAX, |most| most.saturating_sub(used));
        if let Some(credit) = self.unused.get_mut(kind.index()) {
            *credit = credit.saturating_add(amount).min(most);
        }
    }

    /// Uses up credit for `packet`, sent to the host. True if there was some. `holds` says whether
    /// what must be known of the packet's source is true.
    #[inline]
    pub(crate) fn take(
        &mut self,
        packet: &Packet<'_>,
        class: TrafficClass,
        mut holds: impl FnMut(Proof) -> bool,
    ) -> bool {
        let Some(kind) = needed(packet, class) else { return false };
        // The peer's own, or what anyone may send.
        let of_anyone = match (class, kind) {
            (TrafficClass::Rst, Kind::Established) => Some(Kind::Refusal),
            (_, Kind::PeerError) => Some(Kind::IcmpError),
            _ => None,
        };
        self.spend(kind, &mut holds) || of_anyone.is_some_and(|kind| self.spend(kind, &mut holds))
    }

    #[inline]
    fn spend(&mut self, kind: Kind, holds: &mut impl FnMut(Proof) -> bool) -> bool {
        let Some(credit) = self.unused.get_mut(kind.index()).filter(|credit| **credit > 0) else {
            return false;
        };
        let proof = kind.proof();
        if proof != Proof::None && !holds(proof) {
            return false;
        }
        *credit -= 1;
        if let Some(used) = self.used.get_mut(kind.index()) {
            *used = used.saturating_add(1);
        }
        true
    }

    /// A second is over: forgets half of the credit, and all but a last answer in the end.
    pub(crate) fn halve(&mut self) {
        for credit in &mut self.unused {
            *credit = credit.div_ceil(2);
        }
        self.used = [0; BOUNDED_KINDS];
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
        (TrafficClass::Rst | TrafficClass::Tcp, _) => Some(Kind::Established),
        (TrafficClass::Udp, Upper::Udp { ports, .. }) if from_service(ports) => {
            Some(Kind::UdpService)
        }
        (TrafficClass::Reflected(reflector), _) => Some(Kind::Reflected(reflector)),
        (TrafficClass::Icmp, upper) => match icmp_role(upper) {
            IcmpRole::Reply => Some(Kind::Echo),
            IcmpRole::Error => Some(Kind::PeerError),
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
