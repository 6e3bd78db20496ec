//! The example configurations are sound as they stand.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_interop_tests::lab::require;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn each_is_read_without_a_mistake() {
    let mut names = Vec::new();
    for entry in fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        let config = path.join("tidegate.toml");
        if config.exists() {
            let read = tidegate::config::load(&config);
            read.unwrap_or_else(|report| panic!("{}:\n{report}", config.display()));
        } else {
            let read = tidegate_policy::load(&path);
            read.unwrap_or_else(|report| panic!("{}:\n{report}", path.display()));
        }
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    let expected = ["beside-akvorado", "exabgp-sidecar", "mirror-port", "policy", "single-server"];
    assert_eq!(names, expected);
}

#[test]
fn exabgp_takes_its_configurations() {
    let Some(exabgp) =
        require::or_skip("exabgp_takes_its_configurations", require::program("exabgp"))
    else {
        return;
    };
    for example in ["exabgp-sidecar", "beside-akvorado"] {
        let text = fs::read_to_string(examples().join(example).join("exabgp.conf")).unwrap();
        // It looks for the programs, which are not installed here.
        let there = text
            .replace("/usr/bin/tidegate", "/bin/true")
            .replace("/usr/local/bin/akvorado-feed", "/bin/true");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &there).unwrap();
        let output = Command::new(&exabgp).arg("--test").arg(file.path()).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{example}: {said}");
        let mistake = there.replace("peer-as 65001", "peer-as nonsense");
        fs::write(file.path(), mistake).unwrap();
        let output = Command::new(&exabgp).arg("--test").arg(file.path()).output().unwrap();
        assert!(!output.status.success(), "it takes anything");
    }
}

/// The first block of this kind in the peering guide.
fn snippet(kind: &str) -> String {
    let guide = fs::read_to_string(examples().join("../docs/peering.md")).unwrap();
    let (_, rest) = guide.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn routers_take_the_snippets_of_the_peering_guide() {
    let test = "routers_take_the_snippets_of_the_peering_guide";
    for (program, arguments, kind, right, wrong) in [
        ("bird", &["-p", "-c"][..], "bird", "neighbor 10.0.0.10", "neighbor nobody"),
        ("vtysh", &["-C", "-f"], "frr", "remote-as 65010", "remote-as nobody"),
        ("gobgpd", &["-d", "-t", "toml", "-f"], "gobgp", "peer-as = 65010", "peer-as = \"x\""),
    ] {
        let Some(program) = require::or_skip(test, require::program(program)) else { return };
        let check = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), text).unwrap();
            Command::new(&program).args(arguments).arg(file.path()).output().unwrap()
        };
        let text = snippet(kind);
        let output = check(&text);
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(right), "{kind}");
        assert!(!check(&text.replace(right, wrong)).status.success(), "{kind} takes anything");
    }
}
