//! Cost of a packet that is already in memory, with everything on; and a thousand million sources.
//!
//! `cargo bench -p tidegate-detector`, and `-- NUMBER` for another number of sources. Figures are
//! for reading, and are compared within one run. Time is what the thread was given of a core, so
//! that other work on the machine counts little.
#![allow(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use tidegate_detector::census::{Census, MEMORY};
use tidegate_detector::{Config, Detector, Group, Learning, LinkType, Meter, TICK};
use tidegate_model::{AttackId, Limit, Metric, PacketsPerSecond, Prefix, Thresholds, Timestamp};

/// Frames in memory, gone through again and again.
const FRAMES: usize = 1 << 16;
/// Packets a tick: ten million a second.
const PER_TICK: usize = 100_000;
const ROUNDS: usize = 3;
const PACKETS: usize = 5_000_000;

/// Numbers as if drawn by lot (Steele et al., "SplitMix", 2014).
struct Lot(u64);

impl Lot {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// An Ethernet frame of 64 octets without its check sequence, to 203.0.113.`host`.
fn frame(lot: &mut Lot, host: u8, protocol: u8, ports: (u16, u16), flags: u8) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[12] = 0x08;
    frame[14..].copy_from_slice(&{
        let mut packet = [0; 46];
        packet[0] = 0x45;
        packet[3] = 46;
        packet[8] = 64 - (lot.draw() % 20) as u8;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&(lot.draw() as u32 | 0x0100_0000).to_be_bytes());
        packet[16..20].copy_from_slice(&[203, 0, 113, host]);
        packet[20..22].copy_from_slice(&ports.0.to_be_bytes());
        packet[22..24].copy_from_slice(&ports.1.to_be_bytes());
        if protocol == 6 {
            packet[32] = 0x50;
            packet[33] = flags;
        }
        packet
    });
    frame
}

fn mixtures() -> [(&'static str, Vec<[u8; 60]>); 3] {
    let mut lot = Lot(1);
    let port = |lot: &mut Lot| 1024 + (lot.draw() % 60_000) as u16;
    let mut make = |pick: &dyn Fn(u64) -> (u8, u8, Option<u16>, u8)| -> Vec<[u8; 60]> {
        (0..FRAMES)
            .map(|_| {
                let (host, protocol, to, flags) = pick(lot.draw());
                let ports = (port(&mut lot), to.unwrap_or_else(|| port(&mut lot)));
                frame(&mut lot, host, protocol, ports, flags)
            })
            .collect()
    };
    [
        ("syn flood, random sources", make(&|_| (9, 6, Some(443), 2))),
        ("udp flood, random sources and ports", make(&|_| (9, 17, None, 0))),
        (
            "both and others over 250 hosts",
            make(&|n| match n % 10 {
                0..5 => (9, 6, Some(443), 2),
                5..8 => (10, 17, Some(53), 0),
                8 => (11, 1, None, 0),
                _ => ((n >> 8) as u8 % 250, 6, Some(80), 0x10),
            }),
        ),
    ]
}

fn config() -> Config {
    let mut thresholds = Thresholds::default();
    for metric in Metric::ALL {
        thresholds.set(metric, Limit { packets: Some(PacketsPerSecond(10_000)), bits: None });
    }
    let group = Group {
        name: "all".into(),
        prefixes: vec!["203.0.113.0/24".parse().unwrap()],
        thresholds,
        aggregate: Some(thresholds),
    };
    Config {
        groups: vec![group],
        learning: Some(Learning::default()),
        interface: Some(thresholds),
        allowed: vec!["192.0.2.0/24".parse().unwrap()],
        ..Config::default()
    }
}

/// Nanoseconds a packet, the best of several rounds; also how many attacks there were.
fn pipeline(frames: &[[u8; 60]], census: bool) -> (f64, usize) {
    let mut best = f64::MAX;
    let mut attacks = 0;
    for _ in 0..ROUNDS {
        let mut meter = Meter::new(&config(), 7);
        let mut detector = Detector::new(config());
        if census {
            let target = Prefix::host(IpAddr::from([203, 0, 113, 9]));
            meter.count_sources(&[(AttackId(1), target)]);
        }
        let mut now = Timestamp::ZERO;
        let begin = spent();
        for (number, frame) in (1..=PACKETS).zip(frames.iter().cycle()) {
            meter.observe(LinkType::Ethernet, frame, 60);
            if number % PER_TICK == 0 {
                now = now + TICK;
                detector.handle_summary(&meter.finish_tick(now));
                while let Some(event) = detector.poll_event() {
                    black_box(event);
                }
            }
        }
        best = best.min((spent() - begin).as_secs_f64() * 1e9 / PACKETS as f64);
        attacks = detector.attacks().count();
    }
    (best, attacks)
}

/// Time that this thread has had of a core so far.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// The most memory that the process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
}

fn sources(number: u64) {
    let before = peak();
    let mut census = Census::new("203.0.113.9".parse().unwrap(), 2);
    let (mut room, mut lot) = (MEMORY, Lot(2));
    let begin = spent();
    for _ in 0..number {
        // The draw stands for the hash: it is one of the address, and each address comes once or
        // a few times.
        let hash = lot.draw();
        let source = IpAddr::from(((hash >> 32) as u32).to_be_bytes());
        census.add((source, hash), 64, 64, &mut room);
    }
    let cost = (spent() - begin).as_secs_f64() * 1e9 / number as f64;
    println!("{number} sources drawn by lot: {cost:.1} ns each, {}", census.distinct());
    println!("  memory at its peak {} MiB, {before} MiB before", peak());
}

fn main() {
    let number = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    println!("pipeline in memory, 64 octets on the wire, best of {ROUNDS}");
    for (name, frames) in mixtures() {
        for census in [false, true] {
            let (cost, attacks) = pipeline(&frames, census);
            let with = if census { "sources counted" } else { "" };
            println!(
                "  {name:<38} {:>6.1} Mpps {cost:>6.1} ns  {attacks} attacks {with}",
                1e3 / cost
            );
        }
    }
    sources(number.unwrap_or(1_000_000_000));
}
