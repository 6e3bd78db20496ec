//! The laboratory itself: namespaces, links, processes, and what is read from BIRD, with a second
//! BIRD in the place of tidegate.
#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at a surprise too")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use tidegate_interop_tests::lab::bird::{Bird, BirdConfig, Connect, DISCARD_NEXT_HOPS};
use tidegate_interop_tests::lab::{End, Lab, LabError, Namespace, require, until};

const LIMIT: Duration = Duration::from_secs(15);

/// Two joined namespaces, or a line that says why there are none.
fn two_namespaces(test: &str) -> Option<(Lab, Namespace, Namespace)> {
    let lab = require::or_skip(test, Lab::new())?;
    let (left, right) = (lab.namespace("left").unwrap(), lab.namespace("right").unwrap());
    lab.link(
        End { namespace: &left, interface: "to-right", addresses: &["10.99.0.1/24", "fd99::1/64"] },
        End { namespace: &right, interface: "to-left", addresses: &["10.99.0.2/24", "fd99::2/64"] },
    )
    .unwrap();
    Some((lab, left, right))
}

#[test]
fn namespaces_are_linked_and_separate() {
    let test = "namespaces_are_linked_and_separate";
    let Some((_lab, left, right)) = two_namespaces(test) else { return };
    let links = left.run("ip", ["-o", "link"]).unwrap();
    let names: Vec<&str> =
        links.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(matches!(names.as_slice(), ["lo:", other] if other.starts_with("to-right")), "{links}");
    // A route to the other end says that the addresses are there and usable at once.
    assert!(left.run("ip", ["route", "get", "10.99.0.2"]).unwrap().contains("dev to-right"));
    assert!(right.run("ip", ["-6", "route", "get", "fd99::1"]).unwrap().contains("dev to-left"));
    let error = left.run("ip", ["link", "show", "to-left"]).unwrap_err();
    assert!(matches!(error, LabError::Failed { .. }), "{error}");
}

#[test]
fn a_dropped_process_takes_its_group_along() {
    let test = "a_dropped_process_takes_its_group_along";
    let Some((_lab, left, _right)) = two_namespaces(test) else { return };
    let mut command = left.command("sh");
    command.args(["-c", "sleep 1000 & echo $!; wait"]);
    let process = left.spawn("group", command).unwrap();
    let grandchild = until("the grandchild's number", LIMIT, || {
        let text = fs::read_to_string(process.stdout()).unwrap_or_default();
        Ok(text.ends_with('\n').then(|| text.trim().to_owned()))
    })
    .unwrap();
    let path = Path::new("/proc").join(&grandchild);
    assert!(path.exists());
    drop(process);
    // The grandchild is reaped by init, whenever that gets to it.
    until("the end of the grandchild", LIMIT, || {
        let state = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let gone = state.is_empty() || state.contains(") Z ") || state.contains(") X ");
        Ok(gone.then_some(()))
    })
    .unwrap();
}

#[test]
fn a_process_that_ends_says_why() {
    let test = "a_process_that_ends_says_why";
    let Some((lab, left, _right)) = two_namespaces(test) else { return };
    let mut command = left.command("sh");
    command.args(["-c", "echo no such thing >&2; exit 2"]);
    let mut process = left.spawn("failing", command).unwrap();
    let error = process.wait_for_success(LIMIT).unwrap_err();
    assert!(error.to_string().contains("no such thing"), "{error}");
    let directory = lab.directory().to_owned();
    assert!(directory.join("failing.err").exists());
    drop((process, lab));
    assert!(!directory.exists());
}

/// A BIRD that announces what tidegate would.
fn announcer() -> String {
    let (discard4, discard6) = DISCARD_NEXT_HOPS;
    format!(
        "log stderr all;
router id 10.99.0.1;
ipv4 table master4; ipv6 table master6; flow4 table flowtab4; flow6 table flowtab6;
protocol device {{ }}
protocol static rtbh4 {{ ipv4; route 203.0.113.1/32 blackhole {{
    bgp_community.add((65535,666)); bgp_community.add((65535,65281));
    bgp_large_community.add((65001,666,1)); bgp_next_hop = {discard4}; }}; }}
protocol static rtbh6 {{ ipv6; route 2001:db8:1::1/128 blackhole {{
    bgp_community.add((65535,666)); bgp_next_hop = {discard6}; }}; }}
protocol static rules4 {{ flow4 {{ table flowtab4; }};
    route flow4 {{ dst 203.0.113.4/32; proto = 17; sport = 123; }} {{
        bgp_ext_community.add((generic, 0x80060000, 0x0)); }}; }}
protocol static rules6 {{ flow6 {{ table flowtab6; }};
    route flow6 {{ dst 2001:db8:1::5/128; next header 6; tcp flags 0x2/0x12; }} {{
        bgp_ext_community.add((generic, 0x8006fde9, 0x46435000)); }}; }}
protocol bgp upstream {{
    local 10.99.0.1 as 65010;
    neighbor 10.99.0.2 as 65001;
    connect delay time 1;
    ipv4 {{ import none; export where proto = \"rtbh4\"; next hop keep; }};
    ipv6 {{ import none; export where proto = \"rtbh6\"; next hop keep; }};
    flow4 {{ table flowtab4; import none; export all; }};
    flow6 {{ table flowtab6; import none; export all; }};
}}
"
    )
}

#[test]
fn routes_are_read_from_bird() {
    let test = "routes_are_read_from_bird";
    let Some(_) = require::or_skip(test, require::program("bird")) else { return };
    let Some((_lab, left, right)) = two_namespaces(test) else { return };
    let config = BirdConfig {
        router_id: [10, 99, 0, 2].into(),
        local_as: 65001,
        neighbor_as: 65010,
        local: [10, 99, 0, 2].into(),
        neighbor: [10, 99, 0, 1].into(),
        hold_time: 9,
        connect: Connect::Passive,
    };
    let mut router = Bird::start(&right, "router", &config.render()).unwrap();
    assert!(router.routes().unwrap().is_empty());
    let announcer = Bird::start(&left, "announcer", &announcer()).unwrap();
    router.wait_established(LIMIT).unwrap();
    let routes = router.wait_routes("four routes", LIMIT, |routes| routes.len() == 4).unwrap();
    let toward = |prefix: &str| {
        let mut found = routes.iter().filter(|route| route.is_toward(prefix));
        let route = found.next().unwrap_or_else(|| panic!("{prefix}: {routes:#?}"));
        assert_eq!(found.next(), None);
        route
    };
    let blackhole = toward("203.0.113.1/32");
    assert!(blackhole.is_blackhole(), "{blackhole:?}");
    assert_eq!(blackhole.communities, [(65535, 666), (65535, 65281)]);
    assert_eq!(blackhole.large_communities, [(65001, 666, 1)]);
    assert!(toward("2001:db8:1::1/128").is_blackhole(), "{routes:#?}");
    assert_eq!(toward("203.0.113.4/32").extended_communities, [0x8006_0000_0000_0000]);
    assert_eq!(toward("2001:db8:1::5/128").extended_communities, [0x8006_fde9_4643_5000]);
    // The announcer dies: its routes go with the connection.
    drop(announcer);
    router.wait_routes("no routes", LIMIT, <[_]>::is_empty).unwrap();
}
