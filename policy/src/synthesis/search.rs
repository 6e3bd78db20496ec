//! Which of the candidates together: as much of the attack as the budgets allow.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tidegate_model::{FlowSpecRule, Prefix};

use super::pattern::Pattern;
use super::{Bounds, Candidate, Hits, MIN_GAIN, Material};

/// Rounds of exchange.
const MOST_ROUNDS: usize = 4;
/// A band of lengths is widened by this much of itself at most, beyond a few octets.
const WIDENING: u16 = 4;
const FEW_OCTETS: u16 = 8;
/// Lengths beyond every packet on an Ethernet.
const LONGEST: u16 = 1500;

/// A candidate and what it added when that was last looked at.
struct Entry {
    worth: f64,
    index: usize,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// Of equal worth the first candidate.
    fn cmp(&self, other: &Self) -> Ordering {
        self.worth.total_cmp(&other.worth).then(other.index.cmp(&self.index))
    }
}

/// How the worth of a candidate is weighed.
#[derive(Clone, Copy)]
enum Weighing {
    /// By what it adds.
    Gain,
    /// By what it adds for each TCAM entry.
    PerEntry,
}

/// What `chosen` match together.
pub(super) fn union(material: &Material<'_>, chosen: &[Candidate]) -> Hits {
    let mut together = material.hits(|_| false);
    chosen.iter().for_each(|candidate| together.add(&candidate.hits));
    together
}

/// Packets a second that `candidate` adds to `others`, less what is doubtful of them.
fn certain(material: &Material<'_>, candidate: &Candidate, others: &Hits) -> f64 {
    material.gain(&candidate.hits, others) - candidate.exposure
}

/// The best that was found. Greedy by gain and greedy by gain for each entry each may be far from
/// the best; the better of both is not (Leskovec et al. 2007).
pub(super) fn choose(
    target: Prefix,
    material: &Material<'_>,
    candidates: &[Candidate],
    bounds: Bounds,
    allowed: &mut impl FnMut(&FlowSpecRule) -> bool,
) -> Vec<Candidate> {
    let by_gain = greedy(material, candidates, bounds, Weighing::Gain, Vec::new());
    let per_entry = greedy(material, candidates, bounds, Weighing::PerEntry, Vec::new());
    let score = |chosen: &[Candidate]| {
        let doubtful: f64 = chosen.iter().map(|candidate| candidate.exposure).sum();
        material.coverage(&union(material, chosen)) - doubtful / material.excess
    };
    let mut chosen = if score(&per_entry) > score(&by_gain) { per_entry } else { by_gain };
    for _ in 0..MOST_ROUNDS {
        let before = score(&chosen);
        merge(target, material, &mut chosen, bounds, allowed);
        chosen = greedy(material, candidates, bounds, Weighing::Gain, chosen);
        for index in 0..chosen.len() {
            let mut others = chosen.clone();
            others.remove(index);
            let exchanged = greedy(material, candidates, bounds, Weighing::Gain, others);
            if score(&exchanged) > score(&chosen) + MIN_GAIN {
                chosen = exchanged;
                break;
            }
        }
        if score(&chosen) <= before + MIN_GAIN {
            break;
        }
    }
    generalise(target, material, &mut chosen, bounds, allowed);
    drop_idle(material, &mut chosen);
    chosen
}

/// Adds to `chosen` what adds most, as long as it adds anything and the budgets allow it. What a
/// candidate adds only shrinks: one that was looked at and is still the best needs no comparison.
fn greedy(
    material: &Material<'_>,
    candidates: &[Candidate],
    bounds: Bounds,
    weighing: Weighing,
    mut chosen: Vec<Candidate>,
) -> Vec<Candidate> {
    let mut together = union(material, &chosen);
    let mut entries: u32 = chosen.iter().map(|it| it.tcam_entries).sum();
    let worth = |candidate: &Candidate, together: &Hits| {
        let gain = certain(material, candidate, together);
        match weighing {
            Weighing::Gain => gain,
            Weighing::PerEntry => gain / f64::from(candidate.tcam_entries.max(1)),
        }
    };
    let mut heap: BinaryHeap<Entry> = candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| Entry { worth: worth(candidate, &together), index })
        .collect();
    while chosen.len() < bounds.rules
        && let Some(first) = heap.pop()
    {
        let Some(candidate) = candidates.get(first.index) else { continue };
        let now = Entry { worth: worth(candidate, &together), index: first.index };
        if heap.peek().is_some_and(|next| *next > now) {
            heap.push(now);
            continue;
        }
        if certain(material, candidate, &together) < MIN_GAIN * material.excess {
            // By gain the others add less still.
            match weighing {
                Weighing::Gain => break,
                Weighing::PerEntry => continue,
            }
        }
        let mut wider = together.clone();
        wider.add(&candidate.hits);
        let fits = entries.saturating_add(candidate.tcam_entries) <= bounds.tcam_entries;
        if fits && material.collateral(&wider) <= bounds.collateral {
            entries += candidate.tcam_entries;
            together = wider;
            chosen.push(candidate.clone());
        }
    }
    chosen
}

/// Whether `chosen` with `new` in the place of what is at `without` is within the bounds.
fn fits(
    material: &Material<'_>,
    chosen: &[Candidate],
    without: &[usize],
    new: &Candidate,
    bounds: Bounds,
) -> bool {
    let others = chosen.iter().enumerate().filter(|(index, _)| !without.contains(index));
    let mut entries = new.tcam_entries;
    let mut together = new.hits.clone();
    for (_, other) in others {
        entries = entries.saturating_add(other.tcam_entries);
        together.add(&other.hits);
    }
    entries <= bounds.tcam_entries && material.collateral(&together) <= bounds.collateral
}

/// Makes one rule of two that differ in one port only: that leaves room for another.
fn merge(
    target: Prefix,
    material: &Material<'_>,
    chosen: &mut Vec<Candidate>,
    bounds: Bounds,
    allowed: &mut impl FnMut(&FlowSpecRule) -> bool,
) {
    let mut index = 0;
    while index < chosen.len() {
        let found = (index + 1..chosen.len()).find_map(|other| {
            let (Some(one), Some(two)) = (chosen.get(index), chosen.get(other)) else {
                return None;
            };
            let pattern = one.pattern.as_ref()?.merged(two.pattern.as_ref()?)?;
            let new = candidate(target, material, pattern, allowed)?;
            fits(material, chosen, &[index, other], &new, bounds).then_some((other, new))
        });
        match found {
            Some((other, new)) => {
                chosen.remove(other);
                if let Some(slot) = chosen.get_mut(index) {
                    *slot = new;
                }
            }
            None => index += 1,
        }
    }
}

fn candidate(
    target: Prefix,
    material: &Material<'_>,
    pattern: Pattern,
    allowed: &mut impl FnMut(&FlowSpecRule) -> bool,
) -> Option<Candidate> {
    let rule = pattern.rule(target).filter(|_| pattern.is_narrow())?;
    allowed(&rule).then(|| Candidate::new(material, rule, Some(pattern)))
}

/// Widens what the sample is too small to know: bands of lengths, as far as nothing more of the
/// traffic before is hit.
fn generalise(
    target: Prefix,
    material: &Material<'_>,
    chosen: &mut [Candidate],
    bounds: Bounds,
    allowed: &mut impl FnMut(&FlowSpecRule) -> bool,
) {
    for index in 0..chosen.len() {
        let Some(current) = chosen.get(index).cloned() else { continue };
        let Some(pattern) = current.pattern.as_ref() else { continue };
        for wider in wider(pattern, current.exposure) {
            let Some(new) = candidate(target, material, wider, allowed) else { continue };
            let same = new.hits.before == current.hits.before;
            if same && fits(material, chosen, &[index], &new, bounds) {
                if let Some(slot) = chosen.get_mut(index) {
                    *slot = new;
                }
                break;
            }
        }
    }
}

/// Forms of `pattern` that match more, the widest first.
fn wider(pattern: &Pattern, exposure: f64) -> Vec<Pattern> {
    let Some((low, high)) = pattern.length.filter(|(low, high)| low < high) else {
        return Vec::new();
    };
    let with = |length| Pattern { length, ..pattern.clone() };
    // Other traffic may have the lengths beyond.
    let more = if exposure > 0.0 { 0 } else { (high - low) / WIDENING }.max(FEW_OCTETS);
    let mut forms = Vec::new();
    // Ports or a type tell it well enough alone.
    if !pattern.source_ports.is_empty() || pattern.source.is_some() || pattern.icmp_type.is_some() {
        forms.push(with(None));
    }
    let longer = if high.saturating_add(more) >= LONGEST { u16::MAX } else { high + more };
    forms.push(with(Some((low.saturating_sub(more), longer))));
    forms.push(with(Some((low, longer))));
    forms.push(with(Some((low.saturating_sub(more), high))));
    forms
}

/// Drops rules without which as much is covered.
fn drop_idle(material: &Material<'_>, chosen: &mut Vec<Candidate>) {
    let mut index = chosen.len();
    while index > 0 {
        index -= 1;
        let mut others = chosen.clone();
        let candidate = others.remove(index);
        let gain = certain(material, &candidate, &union(material, &others));
        if gain < MIN_GAIN * material.excess && !others.is_empty() {
            chosen.remove(index);
        }
    }
}
