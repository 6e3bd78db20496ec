//! Every attribute that RFC 7606 §7 speaks of, well-formed and not, within our AS and from another.

use tidegate_bgpd::learnt::{News, Update};
use tidegate_bgpd::session::{SessionEvent, SessionState};

use crate::bench::{ATTRIBUTES, Bench, NLRI, update};

const INTERNAL: u16 = 65010;
const EXTERNAL: u16 = 65001;

/// What becomes of the route.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Taken,
    /// Taken without the attribute.
    Discarded,
    Withdrawn,
}

use Fate::{Discarded, Taken, Withdrawn};

/// Gives a session that is up an UPDATE with these attributes.
fn fate(peer_as: u16, attributes: &[u8]) -> Fate {
    let mut bench = Bench::new(SessionState::Established, peer_as);
    while bench.session.poll_event().is_some() {}
    bench.give(&update(&[], attributes, &NLRI));
    assert_eq!(bench.session.status().state, SessionState::Established);
    let malformed = bench.session.status().counters.malformed_updates;
    let events = std::iter::from_fn(|| bench.session.poll_event());
    let updates: Vec<Update> = events
        .filter_map(|event| match event {
            SessionEvent::Learnt(News::Update(update)) => Some(*update),
            _ => None,
        })
        .collect();
    match (&updates[..], malformed) {
        ([update], 0) if update.announced.len() == 1 => Taken,
        ([update], 1) if update.announced.len() == 1 => Discarded,
        ([update], 1) if update.withdrawn.len() == 1 => Withdrawn,
        other => panic!("{other:?}"),
    }
}

/// ORIGIN, AS_PATH and NEXT_HOP, LOCAL_PREF within our AS, and this one.
fn with(peer_as: u16, attribute: &[u8]) -> Vec<u8> {
    let mut all = ATTRIBUTES.to_vec();
    if peer_as == INTERNAL && attribute.get(1) != Some(&5) {
        all.extend([0x40, 5, 4, 0, 0, 0, 100]);
    }
    [&all[..], attribute].concat()
}

#[test]
fn each_attribute_both_ways() {
    let rows: &[(&str, &[u8], Fate, Fate)] = &[
        // Name, attribute, within our AS, from another.
        ("MULTI_EXIT_DISC", &[0x80, 4, 4, 0, 0, 0, 9], Taken, Taken),
        ("MULTI_EXIT_DISC of 3", &[0x80, 4, 3, 0, 0, 0], Withdrawn, Withdrawn),
        ("LOCAL_PREF", &[0x40, 5, 4, 0, 0, 0, 200], Taken, Taken),
        ("ATOMIC_AGGREGATE", &[0x40, 6, 0], Taken, Taken),
        ("ATOMIC_AGGREGATE of 1", &[0x40, 6, 1, 0], Discarded, Discarded),
        ("AGGREGATOR", &[0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 192, 0, 2, 1], Taken, Taken),
        ("AGGREGATOR of 6", &[0xc0, 7, 6, 0xfd, 0xe9, 192, 0, 2, 1], Discarded, Discarded),
        ("COMMUNITIES", &[0xc0, 8, 4, 0xff, 0xff, 2, 0x9a], Taken, Taken),
        ("COMMUNITIES of 3", &[0xc0, 8, 3, 0, 0, 0], Withdrawn, Withdrawn),
        // From another AS it is not looked at, which is what discarding it comes to.
        ("ORIGINATOR_ID", &[0x80, 9, 4, 192, 0, 2, 9], Taken, Taken),
        ("ORIGINATOR_ID of 3", &[0x80, 9, 3, 192, 0, 2], Withdrawn, Discarded),
        ("CLUSTER_LIST", &[0x80, 10, 8, 192, 0, 2, 9, 192, 0, 2, 8], Taken, Taken),
        ("CLUSTER_LIST of 5", &[0x80, 10, 5, 192, 0, 2, 9, 1], Withdrawn, Discarded),
        ("EXTENDED COMMUNITIES", &[0xc0, 16, 8, 0, 2, 0xfd, 0xe9, 0, 0, 0, 1], Taken, Taken),
        ("EXTENDED COMMUNITIES of 4", &[0xc0, 16, 4, 0, 2, 0xfd, 0xe9], Withdrawn, Withdrawn),
        ("LARGE_COMMUNITY", &[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], Taken, Taken),
        ("LARGE_COMMUNITY of 4", &[0xc0, 32, 4, 0, 0, 0, 1], Withdrawn, Withdrawn),
        ("OTC", &[0xc0, 35, 4, 0, 0, 0xfd, 0xe9], Taken, Taken),
        ("OTC of 3", &[0xc0, 35, 3, 0, 0, 0xfd], Withdrawn, Withdrawn),
        ("one that nobody knows", &[0xc0, 99, 3, 1, 2, 3], Taken, Taken),
    ];
    let mut complaints = Vec::new();
    for (name, attribute, within, from_another) in rows {
        for (peer_as, expected) in [(INTERNAL, within), (EXTERNAL, from_another)] {
            let found = fate(peer_as, &with(peer_as, attribute));
            if found != *expected {
                complaints.push(format!("{name}, AS {peer_as}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// The mandatory ones, each left out and each spoilt.
#[test]
fn the_mandatory_attributes() {
    let all = || with(EXTERNAL, &[]);
    assert_eq!(fate(EXTERNAL, &all()), Taken);
    for (name, range) in [("ORIGIN", 0..4), ("AS_PATH", 4..13), ("NEXT_HOP", 13..20)] {
        let mut without = all();
        without.drain(range.clone());
        assert_eq!(fate(EXTERNAL, &without), Withdrawn, "no {name}");
        let mut flags = all();
        flags[range.start] ^= 0x80;
        assert_eq!(fate(EXTERNAL, &flags), Withdrawn, "{name} as optional");
    }
}
