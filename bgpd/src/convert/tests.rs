use std::collections::BTreeSet;
use std::net::IpAddr;

use tidegate_model::{
    AddressFamily, BitmaskMatch, Community, FlowSpecComponent, FlowSpecRule, LargeCommunity, Nlri,
    NumericMatch, Route, TrafficFilteringAction,
};

use super::*;
use crate::session::Role;

fn parameters(local_as: u32, peer_as: u32, four_octet_as: bool) -> SessionParameters {
    SessionParameters {
        local_as,
        peer_as,
        local_address: "10.99.0.1".parse().unwrap(),
        four_octet_as,
        families: BTreeSet::from(Family::ALL),
        role: None,
    }
}

fn unicast(prefix: &str) -> Nlri {
    Nlri::Unicast(prefix.parse().unwrap())
}

fn blackhole(prefix: &str, next_hop: &str) -> Route {
    Route {
        nlri: unicast(prefix),
        next_hop: Some(next_hop.parse().unwrap()),
        communities: BTreeSet::from([Community::NO_EXPORT, Community::BLACKHOLE]),
        large_communities: BTreeSet::new(),
        actions: Vec::new(),
    }
}

fn rule(family: AddressFamily, components: Vec<FlowSpecComponent>) -> Nlri {
    Nlri::FlowSpec(FlowSpecRule::new(family, components).unwrap())
}

fn flow(nlri: Nlri, actions: Vec<TrafficFilteringAction>) -> Route {
    Route {
        nlri,
        next_hop: None,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        actions,
    }
}

fn ntp_answers(destination: &str) -> Nlri {
    let destination: tidegate_model::Prefix = destination.parse().unwrap();
    rule(
        destination.family(),
        vec![
            FlowSpecComponent::SourcePort(NumericMatch::equal(123)),
            FlowSpecComponent::IpProtocol(NumericMatch::equal(17)),
            FlowSpecComponent::DestinationPrefix(destination),
        ],
    )
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The octets behind the marker.
fn body(message: &[u8]) -> String {
    let (marker, rest) = message.split_at(16);
    assert_eq!(marker, [0xff; 16]);
    hex(rest)
}

#[test]
fn announcements_have_these_octets() {
    let internal = parameters(65010, 65010, true);
    let large = LargeCommunity { global: 65010, local1: 666, local2: 1 };
    let mut marked = blackhole("203.0.113.7", "192.0.2.1");
    marked.large_communities = BTreeSet::from([large]);
    let cases = [
        (
            "IPv4 blackhole, iBGP: the octets of BIRD and ExaBGP",
            internal.clone(),
            blackhole("203.0.113.7", "192.0.2.1"),
            "003c02 0000 0020 40010100 400200 400304c0000201 40050400000064 c00808ffff029affffff01 20cb007107",
        ),
        (
            "IPv4 blackhole, eBGP",
            parameters(65000, 65001, true),
            blackhole("203.0.113.7", "192.0.2.1"),
            "003b02 0000 001f 40010100 400206 0201 0000fde8 400304c0000201 c00808ffff029affffff01 20cb007107",
        ),
        (
            "eBGP with a peer of 2-octet AS numbers",
            parameters(65000, 65001, false),
            blackhole("203.0.113.7", "192.0.2.1"),
            "003902 0000 001d 40010100 400204 0201 fde8 400304c0000201 c00808ffff029affffff01 20cb007107",
        ),
        (
            "AS_TRANS and AS4_PATH",
            parameters(4_200_000_000, 65001, false),
            blackhole("203.0.113.7", "192.0.2.1"),
            "004202 0000 0026 40010100 400204 0201 5ba0 c01106 0201 fa56ea00 400304c0000201 c00808ffff029affffff01 20cb007107",
        ),
        (
            "large communities",
            internal.clone(),
            marked,
            "004b02 0000 002f 40010100 400200 400304c0000201 40050400000064 c00808ffff029affffff01 c0200c0000fdf20000029a00000001 20cb007107",
        ),
        (
            "to a customer: OTC with our AS (RFC 9234 §5)",
            SessionParameters { role: Some(Role::Provider), ..parameters(65000, 65001, true) },
            blackhole("203.0.113.7", "192.0.2.1"),
            "004202 0000 0026 40010100 400206 0201 0000fde8 400304c0000201 c00808ffff029affffff01 c023040000fde8 20cb007107",
        ),
        (
            "IPv6 blackhole: MP_REACH_NLRI first",
            internal.clone(),
            blackhole("2001:db8:1::7", "100::1"),
            "005902 0000 0042 800e26 0002 01 10 01000000000000000000000000000001 00 80 20010db8000100000000000000000007 40010100 400200 40050400000064 c00808ffff029affffff01",
        ),
        (
            "IPv4 FlowSpec, discard",
            internal.clone(),
            flow(ntp_answers("198.51.100.10"), vec![TrafficFilteringAction::DISCARD]),
            "004502 0000 002e 800e12 0001 85 00 00 0c 0120c633640a 038111 06817b 40010100 400200 40050400000064 c010088006000000000000",
        ),
        (
            "IPv6 FlowSpec, rate limit",
            internal,
            flow(
                ntp_answers("2001:db8:1::10"),
                vec![TrafficFilteringAction::RateLimitBytes(125_000.0)],
            ),
            "005202 0000 003b 800e1f 0002 85 00 00 19 01800020010db8000100000000000000000010 038111 06817b 40010100 400200 40050400000064 c010088006000047f42400",
        ),
    ];
    for (name, parameters, route, expected) in cases {
        let packed = encode_announce(&parameters, &[&route]).unwrap();
        assert_eq!(body(&packed.message), expected.replace(' ', ""), "{name}");
        assert_eq!(packed.taken, 1, "{name}");
    }
}

#[test]
fn every_action_has_these_octets() {
    use TrafficFilteringAction as Action;
    let ipv6: IpAddr = "2001:db8::9".parse().unwrap();
    let cases = [
        (Action::RateLimitBytes(9600.0), "8006000046160000"),
        (Action::RateLimitPackets(1000.0), "800c0000447a0000"),
        (Action::TrafficAction { sample: false, terminal: true }, "8007000000000001"),
        (Action::TrafficAction { sample: true, terminal: false }, "8007000000000002"),
        (Action::RedirectAs2(65500, 12345), "8008ffdc00003039"),
        (Action::RedirectIpv4("192.0.2.9".parse().unwrap(), 7), "8108c00002090007"),
        (Action::RedirectAs4(4_200_000_000, 7), "8208fa56ea000007"),
        (Action::RedirectToIp("1.2.3.4".parse().unwrap(), false), "010c010203040000"),
        (Action::RedirectToIp("1.2.3.4".parse().unwrap(), true), "010c010203040001"),
        (Action::RedirectToIp(ipv6, true), "c01914000c20010db80000000000000000000000090001"),
        (Action::Mark(10), "800900000000000a"),
    ];
    let parameters = parameters(65010, 65010, true);
    for (action, expected) in cases {
        let route = flow(ntp_answers("2001:db8:1::10"), vec![action]);
        let message = encode_announce(&parameters, &[&route]).unwrap().message;
        assert!(hex(&message).ends_with(expected), "{action}: {}", hex(&message));
        assert_eq!(decode_update(&message).unwrap().actions, [action]);
    }
}

#[test]
fn withdrawals_and_end_of_rib_have_these_octets() {
    let cases = [
        (unicast("203.0.113.7"), "001c020005 20cb007107 0000"),
        (
            unicast("2001:db8:1::7"),
            "002e02 0000 0017 800f14 0002 01 80 20010db8000100000000000000000007",
        ),
        (
            ntp_answers("198.51.100.10"),
            "002a02 0000 0013 800f10 0001 85 0c 0120c633640a 038111 06817b",
        ),
        (
            ntp_answers("2001:db8:1::10"),
            "003702 0000 0020 800f1d 0002 85 19 01800020010db8000100000000000000000010 038111 06817b",
        ),
    ];
    for (nlri, expected) in cases {
        let packed = encode_withdraw(&[&nlri]).unwrap();
        assert_eq!(body(&packed.message), expected.replace(' ', ""), "{nlri}");
        let decoded = decode_update(&packed.message).unwrap();
        assert_eq!(decoded.withdrawn, [nlri]);
        assert_eq!(decoded.end_of_rib, None);
    }
    for (family, expected) in [
        (Family::Ipv4Unicast, "00170200000000"),
        (Family::Ipv6Unicast, "001d0200000006800f03000201"),
        (Family::Ipv4FlowSpec, "001d0200000006800f03000185"),
        (Family::Ipv6FlowSpec, "001d0200000006800f03000285"),
    ] {
        let message = encode_end_of_rib(family);
        assert_eq!(body(&message), expected);
        assert_eq!(decode_update(&message).unwrap().end_of_rib, Some(family));
    }
}

#[test]
fn what_receivers_choke_on_is_refused() {
    use FlowSpecComponent as Component;
    let v4 = AddressFamily::Ipv4;
    let v6 = AddressFamily::Ipv6;
    let to = |text: &str| Component::DestinationPrefix(text.parse().unwrap());
    let discard = vec![TrafficFilteringAction::DISCARD];
    let with = |family, component| {
        let destination = if family == v4 { to("198.51.100.10") } else { to("2001:db8:1::10") };
        flow(rule(family, vec![destination, component]), discard.clone())
    };
    let mut no_next_hop = blackhole("203.0.113.7", "192.0.2.1");
    no_next_hop.next_hop = None;
    let mut flow_next_hop = flow(ntp_answers("198.51.100.10"), discard.clone());
    flow_next_hop.next_hop = Some("192.0.2.1".parse().unwrap());
    let mut blackhole_with_action = blackhole("203.0.113.7", "192.0.2.1");
    blackhole_with_action.actions = discard.clone();
    let cases = [
        ("no next hop", no_next_hop),
        ("next hop of the other family", blackhole("203.0.113.7", "100::1")),
        ("IPv6 with an IPv4 next hop", blackhole("2001:db8:1::7", "192.0.2.1")),
        ("FlowSpec with a next hop", flow_next_hop),
        ("unicast with an action", blackhole_with_action),
        ("protocol 256", with(v4, Component::IpProtocol(NumericMatch::equal(256)))),
        ("port 65536", with(v4, Component::Port(NumericMatch::equal(65_536)))),
        ("ICMP type 300", with(v4, Component::IcmpType(NumericMatch::equal(300)))),
        ("packet length 99971", with(v4, Component::PacketLength(NumericMatch::equal(99_971)))),
        ("DSCP 64", with(v4, Component::Dscp(NumericMatch::equal(64)))),
        ("flow label of 21 bits", with(v6, Component::FlowLabel(NumericMatch::equal(1 << 20)))),
        ("TCP data offset", with(v4, Component::TcpFlags(BitmaskMatch::all_of(0x1000)))),
        ("fragment bit 4", with(v4, Component::Fragment(BitmaskMatch::all_of(0x10)))),
        ("IPv6 with DF", with(v6, Component::Fragment(BitmaskMatch::all_of(0x01)))),
        ("240 octets", with(v4, Component::SourcePort(NumericMatch::one_of(1000, 1001..=1077)))),
        (
            "negative rate",
            flow(ntp_answers("198.51.100.10"), vec![TrafficFilteringAction::RateLimitBytes(-1.0)]),
        ),
        (
            "infinite rate",
            flow(
                ntp_answers("198.51.100.10"),
                vec![TrafficFilteringAction::RateLimitPackets(f32::INFINITY)],
            ),
        ),
    ];
    let parameters = parameters(65010, 65010, true);
    for (name, route) in cases {
        assert!(encode_announce(&parameters, &[&route]).is_err(), "{name}");
    }
    assert_eq!(encode_announce(&parameters, &[]), Err(EncodeError::Nothing));
    assert_eq!(encode_withdraw(&[]), Err(EncodeError::Nothing));
    let (one, other) = (unicast("203.0.113.7"), ntp_answers("203.0.113.7"));
    assert!(matches!(encode_withdraw(&[&one, &other]), Err(EncodeError::Mixed { .. })));
    let routes = [blackhole("203.0.113.7", "192.0.2.1"), blackhole("203.0.113.8", "192.0.2.2")];
    let mixed = encode_announce(&parameters, &routes.each_ref());
    assert!(matches!(mixed, Err(EncodeError::Mixed { .. })));
}

/// A message with attributes for more than 4096 octets cannot be made, and that is an error.
#[test]
fn too_many_communities_are_an_error() {
    let mut route = blackhole("203.0.113.7", "192.0.2.1");
    route.communities.extend((0..1100).map(Community));
    let error = encode_announce(&parameters(65010, 65010, true), &[&route]).unwrap_err();
    assert!(matches!(error, EncodeError::Codec(_)), "{error}");
}

#[test]
fn messages_are_filled_to_the_brim() {
    let routes: Vec<Route> = (0..=4095_u32)
        .map(|index| {
            let address = std::net::Ipv4Addr::from(0xcb00_0000 | index);
            blackhole(&address.to_string(), "192.0.2.1")
        })
        .collect();
    let all: Vec<&Route> = routes.iter().collect();
    let packed = encode_announce(&parameters(65010, 65010, true), &all).unwrap();
    // 55 octets without NLRI, 5 for each NLRI.
    assert_eq!(packed.taken, (4096 - 55 - 1) / 5);
    assert!((4091..=4096).contains(&packed.message.len()), "{}", packed.message.len());
    let decoded = decode_update(&packed.message).unwrap();
    let expected: Vec<Nlri> =
        routes.iter().take(packed.taken).map(|route| route.nlri.clone()).collect();
    assert_eq!(decoded.announced, expected);
}

#[test]
fn hostile_messages_are_refused() {
    let good = encode_end_of_rib(Family::Ipv4Unicast);
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("a KEEPALIVE", [[0xff; 16].as_slice(), &[0, 19, 4]].concat()),
        ("octets behind", [good.as_slice(), &[0]].concat()),
        ("withdrawn length beyond the end", good.iter().copied().chain([0]).collect()),
    ];
    let mut marker = good.clone();
    marker[3] = 0;
    cases.push(("marker", marker));
    let mut withdrawn = good.clone();
    withdrawn[20] = 200;
    cases.push(("withdrawn routes beyond the message", withdrawn));
    for (name, message) in cases {
        assert!(decode_update(&message).is_err(), "{name}");
    }
}

#[test]
fn updates_read_well() {
    let internal = parameters(65010, 65010, true);
    let external = parameters(65010, 65001, true);
    let show = |parameters, route: &Route| {
        let message = encode_announce(parameters, &[route]).unwrap().message;
        decode_update(&message).unwrap().to_string()
    };
    assert_eq!(
        show(&internal, &blackhole("203.0.113.7", "192.0.2.1")),
        "announce 203.0.113.7/32; next hop 192.0.2.1; AS path empty; local preference 100; \
         communities 65535:666, 65535:65281"
    );
    assert_eq!(
        show(&external, &flow(ntp_answers("203.0.113.7"), vec![TrafficFilteringAction::DISCARD])),
        "announce flow4 { destination 203.0.113.7/32; protocol =17; source-port =123 }; \
         AS path 65010; actions discard"
    );
    let (one, other) = (unicast("203.0.113.7"), unicast("203.0.113.8"));
    let message = encode_withdraw(&[&one, &other]).unwrap().message;
    assert_eq!(
        decode_update(&message).unwrap().to_string(),
        "withdraw 203.0.113.7/32, 203.0.113.8/32"
    );
    let message = encode_end_of_rib(Family::Ipv6FlowSpec);
    assert_eq!(decode_update(&message).unwrap().to_string(), "end of RIB ipv6-flowspec");
}
