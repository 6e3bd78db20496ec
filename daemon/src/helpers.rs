//! Processes that the daemon, or another daemon, starts: the reaper and ExaBGP's sidecar; and what
//! operators add to the configuration of other daemons.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate::pipeline;
use tidegate_adapters::bird::BirdConfig;
use tidegate_adapters::exabgp::sidecar::{self, SidecarConfig};
use tidegate_adapters::external::Mark;
use tidegate_adapters::frr::FrrConfig;
use tidegate_adapters::reaper;
use tidegate_adapters::snippet::{self, RelaySession};
use tidegate_policy::Policy;

/// Commands that are not for people, and `adapters`.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version)]
enum Helper {
    /// Withdraw everything from other routing daemons when the daemon stops renewing its lease.
    ///
    /// Started by the daemon, which tells it on standard input what to watch.
    #[command(hide = true)]
    Reaper,
    /// Relay between ExaBGP, which runs this, and the daemon.
    #[command(hide = true)]
    ExabgpSidecar(Sidecar),
    /// Other routing daemons as backends.
    #[command(subcommand)]
    Adapters(Adapters),
}

/// Arguments of `tidegate exabgp-sidecar`.
#[derive(Debug, Args)]
struct Sidecar {
    /// Where the daemon listens.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The large community on our routes.
    #[arg(long, value_name = "AS:N:N")]
    mark: Mark,
    /// Without the daemon, our routes are withdrawn after this time.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = tidegate_policy::text::parse_duration)]
    lease: std::time::Duration,
    /// Only this neighbor; may be given more than once.
    #[arg(long, value_name = "ADDRESS")]
    neighbor: Vec<IpAddr>,
}

/// `tidegate adapters ...`
#[derive(Debug, Subcommand)]
enum Adapters {
    /// Print what to add to a routing daemon's configuration, so that it takes routes from our
    /// speaker and passes them on; or what its native driver needs.
    Snippet(Snippet),
}

/// Which daemon.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Daemon {
    /// BIRD 2.
    Bird,
    /// FRRouting.
    Frr,
    /// GoBGP 3.
    Gobgp,
}

/// Arguments of `tidegate adapters snippet`.
#[derive(Debug, Args)]
struct Snippet {
    /// Which daemon.
    daemon: Daemon,
    /// Policy directory, which names the daemon as a peer.
    #[arg(short, long, value_name = "DIR")]
    policy: PathBuf,
    /// Name of the peer in the policy.
    #[arg(long, value_name = "NAME", required_unless_present = "native")]
    peer: Option<String>,
    /// For the native driver with its defaults, without a session.
    #[arg(long, conflicts_with_all = ["peer", "md5_key_file", "gtsm"])]
    native: bool,
    /// File with the TCP MD5 key of the session.
    #[arg(long, value_name = "FILE")]
    md5_key_file: Option<PathBuf>,
    /// The session has `hops = "gtsm"`.
    #[arg(long)]
    gtsm: bool,
}

/// Runs the command if it is one of these.
#[must_use]
pub fn main() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    let ours = ["reaper", "exabgp-sidecar", "adapters"].iter().any(|name| first == *name);
    let helper = ours.then(Helper::parse)?;
    let done = match helper {
        Helper::Reaper => blocking(async {
            reaper::run(tokio::io::stdin()).await.map_err(|error| error.to_string())
        }),
        Helper::ExabgpSidecar(arguments) => {
            let Sidecar { socket, mark, lease, neighbor } = arguments;
            let neighbors: BTreeSet<_> = neighbor.into_iter().collect();
            let config = SidecarConfig { socket, mark, neighbors, lease };
            blocking(async move { sidecar::run(&config).await.map_err(|error| error.to_string()) })
        }
        Helper::Adapters(Adapters::Snippet(arguments)) => snippet(&arguments).map(|text| {
            print!("{text}");
        }),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tidegate: {message}");
            ExitCode::FAILURE
        }
    })
}

fn blocking(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    // Standard output may be a pipe to ExaBGP: what there is to say goes to standard error.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let done = runtime.block_on(work);
    // A thread that reads standard input may wait for ever.
    runtime.shutdown_background();
    done
}

fn snippet(arguments: &Snippet) -> Result<String, String> {
    let policy = tidegate_policy::load(&arguments.policy).map_err(|report| report.to_string())?;
    if let Some(name) = &arguments.peer {
        let session = session(&policy, name, arguments)?;
        let text = match arguments.daemon {
            Daemon::Bird => snippet::bird(&session),
            Daemon::Frr => snippet::frr(&session),
            Daemon::Gobgp => snippet::gobgp(&session),
        };
        return text.map_err(|error| error.to_string());
    }
    Ok(match arguments.daemon {
        Daemon::Bird => BirdConfig::default().snippet(),
        Daemon::Frr => FrrConfig::default().snippet(policy.speaker.asn),
        Daemon::Gobgp => {
            "# Nothing: start gobgpd with --api-hosts unix:///run/gobgp.sock\n".to_owned()
        }
    })
}

fn session(policy: &Policy, name: &str, arguments: &Snippet) -> Result<RelaySession, String> {
    let names = || {
        let names: Vec<_> = policy.peers.iter().map(|peer| peer.name.as_str()).collect();
        format!("the policy has no peer `{name}`, but: {}", names.join(", "))
    };
    let peer = policy.peer(name).ok_or_else(names)?;
    let our_address = peer.local_address.ok_or_else(|| {
        format!(
            "peer `{}` has no local-address; a daemon on the same host needs one to know us by, such as local-address = \"127.0.0.2\"",
            peer.name
        )
    })?;
    let md5 = match &arguments.md5_key_file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Some(text.trim_end_matches(['\n', '\r']).to_owned())
        }
        None => None,
    };
    Ok(RelaySession {
        our_as: policy.speaker.asn,
        our_address,
        daemon_as: peer.asn,
        daemon_address: peer.address,
        families: pipeline::families(peer),
        max_routes: peer.max_routes,
        md5,
        gtsm: arguments.gtsm,
    })
}
