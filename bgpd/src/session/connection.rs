//! One TCP connection with a peer: framing, the state machine from OpenSent on, its timers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use rustbgpd_fsm::negotiation::validate_open;
use rustbgpd_fsm::{Action, Event, NegotiatedSession, PeerConfig, TimerType};
use rustbgpd_wire::{
    Afi, Capability, Message, NotificationCode, NotificationMessage, OpenMessage,
    RouteRefreshMessage, RouteRefreshSubtype, Safi, decode_message, encode_message,
};
use tidegate_model::Timestamp;

use super::config::SessionConfig;
use super::framing::{Framer, FramingError};
use super::options::{Role, SessionOptions};
use super::received::{self, Sender, Verdict};
use super::status::{Counters, MessageCounters, SessionError, SessionState};
use crate::family::Family;
use crate::learnt::Update;

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    /// A NOTIFICATION to send before the connection is closed.
    pub(crate) last_words: Option<Vec<u8>>,
    /// The NOTIFICATION that ended it.
    pub(crate) error: Option<(Origin, SessionError)>,
    /// For people.
    pub(crate) why: String,
}

/// Whose NOTIFICATION it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Ours,
    Peers,
}

/// What the session has to do about an input.
#[derive(Debug)]
pub(crate) enum Step {
    /// The session is up.
    Established(Box<NegotiatedSession>),
    /// The peer's routes have changed.
    Learnt(Box<Update>),
    /// The peer wants the routes of a family again.
    Refresh(Family),
    /// The connection is over.
    Close(Closing),
}

/// Something read from the peer.
#[derive(Debug)]
pub(crate) enum Input {
    Message(Message),
    /// The stream cannot be read any further.
    Broken(NotificationMessage),
    /// A NOTIFICATION that cannot be read.
    ShortNotification,
}

/// One connection and its state machine.
///
/// Idle, Connect and Active belong to the session, which has up to two of these. A new one passes
/// through them at once, so that the first thing it says is OPEN.
#[derive(Debug)]
pub(crate) struct Connection {
    fsm: rustbgpd_fsm::Session,
    config: PeerConfig,
    options: SessionOptions,
    /// What is offered about restarts.
    restart: Option<Capability>,
    /// What we are to the peer.
    role: Option<Role>,
    framer: Framer,
    /// The message that was cut last.
    frame: Bytes,
    open: Option<Vec<u8>>,
    keepalive_due: bool,
    hold: Option<Timestamp>,
    keepalive: Option<Timestamp>,
    /// Our end of the TCP connection.
    pub(crate) local_address: IpAddr,
}

impl Connection {
    /// A connection that has just been opened, in state OpenSent.
    pub(crate) fn new(
        now: Timestamp,
        session: &SessionConfig,
        restart: Option<Capability>,
        local_address: IpAddr,
    ) -> Self {
        let config = session.fsm();
        let mut connection = Self {
            fsm: rustbgpd_fsm::Session::new(config.clone()),
            config,
            options: session.options.clone(),
            restart,
            role: session.role(),
            framer: Framer::new(),
            frame: Bytes::new(),
            open: None,
            keepalive_due: false,
            hold: None,
            keepalive: None,
            local_address,
        };
        connection.apply(now, Event::ManualStart);
        connection.apply(now, Event::TcpConnectionConfirmed);
        connection
    }

    pub(crate) fn state(&self) -> SessionState {
        match self.fsm.state() {
            rustbgpd_fsm::SessionState::Idle => SessionState::Idle,
            rustbgpd_fsm::SessionState::Connect => SessionState::Connect,
            rustbgpd_fsm::SessionState::Active => SessionState::Active,
            rustbgpd_fsm::SessionState::OpenSent => SessionState::OpenSent,
            rustbgpd_fsm::SessionState::OpenConfirm => SessionState::OpenConfirm,
            rustbgpd_fsm::SessionState::Established => SessionState::Established,
        }
    }

    /// Takes as many of `bytes` as there is room for and returns the rest. Call
    /// [`Self::next_input`] until it has nothing more, then there is room.
    pub(crate) fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.framer.push(bytes)
    }

    /// The next thing that the peer said.
    pub(crate) fn next_input(&mut self) -> Option<Input> {
        self.frame.clear();
        let mut frame = match self.framer.next_frame() {
            Ok(frame) => frame?,
            Err(FramingError::ShortNotification) => return Some(Input::ShortNotification),
            Err(FramingError::Answer(notification)) => return Some(Input::Broken(notification)),
        };
        self.frame = frame.clone();
        // Octets behind the fourth are Outbound Route Filters (RFC 5291), which nobody was offered.
        frame = without_filters(frame);
        Some(match decode_message(&mut frame, self.framer.longest()) {
            Ok(message) => Input::Message(message),
            Err(error) => {
                let (code, subcode, data) = error.to_notification();
                Input::Broken(NotificationMessage::new(code, subcode, data))
            }
        })
    }

    /// The message that [`Self::next_input`] read last.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Whether AS numbers in UPDATE messages have four octets.
    pub(crate) fn four_octet_as(&self) -> bool {
        self.options.four_octet_as
            && self.fsm.negotiated().is_none_or(|negotiated| negotiated.four_octet_as)
    }

    /// If `open` is acceptable: the identity it gives the peer.
    pub(crate) fn identify(&self, open: &OpenMessage) -> Option<(Ipv4Addr, u32)> {
        if self.state() != SessionState::OpenSent {
            return None;
        }
        let negotiated = validate_open(open, &self.config).ok()?;
        Some((negotiated.peer_router_id, negotiated.peer_asn))
    }

    pub(crate) fn handle_input(
        &mut self,
        now: Timestamp,
        input: Input,
        counters: &mut Counters,
    ) -> Option<Step> {
        let message = match input {
            Input::Message(message) => message,
            Input::Broken(notification) => return Some(self.refuse(now, notification)),
            Input::ShortNotification => {
                let why = "the peer sent a NOTIFICATION without a code".to_owned();
                return Some(Step::Close(Closing { last_words: None, error: None, why }));
            }
        };
        count(&mut counters.received, &message);
        match message {
            Message::Open(open) => self.handle_open(now, open),
            Message::Keepalive => self.apply(now, Event::KeepaliveReceived),
            Message::Notification(notification) => Some(Step::Close(Closing {
                last_words: None,
                why: format!("the peer sent {}", SessionError::new(now, &notification)),
                error: Some((Origin::Peers, SessionError::new(now, &notification))),
            })),
            Message::Update(update) => match self.judge(&update, counters) {
                Ok(learnt) => {
                    let step = self.apply(now, Event::UpdateReceived);
                    step.or_else(|| learnt.map(Step::Learnt))
                }
                Err(notification) => self.apply(now, Event::UpdateValidationError(notification)),
            },
            Message::RouteRefresh(refresh) => self.handle_refresh(now, &refresh),
            _ => None,
        }
    }

    /// Answers what cannot be read, by `notification`. An OPEN or UPDATE in a state that has none is
    /// wrong already for that (RFC 4271 §8.2.2, events 22 and 28).
    fn refuse(&self, now: Timestamp, notification: NotificationMessage) -> Step {
        let expected = match notification.code {
            NotificationCode::OpenMessage => self.state() == SessionState::OpenSent,
            NotificationCode::UpdateMessage => self.state() == SessionState::Established,
            _ => true,
        };
        if expected {
            return self.terminate(now, notification);
        }
        let unexpected = NotificationMessage::new(NotificationCode::FsmError, 0, Bytes::new());
        self.terminate(now, name_unexpected(unexpected, self.state()))
    }

    fn handle_open(&mut self, now: Timestamp, open: OpenMessage) -> Option<Step> {
        // The codec keeps a 4-octet AS capability of a wrong length as an unknown one. It must
        // not pass for a peer that only has 2-octet AS numbers.
        let broken = open.capabilities.iter().any(|capability| {
            matches!(capability, Capability::Unknown { code: FOUR_OCTET_AS, .. })
        });
        if broken && self.state() == SessionState::OpenSent {
            let code = NotificationCode::OpenMessage;
            return Some(self.terminate(now, NotificationMessage::new(code, 0, Bytes::new())));
        }
        let step = self.apply(now, Event::OpenReceived(open));
        let negotiated = self.fsm.negotiated();
        if negotiated.is_some_and(|both| both.peer_extended_message)
            && self.options.extended_messages
        {
            self.framer.extend();
        }
        step
    }

    /// What is learnt from `update`, or a NOTIFICATION if it must reset the session. Outside
    /// Established the state machine refuses any UPDATE, whatever is in it.
    fn judge(
        &mut self,
        update: &rustbgpd_wire::UpdateMessage,
        counters: &mut Counters,
    ) -> Result<Option<Box<Update>>, NotificationMessage> {
        let Some(negotiated) = self.fsm.negotiated() else { return Ok(None) };
        if self.state() != SessionState::Established {
            return Ok(None);
        }
        let sender = Sender {
            four_octet_as: self.four_octet_as(),
            local_as: self.config.local_asn,
            peer_as: negotiated.peer_asn,
            router_id: negotiated.peer_router_id,
            role: self.role,
        };
        match received::judge(update, &sender) {
            Verdict::Fine(update) => {
                let add = |counter: &mut u64, more: u64| *counter = counter.wrapping_add(more);
                let announced = u64::try_from(update.announced.len()).unwrap_or(u64::MAX);
                let withdrawn = u64::try_from(update.withdrawn.len()).unwrap_or(u64::MAX);
                add(&mut counters.routes_received, announced.wrapping_add(update.unsupported));
                add(&mut counters.withdraws_received, withdrawn);
                if update.path.leaks {
                    add(&mut counters.leaks_received, announced);
                }
                Ok(Some(update))
            }
            Verdict::Tolerated(update) => {
                counters.malformed_updates = counters.malformed_updates.wrapping_add(1);
                Ok(Some(update))
            }
            Verdict::Reset(notification) => Err(notification),
        }
    }

    fn handle_refresh(&mut self, now: Timestamp, refresh: &RouteRefreshMessage) -> Option<Step> {
        let wire = refresh.afi().zip(refresh.safi());
        // The event is what restarts the hold timer; an unknown family does so too.
        let (afi, safi) = wire.unwrap_or((Afi::Ipv4, Safi::Unicast));
        let step = self.apply(now, Event::RouteRefreshReceived { afi, safi });
        if step.is_some() || refresh.subtype() != RouteRefreshSubtype::Normal {
            return step;
        }
        Family::from_codes(refresh.afi_raw, refresh.safi_raw).map(Step::Refresh)
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        [self.hold, self.keepalive].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Timestamp) -> Option<Step> {
        if self.hold.is_some_and(|at| at <= now) {
            self.hold = None;
            return self.apply(now, Event::HoldTimerExpires);
        }
        if self.keepalive.is_some_and(|at| at <= now) {
            self.keepalive = None;
            return self.apply(now, Event::KeepaliveTimerExpires);
        }
        None
    }

    /// The next OPEN or KEEPALIVE to send. At most one of each waits here.
    pub(crate) fn poll_control(&mut self, counters: &mut Counters) -> Option<Vec<u8>> {
        if let Some(open) = self.open.take() {
            counters.sent.open = counters.sent.open.wrapping_add(1);
            return Some(open);
        }
        if std::mem::take(&mut self.keepalive_due) {
            counters.sent.keepalive = counters.sent.keepalive.wrapping_add(1);
            return encode(&Message::Keepalive);
        }
        None
    }

    /// Ends the connection with `notification`.
    pub(crate) fn terminate(&self, now: Timestamp, notification: NotificationMessage) -> Step {
        let error = SessionError::new(now, &notification);
        Step::Close(Closing {
            why: format!("sent {error}"),
            last_words: encode(&Message::Notification(notification)),
            error: Some((Origin::Ours, error)),
        })
    }

    /// Feeds the state machine and carries out what it asks for.
    fn apply(&mut self, now: Timestamp, event: Event) -> Option<Step> {
        let before = self.state();
        let mut step = None;
        for action in self.fsm.handle_event(event) {
            match action {
                Action::SendOpen(mut open) => {
                    open.capabilities.retain(|capability| is_offered(capability, &self.options));
                    open.capabilities.extend(self.restart.clone());
                    self.open = encode(&Message::Open(open));
                }
                Action::SendKeepalive => self.keepalive_due = true,
                Action::SendNotification(notification) => {
                    step = Some(self.terminate(now, name_unexpected(notification, before)));
                }
                Action::StartTimer(timer, seconds) => {
                    self.set_timer(timer, Some(now + Duration::from_secs(u64::from(seconds))));
                }
                Action::StopTimer(timer) => self.set_timer(timer, None),
                Action::SessionEstablished(negotiated) => {
                    step = Some(Step::Established(negotiated));
                }
                // A connection is never told to end without a NOTIFICATION of ours or the peer's.
                // Dialling, and the wait before it, belong to the session.
                _ => {}
            }
        }
        step
    }

    fn set_timer(&mut self, timer: TimerType, at: Option<Timestamp>) {
        match timer {
            TimerType::Hold => self.hold = at,
            TimerType::Keepalive => self.keepalive = at,
            _ => {}
        }
    }
}

const FOUR_OCTET_AS: u8 = 65;
const ROUTE_REFRESH: u8 = 5;
/// Of a ROUTE-REFRESH message without filters.
const REFRESH_LENGTH: usize = 23;
/// Where the type stands in a message, behind its length.
const TYPE_AT: usize = 18;

/// A ROUTE-REFRESH message without its Outbound Route Filters; other messages as they are.
fn without_filters(frame: Bytes) -> Bytes {
    match frame.split_first_chunk::<REFRESH_LENGTH>() {
        Some((plain, [_, ..])) if plain.get(TYPE_AT) == Some(&ROUTE_REFRESH) => {
            let [marker @ .., _, _, kind, a, b, c, d] = plain;
            Bytes::from([&marker[..], &[0, 23, *kind, *a, *b, *c, *d]].concat())
        }
        _ => frame,
    }
}

/// Whether a capability that the state machine would offer is offered. Graceful Restart is not its
/// business.
fn is_offered(capability: &Capability, options: &SessionOptions) -> bool {
    match capability {
        Capability::MultiProtocol { .. } | Capability::RouteRefresh | Capability::Role { .. } => {
            true
        }
        Capability::FourOctetAs { .. } => options.four_octet_as,
        Capability::EnhancedRouteRefresh => options.enhanced_refresh,
        Capability::ExtendedMessage => options.extended_messages,
        _ => false,
    }
}

/// RFC 6608: the subcode of a Finite State Machine Error names the state.
fn name_unexpected(
    mut notification: NotificationMessage,
    state: SessionState,
) -> NotificationMessage {
    if notification.code == NotificationCode::FsmError && notification.subcode == 0 {
        notification.subcode = match state {
            SessionState::OpenSent => 1,
            SessionState::OpenConfirm => 2,
            SessionState::Established => 3,
            SessionState::Idle | SessionState::Active | SessionState::Connect => 0,
        };
    }
    notification
}

/// None of the messages that are built here is too long to be encoded.
pub(crate) fn encode(message: &Message) -> Option<Vec<u8>> {
    encode_message(message).ok().map(Vec::from)
}

fn count(counters: &mut MessageCounters, message: &Message) {
    let counter = match message {
        Message::Open(_) => &mut counters.open,
        Message::Update(_) => &mut counters.update,
        Message::Notification(_) => &mut counters.notification,
        Message::Keepalive => &mut counters.keepalive,
        Message::RouteRefresh(_) => &mut counters.route_refresh,
        _ => return,
    };
    *counter = counter.wrapping_add(1);
}
