//! An invented incident, for test alerts and tests. Every address is one set aside for
//! documentation.

use tidegate_model::Severity;

use super::record::{
    Decision, Evidence, Incident, Mitigation, MitigationState, Outcome, PolicyRef, Rate, Route,
    SCHEMA, Signature, Status, Times, Trigger, Vector,
};
use super::time::WallTime;

/// 2026-08-22T12:00:00Z in nanoseconds since the Unix epoch.
const ONSET: u64 = 1_787_400_000_000_000_000;

fn at(milliseconds: u64) -> WallTime {
    WallTime::from_nanos(ONSET + milliseconds * 1_000_000)
}

/// A DNS amplification toward 203.0.113.7, mitigated with FlowSpec.
#[must_use]
pub fn incident() -> Incident {
    Incident {
        schema: SCHEMA,
        id: "20260822T120000.000Z-7".to_owned(),
        attack: "attack-7".to_owned(),
        target: tidegate_model::Prefix::host([203, 0, 113, 7].into()),
        group: "web".to_owned(),
        status: Status::Active,
        severity: Some(Severity::High),
        times: Times {
            onset: at(0),
            detected: at(56),
            decided: Some(at(56)),
            announced: Some(at(57)),
            at_peer: Some(at(58)),
            effective: None,
            ended: None,
            withdrawn: None,
        },
        updated: at(58),
        trigger: Trigger {
            metric: "udp".to_owned(),
            rate: rate(120_000, 1_400_000_000),
            limit_packets_per_second: Some(10_000),
            limit_bits_per_second: None,
        },
        vectors: vec![vector()],
        current: rate(410_000, 4_900_000_000),
        peak: rate(420_000, 5_000_000_000),
        excess: 42.0,
        packets: 23_520,
        bytes: 35_280_000,
        sources: 5_123,
        census: None,
        policy: PolicyRef {
            commit: Some("2526821a".to_owned()),
            response: Some("filter".to_owned()),
        },
        decisions: vec![Decision {
            time: at(56),
            outcome: "mitigate".to_owned(),
            severity: "high".to_owned(),
            response: Some("filter".to_owned()),
            commit: Some("2526821a".to_owned()),
            reason: "dns-amplification at 42 times its threshold: `filter`".to_owned(),
        }],
        guard: Vec::new(),
        mitigations: vec![mitigation()],
        effect: None,
        capture: None,
        end_reason: None,
        withdraw_reason: None,
        omitted: 0,
        lost_events: 0,
    }
}

fn rate(packets_per_second: u64, bits_per_second: u64) -> Rate {
    Rate { packets_per_second, bits_per_second }
}

fn vector() -> Vector {
    Vector {
        vector: "dns-amplification".to_owned(),
        share: 0.98,
        confidence: 0.97,
        signature: Signature { protocol: Some(17), source_ports: vec![53], ..Signature::default() },
        evidence: vec![Evidence {
            fact: "source port 53".to_owned(),
            seen: "98 % of bytes".to_owned(),
        }],
    }
}

fn mitigation() -> Mitigation {
    Mitigation {
        backend: "peer border1".to_owned(),
        kind: "flowspec".to_owned(),
        nlri: "flow4 { destination 203.0.113.7/32; protocol =17; source-port =53 }".to_owned(),
        route: Some(Route {
            next_hop: None,
            communities: vec!["no-export".to_owned()],
            large_communities: Vec::new(),
            actions: vec!["discard".to_owned()],
        }),
        kernel_rule: None,
        state: MitigationState::Installed,
        announced: Some(at(57)),
        at_peer: Some(at(58)),
        withdrawn: None,
        withdraw_reason: None,
        outcomes: vec![Outcome {
            time: at(58),
            outcome: "announced".to_owned(),
            why: None,
            update: None,
        }],
    }
}

/// The same, over and withdrawn.
#[must_use]
pub fn closed() -> Incident {
    let mut incident = incident();
    incident.status = Status::Closed;
    incident.times.ended = Some(at(600_000));
    incident.times.withdrawn = Some(at(600_002));
    incident.updated = at(600_002);
    incident.end_reason = Some("below the exit threshold for 10.0 s".to_owned());
    incident.withdraw_reason = Some("no longer desired".to_owned());
    for mitigation in &mut incident.mitigations {
        mitigation.state = MitigationState::Withdrawn;
        mitigation.withdrawn = incident.times.withdrawn;
        mitigation.withdraw_reason.clone_from(&incident.withdraw_reason);
    }
    incident
}
