//! Thresholds of hosts.

use std::fmt::Write;

use tidegate_model::Prefix;

use super::Groups;
use super::conf::{Conf, Entry};
use crate::import::Account;

/// FastNetMon's megabit has 2^20 bits.
const MEGABIT: u64 = 1 << 20;

/// What FastNetMon judges: the ends of its keys, and the metrics that are the same or a part of it.
const JUDGED: [(&str, &str, &str, &[&str]); 8] = [
    ("ban_for_pps", "threshold_pps", "packets", &["total"]),
    ("ban_for_bandwidth", "threshold_mbps", "bits", &["total"]),
    ("ban_for_tcp_pps", "threshold_tcp_pps", "packets", &["tcp", "tcp-syn"]),
    ("ban_for_tcp_bandwidth", "threshold_tcp_mbps", "bits", &["tcp"]),
    ("ban_for_udp_pps", "threshold_udp_pps", "packets", &["udp", "amplification"]),
    ("ban_for_udp_bandwidth", "threshold_udp_mbps", "bits", &["udp", "amplification"]),
    ("ban_for_icmp_pps", "threshold_icmp_pps", "packets", &["icmp"]),
    ("ban_for_icmp_bandwidth", "threshold_icmp_mbps", "bits", &["icmp"]),
];

/// Metrics of what FastNetMon counts in its totals only. They are not stricter than those, since
/// legitimate traffic may be all of one of them.
const AS_TOTAL: [&str; 3] = ["tcp", "udp", "other"];

/// The limits of one group: of each metric, packets and bits, in the order in which they are written.
#[derive(Default)]
struct Limits(Vec<(&'static str, Option<u64>, Option<u64>)>);

impl Limits {
    fn set(&mut self, metric: &'static str, unit: &str, limit: u64) {
        let known = self.0.iter().position(|(name, ..)| *name == metric);
        let index = known.unwrap_or_else(|| {
            self.0.push((metric, None, None));
            self.0.len() - 1
        });
        if let Some((_, packets, bits)) = self.0.get_mut(index) {
            *(if unit == "packets" { packets } else { bits }) = Some(limit);
        }
    }

    fn get(&self, metric: &str) -> Option<(Option<u64>, Option<u64>)> {
        let found = self.0.iter().find(|(name, ..)| *name == metric);
        found.map(|(_, packets, bits)| (*packets, *bits))
    }

    fn write(&self) -> String {
        let mut text = String::new();
        for (metric, packets, bits) in &self.0 {
            let limit = |unit: &str, limit: &Option<u64>| limit.map(|it| format!("{unit} = {it}"));
            let limits = [limit("packets", packets), limit("bits", bits)];
            let limits: Vec<String> = limits.into_iter().flatten().collect();
            let _ = writeln!(text, "{metric} = {{ {} }}", limits.join(", "));
        }
        text
    }
}

/// The `[groups.NAME]` of all groups.
pub(super) fn write(conf: &mut Conf, groups: &Groups, account: &mut Account) -> String {
    let mut text = String::new();
    for (name, prefixes) in groups {
        let limits = read(conf, &format!("{name}_"), account);
        let prefixes: Vec<String> =
            prefixes.iter().map(|it: &Prefix| format!("\"{it}\"")).collect();
        let _ = writeln!(text, "\n[groups.\"{name}\"]\nprefixes = [{}]", prefixes.join(", "));
        if let Some(entry) = conf.take(&format!("{name}_enable_ban")) {
            // Everything is only observed at first; this stays so when that ends.
            if entry.is_on() {
                account.carried.push(entry.remark("as [approval] says"));
            } else {
                text.push_str(
                    "approval = { local = \"observe\", flowspec = \"observe\", rtbh = \"observe\" }\n",
                );
                account.carried.push(entry.remark(&format!("groups.{name}.approval")));
            }
        }
        let limits = limits.write();
        if !limits.is_empty() {
            let _ = write!(text, "\n[groups.\"{name}\".thresholds]\n{limits}");
        }
    }
    let mut limits = read(conf, "", account);
    if let Some((packets, bits)) = limits.get("total") {
        for metric in AS_TOTAL.into_iter().filter(|it| limits.get(it).is_none()).collect::<Vec<_>>()
        {
            packets.into_iter().for_each(|limit| limits.set(metric, "packets", limit));
            bits.into_iter().for_each(|limit| limits.set(metric, "bits", limit));
        }
    }
    let written = limits.write();
    if !written.is_empty() {
        let _ = write!(text, "\n[groups.default.thresholds]\n{written}");
    }
    account.to_do.push(
        "tidegate also judges SYNs, answers of reflectors, ICMP and fragments for themselves, by the \
         limits built in where none is written (docs/policy.md): try them on a capture of a busy hour \
         with `tidegate replay`"
            .to_owned(),
    );
    text
}

/// The limits of the group whose keys begin with `start`.
fn read(conf: &mut Conf, start: &str, account: &mut Account) -> Limits {
    let mut limits = Limits::default();
    for (switch, key, unit, metrics) in JUDGED {
        let on = conf.take(&format!("{start}{switch}"));
        let Some(entry) = conf.take(&format!("{start}{key}")) else { continue };
        if !on.as_ref().is_some_and(Entry::is_on) {
            continue;
        }
        let limit = entry.value.parse::<u64>().ok().filter(|limit| *limit > 0);
        let factor = if unit == "bits" { MEGABIT } else { 1 };
        let Some(limit) = limit.and_then(|limit| limit.checked_mul(factor)) else {
            account.left_out.push(entry.remark("not a limit"));
            continue;
        };
        for metric in metrics {
            limits.set(metric, unit, limit);
        }
        account.carried.push(entry.remark(&format!("thresholds: {}", metrics.join(", "))));
    }
    conf.take(&format!("{start}threshold_flows"));
    if let Some(entry) = conf.take(&format!("{start}ban_for_flows")).filter(Entry::is_on) {
        account.left_out.push(entry.remark("flows are not counted: SYNs and packets are judged"));
    }
    limits
}
