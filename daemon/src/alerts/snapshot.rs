//! What an alert knows at one moment: enough to write every message.

use serde::{Deserialize, Serialize};
use tidegate_model::{Prefix, Severity};

use super::event::AlertEvent;
use crate::incident::Incident;

/// Targets of one alert that are named. The rest are counted.
pub(super) const MAX_NAMED: usize = 20;

/// An alert at one moment, for one channel. Kept on disk as JSON until it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The same from first to last: the id of its first incident.
    pub alert: String,
    /// What happened.
    pub event: AlertEvent,
    /// Grows with every newer state.
    pub revision: u64,
    /// What is said of the event: what is not enforced and why, who acknowledged.
    pub note: Option<String>,
    /// The worst incident of the alert.
    pub incident: Incident,
    /// Some of the other targets, in order.
    pub others: Vec<Prefix>,
    /// Targets in all.
    pub targets: u64,
    /// Where to look at the traffic.
    pub links: Links,
    /// Whether it is a test.
    pub test: bool,
}

/// Where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The traffic in Akvorado.
    pub akvorado: Option<String>,
    /// What routers dropped of it, in Akvorado.
    pub akvorado_dropped: Option<String>,
}

impl Snapshot {
    /// Severity of the worst incident.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.incident.severity()
    }
}

impl Snapshot {
    /// An invented alert, for test messages and to check templates with.
    #[must_use]
    pub fn sample() -> Self {
        let incident = crate::incident::sample::incident();
        Self {
            alert: incident.id.clone(),
            event: AlertEvent::Opened,
            revision: 1,
            note: None,
            incident,
            others: Vec::new(),
            targets: 1,
            links: Links {
                akvorado: Some("https://akvorado.example.net/visualize/v1-N4I".to_owned()),
                akvorado_dropped: Some("https://akvorado.example.net/visualize/v1-N4J".to_owned()),
            },
            test: false,
        }
    }
}
