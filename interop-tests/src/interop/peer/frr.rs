//! FRRouting's bgpd alone. Without zebra (`-Z`) it touches nothing of the kernel's, and takes next
//! hops as they are. It is asked over the socket that vtysh would use: vtysh itself wants files below
//! `/etc` that only an installation makes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tidegate_model::AddressFamily;

use super::{InteropError, Router, Setup, output_of, unreadable, write};
use crate::interop::bench::wait;
use crate::interop::route::{Held, Kind};
use crate::lab::{LabError, Namespace, Process, require};

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// bgpd is not on the search path, vtysh is: `usr/bin/vtysh` and `usr/lib/frr/bgpd`.
fn daemon() -> Result<PathBuf, InteropError> {
    let vtysh = require::program("vtysh")?;
    let root = vtysh.parent().and_then(|path| path.parent());
    let bgpd = root.map(|root| root.join("lib/frr/bgpd")).filter(|path| path.is_file());
    Ok(bgpd.ok_or_else(|| LabError::NoProgram("bgpd of FRR".to_owned()))?)
}

pub(super) fn version() -> Result<String, InteropError> {
    let text = output_of(daemon()?, &["--version"])?;
    // `bgpd version 8.4.4`
    let number = text.split_whitespace().nth(2).unwrap_or_default();
    Ok(format!("FRR {number}"))
}

/// A running bgpd.
#[derive(Debug)]
struct Frr {
    process: Process,
    namespace: Namespace,
    neighbor: String,
    family: AddressFamily,
}

fn configuration(setup: &Setup<'_>) -> String {
    let Setup { family, neighbor, third, guard, .. } = setup;
    let third = third.1;
    let mut text = format!(
        "bgp no-rib
router bgp 65001
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {neighbor} remote-as 65010
 neighbor {neighbor} passive
 neighbor {neighbor} timers 3 9
 neighbor {third} remote-as 65003
 neighbor {third} passive
 neighbor {third} disable-connected-check
 neighbor {third} advertisement-interval 0
"
    );
    if let Some(key) = guard.md5 {
        text.push_str(&format!(" neighbor {neighbor} password {key}\n"));
    }
    let distance = if guard.gtsm { "ttl-security hops 1" } else { "disable-connected-check" };
    text.push_str(&format!(" neighbor {neighbor} {distance}\n"));
    for name in ["unicast", "flowspec"] {
        text.push_str(&format!(
            " address-family {family} {name}
  neighbor {neighbor} activate
  neighbor {third} activate
 exit-address-family
"
        ));
    }
    text
}

pub(super) fn start(setup: &Setup<'_>) -> Result<Box<dyn Router>, InteropError> {
    let Setup { namespace, family, neighbor, .. } = setup;
    let file = write(namespace, "frr.conf", &configuration(setup))?;
    let directory = namespace.directory();
    let mut command = namespace.command(daemon()?);
    command.arg("-f").arg(file).arg("-i").arg(directory.join("frr.pid"));
    command.arg("--vty_socket").arg(directory);
    command.args(["-n", "-Z", "-S", "-P", "0", "-u", "root", "-g", "root", "--log", "stdout"]);
    let process = namespace.spawn("frr", command)?;
    let mut frr = Frr {
        process,
        namespace: (*namespace).clone(),
        neighbor: neighbor.to_string(),
        family: *family,
    };
    wait(|| {
        frr.process.expect_running()?;
        match frr.ask("show bgp summary") {
            Ok(text) if text.contains(&frr.neighbor) => Ok(Ok(())),
            Ok(text) => Ok(Err(text)),
            // Before it listens there is no socket, or one that refuses.
            Err(InteropError::Lab(error @ LabError::File { .. })) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    })?;
    Ok(Box::new(frr))
}

/// Tells the daemon each line, and returns its answers with their statuses. A line ends with a zero,
/// an answer with three and its status.
fn converse(path: &Path, lines: &[&str]) -> std::io::Result<Vec<(String, u8)>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut answers = Vec::new();
    for line in lines {
        stream.write_all(format!("{line}\0").as_bytes())?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        let status = loop {
            if let [.., 0, 0, 0, status] = answer.as_slice() {
                break *status;
            }
            match stream.read(&mut part)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                length => answer.extend_from_slice(&part[..length]),
            }
        };
        answer.truncate(answer.len() - 4);
        answers.push((String::from_utf8_lossy(&answer).into_owned(), status));
    }
    Ok(answers)
}

impl Frr {
    fn ask(&self, command: &str) -> Result<String, InteropError> {
        let path = self.namespace.directory().join("bgpd.vty");
        let answers = converse(&path, &["enable", command])
            .map_err(|source| LabError::File { path, source })?;
        match answers.as_slice() {
            [_, (text, 0)] => Ok(text.clone()),
            _ => Err(unreadable(&format!("FRR's answer to `{command}`"), &format!("{answers:?}"))),
        }
    }

    fn json(&self, command: &str) -> Result<Value, InteropError> {
        let text = self.ask(command)?;
        serde_json::from_str(&text).map_err(|_| unreadable(&format!("FRR's `{command}`"), &text))
    }

    fn blackholes(&self) -> Result<Vec<Held>, InteropError> {
        let family = self.family;
        let table = self.json(&format!("show bgp {family} unicast json"))?;
        let mut held = Vec::new();
        for net in table["routes"].as_object().into_iter().flat_map(|routes| routes.keys()) {
            let route = self.json(&format!("show bgp {family} unicast {net} json"))?;
            let paths = route["paths"].as_array().into_iter().flatten();
            held.extend(paths.map(|path| read(net, path)));
        }
        Ok(held)
    }
}

impl Router for Frr {
    fn is_established(&mut self) -> Result<bool, InteropError> {
        let value = self.json(&format!("show bgp neighbors {} json", self.neighbor))?;
        Ok(value[&self.neighbor]["bgpState"] == "Established")
    }

    fn held(&mut self) -> Result<Vec<Held>, InteropError> {
        let mut held = self.blackholes()?;
        held.extend(read_rules(&self.ask(&format!("show bgp {} flowspec detail", self.family))?));
        Ok(held)
    }

    fn bounce(&mut self) -> Result<(), InteropError> {
        self.ask(&format!("clear bgp {}", self.neighbor)).map(drop)
    }

    fn ask_refresh(&mut self) -> Result<(), InteropError> {
        for name in ["unicast", "flowspec"] {
            self.ask(&format!("clear bgp {} {name} {} in", self.family, self.neighbor))?;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        self.process.last_words()
    }
}

fn read(net: &str, path: &Value) -> Held {
    let mut held = Held::new(Kind::Rtbh, net);
    let next_hops = path["nexthops"].as_array().into_iter().flatten();
    let mut next_hops = next_hops.filter(|next_hop| next_hop["scope"] != "link-local");
    held.next_hop = next_hops
        .next()
        .and_then(|next_hop| next_hop["ip"].as_str())
        .and_then(|ip| ip.parse().ok());
    let words = |name: &str| -> Vec<String> {
        let all = path[name]["list"].as_array().into_iter().flatten();
        all.filter_map(|one| one.as_str().map(ToOwned::to_owned)).collect()
    };
    // FRR spells the well-known ones `blackhole`, `noExport` and `noLlgr` here.
    let communities = words("community");
    held.communities = communities
        .iter()
        .filter_map(|one| {
            one.replace("noExport", "no-export").replace("noLlgr", "no-llgr").parse().ok()
        })
        .collect();
    held.large_communities =
        words("largeCommunity").iter().filter_map(|one| one.parse().ok()).collect();
    held
}

/// ```text
/// BGP flowspec entry: (flags 0x418)
///     Destination Address 203.0.113.9/32
///     IP Protocol = 17
///     Source Port = 123
///     FS:rate 0.000000
/// ```
fn read_rules(text: &str) -> Vec<Held> {
    let mut rules: Vec<Held> = Vec::new();
    for line in text.lines() {
        if line.starts_with("BGP flowspec entry") {
            let mut rule = Held::new(Kind::FlowSpec, "");
            rule.matches.clear();
            rules.push(rule);
            continue;
        }
        let Some(rule) = rules.last_mut() else { continue };
        let line = line.trim();
        if let Some(rate) = line.strip_prefix("FS:rate ") {
            rule.rate = rate.split_whitespace().next().and_then(|rate| rate.parse().ok());
        }
        for (theirs, ours) in [
            ("Destination Address ", "destination"),
            ("Source Address ", "source"),
            ("IP Protocol ", "protocol"),
            ("Next Header ", "protocol"),
            ("Port ", "port"),
            ("Destination Port ", "destination-port"),
            ("Source Port ", "source-port"),
            ("TCP Flags ", "tcp-flags"),
            ("Packet Length ", "packet-length"),
            ("DSCP field ", "dscp"),
            ("Packet Fragment ", "fragment"),
        ] {
            if let Some(value) = line.strip_prefix(theirs) {
                // An IPv6 prefix is followed by its offset.
                let value = value.trim().trim_end_matches("/off 0");
                let value = value.strip_prefix("= ").unwrap_or(value);
                rule.matches.insert(format!("{ours} {}", value.trim()));
            }
        }
    }
    rules
}
