//! A BIRD 2 of one's own, on loopback and unprivileged ports. It has no kernel protocol: nothing on
//! the host changes.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const AS: u32 = 65010;
/// BIRD's end of the session.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Its router identifier.
pub(crate) const ROUTER_ID: Ipv4Addr = ADDRESS;
/// Longer than any of the things that are waited for should take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether BIRD is there. If not, says so on one line, and fails in CI.
pub(crate) fn installed(test: &str) -> bool {
    let found = find("bird").is_some() && find("birdc").is_some();
    if !found {
        eprintln!("skipped {test}: BIRD 2 (bird, birdc) is not installed");
        assert!(std::env::var_os("CI").is_none(), "BIRD 2 is not installed in CI");
    }
    found
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A port that nothing listens on at `address` now.
pub(crate) fn free_port(address: IpAddr) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

pub(crate) struct Router {
    directory: TempDir,
    process: Option<Child>,
    /// BIRD's end of the session.
    pub(crate) address: IpAddr,
    /// The speaker's end.
    pub(crate) speaker: IpAddr,
    /// BIRD's port.
    pub(crate) port: u16,
    /// The speaker's port.
    pub(crate) speaker_port: u16,
}

/// Who connects, from BIRD's side.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Passive,
    Both,
}

/// What differs between sessions.
pub(crate) struct Setup {
    pub(crate) address: IpAddr,
    pub(crate) speaker: IpAddr,
    pub(crate) speaker_as: u32,
    pub(crate) mode: Mode,
    /// Lines of the protocol: how far away the speaker is, and more.
    pub(crate) lines: &'static str,
}

impl Setup {
    /// Over loopback, with nothing special.
    pub(crate) fn new(speaker_as: u32, mode: Mode) -> Self {
        Self {
            address: IpAddr::V4(ADDRESS),
            speaker: IpAddr::V4(Ipv4Addr::LOCALHOST),
            speaker_as,
            mode,
            lines: "multihop;",
        }
    }
}

impl Router {
    /// Starts BIRD; the speaker, in `speaker_as`, is at 127.0.0.1.
    pub(crate) fn start(speaker_as: u32, mode: Mode) -> Self {
        Self::with(&Setup::new(speaker_as, mode))
    }

    pub(crate) fn with(setup: &Setup) -> Self {
        let Setup { address, speaker, speaker_as, mode, lines } = setup;
        let mut router = Self {
            directory: TempDir::new().unwrap(),
            process: None,
            address: *address,
            speaker: *speaker,
            port: free_port(*address),
            speaker_port: free_port(*speaker),
        };
        let passive = match mode {
            Mode::Passive => "passive yes;",
            Mode::Both => "",
        };
        let configuration = format!(
            "log \"{log}\" all;
router id {ROUTER_ID};
flow4 table flowtab4;
flow6 table flowtab6;
protocol device {{}}
protocol bgp tidegate {{
    local {address} port {port} as {AS};
    neighbor {speaker} port {speaker_port} as {speaker_as};
    strict bind yes;
    {lines}
    {passive}
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    ipv4 {{ import all; export none; }};
    ipv6 {{ import all; export none; }};
    flow4 {{ table flowtab4; import all; export none; }};
    flow6 {{ table flowtab6; import all; export none; }};
}}
",
            log = router.file("log").display(),
            port = router.port,
            speaker_port = router.speaker_port,
        );
        std::fs::write(router.file("bird.conf"), configuration).unwrap();
        router.resume();
        router
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn configuration(&self) -> String {
        std::fs::read_to_string(self.file("bird.conf")).unwrap()
    }

    /// Lets the running process take another configuration.
    pub(crate) fn reconfigure(&self, configuration: &str) {
        std::fs::write(self.file("bird.conf"), configuration).unwrap();
        let answer = self.ask("configure");
        assert!(answer.contains("econfigur"), "{answer}");
    }

    /// Starts the process (again) with an empty table.
    pub(crate) fn resume(&mut self) {
        let mut command = Command::new(find("bird").unwrap());
        command.arg("-f").arg("-c").arg(self.file("bird.conf"));
        command.arg("-s").arg(self.file("control")).arg("-P").arg(self.file("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        self.wait("BIRD answers", |router| router.ask("show status").contains("is up"));
    }

    /// Kills the process, as a crash would.
    pub(crate) fn crash(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// What birdc says to `command`.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut birdc = Command::new(find("birdc").unwrap());
        birdc.arg("-s").arg(self.file("control")).args(command.split(' '));
        String::from_utf8_lossy(&birdc.output().unwrap().stdout).into_owned()
    }

    /// Every route in every table, with its attributes.
    pub(crate) fn routes(&self) -> String {
        self.ask("show route all table all")
    }

    pub(crate) fn wait_for_routes(&self, what: &str, done: impl Fn(&str) -> bool) -> String {
        self.wait(what, |router| done(&router.routes()));
        self.routes()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    pub(crate) fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}\n{}\n{}\n{}",
                self.ask("show protocols all tidegate"),
                self.routes(),
                self.log(),
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.crash();
    }
}
