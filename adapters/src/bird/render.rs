//! Routes in the language of BIRD 2's configuration.

use std::fmt::Write;
use std::net::IpAddr;

use tidegate_bgpd::Family;
use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch,
    NumericOperator, Route,
};

use crate::external::wire::extended_communities;

/// Most alternatives that one bitmask may become: BIRD's `value/mask` is a conjunction only.
const MOST_ALTERNATIVES: usize = 16;

/// The names of the fragment bits, from bit 0.
pub(super) const FRAGMENT_BITS: [&str; 4] =
    ["dont_fragment", "is_fragment", "first_fragment", "last_fragment"];

/// The net of a `route` statement: a prefix, or `flow4 { dst 192.0.2.4/32; }`.
///
/// # Errors
/// What BIRD's language cannot say.
pub(super) fn net(nlri: &Nlri) -> Result<String, String> {
    match nlri {
        Nlri::Unicast(prefix) => Ok(prefix.to_string()),
        Nlri::FlowSpec(rule) => flow(rule),
    }
}

/// A whole `route` statement.
///
/// # Errors
/// What BIRD's language cannot say.
pub(super) fn statement(route: &Route) -> Result<String, String> {
    let mut text = format!("route {}", net(&route.nlri)?);
    if matches!(route.nlri, Nlri::Unicast(_)) {
        text.push_str(" blackhole");
    }
    let mut attributes = Vec::new();
    for community in &route.communities {
        let (high, low) = (community.0 >> 16, community.0 & 0xffff);
        attributes.push(format!("bgp_community.add(({high},{low}));"));
    }
    for community in &route.large_communities {
        let (global, one, two) = (community.global, community.local1, community.local2);
        attributes.push(format!("bgp_large_community.add(({global},{one},{two}));"));
    }
    let actions = match &route.nlri {
        Nlri::Unicast(_) => Vec::new(),
        Nlri::FlowSpec(_) => extended_communities(route)?,
    };
    for community in actions {
        let (high, low) = (community >> 32, community & 0xffff_ffff);
        attributes.push(format!("bgp_ext_community.add((generic, {high:#x}, {low:#x}));"));
    }
    match route.next_hop {
        Some(IpAddr::V4(address)) => attributes.push(format!("bgp_next_hop = {address};")),
        Some(IpAddr::V6(address)) => attributes.push(format!("bgp_next_hop = {address};")),
        None => {}
    }
    if !attributes.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(text, " {{ {} }}", attributes.join(" "));
    }
    text.push(';');
    Ok(text)
}

/// Which of the four protocols and files a family belongs to.
pub(super) const fn kind(family: Family) -> &'static str {
    match family {
        Family::Ipv4Unicast => "rtbh4",
        Family::Ipv6Unicast => "rtbh6",
        Family::Ipv4FlowSpec => "flow4",
        Family::Ipv6FlowSpec => "flow6",
    }
}

fn flow(rule: &FlowSpecRule) -> Result<String, String> {
    let family = rule.family();
    let mut text = match family {
        AddressFamily::Ipv4 => "flow4 {".to_owned(),
        AddressFamily::Ipv6 => "flow6 {".to_owned(),
    };
    for component in rule.components() {
        let part = part(family, component).map_err(|why| format!("{}: {why}", component.name()))?;
        let _ = write!(text, " {part};");
    }
    text.push_str(" }");
    Ok(text)
}

fn part(family: AddressFamily, component: &FlowSpecComponent) -> Result<String, String> {
    use FlowSpecComponent as Component;
    let numbers = |name: &str, numeric| Ok(format!("{name} {}", numbers(numeric)?));
    match component {
        Component::DestinationPrefix(prefix) => Ok(format!("dst {prefix}")),
        Component::SourcePrefix(prefix) => Ok(format!("src {prefix}")),
        Component::IpProtocol(numeric) => match family {
            AddressFamily::Ipv4 => numbers("proto", numeric),
            AddressFamily::Ipv6 => numbers("next header", numeric),
        },
        Component::Port(numeric) => numbers("port", numeric),
        Component::DestinationPort(numeric) => numbers("dport", numeric),
        Component::SourcePort(numeric) => numbers("sport", numeric),
        Component::IcmpType(numeric) => numbers("icmp type", numeric),
        Component::IcmpCode(numeric) => numbers("icmp code", numeric),
        Component::PacketLength(numeric) => numbers("length", numeric),
        Component::Dscp(numeric) => numbers("dscp", numeric),
        Component::FlowLabel(numeric) => numbers("label", numeric),
        Component::TcpFlags(mask) => {
            let flags = |(set, bits): &(bool, u16)| {
                format!("{:#x}/{bits:#x}", if *set { *bits } else { 0 })
            };
            Ok(format!("tcp flags {}", joined(&alternatives(mask)?, flags)))
        }
        Component::Fragment(mask) => {
            let names = |(set, bits): &(bool, u16)| {
                let bits = FRAGMENT_BITS.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
                let not = if *set { "" } else { "!" };
                bits.map(|(_, name)| format!("{not}{name}")).collect::<Vec<_>>().join(" && ")
            };
            Ok(format!("fragment {}", joined(&alternatives(mask)?, names)))
        }
    }
}

fn joined<T>(groups: &[Vec<T>], each: impl Fn(&T) -> String) -> String {
    let groups = groups.iter().map(|group| group.iter().map(&each).collect::<Vec<_>>());
    groups.map(|group| group.join(" && ")).collect::<Vec<_>>().join(" || ")
}

fn numbers(numeric: &NumericMatch) -> Result<String, String> {
    let trivial = |operator| matches!(operator, NumericOperator::True | NumericOperator::False);
    if numeric.groups().iter().flatten().any(|test| trivial(test.operator)) {
        return Err("a test that is always true or always false".to_owned());
    }
    Ok(joined(numeric.groups(), |test| {
        let sign = match test.operator {
            NumericOperator::Greater => ">",
            NumericOperator::GreaterOrEqual => ">=",
            NumericOperator::Less => "<",
            NumericOperator::LessOrEqual => "<=",
            NumericOperator::NotEqual => "!=",
            _ => "=",
        };
        format!("{sign} {}", test.value)
    }))
}

/// The mask as alternatives of conjunctions: all of the bits set, or none of them.
fn alternatives(mask: &BitmaskMatch) -> Result<Vec<Vec<(bool, u16)>>, String> {
    let mut all = Vec::new();
    for group in mask.groups() {
        let mut open: Vec<Vec<(bool, u16)>> = vec![Vec::new()];
        for test in group {
            let ways = ways(*test)?;
            let extended = |one: &Vec<(bool, u16)>, way: &(bool, u16)| {
                one.iter().copied().chain([*way]).collect::<Vec<_>>()
            };
            open = open
                .iter()
                .flat_map(|one| ways.iter().map(move |way| extended(one, way)))
                .collect();
            if open.len() + all.len() > MOST_ALTERNATIVES {
                return Err(format!("more than {MOST_ALTERNATIVES} alternatives for BIRD"));
            }
        }
        all.append(&mut open);
    }
    Ok(all)
}

/// The ways in which one test can hold.
fn ways(test: BitmaskTest) -> Result<Vec<(bool, u16)>, String> {
    if test.bits == 0 {
        return Err("a test of no bit".to_owned());
    }
    let bits = |set: bool| {
        (0..16).map(|at| 1 << at).filter(|bit| test.bits & bit != 0).map(move |bit| (set, bit))
    };
    Ok(match (test.all, test.negated) {
        (true, false) => vec![(true, test.bits)],
        (false, true) => vec![(false, test.bits)],
        (false, false) => bits(true).collect(),
        (true, true) => bits(false).collect(),
    })
}
