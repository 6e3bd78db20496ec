//! Three namespaces with a daemon, a router, and a place to send traffic from.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use crate::lab::bird::{Bird, BirdConfig, Connect};
use crate::lab::{End, Follower, Lab, LabError, Namespace, Process};

/// The session's addresses: tidegate, router.
const SESSION: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2));
/// AS numbers: tidegate, router.
const AS_NUMBERS: (u32, u32) = (65010, 65001);
/// Hold time of the session in seconds.
pub const HOLD_TIME: u16 = 9;
/// The socket of the daemon's API, in the directory of its namespace.
const SOCKET: &str = "tidegate.sock";
/// The interface that tidegate watches.
const WATCHED: &str = "from-internet";

/// The programs that play.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `tidegate`.
    pub tidegate: PathBuf,
    /// `tidegate-lab`, for its sender.
    pub lab: PathBuf,
}

impl Programs {
    /// This program, and the daemon that was built beside it.
    ///
    /// # Errors
    /// [`LabError::File`] if the kernel does not tell where this program is.
    pub fn beside_this_program() -> Result<Self, LabError> {
        let lab = std::env::current_exe()
            .map_err(|source| LabError::File { path: "/proc/self/exe".into(), source })?;
        Ok(Self { tidegate: lab.with_file_name("tidegate"), lab })
    }
}

/// Everything set up. Dropping it ends the processes and removes the namespaces.
#[derive(Debug)]
pub struct Stage {
    /// The router.
    pub bird: Bird,
    /// The daemon.
    pub daemon: Daemon,
    /// Where the daemon runs.
    pub tidegate: Namespace,
    internet: Namespace,
    programs: Programs,
    lab: Lab,
}

impl Stage {
    /// Makes the namespaces and starts BIRD and `tidegate run` with this policy, whose speaker is
    /// AS 65010 and whose only peer is 10.99.0.2, AS 65001.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn start(programs: &Programs, policy: &str) -> Result<Self, LabError> {
        Self::start_with(programs, policy, "", Connect::Passive)
    }

    /// The same, with more at the beginning of the daemon's configuration, and the router that says who connects.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn start_with(
        programs: &Programs,
        policy: &str,
        config: &str,
        router_connects: Connect,
    ) -> Result<Self, LabError> {
        let lab = Lab::new()?;
        let internet = lab.namespace("internet")?;
        let tidegate = lab.namespace("tidegate")?;
        let router = lab.namespace("router")?;
        lab.link(
            End { namespace: &internet, interface: "to-tidegate", addresses: &[] },
            End { namespace: &tidegate, interface: WATCHED, addresses: &[] },
        )?;
        let [ours, peer] = [SESSION.0, SESSION.1].map(|address| format!("{address}/24"));
        lab.link(
            End { namespace: &tidegate, interface: "to-router", addresses: &[&ours] },
            End { namespace: &router, interface: "to-tidegate", addresses: &[&peer] },
        )?;
        let router_config = BirdConfig {
            router_id: SESSION.1,
            local_as: AS_NUMBERS.1,
            neighbor_as: AS_NUMBERS.0,
            local: IpAddr::V4(SESSION.1),
            neighbor: IpAddr::V4(SESSION.0),
            hold_time: HOLD_TIME,
            connect: router_connects,
        };
        let bird = Bird::start(&router, "router", &router_config.render())?;
        let daemon = Daemon::start(&tidegate, &programs.tidegate, policy, config)?;
        Ok(Self { bird, daemon, tidegate, internet, programs: programs.clone(), lab })
    }

    /// Starts sending one stream, in the words of `tidegate-lab traffic`, toward tidegate. The sender
    /// prints one JSON object when its first packet leaves: `event` is `first-packet`, `time_ns`
    /// counts from the Unix epoch.
    ///
    /// # Errors
    /// [`LabError::Start`].
    pub fn send(&self, name: &str, stream: &str) -> Result<Process, LabError> {
        let mut command = self.internet.command(&self.programs.lab);
        command.args(["demo", "--interface", "to-tidegate", "--send", stream]);
        self.internet.spawn(name, command)
    }

    /// What is at work, for people.
    #[must_use]
    pub fn description(&self) -> String {
        format!("{} in router", self.bird.version())
    }

    /// Configurations and logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.lab.directory()
    }

    /// Leaves configurations and logs in place.
    pub fn keep_directory(&mut self) {
        self.lab.keep_directory();
    }
}

/// A running `tidegate run --json`.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    events: Follower,
    socket: PathBuf,
}

impl Daemon {
    fn start(
        namespace: &Namespace,
        program: &Path,
        policy: &str,
        more: &str,
    ) -> Result<Self, LabError> {
        let directory = namespace.directory();
        let config = directory.join("tidegate.toml");
        let policies = directory.join("policy");
        let api = format!("[api]\nsocket = \"{SOCKET}\"\n");
        let api = if more.contains("[api]") { "" } else { &api };
        let text =
            format!("policy = \"policy\"\n{more}\n[capture]\ninterface = \"{WATCHED}\"\n\n{api}");
        let write = |path: &Path, text: &str| {
            fs::write(path, text).map_err(|source| LabError::File { path: path.to_owned(), source })
        };
        fs::create_dir_all(&policies)
            .map_err(|source| LabError::File { path: policies.clone(), source })?;
        write(&policies.join("policy.toml"), policy)?;
        write(&config, &text)?;
        let mut command = namespace.command(program);
        command.args(["run", "--json", "--config"]).arg(&config);
        let process = namespace.spawn("tidegate", command)?;
        let events = Follower::open(process.stdout())?;
        Ok(Self { process, events, socket: directory.join(SOCKET) })
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The events that it printed since the last call.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn events(&mut self) -> Result<Vec<Value>, LabError> {
        let lines = self.events.lines()?;
        // A line that is no JSON is no event; it stays in the log.
        Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The socket of its API.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// [`LabError::Ended`] with its last words.
    pub fn expect_running(&mut self) -> Result<(), LabError> {
        self.process.expect_running()
    }

    /// SIGTERM, and its end.
    ///
    /// # Errors
    /// [`LabError::Deadline`].
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        self.process.terminate(limit)
    }

    /// SIGSTOP: it does nothing any more, but its connections stay open.
    pub fn stall(&mut self) {
        self.process.stall();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
