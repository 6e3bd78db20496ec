//! Daemons that take routes from our speaker over loopback and pass them on: each is given the lines
//! that `tidegate adapters snippet` prints, and the third router shows what comes through.

use std::io::Write;
use std::process::{Child, Stdio};

use tidegate_adapters::snippet::{self, RelaySession};
use tidegate_bgpd::Family;
use tidegate_interop_tests::lab::bird::Bird;
use tidegate_interop_tests::lab::require;
use tidegate_model::{Community, Nlri, Route};

use crate::frr;
use crate::stage::{ROUTER, Stage, THIRD, blackhole, rule};

const KEY: &str = "s3cret-of-tide";

/// The session beside a daemon that listens at `daemon_address`.
fn session(daemon_address: &str, gtsm: bool) -> RelaySession {
    RelaySession {
        our_as: 65001,
        our_address: "127.0.0.2".parse().unwrap(),
        daemon_as: 65001,
        daemon_address: daemon_address.parse().unwrap(),
        families: Family::ALL.into(),
        max_routes: 100,
        md5: Some(KEY.to_owned()),
        gtsm,
    }
}

/// Our speaker in the router's namespace.
struct Speaker(Child);

impl Speaker {
    fn start(stage: &Stage, session: &RelaySession) -> Self {
        let mut command = stage.router.command(env!("CARGO_BIN_EXE_tidegate-lab"));
        command.args(["interop-speaker", "--flowspec", "--owned", "203.0.113.0/24"]);
        command.arg("--local").arg(session.our_address.to_string());
        command.arg("--peer").arg(session.daemon_address.to_string());
        command.arg("--local-as").arg(session.our_as.to_string());
        command.arg("--peer-as").arg(session.daemon_as.to_string());
        // With NO_EXPORT the daemon would keep it.
        command.args(["--md5", KEY, "--blackhole", "65535:666"]);
        command.args(session.gtsm.then_some("--gtsm"));
        let output = std::fs::File::create(stage.router.directory().join("speaker.out")).unwrap();
        command.stdin(Stdio::piped()).stdout(output);
        Self(command.spawn().unwrap())
    }

    fn tell(&mut self, what: &str, route: &str) {
        let line = format!("{{\"do\":\"{what}\",\"route\":\"{route}\"}}\n");
        self.0.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Routes come through, and go when our side dies without a word.
fn passes_routes_on(stage: &mut Stage, session: &RelaySession) {
    // The speaker puts NO_LLGR on everything.
    let (blackhole_community, no_llgr) = (Community::BLACKHOLE, Community::NO_LLGR);
    let hole =
        Route { communities: [blackhole_community, no_llgr].into(), ..blackhole("203.0.113.7") };
    let mut ntp = Route { communities: [no_llgr].into(), ..rule("203.0.113.9", 0.0) };
    if let Nlri::FlowSpec(rule) = &ntp.nlri {
        let mut components = rule.components().to_vec();
        components.pop();
        let port = tidegate_model::NumericMatch::equal(123);
        components.push(tidegate_model::FlowSpecComponent::SourcePort(port));
        let rule = tidegate_model::FlowSpecRule::new(rule.family(), components).unwrap();
        ntp.nlri = Nlri::FlowSpec(rule);
    }
    let mut speaker = Speaker::start(stage, session);
    speaker.tell("announce", "rtbh 203.0.113.7/32 next-hop 10.98.0.77 community 65535:666");
    speaker.tell("announce", "flow 203.0.113.9/32 protocol 17 source-port 123 rate 0");
    stage.expect_third(&[&hole, &ntp]);
    speaker.tell("withdraw", "rtbh 203.0.113.7/32 next-hop 10.98.0.77 community 65535:666");
    stage.expect_third(&[&ntp]);
    drop(speaker);
    stage.expect_third(&[]);
}

#[test]
fn bird_passes_on_what_the_speaker_says() {
    let test = "bird_passes_on_what_the_speaker_says";
    let Some(mut stage) = Stage::new(test, &[]) else { return };
    let session = session("127.0.0.1", true);
    let text = format!(
        "log stderr all;
router id {ROUTER};
ipv4 table master4;
ipv6 table master6;
protocol device {{ }}
protocol direct {{ ipv4; }}
{}
protocol bgp third {{
    local {ROUTER} as 65001;
    neighbor {THIRD} as 65003;
    passive on;
    ipv4 {{ import none; export where proto = \"tidegate\"; }};
    ipv6 {{ import none; export where proto = \"tidegate\"; }};
    flow4 {{ table flowtab4; import none; export all; }};
    flow6 {{ table flowtab6; import none; export all; }};
}}
",
        snippet::bird(&session).unwrap()
    );
    let _bird = Bird::start(&stage.router, "router", &text).unwrap();
    passes_routes_on(&mut stage, &session);
}

#[test]
fn frr_passes_on_what_the_speaker_says() {
    let test = "frr_passes_on_what_the_speaker_says";
    let Some(mut stage) = Stage::new(test, &["vtysh"]) else { return };
    let Some(_sockets) = frr::sockets(test, &stage) else { return };
    let session = session("127.0.0.1", true);
    let mut text = format!(
        "router bgp 65001
 bgp router-id {ROUTER}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {THIRD} remote-as 65003
 neighbor {THIRD} passive
 neighbor {THIRD} advertisement-interval 0
"
    );
    for family in ["ipv4 unicast", "ipv6 unicast", "ipv4 flowspec", "ipv6 flowspec"] {
        text.push_str(&format!(
            " address-family {family}\n  neighbor {THIRD} activate\n exit-address-family\n"
        ));
    }
    text.push_str("!\n");
    text.push_str(&snippet::frr(&session).unwrap());
    // Without zebra, which refuses sessions on loopback addresses.
    let _bgpd = frr::spawn(&stage, "bgpd", &text, &["-n", "-Z"]);
    passes_routes_on(&mut stage, &session);
}

#[test]
fn gobgp_passes_on_what_the_speaker_says() {
    let test = "gobgp_passes_on_what_the_speaker_says";
    let Some(mut stage) = Stage::new(test, &["gobgpd"]) else { return };
    let session = session("127.0.0.1", true);
    let mut text = format!(
        "[global.config]
as = 65001
router-id = \"{ROUTER}\"
local-address-list = [\"{ROUTER}\", \"127.0.0.1\"]
{}[[neighbors]]
[neighbors.config]
neighbor-address = \"{THIRD}\"
peer-as = 65003
[neighbors.transport.config]
passive-mode = true
",
        snippet::gobgp(&session).unwrap()
    );
    for family in Family::ALL {
        text.push_str(&format!(
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n"
        ));
    }
    let file = stage.write("gobgpd.toml", &text);
    let mut command = stage.router.command(require::program("gobgpd").unwrap());
    command.arg("-f").arg(file).args(["--pprof-disable", "--api-hosts", "127.0.0.1:50051"]);
    let _gobgpd = stage.router.spawn("gobgpd", command).unwrap();
    passes_routes_on(&mut stage, &session);
}
