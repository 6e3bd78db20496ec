//! Routing daemons that are driven by an interface of their own.
//!
//! Each has a [`Driver`]: it reaches the daemon, changes routes, and reads back what is there. One
//! [`ExternalBackend`] task a daemon runs it:
//!
//! ```text
//!           connect, observe                 a batch fails, a probe fails
//!   Down --------------------> Up ------------------------------------------> Down
//!    ^  |  every RECONNECT      |  probe every PROBE, apply, observe
//!    +--+                       +--> news
//! ```
//!
//! What is ours is told apart by a mark that the daemon keeps with the route: a large community, a
//! static route's tag, the name of a protocol. What lacks it is never touched, not even if it is
//! the route that we want: then the announcement fails until that is gone.
//!
//! Before a route goes to a daemon it is encoded as an UPDATE and judged by the egress gate, like
//! what the embedded speaker sends.
//!
//! Absent on purpose: retries of routes, which are the reconciler's, and leases, which are the
//! [reaper](crate::reaper)'s.

mod any;
mod guard;
mod mailbox;
pub(crate) mod wire;
mod worker;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_model::{Nlri, Route};

pub use any::{AnyDriver, ExternalConfig};
pub use guard::Guard;
pub use worker::ExternalBackend;
pub(crate) use worker::changed;

use tidegate_bgpd::Family;

use crate::backend::{Attributes, Capabilities, Survival};

/// What a daemon is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Hold this route, instead of what the same NLRI had before.
    Announce(Route),
    /// Do not hold it.
    Withdraw(Nlri),
}

impl Change {
    /// The route that it is about.
    #[must_use]
    pub fn nlri(&self) -> &Nlri {
        match self {
            Self::Announce(route) => &route.nlri,
            Self::Withdraw(nlri) => nlri,
        }
    }
}

/// Why a change was not carried out although the daemon can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It never will be.
    Never(String),
    /// It may be later.
    Now(String),
}

/// What a daemon holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Routes with our mark.
    pub ours: Vec<Seen>,
    /// Routes of others that compete with ours for the same NLRI.
    pub foreign: BTreeSet<Nlri>,
}

/// One route with our mark.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What it is known by, as the daemon spells it. The same rule may be written in several ways.
    pub nlri: Nlri,
    /// The route, without our mark, where the daemon shows more than the NLRI.
    pub route: Option<Route>,
}

/// What a daemon of these families can do, which keeps routes when we are gone.
pub(crate) fn outliving(families: &BTreeSet<Family>, attributes: Attributes) -> Capabilities {
    Capabilities { families: families.clone(), survival: Survival::OutliveUs, attributes }
}

/// The family of `nlri`, if `daemon` is configured for it.
///
/// # Errors
/// That it is not, in words.
pub(crate) fn configured(
    families: &BTreeSet<Family>,
    nlri: &Nlri,
    daemon: &str,
) -> Result<Family, String> {
    let family = Family::of(nlri);
    if families.contains(&family) {
        return Ok(family);
    }
    Err(format!("this {daemon} is not configured for {family}"))
}

/// Why a daemon could not be told or asked. It counts as down then.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// A file, socket or program of the daemon's cannot be used.
    #[error("cannot {operation} {what}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon did not answer in time.
    #[error("{what}: no answer within {limit:?}")]
    Silent {
        /// What was asked.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The daemon refused something that it should not.
    #[error("{what}: it answered `{answer}`")]
    Refused {
        /// What was asked.
        what: String,
        /// The answer.
        answer: String,
    },
    /// The daemon's answer makes no sense.
    #[error("{what}: cannot read the answer `{answer}`")]
    Unreadable {
        /// What was asked.
        what: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// The connection is gone, or the daemon was restarted.
    #[error("{0}")]
    Lost(String),
}

/// Most characters of an answer that an error shows.
const SHOWN: usize = 200;

impl ExternalError {
    pub(crate) fn io(
        operation: &'static str,
        what: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { operation, what, source }
    }

    pub(crate) fn unreadable(what: impl Into<String>, answer: &str) -> Self {
        Self::Unreadable { what: what.into(), answer: shown(answer) }
    }

    pub(crate) fn refused(what: impl Into<String>, answer: &str) -> Self {
        Self::Refused { what: what.into(), answer: shown(answer) }
    }
}

/// The beginning of what a daemon said, without control characters.
pub(crate) fn shown(text: &str) -> String {
    let clean = text.trim().chars().map(|one| if one.is_control() { ' ' } else { one });
    clean.take(SHOWN).collect()
}

/// Ends `work` after `limit`.
pub(crate) async fn within<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, ExternalError>> + Send,
) -> Result<T, ExternalError> {
    let silent = |_| ExternalError::Silent { what: what.to_owned(), limit };
    tokio::time::timeout(limit, work).await.map_err(silent)?
}

/// How one kind of daemon is driven.
pub trait Driver: Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The NLRI as the daemon will spell it when asked. An error says why it cannot be told.
    ///
    /// # Errors
    /// What the daemon's language cannot say.
    fn spelled(&self, nlri: &Nlri) -> Result<Nlri, String>;

    /// Reaches the daemon, again if need be.
    fn connect(&mut self) -> impl Future<Output = Result<(), ExternalError>> + Send;

    /// Whether it is still the daemon that was reached.
    fn probe(&mut self) -> impl Future<Output = Result<(), ExternalError>> + Send;

    /// Carries out changes: all NLRI are different, withdraws come first. One answer a change.
    fn apply(
        &mut self,
        changes: &[Change],
    ) -> impl Future<Output = Result<Vec<Result<(), Refusal>>, ExternalError>> + Send;

    /// Reads what the daemon holds.
    fn observe(&mut self) -> impl Future<Output = Result<Observation, ExternalError>> + Send;
}

/// The mark of our routes as a large community (RFC 8092): on every route that is sent through
/// GoBGP or ExaBGP, and on none of anybody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mark(pub tidegate_model::LargeCommunity);

impl Mark {
    /// The mark of an operator who has not chosen one: the AS number, and `tide` in ASCII.
    #[must_use]
    pub const fn of_as(asn: u32) -> Self {
        let (local1, local2) = (0x7469_6465, 1);
        Self(tidegate_model::LargeCommunity { global: asn, local1, local2 })
    }

    /// Puts the mark on.
    pub(crate) fn on(&self, route: &Route) -> Route {
        let mut route = route.clone();
        route.large_communities.insert(self.0);
        route
    }
}

impl TryFrom<String> for Mark {
    type Error = tidegate_model::ParseCommunityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl std::str::FromStr for Mark {
    type Err = tidegate_model::ParseCommunityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> Self {
        mark.to_string()
    }
}

/// Families by their names in configuration: `ipv4-unicast`, `ipv6-flowspec`.
pub(crate) mod family_names {
    use std::collections::BTreeSet;

    use serde::{Deserialize, Deserializer, Serializer};
    use tidegate_bgpd::Family;

    pub(crate) fn serialize<S: Serializer>(
        families: &BTreeSet<Family>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(families.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<Family>, D::Error> {
        let names = BTreeSet::<String>::deserialize(deserializer)?;
        let read = |name: &String| name.parse().map_err(serde::de::Error::custom);
        names.iter().map(read).collect()
    }
}

/// The default of a driver's families.
pub(crate) fn all_families() -> BTreeSet<tidegate_bgpd::Family> {
    tidegate_bgpd::Family::ALL.into()
}
