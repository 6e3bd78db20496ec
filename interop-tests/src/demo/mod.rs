//! The demonstration: the whole story of two attacks, told with times that come from a router.
//!
//! ```text
//!   internet ------- tidegate ------- router
//!   traffic          tidegate run     BIRD
//! ```
//!
//! [`stage`] sets this up, [`story`] turns what was seen into a timeline, [`show`] prints it. The
//! demonstration succeeds only if BIRD held the expected route of each attack, and nothing else,
//! and in the end held none.

mod send;
pub mod show;
pub mod stage;
pub mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use show::Screen;
use stage::{Programs, Stage};
use story::{Expected, Plan, Step, Story};

use crate::lab::{self, LabError, POLL_INTERVAL, Process};
use crate::traffic::Stream;

/// Shows a flood being detected, and its route appear in BIRD and go again.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Prints one JSON object a line instead of the timeline.
    #[arg(long)]
    json: bool,
    /// The daemon to show; left out: the one beside this program.
    #[arg(long, value_name = "FILE")]
    tidegate: Option<PathBuf>,
    /// Keeps the folder with configurations and logs.
    #[arg(long)]
    keep: bool,
    /// Used by the demonstration itself, inside a namespace: sends one stream.
    #[arg(long, hide = true, value_name = "STREAM", requires = "interface")]
    send: Option<Stream>,
    /// Where `--send` sends.
    #[arg(long, hide = true, value_name = "NAME")]
    interface: Option<String>,
}

/// Longest wait for the BGP session.
const SESSION_LIMIT: Duration = Duration::from_secs(15);
/// Benign traffic alone, before the first attack.
const WARM_UP: Duration = Duration::from_secs(2);
/// From an attack's first packet until everything of it must be over.
const ATTACK_LIMIT: Duration = Duration::from_secs(40);
/// What is older than this is shown: by then every witness has told of it.
const SETTLED: Duration = Duration::from_millis(30);
/// How long tidegate may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Longer than the demonstration lasts: benign traffic goes on until it is stopped.
const BENIGN: &str = "benign,target=203.0.113.64/26,rate=400,for=300s,direction=inbound";

/// The policy of the demonstration: thresholds low enough for a small machine, and a short hold.
pub const POLICY: &str = r#"[speaker]
as = 65010
router-id = "10.99.0.1"

[owned]
prefixes = ["203.0.113.0/24", "2001:db8:1::/48"]
never-touch = ["203.0.113.53"]

[groups.default.thresholds]
total = { packets = "20k", bits = "200M" }
tcp-syn = { packets = "1k" }
amplification = { packets = "500", bits = "2M" }

[detection]
tolerance = "500ms"
exit-ratio = 0.5
exit-hold = "2s"

[[responses]]
name = "blackhole-heavy-reflection"
when = { severity = "critical", confidence = 0.8, vectors = ["*-amplification"] }
action = "rtbh"
lifetime = { at-least = "5s", at-most = "60s" }

[[responses]]
name = "limit-floods"
when = { confidence = 0.5 }
action = "flowspec"
filter = { rate-limit = "1Mbps" }
lifetime = { at-least = "2s", at-most = "60s" }

[[peers]]
name = "router"
address = "10.99.0.2"
as = 65001
hold-time = "9s"
"#;

/// The attacks, one after the other.
fn plans() -> Vec<Plan> {
    vec![
        Plan {
            name: "SYN flood".to_owned(),
            target: "203.0.113.10/32".to_owned(),
            expected: Expected::FlowSpec,
            what: "10k packets/s for 5 s".to_owned(),
            stream: "syn-flood,target=203.0.113.10,rate=10k,for=5s".to_owned(),
        },
        Plan {
            name: "NTP amplification".to_owned(),
            target: "203.0.113.20/32".to_owned(),
            expected: Expected::Blackhole,
            what: "20k packets/s for 5 s".to_owned(),
            stream: "ntp-amplification,target=203.0.113.20,rate=20k,for=5s".to_owned(),
        },
    ]
}

/// Runs the subcommand: 0 if BIRD showed the routes and then none, 1 if not, 130 after a signal.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    if let (Some(stream), Some(interface)) = (&arguments.send, &arguments.interface) {
        return send::run(stream, interface);
    }
    let mut screen = Screen::new(arguments.json);
    let result = lab::catch_signals()
        .map_err(|source| LabError::Start { program: "signal handlers".to_owned(), source })
        .and_then(|()| perform(arguments, &mut screen));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(LabError::Interrupted) => {
            screen.problem("interrupted; namespaces and processes are gone");
            ExitCode::from(130)
        }
        Err(error) => {
            screen.problem(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &Arguments, screen: &mut Screen) -> Result<bool, LabError> {
    let mut programs = Programs::beside_this_program()?;
    if let Some(tidegate) = &arguments.tidegate {
        programs.tidegate.clone_from(tidegate);
    }
    let mut story = Story::new(plans());
    screen.waiting("setting up namespaces, BIRD and tidegate");
    let mut stage = Stage::start(&programs, POLICY)?;
    if arguments.keep {
        stage.keep_directory();
    }
    let outcome = play(&mut stage, &mut story, screen);
    if !matches!(outcome, Ok(true) | Err(LabError::Interrupted)) {
        stage.keep_directory();
        screen.problem(&format!("configurations and logs are in {}", stage.directory().display()));
    }
    outcome
}

fn play(stage: &mut Stage, story: &mut Story, screen: &mut Screen) -> Result<bool, LabError> {
    story.note(Step::Setup, &format!("internet, tidegate, router; {}", stage.description()));
    let mut run = Run { stage, story, screen, traffic: Vec::new() };
    let played = run.play();
    run.show(Duration::ZERO);
    played?;
    let empty = run.stage.bird.routes()?.is_empty();
    Ok(run.screen.result(&run.story.verdict(empty)))
}

/// The running demonstration.
struct Run<'a> {
    stage: &'a mut Stage,
    story: &'a mut Story,
    screen: &'a mut Screen,
    /// Killed when the demonstration ends.
    traffic: Vec<Process>,
}

impl Run<'_> {
    fn play(&mut self) -> Result<(), LabError> {
        self.screen.waiting("the BGP session");
        self.until("the BGP session", SESSION_LIMIT, |run| {
            Ok(run.stage.bird.session_state()? == "Established")
        })?;
        self.story.note(Step::Session, "BIRD has the session with tidegate established");
        let benign = self.stage.send("benign", BENIGN)?;
        self.traffic.push(benign);
        self.story.note(Step::Benign, "everyday traffic toward 203.0.113.64/26, 400 packets/s");
        self.screen.waiting("the first attack");
        let started = Instant::now();
        self.until("benign traffic alone", ATTACK_LIMIT, |_| Ok(started.elapsed() >= WARM_UP))?;
        for index in 0..self.story.plans().len() {
            self.attack(index)?;
        }
        self.story.note(Step::Stopping, "tidegate gets SIGTERM");
        let status = self.stage.daemon.terminate(STOP_LIMIT)?;
        if !status.success() {
            self.story.problem(format!("tidegate stopped with {status}"));
        }
        self.look()
    }

    /// Sends one attack and follows it until BIRD holds nothing of it any more.
    fn attack(&mut self, index: usize) -> Result<(), LabError> {
        let Some(plan) = self.story.plans().get(index).cloned() else { return Ok(()) };
        let mut sender = self.stage.send(&format!("attack-{}", index + 1), &plan.stream)?;
        let mut lines = lab::Follower::open(sender.stdout())?;
        let mut sending = true;
        let what = format!("the end of the {}", plan.name);
        self.until(&what, ATTACK_LIMIT, |run| {
            for line in lines.lines()? {
                run.story.traffic(index, &line);
            }
            if sending && let Some(status) = sender.ended()? {
                sending = false;
                if !status.success() {
                    sender.wait_for_success(Duration::ZERO)?;
                }
                run.story.last_packet(index);
            }
            run.screen.waiting(&run.story.awaited(index));
            Ok(run.story.is_over(index))
        })
    }

    /// Reads what tidegate says and BIRD holds, and shows what is new.
    fn look(&mut self) -> Result<(), LabError> {
        for event in self.stage.daemon.events()? {
            self.story.event(&event);
        }
        let routes = self.stage.bird.routes()?;
        self.story.routes(&routes);
        self.show(SETTLED);
        Ok(())
    }

    fn show(&mut self, settled: Duration) {
        for entry in self.story.take_entries(settled) {
            self.screen.entry(&entry, self.story.plans());
        }
    }

    fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> Result<bool, LabError>,
    ) -> Result<(), LabError> {
        let started = Instant::now();
        loop {
            self.stage.daemon.expect_running()?;
            self.look()?;
            if done(self)? {
                return Ok(());
            }
            if lab::interrupted() {
                return Err(LabError::Interrupted);
            }
            if started.elapsed() >= limit {
                return Err(LabError::Deadline { what: what.to_owned(), limit });
            }
            self.screen.turn();
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
