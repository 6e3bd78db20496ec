//! `key = value` lines.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{Community, ParsePrefixError, Prefix};

use super::Groups;
use crate::import::{Account, Remark};

/// A setting, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    key: String,
    pub(super) value: String,
    place: String,
}

impl Entry {
    pub(super) fn is_on(&self) -> bool {
        self.value == "on"
    }

    pub(super) fn remark(&self, text: &str) -> Remark {
        remark(&self.place, &format!("{} = {}", self.key, self.value), text.to_owned())
    }
}

/// What became of `setting`, which is shown without control characters and cut.
pub(super) fn remark(place: &str, setting: &str, text: String) -> Remark {
    const SHOWN: usize = 120;
    let shown: String =
        setting.chars().map(|it| if it.is_control() { '?' } else { it }).take(SHOWN).collect();
    Remark { place: place.to_owned(), setting: shown, text }
}

/// A configuration, from which settings are taken one by one.
#[derive(Clone, Debug)]
pub(super) struct Conf {
    pub(super) name: String,
    entries: BTreeMap<String, Entry>,
    groups: Vec<Entry>,
    /// Lines that are no settings.
    pub(super) faults: Vec<Remark>,
}

/// Lines with something in them, counted from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().zip(1..).map(|(line, number)| (number, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// A prefix, and what had to be done to it.
pub(super) fn prefix(text: &str) -> Result<(Prefix, Option<String>), String> {
    match text.parse::<Prefix>() {
        Ok(prefix) if prefix.length() == 0 => Err("everything is nobody's network".to_owned()),
        Ok(prefix) => Ok((prefix, None)),
        Err(ParsePrefixError::HostBits { canonical, .. }) => {
            Ok((canonical, Some("bits behind the length are left out".to_owned())))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// `65001:666`, or `[65001:666 65001:777]`.
pub(super) fn communities(text: &str) -> Result<Vec<Community>, String> {
    let items = text.trim_start_matches('[').trim_end_matches(']').split_whitespace();
    items.map(|item| item.parse::<Community>().map_err(|error| error.to_string())).collect()
}

/// The AS number that a community begins with.
pub(super) fn asn(community: &Community) -> u16 {
    let text = community.to_string();
    text.split(':').next().and_then(|high| high.parse().ok()).unwrap_or(0)
}

impl Conf {
    /// As FastNetMon reads it: the last of several lines for a key counts.
    pub(super) fn parse(name: &str, text: &str) -> Self {
        let mut conf = Self {
            name: name.to_owned(),
            entries: BTreeMap::new(),
            groups: Vec::new(),
            faults: Vec::new(),
        };
        for (line, text) in lines(text) {
            let place = format!("{name}:{line}");
            let Some((key, value)) = text.split_once('=').filter(|(_, rest)| !rest.contains('='))
            else {
                conf.faults.push(remark(&place, text, "not a setting".to_owned()));
                continue;
            };
            let key = key.trim().to_owned();
            let entry = Entry { key: key.clone(), value: value.trim().to_owned(), place };
            if key == "hostgroup" {
                conf.groups.push(entry);
            } else {
                conf.entries.insert(key, entry);
            }
        }
        conf
    }

    pub(super) fn peek(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        self.entries.remove(key)
    }

    /// The switch `key`, if it is on.
    pub(super) fn take_on(&mut self, key: &str) -> Option<Entry> {
        self.take(key).filter(Entry::is_on)
    }

    /// The host groups, as far as they are protected.
    pub(super) fn take_groups(
        &mut self,
        owned: &BTreeSet<Prefix>,
        account: &mut Account,
    ) -> Groups {
        let mut groups = Groups::new();
        let mut taken = BTreeSet::new();
        for entry in std::mem::take(&mut self.groups) {
            let Some((name, members)) = entry.value.split_once(':') else {
                account.left_out.push(entry.remark("not `NAME:NETWORK,NETWORK`"));
                continue;
            };
            let name = name.trim();
            let usable = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
            if name.is_empty() || name.len() > 64 || name == "default" || !name.chars().all(usable)
            {
                account.left_out.push(entry.remark(
                    "the name of a group is 1 to 64 letters, digits, `-`, `_` and `.`, and not `default`",
                ));
                continue;
            }
            let mut prefixes = BTreeSet::new();
            for member in members.split(',').map(str::trim) {
                let why = match prefix(member) {
                    Err(why) => why,
                    Ok((prefix, _)) if !owned.iter().any(|it| it.contains(&prefix)) => {
                        "not in a protected network".to_owned()
                    }
                    Ok((prefix, _)) if prefixes.iter().any(|it: &Prefix| it.overlaps(&prefix)) => {
                        "its addresses are in this group already".to_owned()
                    }
                    Ok((prefix, _)) if !taken.insert(prefix) => {
                        "in another group already".to_owned()
                    }
                    Ok((prefix, _)) => {
                        prefixes.insert(prefix);
                        continue;
                    }
                };
                account.left_out.push(entry.remark(&format!("{member}: {why}")));
            }
            if prefixes.is_empty() {
                account.left_out.push(entry.remark("none of it can be protected"));
            } else {
                account.carried.push(entry.remark(&format!("groups.{name}")));
                groups.entry(name.to_owned()).or_default().extend(prefixes);
            }
        }
        groups
    }

    /// Says of everything that was not taken what becomes of it.
    pub(super) fn leave_rest(self, account: &mut Account) {
        for entry in self.entries.into_values() {
            if QUIET.iter().any(|start| entry.key.starts_with(start)) {
                continue;
            }
            let known = LEFT.iter().find(|(key, _)| *key == entry.key);
            match known {
                // What was off is not missed.
                Some(_) if entry.value == "off" => {}
                Some((_, why)) => account.left_out.push(entry.remark(why)),
                None if entry.value == "off" => {}
                None => account.left_out.push(entry.remark("tidegate has nothing like it")),
            }
        }
    }
}

/// Settings of what only FastNetMon has, that say nothing of what it protects: how it draws, logs, and
/// reads packets, and the details of switches that are told of for themselves.
const QUIET: [&str; 36] = [
    "networks_list_path",
    "white_list_path",
    "check_period",
    "sort_parameter",
    "max_ips_in_list",
    "pid_path",
    "cli_stats_",
    "logging_level",
    "dump_all_traffic",
    "dump_other_traffic",
    "ban_details_records_count",
    "disable_usage_report",
    "enable_connection_tracking",
    "process_incoming_traffic",
    "average_calculation_time",
    "speed_calculation_delay",
    "mirror",
    "netmap_",
    "xdp_",
    "microcode_xdp_path",
    "poll_mode_xdp",
    "zero_copy_xdp",
    "force_native_mode_xdp",
    "af_packet_",
    "netflow_",
    "sflow_",
    "pcap",
    "exabgp_",
    "gobgp_",
    "redis_",
    "mongodb_",
    "influxdb_",
    "graphite_",
    "clickhouse_metrics_",
    "kafka_traffic_export_",
    "prometheus_",
];

/// Switches that tidegate has another answer to.
const LEFT: [(&str, &str); 12] = [
    ("redis_enabled", STORE),
    ("mongodb_enabled", STORE),
    ("influxdb", METRICS),
    ("graphite", METRICS),
    ("clickhouse_metrics", METRICS),
    ("prometheus", "add `[metrics]` to tidegate.toml; the names of the metrics are others"),
    ("kafka_traffic_export", "traffic is not exported"),
    ("enable_api", "tidegate has an API of its own, on a Unix socket"),
    ("logging_local_syslog_logging", SYSLOG),
    ("logging_remote_syslog_logging", SYSLOG),
    (
        "monitor_local_ip_addresses",
        "addresses of this host are not added by themselves: list them in `owned.prefixes`",
    ),
    (
        "monitor_openvz_vps_ip_addresses",
        "addresses of containers are not added by themselves: list them in `owned.prefixes`",
    ),
];

const STORE: &str = "incidents are kept in SQLite: [incidents]";
const METRICS: &str = "metrics are for Prometheus: [metrics]";
const SYSLOG: &str = "add `[alerts.syslog]` with `type = \"syslog\"`";
