//! From a capture to the routes: `tidegate replay` on recorded attacks, on recorded everyday
//! traffic, and on what the generator makes.
//!
//! The recorded captures lie beside the workspace and are not part of it. They are judged with one
//! policy that owns every address, since many victims are anonymised into private space.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tidegate_interop_tests::lab::require;
use tidegate_model::{AttackVector, Reflector};

/// A policy that owns everything, with this limit for every class of traffic.
fn policy(directory: &Path, packets: &str) -> PathBuf {
    let metrics = ["total", "tcp-syn", "tcp", "udp", "amplification", "icmp", "fragment", "other"];
    let limits = metrics.map(|metric| format!("{metric} = {{ packets = \"{packets}\" }}\n"));
    let text = format!(
        "[speaker]\nas = 65010\nrouter-id = \"10.99.0.1\"\n\
         [owned]\nprefixes = [\"0.0.0.0/0\", \"::/0\"]\n\
         [groups.default.thresholds]\n{}\
         [[responses]]\nname = \"filter\"\nwhen = {{ confidence = 0.5 }}\naction = \"flowspec\"\n\
         [[peers]]\nname = \"router\"\naddress = \"10.99.0.2\"\nas = 65001\n",
        limits.concat()
    );
    let path = directory.join(format!("policy-{packets}"));
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("policy.toml"), text).unwrap();
    path
}

/// Higher than any benign capture's rate toward one host, lower than any attack's.
const LIMIT: &str = "2k";

fn replay(capture: &Path, policy: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(&common::programs().tidegate);
    command.arg("replay").arg(capture).arg("--policy").arg(policy).arg("--json").args(more);
    command.output().unwrap()
}

/// What one replay told.
#[derive(Debug)]
struct Told {
    /// For each attack, by its id, the last that was said of it.
    attacks: BTreeMap<String, Value>,
    /// NLRIs of the routes that were announced.
    announced: Vec<String>,
}

impl Told {
    fn by(capture: &Path, policy: &Path) -> Self {
        let output = replay(capture, policy, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", capture.display());
        Self::from_lines(&output.stdout)
    }

    fn from_lines(stdout: &[u8]) -> Self {
        let mut told = Self { attacks: BTreeMap::new(), announced: Vec::new() };
        for line in String::from_utf8(stdout.to_vec()).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            match event["event"].as_str().unwrap() {
                "attack-started" | "attack-updated" | "attack-ended" => {
                    let id = event["attack"]["id"].as_str().unwrap().to_owned();
                    told.attacks.insert(id, event["attack"].clone());
                }
                "announced" => told.announced.push(event["nlri"].as_str().unwrap().to_owned()),
                _ => {}
            }
        }
        told
    }

    /// Target and main vector of each attack, sorted.
    fn attacks(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut attacks: Vec<_> = self
            .attacks
            .values()
            .map(|attack| (text(&attack["target"]), text(&attack["vector"])))
            .collect();
        attacks.sort();
        attacks
    }
}

/// The folder of captures and their labels, or a line that says what is skipped.
fn labelled(test: &str, folder: &str) -> Option<(PathBuf, Vec<Value>)> {
    let directory = require::or_skip(test, require::shared_data(folder))?;
    let labels = fs::read(directory.join("labels.json")).unwrap();
    Some((directory, serde_json::from_slice(&labels).unwrap()))
}

/// Our name for a label's vector.
fn vector_name(label: &str) -> &str {
    match label {
        "udp-amplification/ike" => "ike-amplification",
        "tcp-syn-flood" => "syn-flood",
        "tcp-synack-reflection" => "syn-ack-reflection",
        "icmpv6-flood" => "icmp-flood",
        other => other,
    }
}

/// What is wrong with the verdict on an attack that must be detected.
fn misjudged(told: &Told, label: &Value) -> Option<String> {
    let victim = label["victim_prefix"].as_str().unwrap();
    let vector = vector_name(label["vector"].as_str().unwrap());
    let expected = vec![(victim.to_owned(), vector.to_owned())];
    if told.attacks() != expected {
        return Some(format!("{:?} instead of {expected:?}", told.attacks()));
    }
    let toward = |nlri: &String| nlri.contains(&format!("destination {victim}"));
    if !told.announced.iter().any(toward) || !told.announced.iter().all(toward) {
        return Some(format!("announced {:?}", told.announced));
    }
    let attack = told.attacks.values().next()?;
    let [start, end] = ["onset_ns", "detected_ns"].map(|name| attack[name].as_u64().unwrap());
    (start > end).then(|| format!("detected before its onset: {attack}"))
}

#[test]
fn recorded_attacks_are_recognised() {
    let test = "recorded_attacks_are_recognised";
    let Some((directory, labels)) = labelled(test, "attacks") else { return };
    let temporary = tempfile::tempdir().unwrap();
    let policy = policy(temporary.path(), LIMIT);
    let mut wrong = Vec::new();
    for label in &labels {
        let file = label["file"].as_str().unwrap();
        let told = Told::by(&directory.join(file), &policy);
        if label["expect"] == "attack" {
            wrong.extend(misjudged(&told, label).map(|what| format!("{file}: {what}")));
        } else if !told.attacks.is_empty() {
            wrong.push(format!("{file}: {:?} instead of nothing", told.attacks()));
        }
    }
    assert!(!labels.is_empty() && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn recorded_fragments_are_an_attack_below_their_rate() {
    let test = "recorded_fragments_are_an_attack_below_their_rate";
    let Some((directory, _)) = labelled(test, "attacks") else { return };
    let temporary = tempfile::tempdir().unwrap();
    let policy = policy(temporary.path(), "200");
    let told = Told::by(&directory.join("suricata-defrag-spray-h8.pcap"), &policy);
    let expected = [("198.18.0.2/32", "fragment-flood"), ("c612:2::/128", "fragment-flood")]
        .map(|(target, vector)| (target.to_owned(), vector.to_owned()));
    assert_eq!(told.attacks(), expected);
}

#[test]
fn recorded_everyday_traffic_is_no_attack() {
    let test = "recorded_everyday_traffic_is_no_attack";
    let Some((directory, labels)) = labelled(test, "benign") else { return };
    let temporary = tempfile::tempdir().unwrap();
    let policy = policy(temporary.path(), LIMIT);
    let mut wrong = Vec::new();
    for label in &labels {
        let file = label["file"].as_str().unwrap();
        let told = Told::by(&directory.join(file), &policy);
        if !told.attacks.is_empty() || !told.announced.is_empty() {
            wrong.push(format!("{file}: {told:?}"));
        }
    }
    assert!(!labels.is_empty() && wrong.is_empty(), "{wrong:#?}");
}

/// Writes a capture of these streams.
fn generate(path: &Path, streams: &[String]) {
    let mut command = Command::new(&common::programs().lab);
    command.args(["traffic", "--seed", "11", "--write"]).arg(path);
    command.args(streams.iter().flat_map(|stream| ["--stream", stream]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn generated_floods_are_recognised_among_everyday_traffic() {
    let temporary = tempfile::tempdir().unwrap();
    let policy = policy(temporary.path(), LIMIT);
    let reflectors =
        [Reflector::Dns, Reflector::Ntp, Reflector::Memcached, Reflector::Ssdp, Reflector::Cldap];
    let floods = [AttackVector::SynFlood, AttackVector::UdpFlood, AttackVector::IcmpFlood];
    let vectors = floods.into_iter().chain(reflectors.map(AttackVector::Amplification));
    let mut wrong = Vec::new();
    for vector in vectors {
        for (victim, prefix) in
            [("203.0.113.10", "203.0.113.10/32"), ("2001:db8::10", "2001:db8::10/128")]
        {
            let capture = temporary.path().join("flood.pcap");
            generate(
                &capture,
                &[
                    format!("benign,target={victim},rate=500,for=4s"),
                    format!("{vector},target={victim},rate=20k,start=1s,for=1s"),
                ],
            );
            let told = Told::by(&capture, &policy);
            let expected = vec![(prefix.to_owned(), vector.to_string())];
            if told.attacks() != expected {
                wrong.push(format!("{:?} instead of {expected:?}", told.attacks()));
                continue;
            }
            let attack = told.attacks.values().next().unwrap();
            let [onset, detected] =
                ["onset_ns", "detected_ns"].map(|name| attack[name].as_u64().unwrap());
            if detected - onset > 100_000_000 {
                wrong.push(format!(
                    "{vector} on {victim}: detected {} ns after its onset",
                    detected - onset
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn generated_crowds_are_no_attack() {
    let temporary = tempfile::tempdir().unwrap();
    let policy = policy(temporary.path(), LIMIT);
    for stream in [
        "benign,target=203.0.113.10,rate=1500,for=5s",
        "benign,target=2001:db8::10,rate=1500,for=5s",
    ] {
        let capture = temporary.path().join("crowd.pcap");
        generate(&capture, &[stream.to_owned()]);
        let told = Told::by(&capture, &policy);
        assert!(told.attacks.is_empty() && told.announced.is_empty(), "{stream}: {told:?}");
    }
}

#[test]
fn the_same_capture_gives_the_same_bytes() {
    let temporary = tempfile::tempdir().unwrap();
    let policy = policy(temporary.path(), LIMIT);
    let capture = temporary.path().join("both.pcap");
    generate(
        &capture,
        &[
            "benign,target=203.0.113.0/24,rate=2k,for=4s".to_owned(),
            "syn-flood,target=203.0.113.10,rate=20k,start=1s,for=1s".to_owned(),
            "ntp-amplification,target=2001:db8::10,rate=20k,start=1500ms,for=1s".to_owned(),
        ],
    );
    let first = replay(&capture, &policy, &["--updates"]);
    let second = replay(&capture, &policy, &["--updates"]);
    assert!(first.status.success());
    let text = String::from_utf8(first.stdout.clone()).unwrap();
    // Every BGP message begins with sixteen octets of ones (RFC 4271 §4.1).
    assert!(text.contains(&"f".repeat(32)), "no UPDATE in {text}");
    assert_eq!(Told::from_lines(&first.stdout).announced.len(), 2);
    assert_eq!(text, String::from_utf8(second.stdout).unwrap());
}

#[test]
fn a_damaged_capture_is_judged_up_to_the_damage() {
    let temporary = tempfile::tempdir().unwrap();
    let policy = policy(temporary.path(), LIMIT);
    let capture = temporary.path().join("whole.pcap");
    generate(&capture, &["syn-flood,target=203.0.113.10,rate=20k,for=2s".to_owned()]);
    let mut bytes = fs::read(&capture).unwrap();
    bytes.truncate(bytes.len() - 7);
    let damaged = temporary.path().join("damaged.pcap");
    fs::write(&damaged, bytes).unwrap();
    let output = replay(&damaged, &policy, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("byte"), "{said}");
    let told = Told::from_lines(&output.stdout);
    assert_eq!(told.attacks(), [("203.0.113.10/32".to_owned(), "syn-flood".to_owned())]);
}
