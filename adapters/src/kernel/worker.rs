//! The thread that owns the table.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use tidegate_model::{BackendId, BackendState, Command, CommandKind, Outcome, OutcomeKind, Route};

use super::KernelError;
use super::table::Table;
use crate::backend::{Backend, BackendEvent, EventSender, answer};

/// Commands that wait for the thread. What does not fit fails at once, to be tried again.
const QUEUE: usize = 4096;
/// Commands that are carried out together at most.
const BATCH: usize = 64;
/// How long the table stays away before it is created again, when the kernel refused.
const RECREATE_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Request {
    Command(Command),
    Observe,
    /// There are other rules of peers.
    Learnt,
}

/// The rules that peers ask for, and whether the thread has not seen them yet.
type Wanted = Arc<Mutex<(Vec<Route>, bool)>>;

/// Has rules of peers carried out on this host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FlowSpecClient {
    requests: SyncSender<Request>,
    wanted: Wanted,
}

impl FlowSpecClient {
    /// From now on these rules and no others, asked in this order. Never waits. What the kernel
    /// cannot express is left out, and logged with the reason.
    pub fn set(&self, routes: Vec<Route>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = (routes, true);
        // Where there is no room, the next request does.
        drop(self.requests.try_send(Request::Learnt));
    }
}

/// nftables on this host. Dropping it ends its thread, and the kernel removes the table.
#[derive(Debug)]
pub struct KernelBackend {
    requests: SyncSender<Request>,
    wanted: Wanted,
    thread: JoinHandle<()>,
}

impl KernelBackend {
    /// Starts the thread in the caller's network namespace. It creates the table and says whether
    /// it could in a first [`BackendEvent::State`]; if not, it keeps trying. With `history`, who has
    /// completed a TCP handshake within that time is not meant by limits of SYNs; the host's
    /// connection tracking is at work then.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(events: EventSender, history: Option<Duration>) -> io::Result<Self> {
        let (requests, receiver) = std::sync::mpsc::sync_channel(QUEUE);
        let wanted = Wanted::default();
        let worker =
            Worker { events, history, wanted: Arc::clone(&wanted), table: None, last_error: None };
        let thread = thread::Builder::new()
            .name("nftables".to_owned())
            .spawn(move || worker.run(&receiver))?;
        Ok(Self { requests, wanted, thread })
    }

    /// What has rules of peers carried out.
    #[must_use]
    pub fn client(&self) -> FlowSpecClient {
        FlowSpecClient { requests: self.requests.clone(), wanted: Arc::clone(&self.wanted) }
    }

    /// Ends the thread and waits until the table is gone. Not for asynchronous code.
    pub fn stop(self) {
        drop(self.requests);
        // A panic there has been reported by the panic hook.
        drop(self.thread.join());
    }
}

impl Backend for KernelBackend {
    fn serves(&self, backend: &BackendId) -> bool {
        *backend == BackendId::Kernel
    }

    fn submit(&self, command: Command) -> Result<(), Box<Outcome>> {
        let (request, why) = match self.requests.try_send(Request::Command(command)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(request)) => (request, "too many commands are waiting"),
            Err(TrySendError::Disconnected(request)) => (request, "its thread has ended"),
        };
        let Request::Command(command) = request else { return Ok(()) };
        Err(Box::new(answer(&command, OutcomeKind::Failed { why: format!("nftables: {why}") })))
    }

    fn observe(&self, _backend: &BackendId) {
        // When it is too busy to look, the next observation will do.
        drop(self.requests.try_send(Request::Observe));
    }
}

/// Nobody listens any more.
struct Disconnected;

struct Worker {
    events: EventSender,
    history: Option<Duration>,
    wanted: Wanted,
    table: Option<Table>,
    /// Why there is no table, so that the same reason is reported once.
    last_error: Option<String>,
}

impl Worker {
    fn run(mut self, requests: &Receiver<Request>) {
        if self.create_table().is_err() {
            return;
        }
        loop {
            let first = if self.table.is_some() {
                requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                requests.recv_timeout(RECREATE_AFTER)
            };
            let done = match first {
                Ok(request) => self.serve(request, requests),
                Err(RecvTimeoutError::Timeout) => self.create_table(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Serves `request` and what else is waiting.
    fn serve(
        &mut self,
        request: Request,
        requests: &Receiver<Request>,
    ) -> Result<(), Disconnected> {
        let mut commands = vec![];
        let mut observe = false;
        let mut next = Some(request);
        while let Some(request) = next.take() {
            match request {
                Request::Command(command) => commands.push(command),
                Request::Observe => observe = true,
                Request::Learnt => {}
            }
            if commands.len() >= BATCH {
                break;
            }
            next = requests.try_recv().ok();
        }
        self.carry_out(&commands)?;
        self.set_learnt(false)?;
        if observe { self.observe() } else { Ok(()) }
    }

    fn carry_out(&mut self, commands: &[Command]) -> Result<(), Disconnected> {
        if commands.is_empty() {
            return Ok(());
        }
        if self.table.is_none() {
            self.create_table()?;
        }
        let outcomes = match &mut self.table {
            Some(table) => match table.apply(commands) {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    self.lose_table(&error)?;
                    without_table(commands, &error.to_string())
                }
            },
            None => without_table(commands, self.last_error.as_deref().unwrap_or_default()),
        };
        for (command, kind) in commands.iter().zip(outcomes) {
            self.send(BackendEvent::Outcome(answer(command, kind)))?;
        }
        // Only now: what comes after the new table's `Up` is true of the new table.
        if self.table.is_none() { self.create_table() } else { Ok(()) }
    }

    fn observe(&mut self) -> Result<(), Disconnected> {
        let Some(table) = &mut self.table else { return Ok(()) };
        match table.observe() {
            Ok(held) => self.send(BackendEvent::Observed { backend: BackendId::Kernel, held }),
            Err(error) => {
                self.lose_table(&error)?;
                self.create_table()
            }
        }
    }

    /// Has the rules of peers carried out, if they are `new` to the table or to the thread.
    fn set_learnt(&mut self, new: bool) -> Result<(), Disconnected> {
        let Some(table) = &mut self.table else { return Ok(()) };
        let routes = {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::replace(&mut wanted.1, false) && !new {
                return Ok(());
            }
            wanted.0.clone()
        };
        match table.set_learnt(&routes) {
            Ok(refused) => {
                for (rule, why) in refused {
                    tracing::warn!(%rule, %why, "a peer's rule cannot be carried out on this host");
                }
                Ok(())
            }
            Err(error) => {
                self.lose_table(&error)?;
                Ok(())
            }
        }
    }

    fn create_table(&mut self) -> Result<(), Disconnected> {
        match Table::create(self.history) {
            Ok(table) => {
                self.table = Some(table);
                self.last_error = None;
                self.set_learnt(true)?;
                // Without a table it has been told that it is down.
                if self.table.is_some() { self.report(BackendState::Up) } else { Ok(()) }
            }
            Err(error) => {
                let why = error.to_string();
                if self.last_error.as_ref() == Some(&why) {
                    return Ok(());
                }
                self.last_error = Some(why.clone());
                self.report(BackendState::Down { why })
            }
        }
    }

    /// Closes the socket, so that the kernel removes the table: better none than an unknown one.
    fn lose_table(&mut self, error: &KernelError) -> Result<(), Disconnected> {
        self.table = None;
        self.report(BackendState::Down { why: error.to_string() })
    }

    fn report(&self, state: BackendState) -> Result<(), Disconnected> {
        match &state {
            BackendState::Up => tracing::info!("nftables table created"),
            BackendState::Down { why } => tracing::warn!(%why, "no nftables table"),
        }
        self.send(BackendEvent::State { backend: BackendId::Kernel, state })
    }

    fn send(&self, event: BackendEvent) -> Result<(), Disconnected> {
        self.events.blocking_send(event).map_err(|_| Disconnected)
    }
}

/// Without a table nothing can be installed, and nothing is.
fn without_table(commands: &[Command], why: &str) -> Vec<OutcomeKind> {
    let outcome = |command: &Command| match &command.kind {
        CommandKind::Announce { .. } => OutcomeKind::Failed { why: why.to_owned() },
        CommandKind::Withdraw(_) => OutcomeKind::Applied { bytes: [].into() },
    };
    commands.iter().map(outcome).collect()
}
