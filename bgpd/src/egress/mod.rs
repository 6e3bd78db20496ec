//! The last look at every message before the socket.
//!
//! The [`Gate`] takes the octets that are about to leave, decodes them with a decoder of its own
//! that shares no code with the encoder or its codec, and holds every announcement against a
//! [`GatePolicy`]. It knows nothing of how the route came about. Whatever it does not understand
//! does not leave. Withdrawals pass if they are well-formed, however the policy has changed.
//!
//! Absent on purpose: the state of the session and of the Adj-RIB-Out. One message is judged alone.

mod flowspec;
mod message;
mod policy;
mod reader;
mod refusal;

use std::net::IpAddr;

use tidegate_model::{AddressFamily, Community, Prefix};

use self::flowspec::Rule;
use self::message::{Announcement, Contents, Reached};
pub use self::policy::GatePolicy;
pub use self::refusal::Refusal;

/// Judges messages by a [`GatePolicy`].
#[derive(Clone, Debug)]
pub struct Gate {
    policy: GatePolicy,
}

impl Gate {
    /// A gate that holds to `policy`, as far as that stays within the floors that
    /// [`GatePolicy`] names.
    #[must_use]
    pub fn new(policy: GatePolicy) -> Self {
        Self { policy: policy.within_floors() }
    }

    /// The same gate for one session whose own end is at `address`: nothing may cut that off.
    #[must_use]
    pub fn guarding(&self, address: IpAddr) -> Self {
        let mut policy = self.policy.clone();
        policy.session_addresses.push(address);
        Self { policy }
    }

    /// The policy that the gate holds to.
    #[must_use]
    pub fn policy(&self) -> &GatePolicy {
        &self.policy
    }

    /// Judges one whole message, marker included. OPEN, NOTIFICATION, KEEPALIVE and ROUTE-REFRESH
    /// pass by their type.
    ///
    /// # Errors
    /// [`Refusal`] if the message must not be sent.
    pub fn judge(&self, message: &[u8]) -> Result<(), Refusal> {
        match message::decode(message)? {
            Contents::NoRoutes | Contents::Withdrawal => Ok(()),
            Contents::Announcement(announcement) => self.judge_announcement(&announcement),
        }
    }

    fn judge_announcement(&self, announcement: &Announcement<'_>) -> Result<(), Refusal> {
        for reached in &announcement.reached {
            match reached {
                Reached::Unicast(prefix) => self.judge_unicast(*prefix, announcement)?,
                Reached::FlowSpec(rule) => self.judge_rule(rule, announcement)?,
            }
        }
        Ok(())
    }

    fn judge_unicast(
        &self,
        prefix: Prefix,
        announcement: &Announcement<'_>,
    ) -> Result<(), Refusal> {
        let nlri = || prefix.to_string();
        let least = match prefix.family() {
            AddressFamily::Ipv4 => self.policy.least_unicast_ipv4,
            AddressFamily::Ipv6 => self.policy.least_unicast_ipv6,
        };
        self.judge_space(&nlri, prefix, least)?;
        if let Some(address) = self.session_address_in(prefix) {
            return Err(Refusal::SessionAddress { nlri: nlri(), address });
        }
        judge_next_hop(&nlri, announcement.next_hop)?;
        if announcement.actions {
            let what = format!("traffic filtering actions on {prefix}");
            return Err(Refusal::NotUnderstood { what });
        }
        self.judge_communities(&nlri, announcement)
    }

    /// Owned, specific enough, and off every never-touch prefix.
    fn judge_space(
        &self,
        nlri: &dyn Fn() -> String,
        destination: Prefix,
        least: u8,
    ) -> Result<(), Refusal> {
        let space = &self.policy.space;
        if !space.owned.iter().any(|owned| owned.contains(&destination)) {
            return Err(Refusal::NotOwned { nlri: nlri(), destination });
        }
        if destination.length() < least {
            return Err(Refusal::NotSpecific { nlri: nlri(), length: destination.length(), least });
        }
        match space.never_touch.iter().find(|protected| protected.overlaps(&destination)) {
            Some(protected) => Err(Refusal::NeverTouch { nlri: nlri(), protected: *protected }),
            None => Ok(()),
        }
    }

    fn session_address_in(&self, prefix: Prefix) -> Option<IpAddr> {
        let mut addresses = self.policy.session_addresses.iter();
        addresses.find(|address| prefix.contains_address(**address)).copied()
    }

    /// RFC 7999 §3.2 and §3.3: marked as a blackhole, and kept from spreading.
    fn judge_communities(
        &self,
        nlri: &dyn Fn() -> String,
        announcement: &Announcement<'_>,
    ) -> Result<(), Refusal> {
        let policy = &self.policy;
        let marked = announcement.communities.iter().any(|one| policy.blackhole.contains(one))
            || announcement
                .large_communities
                .iter()
                .any(|one| policy.blackhole_large.contains(one));
        if !marked {
            return Err(Refusal::NoBlackholeCommunity { nlri: nlri() });
        }
        let scoped = policy.scope.is_empty()
            || announcement.communities.iter().any(|one| policy.scope.contains(one));
        if !scoped {
            return Err(Refusal::NoScopeCommunity { nlri: nlri() });
        }
        Ok(())
    }

    fn judge_rule(&self, rule: &Rule<'_>, announcement: &Announcement<'_>) -> Result<(), Refusal> {
        let nlri = || rule.to_string();
        let Some(destination) = rule.destination() else {
            return Err(Refusal::NoDestination { nlri: nlri() });
        };
        let least = match rule.family() {
            AddressFamily::Ipv4 => self.policy.least_flowspec_ipv4,
            AddressFamily::Ipv6 => self.policy.least_flowspec_ipv6,
        };
        self.judge_space(&nlri, destination, least)?;
        rule.check_possible().map_err(|why| Refusal::Impossible { nlri: nlri(), why })?;
        if !rule.discriminates() {
            return Err(Refusal::NoDiscriminator { nlri: nlri() });
        }
        if !announcement.actions {
            return Err(Refusal::NoAction { nlri: nlri() });
        }
        if let Some(rate) = announcement.bad_rate {
            return Err(Refusal::Rate { nlri: nlri(), rate: rate.to_string() });
        }
        match self.session_address_in(destination) {
            Some(address) if rule.may_match_session(&self.policy.session_ports) => {
                Err(Refusal::Session { nlri: nlri(), address })
            }
            _ => Ok(()),
        }
    }
}

/// Next hops that receivers ignore the route for, or reset the session over.
fn judge_next_hop(nlri: &dyn Fn() -> String, next_hop: Option<IpAddr>) -> Result<(), Refusal> {
    let unusable = match next_hop {
        None => return Err(Refusal::NoNextHop { nlri: nlri() }),
        Some(IpAddr::V4(address)) => {
            address.octets().starts_with(&[0])
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_link_local()
        }
        Some(IpAddr::V6(address)) => {
            address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some()
        }
    };
    match next_hop {
        Some(next_hop) if unusable => Err(Refusal::NextHop { nlri: nlri(), next_hop }),
        _ => Ok(()),
    }
}

/// Well-known communities (RFC 1997: 0xffff0000 and up) say how far a route may spread. The one
/// that says what is done with its traffic is BLACKHOLE.
fn says_blackhole(community: Community) -> bool {
    community == Community::BLACKHOLE || community.0 < 0xffff_0000
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests;
