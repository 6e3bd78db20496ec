//! ExaBGP 4 and 5. It connects to us, and tells what it receives to a helper as JSON lines; what it holds
//! is what those lines add up to.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tidegate_model::{AddressFamily, Community, LargeCommunity};

use super::{InteropError, Router, Setup, outputs, write};
use crate::interop::route::{Held, Kind};
use crate::lab::{Follower, LabError, Process, require};

/// The two that operators run; they differ in what they call themselves and in how they speak of
/// ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    Four,
    Five,
}

impl Release {
    /// On the search path. That of ExaBGP 5 is a link into its own environment.
    const fn program(self) -> &'static str {
        match self {
            Self::Four => "exabgp",
            Self::Five => "exabgp5",
        }
    }

    /// Where the distribution's modules are must not be told to the other's interpreter: it would
    /// prefer them to its own.
    fn prepare(self, command: &mut Command) {
        if self == Self::Five {
            command.env_remove("PYTHONPATH");
        }
    }

    pub(super) fn version(self) -> Result<String, InteropError> {
        let mut command = Command::new(require::program(self.program())?);
        self.prepare(&mut command);
        command.arg(if self == Self::Four { "--version" } else { "version" });
        let text = outputs(command)?;
        // `ExaBGP : 4.2.21`
        let line = text.lines().find_map(|line| line.strip_prefix("ExaBGP :"));
        // Without its Python modules it says something else.
        let program = self.program();
        let number =
            line.ok_or_else(|| LabError::NoProgram(format!("{program}, with its modules")))?;
        Ok(format!("ExaBGP {}", number.trim()))
    }
}

/// A running ExaBGP.
#[derive(Debug)]
struct Exabgp {
    process: Process,
    neighbor: String,
    family: AddressFamily,
    commands: PathBuf,
    events: Follower,
    established: bool,
    /// By NLRI.
    held: BTreeMap<String, Held>,
}

fn configuration(setup: &Setup<'_>, helper: &str) -> String {
    let Setup { family, local, neighbor, guard, .. } = setup;
    let key = guard.md5.map_or(String::new(), |key| format!("  md5-password \"{key}\";\n"));
    let security = if guard.gtsm { "  incoming-ttl 255;\n  outgoing-ttl 255;\n" } else { "" };
    format!(
        "process helper {{
  run {helper};
  encoder json;
}}
neighbor {neighbor} {{
  router-id 10.99.0.2;
  local-address {local};
  local-as 65001;
  peer-as 65010;
  hold-time 9;
{key}{security}  capability {{ route-refresh; }}
  family {{ {family} unicast; {family} flow; }}
  api {{ processes [ helper ]; neighbor-changes; receive {{ parsed; update; }} }}
}}
"
    )
}

pub(super) fn start(release: Release, setup: &Setup<'_>) -> Result<Box<dyn Router>, InteropError> {
    let Setup { namespace, family, neighbor, .. } = setup;
    let commands = write(namespace, "exabgp.commands", "")?;
    let lines = write(namespace, "exabgp.lines", "")?;
    // Its standard output is what ExaBGP obeys, its standard input what ExaBGP tells.
    let script = format!(
        "#!/bin/sh\ntail -n +1 -f '{}' &\nexec cat >> '{}'\n",
        commands.display(),
        lines.display()
    );
    let helper = write(namespace, "exabgp-helper", &script)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o700))
        .map_err(|source| LabError::File { path: helper.clone(), source })?;
    let text = configuration(setup, &helper.display().to_string());
    let file = write(namespace, "exabgp.conf", &text)?;
    let mut command = namespace.command(require::program(release.program())?);
    release.prepare(&mut command);
    command.arg(file).current_dir(namespace.directory());
    for (name, value) in [
        ("exabgp_daemon_user", "root"),
        ("exabgp_daemon_drop", "false"),
        ("exabgp_api_cli", "false"),
        ("exabgp_api_ack", "false"),
        ("exabgp_log_level", "WARNING"),
    ] {
        command.env(name, value);
    }
    let process = namespace.spawn("exabgp", command)?;
    Ok(Box::new(Exabgp {
        process,
        neighbor: neighbor.to_string(),
        family: *family,
        commands,
        events: Follower::open(&lines)?,
        established: false,
        held: BTreeMap::new(),
    }))
}

impl Exabgp {
    fn tell(&self, command: &str) -> Result<(), InteropError> {
        let file = |source| LabError::File { path: self.commands.clone(), source };
        let mut commands = OpenOptions::new().append(true).open(&self.commands).map_err(file)?;
        Ok(writeln!(commands, "{command}").map_err(file)?)
    }

    /// Takes in what was told since the last call.
    fn follow(&mut self) -> Result<(), InteropError> {
        self.process.expect_running()?;
        for line in self.events.lines()? {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            match event["neighbor"]["state"].as_str() {
                Some("up") => self.established = true,
                Some("down") => {
                    self.established = false;
                    self.held.clear();
                }
                _ => self.update(&event["neighbor"]["message"]["update"]),
            }
        }
        Ok(())
    }

    fn update(&mut self, update: &Value) {
        for (name, kind) in [("unicast", Kind::Rtbh), ("flow", Kind::FlowSpec)] {
            let family = format!("{} {name}", self.family);
            for nlri in update["withdraw"][&family].as_array().into_iter().flatten() {
                self.held.remove(&key(nlri));
            }
            let announced = update["announce"][&family].as_object().into_iter().flatten();
            for (next_hop, nlris) in announced {
                for nlri in nlris.as_array().into_iter().flatten() {
                    let held = read(kind, nlri, next_hop, &update["attribute"]);
                    self.held.insert(key(nlri), held);
                }
            }
        }
    }
}

impl Router for Exabgp {
    fn is_established(&mut self) -> Result<bool, InteropError> {
        self.follow()?;
        Ok(self.established)
    }

    fn held(&mut self) -> Result<Vec<Held>, InteropError> {
        self.follow()?;
        Ok(self.held.values().cloned().collect())
    }

    fn bounce(&mut self) -> Result<(), InteropError> {
        // Administrative Reset (RFC 4486).
        self.tell(&format!("neighbor {} teardown 4", self.neighbor))
    }

    fn ask_refresh(&mut self) -> Result<(), InteropError> {
        // Forgotten here, so that only what comes again is held.
        self.follow()?;
        self.held.clear();
        for name in ["unicast", "flow"] {
            self.tell(&format!("announce route-refresh {} {name}", self.family))?;
        }
        Ok(())
    }

    fn third_router(&self) -> Result<(), InteropError> {
        let why = "ExaBGP is no router: it passes nothing on";
        Err(InteropError::Unsupported(why.to_owned()))
    }

    fn last_words(&self) -> String {
        self.process.last_words()
    }
}

/// What an NLRI is known by: its text, or the prefix.
fn key(nlri: &Value) -> String {
    let text = nlri["string"].as_str().or_else(|| nlri["nlri"].as_str()).or_else(|| nlri.as_str());
    text.unwrap_or_default().to_owned()
}

fn read(kind: Kind, nlri: &Value, next_hop: &str, attributes: &Value) -> Held {
    let mut held = Held::new(kind, nlri["nlri"].as_str().unwrap_or_default());
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap_or_default()).ok();
    if kind == Kind::FlowSpec {
        held.matches.clear();
        for (name, values) in nlri.as_object().into_iter().flatten() {
            let name = match name.as_str() {
                "string" | "nlri" => continue,
                "destination-ipv4" | "destination-ipv6" => "destination",
                "source-ipv4" | "source-ipv6" => "source",
                "next-header" => "protocol",
                "traffic-class" => "dscp",
                name => name,
            };
            let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
            let value = values.collect::<Vec<_>>().join(" ");
            // An IPv6 prefix is followed by its offset.
            let value = value.replace("=udp", "=17").replace("=tcp", "=6");
            let value = value.strip_suffix("/0").unwrap_or(&value);
            let value = value.strip_prefix('=').unwrap_or(value);
            held.matches.insert(format!("{name} {value}"));
        }
        let mut all = attributes["extended-community"].as_array().into_iter().flatten();
        held.rate =
            all.find_map(|one| one["string"].as_str()?.strip_prefix("rate-limit:")?.parse().ok());
        return held;
    }
    held.next_hop = next_hop.parse().ok();
    let lists = |name: &str| -> Vec<Vec<u32>> {
        let all = attributes[name].as_array().into_iter().flatten();
        all.map(|one| one.as_array().into_iter().flatten().filter_map(number).collect()).collect()
    };
    let community = |one: &Vec<u32>| match one.as_slice() {
        [high, low] => Some(Community(high << 16 | low)),
        _ => None,
    };
    let large = |one: &Vec<u32>| match *one.as_slice() {
        [global, local1, local2] => Some(LargeCommunity { global, local1, local2 }),
        _ => None,
    };
    held.communities = lists("community").iter().filter_map(community).collect();
    held.large_communities = lists("large-community").iter().filter_map(large).collect();
    held
}
