//! The assembler, told stories.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_model::{
    AddressFamily, Attack, AttackEvent, AttackId, AttackVector, BackendId, BackendState,
    BitsPerSecond, CommandId, Confidence, EndReason, FlowSpecComponent, FlowSpecRule, Limit,
    Metric, MitigationKey, Nlri, Outcome as Answer, OutcomeKind, PacketsPerSecond, Prefix,
    Rate as ModelRate, Reflector, Route as ModelRoute, Severity, Timestamp, TrafficFilteringAction,
    Trigger as ModelTrigger, VectorEstimate,
};
use tidegate_policy::{Decision as Decided, DecisionKind};

use super::*;
use crate::clock::WallOrigin;
use crate::event::{Event, EventKind, Verb};

const START: u64 = 1_787_400_000_000;

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_nanos((START + milliseconds) * 1_000_000)
}

fn wall(milliseconds: u64) -> WallTime {
    WallTime::from_nanos(at(milliseconds).as_nanos())
}

fn rate(packets: u64) -> ModelRate {
    ModelRate { packets: PacketsPerSecond(packets), bits: BitsPerSecond(packets * 8_000) }
}

fn attack(number: u64, current: u64) -> Attack {
    let last = u8::try_from(number).unwrap();
    Attack {
        id: AttackId(number),
        target: Prefix::host([203, 0, 113, last].into()),
        group: "web".to_owned(),
        onset: at(0),
        detected: at(56),
        trigger: ModelTrigger {
            metric: Metric::Udp,
            rate: rate(100_000),
            limit: Limit { packets: Some(PacketsPerSecond(10_000)), bits: None },
        },
        vectors: vec![VectorEstimate {
            vector: AttackVector::Amplification(Reflector::Dns),
            share: 0.98,
            confidence: Confidence::new(0.97),
            signature: tidegate_model::Signature::default(),
            evidence: Vec::new(),
        }],
        current: rate(current),
        peak: rate(100_000),
        excess: 10.0,
        packets: 5_600,
        bytes: 5_600_000,
        sources: 321,
    }
}

fn key(backend: BackendId, number: u8) -> MitigationKey {
    let target = Prefix::host([203, 0, 113, number].into());
    let rule =
        FlowSpecRule::new(AddressFamily::Ipv4, vec![FlowSpecComponent::DestinationPrefix(target)]);
    MitigationKey { backend, nlri: Nlri::FlowSpec(rule.unwrap()) }
}

fn border() -> BackendId {
    BackendId::Peer("border1".to_owned())
}

fn decision(number: u64, severity: Severity, kind: DecisionKind) -> EventKind {
    EventKind::Decision(Decided {
        attack: AttackId(number),
        target: attack(number, 0).target,
        severity,
        response: Some("filter".to_owned()),
        kind,
        reason: "because".to_owned(),
    })
}

fn announce(key: &MitigationKey, attacks: &[u64]) -> EventKind {
    EventKind::Announce {
        command: CommandId(1),
        key: key.clone(),
        route: ModelRoute {
            nlri: key.nlri.clone(),
            next_hop: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            actions: vec![TrafficFilteringAction::DISCARD],
        },
        attacks: attacks.iter().map(|attack| AttackId(*attack)).collect(),
    }
}

fn withdraw(key: &MitigationKey) -> EventKind {
    let (command, why) = (CommandId(2), "no longer desired".to_owned());
    EventKind::Withdraw { command, key: key.clone(), why }
}

fn outcome(verb: Verb, key: &MitigationKey, kind: OutcomeKind) -> EventKind {
    let (backend, nlri) = (key.backend.clone(), key.nlri.clone());
    EventKind::Outcome { verb, outcome: Answer { command: CommandId(1), backend, nlri, kind } }
}

fn applied() -> OutcomeKind {
    OutcomeKind::Applied { bytes: vec![0xff; 23].into() }
}

fn failed(why: &str) -> OutcomeKind {
    OutcomeKind::Failed { why: why.to_owned() }
}

struct Story {
    assembler: Assembler,
    /// The latest state of the record that changed last.
    last: Option<Incident>,
}

impl Story {
    fn new() -> Self {
        Self { assembler: Assembler::new(WallOrigin::EPOCH), last: None }
    }

    /// Tells an event; what changed, `Updated` left out.
    fn tell(&mut self, milliseconds: u64, kind: EventKind) -> Vec<ChangeKind> {
        self.assembler.handle(&Event { time: at(milliseconds), policy: None, kind });
        self.changes()
    }

    fn changes(&mut self) -> Vec<ChangeKind> {
        let mut kinds = Vec::new();
        while let Some(change) = self.assembler.poll_change() {
            self.last = Some((*change.incident).clone());
            if change.kind != ChangeKind::Updated {
                kinds.push(change.kind);
            }
        }
        kinds
    }

    fn record(&self) -> &Incident {
        self.last.as_ref().unwrap()
    }

    /// An attack that a peer has a mitigation for.
    fn mitigated(number: u64, key: &MitigationKey) -> Self {
        let mut story = Self::new();
        story.tell(56, EventKind::Attack(AttackEvent::Started(attack(number, 100_000))));
        let kind = DecisionKind::Mitigate(vec![key.clone()]);
        assert_eq!(story.tell(57, decision(number, Severity::High, kind)), [ChangeKind::Opened]);
        assert_eq!(story.tell(58, announce(key, &[number])), []);
        let kind = outcome(Verb::Announce, key, applied());
        assert_eq!(story.tell(60, kind), [ChangeKind::Mitigated]);
        story
    }

    fn end(&mut self, milliseconds: u64, number: u64) -> Vec<ChangeKind> {
        let over = EndReason::Quiet(Duration::from_secs(10));
        let event = AttackEvent::Ended(attack(number, 0), over);
        self.tell(milliseconds, EventKind::Attack(event))
    }
}

#[test]
fn every_step_has_its_time() {
    let key = key(border(), 7);
    let mut story = Story::mitigated(7, &key);
    story.assembler.handle_note(at(500), Note::Traffic { attack: AttackId(7), rate: rate(1_000) });
    assert_eq!(story.end(20_000, 7), [ChangeKind::Ended]);
    assert_eq!(story.tell(30_000, withdraw(&key)), []);
    let closed = story.tell(30_002, outcome(Verb::Withdraw, &key, applied()));
    assert_eq!(closed, [ChangeKind::Closed]);

    let record = story.record();
    assert_eq!(record.id, "20260822T120000.000Z-7");
    assert_eq!(
        record.times,
        Times {
            onset: wall(0),
            detected: wall(56),
            decided: Some(wall(57)),
            announced: Some(wall(58)),
            at_peer: Some(wall(60)),
            effective: Some(wall(500)),
            ended: Some(wall(20_000)),
            withdrawn: Some(wall(30_002)),
        }
    );
    assert_eq!(record.status, Status::Closed);
    assert_eq!(record.effect.unwrap().reduction, 0.99);
    assert_eq!(record.end_reason.as_deref(), Some("below the exit threshold for 10.0 s"));
    assert_eq!(record.withdraw_reason.as_deref(), Some("no longer desired"));
    let update = record.mitigations[0].outcomes[0].update.as_ref().unwrap();
    assert_eq!(update.hex, "ff".repeat(23));
    let again: Incident = serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap();
    assert_eq!(&again, record);
    assert_eq!(story.assembler.open().count(), 0);
}

#[test]
fn a_quiet_attack_stays_open_while_its_mitigation_does() {
    let key = key(border(), 7);
    let mut story = Story::mitigated(7, &key);
    story.end(20_000, 7);
    assert_eq!(story.record().status, Status::Ended);
    story.tell(30_000, withdraw(&key));
    let not_withdrawn = story.tell(30_001, outcome(Verb::Withdraw, &key, failed("busy")));
    assert!(matches!(&not_withdrawn[..], [ChangeKind::NotEnforced(why)] if why.contains("busy")));
    assert_eq!(story.record().status, Status::Ended);
    let closed = story.tell(31_000, outcome(Verb::Withdraw, &key, applied()));
    assert_eq!(closed, [ChangeKind::Closed]);
}

#[test]
fn what_is_not_enforced_is_said_once_until_it_is() {
    let key = key(border(), 7);
    let mut story = Story::mitigated(7, &key);
    let down = BackendState::Down { why: "hold timer expired".to_owned() };
    let lost = story.tell(100, EventKind::Backend(border(), down.clone()));
    assert!(matches!(&lost[..], [ChangeKind::NotEnforced(why)] if why.contains("hold timer")));
    assert_eq!(story.tell(101, outcome(Verb::Announce, &key, failed("no session"))), []);
    assert_eq!(story.tell(102, outcome(Verb::Announce, &key, failed("no session"))), []);
    assert_eq!(story.tell(200, outcome(Verb::Announce, &key, applied())), []);
    assert_eq!(story.record().mitigations[0].state, MitigationState::Installed);
    assert_eq!(story.record().times.at_peer, Some(wall(60)), "the first time counts");
    assert_eq!(story.tell(300, EventKind::Backend(border(), down)).len(), 1);
}

#[test]
fn a_mitigation_for_two_attacks_is_in_both_records() {
    let key = key(border(), 7);
    let mut story = Story::mitigated(7, &key);
    story.tell(70, EventKind::Attack(AttackEvent::Started(attack(8, 50_000))));
    story.tell(71, decision(8, Severity::Low, DecisionKind::Mitigate(vec![key.clone()])));
    story.tell(72, announce(&key, &[7, 8]));
    story.tell(73, outcome(Verb::Announce, &key, applied()));
    story.end(20_000, 7);
    story.end(20_001, 8);
    story.tell(30_000, withdraw(&key));
    let closed = story.tell(30_001, outcome(Verb::Withdraw, &key, applied()));
    assert_eq!(closed, [ChangeKind::Closed, ChangeKind::Closed]);
}

#[test]
fn severity_only_rises() {
    let mut story = Story::new();
    story.tell(56, EventKind::Attack(AttackEvent::Started(attack(7, 100_000))));
    let observe = |severity| decision(7, severity, DecisionKind::Observe);
    assert_eq!(story.tell(57, observe(Severity::Medium)), [ChangeKind::Opened]);
    assert_eq!(story.tell(58, observe(Severity::Critical)), [ChangeKind::Escalated]);
    assert_eq!(story.tell(59, observe(Severity::Low)), []);
    assert_eq!(story.record().severity, Some(Severity::Critical));
    assert_eq!(story.end(60, 7), [ChangeKind::Ended, ChangeKind::Closed]);
    assert_eq!(story.record().times.withdrawn, None, "nothing was ever there");
}

#[test]
fn an_attack_that_the_policy_says_nothing_of_is_told_all_the_same() {
    let mut story = Story::new();
    let started = EventKind::Attack(AttackEvent::Started(attack(7, 100_000)));
    assert_eq!(story.tell(56, started), []);
    assert_eq!(story.end(60, 7), [ChangeKind::Opened, ChangeKind::Ended, ChangeKind::Closed]);
    assert_eq!(story.record().severity, None);
}

#[test]
fn what_the_kernel_drops_was_seen_before() {
    let key = key(BackendId::Kernel, 7);
    let mut story = Story::mitigated(7, &key);
    let note = Note::Traffic { attack: AttackId(7), rate: rate(10) };
    story.assembler.handle_note(at(500), note);
    story.end(1_000, 7);
    assert_eq!(story.record().effect, None);
    let rule = story.record().mitigations[0].kernel_rule.clone().unwrap();
    assert_eq!(rule, "flow4 { destination 203.0.113.7/32 } then discard");
}

#[test]
fn a_capture_finds_its_record_after_the_end() {
    let mut story = Story::new();
    story.tell(56, EventKind::Attack(AttackEvent::Started(attack(7, 100_000))));
    story.end(60, 7);
    let capture =
        Capture { path: "/var/lib/tidegate/a.pcapng".into(), sha256: "00".repeat(32), bytes: 5 };
    let note = Note::Capture { attack: AttackId(7), capture: capture.clone() };
    story.assembler.handle_note(at(90), note);
    assert_eq!(story.changes(), []);
    assert_eq!(story.record().capture, Some(capture));
    assert_eq!(story.record().status, Status::Closed);
}

#[test]
fn a_stop_closes_every_record() {
    let mut story = Story::mitigated(7, &key(border(), 7));
    story.tell(70, EventKind::Attack(AttackEvent::Started(attack(8, 50_000))));
    story.assembler.stop(at(1_000));
    let kinds = story.changes();
    assert_eq!(kinds.iter().filter(|kind| **kind == ChangeKind::Closed).count(), 2);
    assert_eq!(story.assembler.open().count(), 0);
    assert_eq!(story.assembler.owned(), 0);
}

#[test]
fn records_and_lists_are_bounded() {
    let mut story = Story::new();
    story.tell(56, EventKind::Attack(AttackEvent::Started(attack(7, 100_000))));
    for number in 0..300_u16 {
        let [high, low] = number.to_be_bytes();
        let target = Prefix::host([203, 0, high, low].into());
        let key = MitigationKey { backend: border(), nlri: Nlri::Unicast(target) };
        story.tell(57, announce(&key, &[7]));
        let repeated = if number < 8 { 20 } else { 0 };
        for _ in 0..repeated {
            story.tell(58, outcome(Verb::Announce, &key, applied()));
            story.tell(58, decision(7, Severity::High, DecisionKind::Observe));
        }
    }
    let record = story.record();
    assert_eq!(record.mitigations.len(), 256);
    assert_eq!(record.decisions.len(), 64);
    assert!(record.mitigations.iter().all(|mitigation| mitigation.outcomes.len() <= 16));
    let outcomes = record.mitigations.iter().flat_map(|mitigation| &mitigation.outcomes);
    assert_eq!(outcomes.filter(|outcome| outcome.update.is_some()).count(), 64);
    assert!(record.omitted > 0);
}
