//! Packets a second through the whole pipeline, on one core, from a file and from memory, and the
//! memory that random sources take.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::clock::WallOrigin;
use tidegate::engine::{Engine, EngineInput};
use tidegate::output::{Format, Printer, Updates};
use tidegate::pipeline;
use tidegate_detector::capture::file::CaptureFile;
use tidegate_detector::{LinkType, Meter, TICK};
use tidegate_model::{AttackVector, Prefix, Reflector, Timestamp};
use tidegate_policy::Policy;

use super::{BenchError, system, write_policy};
use crate::traffic::{CaptureWriter, Scenario, Stream};

/// Rounds of each measurement; the fastest counts, because noise only slows down.
const ROUNDS: usize = 3;

/// Octets of each frame in the capture: what the live driver takes by default.
const SNAP_LENGTH: u32 = 192;

/// Packets a second in the generated mixture.
const RATE: u64 = 500_000;

const POLICY: &str = r#"
[speaker]
as = 65010
router-id = "192.0.2.10"

[owned]
prefixes = ["203.0.113.0/24", "2001:db8:1::/48"]

[[responses]]
name = "filter"
action = "flowspec"
filter = "discard"

[[peers]]
name = "router"
address = "192.0.2.1"
as = 65001
"#;

/// What the capture is made of.
struct Mixture {
    name: &'static str,
    /// Streams, each with its tenths of the packets.
    streams: Vec<(Stream, u64)>,
}

/// One round's figures of a mixture.
struct Figures {
    packets: u64,
    mean_length: u64,
    counting: Duration,
    replay: Duration,
    memory: Duration,
}

/// Measures, prints, and returns the figures as a table.
pub(super) fn measure(packets: u64) -> Result<String, BenchError> {
    let lab = Workplace::new()?;
    let policy = Arc::new(tidegate_policy::load(&write_policy(lab.path(), POLICY)?)?);
    let mut table = "| packets | | packets per second | per packet | to the counting loop |\n\
                     |---|---|---|---|---|\n"
        .to_owned();
    for mixture in mixtures() {
        let capture = lab.path().join("mixture.pcap");
        println!("generating {packets} packets: {} ...", mixture.name);
        let figures = measure_one(&mixture, packets, &capture, &policy)?;
        let about = format!("{}, {} bytes", mixture.name, figures.mean_length);
        for (name, elapsed) in [
            ("libpcap counting loop, from the file", figures.counting),
            ("`tidegate replay`, from the file", figures.replay),
            ("pipeline, from memory", figures.memory),
        ] {
            let rate = figures.packets as f64 / elapsed.as_secs_f64() / 1e6;
            let cost = elapsed.as_secs_f64() * 1e9 / figures.packets as f64;
            let ratio = elapsed.as_secs_f64() / figures.counting.as_secs_f64();
            println!("  {name:<38} {rate:>7.2} Mpps  {cost:>6.1} ns a packet  {ratio:>5.2}");
            let _ = writeln!(
                table,
                "| {about} | {name} | {rate:.2} million | {cost:.1} ns | {ratio:.2} |"
            );
        }
    }
    Ok(table)
}

fn measure_one(
    mixture: &Mixture,
    packets: u64,
    capture: &Path,
    policy: &Arc<Policy>,
) -> Result<Figures, BenchError> {
    let (written, bytes) = generate(mixture, packets, capture)?;
    let frames = Frames::load(capture)?;
    // The first pass brings the file into the page cache and is not counted.
    count(capture)?;
    let mut figures = Figures {
        packets: written,
        mean_length: bytes / written.max(1),
        counting: Duration::MAX,
        replay: Duration::MAX,
        memory: Duration::MAX,
    };
    for _ in 0..ROUNDS {
        figures.counting = figures.counting.min(timed(|| count(capture).map(drop))?);
        figures.replay = figures.replay.min(timed(|| replay(capture, policy))?);
        figures.memory = figures.memory.min(timed(|| {
            frames.run(policy);
            Ok(())
        })?);
    }
    Ok(figures)
}

fn mixtures() -> Vec<Mixture> {
    let web = Prefix::host(host("203.0.113.10"));
    let small = [AttackVector::SynFlood, AttackVector::AckFlood, AttackVector::RstFlood];
    vec![
        Mixture {
            name: "everyday traffic and four attacks",
            streams: vec![
                (Stream::benign(web), 2),
                (attack(AttackVector::SynFlood, "203.0.113.20"), 4),
                (attack(AttackVector::Amplification(Reflector::Ntp), "203.0.113.21"), 2),
                (attack(AttackVector::UdpFlood, "2001:db8:1::22"), 1),
                (attack(AttackVector::IcmpFlood, "203.0.113.23"), 1),
            ],
        },
        Mixture {
            name: "floods of the smallest packets",
            streams: small
                .into_iter()
                .zip([("203.0.113.20", 6), ("203.0.113.21", 3), ("203.0.113.22", 1)])
                .map(|(vector, (target, tenths))| (attack(vector, target), tenths))
                .collect(),
        },
        Mixture {
            name: "floods of the largest packets",
            streams: vec![(
                attack(AttackVector::Amplification(Reflector::Memcached), "203.0.113.20"),
                10,
            )],
        },
    ]
}

/// Frames in memory.
struct Frames {
    bytes: Vec<u8>,
    index: Vec<Held>,
}

/// Where a frame lies, and what is known of it.
#[derive(Clone, Copy)]
struct Held {
    time: Timestamp,
    begin: usize,
    end: usize,
    wire_length: u32,
}

impl Frames {
    fn load(path: &Path) -> Result<Self, BenchError> {
        let failed = |error: tidegate_detector::capture::CaptureError| {
            BenchError::Unexpected(error.to_string())
        };
        let mut file = CaptureFile::open(path).map_err(failed)?;
        let mut frames = Self { bytes: Vec::new(), index: Vec::new() };
        while let Some(frame) = file.next_frame().map_err(failed)? {
            let begin = frames.bytes.len();
            frames.bytes.extend_from_slice(frame.data);
            let (time, wire_length) = (frame.time, frame.wire_length);
            frames.index.push(Held { time, begin, end: frames.bytes.len(), wire_length });
        }
        Ok(frames)
    }

    /// Meter and engine, as the daemon runs them, without the capture.
    fn run(&self, policy: &Arc<Policy>) {
        let config = pipeline::detector_config(policy);
        let (mut meter, mut engine) = (Meter::new(&config, 0), Engine::new(policy, 0));
        let mut tick = self.index.first().map_or(Timestamp::ZERO, |held| held.time) + TICK;
        for held in &self.index {
            while held.time >= tick {
                let summary = meter.finish_tick(tick);
                std::hint::black_box(engine.handle(tick, EngineInput::Summary(&summary)));
                tick = tick + TICK;
            }
            let frame = self.bytes.get(held.begin..held.end).unwrap_or_default();
            meter.observe(LinkType::Ethernet, frame, held.wire_length);
        }
    }
}

/// Measures the memory that the meter takes while sources are random, and prints it.
pub(super) fn measure_memory(sources: u64) -> Result<String, BenchError> {
    let lab = Workplace::new()?;
    let policy = tidegate_policy::load(&write_policy(lab.path(), POLICY)?)?;
    let mut meter = Meter::new(&pipeline::detector_config(&policy), 7);
    let before = resident_bytes()?;
    let mut frame = SYN;
    let (mut most, mut random, mut tick) = (0, 1_u64, Timestamp::ZERO);
    let begin = Instant::now();
    for number in 1..=sources {
        // Knuth's linear congruential generator; the upper half is the source.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let source = u32::try_from(random >> 32).unwrap_or(0).to_be_bytes();
        if let Some(field) = frame.get_mut(26..30) {
            field.copy_from_slice(&source);
        }
        meter.observe(LinkType::Ethernet, &frame, 60);
        if number.is_multiple_of(100_000) {
            tick = tick + TICK;
            std::hint::black_box(meter.finish_tick(tick));
        }
        if number.is_multiple_of(1 << 22) {
            most = most.max(resident_bytes()?);
        }
    }
    let (mib, seconds) = (1 << 20, begin.elapsed().as_secs_f64());
    let grown = most.max(resident_bytes()?).saturating_sub(before) / mib;
    let line = format!(
        "{sources} random sources toward one address: {grown} MiB more than before, {seconds:.1} s"
    );
    println!("{line}");
    Ok(line)
}

/// A SYN to 203.0.113.20, port 80.
const SYN: [u8; 60] = {
    let mut frame = [0; 60];
    let head = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0,
        2, 1, 203, 0, 113, 20, 4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff,
    ];
    let mut index = 0;
    while index < head.len() {
        frame[index] = head[index];
        index += 1;
    }
    frame
};

/// Resident memory of this process (`proc(5)`).
fn resident_bytes() -> Result<u64, BenchError> {
    let text = std::fs::read_to_string("/proc/self/status").map_err(system("read status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    Ok(kibibytes.unwrap_or(0_u64) << 10)
}

/// A folder for the capture, removed at the end.
struct Workplace(std::path::PathBuf);

impl Workplace {
    fn new() -> Result<Self, BenchError> {
        let path = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(system("make a temporary folder"))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes the capture and returns how many packets are in it, and how many bytes they have.
fn generate(mixture: &Mixture, packets: u64, path: &Path) -> Result<(u64, u64), BenchError> {
    let length = Duration::from_secs_f64(packets as f64 / RATE as f64);
    let scenario = mixture.streams.iter().fold(Scenario::new(5), |scenario, (stream, tenths)| {
        let stream = stream.clone().rate(RATE * tenths / 10).during(Duration::ZERO, length);
        scenario.with(stream)
    });
    let write = system("write the capture");
    let mut writer = CaptureWriter::create(path, SNAP_LENGTH).map_err(&write)?;
    let (mut written, mut bytes) = (0, 0);
    let mut packets = scenario.packets();
    while let Some(packet) = packets.next_packet() {
        writer.write(packet.time, packet.frame).map_err(&write)?;
        written += 1;
        bytes += packet.frame.len() as u64;
    }
    writer.finish().map_err(&write)?;
    Ok((written, bytes))
}

fn attack(vector: AttackVector, target: &str) -> Stream {
    Stream::attack(vector, Prefix::host(host(target)))
}

fn host(text: &str) -> std::net::IpAddr {
    text.parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

fn timed(work: impl FnOnce() -> Result<(), BenchError>) -> Result<Duration, BenchError> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

/// What any libpcap program pays before it looks at a packet.
fn count(path: &Path) -> Result<u64, BenchError> {
    let mut capture = pcap::Capture::from_file(path)?;
    let mut bytes = 0;
    loop {
        match capture.next_packet() {
            Ok(packet) => bytes += u64::from(packet.header.len),
            Err(pcap::Error::NoMorePackets) => return Ok(std::hint::black_box(bytes)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn replay(path: &Path, policy: &Arc<Policy>) -> Result<(), BenchError> {
    let printer = Printer::new(io::sink(), Format::Json, Updates::Hidden, WallOrigin::EPOCH);
    Ok(tidegate::replay::replay(path, policy, printer)?)
}
