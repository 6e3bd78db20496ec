//! Which channel is told what.
//!
//! For each channel and alert the router remembers what was told: an alert is opened where its
//! severity first reaches the channel's, says each thing once, and ends where it was opened.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::Severity;

use super::config::{AcknowledgeWhen, AlertSettings, Channel, ChannelKind, Grouping};
use super::event::AlertEvent;
use super::group::{Alert, Groups};
use super::snapshot::{Links, Snapshot};
use crate::akvorado::Console;
use crate::incident::{Change, ChangeKind};

/// Different reasons why something is not enforced that one alert tells at one channel.
const MAX_NOTES: usize = 8;

/// Alerts whose traces at a channel are taken over from the last run.
const MAX_RESTORED: usize = 4_096;

/// What a channel was told of an alert.
#[derive(Clone, Debug)]
struct Told {
    severity: Severity,
    events: BTreeSet<AlertEvent>,
    notes: BTreeSet<String>,
}

/// One channel's view.
#[derive(Debug)]
struct View {
    min_severity: Severity,
    events: BTreeSet<AlertEvent>,
    grouping: Grouping,
    edits: bool,
    told: BTreeMap<String, Told>,
}

/// Something to tell one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Which, by its place in the configuration.
    pub channel: usize,
    /// What.
    pub snapshot: Snapshot,
    /// Whether nothing of this alert will follow.
    pub last: bool,
}

/// The state machine.
#[derive(Debug)]
pub struct Router {
    views: Vec<View>,
    together: Groups,
    each: Groups,
    console: Option<Console>,
    revision: u64,
}

impl Router {
    /// Nothing told yet. `revision` is below every revision of this run, and above those of earlier
    /// ones: the wall time of the start will do.
    #[must_use]
    pub fn new(settings: &AlertSettings, console: Option<Console>, revision: u64) -> Self {
        let views = settings.channels.iter().map(|channel| View {
            min_severity: channel.min_severity,
            events: chosen(channel),
            grouping: channel.grouping,
            edits: channel.kind.edits(),
            told: BTreeMap::new(),
        });
        Self {
            views: views.collect(),
            together: Groups::new(Grouping::Together, settings.coalesce),
            each: Groups::new(Grouping::Each, settings.coalesce),
            console,
            revision,
        }
    }

    /// Takes over that an earlier run opened `alert` at `channel`, so that its end is told there.
    pub fn restore(&mut self, channel: usize, alert: &str, severity: Severity) {
        if let Some(view) = self.views.get_mut(channel)
            && view.told.len() < MAX_RESTORED
        {
            view.told.insert(alert.to_owned(), Told::opened(severity));
        }
    }

    /// What follows from `change`, in the order of the channels.
    pub fn handle(&mut self, change: &Change) -> Vec<Notice> {
        let mut notices = Vec::new();
        for groups in [&mut self.together, &mut self.each] {
            let grouping = groups.grouping();
            let Some((id, alert)) = groups.take(change) else { continue };
            let closed = alert.is_closed();
            let mut links = None;
            for (channel, view) in self.views.iter_mut().enumerate() {
                if view.grouping != grouping {
                    continue;
                }
                let event = view.judge(&id, alert, &change.kind);
                if closed {
                    view.told.remove(&id);
                }
                let Some((event, note)) = event else { continue };
                self.revision += 1;
                let links = links.get_or_insert_with(|| self::links(self.console.as_ref(), alert));
                let snapshot = Snapshot {
                    alert: id.clone(),
                    event,
                    revision: self.revision,
                    note,
                    incident: (*alert.lead).clone(),
                    others: alert.others(),
                    targets: alert.targets,
                    links: links.clone(),
                    test: false,
                };
                notices.push(Notice { channel, snapshot, last: closed });
            }
            if closed {
                groups.forget(&id);
            }
        }
        notices.sort_by_key(|notice| notice.channel);
        notices
    }

    /// Incidents that no channel is told of because too many alerts are open.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.together.untold.max(self.each.untold)
    }
}

/// The events of a channel. PagerDuty is told of a mitigation only if it means something there.
fn chosen(channel: &Channel) -> BTreeSet<AlertEvent> {
    let mut events = channel.events.clone();
    if let ChannelKind::PagerDuty { acknowledge: AcknowledgeWhen::Never, .. } = channel.kind {
        events.remove(&AlertEvent::Mitigated);
    }
    events
}

fn links(console: Option<&Console>, alert: &Alert) -> Links {
    let Some(console) = console else { return Links::default() };
    Links {
        akvorado: Some(console.traffic_link(&alert.lead)),
        akvorado_dropped: alert.mitigated.then(|| console.dropped_link(&alert.lead)),
    }
}

impl Told {
    fn opened(severity: Severity) -> Self {
        let events = BTreeSet::from([AlertEvent::Opened]);
        Self { severity, events, notes: BTreeSet::new() }
    }
}

impl View {
    /// What to tell of `kind`, if anything.
    fn judge(
        &mut self,
        id: &str,
        alert: &Alert,
        kind: &ChangeKind,
    ) -> Option<(AlertEvent, Option<String>)> {
        if alert.severity < self.min_severity {
            return None;
        }
        let note = match kind {
            ChangeKind::NotEnforced(note) | ChangeKind::Acknowledged(note) => Some(note.clone()),
            _ => None,
        };
        let Some(told) = self.told.get_mut(id) else {
            // An attack that was over before it was bad enough is told nobody.
            if alert.is_over() {
                return None;
            }
            self.told.insert(id.to_owned(), Told::opened(alert.severity));
            return self.events.contains(&AlertEvent::Opened).then_some((AlertEvent::Opened, None));
        };
        let event = match kind {
            ChangeKind::Mitigated => told.once(AlertEvent::Mitigated),
            ChangeKind::NotEnforced(why) => {
                let new = told.notes.len() < MAX_NOTES && told.notes.insert(why.clone());
                if new { AlertEvent::NotEnforced } else { AlertEvent::Updated }
            }
            ChangeKind::Acknowledged(_) => AlertEvent::Acknowledged,
            ChangeKind::Ended if alert.is_over() => told.once(AlertEvent::Ended),
            ChangeKind::Closed if alert.is_closed() && alert.mitigated => AlertEvent::Withdrawn,
            _ if alert.severity > told.severity => AlertEvent::Escalated,
            _ => AlertEvent::Updated,
        };
        told.severity = told.severity.max(alert.severity);
        let wanted = match event {
            // What is over stays over: news of it is for the record.
            AlertEvent::Updated => self.edits && !alert.is_over(),
            chosen => self.events.contains(&chosen),
        };
        wanted.then_some((event, note))
    }
}

impl Told {
    /// `event` the first time, then only an update.
    fn once(&mut self, event: AlertEvent) -> AlertEvent {
        if self.events.insert(event) { event } else { AlertEvent::Updated }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::http;
    use super::super::secret::Secret;
    use super::*;
    use crate::incident::{Incident, Status, sample};

    fn channel(kind: ChannelKind, grouping: Grouping, min_severity: Severity) -> Channel {
        Channel {
            name: "test".to_owned(),
            min_severity,
            events: AlertEvent::CHOSEN.into(),
            grouping,
            timeout: http::TIMEOUT,
            title: None,
            text: None,
            kind,
        }
    }

    fn teams() -> ChannelKind {
        ChannelKind::Teams { url: Secret::from("https://x.example.net/") }
    }

    fn discord() -> ChannelKind {
        ChannelKind::Discord { url: Secret::from("https://x.example.net/") }
    }

    fn router(channels: Vec<Channel>) -> Router {
        Router::new(&AlertSettings { channels, coalesce: Duration::from_secs(30) }, None, 1_000)
    }

    fn incident(number: u8, seconds: u64, severity: Severity) -> Incident {
        let mut incident = sample::incident();
        let later = Duration::from_secs(seconds);
        incident.id = format!("i{number:03}");
        incident.target = tidegate_model::Prefix::host([10, number, 113, 7].into());
        incident.severity = Some(severity);
        incident.times.onset = incident.times.onset.after(later);
        incident.times.detected = incident.times.detected.after(later);
        incident
    }

    /// What every channel is told, as channel, alert, event and number of targets.
    fn told(
        router: &mut Router,
        kind: ChangeKind,
        incident: &Incident,
    ) -> Vec<(usize, String, &'static str, u64)> {
        let mut incident = incident.clone();
        incident.status = match kind {
            ChangeKind::Ended => Status::Ended,
            ChangeKind::Closed => Status::Closed,
            _ => Status::Active,
        };
        let notices = router.handle(&Change { kind, incident: Arc::new(incident) });
        let mut revisions: Vec<u64> = notices.iter().map(|n| n.snapshot.revision).collect();
        revisions.dedup();
        assert_eq!(revisions.len(), notices.len());
        notices
            .into_iter()
            .map(|n| (n.channel, n.snapshot.alert, n.snapshot.event.name(), n.snapshot.targets))
            .collect()
    }

    fn one(
        channel: usize,
        alert: &str,
        event: &'static str,
        targets: u64,
    ) -> (usize, String, &'static str, u64) {
        (channel, alert.to_owned(), event, targets)
    }

    #[test]
    fn an_alert_lives_from_opened_to_withdrawn() {
        let mut router = router(vec![channel(teams(), Grouping::Together, Severity::Low)]);
        let a = incident(1, 0, Severity::Medium);
        assert_eq!(told(&mut router, ChangeKind::Opened, &a), [one(0, "i001", "opened", 1)]);
        assert_eq!(told(&mut router, ChangeKind::Updated, &a), []);
        assert_eq!(told(&mut router, ChangeKind::Mitigated, &a), [one(0, "i001", "mitigated", 1)]);
        assert_eq!(told(&mut router, ChangeKind::Mitigated, &a), []);
        let worse = incident(1, 0, Severity::Critical);
        assert_eq!(
            told(&mut router, ChangeKind::Escalated, &worse),
            [one(0, "i001", "escalated", 1)]
        );
        assert_eq!(told(&mut router, ChangeKind::Escalated, &worse), []);
        let failed = || ChangeKind::NotEnforced("refused".to_owned());
        assert_eq!(told(&mut router, failed(), &worse), [one(0, "i001", "not-enforced", 1)]);
        assert_eq!(told(&mut router, failed(), &worse), [], "the same is said once");
        assert_eq!(told(&mut router, ChangeKind::Ended, &worse), [one(0, "i001", "ended", 1)]);
        assert_eq!(told(&mut router, ChangeKind::Closed, &worse), [one(0, "i001", "withdrawn", 1)]);
        assert_eq!(told(&mut router, ChangeKind::Updated, &worse), [], "it is forgotten");
    }

    #[test]
    fn a_carpet_of_targets_is_one_alert() {
        let mut router = router(vec![
            channel(teams(), Grouping::Together, Severity::Low),
            channel(teams(), Grouping::Each, Severity::Low),
            channel(discord(), Grouping::Together, Severity::Low),
        ]);
        let first = incident(0, 0, Severity::Medium);
        assert_eq!(told(&mut router, ChangeKind::Opened, &first).len(), 3);
        for number in 1..100 {
            let next = incident(number, u64::from(number) * 20, Severity::Medium);
            let next_id = next.id.clone();
            assert_eq!(
                told(&mut router, ChangeKind::Opened, &next),
                [one(1, &next_id, "opened", 1), one(2, "i000", "updated", u64::from(number) + 1)],
                "the page is silent, the message that changes counts"
            );
        }
        let worse = incident(50, 1_000, Severity::Critical);
        let escalated = told(&mut router, ChangeKind::Escalated, &worse);
        assert_eq!(escalated[0], one(0, "i000", "escalated", 100));
        // Long after the last: another alert.
        let late = incident(200, 99 * 20 + 31, Severity::Low);
        assert_eq!(told(&mut router, ChangeKind::Opened, &late)[0], one(0, "i200", "opened", 1));
        for number in 0..100 {
            let member = incident(number, u64::from(number) * 20, Severity::Medium);
            let ended = told(&mut router, ChangeKind::Ended, &member);
            assert_eq!(ended.iter().any(|told| told.0 == 0), number == 99, "{ended:?}");
        }
    }

    #[test]
    fn neighbours_belong_together_and_other_groups_do_not() {
        let mut router = router(vec![channel(teams(), Grouping::Together, Severity::Low)]);
        let first = incident(1, 0, Severity::Medium);
        assert_eq!(told(&mut router, ChangeKind::Opened, &first).len(), 1);
        let mut other = incident(2, 1, Severity::Medium);
        other.group = "mail".to_owned();
        assert_eq!(told(&mut router, ChangeKind::Opened, &other), [one(0, "i002", "opened", 1)]);
        let mut neighbour = incident(3, 3_000, Severity::Medium);
        neighbour.target = "10.1.113.200/32".parse().unwrap();
        assert_eq!(told(&mut router, ChangeKind::Opened, &neighbour), []);
    }

    #[test]
    fn mild_attacks_are_told_when_they_are_not_any_more() {
        let mut router = router(vec![channel(teams(), Grouping::Each, Severity::High)]);
        let mild = incident(1, 0, Severity::Low);
        for kind in [ChangeKind::Opened, ChangeKind::Mitigated, ChangeKind::Updated] {
            assert_eq!(told(&mut router, kind, &mild), []);
        }
        let bad = incident(1, 0, Severity::High);
        assert_eq!(told(&mut router, ChangeKind::Escalated, &bad), [one(0, "i001", "opened", 1)]);
        let other = incident(2, 0, Severity::Low);
        assert_eq!(told(&mut router, ChangeKind::Ended, &other), [], "never told, never ended");
    }

    #[test]
    fn the_end_is_told_where_an_earlier_run_told_the_beginning() {
        let channels = vec![
            channel(teams(), Grouping::Together, Severity::Low),
            channel(teams(), Grouping::Together, Severity::Low),
        ];
        let mut router = router(channels);
        router.restore(1, "i001", Severity::High);
        let old = incident(1, 0, Severity::High);
        assert_eq!(told(&mut router, ChangeKind::Ended, &old), [one(1, "i001", "ended", 1)]);
    }
}
