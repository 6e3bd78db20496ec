//! Profile text to [`Profile`], and what a peer overrides in one.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use tidegate_model::{Community, LargeCommunity, ParseCommunityError};

use super::words::{FRAGMENT_BITS, TCP_FLAGS};
use super::{
    ActionKind, BitmaskForm, Comparison, Component, ConfinedBy, FlowSpecProfile, Lengths, NextHop,
    Profile, RtbhFormat, Sessions,
};
use crate::guard::{MAX_NLRI_OCTETS, SHORTEST_FLOWSPEC_V4, SHORTEST_FLOWSPEC_V6};
use crate::policy::Family;
use crate::text::{Table, Value};

/// No list has more communities than this: a route must fit one BGP message of 4096 bytes.
const MAX_COMMUNITIES: usize = 64;
/// More routes than any router takes as mitigations.
const MAX_ROUTES: u32 = 100_000;
/// As many values as fit a rule at all.
const MAX_VALUES: usize = 78;
/// Room for a destination, a protocol and a port.
const LEAST_OCTETS: usize = 32;

/// The words of an enumeration.
pub(crate) fn words<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|value| (name(*value), *value)).collect()
}

/// A profile that is `base` except for what `table` says.
pub(crate) fn named_profile(name: &str, table: &Table<'_>, base: Profile) -> Option<Profile> {
    let line = |key, example| match table.optional(key, example) {
        Some(value) => value.string().map(|text| Some(text.to_owned())),
        None => Some(None),
    };
    let summary = line("summary", "\"border routers of the site\"");
    let source = line("source", "\"contract of 2026-01-31\"");
    let fields = fields(table, &base, Some(&Communities::default()));
    table.finish();
    let (summary, source) = (summary?, source?);
    Some(Profile {
        name: name.to_owned(),
        summary: summary.unwrap_or(base.summary),
        source: source.unwrap_or(base.source),
        ..fields?
    })
}

/// The fields of a profile that stand in `table`, the others from `base`. `every` are communities
/// that all routes carry; `None` if they are faulty.
pub(crate) fn fields(
    table: &Table<'_>,
    base: &Profile,
    every: Option<&Communities>,
) -> Option<Profile> {
    let families = match table.optional("families", "[\"ipv4-unicast\", \"ipv4-flowspec\"]") {
        Some(value) => families(&value),
        None => Some(base.families.clone()),
    };
    let sessions = table.optional("sessions", "\"shared\"").map_or(Some(base.sessions), |value| {
        value.choice("a number of sessions", &words(Sessions::ALL, Sessions::name))
    });
    let confined_by =
        table.optional("confined-by", "\"no-export\"").map_or(Some(base.confined_by), |value| {
            value.choice("a way to confine routes", &words(ConfinedBy::ALL, ConfinedBy::name))
        });
    let max_routes = table
        .optional("max-routes", "200")
        .map_or(Some(base.max_routes), |value| value.integer(1..=MAX_ROUTES));
    let rtbh = match table.optional("rtbh", "{ communities = [\"blackhole\", \"no-export\"] }") {
        Some(value) => value.table().and_then(|table| {
            let check = |format: &RtbhFormat| check_confined(confined_by, format, every);
            rtbh(&value, &table, &base.rtbh, &check)
        }),
        None => match check_confined(confined_by, &base.rtbh, every) {
            Ok(()) => Some(base.rtbh.clone()),
            Err((message, help)) => {
                table.error(message, help);
                None
            }
        },
    };
    let flowspec = match table.optional("flowspec", "{ max-values = 5 }") {
        Some(value) => value.table().and_then(|table| flowspec(&table, &base.flowspec)),
        None => Some(base.flowspec.clone()),
    };
    Some(Profile {
        families: families?,
        sessions: sessions?,
        confined_by: confined_by?,
        max_routes: max_routes?,
        rtbh: rtbh?,
        flowspec: flowspec?,
        ..base.clone()
    })
}

fn families(value: &Value<'_>) -> Option<BTreeSet<Family>> {
    let items = value.list("\"ipv4-unicast\"")?;
    if items.is_empty() {
        value.error("`families` is empty", "name at least one, or leave it out for all four");
        return None;
    }
    chosen(&items, "an address family", &words(Family::ALL, Family::name))
}

fn chosen<T: Copy + Ord>(
    items: &[Value<'_>],
    kind: &str,
    known: &[(&str, T)],
) -> Option<BTreeSet<T>> {
    let read: Vec<Option<T>> = items.iter().map(|item| item.choice(kind, known)).collect();
    read.into_iter().collect()
}

/// Communities of both kinds, told apart by their number of parts.
#[derive(Clone, Default)]
pub(crate) struct Communities {
    /// RFC 1997.
    pub(crate) standard: BTreeSet<Community>,
    /// RFC 8092.
    pub(crate) large: BTreeSet<LargeCommunity>,
}

impl Communities {
    /// A list; `None` after reporting.
    pub(crate) fn read(value: &Value<'_>) -> Option<Self> {
        let items = value.list("\"65001:666\"")?;
        if items.len() > MAX_COMMUNITIES {
            let message = format!("`{}` has {} communities", value.name(), items.len());
            value.error(message, format!("no more than {MAX_COMMUNITIES} fit; leave some out"));
            return None;
        }
        let mut communities = Self::default();
        let mut whole = true;
        for item in items {
            match item.parse::<AnyCommunity>() {
                Some(AnyCommunity::Standard(community)) => {
                    communities.standard.insert(community);
                }
                Some(AnyCommunity::Large(community)) => {
                    communities.large.insert(community);
                }
                None => whole = false,
            }
        }
        whole.then_some(communities)
    }
}

enum AnyCommunity {
    Standard(Community),
    Large(LargeCommunity),
}

impl FromStr for AnyCommunity {
    type Err = ParseCommunityError;

    fn from_str(text: &str) -> Result<Self, ParseCommunityError> {
        if text.matches(':').count() == 2 {
            text.parse().map(Self::Large)
        } else {
            text.parse().map(Self::Standard)
        }
    }
}

type Complaint = (&'static str, &'static str);

/// `rtbh`, which stands at `place`.
fn rtbh(
    place: &Value<'_>,
    table: &Table<'_>,
    base: &RtbhFormat,
    check: &dyn Fn(&RtbhFormat) -> Result<(), Complaint>,
) -> Option<RtbhFormat> {
    let mut format = base.clone();
    let listed = table.optional("communities", "[\"blackhole\", \"no-export\"]");
    let communities = match &listed {
        Some(value) => Communities::read(value).map(|read| {
            format.communities = read.standard;
            format.large_communities = read.large;
        }),
        None => Some(()),
    };
    let confined = communities.and_then(|()| match check(&format) {
        Ok(()) => Some(()),
        Err((message, help)) => {
            listed.as_ref().unwrap_or(place).error(message, help);
            None
        }
    });
    let next_hop_v4 = table
        .optional("next-hop-v4", "\"192.0.2.1\"")
        .map_or(Some(base.next_hop_v4), |value| next_hop::<Ipv4Addr>(&value, "IPv4"));
    let next_hop_v6 = table
        .optional("next-hop-v6", "\"100::1\"")
        .map_or(Some(base.next_hop_v6), |value| next_hop::<Ipv6Addr>(&value, "IPv6"));
    let lengths_v4 = table
        .optional("lengths-v4", "[32, 32]")
        .map_or(Some(base.lengths_v4), |value| lengths(&value, 8, 32));
    let lengths_v6 = table
        .optional("lengths-v6", "[128, 128]")
        .map_or(Some(base.lengths_v6), |value| lengths(&value, 16, 128));
    table.finish();
    confined?;
    format.next_hop_v4 = next_hop_v4?;
    format.next_hop_v6 = next_hop_v6?;
    format.lengths_v4 = lengths_v4?;
    format.lengths_v6 = lengths_v6?;
    Some(format)
}

/// Whether a blackhole with these communities is one, and stays where it is sent (RFC 7999 §3.2).
/// What is faulty and so not known is nothing to complain of.
fn check_confined(
    by: Option<ConfinedBy>,
    rtbh: &RtbhFormat,
    every: Option<&Communities>,
) -> Result<(), Complaint> {
    if rtbh.communities.is_empty() && rtbh.large_communities.is_empty() {
        return Err((
            "without a community a blackhole would be an ordinary route",
            "name the peer's blackhole community, or leave the list out for 65535:666 and no-export",
        ));
    }
    let (Some(by), Some(every)) = (by, every) else { return Ok(()) };
    let confining = [Community::NO_EXPORT, Community::NO_ADVERTISE];
    let marked =
        |each: &Community| rtbh.communities.contains(each) || every.standard.contains(each);
    match (by, confining.iter().any(marked)) {
        (ConfinedBy::Community, false) => Err((
            "a blackhole with these communities could spread beyond the peer",
            "add `no-export` or `no-advertise` (RFC 7999 §3.2)",
        )),
        (ConfinedBy::Peer, true) => Err((
            "a blackhole with these communities would not be passed on, as `confined-by = \"peer\"` has it",
            "leave out `no-export` and `no-advertise`, or write `confined-by = \"no-export\"`",
        )),
        _ => Ok(()),
    }
}

fn next_hop<T: FromStr + Into<IpAddr> + Copy>(
    value: &Value<'_>,
    family: &str,
) -> Option<NextHop<T>> {
    let text = value.string()?;
    if text == "self" {
        return Some(NextHop::Session);
    }
    let address: Option<T> = text.parse().ok();
    let usable = address.filter(|address| {
        let address: IpAddr = (*address).into();
        !address.is_unspecified()
            && !address.is_multicast()
            && !address.is_loopback()
            && address != Ipv4Addr::BROADCAST
    });
    if usable.is_none() {
        let message = format!("`{text}` is not an {family} next hop");
        value.error(message, format!("{}, an address that the peer discards", value.example()));
    }
    usable.map(NextHop::Address)
}

/// `[shortest, longest]`, from `low` to `high`.
fn lengths(value: &Value<'_>, low: u8, high: u8) -> Option<Lengths> {
    let items = value.list("32")?;
    let [shortest, longest] = items.as_slice() else {
        let message = format!("`{}` must be two lengths", value.name());
        value.error(message, format!("{}: the shortest and the longest", value.example()));
        return None;
    };
    let (shortest, longest) = (shortest.integer(low..=high), longest.integer(low..=high));
    let lengths = Lengths { shortest: shortest?, longest: longest? };
    if lengths.shortest > lengths.longest {
        let message = format!("{} is longer than {}", lengths.shortest, lengths.longest);
        value.error(message, "write the shortest length first");
        return None;
    }
    Some(lengths)
}

fn flowspec(table: &Table<'_>, base: &FlowSpecProfile) -> Option<FlowSpecProfile> {
    let components = |key, base: &BTreeSet<Component>| {
        some_of(
            table.optional(key, "[\"destination\", \"protocol\", \"source-port\"]"),
            "\"destination\"",
            "a component",
            &words(Component::ALL, Component::name),
            base,
        )
    };
    let components_v4 = components("components-v4", &base.components_v4);
    let components_v6 = components("components-v6", &base.components_v6);
    let operators = some_of(
        table.optional("operators", "[\"=\", \">=\", \"<=\"]"),
        "\"=\"",
        "a comparison",
        &words(Comparison::ALL, Comparison::name),
        &base.operators,
    );
    let bitmasks = some_of(
        table.optional("bitmasks", "[\"all-of\", \"not\"]"),
        "\"all-of\"",
        "a form of a bitmask test",
        &words(BitmaskForm::ALL, BitmaskForm::name),
        &base.bitmasks,
    );
    let tcp_flags = bits(
        table.optional("tcp-flags", "[\"syn\", \"ack\"]"),
        "\"syn\"",
        "a TCP flag",
        &TCP_FLAGS,
        base.tcp_flags,
    );
    let fragment_bits = bits(
        table.optional("fragment-bits", "[\"is\"]"),
        "\"is\"",
        "a fragment bit",
        &FRAGMENT_BITS,
        base.fragment_bits,
    );
    let actions = some_of(
        table.optional("actions", "[\"discard\", \"rate-limit-bytes\"]"),
        "\"discard\"",
        "an action",
        &words(ActionKind::ALL, ActionKind::name),
        &base.actions,
    );
    let numbers = flowspec_numbers(table, base);
    table.finish();
    Some(FlowSpecProfile {
        components_v4: components_v4?,
        components_v6: components_v6?,
        operators: operators?,
        bitmasks: bitmasks?,
        tcp_flags: tcp_flags?,
        fragment_bits: fragment_bits?,
        actions: actions?,
        ..numbers?
    })
}

/// `base` with the lengths and limits that stand in `table`.
fn flowspec_numbers(table: &Table<'_>, base: &FlowSpecProfile) -> Option<FlowSpecProfile> {
    let lengths_v4 = table
        .optional("lengths-v4", "[24, 32]")
        .map_or(Some(base.lengths_v4), |value| lengths(&value, SHORTEST_FLOWSPEC_V4, 32));
    let lengths_v6 = table
        .optional("lengths-v6", "[48, 128]")
        .map_or(Some(base.lengths_v6), |value| lengths(&value, SHORTEST_FLOWSPEC_V6, 128));
    let max_values = table
        .optional("max-values", "5")
        .map_or(Some(base.max_values), |value| value.integer(1..=MAX_VALUES));
    let max_octets = table
        .optional("max-octets", "239")
        .map_or(Some(base.max_octets), |value| value.integer(LEAST_OCTETS..=MAX_NLRI_OCTETS));
    let max_rules = table
        .optional("max-rules", "50")
        .map_or(Some(base.max_rules), |value| value.integer(1..=MAX_ROUTES));
    Some(FlowSpecProfile {
        lengths_v4: lengths_v4?,
        lengths_v6: lengths_v6?,
        max_values: max_values?,
        max_octets: max_octets?,
        max_rules: max_rules?,
        ..base.clone()
    })
}

/// A list of words; those of `base` if there is none.
fn some_of<T: Copy + Ord>(
    value: Option<Value<'_>>,
    example: &'static str,
    kind: &str,
    known: &[(&str, T)],
    base: &BTreeSet<T>,
) -> Option<BTreeSet<T>> {
    match value {
        Some(value) => chosen(&value.list(example)?, kind, known),
        None => Some(base.clone()),
    }
}

/// A list of names of bits; those of `base` if there is none.
fn bits(
    value: Option<Value<'_>>,
    example: &'static str,
    kind: &str,
    known: &[(&str, u16)],
    base: u16,
) -> Option<u16> {
    match value {
        Some(value) => {
            let chosen = chosen(&value.list(example)?, kind, known)?;
            Some(chosen.into_iter().fold(0, |bits, bit| bits | bit))
        }
        None => Some(base),
    }
}
