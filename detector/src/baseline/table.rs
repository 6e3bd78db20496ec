//! What was learned, for people.

use std::net::IpAddr;

use serde::Serialize;
use tidegate_model::Metric;

use super::profile::{Profile, Unit};
use super::{Baselines, Origin};
use crate::config::Group;

/// What is usual, and what follows from it, at this hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaselineTable {
    /// Hour of the week, Monday 00:00 UTC is 0.
    pub hour: usize,
    /// By name.
    pub groups: Vec<BaselineRow>,
    /// By address; no more than were asked for.
    pub hosts: Vec<BaselineRow>,
    /// Hosts that have a baseline, those that are not listed included.
    pub known_hosts: usize,
    /// Times that a host was not learned about because too many others were.
    pub unlearned: u64,
}

/// What one group or host is used to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaselineRow {
    /// Name of the group, or address of the host.
    pub name: String,
    /// Hours that were learned from.
    pub hours: u16,
    /// How far it is relied on: zero until a day of traffic was seen, one after three.
    pub maturity: f64,
    /// By metric, those that have a threshold.
    pub metrics: Vec<BaselineMetric>,
}

/// One metric of a host or of a group's busiest host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaselineMetric {
    /// As in the policy: `tcp-syn`.
    pub metric: &'static str,
    /// What is usual at this hour, in packets and in bits a second.
    pub usual_packets_per_second: u64,
    /// The same in bits.
    pub usual_bits_per_second: u64,
    /// What is judged by, in packets a second; `null` if packets are not judged.
    pub limit_packets_per_second: Option<u64>,
    /// The same in bits.
    pub limit_bits_per_second: Option<u64>,
    /// `policy`, `learned-of-group` or `learned-of-host`: where it comes from.
    pub origin: &'static str,
}

impl Origin {
    /// As in a [`BaselineTable`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::LearnedOfGroup => "learned-of-group",
            Self::LearnedOfHost => "learned-of-host",
        }
    }
}

impl Baselines {
    /// What is known of all groups, and of the first `most` hosts that `wanted` lets through.
    pub(crate) fn table<'a>(
        &self,
        most: usize,
        groups: &[Group],
        group_of: impl Fn(IpAddr) -> Option<&'a Group>,
        wanted: impl Fn(IpAddr) -> bool,
    ) -> BaselineTable {
        let of_group = |group: &Group| {
            let profile = self.groups.get(&group.name)?;
            Some(self.row(group.name.clone(), group, (Some(profile), None)))
        };
        let mut hosts: Vec<(&IpAddr, &Profile)> =
            self.hosts.iter().filter(|(address, _)| wanted(**address)).collect();
        hosts.sort_unstable_by_key(|(address, _)| **address);
        let of_host = |(address, profile): (&IpAddr, &Profile)| {
            let group = group_of(*address)?;
            let known = (self.groups.get(&group.name), Some(profile));
            Some(self.row(address.to_string(), group, known))
        };
        BaselineTable {
            hour: super::profile::of_week(self.hour),
            groups: groups.iter().filter_map(of_group).collect(),
            hosts: hosts.into_iter().filter_map(of_host).take(most).collect(),
            known_hosts: self.hosts.len(),
            unlearned: self.refused,
        }
    }

    fn row(
        &self,
        name: String,
        group: &Group,
        known: (Option<&Profile>, Option<&Profile>),
    ) -> BaselineRow {
        let own = known.1.or(known.0);
        let metrics = group.thresholds.iter().filter_map(|(metric, policy)| {
            let [packets, bits] = [
                (Unit::Packets, policy.packets.map(|rate| rate.0)),
                (Unit::Bits, policy.bits.map(|rate| rate.0)),
            ]
            .map(|(unit, ceiling)| self.judged(known, (metric, unit), ceiling));
            let usual = |unit| own.map_or(0, |own| whole(own.usual(self.hour, (metric, unit))));
            let (_, origin) = packets.or(bits)?;
            Some(BaselineMetric {
                metric: Metric::name(metric),
                usual_packets_per_second: usual(Unit::Packets),
                usual_bits_per_second: usual(Unit::Bits),
                limit_packets_per_second: packets.map(|(limit, _)| limit),
                limit_bits_per_second: bits.map(|(limit, _)| limit),
                origin: origin.name(),
            })
        });
        BaselineRow {
            name,
            hours: own.map_or(0, |own| own.learned),
            maturity: own.map_or(0.0, Profile::maturity),
            metrics: metrics.collect(),
        }
    }

    fn judged(
        &self,
        known: (Option<&Profile>, Option<&Profile>),
        series: (Metric, Unit),
        ceiling: Option<u64>,
    ) -> Option<(u64, Origin)> {
        let ceiling = super::float(ceiling?);
        let (limit, origin) = self.limit(known, self.hour, series, ceiling);
        Some((super::whole(limit), origin))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and saturate"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}
