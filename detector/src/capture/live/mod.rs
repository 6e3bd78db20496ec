//! Live capture through libpcap.
//!
//! A worker is a thread that owns a handle on every interface, and a meter. It waits for its rings
//! with `poll(2)` until the tick is over, and takes packets out of them in batches: under load, one
//! system call serves a thousand packets. Immediate mode stays off; the kernel hands over a block
//! when it is full or after 5 ms, which is below the length of a tick.
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
//! Several workers share the traffic of each interface through `PACKET_FANOUT` (`packet(7)`). What two
//! addresses say to each other goes to one worker, on all interfaces, so that its meter sees the
//! question and the answer, also where each direction comes through a port of its own. The summaries
//! of a tick are joined into one, each scaled by what its own worker lost. Credit for what third parties
//! send, ICMP errors and refusals, is known only to the worker that saw what caused them.
//!
//! One interface of several that cannot be seen makes the tick blind: what came through it may go on.
//! After [`GIVEN_UP_AFTER`] ticks are not blind for its sake any more, as long as another can be seen:
//! they say since when it has been dark, and an attack that was known by then is held open for
//! [ten minutes](crate::TrafficSummary::dark_since). An interface that never comes back thus hides
//! nothing that begins later, and delays no end for ever. The moment it is up again it counts.
//!
//! Absent on purpose: timestamps of the interface's own clock, which nothing ties to the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tidegate_model::Timestamp;

use self::attachment::{Attachment, live_error};
use self::feed::Feed;
use self::join::Join;
use self::link_state::LinkProbe;
use self::worker::{Keeper, Shared, Worker};
use super::CaptureError;
use crate::{TICK, TrafficSummary};

mod attachment;
mod counters;
mod feed;
mod interfaces;
mod join;
mod link_state;
mod options;
mod packet_socket;
mod worker;

#[cfg(test)]
mod tests;

pub use counters::Counters;
pub use feed::{CaptureControl, Counting, Intake, Recording, SourcePart};
pub use interfaces::{Interface, survey};
pub use options::{DEFAULT_BUFFER, DEFAULT_SNAP_LENGTH, LiveOptions};

/// After this long the kernel hands over a block that is not full.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(5);

/// Packets taken in one batch, so that a flood cannot keep a tick from ending.
const BATCH: usize = 4096;

/// Batches that are taken at most to catch up: a full ring of small packets.
const MAX_BATCHES_BEHIND: usize = 256;

/// How often a lost interface is looked for.
const REATTACH_INTERVAL: Duration = Duration::from_millis(100);

/// Of several interfaces, one that has been down for so long is not waited for any more: ticks are
/// not blind for its sake.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);

/// libpcap's device that captures on all interfaces. It has no index and never goes down.
const ANY: &str = "any";

/// Summaries of each worker that wait to be joined. What finds no room makes the worker's next
/// summary blind.
const WAITING_SUMMARIES: usize = 64;

/// A capture on one interface or several.
pub struct LiveCapture {
    options: LiveOptions,
    probe: LinkProbe,
    ports: Vec<Shared>,
    control: CaptureControl,
}

impl std::fmt::Debug for LiveCapture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LiveCapture")
            .field("options", &self.options)
            .field("interfaces", &self.interfaces())
            .finish_non_exhaustive()
    }
}

impl LiveCapture {
    /// Opens the interfaces that `options` name, or finds one.
    ///
    /// # Errors
    /// [`CaptureError::NoInterface`], [`CaptureError::NoDefaultInterface`],
    /// [`CaptureError::NotPermitted`], [`CaptureError::Filter`], [`CaptureError::Option`],
    /// [`CaptureError::InterfaceLinkType`], or [`CaptureError::Live`] for what else libpcap reports.
    pub fn open(options: &LiveOptions) -> Result<Self, CaptureError> {
        options.check()?;
        let named = options.interfaces.first().map_or("default", String::as_str);
        let probe = LinkProbe::new().map_err(|error| live_error(named, error.to_string()))?;
        let mut names = options.interfaces.clone();
        if names.is_empty() {
            names.push(interfaces::default(&probe).ok_or_else(|| {
                CaptureError::NoDefaultInterface { existing: interfaces::existing(&probe) }
            })?);
        }
        let mut ports: Vec<Shared> = Vec::with_capacity(names.len());
        for name in &names {
            // The same interface twice would count everything twice.
            if ports.iter().all(|port| port.name != *name) {
                ports.push(Shared::new(name, Attachment::open_group(name, options, &probe)?));
            }
        }
        Ok(Self { options: options.clone(), probe, ports, control: CaptureControl::default() })
    }

    /// The interfaces' names, in the order of their numbers.
    #[must_use]
    pub fn interfaces(&self) -> Vec<&str> {
        self.ports.iter().map(|port| port.name.as_str()).collect()
    }

    /// Totals of each interface that stay readable while the capture runs.
    #[must_use]
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.ports.iter().map(|port| Arc::clone(&port.counters)).collect()
    }

    /// Threads that share the traffic.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.options.workers.get().into()
    }

    /// Changes what is protected, and whose sources are counted, while the capture runs.
    #[must_use]
    pub fn control(&self) -> CaptureControl {
        self.control.clone()
    }

    /// Runs until `stop`.
    ///
    /// Calls `on_tick` at the end of each [`TICK`] of `clock`, whether or not packets came. A tick
    /// that is noticed late covers more time, and its summary says so by its start and end. The
    /// summary is blind if an interface could not carry packets for any part of the tick.
    ///
    /// # Panics
    /// If a worker panics; the others are stopped first.
    pub fn run(
        self,
        intake: &Intake,
        clock: impl Fn() -> Timestamp + Sync,
        stop: &AtomicBool,
        mut on_tick: impl FnMut(TrafficSummary),
    ) {
        let begin = clock();
        let workers = self.options.workers.get();
        let make = |number: u8| {
            let feed = Feed::new(intake, workers, self.control.clone(), begin);
            let keeper =
                (number == 0).then(|| Keeper::new(&self.probe, &self.options, &self.ports));
            Worker::new((number, workers), &self.ports, keeper, feed)
        };
        if workers == 1 {
            return make(0).run(&clock, begin, stop, on_tick);
        }
        let (summaries, queue) = sync_channel(WAITING_SUMMARIES * usize::from(workers));
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (clock, ended) = (&clock, &ended);
            for number in 0..workers {
                let (mut worker, summaries) = (make(number), summaries.clone());
                scope.spawn(move || {
                    let _ended = SetAtEnd(ended);
                    worker.run(clock, begin, ended, hand_on(number.into(), summaries));
                });
            }
            drop(summaries);
            let _ended = SetAtEnd(ended);
            let mut join = Join::new(workers.into(), begin);
            while !stop.load(Ordering::Relaxed) {
                match queue.recv_timeout(TICK) {
                    Ok((worker, summary)) => join.handle_summary(worker, summary),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                while let Some(summary) = join.poll_summary() {
                    on_tick(summary);
                }
            }
        });
    }
}

/// Ends all workers with the first that ends.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends what `worker` counted to where it is joined, without waiting.
fn hand_on(
    worker: usize,
    summaries: SyncSender<(usize, TrafficSummary)>,
) -> impl FnMut(TrafficSummary) {
    let mut missed = false;
    move |mut summary| {
        summary.blind |= missed;
        missed = matches!(summaries.try_send((worker, summary)), Err(TrySendError::Full(_)));
    }
}
