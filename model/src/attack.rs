//! Attacks as the detector reports them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::prefix::Prefix;
use crate::rate::Rate;
use crate::threshold::{Limit, Metric};
use crate::time::Timestamp;

/// Names one attack from its start to its end. Unique within a run of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttackId(pub u64);

impl AttackId {
    /// From here on the numbers name what people asked for without an attack.
    pub const MANUAL: u64 = 1 << 63;
    /// From here on, up to [`Self::MANUAL`], they name what other detectors reported.
    pub const REPORTED: u64 = 1 << 62;
}

impl fmt::Display for AttackId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.0.checked_sub(Self::MANUAL) {
            write!(formatter, "manual-{number}")
        } else if let Some(number) = self.0.checked_sub(Self::REPORTED) {
            write!(formatter, "reported-{number}")
        } else {
            write!(formatter, "attack-{}", self.0)
        }
    }
}

/// Text that names no attack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no attack; write it as it is listed, such as `attack-7`")]
pub struct ParseAttackIdError(String);

impl FromStr for AttackId {
    type Err = ParseAttackIdError;

    fn from_str(text: &str) -> Result<Self, ParseAttackIdError> {
        let kinds = [("attack-", 0), ("reported-", Self::REPORTED), ("manual-", Self::MANUAL)];
        let number = kinds.iter().find_map(|(kind, base)| {
            let number: u64 = text.strip_prefix(kind)?.parse().ok()?;
            base.checked_add(number).map(Self)
        });
        // What is read is what is written: `attack-07` is none, nor is one beyond its kind.
        number
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| ParseAttackIdError(text.to_owned()))
    }
}

macro_rules! reflectors {
    ($($variant:ident $name:literal,)+) => {
        /// A UDP service whose answers are abused to amplify.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each variant is the name of its protocol")]
        pub enum Reflector { $($variant,)+ }

        impl Reflector {
            /// Every reflector.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name as it stands before `-amplification`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

reflectors! {
    Dns "dns",
    Ntp "ntp",
    Memcached "memcached",
    Ssdp "ssdp",
    Cldap "cldap",
    Chargen "chargen",
    Qotd "qotd",
    Snmp "snmp",
    Rip "rip",
    Portmap "portmap",
    NetBios "netbios",
    Mdns "mdns",
    WsDiscovery "ws-discovery",
    Coap "coap",
    Stun "stun",
    OpenVpn "openvpn",
    Ubiquiti "ubiquiti",
    Arms "arms",
    DhcpDiscover "dhcp-discover",
    Tftp "tftp",
    Jenkins "jenkins",
    L2tp "l2tp",
    Ipmi "ipmi",
    SourceEngine "source-engine",
    BitTorrent "bittorrent",
    Ike "ike",
    Echo "echo",
    Quake "quake",
    MsSql "mssql",
    Rdp "rdp",
    Slp "slp",
    Xdmcp "xdmcp",
    Sentinel "sentinel",
    VxWorks "vxworks",
    Plex "plex",
    BacNet "bacnet",
    Sadp "sadp",
    Mitel "mitel",
    Sip "sip",
    Kad "kad",
    Dtls "dtls",
}

macro_rules! vectors {
    ($($variant:ident $name:literal $meaning:literal,)+) => {
        /// The kind of a flood.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AttackVector {
            $(#[doc = $meaning] $variant,)+
            /// Answers of abused UDP services.
            Amplification(Reflector),
            /// Over a threshold, of a kind that is not recognised.
            Unknown,
        }

        impl AttackVector {
            /// Every vector.
            pub fn all() -> impl Iterator<Item = Self> {
                [$(Self::$variant,)+ Self::Unknown]
                    .into_iter()
                    .chain(Reflector::ALL.iter().copied().map(Self::Amplification))
            }
        }

        impl fmt::Display for AttackVector {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = match self {
                    $(Self::$variant => $name,)+
                    Self::Unknown => "unknown",
                    Self::Amplification(reflector) => {
                        return formatter.pad(&format!("{}-amplification", reflector.name()));
                    }
                };
                formatter.pad(name)
            }
        }
    };
}

vectors! {
    SynFlood "syn-flood" "TCP connection requests: SYN without ACK, whatever the other flags.",
    TcpConnectionFlood "tcp-connection-flood"
        "TCP connections that few peers open without end, with complete handshakes.",
    SynAckReflection "syn-ack-reflection"
        "TCP SYN-ACK answers from many servers to requests that the target never sent.",
    SynAckFlood "syn-ack-flood" "TCP SYN-ACKs that no servers sent.",
    AckFlood "ack-flood" "TCP segments with ACK, with or without PSH, of no connection.",
    RstFlood "rst-flood" "TCP resets.",
    FinFlood "fin-flood" "TCP FIN, with or without ACK, of no connection.",
    XmasFlood "xmas-flood" "TCP segments with FIN, PSH and URG.",
    NullFlood "null-flood" "TCP segments without flags.",
    MiddleboxReflection "middlebox-reflection"
        "Pages of firewalls and censors that answer to segments which the target never sent.",
    LandFlood "land-flood" "Packets that name the target as their source as well.",
    TcpFlood "tcp-flood" "TCP segments of several kinds, or of any other.",
    UdpFlood "udp-flood" "UDP datagrams of no kind below.",
    DnsQueryFlood "dns-query-flood" "DNS queries, whatever they ask for.",
    DnsWaterTorture "dns-water-torture"
        "DNS queries for ever new names under the same ones, which no cache can answer.",
    QuicFlood "quic-flood" "QUIC connection requests.",
    IcmpFlood "icmp-flood" "ICMP or ICMPv6.",
    IcmpBackscatter "icmp-backscatter"
        "ICMP errors from many routers and hosts: someone else is attacked in the target's name.",
    FragmentFlood "fragment-flood" "Fragments that belong to no vector above.",
    GreFlood "gre-flood" "Generic Routing Encapsulation.",
    EspFlood "esp-flood" "IPsec payloads.",
    IgmpFlood "igmp-flood" "IGMP.",
    ProtocolFlood "protocol-flood" "Any other IP protocol.",
}

/// A name that is no vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an attack vector")]
pub struct ParseVectorError(String);

impl FromStr for AttackVector {
    type Err = ParseVectorError;

    fn from_str(text: &str) -> Result<Self, ParseVectorError> {
        Self::all()
            .find(|vector| vector.to_string() == text)
            .ok_or_else(|| ParseVectorError(text.to_owned()))
    }
}

/// How bad an attack is, in the policy's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the four words are the documentation")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// From the mildest to the worst.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Name in policy files and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Probability that a statement is right, in `0.0..=1.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Confidence(f64);

impl Confidence {
    /// Clamps `value` to `0.0..=1.0`; NaN becomes 0.
    #[must_use]
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) })
    }

    /// The probability.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.2}", self.0)
    }
}

/// A condition on the TCP flag octet: all of `set`, none of `clear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpFlags {
    /// Bits that are set in every attack packet (FIN is bit 0).
    pub set: u8,
    /// Bits that are clear in every attack packet.
    pub clear: u8,
}

/// What the packets of a vector have in common: the raw material of a FlowSpec rule.
///
/// `None` and empty lists say that the packets do not agree on that field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Source ports that carry the attack, most packets first.
    pub source_ports: Vec<u16>,
    /// Destination ports that carry the attack, most packets first.
    pub destination_ports: Vec<u16>,
    /// TCP flags.
    pub tcp_flags: Option<TcpFlags>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// Smallest and largest IP packet length in bytes, both inclusive.
    pub packet_length: Option<(u16, u16)>,
    /// Whether the attack comes as fragments, most of which carry no ports.
    pub fragments: bool,
}

/// One vector of an attack.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorEstimate {
    /// Which kind.
    pub vector: AttackVector,
    /// Its share of the attack's packets, `0.0..=1.0`.
    pub share: f64,
    /// That the kind is right.
    pub confidence: Confidence,
    /// What its packets have in common.
    pub signature: Signature,
    /// What the judgement rests on.
    pub evidence: Vec<Evidence>,
}

/// One fact behind a classification: a name and what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What was looked at: `source port 123`.
    pub fact: &'static str,
    /// What was seen: `98 % of bytes`.
    pub seen: String,
}

/// The threshold crossing that started an attack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trigger {
    /// Which class of traffic.
    pub metric: Metric,
    /// Its rate when the judge decided.
    pub rate: Rate,
    /// The limit it is over.
    pub limit: Limit,
}

/// What hides an attack from the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occlusion {
    /// Nothing: a quiet target is a quiet target.
    Visible,
    /// A mitigation upstream drops all traffic to the target: quiet proves nothing.
    Blackholed,
}

/// Why an attack is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Below the exit threshold for this long.
    Quiet(Duration),
    /// The capture or the run ended while the attack went on.
    InputEnded,
    /// The target is not protected any more: the policy changed.
    NotProtected,
    /// The detector that reported it says so.
    Reported,
    /// The detector that reported it was silent for this long.
    Unconfirmed(Duration),
}

impl EndReason {
    /// Whether what was done may stay for its minimum lifetime: the attack may come back.
    #[must_use]
    pub const fn may_return(self) -> bool {
        matches!(self, Self::Quiet(_) | Self::Reported | Self::Unconfirmed(_))
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet(span) => {
                write!(formatter, "below the exit threshold for {:.1} s", span.as_secs_f64())
            }
            Self::InputEnded => formatter.write_str("input ended while the attack went on"),
            Self::NotProtected => formatter.write_str("the policy no longer protects the target"),
            Self::Reported => formatter.write_str("its reporter says so"),
            Self::Unconfirmed(span) => {
                write!(formatter, "its reporter was silent for {:.1} s", span.as_secs_f64())
            }
        }
    }
}

/// An attack, with all that is known of it now.
#[derive(Clone, Debug, PartialEq)]
pub struct Attack {
    /// Stays the same across updates.
    pub id: AttackId,
    /// The address, or the prefix, that is flooded.
    pub target: Prefix,
    /// Name of the policy group that the target belongs to.
    pub group: String,
    /// When the flood began, estimated back from the detection.
    pub onset: Timestamp,
    /// When it was recognised.
    pub detected: Timestamp,
    /// What gave it away.
    pub trigger: Trigger,
    /// Its vectors, largest share first. Never empty.
    pub vectors: Vec<VectorEstimate>,
    /// Rate in the latest window.
    pub current: Rate,
    /// Highest rate in any window so far.
    pub peak: Rate,
    /// How many times over its threshold the attack is at its peak.
    pub excess: f64,
    /// Packets and bytes since the onset.
    pub packets: u64,
    /// Bytes on the wire since the onset.
    pub bytes: u64,
    /// Distinct sources, estimated.
    pub sources: u64,
}

impl Attack {
    /// The vector with the largest share.
    #[must_use]
    pub fn main_vector(&self) -> AttackVector {
        self.vectors.first().map_or(AttackVector::Unknown, |estimate| estimate.vector)
    }

    /// Confidence in the main vector.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        self.vectors.first().map_or(Confidence::default(), |estimate| estimate.confidence)
    }
}

/// What the detector tells the planner.
#[derive(Clone, Debug, PartialEq)]
pub enum AttackEvent {
    /// A new attack.
    Started(Attack),
    /// More is known: a new peak, other vectors.
    Updated(Attack),
    /// It is over.
    Ended(Attack, EndReason),
}

impl AttackEvent {
    /// The attack that the event is about.
    #[must_use]
    pub fn attack(&self) -> &Attack {
        match self {
            Self::Started(attack) | Self::Updated(attack) | Self::Ended(attack, _) => attack,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_reads_back() {
        for vector in AttackVector::all() {
            assert_eq!(vector.to_string().parse(), Ok(vector));
        }
        assert!("ntp".parse::<AttackVector>().is_err());
    }

    #[test]
    fn every_name_of_an_attack_reads_back() {
        for id in [0, 7, AttackId::REPORTED, AttackId::REPORTED + 3, AttackId::MANUAL, u64::MAX] {
            assert_eq!(AttackId(id).to_string().parse(), Ok(AttackId(id)));
        }
        for text in ["", "7", "attack-", "attack-07", "attack-+7", "manual-9223372036854775808"] {
            assert!(text.parse::<AttackId>().is_err(), "{text}");
        }
        let beyond = format!("attack-{}", AttackId::REPORTED);
        assert!(beyond.parse::<AttackId>().is_err());
    }

    #[test]
    fn confidence_is_a_probability() {
        assert_eq!(Confidence::new(f64::NAN).get().to_bits(), 0.0_f64.to_bits());
        assert!((Confidence::new(7.0).get() - 1.0).abs() < 1e-12);
    }
}
