//! What the encoding of an UPDATE depends on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::family::Family;

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
}

impl SessionParameters {
    /// Whether both ends are in the same AS.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        self.local_as == self.peer_as
    }
}
