//! Packets and a clock for the tests of the whole chain.

use std::net::IpAddr;

use tidegate_detector::{
    Config, Detector, Group, LinkType, Meter, TICK, TargetTraffic, TrafficSummary,
};
use tidegate_model::{
    Attack, AttackEvent, AttackVector, Limit, Metric, PacketsPerSecond, Prefix, Thresholds,
    Timestamp,
};

pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An address that differs for each `number`, scattered over unicast space.
pub(crate) fn source(number: u64) -> IpAddr {
    let scattered = u32::try_from(number.wrapping_mul(0x9e37_79b9) & 0xffff_ffff).unwrap();
    let [_, b, c, d] = scattered.to_be_bytes();
    IpAddr::from([u8::try_from(number % 97).unwrap() + 20, b, c, d])
}

/// Where a packet stands in its datagram: offset in bytes, and whether more follow.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) offset: u16,
    pub(crate) more: bool,
}

pub(crate) const WHOLE: Piece = Piece { offset: 0, more: false };

/// An IP packet without a link layer.
pub(crate) fn packet(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    piece: Piece,
    payload: &[u8],
) -> Vec<u8> {
    let fragmented = piece.more || piece.offset > 0;
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(20 + payload.len()).unwrap();
            let field = (piece.offset / 8) | if piece.more { 0x2000 } else { 0 };
            let mut bytes = vec![0x45, 0];
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 7]);
            bytes.extend(field.to_be_bytes());
            bytes.extend([64, protocol, 0, 0]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            bytes.extend(payload);
            bytes
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let extension = if fragmented { 8 } else { 0 };
            let length = u16::try_from(extension + payload.len()).unwrap();
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend(length.to_be_bytes());
            bytes.extend([if fragmented { 44 } else { protocol }, 64]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            if fragmented {
                bytes.extend([protocol, 0]);
                bytes.extend((piece.offset | u16::from(piece.more)).to_be_bytes());
                bytes.extend([0, 0, 0, 7]);
            }
            bytes.extend(payload);
            bytes
        }
        _ => panic!("one family to a packet"),
    }
}

pub(crate) fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8, payload: usize) -> Vec<u8> {
    numbered(from, to, flags, (1, 1), payload)
}

/// The same with sequence and acknowledgement numbers.
pub(crate) fn numbered(
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    flags: u8,
    (sequence, acknowledgement): (u32, u32),
    payload: usize,
) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgement.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.resize(20 + payload, 0);
    packet(from.0, to.0, 6, WHOLE, &segment)
}

/// A UDP header and `payload`, filled up to `length` bytes of payload.
pub(crate) fn datagram(source: u16, destination: u16, payload: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    bytes.extend(u16::try_from(8 + length.max(payload.len())).unwrap().to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes.resize(8 + length.max(payload.len()), 0);
    bytes
}

pub(crate) fn udp(
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    payload: &[u8],
    length: usize,
) -> Vec<u8> {
    packet(from.0, to.0, 17, WHOLE, &datagram(from.1, to.1, payload, length))
}

pub(crate) fn icmp(from: IpAddr, to: IpAddr, kind: u8) -> Vec<u8> {
    let protocol = if from.is_ipv4() { 1 } else { 58 };
    packet(from, to, protocol, WHOLE, &[kind, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0])
}

/// Thresholds in packets per second.
pub(crate) fn thresholds(limits: &[(Metric, u64)]) -> Thresholds {
    let mut thresholds = Thresholds::default();
    for &(metric, packets) in limits {
        thresholds.set(metric, Limit { packets: Some(PacketsPerSecond(packets)), bits: None });
    }
    thresholds
}

pub(crate) fn usual_thresholds() -> Thresholds {
    thresholds(&[
        (Metric::Total, 3000),
        (Metric::TcpSyn, 1000),
        (Metric::Udp, 2000),
        (Metric::Amplification, 1000),
        (Metric::Icmp, 1000),
        (Metric::Fragment, 300),
    ])
}

pub(crate) fn config(prefixes: &[&str], thresholds: Thresholds) -> Config {
    let prefixes = prefixes.iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
    Config {
        groups: vec![Group { name: "all".into(), prefixes, thresholds, aggregate: None }],
        ..Config::default()
    }
}

/// The same with thresholds for each network as a whole.
pub(crate) fn together(prefixes: &[&str], host: Thresholds, network: Thresholds) -> Config {
    let mut config = config(prefixes, host);
    config.groups[0].aggregate = Some(network);
    config
}

/// Meter, detector and a clock.
pub(crate) struct Lab {
    pub(crate) meter: Meter,
    pub(crate) detector: Detector,
    pub(crate) now: Timestamp,
    pub(crate) events: Vec<AttackEvent>,
    /// Blind ticks, lost frames: set on the summaries to come.
    pub(crate) blind: bool,
    pub(crate) lost: u64,
    /// Since when one interface of several has carried nothing.
    pub(crate) dark_since: Option<Timestamp>,
}

impl Lab {
    pub(crate) fn new(config: Config) -> Self {
        let now = Timestamp::from_nanos(1_000_000_000_000);
        let mut meter = Meter::new(&config, 7);
        let mut detector = Detector::new(config);
        detector.handle_summary(&meter.finish_tick(now));
        Self { meter, detector, now, events: Vec::new(), blind: false, lost: 0, dark_since: None }
    }

    /// Owns everything, as a replay may.
    pub(crate) fn everything() -> Self {
        Self::new(config(&["0.0.0.0/0", "::/0"], usual_thresholds()))
    }

    pub(crate) fn see(&mut self, packet: &[u8]) {
        let length = u32::try_from(packet.len() + 14).unwrap();
        self.meter.observe(LinkType::RawIp, packet, length);
    }

    pub(crate) fn tick(&mut self) -> TrafficSummary {
        self.now = self.now + TICK;
        self.meter.handle_lost(self.lost);
        let mut summary = self.meter.finish_tick(self.now);
        summary.blind = self.blind;
        summary.dark_since = self.dark_since;
        self.detector.handle_summary(&summary);
        while let Some(event) = self.detector.poll_event() {
            self.events.push(event);
        }
        summary
    }

    /// Runs `ticks` ticks with `per_tick` packets each; `make` gets a running number.
    pub(crate) fn run(&mut self, ticks: u64, per_tick: u64, mut make: impl FnMut(u64) -> Vec<u8>) {
        for tick in 0..ticks {
            for number in 0..per_tick {
                let bytes = make(tick * per_tick + number);
                self.see(&bytes);
            }
            self.tick();
        }
    }

    pub(crate) fn quiet(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    pub(crate) fn started(&self) -> Vec<&Attack> {
        let started = self.events.iter().filter_map(|event| match event {
            AttackEvent::Started(attack) => Some(attack),
            _ => None,
        });
        started.collect()
    }

    /// The one attack there was, as it started.
    pub(crate) fn only_attack(&self) -> &Attack {
        let started = self.started();
        assert_eq!(started.len(), 1, "{:#?}", self.events);
        started[0]
    }

    /// The one attack there was, as it was last told.
    pub(crate) fn latest(&self) -> &Attack {
        self.only_attack();
        self.events.last().unwrap().attack()
    }

    pub(crate) fn ended(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, AttackEvent::Ended(..))).count()
    }

    /// Asserts that the one attack is `vector` on `target`, and returns it.
    pub(crate) fn expect(&self, target: &str, vector: AttackVector) -> &Attack {
        let attack = self.only_attack();
        assert_eq!(attack.target, Prefix::host(ip(target)));
        assert_eq!(attack.main_vector(), vector, "{:#?}", attack.vectors);
        attack
    }
}

/// What `summary` says of `address`.
pub(crate) fn target_of(summary: &TrafficSummary, address: &str) -> TargetTraffic {
    let found = summary.targets.iter().find(|target| target.address == ip(address));
    found.cloned().unwrap_or_else(|| panic!("{address} is not listed"))
}
