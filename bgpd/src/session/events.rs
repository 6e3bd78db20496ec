//! What a session wants done, and what it tells.

use tidegate_model::Nlri;

use super::Direction;
use crate::learnt::News;
use crate::rib::Answer;

/// Something that only a driver can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to the peer, and tell by [`Session::handle_connected`] or
    /// [`Session::handle_connect_failed`] what came of it.
    Connect,
    /// Give the attempt up. Nothing is to be told of it.
    AbortConnect,
    /// Close this connection, after what was polled for it and `last_words` are written, or at
    /// once if that takes long. Nothing is to be told of it.
    Close {
        /// Which one.
        direction: Direction,
        /// A NOTIFICATION.
        last_words: Option<Vec<u8>>,
    },
}

/// News of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// It is up.
    Established,
    /// It is not up (any more).
    Down {
        /// For people.
        why: String,
    },
    /// What became of the peer's routes.
    Learnt(News),
    /// What became of a command.
    Answer(Answer),
    /// This route made the peer end the session. Its command has been answered with `Rejected`, and
    /// it is not sent again until it has been withdrawn and announced anew.
    Quarantined {
        /// The route.
        nlri: Nlri,
        /// For people: with the NOTIFICATION, if there was one.
        why: String,
    },
    /// A planned stop is complete, and every connection given up by [`Action::Close`].
    Stopped,
}

/// Whether a connection may stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may: give its octets to [`Session::handle_bytes`].
    Admitted,
    /// It may not: write this NOTIFICATION and close it.
    Refused(Vec<u8>),
}
