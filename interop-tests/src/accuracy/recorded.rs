//! Labelled captures beside the workspace.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate_detector::capture::file::CaptureFile;
use tidegate_model::{Prefix, Timestamp};

use super::AccuracyError;
use super::case::Expected;
use super::chain::{self, Chain, Told};

/// Limit for every class, in packets a second: above what any everyday capture has toward one
/// host, below what any attack has that must be detected.
pub(super) const LIMIT: u64 = 2_000;

/// One capture.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) file: String,
    /// The limit that it is judged by.
    pub(super) limit: u64,
    pub(super) expected: Expected,
    pub(super) told: Told,
}

/// Every capture of `folder`, by its labels.
pub(super) fn judge_all(folder: &Path) -> Result<Vec<Recorded>, AccuracyError> {
    let labels = folder.join("labels.json");
    let unreadable = |source| AccuracyError::Read { path: labels.clone(), source };
    let text = fs::read(&labels).map_err(unreadable)?;
    let labels: Vec<Value> = serde_json::from_slice(&text)
        .map_err(|source| AccuracyError::Labels { path: labels.clone(), source })?;
    labels.iter().map(|label| judge(folder, label)).collect()
}

fn judge(folder: &Path, label: &Value) -> Result<Recorded, AccuracyError> {
    let text = |key: &str| label[key].as_str().unwrap_or_default();
    let expect = text("expect");
    // `attack-if-threshold<=500pps` is judged below that.
    let conditional = expect.strip_prefix("attack-if-threshold<=");
    let condition = conditional.and_then(|limit| limit.trim_end_matches("pps").parse::<u64>().ok());
    let limit = condition.map_or(LIMIT, |limit| limit * 2 / 5);
    let expected = if expect.starts_with("attack") {
        let vector = our_name(text("vector")).parse().ok();
        let victim = text("victim_prefix").parse::<Prefix>().ok();
        victim.map_or(Expected::Nothing, |victim| {
            Expected::Attack(victim, vector.into_iter().collect())
        })
    } else {
        Expected::Nothing
    };
    let file = text("file").to_owned();
    let told = replay(&folder.join(&file), limit)?;
    Ok(Recorded { file, limit, expected, told })
}

/// The labels are others': their words for our vectors.
fn our_name(label: &str) -> String {
    match label.split_once('/') {
        Some(("udp-amplification", service)) => format!("{service}-amplification"),
        _ => match label {
            "tcp-syn-flood" => "syn-flood",
            "tcp-synack-reflection" => "syn-ack-reflection",
            "icmpv6-flood" => "icmp-flood",
            other => other,
        }
        .to_owned(),
    }
}

fn replay(path: &Path, limit: u64) -> Result<Told, AccuracyError> {
    let mut capture = CaptureFile::open(path)?;
    let mut chain = Chain::new(chain::config(chain::thresholds(limit, limit), None), 1);
    // The detector's clock starts at zero: so does the capture's.
    let mut first = None;
    while let Some(frame) = capture.next_frame()? {
        let start = *first.get_or_insert(frame.time);
        let time = Timestamp::ZERO + Duration::from_secs(1) + frame.time.since(start);
        chain.see(time, frame.link, frame.data, frame.wire_length);
    }
    Ok(chain.finish())
}
