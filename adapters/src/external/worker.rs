//! The task that runs a driver.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_model::{
    BackendId, BackendState, Command, CommandKind, Nlri, Outcome, OutcomeKind, Route,
};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Change, Driver, ExternalError, Guard, Observation, Refusal, within};
use crate::backend::{Backend, BackendEvent, Capabilities, EventSender, Held, answer};

/// Commands that wait for the task. What does not fit fails at once, to be tried again.
const QUEUE: usize = 16_384;
/// Commands that are carried out together at most.
const BATCH: usize = 4096;
/// Most routes whose attributes are remembered to compare with; beyond, only the NLRI is compared.
const MOST_TOLD: usize = 100_000;
/// Between two looks whether the daemon is still there.
const PROBE: Duration = Duration::from_secs(1);
/// Between two attempts to reach a daemon that is down.
const RECONNECT: Duration = Duration::from_millis(500);
/// Longest that one call of a driver may take, whatever its own deadlines add up to.
const CALL_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Request {
    Command(Command),
    Observe,
}

/// A routing daemon as a backend. Dropping it ends its task; what the daemon holds, it keeps.
#[derive(Debug)]
pub struct ExternalBackend {
    id: BackendId,
    requests: Sender<Request>,
    capabilities: Capabilities,
    task: JoinHandle<()>,
}

impl ExternalBackend {
    /// Starts the task, inside a tokio runtime with I/O and time enabled. The first news are
    /// everything of ours that the daemon holds already, and that it is up; or why it is down.
    pub fn start<D: Driver>(name: &str, driver: D, guard: Guard, events: EventSender) -> Self {
        let id = BackendId::External(name.to_owned());
        let (requests, receiver) = mpsc::channel(QUEUE);
        let capabilities = driver.capabilities();
        let worker = Worker {
            id: id.clone(),
            driver,
            guard,
            events,
            told: BTreeMap::new(),
            foreign: BTreeSet::new(),
            up: false,
            last_error: None,
        };
        let task = tokio::spawn(worker.run(receiver));
        Self { id, requests, capabilities, task }
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
        let (request, why) = match self.requests.try_send(Request::Command(command)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(request)) => (request, "too many commands are waiting"),
            Err(TrySendError::Closed(request)) => (request, "its task has ended"),
        };
        let Request::Command(command) = request else { return Ok(()) };
        Err(Box::new(answer(&command, OutcomeKind::Failed { why: format!("{}: {why}", self.id) })))
    }

    fn observe(&self, _backend: &BackendId) {
        // When it is too busy to look, the next observation will do.
        drop(self.requests.try_send(Request::Observe));
    }
}

/// Nobody listens any more.
struct Disconnected;

struct Worker<D> {
    id: BackendId,
    driver: D,
    guard: Guard,
    events: EventSender,
    /// What was announced last: by the NLRI as the daemon spells it, the route as it was told.
    told: BTreeMap<Nlri, Route>,
    /// NLRI that are somebody else's, as of the last observation.
    foreign: BTreeSet<Nlri>,
    up: bool,
    /// Why it is down, so that the same reason is reported once.
    last_error: Option<String>,
}

impl<D: Driver> Worker<D> {
    async fn run(mut self, mut requests: Receiver<Request>) {
        let mut connected = self.reach().await;
        while connected.is_ok() {
            let pause = if self.up { PROBE } else { RECONNECT };
            connected = match timeout(pause, requests.recv()).await {
                Ok(Some(request)) => self.serve(request, &mut requests).await,
                Ok(None) => return,
                Err(_) if self.up => self.probe().await,
                Err(_) => self.reach().await,
            };
        }
    }

    /// Serves `request` and what else is waiting.
    async fn serve(
        &mut self,
        request: Request,
        requests: &mut Receiver<Request>,
    ) -> Result<(), Disconnected> {
        let mut commands = Vec::new();
        let mut observe = false;
        let mut next = Some(request);
        while let Some(request) = next.take() {
            match request {
                Request::Command(command) => commands.push(command),
                Request::Observe => observe = true,
            }
            if commands.len() < BATCH {
                next = requests.try_recv().ok();
            }
        }
        if !self.up {
            self.reach().await?;
        }
        self.carry_out(latest(commands)).await?;
        if observe && self.up { self.observe().await } else { Ok(()) }
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
                // Spelled as the daemon does, it is another mitigation's route; or nobody's of us.
                let others = self.told.get(&spelled).is_some_and(|route| route.nlri != *nlri);
                if others || self.up && self.foreign.contains(&spelled) {
                    return Err(done());
                }
                self.reachable()?;
                Ok(Change::Withdraw(nlri.clone()))
            }
            CommandKind::Announce { route, .. } => {
                let spelled = spelled.map_err(|why| OutcomeKind::Rejected { why })?;
                self.guard.check(route).map_err(|why| OutcomeKind::Rejected { why })?;
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

/// The last command for each NLRI, withdraws first.
fn latest(commands: Vec<Command>) -> Vec<Command> {
    let mut last = BTreeMap::new();
    for command in commands {
        last.insert(command.nlri().clone(), command);
    }
    let (mut withdraws, announces): (Vec<_>, Vec<_>) =
        last.into_values().partition(|one| matches!(one.kind, CommandKind::Withdraw(_)));
    withdraws.extend(announces);
    withdraws
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
