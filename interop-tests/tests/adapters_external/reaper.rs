//! The reaper: what a daemon that died or hangs has left in BIRD and GoBGP goes with the lease.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_adapters::external::ExternalConfig;
use tidegate_adapters::reaper::{Reaper, ReaperConfig, withdraw_all};
use tidegate_interop_tests::lab::Process;
use tokio::runtime::Runtime;

use crate::stage::{Driven, Stage, applied, blackhole, four, nlris, tidegate, wait_until};
use crate::{bird, gobgp};

/// A GoBGP with one route of each family by our hand, and what a reaper is to know of it.
struct Left {
    /// Before the stage, whose folder its files are in.
    driven: Option<Driven>,
    #[expect(dead_code, reason = "held for its life")]
    daemon: Process,
    config: ReaperConfig,
    runtime: Runtime,
    stage: Stage,
}

fn left(test: &str) -> Option<Left> {
    let (mut stage, daemon, mut driven) = gobgp::start(test)?;
    let routes = four();
    for route in &routes {
        assert_eq!(driven.announce(route), applied());
    }
    stage.expect_third(&routes.each_ref());
    let config = ReaperConfig {
        lease: Duration::from_secs(2),
        file: stage.router.directory().join("reaper.lease"),
        backends: [("gobgp".to_owned(), ExternalConfig::Gobgp(gobgp::config(&stage)))].into(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    Some(Left { driven: Some(driven), daemon, config, runtime, stage })
}

impl Left {
    fn reaper(&self) -> Reaper {
        self.runtime.block_on(Reaper::start(&tidegate(), &["reaper"], self.config.clone())).unwrap()
    }

    fn in_charge(&self) -> Option<String> {
        fs::read_to_string(&self.config.file).ok()
    }
}

#[test]
fn a_lease_that_nobody_renews_is_ended() {
    let Some(mut left) = left("a_lease_that_nobody_renews_is_ended") else { return };
    let reaper = left.reaper();
    // A daemon that hangs: it lives, but renews nothing.
    left.stage.expect_third(&[]);
    // It comes back, and is renewed: what it announces then stays.
    for _ in 0..20 {
        reaper.renew();
        std::thread::sleep(Duration::from_millis(50));
    }
    let route = blackhole("203.0.113.7");
    assert_eq!(left.driven.as_mut().unwrap().announce(&route), applied());
    left.stage.expect_third(&[&route]);
    left.runtime.block_on(reaper.leave());
    left.stage.expect_third(&[]);
}

#[test]
fn a_daemon_that_dies_leaves_nothing_behind() {
    let Some(mut left) = left("a_daemon_that_dies_leaves_nothing_behind") else { return };
    let reaper = left.reaper();
    wait_until("the reaper is in charge", || left.in_charge().is_some());
    drop(reaper);
    left.driven = None;
    // With the runtime goes the task that holds the reaper's standard input, as when a process dies.
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    std::mem::replace(&mut left.runtime, other).shutdown_background();
    left.stage.expect_third(&[]);
    wait_until("the reaper ends", || reapers_of(std::process::id()) == 0);
}

#[test]
fn what_a_successor_looks_after_does_not_flap() {
    let Some(mut left) = left("what_a_successor_looks_after_does_not_flap") else { return };
    drop(left.reaper());
    wait_until("the first is in charge", || left.in_charge().is_some());
    let first = left.in_charge();
    let long = ReaperConfig { lease: Duration::from_secs(600), ..left.config.clone() };
    let second = left.runtime.block_on(Reaper::start(&tidegate(), &["reaper"], long)).unwrap();
    wait_until("the second is in charge", || left.in_charge() != first);
    // The first one ends after its lease, and has touched nothing.
    wait_until("the first ends", || {
        assert_eq!(left.driven.as_mut().unwrap().observe(), nlris(&four()));
        reapers_of(std::process::id()) == 1
    });
    left.stage.expect_third(&four().each_ref());
    left.runtime.block_on(second.leave());
    left.stage.expect_third(&[]);
}

/// How many reapers this process has started that still live.
fn reapers_of(parent: u32) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let ours = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        count += usize::from(ours && line.trim_end().ends_with(" reaper"));
    }
    count
}

#[test]
fn everything_can_be_withdrawn_everywhere_at_once() {
    let test = "everything_can_be_withdrawn_everywhere_at_once";
    let Some((mut stage, config, _bird, mut driven)) = bird::start(test) else { return };
    let routes = four();
    for route in &routes {
        assert_eq!(driven.announce(route), applied());
    }
    stage.expect_third(&routes.each_ref());
    let nowhere = tidegate_adapters::bird::BirdConfig {
        control: PathBuf::from("/nonexistent/bird.ctl"),
        ..config.clone()
    };
    let backends = [
        ("bird".to_owned(), ExternalConfig::Bird(config)),
        ("nowhere".to_owned(), ExternalConfig::Bird(nowhere)),
    ]
    .into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let results = runtime.block_on(withdraw_all(&backends));
    assert_eq!(results["bird"], Ok(4));
    assert!(results["nowhere"].is_err());
    stage.expect_third(&[]);
}
