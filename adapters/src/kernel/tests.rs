//! The kernel backend against real kernels, in network namespaces of their own.
//!
//! Two namespaces joined by a veth pair: packets are made in one, filters are in the other. All of
//! these need root. Without it they say so on one line; where `CI` is set that is a failure.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_model::{
    AddressFamily, BackendId, BackendState, BitmaskMatch, Command, CommandId, CommandKind,
    FlowSpecComponent as Part, FlowSpecRule, Nlri, NumericMatch, Outcome, OutcomeKind, Route,
    TrafficFilteringAction as Action,
};
use tokio::sync::mpsc;

use super::KernelBackend;
use super::filter::Untranslatable;
use super::packets::{Packet, families, packets, rules};
use crate::backend::{Backend, BackendEvent, Dropped, Held};

const PATIENCE: Duration = Duration::from_secs(20);
const SENDER_V4: &str = "198.51.100.1";
const ROUTER_V4: &str = "198.51.100.2";
const SENDER_V6: &str = "2001:db8:ffff::1";
const ROUTER_V6: &str = "2001:db8:ffff::2";
/// Where traffic goes that the filters are about.
const TARGET_V4: &str = "203.0.113.10";
const TARGET_V6: &str = "2001:db8:1::a";

/// Whether the test can run here.
fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || env::var_os("CI").is_none(), "{test} needs root");
    if !root {
        println!("skipped {test}: it needs root for network namespaces");
    }
    root
}

fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Process::new(words.next().unwrap()).args(words).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace that goes with its value.
struct Namespace(String);

impl Namespace {
    fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tgk-{role}-{}-{number}", process::id());
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link set lo up"));
        Self(name)
    }

    fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.0));
    }

    fn inside(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.0))
    }

    /// Does something as a thread in the namespace.
    fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let file: OwnedFd = fs::File::open(format!("/var/run/netns/{}", self.0)).unwrap().into();
        std::thread::scope(|scope| {
            let entered = || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            };
            scope.spawn(entered).join().unwrap()
        })
    }

    /// The oracle: what nft(8) reads back.
    fn ruleset(&self) -> Vec<Value> {
        let text = self.inside("nft -j list ruleset");
        let mut value: Value = serde_json::from_str(&text).unwrap();
        let items = value["nftables"].as_array_mut().map(std::mem::take).unwrap();
        items.into_iter().filter(|item| item.get("metainfo").is_none()).collect()
    }

    /// The rules of filters.
    fn rules(&self) -> Vec<Value> {
        let ruleset = self.ruleset();
        let rules = ruleset.iter().filter_map(|item| item.get("rule").cloned());
        rules.filter(|rule| rule["chain"] == "filters").collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Process::new("ip").args(["netns", "del", &self.0]).status());
    }
}

/// A sender and a router with filters.
struct Lab {
    sender: Namespace,
    router: Namespace,
}

impl Lab {
    fn new() -> Self {
        let (sender, router) = (Namespace::new("s"), Namespace::new("r"));
        sender.ip(&format!("link add eth0 type veth peer name eth0 netns {}", router.0));
        for (here, v4, v6) in [(&sender, SENDER_V4, SENDER_V6), (&router, ROUTER_V4, ROUTER_V6)] {
            here.ip(&format!("addr add {v4}/24 dev eth0"));
            here.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
            here.ip("link set eth0 up");
        }
        router.ip(&format!("addr add {TARGET_V4}/32 dev lo"));
        router.ip(&format!("addr add {TARGET_V6}/128 dev lo nodad"));
        sender.ip(&format!("route add 203.0.113.0/24 via {ROUTER_V4}"));
        sender.ip(&format!("-6 route add 2001:db8:1::/48 via {ROUTER_V6}"));
        Self { sender, router }
    }

    fn traffic(&self) -> Traffic {
        let bind = |address: &str| UdpSocket::bind((address, 0)).unwrap();
        let (marks_in, target_v4, target_v6) =
            self.router.enter(|| (bind(ROUTER_V4), bind(TARGET_V4), bind(TARGET_V6)));
        let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(255))).unwrap();
        let (marks_out, sender_v4, sender_v6, raw_v4, raw_v6) = self.sender.enter(|| {
            (
                bind(SENDER_V4),
                bind(SENDER_V4),
                bind(SENDER_V6),
                raw(Domain::IPV4),
                raw(Domain::IPV6),
            )
        });
        for socket in [&marks_in, &target_v4, &target_v6] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let traffic = Traffic {
            marks_in,
            target_v4,
            target_v6,
            marks_out,
            sender_v4,
            sender_v6,
            raw_v4,
            raw_v6,
        };
        // The neighbours learn each other.
        traffic.wait_until_delivered();
        traffic.udp(AddressFamily::Ipv6, 1);
        traffic.target_v6.recv(&mut [0; 200]).unwrap();
        traffic
    }
}

struct Traffic {
    marks_in: UdpSocket,
    target_v4: UdpSocket,
    target_v6: UdpSocket,
    marks_out: UdpSocket,
    sender_v4: UdpSocket,
    sender_v6: UdpSocket,
    raw_v4: Socket,
    raw_v6: Socket,
}

impl Traffic {
    /// Waits until the router has seen everything sent before: what is sent last arrives last.
    fn wait_until_delivered(&self) {
        self.marks_out.send_to(b"mark", self.marks_in.local_addr().unwrap()).unwrap();
        self.marks_in.recv(&mut [0; 8]).unwrap();
    }

    fn sockets(&self, family: AddressFamily) -> (&UdpSocket, &UdpSocket) {
        match family {
            AddressFamily::Ipv4 => (&self.sender_v4, &self.target_v4),
            AddressFamily::Ipv6 => (&self.sender_v6, &self.target_v6),
        }
    }

    /// Sends `count` datagrams of 100 octets to the target.
    fn udp(&self, family: AddressFamily, count: u32) {
        let (sender, target) = self.sockets(family);
        for _ in 0..count {
            sender.send_to(&[7; 100], target.local_addr().unwrap()).unwrap();
        }
    }

    /// How many datagrams arrived at the target.
    fn received(&self, family: AddressFamily) -> u32 {
        self.wait_until_delivered();
        let target = self.sockets(family).1;
        target.set_nonblocking(true).unwrap();
        let count = std::iter::from_fn(|| target.recv(&mut [0; 200]).ok()).count();
        target.set_nonblocking(false).unwrap();
        u32::try_from(count).unwrap()
    }

    fn source_port(&self, family: AddressFamily) -> u16 {
        self.sockets(family).0.local_addr().unwrap().port()
    }

    fn raw(&self, packet: &Packet) {
        let address: SocketAddr = (packet.destination, 0).into();
        let socket = match packet.destination {
            IpAddr::V4(_) => &self.raw_v4,
            IpAddr::V6(_) => &self.raw_v6,
        };
        socket.send_to(&packet.octets(), &address.into()).unwrap();
    }
}

/// A backend in a namespace, and what it says.
struct Filters {
    backend: Option<KernelBackend>,
    events: mpsc::Receiver<BackendEvent>,
    last_command: u64,
}

impl Filters {
    fn start(namespace: &Namespace) -> Self {
        let (sender, events) = mpsc::channel(1_000);
        let history = Some(Duration::from_secs(3600));
        let backend = namespace.enter(|| KernelBackend::start(sender, history).unwrap());
        Self { backend: Some(backend), events, last_command: 0 }
    }

    fn up(namespace: &Namespace) -> Self {
        let mut filters = Self::start(namespace);
        let state = BackendState::Up;
        let up = BackendEvent::State { backend: BackendId::Kernel, state };
        assert_eq!(filters.event(), up);
        filters
    }

    fn event(&mut self) -> BackendEvent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.events.try_recv() {
                Ok(event) => return event,
                Err(_) => assert!(Instant::now() < deadline, "the backend says nothing"),
            }
            std::thread::yield_now();
        }
    }

    fn backend(&self) -> &KernelBackend {
        self.backend.as_ref().unwrap()
    }

    fn submit(&mut self, kind: CommandKind) {
        self.last_command += 1;
        let id = CommandId(self.last_command);
        self.backend().submit(Command { id, backend: BackendId::Kernel, kind }).unwrap();
    }

    fn outcome(&mut self) -> OutcomeKind {
        match self.event() {
            BackendEvent::Outcome(Outcome { kind, .. }) => kind,
            other => panic!("not an outcome: {other:?}"),
        }
    }

    fn announce(&mut self, rule: &FlowSpecRule, action: Action) -> OutcomeKind {
        self.submit(announcement(rule, action));
        self.outcome()
    }

    fn install(&mut self, rule: &FlowSpecRule, action: Action) {
        assert_eq!(self.announce(rule, action), applied(), "{rule}");
    }

    fn withdraw(&mut self, rule: &FlowSpecRule) {
        self.submit(CommandKind::Withdraw(Nlri::FlowSpec(rule.clone())));
        assert_eq!(self.outcome(), applied(), "{rule}");
    }

    fn observe(&mut self) -> Vec<Held> {
        self.backend().observe(&BackendId::Kernel);
        match self.event() {
            BackendEvent::Observed { held, .. } => held,
            other => panic!("not an observation: {other:?}"),
        }
    }

    /// What the only filter has dropped.
    fn dropped(&mut self) -> Dropped {
        let held = self.observe();
        assert_eq!(held.len(), 1, "{held:?}");
        held[0].dropped.unwrap()
    }

    fn stop(&mut self) {
        self.backend.take().unwrap().stop();
    }
}

fn announcement(rule: &FlowSpecRule, action: Action) -> CommandKind {
    let route = Route {
        nlri: Nlri::FlowSpec(rule.clone()),
        next_hop: None,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        actions: vec![action],
    };
    CommandKind::Announce { route, lease: Duration::from_secs(60) }
}

fn applied() -> OutcomeKind {
    OutcomeKind::Applied { bytes: [].into() }
}

fn flow(family: AddressFamily, mut parts: Vec<Part>) -> FlowSpecRule {
    let target = match family {
        AddressFamily::Ipv4 => TARGET_V4,
        AddressFamily::Ipv6 => TARGET_V6,
    };
    parts.push(Part::DestinationPrefix(target.parse().unwrap()));
    FlowSpecRule::new(family, parts).unwrap()
}

fn udp_from(family: AddressFamily, port: u16) -> FlowSpecRule {
    let udp = Part::IpProtocol(NumericMatch::equal(17));
    flow(family, vec![udp, Part::SourcePort(NumericMatch::equal(port.into()))])
}

#[test]
fn matching_traffic_is_dropped_and_other_traffic_passes() {
    if !root("matching_traffic_is_dropped_and_other_traffic_passes") {
        return;
    }
    let lab = Lab::new();
    let traffic = lab.traffic();
    let mut filters = Filters::up(&lab.router);
    for family in [AddressFamily::Ipv4, AddressFamily::Ipv6] {
        let port = traffic.source_port(family);
        let (matching, other) = (udp_from(family, port), udp_from(family, port ^ 1));
        filters.install(&other, Action::DISCARD);
        traffic.udp(family, 5);
        assert_eq!(traffic.received(family), 5, "{other} is not about these");
        filters.install(&matching, Action::DISCARD);
        traffic.udp(family, 5);
        assert_eq!(traffic.received(family), 0, "{matching}");
        let header = if family == AddressFamily::Ipv4 { 20 } else { 40 };
        let dropped = Dropped { packets: 5, bytes: 5 * (header + 8 + 100) };
        let held = filters.observe();
        let counted = |rule: &FlowSpecRule| {
            let nlri = Nlri::FlowSpec(rule.clone());
            held.iter().find(|held| held.nlri == nlri).and_then(|held| held.dropped)
        };
        assert_eq!(
            (counted(&matching), counted(&other)),
            (Some(dropped), Some(Dropped::default()))
        );
        filters.withdraw(&matching);
        traffic.udp(family, 5);
        assert_eq!(traffic.received(family), 5, "withdrawn");
        filters.withdraw(&other);
        filters.withdraw(&other);
    }
    assert_eq!(lab.router.rules(), Vec::<Value>::new());
}

/// Of two rules of peers that match, the one that goes first decides.
#[test]
fn rules_of_peers_are_asked_in_their_order() {
    if !root("rules_of_peers_are_asked_in_their_order") {
        return;
    }
    let lab = Lab::new();
    let traffic = lab.traffic();
    let mut filters = Filters::up(&lab.router);
    let client = filters.backend().client();
    let port = traffic.source_port(AddressFamily::Ipv4);
    let route = |rule: FlowSpecRule, actions: Vec<Action>| {
        let CommandKind::Announce { route, .. } = announcement(&rule, Action::DISCARD) else {
            panic!("not an announcement");
        };
        Route { actions, ..route }
    };
    let narrow = || udp_from(AddressFamily::Ipv4, port);
    let wide = || flow(AddressFamily::Ipv4, vec![]);
    let ports = Part::SourcePort(NumericMatch::one_of(port.into(), [1, 3, 5]));
    let several = || flow(AddressFamily::Ipv4, vec![ports.clone()]);
    let go_on = Action::TrafficAction { sample: false, terminal: true };
    let discard = || route(wide(), vec![Action::DISCARD]);
    let cannot = route(udp_from(AddressFamily::Ipv4, 7), vec![Action::Mark(4)]);
    let stories: Vec<(Vec<Route>, u32)> = vec![
        (vec![discard()], 0),
        (vec![route(narrow(), vec![]), discard()], 10),
        (vec![cannot, route(narrow(), vec![Action::RateLimitPackets(1e6)]), discard()], 10),
        (vec![route(several(), vec![Action::RateLimitPackets(1e6)]), discard()], 10),
        (vec![route(narrow(), vec![Action::RateLimitPackets(1e6), go_on]), discard()], 0),
        (vec![discard(), route(narrow(), vec![])], 0),
        (vec![], 10),
    ];
    for (routes, arriving) in stories {
        let text = format!("{routes:?}");
        client.set(routes);
        // In order with what is asked of the thread.
        assert_eq!(filters.observe(), vec![]);
        traffic.udp(AddressFamily::Ipv4, 10);
        assert_eq!(traffic.received(AddressFamily::Ipv4), arriving, "{text}");
    }
}

/// Who has completed a handshake opens connections through a flood; new ones are held to the limit.
#[test]
fn a_limit_of_syns_is_for_strangers() {
    if !root("a_limit_of_syns_is_for_strangers") {
        return;
    }
    let lab = Lab::new();
    let traffic = lab.traffic();
    let mut filters = Filters::up(&lab.router);
    let listeners = lab.router.enter(|| {
        [TARGET_V4, TARGET_V6].map(|address| TcpListener::bind((address, 8080)).unwrap())
    });
    let connect = |limit| {
        let connected = |listener: &&TcpListener| {
            let address = listener.local_addr().unwrap();
            lab.sender.enter(|| TcpStream::connect_timeout(&address, limit)).is_ok()
        };
        listeners.iter().filter(connected).count()
    };
    assert_eq!(connect(PATIENCE), 2);
    let known = || lab.router.inside("nft list table inet tidegate");
    let deadline = Instant::now() + PATIENCE;
    while !(known().contains(SENDER_V4) && known().contains(SENDER_V6)) {
        assert!(Instant::now() < deadline, "{}", known());
    }

    let syn = || Part::TcpFlags(BitmaskMatch::set_and_clear(0x02, 0x10));
    for family in [AddressFamily::Ipv4, AddressFamily::Ipv6] {
        filters.install(&flow(family, vec![syn()]), Action::RateLimitPackets(1.0));
    }
    let target: IpAddr = TARGET_V4.parse().unwrap();
    let flood: u8 = 200;
    for last in 1..=flood {
        traffic.raw(&Packet {
            source: [192, 0, 2, last].into(),
            destination: target,
            protocol: 6,
            dscp: 0,
            flow_label: 0,
            do_not_fragment: false,
            fragment: None,
            source_port: 1024,
            destination_port: 8080,
            tcp_flags: 0x02,
            icmp: (0, 0),
            payload: 0,
        });
    }
    traffic.wait_until_delivered();
    let dropped = |filters: &mut Filters| -> u64 {
        filters.observe().iter().filter_map(|held| held.dropped).map(|one| one.packets).sum()
    };
    let before = dropped(&mut filters);
    assert!(before > u64::from(flood) / 2, "{before} of {flood} strangers were dropped");
    // More than the limit lets through of anybody, and none of it is dropped.
    for _ in 0..20 {
        assert_eq!(connect(Duration::from_millis(500)), 2);
    }
    assert_eq!(dropped(&mut filters), before);
}

#[test]
fn nft_reads_what_is_meant() {
    if !root("nft_reads_what_is_meant") {
        return;
    }
    let namespace = Namespace::new("n");
    let mut filters = Filters::up(&namespace);
    let tcp = || Part::IpProtocol(NumericMatch::equal(6));
    let syn = Part::TcpFlags(BitmaskMatch::set_and_clear(0x02, 0x10));
    let first = flow(AddressFamily::Ipv4, vec![tcp(), syn]);
    let ports = Part::DestinationPort(NumericMatch::one_of(80, [443]));
    let second = flow(AddressFamily::Ipv6, vec![tcp(), ports]);
    let third = udp_from(AddressFamily::Ipv4, 123);
    filters.install(&first, Action::DISCARD);
    filters.install(&second, Action::RateLimitPackets(1000.0));
    filters.install(&third, Action::RateLimitBytes(125_000.0));

    let ruleset = namespace.ruleset();
    let named = |item: &&Value| item["name"] == "filters";
    let chains = ruleset.iter().filter_map(|item| item.get("chain"));
    let chain = chains.clone().find(named).unwrap();
    assert_eq!(chain["hook"], "prerouting");
    assert_eq!(chain["prio"], -450);
    assert_eq!(chain["policy"], "accept");
    let rules = namespace.rules();
    // Two ports, each with and without a fragment header.
    let filters_of_rules = [&first, &second, &second, &second, &second, &third];
    assert_eq!(rules.len(), filters_of_rules.len());
    for (rule, filter) in rules.iter().zip(filters_of_rules) {
        let comment = rule["comment"].as_str().unwrap();
        let text = filter.to_string();
        assert!(comment.starts_with("tidegate ") && comment.contains(&text[..60]), "{comment}");
        assert_eq!(
            rule["expr"].as_array().unwrap().last().unwrap(),
            &serde_json::json!({"drop": null})
        );
    }
    let text = namespace.inside("nft list table inet tidegate");
    for expected in [
        "flags owner",
        "ip daddr 203.0.113.10",
        "ip6 daddr 2001:db8:1::a",
        "tcp dport 443",
        "limit name \"limit-2\"",
        "rate over 1000/second burst 100 packets",
        "udp sport 123",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
    }

    // In place of the old one, and exactly that.
    filters.install(&second, Action::DISCARD);
    let text = namespace.inside("nft list table inet tidegate");
    assert!(!text.contains("limit-2"), "{text}");
    assert_eq!(namespace.rules().len(), filters_of_rules.len());
    filters.withdraw(&first);
    filters.withdraw(&second);
    assert_eq!(namespace.rules().len(), 1);
    assert!(namespace.rules()[0]["comment"].as_str().unwrap().contains("=123"));
}

#[test]
fn rate_limits_let_their_rate_through() {
    if !root("rate_limits_let_their_rate_through") {
        return;
    }
    let lab = Lab::new();
    let traffic = lab.traffic();
    let mut filters = Filters::up(&lab.router);
    let port = traffic.source_port(AddressFamily::Ipv4);
    let single = udp_from(AddressFamily::Ipv4, port);
    let ports = Part::SourcePort(NumericMatch::one_of(port.into(), [u64::from(port ^ 1)]));
    let shared = flow(AddressFamily::Ipv4, vec![Part::IpProtocol(NumericMatch::equal(17)), ports]);
    for rule in [single, shared] {
        let start = Instant::now();
        filters.install(&rule, Action::RateLimitPackets(10.0));
        traffic.udp(AddressFamily::Ipv4, 200);
        let received = traffic.received(AddressFamily::Ipv4);
        // The burst, and what the rate allows in the time that it took.
        let most = 5 + 1 + u32::try_from(start.elapsed().as_millis() / 100).unwrap();
        assert!((5..=most).contains(&received), "{received} of 200, at most {most}: {rule}");
        assert_eq!(filters.dropped().packets, u64::from(200 - received));
        filters.withdraw(&rule);
    }
}

#[test]
fn random_rules_drop_what_the_rfcs_say() {
    if !root("random_rules_drop_what_the_rfcs_say") {
        return;
    }
    let lab = Lab::new();
    let traffic = lab.traffic();
    let mut filters = Filters::up(&lab.router);
    let mut runner = TestRunner::deterministic();
    let strategy = families().prop_flat_map(|family| (rules(family), vec(packets(family), 25)));
    let (mut installed, mut dropped) = (0, 0);
    for _ in 0..400 {
        let (rule, packets) = strategy.new_tree(&mut runner).unwrap().current();
        match filters.announce(&rule, Action::DISCARD) {
            OutcomeKind::Applied { .. } => {}
            OutcomeKind::Rejected { why } => {
                let nothing = why.ends_with(&Untranslatable::MatchesNothing.to_string());
                assert!(
                    nothing || why.ends_with(&Untranslatable::TooManyTerms.to_string()),
                    "{why}"
                );
                continue;
            }
            other => panic!("{rule}: {other:?}"),
        }
        installed += 1;
        for packet in &packets {
            let before = filters.dropped();
            traffic.raw(packet);
            traffic.wait_until_delivered();
            let after = filters.dropped();
            let expected = u64::from(packet.is_matched_by(&rule));
            assert_eq!(after.packets - before.packets, expected, "{rule}: {packet:?}");
            let length = u64::try_from(packet.octets().len()).unwrap();
            assert_eq!(after.bytes - before.bytes, expected * length, "{rule}: {packet:?}");
            dropped += expected;
        }
        filters.withdraw(&rule);
    }
    assert!(installed > 200 && dropped > 500, "{installed} rules dropped {dropped} packets");
}

#[test]
fn nobody_else_can_flush_or_change_the_table() {
    if !root("nobody_else_can_flush_or_change_the_table") {
        return;
    }
    let namespace = Namespace::new("n");
    let mut filters = Filters::up(&namespace);
    let rule = udp_from(AddressFamily::Ipv4, 123);
    filters.install(&rule, Action::DISCARD);
    namespace.inside("nft flush ruleset");
    assert_eq!(namespace.rules().len(), 1);
    assert_eq!(filters.observe().len(), 1);

    let mut second = Filters::start(&namespace);
    match second.event() {
        BackendEvent::State { state: BackendState::Down { why }, .. } => {
            assert!(why.contains("belongs to another process"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    match second.announce(&rule, Action::DISCARD) {
        OutcomeKind::Failed { why } => assert!(why.contains("another process"), "{why}"),
        other => panic!("{other:?}"),
    }
    second.withdraw(&rule);
    assert_eq!(namespace.rules().len(), 1, "not its own");

    filters.stop();
    let state = BackendState::Up;
    let up = BackendEvent::State { backend: BackendId::Kernel, state };
    assert_eq!(second.event(), up, "it takes over when the first is gone");
    second.stop();
    assert_eq!(namespace.ruleset(), Vec::<Value>::new());
}

#[test]
fn a_foreign_table_of_the_name_is_left_alone() {
    if !root("a_foreign_table_of_the_name_is_left_alone") {
        return;
    }
    let namespace = Namespace::new("n");
    namespace.inside("nft add table inet tidegate");
    let mut filters = Filters::start(&namespace);
    match filters.event() {
        BackendEvent::State { state: BackendState::Down { why }, .. } => {
            assert!(why.contains("nft delete table inet tidegate"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    filters.stop();
    assert_eq!(namespace.ruleset().len(), 1);
}

#[test]
fn many_commands_at_once_are_all_answered_in_order() {
    if !root("many_commands_at_once_are_all_answered_in_order") {
        return;
    }
    let namespace = Namespace::new("n");
    let mut filters = Filters::up(&namespace);
    let rules: Vec<FlowSpecRule> =
        (0..500).map(|port| udp_from(AddressFamily::Ipv4, port)).collect();
    let bad = flow(AddressFamily::Ipv4, vec![Part::SourcePort(NumericMatch::equal(70_000))]);
    for rule in &rules {
        filters.submit(announcement(rule, Action::DISCARD));
        filters.submit(announcement(&bad, Action::DISCARD));
    }
    for _ in &rules {
        assert_eq!(filters.outcome(), applied());
        assert!(matches!(filters.outcome(), OutcomeKind::Rejected { .. }));
    }
    assert_eq!(filters.observe().len(), 500);
    // The same route again and again: the last word counts.
    for rule in &rules {
        filters.submit(announcement(rule, Action::RateLimitPackets(5.0)));
        filters.submit(CommandKind::Withdraw(Nlri::FlowSpec(rule.clone())));
    }
    for _ in 0..2 * rules.len() {
        assert_eq!(filters.outcome(), applied());
    }
    assert_eq!(filters.observe(), []);
    assert_eq!(namespace.rules().len(), 0);
}

/// The name of the namespace in which [`owner_process`] is to own a table.
const OWN_IN: &str = "TIDEGATE_TEST_OWN_TABLE";

/// Not a test of its own: the process that the next one kills.
#[test]
fn owner_process() {
    if env::var_os(OWN_IN).is_none() {
        return;
    }
    let (sender, receiver) = mpsc::channel(1_000);
    let backend = KernelBackend::start(sender, None).unwrap();
    let mut filters = Filters { backend: Some(backend), events: receiver, last_command: 0 };
    filters.event();
    filters.install(&udp_from(AddressFamily::Ipv4, 123), Action::DISCARD);
    println!("installed");
    loop {
        std::thread::park();
    }
}

#[test]
fn the_kernel_removes_the_table_of_a_killed_process() {
    if !root("the_kernel_removes_the_table_of_a_killed_process") {
        return;
    }
    let namespace = Namespace::new("n");
    let mut child = Process::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "kernel::tests::owner_process", "--nocapture"])
        .env(OWN_IN, &namespace.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let installed = output.lines().map_while(Result::ok).any(|line| line.contains("installed"));
    let rules = namespace.rules().len();
    kill(&mut child);
    assert!(installed);
    assert_eq!(rules, 1);
    let deadline = Instant::now() + PATIENCE;
    while !namespace.ruleset().is_empty() {
        assert!(Instant::now() < deadline, "the table outlives its owner");
    }
}

/// With SIGKILL: it has no chance to clean up. `ip netns exec` has become the process itself.
fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn without_the_capability_the_reason_is_clear() {
    if !root("without_the_capability_the_reason_is_clear") {
        return;
    }
    let namespace = Namespace::new("n");
    let (sender, receiver) = mpsc::channel(1_000);
    let backend = namespace.enter(|| {
        let none = rustix::thread::CapabilitySets {
            effective: rustix::thread::CapabilitySet::empty(),
            permitted: rustix::thread::CapabilitySet::empty(),
            inheritable: rustix::thread::CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none).unwrap();
        KernelBackend::start(sender, None).unwrap()
    });
    let mut filters = Filters { backend: Some(backend), events: receiver, last_command: 0 };
    match filters.event() {
        BackendEvent::State { state: BackendState::Down { why }, .. } => {
            assert!(why.contains("CAP_NET_ADMIN"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let rule = udp_from(AddressFamily::Ipv4, 123);
    match filters.announce(&rule, Action::DISCARD) {
        OutcomeKind::Failed { why } => assert!(why.contains("CAP_NET_ADMIN"), "{why}"),
        other => panic!("{other:?}"),
    }
}
