//! Who the routes are announced to.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::count::announced;
use super::{ANNOUNCER, BenchError, DEADLINE, Killed, Link, Opens, system};
use crate::bench::peer::{Peer, SESSION_LIMIT};
use crate::interop::Kind;
use crate::lab::bird::{Control, DISCARD_NEXT_HOPS};
use crate::lab::{require, until};

/// Between two questions to BIRD for many routes: counting them keeps it from taking them.
const BIRD_PAUSE: Duration = Duration::from_micros(500);

/// The receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiverKind {
    /// Reads and counts, nothing else.
    Reader,
    /// BIRD 2, which holds the routes when it says that it does.
    Bird,
}

impl ReceiverKind {
    pub(super) const ALL: [Self; 2] = [Self::Reader, Self::Bird];

    /// For a heading.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Reader => "a receiver that reads and counts",
            Self::Bird => "BIRD 2, until it says that it holds them",
        }
    }

    pub(super) fn start(
        self,
        link: Link,
        directory: &Path,
    ) -> Result<Box<dyn Receiver>, BenchError> {
        Ok(match (self, link.opens) {
            (Self::Reader, Opens::Announcer) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, link.port));
                Box::new(Peer::listening(address, announced)?)
            }
            (Self::Reader, Opens::Receiver) => {
                let address = SocketAddr::from((ANNOUNCER, link.port));
                Box::new(Peer::connecting(address, announced))
            }
            (Self::Bird, _) => Box::new(Bird::start(link, directory)?),
        })
    }
}

/// A running receiver.
pub(super) trait Receiver {
    /// Waits until the session is up.
    fn wait_until_established(&mut self) -> Result<(), BenchError>;

    /// Waits for `more` routes of this kind; when the last of them was there.
    fn expect(&mut self, kind: Kind, more: usize) -> Result<Instant, BenchError>;
}

fn too_late(missing: usize) -> BenchError {
    BenchError::Unexpected(format!("{missing} announcements did not arrive"))
}

impl Receiver for Peer<usize> {
    fn wait_until_established(&mut self) -> Result<(), BenchError> {
        Peer::wait_until_established(self)
    }

    fn expect(&mut self, _: Kind, more: usize) -> Result<Instant, BenchError> {
        let mut missing = more;
        loop {
            let (arrival, count) =
                self.updates.recv_timeout(DEADLINE).map_err(|_| too_late(missing))?;
            missing = missing.saturating_sub(count);
            if missing == 0 {
                return Ok(arrival);
            }
        }
    }
}

/// A BIRD that takes whatever it is told.
struct Bird {
    control: Control,
    /// Blackholes and rules.
    held: [usize; 2],
    #[expect(dead_code, reason = "held for its end")]
    process: Killed,
}

impl Bird {
    fn start(link: Link, directory: &Path) -> Result<Self, BenchError> {
        let (passive, local, remote) = match link.opens {
            Opens::Announcer => ("on", format!(" port {}", link.port), String::new()),
            Opens::Receiver => ("off", String::new(), format!(" port {}", link.port)),
        };
        let receiver = Ipv4Addr::LOCALHOST;
        let (discard, _) = DISCARD_NEXT_HOPS;
        let text = format!(
            "router id 192.0.2.1; protocol device {{ }}
ipv4 table master4; flow4 table flowtab4;
protocol static discard {{ ipv4; route {discard}/32 blackhole; }}
protocol bgp bench {{
  local {receiver}{local} as 65001; neighbor {ANNOUNCER}{remote} as 65010; multihop 2;
  passive {passive}; connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export none; gateway recursive; }};
  flow4 {{ table flowtab4; import all; export none; }};
}}
"
        );
        let (process, control) = start_bird(directory, "bench-receiver", &text)?;
        Ok(Self { control, held: [0, 0], process })
    }
}

/// Starts a BIRD and connects to its control socket.
pub(super) fn start_bird(
    directory: &Path,
    name: &str,
    text: &str,
) -> Result<(Killed, Control), BenchError> {
    let file = |end: &str| directory.join(format!("{name}.{end}"));
    fs::write(file("conf"), text).map_err(system("write BIRD's configuration"))?;
    // One that was killed leaves it behind.
    let _ = fs::remove_file(file("ctl"));
    let mut command = Command::new(require::program("bird")?);
    command.arg("-f").arg("-c").arg(file("conf")).arg("-s").arg(file("ctl"));
    let child = command
        .arg("-P")
        .arg(file("pid"))
        .stderr(Stdio::null())
        .spawn()
        .map_err(system("start BIRD"))?;
    let process = Killed(child);
    let socket = file("ctl");
    let (control, _) =
        until("BIRD's control socket", SESSION_LIMIT, || Ok(Control::connect(&socket).ok()))?;
    Ok((process, control))
}

impl Receiver for Bird {
    fn wait_until_established(&mut self) -> Result<(), BenchError> {
        let control = &mut self.control;
        Ok(until("the session with BIRD", SESSION_LIMIT, || {
            let lines = control.ask("show protocols bench")?;
            let up = lines.iter().any(|line| line.contains("Established"));
            Ok(up.then_some(()))
        })?)
    }

    fn expect(&mut self, kind: Kind, more: usize) -> Result<Instant, BenchError> {
        let (index, table) = match kind {
            Kind::Rtbh => (0, "master4"),
            Kind::FlowSpec => (1, "flowtab4"),
        };
        let wanted = self.held[index] + more;
        let command = format!("show route table {table} protocol bench count");
        let started = Instant::now();
        loop {
            let lines = self.control.ask(&command)?;
            let answered = Instant::now();
            // `5 of 6 routes for 6 networks in table master4`
            let first = lines.iter().find_map(|line| line.split(' ').next()?.parse().ok());
            let held: usize = first.unwrap_or_default();
            if held >= wanted {
                self.held[index] = wanted;
                return Ok(answered);
            }
            if started.elapsed() > DEADLINE {
                return Err(too_late(wanted - held));
            }
            if more > 1 {
                thread::sleep(BIRD_PAUSE);
            }
        }
    }
}
