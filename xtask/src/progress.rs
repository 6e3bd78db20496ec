//! One line that shows that something is going on: rewritten in place on a terminal, now and then
//! a new line elsewhere.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Between two turns of the spinner.
const TURN: Duration = Duration::from_millis(120);
/// Between two lines where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);
/// Lines of output kept to be shown when the command fails; older ones are dropped.
const KEPT_LINES: usize = 400;
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];
const WIDTH: usize = 78;

/// How a command ended and the last lines that it wrote.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// Runs `command` without input while a line with `label` and the elapsed time is shown on standard
/// error. `describe` may turn a line of output into what is shown beside the label.
pub(crate) fn run(
    label: &str,
    command: &mut Command,
    mut describe: impl FnMut(&str) -> Option<String>,
) -> io::Result<Finished> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        forward(output, sender.clone());
    }
    if let Some(output) = child.stderr.take() {
        forward(output, sender);
    }
    let mut line = Line::new(label);
    let mut kept = VecDeque::new();
    loop {
        match receiver.recv_timeout(TURN) {
            Ok(text) => {
                if let Some(detail) = describe(&text) {
                    line.detail = detail;
                }
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(text);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        line.show();
    }
    let status = child.wait()?;
    line.finish(status.success());
    let output = kept.into_iter().collect::<Vec<String>>().join("\n");
    Ok(Finished { status, output })
}

fn forward(output: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            // Bytes that are no UTF-8 end the forwarding of this stream only.
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
}

struct Line<'a> {
    label: &'a str,
    detail: String,
    started: Instant,
    last: Option<Instant>,
    turns: usize,
    terminal: bool,
}

impl<'a> Line<'a> {
    fn new(label: &'a str) -> Self {
        let terminal = io::stderr().is_terminal();
        if !terminal {
            eprintln!("{label} ...");
        }
        let (started, last) = (Instant::now(), None);
        Self { label, detail: String::new(), started, last, turns: 0, terminal }
    }

    fn show(&mut self) {
        let interval = if self.terminal { TURN } else { PLAIN_INTERVAL };
        if self.last.unwrap_or(self.started).elapsed() < interval {
            return;
        }
        self.last = Some(Instant::now());
        let elapsed = self.started.elapsed().as_secs();
        if self.terminal {
            let spinner = SPINNER.get(self.turns % SPINNER.len()).copied().unwrap_or(' ');
            self.turns += 1;
            let text = format!("{spinner} {} {elapsed} s  {}", self.label, self.detail);
            let text: String = text.chars().take(WIDTH).collect();
            eprint!("\r\x1b[2K{text}");
            // The line is for the eye: one that cannot be written is not missed.
            let _ = io::stderr().flush();
        } else {
            eprintln!("{} ... {elapsed} s  {}", self.label, self.detail);
        }
    }

    fn finish(&self, success: bool) {
        let start = if self.terminal { "\r\x1b[2K" } else { "" };
        let word = if success { "done" } else { "failed" };
        let seconds = self.started.elapsed().as_secs_f64();
        eprintln!("{start}{}: {word} in {seconds:.1} s", self.label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_output_and_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let mut seen = Vec::new();
        let finished = run("test", &mut command, |line| {
            seen.push(line.to_owned());
            None
        })
        .unwrap();
        assert_eq!(finished.status.code(), Some(3));
        seen.sort();
        assert_eq!(seen, ["one", "two"]);
        assert!(finished.output.contains("one") && finished.output.contains("two"));
    }
}
