use std::path::Path;

use super::*;
use crate::diff::diff;
use crate::explain::{Question, explain, rate};

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy").join(name)
}

fn policy() -> Arc<Policy> {
    Arc::new(crate::load(&example("")).unwrap_or_else(|report| panic!("{report}")))
}

fn scenarios(text: &str) -> Vec<Scenario> {
    let file = PolicyFile { name: "t.toml".to_owned(), bytes: text.as_bytes().to_vec() };
    read(&[file]).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn the_example_policy_passes_its_tests() {
    let files = crate::read_files(&example("tests")).unwrap_or_else(|report| panic!("{report}"));
    let scenarios = read(&files).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(scenarios.len(), 3);
    let policy = policy();
    for scenario in scenarios {
        let result = scenario.run(&policy);
        assert!(result.passed(), "{result}");
    }
}

const WRONG: &str = r#"
[[scenarios]]
name = "a flood"
[[scenarios.attacks]]
target = "203.0.113.200"
vector = "udp-flood"
destination-ports = [53]
packets = "50k"
[[scenarios.expect]]
at = "1s"
mitigations = ["203.0.113.200/32 at peer transit-a"]
"#;

#[test]
fn a_difference_is_shown_with_its_reason() {
    let result = scenarios(WRONG).remove(0).run(&policy());
    insta::assert_snapshot!(result.to_string(), @r#"
    FAILED  a flood (t.toml:3)
      at 1s:
        - 203.0.113.200/32 at peer transit-a
        + flow4 { destination 203.0.113.200/32; protocol =17; destination-port =53 } at peer transit-a: rate-limit 10000 packets/s, communities 65535:65281
        because: udp at 50.0 kpps, limit 20.0 kpps, peak 2.5 times the limit; udp-flood, confidence 1.00; severity medium; `limit-floods`: rate-limit 10.0 kpps by 1 FlowSpec rule at peer transit-a; at least 1 min, at most 6 h
    "#);
    assert_eq!(result.to_json()["passed"], false);
    assert_eq!(result.to_json()["differences"][0]["at"], "1s");
}

#[test]
fn mistakes_in_scenarios_are_all_reported() {
    let text = r#"
[[scenarios]]
name = "a"
[[scenarios.attacks]]
target = "203.0.113.7"
vector = "sin-flood"
packets = 0x10
[[scenarios.expect]]
at = "soon"
mitigations = [1]
[[scenarios]]
nam = "b"
attacks = []
expect = []
"#;
    let file = PolicyFile { name: "t.toml".to_owned(), bytes: text.as_bytes().to_vec() };
    let report = read(&[file]).unwrap_err().to_string();
    for expected in [
        "t.toml:6:10: error:",
        "t.toml:7:11: error:",
        "t.toml:9:6: error:",
        "t.toml:10:16: error:",
        "`nam` is not known in `scenarios`",
    ] {
        assert!(report.contains(expected), "no {expected} in\n{report}");
    }
}

#[test]
fn an_expected_line_may_leave_out_the_end() {
    let found = "203.0.113.7/32 at peer a: blackhole, next hop 192.0.2.1";
    for (expected, meant) in [
        ("203.0.113.7/32 at peer a", true),
        ("203.0.113.7/32 at peer a: blackhole", true),
        (found, true),
        ("203.0.113.7/32 at peer", false),
        ("203.0.113.7/32 at peer a: black", false),
        ("203.0.113.7/32 at peer a: discard", false),
    ] {
        assert_eq!(is_meant(expected, found), meant, "{expected}");
    }
}

fn question(target: &str, attack: Option<(AttackVector, Rate)>) -> Question {
    Question {
        target: target.parse().unwrap(),
        attack,
        confidence: Confidence::new(0.95),
        signature: Signature { protocol: Some(6), ..Signature::default() },
        unix: None,
    }
}

#[test]
fn an_explanation_says_which_rules_and_why() {
    let attack = (AttackVector::SynFlood, rate(400_000, None));
    let answer = explain(&policy(), &question("203.0.113.7", Some(attack)));
    insta::assert_snapshot!(answer.text, @r#"
    203.0.113.7/32 lies in the owned prefix 203.0.113.0/24
    group `web`, by its prefix 203.0.113.0/25
      total          400 kpps or 4.00 Gbps
      tcp-syn        40.0 kpps
      tcp            300 kpps
      udp            20.0 kpps
      amplification  5.00 kpps or 200 Mbps
      icmp           5.00 kpps
      fragment       5.00 kpps
      other          5.00 kpps
      link capacity  8.00 Mpps, 10.0 Gbps
      approval       local auto, flowspec auto, rtbh propose
    syn-flood at 400 kpps, 320 Mbps: 10.0 times its tcp-syn threshold, confidence 0.95: severity high
      `name-servers-rate-limit` (flowspec rate-limit 50.0 Mbps): not for group `web`
      `blackhole-critical` (rtbh): wants severity critical, and this is high
      `drop-reflection` (flowspec discard): not for syn-flood
      `limit-floods` (flowspec rate-limit 10.0 kpps, rules from samples; by signature here, where there are none): matches
      `scrub-at-night` (flowspec redirect 65010:666): not for syn-flood
      `small-ones-here` (local discard): matches
      `tell-people` (observe): matches
    tcp-syn at 400 kpps, limit 40.0 kpps, peak 10.0 times the limit; syn-flood, confidence 0.95; severity high; `limit-floods`: rate-limit 10.0 kpps by 1 FlowSpec rule at peer transit-a; at least 1 min, at most 6 h
      flow4 { destination 203.0.113.7/32; protocol =6; tcp-flags syn&!ack } at peer transit-a: rate-limit 10000 packets/s, communities 65535:65281
    "#);
    assert_eq!(answer.json["group"]["name"], "web");
    assert_eq!(answer.json["severity"], "high");
    let responses = answer.json["responses"].as_array().unwrap();
    let matching: Vec<_> =
        responses.iter().filter(|it| it["matches"] == true).map(|it| &it["name"]).collect();
    assert_eq!(matching, ["limit-floods", "small-ones-here", "tell-people"]);
}

#[test]
fn an_explanation_of_what_is_not_ours_or_never_touched() {
    let policy = policy();
    let text = |target| explain(&policy, &question(target, None)).text;
    assert!(text("192.0.2.1").contains("lies in no owned prefix"));
    assert!(
        text("203.0.113.53").contains("touches 203.0.113.53/32, which no mitigation may touch")
    );
    let small = Some((AttackVector::SynFlood, rate(10, None)));
    assert!(explain(&policy, &question("203.0.113.7", small)).text.contains("below the threshold"));
}

#[test]
fn policies_are_compared_by_what_they_would_do() {
    let old = policy();
    let mut changed = (*old).clone();
    changed.responses.retain(|response| !response.name.starts_with(['l', 's']));
    let new = Arc::new(changed);
    let scenarios = scenarios(WRONG);
    let incidents: Vec<Recorded> = [("203.0.113.200", 50_000), ("203.0.113.201", 100)]
        .into_iter()
        .zip(1..)
        .map(|((target, packets), id)| {
            let signature = Signature {
                protocol: Some(17),
                destination_ports: vec![53],
                ..Signature::default()
            };
            let vector = (AttackVector::UdpFlood, Confidence::new(0.9), signature);
            let target = target.parse().unwrap();
            let attack = play::attack(&old, AttackId(id), target, vector, rate(packets, None));
            Recorded { attack, begins: Duration::ZERO, lasts: Some(Duration::from_secs(60)) }
        })
        .collect();
    let same = diff(&old, &old, &incidents, &scenarios);
    assert_eq!(
        same.to_string(),
        "0 of 2 incidents and 0 of 1 scenarios would be handled differently"
    );
    let found = diff(&old, &new, &incidents, &scenarios);
    insta::assert_snapshot!(found.to_string(), @r#"
    1 of 2 incidents and 1 of 1 scenarios would be handled differently
    attack-1: udp-flood on 203.0.113.200/32, after 0s:
      - flow4 { destination 203.0.113.200/32; protocol =17; destination-port =53 } at peer transit-a: rate-limit 10000 packets/s, communities 65535:65281
      because: udp at 50.0 kpps, limit 20.0 kpps, peak 2.5 times the limit; udp-flood, confidence 0.90; severity medium; `tell-people`: observed only
    a flood, after 1s:
      - flow4 { destination 203.0.113.200/32; protocol =17; destination-port =53 } at peer transit-a: rate-limit 10000 packets/s, communities 65535:65281
      because: udp at 50.0 kpps, limit 20.0 kpps, peak 2.5 times the limit; udp-flood, confidence 1.00; severity medium; `tell-people`: observed only
    "#);
    assert_eq!(found.to_json()["incidents_changed"], 1);
}

/// The play itself: a blackhole is lifted, looked behind, and gone after its attack.
#[test]
fn a_play_follows_blackholes_to_their_end() {
    let text = r#"
[speaker]
as = 65010
router-id = "10.0.0.1"
[owned]
prefixes = ["203.0.113.0/24"]
[[peers]]
name = "edge"
address = "10.0.0.2"
as = 65001
[[responses]]
name = "all"
action = "rtbh"
"#;
    let file = PolicyFile { name: "p.toml".to_owned(), bytes: text.as_bytes().to_vec() };
    let policy = Arc::new(crate::resolve("p", &[file]).unwrap_or_else(|it| panic!("{it}")));
    let scenario = scenarios(
        r#"
[[scenarios]]
name = "a flood"
attacks = [{ target = "203.0.113.7", vector = "syn-flood", packets = "1M", lasts = "100s" }]
expect = [
    { at = "0s", mitigations = ["203.0.113.7/32 at peer edge: blackhole, next hop 192.0.2.1"] },
    { at = "59s", mitigations = ["203.0.113.7/32 at peer edge"] },
    { at = "61s", mitigations = ["203.0.113.7/32 at peer edge"] },
    { at = "179s", mitigations = ["203.0.113.7/32 at peer edge"] },
    { at = "181s", mitigations = [] },
    { at = "30d", mitigations = [] },
]
"#,
    );
    let result = scenario[0].run(&policy);
    assert!(result.passed(), "{result}");
}
