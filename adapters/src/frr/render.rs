//! Static routes in FRR's language, and what its running configuration says of them.

use std::collections::BTreeSet;
use std::fmt::Write;

use tidegate_model::{AddressFamily, Nlri, Prefix};

use crate::external::{Change, Observation, Seen};

/// The configuration lines that carry out `changes`.
pub(super) fn lines(changes: &[Change], tag: u32) -> String {
    let mut text = String::new();
    for change in changes {
        let Nlri::Unicast(prefix) = change.nlri() else { continue };
        let no = match change {
            Change::Announce(_) => "",
            Change::Withdraw(_) => "no ",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{no}{} route {prefix} blackhole tag {tag}", command(*prefix));
    }
    text
}

fn command(prefix: Prefix) -> &'static str {
    match prefix.family() {
        AddressFamily::Ipv4 => "ip",
        AddressFamily::Ipv6 => "ipv6",
    }
}

/// The blackholes among the static routes of `show running-config`: ours by their tag.
pub(super) fn observe(configuration: &str, tag: u32) -> Observation {
    let mut ours = Vec::new();
    let mut foreign = BTreeSet::new();
    for line in configuration.lines() {
        let mut words = line.split_whitespace();
        if !matches!((words.next(), words.next()), (Some("ip" | "ipv6"), Some("route"))) {
            continue;
        }
        let Some(prefix) = words.next().and_then(|text| text.parse().ok()) else { continue };
        if !matches!(words.next(), Some("blackhole" | "reject" | "Null0")) {
            // Another next hop is another route, beside ours.
            continue;
        }
        let rest: Vec<&str> = words.collect();
        let tagged = rest.windows(2).any(|pair| pair == ["tag", tag.to_string().as_str()]);
        let nlri = Nlri::Unicast(prefix);
        if tagged && !rest.contains(&"vrf") {
            ours.push(Seen { nlri, route: None });
        } else if !rest.contains(&"vrf") {
            foreign.insert(nlri);
        }
    }
    Observation { ours, foreign }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_model::Route;

    fn announce(prefix: &str) -> Change {
        Change::Announce(Route {
            nlri: Nlri::Unicast(prefix.parse().unwrap()),
            next_hop: None,
            communities: [].into(),
            large_communities: [].into(),
            actions: vec![],
        })
    }

    #[test]
    fn changes_are_configuration_lines() {
        let withdraw = Change::Withdraw(Nlri::Unicast("2001:db8::1".parse().unwrap()));
        assert_eq!(
            lines(&[withdraw, announce("192.0.2.1")], 666),
            "no ipv6 route 2001:db8::1/128 blackhole tag 666\nip route 192.0.2.1/32 blackhole tag 666\n"
        );
    }

    #[test]
    fn ours_are_told_by_the_tag() {
        let observation = observe(
            "frr version 8.4.4\n!\nip route 192.0.2.1/32 blackhole tag 666\nip route 192.0.2.2/32 blackhole\n\
             ip route 192.0.2.3/32 Null0 tag 6660\nip route 192.0.2.4/32 10.0.0.1 tag 666\n\
             ipv6 route 2001:db8::1/128 Null0 tag 666\nip route 192.0.2.5/32 blackhole tag 666 vrf red\n\
             router bgp 65001\n ip route nonsense\nip route\nip route 192.0.2.6/33 blackhole tag 666\n",
            666,
        );
        let ours: Vec<_> = observation.ours.iter().map(|seen| seen.nlri.to_string()).collect();
        let foreign: Vec<_> = observation.foreign.iter().map(ToString::to_string).collect();
        assert_eq!(ours, ["192.0.2.1/32", "2001:db8::1/128"]);
        assert_eq!(foreign, ["192.0.2.2/32", "192.0.2.3/32"]);
    }
}
