//! Drives the assembler on a thread of its own.
//!
//! ```text
//!  engine --RecorderHandle (bounded, never waits)--> recorder thread --> store, alerts
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_model::{AttackId, Timestamp};

use super::assembler::{Assembler, Note};
use super::capture::capture_of;
use super::change::{Change, ChangeKind};
use super::recent::Recent;
use super::record::{Incident, Status};
use super::time::WallTime;
use crate::alerts::Alerts;
use crate::clock::WallOrigin;
use crate::event::Event;
use crate::store::Store;

/// Events between engine and recorder.
const QUEUE: usize = 8_192;

/// Events that are taken before the changes that follow from them are passed on.
const BATCH: usize = 256;

/// How long the store and the channels may take at the end, each.
const FINISH: Duration = Duration::from_secs(3);

/// How often a full queue is tried again at the end.
const ROOM_INTERVAL: Duration = Duration::from_millis(5);

/// Where changes go.
#[derive(Debug, Default)]
pub struct Sinks {
    /// Keeps the records.
    pub store: Option<Store>,
    /// Tells people.
    pub alerts: Option<Alerts>,
    /// Shows them to who asks.
    pub recent: Option<Arc<Recent>>,
}

impl Sinks {
    fn take(&mut self, change: &Change) {
        if let Some(recent) = &self.recent {
            recent.take(change);
        }
        if let Some(store) = &self.store {
            store.put_incident(Arc::clone(&change.incident));
        }
        if let Some(alerts) = &mut self.alerts {
            alerts.handle(change);
        }
    }
}

enum Input {
    Event(Box<Event>),
    Note(Timestamp, Note),
    /// A finished capture file, which is yet to be hashed.
    File(Timestamp, AttackId, PathBuf),
    Stop(Timestamp),
}

/// Hands events to the recorder. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct RecorderHandle {
    queue: SyncSender<Input>,
    lost: Arc<AtomicU64>,
}

impl RecorderHandle {
    /// Has `event` recorded. One that finds no room is counted in every open record.
    pub fn event(&self, event: &Event) {
        self.send(Input::Event(Box::new(event.clone())));
    }

    /// Has `note` of `time` recorded.
    pub fn note(&self, time: Timestamp, note: Note) {
        self.send(Input::Note(time, note));
    }

    /// Has the finished capture file at `path` recorded, with its hash.
    pub fn file(&self, time: Timestamp, attack: AttackId, path: PathBuf) {
        self.send(Input::File(time, attack, path));
    }

    fn send(&self, input: Input) {
        if self.queue.try_send(input).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The recorder thread.
#[derive(Debug)]
pub struct Recorder {
    handle: RecorderHandle,
    ended: Receiver<()>,
}

impl Recorder {
    /// Starts it. `unfinished` are the incidents that an earlier run left open: they are closed, and
    /// whoever was told of them hears it. `now` is wall time.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        wall: WallOrigin,
        mut sinks: Sinks,
        unfinished: Vec<Incident>,
        now: WallTime,
    ) -> io::Result<Self> {
        let (queue, inputs) = sync_channel(QUEUE);
        let (ending, ended) = sync_channel::<()>(0);
        let handle = RecorderHandle { queue, lost: Arc::default() };
        let lost = Arc::clone(&handle.lost);
        thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            // Closed when the thread ends, however it does.
            let _ending = ending;
            for change in unfinished.into_iter().flat_map(|incident| abandoned(incident, now)) {
                sinks.take(&change);
            }
            record(&inputs, Assembler::new(wall), &mut sinks, &lost);
            if let Some(alerts) = sinks.alerts.take()
                && !alerts.finish(FINISH)
            {
                tracing::warn!("not every alert was sent; the rest waits for the next start");
            }
            if let Some(store) = &sinks.store
                && !store.settle(FINISH)
            {
                tracing::warn!("the incident store did not take everything in time");
            }
        })?;
        Ok(Self { handle, ended })
    }

    /// To hand events to.
    #[must_use]
    pub fn handle(&self) -> RecorderHandle {
        self.handle.clone()
    }

    /// Closes every record at `time`, sends what can be sent, and ends; whether it did within
    /// `patience`.
    #[must_use]
    pub fn finish(self, time: Timestamp, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut stop = Input::Stop(time);
        // The queue drains fast, unless a disk hangs: then nobody waits for it for ever.
        while let Err(TrySendError::Full(unsent)) = self.handle.queue.try_send(stop) {
            if Instant::now() >= deadline {
                return false;
            }
            stop = unsent;
            thread::sleep(ROOM_INTERVAL);
        }
        drop(self.handle);
        let left = deadline.saturating_duration_since(Instant::now());
        self.ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

fn record(inputs: &Receiver<Input>, mut assembler: Assembler, sinks: &mut Sinks, lost: &AtomicU64) {
    let mut unrecorded = 0;
    let mut latest = Timestamp::ZERO;
    while let Ok(first) = inputs.recv() {
        let mut stop = false;
        for input in std::iter::once(first).chain(inputs.try_iter().take(BATCH)) {
            match input {
                Input::Event(event) => {
                    latest = event.time;
                    assembler.handle(&event);
                }
                Input::Note(time, note) => assembler.handle_note(time, note),
                Input::File(time, attack, path) => match capture_of(&path) {
                    Ok(capture) => {
                        assembler.handle_note(time, Note::Capture { attack, capture });
                    }
                    Err(error) => {
                        tracing::warn!(%error, file = %path.display(), "cannot hash a capture");
                    }
                },
                Input::Stop(time) => {
                    assembler.stop(time);
                    stop = true;
                }
            }
        }
        let missed = lost.swap(0, Ordering::Relaxed);
        if missed > 0 {
            tracing::warn!(missed, "the recorder is too slow: records are incomplete");
            assembler.handle_note(latest, Note::Lost(missed));
        }
        if assembler.unrecorded() > unrecorded {
            unrecorded = assembler.unrecorded();
            tracing::warn!(unrecorded, "too many attacks at once: some have no record");
        }
        while let Some(change) = assembler.poll_change() {
            sinks.take(&change);
        }
        if stop {
            return;
        }
    }
}

/// The end of an incident whose end nobody saw.
fn abandoned(mut incident: Incident, now: WallTime) -> Vec<Change> {
    let mut changes = Vec::new();
    incident.updated = now;
    if incident.status == Status::Active {
        incident.status = Status::Ended;
        incident.times.ended = Some(now);
        incident.end_reason =
            Some("tidegate was started anew; if the attack goes on it is found again".to_owned());
        changes.push(Change { kind: ChangeKind::Ended, incident: Arc::new(incident.clone()) });
    }
    incident.status = Status::Closed;
    for mitigation in &mut incident.mitigations {
        mitigation.leave(now, "the last run of tidegate ended");
    }
    let last = incident.mitigations.iter().max_by_key(|mitigation| mitigation.withdrawn);
    if let Some(last) = last {
        incident.times.withdrawn = last.withdrawn;
        incident.withdraw_reason.clone_from(&last.withdraw_reason);
    }
    changes.push(Change { kind: ChangeKind::Closed, incident: Arc::new(incident) });
    changes
}
