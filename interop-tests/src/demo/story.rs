//! What happened, put together from three witnesses: the sender, tidegate, and BIRD.
//!
//! ```text
//!   onset -> detected -> classified -> decided -> announced -> in BIRD
//!         -> last packet -> end recognised -> withdrawn -> gone from BIRD
//! ```
//!
//! Pure but for the wall clock that stamps what has no time of its own.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::lab::bird::BirdRoute;

/// What one attack should lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A FlowSpec rule with an action.
    FlowSpec,
    /// A blackhole with its communities.
    Blackhole,
}

impl Expected {
    fn name(self) -> &'static str {
        match self {
            Self::FlowSpec => "a FlowSpec rule",
            Self::Blackhole => "a blackhole",
        }
    }

    fn is(self, route: &BirdRoute) -> bool {
        match self {
            Self::FlowSpec => route.is_flowspec() && !route.extended_communities.is_empty(),
            // NO_EXPORT keeps it inside the neighbor's network.
            Self::Blackhole => route.is_blackhole() && route.communities.contains(&(65535, 65281)),
        }
    }
}

/// One attack as it is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For people.
    pub name: String,
    /// The victim, as a host prefix.
    pub target: String,
    /// What should appear in BIRD.
    pub expected: Expected,
    /// How much of it, for people.
    pub what: String,
    /// In the words of `tidegate-lab traffic`.
    pub stream: String,
}

/// Steps of the story, in their usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "`label` says what each is")]
pub enum Step {
    Setup,
    Session,
    Benign,
    Onset,
    Detected,
    Classified,
    Decided,
    Announced,
    SeenInBird,
    LastPacket,
    EndRecognised,
    Withdrawn,
    GoneFromBird,
    Stopping,
    Problem,
}

impl Step {
    /// Name for people, as wide as eleven characters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::SeenInBird => "IN BIRD",
            Self::LastPacket => "last packet",
            Self::EndRecognised => "over",
            Self::GoneFromBird => "BIRD EMPTY",
            Self::Decided => "policy",
            other => other.name(),
        }
    }

    /// Name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Session => "session",
            Self::Benign => "benign",
            Self::Onset => "onset",
            Self::Detected => "detected",
            Self::Classified => "classified",
            Self::Decided => "decided",
            Self::Announced => "announced",
            Self::SeenInBird => "seen-in-bird",
            Self::LastPacket => "last-packet",
            Self::EndRecognised => "end-recognised",
            Self::Withdrawn => "withdrawn",
            Self::GoneFromBird => "gone-from-bird",
            Self::Stopping => "stopping",
            Self::Problem => "problem",
        }
    }
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    /// Nanoseconds since the first packet of the attack it is about.
    pub since_onset: Option<u64>,
    /// Index of the attack.
    pub attack: Option<usize>,
    /// What kind.
    pub step: Step,
    /// For people, one line.
    pub text: String,
    /// For programs: the event or the route it comes from, `null` if there is none.
    pub details: Value,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was not as it should be; empty is success.
    pub problems: Vec<String>,
    /// For each attack: name, and milliseconds from the first packet to the route in BIRD.
    pub reactions: Vec<(String, Option<f64>)>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    onset: Option<u64>,
    detected: Option<u64>,
    classified: Option<String>,
    /// Routes that tidegate announced and has not withdrawn.
    announced: BTreeSet<String>,
    /// Routes of any kind toward the target that BIRD holds now.
    held: Vec<String>,
    seen: Option<u64>,
    last_packet: bool,
    end_recognised: bool,
    gone: bool,
}

/// The story so far.
#[derive(Clone, Debug)]
pub struct Story {
    plans: Vec<Plan>,
    progress: Vec<Progress>,
    entries: Vec<Entry>,
    problems: Vec<String>,
}

impl Story {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(plans: Vec<Plan>) -> Self {
        let progress = vec![Progress::default(); plans.len()];
        Self { plans, progress, entries: Vec::new(), problems: Vec::new() }
    }

    /// The planned attacks.
    #[must_use]
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// Records a step that belongs to no attack.
    pub fn note(&mut self, step: Step, text: &str) {
        let text = text.to_owned();
        let details = Value::Null;
        let (since_onset, attack) = (None, None);
        self.entries.push(Entry { time: now(), since_onset, attack, step, text, details });
    }

    /// Takes a line of the sender of attack `index`: the first says when its first packet left.
    pub fn traffic(&mut self, index: usize, line: &str) {
        let Ok(object) = serde_json::from_str::<Value>(line) else { return };
        if object["event"] == "first-packet"
            && let Some(time) = object["time_ns"].as_u64()
        {
            self.onset(index, time);
        }
    }

    fn onset(&mut self, index: usize, time: u64) {
        let (Some(plan), Some(progress)) = (self.plans.get(index), self.progress.get_mut(index))
        else {
            return;
        };
        progress.onset = Some(time);
        let text = format!("first packet: {} toward {}, {}", plan.name, plan.target, plan.what);
        self.push(index, time, Step::Onset, text);
    }

    /// The sender of attack `index` has sent its last packet.
    pub fn last_packet(&mut self, index: usize) {
        if let Some(progress) = self.progress.get_mut(index) {
            progress.last_packet = true;
            self.push(index, now(), Step::LastPacket, "the attack stops".to_owned());
        }
    }

    /// Takes an event of `tidegate run --json`.
    pub fn event(&mut self, event: &Value) {
        let time = event["time_ns"].as_u64().unwrap_or_else(now);
        match event["event"].as_str().unwrap_or_default() {
            "attack-started" => self.attack_started(time, &event["attack"]),
            "attack-updated" => self.attack_updated(time, &event["attack"]),
            "attack-ended" => {
                if let Some(index) = self.index(&event["attack"]["target"], Step::EndRecognised) {
                    self.progress[index].end_recognised = true;
                    let reason = text_of(&event["reason"]);
                    self.push_with(index, time, Step::EndRecognised, reason, event.clone());
                }
            }
            "decision" => {
                if let Some(index) = self.index(&event["target"], Step::Decided) {
                    let reason = text_of(&event["reason"]);
                    self.push_with(index, time, Step::Decided, reason, event.clone());
                }
            }
            "announced" => {
                if let Some(index) = self.index_of_route(event) {
                    let text =
                        format!("{} to {}", text_of(&event["nlri"]), text_of(&event["backend"]));
                    self.progress[index].announced.insert(text_of(&event["nlri"]));
                    self.push_with(index, time, Step::Announced, text, event.clone());
                }
            }
            "withdrawn" => {
                if let Some(index) = self.index_of_route(event) {
                    let text =
                        format!("{} from {}", text_of(&event["nlri"]), text_of(&event["backend"]));
                    self.progress[index].announced.remove(&text_of(&event["nlri"]));
                    self.push_with(index, time, Step::Withdrawn, text, event.clone());
                }
            }
            "announce-rejected" | "announce-failed" | "withdraw-rejected" | "withdraw-failed" => {
                self.problem(format!("{}: {}", text_of(&event["nlri"]), text_of(&event["why"])));
            }
            _ => {}
        }
    }

    fn attack_started(&mut self, time: u64, attack: &Value) {
        let Some(index) = self.index(&attack["target"], Step::Detected) else { return };
        if self.progress[index].detected.is_some() {
            self.problem(format!("a second attack on {}", self.plans[index].target));
        }
        self.progress[index].detected = Some(time);
        let trigger = &attack["trigger"];
        let text = format!(
            "{}: {} packets/s, {} Mbit/s",
            text_of(&trigger["metric"]),
            trigger["rate"]["packets"],
            trigger["rate"]["bits"].as_u64().unwrap_or_default() / 1_000_000,
        );
        self.push_with(index, time, Step::Detected, text, attack.clone());
        self.attack_updated(time, attack);
    }

    /// A new classification is told; more of the same is not.
    fn attack_updated(&mut self, time: u64, attack: &Value) {
        let Some(index) = self.index(&attack["target"], Step::Classified) else { return };
        let vector = text_of(&attack["vector"]);
        let progress = &mut self.progress[index];
        if progress.classified.as_ref() == Some(&vector) {
            return;
        }
        progress.classified = Some(vector.clone());
        let confidence = attack["confidence"].as_f64().unwrap_or_default();
        let evidence = attack["vectors"][0]["evidence"].as_array().into_iter().flatten();
        let evidence: Vec<String> = evidence
            .map(|fact| format!("{}: {}", text_of(&fact["fact"]), text_of(&fact["seen"])))
            .collect();
        let text = format!("{vector}, confidence {confidence:.2} ({})", evidence.join("; "));
        self.push(index, time, Step::Classified, text);
    }

    /// Takes everything that BIRD holds now from tidegate.
    pub fn routes(&mut self, routes: &[BirdRoute]) {
        let time = now();
        for index in 0..self.plans.len() {
            let target = self.plans[index].target.clone();
            let held: Vec<&BirdRoute> =
                routes.iter().filter(|route| route.is_toward(&target)).collect();
            for route in &held {
                if !self.progress[index].held.contains(&route.net) {
                    self.route_appeared(index, time, route);
                }
            }
            let names: Vec<String> = held.iter().map(|route| route.net.clone()).collect();
            let progress = &mut self.progress[index];
            let emptied = names.is_empty() && !progress.held.is_empty();
            progress.held = names;
            if emptied {
                progress.gone = true;
                let text = format!("no route toward {target}");
                self.push(index, time, Step::GoneFromBird, text);
            }
        }
        let foreign = routes
            .iter()
            .filter(|route| !self.plans.iter().any(|plan| route.is_toward(&plan.target)));
        let foreign: Vec<String> = foreign.map(|route| route.net.clone()).collect();
        for net in foreign {
            self.problem(format!("BIRD holds a route that nobody asked for: {net}"));
        }
    }

    fn route_appeared(&mut self, index: usize, time: u64, route: &BirdRoute) {
        let progress = &mut self.progress[index];
        progress.gone = false;
        if self.plans[index].expected.is(route) && progress.seen.is_none() {
            progress.seen = Some(time);
        }
        let attributes: Vec<&str> = ["bgp_community", "bgp_ext_community"]
            .into_iter()
            .filter_map(|name| route.attributes.get(name).map(String::as_str))
            .collect();
        let text = format!("{} {} {}", route.net, route.kind, attributes.join(" "));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let details =
            json!({ "table": route.table, "net": route.net, "attributes": route.attributes });
        self.push_with(index, time, Step::SeenInBird, text, details);
    }

    /// Whether attack `index` has run its course.
    #[must_use]
    pub fn is_over(&self, index: usize) -> bool {
        self.progress.get(index).is_some_and(|progress| {
            progress.last_packet
                && progress.end_recognised
                && progress.gone
                && progress.announced.is_empty()
        })
    }

    /// What attack `index` waits for, for people.
    #[must_use]
    pub fn awaited(&self, index: usize) -> String {
        let Some(progress) = self.progress.get(index) else { return String::new() };
        let what = match progress {
            Progress { onset: None, .. } => "the first packet",
            Progress { detected: None, .. } => "detection",
            Progress { seen: None, .. } => "the route in BIRD",
            Progress { last_packet: false, .. } => "the end of the attack",
            Progress { end_recognised: false, .. } => "the end to be recognised",
            Progress { gone: false, .. } => "BIRD to be empty",
            _ => "the last answers",
        };
        what.to_owned()
    }

    /// The new entries that are older than `settled`, in the order of their times: witnesses do not
    /// report in the order in which things happened.
    pub fn take_entries(&mut self, settled: Duration) -> Vec<Entry> {
        let settled = now().saturating_sub(nanoseconds(settled));
        self.entries.sort_by_key(|entry| entry.time);
        let count = self.entries.partition_point(|entry| entry.time <= settled);
        self.entries.drain(..count).collect()
    }

    /// Judges the whole; `empty` says that BIRD holds no route now.
    #[must_use]
    pub fn verdict(&self, empty: bool) -> Verdict {
        let mut problems = self.problems.clone();
        let mut reactions = Vec::new();
        for (plan, progress) in self.plans.iter().zip(&self.progress) {
            if progress.seen.is_none() {
                problems.push(format!("{}: BIRD never held {}", plan.name, plan.expected.name()));
            }
            if !progress.gone {
                problems.push(format!("{}: its route was not withdrawn", plan.name));
            }
            #[expect(clippy::cast_precision_loss, reason = "spans of seconds")]
            let reaction = progress
                .onset
                .zip(progress.seen)
                .map(|(onset, seen)| seen.saturating_sub(onset) as f64 / 1e6);
            reactions.push((plan.name.clone(), reaction));
        }
        if !empty {
            problems.push("BIRD still holds routes after tidegate stopped".to_owned());
        }
        Verdict { problems, reactions }
    }

    fn push(&mut self, index: usize, time: u64, step: Step, text: String) {
        self.push_with(index, time, step, text, Value::Null);
    }

    fn push_with(&mut self, index: usize, time: u64, step: Step, text: String, details: Value) {
        let onset = self.progress.get(index).and_then(|progress| progress.onset);
        let since_onset = onset.map(|onset| time.saturating_sub(onset));
        let attack = Some(index);
        self.entries.push(Entry { time, since_onset, attack, step, text, details });
    }

    /// Records a problem, once.
    pub fn problem(&mut self, text: String) {
        if !self.problems.contains(&text) {
            self.note(Step::Problem, &text);
            self.problems.push(text);
        }
    }

    /// The planned attack on this target. Any other target is a problem.
    fn index(&mut self, target: &Value, step: Step) -> Option<usize> {
        let target = text_of(target);
        let found = self.plans.iter().position(|plan| plan.target == target);
        if found.is_none() {
            self.problem(format!("{}: {target} is not attacked", step.name()));
        }
        found
    }

    /// The planned attack on the destination of the route that `event` names.
    fn index_of_route(&mut self, event: &Value) -> Option<usize> {
        let nlri = text_of(&event["nlri"]);
        let found = self.plans.iter().position(|plan| {
            nlri == plan.target || nlri.contains(&format!("destination {}", plan.target))
        });
        if found.is_none() {
            self.problem(format!("a route toward nobody who is attacked: {nlri}"));
        }
        found
    }
}

/// A JSON string without its quotes, anything else as JSON.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Nanoseconds since the Unix epoch.
fn now() -> u64 {
    nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Entry {
    /// As one JSON object.
    #[must_use]
    pub fn to_json(&self, plans: &[Plan]) -> Value {
        let plan = self.attack.and_then(|index| plans.get(index));
        json!({
            "time_ns": self.time,
            "since_onset_ns": self.since_onset,
            "attack": plan.map(|plan| plan.name.clone()),
            "target": plan.map(|plan| plan.target.clone()),
            "step": self.step.name(),
            "text": self.text,
            "details": self.details,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "203.0.113.10/32";
    const NLRI: &str = "flow4 { destination 203.0.113.10/32; protocol =6 }";

    fn story() -> Story {
        Story::new(vec![Plan {
            name: "SYN flood".to_owned(),
            target: TARGET.to_owned(),
            expected: Expected::FlowSpec,
            what: String::new(),
            stream: String::new(),
        }])
    }

    fn rule(target: &str) -> BirdRoute {
        let net = format!("flow4 {{ dst {target}; proto 6; }}");
        BirdRoute { net, extended_communities: vec![0x8006 << 48], ..BirdRoute::default() }
    }

    /// Everything up to the route in BIRD.
    fn mitigated() -> Story {
        let mut story = story();
        story.traffic(0, r#"{"event":"first-packet","time_ns":1000000}"#);
        let attack = json!({ "target": TARGET, "vector": "syn-flood", "confidence": 0.9 });
        story.event(&json!({ "event": "attack-started", "time_ns": 61_000_000, "attack": attack }));
        story.event(&json!({ "event": "attack-updated", "time_ns": 71_000_000, "attack": attack }));
        story.event(&json!({ "event": "announced", "nlri": NLRI, "backend": "peer router" }));
        story.routes(&[rule(TARGET)]);
        story
    }

    fn end(story: &mut Story) {
        story.last_packet(0);
        let attack = json!({ "target": TARGET });
        story.event(&json!({ "event": "attack-ended", "attack": attack, "reason": "quiet" }));
        story.event(&json!({ "event": "withdrawn", "nlri": NLRI, "backend": "peer router" }));
    }

    #[test]
    fn a_whole_story_is_a_success() {
        let mut story = mitigated();
        assert!(!story.is_over(0));
        end(&mut story);
        assert_eq!(story.awaited(0), "BIRD to be empty");
        story.routes(&[]);
        assert!(story.is_over(0));
        let steps: Vec<&str> =
            story.take_entries(Duration::ZERO).iter().map(|entry| entry.step.name()).collect();
        let expected = ["onset", "detected", "classified", "announced", "seen-in-bird"];
        assert_eq!(steps[..5], expected);
        assert_eq!(steps.last(), Some(&"gone-from-bird"));
        let verdict = story.verdict(true);
        assert!(verdict.problems.is_empty(), "{verdict:?}");
        assert!(matches!(verdict.reactions.as_slice(), [(_, Some(time))] if *time > 0.0));
    }

    #[test]
    fn entries_carry_the_time_since_the_onset() {
        let mut story = mitigated();
        let entries = story.take_entries(Duration::ZERO);
        assert_eq!((entries[0].step, entries[0].since_onset), (Step::Onset, Some(0)));
        assert_eq!((entries[1].step, entries[1].since_onset), (Step::Detected, Some(60_000_000)));
    }

    #[test]
    fn only_bird_counts() {
        let mut never = story();
        never.event(&json!({ "event": "announced", "nlri": NLRI, "backend": "peer router" }));
        end(&mut never);
        assert!(!never.is_over(0));
        assert_eq!(never.verdict(true).problems.len(), 2);

        let mut left = mitigated();
        end(&mut left);
        assert_eq!(left.verdict(false).problems.len(), 2);

        let mut wrong_kind = story();
        wrong_kind.routes(&[BirdRoute { net: TARGET.to_owned(), ..BirdRoute::default() }]);
        wrong_kind.routes(&[]);
        assert_eq!(
            wrong_kind.verdict(true).problems,
            ["SYN flood: BIRD never held a FlowSpec rule"]
        );
    }

    #[test]
    fn what_nobody_asked_for_is_a_problem_once() {
        let mut story = mitigated();
        for _ in 0..2 {
            story.routes(&[rule(TARGET), rule("203.0.113.99/32")]);
        }
        story.event(
            &json!({ "event": "attack-started", "attack": { "target": "203.0.113.98/32" } }),
        );
        assert_eq!(story.verdict(true).problems.len(), 3);
    }
}
