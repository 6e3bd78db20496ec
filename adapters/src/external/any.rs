//! The daemons that there are drivers for, behind one type.

use serde::{Deserialize, Serialize};
use tidegate_model::Nlri;

use super::{Change, Driver, ExternalError, Observation, Refusal};
use crate::backend::Capabilities;
use crate::bird::{BirdConfig, BirdDriver};
use crate::exabgp::{ExabgpConfig, ExabgpDriver};
use crate::frr::{FrrConfig, FrrDriver};
use crate::gobgp::{GobgpConfig, GobgpDriver};
use crate::linux::{LinuxConfig, LinuxDriver};

/// Which daemon, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExternalConfig {
    /// BIRD 2.
    Bird(BirdConfig),
    /// ExaBGP 4 or 5.
    Exabgp(ExabgpConfig),
    /// FRR, for blackholes.
    Frr(FrrConfig),
    /// GoBGP 3 or 4.
    Gobgp(GobgpConfig),
    /// The routing tables of this host, for blackholes.
    Linux(LinuxConfig),
}

impl ExternalConfig {
    /// A driver for it.
    #[must_use]
    pub fn driver(&self) -> AnyDriver {
        match self {
            Self::Bird(config) => AnyDriver::Bird(BirdDriver::new(config.clone())),
            Self::Exabgp(config) => AnyDriver::Exabgp(ExabgpDriver::new(config.clone())),
            Self::Frr(config) => AnyDriver::Frr(FrrDriver::new(config.clone())),
            Self::Gobgp(config) => AnyDriver::Gobgp(GobgpDriver::new(config.clone())),
            Self::Linux(config) => AnyDriver::Linux(LinuxDriver::new(config.clone())),
        }
    }
}

/// The driver of an [`ExternalConfig`].
#[derive(Debug)]
pub enum AnyDriver {
    /// BIRD 2.
    Bird(BirdDriver),
    /// ExaBGP 4 or 5.
    Exabgp(ExabgpDriver),
    /// FRR, for blackholes.
    Frr(FrrDriver),
    /// GoBGP 3 or 4.
    Gobgp(GobgpDriver),
    /// The routing tables of this host, for blackholes.
    Linux(LinuxDriver),
}

/// The same call to whichever driver it is.
macro_rules! each {
    ($any:expr, $driver:ident => $call:expr) => {
        match $any {
            AnyDriver::Bird($driver) => $call,
            AnyDriver::Exabgp($driver) => $call,
            AnyDriver::Frr($driver) => $call,
            AnyDriver::Gobgp($driver) => $call,
            AnyDriver::Linux($driver) => $call,
        }
    };
}

impl Driver for AnyDriver {
    fn capabilities(&self) -> Capabilities {
        each!(self, driver => driver.capabilities())
    }

    fn spelled(&self, nlri: &Nlri) -> Result<Nlri, String> {
        each!(self, driver => driver.spelled(nlri))
    }

    async fn connect(&mut self) -> Result<(), ExternalError> {
        each!(self, driver => driver.connect().await)
    }

    async fn probe(&mut self) -> Result<(), ExternalError> {
        each!(self, driver => driver.probe().await)
    }

    async fn apply(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), Refusal>>, ExternalError> {
        each!(self, driver => driver.apply(changes).await)
    }

    async fn observe(&mut self) -> Result<Observation, ExternalError> {
        each!(self, driver => driver.observe().await)
    }
}
