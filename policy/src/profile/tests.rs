//! The profiles that come with the program, and rules in the form of a profile.
#![allow(clippy::indexing_slicing, reason = "a test may stop at a surprise")]

use tidegate_model::{
    BitmaskMatch, BitmaskTest, FlowSpecComponent as C, FlowSpecRule, NumericMatch,
    NumericOperator as Op, NumericTest, Prefix, TrafficFilteringAction,
};

use super::*;

mod builtins;
mod equivalence;
mod tables;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn equal(values: impl IntoIterator<Item = u64>) -> NumericMatch {
    let mut values = values.into_iter();
    NumericMatch::one_of(values.next().unwrap(), values)
}

fn tests(groups: &[&[(Op, u64)]]) -> NumericMatch {
    let test = |&(operator, value): &(Op, u64)| NumericTest { operator, value };
    NumericMatch::new(groups.iter().map(|group| group.iter().map(test).collect()).collect())
        .unwrap()
}

/// UDP to one host, and `more`.
fn udp(more: Vec<C>) -> FlowSpecRule {
    let mut components =
        vec![C::DestinationPrefix(prefix("203.0.113.7")), C::IpProtocol(NumericMatch::equal(17))];
    components.extend(more);
    FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap()
}

/// TCP to one host, and `more`.
fn tcp(more: Vec<C>) -> FlowSpecRule {
    let mut components =
        vec![C::DestinationPrefix(prefix("203.0.113.7")), C::IpProtocol(NumericMatch::equal(6))];
    components.extend(more);
    FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap()
}
