use std::collections::BTreeSet;

use proptest::prelude::*;
use tidegate_model::{Confidence, Nlri, OwnedSpace, Reflector, Route, TrafficFilteringAction};

use super::*;

fn estimate(vector: AttackVector, share: f64, signature: Signature) -> VectorEstimate {
    VectorEstimate {
        vector,
        share,
        confidence: Confidence::new(0.9),
        signature,
        evidence: Vec::new(),
    }
}

fn rules(target: &str, vectors: &[VectorEstimate]) -> Vec<String> {
    let target = target.parse().unwrap();
    match synthesise(target, vectors) {
        Ok(rules) => rules.iter().map(ToString::to_string).collect(),
        Err(reason) => vec![reason.to_string()],
    }
}

fn rules_of(vector: AttackVector, signature: Signature) -> Vec<String> {
    rules("203.0.113.7", &[estimate(vector, 1.0, signature)])
}

const NTP: AttackVector = AttackVector::Amplification(Reflector::Ntp);

fn ntp() -> Signature {
    Signature {
        protocol: Some(17),
        source_ports: vec![123],
        packet_length: Some((468, 468)),
        ..Signature::default()
    }
}

#[test]
fn every_vector_has_its_narrowest_rule() {
    let flags = |set, clear| Some(TcpFlags { set, clear });
    let none = Signature::default;
    for (vector, signature, rule) in [
        (NTP, ntp(), "protocol =17; source-port =123; packet-length =468"),
        (
            AttackVector::Amplification(Reflector::Dns),
            Signature {
                source_ports: vec![53],
                destination_ports: vec![4444],
                packet_length: Some((600, 4096)),
                ..none()
            },
            "protocol =17; source-port =53; packet-length >=600&<=4096",
        ),
        (
            AttackVector::SynFlood,
            Signature { protocol: Some(6), destination_ports: vec![443, 80], ..none() },
            "protocol =6; destination-port =80 =443; tcp-flags syn&!ack",
        ),
        (
            AttackVector::SynFlood,
            Signature { tcp_flags: flags(0xc2, 0x15), packet_length: Some((40, 40)), ..none() },
            "protocol =6; tcp-flags syn+ece+cwr&!ack; packet-length =40",
        ),
        (
            // Many ports: the flags tell the flood, the ports do not.
            AttackVector::SynFlood,
            Signature { destination_ports: (1..=9).collect(), ..none() },
            "protocol =6; tcp-flags syn&!ack",
        ),
        (
            // A signature that denies itself is not used.
            AttackVector::SynFlood,
            Signature { protocol: Some(6), tcp_flags: flags(0x12, 0x02), ..none() },
            "protocol =6; tcp-flags syn&!ack",
        ),
        (
            AttackVector::SynAckReflection,
            Signature { source_ports: vec![443, 80], ..none() },
            "protocol =6; source-port =80 =443; tcp-flags syn+ack",
        ),
        (
            AttackVector::TcpFlood,
            Signature { tcp_flags: flags(0x10, 0x02), destination_ports: vec![22], ..none() },
            "protocol =6; destination-port =22; tcp-flags ack&!syn",
        ),
        (
            AttackVector::UdpFlood,
            Signature { protocol: Some(17), destination_ports: vec![3074], ..none() },
            "protocol =17; destination-port =3074",
        ),
        (
            AttackVector::UdpFlood,
            Signature { protocol: Some(17), packet_length: Some((28, 1500)), ..none() },
            "protocol =17",
        ),
        (
            AttackVector::UdpFlood,
            Signature { protocol: Some(17), destination_ports: (1..=100).collect(), ..none() },
            "protocol =17",
        ),
        (
            AttackVector::IcmpFlood,
            Signature { protocol: Some(1), icmp_type: Some(8), ..none() },
            "protocol =1; icmp-type =8",
        ),
        (
            AttackVector::FragmentFlood,
            Signature { protocol: Some(17), fragments: true, ..none() },
            "protocol =17; fragment is first",
        ),
        (AttackVector::FragmentFlood, Signature { fragments: true, ..none() }, "fragment is first"),
        (AttackVector::GreFlood, Signature { protocol: Some(47), ..none() }, "protocol =47"),
        (
            AttackVector::EspFlood,
            Signature { packet_length: Some((60, 90)), ..none() },
            "protocol =50; packet-length >=60&<=90",
        ),
        (
            AttackVector::LandFlood,
            Signature { protocol: Some(6), ..none() },
            "source 203.0.113.7/32; protocol =6",
        ),
        (
            AttackVector::NullFlood,
            Signature { tcp_flags: flags(0, 0x3f), ..none() },
            "protocol =6; tcp-flags !fin|syn|rst|psh|ack|urg",
        ),
        (
            AttackVector::Amplification(Reflector::Tftp),
            Signature { packet_length: Some((544, 544)), ..none() },
            "protocol =17; packet-length =544",
        ),
        (AttackVector::ProtocolFlood, Signature { protocol: Some(47), ..none() }, "protocol =47"),
    ] {
        let expected = format!("flow4 {{ destination 203.0.113.7/32; {rule} }}");
        assert_eq!(rules_of(vector, signature), [expected], "{vector}");
    }
}

#[test]
fn ipv6_has_its_own_icmp() {
    let signature = Signature { icmp_type: Some(128), ..Signature::default() };
    assert_eq!(
        rules("2001:db8::7", &[estimate(AttackVector::IcmpFlood, 1.0, signature)]),
        ["flow6 { destination 2001:db8::7/128; protocol =58; icmp-type =128 }"]
    );
}

#[test]
fn fragments_get_a_rule_of_their_own() {
    let signature = Signature { fragments: true, ..ntp() };
    assert_eq!(
        rules_of(NTP, signature),
        [
            "flow4 { destination 203.0.113.7/32; protocol =17; source-port =123; packet-length =468 }",
            "flow4 { destination 203.0.113.7/32; protocol =17; fragment is }",
        ]
    );
}

#[test]
fn many_ports_are_no_concentration() {
    let flood = |ports: u16| Signature {
        protocol: Some(17),
        destination_ports: (1..=ports).collect(),
        ..Signature::default()
    };
    for (ports, matched) in [(1, true), (20, true), (21, false)] {
        let rules = rules_of(AttackVector::UdpFlood, flood(ports));
        assert_eq!(rules.len(), 1, "{ports}");
        assert_eq!(rules[0].contains(&format!("={ports} ")), matched, "{rules:?}");
    }
    // Answers of a service are never matched without its port.
    let services = Signature { source_ports: (1..=30).collect(), ..Signature::default() };
    let amplified = rules_of(AttackVector::Amplification(Reflector::Dns), services);
    assert!(amplified.iter().all(|rule| rule.contains("source-port")));
}

#[test]
fn the_order_of_ports_makes_no_other_rule() {
    let flood = |ports: &[u16]| Signature {
        protocol: Some(17),
        destination_ports: ports.to_vec(),
        ..Signature::default()
    };
    assert_eq!(
        rules_of(AttackVector::UdpFlood, flood(&[80, 22])),
        rules_of(AttackVector::UdpFlood, flood(&[22, 80]))
    );
}

#[test]
fn a_blackhole_in_disguise_is_no_rule() {
    let none = Signature::default;
    for (vector, signature, part) in [
        (AttackVector::Unknown, none(), "not recognised"),
        (AttackVector::Unknown, ntp(), "not recognised"),
        (AttackVector::UdpFlood, none(), "nothing narrow in common"),
        (AttackVector::SynFlood, none(), "nothing narrow in common"),
        (AttackVector::TcpFlood, Signature { protocol: Some(6), ..none() }, "nothing narrow"),
        (AttackVector::ProtocolFlood, Signature { protocol: Some(6), ..none() }, "nothing narrow"),
        (AttackVector::ProtocolFlood, Signature { fragments: true, ..none() }, "nothing narrow"),
        (NTP, Signature { protocol: Some(17), ..none() }, "nothing narrow in common"),
        (NTP, Signature { protocol: Some(6), ..ntp() }, "protocol 6, which it cannot have"),
    ] {
        let reasons = rules_of(vector, signature);
        assert!(reasons[0].contains(part), "{vector}: {reasons:?}");
    }
    assert!(rules("203.0.113.7", &[])[0].contains("only 0 %"));
}

#[test]
fn every_vector_with_a_share_gets_its_rules() {
    let syn = Signature { protocol: Some(6), ..Signature::default() };
    let vectors = |ntp_share, syn_share| {
        [estimate(NTP, ntp_share, ntp()), estimate(AttackVector::SynFlood, syn_share, syn.clone())]
    };
    assert_eq!(rules("203.0.113.7", &vectors(0.6, 0.4)).len(), 2);
    assert_eq!(rules("203.0.113.7", &vectors(0.95, 0.05)).len(), 1);
    // Most of the flood would pass.
    let mostly_unknown =
        [estimate(AttackVector::Unknown, 0.7, Signature::default()), estimate(NTP, 0.3, ntp())];
    assert!(rules("203.0.113.7", &mostly_unknown)[0].contains("not recognised"));
    let scattered = [estimate(NTP, 0.4, ntp())];
    assert!(rules("203.0.113.7", &scattered)[0].contains("only 40 %"));
}

#[test]
fn a_narrower_band_is_no_reason_to_replace_a_rule() {
    let with = |signature: Signature| {
        synthesise("203.0.113.7".parse().unwrap(), &[estimate(NTP, 1.0, signature)]).unwrap()
    };
    let wide = with(Signature { packet_length: Some((400, 500)), ..ntp() });
    let narrow = with(Signature { packet_length: Some((440, 490)), ..ntp() });
    let moved = with(Signature { packet_length: Some((440, 600)), ..ntp() });
    let other_port = with(Signature { source_ports: vec![53], ..ntp() });
    let bare = with(Signature { packet_length: None, ..ntp() });
    assert!(still_fits(&wide, &narrow) && still_fits(&wide, &wide));
    assert!(!still_fits(&narrow, &wide) && !still_fits(&wide, &moved));
    assert!(!still_fits(&wide, &other_port));
    // A field more is worth having: the rule cuts less.
    assert!(!still_fits(&bare, &wide) && !still_fits(&wide, &bare));
}

fn any_signature() -> impl Strategy<Value = Signature> {
    let ports = || prop::collection::vec(any::<u16>(), 0..30);
    let flags = prop::option::of((any::<u8>(), any::<u8>()));
    (
        prop::option::of(any::<u8>()),
        ports(),
        ports(),
        flags,
        prop::option::of(any::<u8>()),
        prop::option::of((any::<u16>(), any::<u16>())),
        any::<bool>(),
    )
        .prop_map(
            |(protocol, source_ports, destination_ports, flags, icmp_type, length, fragments)| {
                Signature {
                    protocol,
                    source_ports,
                    destination_ports,
                    tcp_flags: flags.map(|(set, clear)| TcpFlags { set, clear }),
                    icmp_type,
                    packet_length: length,
                    fragments,
                }
            },
        )
}

proptest! {
    /// Whatever the detector says, a rule is one that the guard lets pass, unless it names a
    /// protocol of the other family; and there are never more than [`MAX_RULES`].
    #[test]
    fn rules_are_few_and_pass_the_guard(
        estimates in prop::collection::vec(
            (prop::sample::select(AttackVector::all().collect::<Vec<_>>()), any_signature()), 1..5),
        v6 in any::<bool>(),
    ) {
        let target: Prefix = if v6 { "2001:db8::7" } else { "203.0.113.7" }.parse().unwrap();
        let vectors: Vec<VectorEstimate> =
            estimates.into_iter().map(|(vector, signature)| estimate(vector, 1.0, signature)).collect();
        let space = OwnedSpace { owned: vec![target], never_touch: Vec::new() };
        let rules = synthesise(target, &vectors).unwrap_or_default();
        prop_assert!(rules.len() <= MAX_RULES);
        for rule in rules {
            let route = Route {
                nlri: Nlri::FlowSpec(rule.clone()),
                next_hop: None,
                communities: BTreeSet::new(),
                large_communities: BTreeSet::new(),
                actions: vec![TrafficFilteringAction::DISCARD],
            };
            match guard::judge(&space, &[], &route) {
                Ok(()) | Err(guard::Refusal::ForeignProtocol { .. }) => {}
                Err(other) => prop_assert!(false, "{rule}: {other}"),
            }
        }
    }
}
