//! Two connections with the same peer: which one stays (RFC 4271 §6.8, RFC 6286 §2.3).

use std::net::Ipv4Addr;

/// Who opened a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The peer did.
    Incoming,
}

impl Direction {
    /// Both, in the order in which they are looked at.
    pub const ALL: [Self; 2] = [Self::Outgoing, Self::Incoming];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Outgoing => Self::Incoming,
            Self::Incoming => Self::Outgoing,
        }
    }
}

/// One end of the collision. Ordered by identifier, then by AS, as RFC 6286 §2.3 compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) router_id: Ipv4Addr,
    pub(crate) asn: u32,
}

/// The connection that stays when both have seen a valid OPEN: the one that the higher identity
/// opened. Both ends come to the same answer.
pub(crate) fn survivor(local: Identity, remote: Identity) -> Direction {
    if local > remote { Direction::Outgoing } else { Direction::Incoming }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(router_id: [u8; 4], asn: u32) -> Identity {
        Identity { router_id: router_id.into(), asn }
    }

    #[test]
    fn both_ends_keep_the_same_connection() {
        for (a, b) in [
            (identity([10, 0, 0, 1], 65001), identity([10, 0, 0, 2], 65001)),
            (identity([9, 255, 255, 255], 65001), identity([10, 0, 0, 0], 65000)),
            (identity([10, 0, 0, 1], 65001), identity([10, 0, 0, 1], 65002)),
        ] {
            assert_eq!(survivor(b, a), Direction::Outgoing, "{b:?} is higher");
            assert_eq!(survivor(a, b), Direction::Incoming, "{a:?} is lower");
        }
    }
}
