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
use tidegate_model::CommandId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use octets::{KEEPALIVE, NOTIFICATION, UPDATE, message, open_with};
use support::{blackhole, gate_policy};

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
}

impl Who {
    const ALL: [Self; 5] =
        [Self::External, Self::Internal, Self::Provider, Self::Strict, Self::Bystander];

    fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 1, self as u8)
    }

    fn asn(self) -> u16 {
        if self == Self::Internal { 65010 } else { 65001 }
    }

    fn config(self) -> PeerConfig {
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
            port: 1,
            local_address: None,
            mode: ConnectMode::Passive,
            hold_time: Duration::from_secs(90),
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
}

impl Bench {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (speaker, _) = Speaker::start(SpeakerConfig {
            asn: 65010,
            router_id: Ipv4Addr::LOCALHOST,
            listen: vec![address],
            peers: Who::ALL.map(Who::config).into(),
            dynamic: Vec::new(),
            gate: gate_policy(),
            seed: 1,
        })
        .unwrap();
        Self { speaker, address }
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

/// The tests of what takes a clock, several connections or a kernel.
const ELSEWHERE: [(u8, &str); 4] = [
    (7, "tests/session/malformed.rs: a_peer_that_says_nothing_is_given_up"),
    (26, "tests/session/pair.rs: of_two_connections_one_survives"),
    (61, "tests/session/malformed.rs: a_peer_that_does_not_read_is_given_up"),
    (62, "tests/bird/transport.rs: md5_with_another_key_or_none_keeps_the_session_down"),
];

#[test]
fn no_number_is_left_out() {
    let mut numbers: BTreeSet<u8> = table::rows().iter().map(|row| row.number).collect();
    numbers.extend(ELSEWHERE.map(|(number, _)| number));
    assert_eq!(numbers, (1..=63).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_harms_nobody_else() {
    let bench = Bench::start();
    let mut bystander = bench.bring_up(Who::Bystander, When::Established).await;
    let name = format!("{:?}", Who::Bystander);
    let route = blackhole("203.0.113.7");
    bench.speaker.announce(&name, CommandId(1), route.clone()).unwrap();
    let mut complaints = Vec::new();
    for row in table::rows() {
        complaints.extend(bench.check(&row).await);
        let status = bench.status(Who::Bystander);
        let untouched = (SessionState::Established, 1, 1);
        let now = (status.state, status.counters.established, status.routes);
        assert_eq!(now, untouched, "M{:02} {}", row.number, row.name);
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    // It has had its route once, nothing else, and loses it only now.
    bench.speaker.withdraw(&name, CommandId(2), &route.nlri).unwrap();
    let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
    while withdrawn.is_empty() {
        let message = read_message(&mut bystander).await.unwrap();
        assert_ne!(message[18], NOTIFICATION);
        if message[18] == UPDATE {
            let update = decode_update(&message).unwrap();
            announced.extend(update.announced);
            withdrawn.extend(update.withdrawn);
        }
    }
    assert_eq!((announced, withdrawn), (vec![route.nlri.clone()], vec![route.nlri]));
}
