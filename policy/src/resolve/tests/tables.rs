//! Tables that say what cannot be, and exactly what is said about each.

use super::{LEAST, mistakes_in, said};

// Prefixes that are not owned, or claimed twice.

#[test]
fn prefixes_that_are_not_owned() {
    insta::assert_snapshot!(mistakes_in(r#"[groups.web]
prefixes = ["198.51.100.0/24", "203.0.113.7/25", "203.0.113"]
"#), @r#"
    p.toml:2:13: error: `198.51.100.0/24` does not lie in an owned prefix
      2 | prefixes = ["198.51.100.0/24", "203.0.113.7/25", "203.0.113"]
        |             ^^^^^^^^^^^^^^^^^
      help: correct it, or add it to `prefixes` in `[owned]`; owned is `203.0.113.0/24`, `2001:db8:1::/48`
    p.toml:2:32: error: `203.0.113.7/25` has bits set behind its length
      2 | prefixes = ["198.51.100.0/24", "203.0.113.7/25", "203.0.113"]
        |                                ^^^^^^^^^^^^^^^^
      help: did you mean `203.0.113.0/25`?
    p.toml:2:50: error: `203.0.113` is not an address or prefix
      2 | prefixes = ["198.51.100.0/24", "203.0.113.7/25", "203.0.113"]
        |                                                  ^^^^^^^^^^^
      help: write one like `192.0.2.0/24` or `2001:db8::/48`
    "#);
}

#[test]
fn prefixes_claimed_twice() {
    insta::assert_snapshot!(mistakes_in(r#"[groups.a]
prefixes = ["203.0.113.0/25", "203.0.113.0/25", "203.0.113.64/26"]
[groups.b]
prefixes = ["203.0.113.0/25"]
"#), @r#"
    p.toml:2:31: error: `203.0.113.0/25` is given twice in `groups.a.prefixes`
      2 | prefixes = ["203.0.113.0/25", "203.0.113.0/25", "203.0.113.64/26"]
        |                               ^^^^^^^^^^^^^^^^
      help: remove one; the first is at p.toml:2
    p.toml:2:49: error: `203.0.113.64/26` lies in `203.0.113.0/25`, which `groups.a.prefixes` has too
      2 | prefixes = ["203.0.113.0/25", "203.0.113.0/25", "203.0.113.64/26"]
        |                                                 ^^^^^^^^^^^^^^^^^
      help: remove `203.0.113.64/26`: `203.0.113.0/25` is enough
    p.toml:4:13: error: `203.0.113.0/25` is in the groups `a` and `b`
      4 | prefixes = ["203.0.113.0/25"]
        |             ^^^^^^^^^^^^^^^^
      help: leave it in one; a longer prefix may be in another group
    "#);
}

#[test]
fn groups_without_prefixes() {
    insta::assert_snapshot!(mistakes_in(r#"[groups.web]
prefixes = []
[groups.mail]
[groups."two words"]
prefixes = ["203.0.113.0/25"]
[groups.default]
prefixes = ["203.0.113.0/25"]
"#), @r#"
    p.toml:2:12: error: `groups.web.prefixes` is empty
      2 | prefixes = []
        |            ^^
      help: write `prefixes = ["203.0.113.0/25"]`
    p.toml:3:1: error: `groups.mail` has no `prefixes`
      3 | [groups.mail]
        | ^^^^^^^^^^^^^
      help: add `prefixes = ["203.0.113.0/25"]`
    p.toml:4:9: error: `two words` is not a name of a group
      4 | [groups."two words"]
        |         ^^^^^^^^^^^
      help: write 1 to 64 letters, digits, `-`, `_` or `.`
    p.toml:7:1: error: the group `default` has no prefixes of its own
      7 | prefixes = ["203.0.113.0/25"]
        | ^^^^^^^^
      help: remove `prefixes`: the group holds every owned address that is in no other
    "#);
}

// Limits that are none.

#[test]
fn limits_that_are_none() {
    insta::assert_snapshot!(mistakes_in(r#"[groups.default.thresholds]
total = {}
udp = { packets = 0 }
tcp = { packets = "10 kbps" }
icmp = { bits = "many" }
"#), @r#"
    p.toml:2:9: error: `groups.default.thresholds.total` has neither `packets` nor `bits`
      2 | total = {}
        |         ^^
      help: write `total = { packets = "100k", bits = "1G" }`
    p.toml:3:19: error: `groups.default.thresholds.udp.packets` is zero: every packet would be an attack
      3 | udp = { packets = 0 }
        |                   ^
      help: write the most that is normal for one host
    p.toml:4:19: error: `10 kbps` is not a rate
      4 | tcp = { packets = "10 kbps" }
        |                   ^^^^^^^^^
      help: write a number with an optional k, M or G and the unit pps, such as `50kpps`
    p.toml:5:17: error: `many` is not a rate
      5 | icmp = { bits = "many" }
        |                 ^^^^^^
      help: write a number with an optional k, M or G and the unit bps, such as `50kbps`
    "#);
}

// Numbers out of their range.

#[test]
fn numbers_out_of_range() {
    insta::assert_snapshot!(mistakes_in(r#"[detection]
tolerance = "10"
exit-ratio = 1.5
exit-hold = "5 weeks"
[severity]
medium = 0.5
"#), @r#"
    p.toml:2:13: error: `10` has no unit
      2 | tolerance = "10"
        |             ^^^^
      help: write `10s` for seconds, or one of the units ms, s, m, h, d
    p.toml:3:14: error: `detection.exit-ratio` must be from 0.01 to 0.99, not 1.5
      3 | exit-ratio = 1.5
        |              ^^^
      help: write `exit-ratio = 0.5`
    p.toml:4:13: error: `5 weeks` is not a duration
      4 | exit-hold = "5 weeks"
        |             ^^^^^^^^^
      help: write a number and a unit (ms, s, m, h, d), such as `500ms` or `10s`
    p.toml:6:10: error: `severity.medium` must be from 1 to 1000000, not 0.5
      6 | medium = 0.5
        |          ^^^
      help: write `medium = 2.0`
    "#);
}

#[test]
fn severities_that_do_not_ascend() {
    insta::assert_snapshot!(mistakes_in(r#"[detection]
tolerance = "1ms"
[severity]
high = 30.0
"#), @r#"
    p.toml:2:13: error: `detection.tolerance` must be from 10ms to 1m, not 1ms
      2 | tolerance = "1ms"
        |             ^^^^^
      help: write `tolerance = "500ms"`
    p.toml:3:1: error: the severities do not ascend: medium 2, high 30, critical 20
      3 | [severity]
        | ^^^^^^^^^^
      help: write medium < high < critical, such as 2.0, 5.0 and 20.0; one that is left out has its default
    "#);
}

// Responses that refer to what is not there, or say too much.

#[test]
fn actions_without_peers() {
    insta::assert_snapshot!(mistakes_in(r#"[[responses]]
name = "a"
action = "flowspek"
[[responses]]
name = "b"
action = "flowspec"
[[responses]]
name = "c c"
action = "observe"
peers = ["edge"]
"#), @r#"
    p.toml:3:10: error: `flowspek` is not an action
      3 | action = "flowspek"
        |          ^^^^^^^^^^
      help: did you mean `flowspec`?
    p.toml:5:8: error: `b` is never reached: `a` at p.toml:2 matches all of its attacks
      5 | name = "b"
        |        ^^^
      help: put `b` before `a`, or narrow the `when` of `a`
    p.toml:6:10: error: the action `flowspec` needs a peer, and there is none
      6 | action = "flowspec"
        |          ^^^^^^^^^^
      help: add a table `[[peers]]` with `name`, `address` and `as`, or write `action = "observe"`
    p.toml:8:8: error: `c c` is not a name
      8 | name = "c c"
        |        ^^^^^
      help: write 1 to 64 letters, digits, `-`, `_` or `.`, without blanks
    p.toml:10:10: error: there is no peer `edge`
      10 | peers = ["edge"]
         |          ^^^^^^
      help: nothing is known by that kind of name; define it or leave it out
    p.toml:10:10: error: the action `observe` needs no peers
      10 | peers = ["edge"]
         |          ^^^^^^
      help: remove `peers`, or write the action `flowspec` or `rtbh`
    "#);
}

#[test]
fn names_that_nothing_has() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "edge"
address = "10.0.0.2"
as = 65001
[groups.web]
prefixes = ["203.0.113.0/25"]
[[responses]]
name = "a"
when = { groups = ["wbe"], vectors = ["ntp", "*-amplifikation"], severity = "severe", confidence = 90 }
action = "rtbh"
filter = "discard"
peers = ["edg"]
"#), @r#"
    p.toml:9:20: error: there is no group `wbe`
      9 | when = { groups = ["wbe"], vectors = ["ntp", "*-amplifikation"], severity = "severe", confidence = 90 }
        |                    ^^^^^
      help: did you mean `web`?
    p.toml:9:39: error: `ntp` is not an attack vector
      9 | when = { groups = ["wbe"], vectors = ["ntp", "*-amplifikation"], severity = "severe", confidence = 90 }
        |                                       ^^^^^
      help: did you mean `ntp-amplification`?
    p.toml:9:46: error: `*-amplifikation` is not an attack vector
      9 | when = { groups = ["wbe"], vectors = ["ntp", "*-amplifikation"], severity = "severe", confidence = 90 }
        |                                              ^^^^^^^^^^^^^^^^^
      help: did you mean `*-amplification`?
    p.toml:9:77: error: `severe` is not a severity
      9 | when = { groups = ["wbe"], vectors = ["ntp", "*-amplifikation"], severity = "severe", confidence = 90 }
        |                                                                             ^^^^^^^^
      help: write one of `low`, `medium`, `high` or `critical`
    p.toml:9:100: error: `responses.when.confidence` must be from 0 to 1, not 90
      9 | when = { groups = ["wbe"], vectors = ["ntp", "*-amplifikation"], severity = "severe", confidence = 90 }
        |                                                                                                    ^^
      help: write `confidence = 0.9`
    p.toml:11:1: error: the action `rtbh` takes no `filter`
      11 | filter = "discard"
         | ^^^^^^
      help: remove it: a blackhole discards everything; or write `action = "flowspec"`
    p.toml:12:10: error: there is no peer `edg`
      12 | peers = ["edg"]
         |          ^^^^^
      help: did you mean `edge`?
    "#);
}

#[test]
fn wildcards_that_match_nothing() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "edge"
address = "10.0.0.2"
as = 65001
[groups.web]
prefixes = ["203.0.113.0/25"]
[[responses]]
name = "a"
when = { groups = ["wbe", "default"], vectors = ["*-flod"] }
action = "observe"
filter = "drop"
"#), @r#"
    p.toml:9:20: error: there is no group `wbe`
      9 | when = { groups = ["wbe", "default"], vectors = ["*-flod"] }
        |                    ^^^^^
      help: did you mean `web`?
    p.toml:9:50: error: `*-flod` is not an attack vector
      9 | when = { groups = ["wbe", "default"], vectors = ["*-flod"] }
        |                                                  ^^^^^^^^
      help: did you mean `*-flood`?
    p.toml:11:1: error: the action `observe` takes no `filter`
      11 | filter = "drop"
         | ^^^^^^
      help: remove it, or write `action = "flowspec"`
    p.toml:11:10: error: `drop` is not a filter
      11 | filter = "drop"
         |          ^^^^^^
      help: write `filter = "discard"` or `filter = { rate-limit = "1Mbps" }`
    "#);
}

#[test]
fn filters_that_are_none() {
    insta::assert_snapshot!(mistakes_in(r#"[[responses]]
action = "local"
filter = "drop"
[[responses]]
name = "b"
action = "local"
filter = 5
when.groups = []
[[responses]]
name = "c"
when.severity = "high"
action = "local"
filter = { rate-limit = "10k" }
"#), @r#"
    p.toml:1:1: error: `responses` has no `name`
      1 | [[responses]]
        | ^^^^^^^^^^^^^
      help: add `name = "filter-floods"`
    p.toml:3:10: error: `drop` is not a filter
      3 | filter = "drop"
        |          ^^^^^^
      help: write `filter = "discard"` or `filter = { rate-limit = "1Mbps" }`
    p.toml:7:10: error: `filter` must be `"discard"` or a table with a `rate-limit`
      7 | filter = 5
        |          ^
      help: write `filter = "discard"` or `filter = { rate-limit = "1Mbps" }`
    p.toml:8:15: error: `responses.when.groups` is empty
      8 | when.groups = []
        |               ^^
      help: leave it out for every group
    p.toml:13:25: error: the rate limit `10k` has no unit
      13 | filter = { rate-limit = "10k" }
         |                         ^^^^^
      help: write packets a second such as `1kpps` or bits a second such as `1Mbps`
    "#);
}

#[test]
fn lifetimes_that_are_none() {
    insta::assert_snapshot!(mistakes_in(r#"[[responses]]
name = "b"
action = "local"
filter = { rate-limit = "7bps" }
lifetime = { at-least = "2h", at-most = "1h" }
"#), @r#"
    p.toml:4:25: error: a rate limit of `7bps` lets nothing through
      4 | filter = { rate-limit = "7bps" }
        |                         ^^^^^^
      help: write `filter = "discard"` if that is meant
    p.toml:5:25: error: `at-least` 2h is longer than `at-most` 1h
      5 | lifetime = { at-least = "2h", at-most = "1h" }
        |                         ^^^^
      help: write an `at-most` that is longer
    "#);
}

#[test]
fn lifetimes_against_the_default() {
    insta::assert_snapshot!(mistakes_in(r#"[[responses]]
name = "b"
action = "local"
filter = { rate = "1Mbps" }
lifetime = { at-least = "7h" }
"#), @r#"
    p.toml:4:12: error: `rate` is not known in `responses.filter`
      4 | filter = { rate = "1Mbps" }
        |            ^^^^
      help: did you mean `rate-limit`?
    p.toml:5:25: error: `at-least` 7h is longer than `at-most`, which is 6h if left out
      5 | lifetime = { at-least = "7h" }
        |                         ^^^^
      help: write an `at-most` that is longer
    "#);
}

// Responses that an earlier one makes useless, and names given twice.

#[test]
fn responses_that_are_never_reached() {
    insta::assert_snapshot!(mistakes_in(r#"[[responses]]
name = "all-reflection"
action = "observe"
when.vectors = ["*-amplification"]
[[responses]]
name = "ntp"
action = "local"
when = { vectors = ["ntp-amplification"], severity = "high" }
[[responses]]
name = "ntp"
action = "observe"
[[responses]]
name = "last"
action = "observe"
"#), @r#"
    p.toml:6:8: error: `ntp` is never reached: `all-reflection` at p.toml:2 matches all of its attacks
      6 | name = "ntp"
        |        ^^^^^
      help: put `ntp` before `all-reflection`, or narrow the `when` of `all-reflection`
    p.toml:10:8: error: two responses have the name `ntp`
      10 | name = "ntp"
         |        ^^^^^
      help: rename one; the first is at p.toml:6
    p.toml:13:8: error: `last` is never reached: `ntp` at p.toml:10 matches all of its attacks
      13 | name = "last"
         |        ^^^^^^
      help: put `last` before `ntp`, or narrow the `when` of `ntp`
    "#);
}

// Actions for which the peers have no family.

#[test]
fn peers_without_the_family() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "edge"
address = "10.0.0.2"
as = 65001
families = ["ipv4-unicast"]
[[responses]]
name = "a"
when.severity = "high"
action = "flowspec"
[[responses]]
name = "b"
action = "flowspec"
peers = ["edge"]
"#), @r#"
    p.toml:9:10: error: no peer has a family for the action `flowspec`
      9 | action = "flowspec"
        |          ^^^^^^^^^^
      help: add `ipv4-flowspec` or `ipv6-flowspec` to the `families` of a peer
    p.toml:13:10: error: the peer `edge` has no family for the action `flowspec`
      13 | peers = ["edge"]
         |          ^^^^^^
      help: add `ipv4-flowspec` or `ipv6-flowspec` to its `families`, or remove it here
    "#);
}

// Peers with impossible values.

#[test]
fn peers_with_impossible_values() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "a"
address = "10.0.0.0/30"
as = 0
hold-time = "0s"
port = 0
mode = "activ"
[[peers]]
name = "b"
address = "10.0.0.3"
as = 4294967296
hold-time = "2s"
families = ["ipv4", "ipv6-flowspec"]
communities = ["65536:1", "blackhol", "1:2:3:4"]
max-routes = 0
"#), @r#"
    p.toml:3:11: error: `10.0.0.0/30` is not the address of a host
      3 | address = "10.0.0.0/30"
        |           ^^^^^^^^^^^^^
      help: write an address without a length, such as `10.0.0.2` or `2001:db8::2`
    p.toml:4:6: error: `peers.as` must be from 1 to 4294967295, not 0
      4 | as = 0
        |      ^
      help: write `as = 65001`
    p.toml:5:13: error: a hold time of zero would keep our routes at a peer for ever if we died
      5 | hold-time = "0s"
        |             ^^^^
      help: write at least `3s`; `9s` is the default
    p.toml:6:8: error: `peers.port` must be from 1 to 65535, not 0
      6 | port = 0
        |        ^
      help: write `port = 179`
    p.toml:7:8: error: `activ` is not a connect mode
      7 | mode = "activ"
        |        ^^^^^^^
      help: did you mean `active`?
    p.toml:11:6: error: `peers.as` must be from 1 to 4294967295, not 4294967296
      11 | as = 4294967296
         |      ^^^^^^^^^^
      help: write `as = 65001`
    p.toml:12:13: error: a hold time is at least 3s (RFC 4271 §4.2)
      12 | hold-time = "2s"
         |             ^^^^
      help: write `3s` or more; `9s` is the default
    p.toml:13:13: error: `ipv4` is not an address family
      13 | families = ["ipv4", "ipv6-flowspec"]
         |             ^^^^^^
      help: write one of `ipv4-unicast` or `ipv4-flowspec`
    p.toml:14:16: error: `65536:1` is not a community
      14 | communities = ["65536:1", "blackhol", "1:2:3:4"]
         |                ^^^^^^^^^
      help: write `65535:666`, `65001:666:1` or a name such as `blackhole` or `no-export`
    p.toml:14:27: error: `blackhol` is not a community
      14 | communities = ["65536:1", "blackhol", "1:2:3:4"]
         |                           ^^^^^^^^^^
      help: write `65535:666`, `65001:666:1` or a name such as `blackhole` or `no-export`
    p.toml:14:39: error: `1:2:3:4` is not a community
      14 | communities = ["65536:1", "blackhol", "1:2:3:4"]
         |                                       ^^^^^^^^^
      help: write `65535:666`, `65001:666:1` or a name such as `blackhole` or `no-export`
    p.toml:15:14: error: `peers.max-routes` must be from 1 to 100000, not 0
      15 | max-routes = 0
         |              ^
      help: write `max-routes = 200`
    "#);
}

#[test]
fn peers_given_twice() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "a"
address = "10.0.0.2"
as = 65001
[[peers]]
name = "a"
address = "10.0.0.2"
as = 65001
local-address = "2001:db8::1"
"#), @r#"
    p.toml:6:8: error: two peers have the name `a`
      6 | name = "a"
        |        ^^^
      help: give each its own; the first is at p.toml:2
    p.toml:7:11: error: two peers have the address `10.0.0.2`
      7 | address = "10.0.0.2"
        |           ^^^^^^^^^^
      help: give each its own; the first is at p.toml:3
    p.toml:9:17: error: `local-address` 2001:db8::1 and `address` 10.0.0.2 are of two families
      9 | local-address = "2001:db8::1"
        |                 ^^^^^^^^^^^^^
      help: write the address of this host that the peer knows
    "#);
}

#[test]
fn neighbours_from_prefixes() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "both"
address = "10.0.0.2"
listen-range = "10.0.1.0/24"
as = 65001
[[peers]]
name = "active"
listen-range = "10.0.1.0/24"
mode = "both"
as = 65001
[[peers]]
name = "overlap"
listen-range = "10.0.0.0/16"
listen-limit = 0
as = 65001
[[peers]]
name = "alone"
address = "10.0.0.9"
listen-limit = 3
as = 65001
[[peers]]
name = "second"
listen-range = "10.0.1.0/28"
as = 65001
"#), @r#"
    p.toml:3:1: error: `address` and `listen-range` exclude each other
      3 | address = "10.0.0.2"
        | ^^^^^^^
      help: write `listen-range` alone: who is in it connects to us
    p.toml:9:8: error: neighbours from a prefix connect to us; we do not know where they are
      9 | mode = "both"
        |        ^^^^^^
      help: leave it out, or write `mode = "passive"`
    p.toml:14:16: error: `peers.listen-limit` must be from 1 to 256, not 0
      14 | listen-limit = 0
         |                ^
      help: write `listen-limit = 16`
    p.toml:19:1: error: `listen-limit` is for neighbours from a prefix
      19 | listen-limit = 3
         | ^^^^^^^^^^^^
      help: leave it out, or write `listen-range` instead of `address`
    p.toml:23:16: error: 10.0.1.0/28 and 10.0.1.0/24 at p.toml:8 have addresses in common
      23 | listen-range = "10.0.1.0/28"
         |                ^^^^^^^^^^^^^
      help: write prefixes of which a neighbour is in one only
    "#);
}

#[test]
fn peers_that_would_leak_blackholes() {
    insta::assert_snapshot!(mistakes_in(r#"[[peers]]
name = "a"
address = "0.0.0.0"
as = 23456
families = []
hold-time = "9.5s"
[peers.rtbh]
communities = []
next-hop-v4 = "100::1"
next-hop-v6 = "192.0.2.1"
[[peers]]
name = "b"
address = "10.0.0.2"
local-address = "10.0.0.2"
as = 65001
rtbh.communities = ["65001:666"]
"#), @r#"
    p.toml:3:11: error: `0.0.0.0` is not the address of a host
      3 | address = "0.0.0.0"
        |           ^^^^^^^^^
      help: write an address without a length, such as `10.0.0.2` or `2001:db8::2`
    p.toml:4:6: error: AS 23456 is reserved (AS_TRANS, RFC 6793 §9)
      4 | as = 23456
        |      ^^^^^
      help: write the number that the registry gave, or a private one from 64512 to 65534
    p.toml:5:12: error: `families` is empty
      5 | families = []
        |            ^^
      help: name at least one, or leave it out for all four
    p.toml:6:13: error: a hold time is whole seconds (RFC 4271 §4.2)
      6 | hold-time = "9.5s"
        |             ^^^^^^
      help: write one such as `9s`
    p.toml:8:15: error: without a community a blackhole would be an ordinary route
      8 | communities = []
        |               ^^
      help: name the peer's blackhole community, or leave the list out for 65535:666 and no-export
    p.toml:9:15: error: `100::1` is not an IPv4 next hop
      9 | next-hop-v4 = "100::1"
        |               ^^^^^^^^
      help: write `next-hop-v4 = "192.0.2.1"`, an address that the peer discards
    p.toml:10:15: error: `192.0.2.1` is not an IPv6 next hop
      10 | next-hop-v6 = "192.0.2.1"
         |               ^^^^^^^^^^^
      help: write `next-hop-v6 = "100::1"`, an address that the peer discards
    p.toml:14:17: error: `local-address` and `address` are both 10.0.0.2
      14 | local-address = "10.0.0.2"
         |                 ^^^^^^^^^^
      help: write the address of this host that the peer knows
    p.toml:16:20: error: a blackhole with these communities could spread beyond the peer
      16 | rtbh.communities = ["65001:666"]
         |                    ^^^^^^^^^^^^^
      help: add `no-export` or `no-advertise` (RFC 7999 §3.2)
    "#);
}

/// A value that cannot be read is not missed elsewhere.
#[test]
fn a_faulty_definition_causes_no_others() {
    let owned = "[owned]\nprefixes = [\"203.0.113.1/24\"]\nnever-touch = [\"203.0.113.53\"]\n[groups.web]\nprefixes = [\"203.0.113.0/25\"]\n";
    insta::assert_snapshot!(said(&[("p.toml", owned)]), @r#"
    p.toml:2:13: error: `203.0.113.1/24` has bits set behind its length
      2 | prefixes = ["203.0.113.1/24"]
        |             ^^^^^^^^^^^^^^^^
      help: did you mean `203.0.113.0/24`?
    policy: error: no file of the policy has a table `[speaker]`
      help: add `[speaker]` with `as = 65010` and `router-id = "10.0.0.1"`
    "#);
}

#[test]
fn owned_space() {
    let speaker = "[speaker]\nas = 65535\nrouter-id = \"0.0.0.0\"\n";
    let owned = "[owned]\nprefixes = [\"10.0.0.0/8\", \"10.0.0.0/8\", \"10.1.0.0/16\"]\nnever-touch = [\"192.0.2.1\", \"10.0.0.53\"]\n";
    insta::assert_snapshot!(said(&[("a.toml", speaker), ("b.toml", owned)]), @r#"
    a.toml:2:6: error: AS 65535 is reserved (RFC 7300)
      2 | as = 65535
        |      ^^^^^
      help: write the number that the registry gave, or a private one from 64512 to 65534
    a.toml:3:13: error: `0.0.0.0` is not a router id
      3 | router-id = "0.0.0.0"
        |             ^^^^^^^^^
      help: write an IPv4 address of this host other than 0.0.0.0, such as `10.0.0.1`
    b.toml:2:27: error: `10.0.0.0/8` is given twice in `owned.prefixes`
      2 | prefixes = ["10.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16"]
        |                           ^^^^^^^^^^^^
      help: remove one; the first is at b.toml:2
    b.toml:2:41: error: `10.1.0.0/16` lies in `10.0.0.0/8`, which `owned.prefixes` has too
      2 | prefixes = ["10.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16"]
        |                                         ^^^^^^^^^^^^^
      help: remove `10.1.0.0/16`: `10.0.0.0/8` is enough
    b.toml:3:16: error: `192.0.2.1/32` is not owned, so nothing would ever touch it
      3 | never-touch = ["192.0.2.1", "10.0.0.53"]
        |                ^^^^^^^^^^^
      help: remove it, or correct it if an owned address is meant
    "#);
    let owned =
        "[owned]\nprefixes = [\"10.0.0.0/24\"]\nnever-touch = [\"10.0.0.0/8\"]\n[speaker]\n";
    insta::assert_snapshot!(said(&[("b.toml", owned)]), @r#"
    b.toml:3:15: error: `owned.never-touch` covers every owned prefix: nothing could be protected
      3 | never-touch = ["10.0.0.0/8"]
        |               ^^^^^^^^^^^^^^
      help: list only the addresses that no mitigation may ever hit
    b.toml:4:1: error: `speaker` has no `as`
      4 | [speaker]
        | ^^^^^^^^^
      help: add `as = 65010`
    b.toml:4:1: error: `speaker` has no `router-id`
      4 | [speaker]
        | ^^^^^^^^^
      help: add `router-id = "10.0.0.1"`
    "#);
    insta::assert_snapshot!(said(&[("a.toml", "[speaker]\nas=1\nrouter-id=1\n[owned]\nprefixes = []\n")]), @r#"
    a.toml:3:11: error: `speaker.router-id` must be a string, not an integer
      3 | router-id=1
        |           ^
      help: write `router-id = "10.0.0.1"`
    a.toml:5:12: error: `owned.prefixes` is empty
      5 | prefixes = []
        |            ^^
      help: write `prefixes = ["203.0.113.0/24"]`
    "#);
}

#[test]
fn tables_given_twice() {
    let groups = "[groups.web]\nprefixes = [\"203.0.113.0/25\"]\n";
    let twice = [("a.toml", LEAST), ("b.toml", LEAST), ("c.toml", groups), ("d.toml", groups)];
    insta::assert_snapshot!(said(&twice), @r#"
    b.toml:2:1: error: a second table `[speaker]`
      2 | [speaker]
        | ^^^^^^^^^
      help: put everything into the first, at a.toml:2
    b.toml:5:1: error: a second table `[owned]`
      5 | [owned]
        | ^^^^^^^
      help: put everything into the first, at a.toml:5
    d.toml:1:1: error: a second group `web`
      1 | [groups.web]
        | ^^^^^^^^^^^^
      help: put everything into the first, at c.toml:1
    "#);
}
