//! `[[peers]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tidegate_model::Prefix;

use super::name;
use super::network::as_number;
use super::profiles::Profiles;
use crate::policy::{ConnectMode, Family, Location, Peer, RtbhProfile, Via};
use crate::profile::read::{self, Communities, words};
use crate::profile::{NextHop, Profile, Sessions};
use crate::text::{Table, Value};

/// No policy has more peers than this: each is a session with timers and a route set of its own.
const MAX_PEERS: usize = 256;
/// Most neighbours from one prefix.
const MAX_LIMIT: u16 = 256;
/// RFC 4271 §4.2: zero, which is refused here, or at least three seconds.
const SHORTEST_HOLD: Duration = Duration::from_secs(3);
/// Two octets on the wire.
const LONGEST_HOLD: Duration = Duration::from_secs(65_535);
/// `[[peers]]` of all files.
#[derive(Default)]
pub(super) struct Peers<'a> {
    tables: Vec<Table<'a>>,
    peers: Vec<DraftPeer<'a>>,
}

/// A peer as far as it could be read.
pub(super) struct DraftPeer<'a> {
    name: Option<(&'a str, Value<'a>)>,
    location: Option<(Location, Value<'a>)>,
    via: Option<(String, Value<'a>)>,
    /// `None` if faulty.
    pub(super) families: Option<BTreeSet<Family>>,
    peer: Option<Peer>,
}

impl<'a> DraftPeer<'a> {
    pub(super) fn name(&self) -> Option<&'a str> {
        self.name.as_ref().map(|(name, _)| *name)
    }
}

impl<'a> Peers<'a> {
    pub(super) fn read(&mut self, value: &Value<'a>) {
        for table in value.tables().unwrap_or_default() {
            if self.tables.len() == MAX_PEERS {
                table.error(format!("more than {MAX_PEERS} peers"), "peer with fewer routers");
                return;
            }
            self.tables.push(table);
        }
    }

    /// Reads every peer, once the profiles of all files are known.
    pub(super) fn resolve(&mut self, profiles: &Profiles<'a>) {
        self.peers = self.tables.iter().map(|table| DraftPeer::read(table, profiles)).collect();
    }

    /// The peers as far as they could be read.
    pub(super) fn drafts(&self) -> &[DraftPeer<'a>] {
        &self.peers
    }

    /// Whether every peer has a name, so that another name is known to be none.
    pub(super) fn all_named(&self) -> bool {
        self.peers.iter().all(|peer| peer.name.is_some())
    }

    /// Reports names and addresses that stand twice; the peers that could be read.
    pub(super) fn check(&self) -> Vec<Peer> {
        let mut names = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        let mut daemons = BTreeMap::new();
        let mut ranges = Vec::new();
        for peer in &self.peers {
            if let Some((name, value)) = &peer.name {
                unique(&mut names, *name, value, "name");
            }
            if let Some((location, value)) = &peer.location {
                unique(&mut addresses, location.to_string(), value, "address");
                if let Location::Range { prefix, .. } = location {
                    check_overlap(&ranges, *prefix, value);
                    ranges.push((*prefix, value));
                }
            }
            if let Some((daemon, value)) = &peer.via {
                unique(&mut daemons, daemon.as_str(), value, "`via`");
            }
        }
        self.peers.iter().filter_map(|peer| peer.peer.clone()).collect()
    }
}

/// Reports a prefix of neighbours that has addresses in common with one of `ranges`.
fn check_overlap(ranges: &[(Prefix, &Value<'_>)], prefix: Prefix, value: &Value<'_>) {
    let other = ranges.iter().find(|(other, _)| *other != prefix && other.overlaps(&prefix));
    if let Some((other, first)) = other {
        let message = format!("{prefix} and {other} at {} have addresses in common", first.place());
        value.error(message, "write prefixes of which a neighbour is in one only");
    }
}

fn unique<'v, 'a, K: Ord + std::fmt::Display>(
    seen: &mut BTreeMap<K, &'v Value<'a>>,
    key: K,
    value: &'v Value<'a>,
    what: &str,
) {
    if let Some(first) = seen.get(&key) {
        let message = format!("two peers have the {what} `{key}`");
        value.error(message, format!("give each its own; the first is at {}", first.place()));
    } else {
        seen.insert(key, value);
    }
}

impl<'a> DraftPeer<'a> {
    fn read(table: &Table<'a>, profiles: &Profiles<'a>) -> Self {
        let named = table.required("name", "\"edge-1\"");
        let named = named.and_then(|value| Some((name(&value)?, value)));
        let location = location(table);
        let address = location.as_ref().map(|(location, _)| *location).and_then(Location::host);
        let asn = table.required("as", "65001").and_then(|value| as_number(&value));
        let port = table
            .optional("port", "179")
            .map_or(Some(Peer::DEFAULT_PORT), |value| value.integer(1..=u16::MAX));
        let local_address = table
            .optional("local-address", "\"10.0.0.1\"")
            .map_or(Some(None), |value| local(&value, address));
        let mode = connect_mode(table, location.as_ref().map(|(location, _)| *location));
        let hold_time = table
            .optional("hold-time", "\"9s\"")
            .map_or(Some(Peer::DEFAULT_HOLD_TIME), |value| hold_time(&value));
        let communities = table
            .optional("communities", "[\"65001:100\"]")
            .map_or(Some(Communities::default()), |value| Communities::read(&value));
        let via = table.optional("via", "\"gobgp\"");
        let via = via.map_or(Some(None), |value| Some(Some((name(&value)?.to_owned(), value))));
        let base = match table.optional("profile", "\"frr\"") {
            Some(value) => profiles.find(&value),
            None => Some(Profile::default()),
        };
        // Without its profile nothing is known to be wrong but what stands here.
        let every = communities.as_ref().filter(|_| base.is_some());
        let accepts = read::fields(table, &base.clone().unwrap_or_default(), every);
        let accepts = accepts.filter(|_| base.is_some());
        table.finish();
        let families = accepts.as_ref().map(|accepts| accepts.families.clone());
        let parts = || {
            let Communities { standard: communities, large: large_communities } = communities?;
            let (accepts, local_address) = (accepts?, local_address?);
            check_sessions(table, &accepts)?;
            Some(Peer {
                name: named.as_ref()?.0.to_owned(),
                location: location.as_ref()?.0,
                asn: asn?,
                port: port?,
                local_address,
                mode: mode?,
                hold_time: hold_time?,
                rtbh: blackhole(table, &accepts, local_address)?,
                families: accepts.families,
                communities,
                large_communities,
                via: via.as_ref()?.as_ref().map(|(name, value)| Via::written(name, value)),
                profile: accepts.name,
                confined_by: accepts.confined_by,
                flowspec: accepts.flowspec,
                max_routes: accepts.max_routes,
            })
        };
        let peer = parts();
        Self { peer, name: named, location, via: via.flatten(), families }
    }
}

/// `address`, or `listen-range` with `listen-limit`.
fn location<'a>(table: &Table<'a>) -> Option<(Location, Value<'a>)> {
    let limit = table.optional("listen-limit", "16");
    let Some(value) = table.optional("listen-range", "\"10.0.1.0/24\"") else {
        if let Some(limit) = limit {
            let message = "`listen-limit` is for neighbours from a prefix";
            limit.error_at_key(
                message,
                "leave it out, or write `listen-range` instead of `address`",
            );
        }
        let value = table.required("address", "\"10.0.0.2\"")?;
        return Some((Location::Host(host(&value)?), value));
    };
    for key in ["address", "port", "local-address", "via"] {
        if let Some(other) = table.optional(key, "") {
            let message = format!("`{key}` and `listen-range` exclude each other");
            other.error_at_key(message, "write `listen-range` alone: who is in it connects to us");
            return None;
        }
    }
    let prefix = value.string()?.parse::<Prefix>();
    let prefix = value.reported(prefix)?;
    let limit =
        limit.map_or(Some(Location::DEFAULT_LIMIT), |limit| limit.integer(1..=MAX_LIMIT))?;
    Some((Location::Range { prefix, limit }, value))
}

/// Who connects: neighbours from a prefix always do.
fn connect_mode(table: &Table<'_>, location: Option<Location>) -> Option<ConnectMode> {
    let value = table.optional("mode", "\"active\"");
    let mode = value
        .as_ref()
        .map(|value| value.choice("a connect mode", &words(ConnectMode::ALL, ConnectMode::name)));
    let Some(Location::Range { .. }) = location else {
        return mode.unwrap_or(Some(ConnectMode::Active));
    };
    if let (Some(value), Some(Some(ConnectMode::Active | ConnectMode::Both))) = (value, mode) {
        let message = "neighbours from a prefix connect to us; we do not know where they are";
        value.error(message, "leave it out, or write `mode = \"passive\"`");
        return None;
    }
    Some(ConnectMode::Passive)
}

/// Reports blackholes and FlowSpec on one session to a peer that wants two.
fn check_sessions(table: &Table<'_>, accepts: &Profile) -> Option<()> {
    let both = |families: [Family; 2]| families.iter().any(|it| accepts.families.contains(it));
    let mixed = both([Family::Ipv4Unicast, Family::Ipv6Unicast])
        && both([Family::Ipv4FlowSpec, Family::Ipv6FlowSpec]);
    if accepts.sessions == Sessions::Shared || !mixed {
        return Some(());
    }
    let message = "the peer takes blackholes and FlowSpec rules on two sessions";
    table.error(
        message,
        "write two peers, one with the `unicast` and one with the `flowspec` `families`",
    );
    None
}

/// The format of blackholes on this session.
fn blackhole(table: &Table<'_>, accepts: &Profile, local: Option<IpAddr>) -> Option<RtbhProfile> {
    let standard = RtbhProfile::default();
    let format = &accepts.rtbh;
    let local_v4 = local.and_then(|local| match local {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let local_v6 = local.and_then(|local| match local {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    });
    let has = |family| accepts.families.contains(&family);
    let next_hop_v4 = match (format.next_hop_v4, local_v4) {
        (NextHop::Address(address), _) | (NextHop::Session, Some(address)) => Some(address),
        (NextHop::Session, None) if !has(Family::Ipv4Unicast) => Some(standard.next_hop_v4),
        (NextHop::Session, None) => {
            no_next_hop(table, Family::Ipv4Unicast, "IPv4", "next-hop-v4");
            None
        }
    };
    let next_hop_v6 = match (format.next_hop_v6, local_v6) {
        (NextHop::Address(address), _) | (NextHop::Session, Some(address)) => Some(address),
        (NextHop::Session, None) if !has(Family::Ipv6Unicast) => Some(standard.next_hop_v6),
        (NextHop::Session, None) => {
            no_next_hop(table, Family::Ipv6Unicast, "IPv6", "next-hop-v6");
            None
        }
    };
    Some(RtbhProfile {
        communities: format.communities.clone(),
        large_communities: format.large_communities.clone(),
        next_hop_v4: next_hop_v4?,
        next_hop_v6: next_hop_v6?,
        lengths_v4: format.lengths_v4,
        lengths_v6: format.lengths_v6,
    })
}

fn no_next_hop(table: &Table<'_>, family: Family, shown: &str, key: &str) {
    let message = format!(
        "the peer wants our own {shown} address as the next hop of blackholes, and this session names none"
    );
    let help = format!(
        "add an {shown} `local-address`, or `{key}` in `rtbh`, or list `families` without `{family}`"
    );
    table.error(message, help);
}

/// The address of one host that a session can have.
pub(super) fn host(value: &Value<'_>) -> Option<IpAddr> {
    let text = value.string()?;
    let address: Option<IpAddr> = text.parse().ok();
    let usable = address.filter(|address| {
        !address.is_unspecified() && !address.is_multicast() && *address != Ipv4Addr::BROADCAST
    });
    if usable.is_none() {
        let message = format!("`{text}` is not the address of a host");
        value.error(
            message,
            "write an address without a length, such as `10.0.0.2` or `2001:db8::2`",
        );
    }
    usable
}

/// Our own address toward a peer at `remote`.
fn local(value: &Value<'_>, remote: Option<IpAddr>) -> Option<Option<IpAddr>> {
    let address = host(value)?;
    match remote {
        Some(remote) if remote.is_ipv4() != address.is_ipv4() => {
            let message =
                format!("`local-address` {address} and `address` {remote} are of two families");
            value.error(message, "write the address of this host that the peer knows");
            None
        }
        Some(remote) if remote == address => {
            let message = format!("`local-address` and `address` are both {address}");
            value.error(message, "write the address of this host that the peer knows");
            None
        }
        _ => Some(Some(address)),
    }
}

fn hold_time(value: &Value<'_>) -> Option<Duration> {
    let time = value.duration(Duration::ZERO..=LONGEST_HOLD)?;
    if time.is_zero() {
        let message = "a hold time of zero would keep our routes at a peer for ever if we died";
        value.error(message, "write at least `3s`; `9s` is the default");
    } else if time < SHORTEST_HOLD {
        value.error(
            "a hold time is at least 3s (RFC 4271 §4.2)",
            "write `3s` or more; `9s` is the default",
        );
    } else if time.subsec_nanos() > 0 {
        value.error("a hold time is whole seconds (RFC 4271 §4.2)", "write one such as `9s`");
    } else {
        return Some(time);
    }
    None
}
