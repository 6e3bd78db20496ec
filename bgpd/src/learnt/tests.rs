use std::cmp::Ordering;

use proptest::prelude::*;
use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, FlowSpecComponent, NumericMatch, NumericOperator,
    NumericTest,
};

use super::*;
use crate::convert::encode_nlri;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn rule_of(components: Vec<FlowSpecComponent>) -> FlowSpecRule {
    FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap()
}

/// UDP to `destination`.
fn rule(destination: &str) -> FlowSpecRule {
    let destination = prefix(destination);
    let udp = FlowSpecComponent::IpProtocol(NumericMatch::equal(17));
    let components = vec![FlowSpecComponent::DestinationPrefix(destination), udp];
    FlowSpecRule::new(destination.family(), components).unwrap()
}

/// From the router with this identifier in another AS.
fn external(asn: u32, id: u8) -> Path {
    Path {
        originator: (asn, Ipv4Addr::new(192, 0, 2, id)),
        as_path_length: 1,
        neighbor_as: Some(asn),
        ..Path::default()
    }
}

/// Brought into our AS by this router, from a neighbour.
fn internal(neighbor: u32, id: u8) -> Path {
    Path {
        is_internal: true,
        originator: (65010, [192, 0, 2, id].into()),
        ..external(neighbor, id)
    }
}

/// From a router of ours itself.
fn local(id: u8) -> Path {
    Path { as_path_length: 0, neighbor_as: None, ..internal(0, id) }
}

fn new() -> LearntRoutes {
    LearntRoutes::new(Limits::default())
}

fn announce(learnt: &mut LearntRoutes, peer: &str, nlri: Nlri, path: &Path) {
    let update = Update { announced: vec![nlri], path: path.clone(), ..Update::default() };
    learnt.handle_news(peer, News::Update(Box::new(update)));
}

fn unicast(learnt: &mut LearntRoutes, peer: &str, text: &str, path: &Path) {
    announce(learnt, peer, Nlri::Unicast(prefix(text)), path);
}

fn flow(learnt: &mut LearntRoutes, peer: &str, text: &str, path: &Path) {
    announce(learnt, peer, Nlri::FlowSpec(rule(text)), path);
}

fn withdraw(learnt: &mut LearntRoutes, peer: &str, nlri: Nlri) {
    let update = Update { withdrawn: vec![nlri], ..Update::default() };
    learnt.handle_news(peer, News::Update(Box::new(update)));
}

/// `peer rule: verdict`, or `peer rule: gone`.
fn changes(learnt: &mut LearntRoutes) -> Vec<String> {
    learnt.judge(usize::MAX);
    let changes = std::iter::from_fn(|| learnt.poll_change());
    changes
        .map(|change| {
            let offer = change.offer.map_or("gone".to_owned(), |offer| offer.verdict.to_string());
            format!("{} {}: {offer}", change.peer, change.rule.destination().unwrap())
        })
        .collect()
}

/// A name, unicast routes of peers, a rule, and what becomes of it.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str, Path)], (&'a str, Path), &'a str);

/// RFC 8955 §6 and RFC 9117 §4, row by row: routes of peers `a` and `b`, then a rule of `a`.
#[test]
fn a_rule_is_its_senders_to_give_or_not() {
    let (a, b) = (external(65001, 1), external(65002, 2));
    let behind = |path: &Path| Path { as_path_length: 3, ..path.clone() };
    let to = "203.0.113.7/32";
    let rows: &[Row<'_>] = &[
        ("its own destination", &[("a", "203.0.113.0/24", a.clone())], (to, a.clone()), "feasible"),
        (
            "no route at all",
            &[],
            (to, a.clone()),
            "infeasible: no unicast route to the destination",
        ),
        (
            "another's destination",
            &[("b", "203.0.113.0/24", b.clone())],
            (to, a.clone()),
            "infeasible: the best route to 203.0.113.0/24 has another originator",
        ),
        (
            "the longest prefix counts",
            &[("a", "203.0.0.0/16", a.clone()), ("b", "203.0.113.0/24", b.clone())],
            (to, a.clone()),
            "infeasible: the best route to 203.0.113.0/24 has another originator",
        ),
        (
            "the best path of that prefix counts",
            &[("a", "203.0.113.0/24", a.clone()), ("b", "203.0.113.0/24", behind(&b))],
            (to, a.clone()),
            "feasible",
        ),
        (
            "and it is another's",
            &[("a", "203.0.113.0/24", behind(&a)), ("b", "203.0.113.0/24", b.clone())],
            (to, a.clone()),
            "infeasible: the best route to 203.0.113.0/24 has another originator",
        ),
        (
            "part of it is another neighbour's",
            &[("a", "203.0.113.0/24", a.clone()), ("b", "203.0.113.128/25", b.clone())],
            ("203.0.113.0/24", a.clone()),
            "infeasible: 203.0.113.128/25 is another neighbour's",
        ),
        (
            "the other part is of no account",
            &[("a", "203.0.113.0/24", a.clone()), ("b", "203.0.113.128/25", b.clone())],
            ("203.0.113.0/25", a.clone()),
            "feasible",
        ),
        (
            "a part by the same neighbour",
            &[("a", "203.0.113.0/24", a.clone()), ("b", "203.0.113.128/25", internal(65001, 9))],
            ("203.0.113.0/24", a.clone()),
            "feasible",
        ),
        (
            "an empty AS_PATH within our AS",
            &[("b", "203.0.113.0/24", b.clone())],
            (to, local(1)),
            "feasible",
        ),
        ("the same without any route", &[], (to, local(1)), "feasible"),
        (
            "within our AS, but from outside",
            &[("b", "203.0.113.0/24", b.clone())],
            (to, internal(65001, 1)),
            "infeasible: the best route to 203.0.113.0/24 has another originator",
        ),
        (
            "an empty AS_PATH from another AS",
            &[("b", "203.0.113.0/24", b.clone())],
            (to, Path { as_path_length: 0, neighbor_as: None, ..a.clone() }),
            "infeasible: the best route to 203.0.113.0/24 has another originator",
        ),
        (
            "a route server that passes on another's rule",
            &[("a", "203.0.113.0/24", a.clone())],
            (to, Path { neighbor_as: Some(65009), ..a.clone() }),
            "infeasible: the best route to 203.0.113.0/24 is another neighbour's",
        ),
        (
            "a leak counts for nothing",
            &[
                ("a", "203.0.113.0/24", a.clone()),
                ("b", "203.0.113.7/32", Path { leaks: true, ..b }),
            ],
            (to, a.clone()),
            "feasible",
        ),
        (
            "IPv6",
            &[("a", "2001:db8:1::/48", a.clone())],
            ("2001:db8:1::7/128", a.clone()),
            "feasible",
        ),
        (
            "the other family",
            &[("a", "0.0.0.0/0", a.clone())],
            ("2001:db8:1::7/128", a.clone()),
            "infeasible: no unicast route to the destination",
        ),
    ];
    for (name, routes, (destination, path), expected) in rows {
        let mut learnt = new();
        for (peer, text, path) in *routes {
            unicast(&mut learnt, peer, text, path);
        }
        flow(&mut learnt, "a", destination, path);
        assert_eq!(changes(&mut learnt), [format!("a {destination}: {expected}")], "{name}");
        // Whatever comes first, the verdict is the same.
        let mut learnt = new();
        flow(&mut learnt, "a", destination, path);
        for (peer, text, path) in *routes {
            unicast(&mut learnt, peer, text, path);
        }
        let last = changes(&mut learnt).pop().unwrap();
        assert_eq!(last, format!("a {destination}: {expected}"), "{name}, the rule first");
    }
}

#[test]
fn a_rule_without_a_destination_is_infeasible() {
    let mut learnt = new();
    let udp = rule_of(vec![FlowSpecComponent::IpProtocol(NumericMatch::equal(17))]);
    announce(&mut learnt, "a", Nlri::FlowSpec(udp), &local(1));
    let verdict = Verdict::Infeasible(Infeasible::NoDestination);
    learnt.judge(usize::MAX);
    assert_eq!(learnt.poll_change().unwrap().offer.unwrap().verdict, verdict);
}

#[test]
fn verdicts_follow_the_unicast_routes() {
    let mut learnt = new();
    let (a, b) = (external(65001, 1), external(65002, 2));
    flow(&mut learnt, "a", "203.0.113.7/32", &a);
    let no_route = "a 203.0.113.7/32: infeasible: no unicast route to the destination";
    assert_eq!(changes(&mut learnt), [no_route]);
    unicast(&mut learnt, "a", "203.0.113.0/24", &a);
    assert_eq!(changes(&mut learnt), ["a 203.0.113.7/32: feasible"]);
    unicast(&mut learnt, "b", "203.0.113.0/25", &b);
    assert!(changes(&mut learnt)[0].contains("another originator"));
    unicast(&mut learnt, "b", "198.51.100.0/24", &b);
    assert_eq!(changes(&mut learnt), [""; 0], "it has nothing to do with that");
    learnt.handle_news("b", News::Lost);
    assert_eq!(changes(&mut learnt), ["a 203.0.113.7/32: feasible"]);
    withdraw(&mut learnt, "a", Nlri::Unicast(prefix("203.0.113.0/24")));
    assert_eq!(changes(&mut learnt), [no_route]);
    // The same again is no news.
    flow(&mut learnt, "a", "203.0.113.7/32", &a);
    assert_eq!(changes(&mut learnt), [""; 0]);
    withdraw(&mut learnt, "a", Nlri::FlowSpec(rule("203.0.113.7/32")));
    assert_eq!(changes(&mut learnt), ["a 203.0.113.7/32: gone"]);
}

#[test]
fn a_rule_goes_with_its_session() {
    let mut learnt = new();
    flow(&mut learnt, "a", "203.0.113.7/32", &local(1));
    flow(&mut learnt, "b", "203.0.113.7/32", &local(2));
    changes(&mut learnt);
    learnt.handle_news("a", News::Lost);
    assert_eq!(changes(&mut learnt), ["a 203.0.113.7/32: gone"]);
    assert_eq!((learnt.of_peer("a").len(), learnt.of_peer("b").len()), (0, 1));
    // A message that cannot be read may be about anything.
    let unreadable = Update { is_unreadable: true, ..Update::default() };
    learnt.handle_news("b", News::Update(Box::new(unreadable)));
    assert_eq!(changes(&mut learnt), ["b 203.0.113.7/32: gone"]);
    // Nor is it known whose a destination is, until that peer has told everything again.
    unicast(&mut learnt, "a", "203.0.113.0/24", &external(65001, 1));
    flow(&mut learnt, "a", "203.0.113.7/32", &external(65001, 1));
    assert!(changes(&mut learnt)[0].contains("not every unicast route is kept"));
    learnt.handle_news("b", News::Lost);
    assert_eq!(changes(&mut learnt), ["a 203.0.113.7/32: feasible"]);
    learnt.handle_news("a", News::Lost);
    assert_eq!(changes(&mut learnt), ["a 203.0.113.7/32: gone"]);
    assert!(learnt.peers.is_empty() && learnt.unicast.is_empty());
    assert!(learnt.destinations.is_empty());
}

/// RFC 4724 §4.2: what is kept for a peer goes with End-of-RIB, or when nobody waits any more.
#[test]
fn what_is_kept_goes_when_the_peer_is_complete() {
    let rules = BTreeSet::from([Family::Ipv4FlowSpec]);
    let kept = |learnt: &LearntRoutes| -> Vec<(String, bool)> {
        learnt.of_peer("a").into_iter().map(|one| (one.nlri.to_string(), one.is_stale)).collect()
    };
    let start = || {
        let mut learnt = new();
        unicast(&mut learnt, "a", "203.0.113.0/24", &local(1));
        flow(&mut learnt, "a", "203.0.113.7/32", &local(1));
        flow(&mut learnt, "a", "203.0.113.8/32", &local(1));
        changes(&mut learnt);
        learnt.handle_news("a", News::Restarting([Family::Ipv4FlowSpec].into()));
        assert_eq!(changes(&mut learnt), [""; 0], "the rules are still there");
        assert_eq!(kept(&learnt).len(), 2, "the unicast route is not");
        assert!(kept(&learnt).iter().all(|(_, stale)| *stale));
        learnt
    };
    let mut learnt = start();
    learnt.handle_news("a", News::Back(rules.clone()));
    flow(&mut learnt, "a", "203.0.113.7/32", &local(1));
    assert_eq!(changes(&mut learnt), [""; 0]);
    let end = |family| {
        let end_of_rib = Some(family);
        News::Update(Box::new(Update { end_of_rib, ..Update::default() }))
    };
    learnt.handle_news("a", end(Family::Ipv4Unicast));
    assert_eq!(changes(&mut learnt), [""; 0], "of another family");
    learnt.handle_news("a", end(Family::Ipv4FlowSpec));
    assert_eq!(changes(&mut learnt), ["a 203.0.113.8/32: gone"]);

    let both = ["a 203.0.113.7/32: gone", "a 203.0.113.8/32: gone"];
    let mut learnt = start();
    learnt.handle_news("a", News::Back(BTreeSet::new()));
    assert_eq!(changes(&mut learnt), both, "it has not kept its own");
    let mut learnt = start();
    learnt.handle_news("a", News::WaitedEnough);
    assert_eq!(changes(&mut learnt), both);
    // It is away again before it was complete.
    let mut learnt = start();
    learnt.handle_news("a", News::Back(rules.clone()));
    flow(&mut learnt, "a", "203.0.113.7/32", &local(1));
    learnt.handle_news("a", News::Restarting(rules));
    assert_eq!(changes(&mut learnt), ["a 203.0.113.8/32: gone"]);
    assert_eq!(kept(&learnt).len(), 1);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut learnt = LearntRoutes::new(Limits { unicast: 2, flowspec: 2 });
    let a = external(65001, 1);
    unicast(&mut learnt, "a", "203.0.113.0/24", &a);
    for host in 1..=3 {
        flow(&mut learnt, "a", &format!("203.0.113.{host}/32"), &a);
    }
    assert_eq!(changes(&mut learnt).len(), 2);
    flow(&mut learnt, "a", "203.0.113.1/32", &Path { metric: 7, ..a.clone() });
    let tally = learnt.tally("a");
    assert_eq!((tally.unicast, tally.flowspec, tally.feasible, tally.beyond_limit), (1, 2, 2, 1));
    // Routes that are missing may be anybody's.
    unicast(&mut learnt, "b", "198.51.100.0/24", &a);
    unicast(&mut learnt, "b", "198.51.101.0/24", &a);
    assert_eq!(changes(&mut learnt), [""; 0]);
    unicast(&mut learnt, "b", "198.51.102.0/24", &a);
    let incomplete = "infeasible: not every unicast route is kept";
    assert!(changes(&mut learnt).iter().all(|change| change.contains(incomplete)));
    assert_eq!(learnt.tally("a").feasible, 0);
    learnt.handle_news("b", News::Lost);
    assert_eq!(changes(&mut learnt).len(), 2);
    assert_eq!((learnt.tally("a").feasible, learnt.tally("b")), (2, Tally::default()));
}

fn destination(text: &str) -> FlowSpecComponent {
    FlowSpecComponent::DestinationPrefix(prefix(text))
}

fn port(value: u64) -> FlowSpecComponent {
    FlowSpecComponent::DestinationPort(NumericMatch::equal(value))
}

/// RFC 8955 §5.1, its Appendix A.
#[test]
fn rules_have_an_order() {
    let udp = FlowSpecComponent::IpProtocol(NumericMatch::equal(17));
    let ports = |first, rest: &[u64]| {
        FlowSpecComponent::DestinationPort(NumericMatch::one_of(first, rest.iter().copied()))
    };
    let source = FlowSpecComponent::SourcePrefix(prefix("198.51.100.0/24"));
    for (name, first, second) in [
        (
            "the longer of two that overlap",
            vec![destination("203.0.113.7/32")],
            vec![destination("203.0.113.0/24")],
        ),
        (
            "the lower of two that do not",
            vec![destination("203.0.112.0/24")],
            vec![destination("203.0.113.0/25")],
        ),
        (
            "the one that says more",
            vec![destination("203.0.113.0/24"), udp.clone()],
            vec![destination("203.0.113.0/24")],
        ),
        ("the lower type", vec![source.clone(), port(53)], vec![udp.clone(), port(53)]),
        ("the lower value", vec![port(53)], vec![port(80)]),
        ("the fewer octets", vec![port(53)], vec![port(443)]),
        ("the longer list, if it begins so", vec![ports(53, &[80])], vec![ports(53, &[])]),
        ("a destination before everything", vec![destination("0.0.0.0/0")], vec![source, udp]),
    ] {
        let (first, second) = (rule_of(first), rule_of(second));
        assert_eq!(precedence(&first, &second), Ordering::Less, "{name}");
        assert_eq!(precedence(&second, &first), Ordering::Greater, "{name}, turned round");
        assert_eq!(precedence(&first, &first), Ordering::Equal, "{name}");
    }
}

fn number() -> impl Strategy<Value = NumericMatch> {
    let operator = prop_oneof![
        Just(NumericOperator::Equal),
        Just(NumericOperator::GreaterOrEqual),
        Just(NumericOperator::LessOrEqual),
        Just(NumericOperator::NotEqual),
    ];
    let value = prop_oneof![0_u64..4, 254_u64..259, Just(65_535)];
    let test = (operator, value).prop_map(|(operator, value)| NumericTest { operator, value });
    let group = proptest::collection::vec(test, 1..3);
    let groups = proptest::collection::vec(group, 1..3);
    groups.prop_map(|groups| NumericMatch::new(groups).unwrap())
}

fn flags() -> impl Strategy<Value = BitmaskMatch> {
    let test = (any::<bool>(), any::<bool>(), prop_oneof![0_u16..3, Just(0x100), Just(0x102)]);
    let test = test.prop_map(|(all, negated, bits)| BitmaskTest { all, negated, bits });
    let group = proptest::collection::vec(test, 1..3);
    let groups = proptest::collection::vec(group, 1..3);
    groups.prop_map(|groups| BitmaskMatch::new(groups).unwrap())
}

fn some_prefix() -> impl Strategy<Value = Prefix> {
    let octet = prop_oneof![Just(0_u8), Just(128), Just(203), Just(255)];
    let address = (octet.clone(), octet).prop_map(|(high, low)| [203, 0, high, low]);
    (address, prop_oneof![Just(0_u8), Just(8), 16_u8..=32])
        .prop_map(|(address, length)| Prefix::new(IpAddr::from(address), length).unwrap())
}

prop_compose! {
    fn any_rule()(
        destination in proptest::option::of(some_prefix()),
        source in proptest::option::of(some_prefix()),
        protocol in number(),
        port in proptest::option::of(number()),
        flags in proptest::option::of(flags()),
    ) -> FlowSpecRule {
        let components = [
            destination.map(FlowSpecComponent::DestinationPrefix),
            source.map(FlowSpecComponent::SourcePrefix),
            Some(FlowSpecComponent::IpProtocol(protocol)),
            port.map(FlowSpecComponent::Port),
            flags.map(FlowSpecComponent::TcpFlags),
        ];
        rule_of(components.into_iter().flatten().collect())
    }
}

proptest! {
    /// Two rules are always in one order, the same from either side, and three in a row.
    #[test]
    fn the_order_is_total(one in any_rule(), two in any_rule(), three in any_rule()) {
        prop_assert_eq!(precedence(&one, &two), precedence(&two, &one).reverse());
        prop_assert_eq!(precedence(&one, &two) == Ordering::Equal, one == two);
        let mut rules = [one, two, three];
        rules.sort_by(precedence);
        let [one, two, three] = rules;
        prop_assert_ne!(precedence(&one, &three), Ordering::Greater);
        prop_assert_ne!(precedence(&one, &two), Ordering::Greater);
        prop_assert_ne!(precedence(&two, &three), Ordering::Greater);
    }

    /// It compares what is sent.
    #[test]
    fn one_component_is_compared_as_it_is_sent(one in number(), two in number()) {
        let sent = |numbers: &NumericMatch| {
            let rule = rule_of(vec![FlowSpecComponent::Port(numbers.clone())]);
            // Length and type go before it.
            encode_nlri(&Nlri::FlowSpec(rule)).unwrap().split_off(2)
        };
        let (first, second) = (sent(&one), sent(&two));
        let common = first.len().min(second.len());
        let expected = first[..common]
            .cmp(&second[..common])
            .then(second.len().cmp(&first.len()));
        let rule = |numbers| rule_of(vec![FlowSpecComponent::Port(numbers)]);
        prop_assert_eq!(precedence(&rule(one), &rule(two)), expected);
    }
}

/// One peer's announcements make no work without end, and do not keep another's rules waiting.
#[test]
fn rules_are_judged_in_turn_and_only_for_a_reason() {
    let mut learnt = new();
    let (a, b) = (external(65001, 1), external(65002, 2));
    for host in 1..=100 {
        unicast(&mut learnt, "a", &format!("203.0.113.{host}/32"), &a);
        flow(&mut learnt, "a", &format!("203.0.113.{host}/32"), &a);
    }
    assert_eq!(changes(&mut learnt).len(), 100);
    unicast(&mut learnt, "a", "203.0.113.1/32", &a);
    flow(&mut learnt, "a", "203.0.113.1/32", &a);
    assert!(!learnt.judge(0), "the same again changes nothing");

    unicast(&mut learnt, "b", "198.51.100.0/24", &b);
    flow(&mut learnt, "b", "198.51.100.7/32", &b);
    let mut told = Vec::new();
    for round in 1..=102 {
        let path = Path { metric: round, ..a.clone() };
        for host in 1..=100 {
            flow(&mut learnt, "a", &format!("203.0.113.{host}/32"), &path);
        }
        assert!(learnt.judge(1));
        told.extend(learnt.poll_change().map(|change| change.peer));
    }
    assert_eq!(told, ["b"]);
}

#[test]
fn a_rule_that_is_too_large_is_counted_and_not_kept() {
    let mut learnt = new();
    let a = external(65001, 1);
    let ports = NumericMatch::one_of(1, 2..=u64::try_from(MOST_TESTS).unwrap());
    let destination = FlowSpecComponent::DestinationPrefix(prefix("203.0.113.7/32"));
    let large = rule_of(vec![destination, FlowSpecComponent::Port(ports)]);
    announce(&mut learnt, "a", Nlri::FlowSpec(large), &a);
    let actions = vec![TrafficFilteringAction::DISCARD; MOST_ACTIONS + 1];
    flow(&mut learnt, "a", "203.0.113.8/32", &Path { actions: actions.clone(), ..a.clone() });
    let tally = learnt.tally("a");
    assert_eq!((tally.flowspec, tally.unsupported), (0, 2));
    // Of unicast routes actions are not kept.
    unicast(&mut learnt, "a", "203.0.113.0/24", &Path { actions, ..a });
    assert!(learnt.of_peer("a")[0].path.actions.is_empty());
}
