//! Routes as text, and as peers hold them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use tidegate_bgpd::convert::decode_flowspec;
use tidegate_model::{
    AddressFamily, Community, FlowSpecComponent, FlowSpecRule, LargeCommunity, Nlri, NumericMatch,
    Prefix, Route, TrafficFilteringAction,
};

/// The two kinds of mitigation that a peer can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A unicast route tagged BLACKHOLE (RFC 7999).
    Rtbh,
    /// A FlowSpec rule (RFC 8955, RFC 8956).
    FlowSpec,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rtbh, Self::FlowSpec];

    /// Name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtbh => "RTBH",
            Self::FlowSpec => "FlowSpec",
        }
    }
}

/// Stands among the matches of a rule that the peer shows no further: BIRD writes some 250
/// characters of one.
pub(super) const CUT_OFF: &str = "...";

/// What a route means, wherever it is read: what is wanted and what a peer holds are compared as
/// values of this type.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// RTBH or FlowSpec.
    pub kind: Kind,
    /// What is matched: `destination 192.0.2.1/32`, and for a rule `protocol 17`, `source-port 123`.
    pub matches: BTreeSet<String>,
    /// Next hop of a blackhole.
    pub next_hop: Option<IpAddr>,
    /// Communities of a blackhole.
    pub communities: BTreeSet<Community>,
    /// Large communities of a blackhole.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// Traffic-rate in bytes a second (RFC 8955 §7.1); zero discards.
    pub rate: Option<f32>,
}

impl Held {
    /// Nothing but its destination.
    #[must_use]
    pub fn new(kind: Kind, destination: &str) -> Self {
        Self {
            kind,
            matches: BTreeSet::from([format!("destination {destination}")]),
            next_hop: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            rate: None,
        }
    }

    /// What a peer should hold of `route`. The speaker adds NO_LLGR (RFC 9494 §4.2).
    #[must_use]
    pub fn of(route: &Route) -> Self {
        let (kind, matches) = match &route.nlri {
            Nlri::Unicast(prefix) => {
                (Kind::Rtbh, BTreeSet::from([format!("destination {prefix}")]))
            }
            Nlri::FlowSpec(rule) => {
                let components = rule.components().iter();
                let plain = |one: &FlowSpecComponent| one.to_string().replacen(" =", " ", 1);
                (Kind::FlowSpec, components.map(plain).collect())
            }
        };
        let rate = route.actions.iter().find_map(|action| match action {
            TrafficFilteringAction::RateLimitBytes(rate) => Some(*rate),
            _ => None,
        });
        let mut communities = route.communities.clone();
        if kind == Kind::Rtbh {
            communities.insert(Community::NO_LLGR);
        }
        Self {
            kind,
            matches,
            next_hop: route.next_hop,
            communities,
            large_communities: route.large_communities.clone(),
            rate,
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = vec![self.kind.name().to_owned()];
        words.extend(self.matches.iter().cloned());
        words.extend(self.next_hop.map(|address| format!("next-hop {address}")));
        words.extend(self.communities.iter().map(ToString::to_string));
        words.extend(self.large_communities.iter().map(ToString::to_string));
        words.extend(self.rate.map(|rate| format!("rate {rate}")));
        formatter.write_str(&words.join(" "))
    }
}

/// Reads a route: `rtbh PREFIX` or `flow PREFIX`, then pairs of a word and its value. For `rtbh`:
/// `next-hop`, `community`, `large-community`; for `flow`: `protocol`, `source-port`, `rate`. Or
/// `rule FAMILY HEX rate RATE`, with the octets of an NLRI.
///
/// # Errors
/// What cannot be read, on one line.
pub(super) fn parse(text: &str) -> Result<Route, String> {
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or_default();
    if kind == "rule" {
        return parse_octets(&words.collect::<Vec<_>>());
    }
    let destination: Prefix = read(words.next().unwrap_or_default())?;
    let mut route = Route {
        nlri: Nlri::Unicast(destination),
        next_hop: None,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        actions: Vec::new(),
    };
    let mut components = vec![FlowSpecComponent::DestinationPrefix(destination)];
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("nothing follows `{word}`"))?;
        match (kind, word) {
            ("rtbh", "next-hop") => route.next_hop = Some(read(value)?),
            ("rtbh", "community") => {
                route.communities.insert(read(value)?);
            }
            ("rtbh", "large-community") => {
                route.large_communities.insert(read(value)?);
            }
            ("flow", "protocol") => {
                let protocol = NumericMatch::equal(read(value)?);
                components.push(FlowSpecComponent::IpProtocol(protocol));
            }
            ("flow", "source-port") => {
                let port = NumericMatch::equal(read(value)?);
                components.push(FlowSpecComponent::SourcePort(port));
            }
            ("flow", "rate") => {
                route.actions.push(TrafficFilteringAction::RateLimitBytes(read(value)?));
            }
            _ => return Err(format!("`{word}` is no part of `{kind}`")),
        }
    }
    match kind {
        "rtbh" => {}
        "flow" => {
            let rule = FlowSpecRule::new(destination.family(), components);
            route.nlri = Nlri::FlowSpec(rule.map_err(|error| error.to_string())?);
        }
        _ => return Err(format!("`{kind}` is neither `rtbh` nor `flow`")),
    }
    Ok(route)
}

fn parse_octets(words: &[&str]) -> Result<Route, String> {
    let [family, hex, "rate", rate] = words else {
        return Err(format!("`{}` is no rule", words.join(" ")));
    };
    let family = match *family {
        "ipv4" => AddressFamily::Ipv4,
        "ipv6" => AddressFamily::Ipv6,
        other => return Err(format!("`{other}` is no family")),
    };
    let octets: Vec<u8> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("`{hex}`: {error}"))?;
    let rules = decode_flowspec(family, &octets).map_err(|error| error.to_string())?;
    let [rule] = rules.as_slice() else { return Err(format!("`{hex}` is not one rule")) };
    Ok(Route {
        nlri: Nlri::FlowSpec(rule.clone()),
        next_hop: None,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        actions: vec![TrafficFilteringAction::RateLimitBytes(read(rate)?)],
    })
}

fn read<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_kinds() {
        for (text, meaning) in [
            (
                "rtbh 203.0.113.7/32 next-hop 192.0.2.1 community 65535:666 large-community 1:2:3",
                "RTBH destination 203.0.113.7/32 next-hop 192.0.2.1 65535:7 65535:666 1:2:3",
            ),
            (
                "flow 2001:db8:1::7/128 source-port 123 protocol 17 rate 0",
                "FlowSpec destination 2001:db8:1::7/128 protocol 17 source-port 123 rate 0",
            ),
        ] {
            assert_eq!(Held::of(&parse(text).unwrap()).to_string(), meaning);
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            "",
            "rtbh",
            "rtbh x",
            "other 203.0.113.7/32",
            "rtbh 203.0.113.7/32 rate 0",
            "flow 203.0.113.7/32 protocol",
            "flow 203.0.113.7/32 protocol udp",
            "flow 203.0.113.7/32 protocol 17 protocol 6",
            "rule ipv4 0 rate 0",
            "rule ipv4 03038111 rate",
            "rule ipx 03038111 rate 0",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
