//! The laboratory: network namespaces, virtual links and the processes that run in them.
//!
//! ```text
//!   Lab -- namespace() --> Namespace -- spawn() --> Process      bird::Bird (a Process with its
//!    |                        |                        |                     control socket)
//!    +-- link() -- veth ------+                        +-- killed with its group on drop
//! ```
//!
//! The namespaces have no names in the file system: each lives as long as a descriptor or a process
//! holds it, and the kernel removes it, with its links, when the last one goes. Every child gets
//! SIGKILL when the thread that started it dies. Nothing is therefore left behind even by
//! `kill -9`, except the folder of logs.
//!
//! Root makes the namespaces directly; anybody else makes them inside a user namespace in which
//! they are root, where the kernel allows that. The host's own network is never touched.
//!
//! Absent on purpose: mount namespaces (`/sys/class/net` keeps showing the host's interfaces) and
//! process namespaces.

pub mod bird;
mod follow;
mod interrupt;
mod namespace;
mod process;
pub mod require;
mod wait;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

pub use follow::Follower;
pub use interrupt::{catch_signals, interrupted};
pub use namespace::{End, Lab, Namespace};
pub use process::Process;
pub use wait::{POLL_INTERVAL, until};

/// Why the laboratory could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The kernel denies network namespaces to this user.
    #[error("this user may not make network namespaces: {source}\n  {advice}")]
    Denied {
        /// What the kernel said.
        source: io::Error,
        /// What to change.
        advice: String,
    },
    /// A program is not on the search path.
    #[error("there is no program `{0}`; `cargo xtask demo` installs what is missing")]
    NoProgram(String),
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which one.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program that should have succeeded did not.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// Which one, with its arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// A process that should still run has ended.
    #[error("{name} ended ({status}):\n{output}")]
    Ended {
        /// Name of the process.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        output: String,
    },
    /// A file of the laboratory.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// BIRD's control socket.
    #[error("BIRD's control socket, at `{command}`: {what}")]
    Control {
        /// What was asked.
        command: String,
        /// What went wrong.
        what: String,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {} s", limit.as_secs_f64())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// A signal asked us to stop.
    #[error("interrupted")]
    Interrupted,
}

impl LabError {
    fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
