//! Alerts: whom to tell, what, and how to make sure that they hear it.
//!
//! ```text
//!  Change --> Router --Notice--> queue --> Worker, one a channel: Outbox --> render --> send
//!             (pure)            (bounded)                          (pure)   (pure)       |
//!                                             ^------------- Verdict (pure) -------------+
//! ```
//!
//! The router decides which channel is told what; each channel has a task of its own on a thread
//! that has nothing else to do, so that one that is slow or dead delays neither the others nor a
//! mitigation. What is not sent yet waits in memory and in the store, and is sent after a restart.
//! A message may arrive twice, never silently not at all: services that know a key are given one.
//!
//! Everything that comes from packets or peers is escaped for its medium ([`escape`]). Secrets are
//! of the type [`Secret`], which cannot be shown.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod config;
pub mod escape;
mod event;
mod group;
pub mod http;
mod message;
mod outbox;
pub mod render;
mod router;
mod secret;
mod sender;
mod snapshot;
mod template;
mod verdict;
mod worker;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tidegate_model::Severity;
use tokio::runtime;
use tokio::sync::mpsc;

use crate::akvorado::Console;
use crate::incident::{Change, Incident, WallTime, sample};
use crate::store::{JobRow, MessageRow, Store};

pub use config::{AlertSettings, Channel, ChannelKind, Settings};
pub use event::AlertEvent;
pub use message::Message;
pub use outbox::{Gone, MAX_WAITING, Outbox};
pub use router::{Notice, Router};
pub use secret::{Secret, SecretError};
pub use snapshot::{Links, Snapshot};
pub use template::{Medium, Template, TemplateError};
pub use verdict::{Verdict, judge};

use render::{Context, Origin, render};
use sender::Sender;
use worker::Worker;

/// Messages between the router and one channel's task. The task takes them at once, so it is only
/// full if the thread stands still; what finds no room is counted and logged.
const QUEUE: usize = 2_048;

/// Tells people and programs. Dropping it stops the channels without waiting for them.
#[derive(Debug)]
pub struct Alerts {
    router: Router,
    names: Vec<String>,
    queues: Vec<mpsc::Sender<Snapshot>>,
    ended: std::sync::mpsc::Receiver<()>,
    lost: u64,
}

/// What the last run left to do.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    /// Alerts that were not sent.
    pub jobs: Vec<JobRow>,
    /// What channels know of alerts.
    pub messages: Vec<MessageRow>,
    /// Ids of the incidents that were not closed.
    pub unfinished: BTreeSet<String>,
}

impl Alerts {
    /// Starts the channels. `now` is wall time.
    ///
    /// # Errors
    /// If the thread cannot be started, or the system's certificates cannot be read.
    pub fn start(
        settings: &AlertSettings,
        console: Option<Console>,
        store: Option<Store>,
        leftovers: Leftovers,
        now: WallTime,
    ) -> io::Result<Self> {
        let sender = Arc::new(Sender::new().map_err(io::Error::other)?);
        let origin = Arc::new(Origin::here());
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let mut router = Router::new(settings, console, now.as_nanos());
        let mut workers: Vec<Worker> = settings
            .channels
            .iter()
            .map(|channel| {
                let channel = Arc::new(channel.clone());
                Worker::new(channel, Arc::clone(&sender), Arc::clone(&origin), store.clone())
            })
            .collect();
        restore(settings, &mut router, &mut workers, store.as_ref(), leftovers);
        let (queues, receivers): (Vec<_>, Vec<_>) =
            settings.channels.iter().map(|_| mpsc::channel(QUEUE)).unzip();
        let (ending, ended) = sync_channel::<()>(0);
        thread::Builder::new().name("alerts".to_owned()).spawn(move || {
            // Closed when the thread ends, however it does.
            let _ending = ending;
            runtime.block_on(async move {
                let tasks: Vec<_> = workers
                    .into_iter()
                    .zip(receivers)
                    .map(|(worker, queue)| tokio::spawn(worker.run(queue)))
                    .collect();
                for task in tasks {
                    if task.await.is_err() {
                        tracing::error!("a channel's task panicked; it tells nothing any more");
                    }
                }
            });
            // A name that is being looked up keeps nobody here.
            runtime.shutdown_background();
        })?;
        let names = settings.channels.iter().map(|channel| channel.name.clone()).collect();
        Ok(Self { router, names, queues, ended, lost: 0 })
    }

    /// Tells whoever wants to know of `change`. Never waits.
    pub fn handle(&mut self, change: &Change) {
        for notice in self.router.handle(change) {
            let Some(queue) = self.queues.get(notice.channel) else { continue };
            if queue.try_send(notice.snapshot).is_err() {
                self.lost += 1;
                if self.lost.is_power_of_two() {
                    let channel = self.names.get(notice.channel).map_or("", String::as_str);
                    tracing::error!(channel, lost = self.lost, "an alert found no room");
                }
            }
        }
    }

    /// Lets the channels send what waits, for a short while, and stops them; whether all of them
    /// ended within `patience`. What was not sent waits in the store.
    #[must_use]
    pub fn finish(self, patience: Duration) -> bool {
        drop(self.queues);
        self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Hands out what the last run left.
fn restore(
    settings: &AlertSettings,
    router: &mut Router,
    workers: &mut [Worker],
    store: Option<&Store>,
    leftovers: Leftovers,
) {
    let place = |name: &str| settings.channels.iter().position(|channel| channel.name == name);
    let mut waiting = BTreeSet::new();
    for job in leftovers.jobs {
        let snapshot = serde_json::from_str::<Snapshot>(&job.snapshot).ok();
        let Some((place, snapshot)) = place(&job.key.channel).zip(snapshot) else {
            // Its channel is configured no more, or an earlier version wrote it.
            if let Some(store) = store {
                store.remove_job(job.key, &job.event, job.revision);
            }
            continue;
        };
        router.restore(place, &snapshot.alert, snapshot.severity());
        waiting.insert(job.key);
        if let Some(worker) = workers.get_mut(place) {
            worker.restore_job(snapshot, job.created);
        }
    }
    for message in leftovers.messages {
        let needed =
            waiting.contains(&message.key) || leftovers.unfinished.contains(&message.key.alert);
        let Some(place) = place(&message.key.channel).filter(|_| needed) else {
            if let Some(store) = store {
                store.remove_message(message.key);
            }
            continue;
        };
        let severity = Severity::ALL.into_iter().find(|known| known.name() == message.severity);
        router.restore(place, &message.key.alert, severity.unwrap_or(Severity::Low));
        if let (Some(worker), Some(remote)) = (workers.get_mut(place), message.remote) {
            worker.restore_message(message.key.alert, remote);
        }
    }
}

/// Sends a test alert through `channel` and takes it back: opened, then over, once each and without
/// retries. What was sent, or why it was not.
///
/// # Errors
/// What the service said, in one line.
pub fn test(channel: &Channel, console: Option<&Console>, now: WallTime) -> Result<String, String> {
    let sender = Sender::new().map_err(|error| error.to_string())?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let origin = Origin::here();
    let mut remote: Option<String> = None;
    let mut sent = Vec::new();
    for (revision, event) in [(1, AlertEvent::Opened), (2, AlertEvent::Ended)] {
        if !channel.events.contains(&event) {
            continue;
        }
        let snapshot = test_snapshot(event, revision, console, now);
        let context = Context { remote: remote.as_deref(), now, origin: &origin };
        let delivery = render(channel, &snapshot, context).map_err(|error| error.to_string())?;
        let Some(delivery) = delivery else { continue };
        match runtime.block_on(sender.send(channel, delivery, remote.is_some())) {
            Verdict::Delivered { remote: named } => remote = named.or(remote),
            Verdict::Again { why, .. } | Verdict::Refused { why } => {
                return Err(format!("`{}` did not take `{}`: {why}", channel.name, event.name()));
            }
            Verdict::Gone => return Err(format!("`{}` lost the message", channel.name)),
        }
        sent.push(event.name());
    }
    if sent.is_empty() {
        return Err(format!(
            "`{}` is told neither of opened nor of ended attacks; add one to its `events`",
            channel.name
        ));
    }
    Ok(format!("`{}` ({}) took: {}", channel.name, channel.kind.name(), sent.join(", ")))
}

fn test_snapshot(
    event: AlertEvent,
    revision: u64,
    console: Option<&Console>,
    now: WallTime,
) -> Snapshot {
    let over = event == AlertEvent::Ended;
    let mut incident: Incident = if over { sample::closed() } else { sample::incident() };
    incident.id = format!("test-{}", now.compact());
    incident.severity = Some(Severity::Critical);
    let links = console.map_or_else(Links::default, |console| Links {
        akvorado: Some(console.traffic_link(&incident)),
        akvorado_dropped: Some(console.dropped_link(&incident)),
    });
    Snapshot {
        alert: incident.id.clone(),
        event,
        revision,
        incident,
        links,
        test: true,
        ..Snapshot::sample()
    }
}

/// The wall clock.
fn wall_now() -> WallTime {
    let now = jiff::Timestamp::now().as_nanosecond();
    WallTime::from_nanos(u64::try_from(now).unwrap_or_default())
}
