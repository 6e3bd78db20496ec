//! What `show adj-rib out extensive` says: one route a line, the same in ExaBGP 4.2 and 5.0 but for
//! the names of ports, which 5.0 writes.
//!
//! ```text
//! neighbor 10.99.0.2 local-ip ... ipv4 unicast 192.0.2.1/32 next-hop 10.99.0.1 community [ blackhole no-export ]
//! neighbor 10.99.0.2 local-ip ... ipv4 flow flow destination-ipv4 192.0.2.4/32 protocol =udp
//!     destination-port [ =53 >=1000&<=2000 ] extended-community rate-limit:0 large-community 65010:666:1
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;

use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, Community, FlowSpecComponent, FlowSpecRule,
    LargeCommunity, Nlri, NumericMatch, NumericOperator, NumericTest, Prefix,
};

use super::render::{self, Token, Value};

/// Most bytes of a line that are read; no route of ours needs as many.
const MOST_LINE: usize = 64 * 1024;

/// A route as ExaBGP shows it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    /// Whom it is announced to.
    pub(super) neighbor: IpAddr,
    /// What it is known by.
    pub(super) nlri: ShownNlri,
    /// Next hop of a unicast route.
    pub(super) next_hop: Option<IpAddr>,
    /// `None` if one of them is shown by a name that is not known.
    pub(super) communities: Option<BTreeSet<Community>>,
    pub(super) large_communities: BTreeSet<LargeCommunity>,
    /// Traffic-rate in bytes.
    pub(super) rate: Option<f32>,
}

/// What a shown route is known by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ShownNlri {
    /// A prefix.
    Unicast(Prefix),
    /// Components of a rule in order.
    Flow(AddressFamily, Vec<Piece>),
}

/// One component.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// `destination` or `source`.
    Prefix(&'static str, Prefix),
    /// Any other, by its name in commands.
    Tests(&'static str, Vec<Token>),
}

const COMPONENTS: [(&str, &str); 18] = [
    ("destination-ipv4", "destination"),
    ("destination-ipv6", "destination"),
    ("source-ipv4", "source"),
    ("source-ipv6", "source"),
    ("protocol", "protocol"),
    ("next-header", "next-header"),
    ("port", "port"),
    ("destination-port", "destination-port"),
    ("source-port", "source-port"),
    ("icmp-type", "icmp-type"),
    ("icmp-code", "icmp-code"),
    ("tcp-flags", "tcp-flags"),
    ("packet-length", "packet-length"),
    ("dscp", "dscp"),
    ("traffic-class", "traffic-class"),
    ("fragment", "fragment"),
    ("flow-label", "flow-label"),
    ("rd", "rd"),
];

/// Words that begin an attribute.
const ATTRIBUTES: [&str; 14] = [
    "next-hop",
    "origin",
    "as-path",
    "local-preference",
    "med",
    "atomic-aggregate",
    "aggregator",
    "community",
    "large-community",
    "extended-community",
    "originator-id",
    "cluster-list",
    "path-information",
    "label",
];

/// Reads a line. `None` for one that is not a route of the four families.
pub(super) fn line(text: &str) -> Option<Shown> {
    if text.len() > MOST_LINE {
        return None;
    }
    // How 4.2 shows numbers without a name; one of these words is a name of ours.
    let text = text.replace("unknown protocol type ", "").replace("unknown icmp type type ", "");
    let words: Vec<&str> = text.split_whitespace().collect();
    if *words.first()? != "neighbor" {
        return None;
    }
    let neighbor = words.get(1)?.parse().ok()?;
    let at =
        words.windows(2).position(|pair| matches!(pair, ["ipv4" | "ipv6", "unicast" | "flow"]))?;
    let family = if words.get(at)? == &"ipv4" { AddressFamily::Ipv4 } else { AddressFamily::Ipv6 };
    let (nlri, mut rest) = if words.get(at + 1)? == &"unicast" {
        let prefix: Prefix = words.get(at + 2)?.parse().ok()?;
        (ShownNlri::Unicast(prefix), words.get(at + 3..)?)
    } else {
        // `flow flow`: the family, and the kind of route.
        let (pieces, rest) = pieces(words.get(at + 3..)?)?;
        (ShownNlri::Flow(family, pieces), rest)
    };
    let mut shown = Shown {
        neighbor,
        nlri,
        next_hop: None,
        communities: Some(BTreeSet::new()),
        large_communities: BTreeSet::new(),
        rate: None,
    };
    while let Some((name, values, after)) = statement(rest) {
        shown.attribute(name, &values);
        rest = after;
    }
    Some(shown)
}

/// The first word, the words up to the next name without brackets, and the rest.
fn statement<'a, 'b>(words: &'b [&'a str]) -> Option<(&'a str, Vec<&'a str>, &'b [&'a str])> {
    let (name, rest) = words.split_first()?;
    let is_name =
        |word: &&str| ATTRIBUTES.contains(word) || COMPONENTS.iter().any(|(name, _)| name == word);
    let end = rest.iter().position(is_name).unwrap_or(rest.len());
    let (values, after) = rest.split_at(end);
    let values = values.iter().filter(|word| !matches!(**word, "[" | "]"));
    Some((name, values.copied().collect(), after))
}

fn pieces<'a, 'b>(words: &'b [&'a str]) -> Option<(Vec<Piece>, &'b [&'a str])> {
    let mut pieces = Vec::new();
    let mut rest = words;
    while let Some((name, values, after)) = statement(rest) {
        let Some((_, name)) = COMPONENTS.iter().find(|(shown, _)| *shown == name) else { break };
        pieces.push(match (*name, values.as_slice()) {
            ("rd", _) => return None,
            ("destination" | "source", [prefix]) => {
                // An IPv6 prefix is followed by its offset, which is never another one here.
                let mut parts = prefix.splitn(3, '/');
                let (address, length) = (parts.next()?, parts.next()?);
                if parts.next().is_some_and(|offset| offset != "0") {
                    return None;
                }
                Piece::Prefix(name, format!("{address}/{length}").parse().ok()?)
            }
            ("destination" | "source", _) => return None,
            (name, values) => Piece::Tests(name, tests(name, values)?),
        });
        rest = after;
    }
    (!pieces.is_empty()).then_some((pieces, rest))
}

/// `=53 >=1000&<=2000`, `=udp`, `syn&!ack`.
fn tests(name: &str, words: &[&str]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    for group in words {
        for (at, test) in group.split('&').enumerate() {
            let signs = ["!=", ">=", "<=", "=", ">", "<", "!"];
            let operator =
                signs.iter().find(|sign| test.starts_with(**sign)).copied().unwrap_or("");
            let value = test.get(operator.len()..)?;
            if value.is_empty()
                || !value.chars().all(|one| one.is_ascii_alphanumeric() || "+-_./*".contains(one))
            {
                return None;
            }
            let value = match (value.parse(), name) {
                (Ok(number), _) => Value::Number(number),
                (Err(_), "tcp-flags") => Value::Number(bits(value, &TCP_FLAGS)?),
                (Err(_), "fragment") => Value::Number(bits(value, &FRAGMENT)?),
                (Err(_), _) => Value::Name(value.to_owned()),
            };
            tokens.push(Token { and: at > 0, operator: operator.to_owned(), value });
        }
    }
    (!tokens.is_empty()).then_some(tokens)
}

const TCP_FLAGS: [&str; 9] = ["fin", "syn", "rst", "push", "ack", "urg", "ece", "cwr", "ns"];
const FRAGMENT: [&str; 4] = ["dont-fragment", "is-fragment", "first-fragment", "last-fragment"];

fn bits(text: &str, names: &[&str]) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let each = text.split('+').map(|name| names.iter().position(|one| *one == name));
    each.map(|at| at.map(|at| 1 << at)).try_fold(0, |all, bit: Option<u64>| Some(all | bit?))
}

impl Shown {
    fn attribute(&mut self, name: &str, values: &[&str]) {
        match name {
            "next-hop" => self.next_hop = values.first().and_then(|text| text.parse().ok()),
            "community" => {
                self.communities = values.iter().map(|one| one.parse().ok()).collect();
            }
            "large-community" => {
                self.large_communities = values.iter().filter_map(|one| one.parse().ok()).collect();
            }
            "extended-community" => {
                let mut rates = values.iter().filter_map(|one| one.strip_prefix("rate-limit:"));
                self.rate = rates.next().and_then(|rate| rate.parse().ok());
            }
            _ => {}
        }
    }

    /// The command that withdraws it, in ExaBGP's own words.
    pub(super) fn withdraw(&self) -> String {
        let neighbor = self.neighbor;
        match &self.nlri {
            ShownNlri::Unicast(prefix) => format!("neighbor {neighbor} withdraw route {prefix}"),
            ShownNlri::Flow(_, pieces) => {
                let each = pieces.iter().map(|piece| match piece {
                    Piece::Prefix(name, prefix) => format!(" {name} {prefix};"),
                    Piece::Tests(name, tokens) => format!(" {name} {};", render::list(tokens)),
                });
                let matches: String = each.collect();
                format!("neighbor {neighbor} withdraw flow route {{ match {{{matches} }} }}")
            }
        }
    }

    /// What it is known by, if every name in it is known to `number`.
    pub(super) fn nlri(&self, number: impl Fn(&str, &str) -> Option<u64>) -> Option<Nlri> {
        match &self.nlri {
            ShownNlri::Unicast(prefix) => Some(Nlri::Unicast(*prefix)),
            ShownNlri::Flow(family, pieces) => {
                let components = pieces.iter().map(|piece| piece.component(&number));
                let components = components.collect::<Option<Vec<_>>>()?;
                FlowSpecRule::new(*family, components).ok().map(Nlri::FlowSpec)
            }
        }
    }

    /// Whether it may be `nlri`: a name that stands for a number is taken on trust.
    pub(super) fn fits(&self, nlri: &Nlri) -> bool {
        match (&self.nlri, nlri) {
            (ShownNlri::Unicast(shown), Nlri::Unicast(prefix)) => shown == prefix,
            (ShownNlri::Flow(family, pieces), Nlri::FlowSpec(rule)) => {
                *family == rule.family()
                    && pieces.len() == rule.components().len()
                    && pieces
                        .iter()
                        .zip(rule.components())
                        .all(|(piece, one)| piece.fits(*family, one))
            }
            _ => false,
        }
    }
}

impl Piece {
    fn fits(&self, family: AddressFamily, component: &FlowSpecComponent) -> bool {
        match self {
            Self::Prefix(name, shown) => match component {
                FlowSpecComponent::DestinationPrefix(prefix) => {
                    *name == "destination" && shown == prefix
                }
                FlowSpecComponent::SourcePrefix(prefix) => *name == "source" && shown == prefix,
                _ => false,
            },
            Self::Tests(name, shown) => {
                let Ok(Some(tokens)) = render::tokens(component) else { return false };
                let alike = |(shown, token): (&Token, &Token)| {
                    shown.and == token.and
                        && shown.operator == token.operator
                        && (matches!(shown.value, Value::Name(_)) || shown.value == token.value)
                };
                *name == render::name(family, component)
                    && shown.len() == tokens.len()
                    && shown.iter().zip(&tokens).all(alike)
            }
        }
    }

    fn component(&self, number: &impl Fn(&str, &str) -> Option<u64>) -> Option<FlowSpecComponent> {
        use FlowSpecComponent as Component;
        let (name, tokens) = match self {
            Self::Prefix("destination", prefix) => {
                return Some(Component::DestinationPrefix(*prefix));
            }
            Self::Prefix(_, prefix) => return Some(Component::SourcePrefix(*prefix)),
            Self::Tests(name, tokens) => (*name, tokens),
        };
        let numbers = || {
            let each = tokens.iter().map(|token| Some((token.and, numeric(token, name, number)?)));
            NumericMatch::new(grouped(each.collect::<Option<Vec<_>>>()?)).ok()
        };
        let masks = || {
            let each = tokens.iter().map(|token| Some((token.and, bitmask(token)?)));
            BitmaskMatch::new(grouped(each.collect::<Option<Vec<_>>>()?)).ok()
        };
        match name {
            "protocol" | "next-header" => numbers().map(Component::IpProtocol),
            "port" => numbers().map(Component::Port),
            "destination-port" => numbers().map(Component::DestinationPort),
            "source-port" => numbers().map(Component::SourcePort),
            "icmp-type" => numbers().map(Component::IcmpType),
            "icmp-code" => numbers().map(Component::IcmpCode),
            "tcp-flags" => masks().map(Component::TcpFlags),
            "packet-length" => numbers().map(Component::PacketLength),
            "dscp" | "traffic-class" => numbers().map(Component::Dscp),
            "fragment" => masks().map(Component::Fragment),
            "flow-label" => numbers().map(Component::FlowLabel),
            _ => None,
        }
    }
}

fn numeric(
    token: &Token,
    name: &str,
    number: &impl Fn(&str, &str) -> Option<u64>,
) -> Option<NumericTest> {
    let operator = match token.operator.as_str() {
        "=" => NumericOperator::Equal,
        ">" => NumericOperator::Greater,
        ">=" => NumericOperator::GreaterOrEqual,
        "<" => NumericOperator::Less,
        "<=" => NumericOperator::LessOrEqual,
        "!=" => NumericOperator::NotEqual,
        _ => return None,
    };
    let value = match &token.value {
        Value::Number(value) => *value,
        Value::Name(text) => number(name, text)?,
    };
    Some(NumericTest { operator, value })
}

fn bitmask(token: &Token) -> Option<BitmaskTest> {
    let (negated, all) = match token.operator.as_str() {
        "" => (false, false),
        "=" => (false, true),
        "!" => (true, false),
        "!=" => (true, true),
        _ => return None,
    };
    let Value::Number(bits) = token.value else { return None };
    Some(BitmaskTest { all, negated, bits: u16::try_from(bits).ok()? })
}

fn grouped<T>(tests: Vec<(bool, T)>) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    for (and, test) in tests {
        match groups.last_mut() {
            Some(group) if and => group.push(test),
            _ => groups.push(vec![test]),
        }
    }
    groups
}
