//! The reader as another configuration file would use it.

#![allow(clippy::indexing_slicing, reason = "a test may stop at a surprise")]

use std::sync::Arc;
use std::time::Duration;

use super::{Collector, Document, Source, Table};
use crate::report::{Diagnostic, MAX_DIAGNOSTICS, Report};

/// Reads `text` with `read`.
fn read<T>(text: &str, read: impl FnOnce(&Table<'_>) -> Option<T>) -> Result<T, Report> {
    let source = Arc::new(Source::new("tidegate.toml", text));
    let collector = Collector::new();
    let value = Document::parse(&source, &collector).and_then(|document| {
        let root = document.root(&collector);
        let value = read(&root);
        root.finish();
        value
    });
    collector.finish(value)
}

#[test]
fn every_type_is_read() {
    let text = "text = 'a'\nhex = 0xff\nwhole = 3\nratio = 1_0.5\nflag = true\nspan = \"1.5s\"\nlist = [1, 2]\ntable.key = 1\naddress = \"::1\"\n";
    let found = read(text, |root| {
        assert_eq!(root.optional("text", "\"a\"")?.string(), Some("a"));
        assert_eq!(root.optional("hex", "1")?.integer(0..=255_u8), Some(255));
        let numbers = [
            root.optional("whole", "1")?.float(0.0..=9.0)?,
            root.optional("ratio", "1")?.float(0.0..=99.0)?,
        ];
        assert_eq!(numbers.map(f64::to_bits), [3.0_f64.to_bits(), 10.5_f64.to_bits()]);
        assert_eq!(root.optional("flag", "true")?.boolean(), Some(true));
        let bounds = Duration::ZERO..=Duration::from_secs(2);
        assert_eq!(
            root.optional("span", "\"1s\"")?.duration(bounds),
            Some(Duration::from_millis(1500))
        );
        let list: Option<Vec<u8>> = root
            .optional("list", "[1]")?
            .list("1")?
            .iter()
            .map(|item| item.integer(0..=9))
            .collect();
        assert_eq!(list, Some(vec![1, 2]));
        let table = root.required("table", "{ key = 1 }")?.table()?;
        assert_eq!((table.name(), table.required("key", "1")?.name()), ("table", "table.key"));
        table.finish();
        assert!(root.optional("absent", "1").is_none());
        root.required("address", "\"::1\"")?.parse::<std::net::IpAddr>()
    });
    assert_eq!(found, Ok("::1".parse().unwrap()));
}

#[test]
fn every_getter_says_what_it_wants() {
    let text = "a = 1979-05-27\nb = \"x\"\nc = 300\nd = nan\ne = \"x\"\n";
    let report = read(text, |root| {
        let a = root.required("a", "true").and_then(|value| value.boolean());
        let b = root.required("b", "\"::1\"").and_then(|value| value.parse::<std::net::IpAddr>());
        let c = root.required("c", "1").and_then(|value| value.integer(0..=255_u8));
        let d = root.required("d", "0.5").and_then(|value| value.float(0.0..=1.0));
        let e = root.required("e", "1").and_then(|value| value.integer(0..=255_u8));
        let f = root.required("far-away", "1").and_then(|value| value.integer(0..=255_u8));
        Some((a?, b?, c?, d?, e?, f?))
    });
    insta::assert_snapshot!(report.unwrap_err(), @r#"
    tidegate.toml:1:1: error: `far-away` is missing
      1 | a = 1979-05-27
        | ^
      help: add `far-away = 1`
    tidegate.toml:1:5: error: `a` must be `true` or `false`, not a date or time
      1 | a = 1979-05-27
        |     ^^^^^^^^^^
      help: write `a = true`
    tidegate.toml:2:5: error: `b`: invalid IP address syntax
      2 | b = "x"
        |     ^^^
      help: write `b = "::1"`
    tidegate.toml:3:5: error: `c` must be from 0 to 255, not 300
      3 | c = 300
        |     ^^^
      help: write `c = 1`
    tidegate.toml:4:5: error: `d` must be from 0 to 1, not nan
      4 | d = nan
        |     ^^^
      help: write `d = 0.5`
    tidegate.toml:5:5: error: `e` must be an integer, not a string
      5 | e = "x"
        |     ^^^
      help: write `e = 1`
    "#);
}

#[test]
fn a_caller_that_gives_up_in_silence_is_still_an_error() {
    let report = read("", |_| None::<()>).unwrap_err();
    assert!(!report.is_empty());
}

#[test]
fn reports_are_bounded() {
    let mut report = Report::default();
    for _ in 0..MAX_DIAGNOSTICS + 5 {
        report.push(Diagnostic::about("file", "x".repeat(10_000), "y\nz\u{1b}"));
    }
    assert_eq!(report.diagnostics().len(), MAX_DIAGNOSTICS);
    assert_eq!(report.count(), "1005 errors");
    assert!(report.to_string().ends_with("\nand 5 more"));
    assert!(report.diagnostics()[0].message.chars().count() < 600);
    assert_eq!(report.diagnostics()[0].help, "y z?");
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let early = format!("a = \"{}\"\n", "é".repeat(500));
    let late = format!("b = [{}true]\n", "1, ".repeat(300));
    for (text, cut) in [(early, "ééé"), (late, "true]")] {
        let report = read(&text, |root| {
            let a = root.optional("a", "1").map(|value| value.integer(0..=1_u8));
            let b = root.optional("b", "1").and_then(|value| value.list("1")).unwrap_or_default();
            Some((a, b.iter().map(|item| item.integer(0..=1_u8)).collect::<Vec<_>>()))
        });
        let shown = report.unwrap_err().to_string();
        assert!(shown.lines().all(|line| line.chars().count() < 140), "{shown}");
        assert!(shown.contains(cut) && shown.contains('^'), "{shown}");
    }
}
