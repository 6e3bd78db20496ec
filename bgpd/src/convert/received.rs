//! What a peer announces, as model values.

use std::net::IpAddr;

use rustbgpd_wire as wire;
use tidegate_model::{Nlri, Prefix, TrafficFilteringAction};

use super::{attributes, nlri};
use crate::family::Family;

/// The routes of the classic fields of an UPDATE.
pub(crate) fn classic(entries: &[wire::Ipv4NlriEntry]) -> impl Iterator<Item = Nlri> {
    entries.iter().filter_map(|entry| unicast(IpAddr::V4(entry.prefix.addr), entry.prefix.len))
}

/// The routes of an MP attribute of `family`, and how many rules there are that the model has no
/// form for: those with an IPv6 offset.
pub(crate) fn multiprotocol(
    family: Family,
    prefixes: &[wire::NlriEntry],
    rules: &[wire::FlowSpecRule],
) -> (Vec<Nlri>, u64) {
    let prefixes = prefixes.iter().filter_map(|entry| match entry.prefix {
        wire::Prefix::V4(prefix) => unicast(IpAddr::V4(prefix.addr), prefix.len),
        wire::Prefix::V6(prefix) => unicast(IpAddr::V6(prefix.addr), prefix.len),
    });
    let mut nlris: Vec<Nlri> = prefixes.collect();
    let mut unsupported = 0;
    for rule in rules {
        match nlri::rule_from_wire(family.addresses(), rule) {
            Ok(rule) => nlris.push(Nlri::FlowSpec(rule)),
            Err(_) => unsupported += 1,
        }
    }
    (nlris, unsupported)
}

/// The traffic filtering actions in one attribute.
pub(crate) fn actions(attribute: &wire::PathAttribute) -> Vec<TrafficFilteringAction> {
    let short = attribute.extended_communities().into_iter().flatten();
    let short = short.filter_map(|community| attributes::action_from_wire(*community));
    let long = attribute.ipv6_extended_communities().into_iter().flatten();
    let long = long.filter_map(|community| attributes::ipv6_action_from_wire(*community));
    short.chain(long).collect()
}

/// Whether there is a traffic-rate (RFC 8955 §7.1, §7.2) that is no number, or so near to zero that it
/// has no exponent: what would a filter make of it?
pub(crate) fn has_senseless_rate(attribute: &wire::PathAttribute) -> bool {
    const RATES: [u64; 2] = [0x8006, 0x800c];

    let mut communities = attribute.extended_communities().into_iter().flatten();
    communities.any(|community| {
        let octets = community.as_u64();
        let rate = f32::from_bits(u32::try_from(octets & 0xffff_ffff).unwrap_or_default());
        RATES.contains(&(octets >> 48)) && !rate.is_normal() && rate != 0.0
    })
}

fn unicast(address: IpAddr, length: u8) -> Option<Nlri> {
    Prefix::new(address, length).map(Nlri::Unicast)
}
