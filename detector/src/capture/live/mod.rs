//! Live capture through libpcap.
//!
//! One thread owns the capture and the meter. It waits for the ring with `poll(2)` until the tick is
//! over, and takes packets out of it in batches: under load, one system call serves a thousand
//! packets. Immediate mode stays off; the kernel hands over a block when it is full or after 5 ms,
//! which is below the length of a tick.
//!
//! ```text
//!              interface there and up
//!   +----------+ ------------------> +----------+
//!   | detached |                     | attached |--- every 10 ms: on_tick(summary)
//!   +----------+ <------------------ +----------+
//!     blind ticks   gone, or replaced by another of the same name
//!                                    down or without carrier: blind ticks, stays attached
//! ```
//!
//! Absent on purpose: several queues (`PACKET_FANOUT`). One thread reads a million packets a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pcap::{Active, Capture, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidegate_model::Timestamp;

use self::link_state::{LinkProbe, LinkState};
use super::CaptureError;
use crate::packet::LinkType;
use crate::{Meter, TICK, TrafficSummary};

mod interfaces;
mod link_state;

#[cfg(test)]
mod tests;

/// Bytes of each frame that are captured unless configured otherwise.
pub const DEFAULT_SNAP_LENGTH: u32 = 192;

/// Bytes of the kernel's ring unless configured otherwise.
pub const DEFAULT_BUFFER: u32 = 64 << 20;

/// After this long the kernel hands over a block that is not full.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(5);

/// Packets taken in one batch, so that a flood cannot keep a tick from ending.
const BATCH: usize = 4096;

/// Batches that are taken at most to catch up: a full ring of small packets.
const MAX_BATCHES_BEHIND: usize = 256;

/// How often a lost interface is looked for.
const REATTACH_INTERVAL: Duration = Duration::from_millis(100);

/// libpcap's device that captures on all interfaces. It has no index and never goes down.
const ANY: &str = "any";

/// What to capture, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveOptions {
    /// The interface; `None` takes the one with the default route, else the first that is up.
    pub interface: Option<String>,
    /// A filter in the language of pcap-filter(7); packets outside it are not seen at all.
    pub filter: Option<String>,
    /// Bytes of each frame that are captured.
    pub snap_length: u32,
    /// Bytes of the kernel's ring.
    pub buffer: u32,
    /// Whether frames to other stations are taken too.
    pub promiscuous: bool,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            interface: None,
            filter: None,
            snap_length: DEFAULT_SNAP_LENGTH,
            buffer: DEFAULT_BUFFER,
            promiscuous: true,
        }
    }
}

/// Totals of a capture since it was opened. Updated at the end of each tick.
#[derive(Debug, Default)]
pub struct Counters {
    received: AtomicU64,
    kernel_dropped: AtomicU64,
    interface_dropped: AtomicU64,
    attachments: AtomicU64,
}

impl Counters {
    /// Packets that the kernel handed to the capture, with those that found no room in the ring.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Packets that found no room in the ring.
    #[must_use]
    pub fn kernel_dropped(&self) -> u64 {
        self.kernel_dropped.load(Ordering::Relaxed)
    }

    /// Packets that the interface or its driver dropped.
    #[must_use]
    pub fn interface_dropped(&self) -> u64 {
        self.interface_dropped.load(Ordering::Relaxed)
    }

    /// How many times the interface has been opened: more than once if it was lost.
    #[must_use]
    pub fn attachments(&self) -> u64 {
        self.attachments.load(Ordering::Relaxed)
    }
}

/// An open libpcap handle.
struct Attachment {
    capture: Capture<Active>,
    link: LinkType,
    /// Index of the interface; zero for [`ANY`].
    index: u32,
    /// What libpcap counted when it was last asked.
    seen: pcap::Stat,
}

/// A capture on an interface.
pub struct LiveCapture {
    options: LiveOptions,
    interface: String,
    link: LinkType,
    probe: LinkProbe,
    attachment: Option<Attachment>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for LiveCapture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LiveCapture")
            .field("options", &self.options)
            .field("interface", &self.interface)
            .field("link", &self.link)
            .field("attached", &self.attachment.is_some())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl LiveCapture {
    /// Opens the interface that `options` name, or finds one.
    ///
    /// # Errors
    /// [`CaptureError::NoInterface`], [`CaptureError::NoDefaultInterface`],
    /// [`CaptureError::NotPermitted`], [`CaptureError::Filter`], [`CaptureError::Option`],
    /// [`CaptureError::InterfaceLinkType`], or [`CaptureError::Live`] for what else libpcap reports.
    pub fn open(options: &LiveOptions) -> Result<Self, CaptureError> {
        check_options(options)?;
        let named = options.interface.as_deref().unwrap_or("default");
        let probe = LinkProbe::new().map_err(|error| live_error(named, error.to_string()))?;
        let interface = match &options.interface {
            Some(name) => name.clone(),
            None => interfaces::default(&probe).ok_or_else(|| {
                CaptureError::NoDefaultInterface { existing: interfaces::existing(&probe) }
            })?,
        };
        let attachment = attach(&interface, options, &probe)?;
        let counters = Arc::new(Counters::default());
        counters.attachments.store(1, Ordering::Relaxed);
        Ok(Self {
            options: options.clone(),
            interface,
            link: attachment.link,
            probe,
            attachment: Some(attachment),
            counters,
        })
    }

    /// The interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// What its frames begin with.
    #[must_use]
    pub fn link(&self) -> LinkType {
        self.link
    }

    /// Totals that stay readable while the capture runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Runs until `stop`.
    ///
    /// Calls `on_tick` at the end of each [`TICK`] of `clock`, whether or not packets came. A tick
    /// that is noticed late covers more time, and its summary says so by its start and end. The
    /// summary is blind if the interface could not carry packets for any part of the tick.
    pub fn run(
        mut self,
        mut meter: Meter,
        clock: impl Fn() -> Timestamp,
        stop: &AtomicBool,
        mut on_tick: impl FnMut(TrafficSummary),
    ) {
        // What came before belongs to no tick; the first one begins now.
        self.catch_up(&mut meter);
        let begin = clock();
        meter.finish_tick(begin);
        let mut end = begin + TICK;
        let mut retry = Timestamp::ZERO;
        let mut could_see = self.can_see();
        while !stop.load(Ordering::Relaxed) {
            let undisturbed = self.collect(&mut meter, &clock, end);
            if clock() >= end + TICK {
                self.catch_up(&mut meter);
            }
            let now = clock();
            if self.attachment.is_none() && now >= retry {
                retry = now + REATTACH_INTERVAL;
                self.reattach();
            }
            let can_see = self.can_see();
            // The last whole tick that is over: later ones are still being filled.
            end = end + TICK * whole_ticks(now.since(end));
            let mut summary = meter.finish_tick(end);
            summary.lost += self.count_lost();
            summary.blind |= !(could_see && can_see && undisturbed);
            on_tick(summary);
            could_see = can_see;
            end = end + TICK;
        }
    }

    /// Observes packets until `end`. False if the capture was disturbed.
    fn collect(
        &mut self,
        meter: &mut Meter,
        clock: &impl Fn() -> Timestamp,
        end: Timestamp,
    ) -> bool {
        let mut undisturbed = true;
        let mut more = false;
        loop {
            let left = end.since(clock());
            if left.is_zero() {
                return undisturbed;
            }
            let Some(attachment) = &mut self.attachment else {
                std::thread::sleep(left);
                return false;
            };
            let healthy = more || attachment.wait(left);
            match attachment.observe(meter) {
                Ok(count) => more = count == BATCH,
                // libpcap has given up on the interface: another attempt begins from scratch.
                Err(_) => self.attachment = None,
            }
            if !healthy {
                // The socket reports an error as soon as it is asked: waiting would be spinning.
                undisturbed = false;
                std::thread::sleep(end.since(clock()));
            }
        }
    }

    /// Observes what is in the ring: what came while this thread did not run belongs to the time in
    /// which it did not, or it would look like a flood in the next tick.
    fn catch_up(&mut self, meter: &mut Meter) {
        let Some(attachment) = &mut self.attachment else { return };
        for _ in 0..MAX_BATCHES_BEHIND {
            match attachment.observe(meter) {
                Ok(count) if count == BATCH => {}
                Ok(_) => return,
                Err(_) => {
                    self.attachment = None;
                    return;
                }
            }
        }
    }

    /// Whether packets can arrive now. Lets go of an interface that is gone.
    fn can_see(&mut self) -> bool {
        let Some(attachment) = &self.attachment else { return false };
        if self.interface == ANY {
            return true;
        }
        let state = self.probe.state(&self.interface);
        if state.index() != Some(attachment.index) {
            self.attachment = None;
        }
        self.attachment.is_some() && matches!(state, LinkState::Up { .. })
    }

    fn reattach(&mut self) {
        if !matches!(self.probe.state(&self.interface), LinkState::Up { .. }) {
            return;
        }
        // An error here is the interface going away again, or a lack of memory: the next attempt
        // is due soon, and blind ticks tell the rest.
        if let Ok(attachment) = attach(&self.interface, &self.options, &self.probe) {
            self.link = attachment.link;
            self.attachment = Some(attachment);
            self.counters.attachments.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Packets lost since it was last called.
    fn count_lost(&mut self) -> u64 {
        let Some(attachment) = &mut self.attachment else { return 0 };
        let Ok(now) = attachment.capture.stats() else { return 0 };
        let before = std::mem::replace(&mut attachment.seen, now);
        // libpcap counts in 32 bits and wraps.
        let received = u64::from(now.received.wrapping_sub(before.received));
        let kernel = u64::from(now.dropped.wrapping_sub(before.dropped));
        let interface = u64::from(now.if_dropped.wrapping_sub(before.if_dropped));
        self.counters.received.fetch_add(received, Ordering::Relaxed);
        self.counters.kernel_dropped.fetch_add(kernel, Ordering::Relaxed);
        self.counters.interface_dropped.fetch_add(interface, Ordering::Relaxed);
        kernel + interface
    }
}

impl Attachment {
    /// Waits until packets are there, at most `left`. False if the socket reports an error.
    fn wait(&self, left: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.capture, PollFlags::IN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
        let trouble = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        fds.iter().all(|fd| !fd.revents().intersects(trouble))
    }

    /// Observes what is in the ring, at most [`BATCH`] packets, and returns how many there were.
    fn observe(&mut self, meter: &mut Meter) -> Result<usize, pcap::Error> {
        let link = self.link;
        self.capture.dispatch(Some(BATCH), |packet| {
            meter.observe(link, packet.data, packet.header.len);
        })
    }
}

fn whole_ticks(span: Duration) -> u32 {
    u32::try_from(span.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX)
}

fn check_options(options: &LiveOptions) -> Result<(), CaptureError> {
    // Below: no room for the headers of one packet. Above: what libpcap takes.
    let ranges = [
        ("a snapshot length", options.snap_length, 64, 262_144),
        ("a buffer", options.buffer, 1 << 20, 1 << 30),
    ];
    for (option, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            return Err(CaptureError::Option { option, value, least, most });
        }
    }
    Ok(())
}

/// Opens `interface`.
fn attach(
    interface: &str,
    options: &LiveOptions,
    probe: &LinkProbe,
) -> Result<Attachment, CaptureError> {
    let state = probe.state(interface);
    let index = match state.index() {
        Some(index) => index,
        None if interface == ANY => 0,
        None => {
            let existing = interfaces::existing(probe);
            return Err(CaptureError::NoInterface { name: interface.to_owned(), existing });
        }
    };
    let mut capture = activate(interface, options, state)?;
    let number = capture.get_datalink().0;
    let link = LinkType::from_dlt(number).ok_or_else(|| CaptureError::InterfaceLinkType {
        interface: interface.to_owned(),
        number,
    })?;
    if let Some(filter) = &options.filter {
        capture.filter(filter, true).map_err(|error| CaptureError::Filter {
            filter: filter.clone(),
            message: text(&error),
        })?;
    }
    let mut capture = capture.setnonblock().map_err(|error| live_error(interface, text(&error)))?;
    let seen = capture.stats().map_err(|error| live_error(interface, text(&error)))?;
    Ok(Attachment { capture, link, index, seen })
}

fn activate(
    interface: &str,
    options: &LiveOptions,
    state: LinkState,
) -> Result<Capture<Active>, CaptureError> {
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let open = |promiscuous| {
        Capture::from_device(interface)?
            .snaplen(number(options.snap_length))
            .buffer_size(number(options.buffer))
            .promisc(promiscuous)
            .immediate_mode(false)
            .timeout(i32::try_from(BLOCK_TIMEOUT.as_millis()).unwrap_or(1))
            // Where nanoseconds are not supported libpcap stays with microseconds.
            .precision(Precision::Nano)
            .open()
    };
    // `any` cannot be promiscuous, and the crate takes libpcap's warning for an error.
    open(options.promiscuous && interface != ANY).map_err(|error| {
        let message = text(&error);
        let lower = message.to_lowercase();
        if lower.contains("permi") || lower.contains("cap_net_raw") {
            CaptureError::NotPermitted { interface: interface.to_owned() }
        } else if matches!(state, LinkState::Down { .. }) {
            let message = format!("it is down; `ip link set {interface} up` brings it up");
            live_error(interface, message)
        } else {
            live_error(interface, message)
        }
    })
}

fn live_error(interface: &str, message: String) -> CaptureError {
    CaptureError::Live { interface: interface.to_owned(), message }
}

/// What libpcap says, without the crate's prefix.
fn text(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) => message.clone(),
        other => other.to_string(),
    }
}
