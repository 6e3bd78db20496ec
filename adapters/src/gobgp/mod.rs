//! GoBGP 3 and 4 by gRPC.
//!
//! Routes are handed over as BGP octets and read back as such: after every change what it is about
//! is listed, and what is not held exactly as told is withdrawn again and reported. GoBGP looks up
//! single prefixes, but not single rules: of FlowSpec all is listed, and before a withdraw nothing,
//! so that it does not wait for that. Ours carry the
//! [`Mark`]; a path of GoBGP's own without it, of the same NLRI, is somebody else's and stays.
//!
//! A rule over 239 octets is refused before: GoBGP 3.10 sends it malformed and loses the session.
//! GoBGP keeps nothing over its restart, and everything over ours: the reaper ends a lease.
//!
//! Absent: TLS. Give gobgpd a Unix socket (`--api-hosts unix:///run/gobgp.sock`); its default, TCP
//! port 50051 on all addresses, lets anybody in.

mod client;
mod convert;
mod proto;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidegate_bgpd::Family;
use tidegate_model::{Nlri, Route};

use self::client::{Client, Failure};
use self::proto::Path;
use crate::backend::{Attributes, Capabilities};
use crate::external::{
    Change, Driver, ExternalError, Mark, Observation, Refusal, Seen, changed, configured, outliving,
};

/// How to reach a GoBGP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GobgpConfig {
    /// `unix:///run/gobgp.sock` or `http://127.0.0.1:50051`.
    #[serde(default = "GobgpConfig::default_address")]
    pub address: String,
    /// Put on every route of ours.
    pub mark: Mark,
    /// The families to look after. Default: all four.
    #[serde(with = "crate::external::family_names", default = "crate::external::all_families")]
    pub families: BTreeSet<Family>,
}

impl GobgpConfig {
    /// The default address.
    #[must_use]
    pub fn default_address() -> String {
        "unix:///run/gobgp.sock".to_owned()
    }
}

/// Drives a GoBGP.
#[derive(Debug)]
pub struct GobgpDriver {
    config: GobgpConfig,
    /// Ends with the GoBGP that it reached, and our routes with that.
    client: Option<Client>,
    /// Rules that GoBGP has of its own, as of the last listing.
    foreign_rules: BTreeSet<Nlri>,
}

impl GobgpDriver {
    /// Drives the GoBGP of `config`.
    #[must_use]
    pub const fn new(config: GobgpConfig) -> Self {
        Self { config, client: None, foreign_rules: BTreeSet::new() }
    }

    fn client(&mut self) -> Result<&mut Client, ExternalError> {
        self.client.as_mut().ok_or_else(|| ExternalError::Lost("GoBGP is not connected".to_owned()))
    }

    fn lost(&mut self, failure: Failure) -> ExternalError {
        self.client = None;
        failure.into_error(&format!("GoBGP at {}", self.config.address))
    }

    /// Our marked routes and the other paths that GoBGP made itself, of one family.
    async fn table(&mut self, family: Family) -> Result<Observation, ExternalError> {
        let observation = self.read(family, &[]).await?;
        if matches!(family, Family::Ipv4FlowSpec | Family::Ipv6FlowSpec) {
            self.foreign_rules.retain(|nlri| Family::of(nlri) != family);
            self.foreign_rules.extend(observation.foreign.iter().cloned());
        }
        Ok(observation)
    }

    /// The same of these changes only, as far as GoBGP can be asked so.
    async fn look_up<'c>(
        &mut self,
        changes: impl Iterator<Item = &'c Change>,
    ) -> Result<Observation, ExternalError> {
        let mut asked: BTreeMap<Family, Vec<String>> = BTreeMap::new();
        for change in changes {
            let of_family = asked.entry(Family::of(change.nlri())).or_default();
            if let Nlri::Unicast(prefix) = change.nlri() {
                of_family.push(prefix.to_string());
            }
        }
        let mut all = Observation::default();
        for (family, prefixes) in asked {
            let seen = if prefixes.is_empty() {
                self.table(family).await?
            } else {
                self.read(family, &prefixes).await?
            };
            all.ours.extend(seen.ours);
            all.foreign.extend(seen.foreign);
        }
        Ok(all)
    }

    async fn read(
        &mut self,
        family: Family,
        prefixes: &[String],
    ) -> Result<Observation, ExternalError> {
        let paths = match self.client()?.list(convert::family(family), prefixes).await {
            Ok(paths) => paths,
            Err(failure) => return Err(self.lost(failure)),
        };
        let mut observation = Observation::default();
        for path in paths.iter().filter(|path| is_local(path)) {
            match convert::route(family, path, self.config.mark.0) {
                Ok((route, true)) => {
                    observation.ours.push(Seen { nlri: route.nlri.clone(), route: Some(route) });
                }
                Ok((route, false)) => drop(observation.foreign.insert(route.nlri)),
                Err(what) => tracing::debug!(%family, %what, "a path of GoBGP that we cannot read"),
            }
        }
        Ok(observation)
    }

    /// Hands paths over; per path what was refused.
    async fn send(&mut self, paths: Vec<Path>) -> Result<Vec<Result<(), Refusal>>, ExternalError> {
        let count = paths.len();
        match self.client()?.add_stream(paths.clone()).await {
            Ok(()) => return Ok(vec![Ok(()); count]),
            Err(failure) if failure.refusal().is_some() => {}
            Err(failure) => return Err(self.lost(failure)),
        }
        // One of them was refused, and those behind it were not looked at.
        let mut answers = Vec::with_capacity(count);
        for path in paths {
            let answer = self.client()?.add(path).await;
            answers.push(match answer.map_err(|failure| (failure.refusal(), failure)) {
                Ok(()) => Ok(()),
                Err((Some(why), _)) => Err(Refusal::Now(format!("GoBGP refuses: {why}"))),
                Err((None, failure)) => return Err(self.lost(failure)),
            });
        }
        Ok(answers)
    }
}

/// Whether GoBGP did not learn the path from a peer.
fn is_local(path: &Path) -> bool {
    path.neighbor_ip.parse::<std::net::IpAddr>().is_err()
}

impl Driver for GobgpDriver {
    fn capabilities(&self) -> Capabilities {
        outliving(&self.config.families, Attributes::OfRoute)
    }

    fn spelled(&self, nlri: &Nlri) -> Result<Nlri, String> {
        let family = configured(&self.config.families, nlri, "GoBGP")?;
        let octets = convert::withdraw(nlri)?.nlri_binary;
        convert::nlri(family, &octets).ok_or_else(|| format!("{nlri} cannot be read back"))
    }

    async fn connect(&mut self) -> Result<(), ExternalError> {
        let client = Client::connect(&self.config.address).await?;
        tracing::info!(version = ?client.version(), "GoBGP reached");
        self.client = Some(client);
        Ok(())
    }

    async fn probe(&mut self) -> Result<(), ExternalError> {
        match self.client()?.get_bgp().await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.lost(failure)),
        }
    }

    async fn apply(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), Refusal>>, ExternalError> {
        // Somebody may have come with the same route since the last look.
        let quick = |change: &&Change| {
            matches!((change, change.nlri()), (Change::Announce(_), _) | (_, Nlri::Unicast(_)))
        };
        let mut foreign = self.look_up(changes.iter().filter(quick)).await?.foreign;
        foreign.extend(self.foreign_rules.iter().cloned());
        let mut answers = Vec::with_capacity(changes.len());
        let mut paths = Vec::new();
        for change in changes {
            let path = match change {
                Change::Withdraw(nlri) if foreign.contains(nlri) => {
                    answers.push(Ok(()));
                    continue;
                }
                Change::Announce(route) if foreign.contains(&route.nlri) => {
                    let why = "GoBGP has this route of its own, without our mark";
                    answers.push(Err(Refusal::Now(why.to_owned())));
                    continue;
                }
                Change::Announce(route) => convert::announce(&self.config.mark.on(route)),
                Change::Withdraw(nlri) => convert::withdraw(nlri),
            };
            match path {
                Ok(path) => {
                    paths.push((answers.len(), path));
                    answers.push(Ok(()));
                }
                Err(why) => answers.push(Err(Refusal::Never(why))),
            }
        }
        let (places, paths): (Vec<usize>, Vec<Path>) = paths.into_iter().unzip();
        for (place, sent) in places.into_iter().zip(self.send(paths).await?) {
            if let Some(answer) = answers.get_mut(place) {
                *answer = sent;
            }
        }
        self.verify(changes, &mut answers).await?;
        Ok(answers)
    }

    async fn observe(&mut self) -> Result<Observation, ExternalError> {
        let mut all = Observation::default();
        for family in self.config.families.clone() {
            let table = self.table(family).await?;
            all.ours.extend(table.ours);
            all.foreign.extend(table.foreign);
        }
        Ok(all)
    }
}

impl GobgpDriver {
    /// Reads the tables back. What is there otherwise than told is withdrawn and refused.
    async fn verify(
        &mut self,
        changes: &[Change],
        answers: &mut [Result<(), Refusal>],
    ) -> Result<(), ExternalError> {
        let ours = self.look_up(changes.iter()).await?.ours;
        let held = ours.into_iter().filter_map(|seen| Some((seen.nlri, seen.route?)));
        let held: BTreeMap<Nlri, Route> = held.collect();
        let mut wrong = Vec::new();
        for (change, answer) in changes.iter().zip(answers) {
            if answer.is_err() {
                continue;
            }
            let spelled = self.spelled(change.nlri()).unwrap_or_else(|_| change.nlri().clone());
            let why = match (change, held.get(&spelled)) {
                (Change::Announce(_), None) => Some("GoBGP does not hold it".to_owned()),
                (Change::Withdraw(_), Some(_)) => Some("GoBGP still holds it".to_owned()),
                (Change::Announce(route), Some(seen)) => {
                    changed(route, seen).map(|what| format!("GoBGP holds it with {what}"))
                }
                (Change::Withdraw(_), None) => None,
            };
            if let Some(why) = why {
                wrong.extend(convert::withdraw(change.nlri()));
                *answer = Err(Refusal::Now(why));
            }
        }
        if wrong.is_empty() { Ok(()) } else { self.send(wrong).await.map(drop) }
    }
}
