//! Capture files through the engine, in the capture's own time.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tidegate_detector::capture::CaptureError;
use tidegate_detector::capture::file::{CaptureFile, Frame, Oddities};
use tidegate_detector::forensics::{Record, Recorder};
use tidegate_detector::{Meter, TICK};
use tidegate_model::{AttackEvent, BackendState, OutcomeKind, Timestamp};
use tidegate_policy::Policy;

use crate::engine::{Engine, EngineInput, EngineOutput};
use crate::event::{Event, EventKind, Verb};
use crate::forensics::Archive;
use crate::offline::OfflineBackends;
use crate::output::{Printer, fields};
use crate::pipeline;

/// Jitter and hashing take no randomness in a replay: the same input gives the same output.
const SEED: u64 = 0;

/// Once nothing has been seen, wanted or installed for this long, a gap in the capture is skipped
/// instead of ticked through.
const IDLE_BEFORE_SKIP: Duration = Duration::from_secs(60);

/// Frames between two updates of the progress bar.
const FRAMES_PER_PROGRESS: u64 = 65_536;

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The capture cannot be read, or not further. What came before has been replayed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The results cannot be printed.
    #[error("cannot write the results: {0}")]
    Output(#[from] io::Error),
}

/// Replays `capture` under `policy` and prints what happens.
///
/// # Errors
/// [`ReplayError::Capture`] if the file is not a capture, or is damaged: the results up to the
/// damage have been printed then. [`ReplayError::Output`] if printing fails.
pub fn replay(
    capture: &Path,
    policy: &Arc<Policy>,
    printer: Printer<impl Write>,
) -> Result<(), ReplayError> {
    replay_into(capture, policy, printer, None)
}

/// The same, and writes the packets of each attack to `forensics`.
///
/// # Errors
/// Those of [`replay`]. Packets that cannot be written are lost, and said so.
pub fn replay_into(
    capture: &Path,
    policy: &Arc<Policy>,
    printer: Printer<impl Write>,
    forensics: Option<Archive>,
) -> Result<(), ReplayError> {
    let mut file = CaptureFile::open(capture)?;
    let bar = progress(file.total_bytes());
    let mut run = Run::new(policy, printer);
    run.forensics = forensics.map(|archive| Forensics { archive, recorder: None });
    let mut frames = 0_u64;
    let damage = loop {
        match file.next_frame() {
            Ok(Some(frame)) => {
                run.advance(frame.time)?;
                let place = run.meter.observe(frame.link, frame.data, frame.wire_length);
                if let Some(forensics) = &mut run.forensics {
                    forensics.record(place, &frame);
                }
                frames += 1;
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
        if frames.is_multiple_of(FRAMES_PER_PROGRESS) {
            bar.set_position(file.bytes_read());
        }
    };
    bar.finish_and_clear();
    run.finish(file.oddities())?;
    damage.map_or(Ok(()), |error| Err(error.into()))
}

/// A bar on a terminal, nothing elsewhere.
fn progress(total_bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(
        "replaying {bar:30} {percent:>3} %  {bytes_per_sec}, {eta} left",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// A replay under way.
struct Run<W: Write> {
    engine: Engine,
    backends: OfflineBackends,
    meter: Meter,
    printer: Printer<W>,
    /// End of the tick that is being filled; `None` before the first frame.
    tick_end: Option<Timestamp>,
    /// How long nothing has been seen, wanted or installed.
    idle: Duration,
    tally: Tally,
    forensics: Option<Forensics>,
}

/// Keeps the packets of each attack.
struct Forensics {
    archive: Archive,
    /// From the first frame on.
    recorder: Option<Recorder>,
}

impl Forensics {
    fn record(&mut self, place: Option<u32>, frame: &Frame<'_>) {
        let Frame { time, link, data, wire_length } = *frame;
        let recorder =
            self.recorder.get_or_insert_with(|| Recorder::new(self.archive.budget(), time));
        let time = time.as_nanos();
        recorder.record(place, Record { time, interface: 0, link, data, wire_length });
    }

    fn finish_tick(&mut self, end: Timestamp) {
        let segment = self.recorder.as_mut().and_then(|recorder| recorder.finish_tick(end));
        if let Some(segment) = segment {
            self.archive.handle_segment(segment);
        }
    }

    /// What was copied last, while the attacks are still on.
    fn hand_over(&mut self) {
        if let Some(segment) = self.recorder.as_mut().and_then(Recorder::hand_over) {
            self.archive.handle_segment(segment);
        }
    }
}

/// What the closing line says.
#[derive(Default)]
struct Tally {
    packets: u64,
    malformed: u64,
    unprotected: u64,
    attacks: u64,
    announced: u64,
    withdrawn: u64,
}

impl<W: Write> Run<W> {
    fn new(policy: &Arc<Policy>, printer: Printer<W>) -> Self {
        Self {
            engine: Engine::new(policy, SEED),
            backends: OfflineBackends::new(policy),
            meter: Meter::new(&pipeline::detector_config(policy), SEED),
            printer,
            tick_end: None,
            idle: Duration::ZERO,
            tally: Tally::default(),
            forensics: None,
        }
    }

    /// Runs every tick that ends at or before `time`.
    fn advance(&mut self, time: Timestamp) -> Result<(), io::Error> {
        let mut tick_end = match self.tick_end {
            Some(tick_end) => tick_end,
            None => self.begin(time)?,
        };
        // At the end of time there is no next tick.
        while tick_end <= time && tick_end < Timestamp::MAX {
            self.tick(tick_end)?;
            tick_end = tick_end + TICK;
            if self.idle >= IDLE_BEFORE_SKIP {
                tick_end = tick_end.max(end_of_tick(time));
            }
        }
        self.tick_end = Some(tick_end);
        Ok(())
    }

    fn begin(&mut self, first: Timestamp) -> Result<Timestamp, io::Error> {
        let backends: Vec<_> = self.backends.ids().collect();
        for backend in backends {
            let outputs =
                self.engine.handle(first, EngineInput::Backend(backend, BackendState::Up));
            // That sessions are up is an assumption of the replay, not news.
            let commands =
                outputs.into_iter().filter(|out| matches!(out, EngineOutput::Command(_)));
            self.carry_out(first, commands.collect())?;
        }
        Ok(end_of_tick(first))
    }

    fn tick(&mut self, end: Timestamp) -> Result<(), io::Error> {
        let summary = self.meter.finish_tick(end);
        if let Some(forensics) = &mut self.forensics {
            forensics.finish_tick(end);
        }
        self.tally.packets += summary.packets;
        self.tally.malformed += summary.malformed;
        self.tally.unprotected += summary.unprotected;
        let outputs = self.engine.handle(end, EngineInput::Summary(&summary));
        self.carry_out(end, outputs.into())?;
        let quiet = summary.packets == 0 && self.engine.is_idle();
        self.idle = if quiet { self.idle + TICK } else { Duration::ZERO };
        Ok(())
    }

    /// The capture is over: what is left of the last tick, then everything is withdrawn.
    fn finish(mut self, oddities: Oddities) -> Result<(), io::Error> {
        let end = self.tick_end.unwrap_or_default();
        if self.tick_end.is_some() {
            self.tick(end)?;
        }
        if let Some(forensics) = &mut self.forensics {
            forensics.hand_over();
        }
        let outputs = self.engine.handle(end, EngineInput::InputEnded);
        self.carry_out(end, outputs.into())?;
        let outputs = self.engine.handle(end, EngineInput::Shutdown);
        self.carry_out(end, outputs.into())?;
        self.closing_line(end, oddities)?;
        self.printer.flush()
    }

    fn carry_out(
        &mut self,
        now: Timestamp,
        mut outputs: VecDeque<EngineOutput>,
    ) -> Result<(), io::Error> {
        while let Some(output) = outputs.pop_front() {
            match output {
                EngineOutput::Event(event) => {
                    self.tally.count(&event.kind);
                    self.printer.event(&event)?;
                    if let EventKind::Attack(attack) = &event.kind {
                        self.keep_packets(&event, attack)?;
                    }
                }
                EngineOutput::Command(command) => {
                    for outcome in self.backends.apply(command) {
                        outputs.extend(self.engine.handle(now, EngineInput::Outcome(outcome)));
                    }
                }
            }
        }
        Ok(())
    }

    fn keep_packets(&mut self, event: &Event, attack: &AttackEvent) -> Result<(), io::Error> {
        let Some(Forensics { archive, .. }) = &mut self.forensics else { return Ok(()) };
        archive.handle_attack(attack, event.policy.as_deref());
        for note in archive.poll_notes() {
            let (name, text, extra) = note.describe();
            self.printer.note(event.time, name, &text, fields(extra))?;
        }
        Ok(())
    }

    fn closing_line(&mut self, end: Timestamp, oddities: Oddities) -> Result<(), io::Error> {
        let tally = &self.tally;
        let mut text = format!(
            "{} packets ({} malformed, {} not to protected addresses): {} attack{}, {} route{} \
             announced, {} withdrawn",
            tally.packets,
            tally.malformed,
            tally.unprotected,
            tally.attacks,
            if tally.attacks == 1 { "" } else { "s" },
            tally.announced,
            if tally.announced == 1 { "" } else { "s" },
            tally.withdrawn,
        );
        for (count, what) in [
            (oddities.reordered, "frames older than the one before, taken as of its time"),
            (oddities.clock_set_back, "times the capture's clock was set back"),
            (oddities.unreadable, "frames of a link type that cannot be read"),
        ] {
            if count > 0 {
                text += &format!("; {count} {what}");
            }
        }
        let fields = fields(json!({
            "packets": tally.packets,
            "malformed": tally.malformed,
            "unprotected": tally.unprotected,
            "attacks": tally.attacks,
            "announced": tally.announced,
            "withdrawn": tally.withdrawn,
            "reordered": oddities.reordered,
            "clock_set_back": oddities.clock_set_back,
            "unreadable": oddities.unreadable,
        }));
        self.printer.note(end, "summary", &text, fields)
    }
}

impl Tally {
    fn count(&mut self, event: &EventKind) {
        match event {
            EventKind::Attack(AttackEvent::Started(_)) => self.attacks += 1,
            EventKind::Outcome { verb, outcome }
                if matches!(outcome.kind, OutcomeKind::Applied { .. }) =>
            {
                match verb {
                    Verb::Announce => self.announced += 1,
                    Verb::Withdraw => self.withdrawn += 1,
                }
            }
            _ => {}
        }
    }
}

/// End of the tick in which `time` lies. Ticks begin at multiples of their length.
fn end_of_tick(time: Timestamp) -> Timestamp {
    let length = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
    let begin = time.as_nanos() - time.as_nanos() % length;
    Timestamp::from_nanos(begin) + TICK
}

#[cfg(test)]
mod tests {
    use tidegate_policy::PolicyFile;

    use super::*;
    use crate::clock::WallOrigin;
    use crate::output::{Format, Updates};

    /// The latest timestamp that a capture can have leaves no room for another tick.
    #[test]
    fn the_end_of_time_is_an_end() {
        let text = "[speaker]\nas = 65010\nrouter-id = \"10.99.0.1\"\n\
                    [owned]\nprefixes = [\"203.0.113.0/24\"]\n";
        let file = PolicyFile { name: "policy.toml".to_owned(), bytes: text.into() };
        let policy = Arc::new(tidegate_policy::resolve("policy", &[file]).unwrap());
        let printer = Printer::new(Vec::new(), Format::Json, Updates::Hidden, WallOrigin::EPOCH);
        let mut run = Run::new(&policy, printer);
        run.advance(Timestamp::MAX - Duration::from_secs(1)).unwrap();
        run.advance(Timestamp::MAX).unwrap();
        run.finish(Oddities::default()).unwrap();
    }
}
