//! What is tried: floods of every vector in several shapes, mixtures, and what is no attack.

use std::net::IpAddr;
use std::time::Duration;

use tidegate_model::{AddressFamily, AttackVector, Prefix, Timestamp};

use super::chain::{self, Chain, Told};
use crate::traffic::{Kind, Pulse, Random, Scenario, Stream};

/// Limit for every class of traffic, in packets a second. The total may be twice as much.
pub(super) const LIMIT: u64 = 1_000;
/// The same for all addresses of a /24 or /64 together.
pub(super) const NETWORK_LIMIT: u64 = 5 * LIMIT;
/// Floods, as multiples of [`LIMIT`].
pub(super) const MULTIPLES: [u64; 3] = [2, 10, 30];

/// When floods begin.
const ONSET: Duration = Duration::from_millis(1_000);
/// Frames a second of everyday traffic around a flood, both directions.
const BACKGROUND: u64 = 500;
/// How long everyday traffic is watched.
const EVERYDAY: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

/// What is right.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expected {
    /// One attack on this target by these vectors; the first is the main one. Without any, every
    /// vector is right: nothing stands out.
    Attack(Prefix, Vec<AttackVector>),
    /// No attack at all.
    Nothing,
}

/// What kind of trial it is: one section of the report each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    /// One vector on one address.
    Single,
    /// Several vectors at once.
    Mixture,
    /// Over a whole prefix, in pulses.
    Pattern,
    /// Everyday traffic, crowds, scans.
    Benign,
}

/// One trial.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) section: Section,
    pub(super) name: String,
    pub(super) family: AddressFamily,
    /// How many times over the limit; zero if that means nothing.
    pub(super) multiple: u64,
    /// With everyday traffic around it.
    pub(super) background: bool,
    pub(super) onset: Timestamp,
    pub(super) expected: Expected,
    seed: u64,
    streams: Vec<Stream>,
}

impl Case {
    pub(super) fn run(&self) -> Told {
        let scenario = self.streams.iter().cloned().fold(Scenario::new(self.seed), Scenario::with);
        let aggregate = chain::thresholds(NETWORK_LIMIT, 2 * NETWORK_LIMIT);
        let config = chain::config(chain::thresholds(LIMIT, 2 * LIMIT), Some(aggregate));
        let mut chain = Chain::new(config, self.seed);
        let mut packets = scenario.packets();
        while let Some(packet) = packets.next_packet() {
            let length = u32::try_from(packet.frame.len()).unwrap_or(u32::MAX);
            chain.see(packet.time, tidegate_detector::LinkType::Ethernet, packet.frame, length);
        }
        chain.finish()
    }
}

/// Every trial for this seed.
pub(super) fn all(seed: u64) -> Vec<Case> {
    let mut cases = singles(seed);
    cases.extend(mixtures(seed));
    cases.extend(patterns(seed));
    cases.extend(benign(seed));
    cases
}

pub(super) fn families() -> [(AddressFamily, Prefix); 2] {
    let host = |text: &str| {
        Prefix::host(text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)))
    };
    [(AddressFamily::Ipv4, host("203.0.113.10")), (AddressFamily::Ipv6, host("2001:db8::10"))]
}

/// How long a flood must last to be told of twice: the weaker, the longer it takes.
fn flood_length(multiple: u64) -> Duration {
    match multiple {
        0..=2 => 2 * SECOND,
        3..=10 => SECOND,
        _ => SECOND / 2,
    }
}

/// Errors about others' packets are no attack until they do harm.
fn is_attack(vector: AttackVector, multiple: u64) -> bool {
    vector != AttackVector::IcmpBackscatter || multiple > 10
}

fn singles(seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    let vectors = AttackVector::all().filter(|vector| *vector != AttackVector::Unknown);
    for (index, vector) in vectors.enumerate() {
        for (family, target) in families() {
            for multiple in MULTIPLES.into_iter().filter(|&times| is_attack(vector, times)) {
                for background in [false, true] {
                    let length = flood_length(multiple);
                    let number = cases.len() as u64 + seed;
                    let mut random = Random::new(seed << 32 | number << 8 | index as u64);
                    let stream = Stream::attack(vector, target).rate(LIMIT * multiple);
                    let stream = shaped(stream.during(ONSET, length), vector, &mut random);
                    let mut streams = vec![stream];
                    if background {
                        let everyday = Stream::benign(target).rate(BACKGROUND);
                        streams.push(everyday.during(Duration::ZERO, ONSET + length));
                    }
                    cases.push(Case {
                        section: Section::Single,
                        name: vector.to_string(),
                        family,
                        multiple,
                        background,
                        onset: Timestamp::ZERO + ONSET,
                        expected: Expected::Attack(target, vec![vector]),
                        seed: random.bits(),
                        streams,
                    });
                }
            }
        }
    }
    cases
}

/// Attackers differ in how many hosts they have, where they aim and what they fill packets with.
pub(super) fn shaped(mut stream: Stream, vector: AttackVector, random: &mut Random) -> Stream {
    // Answers come from many places and have lengths of their own.
    let reflected = matches!(
        vector,
        AttackVector::Amplification(_)
            | AttackVector::SynAckReflection
            | AttackVector::MiddleboxReflection
            | AttackVector::IcmpBackscatter
    );
    stream.sources = if vector == AttackVector::TcpConnectionFlood {
        // More would be a crowd.
        random.pick(&[None, Some(3), Some(20), Some(100)])
    } else if reflected {
        random.pick(&[None, Some(20), Some(100), Some(500)])
    } else {
        random.pick(&[None, None, Some(1), Some(3), Some(40), Some(u32::MAX)])
    };
    let port = random.pick(&[None, None, Some(80), Some(443), Some(53), Some(25_565)]);
    stream.port = port;
    let length = random.pick(&[None, None, Some(60), Some(512), Some(1_400)]);
    if !reflected {
        stream.packet_length = length;
    }
    stream
}

fn mixtures(seed: u64) -> Vec<Case> {
    let vector = |name: &str| name.parse().unwrap_or(AttackVector::Unknown);
    let pairs = [
        ("syn-flood", "udp-flood"),
        ("syn-flood", "ntp-amplification"),
        ("dns-amplification", "cldap-amplification"),
        ("memcached-amplification", "icmp-flood"),
        ("udp-flood", "ssdp-amplification"),
    ];
    let mut cases = Vec::new();
    for (family, target) in families() {
        for (index, (main, second)) in pairs.into_iter().enumerate() {
            let (main, second) = (vector(main), vector(second));
            let flood =
                |vector, rate| Stream::attack(vector, target).rate(rate).during(ONSET, 2 * SECOND);
            cases.push(Case {
                section: Section::Mixture,
                name: format!("{main} and {second}"),
                family,
                multiple: 10,
                background: true,
                onset: Timestamp::ZERO + ONSET,
                expected: Expected::Attack(target, vec![main, second]),
                seed: seed << 8 | index as u64,
                streams: vec![
                    flood(main, 6 * LIMIT),
                    flood(second, 4 * LIMIT),
                    Stream::benign(target).rate(BACKGROUND).during(Duration::ZERO, 3 * SECOND),
                ],
            });
        }
    }
    cases
}

fn patterns(seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, target) in families() {
        let flood =
            |vector, rate, length| Stream::attack(vector, target).rate(rate).during(ONSET, length);
        let mut pulse = flood(AttackVector::UdpFlood, 20 * LIMIT, 10 * SECOND);
        pulse.pulse = Some(Pulse { period: 3 * SECOND, on: Duration::from_millis(200) });
        let medley = flood(AttackVector::Unknown, 10 * LIMIT, SECOND);
        let mut long = flood(AttackVector::UdpFlood, 4 * LIMIT, 600 * SECOND);
        long.pulse = Some(Pulse { period: 10 * SECOND, on: SECOND });
        let trials = [
            ("pulses of 1 s every 10 s, ten minutes", long, vec![AttackVector::UdpFlood]),
            ("pulses of 200 ms every 3 s", pulse, vec![AttackVector::UdpFlood]),
            ("a bit of everything", medley, Vec::new()),
        ];
        let trials = trials.map(|(name, stream, vectors)| (name.to_owned(), stream, vectors));
        for (name, stream, vectors) in trials.into_iter().chain(carpets(network_of(target))) {
            let everyday = Stream::benign(stream.target).rate(BACKGROUND);
            cases.push(Case {
                section: Section::Pattern,
                name,
                family,
                multiple: 10,
                background: true,
                onset: Timestamp::ZERO + ONSET,
                expected: Expected::Attack(stream.target, vectors),
                seed,
                streams: vec![stream, everyday.during(Duration::ZERO, 3 * SECOND)],
            });
        }
    }
    cases
}

/// Floods over all addresses of `network`: little for each, and more than it bears for each.
fn carpets(network: Prefix) -> impl Iterator<Item = (String, Stream, Vec<AttackVector>)> {
    let vectors = ["udp-flood", "syn-flood", "ntp-amplification", "dns-amplification"];
    vectors.into_iter().filter_map(|name| name.parse().ok()).flat_map(move |vector| {
        [("thin", 4), ("thick", 40)].map(|(name, times)| {
            let stream = Stream::attack(vector, network).rate(times * NETWORK_LIMIT);
            let stream = stream.during(ONSET, SECOND * 3 / 2);
            (format!("{name} carpet of {vector}"), stream, vec![vector])
        })
    })
}

/// What must not be taken for an attack.
fn benign(seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, target) in families() {
        let network = network_of(target);
        let stream = |kind, target, rate, length| {
            Stream::new(kind, target).rate(rate).during(Duration::ZERO, length)
        };
        let mut upward = stream(Kind::Attack(AttackVector::SynFlood), target, 800, 5 * SECOND);
        upward.sources = Some(1);
        let mut across = stream(Kind::Attack(AttackVector::SynFlood), network, 900, 5 * SECOND);
        across.sources = Some(1);
        let crowd = stream(Kind::FlashCrowd, target, 80 * LIMIT, 6 * SECOND);
        let errors = Kind::Attack(AttackVector::IcmpBackscatter);
        let trials = [
            ("large flash crowd, twice the limit in new connections", crowd),
            ("errors about others' packets", stream(errors, target, 5 * LIMIT, 5 * SECOND)),
            ("everyday traffic of one host", stream(Kind::Benign, target, 2 * LIMIT, EVERYDAY)),
            ("everyday traffic of a network", stream(Kind::Benign, network, 10 * LIMIT, EVERYDAY)),
            ("flash crowd", stream(Kind::FlashCrowd, target, 20 * LIMIT, 10 * SECOND)),
            ("port scan of one host", upward),
            ("scan of a network", across),
        ];
        for (index, (name, stream)) in trials.into_iter().enumerate() {
            cases.push(Case {
                section: Section::Benign,
                name: name.to_owned(),
                family,
                multiple: 0,
                background: false,
                onset: Timestamp::ZERO,
                expected: Expected::Nothing,
                seed: seed << 8 | index as u64,
                streams: vec![stream],
            });
        }
    }
    cases
}

/// The /24 or /64 around `host`.
pub(super) fn network_of(host: Prefix) -> Prefix {
    let length = if host.address().is_ipv4() { 24 } else { 64 };
    Prefix::new(host.address(), length).unwrap_or(host)
}
