//! Rules from samples.

use tidegate_model::{AttackSample, PacketRecord, PacketSample, Part, Sender};

use super::*;

fn packet(source_port: u16, to: u16, length: u16, sender: Sender) -> PacketRecord {
    PacketRecord {
        source: "198.51.100.9".parse().unwrap(),
        protocol: 17,
        part: Part::Whole,
        ports: Some((source_port, 40_000 + to)),
        tcp_flags: None,
        icmp_type: None,
        length,
        sender,
        weight: 10,
    }
}

/// Answers of time servers, of which those of one length were asked for.
fn sample(attack_port: u16) -> AttackSample {
    let asked = |index: u16| packet(123, index, 76 + index % 2, Sender::Welcome);
    AttackSample {
        during: PacketSample {
            records: (0..128).map(|to| packet(attack_port, to, 468, Sender::Unasked)).collect(),
            seconds: 1.0,
        },
        before: PacketSample { records: (0..64).map(asked).collect(), seconds: 10.0 },
    }
}

fn from_samples() -> Policy {
    let mut policy = policy();
    policy.responses = vec![response(
        "filter",
        ResponseAction::FlowSpec(FilterAction::Discard),
        from(Severity::Low),
    )];
    policy.responses[0].rules_from = RuleSource::Samples;
    policy
}

fn flood() -> Attack {
    with_vectors(attack(1, "203.0.113.7", 6.0), &[(NTP, 1.0)])
}

#[test]
fn rules_are_made_from_samples_where_there_are_enough() {
    let mut planner = planner(from_samples());
    assert!(planner.wants_samples());
    planner.handle_sample(AttackId(1), sample(11_211));
    planner.handle_attack(at(0.0), &started(&flood()));
    // What the signature took for a flood of NTP comes from another port.
    assert_eq!(
        desired(&planner),
        [
            "flow4 { destination 203.0.113.7/32; protocol =17; source-port =11211; packet-length =468 } at peer router"
        ]
    );
    let reason = decisions(&mut planner).remove(0).reason;
    let measured = "from samples, 100.0 % of the attack and 0.0 % of the traffic before, 1 TCAM entries: \
                    flow4 { destination 203.0.113.7/32; protocol =17; source-port =11211; \
                    packet-length =468 } (100.0 %, 0.0 %)";
    assert!(reason.contains(measured), "{reason}");
    // The same again changes nothing and is not said twice; another port is met by another rule.
    planner.handle_sample(AttackId(1), sample(11_211));
    planner.handle_attack(at(5.0), &updated(&flood()));
    assert_eq!(kinds(&mut planner), [""; 0]);
    planner.handle_sample(AttackId(1), sample(389));
    planner.handle_attack(at(10.0), &updated(&flood()));
    assert!(desired(&planner)[0].contains("source-port =389;"), "{:?}", desired(&planner));
    planner.handle_attack(at(20.0), &ended(&flood()));
    assert!(planner.samples.is_empty());
}

#[test]
fn signatures_serve_where_samples_do_not() {
    let few = AttackSample { before: PacketSample::default(), ..sample(11_211) };
    for sample in [None, Some(few)] {
        let mut planner = planner(from_samples());
        let said = sample.is_some();
        if let Some(sample) = sample {
            planner.handle_sample(AttackId(1), sample);
        }
        planner.handle_attack(at(0.0), &started(&flood()));
        assert!(desired(&planner)[0].contains("source-port =123;"), "{:?}", desired(&planner));
        let reason = decisions(&mut planner).remove(0).reason;
        let why =
            "by signature: 0 packets of the traffic before it were sampled, and 32 are needed";
        assert_eq!(reason.contains(why), said, "{reason}");
    }
}

/// A peer that does not look at lengths gets the rule that it can express, or none that harms.
#[test]
fn each_peer_gets_what_it_can_express() {
    let mut policy = from_samples();
    policy.peers.push(peer("second", Family::ALL));
    policy.peers[1].location = Location::Host("10.99.0.3".parse().unwrap());
    policy.peers[1].flowspec.components_v4.remove(&crate::profile::Component::PacketLength);
    policy.responses[0].peers.push("second".to_owned());
    let mut planner = planner(policy);
    planner.handle_sample(AttackId(1), sample(11_211));
    planner.handle_attack(at(0.0), &started(&flood()));
    let wanted = desired(&planner);
    assert_eq!(wanted.len(), 2, "{wanted:?}");
    let second = wanted.iter().find(|key| key.ends_with("second")).unwrap();
    assert!(second.contains("source-port =11211") && !second.contains("length"), "{second}");
}

#[test]
fn samples_are_bounded() {
    let mut planner = planner(from_samples());
    for id in 0..600 {
        planner.handle_sample(AttackId(id), AttackSample::default());
    }
    assert_eq!(planner.samples.len(), MAX_SAMPLED);
    // Of what is no attack nothing is kept.
    planner.handle_attack(at(0.0), &started(&flood()));
    assert!(planner.samples.len() <= 1);
}
