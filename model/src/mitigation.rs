//! Mitigations: what is wanted, what backends are told, and what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::action::TrafficFilteringAction;
use crate::attack::AttackId;
use crate::community::{Community, LargeCommunity};
use crate::flowspec::{AddressFamily, FlowSpecRule};
use crate::prefix::Prefix;
use crate::time::Timestamp;

/// Something that installs routes: a BGP peer of the embedded speaker, the local kernel, or another
/// routing daemon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendId {
    /// The embedded speaker's session with the peer of this name.
    Peer(String),
    /// nftables on this host.
    Kernel,
    /// The routing daemon of this name, driven by an interface of its own: ExaBGP, GoBGP, BIRD or
    /// FRR. What it was told outlives us.
    External(String),
}

impl fmt::Display for BackendId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(name) => write!(formatter, "peer {name}"),
            Self::Kernel => formatter.write_str("kernel"),
            Self::External(name) => write!(formatter, "backend {name}"),
        }
    }
}

/// What a route is known by: enough to withdraw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nlri {
    /// A unicast prefix; tidegate announces those only as blackholes (RFC 7999).
    Unicast(Prefix),
    /// A FlowSpec rule (RFC 8955, RFC 8956).
    FlowSpec(FlowSpecRule),
}

impl Nlri {
    /// Address family of the route.
    #[must_use]
    pub fn family(&self) -> AddressFamily {
        match self {
            Self::Unicast(prefix) => prefix.family(),
            Self::FlowSpec(rule) => rule.family(),
        }
    }

    /// The destination that the route diverts. `None` for a FlowSpec rule without one.
    #[must_use]
    pub fn destination(&self) -> Option<Prefix> {
        match self {
            Self::Unicast(prefix) => Some(*prefix),
            Self::FlowSpec(rule) => rule.destination(),
        }
    }
}

impl fmt::Display for Nlri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unicast(prefix) => prefix.fmt(formatter),
            Self::FlowSpec(rule) => rule.fmt(formatter),
        }
    }
}

/// A route with everything a backend needs to install it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// What it is known by.
    pub nlri: Nlri,
    /// Next hop of a unicast route. FlowSpec has none.
    pub next_hop: Option<IpAddr>,
    /// Communities, sorted, without repetition.
    pub communities: BTreeSet<Community>,
    /// Large communities, sorted, without repetition.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// Actions of a FlowSpec rule. Empty for unicast.
    pub actions: Vec<TrafficFilteringAction>,
}

/// Names one mitigation: the same NLRI at the same backend is the same mitigation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MitigationKey {
    /// Where.
    pub backend: BackendId,
    /// What.
    pub nlri: Nlri,
}

impl fmt::Display for MitigationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.nlri, self.backend)
    }
}

/// How long a mitigation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// It stays at least until then, even if the attack seems over.
    pub at_least_until: Timestamp,
    /// Its lease: it goes then, whatever else is true, unless it is renewed.
    pub not_after: Timestamp,
}

/// A mitigation that the planner wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Mitigation {
    /// Where it is wanted.
    pub backend: BackendId,
    /// What is wanted.
    pub route: Route,
    /// The attacks it answers.
    pub attacks: BTreeSet<AttackId>,
    /// Name of the policy response that asks for it.
    pub response: String,
    /// Why, for people: one line.
    pub reason: String,
    /// For how long.
    pub lifetime: Lifetime,
}

impl Mitigation {
    /// What the mitigation is known by.
    #[must_use]
    pub fn key(&self) -> MitigationKey {
        MitigationKey { backend: self.backend.clone(), nlri: self.route.nlri.clone() }
    }
}

/// Everything that should be installed now. Whatever is not in it should not be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DesiredSet {
    /// Grows with every change.
    pub generation: u64,
    /// The wanted mitigations.
    pub mitigations: BTreeMap<MitigationKey, Mitigation>,
}

/// Names a command until its outcome arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What a backend is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// For the outcome to refer to.
    pub id: CommandId,
    /// Which backend.
    pub backend: BackendId,
    /// What to do.
    pub kind: CommandKind,
}

impl Command {
    /// The route that the command is about.
    #[must_use]
    pub fn nlri(&self) -> &Nlri {
        match &self.kind {
            CommandKind::Announce { route, .. } => &route.nlri,
            CommandKind::Withdraw(nlri) => nlri,
        }
    }
}

/// Install or remove.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandKind {
    /// Install, or replace what the same NLRI had before.
    Announce {
        /// The route.
        route: Route,
        /// Lease: a backend that outlives us removes it then.
        lease: Duration,
    },
    /// Remove.
    Withdraw(Nlri),
}

/// What a backend answered to a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The command.
    pub command: CommandId,
    /// The backend.
    pub backend: BackendId,
    /// The route.
    pub nlri: Nlri,
    /// What became of it.
    pub kind: OutcomeKind,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// Done: for a BGP peer, the UPDATE has been handed to the socket.
    Applied {
        /// The bytes that were sent, empty if the backend has none to show. Shared by all that one
        /// message carried.
        bytes: Arc<[u8]>,
    },
    /// Kept, and carried out when the backend is reachable again.
    Pending {
        /// What it waits for.
        why: String,
    },
    /// Will not be done, and trying again would not help.
    Rejected {
        /// Who refused and why.
        why: String,
    },
    /// Could not be done now; trying again may help.
    Failed {
        /// What went wrong.
        why: String,
    },
}

/// Whether a backend can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// It can: for a BGP peer, the session is established.
    Up,
    /// It cannot, and what it holds is not known.
    Down {
        /// What is known of the cause.
        why: String,
    },
}
