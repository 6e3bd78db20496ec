//! Who may do what.
//!
//! On the Unix socket the kernel says who asks (`SO_PEERCRED`); over TCP the client's certificate
//! does. Which role each method needs stands in one table, and what is not in it is for
//! administrators.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Report attacks, nothing else.
    Sensor,
    /// Look at everything, change nothing.
    Viewer,
    /// Also order: approve, hold, withdraw, announce, panic; and report attacks.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Name in configuration and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sensor => "sensor",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether it may do what needs `needed`.
    #[must_use]
    pub fn may(self, needed: Self) -> bool {
        match (self, needed) {
            // A sensor sees nothing, a viewer reports nothing.
            (Self::Sensor, needed) => needed == Self::Sensor,
            (Self::Viewer, needed) => needed == Self::Viewer,
            (role, needed) => role >= needed,
        }
    }
}

/// What each method needs. Health and reflection tell nothing of the network: whoever has a role
/// may ask for them.
const NEEDED: &[(&str, &str, Role)] = &[
    ("Incidents", "ListIncidents", Role::Viewer),
    ("Incidents", "GetIncident", Role::Viewer),
    ("Incidents", "WatchIncidents", Role::Viewer),
    ("Mitigations", "ListMitigations", Role::Viewer),
    ("Mitigations", "WatchMitigations", Role::Viewer),
    ("Mitigations", "Approve", Role::Operator),
    ("Mitigations", "Hold", Role::Operator),
    ("Mitigations", "Resume", Role::Operator),
    ("Mitigations", "Withdraw", Role::Operator),
    ("Mitigations", "Renew", Role::Operator),
    ("Mitigations", "Announce", Role::Operator),
    ("Peers", "ListPeers", Role::Viewer),
    ("Peers", "ListAdjRibOut", Role::Viewer),
    ("Peers", "ListReceivedRoutes", Role::Viewer),
    ("Backends", "ListBackends", Role::Viewer),
    ("Policy", "GetPolicy", Role::Viewer),
    ("Policy", "ApplyPolicy", Role::Admin),
    ("Policy", "ExplainPolicy", Role::Viewer),
    ("Detector", "GetTop", Role::Viewer),
    ("Detector", "GetBaseline", Role::Viewer),
    ("Reports", "ReportAttack", Role::Sensor),
    ("Control", "GetStatus", Role::Viewer),
    ("Control", "Panic", Role::Operator),
    ("Control", "Release", Role::Operator),
    ("Control", "Audit", Role::Operator),
];

/// The role that a call of `path`, as `/tidegate.v1.Control/Panic`, needs; `None` if any does.
#[must_use]
pub fn needed(path: &str) -> Option<Role> {
    let path = path.trim_start_matches('/');
    if path.starts_with("grpc.reflection.") || path.starts_with("grpc.health.") {
        return None;
    }
    let method = path.strip_prefix("tidegate.v1.").and_then(|path| path.split_once('/'));
    let known = method.and_then(|(service, method)| {
        NEEDED.iter().find(|(of, name, _)| *of == service && *name == method)
    });
    Some(known.map_or(Role::Admin, |(.., role)| *role))
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For the record: a user's name, `uid 1001`, or the name of a client.
    pub name: String,
    /// What they may do; `None` is nothing.
    pub role: Option<Role>,
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.role.map_or("no role", Role::name))
    }
}

/// Where the Unix socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SocketPlace {
    /// `/run/tidegate/tidegate.sock`, or where the user may write.
    #[default]
    Usual,
    /// There.
    At(PathBuf),
    /// Nowhere.
    Off,
}

/// Who may ask and order what, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiSettings {
    /// The Unix socket.
    pub socket: SocketPlace,
    /// Who has which role there. The daemon's own user and root are administrators.
    pub roles: BTreeMap<Subject, Role>,
    /// The TCP interface.
    pub tcp: Option<TcpSettings>,
}

impl ApiSettings {
    /// The role of the process at the other end.
    #[must_use]
    pub fn role_of(&self, uid: u32, gid: u32, own: u32) -> Option<Role> {
        if uid == 0 || uid == own {
            return Some(Role::Admin);
        }
        let of = |subject| self.roles.get(&subject).copied();
        of(Subject::User(uid)).max(of(Subject::Group(gid)))
    }
}

/// A user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// By uid.
    User(u32),
    /// By gid, the primary one of a process.
    Group(u32),
}

/// TCP, with mutual TLS and never without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSettings {
    /// Where.
    pub listen: SocketAddr,
    /// Our certificate, and those between it and its root.
    pub certificate: Pem,
    /// Its key.
    pub key: Pem,
    /// Who signs the clients' certificates.
    pub client_ca: Pem,
    /// The clients, by their certificates.
    pub clients: BTreeMap<Fingerprint, TcpClient>,
}

/// A client of the TCP interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpClient {
    /// For the record.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Text in PEM form. It may be a key, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(pub Vec<u8>);

impl fmt::Debug for Pem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pem({} bytes)", self.0.len())
    }
}

/// SHA-256 of a certificate, as `openssl x509 -noout -fingerprint -sha256` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER form.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut octets = [0; 32];
        octets.copy_from_slice(digest.as_ref());
        Self(octets)
    }
}

/// Text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no SHA-256 fingerprint; give what `openssl x509 -noout -fingerprint -sha256 -in FILE` prints behind `=`"
)]
pub struct ParseFingerprintError;

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let digits: String = text.chars().filter(|character| *character != ':').collect();
        let mut octets = [0; 32];
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(ParseFingerprintError);
        }
        for (octet, pair) in octets.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ParseFingerprintError)?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| ParseFingerprintError)?;
        }
        Ok(Self(octets))
    }
}

/// The users and groups of this host's own files. Directories elsewhere (LDAP) are not asked: their
/// users and groups are named by number.
#[derive(Debug, Default)]
pub struct Users {
    /// Name, uid, primary gid.
    users: Vec<(String, u32, u32)>,
    /// Name, gid, members.
    groups: Vec<(String, u32, Vec<String>)>,
}

/// Somebody who is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownSubject {
    /// Not in the form that is wanted.
    #[error("`{0}` names nobody; write `user:alice`, `group:noc`, `user:1001` or `group:2001`")]
    Form(String),
    /// Not in `/etc/passwd` or `/etc/group`.
    #[error("there is no {0} in /etc/passwd and /etc/group; name one from elsewhere by its number")]
    Nobody(String),
}

impl Users {
    /// Reads `/etc/passwd` and `/etc/group`.
    #[must_use]
    pub fn of_this_host() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/etc/passwd"), &read("/etc/group"))
    }

    fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((name, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        });
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let gid = fields.nth(1)?.parse().ok()?;
            let members = fields.next()?.split(',').filter(|name| !name.is_empty());
            Some((name, gid, members.map(str::to_owned).collect()))
        });
        Self { users: users.collect(), groups: groups.collect() }
    }

    /// The name of a user, or `uid 1001`.
    #[must_use]
    pub fn name_of(&self, uid: u32) -> String {
        let known = self.users.iter().find(|(_, number, _)| *number == uid);
        known.map_or_else(|| format!("uid {uid}"), |(name, ..)| name.clone())
    }

    /// Whom `user:NAME` or `group:NAME` means: of a group also its members, since a process tells
    /// only its primary group.
    ///
    /// # Errors
    /// [`UnknownSubject`].
    pub fn find(&self, text: &str) -> Result<BTreeSet<Subject>, UnknownSubject> {
        let form = || UnknownSubject::Form(text.to_owned());
        let nobody = |what: &str| UnknownSubject::Nobody(what.to_owned());
        let (kind, name) = text.split_once(':').ok_or_else(form)?;
        let number: Option<u32> = name.parse().ok();
        match kind {
            "user" => {
                let known = self.users.iter().find(|(user, ..)| user == name);
                let uid = number.or(known.map(|(_, uid, _)| *uid));
                let uid = uid.ok_or_else(|| nobody(&format!("user `{name}`")))?;
                Ok([Subject::User(uid)].into())
            }
            "group" => {
                let known = self
                    .groups
                    .iter()
                    .find(|(group, gid, _)| group == name || Some(*gid) == number);
                let gid = number.or(known.map(|(_, gid, _)| *gid));
                let gid = gid.ok_or_else(|| nobody(&format!("group `{name}`")))?;
                let members = known.map(|(.., members)| members.as_slice()).unwrap_or_default();
                let users = self
                    .users
                    .iter()
                    .filter(|(user, _, primary)| *primary == gid || members.contains(user));
                let users = users.map(|(_, uid, _)| Subject::User(*uid));
                Ok(users.chain([Subject::Group(gid)]).collect())
            }
            _ => Err(form()),
        }
    }
}

#[cfg(test)]
#[path = "access/tests.rs"]
mod tests;
