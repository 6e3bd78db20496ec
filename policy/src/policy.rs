//! The checked policy: what the text means once every name, prefix and number in it is valid.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use tidegate_model::{
    AddressFamily, Attack, AttackVector, BackendId, BitsPerSecond, Community, Confidence,
    LargeCommunity, Limit, Metric, OwnedSpace, PacketsPerSecond, Prefix, Severity, Thresholds,
    Timestamp,
};

use crate::profile::{ConfinedBy, FlowSpecProfile, Lengths, Widen};

mod conduct;
mod hours;
mod ladder;
mod severity;
mod via;

use crate::revision::Revision;
pub use conduct::{
    Approvals, BreakerLimits, Budgets, EffectAim, Enforcement, FlapBudget, Mode, Otherwise,
    RuleSource, SensorPlace,
};
pub use hours::{Hours, minute_of_week};
pub use ladder::{Condition, Progress, Step};
pub use severity::SeverityScale;
pub use via::Via;

/// Name of the group that holds every owned address that no other group claims.
pub const DEFAULT_GROUP: &str = "default";

/// Everything the operator decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Who we are to our peers.
    pub speaker: SpeakerIdentity,
    /// What may be diverted, and what never. Session addresses that lie in owned space stand in
    /// `never_touch` even if the text does not list them.
    pub space: OwnedSpace,
    /// Groups sorted by name; [`DEFAULT_GROUP`] is always among them. No prefix stands in two.
    pub groups: Vec<Group>,
    /// How the detector decides that a threshold is crossed, and no longer crossed.
    pub judging: Judging,
    /// From threshold excess to severity.
    pub severities: SeverityScale,
    /// First match wins. An attack that none matches is observed.
    pub responses: Vec<Response>,
    /// In the order of the text.
    pub peers: Vec<Peer>,
    /// When a mitigation counts as not enforced.
    pub enforcement: Enforcement,
    /// What a mitigation is expected to do.
    pub effect: EffectAim,
    /// How often mitigations may come and go.
    pub flapping: FlapBudget,
    /// When there are too many targets to be true.
    pub breaker: BreakerLimits,
    /// How many mitigations there may be.
    pub budgets: Budgets,
    /// Remote prefixes that no rule may name as a source.
    pub allowed_remotes: Vec<Prefix>,
    /// Remote prefixes whose traffic is not judged.
    pub trusted_remotes: Vec<Prefix>,
    /// Minutes east of UTC of the clock by which [`Matcher::hours`] are meant.
    pub utc_offset: i16,
    /// Where the text is from, if whoever read it knows.
    pub revision: Option<Revision>,
}

impl Policy {
    /// Whether any response, or a step of one, acts on this host.
    #[must_use]
    pub fn uses_kernel(&self) -> bool {
        let mut actions = self.responses.iter().flat_map(|response| {
            std::iter::once(response.action).chain(response.then.iter().map(|step| step.action))
        });
        actions.any(|action| matches!(action, ResponseAction::Local(_)))
    }

    /// The first response that matches at a `minute` of the week; `None` if that is not known.
    #[must_use]
    pub fn response(
        &self,
        group: &str,
        vector: AttackVector,
        severity: Severity,
        confidence: Confidence,
        minute: Option<u32>,
    ) -> Option<&Response> {
        self.responses.iter().find(|response| {
            response.matcher.matches(group, vector, severity, confidence)
                && response.matcher.is_time(minute)
        })
    }

    /// The group of this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The group that `target` belongs to: that of the longest prefix which holds it.
    #[must_use]
    pub fn group_of(&self, target: Prefix) -> Option<&Group> {
        let holding = |group: &Group| {
            let lengths = group.prefixes.iter().filter(|prefix| prefix.contains(&target));
            lengths.map(Prefix::length).max()
        };
        let groups = self.groups.iter().filter_map(|group| Some((holding(group)?, group)));
        groups.max_by_key(|(length, _)| *length).map(|(_, group)| group)
    }

    /// How bad `attack` is at `now`.
    #[must_use]
    pub fn severity(&self, now: Timestamp, attack: &Attack) -> Severity {
        let capacity = self.group(&attack.group).and_then(|group| group.capacity);
        self.severities.of(now, attack, capacity)
    }

    /// Who has to agree to `action` for a target of `group`.
    #[must_use]
    pub fn mode(&self, group: &str, action: ResponseAction) -> Mode {
        let approvals = self.group(group).map(|group| group.approvals).unwrap_or_default();
        approvals.mode(action)
    }

    /// The peer of this name.
    #[must_use]
    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name == name)
    }

    /// The peer that is told by `backend`.
    #[must_use]
    pub fn peer_at(&self, backend: &BackendId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.backend() == *backend)
    }

    /// Addresses at both ends of the BGP sessions, as far as the policy names them one by one.
    #[must_use]
    pub fn session_addresses(&self) -> BTreeSet<IpAddr> {
        self.peers
            .iter()
            .flat_map(|peer| peer.location.host().into_iter().chain(peer.local_address))
            .collect()
    }
}

/// Our side of every BGP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeakerIdentity {
    /// Our AS number. Never a reserved one (RFC 7607, RFC 7300, RFC 6793 §9).
    pub asn: u32,
    /// BGP identifier, never zero (RFC 6286 §2.1).
    pub router_id: Ipv4Addr,
}

/// Owned prefixes that share thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Unique.
    pub name: String,
    /// All inside owned space; the longest prefix of any group decides. [`DEFAULT_GROUP`] has
    /// every owned prefix that is not itself a prefix of another group, so it may have none.
    pub prefixes: Vec<Prefix>,
    /// With everything inherited filled in.
    pub thresholds: Thresholds,
    /// The same for all addresses of a /24 or /64 together; `None` is not judged.
    pub prefix_thresholds: Option<Thresholds>,
    /// What the links toward the group carry.
    pub capacity: Option<Limit>,
    /// Services whose clients no rule may cut off as a whole.
    pub allowed_ports: Vec<ServicePort>,
    /// Who has to agree to which action.
    pub approvals: Approvals,
}

/// A port on which a service is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// 6 or 17.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

impl fmt::Display for ServicePort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == 6 { "tcp" } else { "udp" };
        write!(formatter, "{protocol}/{}", self.port)
    }
}

/// `` `x` is not a service``
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a service; write protocol and port, such as `tcp/443` or `udp/53`")]
pub struct ParseServiceError(String);

impl FromStr for ServicePort {
    type Err = ParseServiceError;

    fn from_str(text: &str) -> Result<Self, ParseServiceError> {
        let error = || ParseServiceError(text.to_owned());
        let (protocol, port) = text.split_once('/').ok_or_else(error)?;
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            _ => return Err(error()),
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(error)?;
        Ok(Self { protocol, port })
    }
}

/// Thresholds that hold where the text sets none: sane for one host.
#[must_use]
pub fn default_thresholds() -> Thresholds {
    let mut thresholds = Thresholds::default();
    for (metric, packets, bits) in [
        (Metric::Total, 100_000, Some(1_000_000_000)),
        (Metric::TcpSyn, 10_000, None),
        (Metric::Tcp, 50_000, None),
        (Metric::Udp, 20_000, None),
        (Metric::Amplification, 5_000, Some(200_000_000)),
        (Metric::Icmp, 5_000, None),
        (Metric::Fragment, 5_000, None),
        (Metric::Other, 5_000, None),
    ] {
        let limit =
            Limit { packets: Some(PacketsPerSecond(packets)), bits: bits.map(BitsPerSecond) };
        thresholds.set(metric, limit);
    }
    thresholds
}

/// How the detector decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judging {
    /// Traffic at twice the threshold is recognised after this long; faster floods sooner.
    pub tolerance: Duration,
    /// An attack is quiet below this share of its threshold, in `0.0..1.0`.
    pub exit_ratio: f64,
    /// An attack that was quiet for this long is over.
    pub exit_hold: Duration,
    /// The most that is normal for all owned addresses of a family together; `None` is not judged.
    pub interface: Option<Thresholds>,
    /// Whether thresholds are learned; `None` judges by those of the groups alone.
    pub learning: Option<Learning>,
}

/// How thresholds are learned. Those of the groups are always the upper bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    /// How many times what is usual is still normal. At least 1.0.
    pub margin: f64,
    /// Share of a group's threshold below which no learned one falls, in `0.0..=1.0`.
    pub floor: f64,
    /// Most hosts of which a baseline is kept.
    pub max_hosts: usize,
}

impl Default for Learning {
    fn default() -> Self {
        Self { margin: 5.0, floor: 0.1, max_hosts: 65_536 }
    }
}

impl Default for Judging {
    fn default() -> Self {
        Self {
            tolerance: Duration::from_millis(500),
            exit_ratio: 0.5,
            exit_hold: Duration::from_secs(10),
            interface: None,
            learning: None,
        }
    }
}

/// What is done about which attacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Unique.
    pub name: String,
    /// Which attacks.
    pub matcher: Matcher,
    /// What is done.
    pub action: ResponseAction,
    /// Names of the peers that carry it, each with a family that the action can use; empty for
    /// [`ResponseAction::Observe`] and [`ResponseAction::Local`], never empty for the others.
    pub peers: Vec<String>,
    /// Whether a peer that cannot take a rule may be given a wider one.
    pub widen: Widen,
    /// What its rules are made from.
    pub rules_from: RuleSource,
    /// A mitigation stays at least this long.
    pub min_lifetime: Duration,
    /// A mitigation goes after this long, whatever the attack does. At least `min_lifetime`.
    pub max_lifetime: Duration,
    /// What follows if it is not enforced; `None` is as the policy says for all.
    pub otherwise: Option<Otherwise>,
    /// Stronger answers, each taken when its condition holds.
    pub then: Vec<Step>,
}

/// Which attacks a response is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Matcher {
    /// Names of groups; empty is every group.
    pub groups: Vec<String>,
    /// Vectors, wildcards expanded, sorted; empty is every vector.
    pub vectors: Vec<AttackVector>,
    /// At least this severe.
    pub severity: Severity,
    /// At least this certain.
    pub confidence: Confidence,
    /// Times of the week; empty is always.
    pub hours: Vec<Hours>,
}

impl Default for Matcher {
    /// Matches every attack.
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            vectors: Vec::new(),
            severity: Severity::Low,
            confidence: Confidence::default(),
            hours: Vec::new(),
        }
    }
}

impl Matcher {
    /// Whether it is the time for it at `minute` of the week. Without a clock no time but always
    /// is known to be now.
    #[must_use]
    pub fn is_time(&self, minute: Option<u32>) -> bool {
        self.hours.is_empty()
            || minute.is_some_and(|minute| self.hours.iter().any(|hours| hours.contain(minute)))
    }

    /// Whether an attack on `group` by `vector` is meant.
    #[must_use]
    pub fn matches(
        &self,
        group: &str,
        vector: AttackVector,
        severity: Severity,
        confidence: Confidence,
    ) -> bool {
        (self.groups.is_empty() || self.groups.iter().any(|name| name == group))
            && (self.vectors.is_empty() || self.vectors.contains(&vector))
            && severity >= self.severity
            && confidence >= self.confidence
    }

    /// Whether every attack that `other` matches is matched by this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        fn superset<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
            wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|item| wide.contains(item)))
        }
        superset(&self.groups, &other.groups)
            && superset(&self.vectors, &other.vectors)
            && self.severity <= other.severity
            && self.confidence <= other.confidence
            && superset(&self.hours, &other.hours)
    }
}

/// What a response does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseAction {
    /// Nothing but telling people.
    Observe,
    /// A rule in the kernel of this host.
    Local(FilterAction),
    /// A FlowSpec rule at the peers (RFC 8955, RFC 8956).
    FlowSpec(FilterAction),
    /// A blackhole route for the target at the peers (RFC 7999).
    Rtbh,
}

impl ResponseAction {
    /// Name in policy files and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Local(_) => "local",
            Self::FlowSpec(_) => "flowspec",
            Self::Rtbh => "rtbh",
        }
    }

    /// The family that a peer must have to carry the action for targets of `target`; `None` if
    /// the action needs no peer.
    #[must_use]
    pub const fn family(self, target: AddressFamily) -> Option<Family> {
        match (self, target) {
            (Self::Observe | Self::Local(_), _) => None,
            (Self::FlowSpec(_), AddressFamily::Ipv4) => Some(Family::Ipv4FlowSpec),
            (Self::FlowSpec(_), AddressFamily::Ipv6) => Some(Family::Ipv6FlowSpec),
            (Self::Rtbh, AddressFamily::Ipv4) => Some(Family::Ipv4Unicast),
            (Self::Rtbh, AddressFamily::Ipv6) => Some(Family::Ipv6Unicast),
        }
    }
}

impl fmt::Display for ResponseAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observe | Self::Rtbh => formatter.write_str(self.name()),
            Self::Local(filter) | Self::FlowSpec(filter) => {
                write!(formatter, "{} {filter}", self.name())
            }
        }
    }
}

/// What a filter does with the packets that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterAction {
    /// Drop all.
    Discard,
    /// Let this many bytes a second through. Never zero.
    RateLimitBytes(u64),
    /// Let this many packets a second through. Never zero.
    RateLimitPackets(u64),
    /// Into the VRF that imports this route target (RFC 8955 §7.4).
    Redirect(RouteTarget),
    /// To this address (draft-ietf-idr-flowspec-redirect-ip).
    RedirectToIp(IpAddr),
    /// Set the DSCP, below 64 (RFC 8955 §7.5).
    Mark(u8),
}

/// A route target extended community (RFC 4360 §4, RFC 5668).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// Of a two-octet AS number.
    As2(u16, u32),
    /// Of a four-octet AS number.
    As4(u32, u16),
    /// Of an IPv4 address.
    Ipv4(Ipv4Addr, u16),
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As2(asn, number) => write!(formatter, "{asn}:{number}"),
            Self::As4(asn, number) => write!(formatter, "{asn}:{number}"),
            Self::Ipv4(address, number) => write!(formatter, "{address}:{number}"),
        }
    }
}

/// A text that is no route target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a route target; write AS and number such as `65001:100`, or `192.0.2.1:100`")]
pub struct ParseRouteTargetError(String);

impl FromStr for RouteTarget {
    type Err = ParseRouteTargetError;

    fn from_str(text: &str) -> Result<Self, ParseRouteTargetError> {
        let parse = || {
            let (administrator, number) = text.split_once(':')?;
            if let Ok(address) = administrator.parse() {
                return Some(Self::Ipv4(address, number.parse().ok()?));
            }
            if let Ok(asn) = administrator.parse() {
                return Some(Self::As2(asn, number.parse().ok()?));
            }
            Some(Self::As4(administrator.parse().ok()?, number.parse().ok()?))
        };
        parse().ok_or_else(|| ParseRouteTargetError(text.to_owned()))
    }
}

impl FilterAction {
    /// Whether the kernel of this host can do it.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Discard | Self::RateLimitBytes(_) | Self::RateLimitPackets(_))
    }
}

impl fmt::Display for FilterAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Discard => formatter.write_str("discard"),
            Self::RateLimitBytes(bytes) => {
                write!(formatter, "rate-limit {}", BitsPerSecond(bytes.saturating_mul(8)))
            }
            Self::RateLimitPackets(packets) => {
                write!(formatter, "rate-limit {}", PacketsPerSecond(packets))
            }
            Self::Redirect(target) => write!(formatter, "redirect {target}"),
            Self::RedirectToIp(address) => write!(formatter, "redirect to {address}"),
            Self::Mark(dscp) => write!(formatter, "mark DSCP {dscp}"),
        }
    }
}

/// A BGP peer of the embedded speaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Unique.
    pub name: String,
    /// Where it is. Unique.
    pub location: Location,
    /// Its AS number; ours makes the session internal.
    pub asn: u32,
    /// TCP port to connect to.
    pub port: u16,
    /// Our address on this session, of the family of `address`; `None` leaves it to the kernel.
    pub local_address: Option<IpAddr>,
    /// Who opens the TCP connection.
    pub mode: ConnectMode,
    /// Proposed hold time in whole seconds, at least 3 s (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// Never empty.
    pub families: BTreeSet<Family>,
    /// Added to every route.
    pub communities: BTreeSet<Community>,
    /// Added to every route.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// Name of the routing daemon that tells the peer, by an interface of its own; `None` if the
    /// embedded speaker has a session with it. Unique.
    pub via: Option<Via>,
    /// Name of the profile that says what is not written of the peer itself.
    pub profile: String,
    /// Who keeps our routes from spreading beyond the peer.
    pub confined_by: ConfinedBy,
    /// How this peer wants to be told of a blackhole.
    pub rtbh: RtbhProfile,
    /// Which FlowSpec rules it accepts and carries out.
    pub flowspec: FlowSpecProfile,
    /// No more than this many routes are ever announced at once.
    pub max_routes: u32,
}

impl Peer {
    /// TCP port of BGP (RFC 4271 §4).
    pub const DEFAULT_PORT: u16 = 179;
    /// A dead session frees the peer of our routes within this time.
    pub const DEFAULT_HOLD_TIME: Duration = Duration::from_secs(9);
    /// Well below the prefix limits that transit providers are known to set.
    pub const DEFAULT_MAX_ROUTES: u32 = 200;

    /// Who is told what the peer shall have.
    #[must_use]
    pub fn backend(&self) -> BackendId {
        match &self.via {
            Some(via) => BackendId::External(via.name.clone()),
            None => BackendId::Peer(self.name.clone()),
        }
    }

    /// Whether the session carries `family`.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.families.contains(&family)
    }
}

/// Where the other end of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// One host.
    Host(IpAddr),
    /// Every host of a prefix that connects. All of them are to hold the same.
    Range {
        /// Where they connect from.
        prefix: Prefix,
        /// Most of them at a time.
        limit: u16,
    },
}

impl Location {
    /// Neighbours from one prefix, if nothing is said of their number.
    pub const DEFAULT_LIMIT: u16 = 16;

    /// The address, if it is one.
    #[must_use]
    pub const fn host(self) -> Option<IpAddr> {
        match self {
            Self::Host(address) => Some(address),
            Self::Range { .. } => None,
        }
    }

    /// All addresses that it may be.
    #[must_use]
    pub fn prefix(self) -> Prefix {
        match self {
            Self::Host(address) => Prefix::host(address),
            Self::Range { prefix, .. } => prefix,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address) => address.fmt(formatter),
            Self::Range { prefix, .. } => prefix.fmt(formatter),
        }
    }
}

/// How a peer wants to be told of a blackhole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtbhProfile {
    /// Added to blackhole routes beside [`Peer::communities`].
    pub communities: BTreeSet<Community>,
    /// Added to blackhole routes beside [`Peer::large_communities`].
    pub large_communities: BTreeSet<LargeCommunity>,
    /// Next hop of IPv4 blackholes.
    pub next_hop_v4: Ipv4Addr,
    /// Next hop of IPv6 blackholes.
    pub next_hop_v6: Ipv6Addr,
    /// Lengths of IPv4 prefixes that it accepts as blackholes.
    pub lengths_v4: Lengths,
    /// The same for IPv6.
    pub lengths_v6: Lengths,
}

impl Default for RtbhProfile {
    /// BLACKHOLE and NO_EXPORT (RFC 7999 §3.2), next hops in TEST-NET-1 (RFC 5737) and the discard
    /// prefix (RFC 6666).
    fn default() -> Self {
        Self {
            communities: BTreeSet::from([Community::BLACKHOLE, Community::NO_EXPORT]),
            large_communities: BTreeSet::new(),
            next_hop_v4: Ipv4Addr::new(192, 0, 2, 1),
            next_hop_v6: Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1),
            lengths_v4: Lengths { shortest: 32, longest: 32 },
            lengths_v6: Lengths { shortest: 128, longest: 128 },
        }
    }
}

/// A word that is none of the words allowed in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct UnknownName {
    text: String,
    what: &'static str,
}

impl UnknownName {
    pub(crate) fn new(text: &str, what: &'static str) -> Self {
        Self { text: text.to_owned(), what }
    }
}

macro_rules! named {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name in policy files and output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = $crate::policy::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().copied().find(|value| value.name() == text);
                found.ok_or_else(|| $crate::policy::UnknownName::new(text, $what))
            }
        }
    };
}

pub(crate) use named;

named! {
    /// Who opens the TCP connection of a session.
    ConnectMode, "a connect mode" {
        /// We do.
        Active "active",
        /// The peer does.
        Passive "passive",
        /// Either.
        Both "both",
    }
}

named! {
    /// Address families that a session may carry (RFC 4760, RFC 8955 §4, RFC 8956 §3).
    Family, "an address family" {
        /// AFI 1, SAFI 1.
        Ipv4Unicast "ipv4-unicast",
        /// AFI 2, SAFI 1.
        Ipv6Unicast "ipv6-unicast",
        /// AFI 1, SAFI 133.
        Ipv4FlowSpec "ipv4-flowspec",
        /// AFI 2, SAFI 133.
        Ipv6FlowSpec "ipv6-flowspec",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_begins_at_its_factor() {
        let scale = SeverityScale::default();
        for (excess, severity) in [
            (f64::NAN, Severity::Low),
            (0.0, Severity::Low),
            (1.99, Severity::Low),
            (2.0, Severity::Medium),
            (5.0, Severity::High),
            (20.0, Severity::Critical),
            (f64::INFINITY, Severity::Critical),
        ] {
            assert_eq!(scale.severity(excess), severity, "{excess}");
        }
    }

    #[test]
    fn a_matcher_covers_what_it_matches_more_widely() {
        let all = Matcher::default();
        let web = Matcher { groups: vec!["web".to_owned()], ..Matcher::default() };
        let severe = Matcher { severity: Severity::High, ..web.clone() };
        assert!(all.covers(&web) && all.covers(&all) && web.covers(&severe));
        assert!(!web.covers(&all) && !severe.covers(&web));
        assert!(web.matches("web", AttackVector::SynFlood, Severity::Low, Confidence::default()));
        assert!(!web.matches("mail", AttackVector::SynFlood, Severity::Low, Confidence::default()));
    }

    #[test]
    fn every_metric_has_a_default_threshold() {
        for (metric, limit) in default_thresholds().iter() {
            assert!(limit.packets.is_some(), "{metric}");
        }
    }

    #[test]
    fn names_read_back() {
        for family in Family::ALL {
            assert_eq!(family.name().parse(), Ok(*family));
        }
        for mode in ConnectMode::ALL {
            assert_eq!(mode.name().parse(), Ok(*mode));
        }
        let error = "ipv5".parse::<Family>().unwrap_err();
        assert_eq!(error.to_string(), "`ipv5` is not an address family");
    }
}
