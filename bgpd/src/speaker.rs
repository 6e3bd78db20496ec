//! The speaker: every peer's session behind one handle.
//!
//! A command goes into the peer's Adj-RIB-Out in the caller's own thread, and the peer's task
//! writes it to the socket. What becomes of it comes back as a [`SpeakerEvent`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_model::{BackendState, CommandId, Nlri, Outcome, Prefix, Route, Timestamp};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::egress::{Gate, GatePolicy};
use crate::family::Family;
use crate::io::{
    ACCEPT_QUEUE, Clock, Listener, ListenerRoute, PeerTask, SharedSession, Welcome, listen,
};
use crate::session::{ConnectMode, Session, SessionConfig, SessionOptions, SessionStatus};

pub use crate::io::{HopLimit, Md5Key, Md5KeyError, Transport};

/// Events that wait for their receiver. While it is full each peer keeps its own in a bounded
/// backlog; sessions and routes do not wait for it.
pub const EVENT_QUEUE: usize = 4096;
/// A planned stop takes no longer than this.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its name, by which it is commanded and reported. Unique.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its AS number.
    pub asn: u32,
    /// The TCP port that it listens on.
    pub port: u16,
    /// Our address on the session. `None`: whatever the routing table says.
    pub local_address: Option<IpAddr>,
    /// Who may connect.
    pub mode: ConnectMode,
    /// Hold time that is offered; see [`SessionConfig::hold_time`].
    pub hold_time: Duration,
    /// Families that are offered.
    pub families: BTreeSet<Family>,
    /// Most routes that it is sent.
    pub max_routes: u32,
    /// How its TCP connections are made and guarded.
    pub transport: Transport,
    /// What it is offered and asked for beyond the necessary.
    pub options: SessionOptions,
}

/// What a speaker starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Our AS number.
    pub asn: u32,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Where to wait for peers. Not used if every peer is [`ConnectMode::Active`].
    pub listen: Vec<SocketAddr>,
    /// The peers.
    pub peers: Vec<PeerConfig>,
    /// What may leave.
    pub gate: GatePolicy,
    /// Spreads connection attempts in time.
    pub seed: u64,
}

/// News from the speaker.
#[derive(Clone, Debug, PartialEq)]
pub enum SpeakerEvent {
    /// What became of a command.
    Outcome(Outcome),
    /// A session came up or went down.
    State {
        /// The peer's name.
        peer: String,
        /// How it is now.
        state: BackendState,
    },
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its AS number.
    pub asn: u32,
    /// How long the session has been in its state. While established: its uptime.
    pub in_state_for: Duration,
    /// How long ago the last NOTIFICATION was sent, and received.
    pub last_error_age: (Option<Duration>, Option<Duration>),
    /// Events that were dropped because nobody took them in time.
    pub events_lost: u64,
    /// The session.
    pub session: SessionStatus,
}

/// Why a speaker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    /// Outside a runtime there are no tasks.
    #[error("the speaker needs a tokio runtime with I/O and time enabled")]
    NoRuntime,
    /// The address is in use, is not ours, or the port is privileged.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A listening socket knows an address by one key, or by none.
    #[error("peers at {address} have different TCP MD5 keys")]
    Md5Keys {
        /// The address.
        address: IpAddr,
    },
    /// Two peers have the same name.
    #[error("there are two peers named `{name}`")]
    DuplicatePeer {
        /// The name.
        name: String,
    },
}

/// No peer has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no peer named `{name}`")]
pub struct UnknownPeer {
    /// The name.
    pub name: String,
}

/// Starts speakers.
#[derive(Debug)]
pub struct Speaker;

impl Speaker {
    /// Starts a speaker in the current tokio runtime. It runs until [`SpeakerHandle::shutdown`], or
    /// until the last handle is dropped, which closes its connections without a word.
    ///
    /// # Errors
    /// [`SpeakerError`]. Nothing runs then.
    pub fn start(
        config: SpeakerConfig,
    ) -> Result<(SpeakerHandle, mpsc::Receiver<SpeakerEvent>), SpeakerError> {
        let runtime = Handle::try_current().map_err(|_| SpeakerError::NoRuntime)?;
        let mut names = BTreeSet::new();
        for peer in &config.peers {
            if !names.insert(&peer.name) {
                return Err(SpeakerError::DuplicatePeer { name: peer.name.clone() });
            }
        }
        let sockets = open_sockets(&config)?;
        let clock = Clock::start();
        let gate = Arc::new(Gate::new(config.gate.clone()));
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let mut speaker = Running { clock, peers: Vec::new(), tasks: Vec::new() };
        let mut routes = Vec::new();
        for (number, peer) in (0..).zip(&config.peers) {
            let (accepted, accepted_here) = mpsc::channel(ACCEPT_QUEUE);
            let (remote, local) = (peer.address, peer.local_address);
            if peer.mode != ConnectMode::Active {
                let hops = peer.transport.hops;
                routes.push(ListenerRoute { remote, local, hops, to: accepted });
            }
            let settings = session_config(&config, peer, config.seed.wrapping_add(number));
            let session = Session::new(clock.now(), settings, Arc::clone(&gate));
            let session = Arc::new(SharedSession::new(session));
            let (finished, finished_here) = watch::channel(false);
            let task = PeerTask {
                name: peer.name.clone(),
                remote: SocketAddr::new(peer.address, peer.port),
                local,
                transport: peer.transport.clone(),
                clock,
                session: Arc::clone(&session),
                accepted: accepted_here,
                events: events.clone(),
                finished,
            };
            speaker.tasks.push(runtime.spawn(task.run()).abort_handle());
            speaker.peers.push(Peer { config: peer.clone(), session, finished: finished_here });
        }
        for socket in sockets {
            let listener = Listener { socket, routes: routes.clone() };
            speaker.tasks.push(runtime.spawn(listener.run()).abort_handle());
        }
        Ok((SpeakerHandle { speaker: Arc::new(speaker) }, receiver))
    }
}

/// A socket for each address, if anybody may connect.
fn open_sockets(config: &SpeakerConfig) -> Result<Vec<TcpListener>, SpeakerError> {
    let mut welcome = Welcome::default();
    let mut keys: BTreeMap<IpAddr, Option<&Md5Key>> = BTreeMap::new();
    let mut expected = config.peers.iter().filter(|peer| peer.mode != ConnectMode::Active);
    for peer in &mut expected {
        let key = peer.transport.md5.as_ref();
        if *keys.entry(peer.address).or_insert(key) != key {
            return Err(SpeakerError::Md5Keys { address: peer.address });
        }
        welcome.expect(Prefix::host(peer.address), &peer.transport);
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let open = |address: &SocketAddr| {
        let error = |source| SpeakerError::Listen { address: *address, source };
        listen(*address, &welcome).map_err(error)
    };
    config.listen.iter().map(open).collect()
}

fn session_config(config: &SpeakerConfig, peer: &PeerConfig, seed: u64) -> SessionConfig {
    SessionConfig {
        local_as: config.asn,
        router_id: config.router_id,
        peer_as: peer.asn,
        families: peer.families.clone(),
        hold_time: peer.hold_time,
        mode: peer.mode,
        max_routes: peer.max_routes,
        options: peer.options.clone(),
        seed,
    }
}

#[derive(Debug)]
struct Peer {
    config: PeerConfig,
    session: Arc<SharedSession>,
    finished: watch::Receiver<bool>,
}

/// Everything that ends with the last handle.
#[derive(Debug)]
struct Running {
    clock: Clock,
    peers: Vec<Peer>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Commands a running speaker. Clones command the same one.
#[derive(Clone, Debug)]
pub struct SpeakerHandle {
    speaker: Arc<Running>,
}

impl SpeakerHandle {
    /// Wants `route` at `peer`, in place of what the same NLRI had before. The answer is an event,
    /// unless a later command for the same NLRI overtakes this one: then there is none.
    ///
    /// # Errors
    /// [`UnknownPeer`]; there is no event then.
    pub fn announce(
        &self,
        peer: &str,
        command: CommandId,
        route: Route,
    ) -> Result<(), UnknownPeer> {
        let peer = self.peer(peer)?;
        peer.session.lock().handle_announce(command, route);
        peer.session.wake.notify_one();
        Ok(())
    }

    /// Wants `nlri` gone from `peer`. Answered as an announcement is. Never refused for want of
    /// room.
    ///
    /// # Errors
    /// [`UnknownPeer`]; there is no event then.
    pub fn withdraw(&self, peer: &str, command: CommandId, nlri: &Nlri) -> Result<(), UnknownPeer> {
        let peer = self.peer(peer)?;
        peer.session.lock().handle_withdraw(command, nlri);
        peer.session.wake.notify_one();
        Ok(())
    }

    /// From now on what leaves is judged by `policy`. What has left already is judged again, and
    /// withdrawn if it is refused.
    pub fn set_gate(&self, policy: GatePolicy) {
        let gate = Arc::new(Gate::new(policy));
        for peer in &self.speaker.peers {
            peer.session.lock().handle_gate(Arc::clone(&gate));
            peer.session.wake.notify_one();
        }
    }

    /// Every peer, in the order of the configuration.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.speaker.peers.iter().map(|peer| self.status(peer)).collect()
    }

    /// The routes that `peer` should hold, in order of their NLRI.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn routes(&self, peer: &str) -> Result<Vec<Route>, UnknownPeer> {
        Ok(self.peer(peer)?.session.lock().routes().cloned().collect())
    }

    /// Withdraws everything from every peer, then ends each session with Cease, Administrative
    /// Shutdown and `reason` (RFC 9003, cut to 128 octets), and waits until that is delivered: at
    /// most [`SHUTDOWN_TIMEOUT`]. Commands after that are not answered.
    pub async fn shutdown(&self, reason: &str) {
        for peer in &self.speaker.peers {
            peer.session.lock().handle_stop(self.speaker.clock.now(), reason);
            peer.session.wake.notify_one();
        }
        let mut waiting = JoinSet::new();
        for peer in &self.speaker.peers {
            let mut finished = peer.finished.clone();
            // An error means that the task is gone already.
            waiting.spawn(async move { finished.wait_for(|finished| *finished).await.is_ok() });
        }
        let all = async { while waiting.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, all).await.is_err() {
            tracing::warn!("not every peer took its last messages in time");
        }
        for task in &self.speaker.tasks {
            task.abort();
        }
    }

    fn peer(&self, name: &str) -> Result<&Peer, UnknownPeer> {
        let found = self.speaker.peers.iter().find(|peer| peer.config.name == name);
        found.ok_or_else(|| UnknownPeer { name: name.to_owned() })
    }

    fn status(&self, peer: &Peer) -> PeerStatus {
        let session = peer.session.lock().status();
        let now = self.speaker.clock.now();
        let age = |at: Timestamp| now.since(at);
        PeerStatus {
            name: peer.config.name.clone(),
            address: peer.config.address,
            asn: peer.config.asn,
            in_state_for: age(session.since),
            last_error_age: (
                session.last_error_sent.as_ref().map(|error| age(error.at)),
                session.last_error_received.as_ref().map(|error| age(error.at)),
            ),
            events_lost: peer.session.events_lost.load(Ordering::Relaxed),
            session,
        }
    }
}
