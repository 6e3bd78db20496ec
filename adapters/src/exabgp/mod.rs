//! ExaBGP 4 and 5, through a process that it runs, or through its named pipes.
//!
//! ```text
//!   tidegate <-- socket --> tidegate exabgp-sidecar <-- standard input, output --> ExaBGP
//! ```
//!
//! One command, one answer: ExaBGP blocks as a whole when its answers are not read, so the
//! [sidecar](sidecar) reads whatever comes, and nothing is sent before the last answer is there or
//! overdue. Afterwards ExaBGP is asked what it holds, because it answers `done` also to what it
//! has not understood.
//!
//! An ExaBGP that collects routes for somebody else can be shared: only the neighbours of
//! [`ExabgpConfig`] are told anything, and only routes with the [`Mark`] are looked at.
//!
//! Absent: redirection to an IPv6 address and tests that are always true or false, which ExaBGP's
//! language cannot say. Actions other than a rate in bytes are not compared when read back.

mod link;
mod parse;
mod render;
pub mod sidecar;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_bgpd::Family;
use tidegate_model::{Nlri, Route, TrafficFilteringAction};

use self::link::{End, Link, Source};
use self::parse::Shown;
use crate::backend::{Attributes, Capabilities};
use crate::external::{
    Change, Driver, ExternalError, Mark, Observation, Refusal, Seen, changed, configured,
    outliving, shown,
};

/// The listing of what is announced, to all neighbours.
const LISTING: &str = "show adj-rib out extensive";

/// How to reach an ExaBGP, and whom it is to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExabgpConfig {
    /// The way in.
    pub access: ExabgpAccess,
    /// The neighbours of ExaBGP that are told. Others never are.
    pub neighbors: BTreeSet<IpAddr>,
    /// Put on every route of ours.
    pub mark: Mark,
    /// The families to use. Default: all four.
    #[serde(with = "crate::external::family_names", default = "crate::external::all_families")]
    pub families: BTreeSet<Family>,
}

/// The way into an ExaBGP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ExabgpAccess {
    /// It runs `tidegate exabgp-sidecar --socket <socket>`, which connects to us.
    Sidecar {
        /// Where we listen.
        socket: PathBuf,
        /// Mode of the socket: ExaBGP's user must be able to write to it, and nobody else.
        #[serde(default = "ExabgpAccess::default_mode")]
        mode: u32,
    },
    /// Its named pipes, which are meant for its own command line: use no `exabgpcli` beside us.
    Pipes {
        /// `/run/exabgp/exabgp.in`
        input: PathBuf,
        /// `/run/exabgp/exabgp.out`
        output: PathBuf,
    },
}

impl ExabgpAccess {
    /// Owner and group.
    #[must_use]
    pub const fn default_mode() -> u32 {
        0o660
    }
}

impl ExabgpConfig {
    /// What the operator adds to ExaBGP's configuration for a sidecar.
    #[must_use]
    pub fn snippet(&self, lease: std::time::Duration) -> String {
        let ExabgpAccess::Sidecar { socket, .. } = &self.access else {
            return "# Nothing: the named pipes need no configuration.\n".to_owned();
        };
        let neighbors: String =
            self.neighbors.iter().map(|one| format!(" --neighbor {one}")).collect();
        format!(
            "process tidegate {{
    run tidegate exabgp-sidecar --socket {} --mark {} --lease {}s{neighbors};
    encoder json;
}}
# and in each neighbor section:
#   api {{ processes [ tidegate ]; }}
",
            socket.display(),
            self.mark,
            lease.as_secs()
        )
    }
}

/// Drives an ExaBGP.
#[derive(Debug)]
pub struct ExabgpDriver {
    config: ExabgpConfig,
    source: Option<Source>,
    link: Option<Link>,
    /// What it was told, to recognise what it shows with names in place of numbers.
    told: BTreeMap<Nlri, Route>,
    /// Routes without our mark, and at whom, as of the last listing.
    foreign: BTreeSet<(IpAddr, Nlri)>,
    /// Names of ports on this machine.
    ports: BTreeMap<String, u64>,
}

impl ExabgpDriver {
    /// Drives the ExaBGP of `config`.
    #[must_use]
    pub fn new(config: ExabgpConfig) -> Self {
        let (told, ports) = (BTreeMap::new(), BTreeMap::new());
        Self { config, source: None, link: None, told, foreign: BTreeSet::new(), ports }
    }

    async fn ask(&mut self, command: &str) -> Result<link::Reply, ExternalError> {
        let Some(link) = &mut self.link else {
            return Err(ExternalError::Lost("ExaBGP is not connected".to_owned()));
        };
        let answer = link.ask(command).await;
        if answer.is_err() {
            // Half an answer may be on the way.
            self.link = None;
        }
        answer
    }

    /// One command; what is wrong with its answer.
    async fn tell(&mut self, command: &str) -> Result<Result<(), Refusal>, ExternalError> {
        let reply = self.ask(command).await?;
        let said = reply.lines.last().map_or("", String::as_str);
        let neighbor = command.split_whitespace().nth(1).unwrap_or_default();
        Ok(match reply.end {
            End::Done => Ok(()),
            End::Error => Err(Refusal::Now(format!(
                "ExaBGP answers `error {}`; has it a neighbor {neighbor} with this family?",
                shown(said)
            ))),
            End::Swallowed => {
                Err(Refusal::Now("ExaBGP does not answer to this command".to_owned()))
            }
        })
    }

    /// The shown routes of our neighbours with our mark; those without are remembered.
    async fn listing(&mut self) -> Result<Vec<Shown>, ExternalError> {
        let reply = self.ask(LISTING).await?;
        if reply.end != End::Done {
            return Err(ExternalError::refused(LISTING, "error"));
        }
        let shown = reply.lines.iter().filter_map(|line| parse::line(line));
        let shown = shown.filter(|one| self.config.neighbors.contains(&one.neighbor));
        let (ours, others): (Vec<_>, Vec<_>) =
            shown.partition(|one| one.large_communities.contains(&self.config.mark.0));
        let known = others.iter().filter_map(|one| Some((one.neighbor, self.known(one)?)));
        self.foreign = known.collect();
        Ok(ours)
    }

    /// What a shown route is known by: a route that was told, or one that can be read.
    fn known(&self, shown: &Shown) -> Option<Nlri> {
        let number = |component: &str, name: &str| number(&self.ports, component, name);
        let read = shown.nlri(number);
        if let Some(read) = read.as_ref().filter(|read| self.told.contains_key(read)) {
            return Some(read.clone());
        }
        self.told.keys().find(|told| shown.fits(told)).cloned().or(read)
    }
}

/// The number that ExaBGP writes a name for.
fn number(ports: &BTreeMap<String, u64>, component: &str, name: &str) -> Option<u64> {
    const PROTOCOLS: [(&str, u64); 13] = [
        ("icmp", 1),
        ("igmp", 2),
        ("ipip", 4),
        ("tcp", 6),
        ("egp", 8),
        ("udp", 17),
        ("rsvp", 46),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("ospf", 89),
        ("pim", 103),
        ("sctp", 132),
    ];
    const ICMP_TYPES: [(&str, u64); 16] = [
        ("echo-reply", 0),
        ("unreachable", 3),
        ("source-quench", 4),
        ("redirect", 5),
        ("echo-request", 8),
        ("router-advertisement", 9),
        ("router-solicit", 10),
        ("time-exceeded", 11),
        ("parameter-problem", 12),
        ("timestamp", 13),
        ("timestamp-reply", 14),
        ("info-request", 15),
        ("info-reply", 16),
        ("mask-request", 17),
        ("mask-reply", 18),
        ("traceroute", 30),
    ];
    let named = |table: &[(&str, u64)]| {
        table.iter().find(|(one, _)| *one == name).map(|(_, number)| *number)
    };
    match component {
        "protocol" | "next-header" => named(&PROTOCOLS),
        "icmp-type" => named(&ICMP_TYPES),
        "port" | "source-port" | "destination-port" => ports.get(name).copied(),
        _ => None,
    }
}

/// Reads `/etc/services`: `domain 53/udp`.
fn ports(services: &str) -> BTreeMap<String, u64> {
    let mut ports = BTreeMap::new();
    for line in services.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if let (Some(name), Some(port)) = (words.next(), words.next())
            && let Some(number) = port.split('/').next().and_then(|text| text.parse::<u16>().ok())
        {
            ports.entry(name.to_owned()).or_insert(number.into());
        }
    }
    ports
}

impl Driver for ExabgpDriver {
    fn capabilities(&self) -> Capabilities {
        outliving(&self.config.families, Attributes::OfRoute)
    }

    fn spelled(&self, nlri: &Nlri) -> Result<Nlri, String> {
        configured(&self.config.families, nlri, "ExaBGP")?;
        if let Nlri::FlowSpec(rule) = nlri {
            render::matches(rule)?;
        }
        Ok(nlri.clone())
    }

    async fn connect(&mut self) -> Result<(), ExternalError> {
        self.link = None;
        if self.source.is_none() {
            self.source = Some(Source::new(&self.config.access)?);
        }
        if let Some(source) = &self.source {
            self.link = Some(source.link(&self.config.access).await?);
        }
        if self.ports.is_empty() {
            // Without it a route of an earlier run is withdrawn in ExaBGP's own words.
            let services = tokio::fs::read("/etc/services").await.unwrap_or_default();
            self.ports = ports(&String::from_utf8_lossy(&services));
        }
        Ok(())
    }

    async fn probe(&mut self) -> Result<(), ExternalError> {
        self.ask("version").await.map(drop)
    }

    async fn apply(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), Refusal>>, ExternalError> {
        let neighbors = self.config.neighbors.clone();
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            let mut answer = Ok(());
            for neighbor in &neighbors {
                let command = match change {
                    Change::Withdraw(nlri) if self.foreign.contains(&(*neighbor, nlri.clone())) => {
                        continue;
                    }
                    Change::Announce(route) => {
                        render::announce(*neighbor, &self.config.mark.on(route))
                    }
                    Change::Withdraw(nlri) => render::withdraw(*neighbor, nlri),
                };
                answer = match command {
                    Ok(command) => self.tell(&command).await?.and(answer),
                    Err(why) => Err(Refusal::Never(why)),
                };
            }
            match change {
                Change::Announce(route) => {
                    self.told.insert(route.nlri.clone(), route.clone());
                }
                Change::Withdraw(nlri) => drop(self.told.remove(nlri)),
            }
            answers.push(answer);
        }
        self.verify(changes, &mut answers).await?;
        Ok(answers)
    }

    async fn observe(&mut self) -> Result<Observation, ExternalError> {
        let ours = self.listing().await?;
        let mut by_nlri: BTreeMap<Nlri, Vec<Shown>> = BTreeMap::new();
        for shown in ours {
            match self.known(&shown) {
                Some(nlri) => by_nlri.entry(nlri).or_default().push(shown),
                // Of an earlier run, and in words that cannot be told: nobody can want it.
                None => {
                    let command = shown.withdraw();
                    tracing::warn!(%command, "a route of an earlier run, by names we do not know");
                    drop(self.tell(&command).await?);
                }
            }
        }
        let neighbors = self.config.neighbors.len();
        let mut observation = Observation::default();
        for (nlri, shown) in by_nlri {
            let told = self.told.get(&nlri);
            if told.is_some() && shown.len() < neighbors {
                // Gone at one of them: missing, so that it is announced again.
                continue;
            }
            let route = told
                .zip(shown.first())
                .map(|(told, shown)| as_shown(told, shown, self.config.mark));
            observation.ours.push(Seen { nlri, route });
        }
        observation.foreign = self.foreign.iter().map(|(_, nlri)| nlri.clone()).collect();
        Ok(observation)
    }
}

/// `told` with what ExaBGP shows of it.
fn as_shown(told: &Route, shown: &Shown, mark: Mark) -> Route {
    let mut large_communities = shown.large_communities.clone();
    large_communities.remove(&mark.0);
    let actions = told.actions.iter().map(|action| match (action, shown.rate) {
        // Shown as an integer.
        (TrafficFilteringAction::RateLimitBytes(rate), Some(seen))
            if rate.trunc() != seen.trunc() =>
        {
            TrafficFilteringAction::RateLimitBytes(seen)
        }
        _ => *action,
    });
    Route {
        nlri: told.nlri.clone(),
        next_hop: shown.next_hop,
        communities: shown.communities.clone().unwrap_or_else(|| told.communities.clone()),
        large_communities,
        actions: actions.collect(),
    }
}

impl ExabgpDriver {
    /// Asks what is held, and refuses what is held otherwise than told, or not at all.
    async fn verify(
        &mut self,
        changes: &[Change],
        answers: &mut [Result<(), Refusal>],
    ) -> Result<(), ExternalError> {
        let ours = self.listing().await?;
        let mut held: BTreeMap<Nlri, Vec<Shown>> = BTreeMap::new();
        for shown in ours {
            if let Some(nlri) = self.known(&shown) {
                held.entry(nlri).or_default().push(shown);
            }
        }
        let neighbors = self.config.neighbors.clone();
        for (change, answer) in changes.iter().zip(answers) {
            let shown = held.get(change.nlri()).map_or(&[][..], Vec::as_slice);
            let wrong = match change {
                Change::Withdraw(_) => (!shown.is_empty()).then(|| "still".to_owned()),
                Change::Announce(_) if shown.len() < neighbors.len() => Some("not".to_owned()),
                Change::Announce(route) => shown.iter().find_map(|one| {
                    changed(route, &as_shown(route, one, self.config.mark))
                        .map(|what| format!("with {what}"))
                }),
            };
            let (Some(wrong), Ok(())) = (wrong, &answer) else { continue };
            *answer = Err(Refusal::Now(format!("ExaBGP holds it {wrong}")));
            if let Change::Announce(route) = change {
                for neighbor in &neighbors {
                    if let Ok(command) = render::withdraw(*neighbor, &route.nlri) {
                        drop(self.tell(&command).await?);
                    }
                }
            }
        }
        Ok(())
    }
}
