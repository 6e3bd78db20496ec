//! The task that runs a driver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_bgpd::egress::GatePolicy;
use tidegate_model::{
    BackendId, BackendState, Command, CommandKind, Nlri, Outcome, OutcomeKind, Route,
};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::mailbox::Mailbox;
use super::{Change, Driver, ExternalError, Guard, Observation, Refusal, within};
use crate::backend::{Backend, BackendEvent, Capabilities, EventSender, Held, answer};

/// Announcements that are carried out together at most: a withdraw that comes meanwhile waits for
/// so many.
const BATCH: usize = 1024;
/// Most routes whose attributes are remembered to compare with; beyond, only the NLRI is compared.
const MOST_TOLD: usize = 100_000;
/// Between two looks whether the daemon is still there.
const PROBE: Duration = Duration::from_secs(1);
/// Between two attempts to reach a daemon that is down.
const RECONNECT: Duration = Duration::from_millis(500);
/// Before a task that stopped at a bug is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Longest that one call of a driver may take, whatever its own deadlines add up to.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A routing daemon as a backend. Dropping it ends its task; what the daemon holds, it keeps.
#[derive(Debug)]
pub struct ExternalBackend {
    id: BackendId,
    mailbox: Arc<Mailbox>,
    guard: watch::Sender<Guard>,
    capabilities: Capabilities,
    task: JoinHandle<()>,
}

impl ExternalBackend {
    /// Starts the task, inside a tokio runtime with I/O and time enabled. The first news are
    /// everything of ours that the daemon holds already, and that it is up; or why it is down.
    /// `driver` makes the driver, and another if the task stops at a bug.
    pub fn start<D: Driver>(
        name: &str,
        driver: impl Fn() -> D + Send + 'static,
        guard: Guard,
        events: EventSender,
    ) -> Self {
        let id = BackendId::External(name.to_owned());
        let mailbox = Arc::new(Mailbox::default());
        let (guard, judging) = watch::channel(guard);
        let first = driver();
        let capabilities = first.capabilities();
        let worker = {
            let (id, mailbox) = (id.clone(), Arc::clone(&mailbox));
            move |driver| Worker {
                id: id.clone(),
                driver,
                mailbox: Arc::clone(&mailbox),
                guard: judging.clone(),
                events: events.clone(),
                told: BTreeMap::new(),
                ours: BTreeSet::new(),
                foreign: BTreeSet::new(),
                up: false,
                last_error: None,
            }
        };
        let task = tokio::spawn(supervise(first, driver, worker));
        Self { id, mailbox, guard, capabilities, task }
    }
}

impl Drop for ExternalBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend for ExternalBackend {
    fn serves(&self, backend: &BackendId) -> bool {
        *backend == self.id
    }

    fn capabilities(&self, _backend: &BackendId) -> Capabilities {
        self.capabilities.clone()
    }

    fn submit(&self, command: Command) -> Result<(), Box<Outcome>> {
        self.mailbox.put(command).map_err(|command| {
            let why = format!("{}: too many commands are waiting", self.id);
            Box::new(answer(&command, OutcomeKind::Failed { why }))
        })
    }

    fn observe(&self, _backend: &BackendId) {
        self.mailbox.observe();
    }

    fn set_gate(&self, policy: &GatePolicy) {
        self.guard.send_replace(Guard::new(policy.clone()));
    }
}

/// Runs a worker, and another one when it stops at a bug: what the daemon holds has to be withdrawn
/// also then.
async fn supervise<D: Driver>(
    first: D,
    driver: impl Fn() -> D + Send,
    worker: impl Fn(D) -> Worker<D> + Send,
) {
    let mut next = first;
    loop {
        let worker = worker(next);
        let (id, events) = (worker.id.clone(), worker.events.clone());
        // Of its own, so that its panic ends there; in a set, so that it ends with us.
        let mut tasks = JoinSet::new();
        tasks.spawn(worker.run());
        match tasks.join_next().await {
            Some(Err(error)) if error.is_panic() => {}
            _ => return,
        }
        tracing::error!(backend = %id, "stopped at a bug; starting again");
        let why = "its driver stopped at a bug, and is started again".to_owned();
        let state = BackendState::Down { why };
        if events.send(BackendEvent::State { backend: id, state }).await.is_err() {
            return;
        }
        sleep(RESTART_AFTER).await;
        next = driver();
    }
}

/// Nobody listens any more.
struct Disconnected;

struct Worker<D> {
    id: BackendId,
    driver: D,
    mailbox: Arc<Mailbox>,
    guard: watch::Receiver<Guard>,
    events: EventSender,
    /// What was announced last: by the NLRI as the daemon spells it, the route as it was told.
    told: BTreeMap<Nlri, Route>,
    /// NLRI with our mark, and those that are somebody else's, as of the last observation. Where a
    /// daemon keeps routes for each neighbour, one can be both.
    ours: BTreeSet<Nlri>,
    foreign: BTreeSet<Nlri>,
    up: bool,
    /// Why it is down, so that the same reason is reported once.
    last_error: Option<String>,
}

impl<D: Driver> Worker<D> {
    async fn run(mut self) {
        let mut connected = self.reach().await;
        while connected.is_ok() {
            let pause = if self.up { PROBE } else { RECONNECT };
            let mailbox = Arc::clone(&self.mailbox);
            connected = match timeout(pause, mailbox.filled()).await {
                Ok(()) => self.serve().await,
                Err(_) if self.up => self.probe().await,
                Err(_) => self.reach().await,
            };
        }
    }

    /// Serves what is waiting: all withdraws by themselves, then a batch of announcements.
    async fn serve(&mut self) -> Result<(), Disconnected> {
        if !self.up {
            self.reach().await?;
        }
        let withdraws = self.mailbox.take_withdraws();
        self.look_before(&withdraws).await?;
        self.carry_out(withdraws).await?;
        let announces = self.mailbox.take_announces(BATCH);
        self.carry_out(announces).await?;
        if self.mailbox.take_observe() && self.up { self.observe().await } else { Ok(()) }
    }

    /// Looks anew if one of `withdraws` is about what was somebody else's at the last look: it may
    /// have become ours since, or be both.
    async fn look_before(&mut self, withdraws: &[Command]) -> Result<(), Disconnected> {
        let foreign = |command: &Command| {
            self.driver.spelled(command.nlri()).is_ok_and(|nlri| self.foreign.contains(&nlri))
        };
        if self.up && withdraws.iter().any(foreign) { self.observe().await } else { Ok(()) }
    }

    async fn carry_out(&mut self, commands: Vec<Command>) -> Result<(), Disconnected> {
        let mut sent = Vec::new();
        let mut changes = Vec::new();
        for command in commands {
            match self.prepare(&command) {
                Ok(change) => {
                    sent.push(command);
                    changes.push(change);
                }
                Err(kind) => self.send(BackendEvent::Outcome(answer(&command, kind))).await?,
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        match within("a change", CALL_LIMIT, self.driver.apply(&changes)).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for command in sent {
                    let kind = match answers.next() {
                        Some(Ok(())) => OutcomeKind::Applied { bytes: [].into() },
                        Some(Err(Refusal::Never(why))) => OutcomeKind::Rejected { why },
                        Some(Err(Refusal::Now(why))) => OutcomeKind::Failed { why },
                        None => OutcomeKind::Failed { why: "no answer".to_owned() },
                    };
                    self.note(&command, &kind);
                    self.send(BackendEvent::Outcome(answer(&command, kind))).await?;
                }
                Ok(())
            }
            Err(error) => {
                let why = error.to_string();
                for command in sent {
                    let kind = OutcomeKind::Failed { why: why.clone() };
                    self.send(BackendEvent::Outcome(answer(&command, kind))).await?;
                }
                self.lose(&error).await
            }
        }
    }

    /// The change that `command` asks for, or the answer if it is not to be carried out.
    fn prepare(&mut self, command: &Command) -> Result<Change, OutcomeKind> {
        let done = || OutcomeKind::Applied { bytes: [].into() };
        let nlri = command.nlri();
        let spelled = self.driver.spelled(nlri);
        match &command.kind {
            CommandKind::Withdraw(_) => {
                // What cannot be said was never told.
                let spelled = spelled.map_err(|_| done())?;
                // Spelled as the daemon does, it is another mitigation's route.
                if self.told.get(&spelled).is_some_and(|route| route.nlri != *nlri) {
                    return Err(done());
                }
                self.reachable()?;
                // Looked at just now, and nothing of ours is there.
                if self.foreign.contains(&spelled) && !self.ours.contains(&spelled) {
                    return Err(done());
                }
                Ok(Change::Withdraw(nlri.clone()))
            }
            CommandKind::Announce { route, .. } => {
                let spelled = spelled.map_err(|why| OutcomeKind::Rejected { why })?;
                self.guard.borrow().check(route).map_err(|why| OutcomeKind::Rejected { why })?;
                self.reachable()?;
                if self.foreign.contains(&spelled) {
                    let why = "it holds this route already, without our mark: not ours to change";
                    return Err(OutcomeKind::Failed { why: why.to_owned() });
                }
                if self.told.len() < MOST_TOLD {
                    self.told.insert(spelled, route.clone());
                }
                Ok(Change::Announce(route.clone()))
            }
        }
    }

    fn reachable(&self) -> Result<(), OutcomeKind> {
        if self.up {
            return Ok(());
        }
        let why = self.last_error.clone().unwrap_or_else(|| "not reached yet".to_owned());
        Err(OutcomeKind::Failed { why })
    }

    fn note(&mut self, command: &Command, kind: &OutcomeKind) {
        if let (CommandKind::Withdraw(nlri), OutcomeKind::Applied { .. }) = (&command.kind, kind)
            && let Ok(spelled) = self.driver.spelled(nlri)
        {
            self.told.remove(&spelled);
        }
    }

    async fn observe(&mut self) -> Result<(), Disconnected> {
        match within("an observation", CALL_LIMIT, self.driver.observe()).await {
            Ok(observation) => self.observed(observation).await,
            Err(error) => self.lose(&error).await,
        }
    }

    async fn observed(&mut self, observation: Observation) -> Result<(), Disconnected> {
        self.foreign = observation.foreign;
        self.ours = observation.ours.iter().map(|seen| seen.nlri.clone()).collect();
        let mut held = BTreeSet::new();
        for seen in observation.ours {
            let told = self.told.get(&seen.nlri);
            let changed =
                told.zip(seen.route.as_ref()).and_then(|(told, seen)| changed(told, seen));
            match (told, changed) {
                // Whoever changed it: told as missing, it is announced again.
                (Some(told), Some(what)) => {
                    tracing::warn!(backend = %self.id, route = %told.nlri, %what, "changed by others");
                }
                (Some(told), None) => drop(held.insert(told.nlri.clone())),
                (None, _) => drop(held.insert(seen.nlri)),
            }
        }
        let held = held.into_iter().map(|nlri| Held { nlri, dropped: None }).collect();
        self.send(BackendEvent::Observed { backend: self.id.clone(), held }).await
    }

    async fn probe(&mut self) -> Result<(), Disconnected> {
        match within("a probe", CALL_LIMIT, self.driver.probe()).await {
            Ok(()) => Ok(()),
            Err(error) => self.lose(&error).await,
        }
    }

    /// Tries to reach the daemon and to see what it holds.
    async fn reach(&mut self) -> Result<(), Disconnected> {
        let reached = within("the connection", CALL_LIMIT, self.driver.connect()).await;
        let observed = match reached {
            Ok(()) => within("an observation", CALL_LIMIT, self.driver.observe()).await,
            Err(error) => Err(error),
        };
        match observed {
            Ok(observation) => {
                self.up = true;
                self.last_error = None;
                // First what it holds: what is confirmed by that need not be announced again.
                self.observed(observation).await?;
                tracing::info!(backend = %self.id, "up");
                self.report(BackendState::Up).await
            }
            Err(error) => self.lose(&error).await,
        }
    }

    async fn lose(&mut self, error: &ExternalError) -> Result<(), Disconnected> {
        let why = error.to_string();
        let was_up = std::mem::replace(&mut self.up, false);
        if !was_up && self.last_error.as_ref() == Some(&why) {
            return Ok(());
        }
        tracing::warn!(backend = %self.id, %why, "down");
        self.last_error = Some(why.clone());
        self.report(BackendState::Down { why }).await
    }

    async fn report(&self, state: BackendState) -> Result<(), Disconnected> {
        self.send(BackendEvent::State { backend: self.id.clone(), state }).await
    }

    async fn send(&self, event: BackendEvent) -> Result<(), Disconnected> {
        self.events.send(event).await.map_err(|_| Disconnected)
    }
}

/// What a daemon that shows attributes holds otherwise than told, in words.
pub(crate) fn changed(told: &Route, seen: &Route) -> Option<String> {
    if told.next_hop.is_some() && seen.next_hop.is_some() && told.next_hop != seen.next_hop {
        return Some("another next hop".to_owned());
    }
    if told.communities != seen.communities {
        return Some("other communities".to_owned());
    }
    if told.large_communities != seen.large_communities {
        return Some("other large communities".to_owned());
    }
    let actions = |route: &Route| -> BTreeSet<String> {
        route.actions.iter().map(ToString::to_string).collect()
    };
    (actions(told) != actions(seen)).then(|| "other actions".to_owned())
}
