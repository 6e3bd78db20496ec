//! A daemon that root starts gives up what it does not need, and works without.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tidegate_interop_tests::demo::POLICY;
use tidegate_interop_tests::lab::bird::Connect;
use tidegate_interop_tests::lab::{require, until};

const LIMIT: Duration = Duration::from_secs(30);

/// Capabilities 10, 12 and 13 of `linux/capability.h`: port 179, kernel rules, capture.
const KEPT: &str = "0000000000003400";

/// In a user namespace of one user there is nobody to become.
fn has_nobody() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().nth(2).is_some_and(|count| count.parse::<u64>().unwrap() > 65_534)
}

#[test]
fn what_is_not_needed_is_given_up() {
    let test = "what_is_not_needed_is_given_up";
    if !has_nobody() {
        println!("{test}: skipped: this user namespace has no other users");
        return;
    }
    let Some(_) = require::or_skip(test, require::program("nft")) else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let config = format!(
        "user = \"nobody\"\n[speaker]\nlisten = [\"10.99.0.1:179\"]\n[api]\nsocket = \"{}\"\n",
        folder.path().join("api.sock").display(),
    );
    let policy = POLICY
        .replace("address = \"10.99.0.2\"", "address = \"10.99.0.2\"\nmode = \"passive\"")
        .replace("action = \"flowspec\"", "action = \"local\"");
    let stage = common::stage_with(test, &policy, &config, Connect::Active);
    let Some((_turn, mut stage)) = stage else { return };
    stage.bird.wait_established(LIMIT).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", stage.daemon.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(field("Uid:").iter().all(|uid| uid == "65534"), "{status}");
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(set), [KEPT], "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    let tasks = fs::read_dir(format!("/proc/{}/task", stage.daemon.id())).unwrap();
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        assert!(status.contains(&format!("CapEff:\t{KEPT}")), "a thread has more: {status}");
    }
    let mut flood = stage.send("syn", "syn-flood,target=203.0.113.10,rate=5k,for=4s").unwrap();
    let rules = || stage.tidegate.run("nft", ["list", "ruleset"]);
    until("a rule", LIMIT, || Ok(Some(rules()?).filter(|rules| rules.contains("203.0.113.10"))))
        .unwrap();
    flood.wait_for_success(LIMIT).unwrap();
    assert!(stage.daemon.terminate(LIMIT).unwrap().success());
}
