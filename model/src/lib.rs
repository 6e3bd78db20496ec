//! The values that every tidegate crate speaks in.
//!
//! Purpose: one canonical form for each thing that crosses a crate boundary: prefixes, rates,
//! FlowSpec rules and actions (RFC 8955, RFC 8956), communities (RFC 1997, RFC 8092), attacks and
//! mitigations (RFC 9132 words). Two values that mean the same compare equal.
//!
//! Absent on purpose: input and output, clocks, wire formats (see `tidegate-bgpd`), policy text
//! (see `tidegate-policy`). Nothing here can fail except by parsing text or by being asked to
//! construct an impossible value.

mod action;
mod attack;
mod community;
mod flowspec;
mod mitigation;
mod prefix;
mod rate;
mod sample;
mod space;
mod threshold;
mod time;

pub use action::{InvalidAction, TrafficFilteringAction};
pub use attack::{
    Attack, AttackEvent, AttackId, AttackVector, Confidence, EndReason, Evidence, Occlusion,
    ParseVectorError, Reflector, Severity, Signature, TcpFlags, Trigger, VectorEstimate,
};
pub use community::{Community, LargeCommunity, ParseCommunityError};
pub use flowspec::{
    AddressFamily, BitmaskMatch, BitmaskTest, ComponentValue, FlowSpecComponent, FlowSpecRule,
    InvalidRule, NumericMatch, NumericOperator, NumericTest,
};
pub use mitigation::{
    BackendId, BackendState, Command, CommandId, CommandKind, DesiredSet, Lifetime, Mitigation,
    MitigationKey, Nlri, Outcome, OutcomeKind, Route,
};
pub use prefix::{ParsePrefixError, Prefix};
pub use rate::{BitsPerSecond, PacketsPerSecond, ParseRateError, Rate};
pub use sample::{AttackSample, PacketRecord, PacketSample, Part, Sender};
pub use space::OwnedSpace;
pub use threshold::{Limit, Metric, ParseMetricError, Thresholds};
pub use time::Timestamp;
