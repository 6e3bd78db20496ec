//! BIRD 2, as the peer and as the third router.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::{InteropError, Router, Setup, output};
use crate::interop::bench::wait;
use crate::interop::route::{CUT_OFF, Held, Kind};
use crate::lab::Namespace;
use crate::lab::bird::{Bird, BirdConfig, BirdRoute, Connect};
use tidegate_model::{Community, LargeCommunity};

pub(super) fn version() -> Result<String, InteropError> {
    let text = output("bird", &["--version"])?;
    Ok(text.trim().replace(" version", ""))
}

/// BIRD as the peer.
#[derive(Debug)]
struct Peer {
    bird: Bird,
    namespace: Namespace,
    socket: PathBuf,
}

pub(super) fn start(setup: &Setup<'_>) -> Result<Box<dyn Router>, InteropError> {
    let Setup { namespace, local, neighbor, third, guard, .. } = setup;
    let config = BirdConfig {
        router_id: Ipv4Addr::new(10, 99, 0, 2),
        local_as: 65001,
        neighbor_as: 65010,
        local: *local,
        neighbor: *neighbor,
        hold_time: 9,
        connect: Connect::Passive,
    };
    let mut lines = "    strict bind yes;\n".to_owned();
    if let Some(key) = guard.md5 {
        lines.push_str(&format!("    password \"{key}\";\n"));
    }
    if guard.gtsm {
        lines.push_str("    ttl security on;\n");
    }
    let text = config.render().replacen("    passive", &format!("{lines}    passive"), 1);
    let (from, to) = third;
    let text = format!(
        "{text}protocol bgp third {{
    local {from} as 65001;
    neighbor {to} as 65003;
    strict bind yes;
    passive on;
    error wait time 1, 2;
    flow4 {{ table flowtab4; import none; export all; }};
    flow6 {{ table flowtab6; import none; export all; }};
}}
"
    );
    let bird = Bird::start(namespace, "bird", &text)?;
    let socket = namespace.directory().join("bird.ctl");
    Ok(Box::new(Peer { bird, namespace: (*namespace).clone(), socket }))
}

impl Peer {
    fn ask(&self, words: &[&str]) -> Result<String, InteropError> {
        let socket = self.socket.to_string_lossy();
        let arguments = ["-s", socket.as_ref()].into_iter().chain(words.iter().copied());
        Ok(self.namespace.run("birdc", arguments)?)
    }
}

impl Router for Peer {
    fn is_established(&mut self) -> Result<bool, InteropError> {
        Ok(self.bird.session_state()? == "Established")
    }

    fn held(&mut self) -> Result<Vec<Held>, InteropError> {
        self.bird.routes()?.iter().map(read).collect()
    }

    fn bounce(&mut self) -> Result<(), InteropError> {
        self.ask(&["restart", "tidegate"]).map(drop)
    }

    fn ask_refresh(&mut self) -> Result<(), InteropError> {
        self.ask(&["reload", "in", "tidegate"]).map(drop)
    }

    fn last_words(&self) -> String {
        self.bird.process().last_words()
    }
}

fn read(route: &BirdRoute) -> Result<Held, InteropError> {
    if route.is_flowspec() {
        return read_rule(route);
    }
    let mut held = Held::new(Kind::Rtbh, &route.net);
    let next_hop = route.attributes.get("bgp_next_hop");
    // A link-local address may stand behind the global one.
    let next_hop = next_hop.and_then(|text| text.split_whitespace().next());
    held.next_hop = next_hop.and_then(|text| text.parse().ok());
    held.communities =
        route.communities.iter().map(|(high, low)| Community::new(*high, *low)).collect();
    held.large_communities = route
        .large_communities
        .iter()
        .map(|(global, local1, local2)| LargeCommunity {
            global: *global,
            local1: *local1,
            local2: *local2,
        })
        .collect();
    Ok(held)
}

/// `flow4 { dst 203.0.113.9/32; proto 17; sport 123; }`
fn read_rule(route: &BirdRoute) -> Result<Held, InteropError> {
    let mut held = Held::new(Kind::FlowSpec, "");
    held.matches.clear();
    let inside = route.net.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
    for part in inside.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let mut part = part.to_owned();
        for (theirs, ours) in [
            ("dst ", "destination "),
            ("proto ", "protocol "),
            ("next header ", "protocol "),
            ("src ", "source "),
            ("port ", "port "),
            ("dport ", "destination-port "),
            ("sport ", "source-port "),
            ("tcp flags ", "tcp-flags "),
            ("length ", "packet-length "),
        ] {
            part = match part.strip_prefix(theirs) {
                Some(rest) => format!("{ours}{rest}"),
                None => part,
            };
        }
        if let Some(shown) = part.strip_suffix("...") {
            // The last value may be half of one.
            part = shown.rsplit_once(',').map_or("", |(whole, _)| whole).to_owned();
            held.matches.insert(CUT_OFF.to_owned());
        }
        held.matches.insert(part);
    }
    // Traffic-rate in bytes: type 0x80, subtype 0x06, AS, IEEE 754 binary32 (RFC 8955 §7.1).
    held.rate = route
        .extended_communities
        .iter()
        .find(|value| **value >> 48 == 0x8006)
        .map(|value| f32::from_bits(u32::try_from(value & 0xffff_ffff).unwrap_or_default()));
    Ok(held)
}

/// A BIRD that only the daemon peers with.
#[derive(Debug)]
pub(in crate::interop) struct ThirdRouter(Bird);

impl ThirdRouter {
    pub(in crate::interop) fn start(
        namespace: &Namespace,
        local: IpAddr,
        neighbor: IpAddr,
    ) -> Result<Self, InteropError> {
        let config = BirdConfig {
            router_id: Ipv4Addr::new(10, 98, 0, 3),
            local_as: 65003,
            neighbor_as: 65001,
            local,
            neighbor,
            hold_time: 9,
            connect: Connect::Active,
        };
        let mut bird = Bird::start(namespace, "third", &config.render())?;
        wait(|| {
            let state = bird.session_state()?;
            let up = state == "Established";
            Ok(if up { Ok(()) } else { Err(format!("the third router's session is in {state}")) })
        })?;
        Ok(Self(bird))
    }

    /// The rules that it holds.
    pub(in crate::interop) fn held(&mut self) -> Result<Vec<Held>, InteropError> {
        let routes = self.0.routes()?;
        routes.iter().filter(|route| route.is_flowspec()).map(read).collect()
    }
}
