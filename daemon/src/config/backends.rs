//! `[[backends]]` and `[reaper]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_adapters::bird::BirdConfig;
use tidegate_adapters::exabgp::{ExabgpAccess, ExabgpConfig};
use tidegate_adapters::external::{ExternalConfig, Mark};
use tidegate_adapters::frr::FrrConfig;
use tidegate_adapters::gobgp::GobgpConfig;
use tidegate_adapters::linux::LinuxConfig;
use tidegate_bgpd::Family;
use tidegate_policy::text::{Table, Value, instead_of};
use tidegate_policy::{Diagnostic, Peer, Policy, Report};

use crate::pipeline;

/// More routing daemons than this are a mistake.
const MAX_BACKENDS: usize = 64;
/// The file that names the reaper in charge.
const LEASE_FILE: &str = "/run/tidegate/reaper.lease";
/// What the daemon holds is withdrawn when we have not been heard of for so long.
const LEASE: Duration = Duration::from_secs(60);
/// A lease that is shorter would end while a backend is merely slow.
const SHORTEST_LEASE: Duration = Duration::from_secs(20);
const LONGEST_LEASE: Duration = Duration::from_secs(3600);

/// Kinds of routing daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bird,
    Exabgp,
    Frr,
    Gobgp,
    Linux,
}

const KINDS: [(&str, Kind); 5] = [
    ("bird", Kind::Bird),
    ("exabgp", Kind::Exabgp),
    ("frr", Kind::Frr),
    ("gobgp", Kind::Gobgp),
    ("linux", Kind::Linux),
];

/// What only some kinds have.
const KEYS: [&str; 16] = [
    "address",
    "control",
    "directory",
    "mark",
    "neighbors",
    "pipes",
    "prefix",
    "protocol",
    "rule-priority",
    "socket",
    "socket-mode",
    "sockets",
    "table",
    "tag",
    "undo-after",
    "vtysh",
];

/// A routing daemon that is told by an interface of its own. What is left out follows from the
/// policy, see [`BackendSettings::external`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSettings {
    way: Way,
    mark: Option<Mark>,
    families: Option<BTreeSet<Family>>,
    neighbors: Option<BTreeSet<IpAddr>>,
}

/// How it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Bird(BirdConfig),
    Exabgp(ExabgpAccess),
    Frr(FrrConfig),
    Gobgp(String),
    Linux(LinuxConfig),
}

/// Who withdraws from backends that outlive us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaperSettings {
    /// How long after it was last heard of the daemon counts as gone.
    pub lease: Duration,
    /// Names the reaper in charge.
    pub file: PathBuf,
}

impl Default for ReaperSettings {
    fn default() -> Self {
        Self { lease: LEASE, file: LEASE_FILE.into() }
    }
}

impl BackendSettings {
    /// What a driver is told: families and neighbours that are not written here are those of the
    /// `peer` that it tells, and the mark is that of our AS.
    #[must_use]
    pub fn external(&self, policy: &Policy, peer: Option<&Peer>) -> ExternalConfig {
        let mark = self.mark.unwrap_or(Mark::of_as(policy.speaker.asn));
        let families = self.families.clone().or_else(|| peer.map(pipeline::families));
        match &self.way {
            Way::Bird(config) => {
                let families = families.unwrap_or_else(|| config.families.clone());
                ExternalConfig::Bird(BirdConfig { families, ..config.clone() })
            }
            Way::Frr(config) => {
                let families = families.unwrap_or_else(|| config.families.clone());
                ExternalConfig::Frr(FrrConfig { families, ..config.clone() })
            }
            Way::Linux(config) => {
                let families = families.unwrap_or_else(|| config.families.clone());
                ExternalConfig::Linux(LinuxConfig { families, ..config.clone() })
            }
            Way::Gobgp(address) => ExternalConfig::Gobgp(GobgpConfig {
                address: address.clone(),
                mark,
                families: families.unwrap_or_else(|| Family::ALL.into()),
            }),
            Way::Exabgp(access) => ExternalConfig::Exabgp(ExabgpConfig {
                access: access.clone(),
                neighbors: self.neighbors.clone().unwrap_or_else(|| {
                    peer.and_then(|peer| peer.location.host()).into_iter().collect()
                }),
                mark,
                families: families.unwrap_or_else(|| Family::ALL.into()),
            }),
        }
    }

    fn read(table: &Table<'_>, directory: &Path) -> Option<(String, Self)> {
        let name = table.required("name", "\"bird\"").and_then(|value| read_name(&value));
        let kind = table.required("kind", "\"bird\"");
        let kind = kind.and_then(|value| value.choice("a kind of routing daemon", &KINDS));
        let families = match table.optional("families", "[\"ipv4-unicast\"]") {
            Some(value) => items(&value, "\"ipv4-unicast\"", Value::parse).map(Some),
            None => Some(None),
        };
        let way = kind.and_then(|kind| Way::read(kind, table, directory));
        let (mut mark, mut neighbors) = (Some(None), Some(None));
        if matches!(kind, Some(Kind::Exabgp | Kind::Gobgp)) {
            mark = match table.optional("mark", "\"65010:1953064037:1\"") {
                Some(value) => value.parse().map(Some),
                None => Some(None),
            };
        }
        if kind == Some(Kind::Exabgp)
            && let Some(value) = table.optional("neighbors", "[\"10.0.0.2\"]")
        {
            neighbors = items(&value, "\"10.0.0.2\"", address).map(Some);
        }
        if kind.is_none() {
            // What belongs to it cannot be told.
            for key in KEYS {
                let _ = table.optional(key, "");
            }
        }
        table.finish();
        let settings = Self { way: way?, mark: mark?, families: families?, neighbors: neighbors? };
        Some((name?, settings))
    }
}

impl Way {
    fn read(kind: Kind, table: &Table<'_>, directory: &Path) -> Option<Self> {
        let path = |key, example, known: PathBuf| match table.optional(key, example) {
            Some(value) => value.string().map(|text| directory.join(text)),
            None => Some(known),
        };
        match kind {
            Kind::Bird => {
                let known = BirdConfig::default();
                let control = path("control", "\"/run/bird/bird.ctl\"", known.control.clone());
                let folder =
                    path("directory", "\"/var/lib/tidegate/bird\"", known.directory.clone());
                let prefix = match table.optional("prefix", "\"tidegate\"") {
                    Some(value) => symbol(&value),
                    None => Some(known.prefix.clone()),
                };
                let undo_after = table
                    .optional("undo-after", "\"30s\"")
                    .map_or(Some(known.undo_after), |value| {
                        value.duration(Duration::from_secs(5)..=Duration::from_secs(600))
                    });
                Some(Self::Bird(BirdConfig {
                    control: control?,
                    directory: folder?,
                    prefix: prefix?,
                    undo_after: undo_after?,
                    ..known
                }))
            }
            Kind::Exabgp => read_access(table, directory).map(Self::Exabgp),
            Kind::Frr => {
                let known = FrrConfig::default();
                let vtysh = match table.optional("vtysh", "\"/usr/bin/vtysh\"") {
                    Some(value) => value.string().map(PathBuf::from),
                    None => Some(known.vtysh.clone()),
                };
                let sockets = path("sockets", "\"/run/frr\"", known.sockets.clone());
                let tag = table
                    .optional("tag", "29797")
                    .map_or(Some(known.tag), |value| value.integer(1..=u32::MAX));
                Some(Self::Frr(FrrConfig { vtysh: vtysh?, sockets: sockets?, tag: tag?, ..known }))
            }
            Kind::Linux => read_host(table).map(Self::Linux),
            Kind::Gobgp => {
                let address = table.optional("address", "\"unix:///run/gobgp.sock\"");
                let address = address.map_or_else(
                    || Some(GobgpConfig::default_address()),
                    |value| gobgp_address(&value),
                );
                address.map(Self::Gobgp)
            }
        }
    }
}

/// Where routes of this host go.
fn read_host(table: &Table<'_>) -> Option<LinuxConfig> {
    let known = LinuxConfig::default();
    // 253 to 255 are the system's own.
    let number = table
        .optional("table", "29797")
        .map_or(Some(known.table), |value| value.integer(256..=u32::MAX));
    // Up to 4 are the kernel's and ip(8)'s.
    let protocol = table
        .optional("protocol", "116")
        .map_or(Some(known.protocol), |value| value.integer(5..=u8::MAX));
    let rule_priority = table
        .optional("rule-priority", "1000")
        .map_or(Some(known.rule_priority), |value| value.integer(1..=32_765));
    Some(LinuxConfig {
        table: number?,
        protocol: protocol?,
        rule_priority: rule_priority?,
        ..known
    })
}

/// Exactly one of `socket` and `pipes`.
fn read_access(table: &Table<'_>, directory: &Path) -> Option<ExabgpAccess> {
    const HELP: &str = "write `socket = \"/run/tidegate/exabgp.sock\"` for a sidecar that ExaBGP \
                        runs, or `pipes = \"/run/exabgp/exabgp\"` for its named pipes";
    let socket = table.optional("socket", "\"/run/tidegate/exabgp.sock\"");
    let mode = table.optional("socket-mode", "\"0660\"").map_or(
        Some(ExabgpAccess::default_mode()),
        |value| {
            let text = value.string()?;
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
            if mode.is_none() {
                value.error(format!("`{text}` is no mode of a file"), value.example());
            }
            mode
        },
    );
    let pipes = table.optional("pipes", "\"/run/exabgp/exabgp\"");
    match (socket, pipes) {
        (Some(socket), None) => {
            Some(ExabgpAccess::Sidecar { socket: directory.join(socket.string()?), mode: mode? })
        }
        (None, Some(pipes)) => {
            let stem = directory.join(pipes.string()?);
            let with = |end: &str| PathBuf::from(format!("{}.{end}", stem.display()));
            Some(ExabgpAccess::Pipes { input: with("in"), output: with("out") })
        }
        (Some(_), Some(pipes)) => {
            pipes.error_at_key("`socket` and `pipes` are two ways to the same ExaBGP", HELP);
            None
        }
        (None, None) => {
            table.error("the way to this ExaBGP is missing", HELP);
            None
        }
    }
}

/// The items of a list, each read by `read`.
fn items<'a, T: Ord>(
    value: &Value<'a>,
    example: &'static str,
    read: impl Fn(&Value<'a>) -> Option<T>,
) -> Option<BTreeSet<T>> {
    let items = value.list(example)?;
    if items.is_empty() {
        value.error(format!("`{}` is empty", value.name()), value.example());
        return None;
    }
    let read: Vec<Option<T>> = items.iter().map(read).collect();
    read.into_iter().collect()
}

fn address(value: &Value<'_>) -> Option<IpAddr> {
    let text = value.string()?;
    let address = text.parse().ok();
    if address.is_none() {
        value.error(format!("`{text}` is not an address"), "write one like `10.0.0.2`");
    }
    address
}

fn read_name(value: &Value<'_>) -> Option<String> {
    let name = value.string()?;
    if name.is_empty() || name.chars().any(|one| one.is_control() || one.is_whitespace()) {
        value.error(format!("`{name}` is no name"), "write a word, as `via` in the policy has it");
        return None;
    }
    Some(name.to_owned())
}

/// What can be part of the name of a protocol in BIRD.
fn symbol(value: &Value<'_>) -> Option<String> {
    let text = value.string()?;
    let first = text.chars().next().is_some_and(|one| one.is_ascii_alphabetic() || one == '_');
    if first && text.chars().all(|one| one.is_ascii_alphanumeric() || one == '_') {
        return Some(text.to_owned());
    }
    value.error(
        format!("`{text}` cannot begin the name of a protocol of BIRD"),
        "write letters, digits and underscores, a letter first",
    );
    None
}

fn gobgp_address(value: &Value<'_>) -> Option<String> {
    let text = value.string()?;
    if text.strip_prefix("unix://").is_some_and(|path| path.starts_with('/'))
        || text.strip_prefix("http://").is_some_and(|host| host.contains(':'))
    {
        return Some(text.to_owned());
    }
    value.error(
        format!("`{text}` is no address of GoBGP's API"),
        "write `unix:///run/gobgp.sock`, or `http://127.0.0.1:50051`",
    );
    None
}

/// The `[[backends]]`, by their names.
pub(super) fn read(
    value: &Value<'_>,
    directory: &Path,
) -> Option<BTreeMap<String, BackendSettings>> {
    let mut backends = BTreeMap::new();
    let mut clean = true;
    for table in value.tables()? {
        if backends.len() == MAX_BACKENDS {
            table.error(format!("more than {MAX_BACKENDS} backends"), "drive fewer daemons");
            return None;
        }
        match BackendSettings::read(&table, directory) {
            Some((name, _)) if backends.contains_key(&name) => {
                table.error(format!("two backends have the name `{name}`"), "give each its own");
                clean = false;
            }
            Some((name, settings)) => drop(backends.insert(name, settings)),
            None => clean = false,
        }
    }
    clean.then_some(backends)
}

/// The `[reaper]`.
pub(super) fn read_reaper(table: &Table<'_>, directory: &Path) -> Option<ReaperSettings> {
    let known = ReaperSettings::default();
    let lease = table
        .optional("lease", "\"60s\"")
        .map_or(Some(known.lease), |value| value.duration(SHORTEST_LEASE..=LONGEST_LEASE));
    let file = match table.optional("file", "\"/run/tidegate/reaper.lease\"") {
        Some(value) => value.string().map(|text| directory.join(text)),
        None => Some(known.file),
    };
    table.finish();
    Some(ReaperSettings { lease: lease?, file: file? })
}

/// What configuration and policy say of routing daemons that does not go together. `path` is the
/// configuration's.
pub(super) fn check(
    backends: &BTreeMap<String, BackendSettings>,
    policy: &Policy,
    path: &Path,
) -> Report {
    let mut report = Report::default();
    for peer in &policy.peers {
        let Some(via) = &peer.via else { continue };
        let Some(settings) = backends.get(&via.name) else {
            let mut help = format!("add `[[backends]]` with `name = \"{}\"` there", via.name);
            if !backends.is_empty() {
                help += "; or ";
                help += &instead_of(&via.name, backends.keys().map(String::as_str));
            }
            report.push(
                via.mistake(format!("{} has no backend `{}`", path.display(), via.name), help),
            );
            continue;
        };
        let wanted = pipeline::families(peer);
        let flowspec =
            |family: &Family| matches!(family, Family::Ipv4FlowSpec | Family::Ipv6FlowSpec);
        let without_rules = match settings.way {
            Way::Frr(_) => Some((
                "FRR cannot originate FlowSpec",
                ", or have a session with FRR: `tidegate adapters snippet frr`",
            )),
            Way::Linux(_) => Some((
                "routes of this host are no FlowSpec rules",
                "; rules on this host are responses with `action = \"local\"`",
            )),
            _ => None,
        };
        if let Some((why, otherwise)) = without_rules.filter(|_| wanted.iter().any(flowspec)) {
            report.push(via.mistake(
                format!("{why}, which peer `{}` is to get", peer.name),
                format!(
                    "give the peer `families = [\"ipv4-unicast\", \"ipv6-unicast\"]`{otherwise}"
                ),
            ));
        } else if let Some(known) = &settings.families
            && let Some(missing) = wanted.difference(known).next()
        {
            report.push(via.mistake(
                format!(
                    "peer `{}` is to get {missing}, which backend `{}` leaves out",
                    peer.name, via.name
                ),
                format!("add it to the `families` of the backend in {}", path.display()),
            ));
        }
    }
    for (name, settings) in backends {
        let is_one = |peer: &Peer| is_via(peer, name) && peer.location.host().is_some();
        let told = || policy.peers.iter().any(is_one);
        if matches!(settings.way, Way::Exabgp(_)) && settings.neighbors.is_none() && !told() {
            report.push(Diagnostic::about(
                path.display().to_string(),
                format!("it is not known which neighbors backend `{name}` is to tell"),
                format!(
                    "give a peer of the policy, of one address, `via = \"{name}\"`, or the backend \
                     `neighbors = [\"10.0.0.2\"]`"
                ),
            ));
        }
    }
    report
}

/// Whether the routing daemon of this name tells `peer`.
pub(super) fn is_via(peer: &Peer, backend: &str) -> bool {
    peer.via.as_ref().is_some_and(|via| via.name == backend)
}

/// What the kernel of this host is asked to do beside rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSettings {
    /// Who has completed a TCP handshake within this time is not held up by a limit of SYNs;
    /// `None` if that is not to be known.
    pub handshakes: Option<Duration>,
    /// The peers whose FlowSpec rules are carried out on this host.
    pub flowspec_from: BTreeSet<String>,
}

impl Default for KernelSettings {
    fn default() -> Self {
        Self { handshakes: Some(Duration::from_secs(3600)), flowspec_from: BTreeSet::new() }
    }
}

/// The `[kernel]`.
pub(super) fn read_kernel(table: &Table<'_>) -> Option<KernelSettings> {
    let minute = Duration::from_secs(60);
    let known = KernelSettings::default();
    let handshakes = match table.optional("handshakes", "\"1h\"") {
        Some(value) if value.string()? == "off" => Some(None),
        Some(value) => value.duration(minute..=minute * 60 * 24).map(Some),
        None => Some(known.handshakes),
    };
    let flowspec_from = match table.optional("flowspec-from", "[\"upstream\"]") {
        Some(value) => items(&value, "\"upstream\"", read_name),
        None => Some(known.flowspec_from),
    };
    table.finish();
    Some(KernelSettings { handshakes: handshakes?, flowspec_from: flowspec_from? })
}
