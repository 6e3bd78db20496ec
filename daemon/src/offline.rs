//! Backends that send nothing: what each peer would be told, for replay.

use std::collections::BTreeMap;

use tidegate_bgpd::SessionParameters;
use tidegate_bgpd::egress::Gate;
use tidegate_bgpd::rib::{AdjRibOut, Answer};
use tidegate_bgpd::session::as_announced;
use tidegate_model::{BackendId, Command, CommandKind, Outcome, OutcomeKind};
use tidegate_policy::Policy;

use crate::pipeline;

/// The Adj-RIB-Out of each peer, with sessions that came up at once and never fail, and a kernel
/// that takes every rule.
pub struct OfflineBackends {
    peers: BTreeMap<BackendId, OfflinePeer>,
}

struct OfflinePeer {
    gate: Gate,
    rib: AdjRibOut,
    session: SessionParameters,
}

impl OfflineBackends {
    /// A session with every peer of `policy`, each agreeing to all that is offered.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        let common = pipeline::gate_policy(policy, &[]);
        let peers = policy
            .peers
            .iter()
            .map(|peer| {
                let blackhole = pipeline::blackhole_profile(peer);
                let mut gate = common.clone();
                gate.admit_profile(&blackhole.communities, &blackhole.large_communities);
                let gate = Gate::new(gate);
                let session = pipeline::expected_session(policy, peer);
                let mut rib = AdjRibOut::new(peer.max_routes);
                rib.resend_all();
                while rib.poll_update(&session, &gate).is_some() {}
                (BackendId::Peer(peer.name.clone()), OfflinePeer { gate, rib, session })
            })
            .collect();
        Self { peers }
    }

    /// The backends, peers in order of their names.
    pub fn ids(&self) -> impl Iterator<Item = BackendId> {
        self.peers.keys().cloned().chain([BackendId::Kernel])
    }

    /// Carries out `command` and returns what the backends answer.
    pub fn apply(&mut self, command: Command) -> Vec<Outcome> {
        let Some(peer) = self.peers.get_mut(&command.backend) else {
            return vec![without_session(command)];
        };
        match command.kind {
            CommandKind::Announce { route, .. } => {
                peer.rib.announce(command.id, as_announced(route));
            }
            CommandKind::Withdraw(nlri) => peer.rib.withdraw(command.id, &nlri),
        }
        let backend = command.backend;
        let outcome = |answer: Answer| Outcome {
            command: answer.command,
            backend: backend.clone(),
            nlri: answer.nlri,
            kind: answer.kind,
        };
        let mut outcomes = Vec::new();
        while let Some(sent) = peer.rib.poll_update(&peer.session, &peer.gate) {
            outcomes.extend(sent.answers().map(outcome));
        }
        while let Some(answer) = peer.rib.poll_answer() {
            outcomes.push(outcome(answer));
        }
        outcomes
    }
}

/// The kernel takes everything; what the policy does not name takes nothing.
fn without_session(command: Command) -> Outcome {
    let kind = match &command.backend {
        BackendId::Kernel => OutcomeKind::Applied { bytes: [].into() },
        BackendId::Peer(_) | BackendId::External(_) => {
            OutcomeKind::Rejected { why: format!("the policy names no {}", command.backend) }
        }
    };
    Outcome { command: command.id, nlri: command.nlri().clone(), backend: command.backend, kind }
}
