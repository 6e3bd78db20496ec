//! NLRI: unicast prefixes and FlowSpec rules, in both directions.

use std::net::IpAddr;

use rustbgpd_wire as wire;
use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule, InvalidRule, Nlri,
    NumericMatch, NumericOperator, NumericTest, Prefix,
};

use super::{EncodeError, MAX_FLOWSPEC_LENGTH};

/// Data offset and the four bits behind it are not flags (RFC 8955 §4.2.2.9).
const TCP_FLAG_BITS: u16 = 0x0fff;
/// DF, IsF, FF and LF (RFC 8955 §4.2.2.12).
const FRAGMENT_BITS_IPV4: u16 = 0x000f;
/// IPv6 has no DF (RFC 8956 §3.6).
const FRAGMENT_BITS_IPV6: u16 = 0x000e;

/// Appends the octets of `nlri` as they stand in an UPDATE.
pub(super) fn write(nlri: &Nlri, octets: &mut Vec<u8>) -> Result<(), EncodeError> {
    match nlri {
        Nlri::Unicast(prefix) => {
            let length = prefix.length();
            let significant = usize::from(length).div_ceil(8);
            octets.push(length);
            match prefix.address() {
                IpAddr::V4(address) => octets.extend(address.octets().iter().take(significant)),
                IpAddr::V6(address) => octets.extend(address.octets().iter().take(significant)),
            }
            Ok(())
        }
        Nlri::FlowSpec(rule) => {
            let afi = afi(rule.family());
            let encoded = rule_to_wire(nlri, rule)?;
            let length = encoded.encoded_len(afi);
            if length > MAX_FLOWSPEC_LENGTH {
                return Err(EncodeError::TooLong { nlri: Box::new(nlri.clone()), octets: length });
            }
            wire::flowspec::try_encode_flowspec_nlri(std::slice::from_ref(&encoded), octets, afi)
                .map_err(|error| EncodeError::Codec(error.to_string()))
        }
    }
}

pub(super) fn afi(family: AddressFamily) -> wire::Afi {
    match family {
        AddressFamily::Ipv4 => wire::Afi::Ipv4,
        AddressFamily::Ipv6 => wire::Afi::Ipv6,
    }
}

fn rule_to_wire(nlri: &Nlri, rule: &FlowSpecRule) -> Result<wire::FlowSpecRule, EncodeError> {
    let components = rule
        .components()
        .iter()
        .map(|component| component_to_wire(nlri, rule.family(), component))
        .collect::<Result<_, _>>()?;
    Ok(wire::FlowSpecRule { components })
}

fn component_to_wire(
    nlri: &Nlri,
    family: AddressFamily,
    component: &FlowSpecComponent,
) -> Result<wire::FlowSpecComponent, EncodeError> {
    use FlowSpecComponent as Model;
    use wire::FlowSpecComponent as Wire;

    let numbers = |numeric, most| numeric_to_wire(nlri, component.name(), numeric, most);
    let masks = |bitmask, bits| bitmask_to_wire(nlri, component.name(), bitmask, bits);
    let fragment_bits = match family {
        AddressFamily::Ipv4 => FRAGMENT_BITS_IPV4,
        AddressFamily::Ipv6 => FRAGMENT_BITS_IPV6,
    };
    Ok(match component {
        Model::DestinationPrefix(prefix) => Wire::DestinationPrefix(prefix_to_wire(*prefix)),
        Model::SourcePrefix(prefix) => Wire::SourcePrefix(prefix_to_wire(*prefix)),
        Model::IpProtocol(numeric) => Wire::IpProtocol(numbers(numeric, 0xff)?),
        Model::Port(numeric) => Wire::Port(numbers(numeric, 0xffff)?),
        Model::DestinationPort(numeric) => Wire::DestinationPort(numbers(numeric, 0xffff)?),
        Model::SourcePort(numeric) => Wire::SourcePort(numbers(numeric, 0xffff)?),
        Model::IcmpType(numeric) => Wire::IcmpType(numbers(numeric, 0xff)?),
        Model::IcmpCode(numeric) => Wire::IcmpCode(numbers(numeric, 0xff)?),
        Model::TcpFlags(bitmask) => Wire::TcpFlags(masks(bitmask, TCP_FLAG_BITS)?),
        Model::PacketLength(numeric) => Wire::PacketLength(numbers(numeric, 0xffff)?),
        Model::Dscp(numeric) => Wire::Dscp(numbers(numeric, 0x3f)?),
        Model::Fragment(bitmask) => Wire::Fragment(masks(bitmask, fragment_bits)?),
        Model::FlowLabel(numeric) => Wire::FlowLabel(numbers(numeric, 0xf_ffff)?),
    })
}

fn prefix_to_wire(prefix: Prefix) -> wire::FlowSpecPrefix {
    match prefix.address() {
        IpAddr::V4(address) => {
            wire::FlowSpecPrefix::V4(wire::Ipv4Prefix::new(address, prefix.length()))
        }
        IpAddr::V6(address) => wire::FlowSpecPrefix::V6(wire::Ipv6PrefixOffset {
            prefix: wire::Ipv6Prefix::new(address, prefix.length()),
            offset: 0,
        }),
    }
}

/// The tests of all groups in a row, each with whether it is ANDed to the one before and whether
/// it is the last.
fn flatten<T>(groups: &[Vec<T>]) -> impl Iterator<Item = (&T, bool, bool)> {
    let last_group = groups.len().saturating_sub(1);
    groups.iter().enumerate().flat_map(move |(outer, group)| {
        let last = group.len().saturating_sub(1);
        group
            .iter()
            .enumerate()
            .map(move |(inner, test)| (test, inner > 0, outer == last_group && inner == last))
    })
}

fn numeric_to_wire(
    nlri: &Nlri,
    component: &'static str,
    numeric: &NumericMatch,
    most: u64,
) -> Result<Vec<wire::NumericMatch>, EncodeError> {
    flatten(numeric.groups())
        .map(|(test, and_bit, end_of_list)| {
            if test.value > most {
                return Err(EncodeError::Value {
                    nlri: Box::new(nlri.clone()),
                    component,
                    value: test.value,
                    most,
                });
            }
            let (lt, gt, eq) = operator_bits(test.operator);
            Ok(wire::NumericMatch { end_of_list, and_bit, lt, gt, eq, value: test.value })
        })
        .collect()
}

fn bitmask_to_wire(
    nlri: &Nlri,
    component: &'static str,
    bitmask: &BitmaskMatch,
    known: u16,
) -> Result<Vec<wire::BitmaskMatch>, EncodeError> {
    flatten(bitmask.groups())
        .map(|(test, and_bit, end_of_list)| {
            if test.bits & !known != 0 {
                return Err(EncodeError::Bits {
                    nlri: Box::new(nlri.clone()),
                    component,
                    bits: test.bits & !known,
                });
            }
            Ok(wire::BitmaskMatch {
                end_of_list,
                and_bit,
                not_bit: test.negated,
                match_bit: test.all,
                value: test.bits,
            })
        })
        .collect()
}

/// The lt, gt and eq bits (RFC 8955 §4.2.1.1).
const fn operator_bits(operator: NumericOperator) -> (bool, bool, bool) {
    match operator {
        NumericOperator::False => (false, false, false),
        NumericOperator::Equal => (false, false, true),
        NumericOperator::Greater => (false, true, false),
        NumericOperator::GreaterOrEqual => (false, true, true),
        NumericOperator::Less => (true, false, false),
        NumericOperator::LessOrEqual => (true, false, true),
        NumericOperator::NotEqual => (true, true, false),
        NumericOperator::True => (true, true, true),
    }
}

const fn operator(lt: bool, gt: bool, eq: bool) -> NumericOperator {
    match (lt, gt, eq) {
        (false, false, false) => NumericOperator::False,
        (false, false, true) => NumericOperator::Equal,
        (false, true, false) => NumericOperator::Greater,
        (false, true, true) => NumericOperator::GreaterOrEqual,
        (true, false, false) => NumericOperator::Less,
        (true, false, true) => NumericOperator::LessOrEqual,
        (true, true, false) => NumericOperator::NotEqual,
        (true, true, true) => NumericOperator::True,
    }
}

/// A rule that came off the wire, in canonical form.
///
/// What a receiver must ignore is gone after this: the AND bit of a first operator (RFC 8955
/// §4.2.1.1) and reserved bits of bitmasks.
pub(super) fn rule_from_wire(
    family: AddressFamily,
    rule: &wire::FlowSpecRule,
) -> Result<FlowSpecRule, String> {
    let components = rule
        .components
        .iter()
        .map(|component| component_from_wire(family, component))
        .collect::<Result<Vec<_>, _>>()?;
    // The model sorts; the wire must have been sorted already.
    if !components.is_sorted_by_key(FlowSpecComponent::type_code) {
        return Err("FlowSpec components out of order".to_owned());
    }
    FlowSpecRule::new(family, components).map_err(|error| error.to_string())
}

fn component_from_wire(
    family: AddressFamily,
    component: &wire::FlowSpecComponent,
) -> Result<FlowSpecComponent, String> {
    use FlowSpecComponent as Model;
    use wire::FlowSpecComponent as Wire;

    let numbers =
        |tests: &[wire::NumericMatch]| numeric_from_wire(tests).map_err(|error| error.to_string());
    let masks = |tests: &[wire::BitmaskMatch], known| {
        bitmask_from_wire(tests, known).map_err(|error| error.to_string())
    };
    let fragment_bits = match family {
        AddressFamily::Ipv4 => FRAGMENT_BITS_IPV4,
        AddressFamily::Ipv6 => FRAGMENT_BITS_IPV6,
    };
    Ok(match component {
        Wire::DestinationPrefix(prefix) => Model::DestinationPrefix(prefix_from_wire(prefix)?),
        Wire::SourcePrefix(prefix) => Model::SourcePrefix(prefix_from_wire(prefix)?),
        Wire::IpProtocol(tests) => Model::IpProtocol(numbers(tests)?),
        Wire::Port(tests) => Model::Port(numbers(tests)?),
        Wire::DestinationPort(tests) => Model::DestinationPort(numbers(tests)?),
        Wire::SourcePort(tests) => Model::SourcePort(numbers(tests)?),
        Wire::IcmpType(tests) => Model::IcmpType(numbers(tests)?),
        Wire::IcmpCode(tests) => Model::IcmpCode(numbers(tests)?),
        Wire::TcpFlags(tests) => Model::TcpFlags(masks(tests, TCP_FLAG_BITS)?),
        Wire::PacketLength(tests) => Model::PacketLength(numbers(tests)?),
        Wire::Dscp(tests) => Model::Dscp(numbers(tests)?),
        Wire::Fragment(tests) => Model::Fragment(masks(tests, fragment_bits)?),
        Wire::FlowLabel(tests) => Model::FlowLabel(numbers(tests)?),
        other => return Err(format!("FlowSpec component type {} is unknown", other.type_code())),
    })
}

fn prefix_from_wire(prefix: &wire::FlowSpecPrefix) -> Result<Prefix, String> {
    let (address, length) = match prefix {
        wire::FlowSpecPrefix::V4(prefix) => (IpAddr::V4(prefix.addr), prefix.len),
        wire::FlowSpecPrefix::V6(prefix) if prefix.offset == 0 => {
            (IpAddr::V6(prefix.prefix.addr), prefix.prefix.len)
        }
        wire::FlowSpecPrefix::V6(prefix) => {
            return Err(format!("IPv6 prefix offset {} is not supported", prefix.offset));
        }
    };
    Prefix::new(address, length).ok_or_else(|| format!("{address}/{length} is no prefix"))
}

fn numeric_from_wire(tests: &[wire::NumericMatch]) -> Result<NumericMatch, InvalidRule> {
    let mut groups: Vec<Vec<NumericTest>> = Vec::new();
    for test in tests {
        let read = NumericTest { operator: operator(test.lt, test.gt, test.eq), value: test.value };
        join(&mut groups, test.and_bit, read);
    }
    NumericMatch::new(groups)
}

fn bitmask_from_wire(
    tests: &[wire::BitmaskMatch],
    known: u16,
) -> Result<BitmaskMatch, InvalidRule> {
    let mut groups: Vec<Vec<BitmaskTest>> = Vec::new();
    for test in tests {
        let read =
            BitmaskTest { all: test.match_bit, negated: test.not_bit, bits: test.value & known };
        join(&mut groups, test.and_bit, read);
    }
    BitmaskMatch::new(groups)
}

fn join<T>(groups: &mut Vec<Vec<T>>, and_bit: bool, test: T) {
    match groups.last_mut() {
        Some(group) if and_bit => group.push(test),
        _ => groups.push(vec![test]),
    }
}
