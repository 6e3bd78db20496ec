//! What a response or a step of one does: its action, with whom, how wide and how long.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_model::{AddressFamily, BitsPerSecond, PacketsPerSecond};

use super::peers::{DraftPeer, Peers, host};
use super::responses::{Plain, names};
use crate::policy::{Family, FilterAction, ResponseAction, RuleSource};
use crate::profile::Widen;
use crate::profile::read::words;
use crate::text::{Table, Value, instead_of, show_duration};

/// A mitigation stays at least this long unless the text says otherwise.
const DEFAULT_MIN_LIFETIME: Duration = Duration::from_secs(60);
/// A mitigation goes after this long unless the text says otherwise.
const DEFAULT_MAX_LIFETIME: Duration = Duration::from_secs(6 * 3_600);
/// A mitigation that is wanted for longer is a configuration of the network.
const LONGEST_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// An answer to an attack as far as it could be read.
pub(super) struct DraftAnswer<'a> {
    action: Option<(ResponseAction, Value<'a>)>,
    /// `Some(None)` is every peer.
    peers: Option<Option<Vec<Plain<'a>>>>,
    pub(super) widen: Option<Widen>,
    pub(super) rules_from: Option<RuleSource>,
    /// The shortest and the longest.
    pub(super) lifetime: Option<(Duration, Duration)>,
}

impl<'a> DraftAnswer<'a> {
    /// Reads the keys about it; `example` is an action.
    pub(super) fn read(table: &Table<'a>, example: &'static str) -> Self {
        let action = table.required("action", example);
        let filter = table.optional("filter", "\"discard\"");
        let action = action.and_then(|value| Some((action_of(&value, filter.as_ref())?, value)));
        let peers = match table.optional("peers", "[\"edge-1\"]") {
            Some(value) => names(&value, "\"edge-1\"", "every peer").map(Some),
            None => Some(None),
        };
        let lifetime = match table.optional("lifetime", "{ at-least = \"60s\", at-most = \"6h\" }")
        {
            Some(value) => value.table().and_then(|table| lifetime(&table)),
            None => Some((DEFAULT_MIN_LIFETIME, DEFAULT_MAX_LIFETIME)),
        };
        let widen = table.optional("widen", "\"never\"").map_or(Some(Widen::Never), |value| {
            value.choice("a way to widen", &words(Widen::ALL, Widen::name))
        });
        let rules_from = table.optional("rules-from", "\"samples\"");
        let rules_from = rules_from.map_or(Some(RuleSource::Signature), |value| {
            let action = action.as_ref().map(|(action, _): &(ResponseAction, _)| *action);
            if let Some(action @ (ResponseAction::Observe | ResponseAction::Rtbh)) = action {
                let message = format!("the action `{}` makes no rules", action.name());
                value.error(message, "remove `rules-from`, or write `flowspec` or `local`");
                return None;
            }
            value.choice("what rules are made from", &words(RuleSource::ALL, RuleSource::name))
        });
        Self { action, peers, widen, rules_from, lifetime }
    }

    /// The action, if it could be read.
    pub(super) fn chosen(&self) -> Option<ResponseAction> {
        self.action.as_ref().map(|(action, _)| *action)
    }

    /// The names of the peers that carry the action; `None` after reporting.
    pub(super) fn resolve_peers(
        &self,
        all: &Peers<'a>,
        owned: &BTreeSet<AddressFamily>,
    ) -> Option<Vec<String>> {
        let chosen = self.peers.as_ref()?;
        let known = chosen.as_ref().is_none_or(|chosen| check_known(chosen, all));
        let (action, value) = self.action.as_ref()?;
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
