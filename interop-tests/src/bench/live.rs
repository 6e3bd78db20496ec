//! Packets a second that are captured on a virtual link without loss, and what they cost.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate::clock::Clock;
use tidegate::engine::{Engine, EngineInput};
use tidegate::pipeline;
use tidegate_detector::capture::live::{Counters, Intake, LiveCapture, LiveOptions};
use tidegate_detector::packet::Tunnels;
use tidegate_model::{AttackVector, Prefix};

use super::{BenchError, write_policy};
use crate::traffic::transmit::Transmitter;
use crate::traffic::{Scenario, Stream};

/// How long each rate is sent.
const LENGTH: Duration = Duration::from_secs(5);

/// A rate that no generator reaches: it sends as fast as it can.
const BEST: u64 = 20_000_000;

/// Packets a second of an ordinary small network.
const ORDINARY: u64 = 10_000;

const POLICY: &str = r#"
[speaker]
as = 65010
router-id = "192.0.2.10"

[owned]
prefixes = ["198.18.0.0/15"]
"#;

/// What was captured while something was sent.
struct Figures {
    sent: u64,
    elapsed: Duration,
    counted: u64,
    dropped: u64,
    /// Processor time of the thread that captures, meters and judges.
    busy: Duration,
}

/// Measures inside the namespace, prints, and returns the figures as a table.
pub(super) fn measure(directory: &Path) -> Result<String, BenchError> {
    super::run_ip(["link", "add", "load0", "type", "veth", "peer", "name", "seen0"])?;
    for interface in ["load0", "seen0"] {
        super::run_ip(["link", "set", interface, "up"])?;
    }
    let policy = write_policy(&directory.join("live"), POLICY)?;
    let policy = Arc::new(tidegate_policy::load(&policy)?);
    let target = Prefix::host([198, 18, 0, 10].into());
    let mut table =
        "| sent | packets per second | counted | dropped by the kernel | processor time \
                     a packet | share of a core |\n|---|---|---|---|---|---|\n"
            .to_owned();
    println!("\nLive capture on a virtual link, {} s each", LENGTH.as_secs());
    for (name, stream, rate) in [
        (
            "SYN flood, as fast as it can be sent",
            Stream::attack(AttackVector::SynFlood, target),
            BEST,
        ),
        ("everyday traffic", Stream::benign(target), ORDINARY),
        ("nothing", Stream::benign(target), 0),
    ] {
        let scenario = Scenario::new(9);
        let scenario = match rate {
            0 => scenario,
            rate => scenario.with(stream.rate(rate).during(Duration::ZERO, LENGTH)),
        };
        let figures = measure_one(&policy, &scenario)?;
        let Figures { sent, elapsed, counted, dropped, busy } = figures;
        let rate = sent as f64 / elapsed.as_secs_f64();
        let cost = busy.as_nanos() as f64 / counted.max(1) as f64;
        let share = busy.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
        println!(
            "  {name:<38} {rate:>9.0}/s  {counted:>9} counted  {dropped:>6} dropped  {cost:>7.1} ns  \
             {share:>5.2} %"
        );
        let _ = writeln!(
            table,
            "| {name} | {rate:.0} | {counted} of {sent} | {dropped} | {cost:.0} ns | {share:.2} % |"
        );
    }
    Ok(table)
}

fn measure_one(
    policy: &Arc<tidegate_policy::Policy>,
    scenario: &Scenario,
) -> Result<Figures, BenchError> {
    let options = LiveOptions { interfaces: vec!["seen0".to_owned()], ..LiveOptions::default() };
    let capture =
        LiveCapture::open(&options).map_err(|error| BenchError::Unexpected(error.to_string()))?;
    let counters = capture.counters();
    let config = pipeline::detector_config(policy);
    let intake =
        Intake { config, seed: 1, tunnels: Tunnels::NONE, recording: None, counting: None };
    let (clock, stop, abort) = (Clock::start(), AtomicBool::new(false), AtomicBool::new(false));
    let (mut counted, mut engine) = (0, Engine::new(policy, 1));
    let transmitter = Transmitter::open("load0")?;
    std::thread::scope(|scope| {
        let (stop, abort) = (&stop, &abort);
        let sending = scope.spawn(move || {
            let begin = Instant::now();
            let watchdog = scope.spawn(move || {
                std::thread::sleep(LENGTH);
                abort.store(true, Ordering::Relaxed);
            });
            let sent = transmitter.send(&mut scenario.packets(), abort);
            // A scenario without packets is over at once; it is watched as long.
            let _ = watchdog.join();
            let elapsed = begin.elapsed();
            // What is on its way is counted in the next ticks.
            std::thread::sleep(Duration::from_millis(100));
            stop.store(true, Ordering::Relaxed);
            sent.map(|sent| (sent.packets, elapsed))
        });
        let before = processor_time();
        capture.run(
            &intake,
            || clock.now(),
            stop,
            |summary| {
                counted += summary.packets;
                std::hint::black_box(engine.handle(summary.end, EngineInput::Summary(&summary)));
            },
        );
        let busy = processor_time().saturating_sub(before);
        let sent = sending.join();
        let sent = sent.map_err(|_| BenchError::Unexpected("the sender panicked".to_owned()))?;
        let (sent, elapsed) = sent?;
        let dropped = counters.iter().map(|counters| Counters::kernel_dropped(counters)).sum();
        Ok(Figures { sent, elapsed, counted, dropped, busy })
    })
}

/// Time that this thread has run (`proc(5)`, `schedstat`).
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
