//! The live daemon: capture thread, engine task, backends, signals.
//!
//! ```text
//!  capture thread --summaries--> engine task --commands--> backends
//!                                 ^   |  ^---- reports -------+
//!                 signals --------+   +--events--> printer thread
//! ```
//!
//! Every arrow is a bounded queue. The capture thread and the engine task never wait for a slower
//! neighbour: a summary that finds no room makes the next one say that the reader was blind, an
//! event that finds none is counted.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;
use tidegate_adapters::BackendEvent;
use tidegate_detector::TrafficSummary;
use tidegate_detector::capture::live::{CaptureControl, Intake, LiveCapture, Recording};
use tidegate_model::{BackendState, Timestamp};
use tidegate_policy::Policy;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};

use crate::api::{Applied, Asks, Door};
use crate::backends::{Backends, FIRST_RENEWAL, RENEW_INTERVAL};
use crate::baselines;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::{Engine, EngineInput, EngineOutput};
use crate::event::{Event, EventKind};
use crate::forensics::{self, Archive, Desk};
use crate::incident::{self, Note, RecorderHandle, Records};
use crate::notify::Progress;
use crate::output::{Printer, fields};
use crate::pipeline;
use crate::reload::{Reloaded, Reloader};
use crate::sources;

mod asked;

/// Summaries between capture and engine: over half a second of ticks.
const SUMMARY_QUEUE: usize = 64;

/// Events between engine and printer.
const EVENT_QUEUE: usize = 4096;

/// How long a planned stop waits for the withdrawals to be confirmed.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// How long the last lines may take to be printed. A reader that takes none keeps nobody here.
const PRINT_DEADLINE: Duration = Duration::from_secs(1);

/// How often backends that can tell are asked what they hold.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the recorder is told the rates of attacks, and of how many at once.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_SAMPLED: usize = 256;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A system call that everything depends on failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Without packets there is nothing to decide by. Everything was withdrawn.
    #[error("the capture thread ended; everything was withdrawn")]
    CaptureEnded,
    /// A database of addresses cannot be used.
    #[error(transparent)]
    GeoIp(#[from] tidegate_detector::census::geoip::GeoIpError),
    /// A backend cannot be started.
    #[error(transparent)]
    Backends(#[from] crate::backends::StartError),
}

/// What the daemon has open before it begins.
pub struct Running {
    /// What the configuration file says, and where it is.
    pub config: (Config, PathBuf),
    /// The policy in force.
    pub policy: Arc<Policy>,
    /// The open capture.
    pub capture: LiveCapture,
    /// Where the packets of incidents are written, if anywhere.
    pub forensics: Option<Archive>,
    /// Who keeps the incidents and tells people, if anyone.
    pub records: Option<Records>,
    /// The started backends, and where they report.
    pub backends: Backends,
    /// What people and programs ask, and where they are told.
    pub asks: (Asks, Door),
    /// The clock that capture, engine and output share.
    pub clock: Clock,
    /// Seed of hashing and jitter: unknown to an attacker.
    pub seed: u64,
}

/// Runs until SIGTERM or SIGINT, then withdraws everything.
///
/// # Errors
/// [`RunError`] if a thread or a signal handler cannot be set up, or the capture ended by itself.
pub async fn run<W: Write + Send + 'static>(
    running: Running,
    printer: Printer<W>,
) -> Result<(), RunError> {
    let system = |what| move |source| RunError::System { what, source };
    let mut signals = Signals::handle()?;
    let Running { config, policy, capture, forensics, records, backends, asks, clock, seed } =
        running;
    let ((asks, door), (config, path)) = (asks, config);
    let recorder = records.as_ref().map(|records| records.recorder.handle());

    let (mut events, printed) =
        start_printer(printer).map_err(system("start the printer thread"))?;
    events.send(started_line(&policy, &capture, clock));

    let stop = Arc::new(AtomicBool::new(false));
    let started = forensics.map(|archive| start_forensics(archive, clock, &events, &recorder));
    let (recording, desk) =
        started.transpose().map_err(system("start the forensics thread"))?.unzip();
    let labels = config.databases.open()?;
    let capture_threads = (capture.control(), capture.workers());
    let counted = recorder.clone().map(|to| sources::start(capture_threads, labels, clock, to));
    let (counting, sources) =
        counted.transpose().map_err(system("start the thread that counts sources"))?.unzip();
    let intake = Intake {
        config: pipeline::detector_config(&policy),
        seed,
        tunnels: config.tunnels,
        recording,
        counting,
    };
    let protection = capture.control();
    let (summaries, summary_queue) = mpsc::channel(SUMMARY_QUEUE);
    let capturing = start_capture(capture, intake, clock, Arc::clone(&stop), summaries)
        .map_err(system("start the capture thread"))?;

    let mut engine = Engine::new(&policy, seed);
    let learned = baselines::start(config.state.as_deref(), &mut engine, clock.now())
        .map_err(system("start the thread that keeps baselines"))?;
    let reloader = Reloader::start(config, path, Arc::clone(&policy))
        .map_err(system("start the thread that reads the policy"))?;
    let mut control = Control {
        engine,
        learned,
        backends,
        door,
        progress: Progress::ready(),
        protection,
        reloader,
        clock,
        events,
        desk,
        sources,
        recorder,
    };
    let ended = control.serve(summary_queue, asks, &mut signals).await;
    let stopped = control.stop(&mut signals).await;
    stop.store(true, Ordering::Relaxed);
    if capturing.join().is_err() {
        tracing::error!("the capture thread panicked");
    }
    control.close(stopped, records);
    if printed.recv_timeout(PRINT_DEADLINE) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!("standard output takes nothing; the last lines are not printed");
    }
    match ended {
        Ending::Signal => Ok(()),
        Ending::Capture => Err(RunError::CaptureEnded),
    }
}

/// The thread that prints, its queue, and what closes when it ends.
fn start_printer<W: Write + Send + 'static>(
    printer: Printer<W>,
) -> Result<(EventSender, Receiver<()>), io::Error> {
    let (queue, event_queue) = sync_channel(EVENT_QUEUE);
    // Nothing is ever sent here: it closes when the printer thread ends.
    let (printing, printed) = sync_channel::<()>(0);
    thread::Builder::new().name("printer".to_owned()).spawn(move || {
        let _printing = printing;
        print_events(&event_queue, printer);
    })?;
    Ok((EventSender { queue, lost: 0 }, printed))
}

fn started_line(policy: &Policy, capture: &LiveCapture, clock: Clock) -> Line {
    Line::Note {
        time: clock.now(),
        name: "started",
        text: started_text(policy, capture),
        fields: json!({
            "interfaces": capture.interfaces(),
            "peers": policy.peers.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>(),
            "policy": policy.revision.as_ref().map(ToString::to_string),
        }),
    }
}

fn started_text(policy: &Policy, capture: &LiveCapture) -> String {
    let peers: Vec<String> = policy
        .peers
        .iter()
        .map(|peer| format!("{} ({}, AS {})", peer.name, peer.location, peer.asn))
        .collect();
    let peers = if peers.is_empty() { "no peers".to_owned() } else { peers.join(", ") };
    let commit = policy.revision.as_ref();
    let commit = commit.map(|revision| format!("; policy commit {revision}")).unwrap_or_default();
    format!(
        "watching {} for {} owned prefix{}; {peers}{commit}",
        capture.interfaces().join(", "),
        policy.space.owned.len(),
        if policy.space.owned.len() == 1 { "" } else { "es" },
    )
}

/// Closes the records, and sends what can still be sent.
fn finish_records(records: Option<Records>, now: Timestamp) {
    if records.is_some_and(|records| !records.recorder.finish(now, incident::FINISH)) {
        tracing::warn!("not every record was written or told in time");
    }
}

/// The thread that writes the packets of incidents, and who tells it of them.
fn start_forensics(
    archive: Archive,
    clock: Clock,
    events: &EventSender,
    recorder: &Option<RecorderHandle>,
) -> Result<(Recording, Desk), io::Error> {
    let recorder = recorder.clone();
    let mut events = EventSender { queue: events.queue.clone(), lost: 0 };
    forensics::start(archive, move |note| {
        if let (Some(recorder), forensics::Note::Written { attack, path, .. }) = (&recorder, &note)
        {
            recorder.file(clock.now(), *attack, path.clone());
        }
        let (name, text, fields) = note.describe();
        events.send(Line::Note { time: clock.now(), name, text, fields });
    })
}

fn start_capture(
    capture: LiveCapture,
    intake: Intake,
    clock: Clock,
    stop: Arc<AtomicBool>,
    summaries: mpsc::Sender<TrafficSummary>,
) -> Result<JoinHandle<()>, io::Error> {
    thread::Builder::new().name("capture".to_owned()).spawn(move || {
        let mut missed = false;
        capture.run(
            &intake,
            move || clock.now(),
            &stop,
            |mut summary| {
                // The engine was told nothing of the ticks that found no room: it was blind.
                summary.blind |= missed;
                missed = summaries.try_send(summary).is_err();
            },
        );
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn handle() -> Result<Self, RunError> {
        let handle = |kind, what| signal(kind).map_err(|source| RunError::System { what, source });
        Ok(Self {
            terminate: handle(SignalKind::terminate(), "handle SIGTERM")?,
            interrupt: handle(SignalKind::interrupt(), "handle SIGINT")?,
            hangup: handle(SignalKind::hangup(), "handle SIGHUP")?,
        })
    }
}

/// Why serving ended.
enum Ending {
    Signal,
    Capture,
}

/// What is known of the routes after a stop.
enum Stop {
    /// Every backend has said that it holds nothing any more.
    Confirmed,
    Unconfirmed,
}

/// The owner of engine and backends.
struct Control {
    engine: Engine,
    /// Keeps what the engine's detector has learned.
    learned: Option<baselines::Keeper>,
    backends: Backends,
    /// Where people and programs are told what they ask.
    door: Door,
    /// What systemd is told.
    progress: Progress,
    /// Tells the capture what is protected.
    protection: CaptureControl,
    reloader: Reloader,
    clock: Clock,
    events: EventSender,
    /// Who is told of attacks, to write their packets.
    desk: Option<Desk>,
    /// Who is told of attacks, to count their sources.
    sources: Option<sources::Desk>,
    /// Who is told of everything, to keep it and to tell people.
    recorder: Option<RecorderHandle>,
}

impl Control {
    /// Serves until told to stop.
    async fn serve(
        &mut self,
        mut summaries: mpsc::Receiver<TrafficSummary>,
        mut asks: Asks,
        signals: &mut Signals,
    ) -> Ending {
        let mut observation = tokio::time::interval(OBSERVE_INTERVAL);
        let mut sampling = tokio::time::interval(SAMPLE_INTERVAL);
        let mut renewal = interval_at(Instant::now() + FIRST_RENEWAL, RENEW_INTERVAL);
        let left_behind = self.backends.take_left_behind();
        self.handle(EngineInput::LeftBehind(left_behind));
        loop {
            let wait = self.until_timeout();
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => return Ending::Signal,
                _ = signals.interrupt.recv() => return Ending::Signal,
                _ = signals.hangup.recv() => drop(self.reloader.request()),
                Some(ask) = asks.urgent.recv() => self.answer(ask),
                reloaded = self.reloader.answer() => self.take_reloaded(reloaded),
                Some(event) = self.backends.event() => self.take(event),
                summary = summaries.recv() => match summary {
                    Some(summary) => {
                        self.door.summary(self.clock.now(), &summary);
                        self.handle(EngineInput::Summary(&summary));
                    }
                    None => {
                        tracing::error!("the capture thread ended; stopping");
                        return Ending::Capture;
                    }
                },
                _ = observation.tick() => {
                    self.handle(EngineInput::Wall(Clock::unix_seconds()));
                    self.backends.observe_all();
                    if let Some(learned) = &mut self.learned {
                        learned.tick(&self.engine, self.clock.now());
                    }
                }
                _ = renewal.tick() => self.backends.renew(),
                _ = sampling.tick() => {
                    self.sample();
                    self.door.continue_audit(self.clock.now());
                }
                // Behind everything else: no number of clients delays a tick.
                Some(ask) = asks.others.recv() => self.answer(ask),
                () = tokio::time::sleep(wait) => self.handle(EngineInput::Timeout),
            }
        }
    }

    /// Tells the recorder the rates of the attacks that go on, so that it sees what helps.
    fn sample(&self) {
        self.backends.observe_counting();
        let Some(recorder) = &self.recorder else { return };
        let now = self.clock.now();
        for attack in self.engine.attacks().take(MAX_SAMPLED) {
            recorder.note(now, Note::Traffic { attack: attack.id, rate: attack.current });
        }
    }

    /// How long the engine has nothing to do by itself.
    fn until_timeout(&self) -> Duration {
        let timeout = self.engine.poll_timeout();
        timeout.map_or(Duration::from_secs(1), |at| at.since(self.clock.now()))
    }

    /// Withdraws everything, waits for the answers, and closes the sessions. Who asks a second time
    /// does not want to wait for answers.
    async fn stop(&mut self, signals: &mut Signals) -> Stop {
        self.progress.stopping();
        self.handle(EngineInput::Shutdown);
        let confirmed = tokio::time::timeout(STOP_DEADLINE, async {
            while !self.engine.is_withdrawn() {
                // A withdraw that failed is tried again, also now.
                let wait = self.until_timeout();
                tokio::select! {
                    biased;
                    _ = signals.terminate.recv() => return,
                    _ = signals.interrupt.recv() => return,
                    Some(event) = self.backends.event() => self.take(event),
                    () = tokio::time::sleep(wait) => self.handle(EngineInput::Timeout),
                }
            }
        });
        let confirmed = confirmed.await.is_ok() && self.engine.is_withdrawn();
        if !confirmed {
            tracing::warn!(
                "not every withdrawal was confirmed; closing the sessions drops the rest"
            );
        }
        self.backends.shutdown("tidegate is stopping").await;
        if confirmed { Stop::Confirmed } else { Stop::Unconfirmed }
    }

    /// The routes are gone: now there is time for files, records and messages.
    fn close(mut self, stopped: Stop, records: Option<Records>) {
        if let Some(desk) = self.desk.take() {
            desk.close(PRINT_DEADLINE);
        }
        if let Some(learned) = self.learned.take() {
            learned.finish(&self.engine);
        }
        let time = self.clock.now();
        finish_records(records, time);
        let text = match stopped {
            Stop::Confirmed => "stopped: everything is withdrawn",
            Stop::Unconfirmed => {
                "stopped: not every withdrawal was confirmed before the sessions ended"
            }
        };
        let (text, fields) = (text.to_owned(), json!({}));
        self.events.send(Line::Note { time, name: "stopped", text, fields });
    }

    fn take_reloaded(&mut self, (number, reloaded): (u64, Reloaded)) {
        let applied = match &reloaded {
            Reloaded::Policy(_) => Applied::Applied,
            Reloaded::Same => Applied::Unchanged,
            Reloaded::Refused(why) => Applied::Refused(why.clone()),
        };
        let (name, text, fields) = match reloaded {
            Reloaded::Policy(policy) => {
                // The backends first: what the engine asks for under the new policy must not be
                // judged by the old one.
                self.backends.set_policy(&policy);
                self.handle(EngineInput::Policy(Arc::clone(&policy)));
                self.protection.protect(pipeline::detector_config(&policy));
                let commit = policy.revision.as_ref().map(ToString::to_string);
                let shown =
                    commit.as_deref().map(|it| format!(", commit {it}")).unwrap_or_default();
                let text = format!("the policy was loaded anew{shown}");
                ("policy-loaded", text, json!({ "policy": commit }))
            }
            Reloaded::Same => {
                ("policy-unchanged", "the policy is the one in force".to_owned(), json!({}))
            }
            Reloaded::Refused(why) => {
                let text = format!("the policy is refused, the one in force stays:\n{why}");
                ("policy-refused", text, json!({ "why": why }))
            }
        };
        let time = self.clock.now();
        self.events.send(Line::Note { time, name, text, fields });
        self.door.policy_read(number, &applied);
    }

    fn take(&mut self, event: BackendEvent) {
        let input = match event {
            BackendEvent::Learnt(change) => return self.backends.learnt(*change),
            BackendEvent::Outcome(outcome) => EngineInput::Outcome(outcome),
            BackendEvent::State { backend, state } => {
                if state == BackendState::Up {
                    self.backends.observe(&backend);
                }
                EngineInput::Backend(backend, state)
            }
            BackendEvent::Observed { backend, held } => {
                self.door.observed(self.clock.now(), &backend, &held, &self.engine);
                let rates = self.backends.rates(self.clock.now(), &held);
                if !rates.is_empty() {
                    self.handle(EngineInput::Counters(backend.clone(), rates));
                }
                let held = held.into_iter().map(|held| held.nlri).collect();
                EngineInput::Observed(backend, held)
            }
        };
        self.handle(input);
    }

    fn handle(&mut self, input: EngineInput<'_>) {
        let outputs = self.engine.handle(self.clock.now(), input);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<EngineOutput>) {
        self.progress.step();
        for output in outputs {
            match output {
                EngineOutput::Command(command) => self.backends.send(command),
                EngineOutput::Event(event) => {
                    self.backends.note(&event);
                    if let (Some(desk), EventKind::Attack(attack)) = (&mut self.desk, &event.kind) {
                        desk.report(attack, event.policy.as_ref());
                    }
                    if let Some(recorder) = &self.recorder {
                        recorder.event(&event);
                    }
                    // After the recorder: a note belongs to a record.
                    if let (Some(sources), EventKind::Attack(attack)) =
                        (&mut self.sources, &event.kind)
                    {
                        sources.report(attack);
                    }
                    self.door.event(&event);
                    self.events.send(Line::Event(event));
                }
            }
        }
    }
}

/// What the printer thread prints.
enum Line {
    Event(Event),
    Note { time: Timestamp, name: &'static str, text: String, fields: serde_json::Value },
}

/// The engine's end of the event queue. Never waits.
struct EventSender {
    queue: SyncSender<Line>,
    lost: u64,
}

impl EventSender {
    fn send(&mut self, line: Line) {
        match self.queue.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                if self.lost.is_power_of_two() {
                    tracing::warn!(lost = self.lost, "output is slow: events are not printed");
                }
            }
            Err(TrySendError::Disconnected(_)) => self.lost += 1,
        }
    }
}

/// Prints until the queue closes. A stream that cannot be written costs the output, nothing else.
fn print_events<W: Write>(queue: &Receiver<Line>, mut printer: Printer<W>) {
    while let Ok(line) = queue.recv() {
        let printed = match line {
            Line::Event(event) => printer.event(&event),
            Line::Note { time, name, text, fields: extra } => {
                printer.note(time, name, &text, fields(extra))
            }
        };
        if let Err(error) = printed.and_then(|()| printer.flush()) {
            tracing::warn!(%error, "cannot write to standard output; tidegate goes on silently");
            break;
        }
    }
}
