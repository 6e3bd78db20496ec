//! What may leave.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tidegate_model::{Community, LargeCommunity, OwnedSpace};

use super::says_blackhole;

/// Widest IPv4 destination that any policy may allow.
const FLOOR_IPV4: u8 = 24;
/// Widest IPv6 destination that any policy may allow.
const FLOOR_IPV6: u8 = 48;

/// What may leave. The default owns nothing, so that every announcement is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatePolicy {
    /// Owned and never-touch prefixes.
    pub space: OwnedSpace,
    /// Addresses of both ends of every BGP session.
    pub session_addresses: Vec<IpAddr>,
    /// TCP ports that BGP sessions are accepted on, at either end.
    pub session_ports: BTreeSet<u16>,
    /// A unicast announcement carries at least one of these or of `blackhole_large`. A well-known
    /// community other than BLACKHOLE does not count, even if it stands here.
    pub blackhole: BTreeSet<Community>,
    /// The same for large communities.
    pub blackhole_large: BTreeSet<LargeCommunity>,
    /// A unicast announcement also carries at least one of these, unless there are none
    /// (RFC 7999 §3.2).
    pub scope: BTreeSet<Community>,
    /// Shortest IPv4 prefix that may be black-holed; less than 24 counts as 24.
    pub least_unicast_ipv4: u8,
    /// Shortest IPv6 prefix that may be black-holed; less than 48 counts as 48.
    pub least_unicast_ipv6: u8,
    /// Shortest IPv4 destination of a FlowSpec rule; less than 24 counts as 24.
    pub least_flowspec_ipv4: u8,
    /// Shortest IPv6 destination of a FlowSpec rule; less than 48 counts as 48.
    pub least_flowspec_ipv6: u8,
}

impl Default for GatePolicy {
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
            least_flowspec_ipv4: FLOOR_IPV4,
            least_flowspec_ipv6: FLOOR_IPV6,
        }
    }
}

impl GatePolicy {
    /// Admits the communities that one peer's black-hole profile puts on its routes.
    ///
    /// Those that can say "blackhole" become as good as BLACKHOLE. A profile without any of the
    /// scope communities has its peer take care of that (a provider's own community is no one
    /// else's business, and FRR sends no NO_EXPORT route on to an upstream), so scope communities
    /// are not asked for any more.
    pub fn admit_profile(
        &mut self,
        communities: &BTreeSet<Community>,
        large_communities: &BTreeSet<LargeCommunity>,
    ) {
        self.blackhole.extend(communities.iter().copied().filter(|one| says_blackhole(*one)));
        self.blackhole_large.extend(large_communities.iter().copied());
        if self.scope.is_disjoint(communities) {
            self.scope.clear();
        }
    }

    /// The same policy, nowhere laxer than the floors.
    pub(super) fn within_floors(mut self) -> Self {
        self.least_unicast_ipv4 = self.least_unicast_ipv4.max(FLOOR_IPV4);
        self.least_unicast_ipv6 = self.least_unicast_ipv6.max(FLOOR_IPV6);
        self.least_flowspec_ipv4 = self.least_flowspec_ipv4.max(FLOOR_IPV4);
        self.least_flowspec_ipv6 = self.least_flowspec_ipv6.max(FLOOR_IPV6);
        self.blackhole.retain(|one| says_blackhole(*one));
        self
    }
}
