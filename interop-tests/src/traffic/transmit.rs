//! Sends the packets of a scenario onto an interface, each when it is due.
//!
//! Frames leave through a packet socket (`packet(7)`) in batches: one system call for all that are
//! due by now. When the machine cannot keep the pace, sending falls behind and reports by how much;
//! it does not skip packets.

#![allow(unsafe_code, reason = "rustix has no type for a link-layer socket address")]

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, MMsgHdr, Protocol, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType,
    bind, netdevice, sendmmsg, socket_with,
};
use tidegate_model::Timestamp;

use super::Packets;

/// Frames in one system call.
const BATCH: usize = 64;

/// Octets kept for each frame of a batch.
const SLOT: usize = 1514;

/// The longest sleep while nothing is due: how soon a request to stop is heard.
const NAP: Duration = Duration::from_millis(20);

/// How long to wait when the device queue is full.
const QUEUE_FULL_WAIT: Duration = Duration::from_micros(50);

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames.
    pub packets: u64,
    /// Octets of frames.
    pub bytes: u64,
    /// From the first moment to the last.
    pub elapsed: Duration,
    /// The most that a frame left after it was due.
    pub latest: Duration,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

/// Why frames cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TransmitError {
    /// No such interface.
    #[error("there is no interface `{0}`; `ip link` lists those that exist")]
    NoInterface(String),
    /// Not allowed.
    #[error(
        "no permission to send raw frames: run as root, or `sudo setcap cap_net_raw+ep` this program"
    )]
    NotPermitted,
    /// The interface is down.
    #[error("interface `{0}` is down; `ip link set {0} up` brings it up")]
    Down(String),
    /// Anything else.
    #[error("cannot {action} on `{interface}`")]
    System {
        /// What was tried.
        action: &'static str,
        /// Where.
        interface: String,
        /// What the system answered.
        source: io::Error,
    },
}

/// `struct sockaddr_ll` of `packet(7)`.
#[repr(C)]
struct LinkLayerAddress {
    family: u16,
    protocol: u16,
    interface: i32,
    hardware: u16,
    kind: u8,
    length: u8,
    address: [u8; 8],
}

// SAFETY: the pointer is to a live, initialised `sockaddr_ll` with the layout of the kernel, and
// the length is its size.
unsafe impl SocketAddrArg for LinkLayerAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f(std::ptr::from_ref(self).cast(), size_of::<Self>() as SocketAddrLen)
    }
}

/// A packet socket bound to one interface.
#[derive(Debug)]
pub struct Transmitter {
    socket: OwnedFd,
    interface: String,
}

impl Transmitter {
    /// Opens `interface` for sending.
    ///
    /// # Errors
    /// [`TransmitError`].
    pub fn open(interface: &str) -> Result<Self, TransmitError> {
        let fail = |action| {
            move |error: Errno| match error {
                Errno::PERM | Errno::ACCESS => TransmitError::NotPermitted,
                Errno::NODEV | Errno::NXIO => TransmitError::NoInterface(interface.to_owned()),
                error => {
                    let source = error.into();
                    TransmitError::System { action, interface: interface.to_owned(), source }
                }
            }
        };
        // Protocol zero: the socket receives nothing.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None::<Protocol>)
            .map_err(fail("open a packet socket"))?;
        let index = netdevice::name_to_index(&socket, interface)
            .map_err(fail("find the interface index"))?;
        let address = LinkLayerAddress {
            family: AddressFamily::PACKET.as_raw(),
            protocol: 0,
            interface: i32::try_from(index).unwrap_or(0),
            hardware: 0,
            kind: 0,
            length: 0,
            address: [0; 8],
        };
        bind(&socket, &address).map_err(fail("bind a packet socket"))?;
        Ok(Self { socket, interface: interface.to_owned() })
    }

    /// Sends every packet when it is due, until the end or until `stop`.
    ///
    /// # Errors
    /// [`TransmitError`] if the interface goes down or away.
    pub fn send(&self, packets: &mut Packets, stop: &AtomicBool) -> Result<Sent, TransmitError> {
        let begin = Instant::now();
        let mut sent = Sent::default();
        let mut batch = Batch::default();
        while let Some(due) = packets.next_time() {
            if stop.load(Ordering::Relaxed) {
                sent.stopped = true;
                break;
            }
            let now = Timestamp::ZERO + begin.elapsed();
            if due > now {
                std::thread::sleep(due.since(now).min(NAP));
                continue;
            }
            sent.latest = sent.latest.max(now.since(due));
            batch.collect(packets, now);
            self.flush(&batch, stop)?;
            sent.packets += batch.lengths.len() as u64;
            sent.bytes += batch.lengths.iter().map(|length| *length as u64).sum::<u64>();
        }
        sent.elapsed = begin.elapsed();
        Ok(sent)
    }

    fn flush(&self, batch: &Batch, stop: &AtomicBool) -> Result<(), TransmitError> {
        let slices: Vec<[IoSlice<'_>; 1]> =
            batch.frames().map(|frame| [IoSlice::new(frame)]).collect();
        let mut rest = slices.as_slice();
        while !rest.is_empty() && !stop.load(Ordering::Relaxed) {
            let mut control: Vec<_> = rest.iter().map(|_| SendAncillaryBuffer::default()).collect();
            let mut messages: Vec<MMsgHdr<'_>> = rest
                .iter()
                .zip(&mut control)
                .map(|(slice, control)| MMsgHdr::new(slice, control))
                .collect();
            match sendmmsg(&self.socket, &mut messages, SendFlags::empty()) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) => self.recover(error)?,
            }
        }
        Ok(())
    }

    /// Waits where waiting helps.
    fn recover(&self, error: Errno) -> Result<(), TransmitError> {
        match error {
            Errno::INTR => Ok(()),
            Errno::AGAIN => {
                let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
                let timeout =
                    rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(NAP.subsec_nanos()) };
                // An interrupted or failed wait only means trying again sooner.
                let _ = poll(&mut fds, Some(&timeout));
                Ok(())
            }
            Errno::NOBUFS => {
                std::thread::sleep(QUEUE_FULL_WAIT);
                Ok(())
            }
            Errno::NETDOWN => Err(TransmitError::Down(self.interface.clone())),
            Errno::NODEV | Errno::NXIO => Err(TransmitError::NoInterface(self.interface.clone())),
            error => Err(TransmitError::System {
                action: "send",
                interface: self.interface.clone(),
                source: error.into(),
            }),
        }
    }
}

/// Frames that are due together.
#[derive(Debug, Default)]
struct Batch {
    octets: Vec<u8>,
    lengths: Vec<usize>,
}

impl Batch {
    fn collect(&mut self, packets: &mut Packets, now: Timestamp) {
        self.octets.clear();
        self.lengths.clear();
        while self.lengths.len() < BATCH && packets.next_time().is_some_and(|due| due <= now) {
            let Some(packet) = packets.next_packet() else { break };
            let frame = packet.frame.get(..SLOT).unwrap_or(packet.frame);
            self.octets.extend_from_slice(frame);
            self.lengths.push(frame.len());
        }
    }

    fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.octets.as_slice();
        self.lengths.iter().map_while(move |length| {
            let (frame, after) = rest.split_at_checked(*length)?;
            rest = after;
            Some(frame)
        })
    }
}
