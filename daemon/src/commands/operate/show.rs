//! Looking: asks the daemon and prints what it says.

use super::{Failure, ask, client, print, story, text, write};
use crate::api::v1;
use crate::cli::{Connection, Explain, Incident, IncidentStatus, Incidents, Mitigations, Peers};

pub(super) fn status(connection: &Connection) -> Result<(), Failure> {
    let answer = ask(connection, async |channel| {
        let mut client = client!(control_client::ControlClient, channel);
        Ok(client.get_status(v1::GetStatusRequest {}).await?.into_inner())
    })?;
    print(connection, "GetStatusResponse", &answer, |it| {
        text::status(it, text::now(), text::width())
    })
}

pub(super) fn incidents(arguments: &Incidents) -> Result<(), Failure> {
    let status = match arguments.status {
        None => v1::IncidentStatus::Unspecified,
        Some(IncidentStatus::Active) => v1::IncidentStatus::Active,
        Some(IncidentStatus::Ended) => v1::IncidentStatus::Ended,
        Some(IncidentStatus::Closed) => v1::IncidentStatus::Closed,
    };
    let request = v1::ListIncidentsRequest {
        status: status.into(),
        target: arguments.target.map(|target| target.to_string()).unwrap_or_default(),
        before: None,
        limit: arguments.limit,
    };
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(incidents_client::IncidentsClient, channel);
        Ok(client.list_incidents(request).await?.into_inner())
    })?;
    print(&arguments.connection, "ListIncidentsResponse", &answer, |answer| {
        text::incidents(answer, text::width())
    })
}

pub(super) fn incident(arguments: &Incident) -> Result<(), Failure> {
    let request = v1::GetIncidentRequest { id: arguments.id.clone() };
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(incidents_client::IncidentsClient, channel);
        Ok(client.get_incident(request).await?.into_inner())
    })?;
    if arguments.connection.json {
        // The document is what programs want, not the envelope that it came in.
        return write(&format!("{}\n", answer.document));
    }
    let document = serde_json::from_str(&answer.document).map_err(|error| {
        Failure::Running(format!("the record is of another version of tidegate: {error}"))
    })?;
    write(&story::tell(&document, text::width()))
}

pub(super) fn mitigations(arguments: &Mitigations) -> Result<(), Failure> {
    let attack = arguments.attack.map(|attack| attack.to_string()).unwrap_or_default();
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(mitigations_client::MitigationsClient, channel);
        Ok(client.list_mitigations(v1::ListMitigationsRequest { attack }).await?.into_inner())
    })?;
    print(&arguments.connection, "ListMitigationsResponse", &answer, |answer| {
        text::mitigations(answer, text::now(), text::width())
    })
}

pub(super) fn peers(arguments: &Peers) -> Result<(), Failure> {
    let connection = &arguments.connection;
    let name = arguments.name.clone().unwrap_or_default();
    let request = v1::ListPeersRequest { name: name.clone() };
    let answer = ask(connection, async |channel| {
        let mut client = client!(peers_client::PeersClient, channel);
        Ok(client.list_peers(request).await?.into_inner())
    })?;
    if !arguments.routes && !arguments.received {
        return print(connection, "ListPeersResponse", &answer, |answer| {
            match (name.as_str(), answer.peers.first()) {
                ("", _) | (_, None) => text::peers(answer, text::width()),
                (_, Some(peer)) => text::peer(peer),
            }
        });
    }
    if let (false, Some(peer)) = (connection.json, answer.peers.first()) {
        write(&text::peer(peer))?;
    }
    if arguments.routes {
        let request = v1::ListAdjRibOutRequest { peer: name.clone() };
        let answer = ask(connection, async |channel| {
            let mut client = client!(peers_client::PeersClient, channel);
            Ok(client.list_adj_rib_out(request).await?.into_inner())
        })?;
        print(connection, "ListAdjRibOutResponse", &answer, |answer| {
            text::adj_rib_out(answer, text::width())
        })?;
    }
    if arguments.received {
        let request = v1::ListReceivedRoutesRequest { peer: name, limit: 0 };
        let answer = ask(connection, async |channel| {
            let mut client = client!(peers_client::PeersClient, channel);
            Ok(client.list_received_routes(request).await?.into_inner())
        })?;
        print(connection, "ListReceivedRoutesResponse", &answer, |answer| {
            text::received(answer, text::width())
        })?;
    }
    Ok(())
}

pub(super) fn explain(arguments: &Explain) -> Result<(), Failure> {
    let attack = arguments.vector.zip(arguments.pps);
    let rate = attack.map(|(_, packets)| {
        let rate = tidegate_policy::explain::rate(packets, arguments.bps);
        v1::Rate { packets: rate.packets.0, bits: rate.bits.0 }
    });
    let request = v1::ExplainPolicyRequest {
        target: arguments.target.to_string(),
        vector: attack.map(|(vector, _)| vector.to_string()).unwrap_or_default(),
        rate,
        confidence: None,
        source_ports: Vec::new(),
        destination_ports: Vec::new(),
    };
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(policy_client::PolicyClient, channel);
        Ok(client.explain_policy(request).await?.into_inner())
    })?;
    let text = if arguments.connection.json { &answer.document } else { &answer.text };
    write(&format!("{}\n", text.trim_end()))
}
