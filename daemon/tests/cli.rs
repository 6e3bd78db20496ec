//! The command as a user runs it: what it says about bad input, and how it exits.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const POLICY: &str = r#"
[speaker]
as = 65010
router-id = "10.99.0.1"

[owned]
prefixes = ["203.0.113.0/24"]
"#;

/// A folder with `policy/policy.toml` and `tidegate.toml`.
fn workplace(policy: &str, config: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policy")).unwrap();
    fs::write(folder.path().join("policy/policy.toml"), policy).unwrap();
    fs::write(folder.path().join("tidegate.toml"), config).unwrap();
    folder
}

fn tidegate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Exit code 2, nothing on standard output, and every one of `words` on standard error.
fn assert_refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "colours without a terminal:\n{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_good_configuration_is_called_good() {
    let folder = workplace(POLICY, "policy = \"policy\"\n");
    let output = tidegate(folder.path(), &["check", "-c", "tidegate.toml"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("tidegate.toml: good: 1 owned prefix,"), "{said}");
}

#[test]
fn every_error_of_configuration_and_policy_has_its_place() {
    let folder = workplace(
        &POLICY.replace("prefixes", "prefxes"),
        "policy = \"policy\"\n[capture]\ninterfce = \"eth0\"\n",
    );
    let output = tidegate(folder.path(), &["check", "-c", "tidegate.toml"]);
    assert_refused(
        &output,
        &[
            "tidegate.toml:3:1: error: `interfce`",
            "did you mean `interface`?",
            "policy.toml:7:1: error: `prefxes`",
        ],
    );
    let output = tidegate(folder.path(), &["check", "-c", "tidegate.toml", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["ok"], false);
    assert_eq!(result["errors"][0]["line"], 3);
}

#[test]
fn bad_policies_are_refused() {
    let cases: [(&str, String, &[&str]); 4] = [
        ("unknown key", format!("{POLICY}\ncolour = \"red\"\n"), &["policy.toml:", "`colour`"]),
        (
            "unowned prefix in a group",
            format!("{POLICY}\n[groups.web]\nprefixes = [\"198.51.100.0/24\"]\n"),
            &["policy.toml:", "198.51.100.0/24"],
        ),
        (
            "overlapping owned prefixes",
            POLICY.replace("\"203.0.113.0/24\"", "\"203.0.113.0/24\", \"203.0.113.0/25\""),
            &["policy.toml:7:", "203.0.113.0/25"],
        ),
        ("not TOML", "[owned\n".to_owned(), &["policy.toml:1:"]),
    ];
    for (name, policy, words) in cases {
        let folder = workplace(&policy, "policy = \"policy\"\n");
        for command in [
            &["check", "-c", "tidegate.toml"][..],
            &["run", "-c", "tidegate.toml"],
            &["replay", "none.pcap", "--policy", "policy"],
        ] {
            println!("{name}: {command:?}");
            assert_refused(&tidegate(folder.path(), command), words);
        }
    }
}

#[test]
fn missing_files_are_named() {
    let folder = workplace(POLICY, "policy = \"nowhere\"\n");
    let output = tidegate(folder.path(), &["check", "-c", "tidegate.toml"]);
    assert_refused(&output, &["nowhere"]);
    let output = tidegate(folder.path(), &["run", "-c", "absent.toml"]);
    assert_refused(&output, &["absent.toml", "help: name a configuration file"]);
    let output = tidegate(folder.path(), &["replay", "absent.pcap", "--policy", "policy"]);
    assert_refused(&output, &["absent.pcap"]);
}

#[test]
fn what_is_no_capture_is_said_to_be_none() {
    let folder = workplace(POLICY, "policy = \"policy\"\n");
    for (name, bytes) in [
        ("text.pcap", &b"this is a text, not a capture of packets"[..]),
        ("empty.pcap", b""),
        ("picture.pcap", b"\x89PNG\r\n\x1a\n and some more octets"),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
        let output = tidegate(folder.path(), &["replay", name, "--policy", "policy"]);
        assert_refused(&output, &[name, "pcap"]);
    }
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let folder = workplace(POLICY, "policy = \"policy\"\n[capture]\ninterface = \"nosuch0\"\n");
    let output = tidegate(folder.path(), &["run", "-c", "tidegate.toml"]);
    assert_refused(&output, &["nosuch0"]);
}

#[test]
fn a_passive_peer_needs_somewhere_to_listen() {
    let peer =
        "\n[[peers]]\nname = \"border\"\naddress = \"192.0.2.1\"\nas = 65001\nmode = \"passive\"\n";
    let folder = workplace(&format!("{POLICY}{peer}"), "policy = \"policy\"\n");
    let output = tidegate(folder.path(), &["check", "-c", "tidegate.toml"]);
    assert_refused(&output, &["peer `border` is passive", "listen = "]);
}

#[test]
fn the_command_line_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let help = tidegate(folder.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let said = String::from_utf8_lossy(&help.stdout);
    for word in ["run", "replay", "check", "Exit codes"] {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    let output = tidegate(folder.path(), &["replay"]);
    assert_eq!(output.status.code(), Some(2));
}

const ANSWERED: &str = r#"
[[responses]]
name = "filter"
when = { vectors = ["ntp-amplification"] }
action = "flowspec"

[[peers]]
name = "edge"
address = "10.99.0.2"
as = 65001
families = ["ipv4-unicast", "ipv4-flowspec"]
"#;

const SCENARIO: &str = r#"
[[scenarios]]
name = "reflection is filtered"

[[scenarios.attacks]]
target = "203.0.113.7"
vector = "ntp-amplification"
source-ports = [123]
packets = "500k"

[[scenarios.expect]]
at = "1s"
mitigations = ["flow4 { destination 203.0.113.7/32; protocol =17; source-port =123 } at peer edge"]
"#;

/// A workplace whose policy answers, with a scenario that it passes.
fn tested_workplace() -> TempDir {
    let folder = workplace(&format!("{POLICY}{ANSWERED}"), "policy = \"policy\"\n");
    fs::create_dir(folder.path().join("policy/tests")).unwrap();
    fs::write(folder.path().join("policy/tests/reflection.toml"), SCENARIO).unwrap();
    folder
}

#[test]
fn policies_are_tested() {
    let folder = tested_workplace();
    let output = tidegate(folder.path(), &["policy", "test", "policy"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("ok      reflection is filtered") && said.contains("1 passed, 0 failed"));

    let wrong = SCENARIO.replace("=123 }", "=124 }");
    fs::write(folder.path().join("policy/tests/reflection.toml"), wrong).unwrap();
    let output = tidegate(folder.path(), &["policy", "test", "policy"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FAILED  reflection is filtered (policy/tests/reflection.toml:"),
        "{said}"
    );

    fs::write(folder.path().join("policy/tests/reflection.toml"), "[[scenarios]]\n").unwrap();
    assert_refused(
        &tidegate(folder.path(), &["policy", "test", "policy"]),
        &["reflection.toml:1:"],
    );
}

#[test]
fn policies_explain_themselves() {
    let folder = tested_workplace();
    let arguments = ["policy", "explain", "203.0.113.7", "-p", "policy"];
    let output = tidegate(folder.path(), &arguments);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("group `default`"), "{said}");

    let attack = ["--vector", "ntp-amplification", "--pps", "500000", "--json"];
    let output = tidegate(folder.path(), &[&arguments[..], &attack[..]].concat());
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said.to_string().contains("filter"), "{said}");
}

#[test]
fn policies_are_compared() {
    let folder = tested_workplace();
    let compare = ["policy", "diff", "policy", "other", "--exit-code"];
    let mut copy = Command::new("cp");
    copy.args(["-r", "policy", "other"]).current_dir(folder.path());
    assert!(copy.status().unwrap().success());
    let output = tidegate(folder.path(), &compare);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));

    let events = "{\"event\":\"attack-ended\",\"time_ns\":90000000000,\"attack\":{\"id\":\"a1\",\
                  \"target\":\"203.0.113.9\",\"onset_ns\":30000000000,\
                  \"peak\":{\"packets\":300000,\"bits\":1000000000},\"vectors\":[{\
                  \"vector\":\"ntp-amplification\",\"confidence\":0.9,\
                  \"signature\":{\"protocol\":17,\"source_ports\":[123]}}]}}\n";
    fs::write(folder.path().join("events.jsonl"), events).unwrap();
    let silent = ANSWERED.replace("flowspec\"\n\n", "observe\"\n\n");
    fs::write(folder.path().join("other/policy.toml"), format!("{POLICY}{silent}")).unwrap();
    let output =
        tidegate(folder.path(), &[&compare[..], &["--incidents", "events.jsonl"]].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("203.0.113.9") && said.contains("203.0.113.7"), "{said}");

    let output = tidegate(folder.path(), &["policy", "diff", "v1", "policy"]);
    assert_refused(&output, &["`v1` is no directory"]);
    fs::write(folder.path().join("events.jsonl"), "nonsense\n").unwrap();
    let output =
        tidegate(folder.path(), &[&compare[..], &["--incidents", "events.jsonl"]].concat());
    assert_refused(&output, &["events.jsonl:1:", "--json"]);
}

#[test]
fn the_schema_is_printed() {
    let folder = tested_workplace();
    let output = tidegate(folder.path(), &["policy", "schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"]["responses"].is_object(), "{schema}");
}

#[test]
fn a_first_configuration_checks_and_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let init = ["init", "--to", "etc", "--owned", "192.0.2.0/24", "--owned", "192.0.2.7"];
    let output = tidegate(folder.path(), &init);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("192.0.2.0/24 on") && said.contains("tidegate check"), "{said}");
    let output = tidegate(folder.path(), &["check", "-c", "etc/tidegate.toml"]);
    assert_eq!(output.status.code(), Some(0));
    let before = fs::read(folder.path().join("etc/policy/policy.toml")).unwrap();
    assert_refused(&tidegate(folder.path(), &init), &["etc/tidegate.toml", "--to"]);
    assert_eq!(fs::read(folder.path().join("etc/policy/policy.toml")).unwrap(), before);
    let nowhere = ["init", "--to", "other", "--interface", "nonsense0"];
    assert_refused(&tidegate(folder.path(), &nowhere), &["nonsense0", "lo"]);
}

#[test]
fn a_fastnetmon_configuration_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("fastnetmon.conf", "threshold_pps = 20000\nban_for_pps = on\nsflow = on\n");
    write("networks_list", "203.0.113.0/24\n");
    write("networks_whitelist", "203.0.113.53/32\n");
    let import = |to: &str, more: &[&str]| {
        let lists = ["--networks", "networks_list", "--whitelist", "networks_whitelist"];
        let start = ["import", "fastnetmon", "fastnetmon.conf", "--to", to];
        tidegate(folder.path(), &[&start[..], &lists, more].concat())
    };
    let output = import("etc", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("fastnetmon.conf:1: threshold_pps = 20000"), "{said}");
    assert!(said.contains("sflow = on\n      sFlow is not received"), "{said}");
    let json = import("json", &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["account"]["left_out"][0]["setting"], "sflow = on");
    assert_refused(&import("etc", &[]), &["etc/tidegate.toml", "--to"]);
    let reserved = import("reserved", &["--as", "23456"]);
    assert_eq!(reserved.status.code(), Some(2));
    let missing = ["import", "fastnetmon", "nowhere.conf", "--to", "x"];
    assert_refused(&tidegate(folder.path(), &missing), &["nowhere.conf"]);
}
