//! BIRD 2 by its configuration: static routes in include files, and the control socket.
//!
//! ```text
//!   files written beside the old ones, renamed into place
//!     -> `configure check`            refused: old files back, nothing has changed
//!     -> `configure soft timeout N`   BIRD goes back by itself unless it hears from us
//!     -> routes counted               too few: `configure undo`, old files back
//!     -> `configure confirm`          refused: the same
//!     -> routes counted again         gone back meanwhile: the same
//! ```
//!
//! A batch of announcements is carried out as a whole or not at all. Withdraws go before, by
//! themselves, and do not depend on that: where BIRD cannot be configured, because the disk is full
//! or somebody is editing its configuration, the protocol that holds the route is disabled, with
//! all that it holds. What was to stay is then missing, and announced again.
//!
//! What BIRD holds counts, not the files: at every look they are made to say what its tables show,
//! so that a crash between two steps leaves nothing that a later `configure` would bring up.
//!
//! The four protocols of [`BirdConfig::prefix`]
//! and the four files hold nothing but our routes: that is their mark. Include files outlive both
//! BIRD and us, so the reaper is what ends a lease.
//!
//! Peering with BIRD over loopback is faster and needs no lease: see
//! [`snippet`](crate::snippet). This is for those who cannot add a session.
//!
//! Absent: tests that are always true or false, more than 16 alternatives of a bitmask, and
//! redirection to an IPv6 address, none of which BIRD's language can say.

mod control;
mod parse;
mod render;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_bgpd::Family;
use tidegate_model::Nlri;
use tokio::fs;
use tokio::time::{Instant, sleep};

use self::control::{Answer, Control};
use crate::backend::{Attributes, Capabilities};
use crate::external::{
    Change, Driver, ExternalError, Observation, Refusal, Seen, configured, outliving, shown,
};

/// Said with `disable`, and shown by `show protocols all`: only what we disabled is enabled by us.
const DISABLED: &str = "disabled by tidegate: BIRD could not be configured";
/// First line of each include file.
const HEADER: &str = "# Written by tidegate. What is added by hand is lost.";
/// Longest wait for BIRD to hold what it was configured to.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks whether it does.
const SETTLE_POLL: Duration = Duration::from_millis(5);

/// How to reach a BIRD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BirdConfig {
    /// Its control socket. Default: `/run/bird/bird.ctl`.
    pub control: PathBuf,
    /// Where the include files `rtbh4.conf`, `rtbh6.conf`, `flow4.conf` and `flow6.conf` are. BIRD
    /// must be able to read them. Default: `/var/lib/tidegate/bird`.
    pub directory: PathBuf,
    /// The static protocols are named `<prefix>_rtbh4` and so on. Default: `tidegate`.
    pub prefix: String,
    /// The families that BIRD has a protocol of ours for. Default: all four.
    #[serde(with = "crate::external::family_names")]
    pub families: BTreeSet<Family>,
    /// BIRD takes a change back after this time unless it is confirmed. Default: 30 s.
    pub undo_after: Duration,
}

impl Default for BirdConfig {
    fn default() -> Self {
        Self {
            control: "/run/bird/bird.ctl".into(),
            directory: "/var/lib/tidegate/bird".into(),
            prefix: "tidegate".to_owned(),
            families: Family::ALL.into(),
            undo_after: Duration::from_secs(30),
        }
    }
}

impl BirdConfig {
    fn file(&self, family: Family) -> PathBuf {
        self.directory.join(format!("{}.conf", render::kind(family)))
    }

    fn protocol(&self, family: Family) -> String {
        format!("{}_{}", self.prefix, render::kind(family))
    }

    /// What the operator adds to BIRD's configuration, to be changed where it names channels.
    #[must_use]
    pub fn snippet(&self) -> String {
        let mut text = String::from(
            "# Routes of tidegate, by include files. Export them to upstreams with\n\
             #   ipv4 { ...; export where proto = \"tidegate_rtbh4\"; next hop keep; };\n\
             #   flow4 { table flowtab4; import none; export all; };\n",
        )
        .replace("tidegate_", &format!("{}_", self.prefix));
        for family in &self.families {
            let channel = match family {
                Family::Ipv4Unicast => "ipv4",
                Family::Ipv6Unicast => "ipv6",
                Family::Ipv4FlowSpec => "flow4 { table flowtab4; }",
                Family::Ipv6FlowSpec => "flow6 { table flowtab6; }",
            };
            if let Some(table) = match family {
                Family::Ipv4FlowSpec => Some("flow4 table flowtab4;\n"),
                Family::Ipv6FlowSpec => Some("flow6 table flowtab6;\n"),
                _ => None,
            } {
                text.push_str(table);
            }
            text.push_str(&format!(
                "protocol static {} {{\n    {channel};\n    include \"{}\";\n}}\n",
                self.protocol(*family),
                self.file(*family).display(),
            ));
        }
        text
    }
}

/// The statements of the include files, by family and net as we spell it.
type Statements = BTreeMap<(Family, String), String>;

/// Drives a BIRD.
#[derive(Debug)]
pub struct BirdDriver {
    config: BirdConfig,
    control: Option<Control>,
    /// When BIRD says it was started.
    started: String,
    /// What BIRD held when it was last looked at or configured.
    statements: Statements,
    /// Why the files cannot be kept true, so that the same reason is reported once.
    file_error: Option<String>,
}

/// Why a batch was not carried out. BIRD holds what it held before.
struct Undone(String);

impl BirdDriver {
    /// Drives the BIRD of `config`.
    #[must_use]
    pub fn new(config: BirdConfig) -> Self {
        let (started, statements) = (String::new(), Statements::new());
        Self { config, control: None, started, statements, file_error: None }
    }

    async fn ask(&mut self, command: &str) -> Result<Answer, ExternalError> {
        let Some(control) = &mut self.control else {
            return Err(ExternalError::Lost("BIRD is not connected".to_owned()));
        };
        let answer = control.ask(command).await;
        if answer.is_err() {
            // Half an answer may be on the way.
            self.control = None;
        }
        answer
    }

    /// When BIRD was started, as it says.
    async fn boot(&mut self) -> Result<String, ExternalError> {
        let answer = self.ask("show status").await?;
        let line = answer.lines.iter().find(|line| line.starts_with("Last reboot"));
        line.cloned().ok_or_else(|| ExternalError::unreadable("`show status`", answer.words()))
    }

    /// The statements of a file. One that is missing is made: BIRD does not start without it.
    async fn read_file(&self, family: Family) -> Result<Statements, ExternalError> {
        let path = self.config.file(family);
        match fs::read(&path).await {
            Ok(text) => {
                let text = String::from_utf8_lossy(&text);
                let nets = text.lines().filter_map(statement_net);
                Ok(nets.map(|(net, line)| ((family, net), line.to_owned())).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = self.config.directory.display().to_string();
                let made = fs::create_dir_all(&self.config.directory).await;
                made.map_err(ExternalError::io("make", directory))?;
                write(&path, HEADER).await?;
                Ok(Statements::new())
            }
            Err(error) => Err(ExternalError::io("read", path.display().to_string())(error)),
        }
    }

    /// Makes the files say what BIRD holds. They are not needed to withdraw, so what goes wrong is
    /// told and tried again at the next look.
    async fn keep_files_true(&mut self) {
        let mut problem = None;
        for family in self.config.families.clone() {
            let held: Statements = self.of(family);
            let kept = match self.read_file(family).await {
                Ok(written) if written == held => Ok(()),
                Ok(_) => self.write_files(&held, &[family].into()).await,
                Err(error) => Err(error),
            };
            problem = problem.or(kept.err().map(|error| error.to_string()));
        }
        if let Some(why) = problem.as_ref().filter(|why| self.file_error.as_ref() != Some(why)) {
            tracing::error!(%why, "the include files for BIRD do not say what it holds");
        }
        self.file_error = problem;
    }

    /// What BIRD holds in one family.
    fn of(&self, family: Family) -> Statements {
        let all = self.statements.iter().filter(|((other, _), _)| *other == family);
        all.map(|(key, line)| (key.clone(), line.clone())).collect()
    }

    async fn write_files(
        &self,
        statements: &Statements,
        families: &BTreeSet<Family>,
    ) -> Result<(), ExternalError> {
        for family in families {
            let lines = statements.iter().filter(|((other, _), _)| other == family);
            let lines = lines.map(|(_, line)| line.as_str());
            let text = [HEADER].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
            write(&self.config.file(*family), &text).await?;
        }
        Ok(())
    }

    /// Makes BIRD hold `wanted` in `families`, or what it held before.
    async fn configure(
        &mut self,
        wanted: Statements,
        families: &BTreeSet<Family>,
    ) -> Result<Result<(), Undone>, ExternalError> {
        let done = match self.write_files(&wanted, families).await {
            Ok(()) => self.reconfigure(&wanted, families).await,
            Err(error) => Ok(Err(Undone(error.to_string()))),
        };
        if matches!(done, Ok(Ok(()))) {
            self.statements = wanted;
        } else if let Err(error) = self.write_files(&self.statements, families).await {
            tracing::warn!(%error, "the include files for BIRD are ahead of it until the next look");
        }
        done
    }

    async fn reconfigure(
        &mut self,
        wanted: &Statements,
        families: &BTreeSet<Family>,
    ) -> Result<Result<(), Undone>, ExternalError> {
        let refused =
            |answer: &Answer| Ok(Err(Undone(format!("BIRD refuses: {}", shown(answer.words())))));
        let check = self.ask("configure check").await?;
        if check.is_error() {
            return refused(&check);
        }
        let seconds = self.config.undo_after.as_secs().max(1);
        let answer = self.ask(&format!("configure soft timeout {seconds}")).await?;
        if answer.is_error() {
            return refused(&answer);
        }
        if let Err(undone) = self.settle(wanted, families).await? {
            self.ask("configure undo").await?;
            return Ok(Err(undone));
        }
        let confirmed = self.ask("configure confirm").await?;
        if confirmed.is_error() {
            self.ask("configure undo").await?;
            return refused(&confirmed);
        }
        // It may have gone back just before.
        for family in families {
            if self.count(*family).await? != expected(wanted, *family) {
                let why = "BIRD took the change back before it was confirmed";
                return Ok(Err(Undone(why.to_owned())));
            }
        }
        Ok(Ok(()))
    }

    /// Waits until BIRD holds as many routes as `wanted` has.
    async fn settle(
        &mut self,
        wanted: &Statements,
        families: &BTreeSet<Family>,
    ) -> Result<Result<(), Undone>, ExternalError> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        for family in families {
            let expected = expected(wanted, *family);
            let mut looked = false;
            loop {
                let held = self.count(*family).await?;
                if held == expected {
                    break;
                }
                if !std::mem::replace(&mut looked, true) {
                    self.enable_ours(*family).await?;
                }
                if Instant::now() >= deadline {
                    let (protocol, file) =
                        (self.config.protocol(*family), self.config.file(*family));
                    return Ok(Err(Undone(format!(
                        "protocol {protocol} of BIRD holds {held} routes instead of {expected}; does it include {}, and is it enabled?",
                        file.display()
                    ))));
                }
                sleep(SETTLE_POLL).await;
            }
        }
        Ok(Ok(()))
    }

    /// Withdraws: BIRD holds nothing but `wanted` in `families`, and where it cannot be configured
    /// nothing at all.
    async fn withdraw(
        &mut self,
        wanted: Statements,
        families: &BTreeSet<Family>,
    ) -> Result<(), ExternalError> {
        let Err(Undone(why)) = self.configure(wanted.clone(), families).await? else {
            return Ok(());
        };
        for family in families {
            let (held, wanted) = (self.held(*family).await?, &wanted);
            if held.keys().all(|key| wanted.contains_key(key)) {
                continue;
            }
            let protocol = self.config.protocol(*family);
            tracing::error!(%why, %protocol, "BIRD cannot be configured: its protocol is disabled");
            let answer = self.ask(&format!("disable {protocol} \"{DISABLED}\"")).await?;
            if answer.is_error() {
                return Err(self.no_protocol(*family, &answer));
            }
            self.statements.retain(|(other, _), _| other != family);
        }
        // What was withdrawn must not come back with somebody's `configure`.
        self.keep_files_true().await;
        Ok(())
    }

    /// Enables a protocol if it was us who disabled it.
    async fn enable_ours(&mut self, family: Family) -> Result<(), ExternalError> {
        let protocol = self.config.protocol(family);
        let answer = self.ask(&format!("show protocols all {protocol}")).await?;
        if answer.lines.iter().any(|line| line.contains(DISABLED)) {
            self.ask(&format!("enable {protocol}")).await?;
        }
        Ok(())
    }

    /// How many routes BIRD holds of ours.
    async fn count(&mut self, family: Family) -> Result<usize, ExternalError> {
        let protocol = self.config.protocol(family);
        let command = format!("show route table all protocol {protocol} count");
        let answer = self.ask(&command).await?;
        if answer.is_error() {
            return Err(self.no_protocol(family, &answer));
        }
        // One line a table: `2 of 5 routes for 5 networks in table master4`.
        let counts = answer.lines.iter().filter_map(|line| line.split_once(" of "));
        Ok(counts.filter_map(|(count, _)| count.trim().parse::<usize>().ok()).sum())
    }

    fn no_protocol(&self, family: Family, answer: &Answer) -> ExternalError {
        let protocol = self.config.protocol(family);
        let what = format!(
            "BIRD's protocol `{protocol}`, which its configuration must have (`tidegate adapters snippet bird --native`)"
        );
        ExternalError::refused(what, answer.words())
    }

    /// What BIRD holds of ours in one family, as statements.
    async fn held(&mut self, family: Family) -> Result<Statements, ExternalError> {
        self.list(family).await.map(|listed| as_statements(family, &listed))
    }

    async fn list(&mut self, family: Family) -> Result<Vec<Seen>, ExternalError> {
        let protocol = self.config.protocol(family);
        let answer = self.ask(&format!("show route table all protocol {protocol} all")).await?;
        if answer.is_error() {
            return Err(self.no_protocol(family, &answer));
        }
        let listing = parse::routes(&answer.lines);
        for line in &listing.unreadable {
            // It is not from us, and goes when the file is written next.
            tracing::warn!(%protocol, %line, "a route in our protocol that we cannot read");
        }
        Ok(listing.routes)
    }
}

/// What BIRD showed, as it is to be written.
fn as_statements(family: Family, listed: &[Seen]) -> Statements {
    let mut statements = Statements::new();
    for seen in listed {
        let net = render::net(&seen.nlri);
        let statement = seen.route.as_ref().map(render::statement);
        match (net, statement) {
            (Ok(net), Some(Ok(statement))) => drop(statements.insert((family, net), statement)),
            _ => tracing::warn!(route = %seen.nlri, "a route in BIRD that we cannot write"),
        }
    }
    statements
}

/// How many routes of `family` there are to be.
fn expected(wanted: &Statements, family: Family) -> usize {
    wanted.keys().filter(|(other, _)| *other == family).count()
}

/// The net that a line of an include file is about, and the line.
fn statement_net(line: &str) -> Option<(String, &str)> {
    let rest = line.strip_prefix("route ")?;
    let nlri = parse::net(rest)?;
    let net = render::net(&nlri).ok()?;
    line.ends_with(';').then_some((net, line))
}

/// Replaces a file as a whole.
async fn write(path: &Path, text: &str) -> Result<(), ExternalError> {
    let beside = path.with_extension("new");
    let name = path.display().to_string();
    let written = fs::write(&beside, format!("{text}\n")).await;
    written.map_err(ExternalError::io("write", beside.display().to_string()))?;
    fs::rename(&beside, path).await.map_err(ExternalError::io("replace", name))
}

impl Driver for BirdDriver {
    fn capabilities(&self) -> Capabilities {
        outliving(&self.config.families, Attributes::OfRoute)
    }

    fn spelled(&self, nlri: &Nlri) -> Result<Nlri, String> {
        configured(&self.config.families, nlri, "BIRD")?;
        let net = render::net(nlri)?;
        parse::net(&net).ok_or_else(|| format!("BIRD's `{net}` cannot be read back"))
    }

    async fn connect(&mut self) -> Result<(), ExternalError> {
        self.control = Some(Control::connect(&self.config.control).await?);
        self.started = self.boot().await?;
        Ok(())
    }

    async fn probe(&mut self) -> Result<(), ExternalError> {
        if self.boot().await? == self.started {
            return Ok(());
        }
        Err(ExternalError::Lost("BIRD was restarted".to_owned()))
    }

    async fn apply(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), Refusal>>, ExternalError> {
        let (mut left, mut withdrawn) = (self.statements.clone(), BTreeSet::new());
        let mut added: Statements = BTreeMap::new();
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            let family = Family::of(change.nlri());
            let statement = match change {
                Change::Announce(route) => render::statement(route).map(Some),
                Change::Withdraw(_) => Ok(None),
            };
            answers.push(match render::net(change.nlri()).and_then(|net| Ok((net, statement?))) {
                Ok((net, Some(statement))) => {
                    added.insert((family, net), statement);
                    Ok(())
                }
                Ok((net, None)) => {
                    left.remove(&(family, net));
                    withdrawn.insert(family);
                    Ok(())
                }
                Err(why) => Err(Refusal::Never(why)),
            });
        }
        if !withdrawn.is_empty() {
            self.withdraw(left, &withdrawn).await?;
        }
        if added.is_empty() {
            return Ok(answers);
        }
        let families = added.keys().map(|(family, _)| *family).collect();
        let mut wanted = self.statements.clone();
        wanted.extend(added);
        if let Err(Undone(why)) = self.configure(wanted, &families).await? {
            for (change, answer) in changes.iter().zip(&mut answers) {
                if matches!(change, Change::Announce(_)) && answer.is_ok() {
                    *answer = Err(Refusal::Now(why.clone()));
                }
            }
        }
        Ok(answers)
    }

    async fn observe(&mut self) -> Result<Observation, ExternalError> {
        let mut ours = Vec::new();
        let mut statements = Statements::new();
        for family in self.config.families.clone() {
            let listed = self.list(family).await?;
            statements.extend(as_statements(family, &listed));
            ours.extend(listed);
        }
        self.statements = statements;
        self.keep_files_true().await;
        Ok(Observation { ours, foreign: BTreeSet::new() })
    }
}
