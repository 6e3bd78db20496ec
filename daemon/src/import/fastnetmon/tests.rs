use super::*;
use crate::config;
use crate::import::write_new;

const CONF: &str = "\
# comment
enable_ban = on
enable_ban_ipv6 = off
process_outgoing_traffic = on
ban_time = 1900
unban_only_if_attack_finished = on
networks_list_path = /etc/networks_list
ban_for_pps = on
ban_for_bandwidth = on
ban_for_flows = on
threshold_pps = 20000
threshold_mbps = 1000
threshold_flows = 3500
ban_for_udp_pps = on
threshold_udp_pps = 9000
ban_for_tcp_pps = off
threshold_tcp_pps = 7
mirror_afpacket = on
interfaces = eth3,eth4
mirror_af_packet_custom_sampling_rate = 16
netflow = on
netflow_port = 2055
notify_script_path = /usr/local/bin/notify_about_attack.sh
collect_attack_pcap_dumps = on
redis_enabled = on
redis_port = 6379
mongodb_enabled = off
prometheus = on
prometheus_port = 9209
exabgp = on
exabgp_command_pipe = /var/run/exabgp.cmd
exabgp_community = [65001:666 65001:777]
exabgp_next_hop = 10.0.3.114
exabgp_announce_host = on
exabgp_announce_whole_subnet = on
gobgp = off
gobgp_next_hop = 0.0.0.0
hostgroup = my_hosts:203.0.113.16/28,198.51.100.1/32
hostgroup = bad name:203.0.113.0/28
my_hosts_enable_ban = off
my_hosts_ban_for_pps = on
my_hosts_threshold_pps = 100000
what_is_this = 1
no setting
";

const NETWORKS: &str =
    "203.0.113.0/24\n203.0.113.128/25\n2001:db8:1::/48\n198.18.0.1/15\nnonsense\n";
const WHITELIST: &str = "203.0.113.53/32\n192.0.2.0/24\n203.0.113.0/24\n";

fn files(conf: &str, networks: &str, whitelist: &str) -> Files {
    let named = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    Files {
        conf: named("fastnetmon.conf", conf),
        networks: Ok(named("networks_list", networks)),
        whitelist: Ok(named("networks_whitelist", whitelist)),
    }
}

fn known() -> Known {
    Known {
        asn: Some(65010),
        router_id: Some(Ipv4Addr::new(192, 0, 2, 10)),
        neighbor: Some((Ipv4Addr::new(192, 0, 2, 1).into(), 65001)),
    }
}

/// What the files say when they are written and read again.
fn checked(imported: &Imported) -> (config::Config, tidegate_policy::Policy) {
    let folder = tempfile::tempdir().unwrap();
    let write = || write_new(folder.path(), &imported.config, &imported.policy);
    let [config, _] = write().unwrap();
    let again = write().unwrap_err();
    assert_eq!(again.1.kind(), std::io::ErrorKind::AlreadyExists);
    config::load(&config).unwrap_or_else(|report| panic!("{report}\n{}", imported.policy))
}

#[test]
fn a_configuration_is_carried_over() {
    let imported = import(&files(CONF, NETWORKS, WHITELIST), &known()).unwrap();
    insta::assert_snapshot!("config", imported.config);
    insta::assert_snapshot!("policy", imported.policy);
    insta::assert_snapshot!("account", imported.account);
    let (config, policy) = checked(&imported);
    assert_eq!(config.capture.interfaces, ["eth3", "eth4"]);
    assert_eq!(policy.space.owned.len(), 3);
    assert_eq!(policy.groups.len(), 2);
    assert!(policy.responses.iter().all(|response| response.name == "blackhole"));
}

#[test]
fn whatever_is_missing_is_said_and_the_rest_is_sound() {
    let mut bare = files("", "203.0.113.0/24", "");
    bare.whitelist = Err("cannot read /etc/networks_whitelist: No such file".to_owned());
    let imported = import(&bare, &Known::default()).unwrap();
    let (_, policy) = checked(&imported);
    assert!(policy.responses.is_empty() && policy.peers.is_empty());
    insta::assert_snapshot!(imported.account);
}

#[test]
fn nothing_to_protect_is_no_policy() {
    let known = known();
    let why = import(&files(CONF, "# none\n0.0.0.0/0\n", ""), &known).unwrap_err();
    assert_eq!(why, "networks_list names no network: there is nothing to protect");
    let mut missing = files(CONF, "", "");
    missing.networks = Err("cannot read /etc/networks_list: No such file".to_owned());
    assert!(import(&missing, &known).unwrap_err().contains("--networks FILE"));
}

/// Whatever stands in the files, what comes out is read without a mistake.
#[test]
fn hostile_text_makes_no_faulty_policy() {
    let long = "x".repeat(5000);
    for conf in [
        "interfaces = \"\\\nmirror_afpacket = on\n",
        "mirror_afpacket = on\ninterfaces = ,,\n",
        "exabgp = on\nexabgp_community = [nonsense\nexabgp_next_hop = ::1\n",
        "exabgp = on\nexabgp_community = 65535:65281\nexabgp_next_hop = 255.255.255.255\n",
        "exabgp = on\ngobgp = on\nban_time = 0\n",
        "gobgp = on\nban_time = 99999999999999999999\n",
        "gobgp = on\nban_time = 5\nunban_only_if_attack_finished = off\n",
        "ban_for_pps = on\nthreshold_pps = 0\nban_for_bandwidth = on\nthreshold_mbps = 18446744073709551615\n",
        "hostgroup = default:203.0.113.0/28\nhostgroup = a:203.0.113.0/28,203.0.113.0/29\nhostgroup = a:203.0.113.0/28\n",
        "hostgroup = a:203.0.113.0/28\nhostgroup = b:203.0.113.0/28,203.0.113.0/29\n",
        "notify_script_path = relative.sh\n",
        "notify_script_path = /bin/a\u{7}\"b\n",
        &long,
        &format!("{long} = {long}"),
    ] {
        checked(
            &import(&files(conf, "203.0.113.0/24", "203.0.113.0/25\n203.0.113.0/26"), &known())
                .unwrap(),
        );
    }
}
