//! Restarts of the speaker, with a router that would keep routes over them.

use std::time::Duration;

use tidegate_bgpd::session::{ConnectMode, GracefulRestart, SessionOptions};
use tidegate_bgpd::speaker::Transport;

use super::router::{self, AS, Mode, Router, Setup};
use super::{Bench, announce_all, has_all, has_none, routes};

fn options() -> SessionOptions {
    let time = Duration::from_secs(5);
    SessionOptions {
        graceful_restart: GracefulRestart::Restarting(time),
        ..SessionOptions::default()
    }
}

/// BIRD would keep routes of anybody who asks for it, for days.
fn patient_router() -> Router {
    let lines =
        "multihop; graceful restart on; long lived graceful restart on; debug { events, states };";
    Router::with(&Setup { lines, ..Setup::new(AS, Mode::Passive) })
}

fn start(router: &Router, options: SessionOptions) -> Bench {
    Bench::with(router, AS, ConnectMode::Active, Transport::default(), options)
}

fn is_kept(router: &Router) -> bool {
    router.log().contains("graceful restart detected")
}

#[test]
fn keeps_nothing_unless_it_is_asked_to() {
    if !router::installed("keeps_nothing_unless_it_is_asked_to") {
        return;
    }
    let router = patient_router();
    let bench = start(&router, SessionOptions::default());
    announce_all(&bench);
    router.wait_for_routes("all routes", has_all);
    bench.runtime.shutdown_background();
    router.wait_for_routes("no route", has_none);
    assert!(!is_kept(&router), "{}", router.log());
}

/// What is not announced again after the restart is gone with End-of-RIB.
#[test]
fn keeps_what_is_replayed_and_drops_the_rest() {
    if !router::installed("keeps_what_is_replayed_and_drops_the_rest") {
        return;
    }
    let router = patient_router();
    let bench = start(&router, options());
    announce_all(&bench);
    let shown = router.wait_for_routes("all routes", has_all);
    assert!(shown.contains("(65535,7)"), "NO_LLGR: {shown}");
    bench.runtime.shutdown_background();
    router.wait("BIRD waits for it", is_kept);
    assert!(has_all(&router.routes()), "{}", router.routes());
    let bench = Bench::prepared(&router, options(), |bench| {
        bench.announce(10, &routes()[0]);
        bench.announce(11, &routes()[2]);
        bench.speaker.set_replayed();
    });
    router.wait_for_routes("half of them", |routes| {
        routes.contains("203.0.113.7/32")
            && routes.contains("203.0.113.8/32")
            && !routes.contains("2001:db8:1::")
    });
    // None of the first half was ever away: BIRD has seen no withdraw of it, only the same again.
    assert_eq!(bench.speaker.peers()[0].session.counters.established, 1);
    bench.runtime.block_on(bench.speaker.shutdown("planned"));
    router.wait_for_routes("no route", has_none);
}

/// A speaker that does not come back: the routes are gone after the time that was asked for, and
/// NO_LLGR keeps them from being kept longer.
#[test]
fn drops_everything_when_nobody_comes_back() {
    if !router::installed("drops_everything_when_nobody_comes_back") {
        return;
    }
    let router = patient_router();
    let bench = start(&router, options());
    announce_all(&bench);
    router.wait_for_routes("all routes", has_all);
    bench.runtime.shutdown_background();
    router.wait("BIRD waits for it", is_kept);
    router.wait_for_routes("no route", has_none);
}

/// The same, with End-of-RIB and nothing before it.
#[test]
fn drops_everything_that_is_not_replayed() {
    if !router::installed("drops_everything_that_is_not_replayed") {
        return;
    }
    let router = patient_router();
    let bench = start(&router, options());
    announce_all(&bench);
    router.wait_for_routes("all routes", has_all);
    bench.runtime.shutdown_background();
    router.wait("BIRD waits for it", is_kept);
    let _bench = start(&router, options());
    router.wait_for_routes("no route", has_none);
}
