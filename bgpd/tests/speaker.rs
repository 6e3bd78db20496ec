//! The speaker with peers that are not well behaved. Every wait has a deadline.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop at a surprise too")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidegate_bgpd::Family;
use tidegate_bgpd::session::{ConnectMode, Delivery, SessionOptions, SessionState};
use tidegate_bgpd::speaker::{
    BlackholeProfile, CommandError, DynamicPeers, Md5Key, PeerConfig, Speaker, SpeakerConfig,
    SpeakerError, SpeakerEvent, SpeakerHandle, Transport,
};
use tidegate_model::{BackendId, BackendState, CommandId, Nlri, OutcomeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use support::{blackhole, gate_policy, ntp_filter, prefix};

const PATIENCE: Duration = Duration::from_secs(20);
const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

fn peer(name: &str, mode: ConnectMode) -> PeerConfig {
    PeerConfig {
        name: name.to_owned(),
        address: IpAddr::V4(PEER),
        asn: 65010,
        port: 1,
        local_address: None,
        mode,
        hold_time: Duration::from_secs(9),
        families: Family::ALL.into(),
        max_routes: 10_000,
        transport: Transport::default(),
        options: SessionOptions::default(),
        blackhole: BlackholeProfile::default(),
    }
}

fn config(listen: Vec<SocketAddr>, peers: Vec<PeerConfig>) -> SpeakerConfig {
    SpeakerConfig {
        asn: 65010,
        router_id: Ipv4Addr::LOCALHOST,
        listen,
        peers,
        dynamic: Vec::new(),
        gate: gate_policy(),
        seed: 1,
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A speaker that waits for [`PEER`], and where.
fn passive() -> (SpeakerHandle, SocketAddr) {
    let address = free_address();
    let peers = vec![peer("peer", ConnectMode::Passive)];
    let (speaker, _) = Speaker::start(config(vec![address], peers)).unwrap();
    (speaker, address)
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // Soon full, for the tests in which it is not read.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(to).await.unwrap()
}

/// Reads one whole message; `None` at the end of the stream.
async fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 19];
    timeout(PATIENCE, stream.read_exact(&mut message)).await.unwrap().ok()?;
    let length = usize::from(u16::from_be_bytes([message[16], message[17]]));
    message.resize(length, 0);
    timeout(PATIENCE, stream.read_exact(&mut message[19..])).await.unwrap().ok()?;
    Some(message)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend((19 + body.len() as u16).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// Connects from [`PEER`] and brings the session up, with the four families.
async fn establish(speaker: &SpeakerHandle, address: SocketAddr) -> TcpStream {
    let stream = establish_from(PEER, address).await;
    wait(|| speaker.peers()[0].session.state == SessionState::Established).await;
    stream
}

/// The same from any address, up or not.
async fn establish_from(from: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let mut stream = connect(from, address).await;
    let mut capabilities = vec![65, 4, 0, 0, 0xfd, 0xf2];
    for (afi, safi) in [(1, 1), (2, 1), (1, 133), (2, 133)] {
        capabilities.extend([1, 4, 0, afi, 0, safi]);
    }
    let [a, b, c, d] = from.octets();
    let mut open = vec![4, 0xfd, 0xf2, 0, 9, a, b, c, d, capabilities.len() as u8 + 2, 2];
    open.push(capabilities.len() as u8);
    open.extend(capabilities);
    // It may be closed already.
    let _ = stream.write_all(&[message(1, &open), message(4, &[])].concat()).await;
    stream
}

async fn wait(done: impl Fn() -> bool) {
    let polling = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, polling).await.unwrap();
}

#[test]
fn says_why_it_cannot_start() {
    let outside = Speaker::start(config(Vec::new(), Vec::new()));
    assert!(matches!(outside, Err(SpeakerError::NoRuntime)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let twins = vec![peer("twin", ConnectMode::Active), peer("twin", ConnectMode::Active)];
    let error = Speaker::start(config(Vec::new(), twins)).unwrap_err();
    assert_eq!(error.to_string(), "there are two peers named `twin`");
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let peers = vec![peer("peer", ConnectMode::Passive)];
    let error = Speaker::start(config(vec![address], peers)).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
    // Nobody is to connect, so there is nothing to listen for.
    let peers = vec![peer("peer", ConnectMode::Active)];
    assert!(Speaker::start(config(vec![address], peers)).is_ok());
}

#[tokio::test]
async fn strangers_get_nothing() {
    let (speaker, address) = passive();
    for _ in 0..100 {
        let mut stranger = connect(Ipv4Addr::new(127, 0, 0, 6), address).await;
        assert_eq!(read_message(&mut stranger).await, None);
    }
    assert_eq!(speaker.peers()[0].session.counters.sent.open, 0);
    establish(&speaker, address).await;
}

#[tokio::test]
async fn malformed_octets_are_answered_on_the_wire() {
    let (speaker, address) = passive();
    for (octets, code, subcode) in
        [(vec![0; 19], 1, 1), (message(4, &[]), 5, 1), (message(9, &[]), 1, 3)]
    {
        let mut stream = connect(PEER, address).await;
        assert_eq!(read_message(&mut stream).await.unwrap()[18], 1, "OPEN");
        // What comes behind is never read, and must not keep the answer from arriving.
        stream.write_all(&[octets, vec![7; 4000]].concat()).await.unwrap();
        let answer = read_message(&mut stream).await.unwrap();
        assert_eq!(answer[18..21], [3, code, subcode]);
        assert_eq!(read_message(&mut stream).await, None);
    }
    let status = speaker.peers().remove(0);
    assert_eq!(status.session.counters.sent.notification, 3);
    establish(&speaker, address).await;
}

#[tokio::test]
async fn a_second_connection_of_a_peer_is_turned_away() {
    let (speaker, address) = passive();
    let mut first = establish(&speaker, address).await;
    let mut second = connect(PEER, address).await;
    let answer = read_message(&mut second).await.unwrap();
    assert_eq!(answer[18..21], [3, 6, 7], "Cease, Connection Collision Resolution");
    assert_eq!(read_message(&mut second).await, None);
    speaker.announce("peer", CommandId(1), blackhole("203.0.113.7")).unwrap();
    while read_message(&mut first).await.unwrap()[18] != 2 {}
    assert_eq!(speaker.peers()[0].session.counters.established, 1);
}

/// Announces and withdraws until the socket of a peer that does not read takes no more.
async fn fill(speaker: &SpeakerHandle) {
    let sent = || speaker.peers()[0].session.counters.sent.update;
    for round in 0.. {
        let before = sent();
        for host in 54..=255 {
            let route = ntp_filter(&format!("203.0.113.{host}"));
            match round % 2 {
                0 => speaker.announce("peer", CommandId(round), route).unwrap(),
                _ => speaker.withdraw("peer", CommandId(round), &route.nlri).unwrap(),
            }
        }
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        if sent() == before {
            break;
        }
        assert!(round < 10_000, "the socket takes everything");
    }
}

/// A peer holds what its TCP has acknowledged, as far as anybody can tell: no more and no less.
#[tokio::test]
async fn what_tcp_has_not_acknowledged_is_unconfirmed() {
    let (speaker, address) = passive();
    let route = blackhole("203.0.113.7");
    let delivery = || -> Vec<Delivery> {
        let deliveries = speaker.deliveries("peer").unwrap().into_iter();
        deliveries.filter(|(held, _)| held.nlri == route.nlri).map(|(_, how)| how).collect()
    };
    speaker.announce("peer", CommandId(900_001), route.clone()).unwrap();
    assert_eq!(delivery(), [Delivery::Waiting], "there is no session");
    let mut stream = establish(&speaker, address).await;
    wait(|| delivery() == [Delivery::Confirmed]).await;
    fill(&speaker).await;
    speaker.withdraw("peer", CommandId(900_002), &route.nlri).unwrap();
    let unconfirmed = || speaker.unconfirmed_withdraws("peer").unwrap().contains(&route.nlri);
    for _ in 0..1000 {
        assert!(unconfirmed());
        tokio::task::yield_now().await;
    }
    assert!(speaker.peers()[0].session.unconfirmed_withdraws > 0);
    // The peer begins to read.
    let mut withdrawn = false;
    while !withdrawn {
        let message = read_message(&mut stream).await.unwrap();
        if message[18] == 2 {
            let update = tidegate_bgpd::convert::decode_update(&message).unwrap();
            withdrawn = update.withdrawn.contains(&route.nlri);
        }
    }
    let reading = async { while read_message(&mut stream).await.is_some() {} };
    tokio::select! {
        () = reading => panic!("the session ended"),
        () = wait(|| speaker.unconfirmed_withdraws("peer").unwrap().is_empty()) => {}
    }
    assert_eq!(delivery(), []);
}

/// What a peer does not take stays in our kernel, where the send hold timer does not see it. A peer that
/// goes on talking meanwhile would keep a route that was withdrawn.
#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_though_it_talks() {
    let address = free_address();
    let hold_time = Duration::from_secs(3);
    let config =
        config(vec![address], vec![PeerConfig { hold_time, ..peer("peer", ConnectMode::Passive) }]);
    let (speaker, _) = Speaker::start(config).unwrap();
    let mut stream = establish(&speaker, address).await;
    // Until its window is closed, and no longer: our own socket still takes what comes.
    let is_confirmed = || {
        let status = speaker.peers()[0].session.clone();
        let mut held = speaker.deliveries("peer").unwrap().into_iter();
        status.unconfirmed_withdraws == 0 && held.all(|(_, how)| how == Delivery::Confirmed)
    };
    for round in 0.. {
        assert!(round < 1000, "it takes everything");
        for host in 54..=255 {
            let route = ntp_filter(&format!("203.0.113.{host}"));
            match round % 2 {
                0 => speaker.announce("peer", CommandId(round), route).unwrap(),
                _ => speaker.withdraw("peer", CommandId(round), &route.nlri).unwrap(),
            }
        }
        let confirmed = async {
            while !is_confirmed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(Duration::from_millis(500), confirmed).await.is_err() {
            break;
        }
    }
    let is_up = || speaker.peers()[0].session.state == SessionState::Established;
    let talking = async {
        while is_up() {
            let _ = stream.write_all(&message(4, &[])).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, talking).await.unwrap();
}

/// An UPDATE within our AS: ORIGIN, an AS_PATH of one neighbour, LOCAL_PREF and these attributes.
fn inward(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let path = [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 5, 4, 0, 0, 0, 100];
    let length = path.len() + attributes.len();
    message(2, &[&[0, 0, 0, length as u8][..], attributes, &path, nlri].concat())
}

/// What a peer announces is judged with what all of them announce, told, shown, and passed on to
/// nobody.
#[tokio::test]
async fn rules_of_peers_are_offered_with_a_verdict() {
    let (speaker, mut events, address) = with_guests();
    let mut first = establish_guest(20, address).await;
    let mut second = establish_guest(21, address).await;
    wait(|| up(&speaker).len() == 2).await;
    let mut next = async || loop {
        if let SpeakerEvent::FlowSpec(change) =
            timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
        {
            let verdict = change.offer.map(|offer| offer.verdict.to_string());
            return (change.peer, verdict.unwrap_or_else(|| "gone".to_owned()));
        }
    };
    // Drop what goes to 192.0.2.9.
    let reach = [0x80, 14, 12, 0, 1, 133, 0, 0, 6, 1, 32, 192, 0, 2, 9];
    let rate = [0xc0, 16, 8, 0x80, 6, 0, 0, 0, 0, 0, 0];
    let rule = inward(&[&reach[..], &rate].concat(), &[]);
    let route = |hop: u8| inward(&[0x40, 3, 4, 192, 0, 2, hop], &[24, 192, 0, 2]);
    let (one, other) = ("edge/127.0.0.20".to_owned(), "edge/127.0.0.21".to_owned());
    first.write_all(&rule).await.unwrap();
    let no_route = "infeasible: no unicast route to the destination".to_owned();
    assert_eq!(next().await, (one.clone(), no_route));
    first.write_all(&route(20)).await.unwrap();
    assert_eq!(next().await, (one.clone(), "feasible".to_owned()));
    let learnt = speaker.learnt(&one).unwrap();
    assert_eq!(learnt.len(), 2);
    assert!(learnt[1].verdict.is_some() && !learnt[1].path.actions.is_empty());
    let tally = speaker.peers().into_iter().find(|peer| peer.name == one).unwrap().learnt;
    assert_eq!((tally.unicast, tally.flowspec, tally.feasible), (1, 1, 1));
    // The second has no route of its own, so its rule is not for it to give.
    second.write_all(&rule).await.unwrap();
    let (peer, verdict) = next().await;
    assert!(peer == other && verdict.contains("another originator"), "{peer}: {verdict}");
    // The first goes, and with it the rule and the route.
    drop(first);
    let mut rest = [next().await, next().await];
    rest.sort();
    assert_eq!(rest[0], (one.clone(), "gone".to_owned()));
    assert!(rest[1].1.contains("no unicast route"), "{rest:?}");
    assert!(speaker.learnt(&one).is_err());
    // Nothing but End-of-RIB was ever sent to the second.
    speaker.announce("edge", CommandId(1), blackhole("203.0.113.7")).unwrap();
    loop {
        let message = read_message(&mut second).await.unwrap();
        if message[18] == 2 {
            let update = tidegate_bgpd::convert::decode_update(&message).unwrap();
            if !update.announced.is_empty() {
                assert_eq!(update.announced, [blackhole("203.0.113.7").nlri]);
                break;
            }
        }
    }
}

/// Switched on and off while the session runs. An independent parser reads it.
#[tokio::test]
async fn messages_are_recorded_on_request() {
    let (speaker, address) = passive();
    let mut stream = establish(&speaker, address).await;
    assert_eq!(speaker.take_dump("peer").unwrap(), None);
    speaker.start_dump("peer", 1 << 20).unwrap();
    speaker.announce("peer", CommandId(1), blackhole("203.0.113.7")).unwrap();
    while read_message(&mut stream).await.unwrap()[18] != 2 {}
    stream.write_all(&message(4, &[])).await.unwrap();
    let mut file = Vec::new();
    let kinds = |file: &[u8]| -> Vec<String> {
        let records = bgpkit_parser::BgpkitParser::from_reader(file).into_record_iter();
        records.map(|record| format!("{:?}", record.message)).collect()
    };
    wait(|| speaker.peers()[0].session.counters.received.keepalive > 1).await;
    let dump = speaker.take_dump("peer").unwrap().unwrap();
    file.extend(dump.file);
    let read = kinds(&file).join(" ");
    assert!(read.contains("203.0.113.7/32") && read.contains("KeepAlive"), "{read}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seconds = u32::from_be_bytes([file[0], file[1], file[2], file[3]]);
    assert!(now.as_secs().abs_diff(u64::from(seconds)) < 120, "{seconds}");
    assert!(speaker.stop_dump("peer").unwrap().is_some());
    speaker.withdraw("peer", CommandId(2), &blackhole("203.0.113.7").nlri).unwrap();
    while read_message(&mut stream).await.unwrap()[18] != 2 {}
    assert_eq!(speaker.take_dump("peer").unwrap(), None);
    assert!(speaker.start_dump("nobody", 1).is_err());
}

/// Panics on the next message that contains this, once.
struct Trap(std::sync::Mutex<Option<&'static str>>);

impl tracing::Subscriber for Trap {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let caught = self.0.lock().unwrap().take_if(|trap| text.0.contains(*trap));
        if caught.is_some() {
            panic!("trapped: {}", text.0);
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A task that panics does not take its peer out of service: it is told that the session is down,
/// and everything is there again when it is back.
#[tokio::test]
async fn a_peer_whose_task_panics_is_back() {
    let _guard = tracing::subscriber::set_default(Trap(Some("session established").into()));
    let address = free_address();
    let peers = vec![peer("peer", ConnectMode::Passive)];
    let (speaker, mut events) = Speaker::start(config(vec![address], peers)).unwrap();
    let route = blackhole("203.0.113.7");
    speaker.announce("peer", CommandId(1), route.clone()).unwrap();
    let mut stream = establish_from(PEER, address).await;
    // The panic closes its connection.
    while read_message(&mut stream).await.is_some() {}
    wait(|| speaker.peers()[0].restarts == 1).await;
    let mut told = false;
    while !told {
        let event = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        told = matches!(event, SpeakerEvent::State { state: BackendState::Down { why }, .. }
            if why.contains("internal error"));
    }
    // What is commanded meanwhile is not lost.
    let other = blackhole("203.0.113.8");
    speaker.announce("peer", CommandId(2), other.clone()).unwrap();
    let mut stream = establish(&speaker, address).await;
    let mut held = BTreeSet::new();
    while held.len() < 2 {
        let message = read_message(&mut stream).await.unwrap();
        if message[18] == 2 {
            held.extend(tidegate_bgpd::convert::decode_update(&message).unwrap().announced);
        }
    }
    assert_eq!(held, BTreeSet::<Nlri>::from([route.nlri, other.nlri]));
    let mut applied = BTreeSet::new();
    while applied.len() < 2 {
        if let SpeakerEvent::Outcome(outcome) =
            timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
            && matches!(outcome.kind, OutcomeKind::Applied { .. })
        {
            applied.insert(outcome.command);
        }
    }
    assert_eq!(speaker.peers()[0].restarts, 1);
}

/// A neighbour that came from a prefix leaves with its task.
#[tokio::test]
async fn a_guest_whose_task_panics_leaves() {
    let _guard = tracing::subscriber::set_default(Trap(Some("session established").into()));
    let (speaker, _events, address) = with_guests();
    let mut stream = establish_guest(20, address).await;
    while read_message(&mut stream).await.is_some() {}
    wait(|| speaker.peers().len() == 1).await;
    let _again = establish_guest(20, address).await;
    wait(|| up(&speaker) == ["edge/127.0.0.20"]).await;
}

/// More than the socket takes is waiting when the stop comes, and nobody reads.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_peer_that_does_not_read() {
    let (speaker, address) = passive();
    let mut stream = establish(&speaker, address).await;
    fill(&speaker).await;
    timeout(PATIENCE, speaker.shutdown("stop")).await.unwrap();
    // It had been given up: what the kernel still delivers ends before the NOTIFICATION.
    while let Some(message) = read_message(&mut stream).await {
        assert_ne!(message[18], 3);
    }
}

#[tokio::test]
async fn a_stop_withdraws_then_ceases_then_closes() {
    let (speaker, address) = passive();
    let mut stream = establish(&speaker, address).await;
    for host in 60..160 {
        let route = blackhole(&format!("203.0.113.{host}"));
        speaker.announce("peer", CommandId(host), route).unwrap();
    }
    wait(|| speaker.peers()[0].session.counters.sent.update > 4).await;
    let (_, messages) = tokio::join!(speaker.shutdown("so long"), async {
        let mut messages = Vec::new();
        while let Some(message) = read_message(&mut stream).await {
            messages.push(message);
        }
        messages
    });
    let mut held = std::collections::BTreeSet::new();
    for message in messages.iter().filter(|message| message[18] == 2) {
        let update = tidegate_bgpd::convert::decode_update(message).unwrap();
        held.extend(update.announced);
        for nlri in update.withdrawn {
            assert!(held.remove(&nlri), "{nlri}");
        }
    }
    assert!(held.is_empty(), "{held:?}");
    let last = messages.last().unwrap();
    assert_eq!(last[18..22], [3, 6, 2, 7]);
    assert_eq!(&last[22..], b"so long");
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connections() {
    let (speaker, address) = passive();
    let mut stream = establish(&speaker, address).await;
    let clone = speaker.clone();
    drop(speaker);
    clone.announce("peer", CommandId(1), blackhole("203.0.113.7")).unwrap();
    while read_message(&mut stream).await.unwrap()[18] != 2 {}
    drop(clone);
    while read_message(&mut stream).await.is_some() {}
}

/// 127.0.0.16/28, at most two at a time.
fn range() -> DynamicPeers {
    DynamicPeers {
        name: "edge".to_owned(),
        prefix: prefix("127.0.0.16/28"),
        limit: 2,
        asn: 65010,
        hold_time: Duration::from_secs(9),
        families: Family::ALL.into(),
        max_routes: 100,
        transport: Transport::default(),
        options: SessionOptions::default(),
        blackhole: BlackholeProfile::default(),
    }
}

/// Guests from [`range`], besides the configured 127.0.0.17.
fn with_guests() -> (SpeakerHandle, mpsc::Receiver<SpeakerEvent>, SocketAddr) {
    let address = free_address();
    let mut configured = peer("configured", ConnectMode::Passive);
    configured.address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 17));
    let mut config = config(vec![address], vec![configured]);
    config.dynamic = vec![range()];
    let (speaker, events) = Speaker::start(config).unwrap();
    (speaker, events, address)
}

async fn establish_guest(last: u8, address: SocketAddr) -> TcpStream {
    establish_from(Ipv4Addr::new(127, 0, 0, last), address).await
}

fn up(speaker: &SpeakerHandle) -> Vec<String> {
    let peers = speaker.peers().into_iter();
    let up = peers.filter(|peer| peer.session.state == SessionState::Established);
    up.map(|peer| peer.name).collect()
}

#[tokio::test]
async fn dynamic_neighbours_come_and_go() {
    let (speaker, mut events, address) = with_guests();
    let mut first = establish_guest(20, address).await;
    let mut second = establish_guest(21, address).await;
    wait(|| up(&speaker).len() == 2).await;
    // The configured peer is no guest, though its address is in the prefix.
    let _third = establish_guest(17, address).await;
    wait(|| up(&speaker).len() == 3).await;
    let names = BTreeSet::from_iter(up(&speaker));
    let expected = ["configured", "edge/127.0.0.20", "edge/127.0.0.21"];
    assert_eq!(names, expected.map(str::to_owned).into());
    // They are commanded together, and hold the same.
    let route = blackhole("203.0.113.7");
    let alone = speaker.announce("edge/127.0.0.20", CommandId(1), route.clone());
    assert!(matches!(alone, Err(CommandError::UnknownPeer { .. })));
    speaker.announce("edge", CommandId(2), route.clone()).unwrap();
    for guest in [&mut first, &mut second] {
        assert_eq!(next_update(guest).await, Update::Announces);
    }
    assert_eq!(speaker.deliveries("edge").unwrap().len(), 1);
    assert_eq!(speaker.routes("configured").unwrap(), []);
    // One leaves with its connection; the others stay.
    drop(first);
    wait(|| speaker.peers().len() == 2).await;
    let mut heard = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            SpeakerEvent::State { peer, state } => {
                heard.push(format!(
                    "{peer} {}",
                    if state == BackendState::Up { "up" } else { "down" }
                ));
            }
            SpeakerEvent::Outcome(outcome) => {
                assert_eq!(outcome.backend, BackendId::Peer("edge".to_owned()));
                assert!(matches!(outcome.kind, OutcomeKind::Applied { .. }), "{outcome:?}");
                heard.push(format!("answer {}", outcome.command.0));
            }
            other => panic!("{other:?}"),
        }
    }
    // Each neighbour begins with being down.
    for (event, times) in [
        ("edge up", 1),
        ("edge down", 0),
        ("edge/127.0.0.20 up", 1),
        ("edge/127.0.0.20 down", 2),
        ("edge/127.0.0.21 down", 1),
        ("answer 2", 1),
    ] {
        assert_eq!(heard.iter().filter(|it| *it == event).count(), times, "{event}: {heard:?}");
    }
    // It is welcome again, and given what is wanted now.
    let mut again = establish_guest(20, address).await;
    assert_eq!(next_update(&mut again).await, Update::Announces);
    speaker.withdraw("edge", CommandId(3), &route.nlri).unwrap();
    for guest in [&mut second, &mut again] {
        assert_eq!(next_update(guest).await, Update::Withdraws);
    }
    assert_eq!(speaker.routes("edge").unwrap(), []);
}

/// What an UPDATE says of IPv4 unicast.
#[derive(Debug, PartialEq, Eq)]
enum Update {
    Announces,
    Withdraws,
}

/// The next UPDATE that is no End-of-RIB.
async fn next_update(stream: &mut TcpStream) -> Update {
    loop {
        let message = read_message(stream).await.unwrap();
        match (message[18], &message[19..]) {
            (2, [0, 0, 0, 0]) => {}
            (2, [0, 0, _, attributes, rest @ ..]) if *attributes > 10 || rest.len() > 10 => {
                return Update::Announces;
            }
            (2, [_, withdrawn, ..]) if *withdrawn > 0 => return Update::Withdraws,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_prefix_without_neighbours_says_so_and_keeps_what_it_is_told() {
    let (speaker, mut events, address) = with_guests();
    let route = blackhole("203.0.113.7");
    let absent = Err(CommandError::Absent { name: "edge".to_owned() });
    assert_eq!(speaker.announce("edge", CommandId(1), route.clone()), absent);
    assert_eq!(speaker.withdraw("edge", CommandId(2), &blackhole("203.0.113.8").nlri), absent);
    assert_eq!(speaker.deliveries("edge").unwrap(), [(route, Delivery::Waiting)]);
    let mut guest = establish_guest(20, address).await;
    assert_eq!(next_update(&mut guest).await, Update::Announces);
    // What it never acknowledged went with it.
    let more = blackhole("203.0.113.9");
    speaker.announce("edge", CommandId(3), more).unwrap();
    assert_eq!(next_update(&mut guest).await, Update::Announces);
    drop(guest);
    wait(|| speaker.peers().len() == 1).await;
    let mut last = None;
    while let Ok(event) = events.try_recv() {
        if let SpeakerEvent::State { peer, state } = event
            && peer == "edge"
        {
            last = Some(state);
        }
    }
    assert!(matches!(last, Some(BackendState::Down { why }) if why.contains("127.0.0.16/28")));
}

#[tokio::test]
async fn dynamic_neighbours_are_bounded_and_in_their_prefix() {
    let (speaker, _events, address) = with_guests();
    let _first = establish_guest(20, address).await;
    let second = establish_guest(21, address).await;
    wait(|| up(&speaker).len() == 2).await;
    for stranger in [22, 23, 32, 15] {
        let mut stream = establish_guest(stranger, address).await;
        assert_eq!(read_message(&mut stream).await, None, "127.0.0.{stranger}");
    }
    assert_eq!(speaker.peers().len(), 3);
    drop(second);
    wait(|| speaker.peers().len() == 2).await;
    let third = establish_guest(22, address).await;
    wait(|| up(&speaker).len() == 2).await;
    drop(third);
    wait(|| speaker.peers().len() == 2).await;
    // One that says nothing that makes sense leaves as it came.
    let mut senseless = connect(Ipv4Addr::new(127, 0, 0, 23), address).await;
    senseless.write_all(&[0; 64]).await.unwrap();
    assert_eq!(read_message(&mut senseless).await.unwrap()[18], 1, "OPEN");
    assert_eq!(read_message(&mut senseless).await.unwrap()[18..21], [3, 1, 1]);
    wait(|| speaker.peers().len() == 2).await;
    timeout(PATIENCE, speaker.shutdown("stop")).await.unwrap();
}

#[tokio::test]
async fn names_and_keys_must_not_clash() {
    let address = free_address();
    let mut clash = config(vec![address], vec![peer("edge", ConnectMode::Passive)]);
    clash.dynamic = vec![range()];
    assert!(matches!(Speaker::start(clash), Err(SpeakerError::DuplicatePeer { .. })));
    let key = |text: &[u8]| {
        let md5 = Some(Md5Key::new(text).unwrap());
        Transport { md5, ..Transport::default() }
    };
    let one = PeerConfig { transport: key(b"one"), ..peer("one", ConnectMode::Passive) };
    let other = PeerConfig { transport: key(b"other"), ..peer("other", ConnectMode::Passive) };
    let error = Speaker::start(config(vec![address], vec![one.clone(), other])).unwrap_err();
    assert_eq!(error.to_string(), "peers at 127.0.0.5 have different TCP MD5 keys");
    let same = PeerConfig { name: "same".to_owned(), ..one.clone() };
    assert!(Speaker::start(config(vec![address], vec![one, same])).is_ok());
}
