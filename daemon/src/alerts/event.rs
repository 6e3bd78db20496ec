//! What an alert says, and when.

use serde::{Deserialize, Serialize};

/// What happened to an alert. The order is that of an attack's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertEvent {
    /// An attack of at least the channel's severity.
    Opened,
    /// It got worse.
    Escalated,
    /// The first backend has a mitigation.
    Mitigated,
    /// A mitigation is not enforced.
    NotEnforced,
    /// Someone has taken note.
    Acknowledged,
    /// More is known. Only for messages that change in place.
    Updated,
    /// Every attack of the alert is over.
    Ended,
    /// Nothing of what was done is left.
    Withdrawn,
}

impl AlertEvent {
    /// Those that a configuration can name.
    pub const CHOSEN: [Self; 7] = [
        Self::Opened,
        Self::Escalated,
        Self::Mitigated,
        Self::NotEnforced,
        Self::Acknowledged,
        Self::Ended,
        Self::Withdrawn,
    ];

    /// Name in configuration and payloads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Escalated => "escalated",
            Self::Mitigated => "mitigated",
            Self::NotEnforced => "not-enforced",
            Self::Acknowledged => "acknowledged",
            Self::Updated => "updated",
            Self::Ended => "ended",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The event of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::CHOSEN.into_iter().chain([Self::Updated]).find(|event| event.name() == name)
    }

    /// Whether the attack is over.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Withdrawn)
    }
}
