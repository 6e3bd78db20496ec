//! FRR by vtysh, with zebra, staticd and bgpd of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tidegate_adapters::external::ExternalConfig;
use tidegate_adapters::frr::FrrConfig;
use tidegate_interop_tests::lab::{LabError, Process, require};
use tidegate_model::{Community, OutcomeKind, Route};

use crate::stage::{Driven, ROUTER, Stage, THIRD, applied, blackhole, nlris, rule, wait_until};

/// The daemons are not on the search path, vtysh is: `usr/bin/vtysh` and `usr/lib/frr/bgpd`.
fn daemon(name: &str) -> Result<PathBuf, LabError> {
    let vtysh = require::program("vtysh")?;
    let root = vtysh.parent().and_then(|path| path.parent());
    let path = root.map(|root| root.join("lib/frr").join(name)).filter(|path| path.is_file());
    path.ok_or_else(|| LabError::NoProgram(format!("{name} of FRR")))
}

fn config(stage: &Stage) -> FrrConfig {
    FrrConfig { sockets: stage.router.directory().join("frr"), ..FrrConfig::default() }
}

pub(crate) fn spawn(stage: &Stage, name: &str, text: &str, arguments: &[&str]) -> Process {
    let directory = config(stage).sockets;
    let file = stage.write(&format!("frr/{name}.conf"), text);
    let mut command = stage.router.command(daemon(name).unwrap());
    command.arg("-f").arg(file).arg("-i").arg(directory.join(format!("{name}.pid")));
    command.arg("--vty_socket").arg(&directory).args(arguments);
    command.args(["-P", "0", "-u", "frr", "-g", "frr", "--log", "stdout"]);
    let process = stage.router.spawn(name, command).unwrap();
    let socket = directory.join(format!("{name}.vty"));
    wait_until("the daemon's socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    process
}

/// A folder for the daemons' sockets: they run as user `frr`.
pub(crate) fn sockets(test: &str, stage: &Stage) -> Option<PathBuf> {
    require::or_skip(test, daemon("bgpd"))?;
    let sockets = config(stage).sockets;
    std::fs::create_dir(&sockets).unwrap();
    let owned = stage.router.run("chown", ["frr:frr".as_ref(), sockets.as_os_str()]);
    require::or_skip(test, owned)?;
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(stage.router.directory(), open).unwrap();
    Some(sockets)
}

/// FRR's daemons, and where their sockets are.
pub(crate) fn run(test: &str) -> Option<(Stage, Vec<Process>, PathBuf)> {
    let stage = Stage::new(test, &["vtysh"])?;
    let sockets = sockets(test, &stage)?;
    let api = sockets.join("zserv.api").display().to_string();
    let bgp = format!(
        "router bgp 65001
 bgp router-id {ROUTER}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {THIRD} remote-as 65003
 neighbor {THIRD} passive
 neighbor {THIRD} advertisement-interval 0
 address-family ipv4 unicast
  neighbor {THIRD} activate
 exit-address-family
 address-family ipv6 unicast
  neighbor {THIRD} activate
 exit-address-family
{}",
        config(&stage).snippet(65001)
    );
    let daemons = vec![
        spawn(&stage, "zebra", "", &["-z", &api]),
        spawn(&stage, "staticd", "", &["-z", &api]),
        spawn(&stage, "bgpd", &bgp, &["-z", &api]),
    ];
    Some((stage, daemons, sockets))
}

fn start(test: &str) -> Option<(Stage, Vec<Process>, Driven)> {
    let (stage, daemons, _) = run(test)?;
    let mut driven = Driven::start(ExternalConfig::Frr(config(&stage)));
    driven.wait_up();
    Some((stage, daemons, driven))
}

/// The blackhole as FRR's route map makes it.
fn announced(address: &str) -> Route {
    Route { communities: [Community::BLACKHOLE].into(), ..blackhole(address) }
}

#[test]
fn frr_announces_tagged_blackholes() {
    let test = "frr_announces_tagged_blackholes";
    let Some((mut stage, mut daemons, mut driven)) = start(test) else { return };
    let routes = [announced("203.0.113.7"), announced("2001:db8:1::7")];
    for route in &routes {
        assert_eq!(driven.announce(route), applied());
        assert_eq!(driven.announce(route), applied());
    }
    stage.expect_third(&routes.each_ref());
    assert_eq!(driven.observe(), nlris(&routes));
    let refused = driven.announce(&rule("203.0.113.9", 0.0));
    let OutcomeKind::Rejected { why } = refused else { panic!("{refused:?}") };
    assert!(why.contains("cannot originate FlowSpec") && why.contains("snippet frr"), "{why}");

    let (router, sockets) = (stage.router.clone(), config(&stage).sockets);
    let vtysh = |lines: &[&str]| {
        let lines = lines.iter().flat_map(|line| ["-c".as_ref(), line.as_ref()]);
        let words = ["--vty_socket".as_ref(), sockets.as_os_str()];
        router.run("vtysh", words.into_iter().chain(lines)).unwrap()
    };
    // Somebody's own, and one of ours taken away by hand.
    let theirs = announced("203.0.113.200");
    vtysh(&["configure terminal", "ip route 203.0.113.200/32 blackhole"]);
    vtysh(&["configure terminal", "no ip route 203.0.113.7/32 blackhole tag 29797"]);
    assert_eq!(driven.observe(), nlris([&routes[1]]));
    assert!(matches!(driven.announce(&theirs), OutcomeKind::Failed { .. }));
    assert_eq!(driven.withdraw(&theirs), applied());
    for route in &routes {
        assert_eq!(driven.withdraw(route), applied());
    }
    stage.expect_third(&[]);
    assert!(vtysh(&["show running-config"]).contains("ip route 203.0.113.200/32 blackhole"));
    daemons[1].kill();
    driven.wait_down();
}
