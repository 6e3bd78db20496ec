//! Policy tests: given attacks, the mitigations that are expected.
//!
//! ```toml
//! [[scenarios]]
//! name = "reflection is filtered, not blackholed"
//!
//! [[scenarios.attacks]]
//! target = "203.0.113.7"
//! vector = "ntp-amplification"
//! source-ports = [123]
//! packets = "200k"
//!
//! [[scenarios.expect]]
//! at = "5s"
//! mitigations = ["flow4 { destination 203.0.113.7/32; protocol =17; source-port =123 } at peer a"]
//! ```
//!
//! An expected line may leave out the end of what [`describe`](crate::play::describe) says, from a
//! `:` or `,` on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidegate_model::{
    AttackId, AttackVector, BitsPerSecond, Confidence, PacketsPerSecond, Prefix, Rate, Signature,
};

use crate::play::{self, Recorded};
use crate::policy::Policy;
use crate::report::Report;
use crate::resolve::PolicyFile;
use crate::text::{Collector, Document, Source, Table, Value, show_duration};

/// No set of files has more scenarios.
pub const MAX_SCENARIOS: usize = 10_000;
/// No scenario has more attacks, or more expectations.
const MAX_PARTS: usize = 1_000;
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Most ports of one attack.
const MAX_PORTS: usize = 20;

/// One test of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Unique, for people.
    pub name: String,
    /// Where it stands: `FILE:LINE`.
    pub place: String,
    /// Wall time at its start, in seconds since 1970-01-01 UTC.
    pub unix: Option<u64>,
    attacks: Vec<GivenAttack>,
    expect: Vec<Expectation>,
}

/// An attack as the text gives it: group and thresholds depend on the policy.
#[derive(Clone, Debug, PartialEq)]
struct GivenAttack {
    target: Prefix,
    vector: AttackVector,
    confidence: Confidence,
    signature: Signature,
    rate: Rate,
    begins: Duration,
    lasts: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
struct Expectation {
    at: Duration,
    mitigations: Vec<String>,
}

/// What came of one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: String,
    /// The times at which something else was found than expected. None if it passed.
    pub differences: Vec<Difference>,
}

/// What differs at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// When, from the start.
    pub at: Duration,
    /// Expected and not there.
    pub missing: Vec<String>,
    /// There and not expected.
    pub unexpected: Vec<String>,
    /// The planner's latest reason for each attack.
    pub reasons: Vec<String>,
}

/// Reads scenario files.
///
/// # Errors
/// A [`Report`] of everything that is wrong, in the order of the text.
pub fn read(files: &[PolicyFile]) -> Result<Vec<Scenario>, Report> {
    let collector = Collector::new();
    let mut sources = Vec::new();
    for file in files {
        match Source::from_bytes(&file.name, &file.bytes) {
            Ok(source) => sources.push(Arc::new(source)),
            Err(error) => {
                let end = error.valid.text().len();
                let source = Arc::new(error.valid);
                collector.push_at(&source, end..end, "not UTF-8", "save the file as UTF-8");
            }
        }
    }
    let documents: Vec<Document<'_>> =
        sources.iter().filter_map(|source| Document::parse(source, &collector)).collect();
    let mut scenarios: Vec<Scenario> = Vec::new();
    for document in &documents {
        let root = document.root(&collector);
        let listed = root.required("scenarios", "[{ name = \"a flood\" }]");
        root.finish();
        for table in listed.and_then(|value| value.tables()).unwrap_or_default() {
            let Some(scenario) = scenario(&table) else { continue };
            let same = scenarios.iter().find(|known| known.name == scenario.name);
            if let Some(known) = same {
                let message = format!("a second scenario `{}`", scenario.name);
                table.error(message, format!("rename one; the first is at {}", known.place));
            } else if scenarios.len() == MAX_SCENARIOS {
                table.error(format!("more than {MAX_SCENARIOS} scenarios"), "leave some out");
            } else {
                scenarios.push(scenario);
            }
        }
    }
    collector.finish(Some(scenarios))
}

fn parts<'a, T>(
    value: Option<Value<'a>>,
    read: impl Fn(&Table<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let value = value?;
    let tables = value.tables()?;
    if tables.len() > MAX_PARTS {
        value
            .error(format!("`{}` has more than {MAX_PARTS} items", value.name()), "leave some out");
        return None;
    }
    let read: Vec<Option<T>> = tables.iter().map(read).collect();
    read.into_iter().collect()
}

fn scenario(table: &Table<'_>) -> Option<Scenario> {
    let named = table.required("name", "\"a flood\"");
    let unix = table.optional("unix-time", "1795453200");
    let unix = unix.map_or(Some(None), |value| value.integer(0..=u64::MAX / 2).map(Some));
    let attacks = table.required("attacks", "[{ target = \"203.0.113.7\" }]");
    let expect = table.required("expect", "[{ at = \"5s\", mitigations = [] }]");
    table.finish();
    let attacks = parts(attacks, given_attack);
    let expect = parts(expect, expectation);
    let mut expect = expect?;
    expect.sort_by_key(|it| it.at);
    let named = named?;
    Some(Scenario {
        name: named.string()?.to_owned(),
        place: named.place(),
        unix: unix?,
        attacks: attacks?,
        expect,
    })
}

fn given_attack(table: &Table<'_>) -> Option<GivenAttack> {
    let target = table.required("target", "\"203.0.113.7\"").map(|value| value.parse());
    let vector = table.required("vector", "\"syn-flood\"").map(|value| value.parse());
    let confidence = table
        .optional("confidence", "0.95")
        .map_or(Some(1.0), |value| value.float(0.0..=1.0))
        .map(Confidence::new);
    let packets =
        table.required("packets", "\"200k\"").map(|value| value.parse_number::<PacketsPerSecond>());
    let bits = table
        .optional("bits", "\"1G\"")
        .map_or(Some(None), |value| value.parse_number::<BitsPerSecond>().map(Some));
    let time = |key| {
        let value = table.optional(key, "\"30s\"");
        value.map_or(Some(None), |value| value.duration(Duration::ZERO..=LONGEST).map(Some))
    };
    let (begins, lasts) = (time("at"), time("lasts"));
    let signature = signature(table);
    table.finish();
    let (vector, packets) = (vector??, packets??);
    // Without a rate in bits: packets of 100 bytes.
    let bits = bits?.unwrap_or(BitsPerSecond(packets.0.saturating_mul(800)));
    let mut signature = signature?;
    signature.protocol = signature.protocol.or(protocol_of(vector));
    Some(GivenAttack {
        target: target??,
        vector,
        confidence: confidence?,
        signature,
        rate: Rate { packets, bits },
        begins: begins?.unwrap_or_default(),
        lasts: lasts?,
    })
}

fn signature(table: &Table<'_>) -> Option<Signature> {
    let numbers = |key| {
        let Some(value) = table.optional(key, "[123]") else { return Some(Vec::new()) };
        let items = value.list("123")?;
        if items.len() > MAX_PORTS {
            let message = format!("`{}` has more than {MAX_PORTS} numbers", value.name());
            value.error(message, "name those with the most packets");
            return None;
        }
        let read: Vec<Option<u16>> = items.iter().map(|item| item.integer(0..=u16::MAX)).collect();
        read.into_iter().collect::<Option<Vec<u16>>>()
    };
    let source_ports = numbers("source-ports");
    let destination_ports = numbers("destination-ports");
    let lengths = numbers("packet-length");
    let octet = |key, example| {
        let value = table.optional(key, example);
        value.map_or(Some(None), |value| value.integer(0..=u8::MAX).map(Some))
    };
    let protocol = octet("protocol", "17");
    let icmp_type = octet("icmp-type", "8");
    let fragments =
        table.optional("fragments", "true").map_or(Some(false), |value| value.boolean());
    let lengths = lengths?;
    let packet_length = match lengths.as_slice() {
        [] => None,
        [low, .., high] => Some((*low, *high)),
        [only] => Some((*only, *only)),
    };
    Some(Signature {
        protocol: protocol?,
        source_ports: source_ports?,
        destination_ports: destination_ports?,
        tcp_flags: None,
        icmp_type: icmp_type?,
        packet_length,
        fragments: fragments?,
    })
}

/// The protocol that the name of a vector says already.
fn protocol_of(vector: AttackVector) -> Option<u8> {
    use tidegate_model::Metric;
    match play::metric_of(vector) {
        Metric::TcpSyn | Metric::Tcp => Some(6),
        Metric::Udp | Metric::Amplification => Some(17),
        Metric::Icmp => Some(1),
        _ => None,
    }
}

fn expectation(table: &Table<'_>) -> Option<Expectation> {
    let at = table.required("at", "\"5s\"").map(|value| value.duration(Duration::ZERO..=LONGEST));
    let lines = table.required("mitigations", "[]");
    table.finish();
    let items = lines?.list("\"203.0.113.7/32 at peer edge\"")?;
    let lines: Vec<Option<String>> =
        items.iter().map(|item| item.string().map(str::to_owned)).collect();
    Some(Expectation { at: at??, mitigations: lines.into_iter().collect::<Option<_>>()? })
}

impl Scenario {
    /// Its attacks as they would be under `policy`.
    #[must_use]
    pub fn attacks(&self, policy: &Policy) -> Vec<Recorded> {
        let attacks = self.attacks.iter().zip(1..);
        attacks
            .map(|(given, id)| {
                let vector = (given.vector, given.confidence, given.signature.clone());
                let attack = play::attack(policy, AttackId(id), given.target, vector, given.rate);
                Recorded { attack, begins: given.begins, lasts: given.lasts }
            })
            .collect()
    }

    /// The times at which something is expected.
    #[must_use]
    pub fn times(&self) -> Vec<Duration> {
        self.expect.iter().map(|expectation| expectation.at).collect()
    }

    /// Plays it under `policy`.
    #[must_use]
    pub fn run(&self, policy: &Arc<Policy>) -> ScenarioResult {
        let moments = play::play(policy, &self.attacks(policy), self.unix, &self.times());
        let differences = self.expect.iter().zip(moments).filter_map(|(expected, moment)| {
            let mut unexpected = moment.mitigations;
            let mut missing = Vec::new();
            for line in &expected.mitigations {
                match unexpected.iter().position(|found| is_meant(line, found)) {
                    Some(index) => drop(unexpected.remove(index)),
                    None => missing.push(line.clone()),
                }
            }
            let differs = !missing.is_empty() || !unexpected.is_empty();
            let reasons = moment.reasons.into_values().collect();
            differs.then_some(Difference { at: expected.at, missing, unexpected, reasons })
        });
        ScenarioResult {
            name: self.name.clone(),
            place: self.place.clone(),
            differences: differences.collect(),
        }
    }
}

/// Whether `found` is what `expected` says, or more of the same.
fn is_meant(expected: &str, found: &str) -> bool {
    let rest = found.strip_prefix(expected.trim());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ',']))
}

impl ScenarioResult {
    /// Whether everything was as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let differences: Vec<Json> = self
            .differences
            .iter()
            .map(|it| {
                json!({
                    "at": show_duration(it.at),
                    "missing": it.missing,
                    "unexpected": it.unexpected,
                    "reasons": it.reasons,
                })
            })
            .collect();
        json!({
            "name": self.name,
            "place": self.place,
            "passed": self.passed(),
            "differences": differences,
        })
    }
}

impl fmt::Display for ScenarioResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.passed() {
            return write!(formatter, "ok      {}", self.name);
        }
        write!(formatter, "FAILED  {} ({})", self.name, self.place)?;
        for difference in &self.differences {
            write!(formatter, "\n  at {}:", show_duration(difference.at))?;
            for line in &difference.missing {
                write!(formatter, "\n    - {line}")?;
            }
            for line in &difference.unexpected {
                write!(formatter, "\n    + {line}")?;
            }
            for reason in &difference.reasons {
                write!(formatter, "\n    because: {reason}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
