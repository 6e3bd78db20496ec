//! What is protected, and how traffic to it is judged.

use std::time::Duration;

use tidegate_model::{Prefix, Thresholds};

/// Prefixes that share thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Name in the policy.
    pub name: String,
    /// Prefixes of the group. Over all groups the longest prefix wins.
    pub prefixes: Vec<Prefix>,
    /// What is still normal for one address of the group.
    pub thresholds: Thresholds,
    /// What is still normal for all addresses of a /24 or /64 together; `None` is not judged.
    pub aggregate: Option<Thresholds>,
}

/// What is protected. An address in no group is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The groups.
    pub groups: Vec<Group>,
    /// How traffic is judged.
    pub judging: Judging,
    /// What is still normal for all protected addresses together, of each address family; `None`
    /// is not judged. Traffic to addresses and networks with attacks of their own does not count.
    /// Such an attack has the whole address space as its target: it can be told, not mitigated.
    pub interface: Option<Thresholds>,
    /// Whether thresholds are learned; `None` judges by the policy's alone.
    pub learning: Option<Learning>,
    /// Remote peers whose traffic is not judged but counted apart. A flood that is forged in their
    /// name is not seen: allow only what is filtered at the border.
    pub allowed: Vec<Prefix>,
}

/// How long and how strict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judging {
    /// How much of a flood at twice the threshold is borne before it is called one. Ten times the
    /// threshold is recognised in a fifteenth of it.
    pub tolerance: Duration,
    /// An attack is over below this part of every threshold, in `0.0..=1.0`.
    pub exit_ratio: f64,
    /// For how long it must stay below.
    pub exit_hold: Duration,
    /// Most addresses that are metered at the same time. The quietest make room for new ones.
    pub max_targets: usize,
}

impl Default for Judging {
    fn default() -> Self {
        Self {
            tolerance: Duration::from_millis(500),
            exit_ratio: 0.5,
            exit_hold: Duration::from_secs(10),
            max_targets: 65_536,
        }
    }
}

/// How thresholds are learned. The policy's is always the upper bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    /// How many times what is usual is still normal, at least 1.
    pub margin: f64,
    /// Part of the policy's threshold below which no learned one falls, in `0.0..=1.0`.
    pub floor: f64,
    /// Most hosts of which a baseline is kept, about 400 octets each. Others are judged by the
    /// baseline of their group.
    pub max_hosts: usize,
}

impl Learning {
    pub(crate) fn floor_ratio(&self) -> f64 {
        if self.floor.is_nan() { 1.0 } else { self.floor.clamp(0.0, 1.0) }
    }
}

impl Default for Learning {
    fn default() -> Self {
        Self { margin: 5.0, floor: 0.1, max_hosts: 65_536 }
    }
}
