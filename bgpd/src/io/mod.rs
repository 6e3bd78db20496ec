//! Sockets, timers and tasks of the [`crate::speaker`]. Protocol is in [`crate::session`].
//!
//! ```text
//!   SpeakerHandle --lock, command--> Session (one per peer) <--lock, octets and time-- peer task
//!        |                                                                               |  ^
//!        +------------------------------ wake ------------------------------------------>+  |
//!                                                                                        |  | accepted
//!   SpeakerEvent <-------- bounded channel <---- bounded backlog <-----------------------+  | connections
//!                                                                                           |
//!   listener task (one per address) --------------------------------------------------------+
//! ```
//!
//! One task owns the sockets of one peer, so that no peer can delay another. Commands go straight
//! into the Adj-RIB-Out, which is their queue: it holds one entry per NLRI, never loses a withdraw,
//! and answers for itself when it is full. What remains to be done is to wake the task, and there
//! is nothing between it and the socket.
//!
//! Each peer task runs under a supervisor. If it panics its connections are closed, its peer is
//! reported as down, and it is started again after a while with the same Adj-RIB-Out.

mod clock;
mod connection;
mod listener;
mod peer;
mod range;
mod roster;
mod sockopt;
mod system;
mod transport;

pub(crate) use listener::Listener;
pub(crate) use roster::{Peer, Roster};
pub(crate) use sockopt::{Welcome, listen};
pub use transport::{HopLimit, Md5Key, Md5KeyError, Transport};
