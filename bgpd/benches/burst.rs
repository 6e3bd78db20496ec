//! Ten thousand routes at once: from the call to the last of them at a receiver that only reads,
//! and the memory that they take.
//!
//! `cargo bench -p tidegate-bgpd --features io`

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark may stop at the first surprise"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_bgpd::Family;
use tidegate_bgpd::convert::decode_update;
use tidegate_bgpd::egress::GatePolicy;
use tidegate_bgpd::session::{ConnectMode, SessionOptions, SessionState};
use tidegate_bgpd::speaker::{
    BlackholeProfile, PeerConfig, Speaker, SpeakerConfig, SpeakerHandle, Transport,
};
use tidegate_model::{
    CommandId, Community, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, OwnedSpace, Prefix,
    Route, TrafficFilteringAction,
};

const ROUTES: u32 = 10_000;
const ROUNDS: usize = 15;
const PEER_AS: u16 = 65001;

/// Counts what is allocated and not freed.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
#[allow(unsafe_code, reason = "an allocator cannot be counted otherwise")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (19 + body.len() as u16).to_be_bytes();
    [&[0xff; 16][..], &length, &[kind], body].concat()
}

/// A peer that says OPEN and KEEPALIVE, and tells of each read when it was and what came.
fn receiver(listener: TcpListener) -> mpsc::Receiver<(Instant, Vec<u8>)> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let [high, low] = PEER_AS.to_be_bytes();
        let mut capabilities = vec![65, 4, 0, 0, high, low];
        for (afi, safi) in [(1, 1), (2, 1), (1, 133), (2, 133)] {
            capabilities.extend([1, 4, 0, afi, 0, safi]);
        }
        let length = capabilities.len() as u8;
        let mut open = vec![4, high, low, 0, 0, 192, 0, 2, 2, length + 2, 2, length];
        open.extend(capabilities);
        stream.write_all(&message(1, &open)).unwrap();
        stream.write_all(&message(4, &[])).unwrap();
        let mut buffer = vec![0; 1 << 20];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if tell.send((Instant::now(), buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    told
}

struct Peer {
    told: mpsc::Receiver<(Instant, Vec<u8>)>,
    rest: Vec<u8>,
}

impl Peer {
    /// When the last of `count` NLRI had come, announced or withdrawn, and in how many messages.
    fn complete(&mut self, count: u32) -> (Instant, usize) {
        let (mut seen, mut messages) = (0, 0);
        loop {
            let (at, octets) = self.told.recv_timeout(Duration::from_secs(60)).unwrap();
            self.rest.extend(octets);
            let mut from = 0;
            while let Some(length) = self.rest.get(from + 16..from + 18)
                && let length = usize::from(u16::from_be_bytes([length[0], length[1]]))
                && let Some(whole) = self.rest.get(from..from + length)
            {
                if whole[18] == 2 {
                    let update = decode_update(whole).unwrap();
                    seen += update.announced.len() + update.withdrawn.len();
                    messages += 1;
                }
                from += length;
            }
            self.rest.drain(..from);
            if seen >= count as usize {
                assert_eq!(seen, count as usize);
                return (at, messages);
            }
        }
    }
}

fn blackhole(index: u32) -> Route {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + index);
    Route {
        nlri: Nlri::Unicast(Prefix::host(address.into())),
        next_hop: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
        communities: BTreeSet::from([Community::BLACKHOLE, Community::NO_EXPORT]),
        large_communities: BTreeSet::new(),
        actions: Vec::new(),
    }
}

fn blackhole6(index: u32) -> Route {
    let base = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
    let address = Ipv6Addr::from(base + u128::from(index));
    Route {
        nlri: Nlri::Unicast(Prefix::host(address.into())),
        next_hop: Some(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into()),
        ..blackhole(index)
    }
}

fn rule(destination: Prefix) -> Route {
    let components = vec![
        FlowSpecComponent::DestinationPrefix(destination),
        FlowSpecComponent::IpProtocol(NumericMatch::equal(17)),
        FlowSpecComponent::SourcePort(NumericMatch::equal(123)),
    ];
    Route {
        nlri: Nlri::FlowSpec(FlowSpecRule::new(destination.family(), components).unwrap()),
        next_hop: None,
        communities: BTreeSet::from([Community::NO_EXPORT]),
        large_communities: BTreeSet::new(),
        actions: vec![TrafficFilteringAction::DISCARD],
    }
}

fn destination(route: &Route) -> Prefix {
    route.nlri.destination().unwrap()
}

fn start(port: u16) -> SpeakerHandle {
    let config = SpeakerConfig {
        asn: 65010,
        router_id: Ipv4Addr::new(192, 0, 2, 10),
        listen: Vec::new(),
        peers: vec![PeerConfig {
            name: "bench".to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            asn: u32::from(PEER_AS),
            port,
            local_address: None,
            mode: ConnectMode::Active,
            hold_time: Duration::ZERO,
            families: BTreeSet::from(Family::ALL),
            max_routes: 100_000,
            transport: Transport::default(),
            options: SessionOptions::default(),
            blackhole: BlackholeProfile::default(),
        }],
        dynamic: Vec::new(),
        gate: GatePolicy {
            space: OwnedSpace {
                owned: ["198.18.0.0/15", "2001:db8::/32"].map(|text| text.parse().unwrap()).into(),
                never_touch: Vec::new(),
            },
            session_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            ..GatePolicy::default()
        },
        seed: 1,
    };
    let (speaker, mut events) = Speaker::start(config).unwrap();
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    speaker
}

fn announce(speaker: &SpeakerHandle, routes: Vec<Route>) {
    for (id, route) in (0..).zip(routes) {
        speaker.announce("bench", CommandId(id), route).unwrap();
    }
}

fn withdraw(speaker: &SpeakerHandle, routes: &[Route]) {
    for (id, route) in (0..).zip(routes) {
        speaker.withdraw("bench", CommandId(id), &route.nlri).unwrap();
    }
}

fn row(name: &str, mut times: Vec<Duration>, messages: usize) {
    times.sort_unstable();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{name:<28} {:>8.2} {:>8.2} {:>8.2} {messages:>9}",
        milliseconds(times[0]),
        milliseconds(times[times.len() / 2]),
        milliseconds(times[times.len() - 1]),
    );
}

fn measure(speaker: &SpeakerHandle, peer: &mut Peer, name: &str, routes: &[Route]) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (mut messages, mut held) = ((0, 0), 0);
    for _ in 0..ROUNDS {
        let copy = routes.to_vec();
        let before = HELD.load(Ordering::Relaxed);
        let begin = Instant::now();
        announce(speaker, copy);
        let (end, count) = peer.complete(ROUTES);
        up.push(end - begin);
        messages.0 = count;
        // What the routes themselves take has been handed over, so it is counted already.
        thread::sleep(Duration::from_millis(50));
        held = HELD.load(Ordering::Relaxed).saturating_sub(before);

        let begin = Instant::now();
        withdraw(speaker, routes);
        let (end, count) = peer.complete(ROUTES);
        down.push(end - begin);
        messages.1 = count;
        thread::sleep(Duration::from_millis(20));
    }
    row(&format!("{name}, announce"), up, messages.0);
    row(&format!("{name}, withdraw"), down, messages.1);
    println!("{name}, memory beside the routes {:>12} KB", held / 1000);
}

fn size(routes: &[Route]) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    let copy = routes.to_vec();
    let size = HELD.load(Ordering::Relaxed) - before;
    drop(copy);
    size
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = receiver(listener);
    let speaker = runtime.block_on(async { start(port) });
    while speaker.peers()[0].session.state != SessionState::Established {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(100));
    let mut peer = Peer { told, rest: Vec::new() };
    while let Ok(first) = peer.told.recv_timeout(Duration::from_millis(200)) {
        drop(first);
    }

    println!(
        "{ROUTES} routes, ms              {:>8} {:>8} {:>8} {:>9}",
        "least", "median", "most", "UPDATEs"
    );
    let v4: Vec<Route> = (0..ROUTES).map(blackhole).collect();
    let v6: Vec<Route> = (0..ROUTES).map(blackhole6).collect();
    let flow4: Vec<Route> = v4.iter().map(|route| rule(destination(route))).collect();
    let flow6: Vec<Route> = v6.iter().map(|route| rule(destination(route))).collect();
    for (name, routes) in [
        ("RTBH, IPv4", v4),
        ("RTBH, IPv6", v6),
        ("FlowSpec, IPv4", flow4),
        ("FlowSpec, IPv6", flow6),
    ] {
        println!("{name}, the routes themselves {:>12} KB", size(&routes) / 1000);
        measure(&speaker, &mut peer, name, &routes);
    }
    let mut times = Vec::new();
    for index in 0..500 {
        let route = blackhole(20_000 + index);
        let begin = Instant::now();
        announce(&speaker, vec![route]);
        times.push(peer.complete(1).0 - begin);
    }
    times.sort_unstable();
    println!("one RTBH: median {:?}, p99 {:?}", times[250], times[495]);
}
