//! Our side of a session, as a process of its own in a namespace: the speaker's library, told by
//! JSON lines what to do.
//!
//! In: `{"do":"announce","route":"rtbh 203.0.113.7/32 ..."}`, `{"do":"withdraw","route":"..."}`,
//! `{"do":"status"}`, `{"do":"shutdown"}`. Out: one object a line with `event` and, for `status`,
//! what is known of the session. The end of the input ends it without a word to the peer.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_bgpd::Family;
use tidegate_bgpd::egress::GatePolicy;
use tidegate_bgpd::session::{ConnectMode, SessionOptions};
use tidegate_bgpd::speaker::{
    BlackholeProfile, HopLimit, Md5Key, PeerConfig, Speaker, SpeakerConfig, SpeakerEvent,
    SpeakerHandle, Transport,
};
use tidegate_model::{BackendState, CommandId, OutcomeKind, OwnedSpace};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::route;

/// Name of the only peer.
const PEER: &str = "peer";
/// Most routes that the peer is sent.
const MAX_ROUTES: u32 = 1000;
/// Told to the peer at `shutdown`.
const REASON: &str = "end of the test";

/// Arguments of our side of a session.
#[derive(Debug, clap::Args)]
pub struct SpeakerArguments {
    /// Our address.
    #[arg(long)]
    local: IpAddr,

    /// The peer's address.
    #[arg(long)]
    peer: IpAddr,

    /// Our AS number.
    #[arg(long)]
    local_as: u32,

    /// The peer's AS number.
    #[arg(long)]
    peer_as: u32,

    /// What we own.
    #[arg(long)]
    owned: tidegate_model::Prefix,

    /// Wait for the peer to connect instead of connecting.
    #[arg(long)]
    passive: bool,

    /// Offer FlowSpec too.
    #[arg(long)]
    flowspec: bool,

    /// Key of the TCP MD5 signature.
    #[arg(long)]
    md5: Option<String>,

    /// A community of the peer's black-hole profile; may be given more than once. Without NO_EXPORT
    /// among them, routes may go without it.
    #[arg(long)]
    blackhole: Vec<tidegate_model::Community>,

    /// The peer is on the link, and nothing from farther away is taken (RFC 5082).
    #[arg(long)]
    gtsm: bool,
}

/// Runs our side of a session.
#[must_use]
pub fn run(arguments: &SpeakerArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(serve(arguments)),
        Err(error) => Err(error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing more can be done if standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn configuration(arguments: &SpeakerArguments) -> Result<SpeakerConfig, String> {
    let families = match (arguments.local, arguments.flowspec) {
        (IpAddr::V4(_), true) => [Family::Ipv4Unicast, Family::Ipv4FlowSpec].into(),
        (IpAddr::V4(_), false) => [Family::Ipv4Unicast].into(),
        (IpAddr::V6(_), true) => [Family::Ipv6Unicast, Family::Ipv6FlowSpec].into(),
        (IpAddr::V6(_), false) => [Family::Ipv6Unicast].into(),
    };
    let md5 = match &arguments.md5 {
        Some(key) => Some(Md5Key::new(key.as_bytes()).map_err(|error| error.to_string())?),
        None => None,
    };
    let hops = if arguments.gtsm { HopLimit::Gtsm } else { HopLimit::System };
    Ok(SpeakerConfig {
        asn: arguments.local_as,
        router_id: Ipv4Addr::new(10, 99, 0, 1),
        listen: vec![SocketAddr::new(arguments.local, 179)],
        peers: vec![PeerConfig {
            name: PEER.to_owned(),
            address: arguments.peer,
            asn: arguments.peer_as,
            port: 179,
            local_address: Some(arguments.local),
            mode: if arguments.passive { ConnectMode::Passive } else { ConnectMode::Active },
            hold_time: Duration::from_secs(9),
            families,
            max_routes: MAX_ROUTES,
            blackhole: BlackholeProfile {
                communities: arguments.blackhole.iter().copied().collect(),
                ..BlackholeProfile::default()
            },
            transport: Transport { hops, md5 },
            options: SessionOptions::default(),
        }],
        dynamic: Vec::new(),
        gate: GatePolicy {
            space: OwnedSpace { owned: vec![arguments.owned], never_touch: Vec::new() },
            session_addresses: vec![arguments.local, arguments.peer],
            ..GatePolicy::default()
        },
        seed: 1,
    })
}

async fn serve(arguments: &SpeakerArguments) -> Result<(), String> {
    let started = Speaker::start(configuration(arguments)?).map_err(|error| error.to_string())?;
    let (speaker, mut events) = started;
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    let mut number = 0;
    loop {
        tokio::select! {
            line = commands.next_line() => {
                let Some(line) = line.map_err(|error| error.to_string())? else { return Ok(()) };
                number += 1;
                if line.contains("\"shutdown\"") {
                    speaker.shutdown(REASON).await;
                    return say(&json!({ "event": "end" }));
                }
                let answer = match obey(&speaker, CommandId(number), &line) {
                    Ok(answer) => answer,
                    Err(what) => Some(json!({ "event": "error", "what": what })),
                };
                answer.as_ref().map_or(Ok(()), say)?;
            }
            event = events.recv() => match event {
                Some(event) => say(&shown(&event))?,
                None => return Ok(()),
            },
        }
    }
}

fn obey(speaker: &SpeakerHandle, id: CommandId, line: &str) -> Result<Option<Value>, String> {
    let command: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let route = || route::parse(command["route"].as_str().unwrap_or_default());
    let unknown = |error: tidegate_bgpd::speaker::CommandError| error.to_string();
    match command["do"].as_str() {
        Some("announce") => {
            speaker.announce(PEER, id, route()?).map_err(unknown)?;
            Ok(None)
        }
        Some("withdraw") => {
            speaker.withdraw(PEER, id, &route()?.nlri).map_err(unknown)?;
            Ok(None)
        }
        Some("status") => Ok(speaker.peers().first().map(|peer| {
            let session = &peer.session;
            let counters = &session.counters;
            json!({
                "event": "status",
                "state": session.state.name(),
                "established": counters.established,
                "refreshes": counters.received.route_refresh,
                "updates": counters.sent.update,
                "error_sent": session.last_error_sent.as_ref().map(ToString::to_string),
                "error_received": session.last_error_received.as_ref().map(ToString::to_string),
                "down": session.down,
            })
        })),
        _ => Err(format!("not a command: {line}")),
    }
}

fn shown(event: &SpeakerEvent) -> Value {
    match event {
        SpeakerEvent::Outcome(outcome) => {
            let (became, why) = match &outcome.kind {
                OutcomeKind::Applied { .. } => ("applied", ""),
                OutcomeKind::Pending { why } => ("pending", why.as_str()),
                OutcomeKind::Rejected { why } => ("rejected", why.as_str()),
                OutcomeKind::Failed { why } => ("failed", why.as_str()),
            };
            let route = outcome.nlri.to_string();
            json!({ "event": "outcome", "route": route, "became": became, "why": why })
        }
        SpeakerEvent::State { state: BackendState::Up, .. } => json!({ "event": "up" }),
        SpeakerEvent::State { state: BackendState::Down { why }, .. } => {
            json!({ "event": "down", "why": why })
        }
        SpeakerEvent::Quarantined { nlri, why, .. } => {
            json!({ "event": "quarantined", "route": nlri.to_string(), "why": why })
        }
        SpeakerEvent::FlowSpec(change) => {
            let verdict = change.offer.as_ref().map(|offer| offer.verdict.to_string());
            json!({ "event": "learnt", "rule": change.rule.to_string(), "verdict": verdict })
        }
    }
}

fn say(value: &Value) -> Result<(), String> {
    let mut output = io::stdout().lock();
    writeln!(output, "{value}").and_then(|()| output.flush()).map_err(|error| error.to_string())
}
