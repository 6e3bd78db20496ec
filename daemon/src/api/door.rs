//! The engine's end: what it is asked, and what it tells. Nothing here waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_adapters::Held;
use tidegate_detector::TrafficSummary;
use tidegate_model::{BackendId, BackendState, MitigationKey, Nlri, Timestamp};
use tidegate_reconciler::EntryState;
use tokio::sync::{broadcast, oneshot};

use super::link::{Applied, PanicOrder};
use super::top::Top;
use super::view::{self, View};
use crate::engine::Engine;
use crate::event::{Event, EventKind};
use crate::metrics::Counters;

/// A view that is younger serves again: however many look, the engine makes no more than five a
/// second.
const VIEW_AGE: Duration = Duration::from_millis(200);
/// How long backends have to say what they hold.
const AUDIT_DEADLINE: Duration = Duration::from_secs(3);
/// Who may wait for the same audit, or the same reading of the policy. Further ones are told that
/// the daemon is busy.
const MAX_WAITING: usize = 16;

/// What came of comparing a backend with the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// Which.
    pub backend: BackendId,
    /// What was found, or why nothing could be.
    pub found: Result<Found, String>,
}

/// The difference between a backend and the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Held, and in the ledger.
    pub matching: u32,
    /// In the ledger as held, and not there.
    pub missing: Vec<Nlri>,
    /// There, and not in the ledger.
    pub unexpected: Vec<Nlri>,
}

impl Audited {
    /// Whether it answered and holds what the ledger says.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found
            .as_ref()
            .is_ok_and(|found| found.missing.is_empty() && found.unexpected.is_empty())
    }
}

#[derive(Debug)]
struct Audit {
    until: Timestamp,
    waiting: BTreeSet<BackendId>,
    done: Vec<Audited>,
    askers: Vec<oneshot::Sender<Vec<Audited>>>,
}

/// What the engine is asked through.
#[derive(Debug)]
pub struct Door {
    events: broadcast::Sender<Arc<Event>>,
    counters: Arc<Counters>,
    top: Top,
    backends: BTreeMap<BackendId, (BackendState, Timestamp)>,
    panic: Option<PanicOrder>,
    view: Option<Arc<View>>,
    audit: Option<Audit>,
    /// Who waits for which reading of the policy.
    applying: Vec<(u64, oneshot::Sender<Applied>)>,
    packets: u64,
    lost: u64,
    blind: bool,
}

impl Door {
    pub(super) fn new(
        events: broadcast::Sender<Arc<Event>>,
        counters: Arc<Counters>,
        top: Top,
    ) -> Self {
        Self {
            events,
            counters,
            top,
            backends: BTreeMap::new(),
            panic: None,
            view: None,
            audit: None,
            applying: Vec::new(),
            packets: 0,
            lost: 0,
            blind: false,
        }
    }

    /// Takes note of a tick of traffic.
    pub fn summary(&mut self, now: Timestamp, summary: &TrafficSummary) {
        self.counters.summary(now, summary);
        self.packets = self.packets.saturating_add(summary.packets);
        self.lost = self.lost.saturating_add(summary.lost);
        self.blind = summary.blind;
        self.top.add(summary);
    }

    /// Takes note of an event, and tells those who watch.
    pub fn event(&mut self, event: &Event) {
        self.counters.event(event);
        if let EventKind::Backend(backend, state) = &event.kind {
            self.backends.insert(backend.clone(), (state.clone(), event.time));
        }
        if self.events.receiver_count() > 0 {
            // Whoever watched last may have gone meanwhile.
            drop(self.events.send(Arc::new(event.clone())));
        }
    }

    /// How everything is. `configured` are the backends that there are.
    pub fn view(&mut self, now: Timestamp, engine: &Engine, configured: &[BackendId]) -> Arc<View> {
        if let Some(view) = &self.view
            && now.since(view.time) < VIEW_AGE
        {
            return Arc::clone(view);
        }
        let silent = configured.iter().map(|backend| (backend.clone(), None));
        let heard =
            self.backends.iter().map(|(backend, state)| (backend.clone(), Some(state.clone())));
        let view = Arc::new(View {
            time: now,
            policy: Arc::clone(engine.policy()),
            attacks: view::attacks(engine),
            mitigations: view::mitigations(engine),
            backends: silent.chain(heard).collect(),
            panic: self.panic.clone(),
            packets: self.packets,
            lost: self.lost,
            blind: self.blind,
            top: self.top.last(),
        });
        self.view = Some(Arc::clone(&view));
        view
    }

    /// Something was ordered: what was seen before does not count any more.
    pub fn forget_view(&mut self) {
        self.view = None;
    }

    /// Sets or ends the panic that is shown; the one that was in force.
    pub fn set_panic(&mut self, panic: Option<PanicOrder>) -> Option<PanicOrder> {
        std::mem::replace(&mut self.panic, panic)
    }

    /// Begins an audit of `backends`, or joins the one that is under way.
    pub fn begin_audit(
        &mut self,
        now: Timestamp,
        backends: &[BackendId],
        asker: oneshot::Sender<Vec<Audited>>,
    ) {
        let audit = self.audit.get_or_insert_with(|| Audit {
            until: now + AUDIT_DEADLINE,
            waiting: backends.iter().cloned().collect(),
            done: Vec::new(),
            askers: Vec::new(),
        });
        if audit.askers.len() < MAX_WAITING {
            audit.askers.push(asker);
        }
        let down: Vec<(BackendId, String)> = audit
            .waiting
            .iter()
            .filter_map(|backend| match self.backends.get(backend) {
                Some((BackendState::Down { why }, _)) => Some((backend.clone(), why.clone())),
                _ => None,
            })
            .collect();
        for (backend, why) in down {
            audit.waiting.remove(&backend);
            audit.done.push(Audited { backend, found: Err(format!("it is down: {why}")) });
        }
        self.continue_audit(now);
    }

    /// Takes what `backend` says that it holds, before the engine acts on it.
    pub fn observed(
        &mut self,
        now: Timestamp,
        backend: &BackendId,
        held: &[Held],
        engine: &Engine,
    ) {
        let Some(audit) = &mut self.audit else { return };
        if audit.waiting.remove(backend) {
            let found = Ok(compare(backend, held, engine));
            audit.done.push(Audited { backend: backend.clone(), found });
            self.continue_audit(now);
        }
    }

    /// Ends the audit when everybody has answered, or had the time to. To be called now and then.
    pub fn continue_audit(&mut self, now: Timestamp) {
        let over = |audit: &mut Audit| audit.waiting.is_empty() || now >= audit.until;
        let Some(mut audit) = self.audit.take_if(over) else { return };
        let late = std::mem::take(&mut audit.waiting).into_iter();
        let why = format!("it did not answer within {} s", AUDIT_DEADLINE.as_secs());
        audit.done.extend(late.map(|backend| Audited { backend, found: Err(why.clone()) }));
        audit.done.sort_by(|one, other| one.backend.cmp(&other.backend));
        for asker in audit.askers {
            drop(asker.send(audit.done.clone()));
        }
    }

    /// `asker` waits for the policy to be read, as asked for under `ticket`.
    pub fn await_policy(&mut self, ticket: u64, asker: oneshot::Sender<Applied>) {
        self.applying.retain(|(_, asker)| !asker.is_closed());
        if self.applying.len() < MAX_WAITING {
            self.applying.push((ticket, asker));
        }
    }

    /// The policy was read, as asked for under `ticket` or before.
    pub fn policy_read(&mut self, ticket: u64, applied: &Applied) {
        self.counters.policy_read(applied);
        for (wanted, asker) in std::mem::take(&mut self.applying) {
            if wanted <= ticket {
                drop(asker.send(applied.clone()));
            } else {
                self.applying.push((wanted, asker));
            }
        }
        self.forget_view();
    }
}

/// What `backend` holds against what the ledger says. What is on its way counts as neither.
fn compare(backend: &BackendId, held: &[Held], engine: &Engine) -> Found {
    let mut held: BTreeSet<&Nlri> = held.iter().map(|held| &held.nlri).collect();
    let mut found = Found::default();
    let ours = |(key, _): &(&MitigationKey, _)| key.backend == *backend;
    for (key, entry) in engine.ledger().filter(ours) {
        let is_held = held.remove(&key.nlri);
        match (entry.state(), is_held) {
            (EntryState::Applied, true) => found.matching += 1,
            (EntryState::Applied, false) => found.missing.push(key.nlri.clone()),
            (_, true) if !entry.may_be_held() => found.unexpected.push(key.nlri.clone()),
            _ => {}
        }
    }
    found.unexpected.extend(held.into_iter().cloned());
    found.unexpected.sort();
    found
}
