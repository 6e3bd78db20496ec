//! Adj-RIB-Out: what one peer should hold, and what it has been sent (RFC 4271 §3.2).
//!
//! There is one entry for each NLRI. A command changes the entry; [`AdjRibOut::poll_update`] turns
//! whatever differs from what the peer holds into messages, so commands that follow each other
//! faster than the socket drains cost one message. The wanted routes outlive the session: when it
//! comes back, all of them are sent again.
//!
//! ```text
//!              announce               poll_update
//!   (absent) ------------> wanted ------------------> wanted, sent
//!       ^                  |    ^                      |     |
//!       |  withdraw        |    |     session_lost     |     | withdraw, or refused
//!       |<-----------------+    +----------------------+     v
//!       |                 poll_update, session_lost          |
//!       +--------------------------------------------- withdraw due
//! ```
//!
//! Absent on purpose: time. Nothing here is delayed, so there is no MRAI (RFC 4271 §9.2.1.1): a
//! withdrawal must not wait.

mod progress;

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidegate_model::{CommandId, Nlri, OutcomeKind, Route};

use crate::convert::{self, EncodeError};
use crate::egress::{Gate, Refusal};
use crate::family::Family;
use crate::parameters::SessionParameters;

pub use self::progress::Progress;

/// At most so many pending routes are looked at to fill one message. A message of 4096 octets
/// holds some 800 IPv4 host routes.
const PACK_CANDIDATES: usize = 1024;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The command.
    pub command: CommandId,
    /// The route it was about.
    pub nlri: Nlri,
    /// What became of it.
    pub kind: OutcomeKind,
}

/// What a message that is handed out does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentKind {
    /// Announces its NLRI.
    Announce,
    /// Withdraws its NLRI.
    Withdraw,
    /// Says that the whole set of this family has been sent.
    EndOfRib(Family),
}

/// One message for the socket. The gate has passed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The whole BGP message.
    pub message: Arc<[u8]>,
    /// What it does.
    pub kind: SentKind,
    /// The NLRI in it, in wire order.
    pub nlris: Vec<Nlri>,
    /// The commands it carries out, each with its NLRI.
    pub commands: Vec<(CommandId, Nlri)>,
}

impl Sent {
    /// The answers to give once the message is with the socket: all `Applied`, with its octets.
    ///
    /// If the message is lost with the session, the answers of a withdrawal still hold, since the
    /// peer drops the routes with the session. Those of an announcement come with its resending.
    pub fn answers(&self) -> impl Iterator<Item = Answer> + '_ {
        self.commands.iter().map(|(command, nlri)| Answer {
            command: *command,
            nlri: nlri.clone(),
            kind: OutcomeKind::Applied { bytes: Arc::clone(&self.message) },
        })
    }
}

/// A wanted route.
#[derive(Clone, Debug)]
struct Wanted {
    route: Arc<Route>,
    /// The last command about it.
    command: CommandId,
    /// Whether that command has had any answer.
    answered: bool,
    /// Whether the peer holds the NLRI, perhaps with older attributes.
    sent: bool,
}

/// The routes of one peer.
#[derive(Clone, Debug)]
pub struct AdjRibOut {
    max_routes: usize,
    established: bool,
    routes: BTreeMap<Nlri, Wanted>,
    /// Wanted, and not at the peer as wanted. Among `routes`, and with their attributes here too,
    /// so that a message is filled by walking along.
    announces: BTreeMap<Nlri, Arc<Route>>,
    /// At the peer and not wanted, with the command to answer. Never keys of `routes`. Bounded by
    /// `max_routes`, since only what was sent gets here and withdrawals are sent first.
    withdraws: BTreeMap<Nlri, Option<CommandId>>,
    end_of_rib: BTreeSet<Family>,
    /// Drained by the caller after each call: one for each command, at most one more for each
    /// route.
    answers: VecDeque<Answer>,
}

impl AdjRibOut {
    /// An empty table of at most `max_routes` routes, its session down.
    #[must_use]
    pub fn new(max_routes: u32) -> Self {
        Self {
            max_routes: usize::try_from(max_routes).unwrap_or(usize::MAX),
            established: false,
            routes: BTreeMap::new(),
            announces: BTreeMap::new(),
            withdraws: BTreeMap::new(),
            end_of_rib: BTreeSet::new(),
            answers: VecDeque::new(),
        }
    }

    /// Wants `route` at the peer, in place of what the same NLRI had before. An earlier command
    /// about the same NLRI that has no answer yet gets none any more.
    ///
    /// A new NLRI over the limit of the table is answered with `Failed` and not kept.
    pub fn announce(&mut self, command: CommandId, route: Route) {
        let nlri = route.nlri.clone();
        let route = Arc::new(route);
        let full = self.routes.len() >= self.max_routes;
        match self.routes.entry(nlri.clone()) {
            Entry::Vacant(vacant) if full => {
                drop(vacant);
                let why = format!("the peer takes at most {} routes", self.max_routes);
                self.answer(command, nlri, OutcomeKind::Failed { why });
                return;
            }
            Entry::Vacant(vacant) => {
                let sent = self.withdraws.remove(&nlri).is_some();
                let route = Arc::clone(&route);
                vacant.insert(Wanted { route, command, answered: !self.established, sent });
            }
            Entry::Occupied(occupied) => {
                let wanted = occupied.into_mut();
                let unchanged = wanted.sent && wanted.route == route;
                wanted.command = command;
                wanted.answered = !self.established;
                wanted.route = Arc::clone(&route);
                if unchanged && !self.announces.contains_key(&nlri) {
                    wanted.answered = true;
                    self.answer(command, nlri, nothing_to_do());
                    return;
                }
            }
        }
        self.announces.insert(nlri.clone(), route);
        if !self.established {
            self.answer(command, nlri, session_down());
        }
    }

    /// Wants `nlri` gone from the peer. What the peer does not hold is gone at once.
    pub fn withdraw(&mut self, command: CommandId, nlri: &Nlri) {
        self.announces.remove(nlri);
        let at_peer = match self.routes.remove(nlri) {
            Some(entry) => entry.sent,
            None => self.withdraws.contains_key(nlri),
        };
        if at_peer {
            self.withdraws.insert(nlri.clone(), Some(command));
        } else {
            self.answer(command, nlri.clone(), nothing_to_do());
        }
    }

    /// Wants every route gone, as for a planned stop. No command is answered for it.
    pub fn withdraw_all(&mut self) {
        self.announces.clear();
        let routes = std::mem::take(&mut self.routes);
        let held = routes.into_iter().filter(|(_, entry)| entry.sent);
        self.withdraws.extend(held.map(|(nlri, _)| (nlri, None)));
    }

    /// The next message: withdrawals first, then announcements, then End-of-RIB once for each
    /// negotiated family. `None` if nothing is due or the session is down.
    ///
    /// Routes that the peer has no family for, that cannot be encoded, or that `gate` refuses are
    /// dropped and answered with `Rejected`; if the peer holds an older form, that is withdrawn.
    pub fn poll_update(&mut self, parameters: &SessionParameters, gate: &Gate) -> Option<Sent> {
        if !self.established {
            return None;
        }
        loop {
            if !self.withdraws.is_empty() {
                if let Some(sent) = self.next_withdrawal(gate) {
                    return Some(sent);
                }
            } else if !self.announces.is_empty() {
                if let Some(sent) = self.next_announcement(parameters, gate) {
                    return Some(sent);
                }
            } else {
                return self.next_end_of_rib(parameters);
            }
        }
    }

    /// The next answer that does not come with a message: pending, rejected, failed, and
    /// withdrawals of what the peer does not hold. To be drained after every other call.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// The session is up: every route is due, then End-of-RIB.
    pub fn resend_all(&mut self) {
        self.established = true;
        self.announces = every(&self.routes);
        self.end_of_rib = Family::ALL.into();
    }

    /// The peer asks for `family` again (RFC 2918).
    pub fn resend_family(&mut self, family: Family) {
        let routes = self.routes.iter().filter(|(nlri, _)| Family::of(nlri) == family);
        self.announces
            .extend(routes.map(|(nlri, wanted)| (nlri.clone(), Arc::clone(&wanted.route))));
    }

    /// The session is down: the peer holds nothing of ours any more. The wanted routes stay;
    /// withdrawals that were due are done.
    pub fn session_lost(&mut self) {
        self.established = false;
        self.end_of_rib.clear();
        for (nlri, command) in std::mem::take(&mut self.withdraws) {
            if let Some(command) = command {
                self.answer(command, nlri, nothing_to_do());
            }
        }
        for (nlri, entry) in &mut self.routes {
            entry.sent = false;
            if !entry.answered {
                entry.answered = true;
                let (command, nlri) = (entry.command, nlri.clone());
                self.answers.push_back(Answer { command, nlri, kind: session_down() });
            }
        }
        self.announces = every(&self.routes);
    }

    /// The wanted routes, in order of their NLRI.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().map(|wanted| &*wanted.route)
    }

    /// How many routes the peer holds of ours, as far as messages were handed out.
    #[must_use]
    pub fn held(&self) -> usize {
        self.withdraws.len() + self.routes.values().filter(|entry| entry.sent).count()
    }

    /// Whether nothing waits to be sent on the session as it is now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.established
            || self.withdraws.is_empty() && self.announces.is_empty() && self.end_of_rib.is_empty()
    }

    fn answer(&mut self, command: CommandId, nlri: Nlri, kind: OutcomeKind) {
        self.answers.push_back(Answer { command, nlri, kind });
    }

    fn next_withdrawal(&mut self, gate: &Gate) -> Option<Sent> {
        let family = Family::of(self.withdraws.keys().next()?);
        let due: Vec<&Nlri> = self
            .withdraws
            .keys()
            .take(PACK_CANDIDATES)
            .take_while(|nlri| Family::of(nlri) == family)
            .collect();
        let (message, nlris) = match withdrawal(&due, gate) {
            Ok(packed) => packed,
            Err(why) => {
                // What was announced can be withdrawn, so this is out of reach; were it not, only
                // the end of the session would clear the route.
                let (nlri, command) = self.withdraws.pop_first()?;
                if let Some(command) = command {
                    self.answer(command, nlri, OutcomeKind::Failed { why: why.to_string() });
                }
                return None;
            }
        };
        let mut commands = Vec::new();
        for nlri in &nlris {
            // They were taken from the front.
            let due = self.withdraws.pop_first();
            debug_assert_eq!(due.as_ref().map(|(due, _)| due), Some(nlri));
            if let Some((_, Some(command))) = due {
                commands.push((command, nlri.clone()));
            }
        }
        Some(Sent { message: message.into(), kind: SentKind::Withdraw, nlris, commands })
    }

    /// A message with the first announcement that is due and others that share its attributes.
    /// `None` if routes were rejected instead.
    fn next_announcement(&mut self, parameters: &SessionParameters, gate: &Gate) -> Option<Sent> {
        let (nlri, first) = self.announces.first_key_value()?;
        let family = Family::of(nlri);
        if !parameters.families.contains(&family) {
            let nlri = nlri.clone();
            self.reject(&nlri, format!("peer did not negotiate {family}"));
            return None;
        }
        let due: Vec<&Route> = self
            .announces
            .values()
            .map(Arc::as_ref)
            .take(PACK_CANDIDATES)
            .take_while(|route| Family::of(&route.nlri) == family)
            .filter(|route| convert::same_attributes(first, route))
            .collect();
        match announcement(parameters, &due, gate) {
            Ok((message, nlris)) => return Some(self.announced(message, nlris)),
            Err(why) if due.len() == 1 => {
                let nlri = nlri.clone();
                self.reject(&nlri, why.to_string());
                return None;
            }
            Err(_) => {}
        }
        // One of them is at fault: judge each alone, so that the others still go.
        let mut refused = Vec::new();
        for route in &due {
            if let Err(why) = announcement(parameters, &[route], gate) {
                refused.push((route.nlri.clone(), why.to_string()));
            }
        }
        if refused.is_empty() {
            // Fit alone and unfit together: out of reach, but then they go one by one.
            let (message, nlris) = announcement(parameters, &[first], gate).ok()?;
            return Some(self.announced(message, nlris));
        }
        for (nlri, why) in refused {
            self.reject(&nlri, why);
        }
        None
    }

    fn announced(&mut self, message: Vec<u8>, nlris: Vec<Nlri>) -> Sent {
        let mut commands = Vec::with_capacity(nlris.len());
        for nlri in &nlris {
            // In a burst it is the first one each time, which need not be searched.
            match self.announces.first_entry() {
                Some(first) if first.key() == nlri => drop(first.remove()),
                _ => drop(self.announces.remove(nlri)),
            }
            if let Some(entry) = self.routes.get_mut(nlri) {
                entry.sent = true;
                entry.answered = true;
                commands.push((entry.command, nlri.clone()));
            }
        }
        Sent { message: message.into(), kind: SentKind::Announce, nlris, commands }
    }

    /// Drops a route that may not or cannot be sent, and takes an older form of it back.
    fn reject(&mut self, nlri: &Nlri, why: String) {
        self.announces.remove(nlri);
        if let Some(entry) = self.routes.remove(nlri) {
            if entry.sent {
                self.withdraws.insert(nlri.clone(), None);
            }
            self.answer(entry.command, nlri.clone(), OutcomeKind::Rejected { why });
        }
    }

    fn next_end_of_rib(&mut self, parameters: &SessionParameters) -> Option<Sent> {
        while let Some(family) = self.end_of_rib.pop_first() {
            if parameters.families.contains(&family) {
                return Some(Sent {
                    message: convert::encode_end_of_rib(family).into(),
                    kind: SentKind::EndOfRib(family),
                    nlris: Vec::new(),
                    commands: Vec::new(),
                });
            }
        }
        None
    }
}

fn every(routes: &BTreeMap<Nlri, Wanted>) -> BTreeMap<Nlri, Arc<Route>> {
    routes.iter().map(|(nlri, wanted)| (nlri.clone(), Arc::clone(&wanted.route))).collect()
}

/// The peer holds what is wanted, or does not hold what is not.
fn nothing_to_do() -> OutcomeKind {
    OutcomeKind::Applied { bytes: [].into() }
}

fn session_down() -> OutcomeKind {
    OutcomeKind::Pending { why: "the session is down".to_owned() }
}

/// Why a route does not become a message.
#[derive(Debug, thiserror::Error)]
enum Unsendable {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("egress gate: {0}")]
    Gate(#[from] Refusal),
}

/// A message that announces the first of `due`, and which of them it carries.
fn announcement(
    parameters: &SessionParameters,
    due: &[&Route],
    gate: &Gate,
) -> Result<(Vec<u8>, Vec<Nlri>), Unsendable> {
    let packed = convert::encode_announce(parameters, due)?;
    gate.judge(&packed.message)?;
    Ok((packed.message, due.iter().take(packed.taken).map(|route| route.nlri.clone()).collect()))
}

/// A message that withdraws the first of `due`, and which of them it carries.
fn withdrawal(due: &[&Nlri], gate: &Gate) -> Result<(Vec<u8>, Vec<Nlri>), Unsendable> {
    let packed = convert::encode_withdraw(due)?;
    gate.judge(&packed.message)?;
    Ok((packed.message, due.iter().take(packed.taken).map(|nlri| (*nlri).clone()).collect()))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests;
