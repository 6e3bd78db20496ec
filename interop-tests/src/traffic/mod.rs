//! The traffic generator: every attack vector by name, and the benign traffic around it.
//!
//! A [`Scenario`] is a seed and a list of [`Stream`]s; [`Scenario::packets`] merges them in time
//! order. The same scenario gives the same bytes on every machine. Packets go to a capture file
//! ([`CaptureWriter`]) or onto an interface at their own pace ([`transmit`]).
//!
//! Absent on purpose: answers to what the target sends. The generator talks, it does not listen.

mod address;
mod conversation;
mod flood;
mod frame;
mod random;
mod reflect;
mod scenario;
mod schedule;
mod stream;
mod writer;

pub mod command;
pub mod transmit;

pub use frame::{LinkAddresses, MacAddress, ParseMacError};
pub use random::Random;
pub use scenario::{Packet, Packets, Scenario};
pub use stream::{Direction, Kind, ParseStreamError, Pulse, Stream, names, parse_duration};
pub use writer::CaptureWriter;
