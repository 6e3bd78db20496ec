//! Baselines as values that a driver writes down and reads back.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Baselines;
use super::profile::{Kind, Profile};

/// The form in which baselines are written.
const VERSION: u32 = 1;

/// All that has been learned, in a form that can be written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedBaselines {
    /// Which form; only the present one is read.
    pub version: u32,
    /// By address.
    pub hosts: Vec<SavedProfile>,
    /// By name.
    pub groups: Vec<SavedProfile>,
}

/// What one host or group is used to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedProfile {
    /// Address of the host, or name of the group.
    pub name: String,
    /// Hours that were learned from.
    pub learned: u16,
    /// Hours since the Unix epoch, of the latest sample.
    pub hour: u64,
    /// Quantiles of late, two for each metric: packets and bits, as levels.
    pub quantiles: Vec<u16>,
    /// What has been learned over all hours, as levels.
    pub levels: Vec<u16>,
    /// What has been learned for each hour of the week, 168 octets in hexadecimal for each series
    /// that is kept so.
    pub hourly: Vec<String>,
}

/// Why what was written cannot be used. Nothing of it is: learning starts from nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Written by another version.
    #[error(
        "the baselines are of version {found}, and only version {VERSION} can be read; learning \
         starts from nothing"
    )]
    Version {
        /// What stands there.
        found: u32,
    },
    /// A profile contradicts its form.
    #[error(
        "the baseline of `{name}` is damaged: {what}; learning starts from nothing, remove the \
         file to silence this message"
    )]
    Damaged {
        /// Whose.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Baselines {
    pub(crate) fn save(&self) -> SavedBaselines {
        let mut hosts: Vec<(&IpAddr, &Profile)> = self.hosts.iter().collect();
        hosts.sort_unstable_by_key(|(address, _)| **address);
        SavedBaselines {
            version: VERSION,
            hosts: hosts
                .into_iter()
                .map(|(name, profile)| saved(name.to_string(), profile))
                .collect(),
            groups: self
                .groups
                .iter()
                .map(|(name, profile)| saved(name.clone(), profile))
                .collect(),
        }
    }

    /// Takes what [`Baselines::save`] gave, all or nothing. Hosts beyond the most that are
    /// remembered are left out.
    pub(crate) fn restore(&mut self, from: &SavedBaselines) -> Result<(), RestoreError> {
        if from.version != VERSION {
            return Err(RestoreError::Version { found: from.version });
        }
        let mut hosts = Vec::with_capacity(from.hosts.len());
        for saved in &from.hosts {
            let Ok(address) = saved.name.parse::<IpAddr>() else {
                return Err(damaged(saved, "its name is no address"));
            };
            hosts.push((address, restored(saved, Kind::Host)?));
        }
        let groups: Result<Vec<_>, _> = from
            .groups
            .iter()
            .map(|saved| Ok((saved.name.clone(), restored(saved, Kind::Group)?)))
            .collect();
        self.groups = groups?.into_iter().collect();
        let most = self.learning.map_or(0, |learning| learning.max_hosts);
        self.hosts.clear();
        self.hosts.extend(hosts.into_iter().take(most));
        Ok(())
    }
}

fn saved(name: String, profile: &Profile) -> SavedProfile {
    let hexadecimal = |hours: &[u8; 168]| hours.iter().map(|hour| format!("{hour:02x}")).collect();
    SavedProfile {
        name,
        learned: profile.learned,
        hour: profile.hour,
        quantiles: profile.quantiles.to_vec(),
        levels: profile.levels.to_vec(),
        hourly: profile.hourly.iter().map(hexadecimal).collect(),
    }
}

fn damaged(saved: &SavedProfile, what: &'static str) -> RestoreError {
    RestoreError::Damaged { name: saved.name.clone(), what }
}

fn restored(saved: &SavedProfile, kind: Kind) -> Result<Profile, RestoreError> {
    let mut profile = Profile::new(kind);
    if saved.hourly.len() != kind.hourly() {
        return Err(damaged(saved, "it has another number of series by the hour"));
    }
    for (hours, text) in profile.hourly.iter_mut().zip(&saved.hourly) {
        if text.len() != 2 * hours.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(damaged(saved, "its hours of the week are not 168 octets in hexadecimal"));
        }
        for (index, hour) in hours.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).unwrap_or("00");
            *hour = u8::from_str_radix(digits, 16).unwrap_or(0);
        }
    }
    let fixed = |values: &[u16]| values.try_into().ok();
    let (Some(quantiles), Some(levels)) = (fixed(&saved.quantiles), fixed(&saved.levels)) else {
        return Err(damaged(saved, "it has another number of levels"));
    };
    (profile.quantiles, profile.levels) = (quantiles, levels);
    (profile.learned, profile.hour) = (saved.learned, saved.hour);
    Ok(profile)
}
