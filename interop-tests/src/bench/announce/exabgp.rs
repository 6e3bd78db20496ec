//! ExaBGP's way: lines on the standard output of a process that it runs.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{ANNOUNCER, Announcer, BenchError, Killed, Link, route, system};
use crate::interop::Kind;
use crate::lab::{require, until};

/// ExaBGP as announcer.
pub(super) struct Exabgp {
    feed: UnixStream,
    #[expect(dead_code, reason = "held for its end")]
    process: Killed,
}

impl Exabgp {
    /// `program` is `exabgp` or `exabgp5`.
    pub(super) fn start(link: Link, directory: &Path, program: &str) -> Result<Self, BenchError> {
        let program_path = require::program(program)?;
        let socket = directory.join("exabgp.sock");
        // That of an earlier one.
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).map_err(system("listen for ExaBGP"))?;
        listener.set_nonblocking(true).map_err(system("listen for ExaBGP"))?;
        let own = std::env::current_exe().map_err(system("find this program"))?;
        let config = directory.join("bench-exabgp.conf");
        let text = format!(
            "process feed {{ run {} bench-feed {}; encoder json; }}
neighbor {} {{ router-id 192.0.2.30; local-address {ANNOUNCER}; local-as 65010;
  peer-as 65001; hold-time 90; family {{ ipv4 unicast; ipv4 flow; }} api {{ processes [ feed ]; }} }}\n",
            own.display(),
            socket.display(),
            Ipv4Addr::LOCALHOST
        );
        fs::write(&config, text).map_err(system("write ExaBGP's configuration"))?;
        let mut command = Command::new(program_path);
        if program == "exabgp5" {
            // Where the distribution's modules are: it has its own.
            command.env_remove("PYTHONPATH");
        }
        let child = command
            .arg(&config)
            .env("exabgp_tcp_port", link.port.to_string())
            .env("exabgp_daemon_user", "root")
            .env("exabgp_daemon_drop", "false")
            .env("exabgp_api_ack", "false")
            .env("exabgp_api_cli", "false")
            .env("exabgp_log_level", "WARNING")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(system("start ExaBGP"))?;
        let process = Killed(child);
        let (feed, _) =
            until("ExaBGP's process", super::SESSION_LIMIT, || Ok(listener.accept().ok()))?;
        feed.set_nonblocking(false).map_err(system("reach ExaBGP's process"))?;
        Ok(Self { feed, process })
    }
}

impl Announcer for Exabgp {
    fn announce(&mut self, kind: Kind, range: Range<usize>) -> Result<Instant, BenchError> {
        let lines: String = range.map(|index| route::exabgp(kind, index)).collect();
        let begin = Instant::now();
        self.feed.write_all(lines.as_bytes()).map_err(system("command ExaBGP"))?;
        Ok(begin)
    }
}

/// The process that ExaBGP runs: what comes on the socket goes to standard output.
pub(in crate::bench) fn feed(socket: &Path) -> Result<(), BenchError> {
    let mut stream = UnixStream::connect(socket).map_err(system("reach the benchmark"))?;
    let mut buffer = [0; 65_536];
    let mut stdout = std::io::stdout().lock();
    loop {
        let length = stream.read(&mut buffer).map_err(system("read from the benchmark"))?;
        let Some(lines @ [_, ..]) = buffer.get(..length) else { return Ok(()) };
        stdout.write_all(lines).and_then(|()| stdout.flush()).map_err(system("feed ExaBGP"))?;
    }
}
