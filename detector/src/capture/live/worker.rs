//! One capture thread: its part of the packets of every interface, into one meter.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidegate_model::Timestamp;

use super::attachment::Attachment;
use super::counters::Counters;
use super::feed::Feed;
use super::interfaces::dropped_by;
use super::link_state::{LinkProbe, LinkState};
use super::options::LiveOptions;
use super::{ANY, BATCH, GIVEN_UP_AFTER, MAX_BATCHES_BEHIND, REATTACH_INTERVAL};
use crate::{TICK, TrafficSummary};

/// How often an interface's own drop counters are read.
const DROPS_INTERVAL: Duration = Duration::from_secs(1);

/// The generation of the attachments that a capture begins with.
pub(super) const FIRST_GENERATION: u64 = 1;

/// In [`Shared::down_since`]: it can carry packets.
const UP: u64 = u64::MAX;

/// What the workers know of an interface together. The first worker looks after it.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) counters: Arc<Counters>,
    /// Index of the interface as it was last opened.
    index: AtomicU32,
    /// Which attachments are good: those of this generation. Zero if they are lost.
    pub(super) generation: AtomicU64,
    /// Since when it has been unable to carry packets, in nanoseconds; [`UP`] if it can.
    down_since: AtomicU64,
    /// Attachments that the first worker opened for the others, by worker, each group of a later
    /// generation than the one before. Whoever finds the lock taken tries again in the next tick.
    pub(super) opened: Mutex<Vec<Option<Attachment>>>,
}

impl Shared {
    pub(super) fn new(name: &str, group: Vec<Attachment>) -> Self {
        Self {
            name: name.to_owned(),
            counters: Arc::new(Counters::new(name)),
            index: AtomicU32::new(group.first().map_or(0, |attachment| attachment.index)),
            generation: AtomicU64::new(FIRST_GENERATION),
            down_since: AtomicU64::new(UP),
            opened: Mutex::new(group.into_iter().map(Some).collect()),
        }
    }

    /// Looks after the attachment of `worker` in `slot`, where `generation` is good: lets go of an
    /// older one, and takes what was opened. True if there is a good one.
    ///
    /// What is taken may be of a later generation than `generation`, which was read before: it is
    /// kept, and good from the next tick on.
    pub(super) fn renew(
        &self,
        worker: usize,
        slot: &mut Option<Attachment>,
        generation: u64,
    ) -> bool {
        if slot.as_ref().is_some_and(|attachment| attachment.generation < generation)
            || generation == 0
        {
            *slot = None;
        }
        if slot.is_none() {
            *slot = self.take(worker);
        }
        slot.as_ref().is_some_and(|attachment| attachment.generation == generation)
    }

    /// An attachment of `generation` does not work any more: all of them are opened anew. One that
    /// has been replaced already says nothing.
    pub(super) fn give_up(&self, generation: u64) {
        let (now, lost) = (Ordering::Relaxed, 0);
        let _ = self.generation.compare_exchange(generation, lost, now, now);
    }

    /// Notes at `now` whether it can carry packets.
    fn note(&self, now: Timestamp, state: LinkState) {
        if matches!(state, LinkState::Up { .. }) {
            self.down_since.store(UP, Ordering::Relaxed);
        } else {
            let (order, since) = (Ordering::Relaxed, now.as_nanos());
            let _ = self.down_since.compare_exchange(UP, since, order, order);
        }
    }

    fn down_since(&self) -> Option<Timestamp> {
        let since = self.down_since.load(Ordering::Relaxed);
        (since != UP).then(|| Timestamp::from_nanos(since))
    }

    /// Since when it has been down, if it has been for so long that nobody waits for it.
    fn given_up(&self, now: Timestamp) -> Option<Timestamp> {
        self.down_since().filter(|since| now.since(*since) >= GIVEN_UP_AFTER)
    }

    /// The attachment that was opened for `worker`, if there is one.
    fn take(&self, worker: usize) -> Option<Attachment> {
        self.opened.try_lock().ok()?.get_mut(worker)?.take()
    }
}

/// What the first worker needs to look after the interfaces.
pub(super) struct Keeper<'a> {
    pub(super) probe: &'a LinkProbe,
    pub(super) options: &'a LiveOptions,
    retry: Timestamp,
    /// The latest generation of attachments, over all interfaces.
    generation: u64,
    drops_due: Timestamp,
    /// The interfaces' own drop counters as last read.
    drops: Vec<u64>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(probe: &'a LinkProbe, options: &'a LiveOptions, ports: &[Shared]) -> Self {
        let drops = ports.iter().map(|port| dropped_by(&port.name)).collect();
        let (retry, drops_due) = (Timestamp::ZERO, Timestamp::ZERO);
        Self { probe, options, retry, generation: FIRST_GENERATION, drops_due, drops }
    }

    /// Finds out how the interfaces are, and what they dropped of late, and opens anew what was lost
    /// and is back.
    pub(super) fn look_after(&mut self, ports: &[Shared], now: Timestamp) {
        let retry = now >= self.retry;
        for port in ports.iter().filter(|port| port.name != ANY) {
            let state = self.probe.state(&port.name);
            port.note(now, state);
            let up = matches!(state, LinkState::Up { .. });
            if state.index() != Some(port.index.load(Ordering::Relaxed)) {
                port.generation.store(0, Ordering::Relaxed);
            }
            if up && retry && port.generation.load(Ordering::Relaxed) == 0 {
                self.retry = now + REATTACH_INTERVAL;
                self.reopen(port);
            }
        }
        if now < self.drops_due {
            return;
        }
        self.drops_due = now + DROPS_INTERVAL;
        for (port, before) in ports.iter().zip(&mut self.drops) {
            let drops = dropped_by(&port.name);
            // A new interface counts from zero.
            let more = drops.checked_sub(std::mem::replace(before, drops)).unwrap_or(drops);
            port.counters.add_interface_dropped(more);
        }
    }

    /// An error here is the interface going away again, or a lack of memory: the next attempt is
    /// due soon, and blind ticks tell the rest.
    fn reopen(&mut self, port: &Shared) {
        let Ok(mut group) = Attachment::open_group(&port.name, self.options, self.probe) else {
            return;
        };
        let Ok(mut opened) = port.opened.try_lock() else { return };
        self.generation += 1;
        group.iter_mut().for_each(|attachment| attachment.generation = self.generation);
        port.index.store(group.first().map_or(0, |first| first.index), Ordering::Relaxed);
        port.generation.store(self.generation, Ordering::Relaxed);
        port.counters.add_attachment();
        *opened = group.into_iter().map(Some).collect();
    }
}

/// What a worker can see.
pub(super) struct View {
    /// Packets can arrive from every interface that has not been given up, and there is one.
    pub(super) clear: bool,
    /// Since when the latest interface that was given up has been down.
    pub(super) dark_since: Option<Timestamp>,
}

/// One capture thread.
pub(super) struct Worker<'a> {
    number: usize,
    ports: &'a [Shared],
    attachments: Vec<Option<Attachment>>,
    /// Only the first worker has one.
    keeper: Option<Keeper<'a>>,
    feed: Feed,
    /// How many share the traffic, and this one's part of what interfaces have dropped.
    workers: u64,
    dropped: u64,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        (number, workers): (u8, u8),
        ports: &'a [Shared],
        keeper: Option<Keeper<'a>>,
        feed: Feed,
    ) -> Self {
        let (number, workers) = (usize::from(number), u64::from(workers.max(1)));
        let attachments = ports.iter().map(|port| port.take(number)).collect();
        Self { number, ports, attachments, keeper, feed, workers, dropped: 0 }
    }

    /// Runs until `stop`. Its ticks end at `begin` and whole [`TICK`]s after it.
    pub(super) fn run(
        &mut self,
        clock: &impl Fn() -> Timestamp,
        begin: Timestamp,
        stop: &AtomicBool,
        mut on_tick: impl FnMut(TrafficSummary),
    ) {
        // What came before belongs to no tick; the first one begins now.
        self.catch_up();
        self.feed.meter.finish_tick(begin);
        let mut end = begin + TICK;
        let mut could_see = self.view(begin).clear;
        while !stop.load(Ordering::Relaxed) {
            let undisturbed = self.collect(clock, end);
            if clock() >= end + TICK {
                self.catch_up();
            }
            let now = clock();
            if let Some(keeper) = &mut self.keeper {
                keeper.look_after(self.ports, now);
            }
            let settled = self.settle();
            let view = self.view(now);
            // The last whole tick that is over: later ones are still being filled.
            end = end + TICK * whole_ticks(now.since(end));
            let lost = self.count_lost();
            self.feed.meter.handle_lost(lost);
            let mut summary = self.feed.meter.finish_tick(end);
            summary.blind |= !(could_see && view.clear && undisturbed && settled);
            summary.dark_since = view.dark_since;
            on_tick(summary);
            self.feed.finish_tick(end);
            could_see = view.clear;
            end = end + TICK;
        }
    }

    /// Observes packets until `end`. False if the capture was disturbed.
    fn collect(&mut self, clock: &impl Fn() -> Timestamp, end: Timestamp) -> bool {
        let mut undisturbed = true;
        // A socket reports an error as soon as it is asked: waiting for it would be spinning.
        let mut troubled = vec![false; self.attachments.len()];
        let mut more = false;
        loop {
            let left = end.since(clock());
            if left.is_zero() {
                return undisturbed;
            }
            let left = if more { Duration::ZERO } else { left };
            undisturbed &= self.wait(end, left, &mut troubled);
            more = false;
            for index in 0..self.attachments.len() {
                more |= self.observe(index) == Some(BATCH);
            }
        }
    }

    /// Waits until packets are there, at most `left`. False if an interface is troubled that has not
    /// been given up at `now`.
    fn wait(&self, now: Timestamp, left: Duration, troubled: &mut [bool]) -> bool {
        let attached = self.ports.iter().zip(&self.attachments).zip(troubled.iter_mut());
        let (mut fds, mut owners): (Vec<_>, Vec<_>) = attached
            .filter(|(_, troubled)| !**troubled)
            .filter_map(|((port, attachment), troubled)| {
                let fd = PollFd::new(attachment.as_ref()?, PollFlags::IN);
                Some((fd, (port, troubled)))
            })
            .unzip();
        if fds.is_empty() {
            std::thread::sleep(left);
            return false;
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
        let trouble = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        for (fd, (_, troubled)) in fds.iter().zip(&mut owners) {
            **troubled = fd.revents().intersects(trouble);
        }
        !owners.iter().any(|(port, troubled)| **troubled && port.given_up(now).is_none())
    }

    /// Observes a batch of the interface at `index`, and returns how many packets there were.
    fn observe(&mut self, index: usize) -> Option<usize> {
        let slot = self.attachments.get_mut(index)?;
        let number = u16::try_from(index).unwrap_or(u16::MAX);
        match slot.as_mut()?.observe(number, &mut self.feed) {
            Ok(count) => Some(count),
            // libpcap has given up on the interface: another attempt begins from scratch.
            Err(_) => {
                let lost = slot.take();
                if let (Some(port), Some(lost)) = (self.ports.get(index), lost)
                    && port.name != ANY
                {
                    port.give_up(lost.generation);
                }
                None
            }
        }
    }

    /// Observes what is in the rings: what came while this thread did not run belongs to the time in
    /// which it did not, or it would look like a flood in the next tick.
    fn catch_up(&mut self) {
        for index in 0..self.attachments.len() {
            for _ in 0..MAX_BATCHES_BEHIND {
                if self.observe(index) != Some(BATCH) {
                    break;
                }
            }
        }
    }

    /// What can be seen at `now`. Lets go of an interface that is gone, and takes it when it is
    /// back.
    pub(super) fn view(&mut self, now: Timestamp) -> View {
        let mut view = View { clear: true, dark_since: None };
        let mut seen = false;
        for (port, slot) in self.ports.iter().zip(&mut self.attachments) {
            let generation = port.generation.load(Ordering::Relaxed);
            let attached = port.renew(self.number, slot, generation);
            if let Some(since) = port.given_up(now) {
                view.dark_since = view.dark_since.max(Some(since));
                continue;
            }
            let clear = attached && port.down_since().is_none();
            seen |= clear;
            view.clear &= clear;
        }
        view.clear &= seen;
        view
    }

    /// Whatever came while a group was not complete has been thrown away by now: its blocks are
    /// handed over in less than a tick. False if there was such a group, whose packets were not
    /// counted.
    fn settle(&mut self) -> bool {
        let mut settled = true;
        for attachment in self.attachments.iter_mut().flatten() {
            settled &= !std::mem::take(&mut attachment.unsettled);
        }
        settled
    }

    /// Packets that found no room since it was last called: in this worker's rings, and its part of
    /// those that the interfaces dropped before anybody could share them.
    fn count_lost(&mut self) -> u64 {
        let dropped = self.ports.iter().map(|port| port.counters.interface_dropped());
        let dropped = dropped.sum::<u64>() / self.workers;
        let before = std::mem::replace(&mut self.dropped, dropped);
        let mut lost = dropped.saturating_sub(before);
        for (port, attachment) in self.ports.iter().zip(&self.attachments) {
            let Some(attachment) = attachment else { continue };
            let (received, dropped) = attachment.take_statistics();
            port.counters.add_received(received, dropped);
            lost += dropped;
        }
        lost
    }
}

fn whole_ticks(span: Duration) -> u32 {
    u32::try_from(span.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX)
}
