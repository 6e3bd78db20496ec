//! ExaBGP through a sidecar and through its pipes. `TIDEGATE_EXABGP` names another one than that of
//! the search path, such as ExaBGP 5.

use std::path::PathBuf;
use std::time::Duration;

use tidegate_adapters::exabgp::{ExabgpAccess, ExabgpConfig};
use tidegate_adapters::external::ExternalConfig;
use tidegate_interop_tests::lab::{Process, require};
use tidegate_model::{
    BitmaskMatch, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, OutcomeKind, Route,
};

use crate::stage::{
    Driven, MARK, ROUTER, Stage, THIRD, applied, blackhole, four, nlris, rule, tidegate, wait_until,
};

fn program() -> PathBuf {
    match std::env::var_os("TIDEGATE_EXABGP") {
        Some(path) => path.into(),
        None => require::program("exabgp").unwrap(),
    }
}

fn sidecar(stage: &Stage) -> ExabgpConfig {
    let socket = stage.router.directory().join("exabgp.sock");
    config(ExabgpAccess::Sidecar { socket, mode: ExabgpAccess::default_mode() })
}

/// Named pipes where ExaBGP looks for them: it knows folders of the system only.
struct Pipes(String);

impl Pipes {
    fn new() -> Self {
        Self(format!("tidegate-test-{}", std::process::id()))
    }

    fn path(&self, end: &str) -> PathBuf {
        PathBuf::from(format!("/run/{}.{end}", self.0))
    }

    fn config(&self) -> ExabgpConfig {
        config(ExabgpAccess::Pipes { input: self.path("in"), output: self.path("out") })
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        for end in ["in", "out"] {
            let _ = std::fs::remove_file(self.path(end));
        }
    }
}

fn config(access: ExabgpAccess) -> ExabgpConfig {
    let neighbors = [THIRD.parse().unwrap()].into();
    let families = tidegate_bgpd::Family::ALL.into();
    ExabgpConfig { access, neighbors, mark: MARK, families }
}

/// ExaBGP with a session to the third router, another neighbor that nobody answers at, and these
/// processes.
fn spawn(stage: &Stage, processes: &str, name: &str, pipes: Option<&Pipes>) -> Process {
    let third = |address: &str, asn: u32| {
        format!(
            "neighbor {address} {{
    router-id {ROUTER};
    local-address {ROUTER};
    local-as 65001;
    peer-as {asn};
    hold-time 9;
    family {{ ipv4 unicast; ipv6 unicast; ipv4 flow; ipv6 flow; }}
    api {{ processes [ {name} ]; neighbor-changes; }}
    static {{ route 203.0.113.250/32 next-hop {ROUTER} community [ 65535:666 ]; }}
}}
"
        )
    };
    let text = format!("{processes}{}{}", third(THIRD, 65003), third("10.98.0.99", 65099));
    let file = stage.write("exabgp.conf", &text);
    let mut command = stage.router.command(program());
    command.arg(file).current_dir(stage.router.directory());
    for (name, value) in [
        ("exabgp_daemon_user", "root"),
        ("exabgp_daemon_drop", "false"),
        ("exabgp_api_cli", if pipes.is_some() { "true" } else { "false" }),
        ("exabgp_log_level", "WARNING"),
        ("exabgp_api_pipename", pipes.map_or("none", |pipes| &pipes.0)),
    ] {
        command.env(name, value);
    }
    stage.router.spawn("exabgp", command).unwrap()
}

/// The lines that the operator adds, with the program that was built here.
fn processes(stage: &Stage, lease: Duration) -> String {
    let program = tidegate().display().to_string();
    sidecar(stage).snippet(lease).replace("run tidegate ", &format!("run {program} "))
}

/// ExaBGP with a sidecar that looks for the socket in the folder of the router.
pub(crate) fn run_with_sidecar(stage: &Stage, lease: Duration) -> Process {
    spawn(stage, &processes(stage, lease), "tidegate", None)
}

fn start(test: &str, lease: Duration) -> Option<(Stage, Process, Driven)> {
    let stage = Stage::new(test, &["exabgp"])?;
    let mut driven = Driven::start(ExternalConfig::Exabgp(sidecar(&stage)));
    assert!(driven.wait_down().contains("no sidecar"));
    let process = run_with_sidecar(&stage, lease);
    driven.wait_up();
    Some((stage, process, driven))
}

/// What ExaBGP announces of its own.
fn static_route() -> Route {
    Route { communities: ["blackhole".parse().unwrap()].into(), ..blackhole("203.0.113.250") }
}

const LEASE: Duration = Duration::from_secs(60);

#[test]
fn exabgp_holds_what_it_is_told_in_all_families() {
    let test = "exabgp_holds_what_it_is_told_in_all_families";
    let Some((mut stage, _process, mut driven)) = start(test, LEASE) else { return };
    driven.goes_through_all_families_beside(&mut stage, &[&static_route()]);
}

#[test]
fn every_component_survives_exabgps_language() {
    let test = "every_component_survives_exabgps_language";
    let Some((_stage, _process, mut driven)) = start(test, LEASE) else { return };
    use FlowSpecComponent as Component;
    let destination = Component::DestinationPrefix("203.0.113.9".parse().unwrap());
    for component in [
        Component::SourcePrefix("198.51.100.0/24".parse().unwrap()),
        Component::IpProtocol(NumericMatch::one_of(1, [6, 58, 255])),
        Component::Port(NumericMatch::range(1000, 2000)),
        Component::DestinationPort(NumericMatch::one_of(80, [443, 5])),
        Component::IcmpType(NumericMatch::one_of(8, [0, 200])),
        Component::IcmpCode(NumericMatch::one_of(0, [3])),
        Component::TcpFlags(BitmaskMatch::set_and_clear(2, 0x10)),
        Component::TcpFlags(BitmaskMatch::all_of(0x12)),
        Component::PacketLength(NumericMatch::range(1400, 1500)),
        Component::Dscp(NumericMatch::equal(46)),
        Component::Fragment(BitmaskMatch::all_of(2)),
        Component::Fragment(BitmaskMatch::set_and_clear(2, 4)),
    ] {
        let shown = component.to_string();
        // The gate lets no rule pass that no packet can match.
        let protocol = match component {
            Component::IcmpType(_) | Component::IcmpCode(_) => Some(1),
            Component::TcpFlags(_) => Some(6),
            Component::Port(_) | Component::DestinationPort(_) => Some(17),
            _ => None,
        };
        let protocol = protocol.map(|number| Component::IpProtocol(NumericMatch::equal(number)));
        let components = [Some(destination.clone()), protocol, Some(component)];
        let components = components.into_iter().flatten().collect();
        let family = tidegate_model::AddressFamily::Ipv4;
        let nlri = Nlri::FlowSpec(FlowSpecRule::new(family, components).unwrap());
        let route = Route { nlri, ..rule("203.0.113.9", 0.0) };
        assert_eq!(driven.announce(&route), applied(), "{shown}");
        assert_eq!(driven.observe(), nlris([&route]), "{shown}");
        assert_eq!(driven.withdraw(&route), applied(), "{shown}");
        assert_eq!(driven.observe(), nlris([]), "{shown}");
    }
}

#[test]
fn routes_of_others_in_exabgp_are_left_alone() {
    let test = "routes_of_others_in_exabgp_are_left_alone";
    let Some((mut stage, _process, mut driven)) = start(test, LEASE) else { return };
    let theirs = static_route();
    let refused = driven.announce(&theirs);
    assert!(matches!(&refused, OutcomeKind::Failed { why } if why.contains("mark")), "{refused:?}");
    assert_eq!(driven.withdraw(&theirs), applied());
    assert_eq!(driven.observe(), nlris([]));
    stage.expect_third(&[&theirs]);
}

#[test]
fn a_sidecar_that_dies_is_started_again_and_what_is_left_is_found() {
    let test = "a_sidecar_that_dies_is_started_again_and_what_is_left_is_found";
    let Some((mut stage, _process, mut driven)) = start(test, LEASE) else { return };
    let routes = four();
    for route in &routes {
        assert_eq!(driven.announce(route), applied());
    }
    let socket = stage.router.directory().join("exabgp.sock").display().to_string();
    kill(&processes_with(&["exabgp-sidecar", &socket]));
    driven.wait_down();
    driven.wait_up();
    assert_eq!(driven.observe(), nlris(&routes));
    let mut held: Vec<&Route> = routes.iter().collect();
    let theirs = static_route();
    held.push(&theirs);
    stage.expect_third(&held);
}

#[test]
fn a_restarted_exabgp_is_told_everything_again() {
    let test = "a_restarted_exabgp_is_told_everything_again";
    let Some((mut stage, mut process, mut driven)) = start(test, LEASE) else { return };
    let route = blackhole("203.0.113.7");
    assert_eq!(driven.announce(&route), applied());
    stage.expect_third(&[&route, &static_route()]);
    process.kill();
    driven.wait_down();
    let _process = spawn(&stage, &processes(&stage, LEASE), "tidegate", None);
    driven.wait_up();
    assert_eq!(driven.observe(), nlris([]));
    assert_eq!(driven.announce(&route), applied());
    stage.expect_third(&[&route, &static_route()]);
}

#[test]
fn without_the_daemon_the_sidecar_withdraws_when_the_lease_is_over() {
    let test = "without_the_daemon_the_sidecar_withdraws_when_the_lease_is_over";
    let lease = Duration::from_secs(2);
    let Some((mut stage, _process, mut driven)) = start(test, lease) else { return };
    let routes = four();
    for route in &routes {
        assert_eq!(driven.announce(route), applied());
    }
    drop(driven);
    stage.expect_third(&[&static_route()]);
}

#[test]
fn exabgp_is_told_through_its_pipes_too() {
    let test = "exabgp_is_told_through_its_pipes_too";
    let Some(mut stage) = Stage::new(test, &["exabgp", "mkfifo"]) else { return };
    let pipes = Pipes::new();
    for end in ["in", "out"] {
        let made = stage
            .router
            .run("mkfifo", ["-m".as_ref(), "600".as_ref(), pipes.path(end).as_os_str()]);
        if require::or_skip(test, made).is_none() {
            return;
        }
    }
    // Nobody at the other end: that is known at once.
    let mut driven = Driven::start(ExternalConfig::Exabgp(pipes.config()));
    assert!(driven.wait_down().contains(".in of ExaBGP"));
    let idle = "process idle {\n    run /bin/cat;\n    encoder json;\n}\n";
    let mut process = spawn(&stage, idle, "idle", Some(&pipes));
    driven.wait_up();
    driven.goes_through_all_families_beside(&mut stage, &[&static_route()]);
    process.kill();
    driven.wait_down();
}

fn processes_with(words: &[&str]) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if words.iter().all(|word| line.contains(word)) {
            found.extend(entry.file_name().to_string_lossy().parse::<i32>());
        }
    }
    found
}

fn kill(processes: &[i32]) {
    assert!(!processes.is_empty());
    for process in processes {
        let process = rustix::process::Pid::from_raw(*process).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    }
    wait_until("they end", || {
        processes.iter().all(|process| {
            let state =
                std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        })
    });
}
