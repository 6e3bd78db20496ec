//! `tidegate run` as a FlowSpec client: what a BIRD asks for is carried out by nftables.

use std::fs;

use tidegate_interop_tests::lab::bird::Bird;
use tidegate_interop_tests::lab::{End, Lab, require};

use crate::common::{Turn, programs};
use crate::stage::wait_until;

const UPSTREAM: &str = "router id 10.98.0.3;
protocol device { }
ipv4 table master4;
flow4 table flowtab4;
protocol static space { ipv4; route 203.0.113.0/24 blackhole; }
protocol static rules { flow4 { table flowtab4; };
  route flow4 { dst 203.0.113.0/27; proto 17; } { bgp_ext_community.add((generic, 0x80060000, 0x0)); };
  route flow4 { dst 203.0.113.9/32; proto 17; } { bgp_ext_community.add((generic, 0x80060000, 0x46435000)); };
  route flow4 { dst 203.0.113.53/32; proto 17; } { bgp_ext_community.add((generic, 0x80060000, 0x0)); };
  route flow4 { dst 198.51.100.9/32; proto 17; } { bgp_ext_community.add((generic, 0x80060000, 0x0)); };
}
protocol bgp tidegate { local 10.98.0.3 as 65003; neighbor 10.98.0.2 as 65001; hold time 9;
  ipv4 { import none; export all; next hop self; };
  flow4 { table flowtab4; import none; export all; };
}
";

const POLICY: &str = "[speaker]
as = 65001
router-id = \"10.98.0.2\"
[owned]
prefixes = [\"203.0.113.0/24\"]
never-touch = [\"203.0.113.53\"]
[[responses]]
name = \"look\"
action = \"observe\"
[[peers]]
name = \"upstream\"
address = \"10.98.0.3\"
as = 65003
families = [\"ipv4-unicast\", \"ipv4-flowspec\"]
";

const CONFIG: &str = "policy = \"policy\"
[capture]
interface = \"core\"
[kernel]
handshakes = \"off\"
flowspec-from = [\"upstream\"]
";

#[test]
fn rules_of_a_trusted_peer_are_carried_out_as_long_as_it_asks() {
    let test = "rules_of_a_trusted_peer_are_carried_out_as_long_as_it_asks";
    for program in ["bird", "nft"] {
        if require::or_skip(test, require::program(program)).is_none() {
            return;
        }
    }
    let Some(lab) = require::or_skip(test, Lab::new()) else { return };
    let _turn = Turn::wait();
    let upstream = lab.namespace("upstream").unwrap();
    let client = lab.namespace("client").unwrap();
    lab.link(
        End { namespace: &upstream, interface: "client", addresses: &["10.98.0.3/24"] },
        End { namespace: &client, interface: "core", addresses: &["10.98.0.2/24"] },
    )
    .unwrap();
    let _bird = Bird::start(&upstream, "upstream", UPSTREAM).unwrap();
    let directory = client.directory();
    fs::create_dir(directory.join("policy")).unwrap();
    fs::write(directory.join("policy/policy.toml"), POLICY).unwrap();
    let config = directory.join("tidegate.toml");
    fs::write(&config, CONFIG).unwrap();
    let mut command = client.command(&programs().tidegate);
    command.args(["run", "--json", "--config"]).arg(config);
    let _tidegate = client.spawn("tidegate", command).unwrap();

    let rules = || client.run("nft", ["list", "ruleset"]).unwrap_or_default();
    wait_until("both rules are there", || {
        let text = rules();
        text.contains("ip daddr 203.0.113.9") && text.contains("ip daddr 203.0.113.0/27")
    });
    let text = rules();
    // The one that says more goes first, and what it lets through the other one does not see.
    let place = |what: &str| text.find(what).unwrap();
    assert!(place("ip daddr 203.0.113.9") < place("ip daddr 203.0.113.0/27"), "{text}");
    // Never to be touched, and not the peer's to give.
    assert!(!text.contains("203.0.113.53") && !text.contains("198.51.100.9"), "{text}");

    let control = upstream.directory().join("upstream.ctl");
    upstream.run("birdc", ["-s", control.to_str().unwrap(), "disable", "rules"]).unwrap();
    wait_until("no rule is left", || {
        let text = rules();
        text.contains("chain learnt") && !text.contains("ip daddr")
    });
}
