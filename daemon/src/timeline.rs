//! The timeline for people.
//!
//! One line an event: wall time, time since the onset of the attack it belongs to, the subject,
//! and what happened. Text that came from packets or peers is escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tidegate_bgpd::convert::decode_update;
use tidegate_model::{
    Attack, AttackEvent, AttackId, BackendState, MitigationKey, OutcomeKind, Timestamp,
};
use tidegate_policy::{Decision, DecisionKind};

use crate::clock::WallOrigin;
use crate::event::{Event, EventKind, Verb};
use crate::json::{hex, ledger_text};
use crate::output::Updates;

const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

/// Attacks and routes of which the timeline knows where they belong. Beyond that the oldest are
/// forgotten: their lines lose the time since onset, nothing else.
const MAX_REMEMBERED: usize = 20_000;

/// Turns events into lines. Remembers which attack each mitigation belongs to.
pub struct Timeline {
    wall: WallOrigin,
    updates: Updates,
    onsets: BTreeMap<AttackId, Timestamp>,
    owners: BTreeMap<MitigationKey, AttackId>,
    /// Why each route that is being withdrawn is.
    withdrawals: BTreeMap<MitigationKey, String>,
}

impl Timeline {
    /// A timeline whose timestamps relate to wall time by `wall`. `updates` decides whether the
    /// bytes of each BGP UPDATE are shown.
    #[must_use]
    pub fn new(wall: WallOrigin, updates: Updates) -> Self {
        Self {
            wall,
            updates,
            onsets: BTreeMap::new(),
            owners: BTreeMap::new(),
            withdrawals: BTreeMap::new(),
        }
    }

    /// The line or lines for `event`, each ended by a newline; empty for what people need not see.
    /// Contains ANSI styles: print it through a stream that strips them where they do not belong.
    #[must_use]
    pub fn render(&mut self, event: &Event) -> String {
        match &event.kind {
            EventKind::Attack(change) => self.attack(event.time, change),
            EventKind::Decision(decision) => self.decision(event.time, decision),
            EventKind::Announce { key, attacks, .. } => {
                if let Some(attack) = attacks.first() {
                    self.owners.insert(key.clone(), *attack);
                    bound(&mut self.owners);
                }
                String::new()
            }
            EventKind::Withdraw { key, why, .. } => {
                self.withdrawals.insert(key.clone(), why.clone());
                bound(&mut self.withdrawals);
                String::new()
            }
            EventKind::Outcome { verb, outcome } => {
                let key =
                    MitigationKey { backend: outcome.backend.clone(), nlri: outcome.nlri.clone() };
                self.outcome(event.time, *verb, &key, &outcome.kind)
            }
            EventKind::Backend(backend, state) => {
                let (style, text) = match state {
                    BackendState::Up => (GOOD, "up".to_owned()),
                    BackendState::Down { why } => (BAD, format!("down: {}", escape(why))),
                };
                self.line(event.time, None, &backend.to_string(), style, &text, "")
            }
            EventKind::Ledger(change) => {
                let what = format!("{}: {}", change.key, ledger_text(&change.change));
                self.line(event.time, None, "ledger", BAD, "failed", &escape(&what))
            }
        }
    }

    fn attack(&mut self, time: Timestamp, change: &AttackEvent) -> String {
        let attack = change.attack();
        let subject = attack.id.to_string();
        match change {
            AttackEvent::Started(_) => {
                self.onsets.insert(attack.id, attack.onset);
                bound(&mut self.onsets);
                let onset = format!(
                    "{} toward {} (group {})",
                    attack.trigger.metric,
                    attack.target,
                    escape(&attack.group)
                );
                let mut text =
                    self.line(attack.onset, Some(attack.id), &subject, NOTE, "onset", &onset);
                text += &self.line(
                    time,
                    Some(attack.id),
                    &subject,
                    BAD,
                    "detected",
                    &self.describe(attack),
                );
                for estimate in &attack.vectors {
                    let facts: Vec<String> = estimate
                        .evidence
                        .iter()
                        .map(|evidence| format!("{}: {}", evidence.fact, evidence.seen))
                        .collect();
                    if !facts.is_empty() {
                        text +=
                            &continuation(&format!("{}: {}", estimate.vector, facts.join("; ")));
                    }
                }
                text
            }
            AttackEvent::Updated(_) => {
                self.line(time, Some(attack.id), &subject, NOTE, "updated", &self.describe(attack))
            }
            AttackEvent::Ended(_, reason) => {
                let style = if reason.may_return() { GOOD } else { NOTE };
                let what = format!(
                    "{reason}; {} packets, {} bytes, peak {}",
                    attack.packets, attack.bytes, attack.peak
                );
                self.line(time, Some(attack.id), &subject, style, "ended", &what)
            }
        }
    }

    fn describe(&self, attack: &Attack) -> String {
        let vectors: Vec<String> = attack
            .vectors
            .iter()
            .map(|estimate| {
                let share = if attack.vectors.len() > 1 {
                    format!(", {:.0} %", estimate.share * 100.0)
                } else {
                    String::new()
                };
                format!("{} (confidence {}{share})", estimate.vector, estimate.confidence)
            })
            .collect();
        format!(
            "{} on {}: {}, {:.1} times its {} threshold, {} source{}",
            vectors.join(" + "),
            attack.target,
            attack.peak,
            attack.excess,
            attack.trigger.metric,
            attack.sources,
            if attack.sources == 1 { "" } else { "s" },
        )
    }

    fn decision(&self, time: Timestamp, decision: &Decision) -> String {
        let style = match decision.kind {
            DecisionKind::Refused(_) | DecisionKind::NotEnforced(_) | DecisionKind::NoEffect => BAD,
            _ => NOTE,
        };
        let subject = decision.attack.to_string();
        let name = match decision.kind {
            DecisionKind::Mitigate(_) => "decided",
            DecisionKind::Observe => "observed",
            DecisionKind::Refused(_) => "refused",
            DecisionKind::Propose(_) => "proposed",
            DecisionKind::NotEnforced(_) => "failed",
            DecisionKind::NoEffect => "no effect",
            DecisionKind::Release => "released",
        };
        let what = escape(&decision.reason);
        self.line(time, Some(decision.attack), &subject, style, name, &what)
    }

    fn outcome(
        &mut self,
        time: Timestamp,
        verb: Verb,
        key: &MitigationKey,
        kind: &OutcomeKind,
    ) -> String {
        let attack = self.owners.get(key).copied();
        let subject = attack.map_or_else(|| key.backend.to_string(), |attack| attack.to_string());
        let done = match verb {
            Verb::Announce => "announced",
            Verb::Withdraw => "withdrawn",
        };
        match kind {
            OutcomeKind::Applied { bytes } => {
                let mut what = key.to_string();
                if let (Verb::Withdraw, Some(why)) = (verb, self.withdrawals.remove(key)) {
                    what = format!("{what}: {why}");
                }
                let mut text = self.line(time, attack, &subject, GOOD, done, &escape(&what));
                if self.updates == Updates::Shown && !bytes.is_empty() {
                    text += &continuation(&format!("UPDATE {}", hex(bytes)));
                    match decode_update(bytes) {
                        Ok(update) => {
                            for line in update.to_string().lines() {
                                text += &continuation(&escape(line));
                            }
                        }
                        Err(error) => text += &continuation(&error.to_string()),
                    }
                }
                if verb == Verb::Withdraw {
                    self.owners.remove(key);
                }
                text
            }
            OutcomeKind::Pending { why } => {
                let what = format!("{key}: not {done} yet, {why}");
                self.line(time, attack, &subject, NOTE, "pending", &escape(&what))
            }
            OutcomeKind::Rejected { why } | OutcomeKind::Failed { why } => {
                let what = format!("{key}: NOT {done}: {why}");
                self.line(time, attack, &subject, BAD, "failed", &escape(&what))
            }
        }
    }

    fn line(
        &self,
        time: Timestamp,
        attack: Option<AttackId>,
        subject: &str,
        style: Style,
        name: &str,
        what: &str,
    ) -> String {
        let wall = self.wall.time_of_day(time);
        let since = attack
            .and_then(|attack| self.onsets.get(&attack))
            .map(|onset| format!("+{}", span(time.since(*onset))))
            .unwrap_or_default();
        format!("{DIM}{wall}{DIM:#} {since:>9}  {subject:<12} {style}{name:<10}{style:#} {what}\n")
    }
}

fn bound<K: Ord, V>(remembered: &mut BTreeMap<K, V>) {
    while remembered.len() > MAX_REMEMBERED {
        remembered.pop_first();
    }
}

/// Width of everything before the text of a line.
const INDENT: usize = 48;

fn continuation(text: &str) -> String {
    format!("{:INDENT$}{DIM}{text}{DIM:#}\n", "")
}

/// `56 ms`, `4.2 s`, `3 min`.
fn span(span: Duration) -> String {
    let milliseconds = span.as_millis();
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{:.1} s", span.as_secs_f64()),
        _ => format!("{:.1} min", span.as_secs_f64() / 60.0),
    }
}

/// `text` with control characters made visible, so that a peer's words cannot move the cursor.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        if character.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(safe, "{}", character.escape_default());
        } else {
            safe.push(character);
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (milliseconds, text) in
            [(0, "0 ms"), (56, "56 ms"), (4_210, "4.2 s"), (180_000, "3.0 min")]
        {
            assert_eq!(span(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(escape("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
    }
}
