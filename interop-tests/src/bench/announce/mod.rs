//! Announcing: from the call to the routes being with a peer.
//!
//! Everybody announces the same routes over one session on loopback, in the benchmark's own network
//! namespace, to the same receivers: tidegate's speaker, GoBGP by gRPC, BIRD by its configuration,
//! ExaBGP by its API. What a call hands over is made ready before the clock starts.

mod bird;
mod count;
mod exabgp;
mod gobgp;
mod receiver;
mod report;
mod route;
mod speaker;

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use gobgp::Call;
use receiver::ReceiverKind;
use report::{Entry, Report};

use super::peer::SESSION_LIMIT;
use super::{BenchError, system};
use crate::interop::{Kind, PeerKind};

pub(super) use exabgp::feed;

/// Routes announced at once.
const ROUTES: usize = 10_000;
/// Single routes announced one after the other, in each round.
const SINGLES: usize = 200;
/// Sessions of each with each.
const ROUNDS: usize = 3;
/// Ten thousand routes that have not arrived by then are not going to.
const DEADLINE: Duration = Duration::from_secs(60);
/// The announcers' address; the receivers are at 127.0.0.1.
const ANNOUNCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The first session's port. Each session has its own: that of one before may still be in use.
const FIRST_PORT: u16 = 1800;

/// A session to be.
#[derive(Clone, Copy, Debug)]
struct Link {
    port: u16,
    opens: Opens,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opens {
    Announcer,
    Receiver,
}

/// A child that is killed when it is no longer needed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It fails only if the child has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running announcer.
trait Announcer {
    /// Announces the routes of these numbers; when the first was handed over.
    fn announce(&mut self, kind: Kind, range: Range<usize>) -> Result<Instant, BenchError>;
}

/// The announcers, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnnouncerKind {
    Tidegate,
    Bird,
    Gobgp(Call),
    Exabgp4,
    Exabgp5,
}

impl AnnouncerKind {
    const ALL: [Self; 6] = [
        Self::Tidegate,
        Self::Bird,
        Self::Gobgp(Call::Stream),
        Self::Gobgp(Call::Unary),
        Self::Exabgp4,
        Self::Exabgp5,
    ];

    /// As the program names itself, and how it is told.
    fn name(self) -> Result<String, BenchError> {
        let version = |peer: PeerKind| {
            peer.version().map_err(|error| match error {
                crate::interop::InteropError::Lab(error) => BenchError::Lab(error),
                other => BenchError::Unexpected(other.to_string()),
            })
        };
        Ok(match self {
            Self::Tidegate => "tidegate".to_owned(),
            Self::Bird => format!("{}, `configure`", version(PeerKind::Bird)?),
            Self::Gobgp(Call::Stream) => format!("{}, gRPC stream", version(PeerKind::Gobgp)?),
            Self::Gobgp(Call::Unary) => format!("{}, gRPC unary", version(PeerKind::Gobgp)?),
            Self::Exabgp4 => format!("{}, API", version(PeerKind::Exabgp)?),
            Self::Exabgp5 => format!("{}, API", version(PeerKind::Exabgp5)?),
        })
    }

    /// GoBGP would connect only ten seconds later.
    const fn opens(self) -> Opens {
        match self {
            Self::Gobgp(_) => Opens::Receiver,
            _ => Opens::Announcer,
        }
    }

    fn start(self, link: Link, directory: &Path) -> Result<Box<dyn Announcer>, BenchError> {
        Ok(match self {
            Self::Tidegate => Box::new(speaker::Ours::start(link)?),
            Self::Bird => Box::new(bird::Bird::start(link, directory)?),
            Self::Gobgp(call) => Box::new(gobgp::Gobgp::start(link, directory, call)?),
            Self::Exabgp4 => Box::new(exabgp::Exabgp::start(link, directory, "exabgp")?),
            Self::Exabgp5 => Box::new(exabgp::Exabgp::start(link, directory, "exabgp5")?),
        })
    }
}

/// Measures all, inside the namespace. The tables replace those in the file `write`.
pub(super) fn measure(directory: &Path, write: Option<&Path>) -> Result<(), BenchError> {
    let mut ports = FIRST_PORT..;
    let mut link = |opens| Link { port: ports.next().unwrap_or(FIRST_PORT), opens };
    let mut report =
        Report { memory: speaker::memory(link(Opens::Announcer))?, ..Report::default() };
    for announcer in AnnouncerKind::ALL {
        let name = match announcer.name() {
            Ok(name) => name,
            // A reference that is not installed is said to be absent, not an error.
            Err(BenchError::Lab(error)) => {
                report.absent.push(error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        for receiver in ReceiverKind::ALL {
            let mut entry = Entry::new(name.clone(), receiver);
            for _ in 0..ROUNDS {
                session(announcer, receiver, link(announcer.opens()), directory, &mut entry)?;
            }
            println!("{}", entry.line());
            report.entries.push(entry);
        }
    }
    print!("{}", report.text());
    match write {
        Some(path) => report.write(path),
        None => Ok(()),
    }
}

/// One session: single routes first, then many at once, of each kind.
fn session(
    announcer: AnnouncerKind,
    receiver: ReceiverKind,
    link: Link,
    directory: &Path,
    entry: &mut Entry,
) -> Result<(), BenchError> {
    let (mut receiver, mut announcer) = match link.opens {
        Opens::Announcer => {
            let receiver = receiver.start(link, directory)?;
            (receiver, announcer.start(link, directory)?)
        }
        Opens::Receiver => {
            let announcer = announcer.start(link, directory)?;
            (receiver.start(link, directory)?, announcer)
        }
    };
    receiver.wait_until_established()?;
    for kind in Kind::ALL {
        for index in 0..SINGLES {
            let begin = announcer.announce(kind, index..index + 1)?;
            let end = receiver.expect(kind, 1)?;
            entry.one(kind).push(end.duration_since(begin));
        }
    }
    for kind in Kind::ALL {
        let begin = announcer.announce(kind, SINGLES..SINGLES + ROUTES)?;
        let end = receiver.expect(kind, ROUTES)?;
        entry.many(kind).push(end.duration_since(begin));
    }
    Ok(())
}
