//! GoBGP by its gRPC API.

use std::path::PathBuf;

use tidegate_adapters::external::ExternalConfig;
use tidegate_adapters::gobgp::GobgpConfig;
use tidegate_interop_tests::lab::{Process, require};
use tidegate_model::{FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, OutcomeKind, Route};

use crate::stage::{
    Driven, MARK, ROUTER, Stage, THIRD, applied, blackhole, four, nlris, rule, wait_until,
};

pub(crate) fn socket(stage: &Stage) -> PathBuf {
    stage.router.directory().join("gobgp.sock")
}

pub(crate) fn config(stage: &Stage) -> GobgpConfig {
    GobgpConfig {
        address: format!("unix://{}", socket(stage).display()),
        mark: MARK,
        families: tidegate_bgpd::Family::ALL.into(),
    }
}

pub(crate) fn spawn(stage: &Stage) -> Process {
    let mut text = format!(
        "[global.config]
as = 65001
router-id = \"{ROUTER}\"
local-address-list = [\"{ROUTER}\"]
[[neighbors]]
[neighbors.config]
neighbor-address = \"{THIRD}\"
peer-as = 65003
[neighbors.transport.config]
passive-mode = true
"
    );
    for family in tidegate_bgpd::Family::ALL {
        text.push_str(&format!(
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n"
        ));
    }
    let file = stage.write("gobgpd.toml", &text);
    let mut command = stage.router.command(require::program("gobgpd").unwrap());
    command.arg("-f").arg(file).arg("--pprof-disable");
    command.arg("--api-hosts").arg(format!("unix://{}", socket(stage).display()));
    let process = stage.router.spawn("gobgpd", command).unwrap();
    wait_until("GoBGP's socket", || std::os::unix::net::UnixStream::connect(socket(stage)).is_ok());
    process
}

pub(crate) fn start(test: &str) -> Option<(Stage, Process, Driven)> {
    let stage = Stage::new(test, &["gobgpd", "gobgp"])?;
    let process = spawn(&stage);
    let mut driven = Driven::start(ExternalConfig::Gobgp(config(&stage)));
    driven.wait_up();
    Some((stage, process, driven))
}

/// GoBGP's own command line.
pub(crate) fn gobgp(stage: &Stage, words: &str) -> String {
    let target = format!("unix://{}", socket(stage).display());
    let words = ["--target", &target].into_iter().chain(words.split_whitespace());
    stage.router.run("gobgp", words).unwrap()
}

#[test]
fn gobgp_holds_what_it_is_told_in_all_families() {
    let test = "gobgp_holds_what_it_is_told_in_all_families";
    let Some((mut stage, _process, mut driven)) = start(test) else { return };
    driven.goes_through_all_families(&mut stage);
}

#[test]
fn a_restarted_gobgp_is_down_and_then_holds_nothing() {
    let test = "a_restarted_gobgp_is_down_and_then_holds_nothing";
    let Some((mut stage, mut process, mut driven)) = start(test) else { return };
    let routes = four();
    for route in &routes {
        assert_eq!(driven.announce(route), applied());
    }
    process.kill();
    std::fs::remove_file(socket(&stage)).unwrap();
    driven.wait_down();
    let withdrawn = driven.withdraw(&routes[0]);
    assert!(matches!(withdrawn, OutcomeKind::Failed { .. }), "{withdrawn:?}");
    let _process = spawn(&stage);
    driven.wait_up();
    assert_eq!(driven.observe(), nlris([]));
    assert_eq!(driven.announce(&routes[0]), applied());
    stage.expect_third(&[&routes[0]]);
}

#[test]
fn routes_of_others_in_gobgp_are_left_alone() {
    let test = "routes_of_others_in_gobgp_are_left_alone";
    let Some((mut stage, _process, mut driven)) = start(test) else { return };
    let (theirs, ours) = (blackhole("203.0.113.7"), blackhole("203.0.113.8"));
    let words = "203.0.113.7/32 nexthop 10.98.0.77 community 65535:666,65001:7";
    gobgp(&stage, &format!("global rib add {words}"));
    let refused = driven.announce(&theirs);
    assert!(matches!(&refused, OutcomeKind::Failed { why } if why.contains("mark")), "{refused:?}");
    assert_eq!(driven.announce(&ours), applied());
    assert_eq!(driven.observe(), nlris([&ours]));
    assert_eq!(driven.withdraw(&theirs), applied());
    stage.expect_third(&[&theirs, &ours]);

    // Somebody takes ours away by hand, somebody changes it: both are seen.
    gobgp(&stage, "global rib del 203.0.113.8/32");
    assert_eq!(driven.observe(), nlris([]));
    gobgp(&stage, &format!("global rib del {words}"));
    assert_eq!(driven.observe(), nlris([]));
    assert_eq!(driven.announce(&theirs), applied());
    stage.expect_third(&[&theirs]);
}

#[test]
fn what_an_earlier_run_left_in_gobgp_is_found() {
    let test = "what_an_earlier_run_left_in_gobgp_is_found";
    let Some((mut stage, _process, mut driven)) = start(test) else { return };
    let routes = [blackhole("2001:db8:1::7"), rule("203.0.113.9", 0.0)];
    for route in &routes {
        assert_eq!(driven.announce(route), applied());
    }
    drop(driven);
    let mut driven = Driven::start(ExternalConfig::Gobgp(config(&stage)));
    driven.wait_up();
    assert_eq!(driven.observe(), nlris(&routes));
    for route in &routes {
        assert_eq!(driven.withdraw(route), applied());
    }
    stage.expect_third(&[]);
}

#[test]
fn a_rule_that_gobgp_would_garble_is_never_sent() {
    let test = "a_rule_that_gobgp_would_garble_is_never_sent";
    let Some((mut stage, _process, mut driven)) = start(test) else { return };
    let destination = "203.0.113.9".parse().unwrap();
    let ports = |count: u64| {
        let components = vec![
            FlowSpecComponent::DestinationPrefix(destination),
            FlowSpecComponent::SourcePort(NumericMatch::one_of(1000, 1001..1000 + count)),
        ];
        let rule = FlowSpecRule::new(destination.family(), components).unwrap();
        Route { nlri: Nlri::FlowSpec(rule), ..rule_without_match() }
    };
    let refused = driven.announce(&ports(100));
    assert!(
        matches!(&refused, OutcomeKind::Rejected { why } if why.contains("239")),
        "{refused:?}"
    );
    let longest = ports(77);
    assert_eq!(driven.announce(&longest), applied());
    assert_eq!(driven.observe(), nlris([&longest]));
    assert_eq!(driven.announce(&blackhole("203.0.113.7")), applied());
    wait_until("both routes at the third router", || stage.third.routes().unwrap().len() == 2);
}

fn rule_without_match() -> Route {
    rule("203.0.113.9", 0.0)
}
