//! What a session is configured with.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use rustbgpd_fsm::PeerConfig;
use rustbgpd_wire::{Afi, Safi};

use super::collision::Identity;
use super::options::{Role, SessionOptions};
use crate::family::Family;

/// Who may open the TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectMode {
    /// We connect and accept nothing.
    Active,
    /// We accept and never connect.
    Passive,
    /// Either; of two connections one is given up (RFC 4271 §6.8).
    #[default]
    Both,
}

/// Configuration of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our AS number.
    pub local_as: u32,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The AS number that the peer must have.
    pub peer_as: u32,
    /// Families that are offered. None at all makes every OPEN fail with 2/7.
    pub families: BTreeSet<Family>,
    /// Hold time that is offered, in whole seconds: zero, or at least 3 (RFC 4271 §4.2). What is
    /// below 3 but not zero is raised to 3.
    pub hold_time: Duration,
    /// Who may open the TCP connection.
    pub mode: ConnectMode,
    /// Most routes that the Adj-RIB-Out holds.
    pub max_routes: u32,
    /// What is offered and asked beyond that.
    pub options: SessionOptions,
    /// For the jitter of connection attempts. Should differ between sessions.
    pub seed: u64,
}

impl SessionConfig {
    /// What we are to the peer, on an eBGP session.
    pub(super) fn role(&self) -> Option<Role> {
        self.options.role.filter(|_| self.local_as != self.peer_as)
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { router_id: self.router_id, asn: self.local_as }
    }

    /// For the state machine. Its own timers between connections are not used.
    pub(super) fn fsm(&self) -> PeerConfig {
        let mut config = PeerConfig::new(self.local_as, self.peer_as, self.router_id);
        let seconds = u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX);
        config.hold_time = if self.hold_time.is_zero() { 0 } else { seconds.max(3) };
        let options = &self.options;
        let required = options.required_families.iter();
        config.required_families = required.map(|family| codec_family(*family)).collect();
        if let Some(role) = self.role() {
            config.local_role = role.codec();
            config.strict_role = options.strict_role;
        }
        config.families = self.families.iter().map(|family| codec_family(*family)).collect();
        config.disable_ipv4_unicast = !self.families.contains(&Family::Ipv4Unicast);
        config
    }
}

pub(super) fn codec_family(family: Family) -> (Afi, Safi) {
    match family {
        Family::Ipv4Unicast => (Afi::Ipv4, Safi::Unicast),
        Family::Ipv6Unicast => (Afi::Ipv6, Safi::Unicast),
        Family::Ipv4FlowSpec => (Afi::Ipv4, Safi::FlowSpec),
        Family::Ipv6FlowSpec => (Afi::Ipv6, Safi::FlowSpec),
    }
}
