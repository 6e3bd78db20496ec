//! tidegate's own speaker, as a library, and what it needs of memory.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use tidegate_bgpd::Family;
use tidegate_bgpd::egress::GatePolicy;
use tidegate_bgpd::session::{ConnectMode, SessionOptions};
use tidegate_bgpd::speaker::{
    BlackholeProfile, PeerConfig, Speaker, SpeakerConfig, SpeakerHandle, Transport,
};
use tidegate_model::{CommandId, OwnedSpace, Prefix, Route};
use tokio::runtime::Runtime;

use super::receiver::Receiver;
use super::route::{self, OWNED};
use super::{ANNOUNCER, Announcer, BenchError, Link, ROUTES, system};
use crate::bench::peer::Peer;
use crate::interop::Kind;

/// Name of the only peer.
const PEER: &str = "bench";
/// Times [`ROUTES`] from which the memory of each is taken.
const MEMORY_ROUNDS: usize = 5;

/// The speaker. It ends with its runtime.
pub(super) struct Ours {
    speaker: SpeakerHandle,
    #[expect(dead_code, reason = "the sessions are its tasks")]
    runtime: Runtime,
}

/// A runtime as the daemon's.
pub(super) fn runtime() -> Result<Runtime, BenchError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().map_err(system("start a runtime"))
}

impl Ours {
    pub(super) fn start(link: Link) -> Result<Self, BenchError> {
        let runtime = runtime()?;
        let (speaker, mut events) = runtime
            .block_on(async { Speaker::start(configuration(link)) })
            .map_err(|error| BenchError::Unexpected(error.to_string()))?;
        runtime.spawn(async move { while events.recv().await.is_some() {} });
        Ok(Self { speaker, runtime })
    }
}

impl Announcer for Ours {
    fn announce(&mut self, kind: Kind, range: Range<usize>) -> Result<Instant, BenchError> {
        let routes: Vec<Route> =
            range.map(|index| route::route(kind, index)).collect::<Result<_, _>>()?;
        let begin = Instant::now();
        for (id, route) in (0..).zip(routes) {
            self.speaker
                .announce(PEER, CommandId(id), route)
                .map_err(|error| BenchError::Unexpected(error.to_string()))?;
        }
        Ok(begin)
    }
}

fn configuration(link: Link) -> SpeakerConfig {
    let owned = Prefix::new(OWNED.0.into(), OWNED.1);
    SpeakerConfig {
        asn: 65010,
        router_id: Ipv4Addr::new(192, 0, 2, 10),
        listen: Vec::new(),
        peers: vec![PeerConfig {
            name: PEER.to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            asn: 65001,
            port: link.port,
            local_address: Some(ANNOUNCER.into()),
            mode: ConnectMode::Active,
            hold_time: Duration::from_secs(90),
            families: BTreeSet::from([Family::Ipv4Unicast, Family::Ipv4FlowSpec]),
            max_routes: 200_000,
            transport: Transport::default(),
            options: SessionOptions::default(),
            blackhole: BlackholeProfile::default(),
        }],
        dynamic: Vec::new(),
        gate: GatePolicy {
            space: OwnedSpace { owned: owned.into_iter().collect(), never_touch: Vec::new() },
            session_addresses: vec![Ipv4Addr::LOCALHOST.into(), ANNOUNCER.into()],
            ..GatePolicy::default()
        },
        seed: 1,
    }
}

/// Octets that [`ROUTES`] more blackholes, and as many more rules, announced and held for a peer, take of this
/// process.
pub(super) fn memory(link: Link) -> Result<[u64; 2], BenchError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, link.port));
    let mut receiver = Peer::listening(address, super::count::announced)?;
    let mut ours = Ours::start(link)?;
    Receiver::wait_until_established(&mut receiver)?;
    let mut grown = |kind| -> Result<u64, BenchError> {
        let mut round = |number: usize| -> Result<(), BenchError> {
            for index in number * ROUTES..(number + 1) * ROUTES {
                ours.announce(kind, index..index + 1)?;
            }
            receiver.expect(kind, ROUTES).map(drop)
        };
        // The first also fills buffers that do not grow any more.
        round(0)?;
        let before = resident()?;
        (1..=MEMORY_ROUNDS).try_for_each(&mut round)?;
        Ok(resident()?.saturating_sub(before) / MEMORY_ROUNDS as u64)
    };
    Ok([grown(Kind::Rtbh)?, grown(Kind::FlowSpec)?])
}

/// Octets of this process that are in memory.
fn resident() -> Result<u64, BenchError> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(system("read /proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilo = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilo.map(|kilo| kilo * 1024)
        .ok_or_else(|| BenchError::Unexpected("/proc/self/status has no VmRSS".to_owned()))
}
