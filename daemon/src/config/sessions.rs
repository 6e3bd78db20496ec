//! The `[sessions.NAME]` tables.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;
use std::path::Path;
use std::time::Duration;

use tidegate_bgpd::Family;
use tidegate_bgpd::session::{GracefulRestart, MAX_RESTART_TIME, Role, SessionOptions};
use tidegate_bgpd::speaker::{HopLimit, Md5Key, Transport};
use tidegate_policy::text::{Table, Value};

const ROLES: [(&str, Role); 5] = [
    ("provider", Role::Provider),
    ("customer", Role::Customer),
    ("peer", Role::Peer),
    ("route-server", Role::RouteServer),
    ("route-server-client", Role::RouteServerClient),
];

/// What is special about the session with a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionSettings {
    /// How the TCP connection is guarded.
    pub transport: Transport,
    /// What we are to the peer (RFC 9234).
    pub role: Option<Role>,
    /// Whether the peer must say what it is to us.
    pub strict_role: bool,
    /// Whether the session needs every family that the policy gives the peer.
    pub require_families: bool,
    /// Whether routes outlive the session (RFC 4724).
    pub graceful_restart: GracefulRestart,
}

impl SessionSettings {
    /// What is offered to a peer of `families`, and asked of it.
    #[must_use]
    pub fn options(&self, families: &BTreeSet<Family>) -> SessionOptions {
        SessionOptions {
            required_families: if self.require_families {
                families.clone()
            } else {
                BTreeSet::new()
            },
            role: self.role,
            strict_role: self.strict_role,
            graceful_restart: self.graceful_restart,
            ..SessionOptions::default()
        }
    }

    fn read(table: &Table<'_>, directory: &Path) -> Option<Self> {
        let hops = table.optional("hops", "\"gtsm\"").map_or(Some(HopLimit::System), |value| {
            if value.is_string() {
                return value.choice("a hop limit", &[("gtsm", HopLimit::Gtsm)]);
            }
            value.integer(1..=255).and_then(NonZeroU8::new).map(HopLimit::Multihop)
        });
        let md5 = match table.optional("md5-key-file", "\"border1.key\"") {
            Some(value) => read_key(&value, directory).map(Some),
            None => Some(None),
        };
        let role = match table.optional("role", "\"customer\"") {
            Some(value) => value.choice("a role", &ROLES).map(Some),
            None => Some(None),
        };
        let flag = |key| table.optional(key, "true").map_or(Some(false), |value| value.boolean());
        let (strict_role, require_families) = (flag("strict-role"), flag("require-families"));
        let graceful_restart = table
            .optional("graceful-restart", "\"helper\"")
            .map_or(Some(GracefulRestart::Off), |value| read_restart(&value));
        table.finish();
        Some(Self {
            transport: Transport { hops: hops?, md5: md5? },
            role: role?,
            strict_role: strict_role?,
            require_families: require_families?,
            graceful_restart: graceful_restart?,
        })
    }
}

/// The tables, by the name of the peer.
pub(super) fn read(
    table: &Table<'_>,
    directory: &Path,
) -> Option<BTreeMap<String, SessionSettings>> {
    let entries = table.entries("{ hops = \"gtsm\" }").into_iter();
    let sessions: Vec<Option<(String, SessionSettings)>> = entries
        .map(|(name, value)| {
            let settings = SessionSettings::read(&value.table()?, directory)?;
            Some((name.to_owned(), settings))
        })
        .collect();
    sessions.into_iter().collect()
}

/// `"off"`, `"helper"`, or how long the peer is asked to keep our routes.
fn read_restart(value: &Value<'_>) -> Option<GracefulRestart> {
    match value.string()? {
        "off" => Some(GracefulRestart::Off),
        "helper" => Some(GracefulRestart::Helper),
        _ => value
            .duration(Duration::from_secs(1)..=MAX_RESTART_TIME)
            .map(GracefulRestart::Restarting),
    }
}

/// The key in a file, without the line end that editors add.
fn read_key(value: &Value<'_>, directory: &Path) -> Option<Md5Key> {
    let path = directory.join(value.string()?);
    let octets = match std::fs::read(&path) {
        Ok(octets) => octets,
        Err(error) => {
            value.error(
                format!("cannot read {}: {error}", path.display()),
                "write the key into that file, readable for tidegate alone",
            );
            return None;
        }
    };
    let key = octets.strip_suffix(b"\n").unwrap_or(&octets);
    value.reported(Md5Key::new(key))
}
