//! Programs: the record on standard input, or FastNetMon's way of calling a notify script.

use super::super::config::Convention;
use super::super::escape::argument;
use super::super::event::AlertEvent;
use super::super::snapshot::Snapshot;
use super::{Delivery, Words, bytes, document};
use crate::incident::Incident;

pub(super) fn program(
    convention: Convention,
    snapshot: &Snapshot,
    words: &Words,
) -> Option<Delivery> {
    match convention {
        Convention::Json => {
            let arguments = vec![argument(snapshot.event.name())];
            Some(Delivery::Program { arguments, input: bytes(&document(snapshot, words)) })
        }
        Convention::FastNetMon => {
            let incident = &snapshot.incident;
            let (action, input) = match snapshot.event {
                AlertEvent::Opened => ("ban", details(incident).into_bytes()),
                // FastNetMon gives no input with an unban.
                AlertEvent::Ended => ("unban", Vec::new()),
                _ => return None,
            };
            let arguments = [
                super::super::message::target(incident),
                "incoming".to_owned(),
                incident.peak.packets_per_second.to_string(),
                action.to_owned(),
            ];
            let arguments = arguments.iter().map(|text| argument(text)).collect();
            Some(Delivery::Program { arguments, input })
        }
    }
}

/// The details in the form that FastNetMon's scripts mail on.
fn details(incident: &Incident) -> String {
    let protocol = match incident.vectors.first().and_then(|vector| vector.signature.protocol) {
        Some(1) => "icmp",
        Some(6) => "tcp",
        Some(17) => "udp",
        _ => "mixed",
    };
    let megabits = incident.peak.bits_per_second / 1_000_000;
    format!(
        "IP: {}\nAttack type: {}\nInitial attack power: {} packets per second\nPeak attack power: \
         {} packets per second\nAttack direction: incoming\nAttack protocol: {protocol}\n\
         Total incoming traffic: {megabits} mbps\nTotal incoming pps: {} packets per second\n\
         Attack UUID: {}\n",
        super::super::message::target(incident),
        incident.main_vector(),
        incident.trigger.rate.packets_per_second,
        incident.peak.packets_per_second,
        incident.peak.packets_per_second,
        incident.id,
    )
}
