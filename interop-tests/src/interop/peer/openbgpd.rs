//! OpenBGPD's portable version: unicast only.
//!
//! It wants a user of its own and the folder `/run/openbgpd`. Both are given to it in a mount
//! namespace, so that nothing of the host changes.

use serde_json::Value;
use tidegate_model::AddressFamily;

use super::{InteropError, Router, Setup, output, unreadable, write};
use crate::interop::bench::wait;
use crate::interop::route::{Held, Kind};
use crate::lab::{LabError, Namespace, Process, require};

/// Mounts what the daemon wants, then becomes it: `$1` user, `$2` group file, `$3` daemon, `$4`
/// configuration.
const WRAPPER: &str = "set -e
mount --bind \"$1\" /etc/passwd
mount --bind \"$2\" /etc/group
mount -t tmpfs none /run
mkdir /run/openbgpd
exec \"$3\" -d -f \"$4\"
";
const USERS: &str = "root:x:0:0:root:/root:/bin/sh
_openbgpd:x:997:997::/run/openbgpd:/usr/sbin/nologin
";
const GROUPS: &str = "root:x:0:\n_openbgpd:x:997:\n";

pub(super) fn version() -> Result<String, InteropError> {
    require::program("bgpd")?;
    require::program("unshare")?;
    Ok(output("bgpctl", &["-V"])?.trim().to_owned())
}

/// A running bgpd.
#[derive(Debug)]
struct Openbgpd {
    process: Process,
    namespace: Namespace,
    socket: String,
    neighbor: String,
    family: AddressFamily,
}

pub(super) fn start(setup: &Setup<'_>) -> Result<Box<dyn Router>, InteropError> {
    let Setup { namespace, family, local, neighbor, guard, .. } = setup;
    let socket = namespace.directory().join("openbgpd.sock").display().to_string();
    let key = guard.md5.map_or(String::new(), |key| format!("  tcp md5sig password \"{key}\"\n"));
    let security = if guard.gtsm { "  ttl-security yes\n" } else { "" };
    let name = match family {
        AddressFamily::Ipv4 => "IPv4",
        AddressFamily::Ipv6 => "IPv6",
    };
    let text = format!(
        "AS 65001
router-id 10.99.0.2
fib-update no
listen on {local}
socket \"{socket}\"
neighbor {neighbor} {{
  remote-as 65010
  passive
  holdtime 9
{key}{security}  announce {name} unicast
}}
allow from any
"
    );
    let file = write(namespace, "openbgpd.conf", &text)?;
    // It takes no configuration that others could read.
    namespace.run("chmod", ["600".as_ref(), file.as_os_str()])?;
    let users = write(namespace, "openbgpd.passwd", USERS)?;
    let groups = write(namespace, "openbgpd.group", GROUPS)?;
    let mut command = namespace.command(require::program("unshare")?);
    command.args(["--mount", "sh", "-c", WRAPPER, "openbgpd"]);
    command.arg(users).arg(groups).arg(require::program("bgpd")?).arg(file);
    let process = namespace.spawn("openbgpd", command)?;
    let mut daemon = Openbgpd {
        process,
        namespace: (*namespace).clone(),
        socket,
        neighbor: neighbor.to_string(),
        family: *family,
    };
    wait(|| {
        daemon.process.expect_running()?;
        match daemon.json(&["show", "neighbor"]) {
            Ok(_) => Ok(Ok(())),
            Err(InteropError::Lab(error @ LabError::Failed { .. })) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    })?;
    Ok(Box::new(daemon))
}

impl Openbgpd {
    fn ask(&self, words: &[&str]) -> Result<String, InteropError> {
        let arguments = ["-s", &self.socket].into_iter().chain(words.iter().copied());
        Ok(self.namespace.run("bgpctl", arguments)?)
    }

    fn json(&self, words: &[&str]) -> Result<Value, InteropError> {
        let words: Vec<&str> = ["-j"].into_iter().chain(words.iter().copied()).collect();
        let text = self.ask(&words)?;
        serde_json::from_str(&text).map_err(|_| unreadable("OpenBGPD's answer", &text))
    }
}

impl Router for Openbgpd {
    fn is_established(&mut self) -> Result<bool, InteropError> {
        let value = self.json(&["show", "neighbor"])?;
        let mut neighbors = value["neighbors"].as_array().into_iter().flatten();
        Ok(neighbors.any(|neighbor| neighbor["state"] == "Established"))
    }

    fn held(&mut self) -> Result<Vec<Held>, InteropError> {
        let family = format!("{}", self.family);
        let table = self.json(&["show", "rib", &family, "detail"])?;
        Ok(table["rib"].as_array().into_iter().flatten().map(read).collect())
    }

    fn bounce(&mut self) -> Result<(), InteropError> {
        self.ask(&["neighbor", &self.neighbor, "clear"]).map(drop)
    }

    fn ask_refresh(&mut self) -> Result<(), InteropError> {
        self.ask(&["neighbor", &self.neighbor, "refresh"]).map(drop)
    }

    fn last_words(&self) -> String {
        self.process.last_words()
    }
}

fn read(route: &Value) -> Held {
    let mut held = Held::new(Kind::Rtbh, route["prefix"].as_str().unwrap_or_default());
    held.next_hop = route["exit_nexthop"].as_str().and_then(|text| text.parse().ok());
    let words = |name: &str| -> Vec<String> {
        let all = route[name].as_array().into_iter().flatten();
        all.filter_map(|one| one.as_str().map(str::to_ascii_lowercase)).collect()
    };
    held.communities =
        words("communities").iter().filter_map(|one| one.replace('_', "-").parse().ok()).collect();
    held.large_communities =
        words("large_communities").iter().filter_map(|one| one.parse().ok()).collect();
    held
}
