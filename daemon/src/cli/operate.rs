//! Arguments of the commands that talk to a running daemon, and of those about this program.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::Shell;
use tidegate_model::{AttackId, AttackVector, Prefix};
use tidegate_policy::text::parse_duration;

/// Where the daemon is.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// Socket of the daemon; left out, /run/tidegate/tidegate.sock or that in $XDG_RUNTIME_DIR.
    #[arg(long, value_name = "PATH", env = "TIDEGATE_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Print the answer as one JSON document, as the API has it.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of commands that need no more.
#[derive(Debug, Args)]
pub struct Look {
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `tidegate incidents`.
#[derive(Debug, Args)]
pub struct Incidents {
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
    /// Only these.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<IncidentStatus>,
    /// Only those of this address or prefix.
    #[arg(long, value_name = "ADDRESS")]
    pub target: Option<Prefix>,
    /// At most so many.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub limit: u32,
    /// Go on printing what changes.
    #[arg(long, conflicts_with_all = ["status", "target"])]
    pub watch: bool,
}

/// Where in its life an incident is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum IncidentStatus {
    /// The attack goes on.
    Active,
    /// The attack is over, something of what was done is not.
    Ended,
    /// All is over.
    Closed,
}

/// Arguments of `tidegate incident`.
#[derive(Debug, Args)]
pub struct Incident {
    /// Id of the incident, or the name of an attack of this run: `attack-7`.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `tidegate mitigations`.
#[derive(Debug, Args)]
pub struct Mitigations {
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
    /// Only those for this attack: `attack-7`.
    #[arg(value_name = "ATTACK")]
    pub attack: Option<AttackId>,
    /// Go on printing what happens to them.
    #[arg(long, conflicts_with = "attack")]
    pub watch: bool,
}

/// Arguments of `tidegate peers`.
#[derive(Debug, Args)]
pub struct Peers {
    /// Only this one, with all that is known of it.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Also what it is sent, and how far each route is.
    #[arg(long, requires = "name")]
    pub routes: bool,
    /// Also what it announces to us.
    #[arg(long, requires = "name")]
    pub received: bool,
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `tidegate explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Address or prefix.
    #[arg(value_name = "ADDRESS")]
    pub target: Prefix,
    /// What an attack of this kind would bring, such as `syn-flood` or `dns-amplification`.
    #[arg(long, value_name = "VECTOR", requires = "pps")]
    pub vector: Option<AttackVector>,
    /// Packets per second of the attack.
    #[arg(long, value_name = "N", requires = "vector")]
    pub pps: Option<u64>,
    /// Bits per second of the attack, if its packets are not of 100 bytes.
    #[arg(long, value_name = "N", requires = "vector")]
    pub bps: Option<u64>,
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `tidegate top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of orders about one attack.
#[derive(Debug, Args)]
pub struct Attack {
    /// Name of the attack: `attack-7`.
    #[arg(value_name = "ATTACK")]
    pub attack: AttackId,
    /// Only what this response asks for.
    #[arg(long, value_name = "RESPONSE")]
    pub response: Option<String>,
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `tidegate withdraw`.
#[derive(Debug, Args)]
pub struct Withdraw {
    /// Name of the attack or manual mitigation: `attack-7`, `manual-0`.
    #[arg(value_name = "ATTACK")]
    pub attack: AttackId,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `tidegate renew`.
#[derive(Debug, Args)]
pub struct Renew {
    /// Name of the attack or manual mitigation.
    #[arg(value_name = "ATTACK")]
    pub attack: AttackId,
    /// How much longer: `30m`.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub extra: Duration,
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `tidegate announce`.
#[derive(Debug, Args)]
pub struct Announce {
    /// An owned address or prefix.
    #[arg(value_name = "ADDRESS")]
    pub target: Prefix,
    /// For how long: `30m`. At most 7d.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub ttl: Duration,
    /// What to do.
    #[arg(long, value_name = "ACTION", default_value = "blackhole")]
    pub action: Action,
    /// IP protocols of the traffic, by number.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub protocol: Vec<u8>,
    /// Source ports of the traffic.
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub source_port: Vec<u16>,
    /// Destination ports of the traffic.
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub port: Vec<u16>,
    /// Let this many bytes a second through instead of none.
    #[arg(long, value_name = "N")]
    pub rate_limit: Option<u64>,
    /// Only at this peer; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub peer: Vec<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// What a person may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// A blackhole route at the peers (RFC 7999).
    Blackhole,
    /// A FlowSpec rule at the peers (RFC 8955).
    Flowspec,
    /// A rule in the kernel of the daemon's host.
    Local,
}

/// Arguments of `tidegate panic`.
#[derive(Debug, Args)]
pub struct Panic {
    /// End the panic: what the policy wants is announced again.
    #[arg(long, conflicts_with = "reason")]
    pub release: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Where.
    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `tidegate alert-test`.
#[derive(Debug, Args)]
pub struct AlertTest {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/tidegate/tidegate.toml")]
    pub config: PathBuf,
    /// Only this channel.
    #[arg(value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Print the result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tidegate bench-self`.
#[derive(Debug, Args)]
pub struct BenchSelf {
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub time: Duration,
    /// The address that is flooded, of no consequence outside this process.
    #[arg(long, value_name = "ADDRESS", default_value = "203.0.113.7", hide = true)]
    pub target: IpAddr,
    /// Print the result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `tidegate completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Arguments of `tidegate man`.
#[derive(Debug, Args)]
pub struct Manual {
    /// Where the pages go: `tidegate.1`, `tidegate-run.1` ...
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
