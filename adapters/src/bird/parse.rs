//! What BIRD's control socket says of routes.

use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, Community, FlowSpecComponent, FlowSpecRule,
    LargeCommunity, Nlri, NumericMatch, NumericOperator, NumericTest, Route,
};

use super::render::FRAGMENT_BITS;
use crate::external::Seen;
use crate::external::wire::actions;

/// Most bytes of a line that are read; no rule of 239 octets needs as many.
const MOST_LINE: usize = 64 * 1024;

/// What `show route ... all` listed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Listing {
    /// The routes that can be read.
    pub(super) routes: Vec<Seen>,
    /// The beginning of lines that look like routes and cannot be.
    pub(super) unreadable: Vec<String>,
}

/// Reads the lines of `show route ... all`, without their codes.
pub(super) fn routes(lines: &[String]) -> Listing {
    let mut listing = Listing::default();
    let mut current: Option<Route> = None;
    for line in lines.iter().map(String::as_str) {
        if line.starts_with('\t') {
            if let Some(route) = &mut current {
                attribute(route, line.trim());
            }
            continue;
        }
        if line.trim().is_empty() || line.starts_with("Table ") {
            continue;
        }
        listing.routes.extend(current.take().map(finished));
        match net(line) {
            Some(nlri) => {
                current = Some(Route {
                    nlri,
                    next_hop: None,
                    communities: [].into(),
                    large_communities: [].into(),
                    actions: Vec::new(),
                });
            }
            None => listing.unreadable.push(crate::external::shown(line)),
        }
    }
    listing.routes.extend(current.take().map(finished));
    listing
}

fn finished(route: Route) -> Seen {
    Seen { nlri: route.nlri.clone(), route: Some(route) }
}

/// The net at the beginning of a line, as `show route` prints it or a `route` statement spells it.
pub(super) fn net(line: &str) -> Option<Nlri> {
    if line.len() > MOST_LINE {
        return None;
    }
    let (family, rest) = match line.get(..5) {
        Some("flow4") => (AddressFamily::Ipv4, line.get(5..)?),
        Some("flow6") => (AddressFamily::Ipv6, line.get(5..)?),
        _ => return line.split_whitespace().next()?.parse().ok().map(Nlri::Unicast),
    };
    let inside = rest.trim_start().strip_prefix('{')?.split_once('}')?.0;
    let parts = inside.split(';').map(str::trim).filter(|part| !part.is_empty());
    let components = parts.map(component).collect::<Option<Vec<_>>>()?;
    FlowSpecRule::new(family, components).ok().map(Nlri::FlowSpec)
}

fn component(part: &str) -> Option<FlowSpecComponent> {
    use FlowSpecComponent as Component;
    type OfNumbers = fn(NumericMatch) -> Component;
    const NUMERIC: [(&str, OfNumbers); 11] = [
        ("proto ", Component::IpProtocol),
        ("next header ", Component::IpProtocol),
        ("port ", Component::Port),
        ("dport ", Component::DestinationPort),
        ("sport ", Component::SourcePort),
        ("icmp type ", Component::IcmpType),
        ("icmp code ", Component::IcmpCode),
        ("length ", Component::PacketLength),
        ("dscp ", Component::Dscp),
        ("label ", Component::FlowLabel),
        ("flow label ", Component::FlowLabel),
    ];
    if let Some(prefix) = part.strip_prefix("dst ") {
        return prefix.trim().parse().ok().map(Component::DestinationPrefix);
    }
    if let Some(prefix) = part.strip_prefix("src ") {
        return prefix.trim().parse().ok().map(Component::SourcePrefix);
    }
    if let Some(flags) = part.strip_prefix("tcp flags ") {
        return bitmask(flags, flag_tests).map(Component::TcpFlags);
    }
    if let Some(bits) = part.strip_prefix("fragment ") {
        return bitmask(bits, fragment_tests).map(Component::Fragment);
    }
    NUMERIC.iter().find_map(|(name, make)| numbers(part.strip_prefix(name)?).map(*make))
}

/// `53,1000..2000 || > 5 && != 7`
fn numbers(text: &str) -> Option<NumericMatch> {
    let groups = text.split("||").flat_map(|group| group.split(','));
    let groups = groups.map(|group| {
        let tests = group.split("&&").map(|test| number_tests(test.trim()));
        tests.collect::<Option<Vec<_>>>().map(|tests| tests.concat())
    });
    NumericMatch::new(groups.collect::<Option<_>>()?).ok()
}

fn number_tests(text: &str) -> Option<Vec<NumericTest>> {
    use NumericOperator as Operator;
    let test = |operator, value: &str| {
        value.trim().parse().ok().map(|value| NumericTest { operator, value })
    };
    if let Some((low, high)) = text.split_once("..") {
        return Some(vec![
            test(Operator::GreaterOrEqual, low)?,
            test(Operator::LessOrEqual, high)?,
        ]);
    }
    let signs = [
        (">=", Operator::GreaterOrEqual),
        ("<=", Operator::LessOrEqual),
        ("!=", Operator::NotEqual),
        (">", Operator::Greater),
        ("<", Operator::Less),
        ("=", Operator::Equal),
    ];
    let signed =
        signs.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)));
    let (operator, value) = signed.unwrap_or((Operator::Equal, text));
    test(operator, value).map(|test| vec![test])
}

fn bitmask(text: &str, tests: impl Fn(&str) -> Option<Vec<BitmaskTest>>) -> Option<BitmaskMatch> {
    let groups = text.split("||").map(|group| {
        let all = group.split("&&").map(|test| tests(test.trim()));
        all.collect::<Option<Vec<_>>>().map(|tests| tests.concat())
    });
    BitmaskMatch::new(groups.collect::<Option<_>>()?).ok()
}

const fn set(bits: u16) -> BitmaskTest {
    BitmaskTest { all: true, negated: false, bits }
}

const fn clear(bits: u16) -> BitmaskTest {
    BitmaskTest { all: false, negated: true, bits }
}

/// `0x2/0x12`: the bits of the mask have these values. A `!` inverts it.
fn flag_tests(text: &str) -> Option<Vec<BitmaskTest>> {
    let (negated, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text.trim()));
    let number = |text: &str| u16::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok();
    let (value, mask) = text.split_once('/')?;
    let (value, mask) = (number(value)?, number(mask)?);
    if negated {
        // Not all set; or, of none set, any set.
        return match value {
            value if value == mask => {
                Some(vec![BitmaskTest { all: true, negated: true, bits: mask }])
            }
            0 => Some(vec![BitmaskTest { all: false, negated: false, bits: mask }]),
            _ => None,
        };
    }
    let (ones, zeros) = (value & mask, mask & !value);
    let tests: Vec<_> = [(ones, set(ones)), (zeros, clear(zeros))]
        .into_iter()
        .filter_map(|(bits, test)| (bits != 0).then_some(test))
        .collect();
    (!tests.is_empty()).then_some(tests)
}

/// `is_fragment`, `!dont_fragment`.
fn fragment_tests(text: &str) -> Option<Vec<BitmaskTest>> {
    let (negated, name) = text.strip_prefix('!').map_or((false, text), |name| (true, name.trim()));
    let bit = 1 << FRAGMENT_BITS.iter().position(|one| *one == name)?;
    Some(vec![if negated { clear(bit) } else { set(bit) }])
}

/// One attribute line. What is not understood is left out.
fn attribute(route: &mut Route, line: &str) {
    let Some((name, value)) = line.split_once(':') else { return };
    let value = value.trim();
    match name {
        // A link-local address may follow.
        "BGP.next_hop" => {
            route.next_hop = value.split_whitespace().next().and_then(|text| text.parse().ok());
        }
        "BGP.community" => {
            let read = |group: Vec<&str>| match group.as_slice() {
                [high, low] => Some(Community::new(high.parse().ok()?, low.parse().ok()?)),
                _ => None,
            };
            route.communities = groups(value).filter_map(read).collect();
        }
        "BGP.large_community" => {
            let read = |group: Vec<&str>| match group.as_slice() {
                [global, local1, local2] => Some(LargeCommunity {
                    global: global.parse().ok()?,
                    local1: local1.parse().ok()?,
                    local2: local2.parse().ok()?,
                }),
                _ => None,
            };
            route.large_communities = groups(value).filter_map(read).collect();
        }
        "BGP.ext_community" => {
            let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
            let read = |group: Vec<&str>| match group.as_slice() {
                ["generic", high, low] => Some(number(high)? << 32 | number(low)?),
                _ => None,
            };
            let communities: Vec<u64> = groups(value).filter_map(read).collect();
            route.actions = actions(&communities);
        }
        _ => {}
    }
}

/// The parts of each `(a, b)` of a list.
fn groups(value: &str) -> impl Iterator<Item = Vec<&str>> {
    let groups = value.split('(').skip(1);
    groups.filter_map(|group| Some(group.split_once(')')?.0.split(',').map(str::trim).collect()))
}
