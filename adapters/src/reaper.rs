//! The end of leases: a small process that withdraws what routing daemons hold of ours when the
//! daemon that wanted it is dead, hung or stopped.
//!
//! ```text
//!   daemon -- a line on the reaper's standard input, often enough --> reaper
//!
//!             the lease runs out                     renewed
//!   watching --------------------> reaping ------------------------> watching
//!      |                             |  withdraws all of ours, looks again, until nothing is left
//!      |                             | nothing is left, and the daemon is gone or said to leave
//!      | told to leave               v
//!      +------------> reaping ----> (end)
//! ```
//!
//! It needs no list of routes: ours are found by their mark. It has read how to reach the daemons
//! before anything was announced, says so on its standard output, and needs no disk afterwards.
//!
//! A lease file names the reaper in charge. The reaper of a daemon that was started again writes its
//! own name there; the earlier one then leaves the backends that its successor looks after, so that
//! what is wanted again does not flap. A daemon that dies again and again before it can renew its
//! lease does not extend it: a reaper that follows one that was never renewed inherits its lease,
//! and if that has run out, it withdraws everything before it says that it is ready.
//!
//! Absent: ExaBGP through a [sidecar](crate::exabgp::sidecar), which withdraws by itself when the
//! daemon falls silent. And a guard against the death of daemon and reaper at once: then the routes
//! stay until the daemon starts again and finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::exabgp::ExabgpAccess;
use crate::external::{Change, Driver, ExternalConfig, ExternalError, Observation};

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(200);
/// Between two attempts to withdraw what is left.
const REAP_AGAIN: Duration = Duration::from_secs(1);
/// Before a reaper that ended is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Withdraws that are handed over together.
const BATCH: usize = 1000;
/// Longest work on one backend in one round.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a reaper that was told to leave. It goes on by itself.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a reaper that was started to be ready, and how much of it may go into ending a
/// lease that it has inherited.
const READY_LIMIT: Duration = Duration::from_secs(10);
const INHERITED_LIMIT: Duration = Duration::from_secs(5);
/// What it says then.
const READY: &str = "ready";

/// What a reaper is to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaperConfig {
    /// Without a renewal everything is withdrawn after this time. 60 s is usual.
    pub lease: Duration,
    /// Names the reaper in charge; `/run/tidegate/reaper.lease`.
    pub file: PathBuf,
    /// The routing daemons by their names.
    pub backends: BTreeMap<String, ExternalConfig>,
}

/// One line of the reaper's standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// The first.
    Watch(ReaperConfig),
    /// The daemon is alive.
    Renew,
    /// The daemon has withdrawn everything and ends.
    Leave,
}

/// Content of the lease file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct InCharge {
    /// Of the reaper.
    token: String,
    /// What it looks after.
    backends: BTreeSet<String>,
    /// Since when no reaper in charge was renewed, since the machine was started; `None` once this
    /// one was.
    #[serde(default)]
    unrenewed_since: Option<Duration>,
}

/// Why a reaper cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum ReaperError {
    /// The first line is no configuration.
    #[error("the reaper is started by the daemon, which tells it what to watch: {0}")]
    NoConfiguration(String),
    /// The lease file cannot be written.
    #[error("cannot write the lease file {}: {source}; is its folder there, and ours to write?", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// When the daemon was heard of last. Time is since the machine was started, sleep included.
#[derive(Clone, Copy, Debug)]
struct Lease {
    length: Duration,
    renewed: Duration,
}

impl Lease {
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.renewed) >= self.length
    }
}

fn boot_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// The reaper process: watches as told on `input`, which is standard input, until it is told to
/// leave or the daemon is gone, and nothing is left. Says on `output` when it is ready.
///
/// # Errors
/// [`ReaperError`] before it watches; afterwards it does not give up.
pub async fn run(
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), ReaperError> {
    let mut lines = BufReader::new(input).lines();
    let first = lines.next_line().await.map_err(|error| error.to_string());
    let first = first.and_then(|line| line.ok_or_else(|| "nothing was said".to_owned()));
    let read =
        first.and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()));
    let config = match read.map_err(ReaperError::NoConfiguration)? {
        Line::Watch(config) => config,
        other => return Err(ReaperError::NoConfiguration(format!("{other:?}"))),
    };
    let mut watch = Watch::begin(config)?;
    watch.end_inherited().await;
    // Who does not hear it starts another one.
    let _ = output.write_all(format!("{READY}\n").as_bytes()).await;
    let _ = output.flush().await;

    let mut attended = true;
    loop {
        if attended {
            // A line that is not there in time is there the next time: `next_line` loses nothing.
            match timeout(TICK, lines.next_line()).await {
                Ok(Ok(Some(line))) => match serde_json::from_str(&line) {
                    Ok(Line::Renew) => watch.renew(),
                    Ok(Line::Leave) => {
                        watch.lease.length = Duration::ZERO;
                        attended = false;
                    }
                    _ => tracing::warn!(%line, "not understood"),
                },
                Ok(Ok(None) | Err(_)) => attended = false,
                Err(_) => {}
            }
        } else {
            sleep(TICK).await;
        }
        if !watch.lease.is_over(boot_time()) {
            continue;
        }
        tracing::warn!("the lease is over: withdrawing everything");
        let clean = reap(&remaining(&watch.config, &watch.token)).await;
        if clean && !attended {
            return Ok(());
        }
        sleep(REAP_AGAIN).await;
    }
}

/// A reaper in charge.
struct Watch {
    config: ReaperConfig,
    token: String,
    lease: Lease,
    renewed: bool,
}

impl Watch {
    /// Takes charge. The lease begins now, or when that of a predecessor did that was never renewed.
    fn begin(config: ReaperConfig) -> Result<Self, ReaperError> {
        let now = boot_time();
        let token = format!("{} {now:?}", std::process::id());
        let inherited = in_charge(&config).and_then(|predecessor| predecessor.unrenewed_since);
        // Of an earlier boot, it says nothing.
        let since = inherited.filter(|since| *since <= now).unwrap_or(now);
        let lease = Lease { length: config.lease, renewed: since };
        take_charge(&config, &token, Some(since))?;
        Ok(Self { config, token, lease, renewed: false })
    }

    /// Ends an inherited lease that is over, so that nothing new is mistaken for what it left.
    async fn end_inherited(&mut self) {
        if !self.lease.is_over(boot_time()) {
            return;
        }
        tracing::warn!("the daemon ended again and again without control: withdrawing everything");
        let left = remaining(&self.config, &self.token);
        if timeout(INHERITED_LIMIT, reap(&left)).await == Ok(true) {
            self.lease.renewed = boot_time();
            self.write(Some(self.lease.renewed));
        }
    }

    fn renew(&mut self) {
        self.lease.renewed = boot_time();
        if !std::mem::replace(&mut self.renewed, true) {
            self.write(None);
        }
    }

    /// Without a disk the successor inherits more of the lease than it should, which withdraws too
    /// early rather than too late.
    fn write(&self, unrenewed_since: Option<Duration>) {
        let in_charge = in_charge(&self.config);
        if in_charge.is_none_or(|current| current.token == self.token)
            && let Err(error) = take_charge(&self.config, &self.token, unrenewed_since)
        {
            tracing::warn!(%error, "not noted that the lease was renewed");
        }
    }
}

fn in_charge(config: &ReaperConfig) -> Option<InCharge> {
    serde_json::from_str(&fs::read_to_string(&config.file).ok()?).ok()
}

fn take_charge(
    config: &ReaperConfig,
    token: &str,
    unrenewed_since: Option<Duration>,
) -> Result<(), ReaperError> {
    let backends = config.backends.keys().cloned().collect();
    let content = InCharge { token: token.to_owned(), backends, unrenewed_since };
    let text = serde_json::to_string(&content).unwrap_or_default();
    let beside = config.file.with_extension("new");
    let failed = |source| ReaperError::File { path: config.file.clone(), source };
    fs::write(&beside, text + "\n").map_err(failed)?;
    fs::rename(&beside, &config.file).map_err(failed)
}

/// The backends that no successor looks after, and that do not look after themselves.
fn remaining(config: &ReaperConfig, token: &str) -> BTreeMap<String, ExternalConfig> {
    let successor = in_charge(config).filter(|in_charge| in_charge.token != token);
    let taken = successor.map(|in_charge| in_charge.backends).unwrap_or_default();
    let own = config.backends.iter().filter(|(name, config)| {
        let sidecar = matches!(config, ExternalConfig::Exabgp(exabgp) if matches!(exabgp.access, ExabgpAccess::Sidecar { .. }));
        !sidecar && !taken.contains(*name)
    });
    own.map(|(name, config)| (name.clone(), config.clone())).collect()
}

/// One round; whether nothing of ours is left anywhere.
async fn reap(backends: &BTreeMap<String, ExternalConfig>) -> bool {
    let results = withdraw_all(backends).await;
    for (name, result) in &results {
        match result {
            Ok(0) => {}
            Ok(count) => tracing::warn!(backend = %name, count, "withdrawn"),
            Err(why) => tracing::error!(backend = %name, %why, "not withdrawn"),
        }
    }
    results.values().all(Result::is_ok)
}

/// Withdraws everything with our mark from all of these at once: how many routes each held, or why
/// something may be left. Needs nothing but their configuration.
pub async fn withdraw_all(
    backends: &BTreeMap<String, ExternalConfig>,
) -> BTreeMap<String, Result<usize, String>> {
    let mut tasks = JoinSet::new();
    for (name, config) in backends {
        let (name, config) = (name.clone(), config.clone());
        tasks.spawn(async move {
            let work = async { withdraw_ours(&config).await.map_err(|error| error.to_string()) };
            let late = |_| Err(format!("not within {ROUND_LIMIT:?}"));
            (name, timeout(ROUND_LIMIT, work).await.unwrap_or_else(late))
        });
    }
    let mut results = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        if let Ok((name, result)) = done {
            results.insert(name, result);
        }
    }
    // A task that stopped at a bug has said nothing.
    for name in backends.keys() {
        results.entry(name.clone()).or_insert_with(|| Err("the attempt was broken off".to_owned()));
    }
    results
}

/// What the routing daemon of `config` holds with our mark, and what competes with it.
///
/// # Errors
/// [`ExternalError`] if it cannot be asked.
pub async fn look(config: &ExternalConfig) -> Result<Observation, ExternalError> {
    let mut driver = config.driver();
    driver.connect().await?;
    driver.observe().await
}

async fn withdraw_ours(config: &ExternalConfig) -> Result<usize, ExternalError> {
    let mut driver = config.driver();
    driver.connect().await?;
    let ours = driver.observe().await?.ours;
    let changes: Vec<_> = ours.into_iter().map(|seen| Change::Withdraw(seen.nlri)).collect();
    for batch in changes.chunks(BATCH) {
        driver.apply(batch).await?;
    }
    let left = driver.observe().await?.ours.len();
    if left == 0 {
        return Ok(changes.len());
    }
    Err(ExternalError::Lost(format!("{left} routes are still held")))
}

/// The daemon's end: keeps a reaper running. Dropping it is no leave: the lease runs out.
#[derive(Debug)]
pub struct Reaper {
    lines: Sender<Line>,
    keeping: tokio::task::JoinHandle<()>,
}

impl Reaper {
    /// Starts `program` with `arguments` as a reaper, in a process group of its own, and again
    /// whenever it ends. When this returns the reaper is in charge: what is announced from now on
    /// is withdrawn by it.
    ///
    /// # Errors
    /// If it cannot be started the first time, or is not ready in time.
    pub async fn start(
        program: &Path,
        arguments: &[&str],
        config: ReaperConfig,
    ) -> io::Result<Self> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let start = Start { program: program.to_owned(), arguments, config };
        let child = start.child().await?;
        // Renewals are worth nothing later: what does not fit is dropped.
        let (lines, receiver) = mpsc::channel(4);
        Ok(Self { lines, keeping: tokio::spawn(keep(start, child, receiver)) })
    }

    /// Says that the daemon is alive and in control. To be called several times in a lease, and
    /// only by what drives the reconciler, once it has compared what the backends hold.
    pub fn renew(&self) {
        // One that does not read in time will be told the next time.
        drop(self.lines.try_send(Line::Renew));
    }

    /// Lets it look once more, and end; waits for that for a bounded time. If something is left
    /// then, the reaper goes on without us.
    pub async fn leave(self) {
        let leave = async {
            if self.lines.send(Line::Leave).await.is_ok() {
                drop(self.keeping.await);
            }
        };
        if timeout(LEAVE_LIMIT, leave).await.is_err() {
            tracing::warn!("the reaper has not ended yet; it goes on by itself");
        }
    }
}

struct Start {
    program: PathBuf,
    arguments: Vec<String>,
    config: ReaperConfig,
}

impl Start {
    /// A reaper that is ready.
    async fn child(&self) -> io::Result<Attended> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A signal to the daemon's group is not for it.
        command.process_group(0).kill_on_drop(false);
        let mut process = command.spawn()?;
        let ended = || io::Error::new(io::ErrorKind::BrokenPipe, "the reaper ended at once");
        let (stdin, stdout) = process.stdin.take().zip(process.stdout.take()).ok_or_else(ended)?;
        let mut child = Attended { process, stdin };
        let ready = async {
            child.say(&Line::Watch(self.config.clone())).await?;
            let first = BufReader::new(stdout).lines().next_line().await?;
            if first.as_deref() == Some(READY) { Ok(()) } else { Err(ended()) }
        };
        match timeout(READY_LIMIT, ready).await {
            Ok(ready) => ready.map(|()| child),
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the reaper is not ready in time"))
            }
        }
    }
}

/// A reaper and its standard input, without which it ends by itself when there is nothing left to
/// do.
struct Attended {
    process: Child,
    stdin: ChildStdin,
}

impl Attended {
    async fn say(&mut self, line: &Line) -> io::Result<()> {
        let text = serde_json::to_string(line).unwrap_or_default() + "\n";
        self.stdin.write_all(text.as_bytes()).await
    }
}

/// Passes lines on to the reaper, and starts it again when it ends.
async fn keep(start: Start, mut child: Attended, mut lines: Receiver<Line>) {
    loop {
        if attend(child, &mut lines).await || lines.is_closed() {
            return;
        }
        tracing::error!("the reaper ended; starting it again");
        child = loop {
            sleep(RESTART_AFTER).await;
            match start.child().await {
                Ok(child) => break child,
                Err(error) => tracing::error!(%error, "the reaper cannot be started"),
            }
        };
    }
}

/// Whether it was told to leave, and did.
async fn attend(mut child: Attended, lines: &mut Receiver<Line>) -> bool {
    loop {
        tokio::select! {
            line = lines.recv() => {
                let leaving = line == Some(Line::Leave);
                let said = match &line {
                    Some(line) => child.say(line).await.is_ok(),
                    None => false,
                };
                if leaving || !said {
                    let Attended { mut process, stdin } = child;
                    drop(stdin);
                    drop(process.wait().await);
                    return leaving && said;
                }
            }
            _ = child.process.wait() => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bird::BirdConfig;

    fn config(file: &Path, names: &[&str]) -> ReaperConfig {
        let backend = ExternalConfig::Bird(BirdConfig {
            control: "/nonexistent/bird.ctl".into(),
            ..BirdConfig::default()
        });
        let backends = names.iter().map(|name| (name.to_string(), backend.clone())).collect();
        ReaperConfig { lease: Duration::from_secs(60), file: file.to_owned(), backends }
    }

    #[test]
    fn a_lease_is_over_when_nobody_renewed_it() {
        let lease = Lease { length: Duration::from_secs(60), renewed: Duration::from_secs(100) };
        for (now, over) in [(100, false), (159, false), (160, true), (90, false), (100_000, true)] {
            assert_eq!(lease.is_over(Duration::from_secs(now)), over, "{now}");
        }
    }

    #[test]
    fn lines_can_be_read_back() {
        let lines = [Line::Watch(config(Path::new("/x"), &["a"])), Line::Renew, Line::Leave];
        for line in lines {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
        for text in ["", "{}", "\"watch\"", "{\"watch\":{}}", "{\"renew\":1}", "[]", "\"die\""] {
            assert!(serde_json::from_str::<Line>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_successor_takes_over_what_it_names() {
        let file = std::env::temp_dir().join(format!("tidegate-lease-{}", std::process::id()));
        let names = |token: &str| {
            remaining(&config(&file, &["a", "b"]), token).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names("first"), ["a", "b"]);
        take_charge(&config(&file, &["a", "b"]), "first", None).unwrap();
        assert_eq!(names("first"), ["a", "b"]);
        take_charge(&config(&file, &["b", "c"]), "second", None).unwrap();
        assert_eq!(names("first"), ["a"]);
        fs::write(&file, "\u{0}nonsense").unwrap();
        assert_eq!(names("first"), ["a", "b"]);
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn who_is_never_renewed_passes_its_lease_on() {
        let file = std::env::temp_dir().join(format!("tidegate-loop-{}", std::process::id()));
        let begin = || Watch::begin(config(&file, &["a"])).unwrap();
        let first = begin();
        let second = begin();
        assert_eq!(second.lease.renewed, first.lease.renewed);
        let mut third = begin();
        assert_eq!(third.lease.renewed, first.lease.renewed);
        third.renew();
        assert!(begin().lease.renewed > first.lease.renewed);
        // What an earlier boot left says nothing.
        take_charge(&third.config, "x", Some(Duration::MAX)).unwrap();
        assert!(begin().lease.renewed <= boot_time());
        fs::remove_file(&file).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_withdrawn_is_tried_again_after_leave() {
        let file = std::env::temp_dir().join(format!("tidegate-leave-{}", std::process::id()));
        let watch = serde_json::to_string(&Line::Watch(config(&file, &["a"]))).unwrap();
        let text = format!("{watch}\n\"leave\"\n");
        let going = timeout(Duration::from_secs(3), run(text.as_bytes(), Vec::new()));
        assert!(going.await.is_err(), "it gave up");
        fs::remove_file(&file).unwrap();
    }

    #[tokio::test]
    async fn without_a_configuration_there_is_no_reaper() {
        for text in ["", "\n", "\"renew\"\n", "{\"watch\":1}\n"] {
            let result = run(text.as_bytes(), Vec::new()).await;
            assert!(matches!(result, Err(ReaperError::NoConfiguration(_))), "{text}");
        }
        let nowhere = config(Path::new("/nonexistent/lease"), &[]);
        let text = serde_json::to_string(&Line::Watch(nowhere)).unwrap();
        let result = run(text.as_bytes(), Vec::new()).await;
        assert!(matches!(result, Err(ReaperError::File { .. })));
    }

    #[tokio::test]
    async fn what_cannot_be_reached_is_not_called_clean() {
        let backends = config(Path::new("/x"), &["a"]).backends;
        let results = withdraw_all(&backends).await;
        assert!(results["a"].as_ref().is_err_and(|why| why.contains("/nonexistent/bird.ctl")));
    }
}
