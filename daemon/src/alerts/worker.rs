//! One task a channel: takes what is to be told, sends, retries.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::config::{Channel, ChannelKind};
use super::outbox::{Gone, Outbox};
use super::render::{Context, Origin, render};
use super::sender::Sender;
use super::snapshot::Snapshot;
use super::verdict::Verdict;
use super::wall_now;
use crate::incident::{Status, WallTime};
use crate::store::{AlertKey, JobRow, MessageRow, Store};

/// How long what waits may still be sent when tidegate stops. The rest waits on disk.
const FLUSH: Duration = Duration::from_secs(2);

/// Messages that a channel remembers how to change.
const MAX_REMOTES: usize = 4_096;

type Sending = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// A channel at work.
pub(super) struct Worker {
    channel: Arc<Channel>,
    sender: Arc<Sender>,
    origin: Arc<Origin>,
    store: Option<Store>,
    outbox: Outbox,
    /// What the service calls the message of each alert.
    remotes: BTreeMap<String, String>,
    /// What is being sent now.
    current: Option<Snapshot>,
    began: Instant,
    failures: u32,
}

impl Worker {
    pub(super) fn new(
        channel: Arc<Channel>,
        sender: Arc<Sender>,
        origin: Arc<Origin>,
        store: Option<Store>,
    ) -> Self {
        let outbox = Outbox::new(channel.kind.edits(), spacing(&channel.kind));
        Self {
            channel,
            sender,
            origin,
            store,
            outbox,
            remotes: BTreeMap::new(),
            current: None,
            began: Instant::now(),
            failures: 0,
        }
    }

    /// Takes over a message that an earlier run sent.
    pub(super) fn restore_message(&mut self, alert: String, remote: String) {
        self.remotes.insert(alert, remote);
    }

    /// Takes over what an earlier run could not send.
    pub(super) fn restore_job(&mut self, snapshot: Snapshot, created: WallTime) {
        let gone = self.outbox.push(self.now(), created, snapshot);
        self.forget(&gone);
    }

    /// Works until `queue` is closed, and a little longer if something waits.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Snapshot>) {
        let mut sending: Option<Sending> = None;
        let mut deadline = None;
        loop {
            if sending.is_none() {
                sending = self.begin();
            }
            if deadline.is_some() && sending.is_none() && self.outbox.is_empty() {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                snapshot = queue.recv(), if deadline.is_none() => match snapshot {
                    Some(snapshot) => self.accept(snapshot),
                    None => deadline = Some(Instant::now() + FLUSH),
                },
                verdict = poll(&mut sending), if sending.is_some() => {
                    sending = None;
                    self.conclude(verdict);
                }
                () = tokio::time::sleep_until(wake), if sending.is_none() => {}
                () = sleep_until(deadline), if deadline.is_some() => return,
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.began.elapsed()
    }

    /// When the next message is due.
    fn wake(&self) -> Instant {
        let due = self.outbox.poll_timeout().map(|due| due.since(Timestamp::ZERO));
        let idle = self.began.elapsed() + Duration::from_secs(3_600);
        self.began + due.unwrap_or(idle).min(idle)
    }

    fn accept(&mut self, snapshot: Snapshot) {
        let revision = snapshot.revision;
        let gone = self.outbox.push(self.now(), wall_now(), snapshot);
        if let (Some(store), Some(job)) = (&self.store, self.outbox.find(revision))
            && let Ok(text) = serde_json::to_string(&job.snapshot)
        {
            store.put_job(JobRow {
                key: self.key(&job.snapshot.alert),
                event: job.snapshot.event.name().to_owned(),
                revision,
                created: job.created,
                snapshot: text,
            });
        }
        self.forget(&gone);
    }

    fn key(&self, alert: &str) -> AlertKey {
        AlertKey { channel: self.channel.name.clone(), alert: alert.to_owned() }
    }

    /// Takes off the disk what will not be sent.
    fn forget(&self, gone: &[Gone]) {
        let Some(store) = &self.store else { return };
        for gone in gone {
            store.remove_job(self.key(&gone.alert), gone.event.name(), gone.revision);
        }
    }

    /// Begins to send the next message, if one is due.
    fn begin(&mut self) -> Option<Sending> {
        loop {
            let snapshot = self.outbox.next(self.now())?;
            let remote = self.remotes.get(&snapshot.alert).cloned();
            let context =
                Context { remote: remote.as_deref(), now: wall_now(), origin: &self.origin };
            match render(&self.channel, &snapshot, context) {
                Ok(Some(delivery)) => {
                    let (sender, channel) = (Arc::clone(&self.sender), Arc::clone(&self.channel));
                    self.current = Some(snapshot);
                    let editing = remote.is_some();
                    return Some(Box::pin(async move {
                        sender.send(&channel, delivery, editing).await
                    }));
                }
                Ok(None) => self.finish(&snapshot),
                Err(error) => {
                    tracing::error!(
                        channel = self.channel.name, alert = snapshot.alert, %error,
                        "an alert cannot be written and is not sent"
                    );
                    self.finish(&snapshot);
                }
            }
        }
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.outbox.done(self.now(), &snapshot.alert);
        if let Some(store) = &self.store {
            let key = self.key(&snapshot.alert);
            store.remove_job(key, snapshot.event.name(), snapshot.revision);
        }
    }

    fn conclude(&mut self, verdict: Verdict) {
        let Some(snapshot) = self.current.take() else { return };
        let (channel, alert) = (&self.channel.name, &snapshot.alert);
        match verdict {
            Verdict::Delivered { remote } => {
                if self.failures > 0 {
                    tracing::info!(channel, "alerts go through again");
                }
                self.failures = 0;
                self.remember(&snapshot, remote);
                self.finish(&snapshot);
            }
            Verdict::Refused { why } => {
                let event = snapshot.event.name();
                tracing::error!(channel, alert, event, why, "an alert was refused and is not sent");
                self.finish(&snapshot);
            }
            Verdict::Gone => {
                self.remotes.remove(alert);
                self.again(&snapshot, None);
            }
            Verdict::Again { pause, why } => {
                self.failures += 1;
                if self.failures.is_power_of_two() {
                    let (failures, waiting) = (self.failures, self.outbox.len());
                    tracing::warn!(channel, failures, waiting, why, "an alert could not be sent");
                }
                self.again(&snapshot, pause);
            }
        }
    }

    fn again(&mut self, snapshot: &Snapshot, pause: Option<Duration>) {
        // Spreads the attempts of channels that failed together; nothing depends on it.
        let jitter = f64::from(wall_now().as_nanos() as u32 / 1_000 % 1_000) / 1_000.0;
        let given_up = self.outbox.again(self.now(), wall_now(), &snapshot.alert, pause, jitter);
        if let Some(gone) = given_up {
            let channel = &self.channel.name;
            tracing::error!(channel, alert = gone.alert, "an alert is given up after a day");
            self.forget(&[gone]);
        }
    }

    /// Keeps what is needed to change the message later, and to tell the end after a restart.
    fn remember(&mut self, snapshot: &Snapshot, remote: Option<String>) {
        let alert = &snapshot.alert;
        if let Some(remote) = remote {
            self.remotes.insert(alert.clone(), remote);
            if self.remotes.len() > MAX_REMOTES {
                // The ids begin with the time: the first is the oldest.
                self.remotes.pop_first();
            }
        }
        let Some(store) = &self.store else { return };
        let over = snapshot.event.is_over() && snapshot.incident.status == Status::Closed;
        if over {
            store.remove_message(self.key(alert));
        } else {
            store.put_message(MessageRow {
                key: self.key(alert),
                remote: self.remotes.get(alert).cloned(),
                severity: snapshot.severity().name().to_owned(),
                updated: wall_now(),
            });
        }
    }
}

/// Least time between two messages: chats take about one a second.
const fn spacing(kind: &ChannelKind) -> Duration {
    match kind {
        ChannelKind::Syslog { .. } | ChannelKind::Exec(_) => Duration::ZERO,
        ChannelKind::Webhook(_) | ChannelKind::PagerDuty { .. } => Duration::from_millis(125),
        _ => Duration::from_secs(1),
    }
}

/// The verdict, when it is there; never if nothing is being sent.
async fn poll(sending: &mut Option<Sending>) -> Verdict {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
