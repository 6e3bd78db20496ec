//! The backends of the live daemon: which there are, and how they are started and ended.
//!
//! What ends with this process (sessions, the nftables table) is told at once. What outlives it goes
//! another way:
//!
//! ```text
//!   withdraw ---------------------------> backend, and then the journal
//!   announcement --> journal's thread --> backend      as soon as the intent is on disk
//! ```
//!
//! and nothing of it is told before the [reaper](tidegate_adapters::reaper) is in charge, which
//! withdraws it when this process is gone.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tidegate_adapters::external::{ExternalConfig, Guard};
use tidegate_adapters::kernel::KernelBackend;
use tidegate_adapters::reaper::{self, Reaper, ReaperConfig};
use tidegate_adapters::speaker::SpeakerBackend;
use tidegate_adapters::{Backend, BackendEvent, Dropped, ExternalBackend};
use tidegate_bgpd::egress::GatePolicy;
use tidegate_bgpd::learnt::Change;
use tidegate_bgpd::session::ConnectMode;
use tidegate_bgpd::speaker::{
    DynamicPeers, PeerConfig, Speaker, SpeakerConfig, SpeakerError, SpeakerHandle,
};
use tidegate_model::{
    BackendId, BitsPerSecond, Command, MitigationKey, Nlri, PacketsPerSecond, Rate, Timestamp,
};
use tidegate_policy::{Location, Peer, Policy};
use tokio::sync::mpsc;

use crate::config::{Config, KernelSettings};
use crate::event::{Event, EventKind};
use crate::pipeline;
use crate::store::journal::{Held, Journal};

mod client;
mod journalled;

use self::client::Client;
use self::journalled::{Journalled, SharedJournal};

/// News that wait for the engine. Backends hold theirs back while it is full.
const EVENT_QUEUE: usize = 4096;

/// How often the reaper is told that we are in control, and when for the first time: not before
/// what an earlier run left was adopted or withdrawn. A daemon that dies again and again before that
/// has no claim to it.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// See [`RENEW_INTERVAL`].
pub const FIRST_RENEWAL: Duration = Duration::from_secs(8);

/// Our own program, also after it was replaced on disk.
const OURSELVES: &str = "/proc/self/exe";

/// Why the backends cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The BGP speaker.
    #[error("cannot start the BGP speaker: {0}")]
    Speaker(#[from] SpeakerError),
    /// The thread that talks to nftables.
    #[error("cannot start the nftables thread: {0}")]
    Kernel(io::Error),
    /// The thread that writes intents before they are carried out.
    #[error("cannot start the journal's thread: {0}")]
    Journal(io::Error),
    /// Without a reaper nothing may be told to what outlives us.
    #[error(
        "cannot start the reaper, without which routes in other daemons would outlive us: {source}; \
         is the folder of {file} there, and ours to write (`reaper.file`)?"
    )]
    Reaper {
        /// Its lease file.
        file: String,
        /// What went wrong.
        source: io::Error,
    },
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
    kernel: KernelSettings,
    /// Who has rules of peers carried out here, if anybody's are.
    client: Option<Client>,
    /// What the kernel's rules had dropped when it told last.
    counted: Counted,
    ids: Vec<BackendId>,
    reaper: Option<Reaper>,
    journal: Option<SharedJournal>,
    /// What an earlier run may have left in what outlives it.
    left_behind: Vec<MitigationKey>,
}

impl Backends {
    /// Starts the speaker, the drivers of other routing daemons with their reaper, and the kernel's
    /// backend if a response of `policy` is local. Intents go to `journal`, and `held` is what it
    /// says of earlier runs. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] if an address cannot be listened on, or a thread or the reaper cannot be
    /// started.
    pub async fn start(
        policy: &Policy,
        config: &Config,
        (journal, held): (Option<Journal>, Vec<Held>),
        seed: u64,
    ) -> Result<Self, StartError> {
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
        let journal = journal.map(SharedJournal::new);
        let mut backends = Self {
            all,
            speaker,
            events,
            answers,
            own_addresses,
            kernel: config.kernel.clone(),
            client: None,
            counted: Counted::default(),
            ids,
            reaper: None,
            journal,
            left_behind: Vec::new(),
        };
        backends.start_external(policy, config).await?;
        // What ended with the earlier run is not there any more.
        let outlived = held.into_iter().map(|held| held.key);
        backends.left_behind =
            outlived.filter(|key| matches!(key.backend, BackendId::External(_))).collect();
        backends.start_kernel(policy).map_err(StartError::Kernel)?;
        Ok(backends)
    }

    /// First the reaper, then the drivers.
    async fn start_external(&mut self, policy: &Policy, config: &Config) -> Result<(), StartError> {
        let external: BTreeMap<String, ExternalConfig> =
            config.external(policy).map(|(name, config, _)| (name.to_owned(), config)).collect();
        if external.is_empty() {
            return Ok(());
        }
        let file = config.reaper.file.clone();
        let failed = |source| StartError::Reaper { file: file.display().to_string(), source };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let reaper = ReaperConfig {
            lease: config.reaper.lease,
            file: file.clone(),
            backends: external.clone(),
        };
        let started = Reaper::start(Path::new(OURSELVES), &["reaper"], reaper).await;
        self.reaper = Some(started.map_err(failed)?);
        for (name, config) in external {
            let id = BackendId::External(name.clone());
            let guard = Guard::new(self.gate_of(policy, &id));
            let driver = move || config.driver();
            let backend = ExternalBackend::start(&name, driver, guard, self.answers.clone());
            let backend: Box<dyn Backend> = match &self.journal {
                Some(journal) => Box::new(
                    Journalled::start(backend, journal.clone(), self.answers.clone())
                        .map_err(StartError::Journal)?,
                ),
                None => Box::new(backend),
            };
            self.all.add(backend);
            self.ids.push(id);
        }
        Ok(())
    }

    /// What may leave through another daemon: what may leave to the peer that it tells.
    fn gate_of(&self, policy: &Policy, backend: &BackendId) -> GatePolicy {
        let mut gate = pipeline::gate_policy(policy, &self.own_addresses);
        if let Some(peer) = policy.peers.iter().find(|peer| peer.backend() == *backend) {
            let profile = pipeline::blackhole_profile(peer);
            gate.admit_profile(&profile.communities, &profile.large_communities);
        }
        gate
    }

    /// From now on routes are judged by `policy`, which has the same peers.
    pub fn set_policy(&mut self, policy: &Policy) {
        for id in &self.ids {
            self.all.set_gate(id, &self.gate_of(policy, id));
        }
        let gate = pipeline::gate_policy(policy, &self.own_addresses);
        if let Some(client) = &mut self.client {
            client.set_guard(Guard::new(gate.clone()));
        }
        self.speaker.set_gate(gate);
        if let Err(error) = self.start_kernel(policy) {
            tracing::error!(%error, "cannot start the nftables thread: no local rule is enforced");
        }
    }

    /// Starts the kernel's backend, if a response of `policy` is local and it is not there yet.
    fn start_kernel(&mut self, policy: &Policy) -> io::Result<()> {
        let trusted = &self.kernel.flowspec_from;
        let used = policy.uses_kernel() || !trusted.is_empty();
        if self.ids.contains(&BackendId::Kernel) || !used {
            return Ok(());
        }
        let backend = KernelBackend::start(self.answers.clone(), self.kernel.handshakes)?;
        if !trusted.is_empty() {
            let guard = Guard::new(pipeline::gate_policy(policy, &self.own_addresses));
            self.client = Some(Client::new(backend.client(), trusted.clone(), guard));
        }
        self.all.add(Box::new(backend));
        self.ids.push(BackendId::Kernel);
        Ok(())
    }

    /// What an earlier run may have left in what outlives it, by the journal. To be told to the
    /// engine before anything else.
    pub fn take_left_behind(&mut self) -> Vec<MitigationKey> {
        std::mem::take(&mut self.left_behind)
    }

    /// Hands `command` over without waiting. The answer is an event.
    pub fn send(&self, command: Command) {
        if let Err(outcome) = self.all.submit(command)
            && self.answers.try_send(BackendEvent::Outcome(*outcome)).is_err()
        {
            tracing::warn!("too many answers wait; the reconciler will ask again");
        }
    }

    /// Takes note of what the engine tells: answers go to the journal.
    pub fn note(&self, event: &Event) {
        if let (Some(journal), EventKind::Outcome { verb, outcome }) = (&self.journal, &event.kind)
            && matches!(outcome.backend, BackendId::External(_))
        {
            journal.confirm(*verb, outcome);
        }
    }

    /// Tells the reaper that we are in control. To be called by what drives the engine, every
    /// [`RENEW_INTERVAL`] after [`FIRST_RENEWAL`].
    pub fn renew(&self) {
        if let Some(reaper) = &self.reaper {
            reaper.renew();
        }
    }

    /// Every backend that there is.
    #[must_use]
    pub fn ids(&self) -> &[BackendId] {
        &self.ids
    }

    /// The speaker, to ask for its peers.
    #[must_use]
    pub fn speaker(&self) -> SpeakerHandle {
        self.speaker.clone()
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

    /// Asks those who count what their rules drop.
    pub fn observe_counting(&self) {
        if self.ids.contains(&BackendId::Kernel) {
            self.all.observe(&BackendId::Kernel);
        }
    }

    /// What rules have dropped per second since they told last, where they count it.
    pub fn rates(&mut self, now: Timestamp, held: &[tidegate_adapters::Held]) -> Vec<(Nlri, Rate)> {
        self.counted.rates(now, held)
    }

    /// Takes note of a rule of a peer.
    pub fn learnt(&mut self, change: Change) {
        if let Some(client) = &mut self.client {
            client.take(change);
        }
    }

    /// The next news. Never ends.
    pub async fn event(&mut self) -> Option<BackendEvent> {
        self.events.recv().await
    }

    /// Withdraws what is left, ends the sessions with Cease and `reason`, and waits until that is
    /// delivered, for a bounded time. The reaper looks once more, and goes on if anything is left.
    pub async fn shutdown(&mut self, reason: &str) {
        self.speaker.shutdown(reason).await;
        if let Some(reaper) = self.reaper.take() {
            reaper.leave().await;
        }
    }
}

/// What each rule had dropped, and when.
#[derive(Debug, Default)]
struct Counted(BTreeMap<Nlri, (Timestamp, Dropped)>);

impl Counted {
    /// The rates since the last call, of rules that were there then; those that are gone are
    /// forgotten.
    fn rates(&mut self, now: Timestamp, held: &[tidegate_adapters::Held]) -> Vec<(Nlri, Rate)> {
        let counted = held.iter().filter_map(|held| Some((held.nlri.clone(), held.dropped?)));
        let counted: BTreeMap<_, _> =
            counted.map(|(nlri, dropped)| (nlri, (now, dropped))).collect();
        if counted.is_empty() {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.0, counted);
        let rates = self.0.iter().filter_map(|(nlri, (_, dropped))| {
            let (then, before) = before.get(nlri)?;
            let milliseconds = u64::try_from(now.since(*then).as_millis()).unwrap_or(u64::MAX);
            // A rule that was installed anew counts from zero.
            let per_second = |now: u64, before: u64| {
                now.saturating_sub(before).saturating_mul(1000) / milliseconds.max(1)
            };
            let packets = PacketsPerSecond(per_second(dropped.packets, before.packets));
            let bits = per_second(dropped.bytes, before.bytes).saturating_mul(8);
            Some((nlri.clone(), Rate { packets, bits: BitsPerSecond(bits) }))
        });
        rates.collect()
    }
}

/// Withdraws everything of ours from every routing daemon of `config` without a daemon of ours: how
/// many routes each held, or why something may be left. For `tidegate panic` where `tidegate run`
/// does not answer; where it does, [`Engine::panic`](crate::engine::Engine) does the same and more.
/// An ExaBGP with a sidecar is withdrawn from by that as soon as its lease is over.
pub async fn withdraw_without_daemon(
    config: &Config,
    policy: &Policy,
) -> BTreeMap<String, Result<usize, String>> {
    let external = config.external(policy);
    let external = external.map(|(name, config, _)| (name.to_owned(), config)).collect();
    reaper::withdraw_all(&external).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_drop_becomes_rates() {
        let nlri = |last: u8| Nlri::Unicast(format!("203.0.113.{last}").parse().unwrap());
        let held = |last, packets| tidegate_adapters::Held {
            nlri: nlri(last),
            dropped: Some(Dropped { packets, bytes: packets * 100 }),
        };
        let at = |milliseconds: u64| Timestamp::from_nanos(milliseconds * 1_000_000);
        let rate = |packets| Rate {
            packets: PacketsPerSecond(packets),
            bits: BitsPerSecond(packets * 800),
        };
        let mut counted = Counted::default();
        assert_eq!(counted.rates(at(0), &[held(1, 50)]), []);
        assert_eq!(counted.rates(at(500), &[held(1, 100), held(2, 7)]), [(nlri(1), rate(100))]);
        // The first was installed anew meanwhile.
        let both = [held(1, 10), held(2, 7)];
        assert_eq!(counted.rates(at(1500), &both), [(nlri(1), rate(0)), (nlri(2), rate(0))]);
        // Twice at the same time, and one that counts nothing.
        assert_eq!(counted.rates(at(1500), &both).len(), 2);
        let silent = tidegate_adapters::Held { nlri: nlri(3), dropped: None };
        assert_eq!(counted.rates(at(1600), &[silent]), []);
    }
}
