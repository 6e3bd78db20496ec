//! What every backend has in common.

use std::collections::BTreeSet;

use tidegate_bgpd::Family;
use tidegate_bgpd::egress::GatePolicy;
use tidegate_model::{BackendId, BackendState, Command, CommandKind, Nlri, Outcome, OutcomeKind};
use tokio::sync::mpsc;

/// News from a backend. For one backend they come in the order in which they happened.
#[derive(Clone, Debug, PartialEq)]
pub enum BackendEvent {
    /// The answer to a command.
    Outcome(Outcome),
    /// It can be reached, or it cannot.
    State {
        /// Which backend.
        backend: BackendId,
        /// How it is now.
        state: BackendState,
    },
    /// What a peer's FlowSpec rule is worth has changed, or the rule is gone.
    Learnt(Box<tidegate_bgpd::learnt::Change>),
    /// The answer to [`Backend::observe`]: everything it holds of ours.
    Observed {
        /// Which backend.
        backend: BackendId,
        /// What it holds, sorted by NLRI.
        held: Vec<Held>,
    },
}

/// A route that a backend holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The route.
    pub nlri: Nlri,
    /// What it dropped, where the backend counts that.
    pub dropped: Option<Dropped>,
}

/// Traffic that a filter dropped since it was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Packets.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

/// What a backend can do, for planners and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Routes of these families can be installed; others are rejected.
    pub families: BTreeSet<Family>,
    /// What becomes of the routes when this process dies.
    pub survival: Survival,
    /// Who chooses communities and next hops.
    pub attributes: Attributes,
}

/// What becomes of a backend's routes when this process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// They go with its socket or session.
    EndWithUs,
    /// They stay until somebody withdraws them: the reaper, when the lease runs out.
    OutliveUs,
}

/// Who chooses communities and next hop of the routes that a backend sends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// Each route carries its own.
    OfRoute,
    /// The operator, in the configuration of the routing daemon.
    OfOperator,
}

impl Default for Capabilities {
    /// Everything, for as long as this process lives.
    fn default() -> Self {
        Self {
            families: Family::ALL.into(),
            survival: Survival::EndWithUs,
            attributes: Attributes::OfRoute,
        }
    }
}

/// Where backends send their news. They wait while it is full; nothing waits for them.
pub type EventSender = mpsc::Sender<BackendEvent>;

/// Something that installs routes.
///
/// Commands are handed over, never waited for: answers come as [`BackendEvent`]s. Those that wait
/// are carried out together, withdraws first. A command may be overtaken by a later one for the same
/// NLRI, and is then not answered. Announcing what is held, and withdrawing what is not there, is
/// done at once. How the backend is comes as [`BackendEvent::State`]: once it can be told for the
/// first time, and whenever it changes. Of one that is down nothing is known.
pub trait Backend: Send + Sync {
    /// Whether commands for `backend` are to go here.
    fn serves(&self, backend: &BackendId) -> bool;

    /// What `backend` can do.
    fn capabilities(&self, _backend: &BackendId) -> Capabilities {
        Capabilities::default()
    }

    /// Takes a command over.
    ///
    /// # Errors
    /// The answer, if it is known at once that the command cannot be taken; no event follows.
    fn submit(&self, command: Command) -> Result<(), Box<Outcome>>;

    /// Asks what `backend` holds of ours. The answer is [`BackendEvent::Observed`]; there is none
    /// if the backend is down or too busy.
    fn observe(&self, backend: &BackendId);

    /// From now on announcements are judged by `policy`, where the backend judges them.
    fn set_gate(&self, _policy: &GatePolicy) {}
}

/// The answer `kind` to `command`.
#[must_use]
pub fn answer(command: &Command, kind: OutcomeKind) -> Outcome {
    Outcome {
        command: command.id,
        backend: command.backend.clone(),
        nlri: command.nlri().clone(),
        kind,
    }
}

/// All backends: each command goes to the one that serves it.
#[derive(Default)]
pub struct Backends {
    backends: Vec<Box<dyn Backend>>,
}

impl Backends {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a backend. For what several serve, the first counts.
    pub fn add(&mut self, backend: Box<dyn Backend>) {
        self.backends.push(backend);
    }

    /// Hands `command` to its backend. What no backend serves cannot be announced, and is not held
    /// anywhere: its withdraw is done.
    ///
    /// # Errors
    /// The answer, if it is known at once.
    pub fn submit(&self, command: Command) -> Result<(), Box<Outcome>> {
        if let Some(backend) = self.serving(&command.backend) {
            return backend.submit(command);
        }
        let kind = match &command.kind {
            CommandKind::Announce { .. } => {
                OutcomeKind::Rejected { why: format!("there is no backend `{}`", command.backend) }
            }
            CommandKind::Withdraw(_) => OutcomeKind::Applied { bytes: [].into() },
        };
        Err(Box::new(answer(&command, kind)))
    }

    /// What `backend` can do; `None` if there is no such backend.
    #[must_use]
    pub fn capabilities(&self, backend: &BackendId) -> Option<Capabilities> {
        self.serving(backend).map(|serving| serving.capabilities(backend))
    }

    /// Asks what `backend` holds.
    pub fn observe(&self, backend: &BackendId) {
        if let Some(serving) = self.serving(backend) {
            serving.observe(backend);
        }
    }

    /// From now on `backend` judges announcements by `policy`, if it does that itself.
    pub fn set_gate(&self, backend: &BackendId, policy: &GatePolicy) {
        if let Some(serving) = self.serving(backend) {
            serving.set_gate(policy);
        }
    }

    fn serving(&self, id: &BackendId) -> Option<&dyn Backend> {
        self.backends.iter().find(|backend| backend.serves(id)).map(AsRef::as_ref)
    }
}
