//! The last look at every message before the socket.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tidegate_model::{Community, LargeCommunity, OwnedSpace};

/// What may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatePolicy {
    /// Owned and never-touch prefixes.
    pub space: OwnedSpace,
    /// Addresses of both ends of every BGP session.
    pub session_addresses: Vec<IpAddr>,
    /// TCP ports of BGP sessions.
    pub session_ports: BTreeSet<u16>,
    /// A unicast announcement carries at least one of these, or of `blackhole_large`.
    pub blackhole: BTreeSet<Community>,
    /// See `blackhole`.
    pub blackhole_large: BTreeSet<LargeCommunity>,
    /// A unicast announcement also carries one of these, unless there are none.
    pub scope: BTreeSet<Community>,
    /// Shortest IPv4 prefix that may be black-holed.
    pub least_unicast_ipv4: u8,
    /// Shortest IPv6 prefix that may be black-holed.
    pub least_unicast_ipv6: u8,
    /// Shortest IPv4 destination of a FlowSpec rule.
    pub least_flowspec_ipv4: u8,
    /// Shortest IPv6 destination of a FlowSpec rule.
    pub least_flowspec_ipv6: u8,
}

impl Default for GatePolicy {
    /// Owns nothing, so that every announcement is refused.
    fn default() -> Self {
        Self {
            space: OwnedSpace::default(),
            session_addresses: Vec::new(),
            session_ports: BTreeSet::from([179]),
            blackhole: BTreeSet::from([Community::BLACKHOLE]),
            blackhole_large: BTreeSet::new(),
            scope: BTreeSet::from([Community::NO_EXPORT, Community::NO_ADVERTISE]),
            least_unicast_ipv4: 32,
            least_unicast_ipv6: 128,
            least_flowspec_ipv4: 24,
            least_flowspec_ipv6: 48,
        }
    }
}

impl GatePolicy {
    /// Admits the communities that one peer's black-hole profile puts on its routes.
    pub fn admit_profile(
        &mut self,
        communities: &BTreeSet<Community>,
        large_communities: &BTreeSet<LargeCommunity>,
    ) {
        let _ = (communities, large_communities);
    }
}

/// Judges messages by a [`GatePolicy`].
#[derive(Clone, Debug)]
pub struct Gate {
    policy: GatePolicy,
}

/// Why a message may not leave.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not a BGP message, or not one that the gate understands.
    #[error("octet {offset}: {why}")]
    Malformed {
        /// Where in the message.
        offset: usize,
        /// What is wrong there.
        why: String,
    },
}

impl Gate {
    /// A gate that holds to `policy`.
    #[must_use]
    pub fn new(policy: GatePolicy) -> Self {
        Self { policy }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &GatePolicy {
        &self.policy
    }

    /// Judges one whole message, marker included.
    ///
    /// # Errors
    /// [`Refusal`] if it must not be sent.
    pub fn judge(&self, message: &[u8]) -> Result<(), Refusal> {
        let _ = message;
        Err(Refusal::Malformed { offset: 0, why: "not understood".to_owned() })
    }
}
