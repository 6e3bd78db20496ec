//! The published interface changes only so that older clients go on working: fields and methods are
//! added, never removed, renumbered or given another type.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use prost_reflect::{Cardinality, Kind, MessageDescriptor};
use tidegate::api::descriptors;

/// Every promise that was made, one a line.
const PUBLISHED: &str = "proto/tidegate/v1/published.txt";

fn message(message: &MessageDescriptor, promises: &mut BTreeSet<String>) {
    let name = message.full_name();
    for field in message.fields() {
        let kind = match field.kind() {
            Kind::Message(of) => of.full_name().to_owned(),
            Kind::Enum(of) => of.full_name().to_owned(),
            plain => format!("{plain:?}").to_ascii_lowercase(),
        };
        let cardinality = match field.cardinality() {
            Cardinality::Repeated => "repeated ",
            _ if field.supports_presence() && !matches!(field.kind(), Kind::Message(_)) => {
                "optional "
            }
            _ => "",
        };
        let group = field.containing_oneof().filter(|group| !group.is_synthetic());
        let group = group.map(|group| format!(" in {}", group.name())).unwrap_or_default();
        let (number, field) = (field.number(), field.name());
        promises.insert(format!("field {name} {number} {cardinality}{kind} {field}{group}"));
    }
    message.child_messages().for_each(|child| self::message(&child, promises));
    for child in message.child_enums() {
        for value in child.values() {
            let (number, value) = (value.number(), value.name().to_owned());
            promises.insert(format!("value {} {number} {value}", child.full_name()));
        }
    }
}

fn promises() -> BTreeSet<String> {
    let pool = descriptors();
    let mut promises = BTreeSet::new();
    let file = pool.get_file_by_name("tidegate/v1/tidegate.proto").unwrap();
    file.messages().for_each(|it| message(&it, &mut promises));
    for kind in file.enums() {
        for value in kind.values() {
            let (number, value) = (value.number(), value.name().to_owned());
            promises.insert(format!("value {} {number} {value}", kind.full_name()));
        }
    }
    for service in file.services() {
        for method in service.methods() {
            let stream = |streams: bool| if streams { "stream " } else { "" };
            promises.insert(format!(
                "method {}/{} {}{} -> {}{}",
                service.full_name(),
                method.name(),
                stream(method.is_client_streaming()),
                method.input().full_name(),
                stream(method.is_server_streaming()),
                method.output().full_name(),
            ));
        }
    }
    promises
}

#[test]
fn what_was_published_stays() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PUBLISHED);
    let published = fs::read_to_string(&path).unwrap_or_default();
    let published: BTreeSet<String> = published.lines().map(str::to_owned).collect();
    let now = promises();
    let broken: Vec<_> = published.difference(&now).collect();
    assert!(
        broken.is_empty(),
        "clients rely on these, and they are gone or changed: {broken:#?}; bring them back, or begin \
         tidegate.v2"
    );
    let new: Vec<_> = now.difference(&published).cloned().collect();
    if std::env::var_os("PUBLISH_INTERFACE").is_some() {
        let all: Vec<String> = published.union(&now).cloned().collect();
        fs::write(&path, all.join("\n") + "\n").unwrap();
        return;
    }
    assert!(
        new.is_empty(),
        "these are promised to nobody yet: {new:#?}; run this test with PUBLISH_INTERFACE=1 when \
         they are to stay"
    );
}

#[test]
fn the_promises_tell_types_numbers_and_places() {
    let promises = promises();
    for promise in [
        "field tidegate.v1.Rate 1 uint64 packets",
        "field tidegate.v1.Incident 12 tidegate.v1.Rate current",
        "field tidegate.v1.AnnounceRequest 2 tidegate.v1.Blackhole blackhole in action",
        "field tidegate.v1.Threshold 2 optional uint64 packets",
        "field tidegate.v1.ListPeersResponse 1 repeated tidegate.v1.Peer peers",
        "value tidegate.v1.Severity 4 SEVERITY_CRITICAL",
        "method tidegate.v1.Reports/ReportAttack stream tidegate.v1.ReportAttackRequest -> stream \
         tidegate.v1.ReportAttackResponse",
    ] {
        assert!(promises.contains(promise), "no `{promise}`");
    }
}
