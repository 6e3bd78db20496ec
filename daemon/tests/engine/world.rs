//! Backends in memory that behave as the real ones do, and fail as they do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_bgpd::SessionParameters;
use tidegate_bgpd::egress::Gate;
use tidegate_bgpd::rib::{AdjRibOut, Answer, SentKind};
use tidegate_model::{BackendId, BackendState, Command, CommandKind, Nlri, Outcome, OutcomeKind};
use tidegate_policy::Policy;

/// News for the engine, as a backend tells it.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Outcome(Outcome),
    State(BackendId, BackendState),
    Observed(BackendId, Vec<Nlri>),
}

/// A peer of the speaker: the real Adj-RIB-Out and gate, and a router that does as it is told.
pub(crate) struct Peer {
    rib: AdjRibOut,
    session: SessionParameters,
    pub(crate) up: bool,
    /// The router does not read: its window is zero.
    pub(crate) stuck: bool,
    /// What the router holds.
    pub(crate) held: BTreeSet<Nlri>,
}

/// nftables.
#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) up: bool,
    /// Refuses whatever it is told.
    pub(crate) refuses: bool,
    pub(crate) held: BTreeSet<Nlri>,
}

/// Every backend of a policy.
pub(crate) struct World {
    gate: Gate,
    pub(crate) peers: BTreeMap<BackendId, Peer>,
    pub(crate) kernel: Kernel,
    /// In the order in which it is told.
    pub(crate) news: VecDeque<News>,
}

impl World {
    /// Backends that are all down.
    pub(crate) fn new(policy: &Policy) -> Self {
        let peers = policy.peers.iter().map(|peer| {
            let peer_of = Peer {
                rib: AdjRibOut::new(peer.max_routes),
                session: tidegate::pipeline::expected_session(policy, peer),
                up: false,
                stuck: false,
                held: BTreeSet::new(),
            };
            (BackendId::Peer(peer.name.clone()), peer_of)
        });
        Self {
            gate: Gate::new(tidegate::pipeline::gate_policy(policy, &[])),
            peers: peers.collect(),
            kernel: Kernel::default(),
            news: VecDeque::new(),
        }
    }

    /// Every backend.
    pub(crate) fn ids(&self) -> Vec<BackendId> {
        self.peers.keys().cloned().chain([BackendId::Kernel]).collect()
    }

    /// Brings a backend up or down. Either way it begins with nothing.
    pub(crate) fn set_up(&mut self, id: &BackendId, up: bool) {
        let state =
            if up { BackendState::Up } else { BackendState::Down { why: "fault".to_owned() } };
        if let Some(peer) = self.peers.get_mut(id) {
            if peer.up == up {
                return;
            }
            peer.up = up;
            peer.held.clear();
            peer.stuck = false;
            if up {
                self.news.push_back(News::State(id.clone(), state));
                peer.rib.resend_all();
            } else {
                peer.rib.session_lost();
                self.news.push_back(News::State(id.clone(), state));
            }
        } else if self.kernel.up != up {
            self.kernel.up = up;
            self.kernel.held.clear();
            self.news.push_back(News::State(id.clone(), state));
        }
        self.observe(id);
        self.pump();
    }

    /// Asks a backend what it holds.
    pub(crate) fn observe(&mut self, id: &BackendId) {
        let held = match self.peers.get(id) {
            Some(peer) => peer.rib.routes().map(|route| route.nlri.clone()).collect(),
            None if self.kernel.up => self.kernel.held.iter().cloned().collect(),
            None => return,
        };
        self.news.push_back(News::Observed(id.clone(), held));
    }

    /// Hands a command over.
    pub(crate) fn submit(&mut self, command: Command) {
        let Some(peer) = self.peers.get_mut(&command.backend) else {
            let kind = self.kernel.carry_out(&command);
            self.news.push_back(News::Outcome(Outcome {
                command: command.id,
                backend: command.backend.clone(),
                nlri: command.nlri().clone(),
                kind,
            }));
            return;
        };
        match command.kind {
            CommandKind::Announce { route, .. } => peer.rib.announce(command.id, route),
            CommandKind::Withdraw(nlri) => peer.rib.withdraw(command.id, &nlri),
        }
        self.pump();
    }

    /// Lets the sockets drain.
    pub(crate) fn pump(&mut self) {
        for (id, peer) in &mut self.peers {
            let mut answers = Vec::new();
            while !peer.stuck
                && let Some(sent) = peer.rib.poll_update(&peer.session, &self.gate)
            {
                match sent.kind {
                    SentKind::Announce => peer.held.extend(sent.nlris.iter().cloned()),
                    SentKind::Withdraw => sent.nlris.iter().for_each(|nlri| {
                        peer.held.remove(nlri);
                    }),
                    SentKind::EndOfRib(_) => {}
                }
                answers.extend(sent.answers());
            }
            while let Some(answer) = peer.rib.poll_answer() {
                answers.push(answer);
            }
            let outcome = |Answer { command, nlri, kind }| {
                News::Outcome(Outcome { command, backend: id.clone(), nlri, kind })
            };
            self.news.extend(answers.into_iter().map(outcome));
        }
    }

    /// Everything that a backend holds or is going to.
    pub(crate) fn held(&self) -> BTreeSet<(BackendId, Nlri)> {
        let mut held: BTreeSet<_> =
            self.kernel.held.iter().map(|nlri| (BackendId::Kernel, nlri.clone())).collect();
        for (id, peer) in &self.peers {
            let wanted = peer.rib.routes().map(|route| &route.nlri);
            held.extend(wanted.chain(&peer.held).map(|nlri| (id.clone(), nlri.clone())));
        }
        held
    }

    /// Whether the routers drop everything to the target of `nlri`: traffic comes through any that
    /// does not.
    pub(crate) fn drops(&self, nlri: &Nlri) -> bool {
        let mut up = self.peers.values().filter(|peer| peer.up).peekable();
        up.peek().is_some() && up.all(|peer| peer.held.contains(nlri))
    }
}

impl Kernel {
    fn carry_out(&mut self, command: &Command) -> OutcomeKind {
        let failed = |why: &str| OutcomeKind::Failed { why: why.to_owned() };
        match &command.kind {
            CommandKind::Announce { .. } if !self.up => failed("there is no table"),
            // Without a table there are no rules.
            CommandKind::Withdraw(_) if !self.up => OutcomeKind::Applied { bytes: [].into() },
            _ if self.refuses => failed("out of memory"),
            CommandKind::Announce { route, .. } => {
                self.held.insert(route.nlri.clone());
                OutcomeKind::Applied { bytes: [].into() }
            }
            CommandKind::Withdraw(nlri) => {
                self.held.remove(nlri);
                OutcomeKind::Applied { bytes: [].into() }
            }
        }
    }
}
