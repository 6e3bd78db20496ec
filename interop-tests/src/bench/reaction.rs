//! From the first packet of a flood to the UPDATE at the peer, live.
//!
//! One network namespace holds a virtual link and both ends of a BGP session on loopback: the
//! daemon captures at one end of the link, this process sends at the other and is the peer. So one
//! clock sees both the first packet leave and the UPDATE arrive.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_bgpd::convert::decode_update;
use tidegate_model::{AttackVector, Nlri, Prefix, Reflector};

use super::peer::{Arrival, Peer};
use super::table::{milliseconds, percentile};
use super::{BenchError, system, write_policy};
use crate::traffic::transmit::Transmitter;
use crate::traffic::{Scenario, Stream};

/// A flood that has not been answered by then is not going to be.
const DEADLINE: Duration = Duration::from_secs(3);

/// Packets a second that the policy of the benchmark calls normal, for each vector used.
const THRESHOLD: u64 = 1_000;

/// How many times the threshold the floods are.
const EXCESSES: [u64; 3] = [2, 10, 30];

const PORT: u16 = 1790;

const POLICY: &str = r#"
[speaker]
as = 65010
router-id = "192.0.2.10"

[owned]
prefixes = ["198.18.0.0/15"]

[groups.default.thresholds]
tcp-syn = { packets = "1k" }
amplification = { packets = "1k", bits = "1G" }

[detection]
exit-hold = "1s"

[[responses]]
name = "filter"
action = "flowspec"
filter = "discard"
lifetime = { at-least = "1s", at-most = "1m" }

[[peers]]
name = "bench"
address = "127.0.0.1"
port = 1790
as = 65001
max-routes = 5000
"#;

/// Makes the virtual link and measures.
pub(super) fn measure(runs: u16, directory: &Path) -> Result<(), BenchError> {
    super::run_ip(["link", "add", "send0", "type", "veth", "peer", "name", "watch0"])?;
    for interface in ["send0", "watch0"] {
        super::run_ip(["link", "set", interface, "up"])?;
    }
    let peer = Peer::listen((Ipv4Addr::LOCALHOST, PORT).into())?;
    let mut daemon = start_daemon(directory)?;
    let result = peer.wait_until_established().and_then(|()| measure_all(runs, &peer.updates));
    // It is ended by force: a planned stop is not what is measured here.
    let _ = daemon.kill();
    let _ = daemon.wait();
    result
}

fn start_daemon(directory: &Path) -> Result<Child, BenchError> {
    write_policy(directory, POLICY)?;
    let config = directory.join("tidegate.toml");
    fs::write(&config, "policy = \"policy\"\n[capture]\ninterface = \"watch0\"\n")
        .map_err(system("write the configuration"))?;
    let program = daemon_program()?;
    Command::new(program)
        .arg("run")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(system("start tidegate"))
}

/// The daemon beside this program, so that both are of the same build.
fn daemon_program() -> Result<PathBuf, BenchError> {
    let own = std::env::current_exe().map_err(system("find this program"))?;
    Ok(own.with_file_name("tidegate"))
}

/// The destinations that an UPDATE announces something for.
fn destinations(message: &[u8]) -> Vec<Prefix> {
    decode_update(message)
        .map(|update| update.announced.iter().filter_map(Nlri::destination).collect())
        .unwrap_or_default()
}

fn measure_all(runs: u16, updates: &Receiver<Arrival>) -> Result<(), BenchError> {
    let transmitter = Transmitter::open("send0")?;
    println!("Live, first attack packet to UPDATE at the peer, {runs} floods each");
    println!("  {:<20} {:>10} {:>10} {:>10} {:>10}", "", "rate", "min", "median", "p99");
    // Another host each time, so that no flood falls into the quiet time of the one before.
    let mut hosts = (0..=u8::MAX).flat_map(|high| (1..=254).map(move |low| [198, 18, high, low]));
    for vector in [AttackVector::SynFlood, AttackVector::Amplification(Reflector::Ntp)] {
        for excess in EXCESSES {
            let mut times = Vec::new();
            for host in hosts.by_ref().take(runs.into()) {
                let target = Prefix::host(Ipv4Addr::from(host).into());
                times.push(measure_one(vector, excess, target, &transmitter, updates)?);
            }
            times.sort_unstable();
            println!(
                "  {vector:<20} {excess:>8}x  {:>10} {:>10} {:>10}",
                milliseconds(percentile(&times, 0)),
                milliseconds(percentile(&times, 50)),
                milliseconds(percentile(&times, 99)),
            );
        }
    }
    Ok(())
}

/// Floods one host until an announcement for it arrives.
fn measure_one(
    vector: AttackVector,
    excess: u64,
    target: Prefix,
    transmitter: &Transmitter,
    updates: &Receiver<Arrival>,
) -> Result<Duration, BenchError> {
    let stream =
        Stream::attack(vector, target).rate(THRESHOLD * excess).during(Duration::ZERO, DEADLINE);
    let scenario = Scenario::new(excess).with(stream);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut packets = scenario.packets();
            let begin = Instant::now();
            transmitter.send(&mut packets, &stop).map(|_| begin)
        });
        let arrival = wait_for(target, updates);
        stop.store(true, Ordering::Relaxed);
        let begin = sending
            .join()
            .map_err(|_| BenchError::Unexpected("the sender panicked".to_owned()))??;
        Ok(arrival?.duration_since(begin))
    })
}

/// When the first announcement for `target` arrived. Those for other hosts are late.
fn wait_for(target: Prefix, updates: &Receiver<Arrival>) -> Result<Instant, BenchError> {
    let begin = Instant::now();
    loop {
        let left = DEADLINE.saturating_sub(begin.elapsed());
        match updates.recv_timeout(left) {
            Ok((arrival, message)) if destinations(&message).contains(&target) => {
                return Ok(arrival);
            }
            Ok(_) => {}
            Err(_) => {
                let message = format!("no announcement for {target} within {DEADLINE:?}");
                return Err(BenchError::Unexpected(message));
            }
        }
    }
}
