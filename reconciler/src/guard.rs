//! The reconciler's own judgement of what may be announced.
//!
//! The planner and the egress gate judge too, each with code of its own. This one compares first
//! and last addresses as numbers and shares nothing with them but the data.

use std::net::IpAddr;

use tidegate_model::{AddressFamily, Nlri, OwnedSpace, Prefix, Route};

/// Shortest IPv4 destination of a FlowSpec rule, in bits.
const SHORTEST_FLOWSPEC_IPV4: u8 = 24;
/// Shortest IPv6 destination of a FlowSpec rule, in bits.
const SHORTEST_FLOWSPEC_IPV6: u8 = 48;

/// Why a route is not announced, though it is desired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A FlowSpec rule that would match traffic to anybody.
    #[error("the rule has no destination prefix")]
    NoDestination,
    /// A blackhole for more than one address.
    #[error("{0} is not a single address; only single addresses are blackholed")]
    NotAHost(Prefix),
    /// A FlowSpec rule for too large a prefix.
    #[error("{destination} is shorter than /{shortest}, the least specific that is announced")]
    TooWide {
        /// What the rule diverts.
        destination: Prefix,
        /// The shortest length allowed for its family.
        shortest: u8,
    },
    /// Somebody else's addresses.
    #[error("{0} is not inside the owned prefixes")]
    NotOwned(Prefix),
    /// Addresses that no mitigation may touch.
    #[error("{destination} touches {protected}, which is never to be touched")]
    Protected {
        /// What the route diverts.
        destination: Prefix,
        /// The protected prefix.
        protected: Prefix,
    },
}

/// First and last address of a prefix, and the family to tell equal numbers apart.
fn bounds(prefix: Prefix) -> (AddressFamily, u128, u128) {
    let (family, first) = match prefix.address() {
        IpAddr::V4(address) => (AddressFamily::Ipv4, u128::from(u32::from(address))),
        IpAddr::V6(address) => (AddressFamily::Ipv6, u128::from(address)),
    };
    let host_bits = u32::from(family.bits().saturating_sub(prefix.length()));
    let size_less_one = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
    (family, first, first.saturating_add(size_less_one))
}

/// Judges whether `route` may be announced in `space`.
pub(crate) fn judge(space: &OwnedSpace, route: &Route) -> Result<(), Refusal> {
    let destination = match &route.nlri {
        Nlri::Unicast(prefix) if prefix.length() != prefix.family().bits() => {
            return Err(Refusal::NotAHost(*prefix));
        }
        Nlri::Unicast(prefix) => *prefix,
        Nlri::FlowSpec(rule) => {
            let destination = rule.destination().ok_or(Refusal::NoDestination)?;
            let shortest = match destination.family() {
                AddressFamily::Ipv4 => SHORTEST_FLOWSPEC_IPV4,
                AddressFamily::Ipv6 => SHORTEST_FLOWSPEC_IPV6,
            };
            if destination.length() < shortest {
                return Err(Refusal::TooWide { destination, shortest });
            }
            destination
        }
    };
    let (family, first, last) = bounds(destination);
    let owned = space.owned.iter().any(|owned| {
        let (owned_family, owned_first, owned_last) = bounds(*owned);
        owned_family == family && owned_first <= first && last <= owned_last
    });
    if !owned {
        return Err(Refusal::NotOwned(destination));
    }
    let protected = space.never_touch.iter().find(|protected| {
        let (protected_family, protected_first, protected_last) = bounds(**protected);
        protected_family == family && protected_first <= last && first <= protected_last
    });
    match protected {
        Some(protected) => Err(Refusal::Protected { destination, protected: *protected }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use tidegate_model::{FlowSpecComponent, FlowSpecRule, NumericMatch, TrafficFilteringAction};

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn space() -> OwnedSpace {
        OwnedSpace {
            owned: vec![prefix("203.0.113.0/24"), prefix("10.0.0.0/8"), prefix("2001:db8:1::/48")],
            never_touch: vec![prefix("203.0.113.53"), prefix("2001:db8:1:f::/64")],
        }
    }

    fn unicast(destination: Prefix) -> Route {
        Route {
            nlri: Nlri::Unicast(destination),
            next_hop: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            actions: vec![],
        }
    }

    fn flowspec(destination: Option<Prefix>) -> Route {
        let family = destination.map_or(AddressFamily::Ipv4, |prefix| prefix.family());
        let mut components = vec![FlowSpecComponent::IpProtocol(NumericMatch::equal(17))];
        components.extend(destination.map(FlowSpecComponent::DestinationPrefix));
        Route {
            nlri: Nlri::FlowSpec(FlowSpecRule::new(family, components).unwrap()),
            actions: vec![TrafficFilteringAction::DISCARD],
            ..unicast(Prefix::all_ipv4())
        }
    }

    #[test]
    fn only_specific_owned_and_unprotected_destinations_pass() {
        let table: [(Route, Result<(), &str>); 15] = [
            (unicast(prefix("203.0.113.1")), Ok(())),
            (unicast(prefix("2001:db8:1::1")), Ok(())),
            (unicast(prefix("203.0.113.0/31")), Err("not a single address")),
            (unicast(prefix("2001:db8:1::/127")), Err("not a single address")),
            (unicast(prefix("0.0.0.0/0")), Err("not a single address")),
            (unicast(prefix("203.0.114.1")), Err("not inside")),
            (unicast(prefix("1.1.1.1")), Err("not inside")),
            (unicast(prefix("203.0.113.53")), Err("never to be touched")),
            (flowspec(Some(prefix("203.0.113.0/26"))), Err("never to be touched")),
            (flowspec(Some(prefix("203.0.113.64/26"))), Ok(())),
            (flowspec(Some(prefix("10.1.0.0/23"))), Err("shorter than /24")),
            (flowspec(Some(prefix("10.1.0.0/24"))), Ok(())),
            (flowspec(Some(prefix("2001:db8::/47"))), Err("shorter than /48")),
            (flowspec(Some(prefix("2001:db8:1:f::1"))), Err("never to be touched")),
            (flowspec(None), Err("no destination")),
        ];
        for (route, expected) in table {
            match (judge(&space(), &route), expected) {
                (Ok(()), Ok(())) => {}
                (Err(refusal), Err(text)) if refusal.to_string().contains(text) => {}
                (got, _) => panic!("{}: {got:?}", route.nlri),
            }
        }
    }

    #[test]
    fn the_same_number_in_the_other_family_is_not_owned() {
        let low = Prefix::new("::203.0.113.1".parse().unwrap(), 128).unwrap();
        assert_eq!(judge(&space(), &unicast(low)), Err(Refusal::NotOwned(low)));
    }

    proptest! {
        #[test]
        fn agrees_with_prefix_containment(address: u32, length in 24_u8..=32, owned: u32,
            owned_length in 0_u8..=32, protected: u32, protected_length in 0_u8..=32) {
            let make = |address: u32, length| Prefix::new(IpAddr::V4(address.into()), length).unwrap();
            let destination = make(address, length);
            // Half of the cases near the destination, where the answer is not obvious.
            let near = |other: u32| if other & 1 == 0 { address ^ (other >> 24) } else { other };
            let owned = make(near(owned), owned_length);
            let protected = make(near(protected), protected_length);
            let space = OwnedSpace { owned: vec![owned], never_touch: vec![protected] };
            let allowed = owned.contains(&destination) && !protected.overlaps(&destination);
            prop_assert_eq!(judge(&space, &flowspec(Some(destination))).is_ok(), allowed);
        }

        #[test]
        fn bounds_cover_every_length(address: u128, length in 0_u8..=128) {
            let prefix = Prefix::new(IpAddr::V6(address.into()), length).unwrap();
            let (_, first, last) = bounds(prefix);
            prop_assert!(first <= address && address <= last);
            let size = (last - first).checked_add(1);
            prop_assert_eq!(size, 1_u128.checked_shl(u32::from(128 - length)));
        }
    }
}
