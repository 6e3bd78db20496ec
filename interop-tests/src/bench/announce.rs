//! Announcing: from the call to the last UPDATE at a receiver that only reads.
//!
//! The same receiver serves tidegate's speaker, BIRD and ExaBGP, one after the other, on loopback
//! in the benchmark's own network namespace.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tidegate_bgpd::Family;
use tidegate_bgpd::convert::decode_update;
use tidegate_bgpd::egress::GatePolicy;
use tidegate_bgpd::session::{ConnectMode, SessionOptions};
use tidegate_bgpd::speaker::{
    BlackholeProfile, PeerConfig, Speaker, SpeakerConfig, SpeakerHandle, Transport,
};
use tidegate_model::{
    AddressFamily, CommandId, Community, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch,
    OwnedSpace, Prefix, Route, TrafficFilteringAction,
};

use super::peer::{Arrival, Peer};
use super::table::{milliseconds, percentile};
use super::{BenchError, system};
use crate::lab::{require, until};

/// Routes announced at once.
const ROUTES: usize = 10_000;

/// Single routes announced one after the other.
const SINGLES: usize = 500;

/// Ten thousand routes that have not arrived by then are not going to.
const DEADLINE: Duration = Duration::from_secs(60);

const PORT: u16 = 1791;

/// Measures all, inside the namespace.
pub(super) fn measure(directory: &Path) -> Result<(), BenchError> {
    println!("\nAnnouncing, from the call to the last UPDATE at a receiver that only reads");
    ours()?;
    for reference in [bird, exabgp] {
        match reference(directory) {
            // A reference that is not installed is said to be absent, not an error.
            Err(BenchError::Lab(error)) => println!("  {error}"),
            other => other?,
        }
    }
    Ok(())
}

fn row(name: &str, what: &str, elapsed: Duration) {
    println!("  {name:<12} {what:<28} {:>12}", milliseconds(elapsed));
}

fn singles_row(name: &str, what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    println!(
        "  {name:<12} {what:<28} {:>12}  (p99 {})",
        milliseconds(percentile(times, 50)),
        milliseconds(percentile(times, 99)),
    );
}

fn address(index: usize) -> Ipv4Addr {
    let index = u32::try_from(index).unwrap_or_default();
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + index)
}

fn blackhole(index: usize) -> Route {
    Route {
        nlri: Nlri::Unicast(Prefix::host(address(index).into())),
        next_hop: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
        communities: BTreeSet::from([Community::BLACKHOLE, Community::NO_EXPORT]),
        large_communities: BTreeSet::new(),
        actions: Vec::new(),
    }
}

fn filter(index: usize) -> Result<Route, BenchError> {
    let components = vec![
        FlowSpecComponent::DestinationPrefix(Prefix::host(address(index).into())),
        FlowSpecComponent::IpProtocol(NumericMatch::equal(17)),
        FlowSpecComponent::SourcePort(NumericMatch::equal(123)),
    ];
    let rule = FlowSpecRule::new(AddressFamily::Ipv4, components)
        .map_err(|error| BenchError::Unexpected(error.to_string()))?;
    Ok(Route {
        nlri: Nlri::FlowSpec(rule),
        next_hop: None,
        communities: BTreeSet::from([Community::NO_EXPORT]),
        large_communities: BTreeSet::new(),
        actions: vec![TrafficFilteringAction::DISCARD],
    })
}

/// When the last of `count` announcements had arrived.
fn complete(updates: &Receiver<Arrival>, count: usize) -> Result<Instant, BenchError> {
    let mut missing = count;
    loop {
        let (arrival, message) = updates.recv_timeout(DEADLINE).map_err(|_| {
            BenchError::Unexpected(format!("{missing} of {count} announcements did not arrive"))
        })?;
        let update = decode_update(&message)
            .map_err(|error| BenchError::Unexpected(format!("an UPDATE that is none: {error}")))?;
        missing = missing.saturating_sub(update.announced.len());
        if missing == 0 {
            return Ok(arrival);
        }
    }
}

fn ours() -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(system("start a runtime"))?;
    let peer = Peer::listen((Ipv4Addr::LOCALHOST, PORT).into())?;
    let (speaker, mut events) = runtime
        .block_on(async { Speaker::start(speaker_config()) })
        .map_err(|error| BenchError::Unexpected(error.to_string()))?;
    runtime.spawn(async move { while events.recv().await.is_some() {} });
    peer.wait_until_established()?;

    let blackholes: Vec<Route> = (0..ROUTES).map(blackhole).collect();
    let filters: Vec<Route> = (0..ROUTES).map(filter).collect::<Result<_, _>>()?;
    let spare = (ROUTES..ROUTES + SINGLES).map(blackhole).collect::<Vec<_>>();
    let spare_filters = (ROUTES..ROUTES + SINGLES).map(filter).collect::<Result<Vec<_>, _>>()?;
    for (routes, what) in [(&spare, "one RTBH"), (&spare_filters, "one FlowSpec rule")] {
        let mut times = Vec::new();
        for route in routes {
            times.push(announce(&speaker, std::slice::from_ref(route), &peer.updates)?);
        }
        singles_row("tidegate", what, &mut times);
    }
    for (routes, what) in [(&blackholes, "10,000 RTBH"), (&filters, "10,000 FlowSpec rules")] {
        row("tidegate", what, announce(&speaker, routes, &peer.updates)?);
    }
    runtime.block_on(speaker.shutdown("the benchmark is over"));
    Ok(())
}

/// Announces `routes` and waits for the last of them.
fn announce(
    speaker: &SpeakerHandle,
    routes: &[Route],
    updates: &Receiver<Arrival>,
) -> Result<Duration, BenchError> {
    let routes = routes.to_vec();
    let count = routes.len();
    let begin = Instant::now();
    for (id, route) in (0..).zip(routes) {
        speaker
            .announce("bench", CommandId(id), route)
            .map_err(|error| BenchError::Unexpected(error.to_string()))?;
    }
    Ok(complete(updates, count)?.duration_since(begin))
}

fn speaker_config() -> SpeakerConfig {
    let owned = Prefix::new(Ipv4Addr::new(198, 18, 0, 0).into(), 15);
    SpeakerConfig {
        asn: 65010,
        router_id: Ipv4Addr::new(192, 0, 2, 10),
        listen: Vec::new(),
        peers: vec![PeerConfig {
            name: "bench".to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            asn: 65001,
            port: PORT,
            local_address: None,
            mode: ConnectMode::Active,
            hold_time: Duration::from_secs(90),
            families: BTreeSet::from([Family::Ipv4Unicast, Family::Ipv4FlowSpec]),
            max_routes: 100_000,
            transport: Transport::default(),
            options: SessionOptions::default(),
            blackhole: BlackholeProfile::default(),
        }],
        dynamic: Vec::new(),
        gate: GatePolicy {
            space: OwnedSpace { owned: owned.into_iter().collect(), never_touch: Vec::new() },
            session_addresses: vec![Ipv4Addr::LOCALHOST.into()],
            ..GatePolicy::default()
        },
        seed: 1,
    }
}

/// A child that is killed when it is no longer needed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It fails only if the child has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// BIRD's own way: static routes in an included file, then `configure` on the control socket.
fn bird(directory: &Path) -> Result<(), BenchError> {
    let peer = Peer::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT + 1)))?;
    let routes = directory.join("routes.conf");
    let config = directory.join("bench-bird.conf");
    let socket = directory.join("bench-bird.ctl");
    fs::write(&routes, "").map_err(system("write BIRD's routes"))?;
    let text = format!(
        "router id 192.0.2.20; protocol device {{ }}
protocol static blackholes {{ ipv4;
include \"{}\";
}}
protocol bgp bench {{ local 127.0.0.2 as 65010; neighbor 127.0.0.1 port {} as 65001; multihop 2;
  connect delay time 1; connect retry time 1;
  ipv4 {{ import none; export where source = RTS_STATIC; next hop self; }}; }}\n",
        routes.display(),
        PORT + 1
    );
    fs::write(&config, text).map_err(system("write BIRD's configuration"))?;
    let child = Command::new(require::program("bird")?)
        .arg("-f")
        .arg("-c")
        .arg(&config)
        .arg("-s")
        .arg(&socket)
        .arg("-P")
        .arg(directory.join("bench-bird.pid"))
        .stderr(Stdio::null())
        .spawn()
        .map_err(system("start BIRD"))?;
    let _bird = Killed(child);
    peer.wait_until_established()?;
    let mut control = until("BIRD's control socket", Duration::from_secs(5), || {
        Ok(UnixStream::connect(&socket).ok())
    })?;
    let lines: String = (0..ROUTES)
        .map(|index| {
            format!(
                "route {}/32 blackhole {{ bgp_community.add((65535,666)); }};\n",
                address(index)
            )
        })
        .collect();
    let begin = Instant::now();
    fs::write(&routes, lines).map_err(system("write BIRD's routes"))?;
    control.write_all(b"configure\n").map_err(system("command BIRD"))?;
    row("BIRD", "10,000 RTBH by configure", complete(&peer.updates, ROUTES)?.duration_since(begin));
    Ok(())
}

/// ExaBGP's way: lines on the standard output of a process that it runs.
fn exabgp(directory: &Path) -> Result<(), BenchError> {
    let program = require::program("exabgp")?;
    let peer = Peer::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT + 2)))?;
    let socket = directory.join("exabgp.sock");
    let listener =
        std::os::unix::net::UnixListener::bind(&socket).map_err(system("listen for ExaBGP"))?;
    let own = std::env::current_exe().map_err(system("find this program"))?;
    let config = directory.join("bench-exabgp.conf");
    let text = format!(
        "process feed {{ run {} bench-feed {}; encoder text; }}
neighbor 127.0.0.1 {{ router-id 192.0.2.30; local-address 127.0.0.3; local-as 65010;
  peer-as 65001; hold-time 90; family {{ ipv4 unicast; ipv4 flow; }} api {{ processes [ feed ]; }} }}\n",
        own.display(),
        socket.display()
    );
    fs::write(&config, text).map_err(system("write ExaBGP's configuration"))?;
    let child = Command::new(program)
        .arg(&config)
        .env("exabgp_tcp_port", (PORT + 2).to_string())
        .env("exabgp_daemon_user", "root")
        .env("exabgp_api_ack", "false")
        .env("exabgp_api_cli", "false")
        .env("exabgp_log_level", "ERR")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(system("start ExaBGP"))?;
    let _exabgp = Killed(child);
    peer.wait_until_established()?;
    let (mut feed, _) = listener.accept().map_err(system("reach ExaBGP's process"))?;
    let line = |index| {
        format!("announce route {}/32 next-hop 192.0.2.1 community [65535:666]\n", address(index))
    };
    let mut times = Vec::new();
    for index in ROUTES..ROUTES + SINGLES {
        let begin = Instant::now();
        feed.write_all(line(index).as_bytes()).map_err(system("command ExaBGP"))?;
        times.push(complete(&peer.updates, 1)?.duration_since(begin));
    }
    singles_row("ExaBGP", "one RTBH by its API", &mut times);
    let lines: String = (0..ROUTES).map(line).collect();
    let begin = Instant::now();
    feed.write_all(lines.as_bytes()).map_err(system("command ExaBGP"))?;
    row("ExaBGP", "10,000 RTBH by its API", complete(&peer.updates, ROUTES)?.duration_since(begin));
    Ok(())
}

/// The process that ExaBGP runs: what comes on the socket goes to standard output.
pub(super) fn feed(socket: &Path) -> Result<(), BenchError> {
    let mut stream = UnixStream::connect(socket).map_err(system("reach the benchmark"))?;
    let mut buffer = [0; 65_536];
    let mut stdout = std::io::stdout().lock();
    loop {
        let length = stream.read(&mut buffer).map_err(system("read from the benchmark"))?;
        let Some(lines @ [_, ..]) = buffer.get(..length) else { return Ok(()) };
        stdout.write_all(lines).and_then(|()| stdout.flush()).map_err(system("feed ExaBGP"))?;
    }
}
