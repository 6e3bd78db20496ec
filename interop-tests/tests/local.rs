//! Local responses: rules in the kernel of the host, as `nft` shows them, come and go, and die with
//! the daemon.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::time::Duration;

use tidegate_interop_tests::demo::stage::Stage;
use tidegate_interop_tests::lab::{LabError, Process, require, until};

/// Drops SYN floods here, tells no peer.
const POLICY: &str = r#"[speaker]
as = 65010
router-id = "10.99.0.1"

[owned]
prefixes = ["203.0.113.0/24"]

[groups.default.thresholds]
tcp-syn = { packets = "500" }

[detection]
exit-hold = "1s"

[[responses]]
name = "drop-here"
when = { confidence = 0.5, vectors = ["syn-flood"] }
action = "local"
filter = "discard"
lifetime = { at-least = "1s", at-most = "60s" }

[[peers]]
name = "router"
address = "10.99.0.2"
as = 65001
"#;

const LIMIT: Duration = Duration::from_secs(20);
const VICTIM: &str = "203.0.113.10";

/// The rules of tidegate's namespace.
fn rules(stage: &Stage) -> Result<String, LabError> {
    stage.tidegate.run("nft", ["list", "ruleset"])
}

fn wait_rules(stage: &Stage, what: &str, predicate: impl Fn(&str) -> bool) -> String {
    until(what, LIMIT, || Ok(Some(rules(stage)?).filter(|rules| predicate(rules)))).unwrap()
}

/// A stage whose kernel drops a flood of this many seconds.
fn dropping(test: &str, seconds: u32) -> Option<(common::Turn, Stage, Process)> {
    require::or_skip(test, require::program("nft"))?;
    let (turn, mut stage) = common::stage(test, POLICY)?;
    stage.bird.wait_established(LIMIT).unwrap();
    let stream = format!("syn-flood,target={VICTIM},rate=5k,for={seconds}s");
    let flood = stage.send("flood", &stream).unwrap();
    let rules = wait_rules(&stage, "a rule", |rules| rules.contains(VICTIM));
    assert!(rules.contains("table inet tidegate") && rules.contains("drop"), "{rules}");
    assert!(stage.bird.routes().unwrap().is_empty());
    Some((turn, stage, flood))
}

#[test]
fn a_local_rule_comes_and_goes() {
    let test = "a_local_rule_comes_and_goes";
    let Some((_turn, stage, mut flood)) = dropping(test, 3) else { return };
    flood.wait_for_success(LIMIT).unwrap();
    wait_rules(&stage, "no rule", |rules| !rules.contains(VICTIM));
}

#[test]
fn a_local_rule_dies_with_the_daemon() {
    let test = "a_local_rule_dies_with_the_daemon";
    let Some((_turn, mut stage, _flood)) = dropping(test, 60) else { return };
    stage.daemon.kill();
    wait_rules(&stage, "no table", |rules| !rules.contains("tidegate"));
}
