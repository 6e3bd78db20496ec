//! Which incidents are one alert.
//!
//! A carpet bombing hits hundreds of addresses within seconds. Whoever is on call wants one message
//! of it, so attacks on targets of one policy group become one alert if they begin close to each
//! other in time, or hit the same network while the alert is open.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{Prefix, Severity};

use super::config::Grouping;
use super::snapshot::MAX_NAMED;
use crate::incident::{Change, ChangeKind, Incident, Status, WallTime};

/// Alerts that are open at once. An incident beyond it is told nobody; it is counted.
const MAX_ALERTS: usize = 4_096;

/// Incidents of one alert whose state is followed. One beyond it is counted as a target, and the
/// alert does not wait for its end.
const MAX_MEMBERS: usize = 8_192;

/// Targets in the same network of this length are neighbours.
const NEIGHBOURS_V4: u8 = 24;
const NEIGHBOURS_V6: u8 = 48;

/// One alert.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    /// The incident that is shown: the worst of those that go on.
    pub(super) lead: Arc<Incident>,
    /// The worst severity of any incident so far.
    pub(super) severity: Severity,
    /// How many targets there were.
    pub(super) targets: u64,
    /// Whether something was installed for any of them.
    pub(super) mitigated: bool,
    policy_group: String,
    members: BTreeMap<String, Status>,
    named: BTreeSet<Prefix>,
    last_joined: WallTime,
}

impl Alert {
    fn new(incident: &Arc<Incident>) -> Self {
        Self {
            lead: Arc::clone(incident),
            severity: incident.severity(),
            targets: 0,
            mitigated: false,
            policy_group: incident.group.clone(),
            members: BTreeMap::new(),
            named: BTreeSet::new(),
            last_joined: incident.times.detected,
        }
    }

    /// Whether every attack is over.
    pub(super) fn is_over(&self) -> bool {
        self.members.values().all(|status| *status != Status::Active)
    }

    /// Whether nothing will change any more.
    pub(super) fn is_closed(&self) -> bool {
        self.members.values().all(|status| *status == Status::Closed)
    }

    /// Some of the targets beside the lead's.
    pub(super) fn others(&self) -> Vec<Prefix> {
        self.named.iter().filter(|target| **target != self.lead.target).copied().collect()
    }

    fn take(&mut self, incident: &Arc<Incident>) {
        if !self.members.contains_key(&incident.id) {
            self.targets += 1;
            self.last_joined = self.last_joined.max(incident.times.detected);
            if self.named.len() < MAX_NAMED {
                self.named.insert(incident.target);
            }
        }
        if self.members.len() < MAX_MEMBERS || self.members.contains_key(&incident.id) {
            self.members.insert(incident.id.clone(), incident.status);
        }
        self.severity = self.severity.max(incident.severity());
        self.mitigated |= incident.times.at_peer.is_some();
        let rank = |incident: &Incident| (incident.status == Status::Active, incident.severity());
        if self.lead.id == incident.id || rank(incident) > rank(&self.lead) {
            self.lead = Arc::clone(incident);
        }
    }

    fn welcomes(&self, incident: &Incident, coalesce: Duration) -> bool {
        let soon = incident.times.detected.since(self.last_joined) <= coalesce;
        !self.is_over()
            && self.policy_group == incident.group
            && !coalesce.is_zero()
            && (soon || neighbours(self.lead.target, incident.target))
    }
}

fn neighbours(one: Prefix, other: Prefix) -> bool {
    let network = |prefix: Prefix| {
        let length = match prefix.address() {
            IpAddr::V4(_) => NEIGHBOURS_V4,
            IpAddr::V6(_) => NEIGHBOURS_V6,
        };
        Prefix::new(prefix.address(), length.min(prefix.length()))
    };
    match (network(one), network(other)) {
        (Some(one), Some(other)) => one.overlaps(&other),
        _ => false,
    }
}

/// The open alerts of one kind of grouping, by id.
#[derive(Debug)]
pub(super) struct Groups {
    grouping: Grouping,
    coalesce: Duration,
    alerts: BTreeMap<String, Alert>,
    of_incident: BTreeMap<String, String>,
    pub(super) untold: u64,
}

impl Groups {
    pub(super) fn new(grouping: Grouping, coalesce: Duration) -> Self {
        let (alerts, of_incident) = (BTreeMap::new(), BTreeMap::new());
        Self { grouping, coalesce, alerts, of_incident, untold: 0 }
    }

    /// Finds the alert of the incident that changed, or opens one; its id and its state now.
    pub(super) fn take(&mut self, change: &Change) -> Option<(String, &Alert)> {
        let incident = &change.incident;
        let id = match self.of_incident.get(&incident.id) {
            Some(id) => id.clone(),
            // What is learnt of a closed incident is for the record.
            None if change.kind == ChangeKind::Updated => return None,
            None => self.join(incident)?,
        };
        let alert = self.alerts.get_mut(&id)?;
        alert.take(incident);
        Some((id, alert))
    }

    pub(super) const fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// Forgets an alert that is closed.
    pub(super) fn forget(&mut self, id: &str) {
        if let Some(alert) = self.alerts.remove(id) {
            for member in alert.members.keys() {
                self.of_incident.remove(member);
            }
        }
    }

    fn join(&mut self, incident: &Arc<Incident>) -> Option<String> {
        let found = match self.grouping {
            Grouping::Each => None,
            Grouping::Together => {
                let mut alerts = self.alerts.iter();
                alerts.find(|(_, alert)| alert.welcomes(incident, self.coalesce))
            }
        };
        let id = match found {
            Some((id, alert)) => {
                if alert.members.len() >= MAX_MEMBERS {
                    // Counted by `take`, but not followed.
                    return Some(id.clone());
                }
                id.clone()
            }
            None if self.alerts.len() >= MAX_ALERTS => {
                self.untold += 1;
                return None;
            }
            None => {
                self.alerts.insert(incident.id.clone(), Alert::new(incident));
                incident.id.clone()
            }
        };
        self.of_incident.insert(incident.id.clone(), id.clone());
        Some(id)
    }
}
