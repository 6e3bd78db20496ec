//! What is encoded decodes to the same.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_bgpd::convert::{
    EncodeError, MAX_FLOWSPEC_LENGTH, Origin, decode_flowspec, decode_update, encode_announce,
    encode_nlri, encode_withdraw,
};
use tidegate_bgpd::{Family, MAX_MESSAGE_LENGTH, SessionParameters};
use tidegate_model::{Nlri, Route, TrafficFilteringAction};

use crate::routes;

/// Actions as they come back: those in the IPv6 extended communities, which are an attribute of
/// their own, after the others.
fn canonical(actions: &[TrafficFilteringAction]) -> Vec<TrafficFilteringAction> {
    let mut actions = actions.to_vec();
    actions.sort_by_key(|action| {
        matches!(action, TrafficFilteringAction::RedirectToIp(IpAddr::V6(_), _))
    });
    actions
}

/// Splits `items` into messages.
fn in_messages<T>(
    items: &[T],
    encode: impl Fn(&[T]) -> Result<tidegate_bgpd::convert::Packed, EncodeError>,
) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        let packed = encode(rest).unwrap();
        assert!(packed.taken >= 1 && packed.message.len() <= MAX_MESSAGE_LENGTH);
        messages.push(packed.message);
        rest = &rest[packed.taken..];
    }
    messages
}

fn check_announcement(
    parameters: &SessionParameters,
    route: &Route,
    message: &[u8],
) -> Result<(), TestCaseError> {
    let decoded = decode_update(message).unwrap();
    prop_assert_eq!(&decoded.announced, std::slice::from_ref(&route.nlri));
    prop_assert!(decoded.withdrawn.is_empty() && decoded.end_of_rib.is_none());
    prop_assert!(decoded.other.is_empty());
    prop_assert_eq!(decoded.origin, Some(Origin::Igp));
    prop_assert_eq!(decoded.next_hop, route.next_hop);
    prop_assert_eq!(&decoded.communities, &route.communities);
    prop_assert_eq!(&decoded.large_communities, &route.large_communities);
    prop_assert_eq!(&decoded.actions, &canonical(&route.actions));
    if parameters.local_as == parameters.peer_as {
        prop_assert_eq!(decoded.as_path, Some(vec![]));
        prop_assert_eq!(decoded.local_preference, Some(100));
    } else {
        prop_assert_eq!(decoded.as_path, Some(vec![parameters.local_as]));
        prop_assert_eq!(decoded.local_preference, None);
    }
    Ok(())
}

proptest! {
    #[test]
    fn announcements(parameters in routes::parameters(), route in routes::route()) {
        match encode_announce(&parameters, &[&route]) {
            Ok(packed) => check_announcement(&parameters, &route, &packed.message)?,
            Err(EncodeError::TooLong { octets, .. }) => prop_assert!(octets > MAX_FLOWSPEC_LENGTH),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn withdrawals(route in routes::route()) {
        if let Ok(packed) = encode_withdraw(&[&route.nlri]) {
            let decoded = decode_update(&packed.message).unwrap();
            prop_assert_eq!(decoded.withdrawn, vec![route.nlri]);
            prop_assert!(decoded.announced.is_empty());
        }
    }

    #[test]
    fn rules_alone(rule in routes::family().prop_flat_map(routes::rule)) {
        let nlri = Nlri::FlowSpec(rule.clone());
        if let Ok(octets) = encode_nlri(&nlri) {
            prop_assert_eq!(decode_flowspec(rule.family(), &octets).unwrap(), vec![rule]);
        }
    }

    /// Any number of routes with the same attributes goes out in order, none lost, none twice.
    #[test]
    fn packed_announcements(
        parameters in routes::parameters(),
        pattern in routes::unicast_route(),
        rules in vec(routes::rule(tidegate_model::AddressFamily::Ipv6), 1..120),
        prefixes in vec(any::<u32>(), 1..2000),
    ) {
        let family = pattern.nlri.family();
        let unicast = prefixes.iter().map(|seed| {
            let (address, bits) = match family {
                tidegate_model::AddressFamily::Ipv4 => (IpAddr::V4((*seed).into()), 32),
                tidegate_model::AddressFamily::Ipv6 => {
                    (IpAddr::V6((u128::from(*seed) << 64).into()), 128)
                }
            };
            let length = (seed % 33 + bits - 32) as u8;
            Nlri::Unicast(tidegate_model::Prefix::new(address, length).unwrap())
        });
        let unicast: Vec<Nlri> = unicast.collect();
        let flow: Vec<Nlri> = rules.into_iter().map(Nlri::FlowSpec)
            .filter(|nlri| encode_nlri(nlri).is_ok()).collect();
        for (nlris, next_hop) in [(unicast, pattern.next_hop), (flow, None)] {
            let routes: Vec<Route> = nlris.iter().map(|nlri| {
                Route { nlri: nlri.clone(), next_hop, ..pattern.clone() }
            }).collect();
            let references: Vec<&Route> = routes.iter().collect();
            let messages =
                in_messages(&references, |rest| encode_announce(&parameters, rest));
            let announced: Vec<Nlri> = messages.iter()
                .flat_map(|message| decode_update(message).unwrap().announced).collect();
            prop_assert_eq!(&announced, &nlris);

            let references: Vec<&Nlri> = nlris.iter().collect();
            let messages = in_messages(&references, encode_withdraw);
            let withdrawn: Vec<Nlri> = messages.iter()
                .flat_map(|message| decode_update(message).unwrap().withdrawn).collect();
            prop_assert_eq!(&withdrawn, &nlris);
        }
    }

    #[test]
    fn arbitrary_octets_do_no_harm(
        octets in vec(any::<u8>(), 0..200),
        family in routes::family(),
    ) {
        let _ = decode_update(&octets);
        let _ = decode_flowspec(family, &octets);
        let body = octets.len() + 19;
        let whole = [&[0xff; 16], (body as u16).to_be_bytes().as_slice(), &[2], &octets].concat();
        let _ = decode_update(&whole).map(|decoded| decoded.to_string());
    }

    /// Real messages with a few octets changed.
    #[test]
    fn mutated_messages_do_no_harm(
        route in routes::route(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let parameters = SessionParameters {
            local_as: 65010,
            peer_as: 65001,
            local_address: "10.99.0.1".parse().unwrap(),
            four_octet_as: true,
            families: Family::ALL.into(),
            role: None,
        };
        if let Ok(packed) = encode_announce(&parameters, &[&route]) {
            let mut message = packed.message;
            for (index, octet) in changes {
                let index = index.index(message.len());
                message[index] = octet;
            }
            let _ = decode_update(&message).map(|decoded| decoded.to_string());
            message.truncate(cut.index(message.len()));
            let _ = decode_update(&message);
        }
    }
}
