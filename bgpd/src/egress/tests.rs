use std::collections::BTreeSet;

use tidegate_model::{LargeCommunity, OwnedSpace};

use super::*;

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn policy() -> GatePolicy {
    GatePolicy {
        space: OwnedSpace {
            owned: prefixes(&["203.0.113.0/24", "198.51.0.0/16", "2001:db8:1::/48"]),
            never_touch: prefixes(&["203.0.113.53", "198.51.100.128/25", "2001:db8:1::53"]),
        },
        session_addresses: vec![
            "203.0.113.1".parse().unwrap(),
            "198.51.7.1".parse().unwrap(),
            "2001:db8:1::1".parse().unwrap(),
        ],
        ..GatePolicy::default()
    }
}

fn octets(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "{text}");
    (0..digits.len())
        .step_by(2)
        .map(|index| u8::from_str_radix(&digits[index..index + 2], 16).unwrap())
        .collect()
}

/// A whole message of this type.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
    [[0xff; 16].as_slice(), &length, &[kind], body].concat()
}

fn update(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    let part = |text| {
        let octets = octets(text);
        let length = u16::try_from(octets.len()).unwrap().to_be_bytes();
        [length.as_slice(), &octets].concat()
    };
    message(2, &[part(withdrawn), part(attributes), octets(nlri)].concat())
}

const ORIGIN: &str = "40010100";
const PATH: &str = "400200";
const NEXT_HOP: &str = "400304c0000201";
const BLACKHOLE: &str = "c00808ffff029affffff01";

fn rtbh(nlri: &str) -> Vec<u8> {
    update("", &[ORIGIN, PATH, NEXT_HOP, BLACKHOLE].concat(), nlri)
}

fn rtbh6(prefix: &str) -> Vec<u8> {
    let value = format!("000201 10 01000000000000000000000000000001 00 {prefix}");
    let length = octets(&value).len();
    update("", &format!("800e{length:02x} {value} {ORIGIN} {PATH} {BLACKHOLE}"), "")
}

/// One FlowSpec rule with the action discard.
fn flow(afi: u16, rule: &str) -> Vec<u8> {
    flow_with(afi, rule, "c010088006000000000000")
}

fn flow_with(afi: u16, rule: &str, actions: &str) -> Vec<u8> {
    let length = octets(rule).len();
    let value = format!("{afi:04x}85 00 00 {length:02x} {rule}");
    let length = octets(&value).len();
    update("", &format!("900e{length:04x} {value} {ORIGIN} {PATH} {actions}"), "")
}

/// The name of the rule that the message breaks, or `passes`.
fn verdict(gate: &Gate, message: &[u8]) -> &'static str {
    gate.judge(message).err().map_or("passes", |refusal| refusal.rule())
}

fn check(cases: &[(&str, Vec<u8>, &str)]) {
    let gate = Gate::new(policy());
    for (name, message, expected) in cases {
        let answer = gate.judge(message);
        assert_eq!(verdict(&gate, message), *expected, "{name}: {answer:?}");
    }
}

#[test]
fn other_messages_pass_by_type() {
    check(&[
        ("OPEN", message(1, &[4, 0, 0]), "passes"),
        ("NOTIFICATION", message(3, &[6, 2]), "passes"),
        ("KEEPALIVE", message(4, &[]), "passes"),
        ("ROUTE-REFRESH", message(5, &[0, 1, 0, 1]), "passes"),
        ("type 0", message(0, &[]), "not-understood"),
        ("type 6", message(6, &[]), "not-understood"),
        ("nothing", vec![], "malformed"),
        ("half a marker", vec![0xff; 7], "malformed"),
        ("two messages", [message(4, &[]), message(4, &[])].concat(), "malformed"),
        ("too long", message(4, &[0; 4096 - 18]), "malformed"),
        ("marker", [[0xfe; 16].as_slice(), &[0, 19, 4]].concat(), "malformed"),
    ]);
}

#[test]
fn withdrawals_pass_whatever_the_policy() {
    let gate = Gate::new(GatePolicy::default());
    for (name, message) in [
        ("IPv4", update("20cb007107 180a0000", "", "")),
        ("IPv6", update("", "800f14 000201 80 20010db8000100000000000000000007", "")),
        ("flow4", update("", "800f09 000185 05 0118cb0071", "")),
        ("flow6", update("", "800f0d 000285 09 01300020010db80002", "")),
        ("with attributes", update("", "800f09 000185 05 0118cb0071 40010100 400200", "")),
        ("End-of-RIB IPv4", update("", "", "")),
        ("End-of-RIB flow6", update("", "800f03 000285", "")),
    ] {
        assert_eq!(gate.judge(&message), Ok(()), "{name}");
    }
    for (name, message) in [
        ("host bits", update("17cb0071", "", "")),
        ("length 33", update("21cb00710700", "", "")),
        ("cut short", update("20cb0071", "", "")),
        ("flow without rule", update("", "800f04 000185 00", "")),
        ("another family", update("", "800f03 000186", "")),
    ] {
        assert!(gate.judge(&message).is_err(), "{name}");
    }
}

#[test]
fn unicast_rules() {
    let with = |attributes: &[&str]| update("", &attributes.concat(), "20cb007107");
    check(&[
        ("good IPv4", rtbh("20cb007107"), "passes"),
        ("good IPv6", rtbh6("80 20010db8000100000000000000000007"), "passes"),
        ("not owned", rtbh("200a000001"), "not-owned"),
        ("second of two is not owned", rtbh("20cb007107 20cb007207"), "not-owned"),
        ("wider than owned", rtbh("10cb00"), "not-owned"),
        ("default route", rtbh("00"), "not-owned"),
        ("IPv6 not owned", rtbh6("80 20010db8000200000000000000000007"), "not-owned"),
        ("too wide", rtbh("18cb0071"), "not-specific"),
        ("/31", rtbh("1fcb007106"), "not-specific"),
        ("IPv6 too wide", rtbh6("7f 20010db8000100000000000000000006"), "not-specific"),
        ("never-touch", rtbh("20cb007135"), "never-touch"),
        ("in a never-touch prefix", rtbh("20c6336481"), "never-touch"),
        ("a session address", rtbh("20cb007101"), "session-address"),
        ("IPv6 session address", rtbh6("80 20010db8000100000000000000000001"), "session-address"),
        ("no community", with(&[ORIGIN, PATH, NEXT_HOP]), "no-blackhole-community"),
        (
            "NO_EXPORT alone",
            with(&[ORIGIN, PATH, NEXT_HOP, "c00804ffffff01"]),
            "no-blackhole-community",
        ),
        (
            "BLACKHOLE alone",
            with(&[ORIGIN, PATH, NEXT_HOP, "c00804ffff029a"]),
            "no-scope-community",
        ),
        (
            "BLACKHOLE and NO_ADVERTISE",
            with(&[ORIGIN, PATH, NEXT_HOP, "c00808ffff029affffff02"]),
            "passes",
        ),
        ("OTC", with(&[ORIGIN, PATH, NEXT_HOP, BLACKHOLE, "c023040000fde8"]), "passes"),
        (
            "OTC of 5 octets",
            with(&[ORIGIN, PATH, NEXT_HOP, BLACKHOLE, "c023050000fde800"]),
            "malformed",
        ),
        ("no next hop", with(&[ORIGIN, PATH, BLACKHOLE]), "next-hop"),
        ("loopback", with(&[ORIGIN, PATH, "4003047f000002", BLACKHOLE]), "next-hop"),
        ("0.0.0.0", with(&[ORIGIN, PATH, "40030400000000", BLACKHOLE]), "next-hop"),
        ("multicast", with(&[ORIGIN, PATH, "400304e0000001", BLACKHOLE]), "next-hop"),
        (
            "an action",
            with(&[ORIGIN, PATH, NEXT_HOP, BLACKHOLE, "c010088006000000000000"]),
            "not-understood",
        ),
        ("no ORIGIN", with(&[PATH, NEXT_HOP, BLACKHOLE]), "not-understood"),
        ("no AS_PATH", with(&[ORIGIN, NEXT_HOP, BLACKHOLE]), "not-understood"),
    ]);
}

#[test]
fn messages_that_are_not_understood() {
    let base = [ORIGIN, PATH, NEXT_HOP, BLACKHOLE].concat();
    let and = |more: &str| update("", &format!("{base} {more}"), "20cb007107");
    let path = |path: &str| update("", &[ORIGIN, path, NEXT_HOP, BLACKHOLE].concat(), "20cb007107");
    let v4_in_mp = format!("800e0e 000101 04 c0000201 00 20cb007107 {ORIGIN} {PATH} {BLACKHOLE}");
    let cut = {
        let mut message = rtbh("20cb007107");
        message[22] = 0xff;
        message
    };
    check(&[
        ("MULTI_EXIT_DISC", and("80040400000000"), "not-understood"),
        ("an unknown attribute", and("c0ff00"), "not-understood"),
        ("partial bit", and("e0200c 0000fdf20000029a00000001"), "malformed"),
        ("ORIGIN as optional", update("", "c0010100", "20cb007107"), "malformed"),
        ("ORIGIN twice", and(ORIGIN), "malformed"),
        ("ORIGIN 3", update("", "40010103", "20cb007107"), "malformed"),
        ("ORIGIN of 2 octets", update("", "4001020000", "20cb007107"), "malformed"),
        ("half a community", update("", "c00802ffff", "20cb007107"), "malformed"),
        ("no communities in COMMUNITIES", update("", "c00800", "20cb007107"), "malformed"),
        ("attribute beyond the end", cut, "malformed"),
        ("our AS, 4 octets", path("400206 0201 0000fde8"), "passes"),
        ("our AS, 2 octets", path("400204 0201 fde8"), "passes"),
        ("AS_SET", path("400206 0101 0000fde8"), "malformed"),
        ("AS 0", path("400206 0201 00000000"), "malformed"),
        ("empty segment", path("400202 0200"), "malformed"),
        ("path cut short", path("400205 0201 0000fd"), "malformed"),
        ("attributes without a route", update("", ORIGIN, ""), "not-understood"),
        (
            "withdrawal and announcement",
            update("20cb007107", &base, "20cb007108"),
            "not-understood",
        ),
        ("IPv4 in MP_REACH_NLRI", update("", &v4_in_mp, ""), "not-understood"),
        ("host bits", rtbh("17cb0071"), "malformed"),
        ("prefix cut short", rtbh("20cb0071"), "malformed"),
        ("prefix length 33", rtbh("21cb00710780"), "malformed"),
        (
            "IPv6 next hop of 32 octets",
            update(
                "",
                &format!(
                    "800e36 000201 20 {} 00 80 20010db8000100000000000000000007 {ORIGIN} {PATH} {BLACKHOLE}",
                    "00".repeat(32)
                ),
                "",
            ),
            "not-understood",
        ),
        (
            "FlowSpec with a next hop",
            update(
                "",
                &format!("800e11 000185 04 c0000201 00 08 0118cb0071038106 {ORIGIN} {PATH}"),
                "",
            ),
            "not-understood",
        ),
        (
            "FlowSpec without NLRI",
            update("", &format!("800e05 000185 00 00 {ORIGIN} {PATH}"), ""),
            "malformed",
        ),
    ]);
}

#[test]
fn malformed_rules() {
    check(&[
        ("good flow4", flow(1, "0120cb007107 038111 06817b"), "passes"),
        ("good flow6", flow(2, "018000 20010db8000100000000000000000007 038111"), "passes"),
        ("empty", flow(1, ""), "malformed"),
        ("unsorted", flow(1, "038111 0120cb007107"), "malformed"),
        ("twice", flow(1, "0120cb007107 038111 038106"), "malformed"),
        ("type 0", flow(1, "00 0120cb007107"), "malformed"),
        ("type 14", flow(1, "0120cb007107 0e8001"), "malformed"),
        ("flow label in IPv4", flow(1, "0120cb007107 0d8101"), "malformed"),
        ("no end of list", flow(1, "0120cb007107 030111"), "malformed"),
        ("operator without value", flow(1, "0120cb007107 0381"), "malformed"),
        ("AND on the first operator", flow(1, "0120cb007107 03c111"), "malformed"),
        ("reserved operator bit", flow(1, "0120cb007107 038911"), "malformed"),
        ("reserved bitmask operator bit", flow(1, "0120cb007107 09850200"), "malformed"),
        ("2-octet protocol", flow(1, "0120cb007107 03910011"), "malformed"),
        ("2-octet port below 256", flow(1, "0120cb007107 0591007b"), "malformed"),
        ("8-octet port", flow(1, "0120cb007107 05b1000000000000007b"), "malformed"),
        ("4-octet packet length", flow(1, "0120cb007107 0aa100018683"), "malformed"),
        ("DSCP 64", flow(1, "0120cb007107 0b8140"), "malformed"),
        ("TCP data offset", flow(1, "0120cb007107 09911002"), "malformed"),
        ("fragment bit 4", flow(1, "0120cb007107 0c8110"), "malformed"),
        ("IPv6 with DF", flow(2, "013000 20010db80001 0c8101"), "malformed"),
        ("IPv6 offset", flow(2, "018040 0000000000000007 038111"), "malformed"),
        ("host bits", flow(1, "0117cb0071 038111"), "malformed"),
        ("240 octets", flow(1, &format!("0120cb007107 06{}", "01ff".repeat(117))), "too-long"),
    ]);
}

#[test]
fn flowspec_rules() {
    check(&[
        ("no destination", flow(1, "038111 06817b"), "no-destination"),
        ("not owned", flow(1, "01200a000001 038111"), "not-owned"),
        ("half owned", flow(1, "0117cb0070 038111"), "not-owned"),
        ("too wide", flow(1, "0110c633 038111"), "not-specific"),
        ("never-touch inside", flow(1, "0118cb0071 038111"), "never-touch"),
        ("a /24", flow(1, "0118c63363 038111"), "passes"),
        ("destination alone", flow(1, "0120cb007107"), "no-discriminator"),
        ("every source", flow(1, "0120cb007107 0200"), "no-discriminator"),
        ("protocol >= 0", flow(1, "0120cb007107 038300"), "no-discriminator"),
        ("packet length >= 20", flow(1, "0120cb007107 0a8314"), "no-discriminator"),
        ("protocol true", flow(1, "0120cb007107 038700"), "no-discriminator"),
        ("any flags", flow(1, "0120cb007107 098100"), "no-discriminator"),
        ("false", flow(1, "0120cb007107 038011"), "impossible"),
        ("below and above", flow(1, "0120cb007107 05143503 c23503"), "malformed"),
        ("port < 53 and > 53", flow(1, "0120cb007107 050435 c235"), "impossible"),
        ("port > 53 and < 55", flow(1, "0120cb007107 050235 c437"), "passes"),
        ("packet length < 20", flow(1, "0120cb007107 0a8413"), "impossible"),
        (
            "IPv6 packet length < 40",
            flow(2, "018000 20010db8000100000000000000000007 0a8427"),
            "impossible",
        ),
        ("ports with GRE", flow(1, "0120cb007107 03812f 05817b"), "impossible"),
        ("ports with UDP", flow(1, "0120cb007107 038111 05817b"), "passes"),
        ("ports with UDP or TCP", flow(1, "0120cb007107 030111 8106 05817b"), "passes"),
        ("ports with UDP or ICMP", flow(1, "0120cb007107 030111 8101 05817b"), "impossible"),
        ("ports without a protocol", flow(1, "0120cb007107 05817b"), "passes"),
        ("ICMP echo", flow(1, "0120cb007107 038101 078108"), "passes"),
        ("ICMP type without ICMP", flow(1, "0120cb007107 078108"), "impossible"),
        ("ICMP type with UDP", flow(1, "0120cb007107 038111 078108"), "impossible"),
        ("ICMP type with ports", flow(1, "0120cb007107 05817b 078108"), "impossible"),
        ("ICMPv6", flow(2, "018000 20010db8000100000000000000000007 03813a 078180"), "passes"),
        (
            "ICMP in IPv6",
            flow(2, "018000 20010db8000100000000000000000007 038101 078108"),
            "impossible",
        ),
        ("SYN", flow(1, "0120cb007107 038106 098102"), "passes"),
        ("TCP flags with UDP", flow(1, "0120cb007107 038111 098102"), "impossible"),
        ("later fragments", flow(1, "0120cb007107 0c8102"), "passes"),
        ("first and later fragment at once", flow(1, "0120cb007107 0c8106"), "impossible"),
        ("ports in later fragments", flow(1, "0120cb007107 06817b 0c8102"), "impossible"),
        ("ports in first fragments", flow(1, "0120cb007107 06817b 0c8104"), "passes"),
        (
            "port is neither of its ports",
            flow(1, "0120cb007107 048101 058102 068103"),
            "impossible",
        ),
        ("port is its source port", flow(1, "0120cb007107 048103 058102 068103"), "passes"),
    ]);
}

#[test]
fn our_own_sessions_are_safe() {
    // 198.51.7.1 is one end of a session.
    check(&[
        ("UDP", flow(1, "0120c6330701 038111"), "session"),
        ("NTP answers to its /24", flow(1, "0118c63307 038111 06817b"), "passes"),
        ("TCP", flow(1, "0120c6330701 038106"), "session"),
        ("TCP to its /24", flow(1, "0118c63307 038106"), "session"),
        ("small packets", flow(1, "0120c6330701 0a8540"), "session"),
        ("from somewhere", flow(1, "0120c6330701 0218cb0071"), "session"),
        ("to port 179", flow(1, "0120c6330701 0581b3"), "session"),
        ("from port 179", flow(1, "0120c6330701 0681b3"), "session"),
        ("port 179 at either end", flow(1, "0120c6330701 0481b3"), "session"),
        ("to ports above 1023", flow(1, "0120c6330701 05920400"), "session"),
        ("SYN to port 80", flow(1, "0120c6330701 038106 058150"), "passes"),
        ("from port 80", flow(1, "0120c6330701 038106 068150"), "passes"),
        ("port 80 at either end", flow(1, "0120c6330701 038106 048150"), "passes"),
        ("not TCP", flow(1, "0120c6330701 038606"), "session"),
        ("not UDP", flow(1, "0120c6330701 038611"), "session"),
        ("protocol above 6", flow(1, "0120c6330701 038206"), "session"),
        ("protocol above 17", flow(1, "0120c6330701 038211"), "passes"),
        ("UDP to port 53", flow(1, "0120c6330701 038111 058135"), "passes"),
        ("UDP from port 53", flow(1, "0120c6330701 038111 068135"), "passes"),
        ("UDP from port 4789", flow(1, "0120c6330701 038111 069112b5"), "session"),
        ("UDP from 4789 to 53", flow(1, "0120c6330701 038111 058135 069112b5"), "passes"),
        ("to BFD control", flow(1, "0120c6330701 05910ec8"), "session"),
        ("from BFD control", flow(1, "0120c6330701 06910ec8"), "session"),
        ("BFD echo at either end", flow(1, "0120c6330701 038111 04910ec9"), "session"),
        ("to multihop BFD", flow(1, "0120c6330701 038111 059112b0"), "session"),
        ("TCP to the port of BFD", flow(1, "0120c6330701 038106 04910ec8 058150"), "passes"),
        ("SYN without a protocol", flow(1, "0120c6330701 098102"), "session"),
        ("SYN to port 3784", flow(1, "0120c6330701 05910ec8 098102"), "session"),
        ("ICMP echo", flow(1, "0120c6330701 038101 078108"), "passes"),
        ("another host", flow(1, "0120c6330702 038106"), "passes"),
        ("IPv6", flow(2, "018000 20010db8000100000000000000000001 038106"), "session"),
    ]);
    let mut policy = policy();
    policy.session_ports = BTreeSet::from([1790]);
    let gate = Gate::new(policy);
    assert_eq!(verdict(&gate, &flow(1, "0120c6330701 0581b3")), "passes");
    assert_eq!(verdict(&gate, &flow(1, "0120c6330701 059106fe")), "session");
}

#[test]
fn actions() {
    let rule = "0120cb007107 038111";
    let action = |value: &str| flow_with(1, rule, &format!("c01008{value}"));
    check(&[
        ("none", flow_with(1, rule, ""), "no-action"),
        ("rate", action("8006000046160000"), "passes"),
        ("rate of an AS", action("8006fde846160000"), "passes"),
        ("packets", action("800c0000447a0000"), "passes"),
        ("negative", action("80060000bf800000"), "rate"),
        ("negative zero", action("8006000080000000"), "rate"),
        ("NaN", action("800600007fc00000"), "rate"),
        ("infinite packets", action("800c00007f800000"), "rate"),
        ("traffic-action", action("8007000000000003"), "passes"),
        ("traffic-action bit 2", action("8007000000000004"), "not-understood"),
        ("mark", action("800900000000002e"), "passes"),
        ("mark 64", action("8009000000000040"), "not-understood"),
        ("redirect", action("8008ffdc00003039"), "passes"),
        ("redirect to IPv4", action("010c010203040001"), "passes"),
        ("route target", action("0002ffdc00003039"), "not-understood"),
        ("interface set", action("0702fdf200000001"), "not-understood"),
        (
            "redirect to IPv6",
            flow_with(1, rule, "c01914 000c 20010db8000000000000000000000009 0001"),
            "passes",
        ),
        (
            "IPv6 route target",
            flow_with(1, rule, "c01914 0002 20010db8000000000000000000000009 0001"),
            "not-understood",
        ),
    ]);
}

#[test]
fn the_default_policy_lets_no_announcement_out() {
    let gate = Gate::new(GatePolicy::default());
    assert_eq!(verdict(&gate, &rtbh("20cb007107")), "not-owned");
    assert_eq!(verdict(&gate, &flow(1, "0120cb007107 038111")), "not-owned");
}

#[test]
fn floors_hold() {
    let mut lax = policy();
    lax.least_flowspec_ipv4 = 8;
    lax.least_flowspec_ipv6 = 0;
    lax.least_unicast_ipv4 = 0;
    lax.least_unicast_ipv6 = 0;
    lax.space.never_touch.clear();
    lax.session_addresses.clear();
    let gate = Gate::new(lax);
    assert_eq!(verdict(&gate, &flow(1, "0110c633 038111")), "not-specific");
    assert_eq!(verdict(&gate, &flow(1, "0118c63364 038111")), "passes");
    assert_eq!(verdict(&gate, &rtbh("17c63364")), "not-specific");
    assert_eq!(verdict(&gate, &rtbh("18cb0071")), "passes");
    let strict = Gate::new(GatePolicy { least_flowspec_ipv4: 32, ..policy() });
    assert_eq!(verdict(&strict, &flow(1, "0118c63363 038111")), "not-specific");
}

#[test]
fn a_profile_brings_its_own_communities() {
    let with = |communities: &str| {
        update("", &[ORIGIN, PATH, NEXT_HOP, communities].concat(), "20cb007107")
    };
    let own = with("c00804fde9029a");
    let own_large = with("c0200c0000fdf20000029a00000001");
    assert_eq!(verdict(&Gate::new(policy()), &own), "no-blackhole-community");

    let mut provider = policy();
    provider.admit_profile(&BTreeSet::from([Community::new(65001, 666)]), &BTreeSet::new());
    let provider = Gate::new(provider);
    assert_eq!(verdict(&provider, &own), "passes");
    assert_eq!(verdict(&provider, &own_large), "no-blackhole-community");
    assert_eq!(verdict(&provider, &with("c00804ffffff01")), "no-blackhole-community");

    let mut large = policy();
    let community = LargeCommunity { global: 65010, local1: 666, local2: 1 };
    large.admit_profile(&BTreeSet::from([Community::NO_EXPORT]), &BTreeSet::from([community]));
    let large = Gate::new(large);
    assert_eq!(verdict(&large, &own_large), "no-scope-community");
    assert_eq!(verdict(&large, &with("c00804ffffff01")), "no-blackhole-community");
    let both = with("c00804ffffff01 c0200c0000fdf20000029a00000001");
    assert_eq!(verdict(&large, &both), "passes");
}

#[test]
fn refusals_say_what_and_why() {
    let gate = Gate::new(policy());
    for (message, expected) in [
        (rtbh("200a000001"), "10.0.0.1/32: 10.0.0.1/32 lies in no owned prefix"),
        (
            flow(1, "0120c6330701 038106"),
            "flow4 to 198.51.7.1/32 (0120c6330701038106): may match the BGP session of 198.51.7.1 or its BFD",
        ),
        (rtbh("17cb0071"), "malformed at octet 49: host bits are set"),
    ] {
        assert_eq!(gate.judge(&message).unwrap_err().to_string(), expected);
    }
}
