use proptest::prelude::*;
use tidegate_bgpd::Family;
use tidegate_model::{
    AddressFamily, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, Route,
    TrafficFilteringAction,
};

use super::convert::{announce, nlri, route, withdraw};
use super::proto::Path;
use super::{GobgpConfig, Mark, is_local};

const MARK: Mark = Mark::of_as(65_010);

fn routes() -> [Route; 4] {
    let blackhole = |address: &str, next_hop: &str| Route {
        nlri: Nlri::Unicast(address.parse().unwrap()),
        next_hop: Some(next_hop.parse().unwrap()),
        communities: ["65535:666".parse().unwrap()].into(),
        large_communities: ["1:2:3".parse().unwrap()].into(),
        actions: vec![],
    };
    let rule = |family, address: &str| Route {
        nlri: Nlri::FlowSpec(
            FlowSpecRule::new(
                family,
                vec![
                    FlowSpecComponent::DestinationPrefix(address.parse().unwrap()),
                    FlowSpecComponent::SourcePort(NumericMatch::one_of(53, [123])),
                ],
            )
            .unwrap(),
        ),
        next_hop: None,
        communities: ["65001:1".parse().unwrap()].into(),
        large_communities: [].into(),
        actions: vec![TrafficFilteringAction::RateLimitBytes(12_500.0)],
    };
    [
        blackhole("192.0.2.1", "192.0.2.254"),
        blackhole("2001:db8::1", "100::1"),
        rule(AddressFamily::Ipv4, "192.0.2.4"),
        rule(AddressFamily::Ipv6, "2001:db8::5"),
    ]
}

#[test]
fn what_is_told_is_what_is_read_back() {
    for told in routes() {
        let family = Family::of(&told.nlri);
        let path = announce(&MARK.on(&told)).unwrap();
        assert_eq!(route(family, &path, MARK.0).unwrap(), (told.clone(), true));
        assert!(!route(family, &announce(&told).unwrap(), MARK.0).unwrap().1);
        let gone = withdraw(&told.nlri).unwrap();
        assert!(gone.is_withdraw && gone.pattrs_binary.is_empty());
        assert_eq!(gone.nlri_binary, path.nlri_binary);
    }
}

#[test]
fn a_rule_for_gobgp_has_a_next_hop_of_zero() {
    let [_, _, rule, _] = routes();
    let path = announce(&rule).unwrap();
    let codes: Vec<u8> = path.pattrs_binary.iter().map(|octets| octets[1]).collect();
    // ORIGIN, AS_PATH, COMMUNITIES, EXTENDED_COMMUNITIES, NEXT_HOP; neither LOCAL_PREF nor MP_REACH.
    assert_eq!(codes, [1, 2, 8, 16, 3]);
    assert_eq!(path.nlri_binary, [11, 1, 32, 192, 0, 2, 4, 6, 1, 53, 0x81, 123]);
}

#[test]
fn hostile_paths_are_not_routes() {
    let good = announce(&routes()[0]).unwrap();
    let with = |nlri: &[u8]| Path { nlri_binary: nlri.to_vec(), ..good.clone() };
    for octets in [&[][..], &[33, 1, 2, 3, 4, 5], &[32, 1, 2, 3], &[24, 1, 2, 3, 4], &[255]] {
        assert!(route(Family::Ipv4Unicast, &with(octets), MARK.0).is_err(), "{octets:?}");
        assert!(route(Family::Ipv4FlowSpec, &with(octets), MARK.0).is_err(), "{octets:?}");
    }
    for attribute in
        [vec![], vec![0x40], vec![0x40, 1, 9], vec![0x40, 1, 1, 0, 7], vec![0xc0, 8, 3, 1, 2, 3]]
    {
        let path = Path { pattrs_binary: vec![attribute.clone()], ..good.clone() };
        assert!(route(Family::Ipv4Unicast, &path, MARK.0).is_err(), "{attribute:?}");
    }
}

#[test]
fn paths_of_peers_are_not_local() {
    for (address, local) in [("", true), ("<nil>", true), ("10.0.0.1", false), ("fd99::1", false)] {
        let path = Path { neighbor_ip: address.to_owned(), ..Path::default() };
        assert_eq!(is_local(&path), local, "{address}");
    }
}

#[test]
fn configuration_can_be_written_and_read() {
    let config: GobgpConfig = serde_json::from_str("{\"mark\":\"65010:1:2\"}").unwrap();
    assert_eq!(config.address, "unix:///run/gobgp.sock");
    assert_eq!(config.families.len(), 4);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<GobgpConfig>(&text).unwrap(), config);
    assert!(serde_json::from_str::<GobgpConfig>("{\"mark\":\"nonsense\"}").is_err());
}

proptest! {
    #[test]
    fn nothing_that_is_read_panics(
        octets in prop::collection::vec(any::<u8>(), 0..64),
        attributes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
    ) {
        for family in Family::ALL {
            let _ = nlri(family, &octets);
            let path = Path { nlri_binary: octets.clone(), pattrs_binary: attributes.clone(), ..Path::default() };
            let _ = route(family, &path, MARK.0);
        }
    }
}
