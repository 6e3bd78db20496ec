//! The figures as Markdown and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_model::AddressFamily;

use super::case::{Expected, LIMIT, MULTIPLES, Section};
use super::recorded::Recorded;
use super::score::{Judged, Reliability, Tally, Verdict, calibration_error, macro_f1, reliability};
use super::synthesis;
use crate::bench::table::{milliseconds, percentile};

/// All that was measured.
pub(super) struct Report {
    pub(super) seeds: u64,
    pub(super) judged: Vec<Judged>,
    pub(super) recorded: Vec<Recorded>,
    pub(super) filters: Vec<synthesis::Trial>,
}

fn percent(count: usize, of: usize) -> String {
    if of == 0 { "-".into() } else { format!("{:.1} %", count as f64 * 100.0 / of as f64) }
}

fn expected_text(expected: &Expected) -> String {
    match expected {
        Expected::Nothing => "nothing".into(),
        Expected::Attack(target, vectors) => {
            let vectors: Vec<String> = vectors.iter().map(ToString::to_string).collect();
            format!("{} on {target}", vectors.join(", "))
        }
    }
}

fn told_text(recorded: &Recorded) -> String {
    if recorded.told.found.is_empty() {
        return "nothing".into();
    }
    let found: Vec<String> = recorded
        .told
        .found
        .iter()
        .map(|found| format!("{} ({:.2}) on {}", found.settled.0, found.settled.1, found.target))
        .collect();
    found.join("; ")
}

fn is_right(recorded: &Recorded) -> bool {
    let verdict = Verdict::of(&recorded.expected, tidegate_model::Timestamp::ZERO, &recorded.told);
    match recorded.expected {
        Expected::Nothing => verdict.false_starts == 0,
        Expected::Attack(..) => verdict.hit.is_some_and(|hit| hit.settled_right),
    }
}

impl Report {
    fn section(&self, section: Section) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(move |judged| judged.case.section == section)
    }

    fn names(&self, section: Section) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let names = self.section(section).map(|judged| judged.case.name.as_str());
        names.filter(|name| seen.insert(*name)).collect()
    }

    fn named(&self, section: Section, name: &str) -> Tally {
        Tally::of(self.section(section).filter(|judged| judged.case.name == name))
    }

    pub(super) fn markdown(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let to = &mut text;
        writeln!(
            to,
            "# Accuracy of detection\n\n\
             Written by `cargo xtask accuracy -- --write docs/accuracy.md`. Generated floods are \
             judged with a limit\nof {LIMIT} packets a second for every class and {} in total; \
             the generator builds packets from the\nprotocols' specifications and knows nothing \
             of the classifier. {} seeds; each draws other numbers of\nsources, ports and \
             lengths. \"First\" is the first word on an attack, \"settled\" the last.\n",
            2 * LIMIT,
            self.seeds
        )?;
        self.write_summary(to)?;
        self.write_rates(to)?;
        self.write_vectors(to)?;
        self.write_delays(to)?;
        self.write_confusion(to)?;
        self.write_others(to)?;
        self.write_benign(to)?;
        self.write_reliability(to)?;
        self.write_recorded(to)?;
        synthesis::write(to, &self.filters)?;
        Ok(text)
    }

    fn write_summary(&self, to: &mut String) -> fmt::Result {
        let single = Tally::of(self.section(Section::Single));
        let benign = Tally::of(self.section(Section::Benign));
        let bands = reliability(&self.judged);
        writeln!(to, "## Summary\n\n| figure | value |\n|---|---|")?;
        for (name, value) in [
            ("trials of one vector", single.trials.to_string()),
            ("detected, on the right address", percent(single.detected, single.trials)),
            ("right vector at first", percent(single.first_right, single.trials)),
            ("right vector settled", percent(single.settled_right, single.trials)),
            ("macro-F1 over vectors", format!("{:.3}", macro_f1(&self.judged))),
            ("attacks told that are none, during floods", single.false_starts.to_string()),
            (
                "false starts an hour of benign traffic",
                format!("{:.2}", benign.false_starts_per_hour()),
            ),
            ("calibration error of confidence", format!("{:.3}", calibration_error(&bands))),
        ] {
            writeln!(to, "| {name} | {value} |")?;
        }
        Ok(())
    }

    fn write_rates(&self, to: &mut String) -> fmt::Result {
        writeln!(
            to,
            "\n## By rate\n\n| times the limit | family | background | trials | detected | first right \
             | settled right | delay median | delay p99 |\n|---|---|---|---|---|---|---|---|---|"
        )?;
        for multiple in MULTIPLES {
            for (family, name) in [(AddressFamily::Ipv4, "IPv4"), (AddressFamily::Ipv6, "IPv6")] {
                for background in [false, true] {
                    let tally = Tally::of(self.section(Section::Single).filter(|judged| {
                        let case = &judged.case;
                        case.multiple == multiple
                            && case.family == family
                            && case.background == background
                    }));
                    writeln!(
                        to,
                        "| {multiple} | {name} | {} | {} | {} | {} | {} | {} | {} |",
                        if background { "benign" } else { "none" },
                        tally.trials,
                        percent(tally.detected, tally.trials),
                        percent(tally.first_right, tally.trials),
                        percent(tally.settled_right, tally.trials),
                        milliseconds(percentile(&tally.delays, 50)),
                        milliseconds(percentile(&tally.delays, 99)),
                    )?;
                }
            }
        }
        Ok(())
    }

    fn write_vectors(&self, to: &mut String) -> fmt::Result {
        writeln!(
            to,
            "\n## By vector\n\n| vector | trials | detected | first right | settled right | mean \
             confidence | taken for |\n|---|---|---|---|---|---|---|"
        )?;
        for name in self.names(Section::Single) {
            let tally = self.named(Section::Single, name);
            let mistaken: Vec<String> =
                tally.mistaken.iter().map(|(name, times)| format!("{name} ({times})")).collect();
            writeln!(
                to,
                "| {name} | {} | {} | {} | {} | {:.2} | {} |",
                tally.trials,
                percent(tally.detected, tally.trials),
                percent(tally.first_right, tally.trials),
                percent(tally.settled_right, tally.trials),
                tally.mean_confidence(),
                mistaken.join(", ")
            )?;
        }
        Ok(())
    }

    fn write_delays(&self, to: &mut String) -> fmt::Result {
        writeln!(
            to,
            "\n## Delay by vector\n\nFrom the first packet of the attack to its start, median and \
             99th percentile, with and without everyday traffic\naround it. The tolerance is the \
             default of {} ms, a tick 10 ms.\n",
            tidegate_detector::Judging::default().tolerance.as_millis()
        )?;
        let columns = MULTIPLES.map(|times| format!("{times} times | p99"));
        writeln!(to, "| vector | {} |\n|---|{}", columns.join(" | "), "---|---|".repeat(3))?;
        let mut names: Vec<Option<&str>> = vec![None];
        names.extend(self.names(Section::Single).into_iter().map(Some));
        for name in names {
            let cells = MULTIPLES.map(|multiple| {
                let tally = Tally::of(self.section(Section::Single).filter(|judged| {
                    judged.case.multiple == multiple
                        && name.is_none_or(|name| judged.case.name == name)
                }));
                if tally.delays.is_empty() {
                    return "- | -".to_owned();
                }
                let at = |percent| milliseconds(percentile(&tally.delays, percent));
                format!("{} | {}", at(50), at(99))
            });
            writeln!(to, "| {} | {} |", name.unwrap_or("all"), cells.join(" | "))?;
        }
        Ok(())
    }

    /// Everything that was told beside what it was: generated floods of one vector, what is no
    /// attack, and recorded captures.
    fn write_confusion(&self, to: &mut String) -> fmt::Result {
        let mut right = 0;
        let mut wrong: BTreeMap<(String, String), usize> = BTreeMap::new();
        let recorded = self.recorded.iter().map(|recorded| {
            let start = tidegate_model::Timestamp::ZERO;
            (&recorded.expected, Verdict::of(&recorded.expected, start, &recorded.told))
        });
        let generated = self
            .judged
            .iter()
            .filter(|judged| matches!(judged.case.section, Section::Single | Section::Benign))
            .map(|judged| (&judged.case.expected, judged.verdict.clone()));
        for (expected, verdict) in generated.chain(recorded) {
            let name = match expected {
                Expected::Nothing => "nothing".to_owned(),
                Expected::Attack(_, vectors) => {
                    vectors.first().map_or_else(|| "anything".to_owned(), ToString::to_string)
                }
            };
            let told = match (&verdict.hit, verdict.false_starts) {
                (Some(hit), _) if hit.settled_right => name.clone(),
                (Some(hit), _) => hit.settled.0.to_string(),
                (None, 0) => "nothing".to_owned(),
                (None, _) => "an attack elsewhere, or where there is none".to_owned(),
            };
            if name == told {
                right += 1;
            } else {
                *wrong.entry((name, told)).or_default() += 1;
            }
        }
        writeln!(
            to,
            "\n## Confusion\n\nOf the matrix of what it was and what it was told as in the end, {right} \
             verdicts lie on the diagonal, recorded\ncaptures included. The other cells that are not \
             zero:\n\n| was | told as | times |\n|---|---|---|"
        )?;
        if wrong.is_empty() {
            writeln!(to, "| | none | 0 |")?;
        }
        for ((was, told), times) in wrong {
            writeln!(to, "| {was} | {told} | {times} |")?;
        }
        Ok(())
    }

    fn write_others(&self, to: &mut String) -> fmt::Result {
        writeln!(
            to,
            "\n## Several vectors, carpets and pulses\n\n| trial | trials | detected | main vector \
             right | all vectors named, no other | further starts | delay median |\n\
             |---|---|---|---|---|---|---|"
        )?;
        for section in [Section::Mixture, Section::Pattern] {
            for name in self.names(section) {
                let tally = self.named(section, name);
                writeln!(
                    to,
                    "| {name} | {} | {} | {} | {} | {} | {} |",
                    tally.trials,
                    percent(tally.detected, tally.trials),
                    percent(tally.settled_right, tally.trials),
                    percent(tally.complete, tally.trials),
                    tally.false_starts,
                    milliseconds(percentile(&tally.delays, 50))
                )?;
            }
        }
        Ok(())
    }

    fn write_benign(&self, to: &mut String) -> fmt::Result {
        writeln!(
            to,
            "\n## What is no attack\n\n| traffic | trials | minutes | false starts | an hour |\n\
             |---|---|---|---|---|"
        )?;
        for name in self.names(Section::Benign) {
            let tally = self.named(Section::Benign, name);
            writeln!(
                to,
                "| {name} | {} | {:.1} | {} | {:.2} |",
                tally.trials,
                tally.watched.as_secs_f64() / 60.0,
                tally.false_starts,
                tally.false_starts_per_hour()
            )?;
        }
        Ok(())
    }

    fn write_reliability(&self, to: &mut String) -> fmt::Result {
        writeln!(
            to,
            "\n## Confidence\n\n| stated between | statements | stated in the mean | observed right |\n\
             |---|---|---|---|"
        )?;
        for Reliability { low, high, statements, stated, observed } in reliability(&self.judged) {
            writeln!(
                to,
                "| {low:.2} and {high:.2} | {statements} | {stated:.3} | {observed:.3} |"
            )?;
        }
        Ok(())
    }

    fn write_recorded(&self, to: &mut String) -> fmt::Result {
        if self.recorded.is_empty() {
            return writeln!(to, "\nThere were no recorded captures beside the workspace.");
        }
        let right = self.recorded.iter().filter(|recorded| is_right(recorded)).count();
        writeln!(
            to,
            "\n## Recorded captures\n\n{right} of {} right. They are judged with everything protected.\n\n\
             | capture | limit | expected | told | |\n|---|---|---|---|---|",
            self.recorded.len()
        )?;
        for recorded in &self.recorded {
            writeln!(
                to,
                "| {} | {} | {} | {} | {} |",
                recorded.file,
                recorded.limit,
                expected_text(&recorded.expected),
                told_text(recorded),
                if is_right(recorded) { "right" } else { "WRONG" }
            )?;
        }
        Ok(())
    }

    pub(super) fn json(&self) -> Value {
        let trials: Vec<Value> = self
            .judged
            .iter()
            .map(|Judged { case, watched, verdict }| {
                let hit = verdict.hit.as_ref().map(|hit| {
                    json!({
                        "delay_ns": nanoseconds(hit.delay),
                        "first": { "vector": hit.first.0.to_string(), "confidence": hit.first.1 },
                        "settled": {
                            "vector": hit.settled.0.to_string(), "confidence": hit.settled.1,
                        },
                        "complete": hit.complete,
                    })
                });
                json!({
                    "name": case.name,
                    "ipv6": case.family == AddressFamily::Ipv6,
                    "multiple": case.multiple,
                    "background": case.background,
                    "expected": expected_text(&case.expected),
                    "watched_ns": nanoseconds(*watched),
                    "hit": hit,
                    "false_starts": verdict.false_starts,
                })
            })
            .collect();
        let recorded: Vec<Value> = self
            .recorded
            .iter()
            .map(|recorded| {
                json!({
                    "file": recorded.file,
                    "limit": recorded.limit,
                    "expected": expected_text(&recorded.expected),
                    "told": told_text(recorded),
                    "right": is_right(recorded),
                })
            })
            .collect();
        let bands = reliability(&self.judged);
        json!({
            "macro_f1": macro_f1(&self.judged),
            "calibration_error": calibration_error(&bands),
            "trials": trials,
            "recorded": recorded,
            "synthesis": synthesis::json(&self.filters),
        })
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
