//! One column of the table: one daemon through every case.

use std::fmt;
use std::path::Path;
use std::thread;

use tidegate_model::AddressFamily;

use super::InteropError;
use super::bench::{Bench, Guard, Refusal, wait};
use super::peer::PeerKind;
use super::route::Kind;
use crate::lab::{LabError, require};

/// Key of the guarded sessions.
const KEY: &str = "high-water";
/// A key that is none of theirs.
const OTHER_KEY: &str = "low-water";

/// What is done in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A route is announced.
    Announce,
    /// It is announced with other communities, or another action.
    Replace,
    /// The peer asks for the routes again (RFC 2918, RFC 7313).
    Refresh,
    /// The peer passes a rule on to a third router.
    PassOn,
    /// The peer's operator resets the session.
    Bounce,
    /// The peer is killed and started again.
    PeerRestart,
    /// The route is withdrawn, while the other one stays.
    Withdraw,
    /// Our side is killed with SIGKILL.
    Kill,
    /// Both have the same MD5 key (RFC 2385).
    Md5Right,
    /// They have different keys.
    Md5Wrong,
    /// Both ask for a TTL of 255 (RFC 5082).
    Gtsm,
    /// Only our side does.
    GtsmOnesided,
    /// Rules at the limits of the peer's profiles are announced and withdrawn.
    Profiles,
}

impl Operation {
    /// All, in the order in which they are run.
    pub const ALL: [Self; 13] = [
        Self::Announce,
        Self::Replace,
        Self::Refresh,
        Self::PassOn,
        Self::Bounce,
        Self::PeerRestart,
        Self::Withdraw,
        Self::Kill,
        Self::Md5Right,
        Self::Md5Wrong,
        Self::Gtsm,
        Self::GtsmOnesided,
        Self::Profiles,
    ];

    /// Name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Replace => "replace",
            Self::Refresh => "refresh",
            Self::PassOn => "passed on to a third router",
            Self::Bounce => "session bounce",
            Self::PeerRestart => "peer restart",
            Self::Withdraw => "withdraw",
            Self::Kill => "kill -9 of our side",
            Self::Md5Right => "MD5, same key",
            Self::Md5Wrong => "MD5, other key",
            Self::Gtsm => "GTSM",
            Self::GtsmOnesided => "GTSM, peer without",
            Self::Profiles => "limits of its profiles",
        }
    }

    /// Blackholes carry NO_EXPORT, so that only rules are passed on; limits are those of rules.
    const fn is_about(self, kind: Kind) -> bool {
        !matches!((self, kind), (Self::PassOn | Self::Profiles, Kind::Rtbh))
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Of session and route.
    pub family: AddressFamily,
    /// Of the route.
    pub kind: Kind,
    /// What is done.
    pub operation: Operation,
}

impl Case {
    /// Every row, in the order of the table.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for family in [AddressFamily::Ipv4, AddressFamily::Ipv6] {
            for kind in Kind::ALL {
                let about = Operation::ALL.into_iter().filter(|one| one.is_about(kind));
                all.extend(about.map(|operation| Self { family, kind, operation }));
            }
        }
        all
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, kind, operation } = self;
        write!(formatter, "{family} {} {}", kind.name(), operation.name())
    }
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The peer holds what it should.
    Ok,
    /// It does not.
    Fail(String),
    /// The daemon cannot do this, and why.
    Unsupported(String),
    /// There is no such daemon here.
    Absent(String),
}

impl Cell {
    /// What stands in the table.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail(_) => "FAIL",
            Self::Unsupported(_) => "not supported",
            Self::Absent(_) => "absent",
        }
    }

    /// What is to be said of it.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Fail(why) | Self::Unsupported(why) | Self::Absent(why) => Some(why),
        }
    }

    fn of(result: Result<(), InteropError>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(InteropError::Unsupported(why)) => Self::Unsupported(why),
            Err(InteropError::Lab(LabError::NoProgram(name))) => {
                let why =
                    require::why_absent(&name).map_or(String::new(), |why| format!(": {why}"));
                Self::Absent(format!("there is no program `{name}`{why}"))
            }
            Err(InteropError::Lab(LabError::Start { .. })) => {
                Self::Absent("the program cannot be started".to_owned())
            }
            Err(error) => Self::Fail(error.to_string()),
        }
    }
}

/// One daemon's column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Which daemon.
    pub peer: PeerKind,
    /// As it names itself, if it is there.
    pub version: Option<String>,
    /// Every case, in the order of [`Case::all`].
    pub cells: Vec<(Case, Cell)>,
}

/// Is told what became of each case as soon as that is known: a run takes minutes.
pub type Told = fn(PeerKind, Case, &Cell);

/// Runs every case with one daemon, and tells `told` of each. `program` is `tidegate-lab`.
///
/// # Errors
/// [`InteropError::Lab`] where there are no network namespaces or iproute2. What goes wrong with
/// the daemon is in the cells.
pub fn run_column(program: &Path, peer: PeerKind, told: Told) -> Result<Column, InteropError> {
    let cases = Case::all();
    let version = match peer.version() {
        Ok(version) => version,
        Err(InteropError::Lab(error @ (LabError::NoProgram(_) | LabError::Start { .. }))) => {
            let absent = Cell::of(Err(error.into()));
            let cells = cases.into_iter().map(|case| (case, absent.clone())).collect();
            return Ok(Column { peer, version: None, cells });
        }
        Err(error) => return Err(error),
    };
    // The families share nothing either.
    let run = |family| move || run_family(program, peer, family, told);
    let families = thread::scope(|scope| {
        let ipv6 = scope.spawn(run(AddressFamily::Ipv6));
        [run(AddressFamily::Ipv4)(), joined(ipv6.join())]
    });
    let mut found = Vec::new();
    for family in families {
        found.extend(family?);
    }
    let cell = |case: &Case| found.iter().find(|(other, _)| other == case);
    let cells = cases.iter().filter_map(|case| cell(case).cloned()).collect();
    Ok(Column { peer, version: Some(version), cells })
}

/// What a thread returned.
pub(super) fn joined<T>(
    result: thread::Result<Result<T, InteropError>>,
) -> Result<T, InteropError> {
    result.map_err(|_| InteropError::Answer("a column stopped at a bug".to_owned()))?
}

fn run_family(
    program: &Path,
    peer: PeerKind,
    family: AddressFamily,
    told: Told,
) -> Result<Vec<(Case, Cell)>, InteropError> {
    let mut bench = Bench::new(program, peer, family)?;
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| peer.lacks(*kind).is_none()).collect();
    let mut cells = Vec::new();
    for operation in Operation::ALL {
        let prepared = prepare(&mut bench, operation, &kinds);
        for kind in Kind::ALL.into_iter().filter(|kind| operation.is_about(*kind)) {
            let cell = match (peer.lacks(kind), &prepared) {
                (Some(why), _) => Cell::Unsupported(why.to_owned()),
                (None, Ok(())) => Cell::of(check(&mut bench, operation, kind)),
                (None, Err(InteropError::Unsupported(why))) => Cell::Unsupported(why.clone()),
                (None, Err(InteropError::Lab(LabError::Interrupted))) => {
                    return Err(LabError::Interrupted.into());
                }
                (None, Err(error)) => Cell::Fail(error.to_string()),
            };
            let case = Case { family, kind, operation };
            told(peer, case, &cell);
            cells.push((case, cell));
        }
    }
    Ok(cells)
}

/// Does what is done in common for all kinds of route.
fn prepare(bench: &mut Bench, operation: Operation, kinds: &[Kind]) -> Result<(), InteropError> {
    let plain = Guard::default();
    let keyed = Guard { md5: Some(KEY), ..plain };
    match operation {
        Operation::Announce => {
            start(bench, plain)?;
            announce(bench, kinds, 0)
        }
        Operation::Replace => announce(bench, kinds, 1),
        Operation::Refresh => {
            kinds.iter().try_for_each(|kind| bench.check(*kind))?;
            let before = bench.ours()?.status()?;
            bench.router()?.ask_refresh()?;
            wait(|| {
                let now = bench.ours()?.status()?;
                let asked = now.refreshes.saturating_sub(before.refreshes);
                let sent = now.updates.saturating_sub(before.updates);
                let count = kinds.len() as u64;
                if asked >= count && sent >= count {
                    return Ok(Ok(()));
                }
                Ok(Err(format!("{asked} refreshes asked for, {sent} updates sent")))
            })
        }
        Operation::PassOn => {
            bench.router()?.third_router()?;
            bench.start_third()
        }
        Operation::Bounce => {
            let before = bench.ours()?.status()?.established;
            bench.router()?.bounce()?;
            bench.wait_up(before).map(drop)
        }
        Operation::PeerRestart => {
            let before = bench.ours()?.status()?.established;
            bench.start_router(plain)?;
            bench.wait_up(before).map(drop)
        }
        Operation::Withdraw => Ok(()),
        Operation::Kill => {
            announce(bench, kinds, 0)?;
            kinds.iter().try_for_each(|kind| bench.check(*kind))?;
            bench.kill_ours()
        }
        Operation::Md5Right => {
            start(bench, keyed)?;
            announce(bench, kinds, 0)
        }
        Operation::Md5Wrong => {
            bench.start_ours(Guard { md5: Some(OTHER_KEY), ..plain })?;
            announce(bench, kinds, 0)?;
            bench.wait_refused(Refusal::Signature)
        }
        Operation::Gtsm => {
            start(bench, Guard { gtsm: true, ..plain })?;
            announce(bench, kinds, 0)
        }
        Operation::GtsmOnesided => {
            bench.start_router(plain)?;
            bench.start_ours(Guard { gtsm: true, ..plain })?;
            announce(bench, kinds, 0)?;
            bench.wait_refused(Refusal::Distance)
        }
        Operation::Profiles => start(bench, plain),
    }
}

/// Starts both sides anew and waits for the session.
fn start(bench: &mut Bench, guard: Guard) -> Result<(), InteropError> {
    bench.start_router(guard)?;
    bench.start_ours(guard)?;
    bench.wait_up(0).map(drop)
}

fn announce(bench: &mut Bench, kinds: &[Kind], version: usize) -> Result<(), InteropError> {
    kinds.iter().try_for_each(|kind| bench.announce(*kind, version))
}

/// What the peer must hold in the end.
fn check(bench: &mut Bench, operation: Operation, kind: Kind) -> Result<(), InteropError> {
    match operation {
        Operation::Md5Wrong | Operation::GtsmOnesided => bench.check_empty(kind),
        Operation::Kill => {
            bench.check_empty(kind)?;
            bench.check_third()
        }
        Operation::PassOn => bench.check_third(),
        Operation::Profiles => bench.check_profiles(),
        Operation::Withdraw => {
            // First while the other route is there, then without it.
            bench.withdraw(kind)?;
            Kind::ALL.into_iter().try_for_each(|kind| bench.check(kind))?;
            bench.check_third()
        }
        Operation::Bounce | Operation::PeerRestart => {
            bench.check(kind)?;
            bench.check_third()
        }
        _ => bench.check(kind),
    }
}
