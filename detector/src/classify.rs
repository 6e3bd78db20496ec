//! What kind of flood it is: classes of traffic to vectors, each with confidence, evidence and
//! signature.
//!
//! Three steps. Candidates: every class becomes a vector, with later fragments counted to the
//! datagrams that they belong to, and resets to the reflection that they come with. Choice: the
//! vectors whose metrics are over their thresholds; if the total is over as well and they do not
//! explain it, the largest of the rest until they do. Judgement: confidence from the facts that
//! speak for the vector, each of which stands in the evidence.

use tidegate_model::{
    AttackVector, Confidence, Evidence, Limit, Metric, Reflector, Signature, TcpFlags, Thresholds,
    VectorEstimate,
};

use crate::class::TrafficClass;
use crate::judge::{MetricSet, rate};
use crate::kind::{SEVERAL_SOURCES, vector_of};
use crate::packet::protocol;
use crate::reflector;
use crate::sample::Sample;
use crate::sketch::part;
use crate::summary::{ClassTraffic, Count};

/// Vectors that one attack is described by; smaller ones are left out.
const MAX_VECTORS: usize = 8;
/// Smallest part of a metric that is a vector of its own.
const MIN_PART: f64 = 0.1;
/// Later fragments of one datagram, at most: 65,535 bytes in pieces of 1,480.
const MAX_LATER_FRAGMENTS: u64 = 44;
/// Ports in a signature, at most: each is a rule entry or more in a router.
const MAX_PORTS: usize = 8;
/// Part of the packets that the ports of a signature cover.
const PORT_COVER: f64 = 0.95;
/// Part of the packets that a length band, a protocol or a TCP flag of a signature covers.
const FIELD_COVER: f64 = 0.99;
/// Part of later fragments from which on a vector counts as fragmented.
const FRAGMENTED: f64 = 0.05;
/// No inference from traffic is certain.
const MOST_CONFIDENT: f64 = 0.99;

/// A vector that may be part of the attack.
struct Candidate {
    vector: AttackVector,
    /// All its packets.
    count: Count,
    /// Those of them that each metric counts, in the order of [`Metric::ALL`].
    by_metric: [u64; Metric::ALL.len()],
    /// Those that carry a header of their own, as a signature can match them.
    traffic: ClassTraffic,
    /// Packets without: later fragments counted to the vector.
    later_fragments: u64,
    /// Resets counted to the vector.
    resets: u64,
}

impl Candidate {
    fn new(vector: AttackVector, traffic: &ClassTraffic) -> Self {
        let mut candidate = Self {
            vector,
            count: Count::default(),
            by_metric: [0; Metric::ALL.len()],
            traffic: ClassTraffic::new(traffic.class),
            later_fragments: 0,
            resets: 0,
        };
        candidate.add(traffic);
        candidate
    }

    fn add(&mut self, traffic: &ClassTraffic) {
        self.traffic.merge(traffic);
        self.add_counts(traffic.class, traffic.count, traffic.fragments);
    }

    /// Counts packets without making them part of the signature.
    fn add_counts(&mut self, class: TrafficClass, count: Count, fragments: u64) {
        self.count.add(count);
        let own = class.metric();
        let of_fragment = if own == Metric::Fragment { 0 } else { fragments };
        for (metric, packets) in
            [(Metric::Total, count.packets), (own, count.packets), (Metric::Fragment, of_fragment)]
        {
            if let Some(slot) = self.by_metric.get_mut(metric as usize) {
                *slot += packets;
            }
        }
    }

    fn in_metric(&self, metric: Metric) -> u64 {
        self.by_metric.get(metric as usize).copied().unwrap_or(0)
    }
}

/// Names the vectors in `sample`, largest first; never empty. `over` are the metrics over their
/// thresholds, `loss` the part of the packets that the capture lost.
pub(crate) fn classify(
    sample: &Sample,
    over: MetricSet,
    thresholds: &Thresholds,
    loss: f64,
) -> Vec<VectorEstimate> {
    let mut chosen = choose(candidates(sample), sample, over, thresholds);
    chosen.truncate(MAX_VECTORS);
    let total: u64 = chosen.iter().map(|candidate| candidate.count.packets).sum();
    if total == 0 {
        return vec![unknown()];
    }
    chosen.iter().map(|candidate| estimate(candidate, sample, total, loss)).collect()
}

fn unknown() -> VectorEstimate {
    VectorEstimate {
        vector: AttackVector::Unknown,
        share: 1.0,
        confidence: Confidence::new(0.3),
        signature: Signature::default(),
        evidence: vec![Evidence {
            fact: "classification",
            seen: "no class of traffic stands out".into(),
        }],
    }
}

fn candidates(sample: &Sample) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for traffic in &sample.classes {
        let vector = vector_of(traffic, sample);
        match found.iter_mut().find(|candidate| candidate.vector == vector) {
            Some(candidate) => candidate.add(traffic),
            None => found.push(Candidate::new(vector, traffic)),
        }
    }
    assign_fragments(&mut found, sample);
    assign_resets(&mut found, sample);
    found.retain(|candidate| candidate.count.packets > 0);
    found
}

/// Counts later UDP fragments to the vectors whose first fragments they follow, in proportion.
fn assign_fragments(found: &mut Vec<Candidate>, sample: &Sample) {
    let Some(later) = sample.class(TrafficClass::UdpFragment) else { return };
    let is_udp = |candidate: &Candidate| {
        matches!(
            candidate.vector,
            AttackVector::UdpFlood
                | AttackVector::DnsQueryFlood
                | AttackVector::DnsWaterTorture
                | AttackVector::QuicFlood
                | AttackVector::Amplification(_)
        )
    };
    let firsts: u64 = found.iter().filter(|c| is_udp(c)).map(|c| c.traffic.fragments).sum();
    if firsts == 0 || later.count.packets / firsts > MAX_LATER_FRAGMENTS {
        return;
    }
    for candidate in found.iter_mut().filter(|candidate| is_udp(candidate)) {
        let share = part(candidate.traffic.fragments, firsts);
        let count = later.count.scaled(share);
        candidate.add_counts(later.class, count, count.packets);
        candidate.later_fragments = count.packets;
    }
    found.retain(|candidate| candidate.vector != AttackVector::FragmentFlood);
    // Fragments of other protocols stay a flood of their own.
    if let Some(others) = sample.class(TrafficClass::Fragment) {
        found.push(Candidate::new(AttackVector::FragmentFlood, others));
    }
}

/// Among the servers of a SYN-ACK reflection some refuse: their resets belong to it.
fn assign_resets(found: &mut Vec<Candidate>, sample: &Sample) {
    let Some(resets) = sample.class(TrafficClass::Rst) else { return };
    let Some(reflection) = found
        .iter_mut()
        .find(|candidate| candidate.vector == AttackVector::SynAckReflection)
        .filter(|candidate| candidate.count.packets >= resets.count.packets)
    else {
        return;
    };
    reflection.add_counts(resets.class, resets.count, resets.fragments);
    reflection.resets = resets.count.packets;
    found.retain(|candidate| candidate.vector != AttackVector::RstFlood);
}

/// The candidates that make up the attack, largest first.
fn choose(
    mut found: Vec<Candidate>,
    sample: &Sample,
    over: MetricSet,
    thresholds: &Thresholds,
) -> Vec<Candidate> {
    found.sort_by_key(|candidate| (std::cmp::Reverse(candidate.count.packets), candidate.vector));
    let judged: Vec<Metric> = Metric::ALL
        .into_iter()
        .filter(|&metric| metric != Metric::Total && over.contains(metric))
        .collect();
    let is_part = |candidate: &Candidate, found: &[Candidate]| {
        judged.iter().any(|&metric| {
            let all: u64 = found.iter().map(|other| other.in_metric(metric)).sum();
            let most = found.iter().map(|other| other.in_metric(metric)).max().unwrap_or(0);
            let own = candidate.in_metric(metric);
            own > 0 && (own == most || part(own, all) >= MIN_PART)
        })
    };
    let flags: Vec<bool> = found.iter().map(|candidate| is_part(candidate, &found)).collect();
    let mut flags = flags.into_iter();
    let (mut chosen, rest): (Vec<Candidate>, Vec<Candidate>) =
        found.into_iter().partition(|_| flags.next().unwrap_or(false));
    if over.contains(Metric::Total) || chosen.is_empty() {
        explain_total(&mut chosen, rest, sample, thresholds.get(Metric::Total));
    }
    chosen.sort_by_key(|candidate| (std::cmp::Reverse(candidate.count.packets), candidate.vector));
    chosen
}

/// Adds the largest of `rest` until what is left is within the limit of the total.
fn explain_total(chosen: &mut Vec<Candidate>, rest: Vec<Candidate>, sample: &Sample, limit: Limit) {
    let all: u64 = sample.classes.iter().map(|class| class.count.packets).sum();
    let mut left = sample.unasked.get(Metric::Total);
    for candidate in chosen.iter() {
        left = left.minus(candidate.count);
    }
    for candidate in rest {
        let span = std::time::Duration::from_secs_f64(sample.seconds.clamp(0.001, 1e6));
        let explained = limit.excess(rate(left, span)) <= 1.0;
        let large = part(candidate.count.packets, all) >= MIN_PART;
        if !chosen.is_empty() && (explained || !large) {
            break;
        }
        left = left.minus(candidate.count);
        chosen.push(candidate);
    }
}

/// Facts gathered for a vector.
struct Judgement {
    confidence: f64,
    evidence: Vec<Evidence>,
}

impl Judgement {
    fn new(prior: f64) -> Self {
        Self { confidence: prior, evidence: Vec::new() }
    }

    /// Notes a fact that changes the confidence by `weight`.
    fn weigh(&mut self, fact: &'static str, seen: String, weight: f64) {
        self.confidence += weight;
        self.evidence.push(Evidence { fact, seen });
    }
}

fn estimate(candidate: &Candidate, sample: &Sample, total: u64, loss: f64) -> VectorEstimate {
    let mut judgement = match candidate.vector {
        AttackVector::Amplification(reflector) => judge_amplification(reflector, candidate, sample),
        AttackVector::SynFlood | AttackVector::TcpConnectionFlood => {
            judge_syn_flood(candidate, sample)
        }
        AttackVector::SynAckReflection => judge_reflection(candidate),
        AttackVector::IcmpFlood | AttackVector::IcmpBackscatter => judge_icmp_flood(candidate),
        _ => judge_plain(candidate, sample),
    };
    if loss > 0.0 {
        judgement.weigh("lost by the capture", percent(loss), 0.0);
        judgement.confidence *= 1.0 - 0.5 * loss;
    }
    VectorEstimate {
        vector: candidate.vector,
        share: part(candidate.count.packets, total),
        confidence: Confidence::new(judgement.confidence.min(MOST_CONFIDENT)),
        signature: signature(candidate),
        evidence: judgement.evidence,
    }
}

fn judge_amplification(reflector: Reflector, candidate: &Candidate, sample: &Sample) -> Judgement {
    let traffic = &candidate.traffic;
    let mut judgement = Judgement::new(0.45);
    let ports: Vec<String> =
        traffic.source_ports.sorted().iter().take(4).map(|(port, _)| port.to_string()).collect();
    let of_udp = part(candidate.count.packets, udp_packets(sample));
    judgement.weigh(
        "source port",
        format!(
            "{} ({}), {} of the UDP packets",
            ports.join(", "),
            reflector.name(),
            percent(of_udp)
        ),
        if of_udp >= 0.3 { 0.1 } else { 0.0 },
    );
    if let Some(row) = reflector::of(reflector) {
        let (mean, least) = (traffic.mean_length(), row.amplified_length);
        let long = mean >= u64::from(least);
        judgement.weigh(
            "packet length",
            format!("{mean} bytes in the mean, amplified from {least}"),
            if long { 0.15 } else { 0.0 },
        );
    }
    if traffic.checked > 0 {
        let fitting = part(traffic.fitting, traffic.checked);
        let weight = if fitting >= 0.8 { 0.1 } else { -0.1 };
        judgement.weigh(
            "payload",
            format!("{} are answers by their form", percent(fitting)),
            weight,
        );
    }
    judgement.weigh_sources(traffic, &[(SEVERAL_SOURCES, 0.2), (3, 0.1), (0, -0.1)]);
    judgement.weigh_answers(candidate, sample);
    if candidate.later_fragments > 0 {
        let seen = format!("{} later fragments counted to it", candidate.later_fragments);
        judgement.weigh("fragments", seen, 0.0);
    }
    judgement
}

fn judge_syn_flood(candidate: &Candidate, sample: &Sample) -> Judgement {
    let mut judgement = Judgement::new(0.68);
    let others = [TrafficClass::SynAck, TrafficClass::Rst, TrafficClass::Tcp];
    let segments: u64 = others
        .into_iter()
        .filter_map(|class| sample.class(class))
        .map(|traffic| traffic.count.packets)
        .sum();
    let syns = candidate.count.packets;
    let share = part(syns, syns + segments);
    judgement.weigh(
        "SYN without ACK",
        format!("{} of the TCP segments", percent(share)),
        if share >= 0.8 { 0.2 } else { 0.0 },
    );
    judgement.weigh_sources(&candidate.traffic, &[(50, 0.1), (4, 0.0), (0, 0.1)]);
    let completed = part(sample.connections.completed, syns).min(1.0);
    if completed > 0.0 {
        let clear = !(0.2..0.8).contains(&completed);
        judgement.weigh(
            "handshakes completed",
            percent(completed),
            if clear { 0.0 } else { -0.15 },
        );
    }
    judgement
}

fn judge_reflection(candidate: &Candidate) -> Judgement {
    let traffic = &candidate.traffic;
    let mut judgement = Judgement::new(0.64);
    let ports = part(traffic.source_ports.covered(), traffic.with_ports);
    judgement.weigh(
        "SYN-ACK not asked for",
        format!("{} from few ports", percent(ports)),
        if ports >= 0.8 { 0.2 } else { 0.0 },
    );
    judgement.weigh_sources(traffic, &[(50, 0.15), (0, 0.0)]);
    if candidate.resets > 0 {
        let seen = format!("{} resets counted to it", candidate.resets);
        judgement.weigh("refusing servers", seen, 0.0);
    }
    judgement
}

fn judge_icmp_flood(candidate: &Candidate) -> Judgement {
    let traffic = &candidate.traffic;
    let mut judgement = Judgement::new(0.88);
    if let Some(&(kind, packets)) = traffic.icmp_types.sorted().first() {
        let share = part(u64::from(packets), traffic.count.packets);
        judgement.weigh(
            "ICMP type",
            format!("{kind}, {} of the messages", percent(share)),
            if share >= 0.9 { 0.1 } else { 0.0 },
        );
    }
    judgement.weigh_sources(traffic, &[(0, 0.0)]);
    judgement
}

fn judge_plain(candidate: &Candidate, sample: &Sample) -> Judgement {
    let mut judgement = Judgement::new(0.79);
    let all = sample.unasked.get(Metric::Total).packets;
    let share = part(candidate.count.packets, all).min(1.0);
    judgement.weigh(
        "packets of the kind",
        format!("{} of all that was not asked for", percent(share)),
        if share >= 0.5 { 0.1 } else { 0.0 },
    );
    judgement.weigh_sources(&candidate.traffic, &[(0, 0.0)]);
    judgement.weigh_answers(candidate, sample);
    let ports = &candidate.traffic.source_ports;
    let several = candidate.traffic.sources.estimate() >= SEVERAL_SOURCES;
    if candidate.vector == AttackVector::UdpFlood
        && several
        && let [port] = ports.covering(PORT_COVER, candidate.traffic.with_ports, 1)[..]
    {
        let seen = format!("{port}, of many sources: they may be servers that are abused");
        judgement.weigh("one source port", seen, -0.35);
    }
    judgement
}

impl Judgement {
    /// Weighs the number of sources by the first row that it reaches.
    fn weigh_sources(&mut self, traffic: &ClassTraffic, rows: &[(u64, f64)]) {
        let sources = traffic.sources.estimate();
        let weight = rows.iter().find(|(least, _)| sources >= *least).map_or(0.0, |row| row.1);
        self.weigh("sources", format!("about {sources}"), weight);
    }

    /// A host that asked for much of the like may merely be answered late.
    fn weigh_answers(&mut self, candidate: &Candidate, sample: &Sample) {
        let answers = sample.answers.packets;
        let share = part(answers, answers + candidate.count.packets);
        let weight = if share < 0.1 { 0.1 } else { -0.1 };
        self.weigh("asked for by the target", format!("{} of the packets", percent(share)), weight);
    }
}

fn udp_packets(sample: &Sample) -> u64 {
    let is_udp = |class: TrafficClass| {
        matches!(class, TrafficClass::Udp | TrafficClass::Reflected(_) | TrafficClass::UdpFragment)
    };
    let udp = sample.classes.iter().filter(|traffic| is_udp(traffic.class));
    udp.map(|traffic| traffic.count.packets).sum()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// What the packets of `candidate` have in common.
fn signature(candidate: &Candidate) -> Signature {
    let traffic = &candidate.traffic;
    let total = traffic.count.packets;
    let number = traffic.protocols.covering(FIELD_COVER, total, 1).first().copied();
    let number = number.and_then(|number| u8::try_from(number).ok());
    let fragments = candidate.later_fragments
        + if candidate.vector == AttackVector::FragmentFlood { total } else { 0 };
    let mut signature = Signature {
        protocol: number,
        packet_length: traffic.lengths.covering(FIELD_COVER),
        fragments: part(fragments, candidate.count.packets) >= FRAGMENTED
            || part(traffic.fragments, total) >= FRAGMENTED,
        ..Signature::default()
    };
    // Ports, flags and types are where a router looks for them only if no other header, such as
    // the Authentication Header, stands before.
    match number {
        // Later fragments have none of them.
        _ if candidate.vector == AttackVector::FragmentFlood => {}
        Some(protocol::TCP | protocol::UDP) if traffic.with_ports > 0 => {
            let cover = |ports: &crate::sketch::Frequent<16>| {
                ports.covering(PORT_COVER, traffic.with_ports, MAX_PORTS)
            };
            signature.source_ports = cover(&traffic.source_ports);
            signature.destination_ports = cover(&traffic.destination_ports);
            if number == Some(protocol::TCP) {
                signature.tcp_flags = tcp_flags(traffic);
            }
        }
        Some(protocol::ICMP | protocol::ICMPV6) => {
            let kind = traffic.icmp_types.covering(FIELD_COVER, total, 1).first().copied();
            signature.icmp_type = kind.and_then(|kind| u8::try_from(kind).ok());
        }
        _ => {}
    }
    signature
}

/// The flags that are set, and those that are clear, in nearly every segment.
fn tcp_flags(traffic: &ClassTraffic) -> Option<TcpFlags> {
    let mut flags = TcpFlags { set: 0, clear: 0 };
    for (bit, &count) in traffic.flags.iter().enumerate() {
        let share = part(u64::from(count), traffic.with_ports);
        if share >= FIELD_COVER {
            flags.set |= 1 << bit;
        } else if share <= 1.0 - FIELD_COVER {
            flags.clear |= 1 << bit;
        }
    }
    (flags.set != 0 || flags.clear != 0).then_some(flags)
}
