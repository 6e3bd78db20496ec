use std::collections::BTreeSet;

use tidegate_model::{
    Community, FlowSpecComponent, FlowSpecRule, NumericMatch, OwnedSpace, Prefix,
    TrafficFilteringAction,
};

use super::*;
use crate::convert::decode_update;
use crate::egress::GatePolicy;

fn parameters() -> SessionParameters {
    SessionParameters {
        local_as: 65010,
        peer_as: 65010,
        local_address: "10.99.0.1".parse().unwrap(),
        four_octet_as: true,
        families: BTreeSet::from(Family::ALL),
        role: None,
    }
}

fn gate() -> Gate {
    let space = OwnedSpace {
        owned: vec!["203.0.113.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()],
        never_touch: vec!["203.0.113.53".parse().unwrap()],
    };
    Gate::new(GatePolicy { space, ..GatePolicy::default() })
}

fn unicast(text: &str) -> Nlri {
    Nlri::Unicast(text.parse().unwrap())
}

fn blackhole(text: &str) -> Route {
    let prefix: Prefix = text.parse().unwrap();
    let next_hop = if prefix.address().is_ipv4() { "192.0.2.1" } else { "100::1" };
    Route {
        nlri: Nlri::Unicast(prefix),
        next_hop: Some(next_hop.parse().unwrap()),
        communities: BTreeSet::from([Community::BLACKHOLE, Community::NO_EXPORT]),
        large_communities: BTreeSet::new(),
        actions: Vec::new(),
    }
}

fn flow(text: &str, port: u64) -> Route {
    let prefix: Prefix = text.parse().unwrap();
    let components = vec![
        FlowSpecComponent::DestinationPrefix(prefix),
        FlowSpecComponent::SourcePort(NumericMatch::equal(port)),
    ];
    Route {
        nlri: Nlri::FlowSpec(FlowSpecRule::new(prefix.family(), components).unwrap()),
        next_hop: None,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        actions: vec![TrafficFilteringAction::DISCARD],
    }
}

/// A table with an established session that has nothing more to say.
fn established() -> AdjRibOut {
    let mut rib = AdjRibOut::new(100);
    rib.resend_all();
    drain(&mut rib);
    rib
}

fn drain(rib: &mut AdjRibOut) -> Vec<Sent> {
    let (parameters, gate) = (parameters(), gate());
    std::iter::from_fn(|| rib.poll_update(&parameters, &gate)).collect()
}

/// What the messages say, one line each.
fn said(sent: &[Sent]) -> Vec<String> {
    let line = |sent: &Sent| {
        let decoded = decode_update(&sent.message).unwrap();
        let nlris: Vec<Nlri> =
            decoded.announced.iter().chain(&decoded.withdrawn).cloned().collect();
        assert_eq!(nlris, sent.nlris);
        let text = decoded.to_string();
        text.split(';').next().unwrap_or_default().to_owned()
    };
    sent.iter().map(line).collect()
}

fn answers(rib: &mut AdjRibOut) -> Vec<(u64, &'static str)> {
    std::iter::from_fn(|| rib.poll_answer())
        .map(|answer| (answer.command.0, name(&answer.kind)))
        .collect()
}

fn name(kind: &OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Applied { .. } => "applied",
        OutcomeKind::Pending { .. } => "pending",
        OutcomeKind::Rejected { .. } => "rejected",
        OutcomeKind::Failed { .. } => "failed",
    }
}

#[test]
fn an_announcement_is_answered_with_its_octets() {
    let mut rib = established();
    rib.announce(CommandId(1), blackhole("203.0.113.7"));
    assert_eq!(answers(&mut rib), []);
    assert!(!rib.is_idle());
    let sent = drain(&mut rib);
    assert_eq!(said(&sent), ["announce 203.0.113.7/32"]);
    let answer = sent[0].answers().next().unwrap();
    assert_eq!(answer.command, CommandId(1));
    assert_eq!(answer.nlri, unicast("203.0.113.7"));
    assert_eq!(answer.kind, OutcomeKind::Applied { bytes: sent[0].message.clone() });
    assert!(rib.is_idle());
    assert_eq!(rib.held(), 1);
}

#[test]
fn a_table_waits_for_its_session() {
    let mut rib = AdjRibOut::new(100);
    rib.announce(CommandId(1), blackhole("203.0.113.7"));
    rib.announce(CommandId(2), flow("203.0.113.8", 53));
    assert_eq!(answers(&mut rib), [(1, "pending"), (2, "pending")]);
    assert_eq!(drain(&mut rib), []);
    rib.resend_all();
    let sent = drain(&mut rib);
    assert_eq!(
        said(&sent),
        [
            "announce 203.0.113.7/32",
            "announce flow4 { destination 203.0.113.8/32",
            "end of RIB ipv4-unicast",
            "end of RIB ipv6-unicast",
            "end of RIB ipv4-flowspec",
            "end of RIB ipv6-flowspec",
        ]
    );
    let commands: Vec<u64> =
        sent.iter().flat_map(Sent::answers).map(|answer| answer.command.0).collect();
    assert_eq!(commands, [1, 2]);
}

#[test]
fn withdrawals_go_first() {
    let mut rib = established();
    rib.announce(CommandId(1), blackhole("203.0.113.9"));
    drain(&mut rib);
    rib.announce(CommandId(2), blackhole("203.0.113.7"));
    rib.withdraw(CommandId(3), &unicast("203.0.113.9"));
    assert_eq!(said(&drain(&mut rib)), ["withdraw 203.0.113.9/32", "announce 203.0.113.7/32"]);
}

#[test]
fn commands_about_one_nlri_cost_one_message() {
    let mut rib = established();
    for command in 0..50 {
        rib.announce(CommandId(command), blackhole("203.0.113.7"));
    }
    let sent = drain(&mut rib);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].commands, [(CommandId(49), unicast("203.0.113.7"))]);

    // Announced again as it is: nothing to send.
    rib.announce(CommandId(50), blackhole("203.0.113.7"));
    assert_eq!(answers(&mut rib), [(50, "applied")]);
    assert_eq!(drain(&mut rib), []);

    // Withdrawn and announced again before the socket drains: replaced, not withdrawn.
    rib.withdraw(CommandId(51), &unicast("203.0.113.7"));
    rib.announce(CommandId(52), blackhole("203.0.113.7"));
    assert_eq!(said(&drain(&mut rib)), ["announce 203.0.113.7/32"]);

    // Announced and withdrawn before the socket drains: the peer never hears of it.
    rib.announce(CommandId(53), blackhole("203.0.113.8"));
    rib.withdraw(CommandId(54), &unicast("203.0.113.8"));
    assert_eq!(answers(&mut rib), [(54, "applied")]);
    assert_eq!(drain(&mut rib), []);
}

#[test]
fn unknown_withdrawals_are_done_at_once() {
    let mut rib = established();
    rib.withdraw(CommandId(1), &unicast("203.0.113.7"));
    assert_eq!(rib.poll_answer().unwrap().kind, OutcomeKind::Applied { bytes: [].into() });
    assert_eq!(drain(&mut rib), []);
}

#[test]
fn the_table_is_bounded() {
    let mut rib = AdjRibOut::new(2);
    rib.resend_all();
    drain(&mut rib);
    for (command, host) in (1..=3).zip(["203.0.113.7", "203.0.113.8", "203.0.113.9"]) {
        rib.announce(CommandId(command), blackhole(host));
    }
    assert_eq!(answers(&mut rib), [(3, "failed")]);
    assert_eq!(rib.routes().count(), 2);
    // A route that is there may change, and one that goes makes room.
    rib.announce(CommandId(4), blackhole("203.0.113.7"));
    rib.withdraw(CommandId(5), &unicast("203.0.113.8"));
    rib.announce(CommandId(6), blackhole("203.0.113.9"));
    assert_eq!(answers(&mut rib), [(5, "applied")]);
    assert_eq!(said(&drain(&mut rib)), ["announce 203.0.113.7/32, 203.0.113.9/32"]);
}

#[test]
fn one_refused_route_takes_no_other_down() {
    let mut rib = established();
    for (command, host) in
        (1..).zip(["203.0.113.7", "10.0.0.1", "203.0.113.8", "203.0.113.53", "203.0.113.9"])
    {
        rib.announce(CommandId(command), blackhole(host));
    }
    let sent = drain(&mut rib);
    assert_eq!(said(&sent), ["announce 203.0.113.7/32, 203.0.113.8/32, 203.0.113.9/32"]);
    let whys: Vec<(u64, OutcomeKind)> = std::iter::from_fn(|| rib.poll_answer())
        .map(|answer| (answer.command.0, answer.kind))
        .collect();
    let rejected = |why: &str| OutcomeKind::Rejected { why: why.to_owned() };
    assert_eq!(
        whys,
        [
            (2, rejected("egress gate: 10.0.0.1/32: 10.0.0.1/32 lies in no owned prefix")),
            (
                4,
                rejected(
                    "egress gate: 203.0.113.53/32: touches 203.0.113.53/32, which is never touched"
                )
            ),
        ]
    );
    assert_eq!(rib.routes().count(), 3);
}

#[test]
fn what_cannot_be_encoded_is_rejected() {
    let mut rib = established();
    rib.announce(CommandId(1), flow("203.0.113.7", 70_000));
    rib.announce(CommandId(2), flow("203.0.113.7", 53));
    assert_eq!(said(&drain(&mut rib)), ["announce flow4 { destination 203.0.113.7/32"]);
    assert_eq!(answers(&mut rib), [(1, "rejected")]);
}

#[test]
fn a_refused_change_takes_the_old_form_back() {
    let mut rib = established();
    rib.announce(CommandId(1), blackhole("203.0.113.7"));
    drain(&mut rib);
    let mut bare = blackhole("203.0.113.7");
    bare.communities.clear();
    rib.announce(CommandId(2), bare);
    assert_eq!(said(&drain(&mut rib)), ["withdraw 203.0.113.7/32"]);
    assert_eq!(answers(&mut rib), [(2, "rejected")]);
    assert_eq!(rib.held(), 0);
}

#[test]
fn families_that_were_not_negotiated_are_rejected() {
    let mut rib = AdjRibOut::new(100);
    rib.announce(CommandId(1), flow("203.0.113.7", 53));
    rib.announce(CommandId(2), blackhole("203.0.113.7"));
    rib.resend_all();
    while rib.poll_answer().is_some() {}
    let mut parameters = parameters();
    parameters.families = BTreeSet::from([Family::Ipv4Unicast]);
    let gate = gate();
    let sent: Vec<Sent> = std::iter::from_fn(|| rib.poll_update(&parameters, &gate)).collect();
    assert_eq!(said(&sent), ["announce 203.0.113.7/32", "end of RIB ipv4-unicast"]);
    let answer = rib.poll_answer().unwrap();
    assert_eq!(answer.command, CommandId(1));
    let why = "peer did not negotiate ipv4-flowspec".to_owned();
    assert_eq!(answer.kind, OutcomeKind::Rejected { why });
}

#[test]
fn a_lost_session_keeps_what_is_wanted() {
    let mut rib = established();
    for (command, host) in (1..).zip(["203.0.113.7", "203.0.113.8"]) {
        rib.announce(CommandId(command), blackhole(host));
    }
    drain(&mut rib);
    rib.withdraw(CommandId(3), &unicast("203.0.113.8"));
    rib.announce(CommandId(4), blackhole("203.0.113.9"));
    rib.session_lost();
    // The peer has dropped 203.0.113.8 with the session.
    assert_eq!(answers(&mut rib), [(3, "applied"), (4, "pending")]);
    assert_eq!(rib.held(), 0);
    assert_eq!(drain(&mut rib), []);
    rib.withdraw(CommandId(5), &unicast("203.0.113.7"));
    assert_eq!(answers(&mut rib), [(5, "applied")]);

    rib.resend_all();
    let sent = drain(&mut rib);
    assert_eq!(said(&sent)[0], "announce 203.0.113.9/32");
    assert_eq!(sent.len(), 1 + Family::ALL.len());
    // End-of-RIB once for each session.
    assert_eq!(drain(&mut rib), []);
}

#[test]
fn a_route_refresh_resends_one_family() {
    let mut rib = established();
    rib.announce(CommandId(1), blackhole("203.0.113.7"));
    rib.announce(CommandId(2), flow("203.0.113.8", 53));
    drain(&mut rib);
    rib.resend_family(Family::Ipv4Unicast);
    rib.withdraw(CommandId(3), &flow("203.0.113.8", 53).nlri);
    assert_eq!(
        said(&drain(&mut rib)),
        ["withdraw flow4 { destination 203.0.113.8/32", "announce 203.0.113.7/32"]
    );
}

#[test]
fn everything_can_be_withdrawn() {
    let mut rib = established();
    for (command, host) in (1..).zip(["203.0.113.7", "2001:db8:1::7"]) {
        rib.announce(CommandId(command), blackhole(host));
    }
    drain(&mut rib);
    rib.announce(CommandId(9), blackhole("203.0.113.8"));
    rib.withdraw_all();
    assert_eq!(said(&drain(&mut rib)), ["withdraw 203.0.113.7/32", "withdraw 2001:db8:1::7/128"]);
    assert_eq!(rib.held(), 0);
    assert!(rib.is_idle());
}

#[test]
fn routes_that_differ_in_attributes_travel_apart() {
    let mut rib = established();
    let mut other = blackhole("203.0.113.8");
    other.next_hop = Some("192.0.2.2".parse().unwrap());
    rib.announce(CommandId(1), blackhole("203.0.113.7"));
    rib.announce(CommandId(2), other);
    rib.announce(CommandId(3), blackhole("203.0.113.9"));
    assert_eq!(
        said(&drain(&mut rib)),
        ["announce 203.0.113.7/32, 203.0.113.9/32", "announce 203.0.113.8/32"]
    );
}
