//! Numeric components in the comparisons that a receiver takes.

use std::collections::BTreeSet;

use tidegate_model::{NumericMatch, NumericOperator, NumericTest};

use super::Comparison;

/// A range is written value by value if it has no more of them than this.
const MAX_ENUMERATED: u64 = 16;

/// `numeric` in `accepted` comparisons, matching exactly the same of the values `0..=high`; `None`
/// if that cannot be said with them.
pub(super) fn rewrite(
    numeric: &NumericMatch,
    high: u64,
    accepted: &BTreeSet<Comparison>,
) -> Option<NumericMatch> {
    let known = |test: &NumericTest| {
        Comparison::of(test.operator).is_some_and(|comparison| accepted.contains(&comparison))
    };
    if numeric.groups().iter().flatten().all(known) {
        return Some(numeric.clone());
    }
    let mut groups = Vec::new();
    for (low, top) in ranges(numeric, high) {
        groups.extend(range(low, top, high, accepted)?);
    }
    NumericMatch::new(groups).ok()
}

/// The values of `0..=high` that match, as ascending ranges that do not touch.
fn ranges(numeric: &NumericMatch, high: u64) -> Vec<(u64, u64)> {
    // A test changes its mind only at its value and behind it.
    let tests = numeric.groups().iter().flatten();
    let edges = tests.flat_map(|test| [test.value, test.value.saturating_add(1)]);
    let starts: BTreeSet<u64> = edges.chain([0]).filter(|value| *value <= high).collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([high]);
    let mut found: Vec<(u64, u64)> = Vec::new();
    for (start, end) in starts.iter().zip(ends) {
        if !numeric.matches(*start) {
            continue;
        }
        match found.last_mut() {
            Some(last) if last.1 + 1 == *start => last.1 = end,
            _ => found.push((*start, end)),
        }
    }
    found
}

/// `low..=top` of `0..=high` in `accepted` comparisons, as groups of tests.
fn range(
    low: u64,
    top: u64,
    high: u64,
    accepted: &BTreeSet<Comparison>,
) -> Option<Vec<Vec<NumericTest>>> {
    let test = |operator, value| NumericTest { operator, value };
    let takes = |comparison| accepted.contains(&comparison);
    let equal = |value| vec![test(NumericOperator::Equal, value)];
    if low == top && takes(Comparison::Equal) {
        return Some(vec![equal(low)]);
    }
    let from = if takes(Comparison::GreaterOrEqual) {
        Some(test(NumericOperator::GreaterOrEqual, low))
    } else if takes(Comparison::Greater) && low > 0 {
        Some(test(NumericOperator::Greater, low - 1))
    } else {
        None
    };
    let to = if takes(Comparison::LessOrEqual) {
        Some(test(NumericOperator::LessOrEqual, top))
    } else if takes(Comparison::Less) && top < high {
        Some(test(NumericOperator::Less, top + 1))
    } else {
        None
    };
    let bounded = match (from, to) {
        (Some(from), _) if top == high => Some(vec![from]),
        (_, Some(to)) if low == 0 => Some(vec![to]),
        (Some(from), Some(to)) => Some(vec![from, to]),
        _ => None,
    };
    match bounded {
        Some(group) => Some(vec![group]),
        None if takes(Comparison::Equal) && top - low < MAX_ENUMERATED => {
            Some((low..=top).map(equal).collect())
        }
        None => None,
    }
}
