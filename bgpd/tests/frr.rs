//! The speaker with FRR, which resets the session over rules that it cannot read. FRR 8.4 takes no
//! numeric `!=`, and no more than five values in one component.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop at a surprise too")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_bgpd::Family;
use tidegate_bgpd::session::{ConnectMode, SessionOptions, SessionState};
use tidegate_bgpd::speaker::{
    BlackholeProfile, PeerConfig, Speaker, SpeakerConfig, SpeakerEvent, SpeakerHandle, Transport,
};
use tidegate_model::{
    CommandId, FlowSpecComponent, Nlri, NumericMatch, NumericOperator, NumericTest, OutcomeKind,
    Route, TrafficFilteringAction,
};
use tokio::sync::mpsc;

use support::{blackhole, flowspec, gate_policy, ntp_filter};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const PEER: &str = "frr";
const PATIENCE: Duration = Duration::from_secs(60);

/// FRR's bgpd alone, without zebra: nothing on the host changes.
struct Router {
    directory: TempDir,
    process: Child,
    port: u16,
}

impl Router {
    /// `None`, with a line, where there is no FRR. In CI, where `cargo xtask test` brings it, that
    /// is a failure.
    fn start(test: &str) -> Option<Self> {
        let Some(daemon) = daemon() else {
            eprintln!("skipped {test}: FRR is not here (`cargo xtask test` brings it)");
            assert!(std::env::var_os("CI").is_none(), "no FRR in CI");
            return None;
        };
        let directory = TempDir::new().unwrap();
        let port = TcpListener::bind((ADDRESS, 0)).unwrap().local_addr().unwrap().port();
        let configuration = format!(
            "router bgp 65001
 bgp router-id {ADDRESS}
 no bgp ebgp-requires-policy
 neighbor 127.0.0.1 remote-as 65010
 neighbor 127.0.0.1 ebgp-multihop 5
 neighbor 127.0.0.1 passive
 address-family ipv4 unicast
  neighbor 127.0.0.1 activate
 exit-address-family
 address-family ipv4 flowspec
  neighbor 127.0.0.1 activate
 exit-address-family
"
        );
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("bgpd.conf"), configuration).unwrap();
        let mut command = Command::new(daemon);
        command.arg("-f").arg(file("bgpd.conf")).arg("-i").arg(file("pid"));
        command.arg("--vty_socket").arg(directory.path());
        command.args(["-Z", "-S", "-P", "0", "-u", "root", "-g", "root"]);
        command.args(["-p", &port.to_string(), "-l", &ADDRESS.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let router = Self { directory, process, port };
        wait("FRR answers", || router.ask("show bgp summary").contains("127.0.0.1"));
        Some(router)
    }

    fn ask(&self, command: &str) -> String {
        let mut vtysh = Command::new("vtysh");
        vtysh.arg("--vty_socket").arg(self.directory.path()).args(["-d", "bgpd", "-c", command]);
        String::from_utf8_lossy(&vtysh.output().unwrap().stdout).into_owned()
    }

    fn rules(&self) -> String {
        self.ask("show bgp ipv4 flowspec detail")
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// FRR's bgpd is not on the search path, vtysh is: `usr/bin/vtysh` and `usr/lib/frr/bgpd`, be it of
/// the host or unpacked beside the build.
fn daemon() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut daemons = std::env::split_paths(&path)
        .filter(|directory| directory.join("vtysh").is_file())
        .filter_map(|directory| Some(directory.parent()?.join("lib/frr/bgpd")));
    daemons.find(|daemon| daemon.is_file())
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(router: &Router) -> (SpeakerHandle, mpsc::Receiver<SpeakerEvent>) {
    Speaker::start(SpeakerConfig {
        asn: 65010,
        router_id: Ipv4Addr::LOCALHOST,
        listen: Vec::new(),
        peers: vec![PeerConfig {
            name: PEER.to_owned(),
            address: IpAddr::V4(ADDRESS),
            asn: 65001,
            port: router.port,
            local_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            mode: ConnectMode::Active,
            hold_time: Duration::from_secs(9),
            families: [Family::Ipv4Unicast, Family::Ipv4FlowSpec].into(),
            max_routes: 1000,
            transport: Transport::default(),
            options: SessionOptions::default(),
            blackhole: BlackholeProfile::default(),
        }],
        dynamic: Vec::new(),
        gate: gate_policy(),
        seed: 1,
    })
    .unwrap()
}

/// TCP to any port but 80.
fn not_equal(address: &str) -> Route {
    let test = NumericTest { operator: NumericOperator::NotEqual, value: 80 };
    let ports = NumericMatch::new(vec![vec![test]]).unwrap();
    tcp(address, FlowSpecComponent::DestinationPort(ports))
}

/// TCP from any of six ports.
fn six_values(address: &str) -> Route {
    tcp(address, FlowSpecComponent::SourcePort(NumericMatch::one_of(1, 2..=6)))
}

fn tcp(address: &str, component: FlowSpecComponent) -> Route {
    let tcp = FlowSpecComponent::IpProtocol(NumericMatch::equal(6));
    flowspec(address, [tcp, component], TrafficFilteringAction::DISCARD)
}

/// What no policy would send to FRR goes straight to the speaker: the session comes back, with
/// everything but the offenders, and stays.
#[test]
fn a_rule_that_frr_cannot_read_is_found_and_left_out() {
    let Some(router) = Router::start("a_rule_that_frr_cannot_read_is_found_and_left_out") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let (speaker, mut events) = start(&router);
    let status = || speaker.peers().remove(0).session;
    wait("a session", || status().state == SessionState::Established);
    let offenders = [not_equal("203.0.113.200"), six_values("203.0.113.61")];
    let mut routes: Vec<Route> =
        (60..80).map(|host| ntp_filter(&format!("203.0.113.{host}"))).collect();
    routes.push(blackhole("203.0.113.7"));
    routes.extend(offenders.clone());
    for (command, route) in routes.iter().enumerate() {
        speaker.announce(PEER, CommandId(command as u64), route.clone()).unwrap();
    }
    let begin = Instant::now();
    let expected: BTreeSet<Nlri> = offenders.iter().map(|route| route.nlri.clone()).collect();
    wait("the offenders are known, and nothing is held back", || {
        let found = speaker.quarantined(PEER).unwrap();
        let status = status();
        found.len() == 2 && status.withheld == 0 && status.state == SessionState::Established
    });
    let found = speaker.quarantined(PEER).unwrap();
    assert_eq!(found.iter().map(|(nlri, _)| nlri.clone()).collect::<BTreeSet<_>>(), expected);
    let resets = status().counters.established - 1;
    println!("two offenders among 23 routes: {:?}, {resets} resets", begin.elapsed());
    assert!(resets <= 8, "{resets} resets");
    wait("FRR holds the other rules", || {
        let rules = router.rules();
        (60..80).all(|host| rules.contains(&format!("203.0.113.{host}/32")))
    });
    assert!(!router.rules().contains("203.0.113.200"), "{}", router.rules());
    wait("FRR holds the blackhole", || router.ask("show bgp ipv4").contains("203.0.113.7/32"));
    let mut told = BTreeSet::new();
    let mut rejected = BTreeSet::new();
    while let Ok(event) = events.try_recv() {
        match event {
            SpeakerEvent::Quarantined { nlri, why, .. } => {
                assert!(why.contains("3/"), "{why}");
                told.insert(nlri);
            }
            SpeakerEvent::Outcome(outcome) => {
                if let OutcomeKind::Rejected { .. } = outcome.kind {
                    rejected.insert(outcome.nlri);
                }
            }
            SpeakerEvent::State { .. } | SpeakerEvent::FlowSpec(_) => {}
        }
    }
    assert_eq!((&told, &rejected), (&expected, &expected));
    // A new rule is with FRR at once, and the session is still the same.
    speaker.announce(PEER, CommandId(99), ntp_filter("203.0.113.99")).unwrap();
    wait("the new rule", || router.rules().contains("203.0.113.99/32"));
    assert_eq!(status().counters.established - 1, resets);
}
