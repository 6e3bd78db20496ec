//! BIRD 2 as a router that receives routes, read through its control socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{LabError, Namespace, Process, require, until};

/// Longest wait for one answer on the control socket.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for BIRD to come up.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The RTBH next hops that the router discards, in each family (RFC 5737, RFC 6666).
pub const DISCARD_NEXT_HOPS: (&str, &str) = ("192.0.2.1", "100::1");

/// A router with one neighbor for all four families.
#[derive(Clone, Copy, Debug)]
pub struct BirdConfig {
    /// Router identifier.
    pub router_id: Ipv4Addr,
    /// The router's AS.
    pub local_as: u32,
    /// The neighbor's AS.
    pub neighbor_as: u32,
    /// The router's address on the session.
    pub local: IpAddr,
    /// The neighbor's address on the session.
    pub neighbor: IpAddr,
    /// Hold time in seconds.
    pub hold_time: u16,
    /// Who connects.
    pub connect: Connect,
}

/// Who opens the BGP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// BIRD waits for the neighbor.
    Passive,
    /// BIRD connects, and also accepts.
    Active,
}

/// Name of the BGP protocol in the configuration.
const SESSION: &str = "tidegate";

impl BirdConfig {
    /// The configuration file: it takes whatever the neighbor announces in its four tables,
    /// resolves blackholes through the discard routes as RFC 5635 §4.1 describes, and touches
    /// nothing of the kernel's.
    #[must_use]
    pub fn render(&self) -> String {
        let Self { router_id, local_as, neighbor_as, local, neighbor, hold_time, connect } = self;
        let (discard4, discard6) = DISCARD_NEXT_HOPS;
        let passive = match connect {
            Connect::Passive => "on",
            Connect::Active => "off",
        };
        let keepalive = (hold_time / 3).max(1);
        format!(
            "log stderr all;
router id {router_id};
ipv4 table master4;
ipv6 table master6;
flow4 table flowtab4;
flow6 table flowtab6;
protocol device {{ }}
protocol static discard4 {{ ipv4; route {discard4}/32 blackhole; }}
protocol static discard6 {{ ipv6; route {discard6}/128 blackhole; }}
protocol bgp {SESSION} {{
    local {local} as {local_as};
    neighbor {neighbor} as {neighbor_as};
    passive {passive};
    hold time {hold_time};
    keepalive time {keepalive};
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    error forget time 1;
    ipv4 {{ import all; export none; gateway recursive; }};
    ipv6 {{ import all; export none; gateway recursive; }};
    flow4 {{ table flowtab4; import all; export none; }};
    flow6 {{ table flowtab6; import all; export none; }};
}}
"
        )
    }
}

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    process: Process,
    control: Control,
    version: String,
}

impl Bird {
    /// Starts BIRD in `namespace` with this configuration, usually [`BirdConfig::render`]'s, and
    /// waits for its control socket.
    ///
    /// # Errors
    /// [`LabError::NoProgram`], [`LabError::Ended`] if it refuses its configuration,
    /// [`LabError::Deadline`].
    pub fn start(namespace: &Namespace, name: &str, config: &str) -> Result<Self, LabError> {
        let file = namespace.directory().join(format!("{name}.conf"));
        let socket = namespace.directory().join(format!("{name}.ctl"));
        fs::write(&file, config).map_err(LabError::file(&file))?;
        let mut command = namespace.command(require::program("bird")?);
        command.arg("-f").arg("-c").arg(&file).arg("-s").arg(&socket);
        command.arg("-P").arg(namespace.directory().join(format!("{name}.pid")));
        let mut process = namespace.spawn(name, command)?;
        let (control, version) = until("BIRD's control socket", START_LIMIT, || {
            process.expect_running()?;
            // Before it listens there is no socket, or one that refuses.
            Ok(Control::connect(&socket).ok())
        })?;
        Ok(Self { process, control, version })
    }

    /// Everything that the neighbor announced, as BIRD holds it now, over all four tables.
    ///
    /// # Errors
    /// [`LabError::Control`].
    pub fn routes(&mut self) -> Result<Vec<BirdRoute>, LabError> {
        let command = format!("show route table all protocol {SESSION} all");
        Ok(parse_routes(&self.control.ask(&command)?))
    }

    /// State of the session as BIRD names it: `Established`, `Active`, `Idle` ...
    ///
    /// # Errors
    /// [`LabError::Control`].
    pub fn session_state(&mut self) -> Result<String, LabError> {
        let lines = self.control.ask(&format!("show protocols {SESSION}"))?;
        // name, protocol, table, state, since, info: the last is the state of a BGP session.
        let line = lines.iter().find(|line| line.starts_with(SESSION));
        let info = line.and_then(|line| line.split_whitespace().nth(5));
        Ok(info.unwrap_or("unknown").to_owned())
    }

    /// Ends the session, or lets it come up again, as an operator does.
    ///
    /// # Errors
    /// [`LabError::Control`].
    pub fn enable_session(&mut self, enabled: bool) -> Result<(), LabError> {
        let verb = if enabled { "enable" } else { "disable" };
        self.control.ask(&format!("{verb} {SESSION}")).map(drop)
    }

    /// Waits for the session to be established.
    ///
    /// # Errors
    /// [`LabError::Deadline`], [`LabError::Control`].
    pub fn wait_established(&mut self, limit: Duration) -> Result<(), LabError> {
        until("the BGP session to be established", limit, || {
            self.process.expect_running()?;
            Ok((self.session_state()? == "Established").then_some(()))
        })
    }

    /// Waits until `predicate` holds for the routes; returns those for which it did.
    ///
    /// # Errors
    /// [`LabError::Deadline`], [`LabError::Control`].
    pub fn wait_routes(
        &mut self,
        what: &str,
        limit: Duration,
        mut predicate: impl FnMut(&[BirdRoute]) -> bool,
    ) -> Result<Vec<BirdRoute>, LabError> {
        until(what, limit, || {
            let routes = self.routes()?;
            Ok(predicate(&routes).then_some(routes))
        })
    }

    /// `BIRD 2.0.12`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The process, for its logs.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// One route as `show route all` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BirdRoute {
    /// The table: `master4`, `flowtab6` ...
    pub table: String,
    /// A prefix, or a rule `flow4 { dst 192.0.2.4/32; proto 17; }`.
    pub net: String,
    /// Whether the router really discards the traffic: `blackhole`, `unreachable`, `unicast`.
    /// Empty for FlowSpec.
    pub kind: String,
    /// Communities (RFC 1997).
    pub communities: Vec<(u16, u16)>,
    /// Large communities (RFC 8092).
    pub large_communities: Vec<(u32, u32, u32)>,
    /// Extended communities as 64-bit values, the type in the highest bits.
    pub extended_communities: Vec<u64>,
    /// Every attribute as printed; names in lower case with underscores: `bgp_next_hop`.
    pub attributes: BTreeMap<String, String>,
}

impl BirdRoute {
    /// Whether it is a FlowSpec rule.
    #[must_use]
    pub fn is_flowspec(&self) -> bool {
        self.net.starts_with("flow")
    }

    /// Whether its destination is this prefix.
    #[must_use]
    pub fn is_toward(&self, prefix: &str) -> bool {
        self.net == prefix || self.net.contains(&format!("dst {prefix};"))
    }

    /// Whether it is a blackhole: tagged so (RFC 7999) and really discarded.
    #[must_use]
    pub fn is_blackhole(&self) -> bool {
        !self.is_flowspec() && self.kind == "blackhole" && self.communities.contains(&(65535, 666))
    }
}

/// Routes from the lines of `show route table all ... all`.
fn parse_routes(lines: &[String]) -> Vec<BirdRoute> {
    let mut routes: Vec<BirdRoute> = Vec::new();
    let mut table = "";
    for line in lines {
        if let Some(name) = line.strip_prefix("Table ") {
            table = name.trim_end_matches(':');
        } else if line.starts_with(['\t', ' ']) {
            if let (Some(route), Some((name, value))) = (routes.last_mut(), line.split_once(':')) {
                let name = name.trim().to_ascii_lowercase().replace('.', "_");
                set_attribute(route, name, value.trim());
            }
        } else if let Some((net, rest)) = split_net(line) {
            let kind = rest.split_whitespace().next().filter(|word| !word.starts_with('['));
            routes.push(BirdRoute {
                table: table.to_owned(),
                net: net.to_owned(),
                kind: kind.unwrap_or_default().to_owned(),
                ..BirdRoute::default()
            });
        }
    }
    routes
}

/// The net and what follows it. A FlowSpec rule has blanks inside its braces.
fn split_net(line: &str) -> Option<(&str, &str)> {
    let end = if line.starts_with("flow") { line.find('}')? + 1 } else { line.find(' ')? };
    Some(line.split_at(end))
}

fn set_attribute(route: &mut BirdRoute, name: String, value: &str) {
    match name.as_str() {
        "bgp_community" => {
            route.communities = groups(value)
                .filter_map(|parts| match parts.as_slice() {
                    [high, low] => Some((number(high)?, number(low)?)),
                    _ => None,
                })
                .collect();
        }
        "bgp_large_community" => {
            route.large_communities = groups(value)
                .filter_map(|parts| match parts.as_slice() {
                    [one, two, three] => Some((number(one)?, number(two)?, number(three)?)),
                    _ => None,
                })
                .collect();
        }
        "bgp_ext_community" => {
            route.extended_communities = groups(value)
                .filter_map(|parts| match parts.as_slice() {
                    ["generic", high, low] => {
                        Some(number::<u64>(high)? << 32 | number::<u64>(low)?)
                    }
                    _ => None,
                })
                .collect();
        }
        _ => {}
    }
    route.attributes.insert(name, value.to_owned());
}

/// The parts of each `(a, b, c)` of a list.
fn groups(value: &str) -> impl Iterator<Item = Vec<&str>> {
    value
        .split('(')
        .skip(1)
        .filter_map(|group| Some(group.split_once(')')?.0.split(',').map(str::trim).collect()))
}

/// A decimal number, or a hexadecimal one after `0x`.
fn number<N: TryFrom<u64>>(text: &str) -> Option<N> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    N::try_from(value.ok()?).ok()
}

/// A connection to the control socket: lines out, numbered lines back.
#[derive(Debug)]
pub(crate) struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    /// The connection, and the version that the greeting names.
    pub(crate) fn connect(path: &Path) -> Result<(Self, String), LabError> {
        let stream = UnixStream::connect(path).map_err(LabError::file(path))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(LabError::file(path))?;
        let mut control = Self { stream: BufReader::new(stream) };
        let greeting = control.answer("greeting")?.join(" ");
        Ok((control, greeting.trim_end_matches(" ready.").to_owned()))
    }

    /// Sends one command; the lines of the answer without their codes.
    pub(crate) fn ask(&mut self, command: &str) -> Result<Vec<String>, LabError> {
        let sent = self.stream.get_mut().write_all(format!("{command}\n").as_bytes());
        sent.map_err(|error| control_error(command, error.to_string()))?;
        self.answer(command)
    }

    fn answer(&mut self, command: &str) -> Result<Vec<String>, LabError> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return Err(control_error(command, "BIRD closed it".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(control_error(command, error.to_string())),
            }
            let line = line.trim_end_matches('\n');
            match Line::parse(line) {
                Line::Continued(text) => lines.push(text.to_owned()),
                Line::Last(_, "") => return Ok(lines),
                Line::Last(code, text) if code.starts_with(['8', '9']) => {
                    return Err(control_error(command, format!("{code} {text}")));
                }
                Line::Last(_, text) => {
                    lines.push(text.to_owned());
                    return Ok(lines);
                }
                Line::Log => {}
            }
        }
    }
}

fn control_error(command: &str, what: String) -> LabError {
    LabError::Control { command: command.to_owned(), what }
}

/// One line of an answer: `CODE-text` and lines after a blank are followed by more, `CODE text` is
/// the last, `+` starts a log message.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Continued(&'a str),
    Last(&'a str, &'a str),
    Log,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        if line.starts_with('+') {
            return Line::Log;
        }
        if let Some(text) = line.strip_prefix(' ') {
            return Line::Continued(text);
        }
        match (line.get(..4), line.get(4..5), line.get(5..)) {
            (Some(_), Some("-"), Some(text)) => Line::Continued(text),
            (Some(code), Some(_), Some(text)) => Line::Last(code, text),
            _ => Line::Last(line, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn reads_blackholes_and_rules() {
        let routes = parse_routes(&lines(
            "Table master4:
203.0.113.1/32       blackhole [tidegate 2026-11-22 12:43:56.359759 from 10.99.0.1] * (100) [AS65010i]
\tType: BGP univ
\tBGP.origin: IGP
\tBGP.next_hop: 192.0.2.1
\tBGP.community: (65535,666) (65535,65281)
\tBGP.large_community: (65001, 666, 1)

Table flowtab6:
flow6 { dst 2001:db8:1::5/128; next header 17; sport 123; }  [tidegate 2026-11-22 12:43:47.554188] * (100) [AS65010i]
\tBGP.ext_community: (generic, 0x80060000, 0x0) (generic, 0x8000000, 0x1)",
        ));
        let [blackhole, rule] = routes.as_slice() else { panic!("{routes:?}") };
        assert!(blackhole.is_blackhole() && blackhole.is_toward("203.0.113.1/32"));
        assert_eq!(blackhole.table, "master4");
        assert_eq!(blackhole.communities, [(65535, 666), (65535, 65281)]);
        assert_eq!(blackhole.large_communities, [(65001, 666, 1)]);
        assert_eq!(blackhole.attributes["bgp_next_hop"], "192.0.2.1");
        assert!(rule.is_flowspec() && rule.is_toward("2001:db8:1::5/128"));
        assert_eq!(rule.extended_communities, [0x8006_0000_0000_0000, 0x0800_0000_0000_0001]);
        assert_eq!((rule.kind.as_str(), rule.table.as_str()), ("", "flowtab6"));
    }

    #[test]
    fn reads_answers() {
        assert_eq!(Line::parse("1007-203.0.113.1/32"), Line::Continued("203.0.113.1/32"));
        assert_eq!(Line::parse(" \tvia x"), Line::Continued("\tvia x"));
        assert_eq!(Line::parse("0000 "), Line::Last("0000", ""));
        assert_eq!(Line::parse("9001 syntax error"), Line::Last("9001", "syntax error"));
        assert_eq!(Line::parse("+log"), Line::Log);
        assert_eq!(Line::parse(""), Line::Last("", ""));
        assert_eq!(Line::parse("é"), Line::Last("é", ""));
    }
}
