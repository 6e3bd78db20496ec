//! FastNetMon's community edition: `fastnetmon.conf`, `networks_list` and `networks_whitelist`.
//!
//! The names and meanings of the keys are those of the sample configuration of version 1.2.

mod conf;
mod thresholds;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use tidegate_model::{Community, Prefix};

use self::conf::{Conf, Entry};
use super::{Account, Imported, quoted};

/// A file that is longer is none of these.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// What FastNetMon does not know and tidegate needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Our AS number.
    pub asn: Option<u32>,
    /// BGP identifier.
    pub router_id: Option<Ipv4Addr>,
    /// The router that ExaBGP or GoBGP tells, and its AS number.
    pub neighbor: Option<(IpAddr, u32)>,
}

/// The texts of the three files, each with its name. The lists may be missing.
#[derive(Clone, Debug)]
pub struct Files {
    /// `fastnetmon.conf`.
    pub conf: (String, String),
    /// `networks_list`.
    pub networks: Result<(String, String), String>,
    /// `networks_whitelist`.
    pub whitelist: Result<(String, String), String>,
}

impl Files {
    /// Reads the configuration at `conf`, and the lists that it names or that are given instead.
    ///
    /// # Errors
    /// If the configuration itself cannot be read; with file and reason.
    pub fn read(
        conf: &Path,
        networks: Option<&Path>,
        whitelist: Option<&Path>,
    ) -> Result<Self, String> {
        let text = read(conf)?;
        let parsed = Conf::parse(&text.0, &text.1);
        let list = |given: Option<&Path>, key, usual| {
            let named = parsed.peek(key).map_or(usual, |entry| entry.value.as_str());
            read(given.unwrap_or(Path::new(named)))
        };
        Ok(Self {
            networks: list(networks, "networks_list_path", "/etc/networks_list"),
            whitelist: list(whitelist, "white_list_path", "/etc/networks_whitelist"),
            conf: text,
        })
    }
}

fn read(path: &Path) -> Result<(String, String), String> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    if size.len() > MAX_FILE_SIZE {
        return Err(format!(
            "{name} is {} bytes long; at most {MAX_FILE_SIZE} are read",
            size.len()
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    // Comments in another encoding are no reason to stop.
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Makes a configuration and a policy of `files`.
///
/// # Errors
/// If nothing is protected: there is no policy without owned prefixes.
pub fn import(files: &Files, known: &Known) -> Result<Imported, String> {
    let mut account = Account::default();
    let mut conf = Conf::parse(&files.conf.0, &files.conf.1);
    account.left_out.append(&mut conf.faults);
    let networks = files.networks.as_ref().map_err(|why| {
        format!("{why}; name the file with the protected networks with --networks FILE")
    })?;
    let owned = owned(networks, &mut account);
    if owned.is_empty() {
        return Err(format!("{} names no network: there is nothing to protect", networks.0));
    }
    let spared = spared(&files.whitelist, &owned, &mut account);
    let groups = conf.take_groups(&owned, &mut account);
    let config = configuration(&mut conf, &mut account);
    let mut policy = speaker(&mut conf, known, &mut account);
    write_list(&mut policy, "[owned]\nprefixes = ", &owned);
    if !spared.is_empty() {
        write_list(&mut policy, "never-touch = ", &spared);
    }
    policy.push_str(&thresholds::write(&mut conf, &groups, &mut account));
    policy.push_str(&conduct(&mut conf, &mut account));
    policy.push_str(&actions(&mut conf, known, &mut account));
    let config = config + &backend(&policy);
    conf.leave_rest(&mut account);
    account.sort();
    Ok(Imported { config, policy, account })
}

/// The networks, without those that lie in others.
fn owned((name, text): &(String, String), account: &mut Account) -> BTreeSet<Prefix> {
    let mut prefixes = BTreeSet::new();
    for (line, item) in conf::lines(text) {
        let place = format!("{name}:{line}");
        match conf::prefix(item) {
            Ok((prefix, None)) => {
                prefixes.insert(prefix);
            }
            Ok((prefix, Some(why))) => {
                account.changed.push(conf::remark(&place, item, format!("{prefix}: {why}")));
                prefixes.insert(prefix);
            }
            Err(why) => account.left_out.push(conf::remark(&place, item, why)),
        }
    }
    widest(prefixes)
}

/// Those that lie in no other.
fn widest(mut prefixes: BTreeSet<Prefix>) -> BTreeSet<Prefix> {
    let all: Vec<Prefix> = prefixes.iter().copied().collect();
    prefixes.retain(|prefix| !all.iter().any(|other| other != prefix && other.contains(prefix)));
    prefixes
}

/// The white list, as far as it is in owned space.
fn spared(
    list: &Result<(String, String), String>,
    owned: &BTreeSet<Prefix>,
    account: &mut Account,
) -> BTreeSet<Prefix> {
    let (name, text) = match list {
        Ok(list) => list,
        Err(why) => {
            account.to_do.push(format!(
                "{why}: nothing is spared but the sessions; list what must never be touched in \
                 `never-touch`, or name the file with --whitelist FILE"
            ));
            return BTreeSet::new();
        }
    };
    let mut spared = BTreeSet::new();
    for (line, item) in conf::lines(text) {
        let place = format!("{name}:{line}");
        match conf::prefix(item) {
            Ok((prefix, _)) if owned.contains(&prefix) => account.left_out.push(conf::remark(
                &place,
                item,
                "a whole protected network is spared: take it out of `owned.prefixes` instead"
                    .to_owned(),
            )),
            Ok((prefix, _)) if owned.iter().any(|owned| owned.contains(&prefix)) => {
                spared.insert(prefix);
                let text = "owned.never-touch: attacks on it are seen and told, nothing is done";
                account.changed.push(conf::remark(&place, item, text.to_owned()));
            }
            Ok(_) => account.left_out.push(conf::remark(
                &place,
                item,
                "not in a protected network: nothing is done there anyway".to_owned(),
            )),
            Err(why) => account.left_out.push(conf::remark(&place, item, why)),
        }
    }
    widest(spared)
}

fn write_list(text: &mut String, key: &str, prefixes: &BTreeSet<Prefix>) {
    text.push_str(key);
    text.push_str("[\n");
    for prefix in prefixes {
        let _ = writeln!(text, "    \"{prefix}\",");
    }
    text.push_str("]\n");
}

/// `tidegate.toml`.
fn configuration(conf: &mut Conf, account: &mut Account) -> String {
    let mut text = String::from(
        "# What belongs to this machine; the policy is in the directory beside this file.\n\
         policy = \"policy\"\n\n",
    );
    let captures: Vec<Entry> =
        ["mirror_afpacket", "mirror_afxdp", "mirror_netmap", "mirror", "pcap"]
            .iter()
            .filter_map(|key| conf.take_on(key))
            .collect();
    let interfaces = conf.take("interfaces").filter(|_| !captures.is_empty());
    let names: BTreeSet<&str> = interfaces
        .iter()
        .flat_map(|entry| entry.value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let single = names.len() == 1 || !names.contains("any");
    match &interfaces {
        Some(entry) if !names.is_empty() && single => {
            let names: Vec<String> = names.into_iter().map(quoted).collect();
            let _ = writeln!(text, "[capture]\ninterfaces = [{}]", names.join(", "));
            account.carried.push(entry.remark("capture.interfaces"));
        }
        _ => account.to_do.push(
            "say in `[capture]` of tidegate.toml which interface sees the traffic; without it, the one \
             of the default route is taken"
                .to_owned(),
        ),
    }
    if let Some(rate) = conf.take("mirror_af_packet_custom_sampling_rate")
        && rate.value != "1"
    {
        let why = "tidegate counts what it sees and multiplies nothing: mirror every packet";
        account.left_out.push(rate.remark(why));
    }
    for (key, protocol) in [("netflow", "NetFlow"), ("sflow", "sFlow")] {
        if let Some(entry) = conf.take_on(key) {
            account.left_out.push(entry.remark(&format!(
                "{protocol} is not received: tidegate watches packets. A collector of flows can report \
                 attacks to its API"
            )));
        }
    }
    if let Some(entry) = conf.take_on("collect_attack_pcap_dumps") {
        text.push_str("\n[forensics]\ndirectory = \"/var/lib/tidegate/forensics\"\n");
        account
            .changed
            .push(entry.remark("[forensics]: pcapng, with packets from before the attack"));
    }
    text.push_str("\n[incidents]\ndatabase = \"/var/lib/tidegate/incidents.db\"\n");
    if let Some(script) = conf.take("notify_script_path").filter(|it| !it.value.is_empty()) {
        if script.value.starts_with('/') && !script.value.contains(char::is_control) {
            let _ = write!(
                text,
                "\n[alerts.script]\ntype = \"exec\"\ncommand = [{}]\nconvention = \"fastnetmon\"\n",
                quoted(&script.value)
            );
            account.carried.push(script.remark("[alerts.script], called as FastNetMon calls it"));
        } else {
            account.left_out.push(script.remark("not an absolute path of plain characters"));
        }
    }
    text
}

/// `[speaker]`.
fn speaker(conf: &mut Conf, known: &Known, account: &mut Account) -> String {
    let guess = ["exabgp_community", "gobgp_community_host", "exabgp_community_host"]
        .iter()
        .filter_map(|key| conf.peek(key))
        .find_map(|entry| conf::communities(&entry.value).ok()?.first().map(conf::asn));
    let asn = known.asn.unwrap_or_else(|| {
        let guess = guess.filter(|asn| ![0, 23456, 65535].contains(asn)).unwrap_or(64512_u16);
        account.to_do.push(format!(
            "`speaker.as = {guess}` is a guess: write our AS number, or import with --as N"
        ));
        u32::from(guess)
    });
    let router_id = known.router_id.unwrap_or_else(|| {
        account.to_do.push(
            "`speaker.router-id` is an example: write an address of this host, or import with \
             --router-id ADDRESS"
                .to_owned(),
        );
        Ipv4Addr::new(192, 0, 2, 1)
    });
    format!(
        "# Made of {}.\n\n[speaker]\nas = {asn}\nrouter-id = \"{router_id}\"\n\n",
        conf.name.replace(|it: char| it.is_control(), "?")
    )
}

/// How it behaves whatever the action is.
fn conduct(conf: &mut Conf, account: &mut Account) -> String {
    if let Some(entry) = conf.take("enable_ban") {
        let was = if entry.is_on() {
            "Set to \"auto\" once what it says is what you want"
        } else {
            "As before"
        };
        account
            .changed
            .push(entry.remark(&format!("[approval]: everything is only observed. {was}")));
    }
    if let Some(entry) = conf.take("enable_ban_ipv6").filter(|entry| !entry.is_on()) {
        account.left_out.push(entry.remark(
            "approval is not by address family: leave the IPv6 networks out, or give them a group \
             with `approval` of its own",
        ));
    }
    if let Some(entry) = conf.take_on("process_outgoing_traffic") {
        account
            .left_out
            .push(entry.remark("attacks from the protected networks are not looked for"));
    }
    "\n# Nothing is done yet. Watch what would be, then write \"propose\" or \"auto\".\n\
     [approval]\nlocal = \"observe\"\nflowspec = \"observe\"\nrtbh = \"observe\"\n"
        .to_owned()
}

/// One of the daemons that FastNetMon announces through.
struct Way {
    name: &'static str,
    host: Vec<Entry>,
    subnet: Option<Entry>,
    communities: Option<Entry>,
    next_hop: Option<Entry>,
}

/// The response, and whom it tells.
fn actions(conf: &mut Conf, known: &Known, account: &mut Account) -> String {
    let mut ways = Vec::new();
    if let Some(entry) = conf.take_on("exabgp") {
        let host = conf.take_on("exabgp_announce_host");
        ways.push(Way {
            name: "exabgp",
            host: [Some(entry), host].into_iter().flatten().collect(),
            subnet: conf.take_on("exabgp_announce_whole_subnet"),
            communities: conf
                .take("exabgp_community_host")
                .or_else(|| conf.take("exabgp_community")),
            next_hop: conf.take("exabgp_next_hop"),
        });
        let pipe = conf.take("exabgp_command_pipe");
        account.left_out.extend(pipe.map(|pipe| {
            pipe.remark("ExaBGP runs `tidegate exabgp-sidecar` instead: see docs/adapters.md")
        }));
    }
    if let Some(entry) = conf.take_on("gobgp") {
        let host = conf.take_on("gobgp_announce_host");
        ways.push(Way {
            name: "gobgp",
            host: [Some(entry), host].into_iter().flatten().collect(),
            subnet: conf.take_on("gobgp_announce_whole_subnet"),
            communities: conf.take("gobgp_community_host"),
            next_hop: conf.take("gobgp_next_hop_host_ipv4").or_else(|| conf.take("gobgp_next_hop")),
        });
    }
    let lifetime = lifetime(conf, account);
    let mut ways = ways.into_iter();
    let Some(way) = ways.next() else {
        account.to_do.push(
            "FastNetMon announced nothing: add `[[peers]]` and `[[responses]]` for tidegate to act"
                .to_owned(),
        );
        return String::new();
    };
    for more in ways {
        account.to_do.push(format!(
            "FastNetMon announced through {} too: add a peer with `via = \"{}\"`",
            more.name, more.name
        ));
        account.left_out.extend(more.host.iter().map(|it| it.remark("only one way is imported")));
    }
    if let Some(subnet) = &way.subnet {
        account.left_out.push(subnet.remark(
            "only the address that is attacked is blackholed, never the network around it",
        ));
    }
    let Some((address, asn)) = known.neighbor else {
        account.to_do.push(format!(
            "say which router {} tells: import again with --neighbor ADDRESS --neighbor-as N",
            way.name
        ));
        account.left_out.extend(way.host.iter().map(|it| it.remark("the router is not known")));
        return String::new();
    };
    account.carried.extend(way.host.iter().map(|it| it.remark("[[responses]] \"blackhole\"")));
    let mut text = format!(
        "\n[[responses]]\nname = \"blackhole\"\naction = \"rtbh\"\n{lifetime}\n\
         [[peers]]\nname = \"router\"\naddress = \"{address}\"\nas = {asn}\nvia = \"{}\"\n\
         families = [\"ipv4-unicast\", \"ipv6-unicast\"]\n",
        way.name
    );
    text.push_str(&blackhole(&way, account));
    text
}

/// `peers.rtbh`.
fn blackhole(way: &Way, account: &mut Account) -> String {
    let mut keys = Vec::new();
    if let Some(entry) = &way.communities {
        let scope = [Community::NO_EXPORT, Community::NO_ADVERTISE];
        match conf::communities(&entry.value) {
            Ok(communities) if communities.iter().all(|it| scope.contains(it)) => {
                let why = "none of these tells a blackhole: 65535:666 and no-export are used";
                account.left_out.push(entry.remark(why));
            }
            Ok(communities) => {
                let mut names: Vec<String> =
                    communities.iter().map(|it| format!("\"{it}\"")).collect();
                if communities.iter().any(|it| scope.contains(it)) {
                    account.carried.push(entry.remark("peers.rtbh.communities"));
                } else {
                    names.push("\"no-export\"".to_owned());
                    let text = "peers.rtbh.communities; no-export is added, which keeps blackholes \
                                from spreading (RFC 7999 §3.2)";
                    account.changed.push(entry.remark(text));
                }
                keys.push(format!("communities = [{}]", names.join(", ")));
            }
            Err(why) => account.left_out.push(entry.remark(&why)),
        }
    }
    if let Some(entry) = &way.next_hop {
        match entry.value.parse::<Ipv4Addr>() {
            Ok(address)
                if !address.is_unspecified()
                    && !address.is_multicast()
                    && !address.is_broadcast() =>
            {
                keys.push(format!("next-hop-v4 = \"{address}\""));
                account.carried.push(entry.remark("peers.rtbh.next-hop-v4"));
            }
            _ => account.left_out.push(entry.remark("tidegate's own discard next hop is used")),
        }
    }
    if keys.is_empty() { String::new() } else { format!("rtbh = {{ {} }}\n", keys.join(", ")) }
}

/// `responses.lifetime`.
fn lifetime(conf: &mut Conf, account: &mut Account) -> String {
    const LONGEST: u64 = 7 * 24 * 3600;
    let until_over = conf.take("unban_only_if_attack_finished");
    let Some(entry) = conf.take("ban_time") else { return String::new() };
    let Ok(seconds) = entry.value.parse::<u64>() else {
        account.left_out.push(entry.remark("not a number of seconds"));
        return String::new();
    };
    if seconds == 0 || seconds > LONGEST {
        account.changed.push(entry.remark("no mitigation lasts longer than 7d without a person"));
        return "lifetime = { at-least = \"60s\", at-most = \"7d\" }\n".to_owned();
    }
    if until_over.as_ref().is_some_and(|entry| !entry.is_on()) {
        account.carried.push(entry.remark("responses.lifetime.at-most"));
        let least = seconds.min(60);
        return format!("lifetime = {{ at-least = \"{least}s\", at-most = \"{seconds}s\" }}\n");
    }
    account.changed.push(entry.remark(
        "responses.lifetime: a blackhole stays a minute at least, and goes when a look shows that the \
         attack is over",
    ));
    let most = seconds.max(6 * 3600);
    format!("lifetime = {{ at-least = \"60s\", at-most = \"{most}s\" }}\n")
}

/// `[[backends]]` for the peer of the policy.
fn backend(policy: &str) -> String {
    let via = |name: &str| policy.contains(&format!("via = \"{name}\""));
    if via("exabgp") {
        return "\n[[backends]]\nname = \"exabgp\"\nkind = \"exabgp\"\n\
                socket = \"/run/tidegate/exabgp.sock\"\n"
            .to_owned();
    }
    if via("gobgp") {
        return "\n[[backends]]\nname = \"gobgp\"\nkind = \"gobgp\"\n\
                address = \"http://127.0.0.1:50051\"\n"
            .to_owned();
    }
    String::new()
}

/// Host groups: owned prefixes by name.
type Groups = BTreeMap<String, BTreeSet<Prefix>>;

#[cfg(test)]
mod tests;
