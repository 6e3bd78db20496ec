use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::text::Collector;

fn examples() -> Vec<crate::PolicyFile> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy");
    crate::read_files(&directory).unwrap()
}

/// `key` with `*` for every name that a user chose and for every metric; a profile takes the tables
/// of a peer.
fn general(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('.').collect();
    match parts.as_mut_slice() {
        ["groups", name, "thresholds" | "prefix-thresholds", metric, _] => {
            (*name, *metric) = ("*", "*");
        }
        ["profiles", _, table @ ("rtbh" | "flowspec"), key] => {
            return format!("peers.{table}.{key}");
        }
        ["groups" | "profiles", name, ..] => *name = "*",
        _ => {}
    }
    parts.join(".")
}

/// The example policy has every table, so reading it asks for every key.
#[test]
fn the_schema_has_the_keys_that_the_reader_asks_for() {
    let collector = Collector::new();
    assert!(crate::resolve::read("examples/policy", &examples(), &collector).is_some());
    let asked: BTreeSet<String> = collector.keys().iter().map(|key| general(key)).collect();
    // Tables whose rows are named by the user are not asked for by name.
    let known: BTreeSet<String> = key_paths().iter().map(|key| general(key)).collect();
    let missing: Vec<_> = asked.difference(&known).collect();
    let unheard: Vec<_> = known.difference(&asked).collect();
    assert!(missing.is_empty(), "not in the schema: {missing:?}");
    assert!(unheard.is_empty(), "asked for by nobody in the example: {unheard:?}");
}

/// What the schema says about `value`, as far as it uses words of JSON Schema.
fn judge(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let of_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("unknown type {other}"),
    };
    for (word, rule) in schema.as_object().unwrap() {
        let right = match word.as_str() {
            "type" => match rule {
                Value::String(name) => of_type(name),
                names => names.as_array().unwrap().iter().any(|it| of_type(it.as_str().unwrap())),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| {
                let mut inner = Vec::new();
                judge(schema, value, place, &mut inner);
                inner.is_empty()
            }),
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|key| value.get(key.as_str().unwrap()).is_some()),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    judge(rule, item, place, found);
                }
                true
            }
            "properties" | "additionalProperties" => {
                if word == "properties" || schema.get("properties").is_none() {
                    entries(schema, value, place, found);
                }
                true
            }
            "pattern" | "$schema" | "title" => true,
            other => panic!("unknown word {other}"),
        };
        if !right {
            found.push(format!("{place}: {word}"));
        }
    }
}

fn entries(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let Some(object) = value.as_object() else { return };
    for (key, value) in object {
        let place = format!("{place}.{key}");
        let known = schema.get("properties").and_then(|keys| keys.get(key));
        match known.or(schema.get("additionalProperties").filter(|it| it.is_object())) {
            Some(schema) => judge(schema, value, &place, found),
            None => found.push(format!("{place}: unknown")),
        }
    }
}

fn mistakes(text: &str) -> Vec<String> {
    let value: toml::Value = toml::from_str(text).unwrap();
    let value = serde_json::to_value(value).unwrap();
    let mut found = Vec::new();
    judge(&json_schema(), &value, "", &mut found);
    found
}

#[test]
fn the_example_policy_satisfies_the_schema() {
    for file in examples() {
        let found = mistakes(std::str::from_utf8(&file.bytes).unwrap());
        assert!(found.is_empty(), "{}: {found:?}", file.name);
    }
}

#[test]
fn the_schema_finds_mistakes() {
    for (text, expected) in [
        ("sevrity = 1", ".sevrity: unknown"),
        ("[owned]\nnever-touch = []", ".owned: required"),
        ("[approval]\nrtbh = \"ask\"", ".approval.rtbh: enum"),
        ("[groups.web.thresholds]\nudp = 7", ".groups.web.thresholds.udp: type"),
        ("[[responses]]\nname = \"a\"\naction = \"drop\"", ".responses.action: enum"),
        (
            "[[responses]]\nname = \"a\"\naction = \"rtbh\"\nfilter = { rate = 1 }",
            ".responses.filter: anyOf",
        ),
    ] {
        assert_eq!(mistakes(text), [expected], "{text}");
    }
}

/// The durations that the reader takes are those of the pattern.
#[test]
fn durations_have_the_units_of_the_reader() {
    let schema = Kind::Duration.schema();
    let pattern = schema["pattern"].as_str().unwrap();
    for unit in ["ms", "s", "m", "h", "d"] {
        assert!(crate::text::parse_duration(&format!("1{unit}")).is_ok());
        assert!(pattern.contains(unit));
    }
}
