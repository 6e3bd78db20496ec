//! Blackholes as routes of this host, by rtnetlink: for a host that routes what it protects itself.
//!
//! They are in a routing table of their own, which a rule has looked up before the main one, and
//! carry a protocol number of our own: that is their mark. What else is in that table is not ours.
//! They outlive this process; the reaper ends their lease. The rule stays: an empty table costs
//! nothing, and a rule that is gone is put back.
//!
//! Absent: FlowSpec, which is [nftables'](crate::kernel), and routes by source, which are rules with
//! a source there.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::TryStreamExt;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};
use serde::{Deserialize, Serialize};
use tidegate_bgpd::Family;
use tidegate_model::{Nlri, Prefix};
use tokio::task::JoinHandle;

use crate::backend::{Attributes, Capabilities};
use crate::external::{
    Change, Driver, ExternalError, Observation, Refusal, Seen, configured, outliving, within,
};

#[cfg(test)]
mod tests;

/// Longest wait for the kernel.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// `ENOENT`: there is no such table yet. `ESRCH`: no such route. `EEXIST`: there is such a rule.
const NO_TABLE: i32 = -2;
const NO_ROUTE: i32 = -3;
const EXISTS: i32 = -17;

/// Where our routes are on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinuxConfig {
    /// The routing table that is ours alone. Default: 29797.
    pub table: u32,
    /// Protocol number of our routes and of nobody else's. Default: 116.
    pub protocol: u8,
    /// Priority of the rule that has the table looked up; less than that of the main table, 32766.
    /// Default: 1000.
    pub rule_priority: u32,
    /// IPv4 and IPv6 unicast, or one of them. Default: both.
    #[serde(with = "crate::external::family_names")]
    pub families: BTreeSet<Family>,
}

impl Default for LinuxConfig {
    fn default() -> Self {
        Self {
            table: 29_797,
            protocol: 116,
            rule_priority: 1000,
            families: [Family::Ipv4Unicast, Family::Ipv6Unicast].into(),
        }
    }
}

/// Drives the routing tables of the network namespace that it connects in.
#[derive(Debug)]
pub struct LinuxDriver {
    config: LinuxConfig,
    link: Option<Link>,
}

/// A netlink socket and the task that reads it.
#[derive(Debug)]
struct Link {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The error number of a refusal, negative; or what else went wrong.
fn code(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(std::num::NonZero::get),
        _ => None,
    }
}

fn words(error: &rtnetlink::Error) -> String {
    match code(error) {
        Some(-1) => {
            "changing routes needs CAP_NET_ADMIN in this network namespace; run as root or \
                     grant it (`AmbientCapabilities=CAP_NET_ADMIN` in a systemd unit)"
                .to_owned()
        }
        Some(code) => format!("the kernel refuses: {}", io::Error::from_raw_os_error(-code)),
        None => error.to_string(),
    }
}

impl LinuxDriver {
    /// Drives the tables of `config`.
    #[must_use]
    pub const fn new(config: LinuxConfig) -> Self {
        Self { config, link: None }
    }

    fn handle(&self) -> Result<Handle, ExternalError> {
        let lost = || ExternalError::Lost("there is no netlink socket".to_owned());
        self.link.as_ref().map(|link| link.handle.clone()).ok_or_else(lost)
    }

    fn route(&self, prefix: Prefix) -> Result<RouteMessage, String> {
        let builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.address(), prefix.length())
            .map_err(|error| error.to_string())?;
        let builder = builder.table_id(self.config.table).kind(RouteType::BlackHole);
        Ok(builder.protocol(RouteProtocol::Other(self.config.protocol)).build())
    }

    /// Has our table looked up, in both families that are used.
    async fn keep_rules(&self) -> Result<(), ExternalError> {
        let handle = self.handle()?;
        for family in &self.config.families {
            let version = version(*family);
            let rules: Vec<RuleMessage> =
                handle.rule().get(version.clone()).execute().try_collect().await.map_err(lost)?;
            if rules.iter().any(|rule| self.is_ours(rule)) {
                continue;
            }
            tracing::info!(%family, table = self.config.table, "adding the rule for our routes");
            let mut add = handle.rule().add();
            add.message_mut().attributes.push(RuleAttribute::Protocol(self.protocol()));
            let add = add
                .table_id(self.config.table)
                .priority(self.config.rule_priority)
                .action(RuleAction::ToTable);
            let added = match version {
                IpVersion::V4 => add.v4().execute().await,
                IpVersion::V6 => add.v6().execute().await,
            };
            match added {
                Err(error) if code(&error) != Some(EXISTS) => return Err(lost(error)),
                _ => {}
            }
        }
        Ok(())
    }

    const fn protocol(&self) -> RouteProtocol {
        RouteProtocol::Other(self.config.protocol)
    }

    fn is_ours(&self, rule: &RuleMessage) -> bool {
        let has = |wanted: &RuleAttribute| rule.attributes.contains(wanted);
        rule.header.action == RuleAction::ToTable
            && has(&RuleAttribute::Table(self.config.table))
            && has(&RuleAttribute::Priority(self.config.rule_priority))
    }

    async fn carry_out(&self, change: &Change) -> Result<(), Refusal> {
        let handle = self.handle().map_err(|error| Refusal::Now(error.to_string()))?;
        let (prefix, announce) = match change {
            Change::Announce(route) => (&route.nlri, true),
            Change::Withdraw(nlri) => (nlri, false),
        };
        let Nlri::Unicast(prefix) = prefix else {
            return Err(Refusal::Never("a route of this host is no FlowSpec rule".to_owned()));
        };
        let message = self.route(*prefix).map_err(Refusal::Never)?;
        let done = if announce {
            handle.route().add(message).replace().execute().await
        } else {
            // Only with our protocol number: that of others stays.
            handle.route().del(message).execute().await
        };
        match done {
            Err(error) if !announce && [Some(NO_ROUTE), Some(NO_TABLE)].contains(&code(&error)) => {
                Ok(())
            }
            Err(error) => Err(Refusal::Now(words(&error))),
            Ok(()) => Ok(()),
        }
    }

    /// The routes of our table in one family.
    async fn table(&self, family: Family) -> Result<Vec<RouteMessage>, ExternalError> {
        // The kernel is asked for the one table only: the others may be those of a whole Internet.
        let mut message = match version(family) {
            IpVersion::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            IpVersion::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        message.header.kind = RouteType::Unspec;
        message.header.protocol = RouteProtocol::Unspec;
        message.header.table = 0;
        message.attributes = vec![RouteAttribute::Table(self.config.table)];
        match self.handle()?.route().get(message).execute().try_collect().await {
            Ok(routes) => Ok(routes),
            Err(error) if code(&error) == Some(NO_TABLE) => Ok(Vec::new()),
            Err(error) => Err(lost(error)),
        }
    }
}

const fn version(family: Family) -> IpVersion {
    match family {
        Family::Ipv4Unicast | Family::Ipv4FlowSpec => IpVersion::V4,
        Family::Ipv6Unicast | Family::Ipv6FlowSpec => IpVersion::V6,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn lost(error: rtnetlink::Error) -> ExternalError {
    ExternalError::Lost(format!("the routes of this host: {}", words(&error)))
}

/// What a route is for; the default route has no destination in its message.
fn destination(route: &RouteMessage) -> Option<Prefix> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    Prefix::new(address?, route.header.destination_prefix_length)
}

impl Driver for LinuxDriver {
    fn capabilities(&self) -> Capabilities {
        outliving(&self.config.families, Attributes::OfOperator)
    }

    fn spelled(&self, nlri: &Nlri) -> Result<Nlri, String> {
        configured(&self.config.families, nlri, "host's routing table").map(|_| nlri.clone())
    }

    async fn connect(&mut self) -> Result<(), ExternalError> {
        let opened = rtnetlink::new_connection_with_strict_check();
        let (connection, handle, _) =
            opened.map_err(ExternalError::io("open", "a netlink socket"))?;
        self.link = Some(Link { handle, task: tokio::spawn(connection) });
        within("the rules of this host", ANSWER_LIMIT, self.keep_rules()).await
    }

    async fn probe(&mut self) -> Result<(), ExternalError> {
        within("the rules of this host", ANSWER_LIMIT, self.keep_rules()).await
    }

    async fn apply(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), Refusal>>, ExternalError> {
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            answers.push(self.carry_out(change).await);
        }
        Ok(answers)
    }

    async fn observe(&mut self) -> Result<Observation, ExternalError> {
        let mut observation = Observation::default();
        for family in &self.config.families {
            let routes =
                within("the routes of this host", ANSWER_LIMIT, self.table(*family)).await?;
            for route in routes {
                let Some(prefix) = destination(&route) else { continue };
                let nlri = Nlri::Unicast(prefix);
                let ours = route.header.protocol == self.protocol()
                    && route.header.kind == RouteType::BlackHole;
                if ours {
                    observation.ours.push(Seen { nlri, route: None });
                } else {
                    observation.foreign.insert(nlri);
                }
            }
        }
        Ok(observation)
    }
}
