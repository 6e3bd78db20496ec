//! A JSON Schema of policy files, for editors.
//!
//! It says which keys there are, of what type, and which words may stand where: what an editor needs
//! to complete and to underline. What takes the whole policy to know, the reader says. A test holds
//! the keys here against those that the reader asks for.

use serde_json::{Map, Value, json};
use tidegate_model::{AttackVector, Metric, Severity};

use crate::policy::{ConnectMode, Family, Mode, Otherwise, RuleSource, SensorPlace};
use crate::profile::words::{FRAGMENT_BITS, TCP_FLAGS};
use crate::profile::{ActionKind, BitmaskForm, Comparison, Component};
use crate::profile::{ConfinedBy, Sessions, Widen};

/// What may stand behind a key.
#[derive(Clone, Debug)]
enum Kind {
    /// Any text.
    Text,
    /// A number and a unit of time.
    Duration,
    /// A number with or without a suffix, in a string or not.
    Rate,
    /// `0.0..` of any kind.
    Number,
    Integer,
    /// One of these words.
    Word(Vec<String>),
    /// A list of such items.
    List(Box<Kind>),
    /// Either of them.
    Either(Vec<Kind>),
    /// A table with these keys.
    Table(Vec<Key>),
    /// A table whose keys the user chooses.
    Named(Vec<Key>),
}

/// A key of a table.
#[derive(Clone, Debug)]
struct Key {
    name: &'static str,
    kind: Kind,
    required: bool,
}

fn optional(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, required: false }
}

fn required(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, required: true }
}

fn list(item: Kind) -> Kind {
    Kind::List(Box::new(item))
}

fn one_of<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> Kind {
    Kind::Word(all.iter().map(|value| name(*value).to_owned()).collect())
}

fn severity() -> Kind {
    one_of(&Severity::ALL, Severity::name)
}

/// Everything that may stand at the top of a file.
fn root() -> Vec<Key> {
    let texts = || list(Kind::Text);
    let mut keys = vec![
        optional("include", texts()),
        optional(
            "speaker",
            Kind::Table(vec![required("as", Kind::Integer), required("router-id", Kind::Text)]),
        ),
        optional(
            "owned",
            Kind::Table(vec![required("prefixes", texts()), optional("never-touch", texts())]),
        ),
        optional("groups", Kind::Named(group())),
        optional(
            "detection",
            Kind::Table(vec![
                optional("tolerance", Kind::Duration),
                optional("exit-ratio", Kind::Number),
                optional("exit-hold", Kind::Duration),
                optional("interface-thresholds", thresholds()),
                optional(
                    "learning",
                    Kind::Table(vec![
                        optional("margin", Kind::Number),
                        optional("floor", Kind::Number),
                        optional("max-hosts", Kind::Integer),
                    ]),
                ),
            ]),
        ),
        optional("severity", Kind::Table(severities())),
        optional("responses", list(Kind::Table(response()))),
        optional("peers", list(Kind::Table(peer()))),
        optional("profiles", Kind::Named(profile())),
    ];
    keys.extend(conduct());
    keys
}

/// The tables about conduct at the top of a file.
fn conduct() -> Vec<Key> {
    let texts = || list(Kind::Text);
    vec![
        optional(
            "enforcement",
            Kind::Table(vec![
                optional("deadline", Kind::Duration),
                optional("if-not-enforced", one_of(Otherwise::ALL, Otherwise::name)),
            ]),
        ),
        optional(
            "effect",
            Kind::Table(vec![
                optional("sensor", one_of(SensorPlace::ALL, SensorPlace::name)),
                optional("none-below", Kind::Number),
                optional("none-after", Kind::Duration),
            ]),
        ),
        optional(
            "flapping",
            Kind::Table(vec![
                optional("cycles", Kind::Integer),
                optional("within", Kind::Duration),
            ]),
        ),
        optional(
            "breaker",
            Kind::Table(vec![
                optional("targets", Kind::Integer),
                optional("share", Kind::Number),
                optional("within", Kind::Duration),
                optional("cool-down", Kind::Duration),
            ]),
        ),
        optional(
            "budgets",
            Kind::Table(vec![
                optional("mitigations", Kind::Integer),
                optional("per-group", Kind::Integer),
                optional("rules-per-attack", Kind::Integer),
                optional("tcam-entries", Kind::Integer),
                optional("collateral", Kind::Number),
                optional("kernel-rules", Kind::Integer),
            ]),
        ),
        optional("approval", approval()),
        optional(
            "remotes",
            Kind::Table(vec![optional("allow", texts()), optional("trusted", texts())]),
        ),
        optional("time", Kind::Table(vec![optional("utc-offset", Kind::Text)])),
    ]
}

fn approval() -> Kind {
    let mode = || one_of(Mode::ALL, Mode::name);
    Kind::Table(vec![
        optional("local", mode()),
        optional("flowspec", mode()),
        optional("rtbh", mode()),
    ])
}

fn limit() -> Kind {
    Kind::Table(vec![optional("packets", Kind::Rate), optional("bits", Kind::Rate)])
}

fn thresholds() -> Kind {
    Kind::Table(Metric::ALL.map(|metric| optional(metric.name(), limit())).to_vec())
}

fn group() -> Vec<Key> {
    vec![
        // Of every group but `default`, so not required here.
        optional("prefixes", list(Kind::Text)),
        optional("thresholds", thresholds()),
        optional("prefix-thresholds", thresholds()),
        optional("capacity", limit()),
        optional("allowed-ports", list(Kind::Text)),
        optional("approval", approval()),
    ]
}

fn severities() -> Vec<Key> {
    let three = |kind: Kind| {
        ["medium", "high", "critical"].map(|name| optional(name, kind.clone())).to_vec()
    };
    let mut keys = three(Kind::Number);
    keys.push(optional("capacity", Kind::Table(three(Kind::Number))));
    keys.push(optional("duration", Kind::Table(three(Kind::Duration))));
    keys.push(optional(
        "uncertain",
        Kind::Table(vec![required("below", Kind::Number), required("at-most", severity())]),
    ));
    keys
}

/// What a response and a step have in common.
fn answer() -> Vec<Key> {
    let word = |word: &str| Kind::Word(vec![word.to_owned()]);
    let filter = Kind::Table(vec![
        optional("rate-limit", Kind::Text),
        optional("redirect", Kind::Text),
        optional("redirect-to-ip", Kind::Text),
        optional("mark", Kind::Integer),
    ]);
    let actions = ["observe", "local", "flowspec", "rtbh"].map(str::to_owned).to_vec();
    vec![
        required("action", Kind::Word(actions)),
        optional("filter", Kind::Either(vec![word("discard"), filter])),
        optional("peers", list(Kind::Text)),
        optional(
            "lifetime",
            Kind::Table(vec![
                optional("at-least", Kind::Duration),
                optional("at-most", Kind::Duration),
            ]),
        ),
        optional("widen", one_of(Widen::ALL, Widen::name)),
        optional("rules-from", one_of(RuleSource::ALL, RuleSource::name)),
    ]
}

fn response() -> Vec<Key> {
    let vectors = AttackVector::all().map(|vector| vector.to_string()).collect();
    let when = Kind::Table(vec![
        optional("severity", severity()),
        optional("confidence", Kind::Number),
        // The names are for completion; with a `*` in it a text is right too.
        optional("vectors", list(Kind::Either(vec![Kind::Word(vectors), Kind::Text]))),
        optional("groups", list(Kind::Text)),
        optional("hours", Kind::Either(vec![Kind::Text, list(Kind::Text)])),
    ]);
    let condition = Kind::Table(vec![
        optional("coverage-below", Kind::Number),
        optional("after", Kind::Duration),
        optional("severity", severity()),
        optional("packets", Kind::Rate),
        optional("bits", Kind::Rate),
    ]);
    let either = Kind::Either(vec![condition.clone(), list(condition)]);
    let mut step = vec![required("if", either)];
    step.extend(answer());
    let mut keys = vec![required("name", Kind::Text), optional("when", when)];
    keys.extend(answer());
    keys.push(optional("if-not-enforced", one_of(Otherwise::ALL, Otherwise::name)));
    keys.push(optional("then", list(Kind::Table(step))));
    keys
}

/// What a peer and a profile have in common.
fn acceptance() -> Vec<Key> {
    let words = |words: Kind| list(words);
    let lengths = || list(Kind::Integer);
    vec![
        optional("families", words(one_of(Family::ALL, Family::name))),
        optional("sessions", one_of(Sessions::ALL, Sessions::name)),
        optional("confined-by", one_of(ConfinedBy::ALL, ConfinedBy::name)),
        optional("max-routes", Kind::Integer),
        optional(
            "rtbh",
            Kind::Table(vec![
                optional("communities", list(Kind::Text)),
                optional("next-hop-v4", Kind::Text),
                optional("next-hop-v6", Kind::Text),
                optional("lengths-v4", lengths()),
                optional("lengths-v6", lengths()),
            ]),
        ),
        optional(
            "flowspec",
            Kind::Table(vec![
                optional("components-v4", words(one_of(Component::ALL, Component::name))),
                optional("components-v6", words(one_of(Component::ALL, Component::name))),
                optional("operators", words(one_of(Comparison::ALL, Comparison::name))),
                optional("bitmasks", words(one_of(BitmaskForm::ALL, BitmaskForm::name))),
                optional("tcp-flags", words(one_of(&TCP_FLAGS, |(name, _)| name))),
                optional("fragment-bits", words(one_of(&FRAGMENT_BITS, |(name, _)| name))),
                optional("actions", words(one_of(ActionKind::ALL, ActionKind::name))),
                optional("lengths-v4", lengths()),
                optional("lengths-v6", lengths()),
                optional("max-values", Kind::Integer),
                optional("max-octets", Kind::Integer),
                optional("max-rules", Kind::Integer),
            ]),
        ),
    ]
}

fn peer() -> Vec<Key> {
    let mut keys = vec![
        required("name", Kind::Text),
        optional("address", Kind::Text),
        optional("listen-range", Kind::Text),
        optional("listen-limit", Kind::Integer),
        required("as", Kind::Integer),
        optional("port", Kind::Integer),
        optional("local-address", Kind::Text),
        optional("mode", one_of(ConnectMode::ALL, ConnectMode::name)),
        optional("hold-time", Kind::Duration),
        optional("communities", list(Kind::Text)),
        optional("profile", Kind::Text),
        optional("via", Kind::Text),
    ];
    keys.extend(acceptance());
    keys
}

fn profile() -> Vec<Key> {
    let mut keys = vec![
        optional("like", Kind::Text),
        optional("summary", Kind::Text),
        optional("source", Kind::Text),
    ];
    keys.extend(acceptance());
    keys
}

impl Kind {
    fn schema(&self) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Duration => json!({
                "type": "string",
                "pattern": "^[0-9]+(\\.[0-9]+)? *(ms|s|m|h|d)$",
            }),
            Self::Rate => json!({ "type": ["string", "integer"] }),
            Self::Number => json!({ "type": "number" }),
            Self::Integer => json!({ "type": "integer" }),
            Self::Word(words) => json!({ "type": "string", "enum": words }),
            Self::List(item) => json!({ "type": "array", "items": item.schema() }),
            Self::Either(kinds) => {
                json!({ "anyOf": kinds.iter().map(Self::schema).collect::<Vec<_>>() })
            }
            Self::Table(keys) => table(keys),
            Self::Named(keys) => json!({ "type": "object", "additionalProperties": table(keys) }),
        }
    }
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), key.kind.schema())).collect();
    let needed: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut table = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !needed.is_empty()
        && let Some(table) = table.as_object_mut()
    {
        table.insert("required".to_owned(), json!(needed));
    }
    table
}

/// The schema of one policy file (JSON Schema draft 2020-12).
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = table(&root());
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".into(), json!("A policy file of tidegate"));
    }
    schema
}

/// Every key as the reader calls it: `table.key`, with `*` where the user chooses the name.
#[cfg(test)]
pub(crate) fn key_paths() -> std::collections::BTreeSet<String> {
    fn walk(keys: &[Key], prefix: &str, found: &mut std::collections::BTreeSet<String>) {
        for key in keys {
            let path = if prefix.is_empty() {
                key.name.to_owned()
            } else {
                format!("{prefix}.{}", key.name)
            };
            inside(&key.kind, &path, found);
            found.insert(path);
        }
    }
    fn inside(kind: &Kind, path: &str, found: &mut std::collections::BTreeSet<String>) {
        match kind {
            Kind::Table(keys) => walk(keys, path, found),
            Kind::Named(keys) => walk(keys, &format!("{path}.*"), found),
            Kind::List(item) => inside(item, path, found),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| inside(kind, path, found)),
            _ => {}
        }
    }
    let mut found = std::collections::BTreeSet::new();
    walk(&root(), "", &mut found);
    found
}

#[cfg(test)]
mod tests;
