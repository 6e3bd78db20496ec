//! Between model values and GoBGP's paths.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidegate_bgpd::Family;
use tidegate_bgpd::convert::{decode_flowspec, encode_nlri};
use tidegate_model::{LargeCommunity, Nlri, Prefix, Route};

use super::proto::{self, Path};
use crate::external::wire::{
    MP_REACH_NLRI, RawAttribute, attributes, read_update, split_attribute,
};

/// NEXT_HOP 0.0.0.0: GoBGP wants one for every path, and sends a FlowSpec rule without.
const NO_NEXT_HOP: [u8; 7] = [0x40, 3, 4, 0, 0, 0, 0];
/// NEXT_HOP (RFC 4271 §5.1.3).
const NEXT_HOP: u8 = 3;
/// LOCAL_PREF (RFC 4271 §5.1.5), which is GoBGP's to choose.
const LOCAL_PREF: u8 = 5;

pub(super) fn family(family: Family) -> proto::Family {
    proto::Family { afi: family.afi().into(), safi: family.safi().into() }
}

/// The path that announces `route`.
///
/// # Errors
/// If it cannot be put on the wire.
pub(super) fn announce(route: &Route) -> Result<Path, String> {
    let attributes = attributes(route).map_err(|error| error.to_string())?;
    let flowspec = matches!(route.nlri, Nlri::FlowSpec(_));
    let kept =
        |one: &RawAttribute| one.code != LOCAL_PREF && !(flowspec && one.code == MP_REACH_NLRI);
    let mut octets: Vec<_> = attributes.into_iter().filter(kept).map(|one| one.octets).collect();
    if flowspec {
        octets.push(NO_NEXT_HOP.to_vec());
    }
    Ok(Path { is_withdraw: false, pattrs_binary: octets, ..withdraw(&route.nlri)? })
}

/// The path that withdraws `nlri`.
///
/// # Errors
/// If it cannot be put on the wire.
pub(super) fn withdraw(nlri: &Nlri) -> Result<Path, String> {
    Ok(Path {
        is_withdraw: true,
        family: Some(family(Family::of(nlri))),
        neighbor_ip: String::new(),
        nlri_binary: encode_nlri(nlri).map_err(|error| error.to_string())?,
        pattrs_binary: Vec::new(),
    })
}

/// Reads the octets of one NLRI.
pub(super) fn nlri(family: Family, octets: &[u8]) -> Option<Nlri> {
    match family {
        Family::Ipv4FlowSpec | Family::Ipv6FlowSpec => {
            let rules = decode_flowspec(family.addresses(), octets).ok()?;
            let [rule] = <[_; 1]>::try_from(rules).ok()?;
            Some(Nlri::FlowSpec(rule))
        }
        Family::Ipv4Unicast | Family::Ipv6Unicast => {
            let (&length, bits) = octets.split_first()?;
            if bits.len() != usize::from(length).div_ceil(8) {
                return None;
            }
            let address = match family {
                Family::Ipv4Unicast => IpAddr::from(Ipv4Addr::from(padded::<4>(bits)?)),
                _ => IpAddr::from(Ipv6Addr::from(padded::<16>(bits)?)),
            };
            Prefix::new(address, length).map(Nlri::Unicast)
        }
    }
}

fn padded<const N: usize>(bits: &[u8]) -> Option<[u8; N]> {
    let mut whole = [0; N];
    whole.get_mut(..bits.len())?.copy_from_slice(bits);
    Some(whole)
}

/// A path as a route, and whether it carries `mark`, which is taken off.
///
/// # Errors
/// What cannot be read.
pub(super) fn route(
    family: Family,
    path: &Path,
    mark: LargeCommunity,
) -> Result<(Route, bool), String> {
    let nlri =
        nlri(family, &path.nlri_binary).ok_or_else(|| format!("NLRI {:02x?}", path.nlri_binary))?;
    let mut next_hop = None;
    let mut rest = Vec::new();
    for octets in &path.pattrs_binary {
        let attribute =
            split_attribute(octets).ok_or_else(|| format!("attribute {octets:02x?}"))?;
        match attribute.code {
            NEXT_HOP => {
                next_hop = attribute.value().try_into().ok().map(|four: [u8; 4]| four.into());
            }
            MP_REACH_NLRI => next_hop = reached_by(attribute.value()),
            _ => rest.push(attribute.octets),
        }
    }
    let read = read_update(&rest, &[])?;
    let mut large_communities = read.large_communities;
    let marked = large_communities.remove(&mark);
    let next_hop = next_hop.filter(|_| matches!(nlri, Nlri::Unicast(_)));
    let route = Route {
        nlri,
        next_hop,
        communities: read.communities,
        large_communities,
        actions: read.actions,
    };
    Ok((route, marked))
}

/// The global next hop of an MP_REACH_NLRI (RFC 4760 §3, RFC 2545 §3).
fn reached_by(value: &[u8]) -> Option<IpAddr> {
    let (&length, rest) = value.get(3..)?.split_first()?;
    match length {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(rest.get(..4)?).ok()?)),
        16 | 32 => Some(IpAddr::from(<[u8; 16]>::try_from(rest.get(..16)?).ok()?)),
        _ => None,
    }
}
