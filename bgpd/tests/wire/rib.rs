//! Arbitrary sequences of commands and session events against a peer that keeps a table.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tidegate_bgpd::convert::decode_update;
use tidegate_bgpd::egress::{Gate, GatePolicy};
use tidegate_bgpd::rib::{AdjRibOut, Answer, Sent, SentKind};
use tidegate_bgpd::{Family, SessionParameters};
use tidegate_model::{
    AddressFamily, CommandId, Community, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch,
    OutcomeKind, Route, TrafficFilteringAction,
};

use crate::safety;

const MAX_ROUTES: u32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Announce(Route),
    Withdraw(Nlri),
    WithdrawAll,
    Poll,
    SessionUp,
    SessionLost,
    Refresh(Family),
}

fn nlris() -> Vec<Nlri> {
    let prefixes = ["203.0.113.128", "203.0.113.129", "203.0.113.130", "10.0.0.1", "2001:db8:1::7"];
    let mut nlris: Vec<Nlri> =
        prefixes.iter().map(|text| Nlri::Unicast(text.parse().unwrap())).collect();
    for (text, port) in
        [("203.0.113.128", 53), ("203.0.113.128", 123), ("203.0.113.129", 70_000), ("10.0.0.1", 53)]
    {
        let components = vec![
            FlowSpecComponent::DestinationPrefix(text.parse().unwrap()),
            FlowSpecComponent::SourcePort(NumericMatch::equal(port)),
        ];
        nlris.push(Nlri::FlowSpec(FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap()));
    }
    nlris
}

/// Few NLRI and few sets of attributes, so that commands meet.
fn route() -> impl Strategy<Value = Route> {
    (select(nlris()), 0_u32..3).prop_map(|(nlri, variant)| {
        let unicast = matches!(nlri, Nlri::Unicast(_));
        let next_hop = match nlri.family() {
            AddressFamily::Ipv4 => "192.0.2.1".parse().unwrap(),
            AddressFamily::Ipv6 => "100::1".parse().unwrap(),
        };
        let mut communities = BTreeSet::from([Community(variant)]);
        if variant < 2 {
            communities.extend([Community::BLACKHOLE, Community::NO_EXPORT]);
        }
        Route {
            nlri,
            next_hop: unicast.then_some(next_hop),
            communities,
            large_communities: BTreeSet::new(),
            actions: if unicast { vec![] } else { vec![TrafficFilteringAction::DISCARD] },
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => route().prop_map(Step::Announce),
        5 => select(nlris()).prop_map(Step::Withdraw),
        1 => Just(Step::WithdrawAll),
        6 => Just(Step::Poll),
        1 => Just(Step::SessionUp),
        1 => Just(Step::SessionLost),
        1 => select(Family::ALL.to_vec()).prop_map(Step::Refresh),
    ]
}

/// The commands, a table, its peer, and what both were told.
struct World {
    rib: AdjRibOut,
    gate: Gate,
    parameters: SessionParameters,
    up: bool,
    /// What the peer holds: NLRI and communities.
    peer: BTreeMap<Nlri, BTreeSet<Community>>,
    /// What the last command about each NLRI wants.
    wanted: BTreeMap<Nlri, Option<Route>>,
    /// The last command about each NLRI.
    last: BTreeMap<Nlri, CommandId>,
    answers: BTreeMap<CommandId, Vec<OutcomeKind>>,
    next: u64,
}

impl World {
    fn new() -> Self {
        let space = safety::space();
        Self {
            rib: AdjRibOut::new(MAX_ROUTES),
            gate: Gate::new(GatePolicy { space, ..GatePolicy::default() }),
            parameters: SessionParameters {
                local_as: 65010,
                peer_as: 65010,
                local_address: "10.99.0.1".parse().unwrap(),
                four_octet_as: true,
                families: BTreeSet::from([Family::Ipv4Unicast, Family::Ipv4FlowSpec]),
                role: None,
            },
            up: false,
            peer: BTreeMap::new(),
            wanted: BTreeMap::new(),
            last: BTreeMap::new(),
            answers: BTreeMap::new(),
            next: 0,
        }
    }

    fn command(&mut self, nlri: &Nlri, wanted: Option<Route>) -> CommandId {
        self.next += 1;
        let command = CommandId(self.next);
        self.last.insert(nlri.clone(), command);
        self.wanted.insert(nlri.clone(), wanted);
        command
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Announce(route) => {
                let command = self.command(&route.nlri, Some(route.clone()));
                self.rib.announce(command, route);
            }
            Step::Withdraw(nlri) => {
                let command = self.command(&nlri, None);
                self.rib.withdraw(command, &nlri);
            }
            Step::WithdrawAll => {
                self.rib.withdraw_all();
                self.wanted.clear();
                self.last.clear();
            }
            Step::Poll => {
                self.poll();
            }
            Step::SessionUp => {
                if !self.up {
                    self.up = true;
                    self.rib.resend_all();
                }
            }
            Step::SessionLost => {
                self.up = false;
                self.peer.clear();
                self.rib.session_lost();
            }
            Step::Refresh(family) => self.rib.resend_family(family),
        }
        self.collect();
    }

    fn record(&mut self, answer: Answer) {
        self.answers.entry(answer.command).or_default().push(answer.kind);
    }

    fn collect(&mut self) {
        while let Some(answer) = self.rib.poll_answer() {
            self.record(answer);
        }
    }

    /// Hands one message to the peer. Nothing leaves that the gate has not passed.
    fn poll(&mut self) -> bool {
        let Some(sent) = self.rib.poll_update(&self.parameters, &self.gate) else {
            self.collect();
            return false;
        };
        assert!(self.up, "a message without a session");
        assert_eq!(self.gate.judge(&sent.message), Ok(()));
        let decoded = decode_update(&sent.message).unwrap();
        assert_eq!(sent.nlris, [decoded.announced.clone(), decoded.withdrawn.clone()].concat());
        for nlri in decoded.withdrawn {
            assert!(self.peer.remove(&nlri).is_some(), "{nlri} withdrawn, but never sent");
        }
        for nlri in decoded.announced {
            self.peer.insert(nlri, decoded.communities.clone());
        }
        assert!(self.peer.len() <= MAX_ROUTES as usize, "more routes at the peer than agreed");
        if let SentKind::EndOfRib(family) = sent.kind {
            assert!(self.parameters.families.contains(&family));
        }
        let answers: Vec<Answer> = Sent::answers(&sent).collect();
        answers.into_iter().for_each(|answer| self.record(answer));
        self.collect();
        true
    }

    /// The last answer to the last command about `nlri`.
    fn verdict(&self, nlri: &Nlri) -> Option<&OutcomeKind> {
        self.answers.get(self.last.get(nlri)?)?.last()
    }

    fn check_settled(&self) {
        for (nlri, wanted) in &self.wanted {
            let verdict = self.verdict(nlri);
            let held = self.peer.get(nlri);
            match (wanted, verdict) {
                (Some(route), Some(OutcomeKind::Applied { .. })) => {
                    assert_eq!(held, Some(&route.communities), "{nlri}");
                }
                (Some(_), Some(OutcomeKind::Rejected { .. } | OutcomeKind::Failed { .. })) => {
                    assert_eq!(held, None, "{nlri} was refused, but the peer holds it");
                }
                (None, Some(OutcomeKind::Applied { .. })) => assert_eq!(held, None, "{nlri}"),
                other => panic!("{nlri}: {other:?}"),
            }
        }
        assert!(self.peer.keys().all(|nlri| self.wanted.contains_key(nlri)));
        assert_eq!(self.rib.held(), self.peer.len());
        assert!(self.rib.is_idle());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// However commands and sessions interleave, once the session is up and drained the peer holds
    /// what the last command about each NLRI wanted, and every such command has its answer.
    #[test]
    fn the_peer_ends_up_with_what_is_wanted(steps in vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.take(Step::SessionUp);
        let mut messages = 0;
        while world.poll() {
            messages += 1;
            prop_assert!(messages < 200, "the table never runs dry");
        }
        world.check_settled();
    }
}
