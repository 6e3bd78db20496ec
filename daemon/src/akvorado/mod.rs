//! Links into an Akvorado console, filtered to a target and the time of an attack.
//!
//! The console keeps the state of its "Visualize" page in the URL: a JSON object with sorted keys,
//! compressed with lz-string. Consoles from 2.1.0 on read `v1-` and the alphabet for URIs; older
//! ones read plain Base64, which newer ones still accept. Akvorado does not promise that its options
//! stay as they are: the encoder is versioned by [`LinkFormat`] and held to a vector made with the
//! console's own library.
//!
//! Absent on purpose: reading traffic from Akvorado. What an incident says was measured here.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod filter;
mod validate;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::incident::{Incident, WallTime};

pub use filter::{dropped_filter, incident_filter};
pub use validate::{Validation, ValidationError, sample_filters, validate};

/// What stands before the onset on a page, so that the usual traffic shows.
pub const LEAD: Duration = Duration::from_secs(300);

/// What stands after the end, or after the latest news of an attack that goes on.
pub const TAIL: Duration = Duration::from_secs(300);

/// No page shows more than this: the raw flows that a filter on addresses needs are kept for 15
/// days by default.
const MAX_SPAN: Duration = Duration::from_secs(7 * 86_400);

/// How the console writes the state of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkFormat {
    /// Akvorado 2.1.0 (2026-01-10) and later.
    #[default]
    V1,
    /// Earlier consoles.
    Legacy,
}

/// Where a console is and what links it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    base: String,
    format: LinkFormat,
}

/// A base URL that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the URL of a console; write one like `https://akvorado.example.net/`")]
pub struct BadBase(String);

impl Console {
    /// The console at `base`, its `url-prefix` included, with or without a slash at the end.
    ///
    /// # Errors
    /// [`BadBase`] unless it is an `http` or `https` URL with a host and without query or fragment.
    pub fn new(base: &str, format: LinkFormat) -> Result<Self, BadBase> {
        let url = reqwest::Url::parse(base).map_err(|_| BadBase(base.to_owned()))?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.host().is_some();
        if !plain || !matches!(url.scheme(), "http" | "https") {
            return Err(BadBase(base.to_owned()));
        }
        let mut base = url.to_string();
        if !base.ends_with('/') {
            base.push('/');
        }
        Ok(Self { base, format })
    }

    /// The URL of `path` under the console.
    fn under(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The page that shows `view`.
    #[must_use]
    pub fn link(&self, view: &View) -> String {
        let state = view.state();
        let state = match self.format {
            LinkFormat::V1 => format!("v1-{}", lz_str::compress_to_encoded_uri_component(&state)),
            LinkFormat::Legacy => escape_base64(&lz_str::compress_to_base64(&state)),
        };
        self.under(&format!("visualize/{state}"))
    }

    /// The traffic of an incident.
    #[must_use]
    pub fn traffic_link(&self, incident: &Incident) -> String {
        self.link(&View::of(incident, incident_filter(incident), "SrcAS"))
    }

    /// What routers report to have dropped of it.
    #[must_use]
    pub fn dropped_link(&self, incident: &Incident) -> String {
        self.link(&View::of(incident, dropped_filter(incident), "ForwardingStatus"))
    }
}

/// Base64 has three characters that mean something else in a path.
fn escape_base64(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len() + 8), |mut escaped, character| {
        match character {
            '/' | '+' | '=' => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "%{:02X}", u32::from(character));
            }
            other => escaped.push(other),
        }
        escaped
    })
}

/// What a page counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// Packets per second.
    Packets,
    /// Bits per second at layer 3.
    Bits,
}

impl Units {
    const fn name(self) -> &'static str {
        match self {
            Self::Packets => "pps",
            Self::Bits => "l3bps",
        }
    }
}

/// What a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// From when.
    pub start: WallTime,
    /// Until when.
    pub end: WallTime,
    /// Which traffic, in the console's filter language.
    pub filter: String,
    /// By what it is split: names of columns.
    pub dimensions: Vec<&'static str>,
    /// What is counted.
    pub units: Units,
}

impl View {
    /// The time of `incident`, with some before and after, split by `dimension`.
    #[must_use]
    pub fn of(incident: &Incident, filter: String, dimension: &'static str) -> Self {
        let last = incident.times.ended.unwrap_or(incident.updated);
        let start = incident.times.onset.before(LEAD);
        let end = last.after(TAIL).min(start.after(MAX_SPAN));
        let units = if incident.trigger.by_bits() { Units::Bits } else { Units::Packets };
        Self { start, end, filter, dimensions: vec![dimension], units }
    }

    /// The state of the page. Every option is given: if some were missing the page would open its
    /// side panel and ask.
    fn state(&self) -> String {
        let (start, end) = (self.start.milliseconds(), self.end.milliseconds());
        // A map of our own, so that the keys are sorted whatever features serde_json has.
        let state: BTreeMap<&str, Value> = BTreeMap::from([
            ("bidirectional", json!(false)),
            ("dimensions", json!(self.dimensions)),
            ("end", json!(end)),
            ("filter", json!(self.filter)),
            ("graphType", json!("stacked")),
            ("humanEnd", json!(end)),
            ("humanStart", json!(start)),
            ("limit", json!(10)),
            ("limitType", json!("max")),
            ("previousPeriod", json!(false)),
            ("start", json!(start)),
            ("truncate-v4", json!(32)),
            ("truncate-v6", json!(128)),
            ("units", json!(self.units.name())),
        ]);
        serde_json::to_string(&state).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with lz-string 1.5.0 from npm, the library of the console.
    const VECTOR: &str = "v1-N4IgRglgJhBOCmBjALhA9gOwIYBsQC4AzXAZ3gBoQYBbeDE9eggbRAGVZEBBNkAXUp0oBEACYADKIBsAWnEAOGaNEAVAIyj8a8fnHiAdHvEAtEJUIQcyeLBEAREsi5QosAAQBeNxIDMh-WpqfgDsblwAcnZuAAqwaMhonm4AOiAAqnbRqWGRbhyI0WiwyEkArD5mIADmsFgADgAWKgCedfAijliIANbwwpQNAK7UWBgAohjC+GKSsgpKqhpaOnqGeqYDw6NsyFjFIhLScorK6pp6ugZGGyA4ENQQyATalHcPyC1tIiMAHpV1CAAbuhBiRojZ0FNiDgyJROvtpoc5idFucVld1pVkLBBhhEFhrDJAQAWAg+USUbG4-GEwFSZ6ieSUXGPEgiOp1NkAXyAA";

    fn view() -> View {
        View {
            start: "2026-08-22T12:00:00Z".parse().unwrap(),
            end: "2026-08-22T12:10:00Z".parse().unwrap(),
            filter: "DstAddr = 203.0.113.7 AND Proto = \"UDP\" AND SrcPort = 53".to_owned(),
            dimensions: vec!["SrcAS"],
            units: Units::Packets,
        }
    }

    #[test]
    fn links_are_those_of_the_console() {
        let console = Console::new("https://flows.example.net/akvorado", LinkFormat::V1).unwrap();
        assert_eq!(
            console.link(&view()),
            format!("https://flows.example.net/akvorado/visualize/{VECTOR}")
        );
    }

    #[test]
    fn both_formats_hold_the_same_state() {
        let state = view().state();
        let compressed = VECTOR.strip_prefix("v1-").unwrap();
        let decoded = lz_str::decompress_from_encoded_uri_component(compressed).unwrap();
        assert_eq!(String::from_utf16(&decoded).unwrap(), state);

        let console = Console::new("http://[2001:db8::1]:8081", LinkFormat::Legacy).unwrap();
        let link = console.link(&view());
        let state_part = link.strip_prefix("http://[2001:db8::1]:8081/visualize/").unwrap();
        assert!(!state_part.contains(['/', '+', '=']), "{state_part}");
        let plain = state_part.replace("%2F", "/").replace("%2B", "+").replace("%3D", "=");
        let decoded = lz_str::decompress_from_base64(&plain).unwrap();
        assert_eq!(String::from_utf16(&decoded).unwrap(), state);
    }

    #[test]
    fn bases_that_are_none_are_refused() {
        for base in ["", "akvorado", "ftp://a/", "https://", "https://a/?q=1", "https://a/#x"] {
            assert!(Console::new(base, LinkFormat::V1).is_err(), "{base}");
        }
    }
}
