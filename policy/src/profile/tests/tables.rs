//! Rules, profiles, and what comes of them.

use super::*;

const DISCARD: TrafficFilteringAction = TrafficFilteringAction::DISCARD;

/// The rules, and the losses behind them, or what the peer cannot take; the target left out.
fn put(profile: &FlowSpecProfile, rule: &FlowSpecRule, widen: Widen) -> Vec<String> {
    match compile(profile, std::slice::from_ref(rule), DISCARD, widen) {
        Ok(compiled) => compiled
            .rules
            .iter()
            .map(|rule| rule.to_string().replace("flow4 { destination 203.0.113.7/32; ", "{ "))
            .chain(compiled.losses.iter().map(ToString::to_string))
            .collect(),
        Err(why) => vec![why.to_string()],
    }
}

fn never(profile: &FlowSpecProfile, rule: &FlowSpecRule) -> Vec<String> {
    put(profile, rule, Widen::Never)
}

#[test]
fn long_lists_are_split() {
    let rfc = FlowSpecProfile::default();
    let of = |max_values| FlowSpecProfile { max_values, ..rfc.clone() };
    let sources = |count| udp(vec![C::SourcePort(equal(1..=count))]);
    assert_eq!(never(&rfc, &sources(5)), ["{ protocol =17; source-port =1 =2 =3 =4 =5 }"]);
    assert_eq!(
        never(&rfc, &sources(6)),
        ["{ protocol =17; source-port =1 =2 =3 =4 =5 }", "{ protocol =17; source-port =6 }"]
    );
    assert_eq!(never(&of(12), &sources(12)).len(), 1);
    assert_eq!(never(&of(1), &sources(20)).len(), 20);
    // Two lists in one rule: every pair.
    let both = udp(vec![C::SourcePort(equal(1..=6)), C::DestinationPort(equal(1..=6))]);
    assert_eq!(never(&rfc, &both).len(), 4);
    assert_eq!(never(&of(1), &both), ["would need more than 32 rules for this attack"]);
}

#[test]
fn ranges_are_never_torn_apart() {
    let of = |max_values| FlowSpecProfile { max_values, ..FlowSpecProfile::default() };
    let ranges = tests(&[
        &[(Op::GreaterOrEqual, 1), (Op::LessOrEqual, 9)],
        &[(Op::Equal, 53)],
        &[(Op::GreaterOrEqual, 100), (Op::LessOrEqual, 200)],
    ]);
    let rule = udp(vec![C::SourcePort(ranges)]);
    assert_eq!(
        never(&of(3), &rule),
        ["{ protocol =17; source-port >=1&<=9 =53 }", "{ protocol =17; source-port >=100&<=200 }"]
    );
    // One value a component has no room for a range, and leaving it out needs leave.
    assert!(never(&of(1), &rule)[0].contains("does not honour such values of `source-port`"));
    assert_eq!(
        put(&of(1), &rule, Widen::Allow),
        ["{ protocol =17 }", "wider, without `source-port`"]
    );
}

#[test]
fn octets_are_kept_by_splitting_further() {
    let profile = FlowSpecProfile { max_values: 64, max_octets: 40, ..FlowSpecProfile::default() };
    let rules =
        compile(&profile, &[udp(vec![C::SourcePort(equal(300..=319))])], DISCARD, Widen::Never);
    let rules = rules.unwrap().rules;
    assert!(rules.len() > 1);
    assert!(rules.iter().all(|rule| crate::guard::encoded_octets(rule) <= 40));
    let tiny = FlowSpecProfile { max_octets: 8, ..profile };
    assert_eq!(
        never(&tiny, &udp(vec![C::SourcePort(equal([300]))])),
        ["takes rules of 8 octets, and the shortest that says this has more"]
    );
}

#[test]
fn comparisons_are_said_otherwise() {
    let of = |operators: &[Comparison]| FlowSpecProfile {
        operators: operators.iter().copied().collect(),
        ..FlowSpecProfile::default()
    };
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let range = udp(vec![C::PacketLength(NumericMatch::range(100, 200))]);
    let above = udp(vec![C::PacketLength(tests(&[&[(Op::GreaterOrEqual, 1000)]]))]);
    let below = udp(vec![C::SourcePort(tests(&[&[(Op::Less, 1024)]]))]);
    let but_one = udp(vec![C::SourcePort(tests(&[&[(Op::NotEqual, 53)]]))]);
    for (rule, operators, said) in [
        (&range, &[Equal, GreaterOrEqual, LessOrEqual][..], "packet-length >=100&<=200"),
        (&range, &[Equal, Greater, Less], "packet-length >99&<201"),
        (&above, &[Equal, Greater], "packet-length >999"),
        (&below, &[Equal, LessOrEqual], "source-port <=1023"),
        (&but_one, &[Equal, GreaterOrEqual, LessOrEqual], "source-port <=52 >=54"),
    ] {
        assert_eq!(never(&of(operators), rule), [format!("{{ protocol =17; {said} }}")])
    }
    // A short range is a list; a long one cannot be said.
    let short = udp(vec![C::PacketLength(NumericMatch::range(100, 102))]);
    assert_eq!(never(&of(&[Equal]), &short), ["{ protocol =17; packet-length =100 =101 =102 }"]);
    assert!(never(&of(&[Equal]), &range)[0].contains("such values of `packet-length`"));
}

#[test]
fn tests_of_flags_are_said_otherwise() {
    let of = |forms: &[BitmaskForm], tcp_flags| FlowSpecProfile {
        bitmasks: forms.iter().copied().collect(),
        tcp_flags,
        ..FlowSpecProfile::default()
    };
    let mask = |groups: &[&[(bool, bool, u16)]]| {
        let test = |&(all, negated, bits): &(bool, bool, u16)| BitmaskTest { all, negated, bits };
        let groups = groups.iter().map(|group| group.iter().map(test).collect()).collect();
        tcp(vec![C::TcpFlags(BitmaskMatch::new(groups).unwrap())])
    };
    use BitmaskForm::{AllOf, AnyOf, Not};
    let syn_ack = mask(&[&[(true, false, 0x12)]]);
    let any = mask(&[&[(false, false, 0x05)]]);
    let syn_only = mask(&[&[(true, false, 0x02), (false, true, 0x10)]]);
    let neither = mask(&[&[(false, true, 0x03)]]);
    for (rule, forms, said) in [
        (&syn_ack, &[AllOf][..], "syn+ack"),
        (&syn_ack, &[], "syn&ack"),
        (&any, &[AnyOf], "fin|rst"),
        (&any, &[], "fin rst"),
        (&syn_only, &[Not], "syn&!ack"),
        (&neither, &[Not], "!fin&!syn"),
    ] {
        assert_eq!(
            never(&of(forms, 0x1ff), rule),
            [format!("{{ protocol =6; tcp-flags {said} }}")]
        );
    }
    // Fewer tests match more packets.
    let ece = mask(&[&[(true, false, 0x42), (false, true, 0x10)]]);
    let profile = of(&[AllOf, AnyOf, Not], 0x3f);
    assert!(never(&profile, &ece)[0].contains("such values of `tcp-flags`"));
    assert_eq!(
        put(&profile, &ece, Widen::Allow),
        ["{ protocol =6; tcp-flags syn&!ack }", "wider, with fewer bits of `tcp-flags`"]
    );
    assert_eq!(
        put(&of(&[], 0x1ff), &syn_only, Widen::Allow),
        ["{ protocol =6; tcp-flags syn }", "wider, with fewer bits of `tcp-flags`"]
    );
}

#[test]
fn what_is_left_must_not_cut_off_the_target() {
    let without = |left_out: &[Component]| {
        let mut profile = FlowSpecProfile::default();
        profile.components_v4.retain(|component| !left_out.contains(component));
        profile
    };
    let ntp = udp(vec![
        C::SourcePort(NumericMatch::equal(123)),
        C::PacketLength(NumericMatch::equal(468)),
    ]);
    let syn = tcp(vec![C::TcpFlags(BitmaskMatch::set_and_clear(2, 16))]);
    let profile = without(&[Component::PacketLength]);
    assert_eq!(
        never(&profile, &ntp),
        [
            "does not honour `packet-length`, and `widen` of the response does not allow to leave it out"
        ]
    );
    assert_eq!(
        put(&profile, &ntp, Widen::Allow),
        ["{ protocol =17; source-port =123 }", "wider, without `packet-length`"]
    );
    let cut = "honours too little of the rule: what is left would match nearly everything to 203.0.113.7/32";
    assert_eq!(put(&without(&[Component::TcpFlags]), &syn, Widen::Allow), [cut]);
    let all = [Component::Protocol, Component::SourcePort, Component::PacketLength];
    assert_eq!(put(&without(&all), &ntp, Widen::Allow), [cut]);
    assert_eq!(put(&without(&[Component::Destination]), &ntp, Widen::Allow), [cut]);
}

#[test]
fn lengths_of_destinations() {
    let hosts = FlowSpecProfile {
        lengths_v4: Lengths { shortest: 32, longest: 32 },
        ..FlowSpecProfile::default()
    };
    let net = FlowSpecRule::new(
        AddressFamily::Ipv4,
        vec![
            C::DestinationPrefix(prefix("203.0.113.0/24")),
            C::IpProtocol(NumericMatch::equal(17)),
        ],
    );
    assert_eq!(put(&hosts, &net.unwrap(), Widen::Allow), ["takes no /24 but only /32 to /32"]);
}

#[test]
fn actions_that_are_not_honoured() {
    let only = |actions: &[ActionKind]| FlowSpecProfile {
        actions: actions.iter().copied().collect(),
        ..FlowSpecProfile::default()
    };
    let limit = TrafficFilteringAction::RateLimitBytes(125_000.0);
    let packets = TrafficFilteringAction::RateLimitPackets(1000.0);
    let of = |profile: &FlowSpecProfile, action, widen| {
        compile(profile, &[udp(vec![])], action, widen).map(|compiled| {
            (compiled.action, compiled.losses.iter().map(ToString::to_string).collect::<Vec<_>>())
        })
    };
    let discards = only(&[ActionKind::Discard]);
    assert_eq!(of(&discards, DISCARD, Widen::Never), Ok((DISCARD, vec![])));
    assert_eq!(of(&discards, limit, Widen::Never), Err(NotAccepted::Action { action: limit }));
    assert_eq!(
        of(&discards, limit, Widen::Allow),
        Ok((DISCARD, vec!["discard in place of rate-limit 125000 B/s".to_owned()]))
    );
    // A limit is never turned into one of another unit, and discard never into a limit.
    let limits = only(&[ActionKind::RateLimitBytes]);
    assert!(of(&limits, packets, Widen::Allow).is_err());
    assert!(of(&limits, DISCARD, Widen::Allow).is_err());
    let zero = TrafficFilteringAction::RateLimitPackets(0.0);
    assert_eq!(of(&discards, zero, Widen::Never), Ok((zero, vec![])));
}

#[test]
fn what_a_profile_takes_is_left_alone() {
    let rfc = FlowSpecProfile::default();
    let ntp = udp(vec![C::SourcePort(NumericMatch::equal(123))]);
    assert!(takes(&rfc, &ntp, &[DISCARD]));
    assert!(!takes(&rfc, &udp(vec![C::SourcePort(equal(1..=6))]), &[DISCARD]));
    let limits = [TrafficFilteringAction::RateLimitBytes(1.0)];
    assert!(!takes(&builtin()["frr"].flowspec, &ntp, &limits));
}
