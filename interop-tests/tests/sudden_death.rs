//! What a router keeps of a tidegate that can no longer withdraw: nothing.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::time::{Duration, Instant};

use tidegate_interop_tests::demo::POLICY;
use tidegate_interop_tests::demo::stage::{HOLD_TIME, Stage};
use tidegate_interop_tests::lab::Process;

/// For what should take a second.
const LIMIT: Duration = Duration::from_secs(20);
const HOLD: Duration = Duration::from_secs(HOLD_TIME as u64);
/// BIRD's timers are exact to a second.
const TIMER_SLACK: Duration = Duration::from_secs(2);

/// Floods a host until BIRD holds a route for it. The flood goes on.
fn under_attack(stage: &mut Stage) -> Process {
    stage.bird.wait_established(LIMIT).unwrap();
    let flood = stage.send("flood", "syn-flood,target=203.0.113.10,rate=5k,for=60s").unwrap();
    let routes = stage.bird.wait_routes("a route", LIMIT, |routes| !routes.is_empty()).unwrap();
    assert!(routes.iter().all(|route| route.is_toward("203.0.113.10/32")), "{routes:#?}");
    flood
}

#[test]
fn killed_during_an_attack_it_leaves_no_route() {
    let test = "killed_during_an_attack_it_leaves_no_route";
    let Some((_turn, mut stage)) = common::stage(test, POLICY) else { return };
    let _flood = under_attack(&mut stage);
    stage.daemon.kill();
    stage.bird.wait_routes("no route", HOLD, <[_]>::is_empty).unwrap();
}

#[test]
fn stalled_during_an_attack_it_loses_its_routes_with_the_hold_time() {
    let test = "stalled_during_an_attack_it_loses_its_routes_with_the_hold_time";
    let Some((_turn, mut stage)) = common::stage(test, POLICY) else { return };
    let _flood = under_attack(&mut stage);
    // The connection stays open: only the hold timer can tell (RFC 4271 §6.5).
    stage.daemon.stall();
    let stalled = Instant::now();
    stage.bird.wait_routes("no route", HOLD + TIMER_SLACK, <[_]>::is_empty).unwrap();
    // BIRD heard a KEEPALIVE at most a third of the hold time before.
    assert!(stalled.elapsed() >= HOLD / 3, "the routes went before the hold time");
}
