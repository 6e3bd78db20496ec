//! The same over guarded connections (RFC 5082, RFC 2385) and over IPv6.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use tidegate_bgpd::session::{ConnectMode, SessionState};
use tidegate_bgpd::speaker::{HopLimit, Md5Key, Transport};

use crate::router::{self, AS, Mode, Router, Setup};
use crate::{Bench, announce_all, has_all};

/// What cannot come up must not within this time: some attempts of either side.
const NEVER: Duration = Duration::from_secs(2);

/// Who connects, on both sides.
const SIDES: [(ConnectMode, Mode); 2] =
    [(ConnectMode::Active, Mode::Passive), (ConnectMode::Passive, Mode::Both)];

fn hops(hops: HopLimit) -> Transport {
    Transport { hops, md5: None }
}

fn md5(key: &str) -> Transport {
    Transport { hops: HopLimit::System, md5: Some(Md5Key::new(key.as_bytes()).unwrap()) }
}

fn comes_up(setup: &Setup, mode: ConnectMode, transport: Transport) {
    let router = Router::with(setup);
    let bench = Bench::over(&router, AS, mode, transport);
    announce_all(&bench);
    router.wait_for_routes("all routes", has_all);
}

fn stays_down(setup: &Setup, mode: ConnectMode, transport: Transport) {
    let router = Router::with(setup);
    // A router that only guards its end once it has accepted the connection has our OPEN by then,
    // and answers it: then the session comes up here, and never there.
    let guarded = transport.md5.is_some() || transport.hops == HopLimit::Gtsm;
    let bench = Bench::over(&router, AS, mode, transport);
    announce_all(&bench);
    let end = Instant::now() + NEVER;
    while Instant::now() < end {
        let status = bench.speaker.peers().remove(0).session;
        assert!(!guarded || status.state != SessionState::Established, "{}", setup.lines);
        let there = router.ask("show protocols tidegate");
        assert!(!there.contains("Established"), "{}: {there}", setup.lines);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn gtsm_holds_with_a_router_that_has_it() {
    if !router::installed("gtsm_holds_with_a_router_that_has_it") {
        return;
    }
    for (mode, bird) in SIDES {
        let setup = Setup { lines: "multihop 1; ttl security on;", ..Setup::new(AS, bird) };
        comes_up(&setup, mode, hops(HopLimit::Gtsm));
    }
}

/// One side asks for 255, the other sends less: from either side nothing gets through.
#[test]
fn gtsm_on_one_side_only_keeps_the_session_down() {
    if !router::installed("gtsm_on_one_side_only_keeps_the_session_down") {
        return;
    }
    let two = HopLimit::Multihop(NonZeroU8::new(2).unwrap());
    for (mode, bird) in SIDES {
        let with = Setup { lines: "multihop 1; ttl security on;", ..Setup::new(AS, bird) };
        stays_down(&with, mode, hops(two));
        let without = Setup { lines: "multihop 2;", ..Setup::new(AS, bird) };
        stays_down(&without, mode, hops(HopLimit::Gtsm));
        comes_up(&without, mode, hops(two));
    }
}

#[test]
fn md5_holds_with_the_same_key() {
    if !router::installed("md5_holds_with_the_same_key") {
        return;
    }
    for (mode, bird) in SIDES {
        let setup = Setup { lines: "multihop; password \"a secret\";", ..Setup::new(AS, bird) };
        comes_up(&setup, mode, md5("a secret"));
    }
}

#[test]
fn md5_with_another_key_or_none_keeps_the_session_down() {
    if !router::installed("md5_with_another_key_or_none_keeps_the_session_down") {
        return;
    }
    for (mode, bird) in SIDES {
        let with = || Setup { lines: "multihop; password \"a secret\";", ..Setup::new(AS, bird) };
        stays_down(&with(), mode, md5("a secret\n"));
        stays_down(&with(), mode, Transport::default());
        stays_down(&Setup::new(AS, bird), mode, md5("a secret"));
    }
}

/// Every family over IPv6, guarded in both ways.
#[test]
fn sessions_run_over_ipv6() {
    let name = "transport::sessions_run_over_ipv6";
    if !router::installed(name)
        || !crate::namespace::inside(name, &["2001:db8:ff::1/128", "2001:db8:ff::2/128"])
    {
        return;
    }
    let address: IpAddr = "2001:db8:ff::2".parse().unwrap();
    let speaker: IpAddr = "2001:db8:ff::1".parse().unwrap();
    for (mode, bird) in SIDES {
        let setup = |lines| Setup { address, speaker, lines, ..Setup::new(AS, bird) };
        comes_up(&setup("multihop;"), mode, Transport::default());
        let both = Transport { hops: HopLimit::Gtsm, ..md5("a secret") };
        let guarded = setup("multihop 1; ttl security on; password \"a secret\";");
        comes_up(&guarded, mode, both.clone());
        stays_down(&setup("multihop 1; password \"a secret\";"), mode, both.clone());
        stays_down(&setup("multihop 1; ttl security on; password \"other\";"), mode, both);
    }
}
