//! No text and no bytes make the reader panic, and what it reports lies inside the files.

use proptest::prelude::*;

use super::{LEAST, PEER, file, resolve};
use crate::report::Report;

/// Every span is inside its file and on character boundaries, every position is one of the text.
fn check_places(files: &[crate::resolve::PolicyFile], report: &Report) {
    assert!(!report.is_empty(), "an error says what is wrong");
    let mut last = None;
    for diagnostic in report.diagnostics() {
        assert!(!diagnostic.message.is_empty() && !diagnostic.help.is_empty(), "{diagnostic}");
        let place = (diagnostic.file.clone(), diagnostic.position());
        assert!(last <= Some(place.clone()), "sorted: {last:?} before {place:?}");
        last = Some(place);
        let Some(location) = &diagnostic.location else { continue };
        let file = files.iter().find(|file| file.name == diagnostic.file).unwrap();
        let bytes = file.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&file.bytes);
        assert!(location.span.start <= location.span.end && location.span.end <= bytes.len());
        let before = std::str::from_utf8(&bytes[..location.span.start]).unwrap();
        assert!(std::str::from_utf8(&bytes[location.span.clone()]).is_ok());
        assert_eq!(location.line, before.matches('\n').count() + 1);
        let line = before.rsplit('\n').next().unwrap();
        assert_eq!(location.column, line.chars().count() + 1);
    }
    let shown = report.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    let mut drawn = String::new();
    let terminal = report.clone().into_terminal();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .render_report(&mut drawn, &terminal)
        .unwrap();
}

fn check(bytes: &[u8]) {
    let files = [file("a.toml", LEAST), file("b.toml", bytes)];
    if let Err(report) = resolve("policy", &files) {
        check_places(&files, &report);
    }
    let files = [file("b.toml", bytes)];
    if let Err(report) = resolve("policy", &files) {
        check_places(&files, &report);
    }
}

/// A policy with every table, to be mutilated.
fn whole() -> String {
    format!(
        r#"{LEAST}never-touch = ["203.0.113.53"]
[groups."wéb"]
prefixes = ["203.0.113.0/25"]
thresholds.total = {{ packets = "10k", bits = 1000 }}
[detection]
tolerance = "500ms"
exit-ratio = 0.5
[severity]
medium = 2
high = 5.5
[[responses]]
name = "a"
when = {{ severity = "high", confidence = 0.9, vectors = ["*-amplification"], groups = ["wéb"] }}
action = "flowspec"
filter = {{ rate-limit = "1Mbps" }}
peers = ["edge"]
lifetime = {{ at-least = "60s" }}
{PEER}families = ["ipv4-flowspec"]
communities = ["65001:1", "1:2:3"]
rtbh.communities = ["65001:666", "no-export"]
"#
    )
}

#[test]
fn the_text_that_is_mutilated_is_right() {
    let files = [file("b.toml", whole())];
    resolve("policy", &files).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn hostile_texts_are_survived() {
    let deep_lists = format!("a = {}", "[".repeat(100_000));
    let deep_tables = format!("a = {}", "{a=".repeat(100_000));
    let deep_keys = format!("{}b = 1", "a.".repeat(100_000));
    let long_name = format!("{} = 1", "a".repeat(100_000));
    let long_value = format!("[owned]\nprefixes = [\"{}\"]", "1".repeat(100_000));
    let many: String = (0..5_000).map(|number| format!("key-{number} = 1\n")).collect();
    let many_prefixes: String = (0..=255).map(|byte| format!("\"10.0.{byte}.1\",")).collect();
    let unowned = format!("[groups.x]\nprefixes = [{many_prefixes}]");
    let escape = "\"\\u001b[2J\" = 1\n[owned]\nprefixes = [\"\\u001b]0;x\\u0007\"]\n";
    for text in [
        "",
        "\u{feff}",
        "\0",
        "\r",
        "\ra = 1",
        "a = 1\rb = 2",
        "=",
        "[",
        "[[",
        "]",
        "\"",
        "'''",
        "\"\"\"",
        "a = 1e999",
        "a = nan",
        &deep_lists,
        &deep_tables,
        &deep_keys,
        &long_name,
        &long_value,
        &many,
        &unowned,
        escape,
        "[owned]\nprefixes = [\u{202e}]",
        "[[owned]]",
        "owned = 1",
        "peers = [1, {}, []]",
        "responses = {}",
        "groups = []",
        "[groups.\"\"]",
        "[groups.\"a b\"]\n",
        "[severity]\nmedium = inf\nhigh = nan",
        "[speaker]\nas = 0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff",
        "[detection]\ntolerance = \"99999999999d\"",
        "[groups.a.thresholds]\ntotal = { packets = 0x10 }",
    ] {
        check(text.as_bytes());
    }
}

/// As many mistakes as fit a file, all on one line.
#[test]
fn a_file_full_of_mistakes_is_survived() {
    let unowned: String =
        (0..50_000).map(|n| format!("\"10.{}.{}.1\",", n / 250, n % 250)).collect();
    let files = [
        file("a.toml", LEAST),
        file(
            "b.toml",
            format!("[groups.x]\nprefixes = [{unowned}]\n[groups.y]\nprefixes = [{unowned}]"),
        ),
    ];
    let report = resolve("policy", &files).unwrap_err();
    assert_eq!(report.diagnostics().len(), crate::MAX_DIAGNOSTICS);
    assert_eq!(report.count(), "150000 errors", "each is unowned, half of them in two groups");
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn text_never_panics(text in "\\PC{0,200}") {
        check(text.as_bytes());
    }

    /// Text made of the words of the format gets further than noise does.
    #[test]
    fn words_never_panic(words in proptest::collection::vec(prop_oneof![
        Just("["), Just("]"), Just("[["), Just("]]"), Just("{"), Just("}"), Just("="), Just("."), Just(","),
        Just("\n"), Just("\""), Just("owned"), Just("speaker"), Just("groups"), Just("peers"),
        Just("responses"), Just("detection"), Just("severity"), Just("prefixes"), Just("name"),
        Just("as"), Just("when"), Just("rtbh"), Just("\"10s\""), Just("\"203.0.113.0/24\""), Just("1"),
        Just("0.5"), Just("é"), Just("true"),
    ], 0..60)) {
        check(words.concat().as_bytes());
    }

    /// A right policy with a piece removed, repeated or replaced.
    #[test]
    fn mutilated_policies_never_panic(
        from in 0.0..1.0_f64, length in 0..40_usize, with in "[\\[\\]{}=\",.a-z0-9\n é\\-]{0,8}",
    ) {
        let whole = whole();
        let start = whole.floor_char_boundary((from * whole.len() as f64) as usize);
        let end = whole.floor_char_boundary((start + length).min(whole.len())).max(start);
        let text = format!("{}{with}{}", &whole[..start], &whole[end..]);
        let files = [file("b.toml", text)];
        if let Err(report) = resolve("policy", &files) {
            check_places(&files, &report);
        }
    }
}
