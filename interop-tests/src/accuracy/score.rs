//! What was told beside what is right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_model::{AttackVector, Timestamp};

use super::case::{Case, Expected, Section};
use super::chain::{Found, Told};

/// One trial, judged.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// The attack that was expected, as it was found.
    pub(super) hit: Option<Hit>,
    /// Attacks that were told and are none.
    pub(super) false_starts: usize,
}

/// An expected attack that was found.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) delay: Duration,
    pub(super) first: (AttackVector, f64),
    pub(super) settled: (AttackVector, f64),
    /// The main vector was right at the first word, and at the last.
    pub(super) first_right: bool,
    pub(super) settled_right: bool,
    /// Every vector of the attack was named, and no other.
    pub(super) complete: bool,
}

impl Verdict {
    pub(super) fn of(expected: &Expected, onset: Timestamp, told: &Told) -> Self {
        let Expected::Attack(target, vectors) = expected else {
            return Self { hit: None, false_starts: told.found.len() };
        };
        let is_hit = |found: &&Found| found.target == *target && found.detected >= onset;
        let hit = told.found.iter().find(is_hit).map(|found| {
            let is_main = |told| vectors.first().is_none_or(|main| *main == told);
            Hit {
                delay: found.detected.since(onset),
                first: found.first,
                settled: found.settled,
                first_right: is_main(found.first.0),
                settled_right: is_main(found.settled.0),
                complete: vectors.is_empty()
                    || found.named.len() == vectors.len()
                        && vectors.iter().all(|vector| found.named.contains(vector)),
            }
        });
        // The same attack told of once more is not a false start, but a second mitigation none
        // the less: it counts.
        let false_starts = told.found.len() - usize::from(hit.is_some());
        Self { hit, false_starts }
    }
}

/// A generated trial and its verdict.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) case: Case,
    pub(super) watched: Duration,
    pub(super) verdict: Verdict,
}

/// Some trials taken together.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) trials: usize,
    pub(super) detected: usize,
    pub(super) first_right: usize,
    pub(super) settled_right: usize,
    pub(super) complete: usize,
    pub(super) false_starts: usize,
    pub(super) watched: Duration,
    pub(super) confidence: f64,
    /// Sorted.
    pub(super) delays: Vec<Duration>,
    /// What else the main vector was taken for in the end.
    pub(super) mistaken: BTreeMap<String, usize>,
}

impl Tally {
    pub(super) fn of<'a>(judged: impl Iterator<Item = &'a Judged>) -> Self {
        let mut tally = Self::default();
        for Judged { watched, verdict, .. } in judged {
            tally.trials += 1;
            tally.watched += *watched;
            tally.false_starts += verdict.false_starts;
            let Some(hit) = &verdict.hit else { continue };
            tally.detected += 1;
            tally.first_right += usize::from(hit.first_right);
            tally.settled_right += usize::from(hit.settled_right);
            tally.complete += usize::from(hit.complete);
            tally.confidence += hit.settled.1;
            tally.delays.push(hit.delay);
            if !hit.settled_right {
                *tally.mistaken.entry(hit.settled.0.to_string()).or_default() += 1;
            }
        }
        tally.delays.sort_unstable();
        tally
    }

    pub(super) fn mean_confidence(&self) -> f64 {
        if self.detected == 0 { 0.0 } else { self.confidence / self.detected as f64 }
    }

    pub(super) fn false_starts_per_hour(&self) -> f64 {
        self.false_starts as f64 * 3600.0 / self.watched.as_secs_f64().max(1.0)
    }
}

/// Precision and recall of every vector over the trials of one vector each, as their harmonic
/// mean, averaged over vectors. An attack that is missed counts against recall.
pub(super) fn macro_f1(judged: &[Judged]) -> f64 {
    let singles: Vec<(AttackVector, Option<AttackVector>)> = judged
        .iter()
        .filter(|judged| judged.case.section == Section::Single)
        .filter_map(|judged| match &judged.case.expected {
            Expected::Attack(_, vectors) => {
                Some((*vectors.first()?, judged.verdict.hit.as_ref().map(|hit| hit.settled.0)))
            }
            Expected::Nothing => None,
        })
        .collect();
    let vectors: BTreeSet<AttackVector> = singles.iter().map(|(vector, _)| *vector).collect();
    let scores = vectors.iter().map(|&vector| {
        let (mut right, mut told, mut real) = (0_u32, 0_u32, 0_u32);
        for &(of, told_as) in &singles {
            right += u32::from(of == vector && told_as == Some(vector));
            told += u32::from(told_as == Some(vector));
            real += u32::from(of == vector);
        }
        2.0 * f64::from(right) / f64::from(told + real).max(1.0)
    });
    scores.sum::<f64>() / (vectors.len().max(1) as f64)
}

/// Stated confidence beside observed truth, in one band of confidence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reliability {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) statements: usize,
    pub(super) stated: f64,
    pub(super) observed: f64,
}

/// Edges of the bands.
const BANDS: [f64; 8] = [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01];

/// Over everything that was said of generated attacks, first and last.
pub(super) fn reliability(judged: &[Judged]) -> Vec<Reliability> {
    let statements: Vec<(f64, bool)> = judged
        .iter()
        .filter_map(|judged| judged.verdict.hit.as_ref())
        .flat_map(|hit| [(hit.first.1, hit.first_right), (hit.settled.1, hit.settled_right)])
        .collect();
    let edges = BANDS.iter().zip(BANDS.iter().skip(1));
    let bands = edges.map(|(&low, &high)| {
        let within: Vec<_> =
            statements.iter().filter(|(stated, _)| (low..high).contains(stated)).collect();
        let number = within.len().max(1) as f64;
        Reliability {
            low,
            high: high.min(1.0),
            statements: within.len(),
            stated: within.iter().map(|(stated, _)| stated).sum::<f64>() / number,
            observed: within.iter().filter(|(_, right)| *right).count() as f64 / number,
        }
    });
    bands.filter(|band| band.statements > 0).collect()
}

/// Mean distance between stated and observed over all statements.
pub(super) fn calibration_error(bands: &[Reliability]) -> f64 {
    let all: usize = bands.iter().map(|band| band.statements).sum();
    let distance: f64 =
        bands.iter().map(|band| (band.stated - band.observed).abs() * band.statements as f64).sum();
    distance / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use tidegate_model::Prefix;

    use super::*;

    fn target() -> Prefix {
        "192.0.2.1".parse().unwrap()
    }

    #[test]
    fn an_attack_on_another_address_is_a_miss_and_a_false_start() {
        let told = crate::accuracy::chain::told_of(&[("192.0.2.9", AttackVector::UdpFlood)]);
        let expected = Expected::Attack(target(), vec![AttackVector::UdpFlood]);
        let verdict = Verdict::of(&expected, Timestamp::ZERO, &told);
        assert!(verdict.hit.is_none());
        assert_eq!(verdict.false_starts, 1);
        assert_eq!(Verdict::of(&Expected::Nothing, Timestamp::ZERO, &told).false_starts, 1);
    }

    #[test]
    fn the_main_vector_and_all_vectors_are_judged_apart() {
        let (udp, syn) = (AttackVector::UdpFlood, AttackVector::SynFlood);
        for (vectors, right, complete) in [
            (vec![udp], true, true),
            (vec![syn], false, false),
            (vec![udp, syn], true, false),
            (vec![], true, true),
        ] {
            let told = crate::accuracy::chain::told_of(&[("192.0.2.1", udp)]);
            let expected = Expected::Attack(target(), vectors);
            let verdict = Verdict::of(&expected, Timestamp::ZERO, &told);
            let hit = verdict.hit.unwrap();
            assert_eq!((hit.settled_right, hit.complete), (right, complete), "{expected:?}");
            assert_eq!(verdict.false_starts, 0);
        }
    }

    #[test]
    fn calibration_is_the_mean_distance() {
        let band = |statements, stated, observed| Reliability {
            low: 0.0,
            high: 1.0,
            statements,
            stated,
            observed,
        };
        let error = calibration_error(&[band(3, 0.9, 1.0), band(1, 0.6, 0.2)]);
        assert!((error - 0.175).abs() < 1e-9, "{error}");
        assert!(calibration_error(&[]).abs() < 1e-9);
    }
}
