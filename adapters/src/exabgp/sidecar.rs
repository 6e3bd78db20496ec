//! `tidegate exabgp-sidecar`: the process that ExaBGP runs.
//!
//! It passes commands from the daemon's socket to ExaBGP and ExaBGP's answers back, one line at a
//! time, and reads ExaBGP also while nobody listens: an ExaBGP whose answers are not read stops
//! altogether, keepalives included. News of sessions and received routes end here.
//!
//! ```text
//!             connected                       no daemon for the whole lease
//!   waiting -------------> relaying   waiting ------------------------------> sweeping
//!      ^                      |          ^                                        |
//!      +----------------------+          +----------------------------------------+
//!         the socket is closed             everything with our mark is withdrawn
//! ```
//!
//! A daemon that is connected but has said nothing for the whole lease is hung, and counts as none.
//! It remembers nothing: started again, it finds what an earlier one left by the mark.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::link::{End, Link};
use super::{LISTING, parse};
use crate::external::{ExternalError, Mark};

/// Between two attempts to reach the daemon.
const RETRY: Duration = Duration::from_millis(200);
/// Between two looks at what is left while there is no daemon.
const SWEEP_AGAIN: Duration = Duration::from_secs(5);
/// Longest time that the daemon may take to read a line of an answer; then it counts as gone.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Most bytes of a command.
const MOST_COMMAND: usize = 64 * 1024;

/// What a sidecar is told on its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarConfig {
    /// Where the daemon listens.
    pub socket: PathBuf,
    /// Routes with it are ours to withdraw.
    pub mark: Mark,
    /// Only these neighbours; empty for all.
    pub neighbors: BTreeSet<IpAddr>,
    /// Without the daemon, ours are withdrawn after this time.
    pub lease: Duration,
}

/// Relays until ExaBGP closes standard input.
///
/// # Errors
/// [`ExternalError`] if ExaBGP can no longer be talked to.
pub async fn run(config: &SidecarConfig) -> Result<(), ExternalError> {
    serve(config, Link::standard()).await
}

async fn serve(config: &SidecarConfig, mut exabgp: Link) -> Result<(), ExternalError> {
    let mut sweep_at = Instant::now() + config.lease;
    loop {
        if let Ok(stream) = UnixStream::connect(&config.socket).await {
            match relay(&mut exabgp, stream, config.lease).await {
                Ended::Exabgp => return Ok(()),
                Ended::Daemon => sweep_at = Instant::now() + config.lease,
                Ended::Silence => sweep(config, &mut exabgp).await?,
            }
            continue;
        }
        tokio::select! {
            line = exabgp.line() => if line.is_none() { return Ok(()) },
            () = sleep(RETRY) => {}
        }
        if Instant::now() >= sweep_at {
            sweep(config, &mut exabgp).await?;
            sweep_at = Instant::now() + SWEEP_AGAIN;
        }
    }
}

/// Who hung up.
#[derive(PartialEq, Eq)]
enum Ended {
    Daemon,
    Exabgp,
    /// Nobody did, but a daemon that is in order asks every second whether we are there.
    Silence,
}

/// Passes lines both ways.
async fn relay(exabgp: &mut Link, stream: UnixStream, lease: Duration) -> Ended {
    let (reader, mut daemon) = stream.into_split();
    let mut commands = BufReader::new(reader);
    let mut command = Vec::new();
    let mut silent_at = Instant::now() + lease;
    loop {
        tokio::select! {
            () = sleep_until(silent_at) => return Ended::Silence,
            // What has been read of a command stays in it when the other branch is taken.
            read = commands.read_until(b'\n', &mut command) => {
                if read.is_err() || command.last() != Some(&b'\n') || command.len() > MOST_COMMAND {
                    return Ended::Daemon;
                }
                if exabgp.pass(&command).await.is_err() {
                    return Ended::Exabgp;
                }
                command.clear();
                silent_at = Instant::now() + lease;
            }
            line = exabgp.line() => {
                let Some(line) = line else { return Ended::Exabgp };
                if line.starts_with('{') {
                    continue;
                }
                let line = format!("{line}\n");
                let written = tokio::time::timeout(WRITE_LIMIT, daemon.write_all(line.as_bytes()));
                if !matches!(written.await, Ok(Ok(()))) {
                    return Ended::Daemon;
                }
            }
        }
    }
}

/// Withdraws everything of ours that ExaBGP holds.
async fn sweep(config: &SidecarConfig, exabgp: &mut Link) -> Result<(), ExternalError> {
    // Answers to what the daemon asked last may still come.
    exabgp.synchronise().await?;
    let listing = exabgp.ask(LISTING).await?;
    if listing.end != End::Done {
        return Ok(());
    }
    let ours = listing.lines.iter().filter_map(|line| parse::line(line)).filter(|shown| {
        shown.large_communities.contains(&config.mark.0)
            && (config.neighbors.is_empty() || config.neighbors.contains(&shown.neighbor))
    });
    for shown in ours {
        // One that is refused is there again at the next look.
        exabgp.ask(&shown.withdraw()).await?;
    }
    Ok(())
}
