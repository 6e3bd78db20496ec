//! Why a message may not leave.

use std::net::IpAddr;

use tidegate_model::Prefix;

/// Why a message may not leave: the route, the rule it breaks, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by the messages")]
pub enum Refusal {
    /// Not a well-formed BGP message.
    #[error("malformed at octet {offset}: {why}")]
    Malformed { offset: usize, why: String },
    /// Well-formed, but nothing that tidegate has reason to send.
    #[error("not understood, so not sent: {what}")]
    NotUnderstood { what: String },
    /// The destination is somebody else's.
    #[error("{nlri}: {destination} lies in no owned prefix")]
    NotOwned { nlri: String, destination: Prefix },
    /// The destination is too wide.
    #[error("{nlri}: a destination of {length} bits is too wide; at least {least} are needed")]
    NotSpecific { nlri: String, length: u8, least: u8 },
    /// The destination meets a never-touch prefix.
    #[error("{nlri}: touches {protected}, which is never touched")]
    NeverTouch { nlri: String, protected: Prefix },
    /// A blackhole for one end of a BGP session.
    #[error("{nlri}: would cut off {address}, an end of a BGP session")]
    SessionAddress { nlri: String, address: IpAddr },
    /// A unicast route that no receiver would know for a blackhole.
    #[error("{nlri}: carries no blackhole community")]
    NoBlackholeCommunity { nlri: String },
    /// A blackhole that may spread further than wanted.
    #[error("{nlri}: carries no community that limits its scope (RFC 7999 §3.2)")]
    NoScopeCommunity { nlri: String },
    /// A unicast route without a next hop.
    #[error("{nlri}: has no next hop")]
    NoNextHop { nlri: String },
    /// A next hop that receivers do not take.
    #[error("{nlri}: {next_hop} cannot be a next hop")]
    NextHop { nlri: String, next_hop: IpAddr },
    /// A FlowSpec rule for traffic to anywhere.
    #[error("{nlri}: has no destination")]
    NoDestination { nlri: String },
    /// A FlowSpec rule for all traffic to its destination: that is a blackhole's job.
    #[error("{nlri}: matches everything to its destination")]
    NoDiscriminator { nlri: String },
    /// A FlowSpec rule that does nothing. To a router it would say to let the traffic pass, whatever
    /// later rules want (RFC 8955 §7): nobody is known to have asked for that by leaving the action
    /// out. A traffic-action says so in words.
    #[error("{nlri}: has no traffic filtering action")]
    NoAction { nlri: String },
    /// A FlowSpec rule that real receivers do not take.
    #[error("FlowSpec NLRI of more than {most} octets at octet {offset}")]
    TooLong { offset: usize, most: usize },
    /// A FlowSpec rule that no packet can match.
    #[error("{nlri}: no packet can match: {why}")]
    Impossible { nlri: String, why: String },
    /// A FlowSpec rule that may match a BGP session, or the BFD session beside it.
    #[error("{nlri}: may match the BGP session of {address} or its BFD")]
    Session { nlri: String, address: IpAddr },
    /// A traffic-rate that is negative or not finite (RFC 8955 §7.1).
    #[error("{nlri}: a traffic-rate of {rate} is none")]
    Rate { nlri: String, rate: String },
}

impl Refusal {
    /// Name of the rule that is broken: one word for counters and logs.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::NotUnderstood { .. } => "not-understood",
            Self::NotOwned { .. } => "not-owned",
            Self::NotSpecific { .. } => "not-specific",
            Self::NeverTouch { .. } => "never-touch",
            Self::SessionAddress { .. } => "session-address",
            Self::NoBlackholeCommunity { .. } => "no-blackhole-community",
            Self::NoScopeCommunity { .. } => "no-scope-community",
            Self::NoNextHop { .. } | Self::NextHop { .. } => "next-hop",
            Self::NoDestination { .. } => "no-destination",
            Self::NoDiscriminator { .. } => "no-discriminator",
            Self::NoAction { .. } => "no-action",
            Self::TooLong { .. } => "too-long",
            Self::Impossible { .. } => "impossible",
            Self::Session { .. } => "session",
            Self::Rate { .. } => "rate",
        }
    }
}
