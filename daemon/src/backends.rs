//! The backends of the live daemon behind one way in and one way out.

use std::collections::VecDeque;

use tidegate_bgpd::session::{ConnectMode, SessionOptions};
use tidegate_bgpd::speaker::{
    PeerConfig, Speaker, SpeakerConfig, SpeakerError, SpeakerEvent, SpeakerHandle, Transport,
};
use tidegate_model::{BackendId, BackendState, Command, CommandKind, Outcome, OutcomeKind};
use tidegate_policy::{Peer, Policy};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::pipeline;

/// News from a backend.
#[derive(Clone, Debug)]
pub enum Report {
    /// The answer to a command.
    Outcome(Outcome),
    /// It came up or went down.
    State(BackendId, BackendState),
}

/// Why the backends cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The BGP speaker.
    #[error("cannot start the BGP speaker: {0}")]
    Speaker(#[from] SpeakerError),
}

/// Every backend that the policy uses.
pub struct Backends {
    speaker: SpeakerHandle,
    events: mpsc::Receiver<SpeakerEvent>,
    /// Answers that no backend had to be asked for.
    answers: VecDeque<Report>,
}

impl Backends {
    /// Starts the speaker. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] if an address cannot be listened on.
    pub fn start(policy: &Policy, config: &Config, seed: u64) -> Result<Self, StartError> {
        let own_addresses: Vec<_> = config.listen.iter().map(|address| address.ip()).collect();
        let (speaker, events) = Speaker::start(SpeakerConfig {
            asn: policy.speaker.asn,
            router_id: policy.speaker.router_id,
            listen: config.listen.iter().copied().collect(),
            peers: policy.peers.iter().map(peer_config).collect(),
            gate: pipeline::gate_policy(policy, &own_addresses),
            seed,
        })?;
        Ok(Self { speaker, events, answers: VecDeque::new() })
    }

    /// Hands `command` over. The answer is a [`Report`].
    pub fn send(&mut self, command: Command) {
        let Command { id, backend, kind } = command;
        let BackendId::Peer(name) = &backend else {
            return;
        };
        let nlri = match &kind {
            CommandKind::Announce { route, .. } => route.nlri.clone(),
            CommandKind::Withdraw(nlri) => nlri.clone(),
        };
        let sent = match kind {
            CommandKind::Announce { route, .. } => self.speaker.announce(name, id, route),
            CommandKind::Withdraw(nlri) => self.speaker.withdraw(name, id, &nlri),
        };
        if let Err(unknown) = sent {
            let kind = OutcomeKind::Rejected { why: unknown.to_string() };
            self.answers.push_back(Report::Outcome(Outcome { command: id, backend, nlri, kind }));
        }
    }

    /// The next news; `None` when the backends have ended.
    pub async fn report(&mut self) -> Option<Report> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        Some(match self.events.recv().await? {
            SpeakerEvent::Outcome(outcome) => Report::Outcome(outcome),
            SpeakerEvent::State { peer, state } => Report::State(BackendId::Peer(peer), state),
        })
    }

    /// Withdraws what is left, ends the sessions with Cease and `reason`, and waits until that is
    /// delivered, for a bounded time.
    pub async fn shutdown(&self, reason: &str) {
        self.speaker.shutdown(reason).await;
    }
}

fn peer_config(peer: &Peer) -> PeerConfig {
    PeerConfig {
        name: peer.name.clone(),
        address: peer.address,
        asn: peer.asn,
        port: peer.port,
        local_address: peer.local_address,
        mode: match peer.mode {
            tidegate_policy::ConnectMode::Active => ConnectMode::Active,
            tidegate_policy::ConnectMode::Passive => ConnectMode::Passive,
            tidegate_policy::ConnectMode::Both => ConnectMode::Both,
        },
        hold_time: peer.hold_time,
        families: pipeline::families(peer),
        max_routes: peer.max_routes,
        transport: Transport::default(),
        options: SessionOptions::default(),
    }
}
