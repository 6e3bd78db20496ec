use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch,
    NumericOperator, NumericTest, Route, TrafficFilteringAction,
};

use super::parse::{self, line};
use super::{ExabgpAccess, ExabgpConfig, Mark, number, ports, render};

const NEIGHBOR: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 2));

fn rule(components: Vec<FlowSpecComponent>) -> Nlri {
    let destination = FlowSpecComponent::DestinationPrefix("192.0.2.4".parse().unwrap());
    let components = [vec![destination], components].concat();
    Nlri::FlowSpec(FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap())
}

fn route(nlri: Nlri) -> Route {
    Route {
        nlri,
        next_hop: None,
        communities: ["65535:666".parse().unwrap()].into(),
        large_communities: ["65010:666:1".parse().unwrap()].into(),
        actions: vec![],
    }
}

fn nlri_of(shown: &parse::Shown) -> Option<Nlri> {
    let ports = ports("domain 53/udp # names\nntp 123/udp\nhttp 80/tcp\n\nbad\nworse x/tcp\n");
    shown.nlri(|component, name| number(&ports, component, name))
}

#[test]
fn routes_are_commands() {
    let blackhole = Route {
        next_hop: Some("fd99::1".parse().unwrap()),
        ..route(Nlri::Unicast("2001:db8::1".parse().unwrap()))
    };
    let limit = Route {
        actions: vec![TrafficFilteringAction::Mark(46)],
        ..route(rule(vec![
            FlowSpecComponent::IpProtocol(NumericMatch::equal(6)),
            FlowSpecComponent::DestinationPort(
                NumericMatch::new(vec![
                    NumericMatch::equal(53).groups()[0].clone(),
                    NumericMatch::range(1000, 2000).groups()[0].clone(),
                ])
                .unwrap(),
            ),
            FlowSpecComponent::TcpFlags(BitmaskMatch::set_and_clear(2, 0x10)),
        ]))
    };
    for (route, announce, withdraw) in [
        (
            &blackhole,
            "neighbor 10.99.0.2 announce route 2001:db8::1/128 next-hop fd99::1 community [ 65535:666 ] large-community [ 65010:666:1 ]",
            "neighbor 10.99.0.2 withdraw route 2001:db8::1/128",
        ),
        (
            &limit,
            "neighbor 10.99.0.2 announce flow route { match { destination 192.0.2.4/32; protocol [ =6 ]; destination-port [ =53 >=1000&<=2000 ]; tcp-flags [ =2&!16 ]; } then { community [ 65535:666 ]; large-community [ 65010:666:1 ]; extended-community [ 0x800900000000002e ]; } }",
            "neighbor 10.99.0.2 withdraw flow route { match { destination 192.0.2.4/32; protocol [ =6 ]; destination-port [ =53 >=1000&<=2000 ]; tcp-flags [ =2&!16 ]; } }",
        ),
    ] {
        assert_eq!(render::announce(NEIGHBOR, route).as_deref(), Ok(announce));
        assert_eq!(render::withdraw(NEIGHBOR, &route.nlri).as_deref(), Ok(withdraw));
    }
    assert!(render::announce(NEIGHBOR, &Route { next_hop: None, ..blackhole }).is_err());
}

#[test]
fn listings_of_both_versions_are_read() {
    let head = "neighbor 10.99.0.2 local-ip 10.99.0.1 local-as 65010 peer-as 65001 router-id 10.99.0.1 family-allowed in-open";
    for (text, meaning, withdraw) in [
        (
            "ipv4 unicast 192.0.2.1/32 next-hop 10.99.0.1 community [ blackhole no-export ] large-community 65010:666:1",
            "192.0.2.1/32",
            "withdraw route 192.0.2.1/32",
        ),
        (
            "ipv4 flow flow destination-ipv4 192.0.2.4/32 source-ipv4 198.51.100.0/24 protocol =udp destination-port [ =53 >=1000&<=2000 ] extended-community rate-limit:0 large-community 65010:666:1",
            "flow4 { destination 192.0.2.4/32; source 198.51.100.0/24; protocol =17; destination-port =53 >=1000&<=2000 }",
            "withdraw flow route { match { destination 192.0.2.4/32; source 198.51.100.0/24; protocol [ =udp ]; destination-port [ =53 >=1000&<=2000 ]; } }",
        ),
        (
            "ipv4 flow flow destination-ipv4 192.0.2.4/32 protocol [ =icmp =unknown protocol type 58 ] icmp-type [ =echo-request =unknown icmp type type 200 ] large-community [ 65010:666:1 1:2:3 ]",
            "flow4 { destination 192.0.2.4/32; protocol =1 =58; icmp-type =8 =200 }",
            "withdraw flow route { match { destination 192.0.2.4/32; protocol [ =icmp =58 ]; icmp-type [ =echo-request =200 ]; } }",
        ),
        (
            "ipv4 flow flow destination-ipv4 192.0.2.4/32 port [ =http =domain ] tcp-flags [ =syn+ack&!fin !ack ] fragment [ is-fragment !dont-fragment ] large-community 65010:666:1",
            "flow4 { destination 192.0.2.4/32; port =80 =53; tcp-flags syn+ack&!fin !ack; fragment is !df }",
            "withdraw flow route { match { destination 192.0.2.4/32; port [ =http =domain ]; tcp-flags [ =18&!1 !16 ]; fragment [ 2 !1 ]; } }",
        ),
        (
            "ipv6 flow flow destination-ipv6 2001:db8::5/128/0 next-header [ =udp =58 ] source-port =ntp traffic-class =46 flow-label =100 extended-community [ mark 46 ] large-community 65010:666:1",
            "flow6 { destination 2001:db8::5/128; protocol =17 =58; source-port =123; dscp =46; flow-label =100 }",
            "withdraw flow route { match { destination 2001:db8::5/128; next-header [ =udp =58 ]; source-port [ =ntp ]; traffic-class [ =46 ]; flow-label [ =100 ]; } }",
        ),
    ] {
        let shown = line(&format!("{head} {text}")).unwrap();
        let read = nlri_of(&shown).unwrap();
        assert_eq!(read.to_string(), meaning);
        assert!(shown.fits(&read), "{text}");
        assert_eq!(shown.withdraw(), format!("neighbor 10.99.0.2 {withdraw}"));
        assert!(shown.large_communities.contains(&"65010:666:1".parse().unwrap()), "{text}");
    }
    let unknown =
        format!("{head} ipv4 flow flow destination-ipv4 192.0.2.4/32 destination-port =cadlock2");
    let shown = line(&unknown).unwrap();
    assert_eq!(nlri_of(&shown), None);
    let port = |value| rule(vec![FlowSpecComponent::DestinationPort(NumericMatch::equal(value))]);
    let source = rule(vec![FlowSpecComponent::SourcePort(NumericMatch::equal(1000))]);
    assert!(shown.fits(&port(1000)) && !shown.fits(&source) && !shown.fits(&rule(vec![])));
}

#[test]
fn attributes_are_read() {
    let text = "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.4/32 community [ 65001:1 blackhole ] extended-community [ rate-limit:12500 action sample-terminal ] large-community 1:2:3";
    let shown = line(text).unwrap();
    assert_eq!(shown.rate, Some(12_500.0));
    assert_eq!(shown.communities.unwrap().len(), 2);
    let strange = "neighbor 10.99.0.2 ipv4 unicast 192.0.2.1/32 next-hop 10.99.0.1 community [ llgr-stale 1:2 ]";
    assert_eq!(line(strange).unwrap().communities, None);
}

#[test]
fn hostile_lines_are_not_routes() {
    for text in [
        "",
        "done",
        "error",
        "neighbor",
        "neighbor nobody ipv4 unicast 192.0.2.1/32",
        "neighbor 10.99.0.2 ipv4",
        "neighbor 10.99.0.2 ipv4 unicast",
        "neighbor 10.99.0.2 ipv4 unicast 192.0.2.1/33 next-hop 10.0.0.1",
        "neighbor 10.99.0.2 ipv4 flow flow",
        "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4",
        "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.1",
        "neighbor 10.99.0.2 ipv6 flow flow destination-ipv6 2001:db8::/48/16",
        "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.4/32 protocol =",
        "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.4/32 protocol [ ]",
        "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.4/32 tcp-flags syn+nonsense",
        "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.4/32 port =1;withdraw",
        "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.4/32 port ={}",
        "neighbor 10.99.0.2 ipv4 flow flow rd 1:1 destination-ipv4 192.0.2.4/32",
        "{ \"neighbor\": 1 }",
    ] {
        assert_eq!(line(text), None, "{text}");
    }
    let long = format!("neighbor 10.99.0.2 ipv4 flow flow port [ {} ]", "=1 ".repeat(50_000));
    assert_eq!(line(&long), None);
}

#[test]
fn the_operator_is_told_what_to_add() {
    let mark = Mark::of_as(65_010);
    let socket = "/run/tidegate/exabgp.sock".into();
    let access = ExabgpAccess::Sidecar { socket, mode: ExabgpAccess::default_mode() };
    let families = tidegate_bgpd::Family::ALL.into();
    let config = ExabgpConfig { access, neighbors: [NEIGHBOR].into(), mark, families };
    let snippet = config.snippet(std::time::Duration::from_secs(60));
    assert!(
        snippet.contains(
            "run tidegate exabgp-sidecar --socket /run/tidegate/exabgp.sock --mark 65010:1953064037:1 --lease 60s --neighbor 10.99.0.2;"
        ),
        "{snippet}"
    );
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<ExabgpConfig>(&text).unwrap(), config);
}

proptest! {
    /// A rule that ExaBGP shows with numbers is the rule that it was given.
    #[test]
    fn rules_survive_the_way_through_exabgps_language(
        numbers in prop::collection::vec(prop::collection::vec((0_usize..6, 0_u64..70_000), 1..4), 1..4),
        masks in prop::collection::vec(prop::collection::vec((any::<bool>(), any::<bool>(), 1_u16..16), 1..3), 1..3),
    ) {
        const OPERATORS: [NumericOperator; 6] = [
            NumericOperator::Equal,
            NumericOperator::Greater,
            NumericOperator::GreaterOrEqual,
            NumericOperator::Less,
            NumericOperator::LessOrEqual,
            NumericOperator::NotEqual,
        ];
        let test = |(at, value): (usize, u64)| NumericTest { operator: OPERATORS[at], value };
        let groups = numbers.into_iter().map(|group| group.into_iter().map(test).collect()).collect();
        let mask = |(all, negated, bits)| BitmaskTest { all, negated, bits };
        let masks = masks.into_iter().map(|group| group.into_iter().map(mask).collect()).collect();
        let nlri = rule(vec![
            FlowSpecComponent::PacketLength(NumericMatch::new(groups).unwrap()),
            FlowSpecComponent::Fragment(BitmaskMatch::new(masks).unwrap()),
        ]);
        let Nlri::FlowSpec(rule) = &nlri else { unreachable!() };
        let text = render::matches(rule).unwrap();
        let shown = text
            .replace("match { destination ", "destination-ipv4 ")
            .replace([';', '}'], "");
        let shown = line(&format!("neighbor 10.99.0.2 ipv4 flow flow {shown}")).unwrap();
        prop_assert!(shown.fits(&nlri));
        prop_assert_eq!(shown.nlri(|_, _| None), Some(nlri));
    }

    #[test]
    fn nothing_that_is_read_panics(text in ".{0,200}") {
        let _ = line(&text);
        let _ = line(&format!("neighbor 10.99.0.2 ipv4 flow flow {text}")).map(|shown| shown.withdraw());
        let _: BTreeMap<_, _> = ports(&text);
    }
}
