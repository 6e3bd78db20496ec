//! `[[peers]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use tidegate_model::{Community, LargeCommunity, ParseCommunityError};

use super::name;
use super::network::as_number;
use crate::policy::{ConnectMode, Family, Peer, RtbhProfile};
use crate::text::{Table, Value};

/// No policy has more peers than this: each is a session with timers and a route set of its own.
const MAX_PEERS: usize = 256;
/// No list has more communities than this: a route must fit one BGP message of 4096 bytes.
const MAX_COMMUNITIES: usize = 64;
/// RFC 4271 §4.2: zero, which is refused here, or at least three seconds.
const SHORTEST_HOLD: Duration = Duration::from_secs(3);
/// Two octets on the wire.
const LONGEST_HOLD: Duration = Duration::from_secs(65_535);
/// More routes than any router takes as mitigations.
const MAX_ROUTES: u32 = 100_000;

/// `[[peers]]` of all files.
#[derive(Default)]
pub(super) struct Peers<'a> {
    peers: Vec<DraftPeer<'a>>,
}

/// A peer as far as it could be read.
pub(super) struct DraftPeer<'a> {
    name: Option<(&'a str, Value<'a>)>,
    address: Option<(IpAddr, Value<'a>)>,
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
            if self.peers.len() == MAX_PEERS {
                table.error(format!("more than {MAX_PEERS} peers"), "peer with fewer routers");
                return;
            }
            self.peers.push(DraftPeer::read(&table));
        }
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
        for peer in &self.peers {
            if let Some((name, value)) = &peer.name {
                unique(&mut names, *name, value, "name");
            }
            if let Some((address, value)) = &peer.address {
                unique(&mut addresses, *address, value, "address");
            }
        }
        self.peers.iter().filter_map(|peer| peer.peer.clone()).collect()
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
    fn read(table: &Table<'a>) -> Self {
        let named = table.required("name", "\"edge-1\"");
        let named = named.and_then(|value| Some((name(&value)?, value)));
        let address = table.required("address", "\"10.0.0.2\"");
        let address = address.and_then(|value| Some((host(&value)?, value)));
        let asn = table.required("as", "65001").and_then(|value| as_number(&value));
        let port = table
            .optional("port", "179")
            .map_or(Some(Peer::DEFAULT_PORT), |value| value.integer(1..=u16::MAX));
        let local_address = table
            .optional("local-address", "\"10.0.0.1\"")
            .map_or(Some(None), |value| local(&value, address.as_ref().map(|(it, _)| *it)));
        let mode =
            table.optional("mode", "\"active\"").map_or(Some(ConnectMode::Active), |value| {
                value.choice("a connect mode", &words(ConnectMode::ALL, ConnectMode::name))
            });
        let hold_time = table
            .optional("hold-time", "\"9s\"")
            .map_or(Some(Peer::DEFAULT_HOLD_TIME), |value| hold_time(&value));
        let families = match table.optional("families", "[\"ipv4-unicast\", \"ipv4-flowspec\"]") {
            Some(value) => families(&value),
            None => Some(Family::ALL.iter().copied().collect()),
        };
        let communities = table
            .optional("communities", "[\"65001:100\"]")
            .map_or(Some(Communities::default()), |value| Communities::read(&value));
        let rtbh = table.optional("rtbh", "{ communities = [\"blackhole\", \"no-export\"] }");
        let rtbh = match &rtbh {
            Some(value) => value.table().and_then(|table| profile(&table, communities.as_ref())),
            None => Some(RtbhProfile::default()),
        };
        let max_routes = table
            .optional("max-routes", "200")
            .map_or(Some(Peer::DEFAULT_MAX_ROUTES), |value| value.integer(1..=MAX_ROUTES));
        table.finish();
        let parts = || {
            let Communities { standard: communities, large: large_communities } = communities?;
            Some(Peer {
                name: named.as_ref()?.0.to_owned(),
                address: address.as_ref()?.0,
                asn: asn?,
                port: port?,
                local_address: local_address?,
                mode: mode?,
                hold_time: hold_time?,
                families: families.clone()?,
                communities,
                large_communities,
                rtbh: rtbh?,
                max_routes: max_routes?,
            })
        };
        Self { peer: parts(), name: named, address, families }
    }
}

/// The words of an enumeration.
pub(super) fn words<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|value| (name(*value), *value)).collect()
}

/// The address of one host that a session can have.
fn host(value: &Value<'_>) -> Option<IpAddr> {
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

fn families(value: &Value<'_>) -> Option<BTreeSet<Family>> {
    let items = value.list("\"ipv4-unicast\"")?;
    if items.is_empty() {
        value.error("`families` is empty", "name at least one, or leave it out for all four");
        return None;
    }
    let known = words(Family::ALL, Family::name);
    let read: Vec<Option<Family>> =
        items.iter().map(|item| item.choice("an address family", &known)).collect();
    read.into_iter().collect()
}

/// Communities of both kinds, told apart by their number of parts.
#[derive(Clone, Default)]
struct Communities {
    standard: BTreeSet<Community>,
    large: BTreeSet<LargeCommunity>,
}

impl Communities {
    fn read(value: &Value<'_>) -> Option<Self> {
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

    fn is_empty(&self) -> bool {
        self.standard.is_empty() && self.large.is_empty()
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

/// `rtbh` of a peer whose routes all carry `every`.
fn profile(table: &Table<'_>, every: Option<&Communities>) -> Option<RtbhProfile> {
    let standard = RtbhProfile::default();
    let communities = table.optional("communities", "[\"blackhole\", \"no-export\"]");
    let next_hop_v4 = table
        .optional("next-hop-v4", "\"192.0.2.1\"")
        .map_or(Some(standard.next_hop_v4), |value| next_hop::<Ipv4Addr>(&value, "IPv4"));
    let next_hop_v6 = table
        .optional("next-hop-v6", "\"100::1\"")
        .map_or(Some(standard.next_hop_v6), |value| next_hop::<Ipv6Addr>(&value, "IPv6"));
    table.finish();
    let (communities, large_communities) = match communities {
        None => (Some(standard.communities), standard.large_communities),
        Some(value) => match Communities::read(&value) {
            Some(read) if confined(&value, &read, every) => (Some(read.standard), read.large),
            _ => (None, standard.large_communities),
        },
    };
    Some(RtbhProfile {
        communities: communities?,
        large_communities,
        next_hop_v4: next_hop_v4?,
        next_hop_v6: next_hop_v6?,
    })
}

/// Whether a blackhole with these communities is one, and stays where it is sent (RFC 7999 §3.2).
fn confined(value: &Value<'_>, read: &Communities, every: Option<&Communities>) -> bool {
    if read.is_empty() {
        let message = "without a community a blackhole would be an ordinary route";
        value.error(message, "name the peer's blackhole community, or leave the list out for 65535:666 and no-export");
        return false;
    }
    let Some(every) = every else { return true };
    let confining = [Community::NO_EXPORT, Community::NO_ADVERTISE];
    if confining.iter().any(|each| read.standard.contains(each) || every.standard.contains(each)) {
        return true;
    }
    let message = "a blackhole with these communities could spread beyond the peer";
    value.error(message, "add `no-export` or `no-advertise` (RFC 7999 §3.2)");
    false
}

fn next_hop<T: FromStr + Into<IpAddr> + Copy>(value: &Value<'_>, family: &str) -> Option<T> {
    let text = value.string()?;
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
    usable
}
