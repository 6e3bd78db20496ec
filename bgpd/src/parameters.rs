//! What the encoding of an UPDATE depends on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::family::Family;
use crate::session::Role;

/// What both sides of a session agreed on, as far as it shapes UPDATE messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// Our AS number.
    pub local_as: u32,
    /// The peer's AS number; the same as ours on an iBGP session.
    pub peer_as: u32,
    /// Our address on this session.
    pub local_address: IpAddr,
    /// Whether the peer takes 4-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// The families that both sides announced.
    pub families: BTreeSet<Family>,
    /// What we are to the peer, on an eBGP session (RFC 9234).
    pub role: Option<Role>,
}

impl SessionParameters {
    /// Whether both ends are in the same AS.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        self.local_as == self.peer_as
    }

    /// The value of the attribute Only to Customer on routes of `family`: our AS, if the peer is a
    /// customer, a peer or a client of our route server (RFC 9234 §5). Nobody may pass them up.
    #[must_use]
    pub fn only_to_customer(&self, family: Family) -> Option<u32> {
        let down = matches!(self.role, Some(Role::Provider | Role::Peer | Role::RouteServer));
        let unicast = matches!(family, Family::Ipv4Unicast | Family::Ipv6Unicast);
        (down && unicast && !self.is_internal()).then_some(self.local_as)
    }
}
