//! Processes that the daemon, or another daemon, starts: the reaper and ExaBGP's sidecar; and what
//! operators add to the configuration of other daemons.

use tidegate_adapters::bird::BirdConfig;
use tidegate_adapters::exabgp::sidecar::{self, SidecarConfig};
use tidegate_adapters::frr::FrrConfig;
use tidegate_adapters::reaper;
use tidegate_adapters::snippet::{self, RelaySession};
use tidegate_policy::Policy;

use super::Failure;
use crate::cli::{Adapters, Daemon, Sidecar, Snippet};
use crate::pipeline;

/// `tidegate reaper`.
pub(super) fn reap() -> Result<(), Failure> {
    blocking(async {
        let done = reaper::run(tokio::io::stdin(), tokio::io::stdout()).await;
        done.map_err(|error| error.to_string())
    })
}

/// `tidegate exabgp-sidecar`.
pub(super) fn relay(arguments: &Sidecar) -> Result<(), Failure> {
    let config = SidecarConfig {
        socket: arguments.socket.clone(),
        mark: arguments.mark,
        neighbors: arguments.neighbor.iter().copied().collect(),
        lease: arguments.lease,
    };
    blocking(async move { sidecar::run(&config).await.map_err(|error| error.to_string()) })
}

/// `tidegate adapters`.
pub(super) fn adapters(command: &Adapters) -> Result<(), Failure> {
    let Adapters::Snippet(arguments) = command;
    print!("{}", snippet(arguments)?);
    Ok(())
}

fn blocking(work: impl Future<Output = Result<(), String>>) -> Result<(), Failure> {
    // Standard output may be a pipe to ExaBGP: what there is to say goes to standard error.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Running(format!("cannot start: {error}")))?;
    let done = runtime.block_on(work);
    // A thread that reads standard input may wait for ever.
    runtime.shutdown_background();
    done.map_err(Failure::Running)
}

fn snippet(arguments: &Snippet) -> Result<String, Failure> {
    let policy = tidegate_policy::load(&arguments.policy)?;
    if let Some(name) = &arguments.peer {
        let session = session(&policy, name, arguments)?;
        let text = match arguments.daemon {
            Daemon::Bird => snippet::bird(&session),
            Daemon::Frr => snippet::frr(&session),
            Daemon::Gobgp => snippet::gobgp(&session),
        };
        return text.map_err(|error| Failure::BadInput(error.to_string()));
    }
    Ok(match arguments.daemon {
        Daemon::Bird => BirdConfig::default().snippet(),
        Daemon::Frr => FrrConfig::default().snippet(policy.speaker.asn),
        Daemon::Gobgp => {
            "# Nothing: start gobgpd with --api-hosts unix:///run/gobgp.sock\n".to_owned()
        }
    })
}

fn session(policy: &Policy, name: &str, arguments: &Snippet) -> Result<RelaySession, Failure> {
    let names = || {
        let names: Vec<_> = policy.peers.iter().map(|peer| peer.name.as_str()).collect();
        let names = names.join(", ");
        Failure::BadInput(format!("the policy has no peer `{name}`, but: {names}"))
    };
    let peer = policy.peer(name).ok_or_else(names)?;
    let daemon_address = peer.location.host().ok_or_else(|| {
        Failure::BadInput(format!(
            "peer `{}` is every neighbour from {}; write one with an address for the daemon",
            peer.name, peer.location
        ))
    })?;
    let our_address = peer.local_address.ok_or_else(|| {
        Failure::BadInput(format!(
            "peer `{}` has no local-address; a daemon on the same host needs one to know us by, such as local-address = \"127.0.0.2\"",
            peer.name
        ))
    })?;
    let md5 = match &arguments.md5_key_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::BadInput(format!("cannot read {}: {error}", path.display()))
            })?;
            Some(text.trim_end_matches(['\n', '\r']).to_owned())
        }
        None => None,
    };
    Ok(RelaySession {
        our_as: policy.speaker.asn,
        our_address,
        daemon_as: peer.asn,
        daemon_address,
        families: pipeline::families(peer),
        max_routes: peer.max_routes,
        md5,
        gtsm: arguments.gtsm,
    })
}
