//! The task that drives one peer's session.

use std::collections::{BTreeMap, VecDeque};
use std::future::{self, Future};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tidegate_model::{BackendId, BackendState, FlowSpecRule, Outcome};
use tokio::io::Ready;
use tokio::net::TcpStream;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::connection::{Connection, Link};
use super::roster::Roster;
use super::sockopt;
use super::transport::Transport;
use crate::learnt::{Change, LearntRoutes, News};
use crate::session::{Action, Admission, Direction, Session, SessionEvent};
use crate::speaker::SpeakerEvent;

/// Accepted connections that wait for a peer's task.
pub(crate) const ACCEPT_QUEUE: usize = 4;
/// Events that wait while the receiver of the speaker's events is busy. Beyond that the oldest is
/// dropped and counted: a receiver that far behind asks for the state of things instead.
const BACKLOG: usize = 65_536;
/// Octets that are read at once.
const READ: usize = 16 * 1024;
/// Reads in a row before anything else gets its turn.
const READS: usize = 4;
/// Rules of peers that are judged before anything else gets its turn.
const JUDGED_AT_ONCE: usize = 8;
/// Connections that are closed behind their last words at the same time.
const MOST_CLOSING: usize = 8;
/// How long a peer waits after its task panicked. It doubles with each panic, up to
/// [`LONGEST_REST`].
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A task that ran so long before it panicked is started again after the shortest time.
const SOUND: Duration = Duration::from_secs(300);

/// Events that wait for room in the channel.
#[derive(Debug, Default)]
struct Backlog {
    events: VecDeque<SpeakerEvent>,
    /// News of rules, by the peer that they are of: only the latest of each, and behind everything
    /// else, so that no peer can drown what is said of our own routes.
    rules: BTreeMap<(String, FlowSpecRule), Change>,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.rules.is_empty()
    }

    fn pop(&mut self) -> Option<SpeakerEvent> {
        let rule = |rules: &mut BTreeMap<_, _>| rules.pop_first().map(|(_, change)| change);
        self.events.pop_front().or_else(|| rule(&mut self.rules).map(SpeakerEvent::FlowSpec))
    }
}

/// A session that the handle and its task share. The lock is held for microseconds, never while
/// waiting.
#[derive(Debug)]
pub(crate) struct SharedSession {
    session: Mutex<Session>,
    /// Wakes the task after a command.
    pub(crate) wake: Notify,
    /// Events dropped because the receiver was too far behind.
    pub(crate) events_lost: AtomicU64,
    /// How often the task panicked and was started again.
    pub(crate) restarts: AtomicU64,
    backlog: Mutex<Backlog>,
    /// The sockets of both directions.
    links: Mutex<[Weak<Link>; 2]>,
}

impl SharedSession {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session: Mutex::new(session),
            wake: Notify::new(),
            events_lost: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            backlog: Mutex::default(),
            links: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, which knows what the peer's TCP has acknowledged by now.
    pub(crate) fn lock_informed(&self) -> MutexGuard<'_, Session> {
        // While this is held nobody writes.
        let mut session = self.lock();
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (direction, link) in Direction::ALL.into_iter().zip(links) {
            if let Some(octets) = link.upgrade().and_then(|link| link.acknowledged()) {
                session.handle_acknowledged(direction, octets);
            }
        }
        session
    }

    fn set_link(&self, direction: Direction, connection: &Connection) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let [outgoing, incoming] = &mut *links;
        let link = match direction {
            Direction::Outgoing => outgoing,
            Direction::Incoming => incoming,
        };
        *link = connection.link();
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Drives one session until it is stopped.
#[derive(Clone)]
pub(crate) struct PeerTask {
    pub(crate) name: String,
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) transport: Transport,
    /// How long the peer's TCP may acknowledge nothing.
    pub(crate) patience: Duration,
    pub(crate) clock: Clock,
    pub(crate) session: Arc<SharedSession>,
    pub(crate) accepted: Arc<AsyncMutex<mpsc::Receiver<TcpStream>>>,
    pub(crate) events: mpsc::Sender<SpeakerEvent>,
    /// What the peers of the speaker announce.
    pub(crate) learnt: Arc<Mutex<LearntRoutes>>,
    /// True once sessions may come up.
    pub(crate) begun: watch::Receiver<bool>,
    /// Set when the session is stopped and its connections are closed.
    pub(crate) finished: watch::Sender<bool>,
    /// Set for a dynamic neighbour, which leaves with its connection.
    pub(crate) guest_of: Option<Weak<Roster>>,
}

/// What the task waits for.
enum Wake {
    Command,
    Timer,
    Again,
    EventRoom,
    Ready(Direction, io::Result<Ready>),
    Dialled(io::Result<TcpStream>),
    Accepted(Option<TcpStream>),
}

/// What the task holds besides the session.
#[derive(Default)]
struct State {
    outgoing: Option<Connection>,
    incoming: Option<Connection>,
    dialling: Option<Dialling>,
    closing: JoinSet<()>,
    /// Whether the peer has ever been let in.
    visited: bool,
    stopped: bool,
}

impl State {
    fn connection(&mut self, direction: Direction) -> &mut Option<Connection> {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }

    /// Closes a connection behind its last words, or without them where many do so already.
    fn close(&mut self, connection: Connection, last_words: Option<Vec<u8>>) {
        if self.closing.len() < MOST_CLOSING {
            self.closing.spawn(connection.close(last_words));
        }
    }
}

impl PeerTask {
    /// Runs the task, and runs it again if it panics: its connections are closed then, the peer is
    /// reported as down, and what it should hold is kept.
    pub(crate) async fn supervise(self) {
        let mut rest = REST;
        loop {
            let started = self.clock.now();
            // Dropped with this task, it takes what runs in it along.
            let mut running = JoinSet::new();
            running.spawn(self.clone().run());
            match running.join_next().await {
                Some(Err(error)) if error.is_panic() => {}
                _ => return,
            }
            if self.clock.now().since(started) >= SOUND {
                rest = REST;
            }
            tracing::error!(peer = %self.name, ?rest, "the task of a peer panicked and is restarted");
            self.session.restarts.fetch_add(1, Ordering::Relaxed);
            // What a panic left behind may be broken, so this may panic too.
            let mut mourning = JoinSet::new();
            mourning.spawn(self.clone().mourn());
            let stopped = matches!(mourning.join_next().await, Some(Ok(true)));
            if stopped || self.guest_of.is_some() {
                self.leave();
                return;
            }
            tokio::time::sleep(rest).await;
            rest = (rest * 2).min(LONGEST_REST);
        }
    }

    /// Tells that the session is down. True if it was being stopped, and now is.
    async fn mourn(self) -> bool {
        let why = "an internal error of ours; it is restarted".to_owned();
        self.session.lock().handle_crash(self.clock.now(), why);
        let mut state = State::default();
        self.pump(&mut state);
        state.stopped
    }

    /// The session is over. Nobody waits for the peer any more.
    fn leave(&self) {
        self.learn(News::Lost);
        if let Some(roster) = self.host() {
            roster.leave(&self.name).into_iter().for_each(|event| self.tell(event));
        }
        self.deliver();
        self.finished.send_replace(true);
    }

    /// Who is told of a dynamic neighbour.
    fn host(&self) -> Option<Arc<Roster>> {
        self.guest_of.as_ref().and_then(Weak::upgrade)
    }

    async fn run(self) {
        // An error means that the speaker is gone, and soon this task with it.
        if self.begun.clone().wait_for(|begun| *begun).await.is_err() {
            return;
        }
        let mut state = State::default();
        let mut buffer = vec![0; READ];
        let accepted = Arc::clone(&self.accepted);
        let mut accepted = accepted.lock().await;
        self.session.lock().handle_start(self.clock.now());
        loop {
            let more = self.pump(&mut state);
            if state.stopped {
                break;
            }
            if self.guest_of.is_some() && state.visited && state.incoming.is_none() {
                self.session.lock().handle_stop(self.clock.now(), "");
                continue;
            }
            match self.wait(&mut state, &mut accepted, more).await {
                Wake::Command | Wake::EventRoom => {}
                // Whatever there is to do more, others go first.
                Wake::Again => tokio::task::yield_now().await,
                Wake::Timer => {
                    // If this task was late, a KEEPALIVE may have been waiting in time.
                    for direction in Direction::ALL {
                        self.receive(&mut state, direction, Ok(()), &mut buffer);
                    }
                    self.session.lock().handle_timeout(self.clock.now());
                }
                Wake::Ready(direction, ready) => {
                    self.receive(&mut state, direction, ready.map(drop), &mut buffer);
                }
                Wake::Dialled(result) => self.dialled(&mut state, result),
                Wake::Accepted(Some(stream)) => {
                    self.admit(&mut state, Direction::Incoming, stream);
                }
                Wake::Accepted(None) => {}
            }
        }
        while state.closing.join_next().await.is_some() {}
        self.leave();
    }

    async fn wait(
        &self,
        state: &mut State,
        accepted: &mut mpsc::Receiver<TcpStream>,
        more: bool,
    ) -> Wake {
        let waiting = !self.session.backlog().is_empty();
        let timeout = self.session.lock().poll_timeout().map(|at| self.clock.instant(at));
        let timer = async {
            match timeout {
                Some(at) => tokio::time::sleep_until(at).await,
                None => future::pending().await,
            }
        };
        let dialled = async {
            match &mut state.dialling {
                Some(dialling) => dialling.await,
                None => future::pending().await,
            }
        };
        // Not biased: a flood of commands must not keep the octets and the timers of the peer from
        // their turn.
        tokio::select! {
            () = self.session.wake.notified() => Wake::Command,
            () = timer => Wake::Timer,
            ready = ready(state.outgoing.as_ref()) => Wake::Ready(Direction::Outgoing, ready),
            ready = ready(state.incoming.as_ref()) => Wake::Ready(Direction::Incoming, ready),
            result = dialled => Wake::Dialled(result),
            stream = accepted.recv(), if !accepted.is_closed() => Wake::Accepted(stream),
            _ = self.events.reserve(), if waiting && !self.events.is_closed() => {
                Wake::EventRoom
            }
            _ = state.closing.join_next(), if !state.closing.is_empty() => Wake::Again,
            () = future::ready(()), if more => Wake::Again,
        }
    }

    /// Carries out what the session wants. True if there may be more to write at once.
    fn pump(&self, state: &mut State) -> bool {
        let shared = Arc::clone(&self.session);
        let mut session = shared.lock();
        let mut more = self.act(&mut session, state);
        for direction in Direction::ALL {
            more |= self.write(&mut session, state, direction);
        }
        self.act(&mut session, state);
        let events: Vec<SessionEvent> = std::iter::from_fn(|| session.poll_event()).collect();
        // Commands need not wait while the peer's routes are judged.
        drop(session);
        for event in events {
            self.report(state, event);
        }
        more |= self.judge();
        self.deliver();
        more
    }

    fn act(&self, session: &mut Session, state: &mut State) -> bool {
        let mut acted = false;
        while let Some(action) = session.poll_action() {
            acted = true;
            match action {
                Action::Connect => {
                    state.dialling = Some(Box::pin(sockopt::connect(
                        self.local,
                        self.remote,
                        self.transport.clone(),
                    )));
                }
                Action::AbortConnect => state.dialling = None,
                Action::Close { direction, last_words } => {
                    if let Some(connection) = state.connection(direction).take() {
                        state.close(connection, last_words);
                    }
                }
            }
        }
        acted
    }

    /// Fills the socket once. True if it took everything, so that there may be more.
    fn write(&self, session: &mut Session, state: &mut State, direction: Direction) -> bool {
        let Some(connection) = state.connection(direction) else { return false };
        let now = self.clock.now();
        while let Some(message) = session.poll_transmit(now, direction) {
            connection.queue(&message);
        }
        if connection.is_empty() {
            return false;
        }
        match connection.flush() {
            Ok(true) => {
                session.handle_written(self.clock.now(), direction);
                if let Some(octets) = connection.acknowledged() {
                    session.handle_acknowledged(direction, octets);
                }
                true
            }
            Ok(false) => false,
            Err(error) => {
                session.handle_closed(now, direction, format!("write: {error}"));
                true
            }
        }
    }

    fn receive(
        &self,
        state: &mut State,
        direction: Direction,
        ready: io::Result<()>,
        buffer: &mut [u8],
    ) {
        let Some(connection) = state.connection(direction) else { return };
        for _ in 0..READS {
            let now = self.clock.now();
            let mut session = self.session.lock();
            let read = match &ready {
                Ok(()) => connection.read(buffer),
                Err(error) => Err(error.kind().into()),
            };
            match read {
                Ok(None) => break,
                Ok(Some(0)) => {
                    let why = "the peer closed the connection".to_owned();
                    session.handle_closed(now, direction, why);
                    break;
                }
                Ok(Some(octets)) => {
                    session.handle_bytes(now, direction, buffer.get(..octets).unwrap_or_default());
                }
                Err(error) => {
                    session.handle_closed(now, direction, format!("read: {error}"));
                    break;
                }
            }
        }
    }

    fn dialled(&self, state: &mut State, result: io::Result<TcpStream>) {
        state.dialling = None;
        match result {
            Ok(stream) => self.admit(state, Direction::Outgoing, stream),
            Err(error) => {
                let why = format!("cannot connect to {}: {error}", self.remote);
                self.session.lock().handle_connect_failed(self.clock.now(), why);
            }
        }
    }

    fn admit(&self, state: &mut State, direction: Direction, stream: TcpStream) {
        let connection = Connection::new(stream, self.patience);
        let now = self.clock.now();
        let admission = match connection.local_address() {
            Ok(local) => self.session.lock().handle_connected(now, direction, local),
            // It broke before it was looked at. Only an outgoing one is missed.
            Err(error) => {
                let why = format!("cannot connect to {}: {error}", self.remote);
                if direction == Direction::Outgoing {
                    self.session.lock().handle_connect_failed(now, why);
                }
                return;
            }
        };
        match admission {
            Admission::Admitted => {
                // The session may have given its last connection of this direction up just now.
                let shared = Arc::clone(&self.session);
                self.act(&mut shared.lock(), state);
                self.session.set_link(direction, &connection);
                *state.connection(direction) = Some(connection);
                state.visited = true;
            }
            Admission::Refused(last_words) => {
                state.close(connection, Some(last_words));
            }
        }
    }

    fn report(&self, state: &mut State, event: SessionEvent) {
        let peer = self.name.clone();
        let event = match event {
            SessionEvent::Established => {
                tracing::info!(%peer, "session established");
                SpeakerEvent::State { peer, state: BackendState::Up }
            }
            SessionEvent::Down { why } => {
                tracing::info!(%peer, %why, "session down");
                SpeakerEvent::State { peer, state: BackendState::Down { why } }
            }
            SessionEvent::Learnt(news) => {
                self.learn(news);
                return;
            }
            SessionEvent::Answer(answer) => SpeakerEvent::Outcome(Outcome {
                command: answer.command,
                backend: BackendId::Peer(peer),
                nlri: answer.nlri,
                kind: answer.kind,
            }),
            SessionEvent::Quarantined { nlri, why } => {
                tracing::warn!(%peer, %nlri, %why, "route quarantined");
                SpeakerEvent::Quarantined { peer, nlri, why }
            }
            SessionEvent::Stopped => {
                state.stopped = true;
                return;
            }
        };
        let Some(host) = self.host() else { return self.tell(event) };
        for event in host.hear(&self.name, event) {
            self.tell(event);
        }
    }

    /// Takes in what the peer announces.
    fn learn(&self, news: News) {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.handle_news(&self.name, news);
        self.tell_changes(&mut learnt);
    }

    /// Judges a few rules, of other peers too. True if more wait for it.
    fn judge(&self) -> bool {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        let more = learnt.judge(JUDGED_AT_ONCE);
        self.tell_changes(&mut learnt);
        more
    }

    fn tell_changes(&self, learnt: &mut LearntRoutes) {
        let mut backlog = self.session.backlog();
        while let Some(change) = learnt.poll_change() {
            let key = (change.peer.clone(), change.rule.clone());
            backlog.rules.insert(key, change);
            if backlog.rules.len() > BACKLOG && backlog.rules.pop_first().is_some() {
                self.session.events_lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn tell(&self, event: SpeakerEvent) {
        let mut backlog = self.session.backlog();
        if backlog.events.len() >= BACKLOG {
            backlog.events.pop_front();
            self.session.events_lost.fetch_add(1, Ordering::Relaxed);
        }
        backlog.events.push_back(event);
    }

    /// Hands over as many events as there is room for.
    fn deliver(&self) {
        let mut backlog = self.session.backlog();
        while !backlog.is_empty() {
            match self.events.try_reserve() {
                Ok(room) => {
                    if let Some(event) = backlog.pop() {
                        room.send(event);
                    }
                }
                Err(mpsc::error::TrySendError::Full(())) => break,
                // Nobody listens any more.
                Err(mpsc::error::TrySendError::Closed(())) => *backlog = Backlog::default(),
            }
        }
    }
}

async fn ready(connection: Option<&Connection>) -> io::Result<Ready> {
    match connection {
        Some(connection) => connection.ready().await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{AddressFamily, FlowSpecComponent};

    use super::*;
    use crate::learnt::{Offer, Verdict};

    /// However often a peer's rule changes, what is said of our own routes goes first, and of the
    /// rule only the last is told.
    #[test]
    fn rules_do_not_drown_what_is_said_of_our_routes() {
        let prefix = FlowSpecComponent::DestinationPrefix("203.0.113.7/32".parse().unwrap());
        let rule = FlowSpecRule::new(AddressFamily::Ipv4, vec![prefix]).unwrap();
        let mut backlog = Backlog::default();
        let offer = Offer { actions: Vec::new(), verdict: Verdict::Feasible };
        for round in 0..1000 {
            let offer = (round % 2 == 0).then(|| offer.clone());
            let change = Change { peer: "peer".to_owned(), rule: rule.clone(), offer };
            backlog.rules.insert((change.peer.clone(), rule.clone()), change);
        }
        let up = SpeakerEvent::State { peer: "peer".to_owned(), state: BackendState::Up };
        backlog.events.push_back(up.clone());
        assert_eq!(backlog.pop(), Some(up));
        let gone = Change { peer: "peer".to_owned(), rule, offer: None };
        assert_eq!(backlog.pop(), Some(SpeakerEvent::FlowSpec(gone)));
        assert!(backlog.is_empty() && backlog.pop().is_none());
    }
}
