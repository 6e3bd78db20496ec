//! `[profiles.NAME]`, and what peers make of a profile.

use super::{LEAST, PEER, beside_least, file, mistakes_in, resolve};
use crate::policy::{Family, Peer};
use crate::profile::{ActionKind, ConfinedBy, FlowSpecProfile, builtin};

/// The peer of [`PEER`] with more lines under it.
fn peer(more: &str) -> Peer {
    let policy = beside_least(&format!("{PEER}{more}")).unwrap_or_else(|it| panic!("{it}"));
    policy.peers[0].clone()
}

#[test]
fn a_peer_without_a_profile_is_standard() {
    let peer = peer("");
    assert_eq!(peer.profile, "rfc");
    assert_eq!(peer.flowspec, FlowSpecProfile::default());
    assert_eq!(peer.confined_by, ConfinedBy::Community);
}

#[test]
fn a_peer_overrides_its_profile_field_by_field() {
    let plain = peer("profile = \"tele2\"\nlocal-address = \"10.0.0.1\"\n");
    let tele2 = &builtin()["tele2"];
    assert_eq!(plain.families, [Family::Ipv4Unicast].into());
    assert_eq!(plain.rtbh.communities, tele2.rtbh.communities);
    assert_eq!(plain.rtbh.next_hop_v4.to_string(), "10.0.0.1");
    assert_eq!(plain.max_routes, 200);
    let own = peer(
        r#"
        profile = "tele2"
        families = ["ipv4-unicast", "ipv4-flowspec"]
        max-routes = 20
        rtbh = { next-hop-v4 = "192.0.2.66" }
        flowspec = { max-rules = 7 }
        "#,
    );
    assert_eq!(own.families.len(), 2);
    assert_eq!((own.max_routes, own.flowspec.max_rules), (20, 7));
    assert_eq!(own.rtbh.next_hop_v4.to_string(), "192.0.2.66");
    assert_eq!(own.rtbh.communities, tele2.rtbh.communities);
    assert_eq!(own.rtbh.lengths_v4, tele2.rtbh.lengths_v4);
    assert_eq!(own.flowspec.max_values, tele2.flowspec.max_values);
}

#[test]
fn every_profile_suits_a_peer() {
    for (name, profile) in builtin() {
        let v6 = profile.families.contains(&Family::Ipv6Unicast);
        let rtbh = if v6 { "rtbh.next-hop-v6 = \"100::1\"\n" } else { "" };
        let peer = peer(&format!("profile = \"{name}\"\nlocal-address = \"10.0.0.1\"\n{rtbh}"));
        assert_eq!(&peer.profile, name);
        assert_eq!(peer.flowspec, profile.flowspec);
        assert_eq!(peer.families, profile.families);
    }
}

#[test]
fn profiles_of_ones_own_in_any_order_and_file() {
    let peers = format!("{PEER}profile = \"edge\"\n");
    let edge = r#"
        [profiles.edge]
        like = "site"
        source = "contract"
        flowspec.max-values = 3
        [profiles.bare]
    "#;
    let site = r#"
        [profiles.site]
        like = "exabgp"
        summary = "ours"
        rtbh.communities = ["65001:666", "65001:6:1", "no-export"]
        flowspec = { actions = ["discard"], operators = ["="], bitmasks = [], tcp-flags = ["syn"], fragment-bits = ["is"] }
    "#;
    let files = [("a.toml", &*peers), ("b.toml", edge), ("c.toml", LEAST), ("d.toml", site)];
    let files: Vec<_> = files.iter().map(|(name, text)| file(name, *text)).collect();
    let policy = resolve("policy", &files).unwrap_or_else(|it| panic!("{it}"));
    let peer = &policy.peers[0];
    assert_eq!(peer.profile, "edge");
    assert_eq!(peer.flowspec.max_values, 3);
    assert_eq!(peer.flowspec.actions, [ActionKind::Discard].into());
    assert_eq!((peer.flowspec.tcp_flags, peer.flowspec.fragment_bits), (2, 2));
    assert!(peer.flowspec.bitmasks.is_empty() && peer.flowspec.operators.len() == 1);
    assert_eq!((peer.rtbh.communities.len(), peer.rtbh.large_communities.len()), (2, 1));
}

#[test]
fn profiles_that_are_none() {
    insta::assert_snapshot!(mistakes_in(r#"[profiles.frr]
[profiles.a]
like = "b"
[profiles.b]
like = "a"
[profiles.c]
like = "fr"
[profiles."two words"]
[profiles.d]
colour = "red"
[profiles.e]
like = "d"
nonsense = 1
[[peers]]
name = "edge"
address = "10.0.0.2"
as = 65001
profile = "brid"
colour = "red"
[[peers]]
name = "other"
address = "10.0.0.3"
as = 65001
profile = "c"
"#), @r#"
    p.toml:1:11: error: the profile `frr` comes with the program
      1 | [profiles.frr]
        |           ^^^
      help: choose another name, and write `like = "frr"` in it
    p.toml:3:8: error: the profile `a` is like itself in the end
      3 | like = "b"
        |        ^^^
      help: let one of the circle be like a profile that comes with the program
    p.toml:5:8: error: the profile `b` is like itself in the end
      5 | like = "a"
        |        ^^^
      help: let one of the circle be like a profile that comes with the program
    p.toml:7:8: error: there is no profile `fr`
      7 | like = "fr"
        |        ^^^^
      help: did you mean `frr`?
    p.toml:8:11: error: `two words` is not a name of a profile
      8 | [profiles."two words"]
        |           ^^^^^^^^^^^
      help: write 1 to 64 letters, digits, `-`, `_` or `.`
    p.toml:10:1: error: `colour` is not known in `profiles.d`
      10 | colour = "red"
         | ^^^^^^
      help: write one of `confined-by`, `families`, `flowspec`, `like`, `max-routes`, `rtbh`, `sessions`, `source` or `summary`
    p.toml:13:1: error: `nonsense` is not known in `profiles.e`
      13 | nonsense = 1
         | ^^^^^^^^
      help: write one of `confined-by`, `families`, `flowspec`, `like`, `max-routes`, `rtbh`, `sessions`, `source` or `summary`
    p.toml:18:11: error: there is no profile `brid`
      18 | profile = "brid"
         |           ^^^^^^
      help: did you mean `bird`?
    p.toml:19:1: error: `colour` is not known in `peers`
      19 | colour = "red"
         | ^^^^^^
      help: write one of `address`, `as`, `communities`, `confined-by`, `families`, `flowspec`, `hold-time`, `listen-limit`, `listen-range`, `local-address`, `max-routes`, `mode` or 6 others
    "#);
}

#[test]
fn fields_that_are_wrong() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "edge"
address = "10.0.0.2"
as = 65001
sessions = "two"
confined-by = "us"
[peers.rtbh]
lengths-v4 = [32]
lengths-v6 = [128, 64]
[peers.flowspec]
components-v4 = ["destination", "ports"]
operators = ["=="]
bitmasks = ["all"]
tcp-flags = ["sin"]
fragment-bits = ["frag"]
actions = ["drop"]
lengths-v4 = [16, 32]
max-values = 0
max-octets = 4095
max-rules = 0
max-size = 1
"#), @r#"
    p.toml:5:12: error: `two` is not a number of sessions
      5 | sessions = "two"
        |            ^^^^^
      help: write one of `shared` or `separate`
    p.toml:6:15: error: `us` is not a way to confine routes
      6 | confined-by = "us"
        |               ^^^^
      help: write one of `no-export` or `peer`
    p.toml:8:14: error: `peers.rtbh.lengths-v4` must be two lengths
      8 | lengths-v4 = [32]
        |              ^^^^
      help: write `lengths-v4 = [32, 32]`: the shortest and the longest
    p.toml:9:14: error: 128 is longer than 64
      9 | lengths-v6 = [128, 64]
        |              ^^^^^^^^^
      help: write the shortest length first
    p.toml:11:33: error: `ports` is not a component
      11 | components-v4 = ["destination", "ports"]
         |                                 ^^^^^^^
      help: did you mean `port`?
    p.toml:12:14: error: `==` is not a comparison
      12 | operators = ["=="]
         |              ^^^^
      help: did you mean `=`?
    p.toml:13:13: error: `all` is not a form of a bitmask test
      13 | bitmasks = ["all"]
         |             ^^^^^
      help: did you mean `all-of`?
    p.toml:14:14: error: `sin` is not a TCP flag
      14 | tcp-flags = ["sin"]
         |              ^^^^^
      help: did you mean `fin`?
    p.toml:15:18: error: `frag` is not a fragment bit
      15 | fragment-bits = ["frag"]
         |                  ^^^^^^
      help: write one of `df`, `is`, `first` or `last`
    p.toml:16:12: error: `drop` is not an action
      16 | actions = ["drop"]
         |            ^^^^^^
      help: write one of `discard`, `rate-limit-bytes`, `rate-limit-packets`, `traffic-action`, `redirect`, `redirect-to-ip` or `traffic-marking`
    p.toml:17:15: error: `peers.flowspec.lengths-v4` must be from 24 to 32, not 16
      17 | lengths-v4 = [16, 32]
         |               ^^
      help: write items such as `32`
    p.toml:18:14: error: `peers.flowspec.max-values` must be from 1 to 78, not 0
      18 | max-values = 0
         |              ^
      help: write `max-values = 5`
    p.toml:19:14: error: `peers.flowspec.max-octets` must be from 32 to 239, not 4095
      19 | max-octets = 4095
         |              ^^^^
      help: write `max-octets = 239`
    p.toml:20:13: error: `peers.flowspec.max-rules` must be from 1 to 100000, not 0
      20 | max-rules = 0
         |             ^
      help: write `max-rules = 50`
    p.toml:21:1: error: `max-size` is not known in `peers.flowspec`
      21 | max-size = 1
         | ^^^^^^^^
      help: write one of `actions`, `bitmasks`, `components-v4`, `components-v6`, `fragment-bits`, `lengths-v4`, `lengths-v6`, `max-octets`, `max-rules`, `max-values`, `operators` or `tcp-flags`
    "#);
}

#[test]
fn blackholes_that_would_spread_or_would_not() {
    insta::assert_snapshot!(mistakes_in(r#"[profiles.open]
like = "de-cix"
confined-by = "no-export"
[profiles.shut]
like = "rfc"
confined-by = "peer"
[[peers]]
name = "ix"
address = "10.0.0.2"
local-address = "10.0.0.1"
as = 65001
profile = "de-cix"
families = ["ipv4-unicast"]
communities = ["no-export"]
[[peers]]
name = "ix2"
address = "10.0.0.3"
as = 65001
profile = "de-cix"
rtbh.communities = ["blackhole", "no-export"]
"#), @r#"
    p.toml:1:1: error: a blackhole with these communities could spread beyond the peer
      1 | [profiles.open]
        | ^^^^^^^^^^^^^^^
      help: add `no-export` or `no-advertise` (RFC 7999 §3.2)
    p.toml:4:1: error: a blackhole with these communities would not be passed on, as `confined-by = "peer"` has it
      4 | [profiles.shut]
        | ^^^^^^^^^^^^^^^
      help: leave out `no-export` and `no-advertise`, or write `confined-by = "no-export"`
    p.toml:7:1: error: a blackhole with these communities would not be passed on, as `confined-by = "peer"` has it
      7 | [[peers]]
        | ^^^^^^^^^
      help: leave out `no-export` and `no-advertise`, or write `confined-by = "no-export"`
    p.toml:20:20: error: a blackhole with these communities would not be passed on, as `confined-by = "peer"` has it
      20 | rtbh.communities = ["blackhole", "no-export"]
         |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: leave out `no-export` and `no-advertise`, or write `confined-by = "no-export"`
    "#);
}

#[test]
fn next_hops_that_are_not_known() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "a"
address = "10.0.0.2"
as = 65001
profile = "bird"
[[peers]]
name = "b"
address = "10.0.0.3"
local-address = "10.0.0.1"
as = 65001
profile = "bird"
[[peers]]
name = "c"
address = "10.0.0.4"
as = 65001
sessions = "separate"
"#), @r#"
    p.toml:1:1: error: the peer wants our own IPv4 address as the next hop of blackholes, and this session names none
      1 | [[peers]]
        | ^^^^^^^^^
      help: add an IPv4 `local-address`, or `next-hop-v4` in `rtbh`, or list `families` without `ipv4-unicast`
    p.toml:1:1: error: the peer wants our own IPv6 address as the next hop of blackholes, and this session names none
      1 | [[peers]]
        | ^^^^^^^^^
      help: add an IPv6 `local-address`, or `next-hop-v6` in `rtbh`, or list `families` without `ipv6-unicast`
    p.toml:6:1: error: the peer wants our own IPv6 address as the next hop of blackholes, and this session names none
      6 | [[peers]]
        | ^^^^^^^^^
      help: add an IPv6 `local-address`, or `next-hop-v6` in `rtbh`, or list `families` without `ipv6-unicast`
    p.toml:12:1: error: the peer takes blackholes and FlowSpec rules on two sessions
      12 | [[peers]]
         | ^^^^^^^^^
      help: write two peers, one with the `unicast` and one with the `flowspec` `families`
    "#);
}

#[test]
fn one_session_for_each_kind() {
    let texts = |families: &str| {
        beside_least(&format!("{PEER}sessions = \"separate\"\nfamilies = {families}\n"))
    };
    assert!(texts(r#"["ipv4-unicast", "ipv6-unicast"]"#).is_ok());
    assert!(texts(r#"["ipv4-flowspec"]"#).is_ok());
    assert!(texts(r#"["ipv4-unicast", "ipv6-flowspec"]"#).is_err());
}
