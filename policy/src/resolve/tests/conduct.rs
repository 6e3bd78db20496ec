//! Steps, modes, limits and includes: what is read, and what is said about mistakes.

use std::fs;
use std::time::Duration;

use tidegate_model::{BitsPerSecond, Confidence, Limit, Metric, PacketsPerSecond, Severity};

use super::{PEER, beside_least, mistakes_in};
use crate::policy::{
    FilterAction, Mode, Otherwise, Policy, ResponseAction, RouteTarget, SensorPlace,
};

fn right(text: &str) -> Policy {
    beside_least(text).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn everything_about_conduct_is_read() {
    let policy = right(
        r#"
        approval = { rtbh = "propose" }
        enforcement = { deadline = "5s", if-not-enforced = "next" }
        effect = { sensor = "behind-filters", none-below = 0.1, none-after = "1m" }
        flapping = { cycles = 4, within = "30m" }
        breaker = { targets = 50, share = 0.05, within = "30s", cool-down = "5m" }
        budgets = { mitigations = 1000, per-group = 200, rules-per-attack = 4, kernel-rules = 100 }
        remotes = { allow = ["192.0.2.0/24"], trusted = ["198.51.100.0/24"] }
        time = { utc-offset = "-03:30" }
        "#,
    );
    assert_eq!(policy.group("default").unwrap().approvals.rtbh, Mode::Propose);
    assert_eq!(policy.enforcement.deadline, Duration::from_secs(5));
    assert_eq!(policy.enforcement.otherwise, Otherwise::Next);
    assert_eq!(policy.effect.sensor, SensorPlace::BehindFilters);
    assert_eq!(policy.flapping.cycles, 4);
    assert_eq!((policy.breaker.targets, policy.breaker.cool_down), (50, Duration::from_secs(300)));
    assert_eq!((policy.budgets.per_group, policy.budgets.rules_per_attack), (200, 4));
    assert_eq!(policy.allowed_remotes, ["192.0.2.0/24".parse().unwrap()]);
    assert_eq!(policy.trusted_remotes, ["198.51.100.0/24".parse().unwrap()]);
    assert_eq!(policy.utc_offset, -210);
}

#[test]
fn groups_inherit_what_they_do_not_say() {
    let policy = right(
        r#"
        approval = { rtbh = "propose", local = "observe" }
        [groups.default]
        capacity = { bits = "1G" }
        prefix-thresholds = { total = { packets = "1M" } }
        approval = { flowspec = "propose" }
        [groups.web]
        prefixes = ["203.0.113.0/25"]
        capacity = { bits = "10G", packets = "5M" }
        prefix-thresholds = { udp = { packets = "100k" } }
        allowed-ports = ["tcp/443", "udp/53", "tcp/443"]
        approval = { rtbh = "auto" }
        "#,
    );
    let (default, web) = (policy.group("default").unwrap(), policy.group("web").unwrap());
    let modes = |group: &crate::policy::Group| {
        let modes = group.approvals;
        [modes.local, modes.flowspec, modes.rtbh]
    };
    assert_eq!(modes(default), [Mode::Observe, Mode::Propose, Mode::Propose]);
    assert_eq!(modes(web), [Mode::Observe, Mode::Propose, Mode::Auto]);
    let ten = Limit {
        packets: Some(PacketsPerSecond(5_000_000)),
        bits: Some(BitsPerSecond(10_000_000_000)),
    };
    assert_eq!(web.capacity, Some(ten));
    let of = |metric| web.prefix_thresholds.unwrap().get(metric).packets.map(|rate| rate.0);
    assert_eq!((of(Metric::Total), of(Metric::Udp)), (Some(1_000_000), Some(100_000)));
    assert_eq!(of(Metric::Icmp), None, "what is not said of networks is not judged");
    let ports: Vec<String> = web.allowed_ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["tcp/443", "udp/53"]);
    assert_eq!(default.capacity.unwrap().bits, Some(BitsPerSecond(1_000_000_000)));
}

#[test]
fn steps_are_read_in_order() {
    let policy = right(&format!(
        r#"{PEER}
        [[responses]]
        name = "ladder"
        action = "local"
        if-not-enforced = "next"
        when.hours = "mon-fri 08:00-18:00"
        [[responses.then]]
        if = [{{ severity = "high" }}, {{ packets = "1M" }}]
        action = "flowspec"
        filter = {{ redirect = "65001:100" }}
        [[responses.then]]
        if = {{ severity = "critical", after = "10s" }}
        action = "rtbh"
        lifetime.at-most = "10m"
        "#
    ));
    let ladder = &policy.responses[0];
    assert_eq!(ladder.otherwise, Some(Otherwise::Next));
    assert_eq!(ladder.matcher.hours.len(), 1);
    assert_eq!(ladder.then[0].when.len(), 2);
    let redirect = FilterAction::Redirect(RouteTarget::As2(65001, 100));
    assert_eq!(ladder.at(1).action, ResponseAction::FlowSpec(redirect));
    assert_eq!(ladder.at(2).peers, ["edge"]);
    assert_eq!(ladder.at(2).max_lifetime, Duration::from_secs(600));
    assert_eq!(ladder.at(9).action, ResponseAction::Rtbh, "the last there is");
}

#[test]
fn severities_are_read() {
    let policy = right(
        r#"
        [severity]
        medium = 3
        capacity = { high = 0.4 }
        duration = { critical = "1h" }
        uncertain = { below = 0.5, at-most = "low" }
        "#,
    );
    let scale = policy.severities;
    assert!((scale.medium - 3.0).abs() < 1e-9);
    assert_eq!(scale.of_capacity.map(|share| (share * 10.0).round()), [2.0, 4.0, 8.0]);
    assert_eq!(scale.after, [None, None, Some(Duration::from_secs(3600))]);
    assert_eq!(scale.uncertain_below, Confidence::new(0.5));
    assert_eq!(scale.uncertain_at_most, Severity::Low);
}

#[test]
fn a_peer_may_be_told_by_a_routing_daemon() {
    let text = r#"
[[peers]]
name = "upstream"
address = "10.0.0.9"
as = 65009
via = "gobgp"
[[responses]]
name = "all"
action = "rtbh"
"#;
    let policy = right(text);
    let backend = tidegate_model::BackendId::External("gobgp".to_owned());
    assert_eq!(policy.peers[0].backend(), backend);
    assert_eq!(policy.peer_at(&backend), Some(&policy.peers[0]));
    let twice = text.replace("[[responses]]", "[[peers]]\nname = \"other\"\naddress = \"10.0.0.8\"\nas = 65008\nvia = \"gobgp\"\n[[responses]]");
    let report = mistakes_in(&twice);
    assert!(report.contains("two peers have the `via` `gobgp`"), "{report}");
}

#[test]
fn filters_beyond_limits_are_read() {
    for (filter, expected) in [
        ("{ redirect = \"192.0.2.1:7\" }", "redirect 192.0.2.1:7"),
        ("{ redirect = \"4200000000:7\" }", "redirect 4200000000:7"),
        ("{ redirect-to-ip = \"192.0.2.66\" }", "redirect to 192.0.2.66"),
        ("{ mark = 8 }", "mark DSCP 8"),
    ] {
        let text = format!(
            "{PEER}[[responses]]\nname = \"a\"\naction = \"flowspec\"\nfilter = {filter}\n"
        );
        assert_eq!(right(&text).responses[0].action.to_string(), format!("flowspec {expected}"));
    }
}

#[test]
fn mistakes_about_conduct() {
    insta::assert_snapshot!(mistakes_in(r#"[approval]
rtbh = "ask"
[effect]
sensor = "beside"
[flapping]
cycles = 0
[time]
utc-offset = "CET"
[groups.web]
prefixes = ["203.0.113.0/25"]
allowed-ports = ["443"]
[severity.duration]
high = "1h"
critical = "10m"
"#), @r#"
    p.toml:2:8: error: `ask` is not an approval mode
      2 | rtbh = "ask"
        |        ^^^^^
      help: write one of `observe`, `propose` or `auto`
    p.toml:4:10: error: `beside` is not a place of the sensor
      4 | sensor = "beside"
        |          ^^^^^^^^
      help: write one of `behind-filters` or `before-filters`
    p.toml:6:10: error: `flapping.cycles` must be from 1 to 1000, not 0
      6 | cycles = 0
        |          ^
      help: write `cycles = 2`
    p.toml:8:14: error: `CET` is not an offset from UTC
      8 | utc-offset = "CET"
        |              ^^^^^
      help: write hours and minutes east of it, such as `+01:00` or `-03:30`
    p.toml:11:18: error: `443` is not a service
      11 | allowed-ports = ["443"]
         |                  ^^^^^
      help: write protocol and port, such as `tcp/443` or `udp/53`
    p.toml:12:1: error: the durations do not ascend
      12 | [severity.duration]
         | ^^^^^^^^^^^^^^^^^^^
      help: write medium < high < critical, as far as given
    "#);
}

#[test]
fn mistakes_in_steps() {
    insta::assert_snapshot!(mistakes_in(&format!(r#"{PEER}
[[responses]]
name = "ladder"
action = "local"
filter = {{ mark = 8 }}
when = {{ hours = "always" }}
[[responses.then]]
if = {{}}
action = "flowspec"
filter = {{ rate-limit = "1Mbps", mark = 8 }}
[[responses.then]]
if = {{ coverage-below = 0.9 }}
action = "rtbh"
peers = ["edgy"]
[[responses.then]]
action = "flowspec"
filter = {{ redirect = "here" }}
"#)), @r#"
    p.toml:10:10: error: the kernel of this host cannot mark DSCP 8
      10 | filter = { mark = 8 }
         |          ^^^^^^^^^^^^
      help: write `filter = "discard"` or a `rate-limit`, or `action = "flowspec"`
    p.toml:11:18: error: `always` is no time of the week
      11 | when = { hours = "always" }
         |                  ^^^^^^^^
      help: write days, hours or both: `22:00-06:00`, `mon-fri 08:00-18:00`, `sat,sun`
    p.toml:13:6: error: a step without a condition would be taken at once
      13 | if = {}
         |      ^^
      help: write `coverage-below`, `after`, `severity`, `packets` or `bits`
    p.toml:15:10: error: `responses.then.filter` does more than one thing
      15 | filter = { rate-limit = "1Mbps", mark = 8 }
         |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: write `rate-limit`, `redirect`, `redirect-to-ip` or `mark`
    p.toml:19:10: error: there is no peer `edgy`
      19 | peers = ["edgy"]
         |          ^^^^^^
      help: did you mean `edge`?
    p.toml:20:1: error: `responses.then` has no `if`
      20 | [[responses.then]]
         | ^^^^^^^^^^^^^^^^^^
      help: add `if = { coverage-below = 0.9, after = "10s" }`
    p.toml:22:23: error: `here` is not a route target
      22 | filter = { redirect = "here" }
         |                       ^^^^^^
      help: write AS and number such as `65001:100`, or `192.0.2.1:100`
    "#);
}

#[test]
fn an_unseen_effect_is_no_condition() {
    insta::assert_snapshot!(mistakes_in(&format!(r#"{PEER}
[[responses]]
name = "ladder"
action = "flowspec"
[[responses.then]]
if = {{ coverage-below = 0.9 }}
action = "rtbh"
"#)), @r#"
    p.toml:11:6: error: `coverage-below` needs a sensor that sees what the filters let through
      11 | if = { coverage-below = 0.9 }
         |      ^^^^^^^^^^^^^^^^^^^^^^^^
      help: write `sensor = "behind-filters"` in `[effect]` if that is where it stands, or another condition
    "#);
}

#[test]
fn includes_are_followed_below_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let observe = |name: &str| {
        format!(
            "[[responses]]\nname = \"{name}\"\naction = \"observe\"\nwhen.groups = [\"{name}\"]\n[groups.{name}]\nprefixes = [\"203.0.113.{}/32\"]\n",
            name.len()
        )
    };
    write("a.toml", &format!("include = [\"customers\"]\n{}{}", super::LEAST, observe("a")));
    write("b.toml", &observe("bb"));
    write("customers/one.toml", &format!("include = [\"more/two.toml\"]\n{}", observe("ccc")));
    write("customers/more/two.toml", &observe("dddd"));
    write("customers/more/ignored.toml", "nothing");
    let policy = crate::load(directory.path()).unwrap_or_else(|report| panic!("{report}"));
    let names: Vec<&str> = policy.responses.iter().map(|each| each.name.as_str()).collect();
    assert_eq!(names, ["a", "ccc", "dddd", "bb"]);

    write(
        "b.toml",
        "include = [\"../x\", \"/etc\", \"none.toml\", \"a.toml\", \"\"]\nspeaker = 7\n",
    );
    let report = crate::load(directory.path()).unwrap_err().to_string();
    for expected in [
        "b.toml:1:12: error: `../x` leads out of the policy directory",
        "b.toml:1:20: error: `/etc` leads out of the policy directory",
        "b.toml:1:28: error: there is no file or directory `none.toml` beside this file",
        "a.toml` is part of the policy already",
        "error: `` leads out of the policy directory",
        "`speaker` must be a table, not an integer",
    ] {
        assert!(report.contains(expected), "no {expected} in\n{report}");
    }
}
