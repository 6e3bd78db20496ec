//! Commands in the language of ExaBGP 4 and 5.
//!
//! Its parser answers `done` to much that it drops silently, a list without brackets or a missing
//! semicolon for one: every list has its brackets, every statement its semicolon, every route its
//! next hop, and numbers stand in place of names.

use std::net::IpAddr;

use tidegate_model::{
    AddressFamily, ComponentValue, FlowSpecComponent, FlowSpecRule, Nlri, NumericOperator, Route,
};

use crate::external::wire::extended_communities;

/// One test of a component: `=53`, `&<=2000`, `!0x10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Whether it must hold together with the one before.
    pub(super) and: bool,
    /// `=`, `>=`, `!=`; of a bitmask nothing for any, `=` for all.
    pub(super) operator: String,
    /// What is compared with.
    pub(super) value: Value,
}

/// What a test compares with, as ExaBGP shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, or names of bits.
    Number(u64),
    /// The name of a protocol, port or ICMP type.
    Name(String),
}

/// The tests of a component; `None` for a prefix.
///
/// # Errors
/// A test that is always true or false.
pub(super) fn tokens(component: &FlowSpecComponent) -> Result<Option<Vec<Token>>, String> {
    let mut tokens = Vec::new();
    match component.value() {
        ComponentValue::Prefix(_) => return Ok(None),
        ComponentValue::Numeric(numbers) => {
            for group in numbers.groups() {
                for (at, test) in group.iter().enumerate() {
                    let operator = match test.operator {
                        NumericOperator::Equal => "=",
                        NumericOperator::Greater => ">",
                        NumericOperator::GreaterOrEqual => ">=",
                        NumericOperator::Less => "<",
                        NumericOperator::LessOrEqual => "<=",
                        NumericOperator::NotEqual => "!=",
                        NumericOperator::True | NumericOperator::False => {
                            return Err("a test that is always true or always false".to_owned());
                        }
                    };
                    let value = Value::Number(test.value);
                    tokens.push(Token { and: at > 0, operator: operator.to_owned(), value });
                }
            }
        }
        ComponentValue::Bitmask(mask) => {
            for group in mask.groups() {
                for (at, test) in group.iter().enumerate() {
                    if test.bits == 0 {
                        return Err("a test of no bit".to_owned());
                    }
                    let operator = match (test.negated, test.all) {
                        (false, false) => "",
                        (false, true) => "=",
                        (true, false) => "!",
                        (true, true) => "!=",
                    };
                    let value = Value::Number(test.bits.into());
                    tokens.push(Token { and: at > 0, operator: operator.to_owned(), value });
                }
            }
        }
    }
    Ok(Some(tokens))
}

/// What a component is called in commands.
pub(super) const fn name(family: AddressFamily, component: &FlowSpecComponent) -> &'static str {
    match (component, family) {
        (FlowSpecComponent::IpProtocol(_), AddressFamily::Ipv6) => "next-header",
        (FlowSpecComponent::Dscp(_), AddressFamily::Ipv6) => "traffic-class",
        _ => component.name(),
    }
}

/// `match { destination 192.0.2.4/32; protocol [ =17 ]; }`
///
/// # Errors
/// What ExaBGP's language cannot say.
pub(super) fn matches(rule: &FlowSpecRule) -> Result<String, String> {
    let mut text = "match {".to_owned();
    for component in rule.components() {
        let name = name(rule.family(), component);
        let value = match component {
            FlowSpecComponent::DestinationPrefix(prefix)
            | FlowSpecComponent::SourcePrefix(prefix) => prefix.to_string(),
            _ => {
                let tokens = tokens(component).map_err(|why| format!("{name}: {why}"))?;
                list(&tokens.unwrap_or_default())
            }
        };
        text.push_str(&format!(" {name} {value};"));
    }
    text.push_str(" }");
    Ok(text)
}

/// `[ =53 >=1000&<=2000 ]`
pub(super) fn list(tokens: &[Token]) -> String {
    let mut text = "[".to_owned();
    for token in tokens {
        text.push(if token.and { '&' } else { ' ' });
        text.push_str(&token.operator);
        match &token.value {
            Value::Number(number) => text.push_str(&number.to_string()),
            Value::Name(name) => text.push_str(name),
        }
    }
    text.push_str(" ]");
    text
}

/// The command that announces `route` to one neighbour.
///
/// # Errors
/// What ExaBGP's language cannot say.
pub(super) fn announce(neighbor: IpAddr, route: &Route) -> Result<String, String> {
    let mut attributes = Vec::new();
    let joined = |items: Vec<String>| items.join(" ");
    if !route.communities.is_empty() {
        let all = route.communities.iter().map(ToString::to_string).collect();
        attributes.push(format!("community [ {} ]", joined(all)));
    }
    if !route.large_communities.is_empty() {
        let all = route.large_communities.iter().map(ToString::to_string).collect();
        attributes.push(format!("large-community [ {} ]", joined(all)));
    }
    match &route.nlri {
        Nlri::Unicast(prefix) => {
            let next_hop = route.next_hop.ok_or("a unicast route needs a next hop")?;
            let attributes = attributes.join(" ");
            Ok(format!(
                "neighbor {neighbor} announce route {prefix} next-hop {next_hop} {attributes}"
            ))
        }
        Nlri::FlowSpec(rule) => {
            let actions = extended_communities(route)?;
            if !actions.is_empty() {
                let all = actions.iter().map(|one| format!("{one:#018x}")).collect();
                attributes.push(format!("extended-community [ {} ]", joined(all)));
            }
            let then: String = attributes.iter().map(|one| format!(" {one};")).collect();
            let matches = matches(rule)?;
            Ok(format!("neighbor {neighbor} announce flow route {{ {matches} then {{{then} }} }}"))
        }
    }
}

/// The command that withdraws `nlri` from one neighbour.
///
/// # Errors
/// What ExaBGP's language cannot say.
pub(super) fn withdraw(neighbor: IpAddr, nlri: &Nlri) -> Result<String, String> {
    match nlri {
        Nlri::Unicast(prefix) => Ok(format!("neighbor {neighbor} withdraw route {prefix}")),
        Nlri::FlowSpec(rule) => {
            let matches = matches(rule)?;
            Ok(format!("neighbor {neighbor} withdraw flow route {{ {matches} }}"))
        }
    }
}
