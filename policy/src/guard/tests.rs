use std::collections::BTreeSet;

use proptest::prelude::*;
use tidegate_model::{BitmaskTest, NumericTest};

use super::*;

fn space() -> OwnedSpace {
    let prefix = |text: &str| text.parse().unwrap();
    OwnedSpace {
        owned: vec![prefix("203.0.113.0/24"), prefix("198.51.0.0/16"), prefix("2001:db8::/32")],
        never_touch: vec![prefix("203.0.113.53"), prefix("2001:db8:53::/64")],
    }
}

fn sessions() -> Vec<IpAddr> {
    ["203.0.113.254", "10.99.0.2"].map(|text| text.parse().unwrap()).to_vec()
}

fn blackhole(destination: &str, next_hop: Option<&str>) -> Route {
    Route {
        nlri: Nlri::Unicast(destination.parse().unwrap()),
        next_hop: next_hop.map(|text| text.parse().unwrap()),
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        actions: Vec::new(),
    }
}

fn filter(components: Vec<FlowSpecComponent>) -> Route {
    let family = components
        .iter()
        .find_map(|component| match component {
            FlowSpecComponent::DestinationPrefix(prefix) => Some(prefix.family()),
            _ => None,
        })
        .unwrap_or(AddressFamily::Ipv4);
    Route {
        nlri: Nlri::FlowSpec(FlowSpecRule::new(family, components).unwrap()),
        next_hop: None,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        actions: vec![TrafficFilteringAction::DISCARD],
    }
}

fn to(destination: &str) -> FlowSpecComponent {
    FlowSpecComponent::DestinationPrefix(destination.parse().unwrap())
}

fn protocol(number: u64) -> FlowSpecComponent {
    FlowSpecComponent::IpProtocol(NumericMatch::equal(number))
}

fn source_ports(ports: impl IntoIterator<Item = u64>) -> FlowSpecComponent {
    FlowSpecComponent::SourcePort(NumericMatch::one_of(0, ports))
}

fn numeric(tests: &[(NumericOperator, u64)]) -> NumericMatch {
    let tests =
        tests.iter().map(|(operator, value)| NumericTest { operator: *operator, value: *value });
    NumericMatch::new(vec![tests.collect()]).unwrap()
}

fn verdict(route: &Route) -> Result<(), Refusal> {
    judge(&space(), &sessions(), route)
}

#[test]
fn routes_that_may_exist() {
    use FlowSpecComponent as C;
    for route in [
        blackhole("203.0.113.7", Some("192.0.2.1")),
        blackhole("2001:db8::7", Some("100::1")),
        filter(vec![to("203.0.113.7"), protocol(17), C::SourcePort(NumericMatch::equal(123))]),
        filter(vec![to("198.51.7.0/24"), protocol(17)]),
        filter(vec![to("2001:db8:7::/48"), protocol(58)]),
        filter(vec![
            to("203.0.113.7"),
            protocol(6),
            C::TcpFlags(BitmaskMatch::set_and_clear(0x02, 0x10)),
            C::DestinationPort(NumericMatch::one_of(80, [443, 8080, 8443, 22])),
            C::PacketLength(NumericMatch::range(40, 60)),
        ]),
        filter(vec![to("203.0.113.7"), protocol(17), C::Fragment(BitmaskMatch::all_of(2))]),
        filter(vec![to("203.0.113.7"), protocol(1), C::IcmpType(NumericMatch::equal(8))]),
        filter(vec![to("203.0.113.7"), C::SourcePrefix("192.0.2.0/24".parse().unwrap())]),
        filter(vec![to("203.0.113.7"), C::Dscp(NumericMatch::equal(46))]),
        filter(vec![to("203.0.113.7"), protocol(47)]),
    ] {
        assert_eq!(verdict(&route), Ok(()), "{}", route.nlri);
    }
}

#[test]
fn blackholes_that_may_not() {
    let next_hop = Some("192.0.2.1");
    for (route, part) in [
        (blackhole("203.0.113.0/31", next_hop), "too wide"),
        (blackhole("0.0.0.0/0", next_hop), "too wide"),
        (blackhole("192.0.2.7", next_hop), "no owned prefix"),
        (blackhole("2001:db9::1", Some("100::1")), "no owned prefix"),
        (blackhole("203.0.113.53", next_hop), "no mitigation may touch"),
        (blackhole("2001:db8:53::1", Some("100::1")), "no mitigation may touch"),
        (blackhole("203.0.113.254", next_hop), "BGP session"),
        (blackhole("203.0.113.7", None), "no ipv4 next hop"),
        (blackhole("203.0.113.7", Some("100::1")), "cannot be the next hop"),
        (blackhole("203.0.113.7", Some("127.0.0.1")), "cannot be the next hop"),
        (blackhole("203.0.113.7", Some("0.0.0.0")), "cannot be the next hop"),
        (blackhole("203.0.113.7", Some("224.0.0.1")), "cannot be the next hop"),
        (blackhole("203.0.113.7", Some("203.0.113.7")), "cannot be the next hop"),
        (blackhole("2001:db8::7", Some("::ffff:192.0.2.1")), "cannot be the next hop"),
    ] {
        let refusal = verdict(&route).unwrap_err().to_string();
        assert!(refusal.contains(part), "{}: {refusal}", route.nlri);
    }
    let mut with_action = blackhole("203.0.113.7", next_hop);
    with_action.actions.push(TrafficFilteringAction::DISCARD);
    assert!(matches!(verdict(&with_action), Err(Refusal::Misplaced { .. })));
}

#[test]
fn filters_for_others_or_for_everything() {
    use FlowSpecComponent as C;
    use NumericOperator as Op;
    let host = || to("203.0.113.7");
    for (components, part) in [
        (vec![protocol(17)], "names no destination"),
        (vec![to("198.51.0.0/23"), protocol(17)], "too wide"),
        (vec![to("2001:db8::/47"), protocol(17)], "too wide"),
        (vec![to("0.0.0.0/0"), protocol(17)], "too wide"),
        (vec![to("192.0.2.0/24"), protocol(17)], "no owned prefix"),
        // The whole /24 is owned, and the protected resolver is inside.
        (vec![to("203.0.113.0/24"), protocol(17)], "no mitigation may touch"),
        (vec![host(), C::SourcePrefix("203.0.113.53".parse().unwrap())], "may touch"),
        (vec![host(), C::SourcePrefix("10.99.0.0/16".parse().unwrap())], "BGP session"),
        (vec![host()], "blackhole in disguise"),
        (vec![host(), C::SourcePrefix("0.0.0.0/0".parse().unwrap())], "in disguise"),
        (vec![host(), C::IpProtocol(numeric(&[(Op::GreaterOrEqual, 0)]))], "in disguise"),
        (vec![host(), C::IpProtocol(numeric(&[(Op::LessOrEqual, 50)]))], "in disguise"),
        (vec![host(), C::PacketLength(NumericMatch::range(20, 65_535))], "in disguise"),
        (vec![host(), C::Dscp(numeric(&[(Op::LessOrEqual, 63)]))], "in disguise"),
        (vec![host(), protocol(6), C::TcpFlags(BitmaskMatch::all_of(0))], "cannot stand"),
        (vec![host(), C::IpProtocol(numeric(&[(Op::NotEqual, 6)]))], "matches nearly everything"),
        (vec![host(), C::IpProtocol(numeric(&[(Op::True, 0)]))], "matches nearly everything"),
        (vec![host(), C::IpProtocol(numeric(&[(Op::False, 0)]))], "matches nearly everything"),
    ] {
        let route = filter(components);
        let refusal = verdict(&route).unwrap_err().to_string();
        assert!(refusal.contains(part), "{}: {refusal}", route.nlri);
    }
}

#[test]
fn filters_that_no_packet_can_match() {
    use FlowSpecComponent as C;
    use NumericOperator as Op;
    let with = |protocols: u64, component| vec![to("203.0.113.7"), protocol(protocols), component];
    let later_fragments = || C::Fragment(BitmaskMatch::all_of(2));
    let not = |bits| BitmaskTest { all: true, negated: true, bits };
    let is = |bits| BitmaskTest { all: true, negated: false, bits };
    for (components, part) in [
        // Cloudflare, 2013: packets of 99,971 bytes.
        (with(17, C::PacketLength(NumericMatch::range(99_971, 99_985))), "cannot stand in"),
        (with(17, C::PacketLength(NumericMatch::equal(19))), "cannot stand in"),
        (with(17, C::PacketLength(numeric(&[(Op::Greater, 65_535)]))), "no packet can match"),
        (with(17, C::PacketLength(NumericMatch::range(600, 500))), "no packet can match"),
        (with(17, C::SourcePort(NumericMatch::equal(65_536))), "cannot stand in"),
        (with(256, C::SourcePort(NumericMatch::equal(53))), "cannot stand in"),
        (with(1, C::SourcePort(NumericMatch::equal(53))), "exists only in TCP, UDP and SCTP"),
        (vec![to("203.0.113.7"), source_ports([])], "exists only in TCP, UDP and SCTP"),
        (vec![to("203.0.113.7"), C::Port(NumericMatch::equal(53))], "exists only in TCP"),
        (with(17, C::TcpFlags(BitmaskMatch::all_of(2))), "exists only in TCP"),
        (with(17, C::IcmpType(NumericMatch::equal(8))), "exists only in ICMP"),
        (with(6, C::IcmpCode(NumericMatch::equal(0))), "exists only in ICMP"),
        (with(58, later_fragments()), "protocol 58 cannot be matched in ipv4"),
        (vec![to("2001:db8::7"), protocol(1)], "protocol 1 cannot be matched in ipv6"),
        (vec![to("2001:db8::7"), protocol(44)], "protocol 44 cannot be matched in ipv6"),
        (with(17, C::Dscp(NumericMatch::equal(64))), "cannot stand in"),
        (with(6, C::TcpFlags(BitmaskMatch::all_of(0x1000))), "cannot stand in"),
        (with(6, C::TcpFlags(BitmaskMatch::set_and_clear(2, 2))), "no packet can match"),
        (with(17, C::Fragment(BitmaskMatch::all_of(16))), "cannot stand in"),
        (with(17, C::Fragment(BitmaskMatch::all_of(6))), "no packet can match"),
        (with(17, C::Fragment(BitmaskMatch::new(vec![vec![is(8), not(2)]]).unwrap())), "no packet"),
        (
            vec![to("2001:db8::7"), protocol(17), C::Fragment(BitmaskMatch::all_of(1))],
            "cannot stand in",
        ),
        (
            vec![to("203.0.113.7"), protocol(17), source_ports([]), later_fragments()],
            "no packet can match `source-port`",
        ),
    ] {
        let route = filter(components);
        let refusal = verdict(&route).unwrap_err().to_string();
        assert!(refusal.contains(part), "{}: {refusal}", route.nlri);
    }
}

#[test]
fn filters_that_are_too_long() {
    let with_ports =
        |count: u64| filter(vec![to("203.0.113.7"), protocol(17), source_ports(1..count)]);
    assert_eq!(verdict(&with_ports(20)), Ok(()));
    let too_many = Refusal::TooManyValues { component: "source-port", count: 21 };
    assert_eq!(verdict(&with_ports(21)), Err(too_many));
    // 6 octets of destination, 3 of protocol, 1 of type code, 2 or 3 a port.
    let long = filter(vec![
        to("203.0.113.7"),
        protocol(17),
        FlowSpecComponent::SourcePort(NumericMatch::one_of(1000, 1001..1077)),
    ]);
    assert_eq!(verdict(&long), Err(Refusal::TooLong { octets: 241 }));
}

#[test]
fn actions_are_valid_and_agree() {
    let with = |actions: &[TrafficFilteringAction]| {
        let mut route = filter(vec![to("203.0.113.7"), protocol(17)]);
        route.actions = actions.to_vec();
        verdict(&route)
    };
    use TrafficFilteringAction as Action;
    let limit = Action::RateLimitBytes(125_000.0);
    assert_eq!(with(&[limit, Action::Mark(46)]), Ok(()));
    assert_eq!(with(&[]), Err(Refusal::NoAction));
    assert!(matches!(with(&[Action::RateLimitBytes(f32::NAN)]), Err(Refusal::Action(_))));
    assert!(matches!(with(&[Action::RateLimitPackets(-1.0)]), Err(Refusal::Action(_))));
    assert!(matches!(with(&[Action::Mark(64)]), Err(Refusal::Action(_))));
    assert_eq!(
        with(&[limit, Action::DISCARD]),
        Err(Refusal::Interference { action: Action::DISCARD })
    );
    let mut route = filter(vec![to("203.0.113.7"), protocol(17)]);
    route.next_hop = Some("192.0.2.1".parse().unwrap());
    assert!(matches!(verdict(&route), Err(Refusal::Misplaced { .. })));
}

#[test]
fn an_ipv6_rule_counts_its_offset_octet() {
    let route = filter(vec![to("2001:db8::7"), protocol(17)]);
    let Nlri::FlowSpec(rule) = &route.nlri else { panic!("a rule") };
    assert_eq!(encoded_octets(rule), 3 + 16 + 3);
}

#[test]
fn without_owned_space_nothing_may_exist() {
    let nothing = OwnedSpace::default();
    let route = blackhole("203.0.113.7", Some("192.0.2.1"));
    assert!(matches!(judge(&nothing, &[], &route), Err(Refusal::NotOwned { .. })));
}

fn any_numeric() -> impl Strategy<Value = NumericMatch> {
    let operator = prop::sample::select(vec![
        NumericOperator::Equal,
        NumericOperator::Greater,
        NumericOperator::GreaterOrEqual,
        NumericOperator::Less,
        NumericOperator::LessOrEqual,
    ]);
    let test = (operator, 0_u64..=63).prop_map(|(operator, value)| NumericTest { operator, value });
    let group = prop::collection::vec(test, 1..3);
    prop::collection::vec(group, 1..3).prop_map(|groups| NumericMatch::new(groups).unwrap())
}

proptest! {
    /// A few points stand for the whole range: what trying every value says is what is said.
    #[test]
    fn points_stand_for_every_value(values in any_numeric()) {
        let route = filter(vec![to("203.0.113.7"), FlowSpecComponent::Dscp(values.clone())]);
        let hits = (0..=63).filter(|value| values.matches(*value)).count();
        match verdict(&route) {
            Ok(()) => prop_assert!((1..64).contains(&hits)),
            Err(Refusal::Impossible { .. }) => prop_assert_eq!(hits, 0),
            Err(Refusal::NoDiscriminator { .. }) => prop_assert_eq!(hits, 64),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
