//! `tidegate bench-self`: what this machine can do, measured on packets from memory.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_detector::{Config, Detector, Group, LinkType, Meter, TICK};
use tidegate_model::{AttackEvent, Prefix, Timestamp};
use tidegate_policy::{DEFAULT_GROUP, default_thresholds};

use super::{Failure, write};
use crate::cli::BenchSelf;

/// Packets of one tick: a million a second.
const PACKETS_A_TICK: u32 = 10_000;
/// Distinct frames: more than caches of branch predictors remember, fewer than the first cache.
const FRAMES: u16 = 256;
/// Length of each packet on the wire, in bytes.
const WIRE_LENGTH: u32 = 64;

/// What was measured.
struct Figures {
    packets: u64,
    spent: Duration,
    /// From the first packet of a flood at a million a second to its recognition, in the time of
    /// the packets.
    recognised: Option<Duration>,
}

pub(super) fn measure(arguments: &BenchSelf) -> Result<(), Failure> {
    let IpAddr::V4(target) = arguments.target else {
        return Err(Failure::BadInput("the flood is one of IPv4; give such an address".to_owned()));
    };
    let frames: Vec<Vec<u8>> = (0..FRAMES).map(|number| frame(target.octets(), number)).collect();
    let figures = flood(&frames, Prefix::host(arguments.target), arguments.time);
    let nanoseconds = figures.spent.as_nanos() / u128::from(figures.packets.max(1));
    let rate = u128::from(figures.packets) * 1_000_000_000 / figures.spent.as_nanos().max(1);
    if arguments.json {
        let document = json!({
            "packets": figures.packets,
            "nanoseconds_per_packet": u64::try_from(nanoseconds).ok(),
            "packets_per_second_per_core": u64::try_from(rate).ok(),
            "recognised_after_ms": figures.recognised.map(|it| it.as_millis().to_string()),
        });
        return write(&format!("{document}\n"));
    }
    let recognised = figures.recognised.map_or_else(
        || "not recognised".to_owned(),
        |after| format!("recognised {} ms after its first packet", after.as_millis()),
    );
    write(&format!(
        "{} packets through meter and detector on one core: {nanoseconds} ns each, {:.1} million a \
         second\na SYN flood of a million packets a second is {recognised}\n",
        super::text::thousands(figures.packets),
        rate as f64 / 1e6,
    ))
}

fn flood(frames: &[Vec<u8>], target: Prefix, time: Duration) -> Figures {
    let config = Config {
        groups: vec![Group {
            name: DEFAULT_GROUP.to_owned(),
            prefixes: vec![target],
            thresholds: default_thresholds(),
            aggregate: None,
        }],
        ..Config::default()
    };
    let mut meter = Meter::new(&config, 1);
    let mut detector = Detector::new(config);
    let mut figures = Figures { packets: 0, spent: Duration::ZERO, recognised: None };
    let mut end = Timestamp::ZERO;
    let begin = Instant::now();
    while begin.elapsed() < time {
        for frame in frames.iter().cycle().take(PACKETS_A_TICK as usize) {
            meter.observe(LinkType::Ethernet, frame, WIRE_LENGTH);
        }
        end = end + TICK;
        detector.handle_summary(&meter.finish_tick(end));
        figures.packets += u64::from(PACKETS_A_TICK);
        while let Some(event) = detector.poll_event() {
            if let AttackEvent::Started(attack) = event {
                figures.recognised.get_or_insert(attack.detected.since(Timestamp::ZERO));
            }
        }
    }
    figures.spent = begin.elapsed();
    figures
}

/// A TCP SYN to port 443 in Ethernet and IPv4 (RFC 791, RFC 9293), from one of many sources.
fn frame(target: [u8; 4], number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend([198, 51, 100u8.wrapping_add(high), low]);
    frame.extend(target);
    frame.extend([0x80 | high, low, 0x01, 0xbb]);
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}
