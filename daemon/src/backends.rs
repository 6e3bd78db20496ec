//! The backends of the live daemon: which there are, and how they are started and ended.

use std::io;
use std::net::IpAddr;

use tidegate_adapters::BackendEvent;
use tidegate_adapters::kernel::KernelBackend;
use tidegate_adapters::speaker::SpeakerBackend;
use tidegate_bgpd::session::ConnectMode;
use tidegate_bgpd::speaker::{
    DynamicPeers, PeerConfig, Speaker, SpeakerConfig, SpeakerError, SpeakerHandle,
};
use tidegate_model::{BackendId, Command};
use tidegate_policy::{Location, Peer, Policy};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::pipeline;

/// News that wait for the engine. Backends hold theirs back while it is full.
const EVENT_QUEUE: usize = 4096;

/// Why the backends cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The BGP speaker.
    #[error("cannot start the BGP speaker: {0}")]
    Speaker(#[from] SpeakerError),
    /// The thread that talks to nftables.
    #[error("cannot start the nftables thread: {0}")]
    Kernel(io::Error),
}

/// Every backend that the policy uses.
pub struct Backends {
    all: tidegate_adapters::Backends,
    speaker: SpeakerHandle,
    events: mpsc::Receiver<BackendEvent>,
    /// Where answers go that are known at once.
    answers: mpsc::Sender<BackendEvent>,
    /// Addresses of ours that the policy does not name.
    own_addresses: Vec<IpAddr>,
    ids: Vec<BackendId>,
}

impl Backends {
    /// Starts the speaker, and the kernel's backend if a response of `policy` is local. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] if an address cannot be listened on or a thread cannot be started.
    pub fn start(policy: &Policy, config: &Config, seed: u64) -> Result<Self, StartError> {
        let (answers, events) = mpsc::channel(EVENT_QUEUE);
        let own_addresses: Vec<_> = config.listen.iter().map(|address| address.ip()).collect();
        let (speaker, news) = Speaker::start(SpeakerConfig {
            asn: policy.speaker.asn,
            router_id: policy.speaker.router_id,
            listen: config.listen.iter().copied().collect(),
            peers: sessions(policy).filter_map(|peer| peer_config(peer, config)).collect(),
            dynamic: sessions(policy).filter_map(|peer| dynamic_peers(peer, config)).collect(),
            gate: pipeline::gate_policy(policy, &own_addresses),
            seed,
        })?;
        let mut all = tidegate_adapters::Backends::new();
        all.add(Box::new(SpeakerBackend::new(speaker.clone(), news, answers.clone())));
        let ids: Vec<_> = sessions(policy).map(Peer::backend).collect();
        let mut backends = Self { all, speaker, events, answers, own_addresses, ids };
        backends.start_kernel(policy).map_err(StartError::Kernel)?;
        Ok(backends)
    }

    /// From now on routes are judged by `policy`, which has the same peers.
    pub fn set_policy(&mut self, policy: &Policy) {
        let gate = pipeline::gate_policy(policy, &self.own_addresses);
        self.all.set_gate(&gate);
        self.speaker.set_gate(gate);
        if let Err(error) = self.start_kernel(policy) {
            tracing::error!(%error, "cannot start the nftables thread: no local rule is enforced");
        }
    }

    /// Starts the kernel's backend, if a response of `policy` is local and it is not there yet.
    fn start_kernel(&mut self, policy: &Policy) -> io::Result<()> {
        if self.ids.contains(&BackendId::Kernel) || !policy.uses_kernel() {
            return Ok(());
        }
        self.all.add(Box::new(KernelBackend::start(self.answers.clone())?));
        self.ids.push(BackendId::Kernel);
        Ok(())
    }

    /// Hands `command` over without waiting. The answer is an event.
    pub fn send(&self, command: Command) {
        if let Err(outcome) = self.all.submit(command)
            && self.answers.try_send(BackendEvent::Outcome(*outcome)).is_err()
        {
            tracing::warn!("too many answers wait; the reconciler will ask again");
        }
    }

    /// Asks every backend what it holds of ours: somebody may have deleted a rule by hand. Of a
    /// peer that is what the speaker keeps for it; what it really holds, BGP does not tell.
    pub fn observe_all(&self) {
        for backend in &self.ids {
            self.all.observe(backend);
        }
    }

    /// Asks one backend.
    pub fn observe(&self, backend: &BackendId) {
        self.all.observe(backend);
    }

    /// The next news. Never ends.
    pub async fn event(&mut self) -> Option<BackendEvent> {
        self.events.recv().await
    }

    /// Withdraws what is left, ends the sessions with Cease and `reason`, and waits until that is
    /// delivered, for a bounded time.
    pub async fn shutdown(&self, reason: &str) {
        self.speaker.shutdown(reason).await;
    }
}

/// The peers with which the embedded speaker has sessions.
fn sessions(policy: &Policy) -> impl Iterator<Item = &Peer> {
    policy.peers.iter().filter(|peer| peer.via.is_none())
}

/// A peer at an address of its own.
fn peer_config(peer: &Peer, config: &Config) -> Option<PeerConfig> {
    let address = peer.location.host()?;
    let families = pipeline::families(peer);
    let settings = config.sessions.get(&peer.name).cloned().unwrap_or_default();
    Some(PeerConfig {
        name: peer.name.clone(),
        address,
        asn: peer.asn,
        port: peer.port,
        local_address: peer.local_address,
        mode: match peer.mode {
            tidegate_policy::ConnectMode::Active => ConnectMode::Active,
            tidegate_policy::ConnectMode::Passive => ConnectMode::Passive,
            tidegate_policy::ConnectMode::Both => ConnectMode::Both,
        },
        hold_time: peer.hold_time,
        options: settings.options(&families),
        families,
        max_routes: peer.max_routes,
        transport: settings.transport,
        blackhole: pipeline::blackhole_profile(peer),
    })
}

/// Neighbours from a prefix.
fn dynamic_peers(peer: &Peer, config: &Config) -> Option<DynamicPeers> {
    let Location::Range { prefix, limit } = peer.location else { return None };
    let families = pipeline::families(peer);
    let settings = config.sessions.get(&peer.name).cloned().unwrap_or_default();
    Some(DynamicPeers {
        name: peer.name.clone(),
        prefix,
        limit: limit.into(),
        asn: peer.asn,
        hold_time: peer.hold_time,
        options: settings.options(&families),
        families,
        max_routes: peer.max_routes,
        transport: settings.transport,
        blackhole: pipeline::blackhole_profile(peer),
    })
}
