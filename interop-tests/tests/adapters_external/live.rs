//! The whole way: attack traffic, `tidegate run`, a real routing daemon, and what the third router
//! behind it holds.
//!
//! ```text
//!   internet -- router: tidegate run and the daemon that it drives -- third: BIRD
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use tidegate_interop_tests::lab::{End, Namespace, Process};

use crate::common::{Turn, programs};
use crate::stage::{LIMIT, Stage, wait_until};
use crate::{bird, exabgp, frr, gobgp};

/// Blackholed.
const REFLECTED: &str = "203.0.113.7/32";
/// Rate-limited by a rule.
const FLOODED: &str = "rule 203.0.113.9/32";
const ATTACKS: [&str; 2] = [
    "ntp-amplification,target=203.0.113.7,rate=20k,for=600s",
    "syn-flood,target=203.0.113.9,rate=5k,for=600s",
];
const ALL: &str = "[\"ipv4-unicast\", \"ipv6-unicast\", \"ipv4-flowspec\", \"ipv6-flowspec\"]";

/// A laboratory in which one router's daemon is driven by `tidegate run`.
struct Live {
    /// Processes go before the stage.
    senders: Vec<Process>,
    tidegate: Option<Process>,
    internet: Namespace,
    stage: Stage,
    #[expect(dead_code, reason = "held for its lock")]
    turn: Turn,
}

impl Live {
    /// `backend` is what `[[backends]]` says of the daemon; the third router gets `families`.
    fn start(stage: Stage, backend: &str, families: &str) -> Self {
        let turn = Turn::wait();
        let internet = stage.lab.namespace("internet").unwrap();
        let link = |namespace, interface| End { namespace, interface, addresses: &[] };
        let (from, to) = (link(&internet, "to-router"), link(&stage.router, "from-internet"));
        stage.lab.link(from, to).unwrap();
        stage.write(
            "tidegate.toml",
            &format!(
                "policy = \"policy\"\n[capture]\ninterface = \"from-internet\"\n\
                 [incidents]\ndatabase = \"incidents.db\"\n\
                 [reaper]\nlease = \"20s\"\nfile = \"reaper.lease\"\n\
                 [[backends]]\nname = \"daemon\"\n{backend}\n"
            ),
        );
        fs::create_dir(stage.router.directory().join("policy")).unwrap();
        stage.write("policy/policy.toml", &policy(families));
        let mut live = Self { senders: Vec::new(), tidegate: None, internet, stage, turn };
        live.run();
        live
    }

    fn run(&mut self) {
        let directory = self.stage.router.directory();
        let mut command = self.stage.router.command(&programs().tidegate);
        command.args(["run", "--json", "--config"]).arg(directory.join("tidegate.toml"));
        self.tidegate = Some(self.stage.router.spawn("tidegate", command).unwrap());
    }

    fn attack(&mut self) {
        for (number, stream) in ATTACKS.into_iter().enumerate() {
            let mut command = self.internet.command(&programs().lab);
            command.args(["demo", "--interface", "to-router", "--send", stream]);
            let name = format!("sender-{number}");
            self.senders.push(self.internet.spawn(&name, command).unwrap());
        }
    }

    fn held(&mut self) -> BTreeSet<String> {
        let routes = self.stage.third.routes().unwrap();
        let target = |net: &str| match net.split_once("dst ") {
            Some((_, rest)) => format!("rule {}", rest.split(';').next().unwrap_or_default()),
            None => net.to_owned(),
        };
        let nets = routes.iter().map(|route| target(&route.net));
        nets.filter(|net| [REFLECTED, FLOODED].contains(&net.as_str())).collect()
    }

    fn expect(&mut self, wanted: &[&str]) {
        let started = Instant::now();
        while self.held() != wanted.iter().map(ToString::to_string).collect() {
            if let Some(tidegate) = &mut self.tidegate {
                tidegate.expect_running().unwrap();
            }
            let words = || self.tidegate.as_ref().map(Process::last_words).unwrap_or_default();
            assert!(
                started.elapsed() < LIMIT,
                "the third router does not hold {wanted:?} and nothing else: {}",
                words()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Attacks come and go, tidegate is killed: the third router holds the routes, and then nothing.
    fn story(mut self, routes: &[&str]) {
        self.attack();
        self.expect(routes);
        self.senders.clear();
        self.expect(&[]);
        self.attack();
        self.expect(routes);
        self.tidegate.take().unwrap().kill();
        assert!(!self.held().is_empty(), "the daemon keeps what it was told");
        self.expect(&[]);
    }
}

const RULES: &str = "[[responses]]
name = \"limit\"
when = { confidence = 0.5 }
action = \"flowspec\"
filter = { rate-limit = \"1Mbps\" }
lifetime = { at-least = \"2s\", at-most = \"10m\" }
";

fn policy(families: &str) -> String {
    let rules = if families.contains("flowspec") { RULES } else { "" };
    format!(
        "[speaker]
as = 65001
router-id = \"10.98.0.2\"
[owned]
prefixes = [\"203.0.113.0/24\", \"2001:db8:1::/48\"]
[groups.default.thresholds]
total = {{ packets = \"20k\", bits = \"200M\" }}
tcp-syn = {{ packets = \"1k\" }}
amplification = {{ packets = \"500\", bits = \"2M\" }}
[detection]
tolerance = \"500ms\"
exit-ratio = 0.5
exit-hold = \"2s\"
[[responses]]
name = \"blackhole\"
when = {{ severity = \"critical\", confidence = 0.8, vectors = [\"*-amplification\"] }}
action = \"rtbh\"
lifetime = {{ at-least = \"2s\", at-most = \"10m\" }}
{rules}[[peers]]
name = \"third\"
address = \"10.98.0.3\"
as = 65003
confined-by = \"peer\"
rtbh = {{ communities = [\"blackhole\"] }}
families = {families}
via = \"daemon\"
"
    )
}

#[test]
fn bird_holds_what_an_attack_calls_for_and_nothing_afterwards() {
    let test = "bird_holds_what_an_attack_calls_for_and_nothing_afterwards";
    let Some((stage, _config, _bird)) = bird::run(test) else { return };
    let backend = "kind = \"bird\"\ncontrol = \"router.ctl\"\ndirectory = \"tidegate\"";
    Live::start(stage, backend, ALL).story(&[REFLECTED, FLOODED]);
}

#[test]
fn gobgp_holds_what_an_attack_calls_for_and_nothing_afterwards() {
    let test = "gobgp_holds_what_an_attack_calls_for_and_nothing_afterwards";
    let Some((live, _daemon)) = gobgp_live(test) else { return };
    live.story(&[REFLECTED, FLOODED]);
}

#[test]
fn exabgp_holds_what_an_attack_calls_for_and_nothing_afterwards() {
    let test = "exabgp_holds_what_an_attack_calls_for_and_nothing_afterwards";
    let Some(stage) = Stage::new(test, &["exabgp"]) else { return };
    let _daemon = exabgp::run_with_sidecar(&stage, Duration::from_secs(5));
    let backend = "kind = \"exabgp\"\nsocket = \"exabgp.sock\"";
    Live::start(stage, backend, ALL).story(&[REFLECTED, FLOODED]);
}

#[test]
fn frr_holds_what_an_attack_calls_for_and_nothing_afterwards() {
    let test = "frr_holds_what_an_attack_calls_for_and_nothing_afterwards";
    let Some((stage, _daemons, sockets)) = frr::run(test) else { return };
    let backend = format!("kind = \"frr\"\nsockets = \"{}\"", sockets.display());
    let families = "[\"ipv4-unicast\", \"ipv6-unicast\"]";
    Live::start(stage, &backend, families).story(&[REFLECTED]);
}

/// GoBGP with a route of somebody else, driven by `tidegate run`.
fn gobgp_live(test: &str) -> Option<(Live, Process)> {
    let stage = Stage::new(test, &["gobgpd", "gobgp"])?;
    let daemon = gobgp::spawn(&stage);
    let address = gobgp::socket(&stage);
    let backend = format!("kind = \"gobgp\"\naddress = \"unix://{}\"", address.display());
    Some((Live::start(stage, &backend, ALL), daemon))
}

#[test]
fn a_gobgp_that_forgets_or_is_tampered_with_is_told_again() {
    let test = "a_gobgp_that_forgets_or_is_tampered_with_is_told_again";
    let Some((mut live, mut daemon)) = gobgp_live(test) else { return };
    live.attack();
    live.expect(&[REFLECTED, FLOODED]);

    // Started again it holds nothing.
    daemon.kill();
    fs::remove_file(gobgp::socket(&live.stage)).unwrap();
    let _daemon = gobgp::spawn(&live.stage);
    live.expect(&[REFLECTED, FLOODED]);

    // Somebody takes ours away by hand; seen in a moment, or with the next look 10 s later.
    gobgp::gobgp(&live.stage, &format!("global rib del {REFLECTED}"));
    live.expect(&[FLOODED]);
    live.expect(&[REFLECTED, FLOODED]);

    // What is somebody else's stays, whatever becomes of ours.
    let theirs = "203.0.113.250/32";
    gobgp::gobgp(&live.stage, &format!("global rib add {theirs} nexthop 10.98.0.77"));
    live.senders.clear();
    live.expect(&[]);
    let nets = live.stage.third.routes().unwrap();
    assert!(nets.iter().any(|route| route.net == theirs), "{nets:?}");
}

#[test]
fn a_reaper_that_is_killed_is_replaced_and_ends_the_lease_of_a_daemon_that_hangs() {
    let test = "a_reaper_that_is_killed_is_replaced_and_ends_the_lease_of_a_daemon_that_hangs";
    let Some((mut live, _daemon)) = gobgp_live(test) else { return };
    live.attack();
    live.expect(&[REFLECTED, FLOODED]);
    let file = live.stage.router.directory().join("reaper.lease");
    let token = || fs::read_to_string(&file).unwrap();
    let first = token();
    // `{"token":"PID TIME",...`
    let pid = first.split(['"', ' ']).find_map(|part| part.parse().ok());
    let pid = rustix::process::Pid::from_raw(pid.unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until("another reaper is in charge", || token() != first);
    assert!(!live.held().is_empty());
    // Renewed once at least, so that its own lease counts.
    wait_until("it is renewed", || token().contains("\"unrenewed_since\":null"));
    live.tidegate.as_mut().unwrap().stall();
    live.expect(&[]);
    // Nobody is left to renew it: the attack goes on, and nothing comes back.
    live.senders.clear();
}

#[test]
fn what_is_over_is_withdrawn_when_a_blocked_exabgp_goes_on() {
    let test = "what_is_over_is_withdrawn_when_a_blocked_exabgp_goes_on";
    let Some(stage) = Stage::new(test, &["exabgp"]) else { return };
    let mut daemon = exabgp::run_with_sidecar(&stage, Duration::from_secs(60));
    let backend = "kind = \"exabgp\"\nsocket = \"exabgp.sock\"";
    let mut live = Live::start(stage, backend, ALL);
    live.attack();
    live.expect(&[REFLECTED, FLOODED]);
    daemon.stall();
    live.senders.clear();
    let said = live.tidegate.as_ref().unwrap().stdout().to_owned();
    wait_until("the backend is down", || {
        let text = fs::read_to_string(&said).unwrap();
        text.lines().any(|line| line.contains("backend") && line.contains("down"))
    });
    daemon.resume();
    live.expect(&[]);
}

/// A disk of 64 KiB.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tidegate-test"]).arg(&path);
        mount.status().unwrap().success().then_some(Self(path))
    }

    fn fill(&self) {
        // What fits is enough.
        let _ = fs::write(self.0.join("filling"), vec![0; 128 * 1024]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_keeps_no_route_in_place() {
    let test = "a_full_disk_keeps_no_route_in_place";
    let Some((stage, config, bird)) = bird::run(test) else { return };
    let directory = stage.router.directory().join("small");
    let Some(disk) = SmallDisk::mount(directory.clone()) else {
        println!("skipped {test}: no file system can be mounted here");
        return;
    };
    for entry in fs::read_dir(&config.directory).unwrap().flatten() {
        fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    fs::remove_dir_all(&config.directory).unwrap();
    std::os::unix::fs::symlink(&directory, &config.directory).unwrap();
    let backend = "kind = \"bird\"\ncontrol = \"router.ctl\"\ndirectory = \"tidegate\"";
    let mut live = Live::start(stage, backend, ALL);
    live.attack();
    live.expect(&[REFLECTED, FLOODED]);
    disk.fill();
    live.senders.clear();
    live.expect(&[]);
    drop((live, bird, disk));
}

/// Started again within the lease while the attack goes on, it adopts what it left: no flap.
#[test]
fn what_a_killed_daemon_left_is_adopted_without_a_flap() {
    let test = "what_a_killed_daemon_left_is_adopted_without_a_flap";
    let Some((mut live, _daemon)) = gobgp_live(test) else { return };
    live.attack();
    live.expect(&[REFLECTED, FLOODED]);
    live.tidegate.take().unwrap().kill();
    live.run();
    let started = Instant::now();
    // Beyond the time for adoption and the earlier lease.
    wait_until("the earlier lease is over", || {
        assert!(live.held().contains(FLOODED), "the rule flapped after {:?}", started.elapsed());
        started.elapsed() > Duration::from_secs(25)
    });
    live.senders.clear();
    live.expect(&[]);
}
