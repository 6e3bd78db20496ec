//! A child in a namespace, with its output in files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{LabError, until};

/// Lines of output that an error shows.
const LAST_WORDS: usize = 15;

/// A running child and its process group. Dropping it kills the group and waits for the child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, which must make its own process group; output goes to `<name>.out` and
    /// `<name>.err` in `directory`.
    pub(super) fn start(
        name: &str,
        directory: &Path,
        mut command: Command,
    ) -> Result<Self, LabError> {
        let stdout = directory.join(format!("{name}.out"));
        let stderr = directory.join(format!("{name}.err"));
        let create = |path: &Path| fs::File::create(path).map_err(LabError::file(path));
        command.stdin(std::process::Stdio::null());
        command.stdout(create(&stdout)?).stderr(create(&stderr)?);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|source| LabError::Start { program, source })?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output goes here.
    #[must_use]
    pub fn stdout(&self) -> &Path {
        &self.stdout
    }

    /// What it wrote to standard error goes here.
    #[must_use]
    pub fn stderr(&self) -> &Path {
        &self.stderr
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// [`LabError::Start`] if the kernel does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, LabError> {
        self.child
            .try_wait()
            .map_err(|source| LabError::Start { program: self.name.clone(), source })
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// [`LabError::Ended`] with its last words.
    pub fn expect_running(&mut self) -> Result<(), LabError> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                Err(LabError::Ended { name: self.name.clone(), status, output: self.last_words() })
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`LabError::Deadline`], [`LabError::Interrupted`].
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        let what = format!("the end of {}", self.name);
        until(&what, limit, || self.ended())
    }

    /// Waits for its end, which must be a success.
    ///
    /// # Errors
    /// [`LabError::Ended`] after a failure, and as [`Process::wait`].
    pub fn wait_for_success(&mut self, limit: Duration) -> Result<(), LabError> {
        let status = self.wait(limit)?;
        if status.success() {
            return Ok(());
        }
        Err(LabError::Ended { name: self.name.clone(), status, output: self.last_words() })
    }

    /// Sends SIGTERM to it and waits for its end.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Sends SIGSTOP to its group.
    pub fn stall(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT to its group, after [`Process::stall`].
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGKILL to its group and waits for its end, which is certain.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // It fails only if the child was waited for before, and then there is nothing to do.
        let _ = self.child.wait();
    }

    fn signal(&mut self, signal: Signal) {
        // A child that was waited for has no process id any more: it may be somebody else's.
        if matches!(self.child.try_wait(), Ok(None))
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // The only other cause of failure is that the group has just ended.
            let _ = kill_process_group(group, signal);
        }
    }

    /// The end of what it wrote, standard error first.
    #[must_use]
    pub fn last_words(&self) -> String {
        let mut words = Vec::new();
        for path in [&self.stderr, &self.stdout] {
            let text = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let skipped = lines.len().saturating_sub(LAST_WORDS);
            words.extend(lines.into_iter().skip(skipped).map(|line| format!("  {line}")));
        }
        words.join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
