//! Syslog (RFC 5424), with the facts as structured data.

use tidegate_model::Severity;

use super::super::escape::syslog_value;
use super::super::event::AlertEvent;
use super::super::snapshot::Snapshot;
use super::Words;

/// RFC 5426 §3.2: receivers should take this much.
const MAX_MESSAGE: usize = 2_048;

/// RFC 5612: the enterprise number that is set aside for examples. tidegate has none of its own.
const SD_ID: &str = "tidegate@32473";

/// Octets of one value of the structured data, as it stands there. With eleven of them, and the longest
/// host name, half a kilobyte is left for the text.
const MAX_VALUE: usize = 200;

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// HOSTNAME: printable ASCII, at most 255 characters.
    pub host: String,
    /// PROCID.
    pub process: u32,
}

impl Origin {
    /// This process on this host.
    #[must_use]
    pub fn here() -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::new(name.trim(), std::process::id())
    }

    /// The process `process` on the host `name`, made fit for the header.
    #[must_use]
    pub fn new(name: &str, process: u32) -> Self {
        let fits = |character: &char| character.is_ascii_graphic();
        let host: String = name.chars().filter(fits).take(255).collect();
        Self { host: if host.is_empty() { "-".to_owned() } else { host }, process }
    }
}

pub(super) fn message(
    facility: u8,
    origin: &Origin,
    snapshot: &Snapshot,
    words: &Words,
) -> Vec<u8> {
    let incident = &snapshot.incident;
    let level: u8 = match (snapshot.event, snapshot.severity()) {
        (AlertEvent::Ended | AlertEvent::Withdrawn, _) => 5,
        (AlertEvent::NotEnforced, _) | (_, Severity::Critical) => 2,
        (_, Severity::High) => 3,
        (_, Severity::Medium) => 4,
        (_, Severity::Low) => 5,
    };
    let priority = u16::from(facility.min(23)) * 8 + u16::from(level);
    let Origin { host, process } = origin;
    let time = incident.updated;
    let mut data = String::new();
    for (name, value) in [
        ("alert", snapshot.alert.clone()),
        ("incident", incident.id.clone()),
        ("event", snapshot.event.name().to_owned()),
        ("severity", snapshot.severity().name().to_owned()),
        ("target", incident.target.to_string()),
        ("group", incident.group.clone()),
        ("vector", incident.main_vector().to_owned()),
        ("peakPps", incident.peak.packets_per_second.to_string()),
        ("peakBps", incident.peak.bits_per_second.to_string()),
        ("sources", incident.sources.to_string()),
        ("targets", snapshot.targets.to_string()),
    ] {
        data += &format!(" {name}=\"{}\"", value_within(&value));
    }
    let event = snapshot.event.name();
    let header = format!("<{priority}>1 {time} {host} tidegate {process} {event} [{SD_ID}{data}] ");
    // RFC 5424 §6.4: UTF-8 text begins with the byte order mark.
    let mut octets = header.into_bytes();
    octets.extend("\u{feff}".as_bytes());
    let text = match &words.text {
        Some(text) => super::super::escape::plain(text),
        None => format!(
            "{} {}",
            words.plain_title(300),
            super::super::escape::plain(&words.message.summary)
        ),
    };
    let room = MAX_MESSAGE.saturating_sub(octets.len());
    octets.extend(within(&text, room).as_bytes());
    octets
}

/// `text` escaped, of which at most [`MAX_VALUE`] octets.
fn value_within(text: &str) -> String {
    let escaped = syslog_value(text);
    let value = within(&escaped, MAX_VALUE);
    // A backslash at the end would escape the quote behind it, if it is not escaped itself.
    let backslashes = value.chars().rev().take_while(|character| *character == '\\').count();
    value.get(..value.len() - backslashes % 2).unwrap_or_default().to_owned()
}

/// The longest beginning of `text` that has at most `room` octets.
fn within(text: &str, room: usize) -> &str {
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
