//! `[[responses.then]]`: the steps beyond the first, and when each is taken.

use std::time::Duration;

use tidegate_model::{AddressFamily, BitsPerSecond, Limit, PacketsPerSecond, Severity};

use super::answer::DraftAnswer;
use super::network::not_zero;
use crate::policy::{Condition, ResponseAction, SensorPlace};
use crate::profile::read::words;
use crate::text::{Table, Value};

/// No response has more steps beyond its first.
const MAX_STEPS: usize = 8;
/// No step has more conditions of which one is enough.
const MAX_CONDITIONS: usize = 8;
/// A step that waits for longer is no answer to an attack.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// A step as far as it could be read.
pub(super) struct DraftStep<'a> {
    when: Option<Vec<(Condition, Value<'a>)>>,
    pub(super) answer: DraftAnswer<'a>,
}

/// Reads the list of steps; `None` if it is none.
pub(super) fn steps<'a>(value: &Value<'a>) -> Option<Vec<DraftStep<'a>>> {
    let tables = value.tables()?;
    if tables.len() > MAX_STEPS {
        let message = format!("`{}` has more than {MAX_STEPS} steps", value.name());
        value.error(message, "leave out those between");
        return None;
    }
    Some(tables.iter().map(DraftStep::read).collect())
}

impl<'a> DraftStep<'a> {
    fn read(table: &Table<'a>) -> Self {
        let when = table.required("if", "{ coverage-below = 0.9, after = \"10s\" }");
        let when = when.and_then(|value| conditions(&value));
        let answer = DraftAnswer::read(table, "\"rtbh\"");
        table.finish();
        Self { when, answer }
    }

    /// The conditions; one that looks at an effect which nobody can see is reported.
    pub(super) fn conditions(
        &self,
        sensor: Option<SensorPlace>,
        after: ResponseAction,
    ) -> Option<Vec<Condition>> {
        let conditions = self.when.as_ref()?;
        let local = after.family(AddressFamily::Ipv4).is_none();
        for (condition, value) in conditions {
            if condition.looks_at_effect() && !local && sensor == Some(SensorPlace::BeforeFilters) {
                value.error(
                    "`coverage-below` needs a sensor that sees what the filters let through",
                    "write `sensor = \"behind-filters\"` in `[effect]` if that is where it stands, or another condition",
                );
            }
        }
        Some(conditions.iter().map(|(condition, _)| *condition).collect())
    }
}

fn conditions<'a>(value: &Value<'a>) -> Option<Vec<(Condition, Value<'a>)>> {
    if value.is_table() {
        return condition(value).map(|condition| vec![(condition, value.clone())]);
    }
    let items = value.list("{ severity = \"critical\" }")?;
    if items.is_empty() || items.len() > MAX_CONDITIONS {
        let message =
            format!("`{}` has no conditions, or more than {MAX_CONDITIONS}", value.name());
        value.error(message, value.example());
        return None;
    }
    let read: Vec<Option<(Condition, Value<'a>)>> =
        items.into_iter().map(|item| Some((condition(&item)?, item))).collect();
    read.into_iter().collect()
}

fn condition(value: &Value<'_>) -> Option<Condition> {
    let table = value.table()?;
    let coverage_below = table
        .optional("coverage-below", "0.9")
        .map_or(Some(None), |value| value.float(0.01..=1.0).map(Some));
    let after = table
        .optional("after", "\"10s\"")
        .map_or(Some(Duration::ZERO), |value| value.duration(Duration::ZERO..=LONGEST_WAIT));
    let severity = table.optional("severity", "\"critical\"").map_or(Some(None), |value| {
        value.choice("a severity", &words(&Severity::ALL, Severity::name)).map(Some)
    });
    let packets = table.optional("packets", "\"1M\"");
    let bits = table.optional("bits", "\"5G\"");
    table.finish();
    let packets = packets.map_or(Some(None), |value| {
        let rate = value.parse_number::<PacketsPerSecond>()?;
        not_zero(&value, rate.0).map(PacketsPerSecond).map(Some)
    });
    let bits = bits.map_or(Some(None), |value| {
        let rate = value.parse_number::<BitsPerSecond>()?;
        not_zero(&value, rate.0).map(BitsPerSecond).map(Some)
    });
    let condition = Condition {
        coverage_below: coverage_below?,
        after: after?,
        severity: severity?,
        rate: Limit { packets: packets?, bits: bits? },
    };
    if condition == Condition::default() {
        value.error(
            "a step without a condition would be taken at once",
            "write `coverage-below`, `after`, `severity`, `packets` or `bits`",
        );
        return None;
    }
    Some(condition)
}
