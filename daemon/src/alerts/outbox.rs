//! What waits to be sent through one channel: order, bound, delay.
//!
//! Pure: the time is given. Messages of one alert are sent in their order; an alert whose message
//! fails does not keep the others waiting, a service that asks for a pause gets it for all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_model::Timestamp;

use super::event::AlertEvent;
use super::snapshot::Snapshot;
use crate::incident::WallTime;

/// Messages that wait at one channel. Beyond it the oldest goes, and is counted.
pub const MAX_WAITING: usize = 1_000;

/// A message is given up after this, by its age.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Before the second attempt; doubled before each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Never longer between two attempts, unless the service asks for it.
const MAX_RETRY: Duration = Duration::from_secs(300);

/// No pause that a service asks for is longer.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

/// A message that changes in place is not changed more often for mere news.
const UPDATE_INTERVAL: Duration = Duration::from_secs(5);

/// A message that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What.
    pub snapshot: Snapshot,
    /// Since when, for people and for its age.
    pub created: WallTime,
    /// Not before this.
    due: Timestamp,
    /// Attempts that failed.
    attempts: u32,
    sending: bool,
}

/// Names a message that left the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The alert.
    pub alert: String,
    /// The event.
    pub event: AlertEvent,
    /// The revision.
    pub revision: u64,
}

/// The queue of one channel.
#[derive(Debug)]
pub struct Outbox {
    edits: bool,
    /// Least time between two messages.
    spacing: Duration,
    jobs: Vec<Job>,
    /// Not before this is anything sent.
    paused_until: Timestamp,
    /// When each alert's message was last changed.
    sent: BTreeMap<String, Timestamp>,
    /// Messages that found no room, or were given up.
    pub lost: u64,
}

impl Outbox {
    /// Nothing waits. `edits`: only an alert's latest state matters.
    #[must_use]
    pub fn new(edits: bool, spacing: Duration) -> Self {
        Self {
            edits,
            spacing,
            jobs: Vec::new(),
            paused_until: Timestamp::ZERO,
            sent: BTreeMap::new(),
            lost: 0,
        }
    }

    /// Adds a message, in place of one that it makes needless. Returns those that left.
    pub fn push(&mut self, now: Timestamp, created: WallTime, mut snapshot: Snapshot) -> Vec<Gone> {
        let mut due = now;
        if snapshot.event == AlertEvent::Updated
            && let Some(sent) = self.sent.get(&snapshot.alert)
        {
            due = *sent + UPDATE_INTERVAL;
        }
        let edits = self.edits;
        let replaces = |job: &Job, snapshot: &Snapshot| {
            !job.sending
                && job.snapshot.alert == snapshot.alert
                && (edits || job.snapshot.event == snapshot.event)
        };
        let mut gone = Vec::new();
        let old = self.jobs.iter().position(|job| replaces(job, &snapshot));
        let (created, attempts) = match old.map(|place| self.jobs.remove(place)) {
            Some(old) => {
                gone.push(old.name());
                due = if old.attempts > 0 { old.due } else { due.min(old.due) };
                // News must not hide what was never told.
                if snapshot.event == AlertEvent::Updated {
                    snapshot.event = old.snapshot.event;
                    snapshot.note = snapshot.note.or(old.snapshot.note);
                }
                (old.created, old.attempts)
            }
            None => (created, 0),
        };
        if self.jobs.len() >= MAX_WAITING
            && let Some(place) = self.jobs.iter().position(|job| !job.sending)
        {
            gone.push(self.jobs.remove(place).name());
            self.lost += 1;
        }
        let job = Job { snapshot, created, due, attempts, sending: false };
        match old {
            Some(place) => self.jobs.insert(place.min(self.jobs.len()), job),
            None => self.jobs.push(job),
        }
        // The same name may have come back with a newer revision.
        gone
    }

    /// The message of `revision` as it waits: what it took the place of may have changed it.
    #[must_use]
    pub fn find(&self, revision: u64) -> Option<&Job> {
        self.jobs.iter().find(|job| job.snapshot.revision == revision)
    }

    /// The next message to send now, if any. It stays until [`Self::done`] or [`Self::again`].
    pub fn next(&mut self, now: Timestamp) -> Option<Snapshot> {
        if now < self.paused_until {
            return None;
        }
        let place = self.first_of_each().find(|(_, job)| job.due <= now)?.0;
        let job = self.jobs.get_mut(place)?;
        job.sending = true;
        Some(job.snapshot.clone())
    }

    /// When [`Self::next`] is to be asked again at the latest, if nothing is added before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let ready = self.first_of_each().map(|(_, job)| job.due).min()?;
        Some(ready.max(self.paused_until))
    }

    /// The message was sent, or is not to be tried again.
    pub fn done(&mut self, now: Timestamp, alert: &str) {
        self.jobs.retain(|job| !(job.sending && job.snapshot.alert == alert));
        self.paused_until = self.paused_until.max(now + self.spacing);
        if self.edits {
            self.sent.insert(alert.to_owned(), now);
            self.sent.retain(|_, at| now.since(*at) <= UPDATE_INTERVAL);
        }
    }

    /// The message was not sent and is to be tried again, after `pause` if the service asked for
    /// one; `jitter` in `0.0..1.0` spreads the attempts. Returns it if it has grown too old.
    pub fn again(
        &mut self,
        now: Timestamp,
        wall: WallTime,
        alert: &str,
        pause: Option<Duration>,
        jitter: f64,
    ) -> Option<Gone> {
        let sending = |job: &Job| job.sending && job.snapshot.alert == alert;
        let place = self.jobs.iter().position(sending)?;
        let job = self.jobs.get_mut(place)?;
        job.sending = false;
        job.attempts = job.attempts.saturating_add(1);
        let doublings = job.attempts.saturating_sub(1).min(16);
        let backoff = (FIRST_RETRY * 2_u32.saturating_pow(doublings)).min(MAX_RETRY);
        job.due = now + backoff.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        if let Some(pause) = pause {
            let until = now + pause.min(MAX_PAUSE);
            job.due = until;
            self.paused_until = self.paused_until.max(until);
        }
        if wall.since(job.created) < MAX_AGE {
            return None;
        }
        self.lost += 1;
        Some(self.jobs.remove(place).name())
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The first message of each alert, unless it is being sent: the others wait for it.
    fn first_of_each(&self) -> impl Iterator<Item = (usize, &Job)> {
        let mut seen = BTreeSet::new();
        self.jobs
            .iter()
            .enumerate()
            .filter(move |(_, job)| seen.insert(job.snapshot.alert.as_str()) && !job.sending)
    }
}

impl Job {
    fn name(&self) -> Gone {
        Gone {
            alert: self.snapshot.alert.clone(),
            event: self.snapshot.event,
            revision: self.snapshot.revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(alert: &str, event: AlertEvent, revision: u64) -> Snapshot {
        let sample = Snapshot::sample();
        Snapshot { alert: alert.to_owned(), event, revision, ..sample }
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(milliseconds)
    }

    fn push(outbox: &mut Outbox, now: u64, alert: &str, event: AlertEvent) -> Vec<Gone> {
        outbox.push(at(now), WallTime::default(), snapshot(alert, event, now))
    }

    #[test]
    fn an_alerts_messages_keep_their_order_and_do_not_hold_up_others() {
        let mut outbox = Outbox::new(false, Duration::ZERO);
        push(&mut outbox, 0, "a", AlertEvent::Opened);
        push(&mut outbox, 1, "a", AlertEvent::Ended);
        push(&mut outbox, 2, "b", AlertEvent::Opened);
        assert_eq!(outbox.next(at(5)).unwrap().alert, "a");
        assert_eq!(outbox.next(at(5)).unwrap().alert, "b");
        assert_eq!(outbox.next(at(5)), None);
        outbox.done(at(6), "b");
        assert_eq!(outbox.again(at(6), WallTime::default(), "a", None, 1.0), None);
        assert_eq!(outbox.next(at(7)), None);
        assert_eq!(outbox.poll_timeout(), Some(at(1_006)), "the end waits for what was before it");
        assert_eq!(outbox.next(at(1_006)).unwrap().event, AlertEvent::Opened);
        outbox.done(at(1_007), "a");
        assert_eq!(outbox.next(at(1_007)).unwrap().event, AlertEvent::Ended);
    }

    #[test]
    fn delays_double_within_their_bound() {
        let mut outbox = Outbox::new(false, Duration::ZERO);
        push(&mut outbox, 0, "a", AlertEvent::Opened);
        let mut now = at(0);
        let mut delays = Vec::new();
        for _ in 0..12 {
            assert!(outbox.next(now).is_some());
            assert_eq!(outbox.again(now, WallTime::default(), "a", None, 1.0), None);
            let due = outbox.poll_timeout().unwrap();
            delays.push(due.since(now).as_secs());
            now = due;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert!(outbox.next(now).is_some());
        let late = WallTime::default().after(MAX_AGE);
        let given_up = outbox.again(now, late, "a", None, 1.0).unwrap();
        assert_eq!((given_up.event, outbox.lost, outbox.len()), (AlertEvent::Opened, 1, 0));
    }

    #[test]
    fn a_pause_is_for_the_whole_channel_and_bounded() {
        let mut outbox = Outbox::new(false, Duration::ZERO);
        push(&mut outbox, 0, "a", AlertEvent::Opened);
        push(&mut outbox, 0, "b", AlertEvent::Opened);
        assert!(outbox.next(at(0)).is_some());
        let long = Duration::from_secs(1_000_000);
        outbox.again(at(0), WallTime::default(), "a", Some(long), 0.0);
        assert_eq!(outbox.next(at(3_599_999)), None);
        assert!(outbox.next(at(3_600_000)).is_some());
    }

    #[test]
    fn edited_messages_wait_with_their_latest_state_only() {
        let mut outbox = Outbox::new(true, Duration::from_secs(1));
        push(&mut outbox, 0, "a", AlertEvent::Opened);
        let gone = push(&mut outbox, 1, "a", AlertEvent::Updated);
        assert_eq!(gone.len(), 1);
        let sent = outbox.next(at(2)).unwrap();
        assert_eq!((sent.event, sent.revision), (AlertEvent::Opened, 1));
        // One that is on its way is not replaced.
        assert_eq!(push(&mut outbox, 3, "a", AlertEvent::Updated), []);
        outbox.done(at(4), "a");
        assert_eq!(outbox.next(at(500)), None, "spacing");
        push(&mut outbox, 1_200, "a", AlertEvent::Ended);
        let sent = outbox.next(at(1_200)).unwrap();
        assert_eq!(sent.event, AlertEvent::Ended);
        outbox.done(at(1_300), "a");
        push(&mut outbox, 1_400, "a", AlertEvent::Updated);
        assert_eq!(outbox.next(at(6_299)), None, "mere news waits");
        assert!(outbox.next(at(6_300)).is_some());
    }

    proptest! {
        /// Whatever happens, the queue keeps its bound and loses nothing silently.
        #[test]
        fn the_queue_is_bounded(
            edits in any::<bool>(),
            steps in prop::collection::vec((0_u8..4, 0_u16..1_400, 0_usize..5), 0..3_000),
        ) {
            let mut outbox = Outbox::new(edits, Duration::ZERO);
            let (mut pushed, mut done, mut replaced) = (0_u64, 0_u64, 0_u64);
            let mut sending = Vec::new();
            for (now, (step, alert, event)) in steps.into_iter().enumerate() {
                let now = at(now as u64 * 100);
                match step {
                    0 | 1 => {
                        let event = AlertEvent::CHOSEN[event];
                        let snapshot = snapshot(&format!("a{alert}"), event, pushed);
                        let gone = outbox.push(now, WallTime::default(), snapshot);
                        pushed += 1;
                        replaced += gone.len() as u64;
                    }
                    2 => sending.extend(outbox.next(now).map(|snapshot| snapshot.alert)),
                    _ => if let Some(alert) = sending.pop() {
                        if event == 0 {
                            outbox.again(now, WallTime::default(), &alert, None, 0.5);
                        } else {
                            outbox.done(now, &alert);
                            done += 1;
                        }
                    },
                }
                prop_assert!(outbox.len() <= MAX_WAITING);
                prop_assert_eq!(pushed, done + replaced + outbox.len() as u64);
            }
        }
    }
}
