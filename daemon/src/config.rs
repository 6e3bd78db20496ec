//! `tidegate.toml`: what belongs to this machine. What belongs to the network is the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_adapters::external::ExternalConfig;
use tidegate_bgpd::speaker::Md5Key;
use tidegate_detector::capture::live::LiveOptions;
use tidegate_detector::packet::Tunnels;
use tidegate_policy::text::{Collector, Document, Source, Table, Value, instead_of};
use tidegate_policy::{ConnectMode, Diagnostic, Family, Peer, Policy, Report};

use self::backends::is_via;
pub use self::backends::{BackendSettings, KernelSettings, ReaperSettings};
use self::repository::Repository;
pub use self::sessions::SessionSettings;
use crate::alerts;
use crate::api::access::ApiSettings;
use crate::forensics::Settings;
use crate::policy_repo::{LoadError, PolicyRepo};
use crate::sources::Databases;

mod api;
mod backends;
mod capture;
mod forensics;
mod repository;
mod sessions;

/// Largest configuration file that is read, in bytes.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The policy directory, and which states of it are accepted. A relative path is taken from
    /// the directory of the file.
    pub policy: PolicyRepo,
    /// When the policy is read again.
    pub reload: Reload,
    /// Whom the daemon becomes when root starts it.
    pub user: Option<String>,
    /// What to capture.
    pub capture: LiveOptions,
    /// Tunnels whose packets are counted at the addresses inside.
    pub tunnels: Tunnels,
    /// Where the packets of incidents are written, if anywhere.
    pub forensics: Option<Settings>,
    /// What says where sources are.
    pub databases: Databases,
    /// Where what was learned is kept, if anywhere.
    pub state: Option<PathBuf>,
    /// Where incidents are kept, whom they are told, and what the messages link to.
    pub records: alerts::Settings,
    /// Who may ask and order what, and where.
    pub api: ApiSettings,
    /// Where Prometheus may fetch metrics, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// How logs are written.
    pub log: LogFormat,
    /// Addresses on which the speaker waits for peers.
    pub listen: BTreeSet<SocketAddr>,
    /// What is special about the sessions with some peers, by the peer's name in the policy.
    pub sessions: BTreeMap<String, SessionSettings>,
    /// The routing daemons that are told by an interface of their own, by the name that the policy
    /// has for them.
    pub backends: BTreeMap<String, BackendSettings>,
    /// Who withdraws from them when we are gone.
    pub reaper: ReaperSettings,
    /// What the kernel of this host does beside rules.
    pub kernel: KernelSettings,
}

impl Config {
    /// What drives each routing daemon under `policy`, and the peer that it tells.
    pub fn external<'a>(
        &'a self,
        policy: &'a Policy,
    ) -> impl Iterator<Item = (&'a str, ExternalConfig, Option<&'a Peer>)> {
        self.backends.iter().map(|(name, settings)| {
            let peer = policy.peers.iter().find(|peer| is_via(peer, name));
            (name.as_str(), settings.external(policy, peer), peer)
        })
    }
}

/// How logs are written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// Lines without a time, with their priority in front as `sd-daemon(3)` has it: journald reads
    /// it from the standard error of a service.
    Journald,
}

/// When the policy is read again while the daemon runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// When told so, by SIGHUP.
    #[default]
    OnSignal,
    /// Also by itself: when another commit is checked out, or a directory outside Git has changed.
    Watch,
}

/// Reads and checks the configuration file and the policy that it names.
///
/// # Errors
/// Every mistake in both, with its place and remedy. The policy is read as long as the
/// configuration names it, whatever else is wrong there.
pub fn load(path: &Path) -> Result<(Config, Policy), Report> {
    let source = Arc::new(read(path)?);
    let collector = Collector::new();
    let mut policy = None;
    let config = Document::parse(&source, &collector).and_then(|document| {
        let root = document.root(&collector);
        let directory = path.parent().unwrap_or_else(|| Path::new(""));
        policy = resolve_policy(&root, directory);
        resolve(&root, policy.clone(), directory)
    });
    let config = collector.finish(config);
    let policy = match (&config, policy) {
        (Ok(config), _) => Some(config.policy.load(None).map_err(LoadError::into_report)),
        (Err(_), policy) => policy.map(|directory| tidegate_policy::load(&directory)),
    };
    match (config, policy) {
        (Ok(config), Some(Ok(policy))) => {
            check_against(&config, &policy, path)?;
            Ok((config, policy))
        }
        (config, policy) => {
            let mut report = config.err().unwrap_or_default();
            report.extend(policy.and_then(Result::err).unwrap_or_default());
            Err(report)
        }
    }
}

/// Checks what only configuration and policy together can get wrong. `path` is the configuration's.
///
/// # Errors
/// The first mistake; or every one that is about routing daemons.
pub fn check_against(config: &Config, policy: &Policy, path: &Path) -> Result<(), Report> {
    let report = backends::check(&config.backends, policy, path);
    if !report.is_empty() {
        return Err(report);
    }
    let rules = |peer: &&Peer| {
        peer.via.is_none()
            && [Family::Ipv4FlowSpec, Family::Ipv6FlowSpec].into_iter().any(|it| peer.has(it))
    };
    let giving: Vec<&str> =
        policy.peers.iter().filter(rules).map(|peer| peer.name.as_str()).collect();
    let silent = config.kernel.flowspec_from.iter().find(|name| !giving.contains(&name.as_str()));
    if let Some(name) = silent {
        return Err(Report::of(Diagnostic::about(
            path.display().to_string(),
            format!(
                "`kernel.flowspec-from` names `{name}`, with whom there is no FlowSpec session"
            ),
            instead_of(name, giving),
        )));
    }
    let strange = config.sessions.keys().find(|name| policy.peer(name).is_none());
    if let Some(name) = strange {
        return Err(Report::of(Diagnostic::about(
            path.display().to_string(),
            format!("`sessions.{name}` guards a peer that the policy does not have"),
            instead_of(name, policy.peers.iter().map(|peer| peer.name.as_str())),
        )));
    }
    if let Some(peer) = policy.peers.iter().find(|peer| is_key_refused(config, peer)) {
        return Err(Report::of(Diagnostic::about(
            path.display().to_string(),
            format!("the MD5 key of peer `{}` has a blank, which FRR does not take", peer.name),
            "agree on a key without blanks",
        )));
    }
    let waiting = policy.peers.iter().find(|peer| peer.mode == ConnectMode::Passive);
    match waiting {
        Some(peer) if config.listen.is_empty() => Err(Report::of(Diagnostic::about(
            path.display().to_string(),
            format!("peer `{}` is passive, but the speaker listens nowhere", peer.name),
            "add `[speaker]` with `listen = [\"0.0.0.0:179\"]`, or make the peer active",
        ))),
        _ => Ok(()),
    }
}

/// FRR's `neighbor ADDRESS password` takes no key with a blank in it.
fn is_key_refused(config: &Config, peer: &Peer) -> bool {
    let key = config.sessions.get(&peer.name).and_then(|session| session.transport.md5.as_ref());
    ["frr", "frr-relay"].contains(&peer.profile.as_str()) && key.is_some_and(Md5Key::has_blank)
}

fn read(path: &Path) -> Result<Source, Report> {
    let name = path.display().to_string();
    let problem = |message: String, help: &str| Report::of(Diagnostic::about(&name, message, help));
    let help = "name a configuration file with --config FILE";
    let metadata =
        std::fs::metadata(path).map_err(|error| problem(format!("cannot read: {error}"), help))?;
    if metadata.is_dir() {
        return Err(problem("is a directory, not a configuration file".to_owned(), help));
    }
    if metadata.len() > MAX_FILE_SIZE {
        let message = format!("is {} bytes long; at most {MAX_FILE_SIZE} are read", metadata.len());
        return Err(problem(message, help));
    }
    let bytes =
        std::fs::read(path).map_err(|error| problem(format!("cannot read: {error}"), help))?;
    Source::from_bytes(&name, &bytes)
        .map_err(|error| problem(error.to_string(), "save the file as UTF-8 text"))
}

/// The policy directory; a relative path is taken from `directory`, that of the file.
fn resolve_policy(root: &Table<'_>, directory: &Path) -> Option<PathBuf> {
    let policy = root.required("policy", "\"policy\"")?.string()?;
    Some(directory.join(policy))
}

fn resolve(root: &Table<'_>, policy: Option<PathBuf>, directory: &Path) -> Option<Config> {
    let user = match root.optional("user", "\"tidegate\"") {
        Some(value) => value.string().map(|name| Some(name.to_owned())),
        None => Some(None),
    };
    let capture = root
        .optional("capture", "{ interface = \"eth0\" }")
        .map_or_else(|| Some(Default::default()), |value| capture::resolve(&value.table()?));
    let forensics = root
        .optional("forensics", "{ directory = \"/var/lib/tidegate/forensics\" }")
        .map_or(Some(None), |value| forensics::resolve(&value.table()?, directory).map(Some));
    let databases = resolve_databases(root, directory);
    let state = resolve_state(root, directory);
    let records = alerts::config::resolve(root, directory);
    let listen = root
        .optional("speaker", "{ listen = [\"0.0.0.0:179\"] }")
        .map_or_else(|| Some(BTreeSet::new()), |value| resolve_listen(&value.table()?));
    let sessions = root
        .optional("sessions", "{ border1 = { hops = \"gtsm\" } }")
        .map_or_else(|| Some(BTreeMap::new()), |value| sessions::read(&value.table()?, directory));
    let backends = root
        .optional("backends", "[{ name = \"bird\", kind = \"bird\" }]")
        .map_or_else(|| Some(BTreeMap::new()), |value| backends::read(&value, directory));
    let reaper = root.optional("reaper", "{ lease = \"60s\" }").map_or_else(
        || Some(ReaperSettings::default()),
        |value| backends::read_reaper(&value.table()?, directory),
    );
    let kernel = root.optional("kernel", "{ handshakes = \"1h\" }").map_or_else(
        || Some(KernelSettings::default()),
        |value| backends::read_kernel(&value.table()?),
    );
    let api = root
        .optional("api", "{ operators = [\"group:noc\"] }")
        .map_or_else(|| Some(Default::default()), |value| api::resolve(&value.table()?, directory));
    let metrics = root
        .optional("metrics", "{ listen = \"127.0.0.1:9465\" }")
        .map_or(Some(None), |value| api::resolve_metrics(&value.table()?).map(Some));
    let log = root
        .optional("log", "{ format = \"json\" }")
        .map_or(Some(LogFormat::Text), |value| api::resolve_log(&value.table()?));
    let repository = root.optional("policy-repository", "{ watch = true }").map_or_else(
        || Some(Repository::default()),
        |value| Repository::read(&value.table()?, directory),
    );
    root.finish();
    let Repository { signers, history, reload } = repository?;
    let policy = PolicyRepo { directory: policy?, signers, history };
    let (capture, tunnels) = capture?;
    Some(Config {
        policy,
        reload,
        user: user?,
        capture,
        tunnels,
        forensics: forensics?,
        databases: databases?,
        state: state?,
        records: records?,
        api: api?,
        metrics: metrics?,
        log: log?,
        listen: listen?,
        sessions: sessions?,
        backends: backends?,
        reaper: reaper?,
        kernel: kernel?,
    })
}

/// Relative paths are taken from `directory`, that of the configuration file.
fn resolve_databases(root: &Table<'_>, directory: &Path) -> Option<Databases> {
    let value = root.optional("geoip", "{ countries = \"GeoLite2-Country.mmdb\" }");
    let Some(value) = value else { return Some(Databases::default()) };
    let table = value.table()?;
    let read = |key, example| {
        let Some(value) = table.optional(key, example) else { return Some(None) };
        Some(Some(directory.join(value.string()?)))
    };
    let countries = read("countries", "\"GeoLite2-Country.mmdb\"");
    let networks = read("networks", "\"GeoLite2-ASN.mmdb\"");
    table.finish();
    Some(Databases { countries: countries?, networks: networks? })
}

/// A relative directory is taken from `directory`, that of the configuration file.
fn resolve_state(root: &Table<'_>, directory: &Path) -> Option<Option<PathBuf>> {
    let value = root.optional("state", "{ directory = \"/var/lib/tidegate\" }");
    let Some(value) = value else { return Some(None) };
    let table = value.table()?;
    let path = table.required("directory", "\"/var/lib/tidegate\"");
    table.finish();
    Some(Some(directory.join(path?.string()?)))
}

fn resolve_listen(table: &Table<'_>) -> Option<BTreeSet<SocketAddr>> {
    const ITEM: &str = "\"192.0.2.1:179\"";
    let listen = table.optional("listen", "[\"192.0.2.1:179\"]").map_or_else(
        || Some(BTreeSet::new()),
        |value| {
            let items = value.list(ITEM)?;
            items.iter().map(|item| parse_address(item)).collect()
        },
    );
    table.finish();
    listen
}

fn parse_address(item: &Value<'_>) -> Option<SocketAddr> {
    let text = item.string()?;
    let address = text.parse().ok();
    if address.is_none() {
        item.error(
            format!("`{text}` is not an address with a port"),
            "write one like `192.0.2.1:179` or `[2001:db8::1]:179`",
        );
    }
    address
}

#[cfg(test)]
mod tests {
    use tidegate_detector::packet::Tunnel;

    use super::*;
    use std::num::NonZeroU8;
    use std::time::Duration;

    use tidegate_bgpd::session::{GracefulRestart, Role};
    use tidegate_bgpd::speaker::HopLimit;

    use tidegate_policy::PolicyFile;

    use crate::policy_repo::History;

    fn resolve_text(text: &str) -> Result<Config, String> {
        let source = Arc::new(Source::new("etc/tidegate.toml", text));
        let collector = Collector::new();
        let config = Document::parse(&source, &collector).and_then(|document| {
            let root = document.root(&collector);
            let policy = resolve_policy(&root, Path::new("etc"));
            resolve(&root, policy, Path::new("etc"))
        });
        collector.finish(config).map_err(|report| report.to_string())
    }

    #[test]
    fn the_policy_alone_is_enough() {
        let config = resolve_text("policy = \"policy\"").unwrap();
        assert_eq!(config.policy, PolicyRepo::new("etc/policy".into()));
        assert_eq!(config.capture, LiveOptions::default());
        assert!(config.listen.is_empty());
    }

    #[test]
    fn every_key_is_read() {
        let config = resolve_text(
            "policy = \"/srv/policy\"\nuser = \"tidegate\"\n[capture]\ninterface = \"eth1\"\nfilter = \"ip\"\n\
             snap-length = 128\nbuffer-bytes = 4_194_304\npromiscuous = false\nworkers = 2\n\
             decapsulate = [\"gre\"]\n\
             [state]\ndirectory = \"state\"\n[geoip]\nnetworks = \"asn.mmdb\"\n[speaker]\nlisten = [\"192.0.2.1:179\", \"[2001:db8::1]:1790\"]\n\
             [sessions.near]\nhops = \"gtsm\"\nrole = \"customer\"\n\
             strict-role = true\nrequire-families = true\n[sessions.far]\nhops = 4\n\
             graceful-restart = \"2s\"\n\
             [policy-repository]\nhistory = \"forward\"\nwatch = true\n",
        )
        .unwrap();
        assert_eq!(config.policy.directory, Path::new("/srv/policy"));
        assert_eq!(config.user.as_deref(), Some("tidegate"));
        assert_eq!(config.policy.history, History::Forward);
        assert_eq!(config.reload, Reload::Watch);
        assert_eq!(config.capture.interfaces, ["eth1"]);
        assert_eq!(config.capture.workers.get(), 2);
        assert_eq!(config.tunnels, [Tunnel::Gre].into_iter().collect());
        assert_eq!(config.capture.snap_length, 128);
        let networks = Some("etc/asn.mmdb".into());
        assert_eq!(config.databases, Databases { countries: None, networks });
        assert_eq!(config.state.as_deref(), Some(Path::new("etc/state")));
        assert!(!config.capture.promiscuous);
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.sessions["near"].transport.hops, HopLimit::Gtsm);
        assert_eq!(config.sessions["near"].role, Some(Role::Customer));
        assert!(config.sessions["near"].strict_role && config.sessions["near"].require_families);
        let restart = GracefulRestart::Restarting(Duration::from_secs(2));
        assert_eq!(config.sessions["far"].graceful_restart, restart);
        assert_eq!(
            config.sessions["far"].transport.hops,
            HopLimit::Multihop(NonZeroU8::new(4).unwrap())
        );
    }

    #[test]
    fn interfaces_are_named_alone_or_in_a_list() {
        let capture = |keys: &str| resolve_text(&format!("policy = \"p\"\n[capture]\n{keys}\n"));
        let config = capture("interfaces = [\"eth1\", \"eth2\"]").unwrap();
        assert_eq!(config.capture.interfaces, ["eth1", "eth2"]);
        for (keys, expected) in [
            ("interface = \"a\"\ninterfaces = [\"b\"]", "`interface` and `interfaces`"),
            ("interfaces = []", "empty"),
            ("interfaces = [\"any\", \"eth1\"]", "`any` takes every interface"),
            ("interfaces = [\"eth1\", \"eth1\"]", "`eth1` is named twice"),
            ("workers = 3\nbuffer-bytes = 2097152", "1 MiB for each worker"),
            ("workers = 0", "from 1 to 64"),
            ("decapsulate = [\"vxlan\"]", "`vxlan`"),
        ] {
            let report = capture(keys).unwrap_err();
            assert!(report.contains(expected), "{keys}: {report}");
        }
    }

    #[test]
    fn forensics_needs_a_directory_and_nothing_else() {
        let forensics =
            |keys: &str| resolve_text(&format!("policy = \"p\"\n[forensics]\n{keys}\n"));
        let settings = forensics("directory = \"packets\"").unwrap().forensics.unwrap();
        assert_eq!(settings, Settings::new("etc/packets".into()));
        let keys = "directory = \"/srv\"\nbefore = \"10s\"\nmemory-bytes = 10485760\n\
                    file-bytes = 65536\npackets-in-full = 5\nsampling = 0\nmax-files = 2\n\
                    max-bytes = 131072\nmax-age = \"2h\"";
        let settings = forensics(keys).unwrap().forensics.unwrap();
        assert_eq!((settings.before.as_secs(), settings.budget().rate), (10, 1 << 20));
        assert_eq!(
            (settings.file.bytes, settings.file.full, settings.file.sampling),
            (65_536, 5, 0)
        );
        assert_eq!((settings.max_files, settings.max_bytes), (2, 131_072));
        assert_eq!(settings.max_age.as_secs(), 7200);
        for (keys, expected) in [
            ("", "`forensics` has no `directory`"),
            ("directory = \"d\"\nbefore = \"0s\"", "before"),
            ("directory = \"d\"\nmax-fles = 1", "did you mean `max-files`?"),
        ] {
            let report = forensics(keys).unwrap_err();
            assert!(report.contains(expected), "{keys}: {report}");
        }
    }

    #[test]
    fn keys_come_from_files_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("border1.key");
        std::fs::write(&key, "secret\n").unwrap();
        let text = format!(
            "policy = \"policy\"\n[sessions.border1]\nmd5-key-file = \"{}\"\n",
            key.display()
        );
        let config = resolve_text(&text).unwrap();
        assert_eq!(config.sessions["border1"].transport.md5, Some(Md5Key::new(b"secret").unwrap()));
        assert!(!format!("{config:?}").contains("secret"));
        std::fs::write(&key, "\n").unwrap();
        assert!(resolve_text(&text).unwrap_err().contains("1 to 80 octets, not 0"));
        std::fs::remove_file(&key).unwrap();
        assert!(resolve_text(&text).unwrap_err().contains("border1.key"));
    }

    #[test]
    fn routing_daemons_are_read() {
        let text = "policy = \"p\"\n[reaper]\nlease = \"30s\"\nfile = \"r.lease\"\n\
            [[backends]]\nname = \"b\"\nkind = \"bird\"\ncontrol = \"b.ctl\"\n\
            [[backends]]\nname = \"e\"\nkind = \"exabgp\"\nsocket = \"/run/e.sock\"\n\
            socket-mode = \"0600\"\nneighbors = [\"10.0.0.2\"]\n\
            [[backends]]\nname = \"f\"\nkind = \"frr\"\ntag = 7\nfamilies = [\"ipv4-unicast\"]\n\
            [[backends]]\nname = \"g\"\nkind = \"gobgp\"\nmark = \"1:2:3\"\n\
            address = \"http://127.0.0.1:50051\"\n\
            [[backends]]\nname = \"p\"\nkind = \"exabgp\"\npipes = \"/run/exabgp/exabgp\"\n";
        let config = resolve_text(text).unwrap();
        assert_eq!(config.reaper.file, Path::new("etc/r.lease"));
        assert_eq!(config.reaper.lease.as_secs(), 30);
        let policy = policy_with("");
        let external: Vec<String> = config
            .external(&policy)
            .map(|(name, config, _)| format!("{name} {}", serde_json::to_string(&config).unwrap()))
            .collect();
        insta::assert_snapshot!(external.join("\n"), @r#"
        b {"bird":{"control":"etc/b.ctl","directory":"/var/lib/tidegate/bird","prefix":"tidegate","families":["ipv4-unicast","ipv6-unicast","ipv4-flowspec","ipv6-flowspec"],"undo_after":{"secs":30,"nanos":0}}}
        e {"exabgp":{"access":{"sidecar":{"socket":"/run/e.sock","mode":384}},"neighbors":["10.0.0.2"],"mark":"65010:1953064037:1","families":["ipv4-unicast","ipv6-unicast","ipv4-flowspec","ipv6-flowspec"]}}
        f {"frr":{"vtysh":"vtysh","sockets":"/run/frr","tag":7,"families":["ipv4-unicast"]}}
        g {"gobgp":{"address":"http://127.0.0.1:50051","mark":"1:2:3","families":["ipv4-unicast","ipv6-unicast","ipv4-flowspec","ipv6-flowspec"]}}
        p {"exabgp":{"access":{"pipes":{"input":"/run/exabgp/exabgp.in","output":"/run/exabgp/exabgp.out"}},"neighbors":[],"mark":"65010:1953064037:1","families":["ipv4-unicast","ipv6-unicast","ipv4-flowspec","ipv6-flowspec"]}}
        "#);
    }

    #[test]
    fn mistakes_about_routing_daemons_are_told() {
        for (keys, expected) in [
            ("name = \"x\"", "has no `kind`"),
            ("kind = \"bird\"", "has no `name`"),
            ("name = \"x\"\nkind = \"quagga\"", "not a kind of routing daemon"),
            ("name = \"x\"\nkind = \"bird\"\nsocket = \"s\"", "`socket` is not known"),
            ("name = \"x y\"\nkind = \"bird\"", "is no name"),
            ("name = \"x\"\nkind = \"bird\"\nprefix = \"1-x\"", "protocol of BIRD"),
            ("name = \"x\"\nkind = \"bird\"\nfamilies = [\"ipv5\"]", "ipv5"),
            ("name = \"x\"\nkind = \"bird\"\nfamilies = []", "is empty"),
            ("name = \"x\"\nkind = \"exabgp\"", "the way to this ExaBGP is missing"),
            (
                "name = \"x\"\nkind = \"exabgp\"\nsocket = \"a\"\npipes = \"b\"",
                "two ways to the same ExaBGP",
            ),
            ("name = \"x\"\nkind = \"exabgp\"\npipes = \"b\"\nneighbors = [\"r1\"]", "`r1`"),
            ("name = \"x\"\nkind = \"gobgp\"\naddress = \"gobgp.sock\"", "gobgp.sock"),
            ("name = \"x\"\nkind = \"gobgp\"\nmark = \"65000\"", "65000"),
        ] {
            let text = format!("policy = \"p\"\n[[backends]]\n{keys}\n");
            let report = resolve_text(&text).unwrap_err();
            assert!(report.contains(expected), "{keys}: {report}");
        }
        let twice = "[[backends]]\nname = \"x\"\nkind = \"bird\"\n".repeat(2);
        let report = resolve_text(&format!("policy = \"p\"\n{twice}")).unwrap_err();
        assert!(report.contains("two backends have the name `x`"), "{report}");
    }

    fn policy_with(peers: &str) -> Policy {
        let text = format!(
            "[speaker]\nas = 65010\nrouter-id = \"10.0.0.1\"\n\
             [owned]\nprefixes = [\"203.0.113.0/24\"]\n{peers}"
        );
        let file = PolicyFile { name: "policy.toml".to_owned(), bytes: text.into_bytes() };
        tidegate_policy::resolve("policy", &[file]).unwrap()
    }

    /// A policy that needs a driver that there is not must not pass.
    #[test]
    fn a_peer_without_its_routing_daemon_is_refused_at_its_place() {
        let peer = "[[peers]]\nname = \"up\"\naddress = \"10.0.0.2\"\nas = 65001\n\
                    via = \"brid\"\n";
        let policy = policy_with(peer);
        let backend = |kind: &str, more: &str| {
            let text = format!(
                "policy = \"p\"\n[[backends]]\nname = \"brid\"\nkind = \"{kind}\"\n{more}\n"
            );
            resolve_text(&text).unwrap()
        };
        let check = |config: &Config| {
            let checked = check_against(config, &policy, Path::new("etc/tidegate.toml"));
            checked.map_err(|report| report.to_string())
        };
        assert_eq!(check(&backend("bird", "")), Ok(()));
        let text = "policy = \"p\"\n[[backends]]\nname = \"bird\"\nkind = \"bird\"\n";
        let report = check(&resolve_text(text).unwrap()).unwrap_err();
        insta::assert_snapshot!(report, @r#"
        policy.toml:10:7: error: etc/tidegate.toml has no backend `brid`
          10 | via = "brid"
             |       ^^^^^^
          help: add `[[backends]]` with `name = "brid"` there; or did you mean `bird`?
        "#);
        let report = check(&backend("frr", "")).unwrap_err();
        assert!(report.contains("policy.toml:10:7") && report.contains("snippet frr"), "{report}");
        let report = check(&backend("gobgp", "families = [\"ipv4-unicast\"]")).unwrap_err();
        assert!(report.contains("ipv6-unicast, which backend `brid` leaves out"), "{report}");

        let unused =
            "policy = \"p\"\n[[backends]]\nname = \"e\"\nkind = \"exabgp\"\npipes = \"x\"\n";
        let config = resolve_text(unused).unwrap();
        let checked = check_against(&config, &policy_with(""), Path::new("etc/tidegate.toml"));
        let report = checked.unwrap_err().to_string();
        assert!(report.contains("which neighbors backend `e` is to tell"), "{report}");
    }

    #[test]
    fn signers_come_from_a_file() {
        const KEY: &str =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signers");
        std::fs::write(&file, format!("# Who may\n{KEY} a@b\nnoc@example.net {KEY}\n")).unwrap();
        let text =
            format!("policy = \"policy\"\n[policy-repository]\nsigners = \"{}\"\n", file.display());
        assert_eq!(resolve_text(&text).unwrap().policy.signers.unwrap().len(), 2);
        std::fs::write(&file, "ssh-ed25519 nonsense\n").unwrap();
        assert!(resolve_text(&text).unwrap_err().contains("signers:1 holds no public key"));
        std::fs::write(&file, "\n").unwrap();
        assert!(resolve_text(&text).unwrap_err().contains("holds no key"));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let report = resolve_text(
            "[capture]\ninterfce = \"eth0\"\nsnap-length = 12\n[speaker]\nlisten = [\"here\"]\n",
        )
        .unwrap_err();
        insta::assert_snapshot!(report, @r#"
        etc/tidegate.toml:1:1: error: `policy` is missing
          1 | [capture]
            | ^
          help: add `policy = "policy"`
        etc/tidegate.toml:2:1: error: `interfce` is not known in `capture`
          2 | interfce = "eth0"
            | ^^^^^^^^
          help: did you mean `interface`?
        etc/tidegate.toml:3:15: error: `capture.snap-length` must be from 96 to 65535, not 12
          3 | snap-length = 12
            |               ^^
          help: write `snap-length = 192`
        etc/tidegate.toml:5:11: error: `here` is not an address with a port
          5 | listen = ["here"]
            |           ^^^^^^
          help: write one like `192.0.2.1:179` or `[2001:db8::1]:179`
        "#);
    }
}
