//! One family of one column: the namespaces, both sides and what should be held.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_model::AddressFamily;

use super::InteropError;
use super::ours::{Ours, OursConfig, Status};
use super::peer::{PeerKind, Router, Setup, ThirdRouter};
use super::profile;
use super::route::{self, Held, Kind};
use crate::lab::{End, Lab, LabError, Namespace, interrupted};

/// Longest wait for anything. OpenBGPD lets a neighbor that was cleared wait for 30 seconds.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// Between two questions to a daemon, each of which is a process.
const POLL: Duration = Duration::from_millis(100);
/// Segments that the kernel must have dropped before a session counts as refused.
const REFUSED_SEGMENTS: u64 = 2;

/// Polls until there is a value. The text that `poll` gives instead says what is there.
pub(super) fn wait<T>(
    mut poll: impl FnMut() -> Result<Result<T, String>, InteropError>,
) -> Result<T, InteropError> {
    let started = Instant::now();
    loop {
        let there = match poll()? {
            Ok(value) => return Ok(value),
            Err(there) => there,
        };
        if interrupted() {
            return Err(LabError::Interrupted.into());
        }
        if started.elapsed() >= LIMIT {
            return Err(InteropError::Answer(format!("after {} s: {there}", LIMIT.as_secs())));
        }
        thread::sleep(POLL);
    }
}

/// How a session is guarded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guard {
    pub(super) md5: Option<&'static str>,
    pub(super) gtsm: bool,
}

/// Why the kernel drops segments of a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// A wrong MD5 signature (RFC 2385).
    Signature,
    /// A TTL below the least (RFC 5082).
    Distance,
}

impl Refusal {
    /// How its counters in `/proc/net/netstat` begin.
    const fn counters(self) -> &'static str {
        match self {
            Self::Signature => "TCPMD5",
            Self::Distance => "TCPMinTTLDrop",
        }
    }
}

/// Texts of the routes of one family.
struct Texts {
    owned: &'static str,
    /// First and second version of the blackhole.
    rtbh: [&'static str; 2],
    /// First and second version of the rule.
    flow: [&'static str; 2],
}

const IPV4: Texts = Texts {
    owned: "203.0.113.0/24",
    rtbh: [
        "rtbh 203.0.113.7/32 next-hop 192.0.2.1 community 65535:666 community no-export",
        "rtbh 203.0.113.7/32 next-hop 192.0.2.1 community 65535:666 community no-export community 65001:777 large-community 65001:666:1",
    ],
    flow: [
        "flow 203.0.113.9/32 protocol 17 source-port 123 rate 0",
        "flow 203.0.113.9/32 protocol 17 source-port 123 rate 125000",
    ],
};

const IPV6: Texts = Texts {
    owned: "2001:db8:1::/48",
    rtbh: [
        "rtbh 2001:db8:1::7/128 next-hop 100::1 community 65535:666 community no-export",
        "rtbh 2001:db8:1::7/128 next-hop 100::1 community 65535:666 community no-export community 65001:777 large-community 65001:666:1",
    ],
    flow: [
        "flow 2001:db8:1::9/128 protocol 17 source-port 123 rate 0",
        "flow 2001:db8:1::9/128 protocol 17 source-port 123 rate 125000",
    ],
};

/// The stage of one family of one column.
pub(super) struct Bench {
    program: PathBuf,
    peer: PeerKind,
    family: AddressFamily,
    ours_namespace: Namespace,
    router_namespace: Namespace,
    third_namespace: Namespace,
    /// Before the laboratory, whose folder their files are in.
    pub(super) ours: Option<Ours>,
    pub(super) router: Option<Box<dyn Router>>,
    pub(super) third: Option<ThirdRouter>,
    wanted: Vec<(Kind, &'static str)>,
    #[expect(dead_code, reason = "held for its folder")]
    lab: Lab,
}

impl Bench {
    pub(super) fn new(
        program: &Path,
        peer: PeerKind,
        family: AddressFamily,
    ) -> Result<Self, InteropError> {
        let lab = Lab::new()?;
        let ours = lab.namespace("ours")?;
        let router = lab.namespace("router")?;
        let third = lab.namespace("third")?;
        lab.link(
            End { namespace: &ours, interface: "edge", addresses: &["10.99.0.1/24", "fd99::1/64"] },
            End {
                namespace: &router,
                interface: "ours",
                addresses: &["10.99.0.2/24", "fd99::2/64"],
            },
        )?;
        lab.link(
            End {
                namespace: &router,
                interface: "third",
                addresses: &["10.98.0.2/24", "fd98::2/64"],
            },
            End {
                namespace: &third,
                interface: "core",
                addresses: &["10.98.0.3/24", "fd98::3/64"],
            },
        )?;
        Ok(Self {
            program: program.to_owned(),
            peer,
            family,
            ours_namespace: ours,
            router_namespace: router,
            third_namespace: third,
            ours: None,
            router: None,
            third: None,
            wanted: Vec::new(),
            lab,
        })
    }

    fn address(&self, ipv4: [u8; 4], ipv6: u16, host: u16) -> IpAddr {
        match self.family {
            AddressFamily::Ipv4 => ipv4.into(),
            AddressFamily::Ipv6 => [ipv6, 0, 0, 0, 0, 0, 0, host].into(),
        }
    }

    fn ours_address(&self) -> IpAddr {
        self.address([10, 99, 0, 1], 0xfd99, 1)
    }

    fn router_address(&self) -> IpAddr {
        self.address([10, 99, 0, 2], 0xfd99, 2)
    }

    fn texts(&self) -> &'static Texts {
        match self.family {
            AddressFamily::Ipv4 => &IPV4,
            AddressFamily::Ipv6 => &IPV6,
        }
    }

    /// Of session and routes.
    pub(super) const fn family(&self) -> AddressFamily {
        self.family
    }

    /// The rules of the daemon's profiles, one profile after the other.
    pub(super) fn check_profiles(&mut self) -> Result<(), InteropError> {
        profile::check(self, self.peer.profiles())
    }

    /// The first or second version of the route of this kind.
    pub(super) fn text(&self, kind: Kind, version: usize) -> &'static str {
        let texts = match kind {
            Kind::Rtbh => &self.texts().rtbh,
            Kind::FlowSpec => &self.texts().flow,
        };
        texts.get(version).copied().unwrap_or_default()
    }

    /// Starts the daemon, again if need be.
    pub(super) fn start_router(&mut self, guard: Guard) -> Result<(), InteropError> {
        self.router = None;
        let setup = Setup {
            namespace: &self.router_namespace,
            family: self.family,
            local: self.router_address(),
            neighbor: self.ours_address(),
            third: (
                self.address([10, 98, 0, 2], 0xfd98, 2),
                self.address([10, 98, 0, 3], 0xfd98, 3),
            ),
            guard,
        };
        self.router = Some(self.peer.start(&setup)?);
        Ok(())
    }

    /// Starts the router on the far side of the daemon.
    pub(super) fn start_third(&mut self) -> Result<(), InteropError> {
        let local = self.address([10, 98, 0, 3], 0xfd98, 3);
        let neighbor = self.address([10, 98, 0, 2], 0xfd98, 2);
        self.third = Some(ThirdRouter::start(&self.third_namespace, local, neighbor)?);
        Ok(())
    }

    /// Starts our side, again if need be, with nothing to announce.
    pub(super) fn start_ours(&mut self, guard: Guard) -> Result<(), InteropError> {
        self.ours = None;
        self.wanted.clear();
        let config = OursConfig {
            local: self.ours_address(),
            peer: self.router_address(),
            owned: self.texts().owned,
            passive: self.peer.connects(),
            flowspec: self.peer.lacks(Kind::FlowSpec).is_none(),
            md5: guard.md5,
            gtsm: guard.gtsm,
        };
        self.ours = Some(Ours::start(&self.program, &self.ours_namespace, &config)?);
        Ok(())
    }

    /// `kill -9`: from here on nothing is wanted.
    pub(super) fn kill_ours(&mut self) -> Result<(), InteropError> {
        self.wanted.clear();
        self.ours()?.kill();
        Ok(())
    }

    pub(super) fn ours(&mut self) -> Result<&mut Ours, InteropError> {
        self.ours.as_mut().ok_or_else(|| InteropError::Answer("our side does not run".to_owned()))
    }

    pub(super) fn router(&mut self) -> Result<&mut Box<dyn Router>, InteropError> {
        self.router.as_mut().ok_or_else(|| InteropError::Answer("the peer does not run".to_owned()))
    }

    pub(super) fn announce(&mut self, kind: Kind, version: usize) -> Result<(), InteropError> {
        let text = self.text(kind, version);
        self.wanted.retain(|(other, _)| *other != kind);
        self.wanted.push((kind, text));
        self.ours()?.announce(text)
    }

    pub(super) fn withdraw(&mut self, kind: Kind) -> Result<(), InteropError> {
        let text = self.text(kind, 0);
        self.wanted.retain(|(other, _)| *other != kind);
        self.ours()?.withdraw(text)
    }

    /// Waits until our side has been up more often than `before`, and is.
    pub(super) fn wait_up(&mut self, before: u64) -> Result<Status, InteropError> {
        wait(|| {
            let status = self.ours()?.status()?;
            if status.state == "Established" && status.established > before {
                return Ok(Ok(status));
            }
            let there = format!("our side is in {}; {}", status.state, status.trouble);
            let words = self.router()?.last_words();
            Ok(Err(format!(
                "{there}; the peer: {}",
                words.lines().last().unwrap_or_default().trim()
            )))
        })
    }

    /// Waits until the peer holds what is wanted of this kind, and nothing else of it.
    pub(super) fn check(&mut self, kind: Kind) -> Result<(), InteropError> {
        let wanted = self.wanted(kind)?;
        self.expect(kind, &wanted)
    }

    fn wanted(&self, kind: Kind) -> Result<Vec<Held>, InteropError> {
        let wanted = self.wanted.iter().filter(|(other, _)| *other == kind);
        let wanted = wanted.map(|(_, text)| route::parse(text).map(|route| Held::of(&route)));
        wanted.collect::<Result<_, _>>().map_err(InteropError::Answer)
    }

    /// Waits until the peer holds nothing of this kind.
    pub(super) fn check_empty(&mut self, kind: Kind) -> Result<(), InteropError> {
        self.expect(kind, &[])
    }

    fn expect(&mut self, kind: Kind, wanted: &[Held]) -> Result<(), InteropError> {
        wait(|| {
            let held = self.router()?.held()?;
            let held: Vec<Held> = held.into_iter().filter(|held| held.kind == kind).collect();
            if held == wanted {
                return Ok(Ok(()));
            }
            let refusals = self.ours.as_ref().map(|ours| ours.refusals().join("; "));
            Ok(Err(format!(
                "holds {}, not {}; {}",
                listed(&held),
                listed(wanted),
                refusals.unwrap_or_default()
            )))
        })
    }

    /// Waits until the third router, if it runs, holds the rule that is wanted and nothing else.
    pub(super) fn check_third(&mut self) -> Result<(), InteropError> {
        let wanted = self.wanted(Kind::FlowSpec)?;
        let Some(third) = &mut self.third else { return Ok(()) };
        wait(|| {
            let held = third.held()?;
            if held == wanted {
                return Ok(Ok(()));
            }
            Ok(Err(format!("the third router holds {}, not {}", listed(&held), listed(&wanted))))
        })
    }

    /// Waits until the kernel at either side has dropped segments for this reason, and fails if the
    /// session is up nevertheless.
    pub(super) fn wait_refused(&mut self, refusal: Refusal) -> Result<(), InteropError> {
        let before = self.refused_segments(refusal)?;
        wait(|| {
            let more = self.refused_segments(refusal)?.saturating_sub(before);
            if more >= REFUSED_SEGMENTS {
                return Ok(Ok(()));
            }
            Ok(Err(format!("the kernel dropped only {more} segments ({})", refusal.counters())))
        })?;
        if self.ours()?.status()?.state == "Established" || self.router()?.is_established()? {
            return Err(InteropError::Answer("the session is up".to_owned()));
        }
        Ok(())
    }

    /// Segments that the kernel dropped, on both sides.
    fn refused_segments(&self, refusal: Refusal) -> Result<u64, InteropError> {
        let mut sum = 0;
        for namespace in [&self.ours_namespace, &self.router_namespace] {
            let text = namespace.run("cat", ["/proc/net/netstat"])?;
            let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
            let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
            let pairs = names.split(' ').zip(values.split(' '));
            let counted = pairs.filter(|(name, _)| name.starts_with(refusal.counters()));
            sum += counted.filter_map(|(_, value)| value.parse::<u64>().ok()).sum::<u64>();
        }
        Ok(sum)
    }
}

fn listed(held: &[Held]) -> String {
    if held.is_empty() {
        return "nothing".to_owned();
    }
    held.iter().map(|held| format!("[{held}]")).collect::<Vec<_>>().join(" ")
}
