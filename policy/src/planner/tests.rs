//! Table tests of decisions and of the life of a mitigation.

use std::net::Ipv4Addr;

use tidegate_model::{
    AttackVector, BitsPerSecond, Community, Confidence, Limit, Metric, OwnedSpace,
    PacketsPerSecond, Rate, Reflector, Route, Signature, TrafficFilteringAction, Trigger,
    VectorEstimate,
};

use super::*;
use crate::policy::{
    BreakerLimits, Budgets, EffectAim, Enforcement, Family, FilterAction, FlapBudget, Judging,
    Location, Matcher, Peer, Response, ResponseAction, RtbhProfile, SeverityScale, SpeakerIdentity,
};
use crate::profile::{ConfinedBy, FlowSpecProfile, Widen};

mod continuity;
mod feedback;
mod ladders;
mod lifetimes;
mod limits;
mod orders;
mod profiles;
mod properties;
mod reasons;
mod responses;
mod samples;

pub(super) const NTP: AttackVector = AttackVector::Amplification(Reflector::Ntp);

pub(super) fn at(seconds: f64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs_f64(seconds)
}

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(super) fn peer(name: &str, families: &[Family]) -> Peer {
    Peer {
        name: name.to_owned(),
        location: Location::Host("10.99.0.2".parse().unwrap()),
        asn: 65001,
        port: Peer::DEFAULT_PORT,
        local_address: None,
        mode: crate::policy::ConnectMode::Both,
        hold_time: Peer::DEFAULT_HOLD_TIME,
        families: families.iter().copied().collect(),
        communities: [Community::new(65001, 1)].into(),
        large_communities: BTreeSet::new(),
        via: None,
        profile: "rfc".to_owned(),
        confined_by: ConfinedBy::Community,
        rtbh: RtbhProfile::default(),
        flowspec: FlowSpecProfile::default(),
        max_routes: 200,
    }
}

pub(super) fn response(name: &str, action: ResponseAction, matcher: Matcher) -> Response {
    let rtbh = action == ResponseAction::Rtbh;
    Response {
        name: name.to_owned(),
        matcher,
        action,
        peers: vec!["router".to_owned()],
        widen: Widen::Never,
        rules_from: RuleSource::Signature,
        min_lifetime: Duration::from_secs(if rtbh { 60 } else { 0 }),
        max_lifetime: Duration::from_secs(6 * 3600),
        otherwise: None,
        then: Vec::new(),
    }
}

pub(super) fn from(severity: Severity) -> Matcher {
    Matcher { severity, ..Matcher::default() }
}

/// Critical attacks are blackholed, high ones filtered, others observed.
pub(super) fn policy() -> Policy {
    Policy {
        speaker: SpeakerIdentity { asn: 65010, router_id: Ipv4Addr::new(10, 99, 0, 1) },
        space: OwnedSpace {
            owned: vec![prefix("203.0.113.0/24"), prefix("10.0.0.0/8"), prefix("2001:db8:1::/48")],
            never_touch: vec![prefix("203.0.113.53")],
        },
        groups: Vec::new(),
        judging: Judging::default(),
        severities: SeverityScale::default(),
        responses: vec![
            response("blackhole", ResponseAction::Rtbh, from(Severity::Critical)),
            response(
                "filter",
                ResponseAction::FlowSpec(FilterAction::Discard),
                from(Severity::High),
            ),
            response("watch", ResponseAction::Observe, from(Severity::Low)),
        ],
        peers: vec![peer("router", Family::ALL)],
        enforcement: Enforcement::default(),
        effect: EffectAim::default(),
        // Most tests are about other bounds.
        flapping: FlapBudget { cycles: 1000, ..FlapBudget::default() },
        breaker: BreakerLimits::default(),
        budgets: Budgets::default(),
        allowed_remotes: Vec::new(),
        trusted_remotes: Vec::new(),
        utc_offset: 0,
        revision: None,
    }
}

pub(super) fn planner(policy: Policy) -> Planner {
    Planner::new(Arc::new(policy))
}

pub(super) fn estimate(vector: AttackVector, share: f64) -> VectorEstimate {
    let signature = match vector {
        AttackVector::SynFlood => Signature { protocol: Some(6), ..Signature::default() },
        AttackVector::UdpFlood => Signature { protocol: Some(17), ..Signature::default() },
        NTP => Signature {
            protocol: Some(17),
            source_ports: vec![123],
            packet_length: Some((468, 468)),
            ..Signature::default()
        },
        _ => Signature::default(),
    };
    let confidence = Confidence::new(0.97);
    VectorEstimate { vector, share, confidence, signature, evidence: Vec::new() }
}

/// A SYN flood at `excess` times its limit of 10,000 packets per second.
pub(super) fn attack(id: u64, target: &str, excess: f64) -> Attack {
    let limit = Limit { packets: Some(PacketsPerSecond(10_000)), bits: None };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    let packets = (excess * 10_000.0) as u64;
    let rate = Rate { packets: PacketsPerSecond(packets), bits: BitsPerSecond(packets * 480) };
    Attack {
        id: AttackId(id),
        target: prefix(target),
        group: "default".to_owned(),
        onset: at(0.0),
        detected: at(0.1),
        trigger: Trigger { metric: Metric::TcpSyn, rate, limit },
        vectors: vec![estimate(AttackVector::SynFlood, 1.0)],
        current: rate,
        peak: rate,
        excess,
        packets: packets / 10,
        bytes: packets * 6,
        sources: 1000,
    }
}

pub(super) fn with_vectors(mut attack: Attack, vectors: &[(AttackVector, f64)]) -> Attack {
    attack.vectors = vectors.iter().map(|(vector, share)| estimate(*vector, *share)).collect();
    attack
}

/// The same attack, seen at `ratio` times its limit now.
pub(super) fn now_at(mut attack: Attack, ratio: f64) -> Attack {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    let packets = (ratio * 10_000.0) as u64;
    attack.current.packets = PacketsPerSecond(packets);
    attack
}

pub(super) fn started(attack: &Attack) -> AttackEvent {
    AttackEvent::Started(attack.clone())
}

pub(super) fn updated(attack: &Attack) -> AttackEvent {
    AttackEvent::Updated(attack.clone())
}

pub(super) fn ended(attack: &Attack) -> AttackEvent {
    AttackEvent::Ended(attack.clone(), EndReason::Quiet(Duration::from_secs(10)))
}

/// What is desired, one line each.
pub(super) fn desired(planner: &Planner) -> Vec<String> {
    planner.desired().mitigations.keys().map(ToString::to_string).collect()
}

pub(super) fn decisions(planner: &mut Planner) -> Vec<Decision> {
    std::iter::from_fn(|| planner.poll_decision()).collect()
}

/// What was decided since the last call, one word and the response each.
pub(super) fn kinds(planner: &mut Planner) -> Vec<String> {
    decisions(planner)
        .into_iter()
        .map(|decision| {
            let kind = decision.kind.name();
            format!("{kind} {}", decision.response.as_deref().unwrap_or("-"))
        })
        .collect()
}

pub(super) const BLACKHOLE: &str = "203.0.113.7/32 at peer router";
pub(super) const SYN_RULE: &str =
    "flow4 { destination 203.0.113.7/32; protocol =6; tcp-flags syn&!ack } at peer router";

pub(super) fn route_of<'a>(planner: &'a Planner, key: &str) -> &'a Route {
    let found = planner.desired().mitigations.iter().find(|(other, _)| other.to_string() == key);
    &found.unwrap_or_else(|| panic!("{key} is desired")).1.route
}
