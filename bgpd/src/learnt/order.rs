//! Which of two FlowSpec rules a router looks at first (RFC 8955 §5.1, RFC 8956 §4).

use std::cmp::Ordering;

use tidegate_model::{
    BitmaskMatch, ComponentValue, FlowSpecComponent, FlowSpecRule, NumericMatch, NumericOperator,
    Prefix,
};

/// `Less` if `one` goes before `other`: it decides about a packet that both match. `Equal` only for
/// the same rule. IPv4 goes before IPv6, which no packet can tell.
///
/// Values are compared as they are sent, in as few octets as they fit.
#[must_use]
pub fn precedence(one: &FlowSpecRule, other: &FlowSpecRule) -> Ordering {
    let families = one.family().cmp(&other.family());
    let mut others = other.components().iter();
    for component in one.components() {
        let Some(opposite) = others.next() else { return families.then(Ordering::Less) };
        let order = families.then_with(|| components(component, opposite));
        if order.is_ne() {
            return order;
        }
    }
    // The rule that says more goes first.
    families.then(if others.next().is_some() { Ordering::Greater } else { Ordering::Equal })
}

fn components(one: &FlowSpecComponent, other: &FlowSpecComponent) -> Ordering {
    use FlowSpecComponent::{DestinationPrefix, SourcePrefix};

    match (one, other) {
        (DestinationPrefix(one), DestinationPrefix(other))
        | (SourcePrefix(one), SourcePrefix(other)) => prefixes(*one, *other),
        _ if one.type_code() != other.type_code() => one.type_code().cmp(&other.type_code()),
        _ => strings(&octets(one), &octets(other)),
    }
}

/// Of two that overlap the longer one goes first, else the lower one.
fn prefixes(one: Prefix, other: Prefix) -> Ordering {
    match one.overlaps(&other) {
        true => other.length().cmp(&one.length()),
        false => one.address().cmp(&other.address()),
    }
}

/// As `memcmp`, but of two of which one begins with the other, the longer one goes first.
fn strings(one: &[u8], other: &[u8]) -> Ordering {
    let common = one.iter().zip(other).map(|(one, other)| one.cmp(other));
    common.fold(Ordering::Equal, Ordering::then).then(other.len().cmp(&one.len()))
}

/// The operators and values of a component on the wire, without its type.
fn octets(component: &FlowSpecComponent) -> Vec<u8> {
    match component.value() {
        ComponentValue::Prefix(_) => Vec::new(),
        ComponentValue::Numeric(numeric) => numbers(numeric),
        ComponentValue::Bitmask(bitmask) => masks(bitmask),
    }
}

fn numbers(numeric: &NumericMatch) -> Vec<u8> {
    write(numeric.groups(), |test| {
        let bits = match test.operator {
            NumericOperator::False => 0,
            NumericOperator::Equal => 1,
            NumericOperator::Greater => 2,
            NumericOperator::GreaterOrEqual => 3,
            NumericOperator::Less => 4,
            NumericOperator::LessOrEqual => 5,
            NumericOperator::NotEqual => 6,
            NumericOperator::True => 7,
        };
        (bits, test.value)
    })
}

fn masks(bitmask: &BitmaskMatch) -> Vec<u8> {
    write(bitmask.groups(), |test| {
        (u8::from(test.negated) << 1 | u8::from(test.all), u64::from(test.bits))
    })
}

/// Operator octets (RFC 8955 §4.2.1) and values; `read` gives the lowest bits and the value of a
/// test.
fn write<T>(groups: &[Vec<T>], read: impl Fn(&T) -> (u8, u64)) -> Vec<u8> {
    const END: u8 = 0x80;
    const AND: u8 = 0x40;

    let mut octets = Vec::new();
    let mut last = 0;
    for group in groups {
        for (index, test) in group.iter().enumerate() {
            let (bits, value) = read(test);
            let (code, width) = match value {
                0..=0xff => (0, 1),
                0x100..=0xffff => (1, 2),
                0x1_0000..=0xffff_ffff => (2, 4),
                _ => (3, 8),
            };
            last = octets.len();
            octets.push(if index > 0 { AND } else { 0 } | code << 4 | bits);
            octets.extend(value.to_be_bytes().into_iter().skip(8 - width));
        }
    }
    if let Some(operator) = octets.get_mut(last) {
        *operator |= END;
    }
    octets
}
