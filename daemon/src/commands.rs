//! The subcommands: what they print and how they exit.

mod helpers;
mod import;
mod logging;
mod operate;
mod policy;

use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, ErrorKind, IsTerminal};
use std::mem::take;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use tidegate_detector::capture::live::LiveCapture;
use tidegate_detector::packet::Tunnels;
use tidegate_policy::Report;

use crate::api::{self, About, Desk};
use crate::backends::Backends;
use crate::cli::{Check, Cli, CommandLine, Replay, Run};
use crate::clock::{Clock, WallOrigin};
use crate::config::{self, LogFormat};
use crate::forensics::{Archive, Context, Settings};
use crate::incident::{self, Recent, WallTime};
use crate::metrics::{self, Counters};
use crate::output::{Format, Printer, Updates};
use crate::policy_repo::{LoadError, PolicyRepo};
use crate::privilege;
use crate::replay::{ReplayError, replay_into};
use crate::run::{self, Running};

/// The command line, the configuration, the policy or the capture is wrong.
const BAD_INPUT: u8 = 2;

/// The daemon is not running or does not answer.
const UNREACHABLE: u8 = 3;

/// Whoever asks may not.
const FORBIDDEN: u8 = 4;

/// Runs the command and says how it ended.
#[must_use]
pub fn main(cli: &Cli) -> ExitCode {
    let ended = match &cli.command {
        CommandLine::Run(arguments) => run(arguments),
        CommandLine::Replay(arguments) => replay_file(arguments),
        CommandLine::Check(arguments) => check(arguments),
        CommandLine::Policy(command) => policy::policy(command),
        CommandLine::Adapters(command) => helpers::adapters(command),
        CommandLine::Init(arguments) => import::init(arguments),
        CommandLine::Import(command) => import::import(command),
        CommandLine::Reaper => helpers::reap(),
        CommandLine::ExabgpSidecar(arguments) => helpers::relay(arguments),
        other => operate::operate(other),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Why a command ends without success.
enum Failure {
    /// Mistakes in configuration or policy.
    Text(Report),
    /// Anything else that is wrong with what was given.
    BadInput(String),
    /// The reader of our output went away: nothing is wrong.
    Closed,
    /// Something failed while running.
    Running(String),
    /// The daemon cannot be reached.
    Unreachable(String),
    /// The daemon will not, for this user.
    Forbidden(String),
    /// The mistakes have been printed already.
    Told,
    /// What was asked for was found, and has been printed: a test that fails, a difference.
    Found,
}

impl Failure {
    fn report(self) -> ExitCode {
        match self {
            Self::Text(report) => {
                if io::stderr().is_terminal() {
                    let report = miette::Report::new(report.into_terminal());
                    eprintln!("{report:?}");
                } else {
                    eprintln!("{report}");
                }
                ExitCode::from(BAD_INPUT)
            }
            Self::BadInput(message) => {
                eprintln!("tidegate: {message}");
                ExitCode::from(BAD_INPUT)
            }
            Self::Running(message) => {
                eprintln!("tidegate: {message}");
                ExitCode::FAILURE
            }
            Self::Unreachable(message) => {
                eprintln!("tidegate: {message}");
                ExitCode::from(UNREACHABLE)
            }
            Self::Forbidden(message) => {
                eprintln!("tidegate: {message}");
                ExitCode::from(FORBIDDEN)
            }
            Self::Told => ExitCode::from(BAD_INPUT),
            Self::Found => ExitCode::FAILURE,
            Self::Closed => ExitCode::SUCCESS,
        }
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Text(report)
    }
}

fn format(json: bool) -> Format {
    if json { Format::Json } else { Format::People }
}

fn replay_file(arguments: &Replay) -> Result<(), Failure> {
    let policy = PolicyRepo::new(arguments.policy.clone()).load(None);
    let policy = Arc::new(policy.map_err(LoadError::into_report)?);
    let updates = if arguments.updates { Updates::Shown } else { Updates::Hidden };
    let stdout = BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
    let printer = Printer::new(stdout, format(arguments.json), updates, WallOrigin::EPOCH);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let context = Context {
        interfaces: vec![name(&arguments.capture)],
        tunnels: Tunnels::NONE,
        wall: WallOrigin::EPOCH,
    };
    let forensics = arguments.forensics.clone().map(Settings::new);
    let forensics = forensics.map(|settings| open_archive(settings, context)).transpose()?;
    replay_into(&arguments.capture, &policy, printer, forensics).map_err(|error| match error {
        ReplayError::Capture(error) => Failure::BadInput(error.to_string()),
        ReplayError::Output(error) if error.kind() == ErrorKind::BrokenPipe => Failure::Closed,
        ReplayError::Output(_) => Failure::Running(error.to_string()),
    })
}

fn check(arguments: &Check) -> Result<(), Failure> {
    let mut report = Report::default();
    let mut good = Vec::new();
    if let Some(path) = &arguments.config {
        match config::load(path) {
            Ok((_, policy)) => good.push((path, policy)),
            Err(mistakes) => report.extend(mistakes),
        }
    }
    if let Some(path) = &arguments.policy {
        match PolicyRepo::new(path.clone()).load(None) {
            Ok(policy) => good.push((path, policy)),
            Err(error) => report.extend(error.into_report()),
        }
    }
    if arguments.json {
        let errors: Vec<_> = report.diagnostics().iter().map(diagnostic).collect();
        println!("{}", json!({ "ok": report.is_empty(), "errors": errors }));
        return if report.is_empty() { Ok(()) } else { Err(Failure::Told) };
    }
    if !report.is_empty() {
        return Err(Failure::Text(report));
    }
    for (path, policy) in good {
        println!(
            "{}: good: {}, {}, {}, {}",
            path.display(),
            count(policy.space.owned.len(), "owned prefix", "owned prefixes"),
            count(policy.groups.len(), "group", "groups"),
            count(policy.responses.len(), "response", "responses"),
            count(policy.peers.len(), "peer", "peers"),
        );
        if let Some(revision) = &policy.revision {
            println!("policy commit {revision}");
        }
    }
    Ok(())
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn diagnostic(diagnostic: &tidegate_policy::Diagnostic) -> serde_json::Value {
    let (line, column) = diagnostic.position();
    json!({
        "file": diagnostic.file,
        "line": line,
        "column": column,
        "message": diagnostic.message,
        "help": diagnostic.help,
    })
}

fn run(arguments: &Run) -> Result<(), Failure> {
    let (config, policy) = config::load(&arguments.config)?;
    if let Some(user) = &config.user {
        privilege::become_user(user).map_err(|error| Failure::BadInput(error.to_string()))?;
    }
    let _logging = start_logging(config.log);
    let policy = Arc::new(policy);
    let mut options = config.capture.clone();
    if let Some(interface) = &arguments.interface {
        options.interfaces = vec![interface.clone()];
    }
    let capture =
        LiveCapture::open(&options).map_err(|error| Failure::BadInput(error.to_string()))?;
    let clock = Clock::start();
    let interfaces: Vec<String> = capture.interfaces().iter().map(ToString::to_string).collect();
    let about = About {
        interfaces: interfaces.clone(),
        directory: config.policy.directory.clone(),
        store: config.records.store.as_ref().map(|store| store.path.clone()),
    };
    let context = Context { interfaces, tunnels: config.tunnels, wall: clock.wall() };
    let forensics = config.forensics.clone().map(|settings| open_archive(settings, context));
    let forensics = forensics.transpose()?;
    let recent = Arc::new(Recent::default());
    let shown = Some(Arc::clone(&recent));
    let mut records =
        incident::start(&config.records, shown, clock.wall(), WallTime::at(&clock))
            .map_err(|error| Failure::Running(format!("cannot record incidents: {error}")))?;
    let stdout = anstream::AutoStream::auto(io::stdout());
    let printer = Printer::new(stdout, format(arguments.json), Updates::Hidden, clock.wall());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Running(format!("cannot start the runtime: {error}")))?;
    // A seed that an attacker cannot know, so that hash collisions cannot be prepared.
    let seed = RandomState::new().hash_one("tidegate");
    runtime.block_on(async {
        let journal =
            records.as_mut().map(|records| (records.journal.take(), take(&mut records.held)));
        let backends = Backends::start(&policy, &config, journal.unwrap_or_default(), seed)
            .await
            .map_err(|error| Failure::Running(error.to_string()))?;
        let counters = Arc::new(Counters::default());
        let (engine, asks, door) = api::connect(Arc::clone(&counters));
        let failed = |error: &dyn std::error::Error| Failure::Running(error.to_string());
        let serve = |address| metrics::start(address, counters, engine.clone(), backends.speaker());
        let _metrics = config.metrics.map(serve).transpose().map_err(|error| failed(&error))?;
        let desk = Desk::new(engine, backends.speaker(), recent, clock, about);
        let _api =
            api::start(&config.api, desk).map_err(|error| Failure::Running(error.to_string()))?;
        let config = (config, arguments.config.clone());
        let asks = (asks, door);
        let running =
            Running { config, policy, capture, forensics, records, backends, asks, clock, seed };
        run::run(running, printer).await.map_err(|error| Failure::Running(error.to_string()))
    })
}

fn open_archive(settings: Settings, context: Context) -> Result<Archive, Failure> {
    let directory = settings.directory.display().to_string();
    Archive::open(settings, context).map_err(|error| {
        Failure::BadInput(format!("cannot keep forensic captures in {directory}: {error}"))
    })
}

/// Logs go to standard error; `RUST_LOG` selects them, warnings and errors by default. Whoever logs
/// does not wait for a slow reader: what finds no room is dropped. What is returned writes the rest
/// when it is dropped.
fn start_logging(format: LogFormat) -> tracing_appender::non_blocking::WorkerGuard {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .from_env_lossy();
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
        LogFormat::Journald => lines.event_format(logging::Journald).init(),
    }
    guard
}
