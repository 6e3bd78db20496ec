//! What is offered to a peer, asked of it, and done about what it says.

use std::net::Ipv4Addr;

use tidegate_bgpd::Family;
use tidegate_bgpd::session::{
    Action, ConnectMode, Negotiated, Role, SessionConfig, SessionOptions, SessionState,
};
use tidegate_model::CommandId;

use crate::bench::Reaction::{Reset, Stays};
use crate::bench::{
    ATTRIBUTES, Bench, KEEPALIVE, NLRI, OPEN, Reaction, UPDATE, capabilities, message, open,
    open_with, update,
};
use crate::support::{blackhole, ntp_filter};
use crate::world;

const PEER_AS: u16 = 65001;
const IDENTIFIER: [u8; 4] = [192, 0, 2, 2];

fn config(options: SessionOptions) -> SessionConfig {
    let peer_as = u32::from(PEER_AS);
    SessionConfig { peer_as, options, ..world::config(0, ConnectMode::Passive, 1) }
}

/// The reaction to an OPEN with these capabilities besides the usual ones.
fn reaction(config: SessionConfig, more: &[u8]) -> Reaction {
    let peer_as = config.peer_as as u16;
    let mut bench = Bench::with(config);
    bench.give(&open(peer_as, &[&capabilities(peer_as), more].concat()));
    bench.reaction()
}

/// A session that is up, with a peer that has these capabilities besides the usual ones.
fn up(options: SessionOptions, more: &[u8]) -> Bench {
    let mut bench = Bench::with(config(options));
    bench.give(&open(PEER_AS, &[&capabilities(PEER_AS), more].concat()));
    bench.give(&message(KEEPALIVE, &[]));
    bench.drain();
    assert_eq!(bench.session.status().state, SessionState::Established);
    bench
}

fn negotiated(bench: &Bench) -> Negotiated {
    bench.session.status().negotiated.unwrap()
}

/// The codes of the capabilities in the OPEN that is sent.
fn offered(config: SessionConfig) -> Vec<u8> {
    let sent = Bench::with(config).drain().remove(0);
    assert_eq!(sent[18], OPEN);
    let mut codes = Vec::new();
    let mut rest = &sent[31..];
    while let [code, length, value @ ..] = rest {
        codes.push(*code);
        rest = &value[usize::from(*length)..];
    }
    codes
}

/// RFC 9234 §4.2, table 2.
#[test]
fn roles_must_fit() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let roles = [Provider, RouteServer, RouteServerClient, Customer, Peer];
    let pairs = [
        (Provider, Customer),
        (Customer, Provider),
        (RouteServer, RouteServerClient),
        (RouteServerClient, RouteServer),
        (Peer, Peer),
    ];
    for ours in roles {
        let options = SessionOptions { role: Some(ours), ..SessionOptions::default() };
        for (code, theirs) in (0..).zip(roles) {
            let expected = match pairs.contains(&(ours, theirs)) {
                true => Stays(SessionState::OpenConfirm),
                false => Reset(2, 11),
            };
            let reaction = reaction(config(options.clone()), &[9, 1, code]);
            assert_eq!(reaction, expected, "{ours:?} and {theirs:?}");
        }
    }
    let options = SessionOptions { role: Some(Customer), ..SessionOptions::default() };
    assert_eq!(negotiated(&up(options, &[9, 1, 0])).peer_role, Some(Provider));
}

/// RFC 9234 §5: what goes to a customer, a peer or a client of our route server may not be passed
/// up, and says so. Unicast only, and only where there is a role.
#[test]
fn routes_that_go_down_say_so() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    const OTC: [u8; 7] = [0xc0, 35, 4, 0, 0, 0xfd, 0xf2];
    for (role, theirs, expected) in [
        (Some(Provider), &[9, 1, 3][..], true),
        (Some(RouteServer), &[9, 1, 2], true),
        (Some(Peer), &[9, 1, 4], true),
        // Our role holds, whatever the peer says nothing about.
        (Some(Provider), &[], true),
        (Some(Customer), &[9, 1, 0], false),
        (Some(RouteServerClient), &[9, 1, 1], false),
        (None, &[9, 1, 3], false),
    ] {
        let options = SessionOptions { role, ..SessionOptions::default() };
        let mut bench = up(options, &[theirs, &[1, 4, 0, 1, 0, 133]].concat());
        bench.session.handle_announce(CommandId(1), blackhole("203.0.113.7"));
        let sent = bench.drain().remove(0);
        let found = sent.windows(OTC.len()).any(|window| window == OTC);
        assert_eq!(found, expected, "{role:?}: {sent:02x?}");
        bench.session.handle_announce(CommandId(2), ntp_filter("203.0.113.8"));
        let sent = bench.drain().remove(0);
        assert!(!sent.windows(2).any(|window| window == [0xc0, 35]), "{role:?}: {sent:02x?}");
    }
    // Within our AS there are no roles.
    let options = SessionOptions { role: Some(Provider), ..SessionOptions::default() };
    let mut bench = Bench::with(SessionConfig { peer_as: 65010, ..config(options) });
    bench.give(&open(65010, &capabilities(65010)));
    bench.give(&message(KEEPALIVE, &[]));
    bench.drain();
    bench.session.handle_announce(CommandId(1), blackhole("203.0.113.7"));
    let sent = bench.drain().remove(0);
    assert!(!sent.windows(2).any(|window| window == [0xc0, 35]), "{sent:02x?}");
}

#[test]
fn a_peer_without_a_fitting_role() {
    let customer = SessionOptions { role: Some(Role::Customer), ..SessionOptions::default() };
    let strict = SessionOptions { strict_role: true, ..customer.clone() };
    let open_confirm = Stays(SessionState::OpenConfirm);
    for (name, options, more, expected) in [
        ("no role, not strict", &customer, &[][..], open_confirm),
        ("no role, strict", &strict, &[], Reset(2, 11)),
        ("the same role twice", &customer, &[9, 1, 0, 9, 1, 0], open_confirm),
        ("two roles", &customer, &[9, 1, 0, 9, 1, 4], Reset(2, 11)),
        ("role 9", &customer, &[9, 1, 9], Reset(2, 11)),
        ("a role of two octets", &customer, &[9, 2, 0, 0], Reset(2, 11)),
        ("ours not configured", &SessionOptions::default(), &[9, 1, 0], open_confirm),
    ] {
        assert_eq!(reaction(config(options.clone()), more), expected, "{name}");
    }
    // On an iBGP session there are no roles (RFC 9234 §4.1).
    let internal = SessionConfig { peer_as: 65010, ..config(strict.clone()) };
    assert_eq!(reaction(internal.clone(), &[]), open_confirm);
    assert!(!offered(internal).contains(&9));
    assert!(offered(config(strict)).contains(&9));
}

/// RFC 8654: longer messages once both have said so, OPEN and KEEPALIVE excepted.
#[test]
fn messages_of_more_than_4096_octets() {
    let long = |length: usize| {
        // An unknown optional transitive attribute.
        let mut attribute = vec![0xd0, 99];
        attribute.extend((length as u16).to_be_bytes());
        attribute.extend(vec![0; length]);
        update(&[], &[&ATTRIBUTES, &attribute[..]].concat(), &NLRI)
    };
    let stays = Stays(SessionState::Established);
    for (name, offer, more, message, expected) in [
        ("4097, both offer", true, &[6, 0][..], long(4046), stays),
        ("65,535, both offer", true, &[6, 0], long(65_484), stays),
        ("4097, the peer does not offer", true, &[], long(4046), Reset(1, 2)),
        ("4097, we do not offer", false, &[6, 0], long(4046), Reset(1, 2)),
        ("4096", false, &[], long(4045), stays),
        ("OPEN of 4097", true, &[6, 0], message(OPEN, &[4; 4078]), Reset(1, 2)),
        ("KEEPALIVE of 4097", true, &[6, 0], message(KEEPALIVE, &[4; 4078]), Reset(1, 2)),
    ] {
        let mut bench =
            up(SessionOptions { extended_messages: offer, ..SessionOptions::default() }, more);
        for part in message.chunks(1000) {
            bench.give(part);
        }
        assert_eq!(bench.reaction(), expected, "{name}");
        let counted = bench.session.status().counters.routes_received;
        assert_eq!(counted, u64::from(expected == stays), "{name}");
    }
}

/// An AS_PATH of 16,000 numbers, more than any stack buffer was made for.
#[test]
fn an_as_path_of_sixteen_thousand() {
    let mut bench = up(SessionOptions::default(), &[6, 0]);
    let mut path = Vec::new();
    for _ in 0..63 {
        path.extend([2, 255]);
        path.extend([0, 0, 0xfd, 0xe9].repeat(255));
    }
    let mut attributes = vec![0x40, 1, 1, 0, 0x50, 2];
    attributes.extend((path.len() as u16).to_be_bytes());
    attributes.extend(path);
    attributes.extend([0x40, 3, 4, 192, 0, 2, 2]);
    bench.give(&update(&[], &attributes, &NLRI));
    assert_eq!(bench.reaction(), Stays(SessionState::Established));
    assert_eq!(bench.session.status().counters.routes_received, 1);
}

/// What is sent stays within 4096 octets, whatever the peer takes.
#[test]
fn nothing_longer_than_4096_octets_is_sent() {
    let mut bench = up(SessionOptions::default(), &[6, 0]);
    assert!(negotiated(&bench).extended_messages);
    for host in 54..=255 {
        let route = blackhole(&format!("203.0.113.{host}"));
        bench.session.handle_announce(CommandId(host), route);
    }
    let mut longest = 0;
    for message in bench.drain() {
        longest = longest.max(message.len());
    }
    assert!((100..=4096).contains(&longest), "{longest}");
}

/// RFC 5492 §3: 2/7 with the capabilities that are missed.
#[test]
fn required_families_are_required() {
    let options = |families: &[Family]| SessionOptions {
        required_families: families.iter().copied().collect(),
        ..SessionOptions::default()
    };
    let flowspec = options(&[Family::Ipv4FlowSpec, Family::Ipv6FlowSpec]);
    let mut bench = Bench::with(config(flowspec.clone()));
    bench.give(&open(PEER_AS, &[&capabilities(PEER_AS)[..], &[1, 4, 0, 1, 0, 133]].concat()));
    let Some(Action::Close { last_words: Some(message), .. }) = bench.session.poll_action() else {
        panic!("the session stays");
    };
    assert_eq!(message[19..], [2, 7, 1, 4, 0, 2, 0, 133], "the one that is missed");
    let both = [1, 4, 0, 1, 0, 133, 1, 4, 0, 2, 0, 133];
    let open_confirm = Stays(SessionState::OpenConfirm);
    assert_eq!(reaction(config(flowspec), &both), open_confirm);
    // Without capabilities there is IPv4 unicast (RFC 4760 §8), and nothing else.
    for (families, expected) in
        [(&[Family::Ipv4Unicast][..], open_confirm), (&[Family::Ipv6Unicast], Reset(2, 7))]
    {
        let mut bench = Bench::with(config(options(families)));
        bench.give(&open_with(4, PEER_AS, 9, IDENTIFIER, &[]));
        assert_eq!(bench.reaction(), expected, "{families:?}");
    }
}

/// RFC 6793, switched off by either side.
#[test]
fn four_octet_as_numbers_can_be_left_out() {
    let off = || SessionOptions { four_octet_as: false, ..SessionOptions::default() };
    assert!(!offered(config(off())).contains(&65));
    let bench = up(off(), &[]);
    assert!(!negotiated(&bench).four_octet_as);
    let bench = up(SessionOptions::default(), &[]);
    assert!(negotiated(&bench).four_octet_as);
    // An AS number of four octets is AS_TRANS in the OPEN, with the capability or without.
    for options in [off(), SessionOptions::default()] {
        let config = SessionConfig { local_as: 4_200_000_001, ..config(options) };
        let sent = Bench::with(config).drain().remove(0);
        assert_eq!(sent[20..22], 23456_u16.to_be_bytes());
    }
    // Then AS_PATH has two octets for each, in both directions.
    let mut bench = up(off(), &[]);
    let two = [0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 2];
    bench.give(&update(&[], &two, &NLRI));
    bench.give(&update(&[], &ATTRIBUTES, &NLRI));
    let counters = bench.session.status().counters;
    assert_eq!((counters.routes_received, counters.malformed_updates), (1, 1));
    bench.session.handle_announce(CommandId(1), blackhole("203.0.113.7"));
    let sent = bench.drain().remove(0);
    assert_eq!(sent[18], UPDATE);
    let path = [0x40, 2, 4, 2, 1, 0xfd, 0xf2];
    assert!(sent.windows(path.len()).any(|window| window == path), "{sent:02x?}");
}

/// RFC 5492 §4: capabilities come in any number, in one parameter or in many.
#[test]
fn capabilities_come_in_any_shape() {
    let usual = capabilities(PEER_AS);
    let mut each_alone = Vec::new();
    for capability in [&usual[..6], &usual[6..8], &usual[8..]] {
        each_alone.push(2);
        each_alone.push(capability.len() as u8);
        each_alone.extend(capability);
    }
    let mut extended = vec![255, 0, 17, 2, 0, 14];
    extended.extend(&usual);
    for (name, parameters) in [
        ("each in a parameter of its own", each_alone),
        ("extended parameters (RFC 9072)", extended),
        ("twice", [&[2, 28][..], &usual, &usual].concat()),
        ("unknown ones among them", [&[2, 22][..], &[200, 2, 1, 2, 128, 0, 4, 0], &usual].concat()),
        ("a multiprotocol one of two octets", [&[2, 18][..], &[1, 2, 0, 1], &usual].concat()),
        ("a family that nobody knows", [&[2, 20][..], &[1, 4, 0x40, 9, 0, 77], &usual].concat()),
    ] {
        let mut bench = Bench::with(config(SessionOptions::default()));
        bench.give(&open_with(4, PEER_AS, 9, IDENTIFIER, &parameters));
        bench.give(&message(KEEPALIVE, &[]));
        assert_eq!(bench.reaction(), Stays(SessionState::Established), "{name}");
        let negotiated = negotiated(&bench);
        assert_eq!(negotiated.families, [Family::Ipv4Unicast].into(), "{name}");
        assert!(negotiated.four_octet_as && negotiated.route_refresh, "{name}");
        assert_eq!(negotiated.router_id, Ipv4Addr::from(IDENTIFIER));
    }
}

/// A capability list that does not fit into 255 octets is taken (RFC 9072).
#[test]
fn an_open_with_many_capabilities() {
    let mut list = capabilities(PEER_AS);
    for code in 0..200 {
        list.extend([200, 4, 0, 0, 0, code]);
    }
    let mut parameters = vec![255];
    parameters.extend((list.len() as u16 + 3).to_be_bytes());
    parameters.push(2);
    parameters.extend((list.len() as u16).to_be_bytes());
    parameters.extend(&list);
    let mut body = vec![4];
    body.extend(PEER_AS.to_be_bytes());
    body.extend([0, 9, 192, 0, 2, 2, 255]);
    body.extend(parameters);
    let mut bench = Bench::with(config(SessionOptions::default()));
    bench.give(&message(OPEN, &body));
    assert_eq!(bench.reaction(), Stays(SessionState::OpenConfirm));
}

/// RFC 7313: BoRR and EoRR only to a peer that knows them; those of the peer are ignored.
#[test]
fn enhanced_refresh_is_for_those_who_have_it() {
    const REFRESH: u8 = 5;
    let request = message(REFRESH, &[0, 1, 0, 1]);
    let subtypes = |messages: Vec<Vec<u8>>| -> Vec<u8> {
        let of = |message: &Vec<u8>| if message[18] == REFRESH { message[21] } else { 0 };
        messages.iter().map(of).collect()
    };
    for (offer, more, expected) in [
        (true, &[70, 0][..], &[1, 0, 2][..]),
        (true, &[], &[0]),
        (false, &[70, 0], &[0]),
        (true, &[70, 1, 0], &[0]),
    ] {
        let options = SessionOptions { enhanced_refresh: offer, ..SessionOptions::default() };
        assert_eq!(offered(config(options.clone())).contains(&70), offer);
        let mut bench = up(options, more);
        bench.session.handle_announce(CommandId(1), blackhole("203.0.113.7"));
        bench.drain();
        // BoRR and EoRR of the peer, which has nothing that we keep.
        bench.give(&message(REFRESH, &[0, 1, 2, 1]));
        bench.give(&message(REFRESH, &[0, 1, 1, 1]));
        assert_eq!(subtypes(bench.drain()), Vec::<u8>::new());
        bench.give(&request);
        assert_eq!(subtypes(bench.drain()), expected, "{offer} {more:?}");
        assert_eq!(bench.reaction(), Stays(SessionState::Established));
    }
}

/// A request that comes before End-of-RIB is answered after it, and one during an answer after
/// [`tidegate_bgpd::session::REFRESH_INTERVAL`].
#[test]
fn refreshes_wait_their_turn() {
    const REFRESH: u8 = 5;
    let request = message(REFRESH, &[0, 1, 0, 1]);
    let mut bench = Bench::with(config(SessionOptions::default()));
    bench.session.handle_announce(CommandId(1), blackhole("203.0.113.7"));
    bench.give(&open(PEER_AS, &[&capabilities(PEER_AS)[..], &[70, 0]].concat()));
    bench.give(&[message(KEEPALIVE, &[]), request.clone()].concat());
    let kinds = |messages: Vec<Vec<u8>>| -> Vec<(u8, usize)> {
        messages.iter().map(|message| (message[18], message.len())).collect()
    };
    let first = kinds(bench.drain());
    assert_eq!(first[2..4], [(UPDATE, first[2].1), (UPDATE, 23)], "the route, End-of-RIB");
    assert_eq!(first[4..], [(REFRESH, 23), (UPDATE, first[2].1), (REFRESH, 23)]);
    for _ in 0..100 {
        bench.give(&request);
    }
    assert_eq!(kinds(bench.drain()), []);
    let at = bench.session.poll_timeout().unwrap();
    assert_eq!(at.since(bench.now), tidegate_bgpd::session::REFRESH_INTERVAL);
    bench.now = at;
    bench.session.handle_timeout(at);
    assert_eq!(kinds(bench.drain())[..3], first[4..]);
}

/// RFC 7911 §4: who offers additional paths is spoken to without them, as we do not.
#[test]
fn additional_paths_are_not_spoken() {
    const BOTH_WAYS: u8 = 3;
    let mut offer = vec![69, 8];
    for (afi, safi) in [(1, 1), (2, 1)] {
        offer.extend([0, afi, safi, BOTH_WAYS]);
    }
    assert!(!offered(config(SessionOptions::default())).contains(&69));
    let announced = |more: &[u8]| {
        let mut bench = up(SessionOptions::default(), more);
        bench.session.handle_announce(CommandId(1), blackhole("203.0.113.7"));
        bench.drain().remove(0)
    };
    // There is no path identifier before the prefix.
    assert_eq!(announced(&offer), announced(&[]));
    assert!(announced(&offer).ends_with(&[32, 203, 0, 113, 7]));
}

/// RFC 5492 §5: what the capability of something that we do not speak holds is no reason to refuse
/// its sender.
#[test]
fn a_broken_offer_of_additional_paths_refuses_nobody() {
    for broken in [&[69, 0][..], &[69, 3, 0, 1, 1], &[69, 4, 0, 1, 1, 9], &[69, 5, 0, 1, 1, 1, 0]] {
        let reaction = reaction(config(SessionOptions::default()), broken);
        assert_eq!(reaction, Stays(SessionState::OpenConfirm), "{broken:?}");
    }
}
