//! Neighbours by prefix: the router connects to tidegate, which knows no more of it than where it
//! may be, and is given what is wanted, again after its session was down.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::time::Duration;

use tidegate_interop_tests::demo::POLICY;
use tidegate_interop_tests::lab::bird::{BirdRoute, Connect};

const LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_router_that_connects_from_the_prefix_is_given_what_is_wanted() {
    let test = "a_router_that_connects_from_the_prefix_is_given_what_is_wanted";
    let usual = "address = \"10.99.0.2\"";
    assert!(POLICY.contains(usual));
    let policy = POLICY.replace(usual, "listen-range = \"10.99.0.0/28\"\nlisten-limit = 2");
    let config = "[speaker]\nlisten = [\"10.99.0.1:179\"]\n";
    let stage = common::stage_with(test, &policy, config, Connect::Active);
    let Some((_turn, mut stage)) = stage else { return };
    stage.bird.wait_established(LIMIT).unwrap();
    let mut flood = stage.send("syn", "syn-flood,target=203.0.113.10,rate=5k,for=12s").unwrap();
    let rule = |routes: &[BirdRoute]| {
        routes.iter().any(|route| route.is_toward("203.0.113.10/32") && route.is_flowspec())
    };
    stage.bird.wait_routes("a rule", LIMIT, rule).unwrap();
    stage.bird.enable_session(false).unwrap();
    stage.bird.wait_routes("no rule without a session", LIMIT, <[_]>::is_empty).unwrap();
    stage.bird.enable_session(true).unwrap();
    stage.bird.wait_routes("the rule again", LIMIT, rule).unwrap();
    flood.wait_for_success(LIMIT).unwrap();
    stage.bird.wait_routes("no route", END_LIMIT, <[_]>::is_empty).unwrap();
}
