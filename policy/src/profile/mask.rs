//! Bitmask components in the forms and bits that a receiver takes.

use std::collections::BTreeSet;

use tidegate_model::{BitmaskMatch, BitmaskTest};

use super::BitmaskForm;

/// A match that would become more alternatives than this in tests of single bits is given up.
const MAX_ALTERNATIVES: usize = 32;

/// A match as a receiver takes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rewritten {
    /// It matches exactly the same.
    Exact(BitmaskMatch),
    /// Tests of other bits are left out: it matches more.
    Wider(BitmaskMatch),
    /// Nothing that narrows would be left, or it cannot be said.
    Nothing,
}

/// `mask` in `accepted` forms, with tests of `bits` alone.
pub(super) fn rewrite(
    mask: &BitmaskMatch,
    bits: u16,
    accepted: &BTreeSet<BitmaskForm>,
) -> Rewritten {
    let takes =
        |test: &BitmaskTest| test.bits & !bits == 0 && BitmaskForm::of(test).is_subset(accepted);
    if mask.groups().iter().flatten().all(takes) {
        return Rewritten::Exact(mask.clone());
    }
    let mut groups: Vec<Vec<BitmaskTest>> = Vec::new();
    let mut exact = true;
    for group in mask.groups() {
        let Some(alternatives) = single_bits(group) else { return Rewritten::Nothing };
        for mut tests in alternatives {
            let before = tests.len();
            tests.retain(takes);
            exact &= tests.len() == before;
            if !groups.contains(&tests) {
                groups.push(tests);
            }
        }
    }
    if groups.len() > MAX_ALTERNATIVES {
        return Rewritten::Nothing;
    }
    // A group without tests, which would match everything, makes no match.
    match BitmaskMatch::new(groups) {
        Ok(mask) if exact => Rewritten::Exact(mask),
        Ok(mask) => Rewritten::Wider(mask),
        Err(_) => Rewritten::Nothing,
    }
}

/// Groups of tests of one bit each, any of which holds when all tests of `group` do.
fn single_bits(group: &[BitmaskTest]) -> Option<Vec<Vec<BitmaskTest>>> {
    let mut alternatives: Vec<Vec<BitmaskTest>> = vec![Vec::new()];
    for test in group {
        let ones = (0..u16::BITS).map(|shift| 1_u16 << shift).filter(|one| test.bits & one != 0);
        let literals = ones.map(|bits| BitmaskTest { all: true, negated: test.negated, bits });
        // All of several bits, or not any of them, is one conjunction; the two others are choices.
        let choices: Vec<Vec<BitmaskTest>> = if test.all == test.negated {
            literals.map(|literal| vec![literal]).collect()
        } else {
            vec![literals.collect()]
        };
        if alternatives.len().saturating_mul(choices.len()) > MAX_ALTERNATIVES {
            return None;
        }
        alternatives = alternatives
            .iter()
            .flat_map(|so_far| choices.iter().map(|choice| joined(so_far, choice)))
            .collect();
    }
    Some(alternatives)
}

fn joined(left: &[BitmaskTest], right: &[BitmaskTest]) -> Vec<BitmaskTest> {
    let mut tests = left.to_vec();
    tests.extend(right.iter().filter(|each| !left.contains(each)));
    tests
}
