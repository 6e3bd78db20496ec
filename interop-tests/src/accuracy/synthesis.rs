//! What rules do: how much of an attack they match, and whom else they hit.
//!
//! Rules are made from what the detector has sampled a second after it told of an attack, and are
//! judged by the ten seconds that follow. Attack and everyday traffic are generated apart and mixed
//! by time, so that each packet is known for what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_detector::capture::file::CaptureFile;
use tidegate_detector::packet::parse;
use tidegate_detector::{Detector, LinkType, Meter, TICK, packet_record};
use tidegate_model::{
    AddressFamily, Attack, AttackSample, AttackVector, FlowSpecComponent, FlowSpecRule,
    PacketRecord, PacketSample, Prefix, Sender, Timestamp,
};
use tidegate_policy::rule;
use tidegate_policy::synthesis::{self, Bounds};

use super::AccuracyError;
use super::case::{self, LIMIT};
use super::chain;
use crate::lab::require;
use crate::traffic::{Packets, Pulse, Random, Scenario, Stream};

/// Everyday traffic before an attack.
const ONSET: Duration = Duration::from_secs(5);
/// From the first word on an attack until rules are made of what was sampled.
const LEARNING: Duration = Duration::from_secs(1);
/// What rules are judged by.
const JUDGED: Duration = Duration::from_secs(10);
/// The longest that detecting takes.
const DETECTING: Duration = Duration::from_secs(3);
/// Packets a second of the attack and of everyday traffic, the latter in both directions.
const FLOOD: u64 = 4 * LIMIT;
const EVERYDAY: u64 = 500;
/// Rules that [`Method::Sources`] may have.
const SOURCES: usize = 8;
/// What is aimed at.
const AIM_COVERAGE: f64 = 0.99;
const AIM_COLLATERAL: f64 = 0.001;

/// Ways to answer an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Method {
    /// Rules from samples; those of the signatures where there are none.
    Synthesised,
    /// The rules of the main vector's signature.
    Vector,
    /// The sources that sent most.
    Sources,
    /// Everything to the target.
    Blackhole,
}

impl Method {
    const ALL: [Self; 4] = [Self::Synthesised, Self::Vector, Self::Sources, Self::Blackhole];

    const fn name(self) -> &'static str {
        match self {
            Self::Synthesised => "synthesised",
            Self::Vector => "top-1 vector",
            Self::Sources => "top-8 sources",
            Self::Blackhole => "RTBH",
        }
    }
}

/// Packets, bytes, flows or clients: all, and those that were matched.
#[derive(Clone, Debug, Default)]
struct Tally {
    all: u64,
    matched: u64,
}

impl Tally {
    fn add(&mut self, count: u64, matched: bool) {
        self.all += count;
        self.matched += if matched { count } else { 0 };
    }

    fn share(&self) -> f64 {
        self.matched as f64 / self.all.max(1) as f64
    }
}

/// Both ends of a conversation, or a host.
type Ends = (IpAddr, u8, Option<(u16, u16)>);

/// What one method did.
#[derive(Clone, Debug, Default)]
struct Score {
    /// `None` matches everything.
    rules: Option<Vec<FlowSpecRule>>,
    attack: Tally,
    bytes: Tally,
    flows: BTreeMap<Ends, bool>,
    clients: BTreeMap<IpAddr, bool>,
    legitimate: Tally,
}

impl Score {
    fn new(rules: Option<Vec<FlowSpecRule>>) -> Self {
        Self { rules, ..Self::default() }
    }

    fn judge(&mut self, packet: &PacketRecord, is_attack: bool) {
        let rules = self.rules.as_ref();
        let hit = rules.is_none_or(|rules| rules.iter().any(|rule| rule.matches(packet)));
        if is_attack {
            self.attack.add(1, hit);
            return;
        }
        self.legitimate.add(1, hit);
        self.bytes.add(packet.length.into(), hit);
        *self.flows.entry((packet.source, packet.protocol, packet.ports)).or_default() |= hit;
        *self.clients.entry(packet.source).or_default() |= hit;
    }

    fn result(&self) -> Figures {
        let part = |hit: usize, of: usize| hit as f64 / of.max(1) as f64;
        let rules = self.rules.as_deref().unwrap_or_default();
        Figures {
            coverage: self.attack.share(),
            packets: self.legitimate.share(),
            bytes: self.bytes.share(),
            flows: part(self.flows.values().filter(|hit| **hit).count(), self.flows.len()),
            clients: part(self.clients.values().filter(|hit| **hit).count(), self.clients.len()),
            rules: rules.len(),
            entries: rules.iter().map(synthesis::tcam_entries).sum(),
            octets: rules.iter().map(synthesis::nlri_octets).sum(),
        }
    }
}

/// What one method came to.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    coverage: f64,
    packets: f64,
    bytes: f64,
    flows: f64,
    clients: f64,
    rules: usize,
    entries: u32,
    octets: usize,
}

impl Figures {
    /// The share of the traffic that is not the attack's, in packets or bytes.
    fn collateral(&self) -> f64 {
        self.packets.max(self.bytes)
    }
}

/// One attack and what each method did about it.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    name: String,
    /// From a capture.
    recorded: bool,
    ipv6: bool,
    /// Why there are no rules from samples; those of the signatures are used then.
    fallback: Option<String>,
    figures: Vec<(Method, Figures)>,
    /// Of [`Method::Synthesised`].
    rules: Vec<String>,
}

impl Trial {
    fn of(&self, method: Method) -> Figures {
        let found = self.figures.iter().find(|(known, _)| *known == method);
        found.map(|(_, figures)| *figures).unwrap_or_default()
    }

    fn is_met(&self) -> bool {
        let figures = self.of(Method::Synthesised);
        figures.coverage >= AIM_COVERAGE && figures.collateral() <= AIM_COLLATERAL
    }
}

/// An attack that is to be tried.
struct Plan {
    name: String,
    target: Prefix,
    attack: Vec<Stream>,
    seed: u64,
}

/// Every trial of so many seeds, and of the captures beside the workspace.
pub(super) fn measure(seeds: u64, only: Option<&str>) -> Result<Vec<Trial>, AccuracyError> {
    let wanted = |plan: &Plan| only.is_none_or(|only| plan.name.contains(only));
    let plans: Vec<Plan> = (1..=seeds).flat_map(plans).filter(wanted).collect();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = plans.len().div_ceil(workers).max(1);
    let mut trials: Vec<Trial> = thread::scope(|scope| {
        let running: Vec<_> = plans
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().filter_map(run).collect::<Vec<Trial>>()))
            .collect();
        running.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    if only.is_none() {
        match (require::shared_data("attacks"), require::shared_data("benign")) {
            (Ok(attacks), Ok(benign)) => trials.extend(recorded(&attacks, &benign)?),
            (Err(missing), _) | (_, Err(missing)) => {
                writeln!(io::stderr(), "skipped: {missing}")?;
            }
        }
    }
    Ok(trials)
}

fn plans(seed: u64) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (family, target) in case::families() {
        let length = DETECTING + LEARNING + JUDGED;
        let flood = |vector, rate| Stream::attack(vector, target).rate(rate).during(ONSET, length);
        let vectors = AttackVector::all().filter(|it| *it != AttackVector::Unknown);
        for (index, vector) in vectors.enumerate() {
            // Errors about others' packets are no attack until they do harm.
            let backscatter = vector == AttackVector::IcmpBackscatter;
            let rate = if backscatter { 20 * LIMIT } else { FLOOD };
            // The other family differs in nothing but the header.
            if family == AddressFamily::Ipv6 && index % 4 != 0 {
                continue;
            }
            let mut random = Random::new(seed << 32 | index as u64);
            let attack = vec![case::shaped(flood(vector, rate), vector, &mut random)];
            let seed = random.bits();
            plans.push(Plan { name: vector.to_string(), target, attack, seed });
        }
        if family == AddressFamily::Ipv4 {
            plans.extend(mixtures(target, &flood, seed));
        }
    }
    plans
}

fn mixtures(
    target: Prefix,
    flood: &impl Fn(AttackVector, u64) -> Stream,
    seed: u64,
) -> impl Iterator<Item = Plan> {
    let vector = |name: &str| name.parse().unwrap_or(AttackVector::Unknown);
    let parts = |names: &[&str]| -> Vec<Stream> {
        names.iter().map(|name| flood(vector(name), 2 * LIMIT)).collect()
    };
    let mut pulses = flood(AttackVector::UdpFlood, 4 * FLOOD);
    pulses.pulse = Some(Pulse { period: Duration::from_secs(2), on: Duration::from_millis(500) });
    let network = case::network_of(target);
    let carpet = |name: &str| {
        let mut stream = flood(vector(name), 10 * FLOOD);
        stream.target = network;
        vec![stream]
    };
    let trials = [
        ("syn-flood and udp-flood", target, parts(&["syn-flood", "udp-flood"])),
        (
            "dns- and cldap-amplification",
            target,
            parts(&["dns-amplification", "cldap-amplification"]),
        ),
        ("ntp-amplification and icmp-flood", target, parts(&["ntp-amplification", "icmp-flood"])),
        (
            "six vectors",
            target,
            parts(&[
                "syn-flood",
                "dns-amplification",
                "ntp-amplification",
                "memcached-amplification",
                "gre-flood",
                "icmp-flood",
            ]),
        ),
        ("pulses of udp-flood", target, vec![pulses]),
        ("a bit of everything", target, vec![flood(AttackVector::Unknown, 2 * FLOOD)]),
        ("carpet of ntp-amplification", network, carpet("ntp-amplification")),
        ("carpet of udp-flood", network, carpet("udp-flood")),
    ];
    trials.into_iter().map(move |(name, target, attack)| Plan {
        name: name.to_owned(),
        target,
        attack,
        seed,
    })
}

/// A scenario's packets, those that are the attack's known for it.
struct Mixed {
    attack: Packets,
    everyday: Packets,
}

impl Mixed {
    /// Shows the next packet: its time, its frame, and whether it is the attack's.
    fn next(&mut self, see: impl FnOnce(Timestamp, &[u8], bool)) -> bool {
        let (attack, everyday) = (self.attack.next_time(), self.everyday.next_time());
        let is_attack = match (attack, everyday) {
            (Some(attack), Some(everyday)) => attack < everyday,
            (attack, _) => attack.is_some(),
        };
        let from = if is_attack { &mut self.attack } else { &mut self.everyday };
        let Some(packet) = from.next_packet() else { return false };
        see(packet.time, packet.frame, is_attack);
        true
    }
}

/// `None` if the attack was not told in time.
fn run(plan: &Plan) -> Option<Trial> {
    let scenario = plan.attack.iter().cloned().fold(Scenario::new(plan.seed), Scenario::with);
    let length = ONSET + DETECTING + LEARNING + JUDGED;
    let hosts = if plan.target.is_host() { 1 } else { 10 };
    let everyday = Stream::benign(plan.target).rate(EVERYDAY * hosts);
    let everyday = Scenario::new(plan.seed ^ 1).with(everyday.during(Duration::ZERO, length));
    let mut mixed = Mixed { attack: scenario.packets(), everyday: everyday.packets() };
    let aggregate = chain::thresholds(5 * LIMIT, 10 * LIMIT);
    let config = chain::config(chain::thresholds(LIMIT, 2 * LIMIT), Some(aggregate));
    let mut meter = Meter::new(&config, plan.seed);
    let mut detector = Detector::new(config);
    let mut tick_end = Timestamp::ZERO + TICK;
    let (mut told, mut learned): (Option<(Timestamp, Attack)>, Option<Timestamp>) = (None, None);
    let mut scores: Vec<(Method, Score)> = Vec::new();
    let mut fallback = None;
    loop {
        let more = mixed.next(|time, frame, is_attack| {
            while learned.is_none() && tick_end <= time {
                detector.handle_summary(&meter.finish_tick(tick_end));
                while let Some(event) = detector.poll_event() {
                    let attack = event.attack();
                    if attack.target == plan.target {
                        let detected = told.as_ref().map_or(tick_end, |(at, _)| *at);
                        told = Some((detected, attack.clone()));
                    }
                }
                if let Some((_, attack)) =
                    told.as_ref().filter(|it| tick_end.since(it.0) >= LEARNING)
                {
                    learned = Some(tick_end);
                    let sample = detector.sample_of(attack);
                    (scores, fallback) = answers(attack, &sample);
                }
                tick_end = tick_end + TICK;
            }
            let wire = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            if let Some(learned) = learned {
                if time.since(learned) <= JUDGED
                    && let Ok(packet) = parse(LinkType::Ethernet, frame, wire)
                    && plan.target.contains_address(packet.destination)
                {
                    let record = packet_record(&packet, Sender::Unasked);
                    scores.iter_mut().for_each(|(_, score)| score.judge(&record, is_attack));
                }
            } else {
                meter.observe(LinkType::Ethernet, frame, wire);
            }
        });
        if !more {
            break;
        }
    }
    learned?;
    Some(Trial {
        name: plan.name.clone(),
        recorded: false,
        ipv6: plan.target.address().is_ipv6(),
        fallback,
        rules: shown(&scores),
        figures: scores.iter().map(|(method, score)| (*method, score.result())).collect(),
    })
}

fn shown(scores: &[(Method, Score)]) -> Vec<String> {
    let own = scores.iter().find(|(method, _)| *method == Method::Synthesised);
    let rules = own.and_then(|(_, score)| score.rules.as_ref());
    rules.into_iter().flatten().map(ToString::to_string).collect()
}

/// The rules of each method, and why there are none from samples.
fn answers(attack: &Attack, sample: &AttackSample) -> (Vec<(Method, Score)>, Option<String>) {
    let target = attack.target;
    let found = synthesis::find(target, &attack.vectors, sample, Bounds::default(), |_| true);
    let fallback = found.as_ref().err().map(ToString::to_string);
    let signature = || rule::synthesise(target, &attack.vectors).unwrap_or_default();
    let synthesised = found.map_or_else(|_| signature(), |found| found.rules());
    let main = attack.vectors.get(..1).unwrap_or_default();
    let vector = rule::synthesise(target, main).unwrap_or_default();
    let mut sources: BTreeMap<IpAddr, u64> = BTreeMap::new();
    for packet in &sample.during.records {
        *sources.entry(packet.source).or_default() += u64::from(packet.weight);
    }
    let most: BTreeSet<(std::cmp::Reverse<u64>, IpAddr)> =
        sources.into_iter().map(|(source, count)| (std::cmp::Reverse(count), source)).collect();
    let of_source = |source: IpAddr| {
        let components = [
            FlowSpecComponent::DestinationPrefix(target),
            FlowSpecComponent::SourcePrefix(Prefix::host(source)),
        ];
        FlowSpecRule::new(target.family(), components.to_vec()).ok()
    };
    let sources: Vec<FlowSpecRule> =
        most.into_iter().take(SOURCES).filter_map(|(_, source)| of_source(source)).collect();
    let scores = Method::ALL.map(|method| {
        let rules = match method {
            Method::Synthesised => Some(synthesised.clone()),
            Method::Vector => Some(vector.clone()),
            Method::Sources => Some(sources.clone()),
            Method::Blackhole => None,
        };
        (method, Score::new(rules))
    });
    (scores.into_iter().collect(), fallback)
}

/// Attacks from captures against the traffic of everyday captures: rules are made of the first half
/// of either and judged by the second.
fn recorded(attacks: &Path, benign: &Path) -> Result<Vec<Trial>, AccuracyError> {
    let floods = labelled(attacks, "attack")?;
    let mut everyday = Vec::new();
    for (file, _) in labelled(benign, "")? {
        let records = busiest(&benign.join(&file))?;
        if records.len() >= 4 * synthesis::MIN_BEFORE {
            everyday.push((file, records));
        }
    }
    let mut trials = Vec::new();
    for (file, victim) in floods {
        let Some(victim) = victim else { continue };
        let path = attacks.join(&file);
        let Some(attack) = told(&path)? else { continue };
        let flood = toward(&path, victim, Sender::Unasked)?;
        for (other, records) in &everyday {
            if records.iter().any(|it| it.source.is_ipv4() != victim.address().is_ipv4()) {
                continue;
            }
            let (learned, judged) = flood.split_at(flood.len() / 2);
            let (before, after) = records.split_at(records.len() / 2);
            let sample = AttackSample {
                during: PacketSample { records: thinned(learned), seconds: 1.0 },
                before: PacketSample { records: thinned(before), seconds: 10.0 },
            };
            let attack = Attack { target: victim, ..attack.clone() };
            let (mut scores, fallback) = answers(&attack, &sample);
            for (packets, is_attack) in [(judged, true), (after, false)] {
                for packet in packets {
                    scores.iter_mut().for_each(|(_, score)| score.judge(packet, is_attack));
                }
            }
            trials.push(Trial {
                name: format!("{file} with {other}"),
                recorded: true,
                ipv6: victim.address().is_ipv6(),
                fallback,
                rules: shown(&scores),
                figures: scores.iter().map(|(method, score)| (*method, score.result())).collect(),
            });
        }
    }
    Ok(trials)
}

/// As many as a sample may have, each standing for as many others.
fn thinned(records: &[PacketRecord]) -> Vec<PacketRecord> {
    let step = records.len().div_ceil(400).max(1);
    let weight = u32::try_from(step).unwrap_or(u32::MAX);
    records.iter().step_by(step).map(|record| PacketRecord { weight, ..*record }).collect()
}

/// Captures whose label begins so, with their victims.
fn labelled(folder: &Path, expect: &str) -> Result<Vec<(String, Option<Prefix>)>, AccuracyError> {
    let path = folder.join("labels.json");
    let unreadable = |source| AccuracyError::Read { path: path.clone(), source };
    let text = std::fs::read(&path).map_err(unreadable)?;
    let labels: Vec<Value> = serde_json::from_slice(&text)
        .map_err(|source| AccuracyError::Labels { path: path.clone(), source })?;
    let text = |label: &Value, key: &str| label[key].as_str().unwrap_or_default().to_owned();
    Ok(labels
        .iter()
        .filter(|label| text(label, "expect").starts_with(expect))
        .map(|label| (text(label, "file"), text(label, "victim_prefix").parse().ok()))
        .collect())
}

/// Every packet of a capture that `keep` wants.
fn packets(
    path: &Path,
    mut keep: impl FnMut(Timestamp, IpAddr, PacketRecord),
) -> Result<(), AccuracyError> {
    let mut capture = CaptureFile::open(path)?;
    while let Some(frame) = capture.next_frame()? {
        if let Ok(packet) = parse(frame.link, frame.data, frame.wire_length) {
            keep(frame.time, packet.destination, packet_record(&packet, Sender::Unasked));
        }
    }
    Ok(())
}

fn toward(path: &Path, target: Prefix, sender: Sender) -> Result<Vec<PacketRecord>, AccuracyError> {
    let mut found = Vec::new();
    packets(path, |_, destination, record| {
        if target.contains_address(destination) {
            found.push(PacketRecord { sender, ..record });
        }
    })?;
    Ok(found)
}

/// What came to the host that got most. It was welcome: nobody was attacked.
fn busiest(path: &Path) -> Result<Vec<PacketRecord>, AccuracyError> {
    let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
    packets(path, |_, destination, _| *counts.entry(destination).or_default() += 1)?;
    match counts.into_iter().max_by_key(|(address, count)| (*count, *address)) {
        Some((address, _)) => toward(path, Prefix::host(address), Sender::Welcome),
        None => Ok(Vec::new()),
    }
}

/// The attack in a capture as the detector tells of it last.
fn told(path: &Path) -> Result<Option<Attack>, AccuracyError> {
    let limit = super::recorded::LIMIT;
    let config = chain::config(chain::thresholds(limit, limit), None);
    let (mut meter, mut detector) = (Meter::new(&config, 1), Detector::new(config));
    let mut capture = CaptureFile::open(path)?;
    let (mut first, mut tick_end) = (None, Timestamp::ZERO + TICK);
    let mut latest: Option<Attack> = None;
    let mut learn = |detector: &mut Detector| {
        while let Some(event) = detector.poll_event() {
            let attack = event.attack();
            if latest.as_ref().is_none_or(|known| attack.excess >= known.excess) {
                latest = Some(attack.clone());
            }
        }
    };
    while let Some(frame) = capture.next_frame()? {
        let time = Timestamp::ZERO + frame.time.since(*first.get_or_insert(frame.time));
        while tick_end <= time {
            detector.handle_summary(&meter.finish_tick(tick_end));
            learn(&mut detector);
            tick_end = tick_end + TICK;
        }
        meter.observe(frame.link, frame.data, frame.wire_length);
    }
    detector.handle_summary(&meter.finish_tick(tick_end));
    learn(&mut detector);
    Ok(latest)
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

/// Of all trials the value below which so many percent lie.
fn of_all(trials: &[&Trial], percent: usize, method: Method, of: fn(Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = trials.iter().map(|trial| of(trial.of(method))).collect();
    percentile(&mut values, percent)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// The tables.
pub(super) fn write(to: &mut String, trials: &[Trial]) -> fmt::Result {
    writeln!(
        to,
        "\n## Rules from samples\n\n\
         Rules are made of what was sampled {} s after an attack was told, at most {} of them and for \
         at most {:.1} % of\nthe traffic before, and judged by the {} s that follow: by every packet of \
         the attack, and by every packet\nof the everyday traffic around it. Floods have {FLOOD} \
         packets a second, everyday traffic {EVERYDAY} in both\ndirections. Collateral is the share \
         of the target's own traffic that is hit, in packets or bytes, whichever is\nmore. Where samples \
         give no rules those of the signatures are used and counted.",
        LEARNING.as_secs(),
        Bounds::default().rules,
        Bounds::default().collateral * 100.0,
        JUDGED.as_secs(),
    )?;
    for (title, recorded) in [("Generated", false), ("Captures", true)] {
        let part: Vec<&Trial> = trials.iter().filter(|it| it.recorded == recorded).collect();
        if part.is_empty() {
            continue;
        }
        let met = part.iter().filter(|trial| trial.is_met()).count();
        writeln!(
            to,
            "\n### {title}\n\nIn {met} of {} trials at least 99 % of the attack at no more than 0.1 % \
             collateral.\n\n| method | coverage median | p10 | collateral median | p90 | flows hit \
             median | clients hit median | rules median | most | TCAM entries median | NLRI octets \
             median |\n|---|---|---|---|---|---|---|---|---|---|---|",
            part.len()
        )?;
        for method in Method::ALL {
            let at = |rank, of| of_all(&part, rank, method, of);
            writeln!(
                to,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                method.name(),
                percent(at(50, |it| it.coverage)),
                percent(at(10, |it| it.coverage)),
                percent(at(50, |it| it.collateral())),
                percent(at(90, |it| it.collateral())),
                percent(at(50, |it| it.flows)),
                percent(at(50, |it| it.clients)),
                at(50, |it| it.rules as f64),
                at(100, |it| it.rules as f64),
                at(50, |it| f64::from(it.entries)),
                at(50, |it| it.octets as f64),
            )?;
        }
    }
    write_missed(to, trials)
}

fn write_missed(to: &mut String, trials: &[Trial]) -> fmt::Result {
    writeln!(
        to,
        "\n### Where that is not possible\n\n| trial | family | coverage | collateral | flows | clients \
         | rules | top-1 vector | its collateral | why |\n|---|---|---|---|---|---|---|---|---|---|"
    )?;
    let mut missed: Vec<&Trial> = trials.iter().filter(|trial| !trial.is_met()).collect();
    missed.sort_by(|one, other| (one.recorded, &one.name).cmp(&(other.recorded, &other.name)));
    for trial in missed {
        let (own, vector) = (trial.of(Method::Synthesised), trial.of(Method::Vector));
        let why = match &trial.fallback {
            Some(why) => format!("by signature: {why}"),
            None if own.coverage < AIM_COVERAGE => "part of it looks like the rest".to_owned(),
            None => "what is hit was not among the samples".to_owned(),
        };
        writeln!(
            to,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {why} |",
            trial.name,
            if trial.ipv6 { "IPv6" } else { "IPv4" },
            percent(own.coverage),
            percent(own.collateral()),
            percent(own.flows),
            percent(own.clients),
            own.rules,
            percent(vector.coverage),
            percent(vector.collateral()),
        )?;
    }
    Ok(())
}

/// The same for programs.
pub(super) fn json(trials: &[Trial]) -> Value {
    let figures = |trial: &Trial| {
        let each = trial.figures.iter().map(|(method, figures)| {
            let value = json!({
                "coverage": figures.coverage,
                "collateral_packets": figures.packets,
                "collateral_bytes": figures.bytes,
                "collateral_flows": figures.flows,
                "collateral_clients": figures.clients,
                "rules": figures.rules,
                "tcam_entries": figures.entries,
                "nlri_octets": figures.octets,
            });
            (method.name().to_owned(), value)
        });
        each.collect::<serde_json::Map<String, Value>>()
    };
    let all: Vec<Value> = trials
        .iter()
        .map(|trial| {
            json!({
                "name": trial.name,
                "recorded": trial.recorded,
                "ipv6": trial.ipv6,
                "fallback": trial.fallback,
                "rules": trial.rules,
                "methods": figures(trial),
            })
        })
        .collect();
    Value::Array(all)
}
