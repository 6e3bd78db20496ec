//! The tables `[api]`, `[metrics]` and `[log]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use tidegate_policy::text::{Table, Value};

use super::{LogFormat, parse_address};
use crate::api::access::{
    ApiSettings, Fingerprint, Pem, Role, SocketPlace, TcpClient, TcpSettings, Users,
};

/// Where metrics are served, unless the table says otherwise.
const METRICS: &str = "127.0.0.1:9465";

/// Most clients of the TCP interface.
const MAX_CLIENTS: usize = 256;

const ROLES: [(&str, Role); 4] = [
    ("viewer", Role::Viewer),
    ("sensor", Role::Sensor),
    ("operator", Role::Operator),
    ("admin", Role::Admin),
];

/// Reads `[api]`. Relative paths are taken from `directory`, that of the file.
pub(super) fn resolve(table: &Table<'_>, directory: &Path) -> Option<ApiSettings> {
    let socket = match table.optional("socket", "\"/run/tidegate/tidegate.sock\"") {
        None => Some(SocketPlace::Usual),
        Some(value) => value.string().map(|text| match text {
            "off" => SocketPlace::Off,
            path => SocketPlace::At(directory.join(path)),
        }),
    };
    let users = Users::of_this_host();
    let mut roles = BTreeMap::new();
    let mut good = true;
    // The mightier role counts where somebody is named twice.
    for (key, role) in [
        ("sensors", Role::Sensor),
        ("viewers", Role::Viewer),
        ("operators", Role::Operator),
        ("admins", Role::Admin),
    ] {
        let Some(value) = table.optional(key, "[\"group:noc\", \"user:alice\", \"user:1001\"]")
        else {
            continue;
        };
        let items = value.list("\"group:noc\"").unwrap_or_default();
        for item in &items {
            match item.string().and_then(|text| item.reported(users.find(text))) {
                Some(found) => roles.extend(found.into_iter().map(|subject| (subject, role))),
                None => good = false,
            }
        }
    }
    let tcp = match table.optional("tcp", "{ listen = \"192.0.2.10:9466\" }") {
        None => Some(None),
        Some(value) => resolve_tcp(&value.table()?, directory).map(Some),
    };
    table.finish();
    let (socket, tcp) = (socket?, tcp?);
    good.then_some(ApiSettings { socket, roles, tcp })
}

fn resolve_tcp(table: &Table<'_>, directory: &Path) -> Option<TcpSettings> {
    let listen = table.required("listen", "\"192.0.2.10:9466\"").and_then(|it| parse_address(&it));
    let file = |key, example| {
        let value = table.required(key, example)?;
        read_pem(&value, directory)
    };
    let certificate = file("certificate", "\"server.pem\"");
    let key = file("key-file", "\"server.key\"");
    let client_ca = file("client-ca", "\"clients-ca.pem\"");
    let clients = table
        .required("clients", "[{ name = \"sensor1\", sha256 = \"AB:CD:...\", role = \"sensor\" }]")
        .and_then(|value| resolve_clients(&value));
    table.finish();
    Some(TcpSettings {
        listen: listen?,
        certificate: certificate?,
        key: key?,
        client_ca: client_ca?,
        clients: clients?,
    })
}

fn resolve_clients(value: &Value<'_>) -> Option<BTreeMap<Fingerprint, TcpClient>> {
    let tables = value.tables()?;
    if tables.len() > MAX_CLIENTS {
        value.error(format!("more than {MAX_CLIENTS} clients"), "name fewer");
        return None;
    }
    let clients: Vec<Option<_>> = tables
        .iter()
        .map(|table| {
            let name = table.required("name", "\"sensor1\"").and_then(|it| it.string());
            let sha256 = table
                .required("sha256", "\"AB:CD:...\"")
                .and_then(|value| value.parse::<Fingerprint>());
            let role = table
                .required("role", "\"sensor\"")
                .and_then(|value| value.choice("a role", &ROLES));
            table.finish();
            Some((sha256?, TcpClient { name: name?.to_owned(), role: role? }))
        })
        .collect();
    clients.into_iter().collect()
}

fn read_pem(value: &Value<'_>, directory: &Path) -> Option<Pem> {
    let path = directory.join(value.string()?);
    match std::fs::read(&path) {
        Ok(bytes)
            if bytes.starts_with(b"-----BEGIN ")
                || bytes.windows(11).any(|it| it == b"-----BEGIN ") =>
        {
            Some(Pem(bytes))
        }
        Ok(_) => {
            value.error(
                format!("{} holds nothing in PEM form", path.display()),
                "give a file that begins with `-----BEGIN`",
            );
            None
        }
        Err(error) => {
            value.error(
                format!("cannot read {}: {error}", path.display()),
                "TCP is served with mutual TLS only: it needs certificate, key and the clients' CA",
            );
            None
        }
    }
}

/// Reads `[metrics]`.
pub(super) fn resolve_metrics(table: &Table<'_>) -> Option<SocketAddr> {
    let listen = table
        .optional("listen", "\"127.0.0.1:9465\"")
        .map_or_else(|| METRICS.parse().ok(), |value| parse_address(&value));
    table.finish();
    listen
}

/// Reads `[log]`.
pub(super) fn resolve_log(table: &Table<'_>) -> Option<LogFormat> {
    let formats =
        [("text", LogFormat::Text), ("json", LogFormat::Json), ("journald", LogFormat::Journald)];
    let format = table
        .optional("format", "\"json\"")
        .map_or(Some(LogFormat::Text), |value| value.choice("a format of logs", &formats));
    table.finish();
    format
}
