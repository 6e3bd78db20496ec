//! GoBGP 3.

use serde_json::Value;
use tidegate_model::{AddressFamily, Community, LargeCommunity};

use super::{InteropError, Router, Setup, output, unreadable, write};
use crate::interop::bench::wait;
use crate::interop::route::{Held, Kind};
use crate::lab::{LabError, Namespace, Process, require};

pub(super) fn version() -> Result<String, InteropError> {
    require::program("gobgp")?;
    let text = output("gobgpd", &["--version"])?;
    Ok(text.trim().replace("gobgpd version", "GoBGP"))
}

/// A running gobgpd.
#[derive(Debug)]
struct Gobgp {
    process: Process,
    namespace: Namespace,
    neighbor: String,
    family: AddressFamily,
}

pub(super) fn start(setup: &Setup<'_>) -> Result<Box<dyn Router>, InteropError> {
    let Setup { namespace, family, local, neighbor, third, guard } = setup;
    let mut text = format!(
        "[global.config]
as = 65001
router-id = \"10.99.0.2\"
port = 179
local-address-list = [\"{local}\", \"{}\"]
",
        third.0
    );
    let key = guard.md5.map_or(String::new(), |key| format!("auth-password = \"{key}\"\n"));
    let security = if guard.gtsm {
        "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n"
    } else {
        ""
    };
    for (address, asn, key, security) in
        [(neighbor, 65010, key.as_str(), security), (&third.1, 65003, "", "")]
    {
        text.push_str(&format!(
            "[[neighbors]]
[neighbors.config]
neighbor-address = \"{address}\"
peer-as = {asn}
{key}[neighbors.transport.config]
passive-mode = true
[neighbors.timers.config]
hold-time = 9
{security}"
        ));
        for name in ["unicast", "flowspec"] {
            text.push_str(&format!(
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}-{name}\"\n"
            ));
        }
    }
    let file = write(namespace, "gobgpd.toml", &text)?;
    let mut command = namespace.command(require::program("gobgpd")?);
    command.arg("-f").arg(file).args(["--api-hosts", "127.0.0.1:50051", "--pprof-disable"]);
    let process = namespace.spawn("gobgpd", command)?;
    let mut gobgp = Gobgp {
        process,
        namespace: (*namespace).clone(),
        neighbor: neighbor.to_string(),
        family: *family,
    };
    wait(|| {
        gobgp.process.expect_running()?;
        match gobgp.ask(&["global"]) {
            Ok(_) => Ok(Ok(())),
            Err(InteropError::Lab(error @ LabError::Failed { .. })) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    })?;
    Ok(Box::new(gobgp))
}

impl Gobgp {
    fn ask(&self, words: &[&str]) -> Result<String, InteropError> {
        Ok(self.namespace.run("gobgp", words)?)
    }

    fn table(&self, name: &str) -> Result<Value, InteropError> {
        let family = format!("{}{name}", self.family);
        let text = self.ask(&["global", "rib", "-a", &family, "-j"])?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|_| unreadable("GoBGP's table", &text))
    }
}

impl Router for Gobgp {
    fn is_established(&mut self) -> Result<bool, InteropError> {
        let text = self.ask(&["neighbor", &self.neighbor, "-j"])?;
        let value: Value =
            serde_json::from_str(&text).map_err(|_| unreadable("GoBGP's neighbor", &text))?;
        // ESTABLISHED of PeerState.SessionState.
        Ok(value["state"]["session_state"] == 6)
    }

    fn held(&mut self) -> Result<Vec<Held>, InteropError> {
        let mut held = Vec::new();
        for (name, kind) in [("", Kind::Rtbh), ("-flowspec", Kind::FlowSpec)] {
            let table = self.table(name)?;
            for (net, paths) in table.as_object().into_iter().flatten() {
                for path in paths.as_array().into_iter().flatten() {
                    held.push(read(kind, net, path));
                }
            }
        }
        Ok(held)
    }

    fn bounce(&mut self) -> Result<(), InteropError> {
        self.ask(&["neighbor", &self.neighbor, "reset"]).map(drop)
    }

    fn ask_refresh(&mut self) -> Result<(), InteropError> {
        let why = "GoBGP's `softresetin` reads its own Adj-RIB-In again and asks nobody";
        Err(InteropError::Unsupported(why.to_owned()))
    }

    fn last_words(&self) -> String {
        self.process.last_words()
    }
}

/// `[destination: 203.0.113.9/32][protocol: ==udp][source-port: ==123]` or a prefix, and its
/// attributes by their type codes.
fn read(kind: Kind, net: &str, path: &Value) -> Held {
    let mut held = Held::new(kind, net);
    if kind == Kind::FlowSpec {
        held.matches = net
            .split(['[', ']'])
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.trim()
                    .replace(": ==", " ")
                    .replace(": ", " ")
                    .replace(" udp", " 17")
                    .replace(" tcp", " 6")
            })
            // An IPv6 prefix is followed by its offset.
            .map(|part| part.strip_suffix("/0").map_or(part.clone(), ToOwned::to_owned))
            .collect();
    }
    for attribute in path["attrs"].as_array().into_iter().flatten() {
        let number = |value: &Value| u32::try_from(value.as_u64().unwrap_or_default()).ok();
        let address = || attribute["nexthop"].as_str().and_then(|text| text.parse().ok());
        match attribute["type"].as_u64() {
            Some(3 | 14) if kind == Kind::Rtbh => held.next_hop = address(),
            Some(8) if kind == Kind::Rtbh => {
                let all = attribute["communities"].as_array().into_iter().flatten();
                held.communities = all.filter_map(number).map(Community).collect();
            }
            Some(32) => {
                let all = attribute["value"].as_array().into_iter().flatten();
                held.large_communities = all
                    .filter_map(|one| {
                        Some(LargeCommunity {
                            global: number(&one["ASN"])?,
                            local1: number(&one["LocalData1"])?,
                            local2: number(&one["LocalData2"])?,
                        })
                    })
                    .collect();
            }
            Some(16) => {
                let mut all = attribute["value"].as_array().into_iter().flatten();
                let rate = all.find(|one| one["type"] == 128 && one["subtype"] == 6);
                held.rate = rate.and_then(|one| one["rate"].as_f64()).map(|rate| rate as f32);
            }
            _ => {}
        }
    }
    held
}
