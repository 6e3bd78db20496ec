//! A record of the messages of a session, on request.
//!
//! While it is on, each message is copied into memory as it passes; whoever asked takes the copies
//! and writes them as MRT (RFC 6396), which bgpdump and bgpkit-parser read. While it is
//! off, nothing is copied.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use tidegate_model::Timestamp;

use super::{Direction, Session};

/// The most octets that a record may take, whatever is asked for.
pub const MAX_DUMP: usize = 64 * 1024 * 1024;
/// What a record counts for each message besides its octets.
const OVERHEAD: usize = 64;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flow {
    /// To the peer: handed to the socket.
    Sent,
    /// From the peer. What cannot be cut into messages is not there.
    Received,
}

/// One message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpedMessage {
    /// When.
    pub at: Timestamp,
    /// Which way.
    pub flow: Flow,
    /// Whether AS numbers in it have four octets.
    pub four_octet_as: bool,
    /// Our end of the connection.
    pub local_address: IpAddr,
    /// The whole message.
    pub octets: Vec<u8>,
}

/// What was recorded since it was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// The newest messages, in their order.
    pub messages: Vec<DumpedMessage>,
    /// How many older ones there was no room for.
    pub lost: u64,
}

/// The ends of a session, as MRT names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MrtEnds {
    /// The peer's AS number.
    pub peer_as: u32,
    /// Our AS number.
    pub local_as: u32,
    /// The peer's address.
    pub peer_address: IpAddr,
}

impl Dump {
    /// The record as an MRT file: `BGP4MP_ET`, one entry for each message (RFC 6396 §4.4), `LOCAL`
    /// where we sent it. `zero` is the time since 1970 that [`Timestamp::ZERO`] stands for.
    #[must_use]
    pub fn to_mrt(&self, ends: MrtEnds, zero: Duration) -> Vec<u8> {
        let mut file = Vec::new();
        for message in &self.messages {
            file.extend(message.to_mrt(ends, zero));
        }
        file
    }
}

impl DumpedMessage {
    fn to_mrt(&self, ends: MrtEnds, zero: Duration) -> Vec<u8> {
        const BGP4MP_ET: u16 = 17;

        let at = zero + self.at.since(Timestamp::ZERO);
        let subtype: u16 = match (self.flow, self.four_octet_as) {
            (Flow::Received, false) => 1,
            (Flow::Received, true) => 4,
            (Flow::Sent, false) => 6,
            (Flow::Sent, true) => 7,
        };
        let mut body = at.subsec_micros().to_be_bytes().to_vec();
        for asn in [ends.peer_as, ends.local_as] {
            match u16::try_from(asn) {
                _ if self.four_octet_as => body.extend(asn.to_be_bytes()),
                Ok(short) => body.extend(short.to_be_bytes()),
                // AS_TRANS (RFC 6793 §9).
                Err(_) => body.extend(23456_u16.to_be_bytes()),
            }
        }
        // No interface index.
        body.extend([0, 0]);
        let local = match (ends.peer_address, self.local_address) {
            (IpAddr::V4(_), local @ IpAddr::V4(_)) | (IpAddr::V6(_), local @ IpAddr::V6(_)) => {
                local
            }
            // One family counts for both ends.
            (IpAddr::V4(_), IpAddr::V6(_)) => IpAddr::from([0; 4]),
            (IpAddr::V6(_), IpAddr::V4(_)) => IpAddr::from([0; 16]),
        };
        body.extend([0, if ends.peer_address.is_ipv4() { 1 } else { 2 }]);
        for address in [ends.peer_address, local] {
            match address {
                IpAddr::V4(address) => body.extend(address.octets()),
                IpAddr::V6(address) => body.extend(address.octets()),
            }
        }
        body.extend(&self.octets);
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        let mut entry = seconds.to_be_bytes().to_vec();
        entry.extend(BGP4MP_ET.to_be_bytes());
        entry.extend(subtype.to_be_bytes());
        entry.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        entry.extend(body);
        entry
    }
}

/// A record that is being made.
#[derive(Debug)]
pub(super) struct Recorder {
    limit: usize,
    held: usize,
    messages: VecDeque<DumpedMessage>,
    lost: u64,
}

impl Recorder {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.min(MAX_DUMP), held: 0, messages: VecDeque::new(), lost: 0 }
    }

    pub(super) fn record(&mut self, message: DumpedMessage) {
        self.held += message.octets.len() + OVERHEAD;
        self.messages.push_back(message);
        while self.held > self.limit
            && let Some(oldest) = self.messages.pop_front()
        {
            self.held -= oldest.octets.len() + OVERHEAD;
            self.lost += 1;
        }
    }

    fn take(&mut self) -> Dump {
        self.held = 0;
        Dump {
            messages: std::mem::take(&mut self.messages).into(),
            lost: std::mem::take(&mut self.lost),
        }
    }
}

impl Session {
    /// From now on the newest messages of the session are recorded, as many as fit into `limit`
    /// octets, [`MAX_DUMP`] at most. A record that is being made goes on with the new limit.
    pub fn start_dump(&mut self, limit: usize) {
        let mut recorder = Recorder::new(limit);
        if let Some(before) = self.recorder.take() {
            recorder.lost = before.lost;
            for message in before.messages {
                recorder.record(message);
            }
        }
        self.recorder = Some(recorder);
    }

    /// What was recorded since the last call. `None` if nothing is being recorded.
    pub fn take_dump(&mut self) -> Option<Dump> {
        self.recorder.as_mut().map(Recorder::take)
    }

    /// Records no more, and returns what [`Self::take_dump`] would have.
    pub fn stop_dump(&mut self) -> Option<Dump> {
        self.recorder.take().map(|mut recorder| recorder.take())
    }

    /// A message has passed on this connection.
    pub(super) fn record(
        &mut self,
        now: Timestamp,
        direction: Direction,
        flow: Flow,
        octets: impl FnOnce(&Self) -> Option<Vec<u8>>,
    ) {
        if self.recorder.is_none() {
            return;
        }
        let Some(slot) = self.slot(direction) else { return };
        let local_address = slot.connection.local_address;
        let four_octet_as = slot.connection.four_octet_as();
        let Some(octets) = octets(self) else { return };
        let message = DumpedMessage { at: now, flow, four_octet_as, local_address, octets };
        if let Some(recorder) = &mut self.recorder {
            recorder.record(message);
        }
    }
}
