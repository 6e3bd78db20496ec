//! The peers of a speaker: those that are configured, and those that came from a prefix.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_model::{Nlri, Route};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::task::AbortHandle;

use super::clock::Clock;
use super::listener;
use super::peer::{ACCEPT_QUEUE, PeerTask, SharedSession};
use super::range::Range;
use crate::egress::{Gate, GatePolicy};
use crate::learnt::{LearntRoutes, Limits};
use crate::session::{ConnectMode, Delivery, Session, SessionConfig, send_hold};
use crate::speaker::{BlackholeProfile, PeerConfig, SpeakerConfig, SpeakerEvent};

/// One peer and its task.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    pub(crate) session: Arc<SharedSession>,
    pub(crate) finished: watch::Receiver<bool>,
    accepted: mpsc::Sender<TcpStream>,
    /// The prefix that it came from.
    range: Option<String>,
    task: AbortHandle,
}

/// Every peer of a speaker.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) clock: Clock,
    asn: u32,
    router_id: Ipv4Addr,
    seed: u64,
    runtime: Handle,
    events: mpsc::Sender<SpeakerEvent>,
    learnt: Arc<Mutex<LearntRoutes>>,
    /// Whether sessions may come up.
    begun: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    peers: Vec<Arc<Peer>>,
    ranges: Vec<Range>,
    gate: Arc<Gate>,
    /// How many peers there have been.
    count: u64,
    /// What peers should hold after a restart is complete.
    replayed: bool,
    /// Nobody comes in any more.
    closed: bool,
}

impl Peer {
    fn is_from(&self, range: &str) -> bool {
        self.range.as_deref() == Some(range)
    }
}

impl State {
    /// The prefix that the peer `name` came from.
    fn range_of(&mut self, name: &str) -> Option<&mut Range> {
        let peer = self.peers.iter().find(|peer| peer.config.name == name)?;
        let range = peer.range.as_deref()?;
        self.ranges.iter_mut().find(|it| it.config.name == range)
    }
}

impl Roster {
    pub(crate) fn new(
        config: &SpeakerConfig,
        runtime: Handle,
        events: mpsc::Sender<SpeakerEvent>,
    ) -> Arc<Self> {
        let roster = Arc::new(Self {
            clock: Clock::start(),
            asn: config.asn,
            router_id: config.router_id,
            seed: config.seed,
            runtime,
            events,
            learnt: Arc::new(Mutex::new(LearntRoutes::new(Limits::default()))),
            begun: watch::channel(false).0,
            state: Mutex::new(State {
                peers: Vec::new(),
                ranges: config.dynamic.iter().cloned().map(Range::new).collect(),
                gate: Arc::new(Gate::new(config.gate.clone())),
                count: 0,
                replayed: false,
                closed: false,
            }),
        });
        for peer in &config.peers {
            roster.add(&mut roster.lock(), peer.clone(), None);
        }
        roster
    }

    /// Our AS number.
    pub(crate) fn asn(&self) -> u32 {
        self.asn
    }

    /// Every peer: the configured ones in their order, then the others as they came.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        self.lock().peers.clone()
    }

    /// The peer `name`, if it is configured: one that can be commanded alone.
    pub(crate) fn find_configured(&self, name: &str) -> Option<Arc<Peer>> {
        self.find(name).filter(|peer| peer.range.is_none())
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Peer>> {
        self.lock().peers.iter().find(|peer| peer.config.name == name).cloned()
    }

    /// From now on `policy` judges what leaves to any peer.
    pub(crate) fn set_gate(&self, policy: GatePolicy) {
        let mut state = self.lock();
        state.gate = Arc::new(Gate::new(policy));
        for peer in &state.peers {
            peer.session.lock().handle_gate(gate_for(
                &state.gate,
                &peer.config,
                peer.range.is_some(),
            ));
            peer.session.wake.notify_one();
        }
    }

    /// What every peer should hold after a restart is complete.
    pub(crate) fn set_replayed(&self) {
        let mut state = self.lock();
        state.replayed = true;
        for peer in &state.peers {
            peer.session.lock().handle_replayed();
        }
    }

    /// Lets sessions come up.
    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Takes no more peers.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Ends every task.
    pub(crate) fn abort(&self) {
        for peer in &self.lock().peers {
            peer.task.abort();
        }
    }

    /// Where connections go that come from the configured peers.
    pub(crate) fn routes(&self) -> Vec<listener::Route> {
        let peers = self.peers();
        let passive = peers.iter().filter(|peer| peer.config.mode != ConnectMode::Active);
        let route = |peer: &Arc<Peer>| listener::Route {
            remote: peer.config.address,
            local: peer.config.local_address,
            hops: peer.config.transport.hops,
            to: peer.accepted.clone(),
        };
        passive.map(route).collect()
    }

    /// Where a connection from `remote` goes, if it is in a prefix: to the peer that is there
    /// already, or to a new one if there is room.
    pub(crate) fn invite(self: &Arc<Self>, remote: IpAddr) -> Option<listener::Route> {
        let mut state = self.lock();
        let State { peers, ranges, .. } = &*state;
        let range = ranges.iter().find(|range| range.config.prefix.contains_address(remote))?;
        let mut members = peers.iter().filter(|peer| peer.is_from(&range.config.name));
        let known = members.clone().find(|peer| peer.config.address == remote).cloned();
        let peer = match known {
            Some(peer) => peer,
            None if state.closed => return None,
            None if members.by_ref().count() >= range.config.limit => {
                let range = &range.config.name;
                tracing::warn!(%range, %remote, "no room for another dynamic neighbour");
                return None;
            }
            None => {
                let (name, member) = (range.config.name.clone(), range.config.member(remote));
                let wanted: Vec<_> = range.routes().cloned().collect();
                let peer = self.add(&mut state, member, Some(name));
                let mut session = peer.session.lock();
                for (command, route) in wanted {
                    session.handle_announce(command, route);
                }
                drop(session);
                peer
            }
        };
        let hops = peer.config.transport.hops;
        Some(listener::Route { remote, local: None, hops, to: peer.accepted.clone() })
    }

    /// Has every neighbour from the prefix `name` told, and what the prefix is to remember of it.
    /// False if nobody is there to answer.
    pub(crate) fn tell_range(
        &self,
        name: &str,
        remember: impl FnOnce(&mut Range),
        tell: impl Fn(&mut Session),
    ) -> Option<bool> {
        let mut state = self.lock();
        let range = state.ranges.iter_mut().find(|range| range.config.name == name)?;
        remember(range);
        let up = range.is_up();
        for peer in state.peers.iter().filter(|peer| peer.is_from(name)) {
            tell(&mut peer.session.lock());
            peer.session.wake.notify_one();
        }
        Some(up)
    }

    /// What every neighbour from the prefix `name` is to hold, each with how far the slowest of those
    /// that are up is with it.
    pub(crate) fn range_deliveries(&self, name: &str) -> Option<Vec<(Route, Delivery)>> {
        let state = self.lock();
        let range = state.ranges.iter().find(|range| range.config.name == name)?;
        let mut least: BTreeMap<Nlri, Delivery> = BTreeMap::new();
        let up = |peer: &&Arc<Peer>| range.has_up(&peer.config.name);
        for peer in state.peers.iter().filter(up) {
            let session = peer.session.lock_informed();
            for (route, delivery) in session.deliveries() {
                let known = least.entry(route.nlri.clone()).or_insert(delivery);
                *known = delivery.min(*known);
            }
        }
        let delivery = |nlri| least.get(nlri).copied().unwrap_or(Delivery::Waiting);
        let routes = range.routes().map(|(_, route)| route);
        Some(routes.map(|route| (route.clone(), delivery(&route.nlri))).collect())
    }

    /// What is told of a dynamic neighbour's `event`: what the prefix makes of it, and the event
    /// itself unless it is the answer to a command for the prefix.
    pub(crate) fn hear(&self, neighbour: &str, event: SpeakerEvent) -> Vec<SpeakerEvent> {
        let mut state = self.lock();
        let Some(range) = state.range_of(neighbour) else { return vec![event] };
        match &event {
            SpeakerEvent::Outcome(outcome) => {
                range.handle_outcome(neighbour, outcome).into_iter().collect()
            }
            SpeakerEvent::State { state, .. } => {
                let mut events = range.handle_state(neighbour, state);
                events.insert(0, event);
                events
            }
            SpeakerEvent::FlowSpec(_) | SpeakerEvent::Quarantined { .. } => vec![event],
        }
    }

    /// What the peers announce.
    pub(crate) fn learnt(&self) -> MutexGuard<'_, LearntRoutes> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a peer that came from a prefix and has gone. Returns what is to be told of that.
    pub(crate) fn leave(&self, name: &str) -> Vec<SpeakerEvent> {
        let mut state = self.lock();
        let events = state.range_of(name).map(|range| range.handle_gone(name));
        state.peers.retain(|peer| peer.range.is_none() || peer.config.name != name);
        events.unwrap_or_default()
    }

    fn add(
        self: &Arc<Self>,
        state: &mut State,
        config: PeerConfig,
        range: Option<String>,
    ) -> Arc<Peer> {
        let (accepted, accepted_here) = mpsc::channel(ACCEPT_QUEUE);
        let (finished, finished_here) = watch::channel(false);
        let seed = self.seed.wrapping_add(state.count);
        state.count = state.count.wrapping_add(1);
        let settings = SessionConfig {
            local_as: self.asn,
            router_id: self.router_id,
            peer_as: config.asn,
            families: config.families.clone(),
            hold_time: config.hold_time,
            mode: config.mode,
            max_routes: config.max_routes,
            options: config.options.clone(),
            seed,
        };
        let gate = gate_for(&state.gate, &config, range.is_some());
        let mut session = Session::new(self.clock.now(), settings, gate);
        if state.replayed {
            session.handle_replayed();
        }
        let session = Arc::new(SharedSession::new(session));
        let task = PeerTask {
            name: config.name.clone(),
            remote: SocketAddr::new(config.address, config.port),
            local: config.local_address,
            transport: config.transport.clone(),
            patience: send_hold(config.hold_time),
            clock: self.clock,
            session: Arc::clone(&session),
            accepted: Arc::new(AsyncMutex::new(accepted_here)),
            events: self.events.clone(),
            learnt: Arc::clone(&self.learnt),
            begun: self.begun.subscribe(),
            finished,
            guest_of: range.is_some().then(|| Arc::downgrade(self)),
        };
        let task = self.runtime.spawn(task.supervise()).abort_handle();
        let peer = Peer { config, session, finished: finished_here, accepted, range, task };
        let peer = Arc::new(peer);
        state.peers.push(Arc::clone(&peer));
        peer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What leaves to this peer is judged by what it wants on black holes. The addresses of dynamic
/// neighbours are not in the policy of the gate; each is kept from what would cut off its session.
fn gate_for(gate: &Arc<Gate>, config: &PeerConfig, dynamic: bool) -> Arc<Gate> {
    let BlackholeProfile { communities, large_communities } = &config.blackhole;
    let plain = communities.is_empty() && large_communities.is_empty();
    if plain && !dynamic {
        return Arc::clone(gate);
    }
    let mut policy = gate.policy().clone();
    if !plain {
        policy.admit_profile(communities, large_communities);
    }
    if dynamic {
        policy.session_addresses.push(config.address);
    }
    Arc::new(Gate::new(policy))
}
