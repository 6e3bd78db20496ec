//! Attacks played to a planner without network or clock: what it would want when.
//!
//! Every backend is taken to do what it is told, and the detector to see what is not hidden by a
//! blackhole. So the same attacks give the same answer under the same policy, always.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{
    Attack, AttackEvent, AttackId, AttackVector, Confidence, EndReason, Metric, Mitigation,
    Occlusion, Prefix, Rate, Signature, Timestamp, Trigger, VectorEstimate,
};

use crate::planner::{Decision, Planner};
use crate::policy::Policy;

/// Most inputs that are played. What is left of a longer story is not.
const MAX_INPUTS: usize = 100_000;

/// An attack with its time on the stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The attack, as it was at its worst.
    pub attack: Attack,
    /// When it begins, from the start of the play.
    pub begins: Duration,
    /// How long it lasts; `None` is beyond the end of the play.
    pub lasts: Option<Duration>,
}

/// What is wanted and what was said at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moment {
    /// One line for each desired mitigation, sorted.
    pub mitigations: Vec<String>,
    /// The latest reason given for each attack up to then, by attack.
    pub reasons: BTreeMap<AttackId, String>,
}

/// The mitigation in one line: what, where, and what the UPDATE says.
///
/// `203.0.113.7/32 at peer edge: blackhole, next hop 192.0.2.1, communities 65535:666 65535:65281`
#[must_use]
pub fn describe(mitigation: &Mitigation) -> String {
    let route = &mitigation.route;
    let mut parts: Vec<String> = route.actions.iter().map(ToString::to_string).collect();
    if parts.is_empty() {
        parts.push("blackhole".to_owned());
    }
    parts.extend(route.next_hop.map(|address| format!("next hop {address}")));
    let mut communities: Vec<String> = route.communities.iter().map(ToString::to_string).collect();
    communities.extend(route.large_communities.iter().map(ToString::to_string));
    if !communities.is_empty() {
        parts.push(format!("communities {}", communities.join(" ")));
    }
    format!("{}: {}", mitigation.key(), parts.join(", "))
}

/// The class of traffic by which a vector is recognised.
#[must_use]
pub const fn metric_of(vector: AttackVector) -> Metric {
    use AttackVector as V;
    match vector {
        V::SynFlood | V::TcpConnectionFlood => Metric::TcpSyn,
        V::SynAckReflection
        | V::SynAckFlood
        | V::AckFlood
        | V::RstFlood
        | V::FinFlood
        | V::XmasFlood
        | V::NullFlood
        | V::MiddleboxReflection
        | V::LandFlood
        | V::TcpFlood => Metric::Tcp,
        V::IcmpFlood | V::IcmpBackscatter => Metric::Icmp,
        V::FragmentFlood => Metric::Fragment,
        V::GreFlood | V::EspFlood | V::IgmpFlood | V::ProtocolFlood => Metric::Other,
        V::Amplification(_) => Metric::Amplification,
        V::UdpFlood | V::DnsQueryFlood | V::DnsWaterTorture | V::QuicFlood => Metric::Udp,
        V::Unknown => Metric::Total,
    }
}

/// An attack as the detector would report it under `policy`.
#[must_use]
pub fn attack(
    policy: &Policy,
    id: AttackId,
    target: Prefix,
    vector: (AttackVector, Confidence, Signature),
    rate: Rate,
) -> Attack {
    let (vector, confidence, signature) = vector;
    let group = policy.group_of(target);
    let metric = metric_of(vector);
    let thresholds = match group {
        Some(group) if target.is_host() => group.thresholds,
        Some(group) => group.prefix_thresholds.unwrap_or_default(),
        None => Default::default(),
    };
    // What has no threshold of its own is recognised by the total.
    let own = Some((metric, thresholds.get(metric))).filter(|(_, limit)| limit.excess(rate) > 0.0);
    let (metric, limit) = own.unwrap_or((Metric::Total, thresholds.get(Metric::Total)));
    let estimate =
        VectorEstimate { vector, share: 1.0, confidence, signature, evidence: Vec::new() };
    Attack {
        id,
        target,
        group: group.map_or_else(String::new, |group| group.name.clone()),
        onset: Timestamp::ZERO,
        detected: Timestamp::ZERO,
        trigger: Trigger { metric, rate, limit },
        vectors: vec![estimate],
        current: rate,
        peak: rate,
        excess: limit.excess(rate),
        packets: 0,
        bytes: 0,
        sources: 0,
    }
}

/// An attack on the stage.
struct Actor {
    attack: Attack,
    begins: Timestamp,
    stops: Timestamp,
    started: bool,
    /// Since when it could be seen that it is off.
    quiet: Option<Timestamp>,
    over: bool,
}

/// Plays `attacks` under `policy` and looks at each of `times`, counted from the start and
/// ascending. `unix` is the wall time at the start, in seconds since 1970-01-01 UTC.
#[must_use]
pub fn play(
    policy: &Arc<Policy>,
    attacks: &[Recorded],
    unix: Option<u64>,
    times: &[Duration],
) -> Vec<Moment> {
    let mut planner = Planner::new(Arc::clone(policy));
    if let Some(unix) = unix {
        planner.handle_wall(Timestamp::ZERO, unix);
    }
    let mut actors: Vec<Actor> = attacks.iter().map(Actor::new).collect();
    let exit_hold = policy.judging.exit_hold;
    let mut reasons = BTreeMap::new();
    let mut moments = Vec::new();
    let mut inputs = 0;
    for time in times {
        let until = Timestamp::ZERO + *time;
        while inputs < MAX_INPUTS
            && let Some(now) = next(&actors, &planner, exit_hold).filter(|at| *at <= until)
        {
            inputs += 1;
            planner.handle_timeout(now);
            for actor in &mut actors {
                actor.act(now, &mut planner, exit_hold);
            }
            while let Some(Decision { attack, reason, .. }) = planner.poll_decision() {
                reasons.insert(attack, reason);
            }
        }
        let mut mitigations: Vec<String> =
            planner.desired().mitigations.values().map(describe).collect();
        mitigations.sort();
        moments.push(Moment { mitigations, reasons: reasons.clone() });
    }
    moments
}

/// When something happens next.
fn next(actors: &[Actor], planner: &Planner, exit_hold: Duration) -> Option<Timestamp> {
    let own = actors.iter().filter_map(|actor| actor.next(exit_hold));
    own.chain(planner.poll_timeout()).min()
}

impl Actor {
    fn new(recorded: &Recorded) -> Self {
        let begins = Timestamp::ZERO + recorded.begins;
        let mut attack = recorded.attack.clone();
        (attack.onset, attack.detected) = (begins, begins);
        Self {
            attack,
            begins,
            stops: recorded.lasts.map_or(Timestamp::MAX, |lasts| begins + lasts),
            started: false,
            quiet: None,
            over: false,
        }
    }

    fn next(&self, exit_hold: Duration) -> Option<Timestamp> {
        match (self.started, self.quiet) {
            _ if self.over => None,
            (false, _) => Some(self.begins),
            (true, Some(quiet)) => Some(quiet + exit_hold),
            (true, None) if self.attack.current == Rate::default() => None,
            (true, None) => Some(self.stops).filter(|at| *at < Timestamp::MAX),
        }
    }

    /// Does what is due, and shows itself where a blackhole was lifted.
    fn act(&mut self, now: Timestamp, planner: &mut Planner, exit_hold: Duration) {
        if self.over || now < self.begins {
            return;
        }
        if !self.started {
            self.started = true;
            return planner.handle_attack(now, &AttackEvent::Started(self.attack.clone()));
        }
        let visible = planner.occlusion(self.attack.target) == Occlusion::Visible;
        if now < self.stops {
            if visible {
                planner.handle_attack(now, &AttackEvent::Updated(self.attack.clone()));
            }
            return;
        }
        self.attack.current = Rate::default();
        self.quiet = if visible { self.quiet.or(Some(now)) } else { None };
        if self.quiet.is_some_and(|quiet| quiet + exit_hold <= now) {
            self.over = true;
            let reason = EndReason::Quiet(exit_hold);
            planner.handle_attack(now, &AttackEvent::Ended(self.attack.clone(), reason));
        }
    }
}
