//! Which vector the packets of one class are.

use tidegate_model::{AttackVector, Metric, Reflector};

use crate::class::TrafficClass;
use crate::form::Form;
use crate::packet::{flag, protocol};
use crate::reflector;
use crate::sample::Sample;
use crate::sketch::part;
use crate::summary::ClassTraffic;

/// Sources from which on a reflection is believed: fewer servers make no flood worth the name.
pub(crate) const SEVERAL_SOURCES: u64 = 8;
/// Part of the packets that must agree for them to be of a kind.
const MOST: f64 = 0.9;
/// Mean IP packet length in bytes from which TCP segments carry a page.
const PAGE_LENGTH: u64 = 200;
/// Checked payloads from which on their form decides.
const ENOUGH_CHECKED: u64 = 16;

/// The vector that `traffic` is, all of it unasked.
pub(crate) fn vector_of(traffic: &ClassTraffic, sample: &Sample) -> AttackVector {
    if part(traffic.to_self, traffic.count.packets) >= MOST {
        return AttackVector::LandFlood;
    }
    match traffic.class {
        TrafficClass::Syn if is_connecting(sample) => AttackVector::TcpConnectionFlood,
        TrafficClass::Syn => AttackVector::SynFlood,
        TrafficClass::SynAck if is_reflected_handshake(traffic) => AttackVector::SynAckReflection,
        TrafficClass::SynAck => AttackVector::SynAckFlood,
        TrafficClass::Rst => AttackVector::RstFlood,
        TrafficClass::Tcp => segments(traffic),
        TrafficClass::Reflected(reflector) if is_amplified(reflector, traffic, sample) => {
            AttackVector::Amplification(reflector)
        }
        TrafficClass::Udp | TrafficClass::Reflected(_) => datagrams(traffic),
        TrafficClass::Icmp if is_backscatter(traffic) => AttackVector::IcmpBackscatter,
        TrafficClass::Icmp => AttackVector::IcmpFlood,
        TrafficClass::UdpFragment | TrafficClass::Fragment => AttackVector::FragmentFlood,
        TrafficClass::Other => match traffic.protocols.covering(MOST, traffic.count.packets, 1)[..]
        {
            [number] if number == u16::from(protocol::GRE) => AttackVector::GreFlood,
            [number] if number == u16::from(protocol::ESP) => AttackVector::EspFlood,
            [number] if number == u16::from(protocol::IGMP) => AttackVector::IgmpFlood,
            _ => AttackVector::ProtocolFlood,
        },
    }
}

/// Whether most of those who ask for connections complete them.
fn is_connecting(sample: &Sample) -> bool {
    part(sample.connections.completed, sample.unasked.get(Metric::TcpSyn).packets) >= 0.5
}

/// SYN-ACKs of many servers come from few ports; forged ones from any.
fn is_reflected_handshake(traffic: &ClassTraffic) -> bool {
    traffic.sources.estimate() >= SEVERAL_SOURCES
        && part(traffic.source_ports.covered(), traffic.with_ports) >= 0.5
}

/// TCP with neither SYN nor RST, by the flags that most have or lack.
fn segments(traffic: &ClassTraffic) -> AttackVector {
    let share = |bit: u8| {
        let count = traffic.flags.get(bit.trailing_zeros() as usize).copied().unwrap_or(0);
        part(u64::from(count), traffic.with_ports)
    };
    let (fin, psh, ack, urg) =
        (share(flag::FIN), share(flag::PSH), share(flag::ACK), share(flag::URG));
    let few = 1.0 - MOST;
    if traffic.with_ports == 0 {
        AttackVector::TcpFlood
    } else if is_page(traffic, psh.max(fin)) {
        AttackVector::MiddleboxReflection
    } else if fin >= MOST && psh >= MOST && urg >= MOST {
        AttackVector::XmasFlood
    } else if fin >= MOST && psh <= few {
        AttackVector::FinFlood
    } else if ack >= MOST && fin <= few {
        AttackVector::AckFlood
    } else if fin <= few && psh <= few && ack <= few && urg <= few {
        AttackVector::NullFlood
    } else {
        AttackVector::TcpFlood
    }
}

/// Pages that firewalls send for the server that they hide: from the ports of the web, with data
/// (Bock et al., "Weaponizing Middleboxes for TCP Reflected Amplification", USENIX Security 2021).
fn is_page(traffic: &ClassTraffic, with_data: f64) -> bool {
    let ports = traffic.source_ports.covering(MOST, traffic.with_ports, 2);
    !ports.is_empty()
        && ports.iter().all(|port| matches!(port, 80 | 443))
        && traffic.mean_length() >= PAGE_LENGTH
        && with_data >= 0.5
        && traffic.sources.estimate() >= SEVERAL_SOURCES
}

/// UDP that is no answer of the port that it comes from.
fn datagrams(traffic: &ClassTraffic) -> AttackVector {
    let share = |form: Form| {
        let count = traffic.forms.get(form as usize).copied().unwrap_or(0);
        part(count, traffic.with_ports)
    };
    let several = traffic.sources.estimate() >= SEVERAL_SOURCES;
    if several && share(Form::TftpBlock) >= MOST {
        AttackVector::Amplification(Reflector::Tftp)
    } else if several && share(Form::DtlsAnswer) >= MOST {
        AttackVector::Amplification(Reflector::Dtls)
    } else if share(Form::DnsQuery) >= MOST && asks_for_ever_new_names(traffic) {
        AttackVector::DnsWaterTorture
    } else if share(Form::DnsQuery) >= MOST {
        AttackVector::DnsQueryFlood
    } else if share(Form::QuicRequest) >= 0.5 {
        AttackVector::QuicFlood
    } else {
        AttackVector::UdpFlood
    }
}

/// Honest resolvers ask for names again and again, tools for the same one; here the first labels
/// are drawn by lot (Luo et al., "Large scale DNS water torture", 2018).
fn asks_for_ever_new_names(traffic: &ClassTraffic) -> bool {
    traffic.labels.as_ref().and_then(|labels| labels.share_new()).is_some_and(|new| new >= 0.5)
}

/// Whether UDP from a reflector's port is its amplified answers.
///
/// The length must be that of an amplified answer, or many servers must send what only an answer
/// can be. What is no answer by its form does not become one by its length: its senders merely
/// chose the port.
fn is_amplified(reflector: Reflector, traffic: &ClassTraffic, sample: &Sample) -> bool {
    let Some(row) = reflector::of(reflector) else { return false };
    let sources = traffic.sources.estimate();
    let fitting = part(traffic.fitting, traffic.checked);
    let long = traffic.mean_length() >= u64::from(row.amplified_length);
    let real = sources >= SEVERAL_SOURCES && fitting >= MOST;
    let few = sources < 3 && traffic.checked > 0;
    let forged = (few || traffic.checked >= ENOUGH_CHECKED) && fitting < 0.5;
    // Random source ports hit every reflector's port now and then.
    let stray = sample
        .class(TrafficClass::Udp)
        .is_some_and(|udp| part(traffic.count.packets, udp.count.packets) < 0.01);
    (long || real) && !forged && !stray
}

/// Errors about packets that others sent in the target's name come from everywhere. Few senders of
/// errors are a flood (BlackNurse, 2016).
fn is_backscatter(traffic: &ClassTraffic) -> bool {
    let errors: u64 = traffic
        .icmp_types
        .sorted()
        .into_iter()
        .filter(|(kind, _)| is_error(*kind, &traffic.protocols.sorted()))
        .map(|(_, packets)| u64::from(packets))
        .sum();
    part(errors, traffic.count.packets) >= MOST && traffic.sources.estimate() >= SEVERAL_SOURCES
}

/// Unreachable, time exceeded, and their like (RFC 792, RFC 4443).
fn is_error(kind: u16, protocols: &[(u16, u32)]) -> bool {
    match protocols.first() {
        Some(&(number, _)) if number == u16::from(protocol::ICMPV6) => matches!(kind, 1..=4),
        _ => matches!(kind, 3 | 11 | 12),
    }
}
