//! The daemons: how each is configured, asked and disturbed.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tidegate_model::AddressFamily;

use super::InteropError;
use super::bench::Guard;
use super::route::{Held, Kind};
use crate::lab::{LabError, Namespace, require};

pub(super) use bird::ThirdRouter;

/// The daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PeerKind {
    /// BIRD 2.
    Bird,
    /// FRRouting's bgpd, without zebra.
    Frr,
    /// GoBGP.
    Gobgp,
    /// ExaBGP 4.
    Exabgp,
    /// ExaBGP 5.
    Exabgp5,
    /// OpenBGPD.
    Openbgpd,
}

impl PeerKind {
    /// All, in the order of the columns.
    pub const ALL: [Self; 6] =
        [Self::Bird, Self::Frr, Self::Gobgp, Self::Exabgp, Self::Exabgp5, Self::Openbgpd];

    /// Name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::Gobgp => "GoBGP",
            Self::Exabgp => "ExaBGP 4",
            Self::Exabgp5 => "ExaBGP 5",
            Self::Openbgpd => "OpenBGPD",
        }
    }

    /// Whether the daemon connects to us, instead of waiting for us.
    pub(super) const fn connects(self) -> bool {
        matches!(self, Self::Exabgp | Self::Exabgp5)
    }

    /// Why the daemon holds no routes of this kind, if it does not.
    pub(super) const fn lacks(self, kind: Kind) -> Option<&'static str> {
        match (self, kind) {
            (Self::Openbgpd, Kind::FlowSpec) => Some("OpenBGPD 7 receives no FlowSpec"),
            _ => None,
        }
    }

    /// The profiles that are meant for it.
    pub(super) const fn profiles(self) -> &'static [&'static str] {
        match self {
            Self::Bird => &["rfc", "bird"],
            Self::Frr => &["rfc", "frr", "frr-relay"],
            Self::Gobgp => &["rfc", "gobgp"],
            Self::Exabgp | Self::Exabgp5 => &["rfc", "exabgp"],
            Self::Openbgpd => &["rfc"],
        }
    }

    /// As the daemon names itself.
    pub(crate) fn version(self) -> Result<String, InteropError> {
        match self {
            Self::Bird => bird::version(),
            Self::Frr => frr::version(),
            Self::Gobgp => gobgp::version(),
            Self::Exabgp => exabgp::Release::Four.version(),
            Self::Exabgp5 => exabgp::Release::Five.version(),
            Self::Openbgpd => openbgpd::version(),
        }
    }

    /// Starts the daemon and waits until it answers.
    pub(super) fn start(self, setup: &Setup<'_>) -> Result<Box<dyn Router>, InteropError> {
        match self {
            Self::Bird => bird::start(setup),
            Self::Frr => frr::start(setup),
            Self::Gobgp => gobgp::start(setup),
            Self::Exabgp => exabgp::start(exabgp::Release::Four, setup),
            Self::Exabgp5 => exabgp::start(exabgp::Release::Five, setup),
            Self::Openbgpd => openbgpd::start(setup),
        }
    }
}

/// How a daemon is started. Its AS is 65001, ours 65010, the third router's 65003.
pub(super) struct Setup<'a> {
    pub(super) namespace: &'a Namespace,
    /// Of the addresses and of the routes.
    pub(super) family: AddressFamily,
    pub(super) local: IpAddr,
    pub(super) neighbor: IpAddr,
    /// Its address and the other's on the session with the third router.
    pub(super) third: (IpAddr, IpAddr),
    pub(super) guard: Guard,
}

/// A running daemon. Dropping it kills it.
pub(super) trait Router: std::fmt::Debug {
    /// Whether it says that the session with us is up.
    fn is_established(&mut self) -> Result<bool, InteropError>;

    /// What it holds of ours, in the session's family.
    fn held(&mut self) -> Result<Vec<Held>, InteropError>;

    /// Resets the session as its operator would.
    fn bounce(&mut self) -> Result<(), InteropError>;

    /// Lets it ask us for all routes again.
    fn ask_refresh(&mut self) -> Result<(), InteropError>;

    /// Fails if it passes no routes on to other routers.
    fn third_router(&self) -> Result<(), InteropError> {
        Ok(())
    }

    /// The end of what it wrote, for messages.
    fn last_words(&self) -> String;
}

/// Runs a program outside any namespace; both outputs.
fn output(program: &str, arguments: &[&str]) -> Result<String, InteropError> {
    let path = require::program(program)?;
    output_of(path, arguments)
}

fn output_of(path: PathBuf, arguments: &[&str]) -> Result<String, InteropError> {
    let mut command = Command::new(path);
    command.args(arguments);
    outputs(command)
}

fn outputs(mut command: Command) -> Result<String, InteropError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Start { program, source })?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes a file of the laboratory's.
fn write(namespace: &Namespace, name: &str, text: &str) -> Result<PathBuf, InteropError> {
    let path = namespace.directory().join(name);
    fs::write(&path, text).map_err(|source| LabError::File { path: path.clone(), source })?;
    Ok(path)
}

/// What an answer should have been and is not.
fn unreadable(what: &str, text: &str) -> InteropError {
    let text: String = text.chars().take(200).collect();
    InteropError::Answer(format!("{what} cannot be read: {text}"))
}
