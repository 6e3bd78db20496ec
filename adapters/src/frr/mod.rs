//! FRR by vtysh: blackholes as tagged static routes, which a route map of the operator announces
//! with its communities.
//!
//! FRR cannot originate FlowSpec, in no version. Rules reach its peers only through a BGP session
//! from us, which FRR passes on: see [`snippet`](crate::snippet). That way is also faster, needs no
//! lease, and lets each route have communities of its own. This is for blackholes where no session
//! can be added.
//!
//! A tagged route is in the kernel of the router as well: FRR's host drops the traffic too.

mod render;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_bgpd::Family;
use tidegate_model::Nlri;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::backend::{Attributes, Capabilities};
use crate::external::{
    Change, Driver, ExternalError, Observation, Refusal, configured, outliving, shown, within,
};

/// Longest wait for a batch: 10,000 routes take 4 s.
const BATCH_LIMIT: Duration = Duration::from_secs(60);

/// How to reach an FRR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrrConfig {
    /// The program. Default: `vtysh`, on the search path.
    pub vtysh: PathBuf,
    /// Where the daemons' sockets are. Default: `/run/frr`.
    pub sockets: PathBuf,
    /// Tag of our static routes, and of nobody else's. Default: 29797.
    pub tag: u32,
    /// IPv4 and IPv6 unicast, or one of them. Default: both.
    #[serde(with = "crate::external::family_names")]
    pub families: BTreeSet<Family>,
}

impl Default for FrrConfig {
    fn default() -> Self {
        Self {
            vtysh: "vtysh".into(),
            sockets: "/run/frr".into(),
            tag: 29_797,
            families: [Family::Ipv4Unicast, Family::Ipv6Unicast].into(),
        }
    }
}

impl FrrConfig {
    /// What the operator adds to FRR's configuration: blackholes with our tag are announced with
    /// BLACKHOLE (RFC 7999) and whatever else their upstreams ask for.
    #[must_use]
    pub fn snippet(&self, asn: u32) -> String {
        let mut text = format!(
            "route-map tidegate-rtbh permit 10
 match tag {}
 set community 65535:666
 set origin igp
!
router bgp {asn}
",
            self.tag
        );
        for family in &self.families {
            let name = match family {
                Family::Ipv4Unicast => "ipv4",
                Family::Ipv6Unicast => "ipv6",
                Family::Ipv4FlowSpec | Family::Ipv6FlowSpec => continue,
            };
            text.push_str(&format!(
                " address-family {name} unicast
  redistribute static route-map tidegate-rtbh
 exit-address-family
"
            ));
        }
        text
    }
}

/// Drives an FRR.
#[derive(Debug)]
pub struct FrrDriver {
    config: FrrConfig,
    /// Open as long as the daemon that holds the routes lives.
    staticd: Option<UnixStream>,
}

impl FrrDriver {
    /// Drives the FRR of `config`.
    #[must_use]
    pub const fn new(config: FrrConfig) -> Self {
        Self { config, staticd: None }
    }

    /// Runs vtysh; what it printed. `input` is a file of configuration lines on standard input.
    async fn vtysh(
        &self,
        what: &str,
        words: &[&str],
        input: &str,
    ) -> Result<String, ExternalError> {
        let mut command = Command::new(&self.config.vtysh);
        command.arg("--vty_socket").arg(&self.config.sockets).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let program = self.config.vtysh.display().to_string();
        within(what, BATCH_LIMIT, async {
            let mut child = command.spawn().map_err(ExternalError::io("start", &program))?;
            let mut stdin = child.stdin.take();
            let feed = async {
                if let Some(mut stdin) = stdin.take() {
                    // It may end without reading; its exit status tells.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
            };
            let (output, ()) = tokio::join!(child.wait_with_output(), feed);
            let output = output.map_err(ExternalError::io("wait for", &program))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() {
                return Ok(text);
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &text;
            Err(ExternalError::refused(what, &said))
        })
        .await
    }
}

impl Driver for FrrDriver {
    fn capabilities(&self) -> Capabilities {
        outliving(&self.config.families, Attributes::OfOperator)
    }

    fn spelled(&self, nlri: &Nlri) -> Result<Nlri, String> {
        match nlri {
            Nlri::FlowSpec(_) => Err(
                "FRR cannot originate FlowSpec; make it a peer, with what `tidegate adapters snippet frr` prints"
                    .to_owned(),
            ),
            Nlri::Unicast(_) => {
                configured(&self.config.families, nlri, "FRR").map(|_| nlri.clone())
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ExternalError> {
        let path = self.config.sockets.join("staticd.vty");
        let name = format!("FRR's staticd at {}", path.display());
        let stream = UnixStream::connect(&path).await.map_err(ExternalError::io("reach", name))?;
        self.staticd = Some(stream);
        Ok(())
    }

    async fn probe(&mut self) -> Result<(), ExternalError> {
        let lost = || ExternalError::Lost("FRR's staticd is gone".to_owned());
        let stream = self.staticd.as_ref().ok_or_else(lost)?;
        let mut octet = [0];
        match stream.try_read(&mut octet) {
            // It says nothing unasked.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Ok(more) if more > 0 => Ok(()),
            _ => {
                self.staticd = None;
                Err(lost())
            }
        }
    }

    async fn apply(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), Refusal>>, ExternalError> {
        let lines = render::lines(changes, self.config.tag);
        // A withdraw of what is not there is an error to vtysh, but the rest is carried out.
        let said = self.vtysh("vtysh -f", &["-f", "/dev/stdin"], &lines).await;
        let said = said.unwrap_or_else(|error| error.to_string());
        let observation = self.observe().await?;
        let held: BTreeSet<_> = observation.ours.into_iter().map(|seen| seen.nlri).collect();
        let answers = changes.iter().map(|change| {
            let wanted = matches!(change, Change::Announce(_));
            if held.contains(change.nlri()) == wanted {
                return Ok(());
            }
            let what = if wanted { "does not hold" } else { "still holds" };
            Err(Refusal::Now(format!("FRR {what} it: {}", shown(&said))))
        });
        Ok(answers.collect())
    }

    async fn observe(&mut self) -> Result<Observation, ExternalError> {
        let what = "vtysh, asked for the running configuration";
        let text = self.vtysh(what, &["-d", "staticd", "-c", "show running-config"], "").await?;
        Ok(render::observe(&text, self.config.tag))
    }
}
