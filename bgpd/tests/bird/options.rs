//! What BIRD offers and asks for, and what it answers.

use std::collections::BTreeSet;

use tidegate_bgpd::Family;
use tidegate_bgpd::session::{ConnectMode, Negotiated, Role, SessionOptions};
use tidegate_bgpd::speaker::Transport;
use tidegate_model::CommandId;

use crate::router::{self, AS, Mode, Router, Setup};
use crate::{Bench, PEER, announce_all, has_all, routes};

/// An AS other than BIRD's.
const OTHER_AS: u32 = 65020;

fn start(asn: u32, lines: &'static str, options: SessionOptions) -> (Router, Bench) {
    let router = Router::with(&Setup { lines, ..Setup::new(asn, Mode::Passive) });
    let bench = Bench::with(&router, asn, ConnectMode::Active, Transport::default(), options);
    announce_all(&bench);
    (router, bench)
}

fn up(asn: u32, lines: &'static str, options: SessionOptions) -> Negotiated {
    let (router, bench) = start(asn, lines, options);
    router.wait_for_routes("all routes", has_all);
    let status = bench.speaker.peers().remove(0).session;
    status.negotiated.unwrap_or_else(|| panic!("{:?}", status.down))
}

/// Waits for a NOTIFICATION, of whichever side sees the fault first.
fn refused(asn: u32, lines: &'static str, options: SessionOptions) -> (u8, u8) {
    let (router, bench) = start(asn, lines, options);
    let error = || {
        let status = bench.speaker.peers().remove(0).session;
        status.last_error_sent.or(status.last_error_received)
    };
    router.wait("an error", |_| error().is_some());
    error().map(|error| (error.code, error.subcode)).unwrap()
}

fn role(role: Role, strict_role: bool) -> SessionOptions {
    SessionOptions { role: Some(role), strict_role, ..SessionOptions::default() }
}

#[test]
fn roles_are_agreed_on() {
    if !router::installed("roles_are_agreed_on") {
        return;
    }
    let lines = "multihop; local role provider; require roles yes;";
    let both = up(OTHER_AS, lines, role(Role::Customer, true));
    assert_eq!(both.peer_role, Some(Role::Provider));
    assert_eq!(up(OTHER_AS, "multihop;", role(Role::Customer, false)).peer_role, None);
}

#[test]
fn roles_that_do_not_fit_are_refused() {
    if !router::installed("roles_that_do_not_fit_are_refused") {
        return;
    }
    let lines = "multihop; local role peer;";
    assert_eq!(refused(OTHER_AS, lines, role(Role::Customer, false)), (2, 11));
    assert_eq!(refused(OTHER_AS, "multihop;", role(Role::Customer, true)), (2, 11));
    let lines = "multihop; local role provider; require roles yes;";
    assert_eq!(refused(OTHER_AS, lines, SessionOptions::default()), (2, 11));
}

#[test]
fn extensions_are_agreed_on_or_left_out() {
    if !router::installed("extensions_are_agreed_on_or_left_out") {
        return;
    }
    let all = up(AS, "multihop; enable extended messages yes;", SessionOptions::default());
    assert!(all.extended_messages && all.enhanced_refresh && all.four_octet_as);
    let lines = "multihop; enable as4 no; enable route refresh no;";
    let none = up(AS, lines, SessionOptions::default());
    assert!(!none.extended_messages && !none.enhanced_refresh && !none.four_octet_as);
    assert!(!none.route_refresh);
    let off = SessionOptions {
        four_octet_as: false,
        extended_messages: false,
        enhanced_refresh: false,
        ..SessionOptions::default()
    };
    let none = up(OTHER_AS, "multihop; enable extended messages yes;", off);
    assert!(!none.extended_messages && !none.enhanced_refresh && !none.four_octet_as);
}

#[test]
fn families_that_are_required_must_be_there() {
    if !router::installed("families_that_are_required_must_be_there") {
        return;
    }
    let options = |families: &[Family]| SessionOptions {
        required_families: families.iter().copied().collect(),
        ..SessionOptions::default()
    };
    assert_eq!(up(AS, "multihop;", options(&Family::ALL)).families, BTreeSet::from(Family::ALL));
    // BIRD has the four families of the test's configuration; leave it without one of ours.
    let router = Router::start(AS, Mode::Passive);
    let without = router.configuration().replace("flow6 { table", "# { table");
    router.reconfigure(&without);
    let options = options(&[Family::Ipv6FlowSpec]);
    let bench = Bench::with(&router, AS, ConnectMode::Active, Transport::default(), options);
    router.wait("2/7", |_| {
        let error = bench.speaker.peers().remove(0).session.last_error_sent;
        error.is_some_and(|error| (error.code, error.subcode) == (2, 7))
    });
}

/// BIRD asks again while routes come and go: it hears where the answer begins and ends, and what
/// was withdrawn meanwhile does not come back.
#[test]
fn a_refresh_is_answered_between_its_marks() {
    if !router::installed("a_refresh_is_answered_between_its_marks") {
        return;
    }
    let (router, bench) = start(AS, "multihop;", SessionOptions::default());
    router.wait_for_routes("all routes", has_all);
    let counters = || bench.speaker.peers().remove(0).session.counters;
    for _ in 0..5 {
        router.ask("reload in tidegate");
    }
    bench.speaker.withdraw(PEER, CommandId(50), &routes()[0].nlri).unwrap();
    router.wait("two marks for each family", |_| counters().sent.route_refresh >= 8);
    router.wait_for_routes("all routes but one", |routes| {
        !routes.contains("203.0.113.7/32") && routes.contains("203.0.113.8/32")
    });
    let counters = counters();
    assert_eq!(counters.established, 1);
    assert!(counters.sent.route_refresh < 8 * 5, "{counters:?}");
    assert!(!router.log().contains("<ERR>"), "{}", router.log());
}
