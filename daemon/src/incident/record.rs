//! The record: one JSON document an incident.
//!
//! Every time is RFC 3339, UTC. A field that is not known yet is `null`; a list that reached its
//! bound says in `omitted` how many entries it lacks. `docs/incidents.md` describes each field.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_model::{Prefix, Severity};

use super::time::WallTime;

/// Version of the document. It grows when a field changes its meaning or goes; a field that is
/// added does not change it.
pub const SCHEMA: u32 = 1;

/// All that is known of one attack and of what was done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Version of the document: [`SCHEMA`].
    pub schema: u32,
    /// `20260822T120000.123Z-7`: onset and number of the attack. Unique across restarts.
    pub id: String,
    /// Number of the attack within its run, as in the event stream: `attack-7`.
    pub attack: String,
    /// The address or the prefix that is flooded.
    pub target: Prefix,
    /// Name of the policy group of the target.
    pub group: String,
    /// Where in its life it is.
    pub status: Status,
    /// How bad it is at its worst; `null` until the policy has judged.
    #[serde(with = "severity")]
    pub severity: Option<Severity>,
    /// When what happened.
    pub times: Times,
    /// When the record last changed.
    pub updated: WallTime,
    /// What gave the attack away.
    pub trigger: Trigger,
    /// Its vectors, largest share first.
    pub vectors: Vec<Vector>,
    /// Rate toward the target in the latest window that was looked at.
    pub current: Rate,
    /// Highest rate in any window.
    pub peak: Rate,
    /// How many times over its threshold it is at its peak.
    pub excess: f64,
    /// Packets since the onset.
    pub packets: u64,
    /// Bytes on the wire since the onset.
    pub bytes: u64,
    /// Distinct sources, estimated.
    pub sources: u64,
    /// Where the traffic comes from: networks, countries, autonomous systems.
    pub census: Option<serde_json::Value>,
    /// What decided.
    pub policy: PolicyRef,
    /// What was decided, in order.
    pub decisions: Vec<Decision>,
    /// What the guard said, in order.
    pub guard: Vec<GuardVerdict>,
    /// What was done.
    pub mitigations: Vec<Mitigation>,
    /// What it did to the traffic.
    pub effect: Option<Effect>,
    /// The packets that were kept.
    pub capture: Option<Capture>,
    /// Why the attack is over.
    pub end_reason: Option<String>,
    /// Why the last mitigation was withdrawn.
    pub withdraw_reason: Option<String>,
    /// Entries that a list above had no room for.
    pub omitted: u64,
    /// Events that never reached the record, because it was written too slowly.
    pub lost_events: u64,
}

/// Where in its life an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The attack goes on.
    Active,
    /// The attack is over; something of what was done is still in place.
    Ended,
    /// The attack is over and nothing of what was done is left.
    Closed,
}

impl Status {
    /// As in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Closed => "closed",
        }
    }
}

/// When what happened: each the first time, except the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The flood began, estimated back from the detection.
    pub onset: WallTime,
    /// It was recognised.
    pub detected: WallTime,
    /// The policy decided.
    pub decided: Option<WallTime>,
    /// The first backend was told.
    pub announced: Option<WallTime>,
    /// The first backend had it: the UPDATE was handed to the peer's socket, or the kernel took it.
    pub at_peer: Option<WallTime>,
    /// The traffic fell.
    pub effective: Option<WallTime>,
    /// The attack was over.
    pub ended: Option<WallTime>,
    /// Nothing of what was done was left.
    pub withdrawn: Option<WallTime>,
}

/// Packets and bits per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Packets per second.
    pub packets_per_second: u64,
    /// Bits per second, on wire lengths.
    pub bits_per_second: u64,
}

/// The threshold crossing that started the attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Which class of traffic.
    pub metric: String,
    /// Its rate when the judge decided.
    pub rate: Rate,
    /// The limit in packets per second.
    pub limit_packets_per_second: Option<u64>,
    /// The limit in bits per second.
    pub limit_bits_per_second: Option<u64>,
}

impl Trigger {
    /// Whether bits gave the attack away rather than packets.
    #[must_use]
    pub fn by_bits(&self) -> bool {
        let over = |rate: u64, limit: Option<u64>| limit.is_some_and(|limit| rate >= limit);
        !over(self.rate.packets_per_second, self.limit_packets_per_second)
            && over(self.rate.bits_per_second, self.limit_bits_per_second)
    }
}

/// One vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    /// Which kind: `dns-amplification`.
    pub vector: String,
    /// Its share of the packets, `0.0..=1.0`.
    pub share: f64,
    /// That the kind is right, `0.0..=1.0`.
    pub confidence: f64,
    /// What its packets have in common.
    pub signature: Signature,
    /// What the judgement rests on.
    pub evidence: Vec<Evidence>,
}

/// What the packets of a vector have in common. `null` and empty: they do not agree on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Source ports, most packets first.
    pub source_ports: Vec<u16>,
    /// Destination ports, most packets first.
    pub destination_ports: Vec<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// Smallest and largest IP packet length in bytes.
    pub packet_length: Option<(u16, u16)>,
    /// Whether it comes as fragments.
    pub fragments: bool,
}

/// One fact behind a classification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was looked at.
    pub fact: String,
    /// What was seen.
    pub seen: String,
}

/// What decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Commit of the policy repository; `null` if the policy is a plain directory.
    pub commit: Option<String>,
    /// The response that was carried out last, or matched.
    pub response: Option<String>,
}

/// One decision of the planner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub time: WallTime,
    /// `mitigate`, `observe`, `refused` or `release`.
    pub outcome: String,
    /// The severity that it was made under.
    pub severity: String,
    /// The response, if one matched.
    pub response: Option<String>,
    /// Commit of the policy.
    pub commit: Option<String>,
    /// Why, in one line.
    pub reason: String,
}

/// What a guard said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardVerdict {
    /// When.
    pub time: WallTime,
    /// Who: `planner` or `ledger`.
    pub by: String,
    /// About what: a response or a route.
    pub subject: String,
    /// `passed` or `refused`.
    pub verdict: String,
    /// Why it was refused.
    pub why: Option<String>,
}

/// One route or rule at one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mitigation {
    /// `peer border1`, `kernel`.
    pub backend: String,
    /// `blackhole` or `flowspec`.
    pub kind: String,
    /// What it is known by.
    pub nlri: String,
    /// What it was announced with last.
    pub route: Option<Route>,
    /// The rule in the kernel, for people; `null` at a peer.
    pub kernel_rule: Option<String>,
    /// Where it stands.
    pub state: MitigationState,
    /// The backend was first told.
    pub announced: Option<WallTime>,
    /// The backend first had it.
    pub at_peer: Option<WallTime>,
    /// The backend has let go of it.
    pub withdrawn: Option<WallTime>,
    /// Why it was withdrawn last.
    pub withdraw_reason: Option<String>,
    /// What the backend answered, in order.
    pub outcomes: Vec<Outcome>,
}

impl Mitigation {
    /// Notes that tidegate ended at `now`, for `reason`. Peers drop the routes with the session and
    /// the kernel its table; a routing daemon keeps them until the reaper withdraws them.
    pub(super) fn leave(&mut self, now: WallTime, reason: &str) {
        if !self.state.may_be_held() {
            return;
        }
        if self.backend.starts_with("backend ") {
            self.state = MitigationState::Withdrawing;
            self.withdraw_reason = Some(format!("{reason}; its lease ends by itself"));
        } else {
            self.state = MitigationState::Withdrawn;
            self.withdrawn = Some(now);
            self.withdraw_reason.get_or_insert_with(|| reason.to_owned());
        }
    }
}

/// Where a mitigation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MitigationState {
    /// Refused before a backend was told.
    NotAnnounced,
    /// The backend was told and has not answered, or cannot do it now.
    Pending,
    /// The backend has it.
    Installed,
    /// The backend will not or could not.
    Failed,
    /// The backend was told to let go.
    Withdrawing,
    /// It is gone.
    Withdrawn,
}

impl MitigationState {
    /// Whether something may be in place.
    #[must_use]
    pub const fn may_be_held(self) -> bool {
        matches!(self, Self::Pending | Self::Installed | Self::Withdrawing)
    }
}

/// What a route carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Next hop of a unicast route.
    pub next_hop: Option<IpAddr>,
    /// Communities.
    pub communities: Vec<String>,
    /// Large communities.
    pub large_communities: Vec<String>,
    /// Actions of a FlowSpec rule.
    pub actions: Vec<String>,
}

/// One answer of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When.
    pub time: WallTime,
    /// As in the event stream: `announced`, `withdraw-failed`.
    pub outcome: String,
    /// What a backend said that did not do it.
    pub why: Option<String>,
    /// The BGP UPDATE that was sent.
    pub update: Option<Update>,
}

/// A BGP UPDATE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The whole message, in lower-case hexadecimal.
    pub hex: String,
    /// The same, decoded.
    pub decoded: String,
}

/// What the mitigations did to the traffic, as the sensor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Rate before the first backend had one.
    pub before: Rate,
    /// Lowest rate since, while the attack went on.
    pub after: Rate,
    /// `1 - after / before` in packets, `0.0..=1.0`.
    pub reduction: f64,
}

/// A file of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The pcapng file.
    pub path: PathBuf,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Incident {
    /// The vector with the largest share.
    #[must_use]
    pub fn main_vector(&self) -> &str {
        self.vectors.first().map_or("unknown", |vector| vector.vector.as_str())
    }

    /// Severity, the mildest until the policy has judged.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity.unwrap_or(Severity::Low)
    }

    /// Whether something of what was done may still be in place.
    #[must_use]
    pub fn may_be_mitigated(&self) -> bool {
        self.mitigations.iter().any(|mitigation| mitigation.state.may_be_held())
    }
}

/// The severity by its name.
mod severity {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tidegate_model::Severity;

    pub(super) fn serialize<S: Serializer>(
        severity: &Option<Severity>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        severity.map(Severity::name).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Severity>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        let Some(name) = name else { return Ok(None) };
        let known = Severity::ALL.into_iter().find(|severity| severity.name() == name);
        known.map(Some).ok_or_else(|| serde::de::Error::custom("not a severity"))
    }
}
