//! The other end of [`super::speaker`]'s lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::InteropError;
use crate::lab::{LabError, Namespace};

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How our side is started.
#[derive(Clone, Debug)]
pub(super) struct OursConfig {
    pub(super) local: IpAddr,
    pub(super) peer: IpAddr,
    pub(super) owned: &'static str,
    pub(super) passive: bool,
    pub(super) flowspec: bool,
    pub(super) md5: Option<&'static str>,
    pub(super) gtsm: bool,
}

/// Our running side. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Ours {
    child: Child,
    input: ChildStdin,
    lines: Receiver<Value>,
    /// Outcomes that were refusals.
    refusals: Vec<String>,
}

/// What our side knows of the session.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub(super) state: String,
    pub(super) established: u64,
    pub(super) refreshes: u64,
    pub(super) updates: u64,
    /// Why it is not up, and the last NOTIFICATIONs.
    pub(super) trouble: String,
}

impl Ours {
    pub(super) fn start(
        program: &Path,
        namespace: &Namespace,
        config: &OursConfig,
    ) -> Result<Self, InteropError> {
        let mut command = namespace.command(program);
        command.arg("interop-speaker");
        command.arg("--local").arg(config.local.to_string());
        command.arg("--peer").arg(config.peer.to_string());
        command.args(["--local-as", "65010", "--peer-as", "65001", "--owned", config.owned]);
        for (wanted, flag) in [
            (config.passive, "--passive"),
            (config.flowspec, "--flowspec"),
            (config.gtsm, "--gtsm"),
        ] {
            command.args(wanted.then_some(flag));
        }
        if let Some(key) = config.md5 {
            command.args(["--md5", key]);
        }
        let words = namespace.directory().join("ours.err");
        let words =
            File::create(&words).map_err(|source| LabError::File { path: words, source })?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(words);
        let start = |source| LabError::Start { program: program.display().to_string(), source };
        let mut child = command.spawn().map_err(start)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(InteropError::Answer("our side has no pipes".to_owned()));
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::Null);
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, input, lines, refusals: Vec::new() })
    }

    pub(super) fn announce(&mut self, route: &str) -> Result<(), InteropError> {
        self.tell(&json!({ "do": "announce", "route": route }))
    }

    pub(super) fn withdraw(&mut self, route: &str) -> Result<(), InteropError> {
        self.tell(&json!({ "do": "withdraw", "route": route }))
    }

    pub(super) fn status(&mut self) -> Result<Status, InteropError> {
        self.tell(&json!({ "do": "status" }))?;
        loop {
            let line = self.lines.recv_timeout(ANSWER_LIMIT);
            let line = line.map_err(|_| InteropError::Answer("our side is silent".to_owned()))?;
            match line["event"].as_str() {
                Some("status") => return Ok(read_status(&line)),
                Some("error") => return Err(InteropError::Answer(line["what"].to_string())),
                Some("quarantined") => self.refusals.push(line.to_string()),
                Some("outcome") if line["became"] == "rejected" => {
                    self.refusals.push(line.to_string());
                }
                _ => {}
            }
        }
    }

    /// Routes that our side would not send or sends no more.
    pub(super) fn refusals(&self) -> &[String] {
        &self.refusals
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        // It fails only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn tell(&mut self, command: &Value) -> Result<(), InteropError> {
        writeln!(self.input, "{command}")
            .map_err(|error| InteropError::Answer(format!("our side takes no commands: {error}")))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_status(line: &Value) -> Status {
    let number = |name: &str| line[name].as_u64().unwrap_or_default();
    let words = ["down", "error_sent", "error_received"];
    let trouble =
        words.iter().filter_map(|name| line[name].as_str().map(|text| format!("{name}: {text}")));
    Status {
        state: line["state"].as_str().unwrap_or_default().to_owned(),
        established: number("established"),
        refreshes: number("refreshes"),
        updates: number("updates"),
        trouble: trouble.collect::<Vec<_>>().join("; "),
    }
}
