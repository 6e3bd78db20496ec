//! Filters in the console's language, for the traffic of an incident.
//!
//! Only columns that every console has by default are used: a filter on one that is disabled there
//! is an error. Protocols are numbers, since names depend on the console's dictionary. Nothing that
//! came from a packet or a peer as text reaches a filter: it is built from addresses and numbers.

use std::fmt::Write as _;
use std::net::IpAddr;

use tidegate_model::Prefix;

use crate::incident::{Incident, Vector};

/// A vector has the traffic to itself from this share on; below it, the filter names the target
/// alone.
const ALONE: f64 = 0.9;

/// No more ports than this are named.
const MAX_PORTS: usize = 8;

/// The traffic of `incident`: its target, and its protocol and source ports if one vector makes up
/// nearly all of it.
#[must_use]
pub fn incident_filter(incident: &Incident) -> String {
    let mut filter = destination(incident.target);
    if let Some(vector) = incident.vectors.first()
        && vector.share >= ALONE
    {
        add_signature(&mut filter, vector);
    }
    filter
}

/// What routers report to have dropped of the traffic to the target. ForwardingStatus (IPFIX
/// element 89) is 128 and above for dropped packets.
#[must_use]
pub fn dropped_filter(incident: &Incident) -> String {
    format!("ForwardingStatus >= 128 AND {}", destination(incident.target))
}

fn destination(target: Prefix) -> String {
    let host = match target.address() {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    if target.length() == host {
        format!("DstAddr = {}", target.address())
    } else {
        // `=` with a prefix needs 2.1.0, `<<` does not.
        format!("DstAddr << {target}")
    }
}

fn add_signature(filter: &mut String, vector: &Vector) {
    let Some(protocol) = vector.signature.protocol else { return };
    // Writing to a String cannot fail.
    let _ = write!(filter, " AND Proto = {protocol}");
    // Later fragments carry no ports: a filter on ports would hide them.
    if vector.signature.fragments {
        return;
    }
    let ports = &vector.signature.source_ports;
    match ports.as_slice() {
        [] => {}
        [port] => {
            let _ = write!(filter, " AND SrcPort = {port}");
        }
        several if several.len() <= MAX_PORTS => {
            let list: Vec<String> = several.iter().map(ToString::to_string).collect();
            let _ = write!(filter, " AND SrcPort IN ({})", list.join(", "));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::sample;

    #[test]
    fn filters_name_target_and_signature() {
        let mut incident = sample::incident();
        assert_eq!(
            incident_filter(&incident),
            "DstAddr = 203.0.113.7 AND Proto = 17 AND SrcPort = 53"
        );
        incident.vectors[0].signature.source_ports = vec![53, 123];
        assert_eq!(
            incident_filter(&incident),
            "DstAddr = 203.0.113.7 AND Proto = 17 AND SrcPort IN (53, 123)"
        );
        incident.vectors[0].signature.source_ports = (1..=9).collect();
        assert_eq!(incident_filter(&incident), "DstAddr = 203.0.113.7 AND Proto = 17");
        incident.vectors[0].signature.source_ports = vec![53];
        incident.vectors[0].signature.fragments = true;
        assert_eq!(incident_filter(&incident), "DstAddr = 203.0.113.7 AND Proto = 17");
        incident.vectors[0].share = 0.6;
        assert_eq!(incident_filter(&incident), "DstAddr = 203.0.113.7");
        incident.target = "2001:db8::/48".parse().unwrap();
        assert_eq!(incident_filter(&incident), "DstAddr << 2001:db8::/48");
        assert_eq!(
            dropped_filter(&incident),
            "ForwardingStatus >= 128 AND DstAddr << 2001:db8::/48"
        );
    }
}
