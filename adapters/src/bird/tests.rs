use proptest::prelude::*;
use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch,
    NumericOperator, NumericTest, Route, TrafficFilteringAction,
};

use super::parse::{self, net, routes};
use super::render;

fn rule(family: AddressFamily, components: Vec<FlowSpecComponent>) -> Nlri {
    Nlri::FlowSpec(FlowSpecRule::new(family, components).unwrap())
}

fn destination(text: &str) -> FlowSpecComponent {
    FlowSpecComponent::DestinationPrefix(text.parse().unwrap())
}

fn route(nlri: Nlri) -> Route {
    Route {
        nlri,
        next_hop: None,
        communities: [].into(),
        large_communities: [].into(),
        actions: vec![],
    }
}

#[test]
fn routes_are_statements() {
    let blackhole = Route {
        next_hop: Some([192, 0, 2, 254].into()),
        communities: ["65535:666".parse().unwrap(), "no-export".parse().unwrap()].into(),
        large_communities: ["65001:666:1".parse().unwrap()].into(),
        ..route(Nlri::Unicast("192.0.2.1".parse().unwrap()))
    };
    let ntp = rule(
        AddressFamily::Ipv4,
        vec![
            destination("192.0.2.4"),
            FlowSpecComponent::IpProtocol(NumericMatch::equal(17)),
            FlowSpecComponent::SourcePort(NumericMatch::one_of(53, [123])),
            FlowSpecComponent::TcpFlags(BitmaskMatch::set_and_clear(2, 0x10)),
        ],
    );
    let limited =
        Route { actions: vec![TrafficFilteringAction::RateLimitBytes(12_500.0)], ..route(ntp) };
    for (route, text) in [
        (
            blackhole,
            "route 192.0.2.1/32 blackhole { bgp_community.add((65535,666)); bgp_community.add((65535,65281)); bgp_large_community.add((65001,666,1)); bgp_next_hop = 192.0.2.254; };",
        ),
        (
            limited,
            "route flow4 { dst 192.0.2.4/32; proto = 17; sport = 53 || = 123; tcp flags 0x2/0x2 && 0x0/0x10; } { bgp_ext_community.add((generic, 0x80060000, 0x46435000)); };",
        ),
        (route(Nlri::Unicast("2001:db8::1".parse().unwrap())), "route 2001:db8::1/128 blackhole;"),
    ] {
        assert_eq!(render::statement(&route).as_deref(), Ok(text));
        assert_eq!(super::statement_net(text).unwrap().0, render::net(&route.nlri).unwrap());
    }
}

#[test]
fn what_bird_cannot_say_is_refused() {
    let with = |component| rule(AddressFamily::Ipv4, vec![destination("192.0.2.4"), component]);
    let always = NumericTest { operator: NumericOperator::True, value: 0 };
    let any = BitmaskTest { all: false, negated: false, bits: 0x1ff };
    let never = BitmaskTest { bits: 0, ..any };
    for component in [
        FlowSpecComponent::Port(NumericMatch::new(vec![vec![always]]).unwrap()),
        FlowSpecComponent::TcpFlags(BitmaskMatch::new(vec![vec![never]]).unwrap()),
        FlowSpecComponent::TcpFlags(BitmaskMatch::new(vec![vec![any, any]]).unwrap()),
    ] {
        assert!(render::net(&with(component)).is_err());
    }
    let elsewhere = TrafficFilteringAction::RedirectToIp("2001:db8::1".parse().unwrap(), false);
    let redirect = Route {
        actions: vec![elsewhere],
        ..route(rule(AddressFamily::Ipv6, vec![destination("2001:db8::5")]))
    };
    assert!(render::statement(&redirect).is_err());
}

#[test]
fn listings_are_read() {
    let text = "Table master4:
192.0.2.1/32         blackhole [tidegate_rtbh4 17:37:31.025] * (200)
\tType: static univ
\tBGP.next_hop: 192.0.2.254 fe80::1
\tBGP.community: (65535,666) (65535,65281)
\tBGP.large_community: (65001, 666, 1)

Table flowtab4:
flow4 { dst 192.0.2.5/32; proto 1,47; sport > 1023 || <= 5 || != 1900; icmp type 8,0; icmp code 0,3; }  [tidegate_flow4 17:37:31.025] * (200)
\tType: static univ
flow4 { dst 192.0.2.5/32; proto 6; port 80,443; tcp flags 0x12/0x12 && 0x0/0x1 || 0x0/0x10; length 100..200 || != 150; dscp 46; fragment is_fragment && !first_fragment || !dont_fragment; }  [tidegate_flow4 17:37:31.025] * (200)
\tBGP.ext_community: (generic, 0x80060000, 0x46435000)
flow4 { dst 192.0.2.9/32; dport true 0; }  [tidegate_flow4 17:37:31.025] * (200)
\tBGP.community: (1,2)
flow6 { dst 2001:db8::5/128; src 2001:db8:1::/48; next header 17,58; dport 123; fragment is_fragment; label 100; }  [tidegate_flow6 17:37:31.025] * (200)
\tBGP.ext_community: (generic, 0x80090000, 0x2e)";
    let lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    let listing = routes(&lines);
    let seen: Vec<_> = listing.routes.iter().map(|seen| seen.nlri.to_string()).collect();
    assert_eq!(
        seen,
        [
            "192.0.2.1/32",
            "flow4 { destination 192.0.2.5/32; protocol =1 =47; source-port >1023 <=5 !=1900; icmp-type =8 =0; icmp-code =0 =3 }",
            "flow4 { destination 192.0.2.5/32; protocol =6; port =80 =443; tcp-flags syn+ack&!fin !ack; packet-length >=100&<=200 !=150; dscp =46; fragment is&!first !df }",
            "flow6 { destination 2001:db8::5/128; source 2001:db8:1::/48; protocol =17 =58; destination-port =123; fragment is; flow-label =100 }",
        ]
    );
    assert_eq!(listing.unreadable.len(), 1);
    let [blackhole, _, limit, mark] = listing.routes.as_slice() else { panic!("{listing:?}") };
    let blackhole = blackhole.route.as_ref().unwrap();
    assert_eq!(blackhole.next_hop, Some([192, 0, 2, 254].into()));
    assert_eq!(blackhole.communities.len(), 2);
    assert_eq!(blackhole.large_communities.len(), 1);
    let actions = |seen: &crate::external::Seen| seen.route.as_ref().unwrap().actions.clone();
    assert_eq!(actions(limit), [TrafficFilteringAction::RateLimitBytes(12_500.0)]);
    assert_eq!(actions(mark), [TrafficFilteringAction::Mark(46)]);
}

#[test]
fn hostile_listings_are_not_routes() {
    for text in [
        "flow4 { }",
        "flow4 { dst 192.0.2.1/32; dst 192.0.2.2/32; }",
        "flow4 { dst 2001:db8::1/128; }",
        "flow4 { dst 192.0.2.1/24; }",
        "flow4 { dport 1 &&; }",
        "flow4 { dport 99999999999999999999; }",
        "flow4 { dport 1..; }",
        "flow4 { tcp flags 0x2; }",
        "flow4 { tcp flags 0x0/0x0; }",
        "flow4 { tcp flags 0xfffff/0x1; }",
        "flow4 { fragment some_fragment; }",
        "flow4 dst 192.0.2.1/32;",
        "flow4 { dst 192.0.2.1/32;",
        "flow",
        "flow\u{20ac}",
        "192.0.2.1/33 blackhole",
        "\u{0}",
        "",
    ] {
        assert_eq!(net(text), None, "{text:?}");
    }
    assert_eq!(net(&format!("flow4 {{ dport {}1; }}", "1,".repeat(100_000))), None);
    let lines = ["\tBGP.community: (1,2)", "\t", " ", "\tBGP.ext_community: (generic, 0xzz)"];
    assert_eq!(routes(&lines.map(ToOwned::to_owned)), parse::Listing::default());
}

/// Any rule that the model can hold, with values within their fields.
fn rules() -> impl Strategy<Value = Nlri> {
    let numbers = || {
        let operators = [
            NumericOperator::Equal,
            NumericOperator::Greater,
            NumericOperator::GreaterOrEqual,
            NumericOperator::Less,
            NumericOperator::LessOrEqual,
            NumericOperator::NotEqual,
        ];
        let test = (prop::sample::select(operators.to_vec()), 0_u64..=255)
            .prop_map(|(operator, value)| NumericTest { operator, value });
        prop::collection::vec(prop::collection::vec(test, 1..4), 1..4)
            .prop_map(|groups| NumericMatch::new(groups).unwrap())
    };
    let masks = || {
        let test = (any::<bool>(), any::<bool>(), 1_u16..16)
            .prop_map(|(all, negated, bits)| BitmaskTest { all, negated, bits });
        prop::collection::vec(prop::collection::vec(test, 1..3), 1..3)
            .prop_map(|groups| BitmaskMatch::new(groups).unwrap())
    };
    let components = (
        prop::option::of(numbers().prop_map(FlowSpecComponent::IpProtocol)),
        prop::option::of(numbers().prop_map(FlowSpecComponent::DestinationPort)),
        prop::option::of(numbers().prop_map(FlowSpecComponent::IcmpType)),
        prop::option::of(numbers().prop_map(FlowSpecComponent::PacketLength)),
        prop::option::of(masks().prop_map(FlowSpecComponent::TcpFlags)),
        prop::option::of(masks().prop_map(FlowSpecComponent::Fragment)),
    );
    (any::<bool>(), components).prop_map(|(six, (one, two, three, four, five, seven))| {
        let (family, host) = if six {
            (AddressFamily::Ipv6, "2001:db8::5")
        } else {
            (AddressFamily::Ipv4, "192.0.2.4")
        };
        let all = [Some(destination(host)), one, two, three, four, five, seven];
        rule(family, all.into_iter().flatten().collect())
    })
}

/// What both rules say of these values of every field.
fn same_meaning(one: &Nlri, other: &Nlri, value: u64) -> bool {
    let verdicts = |nlri: &Nlri| match nlri {
        Nlri::FlowSpec(rule) => rule
            .components()
            .iter()
            .map(|component| match component {
                FlowSpecComponent::IpProtocol(numbers)
                | FlowSpecComponent::DestinationPort(numbers)
                | FlowSpecComponent::IcmpType(numbers)
                | FlowSpecComponent::PacketLength(numbers) => numbers.matches(value),
                FlowSpecComponent::TcpFlags(mask) | FlowSpecComponent::Fragment(mask) => {
                    mask.matches(u16::try_from(value).unwrap())
                }
                _ => true,
            })
            .collect(),
        Nlri::Unicast(_) => vec![],
    };
    verdicts(one) == verdicts(other)
}

proptest! {
    /// A rule that BIRD shows is the rule that it was given, and spelled again it is the same text.
    #[test]
    fn rules_survive_the_way_through_birds_language(nlri in rules(), value in 0_u64..300) {
        let Ok(text) = render::net(&nlri) else { return Ok(()) };
        let read = net(&text).unwrap();
        prop_assert!(same_meaning(&nlri, &read, value), "{} {}", nlri, read);
        prop_assert_eq!(render::net(&read).unwrap(), text);
    }

    #[test]
    fn nothing_that_is_read_panics(text in ".{0,200}") {
        let _ = net(&text);
        let _ = net(&format!("flow4 {{ {text}; }}"));
        let _ = routes(&[text]);
    }
}
