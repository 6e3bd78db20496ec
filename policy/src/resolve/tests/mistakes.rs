//! Texts and directories that cannot be read as a policy, and exactly what is said about each.

use super::{LEAST, file, mistakes_in, resolve, said};

// Several mistakes of TOML at once, in the order of the text.

#[test]
fn several_mistakes_of_toml() {
    insta::assert_snapshot!(mistakes_in(r#"[groups.web
prefixes = "a"
[severity]
medium =
high = five
high = 2.0
"#), @r#"
    p.toml:1:12: error: not TOML: unclosed table
      1 | [groups.web
        |            ^
      help: write `]` here
    p.toml:4:9: error: a value is missing here, or it is a text without quotes
      4 | medium =
        |         ^
      help: write text in double quotes: `key = "value"`
    p.toml:5:8: error: a value is missing here, or it is a text without quotes
      5 | high = five
        |        ^^^^
      help: write text in double quotes: `key = "value"`
    p.toml:6:1: error: this key is given twice in one table
      6 | high = 2.0
        | ^^^^
      help: keep one of the two; several tables of a kind are written `[[name]]`, each with a name of its own
    "#);
}

// Unknown keys and tables, with what was meant.

#[test]
fn unknown_table() {
    insta::assert_snapshot!(mistakes_in(r#"[severty]
medium = 2.0
"#), @r#"
    p.toml:1:2: error: `severty` is not known at the top of a file
      1 | [severty]
        |  ^^^^^^^
      help: did you mean `severity`?
    "#);
}

#[test]
fn unknown_table_of_groups() {
    insta::assert_snapshot!(mistakes_in(r#"[group.web]
prefixes = ["203.0.113.0/25"]
"#), @r#"
    p.toml:1:2: error: `group` is not known at the top of a file
      1 | [group.web]
        |  ^^^^^
      help: did you mean `groups`?
    "#);
}

#[test]
fn unknown_keys_of_detection() {
    insta::assert_snapshot!(mistakes_in(r#"[detection]
exit_ratio = 0.5
window = "1s"
"#), @r#"
    p.toml:2:1: error: `exit_ratio` is not known in `detection`
      2 | exit_ratio = 0.5
        | ^^^^^^^^^^
      help: did you mean `exit-ratio`?
    p.toml:3:1: error: `window` is not known in `detection`
      3 | window = "1s"
        | ^^^^^^
      help: write one of `exit-hold`, `exit-ratio`, `interface-thresholds`, `learning` or `tolerance`
    "#);
}

#[test]
fn unknown_keys_of_groups() {
    insta::assert_snapshot!(mistakes_in(r#"[groups.web]
prefix = ["203.0.113.0/25"]
[groups.web.thresholds]
tcp-sync = { packets = "1k" }
udp = { pps = "1k" }
"#), @r#"
    p.toml:2:1: error: `prefix` is not known in `groups.web`
      2 | prefix = ["203.0.113.0/25"]
        | ^^^^^^
      help: did you mean `prefixes`?
    p.toml:4:1: error: `tcp-sync` is not known in `groups.web.thresholds`
      4 | tcp-sync = { packets = "1k" }
        | ^^^^^^^^
      help: did you mean `tcp-syn`?
    p.toml:5:7: error: `groups.web.thresholds.udp` has neither `packets` nor `bits`
      5 | udp = { pps = "1k" }
        |       ^^^^^^^^^^^^^^
      help: write `udp = { packets = "100k", bits = "1G" }`
    p.toml:5:9: error: `pps` is not known in `groups.web.thresholds.udp`
      5 | udp = { pps = "1k" }
        |         ^^^
      help: write one of `bits` or `packets`
    "#);
}

#[test]
fn unknown_keys_of_peers() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "edge"
address = "10.0.0.2"
asn = 65001
hold_time = "9s"
[peers.rtbh]
next-hop = "192.0.2.1"
"#), @r#"
    p.toml:4:1: error: `asn` is not known in `peers`
      4 | asn = 65001
        | ^^^
      help: did you mean `as`?
    p.toml:5:1: error: `hold_time` is not known in `peers`
      5 | hold_time = "9s"
        | ^^^^^^^^^
      help: did you mean `hold-time`?
    p.toml:7:1: error: `next-hop` is not known in `peers.rtbh`
      7 | next-hop = "192.0.2.1"
        | ^^^^^^^^
      help: did you mean `next-hop-v4`?
    "#);
}

// Values of another type than the one that is meant.

#[test]
fn wrong_types_of_tables() {
    insta::assert_snapshot!(mistakes_in(r#"groups = 1
severity = []
peers = "edge"
[detection]
tolerance = 500
exit-ratio = "half"
"#), @r#"
    p.toml:1:10: error: `groups` must be a table, not an integer
      1 | groups = 1
        |          ^
      help: write `groups = { web = { prefixes = ["203.0.113.0/25"] } }`
    p.toml:2:12: error: `severity` must be a table, not a list
      2 | severity = []
        |            ^^
      help: write `severity = { medium = 2.0, high = 5.0, critical = 20.0 }`
    p.toml:3:9: error: `peers` must be a list of tables
      3 | peers = "edge"
        |         ^^^^^^
      help: write `[[peers]]`, once for each of the peers
    p.toml:5:13: error: `detection.tolerance` must be a duration in a string, not an integer
      5 | tolerance = 500
        |             ^^^
      help: write `tolerance = "500ms"`
    p.toml:6:14: error: `detection.exit-ratio` must be a number, not a string
      6 | exit-ratio = "half"
        |              ^^^^^^
      help: write `exit-ratio = 0.5`
    "#);
}

#[test]
fn wrong_types_of_groups() {
    insta::assert_snapshot!(mistakes_in(r#"[groups.web]
prefixes = "203.0.113.0/25"
thresholds = { total = 100000, udp = { packets = 1.5 } }
"#), @r#"
    p.toml:2:12: error: `groups.web.prefixes` must be a list, not a string
      2 | prefixes = "203.0.113.0/25"
        |            ^^^^^^^^^^^^^^^^
      help: write `prefixes = ["203.0.113.0/25"]`
    p.toml:3:24: error: `groups.web.thresholds.total` must be a table, not an integer
      3 | thresholds = { total = 100000, udp = { packets = 1.5 } }
        |                        ^^^^^^
      help: write `total = { packets = "100k", bits = "1G" }`
    p.toml:3:50: error: `groups.web.thresholds.udp.packets` must be a number in a string, not a number with a fraction
      3 | thresholds = { total = 100000, udp = { packets = 1.5 } }
        |                                                  ^^^
      help: write `packets = "100k"`
    "#);
}

#[test]
fn wrong_types_of_items() {
    insta::assert_snapshot!(mistakes_in(r#"[groups.web]
prefixes = [203, true]
[responses]
name = "a"
"#), @r#"
    p.toml:2:13: error: an item of `groups.web.prefixes` must be a string, not an integer
      2 | prefixes = [203, true]
        |             ^^^
      help: write items such as `"203.0.113.0/24"`
    p.toml:2:18: error: an item of `groups.web.prefixes` must be a string, not a boolean
      2 | prefixes = [203, true]
        |                  ^^^^
      help: write items such as `"203.0.113.0/24"`
    p.toml:3:1: error: `responses` must be a list of tables
      3 | [responses]
        | ^^^^^^^^^^^
      help: write `[[responses]]`, once for each of the responses
    "#);
}

#[test]
fn wrong_types_of_responses() {
    insta::assert_snapshot!(mistakes_in(r#"[[responses]]
name = 5
when = "high"
action = "observe"
lifetime = "1h"
"#), @r#"
    p.toml:2:8: error: `responses.name` must be a string, not an integer
      2 | name = 5
        |        ^
      help: write `name = "filter-floods"`
    p.toml:3:8: error: `responses.when` must be a table, not a string
      3 | when = "high"
        |        ^^^^^^
      help: write `when = { severity = "high" }`
    p.toml:5:12: error: `responses.lifetime` must be a table, not a string
      5 | lifetime = "1h"
        |            ^^^^
      help: write `lifetime = { at-least = "60s", at-most = "6h" }`
    "#);
}

// Columns are characters; what commands a terminal is replaced.

#[test]
fn columns_are_characters() {
    insta::assert_snapshot!(mistakes_in(r#"[detection]
"é" = "ü" # comment
"\u001b[2J" = 1
"#), @r#"
    p.toml:2:1: error: `é` is not known in `detection`
      2 | "é" = "ü" # comment
        | ^^^
      help: write one of `exit-hold`, `exit-ratio`, `interface-thresholds`, `learning` or `tolerance`
    p.toml:3:1: error: `?[2J` is not known in `detection`
      3 | "\u001b[2J" = 1
        | ^^^^^^^^^^^
      help: write one of `exit-hold`, `exit-ratio`, `interface-thresholds`, `learning` or `tolerance`
    "#);
}

#[test]
fn tabs_are_one_column() {
    insta::assert_snapshot!(mistakes_in(r#"[detection]
	tolerance   = "1ms"
"#), @r#"
    p.toml:2:16: error: `detection.tolerance` must be from 10ms to 1m, not 1ms
      2 |  tolerance   = "1ms"
        |                ^^^^^
      help: write `tolerance = "500ms"`
    "#);
}

/// A file that is not well-formed hides what is in it: nothing is said about names that may be there.
#[test]
fn a_syntax_error_causes_no_others() {
    let response =
        "[[responses]]\nname = \"a\"\nwhen.groups = [\"web\"]\naction = \"rtbh\"\nfliter = 1\n";
    insta::assert_snapshot!(said(&[("network.toml", "[owned\n"), ("responses.toml", response)]), @r#"
    network.toml:1:7: error: not TOML: unclosed table
      1 | [owned
        |       ^
      help: write `]` here
    responses.toml:5:1: error: `fliter` is not known in `responses`
      5 | fliter = 1
        | ^^^^^^
      help: did you mean `filter`?
    "#);
}

#[test]
fn nothing_at_all() {
    insta::assert_snapshot!(said(&[("p.toml", "")]), @r#"
    policy: error: no file of the policy has a table `[owned]`
      help: add `[owned]` with `prefixes = ["203.0.113.0/24"]`
    policy: error: no file of the policy has a table `[speaker]`
      help: add `[speaker]` with `as = 65010` and `router-id = "10.0.0.1"`
    "#);
}

#[test]
fn bytes_that_are_not_utf8() {
    let files = [file("a.toml", LEAST), file("b.toml", b"[owned]\n# caf\xe9\n".as_slice())];
    let report = resolve("policy", &files).expect_err("not UTF-8");
    insta::assert_snapshot!(report, @r#"
    b.toml:2:6: error: the byte 0xe9 here is not UTF-8
      2 | # caf
        |      ^
      help: save the file with the encoding UTF-8
    "#);
}

/// Directories and files that cannot be read.
#[test]
fn directories() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    let said = |path: &std::path::Path| {
        let report = crate::load(path).expect_err("nothing to read");
        report.to_string().replace(&root.display().to_string(), "ROOT")
    };
    insta::assert_snapshot!(said(&root.join("nowhere")), @r#"
    ROOT/nowhere: error: there is no such directory
      help: correct the path, or create the directory and put a policy into it
    "#);
    std::fs::write(root.join("file"), "").unwrap();
    insta::assert_snapshot!(said(&root.join("file")), @r#"
    ROOT/file: error: this is a file, and a policy is a directory
      help: name the directory that holds the file
    "#);
    let directory = root.join("policy");
    std::fs::create_dir_all(directory.join("sub.toml")).unwrap();
    std::fs::write(directory.join(".hidden.toml"), "=").unwrap();
    std::fs::write(directory.join("notes.txt"), "=").unwrap();
    std::fs::write(directory.join("sub.toml/inner.toml"), "=").unwrap();
    insta::assert_snapshot!(said(&directory), @r#"
    ROOT/policy: error: no file in the directory ends in `.toml`
      help: put the policy there: one file or several, such as `network.toml`, `responses.toml` and `peers.toml`
    "#);
    std::os::unix::fs::symlink(root.join("nothing"), directory.join("link.toml")).unwrap();
    std::os::unix::fs::symlink("/dev/null", directory.join("null.toml")).unwrap();
    let long = "#".repeat(usize::try_from(crate::MAX_FILE_BYTES).unwrap() + 1);
    std::fs::write(directory.join("long.toml"), long).unwrap();
    insta::assert_snapshot!(said(&directory), @r#"
    ROOT/policy/link.toml: error: the file is not there any more, or a link to nothing
      help: remove the link, or let it point to a file
    ROOT/policy/long.toml: error: the file is longer than 1048576 bytes
      help: divide it into several, or write fewer and wider prefixes
    ROOT/policy/null.toml: error: this is no regular file
      help: remove it, or give it a name that does not end in `.toml`
    "#);
}

/// A terminal gets the same with the excerpt drawn.
#[test]
fn terminal() {
    let report = super::beside_least("[severity]\nmedium = 3\nhihg = 5\n").expect_err("misspelt");
    let mut drawn = String::new();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .with_width(80)
        .render_report(&mut drawn, &report.into_terminal())
        .unwrap();
    insta::assert_snapshot!(drawn, @r#"
      × 1 error in the configuration

    Error: 
      × `hihg` is not known in `severity`
       ╭─[p.toml:3:1]
     2 │ medium = 3
     3 │ hihg = 5
       · ────
       ╰────
      help: did you mean `high`?
    "#);
}
