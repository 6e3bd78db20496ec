//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// DDoS mitigation router: recognises floods and steers them away with BGP and local rules.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success, 1 failure while running, 2 bad input: command line, \
                        configuration, policy or capture."
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
