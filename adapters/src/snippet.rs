//! The few lines by which an operator lets BIRD, FRR or GoBGP take routes from our speaker and pass
//! them on to their upstreams: the recommended way to use any of the three.
//!
//! The session is the lease: when it ends, however it ends, the daemon drops our routes, because we
//! offer no graceful restart. Nothing has to be reconfigured for a route.
//!
//! What the daemon does to routes on the way: the next hop becomes its own unless an export policy
//! sets one; routes with NO_EXPORT stay with it (BIRD, FRR), so the upstream's profile must confine
//! them otherwise.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use tidegate_bgpd::Family;

/// The session between our speaker and a daemon, usually on the same host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySession {
    /// Our AS number. The daemon's own makes the session internal, which FRR needs.
    pub our_as: u32,
    /// Our address: `127.0.0.2` beside a daemon on the same host.
    pub our_address: IpAddr,
    /// The daemon's AS number.
    pub daemon_as: u32,
    /// The daemon's address on this session. FRR beside zebra refuses sessions on 127.0.0.0/8 with
    /// itself at 127.0.0.1: use one of the router's interface addresses there.
    pub daemon_address: IpAddr,
    /// The families of the session.
    pub families: BTreeSet<Family>,
    /// Most routes that we announce; the daemon takes no more.
    pub max_routes: u32,
    /// TCP MD5 key (RFC 2385).
    pub md5: Option<String>,
    /// GTSM (RFC 5082): packets from farther than this host or link are dropped.
    pub gtsm: bool,
}

/// A session that cannot be written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnippetError {
    /// Without families nothing is exchanged.
    #[error("the session needs at least one family")]
    NoFamily,
    /// Both ends are of one family.
    #[error("{ours} and {daemon} are addresses of different families")]
    Addresses {
        /// Our address.
        ours: IpAddr,
        /// The daemon's.
        daemon: IpAddr,
    },
    /// A key that would end its own quotation.
    #[error("the TCP MD5 key has a character that cannot be quoted; use letters and digits")]
    Key,
    /// FRR adds NO_EXPORT to blackholes of external peers, and then keeps them.
    #[error(
        "FRR passes blackholes on only from a peer of its own AS: make our AS {daemon}, not {ours}"
    )]
    External {
        /// Our AS number.
        ours: u32,
        /// FRR's.
        daemon: u32,
    },
}

impl RelaySession {
    fn check(&self) -> Result<(), SnippetError> {
        if self.families.is_empty() {
            return Err(SnippetError::NoFamily);
        }
        if self.our_address.is_ipv4() != self.daemon_address.is_ipv4() {
            let (ours, daemon) = (self.our_address, self.daemon_address);
            return Err(SnippetError::Addresses { ours, daemon });
        }
        let plain = |one: char| one.is_ascii_graphic() && !matches!(one, '"' | '\\' | '\'' | '#');
        if self.md5.as_ref().is_some_and(|key| key.is_empty() || !key.chars().all(plain)) {
            return Err(SnippetError::Key);
        }
        Ok(())
    }

    const fn is_internal(&self) -> bool {
        self.our_as == self.daemon_as
    }
}

/// For the end of `bird.conf`, BIRD 2. The tables of FlowSpec are declared here; where they are
/// already, their two lines go.
///
/// # Errors
/// [`SnippetError`].
pub fn bird(session: &RelaySession) -> Result<String, SnippetError> {
    session.check()?;
    let RelaySession { our_as, our_address, daemon_as, daemon_address, max_routes, .. } = session;
    let mut text = String::new();
    for (family, table) in [
        (Family::Ipv4FlowSpec, "flow4 table flowtab4;\n"),
        (Family::Ipv6FlowSpec, "flow6 table flowtab6;\n"),
    ] {
        text.push_str(if session.families.contains(&family) { table } else { "" });
    }
    let reach = if session.is_internal() { "" } else { "    multihop;\n" };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "protocol bgp tidegate {{
    local {daemon_address} as {daemon_as};
    neighbor {our_address} as {our_as};
{reach}    passive on;
    error wait time 1, 2;
"
    );
    if let Some(key) = &session.md5 {
        let _ = writeln!(text, "    password \"{key}\";");
    }
    if session.gtsm {
        // Without this BIRD expects an internal peer to be up to 64 hops away.
        text.push_str("    multihop 1;\n    ttl security on;\n");
    }
    for family in &session.families {
        let (channel, table) = match family {
            Family::Ipv4Unicast => ("ipv4", "gateway recursive; "),
            Family::Ipv6Unicast => ("ipv6", "gateway recursive; "),
            Family::Ipv4FlowSpec => ("flow4", "table flowtab4; "),
            Family::Ipv6FlowSpec => ("flow6", "table flowtab6; "),
        };
        let _ = writeln!(
            text,
            "    {channel} {{ {table}import all; import limit {max_routes} action block; export none; }};"
        );
    }
    text.push_str("}\n");
    text.push_str(
        "# In each upstream's protocol, what is to be passed on:
#   ipv4 { ...; export where proto = \"tidegate\"; };
#   flow4 { table flowtab4; import none; export all; };
",
    );
    Ok(text)
}

/// For FRR's configuration. `bgp no-rib` keeps FlowSpec rules out of zebra, which crashes on them
/// before FRR 9.1; it applies to the whole bgpd.
///
/// # Errors
/// [`SnippetError`].
pub fn frr(session: &RelaySession) -> Result<String, SnippetError> {
    session.check()?;
    let RelaySession { our_as, our_address: ours, daemon_as, daemon_address, max_routes, .. } =
        session;
    if !session.is_internal() {
        return Err(SnippetError::External { ours: *our_as, daemon: *daemon_as });
    }
    let mut text = format!(
        "bgp no-rib
route-map tidegate-nothing deny 10
!
router bgp {daemon_as}
 neighbor {ours} remote-as {our_as}
 neighbor {ours} description tidegate
 neighbor {ours} update-source {daemon_address}
 neighbor {ours} passive
"
    );
    if let Some(key) = &session.md5 {
        let _ = writeln!(text, " neighbor {ours} password {key}");
    }
    if session.gtsm {
        let _ = writeln!(text, " neighbor {ours} ttl-security hops 1");
    }
    for family in &session.families {
        let name = match family {
            Family::Ipv4Unicast => "ipv4 unicast",
            Family::Ipv6Unicast => "ipv6 unicast",
            Family::Ipv4FlowSpec => "ipv4 flowspec",
            Family::Ipv6FlowSpec => "ipv6 flowspec",
        };
        let _ = write!(
            text,
            " address-family {name}
  neighbor {ours} activate
  neighbor {ours} route-map tidegate-nothing out
"
        );
        if matches!(family, Family::Ipv4Unicast | Family::Ipv6Unicast) {
            let _ = writeln!(text, "  neighbor {ours} maximum-prefix {max_routes}");
        }
        text.push_str(" exit-address-family\n");
    }
    text.push_str(
        "!
! For each upstream, in each of these address families:
!  neighbor UPSTREAM activate
!  neighbor UPSTREAM send-community all
!  neighbor UPSTREAM advertisement-interval 0
",
    );
    Ok(text)
}

/// For `gobgpd.toml`, GoBGP 3.
///
/// # Errors
/// [`SnippetError`].
pub fn gobgp(session: &RelaySession) -> Result<String, SnippetError> {
    session.check()?;
    let RelaySession { our_as, our_address, daemon_address, max_routes, .. } = session;
    let mut text = format!(
        "[[neighbors]]
  [neighbors.config]
    neighbor-address = \"{our_address}\"
    peer-as = {our_as}
    description = \"tidegate\"
"
    );
    if let Some(key) = &session.md5 {
        let _ = writeln!(text, "    auth-password = \"{key}\"");
    }
    let _ = write!(
        text,
        "  [neighbors.transport.config]
    passive-mode = true
    local-address = \"{daemon_address}\"
"
    );
    if session.gtsm {
        text.push_str("  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255\n");
    }
    for family in &session.families {
        let _ = write!(
            text,
            "  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = \"{family}\"
    [neighbors.afi-safis.prefix-limit.config]
      max-prefixes = {max_routes}
"
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> RelaySession {
        RelaySession {
            our_as: 65_001,
            our_address: "127.0.0.2".parse().unwrap(),
            daemon_as: 65_001,
            daemon_address: "127.0.0.1".parse().unwrap(),
            families: Family::ALL.into(),
            max_routes: 200,
            md5: Some("s3cret".to_owned()),
            gtsm: true,
        }
    }

    #[test]
    fn every_part_of_the_session_is_written_down() {
        let session = session();
        for (text, parts) in [
            (
                bird(&session),
                [
                    "password \"s3cret\";",
                    "ttl security on;",
                    "flow6 { table",
                    "limit 200",
                    "export none",
                ],
            ),
            (
                frr(&session),
                [
                    "password s3cret",
                    "ttl-security hops 1",
                    "ipv6 flowspec",
                    "maximum-prefix 200",
                    "nothing out",
                ],
            ),
            (
                gobgp(&session),
                [
                    "auth-password = \"s3cret\"",
                    "ttl-min = 255",
                    "\"ipv6-flowspec\"",
                    "max-prefixes = 200",
                    "passive-mode = true",
                ],
            ),
        ] {
            let text = text.unwrap();
            for part in parts.iter().chain(&["127.0.0.2", "127.0.0.1", "65001"]) {
                assert!(part.starts_with("65") || text.contains(part), "{part}:\n{text}");
            }
        }
        let plain = RelaySession {
            md5: None,
            gtsm: false,
            families: [Family::Ipv4Unicast].into(),
            ..session
        };
        for text in [bird(&plain), frr(&plain), gobgp(&plain)] {
            let text = text.unwrap();
            assert!(!text.contains("pass") || text.contains("passive"), "{text}");
            assert!(
                !text.contains("ttl") && !text.contains("flowspec") && !text.contains("flowtab6"),
                "{text}"
            );
        }
    }

    #[test]
    fn sessions_that_cannot_work_are_refused() {
        let key = |key: &str| RelaySession { md5: Some(key.to_owned()), ..session() };
        let elsewhere = RelaySession { daemon_address: "::1".parse().unwrap(), ..session() };
        for bad in [
            RelaySession { families: [].into(), ..session() },
            elsewhere,
            key(""),
            key("a\"; export all; #"),
            key("two words"),
            key("line\nbreak"),
        ] {
            assert!(bird(&bad).is_err() && frr(&bad).is_err() && gobgp(&bad).is_err(), "{bad:?}");
        }
        let external = RelaySession { our_as: 65_010, ..session() };
        assert!(frr(&external).is_err() && bird(&external).unwrap().contains("multihop"));
    }
}
