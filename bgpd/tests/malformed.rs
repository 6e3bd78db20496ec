//! Octets that no peer should send, given to a running speaker over TCP. The numbers are those of
//! the project's list of bad input. Another peer and its routes must not notice any of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop at a surprise too")]

#[path = "support/octets.rs"]
mod octets;
#[path = "support/mod.rs"]
mod support;
#[path = "malformed/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidegate_bgpd::Family;
use tidegate_bgpd::convert::decode_update;
use tidegate_bgpd::session::{ConnectMode, Role, SessionOptions, SessionState, SessionStatus};
use tidegate_bgpd::speaker::{
    BlackholeProfile, PeerConfig, Speaker, SpeakerConfig, SpeakerHandle, Transport,
};
use tidegate_model::{CommandId, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use octets::{KEEPALIVE, NOTIFICATION, UPDATE, lying_message, message, open_with};
use support::{blackhole, gate_policy, ntp_filter};

const PATIENCE: Duration = Duration::from_secs(20);
/// An answer does not take so long.
const ANSWER: Duration = Duration::from_secs(2);

/// Who sends it. The number is the last octet of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// In another AS.
    External = 5,
    /// In our AS.
    Internal = 6,
    /// In another AS; we say that we are its customer.
    Provider = 7,
    /// In another AS; must have both FlowSpec families.
    Strict = 8,
    /// The peer that must not notice.
    Bystander = 9,
    /// With a hold time of three seconds.
    Slow = 10,
    /// We connect to it too.
    Both = 11,
}

impl Who {
    const ALL: [Self; 7] = [
        Self::External,
        Self::Internal,
        Self::Provider,
        Self::Strict,
        Self::Bystander,
        Self::Slow,
        Self::Both,
    ];

    fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 1, self as u8)
    }

    fn asn(self) -> u16 {
        if self == Self::Internal { 65010 } else { 65001 }
    }

    /// `port` is that of the one that we connect to.
    fn config(self, port: u16) -> PeerConfig {
        let options = match self {
            Self::Provider => {
                SessionOptions { role: Some(Role::Customer), ..SessionOptions::default() }
            }
            Self::Strict => SessionOptions {
                required_families: [Family::Ipv4FlowSpec, Family::Ipv6FlowSpec].into(),
                ..SessionOptions::default()
            },
            _ => SessionOptions::default(),
        };
        PeerConfig {
            name: format!("{self:?}"),
            address: IpAddr::V4(self.address()),
            asn: self.asn().into(),
            port,
            local_address: None,
            mode: if self == Self::Both { ConnectMode::Both } else { ConnectMode::Passive },
            hold_time: Duration::from_secs(if self == Self::Slow { 3 } else { 90 }),
            families: Family::ALL.into(),
            max_routes: 100,
            transport: Transport::default(),
            options,
            blackhole: BlackholeProfile::default(),
        }
    }

    /// An OPEN that is welcome, with every family and extension.
    fn open(self) -> Vec<u8> {
        self.open_with(&[])
    }

    fn open_with(self, more: &[u8]) -> Vec<u8> {
        let [high, low] = self.asn().to_be_bytes();
        let mut capabilities = vec![65, 4, 0, 0, high, low, 2, 0, 70, 0];
        for (afi, safi) in [(1, 1), (2, 1), (1, 133), (2, 133)] {
            capabilities.extend([1, 4, 0, afi, 0, safi]);
        }
        capabilities.extend(more);
        if self == Self::Provider {
            capabilities.extend([9, 1, 0]);
        }
        let mut parameters = vec![2, capabilities.len() as u8];
        parameters.extend(capabilities);
        open_with(4, self.asn(), 90, [192, 0, 2, 2], &parameters)
    }
}

/// When it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// At once.
    OpenSent,
    /// After the OPEN.
    OpenConfirm,
    /// In an established session.
    Established,
    /// The same, with extended messages.
    Extended,
}

/// What is to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// NOTIFICATION with this code and subcode, and the end of the connection.
    Reset(u8, u8),
    /// The end of the connection, without a NOTIFICATION.
    Closed,
    /// It is as if nothing had been wrong: in Established the session stays, before it goes on.
    Accepted,
    /// The session stays, and the UPDATE is counted as malformed: attribute discard, or treated as
    /// withdrawn (RFC 7606), which is the same where nothing is kept.
    Tolerated,
}

struct Row {
    number: u8,
    name: &'static str,
    who: Who,
    when: When,
    octets: Vec<u8>,
    expected: Expected,
}

struct Bench {
    speaker: SpeakerHandle,
    address: SocketAddr,
    /// Where [`Who::Both`] is connected to.
    listener: TcpListener,
}

impl Bench {
    async fn start() -> Self {
        let ours = TcpListener::bind((Who::Both.address(), 0)).await.unwrap();
        let port = ours.local_addr().unwrap().port();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (speaker, _) = Speaker::start(SpeakerConfig {
            asn: 65010,
            router_id: Ipv4Addr::LOCALHOST,
            listen: vec![address],
            peers: Who::ALL.map(|who| who.config(port)).into(),
            dynamic: Vec::new(),
            gate: gate_policy(),
            seed: 1,
        })
        .unwrap();
        Self { speaker, address, listener: ours }
    }

    fn status(&self, who: Who) -> SessionStatus {
        let peers = self.speaker.peers();
        let peer = peers.into_iter().find(|peer| peer.address == IpAddr::V4(who.address()));
        peer.unwrap().session
    }

    async fn connect(&self, who: Who) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((who.address(), 0))).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        assert_eq!(read_message(&mut stream).await.unwrap()[18], 1, "OPEN");
        stream
    }

    /// A connection in the state for `when`.
    async fn bring_up(&self, who: Who, when: When) -> TcpStream {
        let mut stream = self.connect(who).await;
        if when == When::OpenSent {
            return stream;
        }
        let open = who.open_with(if when == When::Extended { &[6, 0] } else { &[] });
        stream.write_all(&open).await.unwrap();
        assert_eq!(read_message(&mut stream).await.unwrap()[18], KEEPALIVE);
        if when != When::OpenConfirm {
            stream.write_all(&message(KEEPALIVE, &[])).await.unwrap();
            self.wait("up", || self.status(who).state == SessionState::Established).await;
        }
        stream
    }

    async fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let polling = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = timeout(PATIENCE, polling).await;
        assert!(waited.is_ok(), "{what}: {:#?}", self.speaker.peers());
    }

    /// Gives the row's octets to the speaker. What is not as expected, for people.
    async fn check(&self, row: &Row) -> Option<String> {
        let Row { number, name, who, when, octets, expected } = row;
        let name = format!("M{number:02} {name}");
        let before = self.status(*who).counters;
        let mut complaint = None;
        let mut stream = self.bring_up(*who, *when).await;
        let _ = stream.write_all(octets).await;
        match expected {
            Expected::Reset(..) | Expected::Closed => {
                let mut last = None;
                while let Ok(Some(message)) = timeout(ANSWER, read_message(&mut stream)).await {
                    last = (message[18] == NOTIFICATION).then(|| (message[19], message[20]));
                }
                let answer = match expected {
                    Expected::Reset(code, subcode) => Some((*code, *subcode)),
                    _ => None,
                };
                complaint = (last != answer).then(|| format!("{name}: answered by {last:?}"));
            }
            Expected::Accepted | Expected::Tolerated => {
                // Messages are taken in their order, so this one tells that it is through.
                let seen = self.status(*who).counters.received.keepalive;
                stream.write_all(&message(KEEPALIVE, &[])).await.unwrap();
                self.wait(&name, || {
                    let status = self.status(*who);
                    status.state == SessionState::Established
                        && status.counters.received.keepalive > seen
                        || status.last_error_sent.is_some_and(|e| e.at > status.since)
                })
                .await;
                let status = self.status(*who);
                let malformed = status.counters.malformed_updates > before.malformed_updates;
                if status.state != SessionState::Established {
                    complaint = Some(format!("{name}: reset, {:?}", status.last_error_sent));
                } else if malformed != (*expected == Expected::Tolerated) {
                    complaint = Some(format!("{name}: counted as malformed: {malformed}"));
                }
            }
        }
        // The peer is gone; a session that stayed ends with its connection.
        drop(stream);
        let idle = || self.status(*who).state <= SessionState::Active;
        self.wait(&format!("{name}: the end"), idle).await;
        // Whatever it was, it can come back.
        drop(self.bring_up(*who, When::OpenSent).await);
        self.wait(&format!("{name}: the end"), idle).await;
        complaint
    }
}

async fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 19];
    timeout(PATIENCE, stream.read_exact(&mut message)).await.unwrap().ok()?;
    let length = usize::from(u16::from_be_bytes([message[16], message[17]]));
    message.resize(length, 0);
    timeout(PATIENCE, stream.read_exact(&mut message[19..])).await.unwrap().ok()?;
    Some(message)
}

/// What takes time, several connections or several sources has a test of its own here.
const ALONE: [u8; 4] = [7, 26, 61, 62];

#[test]
fn no_number_is_left_out() {
    let mut numbers: BTreeSet<u8> = table::rows().iter().map(|row| row.number).collect();
    numbers.extend(ALONE);
    assert_eq!(numbers, (1..=63).collect());
}

/// Another peer, with a route that must stay as it is.
struct Bystander {
    stream: TcpStream,
    route: Route,
}

impl Bystander {
    const NAME: &str = "Bystander";

    async fn of(bench: &Bench) -> Self {
        let stream = bench.bring_up(Who::Bystander, When::Established).await;
        let route = blackhole("203.0.113.7");
        bench.speaker.announce(Self::NAME, CommandId(1), route.clone()).unwrap();
        Self { stream, route }
    }

    fn check(&self, bench: &Bench, name: &str) {
        let status = bench.status(Who::Bystander);
        let now = (status.state, status.counters.established, status.routes);
        assert_eq!(now, (SessionState::Established, 1, 1), "{name}");
    }

    /// It has had its route once, nothing else, and loses it only now.
    async fn finish(mut self, bench: &Bench) {
        bench.speaker.withdraw(Self::NAME, CommandId(2), &self.route.nlri).unwrap();
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        while withdrawn.is_empty() {
            let message = read_message(&mut self.stream).await.unwrap();
            assert_ne!(message[18], NOTIFICATION);
            if message[18] == UPDATE {
                let update = decode_update(&message).unwrap();
                announced.extend(update.announced);
                withdrawn.extend(update.withdrawn);
            }
        }
        assert_eq!((announced, withdrawn), (vec![self.route.nlri.clone()], vec![self.route.nlri]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_harms_nobody_else() {
    let bench = Bench::start().await;
    let bystander = Bystander::of(&bench).await;
    let mut complaints = Vec::new();
    for row in table::rows() {
        complaints.extend(bench.check(&row).await);
        bystander.check(&bench, &format!("M{:02} {}", row.number, row.name));
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    bystander.finish(&bench).await;
}

/// M07, and M61 where it sends an octet now and then: the rest of a message does not come. The hold
/// timer ends it, and only whole messages restart that.
#[tokio::test]
async fn half_a_message_does_not_hold_the_session() {
    let bench = Bench::start().await;
    let bystander = Bystander::of(&bench).await;
    for (name, begin, pause) in [("silence", 18, 3600), ("an octet a second", 19, 1)] {
        let mut stream = bench.bring_up(Who::Slow, When::Established).await;
        let octets = lying_message(UPDATE, 4000, &[]);
        let (mut reader, mut writer) = stream.split();
        writer.write_all(&octets[..begin]).await.unwrap();
        let trickle = async {
            for octet in [0].iter().cycle() {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                // It may be gone already.
                let _ = writer.write_all(&[*octet]).await;
            }
        };
        let end = async {
            let mut all = Vec::new();
            timeout(PATIENCE, reader.read_to_end(&mut all)).await.unwrap().unwrap();
            all
        };
        let all = tokio::select! {
            all = end => all,
            () = trickle => unreachable!("it has no end"),
        };
        let last = &all[all.len() - 21..];
        assert_eq!(last[18..], [NOTIFICATION, 4, 0], "{name}: {last:02x?}");
        bystander.check(&bench, name);
    }
    bystander.finish(&bench).await;
}

/// M61: the peer talks on and does not read. Its session ends after three hold times, and what it was
/// to lose is never said to be gone before.
#[tokio::test]
async fn a_peer_that_reads_nothing_is_given_up() {
    let bench = Bench::start().await;
    let bystander = Bystander::of(&bench).await;
    let mut stream = bench.bring_up(Who::Slow, When::Established).await;
    let slow = "Slow";
    let routes: Vec<Route> =
        (54..=255).map(|host| ntp_filter(&format!("203.0.113.{host}"))).collect();
    let give = |round: u64| {
        for route in &routes {
            match round % 2 {
                0 => bench.speaker.announce(slow, CommandId(round), route.clone()).unwrap(),
                _ => bench.speaker.withdraw(slow, CommandId(round), &route.nlri).unwrap(),
            }
        }
    };
    let is_up = || bench.status(Who::Slow).state == SessionState::Established;
    let mut unconfirmed = 0;
    let ending = async {
        for round in 0.. {
            give(round);
            if round % 50 == 0 {
                let _ = stream.write_all(&message(KEEPALIVE, &[])).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if !is_up() {
                break;
            }
            unconfirmed = unconfirmed.max(bench.status(Who::Slow).unconfirmed_withdraws);
            tokio::task::yield_now().await;
        }
    };
    timeout(2 * PATIENCE, ending).await.unwrap();
    let error = bench.status(Who::Slow).last_error_sent.unwrap();
    assert_eq!((error.code, error.subcode), (8, 0));
    assert!(unconfirmed > 0);
    bystander.check(&bench, "it was given up");
    bystander.finish(&bench).await;
}

/// M26: two connections with one peer, in every pair of states. One stays; the other gets 6/7.
#[tokio::test]
async fn of_two_connections_one_survives() {
    // Ours is 127.0.0.1.
    for (name, identifier) in [("the peer is higher", [192, 0, 2, 2]), ("we are", [10, 0, 0, 1])] {
        for when in [When::OpenSent, When::OpenConfirm, When::Established] {
            let name = format!("{name}, {when:?}");
            let bench = Bench::start().await;
            let bystander = Bystander::of(&bench).await;
            let open = {
                let mut open = Who::Both.open();
                open[24..28].copy_from_slice(&identifier);
                open
            };
            let accepted = timeout(PATIENCE, bench.listener.accept()).await.unwrap();
            let (mut theirs, _) = accepted.unwrap();
            assert_eq!(read_message(&mut theirs).await.unwrap()[18], 1, "OPEN");
            // So far on the connection that the speaker opened.
            if when != When::OpenSent {
                theirs.write_all(&open).await.unwrap();
                assert_eq!(read_message(&mut theirs).await.unwrap()[18], KEEPALIVE);
            }
            if when == When::Established {
                theirs.write_all(&message(KEEPALIVE, &[])).await.unwrap();
                bench
                    .wait(&name, || bench.status(Who::Both).state == SessionState::Established)
                    .await;
            }
            // And on the other one until it is told more than OPEN.
            let mut ours = bench.connect(Who::Both).await;
            ours.write_all(&open).await.unwrap();
            if when == When::OpenSent {
                assert_eq!(read_message(&mut ours).await.unwrap()[18], KEEPALIVE);
                theirs.write_all(&open).await.unwrap();
            }
            // The higher one's connection stays, or the one that is established.
            let ours_stays = identifier[0] == 192 && when != When::Established;
            let (stays, goes) = if ours_stays { (&mut ours, theirs) } else { (&mut theirs, ours) };
            assert_eq!(last_words(goes).await, Some((6, 7)), "{name}");
            stays.write_all(&message(KEEPALIVE, &[])).await.unwrap();
            bench.wait(&name, || bench.status(Who::Both).state == SessionState::Established).await;
            bystander.check(&bench, &name);
            bystander.finish(&bench).await;
        }
    }
}

/// M62: connections from everywhere. Nothing is kept of them; a wrong key and a short TTL are the
/// kernel's to drop (tests/bird/transport.rs).
#[tokio::test]
async fn strangers_are_turned_away() {
    let bench = Bench::start().await;
    let bystander = Bystander::of(&bench).await;
    for host in 0..1000_u16 {
        let [high, low] = host.to_be_bytes();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 7, high, low.max(1)], 0))).unwrap();
        let mut stream = socket.connect(bench.address).await.unwrap();
        let _ = stream.write_all(&Who::External.open()).await;
        let mut nothing = [0; 1];
        let read = timeout(PATIENCE, stream.read(&mut nothing)).await.unwrap();
        assert!(!matches!(read, Ok(1..)), "it was told something");
    }
    assert_eq!(bench.speaker.peers().len(), Who::ALL.len());
    bystander.check(&bench, "strangers");
    bystander.finish(&bench).await;
}

/// Code and subcode of the NOTIFICATION that a connection ends with.
async fn last_words(mut stream: TcpStream) -> Option<(u8, u8)> {
    let mut last = None;
    while let Some(message) = read_message(&mut stream).await {
        last = (message[18] == NOTIFICATION).then(|| (message[19], message[20]));
    }
    last
}
