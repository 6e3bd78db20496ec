//! Every test that the ledger of the standards names is there.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop at a surprise too")]

use std::path::Path;

use toml::{Table, Value};

/// What is wrong with the ledger, one line each.
fn complaints(ledger: &str) -> Vec<String> {
    let ledger: Table = ledger.parse().unwrap();
    let requirements = ledger["requirement"].as_array().unwrap();
    let mut complaints = Vec::new();
    for requirement in requirements {
        let requirement = requirement.as_table().unwrap();
        let title = format!("{}: {}", requirement["rfc"], requirement["what"]);
        for key in requirement.keys() {
            if !["rfc", "what", "positive", "negative", "absent"].contains(&key.as_str()) {
                complaints.push(format!("{title}: unknown key `{key}`"));
            }
        }
        let names = |key| requirement.get(key).and_then(Value::as_array).into_iter().flatten();
        for key in ["positive", "negative"] {
            if names(key).next().is_none() && !requirement.contains_key("absent") {
                complaints.push(format!("{title}: no {key} test, and `absent` does not say why"));
            }
        }
        if names("positive").next().is_some() != names("negative").next().is_some() {
            complaints.push(format!("{title}: tests of one kind only"));
        }
        for name in names("positive").chain(names("negative")) {
            let name = name.as_str().unwrap();
            if !exists(name) {
                complaints.push(format!("{title}: there is no test {name}"));
            }
        }
    }
    complaints
}

/// Whether `path::function` is a test.
fn exists(name: &str) -> bool {
    let Some((path, function)) = name.split_once("::") else { return false };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let Ok(source) = std::fs::read_to_string(path) else { return false };
    let head = format!("fn {function}(");
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let found = lines.iter().position(|line| line.trim_start_matches("async ").starts_with(&head));
    found.is_some_and(|line| {
        let before = lines[..line].iter().rev().take_while(|line| line.starts_with("#["));
        before.into_iter().any(|line| line.contains("test"))
    })
}

#[test]
fn every_name_is_a_test() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rfc/bgp.toml");
    let complaints = complaints(&std::fs::read_to_string(path).unwrap());
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn a_wrong_ledger_is_noticed() {
    let here = "tests/ledger.rs::every_name_is_a_test";
    for (entry, expected) in [
        (format!("positive = [{here:?}]\nnegative = [{here:?}]"), 0),
        ("absent = \"for a reason\"".to_owned(), 0),
        (String::new(), 2),
        (format!("positive = [{here:?}]\nabsent = \"\""), 1),
        (format!("positive = [{here:?}]\nnegative = [\"tests/ledger.rs::complaints\"]"), 1),
        (format!("positive = [{here:?}]\nnegative = [\"tests/nowhere.rs::it\"]"), 1),
        (format!("positive = [{here:?}]\nnegative = [{here:?}]\nnote = \"\""), 1),
    ] {
        let ledger = format!("[[requirement]]\nrfc = \"1\"\nwhat = \"it\"\n{entry}\n");
        assert_eq!(complaints(&ledger).len(), expected, "{ledger}");
    }
}
