//! What can be known of a session: for operators, logs and metrics.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use rustbgpd_wire::NotificationMessage;
use rustbgpd_wire::notification::{description, extract_shutdown_communication};
use tidegate_model::Timestamp;

use super::graceful::PeerRestart;
use super::options::Role;
use crate::family::Family;

/// State of a session (RFC 4271 §8.2.2). With two connections, that of the one further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionState {
    /// Stopped.
    Idle,
    /// Waiting for the peer to connect, or for the next attempt.
    Active,
    /// A connection is being opened.
    Connect,
    /// Connected; waiting for the peer's OPEN.
    OpenSent,
    /// OPENs exchanged; waiting for the peer's KEEPALIVE.
    OpenConfirm,
    /// Up.
    Established,
}

impl SessionState {
    /// Name in output, as RFC 4271 spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Active => "Active",
            Self::Connect => "Connect",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// BGP Identifier of the peer.
    pub router_id: Ipv4Addr,
    /// Hold time; zero if neither side sends KEEPALIVE messages.
    pub hold_time: Duration,
    /// Families that both sides announced.
    pub families: BTreeSet<Family>,
    /// Whether the peer takes 4-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// Whether the peer may ask for routes again (RFC 2918).
    pub route_refresh: bool,
    /// Whether the peer is told where the answer begins and ends (RFC 7313).
    pub enhanced_refresh: bool,
    /// Whether messages of more than 4096 octets are taken (RFC 8654).
    pub extended_messages: bool,
    /// What the peer offers about its restarts (RFC 4724).
    pub restart: Option<PeerRestart>,
    /// Whether the peer has Long-Lived Graceful Restart (RFC 9494), which is never offered to it.
    pub long_lived: bool,
    /// What the peer says that it is to us (RFC 9234).
    pub peer_role: Option<Role>,
}

/// Messages of one direction since the session was configured. The numbers wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounters {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

/// Counters of one session since it was configured. The numbers wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages handed to the socket.
    pub sent: MessageCounters,
    /// Messages from the peer that could be read.
    pub received: MessageCounters,
    /// Routes that the peer announced.
    pub routes_received: u64,
    /// Routes that the peer withdrew.
    pub withdraws_received: u64,
    /// Of the routes that the peer announced, those that came the wrong way (RFC 9234 §5).
    pub leaks_received: u64,
    /// UPDATE messages with an error that RFC 7606 lets pass without a reset.
    pub malformed_updates: u64,
    /// How often the session came up.
    pub established: u64,
    /// Outgoing connections that failed before they were open.
    pub connect_failures: u64,
    /// Connections given up for another one with the same peer (RFC 4271 §6.8).
    pub collisions: u64,
    /// Incoming connections refused because there was no place for them.
    pub refused_connections: u64,
}

/// An error that ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionError {
    /// When.
    pub at: Timestamp,
    /// Error code of the NOTIFICATION (RFC 4271 §4.5).
    pub code: u8,
    /// Its subcode.
    pub subcode: u8,
    /// What both numbers mean, and the peer's shutdown communication if there is one (RFC 9003),
    /// without control characters.
    pub text: String,
}

impl SessionError {
    pub(crate) fn new(at: Timestamp, notification: &NotificationMessage) -> Self {
        Self {
            at,
            code: notification.code.as_u8(),
            subcode: notification.subcode,
            text: describe(notification),
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{} {}", self.code, self.subcode, self.text)
    }
}

/// The name of a NOTIFICATION and the text in it. The peer's octets are not trusted: what is not
/// printable is escaped, and RFC 9003 bounds the text to 255 octets.
fn describe(notification: &NotificationMessage) -> String {
    let name = description(notification.code, notification.subcode);
    match extract_shutdown_communication(notification) {
        Ok(Some(text)) if !text.is_empty() => format!("{name}: {}", text.escape_debug()),
        Ok(_) => name.to_owned(),
        Err(error) => format!("{name} ({error})"),
    }
}

/// Everything that is known of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// State.
    pub state: SessionState,
    /// When the state was entered.
    pub since: Timestamp,
    /// What was agreed on; only while established.
    pub negotiated: Option<Negotiated>,
    /// Counters.
    pub counters: Counters,
    /// Wanted routes, sent or not.
    pub routes: usize,
    /// Routes that the peer should not hold any more and may: see
    /// [`Session::unconfirmed_withdraws`](super::Session::unconfirmed_withdraws).
    pub unconfirmed_withdraws: usize,
    /// How many of the wanted routes are held back, since one of them may make the peer reset the session.
    pub withheld: usize,
    /// Routes that do, and are not sent any more.
    pub quarantined: usize,
    /// The last NOTIFICATION that was sent.
    pub last_error_sent: Option<SessionError>,
    /// The last NOTIFICATION that was received.
    pub last_error_received: Option<SessionError>,
    /// Why the session is not up, for people. `None` while established.
    pub down: Option<String>,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rustbgpd_wire::NotificationCode;

    use super::*;

    fn text(code: u8, subcode: u8, data: &[u8]) -> String {
        let code = NotificationCode::from_u8(code);
        let message = NotificationMessage::new(code, subcode, Bytes::copy_from_slice(data));
        SessionError::new(Timestamp::ZERO, &message).to_string()
    }

    /// RFC 4486, RFC 8538, RFC 9384.
    #[test]
    fn every_cease_has_a_name() {
        let names: BTreeSet<String> = (1..=10).map(|subcode| text(6, subcode, b"")).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        assert!(names.iter().all(|name| !name.contains("Unknown")), "{names:?}");
        assert_eq!(text(6, 9, b"\x06\x02\x03bye"), "6/9 Hard Reset: bye");
    }

    #[test]
    fn the_peers_text_is_shown_harmless() {
        for (code, subcode, data, shown) in [
            (6, 2, &b"\x04done"[..], "6/2 Administrative Shutdown: done"),
            (6, 2, b"", "6/2 Administrative Shutdown"),
            (6, 2, b"\x00", "6/2 Administrative Shutdown"),
            (6, 2, b"\x05\x1b[2J\n", "6/2 Administrative Shutdown: \\u{1b}[2J\\n"),
            (
                6,
                2,
                b"\x01\xff",
                "6/2 Administrative Shutdown (shutdown communication is not valid UTF-8)",
            ),
            (
                6,
                2,
                b"\xffabc",
                "6/2 Administrative Shutdown (invalid shutdown communication length)",
            ),
            (4, 0, b"", "4/0 Hold Timer Expired"),
        ] {
            assert_eq!(text(code, subcode, data), shown);
        }
        assert!(text(99, 99, b"x").starts_with("99/99 "));
    }
}
