//! What is offered to a peer and asked of it beyond the necessary.

use std::collections::BTreeSet;

use rustbgpd_wire::BgpRole;

use super::graceful::GracefulRestart;
use crate::family::Family;

/// Choices of one session. The defaults suit a router of today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Without each of these the session does not come up (2/7, RFC 5492 §3).
    pub required_families: BTreeSet<Family>,
    /// What we are to the peer (RFC 9234). Only offered on an eBGP session.
    pub role: Option<Role>,
    /// Refuse a peer that does not say what it is to us (2/11, RFC 9234 §4.2). Without a role of
    /// ours, and on an iBGP session, it has no effect.
    pub strict_role: bool,
    /// Offer 4-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// Take messages of up to 65,535 octets (RFC 8654). None longer than 4096 is sent.
    pub extended_messages: bool,
    /// Whether routes outlive the session (RFC 4724).
    pub graceful_restart: GracefulRestart,
    /// Say where the answer to a ROUTE-REFRESH begins and ends (RFC 7313).
    pub enhanced_refresh: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            required_families: BTreeSet::new(),
            role: None,
            strict_role: false,
            four_octet_as: true,
            extended_messages: true,
            graceful_restart: GracefulRestart::Off,
            enhanced_refresh: true,
        }
    }
}

/// One end's place in the relation between two ASes (RFC 9234 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Provider of transit.
    Provider,
    /// Route server.
    RouteServer,
    /// Client of a route server.
    RouteServerClient,
    /// Customer of transit.
    Customer,
    /// Peer.
    Peer,
}

impl Role {
    const ALL: [(Self, BgpRole); 5] = [
        (Self::Provider, BgpRole::Provider),
        (Self::RouteServer, BgpRole::RouteServer),
        (Self::RouteServerClient, BgpRole::RouteServerClient),
        (Self::Customer, BgpRole::Customer),
        (Self::Peer, BgpRole::Peer),
    ];

    pub(super) fn codec(self) -> Option<BgpRole> {
        Self::ALL.into_iter().find(|(role, _)| *role == self).map(|(_, codec)| codec)
    }

    pub(super) fn from_codec(codec: BgpRole) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, other)| *other == codec).map(|(role, _)| role)
    }
}
