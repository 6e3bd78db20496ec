//! `[[responses]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_model::{
    AddressFamily, AttackVector, BitsPerSecond, Confidence, PacketsPerSecond, Severity,
};

use super::network::{Groups, Owned};
use super::peers::{DraftPeer, Peers, host};
use super::steps::{DraftStep, steps};
use super::{conduct, hours, name};
use crate::policy::{
    Family, FilterAction, Matcher, Otherwise, Response, ResponseAction, SensorPlace, Step,
};
use crate::profile::Widen;
use crate::profile::read::words;
use crate::text::{Table, Value, instead_of, show_duration};

/// No policy has more responses than this; each is held against every earlier one.
const MAX_RESPONSES: usize = 256;
/// No condition names more groups, and no response more peers, than this.
const MAX_NAMES: usize = 256;
/// A mitigation stays at least this long unless the text says otherwise.
const DEFAULT_MIN_LIFETIME: Duration = Duration::from_secs(60);
/// A mitigation goes after this long unless the text says otherwise.
const DEFAULT_MAX_LIFETIME: Duration = Duration::from_secs(6 * 3_600);
/// A mitigation that is wanted for longer is a configuration of the network.
const LONGEST_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

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
    action: Option<(ResponseAction, Value<'a>)>,
    /// `Some(None)` is every peer.
    peers: Option<Option<Vec<(&'a str, Value<'a>)>>>,
    widen: Option<Widen>,
    lifetime: Option<(Duration, Duration)>,
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
            let (chosen, action) = (response.peers.as_ref(), response.action.as_ref());
            let carried = resolve_peers(chosen, action, peers, &families);
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
        let action = table.required("action", "\"flowspec\"");
        let filter = table.optional("filter", "\"discard\"");
        let action = action.and_then(|value| Some((action_of(&value, filter.as_ref())?, value)));
        let peers = match table.optional("peers", "[\"edge-1\"]") {
            Some(value) => names(&value, "\"edge-1\"", "every peer").map(Some),
            None => Some(None),
        };
        let lifetime = lifetime_of(table);
        let widen = widen_of(table);
        let otherwise = table
            .optional("if-not-enforced", "\"next\"")
            .map_or(Some(None), |value| conduct::otherwise(&value).map(Some));
        let then =
            table.optional("then", "[{ if = { severity = \"critical\" }, action = \"rtbh\" }]");
        let then = then.map_or(Some(Vec::new()), |value| steps(&value));
        table.finish();
        Self { name: named, groups, matcher, action, peers, widen, lifetime, otherwise, then }
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
        let mut before = self.action.as_ref().map(|(action, _)| *action);
        let mut steps = Vec::new();
        for draft in self.then.as_ref()? {
            let peers = resolve_peers(draft.peers.as_ref(), draft.action.as_ref(), all, owned);
            let when = draft.conditions(sensor, before.unwrap_or(ResponseAction::Observe));
            before = draft.action.as_ref().map(|(action, _)| *action);
            let step = || {
                let (min_lifetime, max_lifetime) = draft.lifetime?;
                let (when, peers, widen) = (when?, peers?, draft.widen?);
                Some(Step { when, action: before?, peers, widen, min_lifetime, max_lifetime })
            };
            steps.push(step());
        }
        steps.into_iter().collect()
    }

    fn resolve(&self, peers: Option<Vec<String>>, then: Option<Vec<Step>>) -> Option<Response> {
        let (min_lifetime, max_lifetime) = self.lifetime?;
        Some(Response {
            name: self.name.as_ref()?.0.to_owned(),
            matcher: self.matcher.clone()?,
            action: self.action.as_ref()?.0,
            peers: peers?,
            widen: self.widen?,
            min_lifetime,
            max_lifetime,
            otherwise: self.otherwise?,
            then: then?,
        })
    }
}

/// The names of the peers that carry the action; `None` after reporting.
fn resolve_peers<'a>(
    chosen: Option<&Option<Vec<Plain<'a>>>>,
    action: Option<&(ResponseAction, Value<'a>)>,
    all: &Peers<'a>,
    owned: &BTreeSet<AddressFamily>,
) -> Option<Vec<String>> {
    let chosen = chosen?;
    let known = chosen.as_ref().is_none_or(|chosen| check_known(chosen, all));
    let (action, value) = action?;
    if action.family(AddressFamily::Ipv4).is_none() {
        for (_, value) in chosen.iter().flatten().take(1) {
            let message = format!("the action `{}` needs no peers", action.name());
            value.error(message, "remove `peers`, or write the action `flowspec` or `rtbh`");
        }
        return Some(Vec::new());
    }
    if all.drafts().is_empty() && chosen.is_none() {
        let message = format!("the action `{}` needs a peer, and there is none", action.name());
        let help = "add a table `[[peers]]` with `name`, `address` and `as`, or write `action = \"observe\"`";
        value.error(message, help);
        return None;
    }
    let usable = owned.iter().filter_map(|family| action.family(*family)).collect();
    match chosen {
        Some(chosen) if known => named_peers(chosen, all, *action, &usable),
        Some(_) => None,
        None => every_peer(value, all, *action, &usable),
    }
}

/// `widen` of a response or a step.
pub(super) fn widen_of(table: &Table<'_>) -> Option<Widen> {
    table.optional("widen", "\"never\"").map_or(Some(Widen::Never), |value| {
        value.choice("a way to widen", &words(Widen::ALL, Widen::name))
    })
}

/// `lifetime` of a response or a step.
pub(super) fn lifetime_of(table: &Table<'_>) -> Option<(Duration, Duration)> {
    match table.optional("lifetime", "{ at-least = \"60s\", at-most = \"6h\" }") {
        Some(value) => value.table().and_then(|table| lifetime(&table)),
        None => Some((DEFAULT_MIN_LIFETIME, DEFAULT_MAX_LIFETIME)),
    }
}

/// Whether `peer` has one of the families; a faulty list is given the benefit of the doubt.
fn carries(peer: &DraftPeer<'_>, usable: &BTreeSet<Family>) -> bool {
    peer.families.as_ref().is_none_or(|families| !families.is_disjoint(usable))
}

fn wanted(usable: &BTreeSet<Family>) -> String {
    let names: Vec<String> = usable.iter().map(|family| format!("`{family}`")).collect();
    names.join(" or ")
}

/// Reports every name that is no peer's.
fn check_known(chosen: &[(&str, Value<'_>)], all: &Peers<'_>) -> bool {
    let mut known = true;
    for (name, value) in chosen {
        let names = || all.drafts().iter().filter_map(DraftPeer::name);
        if all.all_named() && !names().any(|each| each == *name) {
            value.error(format!("there is no peer `{name}`"), instead_of(name, names()));
            known = false;
        }
    }
    known
}

/// The named peers, each once; one that cannot carry the action is reported.
fn named_peers(
    chosen: &[(&str, Value<'_>)],
    all: &Peers<'_>,
    action: ResponseAction,
    usable: &BTreeSet<Family>,
) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut whole = true;
    for (name, value) in chosen {
        let peer = all.drafts().iter().find(|peer| peer.name() == Some(*name));
        if peer.is_some_and(|peer| !usable.is_empty() && !carries(peer, usable)) {
            let message =
                format!("the peer `{name}` has no family for the action `{}`", action.name());
            let help = format!("add {} to its `families`, or remove it here", wanted(usable));
            value.error(message, help);
            whole = false;
        } else if !names.iter().any(|known| known == name) {
            names.push((*name).to_owned());
        }
    }
    whole.then_some(names)
}

fn every_peer(
    action_value: &Value<'_>,
    all: &Peers<'_>,
    action: ResponseAction,
    usable: &BTreeSet<Family>,
) -> Option<Vec<String>> {
    let carriers = all.drafts().iter().filter(|peer| carries(peer, usable));
    let carriers: Vec<Option<&str>> = carriers.map(DraftPeer::name).collect();
    if carriers.is_empty() && !usable.is_empty() {
        let message = format!("no peer has a family for the action `{}`", action.name());
        action_value.error(message, format!("add {} to the `families` of a peer", wanted(usable)));
        return None;
    }
    carriers.into_iter().map(|name| name.map(str::to_owned)).collect()
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

pub(super) fn action_of(value: &Value<'_>, filter: Option<&Value<'_>>) -> Option<ResponseAction> {
    /// Needs a filter, or has none.
    #[derive(Clone, Copy)]
    enum Kind {
        Plain(ResponseAction),
        Filtering(fn(FilterAction) -> ResponseAction),
    }
    let known = [
        ("observe", Kind::Plain(ResponseAction::Observe)),
        ("local", Kind::Filtering(ResponseAction::Local)),
        ("flowspec", Kind::Filtering(ResponseAction::FlowSpec)),
        ("rtbh", Kind::Plain(ResponseAction::Rtbh)),
    ];
    let kind = value.choice("an action", &known);
    let filter_action = filter.map_or(Some(FilterAction::Discard), filter_of);
    match (kind?, filter) {
        (Kind::Filtering(make), _) => {
            let action = make(filter_action?);
            if let (ResponseAction::Local(only), Some(filter)) = (action, filter)
                && !only.is_local()
            {
                let message = format!("the kernel of this host cannot {only}");
                filter.error(message, LOCAL_HELP);
                return None;
            }
            Some(action)
        }
        (Kind::Plain(action), None) => Some(action),
        (Kind::Plain(action), Some(filter)) => {
            let message = format!("the action `{}` takes no `filter`", action.name());
            let help = match action {
                ResponseAction::Rtbh => {
                    "remove it: a blackhole discards everything; or write `action = \"flowspec\"`"
                }
                _ => "remove it, or write `action = \"flowspec\"`",
            };
            filter.error_at_key(message, help);
            None
        }
    }
}

const FILTER_HELP: &str = "write `filter = \"discard\"` or `filter = { rate-limit = \"1Mbps\" }`";
const LOCAL_HELP: &str =
    "write `filter = \"discard\"` or a `rate-limit`, or `action = \"flowspec\"`";

fn filter_of(value: &Value<'_>) -> Option<FilterAction> {
    if value.is_string() {
        let text = value.string()?;
        if text == "discard" {
            return Some(FilterAction::Discard);
        }
        value.error(format!("`{text}` is not a filter"), FILTER_HELP);
        return None;
    }
    if !value.is_table() {
        value.error("`filter` must be `\"discard\"` or a table with a `rate-limit`", FILTER_HELP);
        return None;
    }
    let table = value.table()?;
    let limit = table.optional("rate-limit", "\"1Mbps\"");
    let redirect = table.optional("redirect", "\"65001:100\"");
    let redirect_to = table.optional("redirect-to-ip", "\"192.0.2.66\"");
    let mark = table.optional("mark", "8");
    let given = [&limit, &redirect, &redirect_to, &mark].into_iter().flatten().count();
    if given == 0 {
        let _ = table.required("rate-limit", "\"1Mbps\"");
    }
    table.finish();
    if given > 1 {
        let message = format!("`{}` does more than one thing", value.name());
        value.error(message, "write `rate-limit`, `redirect`, `redirect-to-ip` or `mark`");
        return None;
    }
    if let Some(value) = redirect {
        return value.parse().map(FilterAction::Redirect);
    }
    if let Some(value) = redirect_to {
        return host(&value).map(FilterAction::RedirectToIp);
    }
    if let Some(value) = mark {
        return value.integer(0..=63).map(FilterAction::Mark);
    }
    rate_limit(&limit?)
}

fn rate_limit(value: &Value<'_>) -> Option<FilterAction> {
    let text = value.string()?;
    let limit = if text.trim_end().ends_with(PacketsPerSecond::UNIT) {
        value.parse::<PacketsPerSecond>().map(|rate| FilterAction::RateLimitPackets(rate.0))?
    } else if text.trim_end().ends_with(BitsPerSecond::UNIT) {
        value.parse::<BitsPerSecond>().map(|rate| FilterAction::RateLimitBytes(rate.0 / 8))?
    } else {
        let message = format!("the rate limit `{text}` has no unit");
        value.error(
            message,
            "write packets a second such as `1kpps` or bits a second such as `1Mbps`",
        );
        return None;
    };
    if matches!(limit, FilterAction::RateLimitBytes(0) | FilterAction::RateLimitPackets(0)) {
        let message = format!("a rate limit of `{text}` lets nothing through");
        value.error(message, "write `filter = \"discard\"` if that is meant");
        return None;
    }
    Some(limit)
}

/// The shortest and the longest that a mitigation lasts.
fn lifetime(table: &Table<'_>) -> Option<(Duration, Duration)> {
    let at_least = table.optional("at-least", "\"60s\"");
    let at_most = table.optional("at-most", "\"6h\"");
    table.finish();
    let read = |value: &Option<Value<'_>>, shortest| match value {
        Some(value) => value.duration(shortest..=LONGEST_LIFETIME).map(Some),
        None => Some(None),
    };
    let least = read(&at_least, Duration::ZERO);
    let most = read(&at_most, Duration::from_secs(1));
    let (least, most) = (least?, most?);
    let max = most.unwrap_or(DEFAULT_MAX_LIFETIME);
    let min = least.unwrap_or(DEFAULT_MIN_LIFETIME.min(max));
    if min <= max {
        return Some((min, max));
    }
    let (min, max) = (show_duration(min), show_duration(max));
    let message = match most {
        Some(_) => format!("`at-least` {min} is longer than `at-most` {max}"),
        None => format!("`at-least` {min} is longer than `at-most`, which is {max} if left out"),
    };
    if let Some(value) = at_least {
        value.error(message, "write an `at-most` that is longer");
    }
    None
}
