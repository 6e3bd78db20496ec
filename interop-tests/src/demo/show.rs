//! The timeline on standard output; on a terminal with colours and a line that moves while waiting.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use serde_json::json;

use super::story::{Entry, Plan, Step, Verdict};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];
/// Width of everything before the text of an entry.
const INDENT: usize = 46;
/// Longest line of text that is not wrapped, unless a word is longer.
const TEXT_WIDTH: usize = 80;
const TURN: Duration = Duration::from_millis(120);

/// Where the demonstration is shown.
#[derive(Debug)]
pub struct Screen {
    json: bool,
    colours: bool,
    /// Whether a moving line may be shown.
    moving: bool,
    waiting: String,
    since: Instant,
    turned: Instant,
    turns: usize,
}

impl Screen {
    /// For people, or with `json` for programs.
    #[must_use]
    pub fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let now = Instant::now();
        Self {
            json,
            colours: terminal && !plain,
            moving: !json && terminal && io::stderr().is_terminal(),
            waiting: String::new(),
            since: now,
            turned: now,
            turns: 0,
        }
    }

    /// Prints one entry.
    pub fn entry(&mut self, entry: &Entry, plans: &[Plan]) {
        if self.json {
            self.print(&entry.to_json(plans).to_string());
            return;
        }
        let since = entry.since_onset.map_or_else(String::new, span);
        let attack = entry.attack.map_or_else(String::new, |index| format!("attack {}", index + 1));
        let (style, dim) = (self.style(colour(entry.step)), self.style(DIM));
        let time = time_of_day(entry.time);
        let mut lines = wrapped(&entry.text, TEXT_WIDTH).into_iter();
        let first = lines.next().unwrap_or_default();
        let label = entry.step.label();
        self.print(&format!(
            "{dim}{time}{dim:#} {since:>9}  {attack:<8}  {style}{label:<11}{style:#} {first}"
        ));
        for line in lines {
            self.print(&format!("{:INDENT$}{line}", ""));
        }
    }

    /// Prints the verdict; whether it is a success.
    pub fn result(&mut self, verdict: &Verdict) -> bool {
        let success = verdict.problems.is_empty();
        if self.json {
            let reactions: Vec<_> = verdict
                .reactions
                .iter()
                .map(|(name, time)| json!({ "attack": name, "onset_to_bird_ms": time }))
                .collect();
            self.print(
                &json!({ "step": "result", "success": success, "problems": verdict.problems,
                         "reactions": reactions })
                .to_string(),
            );
            return success;
        }
        let (good, bad) = (self.style(GOOD), self.style(BAD));
        self.print("");
        for (name, time) in &verdict.reactions {
            if let Some(time) = time {
                self.print(&format!(
                    "{good}{name}: {time:.0} ms from its first packet to the route in BIRD{good:#}"
                ));
            }
        }
        for problem in &verdict.problems {
            self.print(&format!("{bad}{problem}{bad:#}"));
        }
        if success {
            self.print("BIRD held what it should, and in the end nothing.");
        }
        success
    }

    /// Says on standard error what went wrong.
    pub fn problem(&mut self, text: &str) {
        self.clear();
        eprintln!("{text}");
    }

    /// What is waited for from now on.
    pub fn waiting(&mut self, what: &str) {
        if self.waiting != what {
            what.clone_into(&mut self.waiting);
            self.since = Instant::now();
        }
    }

    /// Moves the waiting line on, if it is time.
    pub fn turn(&mut self) {
        if !self.moving || self.waiting.is_empty() || self.turned.elapsed() < TURN {
            return;
        }
        self.turned = Instant::now();
        let spinner = SPINNER.get(self.turns % SPINNER.len()).copied().unwrap_or(' ');
        self.turns += 1;
        let seconds = self.since.elapsed().as_secs();
        eprint!("\r\x1b[2K{spinner} waiting for {} ({seconds} s)", self.waiting);
        // The line is for the eye: one that cannot be written is not missed.
        let _ = io::stderr().flush();
    }

    fn clear(&self) {
        if self.moving {
            eprint!("\r\x1b[2K");
        }
    }

    fn print(&self, line: &str) {
        self.clear();
        let mut output = io::stdout().lock();
        // A reader that went away does not change what the demonstration shows the exit code for.
        let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    }

    fn style(&self, style: Style) -> Style {
        if self.colours { style } else { Style::new() }
    }
}

fn colour(stage: Step) -> Style {
    match stage {
        Step::Onset | Step::Problem => BAD,
        Step::SeenInBird | Step::GoneFromBird | Step::Session => GOOD,
        Step::Setup | Step::Benign | Step::Stopping => DIM,
        _ => NOTE,
    }
}

/// Lines of at most `width` characters, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `12:43:47.554`, UTC.
fn time_of_day(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    let (seconds, milliseconds) = (milliseconds / 1000 % 86_400, milliseconds % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}")
}

/// `+56 ms`, `+4.21 s`.
fn span(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    if milliseconds < 1000 {
        return format!("+{milliseconds} ms");
    }
    format!("+{}.{:02} s", milliseconds / 1000, milliseconds % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_at_blanks() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("longer-than-seven and", 7), ["longer-than-seven", "and"]);
        assert_eq!(wrapped("", 7), [""]);
    }

    #[test]
    fn times_for_people() {
        assert_eq!(time_of_day(0), "00:00:00.000");
        assert_eq!(time_of_day(1_623_699_901_003_299_000), "19:45:01.003");
        assert_eq!(span(0), "+0 ms");
        assert_eq!(span(999_999_999), "+999 ms");
        assert_eq!(span(4_217_000_000), "+4.21 s");
    }
}
