//! Packets a second through the whole pipeline, on one core, from a file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::clock::WallOrigin;
use tidegate::output::{Format, Printer, Updates};
use tidegate_model::{AttackVector, Prefix, Reflector};
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

pub(super) fn measure(packets: u64) -> Result<(), BenchError> {
    let lab = Workplace::new()?;
    let capture = lab.path().join("mixture.pcap");
    println!("generating {packets} packets of benign traffic and four attacks ...");
    let written = generate(packets, &capture)?;
    let policy = Arc::new(tidegate_policy::load(&write_policy(lab.path(), POLICY)?)?);

    // The first pass brings the file into the page cache and is not counted.
    count(&capture)?;
    let mut counting = Duration::MAX;
    let mut pipeline = Duration::MAX;
    for round in 1..=ROUNDS {
        println!("round {round} of {ROUNDS} ...");
        counting = counting.min(timed(|| count(&capture).map(drop))?);
        pipeline = pipeline.min(timed(|| replay(&capture, &policy))?);
    }
    let rate = |elapsed: Duration| written as f64 / elapsed.as_secs_f64() / 1e6;
    let cost = |elapsed: Duration| elapsed.as_secs_f64() * 1e9 / written as f64;
    println!("\nOffline, one core, {written} packets, best of {ROUNDS}");
    for (name, elapsed) in [("libpcap counting loop", counting), ("tidegate replay", pipeline)] {
        println!("  {name:<24} {:>7.2} Mpps  {:>6.1} ns a packet", rate(elapsed), cost(elapsed));
    }
    let ratio = pipeline.as_secs_f64() / counting.as_secs_f64();
    println!("  ratio                    {ratio:>7.2}  (replay time / counting time)\n");
    Ok(())
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

/// Writes the capture and returns how many packets are in it.
fn generate(packets: u64, path: &Path) -> Result<u64, BenchError> {
    let web = host("203.0.113.10");
    let streams = [
        (Stream::benign(Prefix::host(web)), 2),
        (attack(AttackVector::SynFlood, "203.0.113.20"), 4),
        (attack(AttackVector::Amplification(Reflector::Ntp), "203.0.113.21"), 2),
        (attack(AttackVector::UdpFlood, "2001:db8:1::22"), 1),
        (attack(AttackVector::IcmpFlood, "203.0.113.23"), 1),
    ];
    let length = Duration::from_secs_f64(packets as f64 / RATE as f64);
    let scenario = streams.into_iter().fold(Scenario::new(5), |scenario, (stream, tenths)| {
        scenario.with(stream.rate(RATE * tenths / 10).during(Duration::ZERO, length))
    });
    let write = system("write the capture");
    let mut writer = CaptureWriter::create(path, SNAP_LENGTH).map_err(&write)?;
    let written = writer.write_all(&mut scenario.packets()).map_err(&write)?;
    writer.finish().map_err(&write)?;
    Ok(written)
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
