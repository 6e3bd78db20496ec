//! Live capture on virtual links in network namespaces of the tests' own.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;
use crate::Config;

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `test` on a thread of its own in a new network namespace with the pair `tg0`, `tg1`.
///
/// Without the right to make one, it says so on one line and returns.
fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped {name}: making a network namespace needs root");
        return;
    }
    let run = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // SAFETY: only the network namespace of this thread changes; memory and files stay shared.
        #[allow(unsafe_code)]
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        ip("link set lo up");
        make_pair();
        test();
    });
    if let Err(panic) = run.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "ip {arguments}: {message}");
}

fn make_pair() {
    ip("link add name tg0 type veth peer name tg1");
    ip("link set tg0 up");
    ip("link set tg1 up");
}

/// A frame that only its sender could have made: UDP from and to documentation addresses.
fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0]);
    frame.extend(u16::try_from(length - 14).unwrap().to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(Ipv4Addr::new(198, 51, 100, 1).octets());
    frame.extend(Ipv4Addr::new(203, 0, 113, 10).octets());
    frame.resize(length, 0);
    frame
}

fn send(interface: &str, count: usize) {
    let mut sender = Capture::from_device(interface).unwrap().open().unwrap();
    for _ in 0..count {
        sender.sendpacket(frame(1000)).unwrap();
    }
}

/// What a running capture has reported.
#[derive(Default)]
struct Seen {
    ticks: Vec<(Timestamp, Timestamp)>,
    packets: u64,
    lost: u64,
    blind: u64,
    /// Ticks since the last blind one.
    sighted_run: u64,
}

impl Seen {
    fn note(&mut self, summary: &TrafficSummary) {
        self.ticks.push((summary.start, summary.end));
        self.packets += summary.packets;
        self.lost += summary.lost;
        self.blind += u64::from(summary.blind);
        self.sighted_run = if summary.blind { 0 } else { self.sighted_run + 1 };
    }
}

fn options() -> LiveOptions {
    LiveOptions {
        interface: Some("tg0".to_owned()),
        filter: Some("udp and host 203.0.113.10".to_owned()),
        buffer: 8 << 20,
        ..LiveOptions::default()
    }
}

fn meter() -> Meter {
    let config = Config { groups: Vec::new(), judging: crate::Judging::default() };
    Meter::new(&config, 1)
}

/// Captures with `options` while `work` runs, which is given a way to wait for what was seen.
fn capturing(
    options: &LiveOptions,
    work: impl FnOnce(&dyn Fn(&str, &dyn Fn(&Seen) -> bool)),
) -> Seen {
    let capture = LiveCapture::open(options).unwrap();
    let seen = Mutex::new(Seen::default());
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let clock = || Timestamp::ZERO + begin.elapsed();
    let wait = |what: &str, condition: &dyn Fn(&Seen) -> bool| {
        let deadline = Instant::now() + DEADLINE;
        while !condition(&seen.lock().unwrap()) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        // Stops the capture on every way out: a failed expectation must not leave it running.
        struct StopAtEnd<'a>(&'a AtomicBool);
        impl Drop for StopAtEnd<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = StopAtEnd(&stop);
        let (seen, stop) = (&seen, &stop);
        scope.spawn(move || {
            capture.run(meter(), clock, stop, |summary| seen.lock().unwrap().note(&summary));
        });
        work(&wait);
    });
    seen.into_inner().unwrap()
}

#[test]
fn packets_are_counted_and_ticks_are_steady() {
    in_namespace("packets_are_counted_and_ticks_are_steady", || {
        let seen = capturing(&options(), |wait| {
            wait("some ticks are over", &|seen| seen.ticks.len() > 5);
            send("tg1", 3000);
            wait("all packets are seen", &|seen| seen.packets + seen.lost >= 3000);
        });
        assert_eq!((seen.packets, seen.lost, seen.blind), (3000, 0, 0));
        for pair in seen.ticks.windows(2) {
            assert_eq!(pair[0].1, pair[1].0, "a tick begins where the one before it ended");
            let length = pair[1].1.since(pair[1].0);
            assert!(length >= TICK && length.as_nanos().is_multiple_of(TICK.as_nanos()));
        }
    });
}

/// What comes while the reader does not run is counted in the time in which it did not: in the next
/// tick it would be a flood.
#[test]
fn what_a_stalled_reader_finds_belongs_to_the_stall() {
    in_namespace("what_a_stalled_reader_finds_belongs_to_the_stall", || {
        let stall = Duration::from_millis(300);
        let capture = LiveCapture::open(&options()).unwrap();
        let (begin, stop) = (Instant::now(), AtomicBool::new(false));
        let reads = AtomicU64::new(0);
        let clock = || {
            // In the middle of a tick.
            if reads.fetch_add(1, Ordering::Relaxed) == 9 {
                send("tg1", 2000);
                while begin.elapsed() < stall {
                    thread::yield_now();
                }
            }
            Timestamp::ZERO + begin.elapsed()
        };
        let mut seen = 0;
        capture.run(meter(), clock, &stop, |summary| {
            seen += summary.packets + summary.lost;
            assert!(
                summary.packets < 100 || summary.span() >= TICK * 5,
                "{} packets in {:?}",
                summary.packets,
                summary.span(),
            );
            stop.store(seen >= 2000 || begin.elapsed() > DEADLINE, Ordering::Relaxed);
        });
        assert_eq!(seen, 2000);
    });
}

#[test]
fn only_the_start_of_a_frame_is_captured() {
    in_namespace("only_the_start_of_a_frame_is_captured", || {
        let probe = LinkProbe::new().unwrap();
        let mut attachment = attach("tg0", &options(), &probe).unwrap();
        send("tg1", 1);
        let deadline = Instant::now() + DEADLINE;
        let mut lengths = Vec::new();
        while lengths.is_empty() {
            assert!(Instant::now() < deadline);
            attachment.wait(TICK);
            let take =
                |packet: pcap::Packet<'_>| lengths.push((packet.data.len(), packet.header.len));
            attachment.capture.dispatch(Some(BATCH), take).unwrap();
        }
        assert_eq!(lengths, [(192, 1000)]);
    });
}

#[test]
fn a_full_ring_is_told_as_loss() {
    in_namespace("a_full_ring_is_told_as_loss", || {
        let options = LiveOptions { buffer: 1 << 20, ..options() };
        let mut capture = LiveCapture::open(&options).unwrap();
        send("tg1", 20_000);
        let lost = capture.count_lost();
        assert!(lost > 1000, "{lost}");
        let counters = capture.counters();
        assert_eq!((counters.kernel_dropped(), counters.interface_dropped()), (lost, 0));
        assert!(counters.received() >= 20_000);
        assert_eq!(capture.count_lost(), 0, "loss is told once");
    });
}

#[test]
fn a_link_that_goes_down_is_blindness() {
    in_namespace("a_link_that_goes_down_is_blindness", || {
        let seen = capturing(&options(), |wait| {
            wait("it sees", &|seen| seen.sighted_run > 3);
            ip("link set tg0 down");
            wait("it is blind", &|seen| seen.blind > 3);
            ip("link set tg0 up");
            wait("it sees again", &|seen| seen.sighted_run > 3);
            send("tg1", 10);
            wait("packets come again", &|seen| seen.packets == 10);
            // The other end down: no carrier.
            let blind = Mutex::new(0);
            wait("the count is read", &|seen| {
                *blind.lock().unwrap() = seen.blind;
                true
            });
            ip("link set tg1 down");
            wait("it is blind again", &|seen| seen.blind > *blind.lock().unwrap() + 3);
        });
        assert_eq!(seen.packets, 10);
    });
}

#[test]
fn a_link_that_is_replaced_is_opened_again() {
    in_namespace("a_link_that_is_replaced_is_opened_again", || {
        let seen = capturing(&options(), |wait| {
            wait("it sees", &|seen| seen.sighted_run > 3);
            ip("link delete tg0");
            wait("it is blind", &|seen| seen.blind > 3);
            make_pair();
            wait("it sees again", &|seen| seen.sighted_run > 3);
            send("tg1", 10);
            wait("packets come again", &|seen| seen.packets == 10);
        });
        assert!(seen.blind > 3);
    });
}

#[test]
fn the_default_route_names_the_interface() {
    in_namespace("the_default_route_names_the_interface", || {
        let open = || LiveCapture::open(&LiveOptions { interface: None, ..options() });
        // No route yet: the first that is up. Loopback does not count.
        assert_eq!(open().unwrap().interface(), "tg0");
        ip("address add 192.0.2.1/24 dev tg1");
        ip("route add default via 192.0.2.254");
        assert_eq!(open().unwrap().interface(), "tg1");
        ip("link delete tg0");
        let error = open().unwrap_err();
        assert!(matches!(error, CaptureError::NoDefaultInterface { .. }));
        assert!(error.to_string().contains("there are: lo"), "{error}");
    });
}

#[test]
fn mistakes_are_explained() {
    in_namespace("mistakes_are_explained", || {
        let error = |options: LiveOptions| LiveCapture::open(&options).unwrap_err().to_string();
        let absent = LiveOptions { interface: Some("eth9".to_owned()), ..options() };
        assert_eq!(error(absent), "there is no interface `eth9`; there are: lo, tg0, tg1");
        let filter = LiveOptions { filter: Some("prot udp".to_owned()), ..options() };
        let message = error(filter);
        assert!(message.contains("`prot udp` is not a capture filter"), "{message}");
        for (snap_length, buffer, part) in
            [(8, 8 << 20, "a snapshot length of 8"), (192, 4096, "a buffer of 4096")]
        {
            let message = error(LiveOptions { snap_length, buffer, ..options() });
            assert!(message.contains(part) && message.contains("between"), "{message}");
        }
        ip("link set tg0 down");
        let message = error(options());
        assert!(message.contains("it is down; `ip link set tg0 up`"), "{message}");
        // Without the capability, in this thread alone.
        let none = rustix::thread::CapabilitySet::empty();
        let sets =
            rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).unwrap();
        let message = error(LiveOptions { interface: Some("lo".to_owned()), ..options() });
        assert!(message.contains("no permission to capture on `lo`: run as root"), "{message}");
        assert!(message.contains("setcap cap_net_raw+ep"), "{message}");
    });
}

#[test]
fn any_captures_everywhere() {
    in_namespace("any_captures_everywhere", || {
        let options = LiveOptions { interface: Some("any".to_owned()), ..options() };
        let seen = capturing(&options, |wait| {
            wait("it sees", &|seen| seen.sighted_run > 3);
            send("tg1", 10);
            // Once leaving tg1, once arriving at tg0.
            wait("packets are seen", &|seen| seen.packets == 20);
        });
        assert_eq!(seen.blind, 0);
    });
}
