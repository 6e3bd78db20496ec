//! `[[responses]]`.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{AddressFamily, AttackVector, Confidence, Severity};

use super::answer::DraftAnswer;
use super::network::{Groups, Owned};
use super::peers::Peers;
use super::steps::{DraftStep, steps};
use super::{conduct, hours, name};
use crate::policy::{Matcher, Otherwise, Response, ResponseAction, SensorPlace, Step};
use crate::profile::read::words;
use crate::text::{Table, Value, instead_of};

/// No policy has more responses than this; each is held against every earlier one.
const MAX_RESPONSES: usize = 256;
/// No condition names more groups, and no response more peers, than this.
const MAX_NAMES: usize = 256;

/// `[[responses]]` of all files.
#[derive(Default)]
pub(super) struct Responses<'a> {
    responses: Vec<DraftResponse<'a>>,
}

/// A response as far as it could be read.
struct DraftResponse<'a> {
    name: Option<(&'a str, Value<'a>)>,
    /// Groups that the condition names.
    groups: Vec<(&'a str, Value<'a>)>,
    /// `None` if faulty.
    matcher: Option<Matcher>,
    answer: DraftAnswer<'a>,
    /// `Some(None)` is as for all.
    otherwise: Option<Option<Otherwise>>,
    /// `None` if it is no list.
    then: Option<Vec<DraftStep<'a>>>,
}

/// A name with its place.
pub(super) type Plain<'a> = (&'a str, Value<'a>);

impl<'a> Responses<'a> {
    pub(super) fn read(&mut self, value: &Value<'a>) {
        for table in value.tables().unwrap_or_default() {
            if self.responses.len() == MAX_RESPONSES {
                let message = format!("more than {MAX_RESPONSES} responses");
                table.error(message, "let one response name several groups and vectors");
                return;
            }
            self.responses.push(DraftResponse::read(&table));
        }
    }

    /// Checks every name, and that every response can be reached.
    pub(super) fn resolve(
        &self,
        groups: &Groups<'a>,
        peers: &Peers<'a>,
        owned: Option<&Owned<'a>>,
        sensor: Option<SensorPlace>,
    ) -> Option<Vec<Response>> {
        self.check_names();
        self.check_reachable();
        let known = groups.names();
        let families = owned.map(Owned::families).unwrap_or_default();
        let mut resolved = Vec::new();
        for response in &self.responses {
            response.check_groups(&known);
            let carried = response.answer.resolve_peers(peers, &families);
            let then = response.resolve_steps(peers, &families, sensor);
            resolved.push(response.resolve(carried, then));
        }
        resolved.into_iter().collect()
    }

    fn check_names(&self) {
        let mut seen: BTreeMap<&str, &Value<'a>> = BTreeMap::new();
        for (name, value) in self.responses.iter().filter_map(|response| response.name.as_ref()) {
            if let Some(first) = seen.get(name) {
                let message = format!("two responses have the name `{name}`");
                value.error(message, format!("rename one; the first is at {}", first.place()));
            } else {
                seen.insert(name, value);
            }
        }
    }

    fn check_reachable(&self) {
        for (index, response) in self.responses.iter().enumerate() {
            let (Some(narrow), Some((name, value))) = (&response.matcher, &response.name) else {
                continue;
            };
            let earlier = self.responses.iter().take(index).find_map(|earlier| {
                let wide = earlier.matcher.as_ref()?;
                let (name, value) = earlier.name.as_ref()?;
                wide.covers(narrow).then_some((name, value))
            });
            if let Some((earlier, place)) = earlier {
                let message = format!(
                    "`{name}` is never reached: `{earlier}` at {} matches all of its attacks",
                    place.place()
                );
                value.error(
                    message,
                    format!("put `{name}` before `{earlier}`, or narrow the `when` of `{earlier}`"),
                );
            }
        }
    }
}

impl<'a> DraftResponse<'a> {
    fn read(table: &Table<'a>) -> Self {
        let named = table.required("name", "\"filter-floods\"");
        let named = named.and_then(|value| Some((name(&value)?, value)));
        let mut groups = Vec::new();
        let matcher = match table.optional("when", "{ severity = \"high\" }") {
            Some(value) => value.table().and_then(|table| condition(&table, &mut groups)),
            None => Some(Matcher::default()),
        };
        let answer = DraftAnswer::read(table, "\"flowspec\"");
        let otherwise = table
            .optional("if-not-enforced", "\"next\"")
            .map_or(Some(None), |value| conduct::otherwise(&value).map(Some));
        let then =
            table.optional("then", "[{ if = { severity = \"critical\" }, action = \"rtbh\" }]");
        let then = then.map_or(Some(Vec::new()), |value| steps(&value));
        table.finish();
        Self { name: named, groups, matcher, answer, otherwise, then }
    }

    fn check_groups(&self, known: &BTreeSet<&str>) {
        for (name, value) in &self.groups {
            if !known.contains(name) {
                let help = instead_of(name, known.iter().copied());
                value.error(format!("there is no group `{name}`"), help);
            }
        }
    }

    fn resolve_steps(
        &self,
        all: &Peers<'a>,
        owned: &BTreeSet<AddressFamily>,
        sensor: Option<SensorPlace>,
    ) -> Option<Vec<Step>> {
        let mut before = self.answer.chosen();
        let mut steps = Vec::new();
        for draft in self.then.as_ref()? {
            let peers = draft.answer.resolve_peers(all, owned);
            let when = draft.conditions(sensor, before.unwrap_or(ResponseAction::Observe));
            before = draft.answer.chosen();
            let step = || {
                let (min_lifetime, max_lifetime) = draft.answer.lifetime?;
                Some(Step {
                    when: when?,
                    action: before?,
                    peers: peers?,
                    widen: draft.answer.widen?,
                    rules_from: draft.answer.rules_from?,
                    min_lifetime,
                    max_lifetime,
                })
            };
            steps.push(step());
        }
        steps.into_iter().collect()
    }

    fn resolve(&self, peers: Option<Vec<String>>, then: Option<Vec<Step>>) -> Option<Response> {
        let (min_lifetime, max_lifetime) = self.answer.lifetime?;
        Some(Response {
            name: self.name.as_ref()?.0.to_owned(),
            matcher: self.matcher.clone()?,
            action: self.answer.chosen()?,
            peers: peers?,
            widen: self.answer.widen?,
            rules_from: self.answer.rules_from?,
            min_lifetime,
            max_lifetime,
            otherwise: self.otherwise?,
            then: then?,
        })
    }
}

/// A list of names. `None` after reporting; empty lists are errors, since they read like "none".
pub(super) fn names<'a>(
    value: &Value<'a>,
    example: &'static str,
    every: &str,
) -> Option<Vec<Plain<'a>>> {
    let items = value.list(example)?;
    if items.is_empty() {
        let message = format!("`{}` is empty", value.name());
        value.error(message, format!("leave it out for {every}"));
        return None;
    }
    if items.len() > MAX_NAMES {
        let message = format!("`{}` has more than {MAX_NAMES} names", value.name());
        value.error(message, format!("name fewer, or leave it out for {every}"));
        return None;
    }
    let read: Vec<Option<(&str, Value<'_>)>> =
        items.into_iter().map(|item| Some((item.string()?, item))).collect();
    read.into_iter().collect()
}

/// `when`. The groups are kept with their places even if something else is faulty.
fn condition<'a>(
    table: &Table<'a>,
    named_groups: &mut Vec<(&'a str, Value<'a>)>,
) -> Option<Matcher> {
    let severity = table.optional("severity", "\"high\"").map_or(Some(Severity::Low), |value| {
        value.choice("a severity", &words(&Severity::ALL, Severity::name))
    });
    let confidence = table
        .optional("confidence", "0.9")
        .map_or(Some(0.0), |value| value.float(0.0..=1.0))
        .map(Confidence::new);
    let vectors = table
        .optional("vectors", "[\"syn-flood\", \"*-amplification\"]")
        .map_or(Some(Vec::new()), |value| vectors(&value));
    let groups = table
        .optional("groups", "[\"web\"]")
        .map_or(Some(Vec::new()), |value| names(&value, "\"web\"", "every group"));
    let hours = table
        .optional("hours", "\"mon-fri 08:00-18:00\"")
        .map_or(Some(Vec::new()), |value| hours::hours(&value));
    table.finish();
    named_groups.extend(groups.iter().flatten().cloned());
    let distinct: BTreeSet<&str> = groups?.iter().map(|(name, _)| *name).collect();
    Some(Matcher {
        groups: distinct.into_iter().map(str::to_owned).collect(),
        vectors: vectors?,
        severity: severity?,
        confidence: confidence?,
        hours: hours?,
    })
}

/// Wildcards that are worth suggesting.
const WILDCARDS: [&str; 3] = ["*-flood", "*-amplification", "*"];

/// Vectors and wildcards, expanded, sorted; empty for all of them.
fn vectors(value: &Value<'_>) -> Option<Vec<AttackVector>> {
    let known: Vec<(String, AttackVector)> =
        AttackVector::all().map(|vector| (vector.to_string(), vector)).collect();
    let mut found = BTreeSet::new();
    let mut whole = true;
    for (pattern, item) in names(value, "\"syn-flood\"", "every vector")? {
        let matching = known.iter().filter(|(name, _)| matches_pattern(pattern, name));
        let matching: Vec<AttackVector> = matching.map(|(_, vector)| *vector).collect();
        if matching.is_empty() {
            let names = known.iter().map(|(name, _)| name.as_str());
            let help = if pattern.contains('*') {
                instead_of(pattern, WILDCARDS)
            } else {
                instead_of(pattern, names)
            };
            item.error(format!("`{pattern}` is not an attack vector"), help);
            whole = false;
        }
        found.extend(matching);
    }
    if found.len() == known.len() {
        found.clear();
    }
    whole.then(|| found.into_iter().collect())
}

/// Whether `name` is `pattern`, in which one `*` stands for anything.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end) && !end.contains('*'))
        }
    }
}
