//! The speaker: every peer's session behind one handle.
//!
//! A command goes into the peer's Adj-RIB-Out in the caller's own thread, and the peer's task
//! writes it to the socket. What becomes of it comes back as a [`SpeakerEvent`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tidegate_model::{
    BackendState, CommandId, Community, LargeCommunity, Nlri, Outcome, Prefix, Route, Timestamp,
};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::egress::GatePolicy;
use crate::family::Family;
use crate::io::{Listener, Peer, Roster, Welcome, listen};
use crate::learnt::{Change, Learnt, Tally};
use crate::session::{
    ConnectMode, Delivery, Dump, MrtEnds, Session, SessionOptions, SessionStatus,
};

pub use crate::io::{HopLimit, Md5Key, Md5KeyError, Transport};
pub use crate::session::MAX_DUMP;

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
    /// Hold time that is offered; see [`hold_time`](crate::session::SessionConfig::hold_time).
    pub hold_time: Duration,
    /// Families that are offered.
    pub families: BTreeSet<Family>,
    /// Most routes that it is sent.
    pub max_routes: u32,
    /// How its TCP connections are made and guarded.
    pub transport: Transport,
    /// What it is offered and asked for beyond the necessary.
    pub options: SessionOptions,
    /// What it wants on black holes.
    pub blackhole: BlackholeProfile,
}

/// A prefix that peers may connect from without being configured one by one (dynamic neighbours).
///
/// All of them are to hold the same: they are commanded together, by the name of the prefix. It is
/// up while one of them is. An announcement is answered when the first of them has been sent it, a
/// withdraw when all of them have. Those that come later are given what is wanted then.
///
/// One that connects is shown as a peer of its own, named `<name>/<address>`, from its first octet
/// until its connection ends. Configured peers go first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicPeers {
    /// Name of the prefix. Unique, among peers too.
    pub name: String,
    /// Where they are.
    pub prefix: Prefix,
    /// Most of them at a time. Those beyond are turned away without a word.
    pub limit: usize,
    /// Their AS number.
    pub asn: u32,
    /// Hold time that is offered; see [`hold_time`](crate::session::SessionConfig::hold_time).
    pub hold_time: Duration,
    /// Families that are offered.
    pub families: BTreeSet<Family>,
    /// Most routes that each is sent.
    pub max_routes: u32,
    /// How the TCP connections are guarded. A TCP MD5 key is one for all.
    pub transport: Transport,
    /// What they are offered and asked for beyond the necessary.
    pub options: SessionOptions,
    /// What they want on black holes.
    pub blackhole: BlackholeProfile,
}

impl DynamicPeers {
    /// The peer at `address`.
    pub(crate) fn member(&self, address: IpAddr) -> PeerConfig {
        PeerConfig {
            name: format!("{}/{address}", self.name),
            address,
            asn: self.asn,
            port: 0,
            local_address: None,
            mode: ConnectMode::Passive,
            hold_time: self.hold_time,
            families: self.families.clone(),
            max_routes: self.max_routes,
            transport: self.transport.clone(),
            options: self.options.clone(),
            blackhole: self.blackhole.clone(),
        }
    }
}

/// The communities that one peer wants on black holes, see [`GatePolicy::admit_profile`]. Without
/// any, the policy of the gate holds as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlackholeProfile {
    /// Communities, those that limit the scope among them.
    pub communities: BTreeSet<Community>,
    /// Large communities.
    pub large_communities: BTreeSet<LargeCommunity>,
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
    /// Prefixes that others may connect from.
    pub dynamic: Vec<DynamicPeers>,
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
    /// What a peer's FlowSpec rule is worth has changed, or the rule is gone. One that is infeasible
    /// must not be acted on, and one that is feasible only if a policy says so (RFC 8212). Whoever missed some, as `events_lost` tells, asks for
    /// [`SpeakerHandle::learnt`].
    FlowSpec(Change),
    /// A route made a peer end the session, and is not sent to it any more until it is withdrawn
    /// and announced again. Its command has been answered with `Rejected`.
    Quarantined {
        /// The peer's name.
        peer: String,
        /// The route.
        nlri: Nlri,
        /// What is known, for people.
        why: String,
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
    /// How often its task panicked and was started again. Each is a fault of ours; the log has it.
    pub restarts: u64,
    /// How many routes it announces.
    pub learnt: Tally,
    /// The session.
    pub session: SessionStatus,
}

/// The messages of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MrtDump {
    /// An MRT file of `BGP4MP_ET` entries (RFC 6396), or a part to be put behind earlier ones.
    pub file: Vec<u8>,
    /// How many messages before these there was no room for.
    pub lost: u64,
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

/// Why a command is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No peer has this name, or one from a prefix that is not commanded alone.
    #[error("there is no peer named `{name}`")]
    UnknownPeer {
        /// The name.
        name: String,
    },
    /// No neighbour from the prefix is there. Those that come are given what was announced.
    #[error("no neighbour is there from the prefix of `{name}`")]
    Absent {
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
        let (handle, events) = Self::prepare(config)?;
        handle.begin();
        Ok((handle, events))
    }

    /// The same, but no session comes up before [`SpeakerHandle::begin`]. Meanwhile it takes commands.
    ///
    /// # Errors
    /// [`SpeakerError`]. Nothing runs then.
    pub fn prepare(
        config: SpeakerConfig,
    ) -> Result<(SpeakerHandle, mpsc::Receiver<SpeakerEvent>), SpeakerError> {
        let runtime = Handle::try_current().map_err(|_| SpeakerError::NoRuntime)?;
        let mut names = BTreeSet::new();
        let peers = config.peers.iter().map(|peer| &peer.name);
        for name in peers.chain(config.dynamic.iter().map(|range| &range.name)) {
            if !names.insert(name) {
                return Err(SpeakerError::DuplicatePeer { name: name.clone() });
            }
        }
        let sockets = open_sockets(&config)?;
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let roster = Roster::new(&config, runtime.clone(), events);
        let routes = roster.routes();
        let listening = |socket| {
            let listener = Listener { socket, routes: routes.clone(), roster: Arc::clone(&roster) };
            runtime.spawn(listener.run()).abort_handle()
        };
        let listeners = sockets.into_iter().map(listening).collect();
        let speaker = Arc::new(Running { roster, listeners });
        Ok((SpeakerHandle { speaker }, receiver))
    }
}

/// What a caller is told of a command for a prefix.
fn answered(name: &str, told: Option<bool>) -> Result<(), CommandError> {
    match told {
        Some(true) => Ok(()),
        Some(false) => Err(CommandError::Absent { name: name.to_owned() }),
        None => Err(CommandError::UnknownPeer { name: name.to_owned() }),
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
    for range in &config.dynamic {
        welcome.expect(range.prefix, &range.transport);
    }
    if keys.is_empty() && config.dynamic.is_empty() {
        return Ok(Vec::new());
    }
    let open = |address: &SocketAddr| {
        let error = |source| SpeakerError::Listen { address: *address, source };
        listen(*address, &welcome).map_err(error)
    };
    config.listen.iter().map(open).collect()
}

/// Everything that ends with the last handle.
#[derive(Debug)]
struct Running {
    roster: Arc<Roster>,
    listeners: Vec<AbortHandle>,
}

impl Running {
    fn abort(&self) {
        for listener in &self.listeners {
            listener.abort();
        }
        self.roster.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.roster.close();
        self.abort();
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
    /// [`CommandError`]; there is no event then.
    pub fn announce(
        &self,
        peer: &str,
        command: CommandId,
        route: Route,
    ) -> Result<(), CommandError> {
        let roster = &self.speaker.roster;
        if let Some(peer) = roster.find_configured(peer) {
            peer.session.lock().handle_announce(command, route);
            peer.session.wake.notify_one();
            return Ok(());
        }
        let tell = |session: &mut Session| session.handle_announce(command, route.clone());
        let told = roster.tell_range(peer, |range| range.announce(command, &route), tell);
        answered(peer, told)
    }

    /// Wants `nlri` gone from `peer`. Answered as an announcement is. Never refused for want of
    /// room.
    ///
    /// # Errors
    /// [`CommandError`]; there is no event then.
    pub fn withdraw(
        &self,
        peer: &str,
        command: CommandId,
        nlri: &Nlri,
    ) -> Result<(), CommandError> {
        let roster = &self.speaker.roster;
        if let Some(peer) = roster.find_configured(peer) {
            peer.session.lock().handle_withdraw(command, nlri);
            peer.session.wake.notify_one();
            return Ok(());
        }
        let tell = |session: &mut Session| session.handle_withdraw(command, nlri);
        answered(peer, roster.tell_range(peer, |range| range.withdraw(command, nlri), tell))
    }

    /// From now on what leaves is judged by `policy`. What has left already is judged again, and
    /// withdrawn if it is refused.
    pub fn set_gate(&self, policy: GatePolicy) {
        self.speaker.roster.set_gate(policy);
    }

    /// Lets sessions come up, see [`Speaker::prepare`].
    pub fn begin(&self) {
        self.speaker.roster.begin();
    }

    /// Everything that was announced before a restart has been announced again: peers with
    /// [`GracefulRestart::Restarting`](crate::session::GracefulRestart::Restarting) may take what they kept for true. To be called before their
    /// sessions come up, so before [`Self::begin`], or it has no effect on them.
    pub fn set_replayed(&self) {
        self.speaker.roster.set_replayed();
    }

    /// Every peer: the configured ones in their order, then the dynamic neighbours that are there.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.speaker.roster.peers().iter().map(|peer| self.status(peer)).collect()
    }

    /// The routes that `peer`, or each from a prefix, should hold, in order of their NLRI.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn routes(&self, peer: &str) -> Result<Vec<Route>, UnknownPeer> {
        if let Some(deliveries) = self.speaker.roster.range_deliveries(peer) {
            return Ok(deliveries.into_iter().map(|(route, _)| route).collect());
        }
        Ok(self.peer(peer)?.session.lock().routes().cloned().collect())
    }

    /// The Adj-RIB-Out of `peer`: the routes that it should hold, in order of their NLRI, each with
    /// how far it is on the session as it is now. What is not [`Delivery::Waiting`] has been sent;
    /// that the peer's TCP has it is only known of what is [`Delivery::Confirmed`]. Of a prefix, what
    /// the slowest of its neighbours has.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn deliveries(&self, peer: &str) -> Result<Vec<(Route, Delivery)>, UnknownPeer> {
        if let Some(deliveries) = self.speaker.roster.range_deliveries(peer) {
            return Ok(deliveries);
        }
        let peer = self.peer(peer)?;
        let session = peer.session.lock_informed();
        let deliveries = session.deliveries().into_iter();
        Ok(deliveries.map(|(route, delivery)| (route.clone(), delivery)).collect())
    }

    /// What `peer` should not hold any more and may, in order: the withdraw waits for the socket, or
    /// the peer's TCP has not acknowledged it.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn unconfirmed_withdraws(&self, peer: &str) -> Result<Vec<Nlri>, UnknownPeer> {
        let peer = self.peer(peer)?;
        let session = peer.session.lock_informed();
        Ok(session.unconfirmed_withdraws().into_iter().cloned().collect())
    }

    /// The routes that `peer` announces, as far as they are kept: unicast in order, then the rules,
    /// those first that a router looks at first (RFC 8955 §5.1). None is passed on.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn learnt(&self, peer: &str) -> Result<Vec<Learnt>, UnknownPeer> {
        let peer = self.peer(peer)?;
        Ok(self.speaker.roster.learnt().of_peer(&peer.config.name))
    }

    /// From now on the newest messages of the session with `peer` are recorded, as many as fit into
    /// `limit` octets, [`MAX_DUMP`] at most. Those that there is no room for are counted.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn start_dump(&self, peer: &str, limit: usize) -> Result<(), UnknownPeer> {
        self.peer(peer)?.session.lock().start_dump(limit);
        Ok(())
    }

    /// What was recorded since the last call. `None` if nothing is being recorded.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn take_dump(&self, peer: &str) -> Result<Option<MrtDump>, UnknownPeer> {
        let peer = self.peer(peer)?;
        let dump = peer.session.lock().take_dump();
        Ok(dump.map(|dump| self.to_mrt(&peer, &dump)))
    }

    /// Records no more, and returns what [`Self::take_dump`] would have.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn stop_dump(&self, peer: &str) -> Result<Option<MrtDump>, UnknownPeer> {
        let peer = self.peer(peer)?;
        let dump = peer.session.lock().stop_dump();
        Ok(dump.map(|dump| self.to_mrt(&peer, &dump)))
    }

    fn to_mrt(&self, peer: &Peer, dump: &Dump) -> MrtDump {
        let roster = &self.speaker.roster;
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let zero = wall.saturating_sub(roster.clock.now().since(Timestamp::ZERO));
        let ends = MrtEnds {
            peer_as: peer.config.asn,
            local_as: roster.asn(),
            peer_address: peer.config.address,
        };
        MrtDump { file: dump.to_mrt(ends, zero), lost: dump.lost }
    }

    /// The routes that made `peer` end the session and are not sent to it any more, with what is
    /// known of each.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn quarantined(&self, peer: &str) -> Result<Vec<(Nlri, String)>, UnknownPeer> {
        let peer = self.peer(peer)?;
        let session = peer.session.lock();
        Ok(session.quarantined().map(|(nlri, why)| (nlri.clone(), why.to_owned())).collect())
    }

    /// Withdraws everything from every peer, then ends each session with Cease, Administrative
    /// Shutdown and `reason` (RFC 9003, cut to 128 octets), and waits until that is delivered: at
    /// most [`SHUTDOWN_TIMEOUT`]. Commands after that are not answered.
    pub async fn shutdown(&self, reason: &str) {
        let roster = &self.speaker.roster;
        roster.close();
        roster.begin();
        let peers = roster.peers();
        for peer in &peers {
            peer.session.lock().handle_stop(roster.clock.now(), reason);
            peer.session.wake.notify_one();
        }
        let mut waiting = JoinSet::new();
        for peer in &peers {
            let mut finished = peer.finished.clone();
            // An error means that the task is gone already.
            waiting.spawn(async move { finished.wait_for(|finished| *finished).await.is_ok() });
        }
        let all = async { while waiting.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, all).await.is_err() {
            tracing::warn!("not every peer took its last messages in time");
        }
        self.speaker.abort();
    }

    fn peer(&self, name: &str) -> Result<Arc<Peer>, UnknownPeer> {
        self.speaker.roster.find(name).ok_or_else(|| UnknownPeer { name: name.to_owned() })
    }

    fn status(&self, peer: &Peer) -> PeerStatus {
        let session = peer.session.lock_informed().status();
        let now = self.speaker.roster.clock.now();
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
            learnt: self.speaker.roster.learnt().tally(&peer.config.name),
            restarts: peer.session.restarts.load(Ordering::Relaxed),
            session,
        }
    }
}
