//! Policies that are right, and what they come to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tidegate_model::{
    AttackVector, BitsPerSecond, Community, Confidence, Metric, PacketsPerSecond, Prefix,
    Reflector, Severity,
};

use super::{LEAST, PEER, beside_least, file, resolve};
use crate::policy::{
    ConnectMode, DEFAULT_GROUP, Family, FilterAction, Judging, Location, Policy, ResponseAction,
    RtbhProfile, SeverityScale, default_thresholds,
};
use crate::resolve::read;
use crate::text::Collector;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn right(text: &str) -> Policy {
    beside_least(text).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn the_least_policy_has_every_default() {
    let policy = right("");
    assert_eq!(policy.speaker.asn, 65010);
    assert_eq!(policy.judging, Judging::default());
    assert_eq!(policy.severities, SeverityScale::default());
    assert!(policy.responses.is_empty() && policy.peers.is_empty());
    let [group] = policy.groups.as_slice() else { panic!("{:?}", policy.groups) };
    assert_eq!(group.name, DEFAULT_GROUP);
    assert_eq!(group.prefixes, policy.space.owned);
    assert_eq!(group.thresholds, default_thresholds());
}

#[test]
fn what_is_learned_and_judged_together_is_asked_for() {
    let policy = right(
        r#"
        [detection]
        interface-thresholds = { udp = { packets = "2M" } }
        learning = { margin = 3, max-hosts = 1000 }
        "#,
    );
    let interface = policy.judging.interface.unwrap();
    assert_eq!(interface.get(Metric::Udp).packets, Some(PacketsPerSecond(2_000_000)));
    assert_eq!(interface.get(Metric::Total), tidegate_model::Limit::default(), "not judged");
    let learning = policy.judging.learning.unwrap();
    assert!((learning.margin - 3.0).abs() < 1e-9 && (learning.floor - 0.1).abs() < 1e-9);
    assert_eq!(learning.max_hosts, 1000);
    let usual = right("[detection]\nlearning = {}");
    assert_eq!(usual.judging.learning, Some(crate::Learning::default()));
    for (text, expected) in [
        ("learning = { margin = 0.5 }", "must be from 1 to 1000, not 0.5"),
        ("learning = true", "`detection.learning` must be a table, not a boolean"),
        ("interface-thresholds = { udp = { packets = 0 } }", "is zero"),
    ] {
        let report = beside_least(&format!("[detection]\n{text}")).unwrap_err().to_string();
        assert!(report.contains(expected), "{text}: {report}");
    }
}

#[test]
fn groups_inherit_metric_by_metric() {
    let policy = right(
        r#"
        [groups.default.thresholds]
        udp = { packets = 7_000 }
        total = { packets = "1M", bits = "10G" }
        [groups.web]
        prefixes = ["203.0.113.0/24", "2001:db8:1:1::/64"]
        thresholds.total = { bits = "2Gbps" }
        "#,
    );
    let group = |name: &str| policy.groups.iter().find(|group| group.name == name).unwrap();
    let web = &group("web").thresholds;
    assert_eq!(web.get(Metric::Udp).packets, Some(PacketsPerSecond(7_000)));
    assert_eq!(web.get(Metric::Total).packets, None);
    assert_eq!(web.get(Metric::Total).bits, Some(BitsPerSecond(2_000_000_000)));
    assert_eq!(web.get(Metric::TcpSyn), default_thresholds().get(Metric::TcpSyn));
    assert_eq!(group("default").prefixes, [prefix("2001:db8:1::/48")], "web has the other one");
}

#[test]
fn a_peer_has_every_default() {
    let policy = right(PEER);
    let peer = policy.peer("edge").unwrap();
    assert_eq!((peer.port, peer.mode, peer.hold_time.as_secs()), (179, ConnectMode::Active, 9));
    assert_eq!(peer.families.len(), Family::ALL.len());
    assert_eq!(peer.rtbh, RtbhProfile::default());
    assert!(peer.rtbh.communities.contains(&Community::BLACKHOLE));
    assert_eq!((peer.local_address, peer.max_routes), (None, 200));
}

#[test]
fn neighbours_may_come_from_a_prefix() {
    let range = |more: &str| {
        let text = format!("[[peers]]\nname = \"racks\"\nas = 65001\n{more}\n");
        right(&text).peer("racks").unwrap().clone()
    };
    let peer = range("listen-range = \"203.0.113.16/28\"");
    let prefix = prefix("203.0.113.16/28");
    assert_eq!(peer.location, Location::Range { prefix, limit: 16 });
    assert_eq!(peer.mode, ConnectMode::Passive);
    let peer = range("listen-range = \"2001:db8:9::/64\"\nlisten-limit = 3\nmode = \"passive\"");
    assert!(matches!(peer.location, Location::Range { limit: 3, .. }));
    let text = "[[peers]]\nname = \"racks\"\nas = 65001\nlisten-range = \"203.0.113.16/28\"\n";
    assert_eq!(right(text).space.never_touch, [prefix]);
}

#[test]
fn session_addresses_in_owned_space_are_never_touched() {
    let policy = right(
        r#"
        [[peers]]
        name = "inside"
        address = "203.0.113.1"
        local-address = "203.0.113.2"
        as = 65010
        [[peers]]
        name = "outside"
        address = "198.51.100.1"
        as = 65001
        "#,
    );
    assert_eq!(policy.space.never_touch, [prefix("203.0.113.1"), prefix("203.0.113.2")]);
    assert_eq!(policy.session_addresses().len(), 3);
}

#[test]
fn a_spared_session_address_is_not_listed_twice() {
    let text = r#"
        [speaker]
        as = 65010
        router-id = "10.0.0.1"
        [owned]
        prefixes = ["203.0.113.0/24"]
        never-touch = ["203.0.113.0/29"]
        [[peers]]
        name = "inside"
        address = "203.0.113.1"
        as = 65010
    "#;
    let policy = resolve("policy", &[file("p.toml", text)]).unwrap();
    assert_eq!(policy.space.never_touch, [prefix("203.0.113.0/29")]);
}

#[test]
fn wildcards_are_expanded() {
    let vectors = |list: &str| {
        let text =
            format!("[[responses]]\nname = \"a\"\naction = \"observe\"\nwhen.vectors = {list}\n");
        right(&text).responses[0].matcher.vectors.clone()
    };
    assert_eq!(vectors(r#"["*"]"#), [], "all of them is every one");
    assert_eq!(vectors(r#"["*-amplification"]"#).len(), Reflector::ALL.len());
    assert_eq!(
        vectors(r#"["tcp-*", "syn-flood", "syn-*"]"#),
        [
            AttackVector::SynFlood,
            AttackVector::TcpConnectionFlood,
            AttackVector::SynAckReflection,
            AttackVector::SynAckFlood,
            AttackVector::TcpFlood
        ]
    );
}

#[test]
fn filters_are_read_in_both_units() {
    for (filter, expected) in [
        ("\"discard\"", FilterAction::Discard),
        ("{ rate-limit = \"1Mbps\" }", FilterAction::RateLimitBytes(125_000)),
        ("{ rate-limit = \"1 kpps\" }", FilterAction::RateLimitPackets(1_000)),
    ] {
        let text = format!(
            "{PEER}[[responses]]\nname = \"a\"\naction = \"flowspec\"\nfilter = {filter}\n"
        );
        assert_eq!(right(&text).responses[0].action, ResponseAction::FlowSpec(expected));
    }
}

#[test]
fn a_short_longest_lifetime_shortens_the_shortest() {
    let text = "[[responses]]\nname = \"a\"\naction = \"local\"\nlifetime.at-most = \"10s\"\n";
    let response = &right(text).responses[0];
    assert_eq!(response.min_lifetime, Duration::from_secs(10));
    assert_eq!(response.max_lifetime, Duration::from_secs(10));
    assert_eq!(response.action, ResponseAction::Local(FilterAction::Discard));
}

#[test]
fn left_out_peers_are_those_that_can_carry_the_action() {
    let text = format!(
        r#"{PEER}
        [[peers]]
        name = "blackholes"
        address = "10.0.0.3"
        as = 65001
        families = ["ipv4-unicast"]
        [[responses]]
        name = "worst"
        when.severity = "critical"
        action = "rtbh"
        [[responses]]
        name = "rest"
        action = "flowspec"
        "#
    );
    let policy = right(&text);
    assert_eq!(policy.responses[0].peers, ["edge", "blackholes"]);
    assert_eq!(policy.responses[1].peers, ["edge"]);
}

#[test]
fn the_order_of_files_is_the_order_of_responses() {
    let response = |name: &str, severity: &str| {
        format!(
            "[[responses]]\nname = \"{name}\"\naction = \"observe\"\nwhen.severity = \"{severity}\"\n"
        )
    };
    let files = [
        file("a.toml", LEAST),
        file("b.toml", response("first", "high")),
        file("c.toml", response("second", "low")),
    ];
    let policy = resolve("policy", &files).unwrap();
    let found = |severity| {
        policy
            .response("default", AttackVector::UdpFlood, severity, Confidence::new(0.5), None)
            .unwrap()
    };
    assert_eq!(found(Severity::Critical).name, "first");
    assert_eq!(found(Severity::Medium).name, "second");
}

fn example_files() -> Vec<crate::resolve::PolicyFile> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy");
    crate::resolve::read_files(&directory).unwrap()
}

#[test]
fn the_example_policy_is_right() {
    let policy =
        resolve("examples/policy", &example_files()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(policy.peers.len(), 2);
    assert_eq!(policy.responses.len(), 7);
    let ladder = policy.responses.iter().find(|each| each.name == "small-ones-here").unwrap();
    let actions: Vec<_> = (0..ladder.steps()).map(|step| ladder.at(step).action.name()).collect();
    assert_eq!(actions, ["local", "flowspec", "rtbh"]);
    let peers =
        |name: &str| policy.responses.iter().find(|each| each.name == name).unwrap().peers.clone();
    assert_eq!(peers("blackhole-critical"), ["transit-a", "transit-b"]);
    assert_eq!(peers("limit-floods"), ["transit-a"]);
}

/// The table of a key as the reference calls it, and the key.
fn in_the_reference(key: &str) -> (String, &str) {
    let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
    let mut parts: Vec<&str> = table.split('.').collect();
    if let ["groups", name, rest @ ..] = parts.as_mut_slice() {
        *name = "NAME";
        match rest {
            ["approval"] => return ("approval".to_owned(), key),
            ["capacity"] => return ("groups.NAME.thresholds.METRIC".to_owned(), key),
            [table @ ("thresholds" | "prefix-thresholds"), metrics @ ..] => {
                *table = "thresholds";
                metrics.iter_mut().for_each(|metric| *metric = "METRIC");
            }
            _ => {}
        }
    }
    if let ["detection", "interface-thresholds", metrics @ ..] = parts.as_slice() {
        let table =
            ["groups", "NAME", "thresholds"].into_iter().chain(metrics.iter().map(|_| "METRIC"));
        return (table.collect::<Vec<_>>().join("."), key);
    }
    if let ["responses", "then", rest @ ("filter" | "lifetime")] = parts.as_slice() {
        return (format!("responses.{rest}"), key);
    }
    // A profile takes the keys of a peer, and three of its own.
    match parts.as_slice() {
        ["profiles", _] if ["like", "summary", "source"].contains(&key) => {
            ("profiles.NAME".to_owned(), key)
        }
        ["profiles", _, rest @ ..] => ([&["peers"], rest].concat().join("."), key),
        _ => (parts.join("."), key),
    }
}

/// The reference has a section for every table, and in it a row for every key that the reader asks
/// for. The example policy has every table, so reading it asks for every key.
#[test]
fn every_key_is_in_the_reference() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = fs::read_to_string(manifest.join("../docs/policy.md")).unwrap();
    let sections: Vec<&str> = reference.split("\n## ").skip(1).collect();
    let collector = Collector::new();
    assert!(read("examples/policy", &example_files(), &collector).is_some());
    let keys = collector.keys();
    assert!(keys.contains("peers.rtbh.next-hop-v6"), "{keys:?}");
    for key in &keys {
        let (table, key) = in_the_reference(key);
        if key == "include" {
            assert!(reference.contains("`include = ["), "nothing about `include`");
            continue;
        }
        if table.is_empty() {
            let headings = [format!("`[{key}"), format!("`[[{key}")];
            let described = |section: &str| headings.iter().any(|each| section.starts_with(each));
            assert!(sections.iter().any(|section| described(section)), "no section for {key}");
            continue;
        }
        let headings =
            [format!("`[{table}]`\n"), format!("`[[{table}]]`\n"), format!("`{table}`\n")];
        let section = sections
            .iter()
            .find(|section| headings.iter().any(|heading| section.starts_with(heading)))
            .unwrap_or_else(|| panic!("docs/policy.md has no section for {table}"));
        assert!(section.contains(&format!("\n| `{key}` |")), "no row for {key} in {table}");
    }
}

/// The defaults in the reference are those of the code.
#[test]
fn the_reference_has_the_default_thresholds() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = fs::read_to_string(manifest.join("../docs/policy.md")).unwrap();
    for (metric, limit) in default_thresholds().iter() {
        let row = reference
            .lines()
            .find(|line| line.starts_with(&format!("| `{metric}` |")))
            .unwrap_or_else(|| panic!("{metric} is not in the reference"));
        for shown in
            limit.packets.map(|rate| rate.0).into_iter().chain(limit.bits.map(|rate| rate.0))
        {
            let text = match shown {
                1_000_000_000.. => format!("\"{}G\"", shown / 1_000_000_000),
                1_000_000.. => format!("\"{}M\"", shown / 1_000_000),
                _ => format!("\"{}k\"", shown / 1_000),
            };
            assert!(row.contains(&text), "{metric}: {text} is not in {row}");
        }
    }
}
