//! The `[capture]` table.

use std::num::NonZeroU8;

use tidegate_detector::capture::live::LiveOptions;
use tidegate_detector::packet::{Tunnel, Tunnels};
use tidegate_policy::text::Table;

/// Bytes of the ring that each worker needs.
const LEAST_BUFFER: u32 = 1 << 20;

/// Most workers: more than any machine has use for.
const MAX_WORKERS: u8 = 64;

pub(super) fn resolve(table: &Table<'_>) -> Option<(LiveOptions, Tunnels)> {
    let mut capture = LiveOptions::default();
    let interfaces = resolve_interfaces(table);
    let mut clean = interfaces.is_some();
    capture.interfaces = interfaces.unwrap_or_default();
    if let Some(value) = table.optional("workers", "2") {
        let workers = value.integer(1..=MAX_WORKERS).and_then(NonZeroU8::new);
        capture.workers = workers.unwrap_or(capture.workers);
        clean &= workers.is_some();
    }
    if let Some(value) = table.optional("filter", "\"ip or ip6\"") {
        capture.filter = value.string().map(ToOwned::to_owned);
        clean &= capture.filter.is_some();
    }
    if let Some(value) = table.optional("snap-length", "192") {
        let length = value.integer(96..=65_535);
        capture.snap_length = length.unwrap_or(capture.snap_length);
        clean &= length.is_some();
    }
    if let Some(value) = table.optional("buffer-bytes", "67108864") {
        let bytes = value.integer(LEAST_BUFFER..=1 << 30);
        capture.buffer = bytes.unwrap_or(capture.buffer);
        clean &= bytes.is_some();
        let least = LEAST_BUFFER * u32::from(capture.workers.get());
        if bytes.is_some_and(|bytes| bytes < least) {
            value.error(
                format!("{} workers need 1 MiB for each worker", capture.workers),
                format!("write `buffer-bytes = {least}` or more"),
            );
            clean = false;
        }
    }
    if let Some(value) = table.optional("promiscuous", "true") {
        let promiscuous = value.boolean();
        capture.promiscuous = promiscuous.unwrap_or(capture.promiscuous);
        clean &= promiscuous.is_some();
    }
    let tunnels = table.optional("decapsulate", "[\"gre\", \"ipip\"]").map_or_else(
        || Some(Tunnels::NONE),
        |value| {
            let kinds = [("gre", Tunnel::Gre), ("ipip", Tunnel::IpInIp)];
            let items = value.list("\"gre\"")?;
            items.iter().map(|item| item.choice("a tunnel", &kinds)).collect()
        },
    );
    table.finish();
    clean.then_some((capture, tunnels?))
}

/// `interface` for one, `interfaces` for several.
fn resolve_interfaces(table: &Table<'_>) -> Option<Vec<String>> {
    let one = table.optional("interface", "\"eth0\"");
    let Some(several) = table.optional("interfaces", "[\"eth0\", \"eth1\"]") else {
        return one
            .map_or_else(|| Some(Vec::new()), |value| Some(vec![value.string()?.to_owned()]));
    };
    if one.is_some() {
        several.error(
            "`interface` and `interfaces` both say what to capture on",
            "name all interfaces in `interfaces`",
        );
        return None;
    }
    let items = several.list("\"eth0\"")?;
    if items.is_empty() {
        several.error("the list is empty", "name an interface, or leave `interfaces` out");
        return None;
    }
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    for item in &items {
        let name = item.string()?;
        if name == "any" && items.len() > 1 {
            item.error("`any` takes every interface already", "name it alone, or not at all");
            return None;
        }
        if names.iter().any(|other| other == name) {
            item.error(format!("`{name}` is named twice"), "name each interface once");
            return None;
        }
        names.push(name.to_owned());
    }
    Some(names)
}
