//! The command line.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
mod operate;

pub use operate::{
    Action, AlertTest, Announce, Attack, BenchSelf, Completions, Connection, Explain, Incident,
    IncidentStatus, Incidents, Look, Manual, Mitigations, Panic, Peers, Renew, Top, Withdraw,
};

use tidegate_adapters::external::Mark;
use tidegate_model::{AttackVector, Prefix};

/// DDoS mitigation router: recognises floods and steers them away with BGP and local rules.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success, 1 failure while running, a test that fails or an audit that finds something, 2 bad \
                        input: command line, configuration, policy or capture, 3 the daemon is not running or does not \
                        answer, 4 not permitted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CommandLine,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum CommandLine {
    /// Watch an interface and mitigate attacks until stopped.
    ///
    /// SIGTERM and SIGINT withdraw every route, close the BGP sessions with Cease and exit 0.
    Run(Run),
    /// Put a capture file through the same engine, in the capture's own time.
    ///
    /// Nothing is sent anywhere. The same capture and policy give the same output, byte for byte.
    Replay(Replay),
    /// Check a configuration and its policy, and list every error.
    Check(Check),
    /// Try a policy before the attack: fit for the CI of a policy repository.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// How the running daemon is: what it watches, attacks, mitigations, backends.
    Status(Look),
    /// Attacks that were recorded, newest first.
    Incidents(Incidents),
    /// The whole story of one attack.
    Incident(Incident),
    /// What is wanted, held and proposed, and how it stands.
    Mitigations(Mitigations),
    /// BGP sessions, and the routes of one.
    Peers(Peers),
    /// What the policy in force says of an address, and what an attack would bring.
    Explain(Explain),
    /// Rates, attacks, mitigations and peers, live on the terminal.
    Top(Top),
    /// Withdraw what is done about an attack, and do nothing more about it.
    Withdraw(Withdraw),
    /// Leave everything about an attack as it is, until `resume`.
    Hold(Attack),
    /// End a hold.
    Resume(Attack),
    /// Let go what waits for approval.
    Approve(Attack),
    /// Let a mitigation last longer.
    Renew(Renew),
    /// Mitigate without an attack, for a time.
    Announce(Announce),
    /// Withdraw everything everywhere, and announce nothing until `panic --release`.
    Panic(Panic),
    /// Ask every backend what it holds, and compare that with the ledger.
    ///
    /// Exits 1 if something is missing, unexpected or not answered.
    Audit(Look),
    /// Send a test alert through the configured channels.
    AlertTest(AlertTest),
    /// Measure what this machine can do: packets a second, and how fast a flood is recognised.
    BenchSelf(BenchSelf),
    /// Print completions for a shell.
    Completions(Completions),
    /// Write the manual pages.
    #[command(hide = true)]
    Man(Manual),
    /// Other routing daemons as backends.
    #[command(subcommand)]
    Adapters(Adapters),
    /// Make a first configuration for this host, which watches its addresses and does nothing.
    Init(Init),
    /// Make a policy directory of another tool's configuration.
    #[command(subcommand)]
    Import(Import),
    /// Withdraw everything from other routing daemons when the daemon stops renewing its lease.
    ///
    /// Started by the daemon, which tells it on standard input what to watch.
    #[command(hide = true)]
    Reaper,
    /// Relay between ExaBGP, which runs this, and the daemon.
    #[command(hide = true)]
    ExabgpSidecar(Sidecar),
}

/// Arguments of `tidegate run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/tidegate/tidegate.toml")]
    pub config: PathBuf,
    /// Capture on this interface, whatever the configuration says.
    #[arg(short, long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Print one JSON event a line instead of the timeline for people.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tidegate replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Capture: pcap or pcapng, plain or compressed with gzip.
    #[arg(value_name = "FILE")]
    pub capture: PathBuf,
    /// Policy directory: every *.toml file in it.
    #[arg(short, long, value_name = "DIR")]
    pub policy: PathBuf,
    /// Print one JSON event a line instead of the timeline for people.
    #[arg(long)]
    pub json: bool,
    /// Write the packets of each attack, and those from before it, to a file in this directory.
    #[arg(long, value_name = "DIR")]
    pub forensics: Option<PathBuf>,
    /// Show the exact BGP UPDATE that each peer would be sent, in hex and decoded.
    #[arg(long)]
    pub updates: bool,
}

/// Arguments of `tidegate check`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct Check {
    /// Configuration file; the policy that it names is checked too.
    #[arg(short, long, value_name = "FILE", group = "what")]
    pub config: Option<PathBuf>,
    /// Policy directory, if there is no configuration file or to check another one.
    #[arg(short, long, value_name = "DIR", group = "what")]
    pub policy: Option<PathBuf>,
    /// Print the result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Subcommands of `tidegate policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check a policy and list every error.
    Check(PolicyCheck),
    /// Play the scenarios in DIR/tests and compare what is wanted with what they expect.
    ///
    /// Exits 1 if a scenario fails.
    Test(PolicyTest),
    /// Say which group, thresholds and responses an address has, and what an attack would bring.
    Explain(PolicyExplain),
    /// Say what another policy would do differently, for scenarios and recorded incidents.
    Diff(PolicyDiff),
    /// Print the JSON Schema of policy files, for editors.
    Schema,
    /// Have the running daemon read its policy again. As a whole or not at all.
    ///
    /// Exits 2 if it is refused; what was in force stays.
    Apply(Look),
}

/// Arguments of `tidegate policy check`.
#[derive(Debug, Args)]
pub struct PolicyCheck {
    /// Policy directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Print the result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tidegate policy test`.
#[derive(Debug, Args)]
pub struct PolicyTest {
    /// Policy directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Directory of the scenarios, if it is not DIR/tests.
    #[arg(long, value_name = "DIR")]
    pub scenarios: Option<PathBuf>,
    /// Print the result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tidegate policy explain`.
#[derive(Debug, Args)]
pub struct PolicyExplain {
    /// Address or prefix.
    #[arg(value_name = "ADDRESS")]
    pub target: Prefix,
    /// Policy directory.
    #[arg(short, long, value_name = "DIR")]
    pub policy: PathBuf,
    /// What an attack of this kind would bring, such as `syn-flood` or `dns-amplification`.
    #[arg(long, value_name = "VECTOR", requires = "pps")]
    pub vector: Option<AttackVector>,
    /// Packets per second of the attack.
    #[arg(long, value_name = "N", requires = "vector")]
    pub pps: Option<u64>,
    /// Bits per second of the attack, if its packets are not of 100 bytes.
    #[arg(long, value_name = "N", requires = "vector")]
    pub bps: Option<u64>,
    /// Source ports of the attack's packets, for rules.
    #[arg(long, value_name = "PORT", requires = "vector", value_delimiter = ',')]
    pub source_port: Vec<u16>,
    /// Destination ports of the attack's packets, for rules.
    #[arg(long, value_name = "PORT", requires = "vector", value_delimiter = ',')]
    pub port: Vec<u16>,
    /// How certain the detector is of the vector, from 0 to 1.
    #[arg(long, value_name = "C", default_value_t = 1.0)]
    pub confidence: f64,
    /// Print the answer as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tidegate policy diff`.
#[derive(Debug, Args)]
pub struct PolicyDiff {
    /// Policy directory, or a commit of the repository that NEW is in.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// Policy directory.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Directory of the scenarios, if it is not NEW/tests.
    #[arg(long, value_name = "DIR")]
    pub scenarios: Option<PathBuf>,
    /// What `tidegate run --json` or `tidegate replay --json` printed: its attacks are compared.
    #[arg(long, value_name = "FILE")]
    pub incidents: Vec<PathBuf>,
    /// Exit 1 if anything is handled differently.
    #[arg(long)]
    pub exit_code: bool,
    /// Print the result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tidegate exabgp-sidecar`.
#[derive(Debug, Args)]
pub struct Sidecar {
    /// Where the daemon listens.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// The large community on our routes.
    #[arg(long, value_name = "AS:N:N")]
    pub mark: Mark,
    /// Without the daemon, our routes are withdrawn after this time.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = tidegate_policy::text::parse_duration)]
    pub lease: Duration,
    /// Only this neighbor; may be given more than once.
    #[arg(long, value_name = "ADDRESS")]
    pub neighbor: Vec<IpAddr>,
}

/// Subcommands of `tidegate adapters`.
#[derive(Debug, Subcommand)]
pub enum Adapters {
    /// Print what to add to a routing daemon's configuration, so that it takes routes from our
    /// speaker and passes them on; or what its native driver needs.
    Snippet(Snippet),
}

/// Routing daemons that our speaker can peer with on the same host.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Daemon {
    /// BIRD 2.
    Bird,
    /// FRRouting.
    Frr,
    /// GoBGP 3.
    Gobgp,
}

/// Arguments of `tidegate adapters snippet`.
#[derive(Debug, Args)]
pub struct Snippet {
    /// Which daemon.
    pub daemon: Daemon,
    /// Policy directory, which names the daemon as a peer.
    #[arg(short, long, value_name = "DIR")]
    pub policy: PathBuf,
    /// Name of the peer in the policy.
    #[arg(long, value_name = "NAME", required_unless_present = "native")]
    pub peer: Option<String>,
    /// For the native driver with its defaults, without a session.
    #[arg(long, conflicts_with_all = ["peer", "md5_key_file", "gtsm"])]
    pub native: bool,
    /// File with the TCP MD5 key of the session.
    #[arg(long, value_name = "FILE")]
    pub md5_key_file: Option<PathBuf>,
    /// The session has `hops = "gtsm"`.
    #[arg(long)]
    pub gtsm: bool,
}

/// Arguments of `tidegate init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Where tidegate.toml and the directory `policy` are written; nothing is written over.
    #[arg(long, value_name = "DIR", default_value = "/etc/tidegate")]
    pub to: PathBuf,
    /// Where packets are seen, if not on the interface of the default route.
    #[arg(short, long, value_name = "NAME")]
    pub interface: Option<String>,
    /// What is watched, if not the addresses of this host; may be given more than once.
    #[arg(long, value_name = "PREFIX")]
    pub owned: Vec<Prefix>,
    /// Our AS number.
    #[arg(long = "as", value_name = "N")]
    pub asn: Option<u32>,
    /// Print what was written as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Subcommands of `tidegate import`.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// Of FastNetMon's community edition.
    ///
    /// The policy only observes at first. What could not be carried over is listed, line by line.
    Fastnetmon(ImportFastnetmon),
}

/// Arguments of `tidegate import fastnetmon`.
#[derive(Debug, Args)]
pub struct ImportFastnetmon {
    /// Its configuration.
    #[arg(value_name = "FILE", default_value = "/etc/fastnetmon.conf")]
    pub conf: PathBuf,
    /// Where tidegate.toml and the directory `policy` are written; nothing is written over.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The protected networks, if not where the configuration says.
    #[arg(long, value_name = "FILE")]
    pub networks: Option<PathBuf>,
    /// The networks that are spared, if not where the configuration says.
    #[arg(long, value_name = "FILE")]
    pub whitelist: Option<PathBuf>,
    /// Our AS number.
    #[arg(long = "as", value_name = "N")]
    pub asn: Option<u32>,
    /// Our BGP identifier.
    #[arg(long, value_name = "ADDRESS")]
    pub router_id: Option<Ipv4Addr>,
    /// The router that ExaBGP or GoBGP tells.
    #[arg(long, value_name = "ADDRESS", requires = "neighbor_as")]
    pub neighbor: Option<IpAddr>,
    /// Its AS number.
    #[arg(long, value_name = "N", requires = "neighbor")]
    pub neighbor_as: Option<u32>,
    /// Print what became of each setting as one JSON document.
    #[arg(long)]
    pub json: bool,
}
