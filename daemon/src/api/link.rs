//! The way from the API to the engine: bounded queues that nobody waits in front of.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_detector::InForce;
use tidegate_model::{AttackId, Timestamp};
use tidegate_policy::{Order, OrderRefused};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::door::{Audited, Door};
use super::top::Top;
use super::view::View;
use crate::event::Event;
use crate::metrics::Counters;
use crate::reports::{Report, ReportRefused, Reported};

/// Asks that wait for the engine. One that finds no room is refused with `RESOURCE_EXHAUSTED`.
const ASKS: usize = 64;
/// Withdrawals and panics that wait; the engine takes them first.
const URGENT_ASKS: usize = 16;
/// Events that a watching client may be behind. Who is further behind misses the oldest.
const EVENTS: usize = 4_096;
/// How long an answer may take that the engine gives at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// A person's order to withdraw everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicOrder {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What came of reading the policy again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in force now.
    Applied,
    /// It is what was in force already.
    Unchanged,
    /// It is not taken: every mistake.
    Refused(String),
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotOrdered {
    /// By the planner.
    #[error(transparent)]
    Refused(#[from] OrderRefused),
    /// Nothing is announced in a panic.
    #[error("a panic is in force and nothing is announced; end it with `tidegate panic --release`")]
    Panic,
}

/// What is asked of the engine. Whoever asked may be gone when the answer comes.
#[derive(Debug)]
pub enum Ask {
    /// How everything is.
    View(oneshot::Sender<Arc<View>>),
    /// An order of a person.
    Order(Order, oneshot::Sender<Result<AttackId, NotOrdered>>),
    /// Withdraw everything; how many routes that is.
    Panic(PanicOrder, oneshot::Sender<u32>),
    /// End a panic; the one that was in force.
    Release(String, oneshot::Sender<Option<PanicOrder>>),
    /// Compare every backend with the ledger.
    Audit(oneshot::Sender<Vec<Audited>>),
    /// Read the policy again.
    Apply(oneshot::Sender<Applied>),
    /// What another detector saw.
    Report(Box<Report>, oneshot::Sender<Result<Reported, ReportRefused>>),
    /// The thresholds of an address.
    Baseline(IpAddr, oneshot::Sender<Vec<InForce>>),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Too many ask.
    #[error("too many requests wait for the engine; try again in a moment")]
    Busy,
    /// It does not answer in time.
    #[error("the engine does not answer in time; it may be overloaded, try again")]
    Late,
    /// It has ended.
    #[error("the daemon is stopping")]
    Gone,
}

/// The API's end.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    asks: mpsc::Sender<Ask>,
    urgent: mpsc::Sender<Ask>,
    events: broadcast::Sender<Arc<Event>>,
    /// Until when somebody wants to know the busiest targets, in nanoseconds of the engine's clock.
    top_until: Arc<AtomicU64>,
}

/// What waits for the engine.
#[derive(Debug)]
pub struct Asks {
    /// What takes something away.
    pub urgent: mpsc::Receiver<Ask>,
    /// Everything else.
    pub others: mpsc::Receiver<Ask>,
}

/// Both ends of the way: the API's, and the engine's two. What happens is counted in `counters`.
#[must_use]
pub fn connect(counters: Arc<Counters>) -> (EngineHandle, Asks, Door) {
    let (asks, ask_queue) = mpsc::channel(ASKS);
    let (urgent, urgent_queue) = mpsc::channel(URGENT_ASKS);
    let (events, _) = broadcast::channel(EVENTS);
    let top_until = Arc::new(AtomicU64::new(0));
    let top = Top::new(Arc::clone(&top_until));
    let door = Door::new(events.clone(), counters, top);
    let queues = Asks { urgent: urgent_queue, others: ask_queue };
    (EngineHandle { asks, urgent, events, top_until }, queues, door)
}

impl EngineHandle {
    /// How everything is.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn view(&self) -> Result<Arc<View>, AskError> {
        self.ask(Ask::View).await
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, AskError> {
        let (answer, answered) = oneshot::channel();
        send(&self.asks, ask(answer))?;
        receive(answered, PATIENCE).await
    }

    /// The same for what takes longer than an answer at once.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask_patiently<T>(
        &self,
        patience: Duration,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, AskError> {
        let (answer, answered) = oneshot::channel();
        send(&self.asks, ask(answer))?;
        receive(answered, patience).await
    }

    /// The same for what takes something away: the engine does it before anything else.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask_urgently<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, AskError> {
        let (answer, answered) = oneshot::channel();
        send(&self.urgent, ask(answer))?;
        receive(answered, PATIENCE).await
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Has the busiest targets counted up to `until`.
    pub fn want_top(&self, until: Timestamp) {
        self.top_until.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }
}

fn send(queue: &mpsc::Sender<Ask>, ask: Ask) -> Result<(), AskError> {
    queue.try_send(ask).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => AskError::Busy,
        mpsc::error::TrySendError::Closed(_) => AskError::Gone,
    })
}

async fn receive<T>(answered: oneshot::Receiver<T>, patience: Duration) -> Result<T, AskError> {
    match tokio::time::timeout(patience, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(AskError::Gone),
        Err(_) => Err(AskError::Late),
    }
}
