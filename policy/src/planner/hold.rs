//! How long a mitigation is held, and the memory that makes a relapsing target's hold grow.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_model::{AttackVector, Prefix, Timestamp};

/// The shortest hold of a blackhole: each end of a hold exposes the target once.
pub const MIN_BLACKHOLE_HOLD: Duration = Duration::from_secs(10);
/// The first hold of a filter whose target relapsed: longer than a quiet spell takes to prove.
pub const FIRST_RELAPSE_HOLD: Duration = Duration::from_secs(30);
/// A hold doubles up to here.
pub const MAX_HOLD: Duration = Duration::from_secs(3600);
/// A target that is attacked again so soon after its mitigation went has relapsed: the mitigation
/// hid the attack. A blackhole's hold counts for as long as it lasted, because the attack that
/// comes back comes in pulses.
pub const RELAPSE: Duration = Duration::from_secs(5);
/// Most holds remembered. Beyond, the one that would be forgotten first goes.
pub const MAX_REMEMBERED: usize = 4096;

/// What of a target's mitigation hides the attack: everything, or one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hidden {
    Everything,
    Vector(AttackVector),
}

#[derive(Clone, Copy, Debug)]
struct Memory {
    hold: Duration,
    forgotten: Timestamp,
}

/// Holds of targets whose mitigation has just gone.
#[derive(Debug, Default)]
pub(super) struct Holds {
    remembered: BTreeMap<(Prefix, Hidden), Memory>,
}

impl Holds {
    /// The hold of a new mitigation: what the policy says, or more if the target relapsed.
    pub(super) fn first(
        &mut self,
        now: Timestamp,
        target: Prefix,
        hidden: Hidden,
        at_least: Duration,
    ) -> Duration {
        let at_least = match hidden {
            Hidden::Everything => at_least.max(MIN_BLACKHOLE_HOLD),
            Hidden::Vector(_) => at_least,
        };
        match self.remembered.remove(&(target, hidden)) {
            Some(memory) if now < memory.forgotten => doubled(memory.hold).max(at_least),
            _ => at_least,
        }
    }

    /// Remembers the hold of a mitigation that goes now.
    pub(super) fn remember(
        &mut self,
        now: Timestamp,
        target: Prefix,
        hidden: Hidden,
        hold: Duration,
    ) {
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.retain(|_, memory| now < memory.forgotten);
        }
        if self.remembered.len() >= MAX_REMEMBERED {
            let soonest = self.remembered.iter().min_by_key(|(_, memory)| memory.forgotten);
            if let Some(key) = soonest.map(|(key, _)| *key) {
                self.remembered.remove(&key);
            }
        }
        let window = match hidden {
            Hidden::Everything => hold.max(RELAPSE),
            Hidden::Vector(_) => RELAPSE,
        };
        let forgotten = now + window;
        self.remembered.insert((target, hidden), Memory { hold, forgotten });
    }
}

/// The next hold of a target that is still attacked after `hold`.
pub(super) fn doubled(hold: Duration) -> Duration {
    // A policy may start above the ceiling; it does not shrink then.
    hold.saturating_mul(2).clamp(FIRST_RELAPSE_HOLD, MAX_HOLD.max(hold))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Timestamp = Timestamp::ZERO;

    fn target(index: u32) -> Prefix {
        Prefix::host(std::net::Ipv4Addr::from(index).into())
    }

    #[test]
    fn a_relapse_doubles_and_time_forgets() {
        let mut holds = Holds::default();
        let seconds = Duration::from_secs;
        let mut first = |now, at_least| {
            holds.first(ZERO + seconds(now), target(1), Hidden::Everything, seconds(at_least))
        };
        assert_eq!(first(0, 60), seconds(60));
        assert_eq!(first(0, 0), MIN_BLACKHOLE_HOLD);
        holds.remember(ZERO, target(1), Hidden::Everything, seconds(60));
        let again = holds.first(ZERO + seconds(59), target(1), Hidden::Everything, seconds(60));
        assert_eq!(again, seconds(120));
        holds.remember(ZERO, target(1), Hidden::Everything, seconds(60));
        let later = holds.first(ZERO + seconds(60), target(1), Hidden::Everything, seconds(60));
        assert_eq!(later, seconds(60));
    }

    #[test]
    fn a_filter_relapses_only_by_its_own_vector() {
        let mut holds = Holds::default();
        let vector = |vector| Hidden::Vector(vector);
        let syn = vector(AttackVector::SynFlood);
        holds.remember(ZERO, target(1), syn, Duration::ZERO);
        let udp = vector(AttackVector::UdpFlood);
        assert_eq!(holds.first(ZERO, target(1), udp, Duration::ZERO), Duration::ZERO);
        assert_eq!(holds.first(ZERO, target(1), syn, Duration::ZERO), FIRST_RELAPSE_HOLD);
        // What its filter hid shows at once, however long that was.
        holds.remember(ZERO, target(1), syn, Duration::from_secs(60));
        assert_eq!(holds.first(ZERO + RELAPSE, target(1), syn, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn holds_stop_growing() {
        assert_eq!(doubled(Duration::from_secs(3000)), MAX_HOLD);
        assert_eq!(doubled(Duration::from_secs(7200)), Duration::from_secs(7200));
        assert_eq!(doubled(Duration::ZERO), FIRST_RELAPSE_HOLD);
    }

    #[test]
    fn memory_is_bounded() {
        let mut holds = Holds::default();
        for index in 0..u32::try_from(MAX_REMEMBERED).unwrap() + 10 {
            let hold = Duration::from_secs(100 + u64::from(index));
            holds.remember(ZERO, target(index), Hidden::Everything, hold);
        }
        assert_eq!(holds.remembered.len(), MAX_REMEMBERED);
        assert!(!holds.remembered.contains_key(&(target(0), Hidden::Everything)));
        holds.remember(Timestamp::MAX, target(0), Hidden::Everything, Duration::ZERO);
        assert_eq!(holds.remembered.len(), 1);
    }
}
