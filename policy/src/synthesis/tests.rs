//! Rules from made samples, and what holds whatever the samples.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use tidegate_model::{
    AttackVector, Confidence, Nlri, OwnedSpace, PacketSample, Part, Route, Signature,
    TrafficFilteringAction,
};

use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn target() -> Prefix {
    prefix("203.0.113.7")
}

fn source(index: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xc633_6400 + index))
}

fn udp(from: u32, ports: (u16, u16), length: u16) -> PacketRecord {
    PacketRecord {
        source: source(from),
        protocol: 17,
        part: Part::Whole,
        ports: Some(ports),
        tcp_flags: None,
        icmp_type: None,
        length,
        sender: Sender::Unasked,
        weight: 10,
    }
}

fn tcp(from: u32, port: u16, flags: u8, length: u16) -> PacketRecord {
    let ports = Some((30_000 + u16::try_from(from).unwrap(), port));
    PacketRecord { protocol: 6, ports, tcp_flags: Some(flags), ..udp(from, (0, 0), length) }
}

fn welcome(packet: PacketRecord) -> PacketRecord {
    PacketRecord { sender: Sender::Welcome, weight: 1, ..packet }
}

/// Clients of a web server, and answers to its questions to a resolver.
fn everyday() -> Vec<PacketRecord> {
    (0..100)
        .map(|index| match index % 10 {
            0 => PacketRecord { weight: 1, ..tcp(index, 443, 0x02, 60) },
            1 => welcome(udp(200, (53, 40_000), 120)),
            2..=5 => welcome(tcp(index, 443, 0x10, 52)),
            _ => welcome(tcp(index, 443, 0x18, 300 + u16::try_from(index).unwrap())),
        })
        .collect()
}

fn sample(during: Vec<PacketRecord>) -> AttackSample {
    AttackSample {
        during: PacketSample { records: during, seconds: 1.0 },
        before: PacketSample { records: everyday(), seconds: 10.0 },
    }
}

fn space() -> OwnedSpace {
    OwnedSpace { owned: vec![prefix("203.0.113.0/24")], never_touch: Vec::new() }
}

fn passes_guard(rule: &FlowSpecRule) -> bool {
    let route = Route {
        nlri: Nlri::FlowSpec(rule.clone()),
        next_hop: None,
        communities: [tidegate_model::Community::NO_EXPORT].into(),
        large_communities: std::collections::BTreeSet::new(),
        actions: vec![TrafficFilteringAction::DISCARD],
    };
    guard::judge(&space(), &[], &route).is_ok()
}

fn found(during: Vec<PacketRecord>) -> Result<Synthesis, NotFound> {
    find(target(), &[], &sample(during), Bounds::default(), passes_guard)
}

fn shown(synthesis: &Synthesis) -> Vec<String> {
    synthesis.rules.iter().map(|measured| measured.rule.to_string()).collect()
}

fn repeated(count: u32, packet: impl Fn(u32) -> PacketRecord) -> Vec<PacketRecord> {
    (0..count).map(packet).collect()
}

#[test]
fn rules_match_the_attack_and_spare_the_rest() {
    let long = |index: u32| 1200 + u16::try_from(index % 200).unwrap();
    let cases: [(&str, Vec<PacketRecord>, &[&str]); 5] = [
        (
            "answers of resolvers, beside answers that were asked for",
            repeated(100, |it| udp(it, (53, 1000 + u16::try_from(it).unwrap()), long(it))),
            &[
                "flow4 { destination 203.0.113.7/32; protocol =17; source-port =53; packet-length >=1192&<=1307 }",
            ],
        ),
        (
            "a flood of connection requests without options",
            repeated(100, |it| tcp(it, 443, 0x02, 40)),
            &[
                "flow4 { destination 203.0.113.7/32; protocol =6; destination-port =443; tcp-flags syn&!ack; packet-length =40 }",
            ],
        ),
        (
            "two services",
            repeated(120, |it| match it % 2 {
                0 => udp(it, (123, 7), 468),
                _ => udp(it, (389, 7), 1500),
            }),
            &[],
        ),
        (
            "later fragments",
            repeated(80, |it| PacketRecord {
                part: Part::Later,
                ports: None,
                ..udp(it, (0, 0), 1500)
            }),
            &[],
        ),
        (
            "packets of a tunnel",
            repeated(60, |it| PacketRecord {
                protocol: 47,
                ports: None,
                ..udp(it, (0, 0), 600 + u16::try_from(it).unwrap())
            }),
            &[],
        ),
    ];
    for (name, during, expected) in cases {
        let synthesis = found(during).unwrap();
        assert!(synthesis.coverage > 0.99, "{name}: {synthesis:?}");
        assert!(synthesis.collateral.abs() < 1e-12, "{name}: {synthesis:?}");
        let rules = shown(&synthesis);
        assert!(expected.is_empty() || rules == expected, "{name}: {rules:?}");
        assert!(rules.len() <= 2, "{name}: {rules:?}");
    }
}

#[test]
fn what_cannot_be_told_apart_gets_no_rule() {
    // The very packets that clients send.
    let same = found(repeated(100, |it| PacketRecord { weight: 50, ..tcp(it, 443, 0x10, 52) }));
    assert!(matches!(same, Err(NotFound::TooLittle { .. })), "{same:?}");
    let few = found(repeated(10, |it| udp(it, (53, 7), 1400)));
    assert!(matches!(few, Err(NotFound::TooFew { which: "attack", seen: 10, .. })), "{few:?}");
    let usual = found(repeated(40, |it| PacketRecord { weight: 1, ..tcp(it, 443, 0x02, 60) }));
    assert!(
        usual.is_ok()
            || usual == Err(NotFound::NoExcess)
            || matches!(usual, Err(NotFound::TooLittle { .. }))
    );
    let unknown = AttackSample {
        before: PacketSample::default(),
        ..sample(repeated(99, |it| udp(it, (53, 7), 99)))
    };
    let unknown = find(target(), &[], &unknown, Bounds::default(), passes_guard);
    assert!(matches!(unknown, Err(NotFound::TooFew { which: "traffic before it", .. })));
}

/// A flood of real connections from a few hosts, in the form of everybody's.
fn connections(sender: Sender) -> Vec<PacketRecord> {
    repeated(120, |it| PacketRecord {
        sender: if it % 4 == 0 { sender } else { Sender::Unasked },
        ..tcp(500 + it % 3, 443, [0x10, 0x02, 0x18, 0x10][it as usize % 4], 52)
    })
    .into_iter()
    .map(|packet| PacketRecord {
        length: if packet.tcp_flags == Some(0x02) { 60 } else { 52 },
        ..packet
    })
    .collect()
}

#[test]
fn a_source_is_matched_only_if_it_completed_handshakes() {
    let has_source = |synthesis: &Synthesis| {
        let components = synthesis.rules.iter().flat_map(|it| it.rule.components());
        components.filter(|it| matches!(it, FlowSpecComponent::SourcePrefix(_))).count()
    };
    let proved = found(connections(Sender::Completing)).unwrap();
    assert_eq!(has_source(&proved), 3, "{:?}", shown(&proved));
    assert!(proved.coverage > 0.99 && proved.collateral.abs() < 1e-12);
    if let Ok(other) = found(connections(Sender::Unasked)) {
        assert_eq!(has_source(&other), 0, "{:?}", shown(&other));
    }
}

#[test]
fn what_a_peer_cannot_express_is_not_chosen() {
    let during = repeated(100, |it| udp(it, (53, 7), 1400));
    let without_length = |rule: &FlowSpecRule| {
        !rule.components().iter().any(|it| matches!(it, FlowSpecComponent::PacketLength(_)))
    };
    let plain = find(target(), &[], &sample(during), Bounds::default(), without_length).unwrap();
    assert!(plain.rules.iter().all(|it| without_length(&it.rule)), "{:?}", shown(&plain));
}

/// One rule for a network, and only one that spares nearly everything.
#[test]
fn a_network_gets_one_rule_under_a_stricter_gate() {
    let mixed = |share: u32| {
        repeated(200, |it| match it % 100 {
            part if part < share => udp(it, (123, 7), 468),
            _ => udp(it, (11_211, 7), 1400),
        })
    };
    let of = |during| {
        find(prefix("203.0.113.0/24"), &[], &sample(during), Bounds::default(), passes_guard)
    };
    let one = of(mixed(95)).unwrap();
    assert_eq!(one.rules.len(), 1, "{:?}", shown(&one));
    // No source port of TCP or two kinds that have nothing else in common.
    let two = repeated(200, |it| match it % 2 {
        0 => udp(it, (123, 7), 468),
        _ => tcp(it, 443, 0x02, 40),
    });
    assert!(of(two.clone()).is_err());
    assert!(found(two).unwrap().coverage > 0.99);
}

#[test]
fn entries_are_counted_as_a_tcam_needs_them() {
    let rule = |components: Vec<FlowSpecComponent>| {
        let all = [FlowSpecComponent::DestinationPrefix(target())].into_iter().chain(components);
        FlowSpecRule::new(AddressFamily::Ipv4, all.collect::<Vec<_>>()).unwrap()
    };
    let port = |numeric| FlowSpecComponent::SourcePort(numeric);
    for (components, entries) in [
        (vec![], 1),
        (vec![port(NumericMatch::equal(53))], 1),
        (vec![port(NumericMatch::one_of(53, [123, 389]))], 3),
        (vec![port(NumericMatch::range(0, 1023))], 1),
        (vec![port(NumericMatch::range(1, 65_534))], 30),
        (vec![port(NumericMatch::range(1024, 65_535))], 6),
        (
            vec![
                port(NumericMatch::one_of(53, [123])),
                FlowSpecComponent::PacketLength(NumericMatch::range(100, 199)),
            ],
            2 * 5,
        ),
    ] {
        assert_eq!(tcam_entries(&rule(components.clone())), entries, "{components:?}");
    }
}

fn any_record() -> impl Strategy<Value = PacketRecord> {
    let ports = prop::option::weighted(
        0.9,
        (
            prop_oneof![Just(53), Just(123), 1024..60_000_u16],
            prop_oneof![Just(443), Just(53), 1..9_u16],
        ),
    );
    let sender = prop::sample::select(vec![
        Sender::Unasked,
        Sender::Unasked,
        Sender::Completing,
        Sender::Welcome,
    ]);
    let part = prop::sample::select(vec![Part::Whole, Part::Whole, Part::First, Part::Later]);
    let protocol = prop::sample::select(vec![6_u8, 17, 17, 1, 47]);
    (
        0..12_u32,
        protocol,
        part,
        ports,
        any::<u8>(),
        prop_oneof![Just(40_u16), Just(1400), 20..1500_u16],
        sender,
        1..50_u32,
    )
        .prop_map(|(from, protocol, part, ports, octet, length, sender, weight)| {
            PacketRecord {
                source: source(from),
                protocol,
                part,
                ports: ports.filter(|_| matches!(protocol, 6 | 17) && part != Part::Later),
                tcp_flags: (protocol == 6 && part != Part::Later)
                    .then_some([0x02, 0x10, 0x18, 0x12, octet][usize::from(octet) % 5]),
                icmp_type: (protocol == 1).then_some(octet % 4),
                length,
                sender,
                weight,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rules_keep_to_their_bounds(
        during in prop::collection::vec(any_record(), 20..150),
        before in prop::collection::vec(any_record(), 20..100),
        rules in 0..9_usize,
        tcam_entries in 1..40_u32,
        collateral in prop_oneof![Just(0.0), Just(0.001), Just(0.2)],
        wide in any::<bool>(),
    ) {
        let sample = AttackSample {
            during: PacketSample { records: during, seconds: 1.0 },
            before: PacketSample { records: before, seconds: 20.0 },
        };
        let target = if wide { prefix("203.0.113.0/24") } else { target() };
        let bounds = Bounds { rules, tcam_entries, collateral };
        let estimate = VectorEstimate {
            vector: AttackVector::UdpFlood,
            share: 1.0,
            confidence: Confidence::new(0.9),
            signature: Signature { protocol: Some(17), ..Signature::default() },
            evidence: Vec::new(),
        };
        let result = find(target, std::slice::from_ref(&estimate), &sample, bounds, passes_guard);
        prop_assert_eq!(&result, &find(target, &[estimate], &sample, bounds, passes_guard));
        let Ok(synthesis) = result else { return Ok(()) };
        prop_assert!(!synthesis.rules.is_empty() && synthesis.rules.len() <= rules);
        prop_assert!(!wide || synthesis.rules.len() == 1);
        prop_assert!(synthesis.tcam_entries() <= tcam_entries);
        prop_assert!(synthesis.collateral <= collateral);
        let (coverage, hit) = measure(&synthesis.rules(), &sample).unwrap();
        prop_assert!((coverage - synthesis.coverage).abs() < 1e-9);
        prop_assert!((hit - synthesis.collateral).abs() < 1e-9);
        let mut handshakes: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for packet in sample.during.records.iter().filter(|it| it.sender == Sender::Completing) {
            *handshakes.entry(packet.source).or_default() += 1;
        }
        for measured in &synthesis.rules {
            prop_assert!(passes_guard(&measured.rule), "{}", measured.rule);
            prop_assert_eq!(measured.rule.destination(), Some(target));
            for component in measured.rule.components() {
                let FlowSpecComponent::SourcePrefix(source) = component else { continue };
                prop_assert!(source.is_host(), "{}", measured.rule);
                let proofs = handshakes.get(&source.address()).copied().unwrap_or_default();
                prop_assert!(proofs >= 3, "{}", measured.rule);
            }
        }
    }
}
