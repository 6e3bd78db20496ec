//! Tests in a network namespace of their own.

use std::process::Command;

const INSIDE: &str = "TIDEGATE_TEST_NAMESPACE";

/// Whether this process is in a namespace made for `test`, whose addresses are all on loopback. If
/// not: makes one, runs this very test in it, and takes it away again. False after that.
///
/// Where namespaces cannot be made (not root) the test is skipped with a line, and fails in CI.
pub(crate) fn inside(test: &str, addresses: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let name = format!("tg-{}-{}", std::process::id(), test.len());
    if !ip(&["netns", "add", &name]) {
        eprintln!("skipped {test}: no network namespace can be made here");
        assert!(std::env::var_os("CI").is_none(), "no network namespaces in CI");
        return false;
    }
    let namespace = Namespace { name };
    let name = namespace.name.as_str();
    assert!(ip(&["-n", name, "link", "set", "lo", "up"]));
    for address in addresses {
        assert!(ip(&["-n", name, "address", "add", address, "dev", "lo"]), "{address}");
    }
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    assert!(command.status().unwrap().success(), "{test} in the namespace {name}");
    false
}

struct Namespace {
    name: String,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).status().is_ok_and(|status| status.success())
}
