//! Live capture on virtual links in network namespaces of the tests' own.

use std::net::Ipv4Addr;
use std::num::NonZeroU8;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Instant;

use pcap::Capture;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;
use crate::packet::Tunnels;
use crate::{Config, Group};

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
        interfaces: vec!["tg0".to_owned()],
        filter: Some("udp and host 203.0.113.10".to_owned()),
        buffer: 8 << 20,
        ..LiveOptions::default()
    }
}

/// Protects 203.0.113.0/24.
fn intake() -> Intake {
    let group = Group {
        name: "all".to_owned(),
        prefixes: vec!["203.0.113.0/24".parse().unwrap()],
        thresholds: tidegate_model::Thresholds::default(),
        aggregate: None,
    };
    let config = Config { groups: vec![group], ..Config::default() };
    Intake { config, seed: 1, tunnels: Tunnels::NONE, recording: None, counting: None }
}

/// Waits for what was seen.
type Wait<'a> = &'a dyn Fn(&str, &dyn Fn(&Seen) -> bool);

/// Captures with `options` while `work` runs, which is given a way to wait for what was seen.
fn capturing(options: &LiveOptions, work: impl FnOnce(Wait<'_>)) -> Seen {
    capturing_into(&intake(), options, work)
}

fn capturing_into(intake: &Intake, options: &LiveOptions, work: impl FnOnce(Wait<'_>)) -> Seen {
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
            capture.run(intake, clock, stop, |summary| seen.lock().unwrap().note(&summary));
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
        capture.run(&intake(), clock, &stop, |summary| {
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
        let (segments, queue) = sync_channel(1000);
        let budget = crate::forensics::Budget { rate: 1 << 20, burst: 1 << 20 };
        let recording = Some(Recording { budget, segments });
        let seen = capturing_into(&Intake { recording, ..intake() }, &options(), |wait| {
            wait("it sees", &|seen| seen.sighted_run > 3);
            send("tg1", 3);
            wait("packets are seen", &|seen| seen.packets == 3);
            let now = seen_now(wait);
            wait("they are handed over", &|seen| seen.ticks.len() > now + 20);
        });
        assert_eq!(seen.blind, 0);
        let copies: Vec<_> = queue.try_iter().collect();
        let records: Vec<_> = copies.iter().flat_map(|segment| segment.records()).collect();
        assert_eq!(records.len(), 3);
        let mut before = 0;
        for record in records {
            assert_eq!((record.data, record.wire_length), (&frame(1000)[..192], 1000));
            assert_eq!((record.interface, record.link), (0, crate::LinkType::Ethernet));
            // Nanoseconds since 1970, in this decade or a later one.
            assert!(record.time > 1_600_000_000_000_000_000, "{}", record.time);
            assert!(record.time > before);
            before = record.time;
        }
    });
}

/// How many ticks have been reported so far.
fn seen_now(wait: Wait<'_>) -> usize {
    let ticks = AtomicU64::new(0);
    wait("the count is read", &|seen| {
        ticks.store(seen.ticks.len() as u64, Ordering::Relaxed);
        true
    });
    usize::try_from(ticks.into_inner()).unwrap()
}

#[test]
fn a_full_ring_is_told_as_loss() {
    in_namespace("a_full_ring_is_told_as_loss", || {
        let options = LiveOptions { buffer: 1 << 20, ..options() };
        let capture = LiveCapture::open(&options).unwrap();
        send("tg1", 20_000);
        let counters = capture.counters();
        let (begin, stop) = (Instant::now(), AtomicBool::new(false));
        let mut lost = 0;
        let mut packets = 0;
        let clock = || Timestamp::ZERO + begin.elapsed();
        capture.run(&intake(), clock, &stop, |summary| {
            lost += summary.lost;
            packets += summary.packets;
            let over = summary.end >= Timestamp::ZERO + TICK * 10 || begin.elapsed() > DEADLINE;
            stop.store(over, Ordering::Relaxed);
        });
        assert!(lost > 1000, "{lost}");
        let [counters] = counters.as_slice() else { panic!("one interface") };
        assert_eq!((counters.kernel_dropped(), counters.interface_dropped()), (lost, 0));
        assert_eq!(counters.received(), 20_000);
        assert_eq!(packets, 0, "what was there before belongs to no tick");
    });
}

#[test]
fn several_workers_share_the_traffic() {
    in_namespace("several_workers_share_the_traffic", || {
        let options =
            LiveOptions { workers: NonZeroU8::new(3).unwrap(), filter: None, ..options() };
        let capture = LiveCapture::open(&options).unwrap();
        // Each pair of addresses both ways, plain, in fragments, and in a VLAN inside another.
        let mut sender = Capture::from_device("tg1").unwrap().open().unwrap();
        let pairs = 200_u16;
        let mut sent = 0_u64;
        for pair in 0..pairs {
            for tags in [&[][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]] {
                for (from, to) in [(pair, 60_000), (60_000, pair)] {
                    for fragment in [0, 0x2000, 0x00b9] {
                        sender.sendpacket(conversation(tags, from, to, fragment)).unwrap();
                        sent += 1;
                    }
                }
            }
        }
        let counted = parts_of_each_worker(&capture, sent);
        assert_eq!(counted.iter().map(|part| part.packets).sum::<u64>(), sent);
        for part in &counted {
            assert!(part.packets > sent / 6, "{counted:?}");
            // Whoever got one packet of a pair got them all.
            assert!(part.pairs.values().all(|packets| *packets == 12), "{counted:?}");
        }
    });
}

/// An Ethernet frame with a UDP packet between two hosts of 10.0.0.0/16.
fn conversation(tags: &[u8], from: u16, to: u16, fragment: u16) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(tags);
    frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, 17, 0, 0]);
    for host in [from, to] {
        let [high, low] = host.to_be_bytes();
        frame.extend([10, 0, high, low]);
    }
    frame.extend(from.to_be_bytes());
    frame.extend([0, 53, 0, 8, 0, 0]);
    frame
}

#[derive(Debug, Default)]
struct Part {
    packets: u64,
    pairs: std::collections::BTreeMap<u16, u64>,
}

/// Reads each worker's ring by itself until `sent` packets were found.
fn parts_of_each_worker(capture: &LiveCapture, sent: u64) -> Vec<Part> {
    let deadline = Instant::now() + DEADLINE;
    let (segments, queue) = sync_channel(1000);
    let budget = crate::forensics::Budget { rate: 1 << 30, burst: 1 << 30 };
    let intake = Intake { recording: Some(Recording { budget, segments }), ..intake() };
    let mut attachments = capture.ports[0].opened.lock().unwrap();
    let mut parts: Vec<Part> = attachments.iter().map(|_| Part::default()).collect();
    while parts.iter().map(|part| part.packets).sum::<u64>() < sent {
        assert!(Instant::now() < deadline, "{parts:?}");
        for (attachment, part) in attachments.iter_mut().flatten().zip(&mut parts) {
            let control = CaptureControl::default();
            let mut feed = Feed::new(&intake, 1, control, Timestamp::ZERO);
            attachment.unsettled = false;
            attachment.observe(0, &mut feed).unwrap();
            feed.finish_tick(Timestamp::ZERO + TICK * 10);
            for record in queue.try_iter().collect::<Vec<_>>().iter().flat_map(|it| it.records()) {
                // The system itself says something too, in IPv6.
                let [.., 10, 0, a, b, 10, 0, c, d, _, _, _, _, _, _, _, _] = *record.data else {
                    continue;
                };
                part.packets += 1;
                let hosts = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
                *part.pairs.entry(hosts[0].min(hosts[1])).or_default() += 1;
            }
        }
    }
    parts
}

#[test]
fn workers_are_joined_into_one_tick() {
    in_namespace("workers_are_joined_into_one_tick", || {
        let options = LiveOptions { workers: NonZeroU8::new(2).unwrap(), ..options() };
        let seen = capturing(&options, |wait| {
            wait("it sees", &|seen| seen.sighted_run > 3);
            send("tg1", 3000);
            wait("all packets are seen", &|seen| seen.packets + seen.lost >= 3000);
        });
        assert_eq!((seen.packets, seen.lost), (3000, 0));
        assert!(seen.blind <= 2, "until the group was complete: {}", seen.blind);
        for pair in seen.ticks.windows(2) {
            assert_eq!(pair[0].1, pair[1].0, "a tick begins where the one before it ended");
        }
    });
}

#[test]
fn one_of_several_links_that_goes_is_blindness() {
    in_namespace("one_of_several_links_that_goes_is_blindness", || {
        make_second_pair();
        let interfaces = vec!["tg0".to_owned(), "tg2".to_owned(), "tg0".to_owned()];
        let options = LiveOptions { interfaces, workers: NonZeroU8::new(2).unwrap(), ..options() };
        assert_eq!(LiveCapture::open(&options).unwrap().interfaces(), ["tg0", "tg2"]);
        let seen = capturing(&options, |wait| {
            wait("it sees", &|seen| seen.sighted_run > 3);
            send("tg1", 10);
            send("tg3", 10);
            wait("packets of both are seen", &|seen| seen.packets == 20);
            ip("link delete tg2");
            let before = seen_blind(wait);
            wait("it is blind", &|seen| seen.blind > before + 3);
            send("tg1", 10);
            wait("packets of the other are seen", &|seen| seen.packets == 30);
            make_second_pair();
            wait("it sees again", &|seen| seen.sighted_run > 3);
            send("tg3", 10);
            wait("packets of both are seen again", &|seen| seen.packets == 40);
        });
        assert_eq!((seen.packets, seen.lost), (40, 0));
    });
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::yield_now();
    }
}

#[test]
fn a_link_that_stays_down_is_given_up_if_there_is_another() {
    in_namespace("a_link_that_stays_down_is_given_up_if_there_is_another", || {
        make_second_pair();
        let interfaces = vec!["tg0".to_owned(), "tg2".to_owned()];
        let capture = LiveCapture::open(&LiveOptions { interfaces, ..options() }).unwrap();
        let mut keeper = Keeper::new(&capture.probe, &capture.options, &capture.ports);
        let feed = Feed::new(&intake(), 1, CaptureControl::default(), Timestamp::ZERO);
        let mut worker = Worker::new((0, 1), &capture.ports, None, feed);
        let mut view = |now: Timestamp| {
            keeper.look_after(&capture.ports, now);
            let view = worker.view(now);
            (view.clear, view.dark_since)
        };
        let [begin, later] = [1, 100].map(|seconds| Timestamp::ZERO + TICK * 100 * seconds);
        until("both are up", || view(begin) == (true, None));
        // The other end down: no carrier.
        ip("link set tg3 down");
        until("one is down", || view(begin) == (false, None));
        assert_eq!(view(begin + (GIVEN_UP_AFTER - TICK)), (false, None));
        assert_eq!(view(begin + GIVEN_UP_AFTER), (true, Some(begin)));
        // With the last one nothing is seen at all, however long.
        ip("link set tg1 down");
        until("both are down", || view(later) == (false, Some(begin)));
        assert_eq!(view(later + GIVEN_UP_AFTER * 9), (false, Some(later)));
        ip("link set tg3 up");
        until("the first is back", || view(later + GIVEN_UP_AFTER * 9) == (true, Some(later)));
        ip("link set tg1 up");
        until("both are back", || view(later + GIVEN_UP_AFTER * 9) == (true, None));
    });
}

fn make_second_pair() {
    ip("link add name tg2 type veth peer name tg3");
    ip("link set tg2 up");
    ip("link set tg3 up");
}

/// How many blind ticks have been reported so far.
fn seen_blind(wait: Wait<'_>) -> u64 {
    let blind = AtomicU64::new(0);
    wait("the count is read", &|seen| {
        blind.store(seen.blind, Ordering::Relaxed);
        true
    });
    blind.into_inner()
}

#[test]
fn a_link_that_is_renamed_is_looked_for_under_its_name() {
    in_namespace("a_link_that_is_renamed_is_looked_for_under_its_name", || {
        let seen = capturing(&options(), |wait| {
            wait("it sees", &|seen| seen.sighted_run > 3);
            ip("link set tg0 down");
            ip("link set tg0 name other0");
            ip("link set other0 up");
            let before = seen_blind(wait);
            wait("it is blind", &|seen| seen.blind > before + 3);
            ip("link set other0 down");
            ip("link set other0 name tg0");
            ip("link set tg0 up");
            wait("it sees again", &|seen| seen.sighted_run > 3);
            send("tg1", 10);
            wait("packets come again", &|seen| seen.packets == 10);
        });
        assert_eq!(seen.packets, 10);
    });
}

#[test]
fn what_is_protected_changes_while_it_runs() {
    in_namespace("what_is_protected_changes_while_it_runs", || {
        let capture = LiveCapture::open(&options()).unwrap();
        let control = capture.control();
        let (begin, stop) = (Instant::now(), AtomicBool::new(false));
        let mut counted = [0, 0];
        let clock = || Timestamp::ZERO + begin.elapsed();
        capture.run(&intake(), clock, &stop, |summary| {
            let [targets, unprotected] = &mut counted;
            *targets += summary.targets.len() as u64;
            if *targets > 0 && *unprotected == 0 {
                control.protect(Config { groups: Vec::new(), ..intake().config });
            }
            *unprotected += summary.unprotected;
            send("tg1", 1);
            let over = *unprotected > 0 || begin.elapsed() > DEADLINE;
            stop.store(over, Ordering::Relaxed);
        });
        assert!(counted[0] > 0 && counted[1] > 0, "{counted:?}");
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

/// Between a worker's look at what is good and its taking of what was opened, the first worker may
/// open the interface again.
#[test]
fn what_is_taken_while_a_link_is_opened_again_is_kept() {
    in_namespace("what_is_taken_while_a_link_is_opened_again_is_kept", || {
        let capture = LiveCapture::open(&options()).unwrap();
        let [port] = capture.ports.as_slice() else { panic!("one interface") };
        let mut keeper = Keeper::new(&capture.probe, &capture.options, &capture.ports);
        let good = || port.generation.load(Ordering::Relaxed);
        let mut slot = None;
        let first = good();
        assert!(port.renew(0, &mut slot, first));
        ip("link delete tg0");
        keeper.look_after(&capture.ports, Timestamp::ZERO);
        assert!(!port.renew(0, &mut slot, good()) && slot.is_none());

        make_pair();
        let before = good();
        let now = Timestamp::ZERO + REATTACH_INTERVAL;
        // A new link takes a moment until it can carry packets.
        until("it is opened again", || {
            keeper.look_after(&capture.ports, now);
            good() != 0
        });
        assert!(!port.renew(0, &mut slot, before));
        assert!(port.renew(0, &mut slot, good()), "what was taken is lost");

        // Another worker's trouble with what has been replaced is none.
        port.give_up(first);
        assert!(port.renew(0, &mut slot, good()));
        port.give_up(good());
        assert!(!port.renew(0, &mut slot, good()));
        keeper.look_after(&capture.ports, Timestamp::ZERO + REATTACH_INTERVAL * 2);
        assert!(port.renew(0, &mut slot, good()));
    });
}

#[test]
fn the_default_route_names_the_interface() {
    in_namespace("the_default_route_names_the_interface", || {
        let open = || LiveCapture::open(&LiveOptions { interfaces: vec![], ..options() });
        // No route yet: the first that is up. Loopback does not count.
        assert_eq!(open().unwrap().interfaces(), ["tg0"]);
        ip("address add 192.0.2.1/24 dev tg1");
        ip("route add default via 192.0.2.254");
        assert_eq!(open().unwrap().interfaces(), ["tg1"]);
        let (interfaces, usual) = survey();
        let names: Vec<&str> = interfaces.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["lo", "tg0", "tg1"]);
        let usual = &interfaces[usual.unwrap()];
        assert_eq!(usual.name, "tg1");
        assert!(usual.addresses.contains(&"192.0.2.1".parse().unwrap()), "{usual:?}");
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
        let absent = LiveOptions { interfaces: vec!["eth9".to_owned()], ..options() };
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
        let message = error(LiveOptions { interfaces: vec!["lo".to_owned()], ..options() });
        assert!(message.contains("no permission to capture on `lo`: run as root"), "{message}");
        assert!(message.contains("setcap cap_net_raw+ep"), "{message}");
    });
}

#[test]
fn any_captures_everywhere() {
    in_namespace("any_captures_everywhere", || {
        let options = LiveOptions { interfaces: vec!["any".to_owned()], ..options() };
        let seen = capturing(&options, |wait| {
            wait("it sees", &|seen| seen.sighted_run > 3);
            send("tg1", 10);
            // Once leaving tg1, once arriving at tg0.
            wait("packets are seen", &|seen| seen.packets == 20);
        });
        assert_eq!(seen.blind, 0);
    });
}

#[test]
fn sources_are_handed_over_by_each_worker() {
    in_namespace("sources_are_handed_over_by_each_worker", || {
        let options = LiveOptions { workers: NonZeroU8::new(2).unwrap(), ..options() };
        let (parts, queue) = sync_channel(64);
        let on_the_way = Arc::<std::sync::atomic::AtomicUsize>::default();
        let counting = Counting { octets: 1 << 20, parts, on_the_way: Arc::clone(&on_the_way) };
        let capture = LiveCapture::open(&options).unwrap();
        let (control, attack) = (capture.control(), tidegate_model::AttackId(7));
        control.count_sources(&[(attack, "203.0.113.10".parse().unwrap())]);
        let (begin, stop) = (Instant::now(), AtomicBool::new(false));
        let clock = || Timestamp::ZERO + begin.elapsed();
        let (mut packets, mut over) = (0, 0);
        let intake = Intake { counting: Some(counting), ..intake() };
        capture.run(&intake, clock, &stop, |_| {
            send("tg1", 1);
            for part in queue.try_iter() {
                assert_eq!((part.attack, part.census.distinct().sources() <= 1), (attack, true));
                on_the_way.fetch_sub(part.census.cost(), Ordering::Relaxed);
                packets += part.census.counted().0;
                over += u64::from(part.last);
            }
            if packets >= 10 {
                control.count_sources(&[]);
            }
            stop.store(over == 2 || begin.elapsed() > DEADLINE, Ordering::Relaxed);
        });
        assert_eq!((over, on_the_way.load(Ordering::Relaxed)), (2, 0));
    });
}
