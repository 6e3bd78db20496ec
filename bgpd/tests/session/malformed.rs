//! What a session answers to octets that no peer should send, state by state.

use std::time::Duration;

use tidegate_bgpd::session::{Action, Direction, SessionEvent, SessionState};

use crate::bench::Reaction::{self, Closed, Reset, Stays};
use crate::bench::{
    ATTRIBUTES, Bench, KEEPALIVE, NLRI, NOTIFICATION, OPEN, ROUTE_REFRESH, UPDATE, capabilities,
    lying_message, message, open, open_with, update,
};
use crate::world::Random;
use SessionState::{Established, OpenConfirm, OpenSent};

#[test]
fn in_open_sent() {
    let good = capabilities(65001);
    let id = [192, 0, 2, 2];
    let with = |parameters: &[u8]| open_with(4, 65001, 9, id, parameters);
    let mut bad_marker = message(KEEPALIVE, &[]);
    bad_marker[3] = 0xfe;
    let mp = [1, 4, 0, 1, 0, 1];
    let mut many = vec![2, 252];
    many.extend(mp.repeat(42));
    let table: &[(&str, Vec<u8>, Reaction)] = &[
        ("good", open(65001, &good), Stays(OpenConfirm)),
        ("good without capabilities", with(&[]), Stays(OpenConfirm)),
        ("M01 marker", bad_marker, Reset(1, 1)),
        ("M02 length 18", lying_message(OPEN, 18, &[]), Reset(1, 2)),
        ("M02 length 0", lying_message(OPEN, 0, &[]), Reset(1, 2)),
        ("M02 length 65535", lying_message(OPEN, 65535, &[]), Reset(1, 2)),
        ("M03 UPDATE of 4097", lying_message(UPDATE, 4097, &[]), Reset(1, 2)),
        ("M04 KEEPALIVE of 20", message(KEEPALIVE, &[0]), Reset(1, 2)),
        ("M04 OPEN of 28", message(OPEN, &[4; 9]), Reset(1, 2)),
        ("M04 UPDATE of 22", message(UPDATE, &[0; 3]), Reset(1, 2)),
        ("M05 NOTIFICATION of 20", message(NOTIFICATION, &[6]), Closed),
        ("M05 NOTIFICATION of garbage", message(NOTIFICATION, &[200, 99, 1, 2]), Closed),
        ("M06 type 0", message(0, &[]), Reset(1, 3)),
        ("M06 type 6", message(6, &[]), Reset(1, 3)),
        ("M06 type 255", message(255, &[]), Reset(1, 3)),
        ("M07 18 octets", vec![0xff; 18], Stays(OpenSent)),
        ("M08 KEEPALIVE first", message(KEEPALIVE, &[]), Reset(5, 1)),
        ("M08 UPDATE first", update(&[], &[], &[]), Reset(5, 1)),
        ("ROUTE-REFRESH first", message(ROUTE_REFRESH, &[0, 1, 0, 1]), Reset(5, 1)),
        ("M10 version 3", open_with(3, 65001, 9, id, &[]), Reset(2, 1)),
        ("M10 version 5", open_with(5, 65001, 9, id, &[]), Reset(2, 1)),
        ("M11 AS 0", open_with(4, 0, 9, id, &[]), Reset(2, 2)),
        ("M11 another AS", open(65002, &capabilities(65002)), Reset(2, 2)),
        ("M11 AS_TRANS, 4-octet AS 0", open(23456, &[65, 4, 0, 0, 0, 0]), Reset(2, 2)),
        ("M12 identifier 0", open_with(4, 65001, 9, [0; 4], &[]), Reset(2, 3)),
        ("M13 hold time 1", open_with(4, 65001, 1, id, &[]), Reset(2, 6)),
        ("M13 hold time 2", open_with(4, 65001, 2, id, &[]), Reset(2, 6)),
        ("M14 parameter type 1", with(&[1, 1, 0]), Reset(2, 4)),
        ("M14 parameter type 200", with(&[200, 0]), Reset(2, 4)),
        ("M15 ends at parameter length", message(OPEN, &with(&[2])[19..]), Reset(2, 0)),
        ("M16 extended, 2 octets", with(&[255, 0]), Reset(2, 0)),
        ("M16 extended, too long", with(&[255, 255, 255, 2, 0, 0]), Reset(2, 0)),
        ("M17 extended, short", with(&[255, 0, 9, 2, 0, 6, 1, 4, 0, 1, 0, 1]), Stays(OpenConfirm)),
        ("M18 capability overruns", open(65001, &[1, 9, 0, 1, 0, 1]), Reset(2, 0)),
        ("M19 4-octet AS of 0", open(65001, &[65, 0, 1, 4, 0, 1, 0, 1]), Reset(2, 0)),
        ("M20 software version", open(65001, &[75, 3, 9, b'a', b'b']), Stays(OpenConfirm)),
        ("M21 one capability 42 times", with(&many), Stays(OpenConfirm)),
        ("M22 GR of length 3", open(65001, &[64, 3, 0xff, 0xff, 1]), Stays(OpenConfirm)),
        ("M22 restart time 4095", open(65001, &[64, 2, 0x0f, 0xff]), Stays(OpenConfirm)),
        ("M24 role 9", open(65001, &[9, 1, 9]), Stays(OpenConfirm)),
        ("M25 empty parameters", with(&[2, 0].repeat(127)), Stays(OpenConfirm)),
    ];
    for (name, bytes, expected) in table {
        check(name, OpenSent, 65001, bytes, *expected);
    }
    let same_id = open_with(4, 65010, 9, [192, 0, 2, 1], &[]);
    check("M12 our own identifier", OpenSent, 65010, &same_id, Reset(2, 3));
}

#[test]
fn in_open_confirm() {
    for (name, bytes, expected) in [
        ("KEEPALIVE", message(KEEPALIVE, &[]), Stays(Established)),
        ("M09 UPDATE", update(&[], &ATTRIBUTES, &NLRI), Reset(5, 2)),
        ("M09 malformed UPDATE", update(&[], &[], &[33, 1, 2, 3, 4, 5]), Reset(5, 2)),
        ("second OPEN", open(65001, &capabilities(65001)), Reset(5, 2)),
        ("NOTIFICATION", message(NOTIFICATION, &[6, 2]), Closed),
    ] {
        check(name, OpenConfirm, 65001, &bytes, expected);
    }
}

#[test]
fn in_established() {
    let stays = Stays(Established);
    let replace = |index: usize, octet: u8| {
        let mut attributes = ATTRIBUTES;
        attributes[index] = octet;
        update(&[], &attributes, &NLRI)
    };
    let also = |attribute: &[u8]| update(&[], &[&ATTRIBUTES, attribute].concat(), &NLRI);
    let reach = |value: &[u8]| {
        let mut attribute = vec![0x80, 14, value.len() as u8];
        attribute.extend(value);
        update(&[], &[&attribute, &ATTRIBUTES[..13]].concat(), &[])
    };
    let twice = [0x80, 14, 5, 0, 1, 133, 0, 0].repeat(2);
    let table: &[(&str, Vec<u8>, Reaction)] = &[
        ("a route", update(&[], &ATTRIBUTES, &NLRI), stays),
        ("a withdraw", update(&NLRI, &[], &[]), stays),
        ("End-of-RIB", update(&[], &[], &[]), stays),
        ("M09 second OPEN", open(65001, &capabilities(65001)), Reset(5, 3)),
        ("M27 withdrawn too long", message(UPDATE, &[0, 9, 0, 0]), Reset(3, 1)),
        ("M27 attributes too long", message(UPDATE, &[0, 0, 0, 9]), Reset(3, 1)),
        ("M28 /33", update(&[], &ATTRIBUTES, &[33, 1, 2, 3, 4, 5]), Reset(3, 10)),
        ("M28 /255", update(&[], &ATTRIBUTES, &[255]), Reset(3, 10)),
        ("M28 NLRI cut short", update(&[], &ATTRIBUTES, &[24, 1, 2]), Reset(3, 10)),
        ("M28 withdrawn cut short", update(&[32, 1, 2, 3], &[], &[]), Reset(3, 10)),
        ("M29 ORIGIN 3", replace(3, 3), stays),
        ("M29 ORIGIN flags", replace(0, 0), stays),
        ("M30 no attributes", update(&[], &[], &NLRI), stays),
        ("M31 segment type 9", replace(7, 9), stays),
        ("M31 segment overrun", replace(8, 7), stays),
        ("M35 NEXT_HOP 224.0.2.2", replace(16, 224), stays),
        ("M37 ATOMIC_AGGREGATE of 1", also(&[0x40, 6, 1, 0]), stays),
        ("M38 COMMUNITIES of 6", also(&[0xc0, 8, 6, 0, 0, 0, 0, 0, 0]), stays),
        ("M39 ORIGIN twice", also(&[0x40, 1, 1, 0]), stays),
        ("M39 MP_REACH twice", update(&[], &twice, &[]), Reset(3, 1)),
        ("M40 stray octet", also(&[0x40]), stays),
        ("M41 attribute 40 of zeroes", also(&[0xc0, 40, 3, 0, 0, 0]), stays),
        ("M41 attribute 255", also(&[0xc0, 255, 2, 1, 2]), stays),
        ("M42 OTC of 5", also(&[0xc0, 35, 5, 0, 0, 0, 0, 1]), stays),
        ("M44 no NLRI, bad ORIGIN", update(&[], &[0x40, 1, 1, 3], &[]), Reset(3, 1)),
        ("M46 MP_REACH of 4", reach(&[0, 1, 133, 0]), stays),
        ("M46 next hop of 15", reach(&[&[0, 2, 1, 15][..], &[0; 16]].concat()), stays),
        ("M46 IPv6 /129", reach(&[&[0, 2, 1, 16][..], &[1; 16], &[0, 129]].concat()), stays),
        ("M47 AFI 25", reach(&[0, 25, 70, 4, 1, 2, 3, 4, 0]), stays),
        ("M47 AFI 16388", reach(&[0x40, 4, 71, 4, 1, 2, 3, 4, 0]), stays),
        ("M48 FlowSpec of 0", reach(&[0, 1, 133, 0, 0, 0]), stays),
        ("M48 FlowSpec of 0xf000", reach(&[0, 1, 133, 0, 0, 0xf0, 0]), stays),
        ("M48 FlowSpec cut short", reach(&[0, 1, 133, 0, 0, 0xf0]), stays),
        (
            "M51 FlowSpec alone",
            update(&[], &[0x80, 14, 9, 0, 1, 133, 0, 0, 3, 3, 129, 6], &[]),
            stays,
        ),
        ("M52 components out of order", reach(&[0, 1, 133, 0, 0, 6, 5, 129, 80, 3, 129, 6]), stays),
        ("M58 refresh of 24", message(ROUTE_REFRESH, &[0, 1, 0, 1, 0]), Reset(7, 1)),
        ("M58 refresh subtype 3", message(ROUTE_REFRESH, &[0, 1, 3, 1]), stays),
        ("M58 refresh AFI 99", message(ROUTE_REFRESH, &[0, 99, 0, 1]), stays),
        ("M59 EoRR", message(ROUTE_REFRESH, &[0, 1, 2, 1]), stays),
        ("M60 shutdown of 0xff", message(NOTIFICATION, &[6, 2, 4, 255, 255, 255, 255]), Closed),
    ];
    for (name, bytes, expected) in table {
        check(name, Established, 65001, bytes, *expected);
    }
}

fn check(name: &str, state: SessionState, peer_as: u16, bytes: &[u8], expected: Reaction) {
    let mut whole = Bench::new(state, peer_as);
    whole.give(bytes);
    assert_eq!(whole.reaction(), expected, "{name}");
    let mut octet_by_octet = Bench::new(state, peer_as);
    for octet in bytes {
        octet_by_octet.give(&[*octet]);
    }
    assert_eq!(octet_by_octet.reaction(), expected, "{name}, octet by octet");
    if let Reset(code, subcode) = expected {
        let error = whole.session.status().last_error_sent.unwrap();
        assert_eq!((error.code, error.subcode), (code, subcode), "{name}");
    }
}

#[test]
fn notifications_carry_their_data() {
    for (name, state, bytes, data) in [
        ("bad length", OpenSent, lying_message(OPEN, 4097, &[]), &[0x10, 0x01][..]),
        ("bad type", OpenSent, message(77, &[]), &[77]),
        ("version", OpenSent, open_with(3, 65001, 9, [192, 0, 2, 2], &[]), &[0, 4]),
    ] {
        let mut bench = Bench::new(state, 65001);
        bench.give(&bytes);
        let Some(Action::Close { last_words: Some(message), .. }) = bench.session.poll_action()
        else {
            panic!("{name}");
        };
        assert_eq!(&message[21..], data, "{name}");
    }
}

#[test]
fn a_peer_that_says_nothing_is_given_up() {
    for (name, prefix) in [("nothing", &[][..]), ("18 octets", &[0xff; 18])] {
        let mut bench = Bench::new(OpenSent, 65001);
        bench.give(prefix);
        let at = bench.session.poll_timeout().unwrap();
        assert_eq!(at.since(bench.now), Duration::from_secs(240), "{name}");
        bench.session.handle_timeout(at);
        assert_eq!(bench.reaction(), Reset(4, 0), "{name}");
    }
}

/// RFC 9687: a withdraw that nobody reads must not wait for ever.
#[test]
fn a_peer_that_does_not_read_is_given_up() {
    let mut bench = Bench::new(Established, 65001);
    let mut sent = 0;
    let end = bench.now + Duration::from_secs(60);
    while bench.now < end && bench.session.status().state == Established {
        // The peer talks, but our socket takes nothing.
        bench.give(&message(KEEPALIVE, &[]));
        while bench.session.poll_transmit(bench.now, Direction::Incoming).is_some() {
            sent += 1;
        }
        bench.now = bench.now + Duration::from_secs(1);
        bench.session.handle_timeout(bench.now);
    }
    assert_eq!(bench.reaction(), Closed);
    let error = bench.session.status().last_error_sent.unwrap();
    assert_eq!((error.code, error.subcode), (8, 0));
    assert!(sent < 20, "{sent} messages for a peer that reads none");
}

#[test]
fn the_peers_routes_are_counted_and_dropped() {
    let mut bench = Bench::new(Established, 65001);
    bench.give(&update(&[], &ATTRIBUTES, &[NLRI, [24, 198, 51, 101]].concat()));
    bench.give(&update(&NLRI, &[], &[]));
    bench.give(&update(&[], &[], &NLRI));
    let status = bench.session.status();
    assert_eq!(status.counters.routes_received, 2);
    assert_eq!(status.counters.withdraws_received, 1);
    assert_eq!(status.counters.malformed_updates, 1);
    assert_eq!(status.routes, 0);
    assert_eq!(bench.drain(), Vec::<Vec<u8>>::new(), "nothing is passed on");
}

/// No octets whatever make the session panic, or answer more than once.
#[test]
fn any_octets_end_in_one_answer_at_most() {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let state = [OpenSent, OpenConfirm, Established][random.below(3)];
        let mut bench = Bench::new(state, 65001);
        for _ in 0..1 + random.below(20) {
            let mut bytes = match random.below(6) {
                0 => open(65001, &capabilities(65001)),
                1 => update(&NLRI, &ATTRIBUTES, &NLRI),
                2 => message(KEEPALIVE, &[]),
                3 => message(ROUTE_REFRESH, &[0, 1, 0, 1]),
                4 => message(UPDATE, &(0..random.below(200)).map(|n| n as u8).collect::<Vec<_>>()),
                _ => message(NOTIFICATION, &[6, 2, 1, b'x']),
            };
            for _ in 0..random.below(4) {
                let index = random.below(bytes.len());
                // Mostly behind the header, or nothing would get past it.
                let index = if random.below(8) == 0 { index } else { index.max(19) };
                if let Some(octet) = bytes.get_mut(index) {
                    *octet = random.below(256) as u8;
                }
            }
            bench.give(&bytes);
            bench.drain();
        }
        let mut answers = 0;
        while let Some(action) = bench.session.poll_action() {
            answers += 1;
            assert!(matches!(action, Action::Close { .. }), "{action:?}, seed {seed}");
        }
        assert!(answers <= 1, "seed {seed}");
        let mut downs = 0;
        while let Some(event) = bench.session.poll_event() {
            downs += usize::from(matches!(event, SessionEvent::Down { .. }));
        }
        assert!(downs <= 2, "seed {seed}");
    }
}
