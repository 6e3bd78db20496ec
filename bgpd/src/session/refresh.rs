//! Answers to ROUTE-REFRESH messages (RFC 2918, RFC 7313).
//!
//! ```text
//!            request              ripen              begin: BoRR, all routes are due
//!   (none) ----------> requested --------> ripe -----------------------------> running
//!       ^                  ^ request: once more, when this one is over          |  |
//!       |                  +----------------------------------------------------+  |
//!       +--------------------------------------------------------------------------+
//!                    finish, when nothing is due any more: EoRR
//! ```
//!
//! An answer begins when the socket has room for it. However many requests come until then, it is
//! one; those that come later are one more, [`REFRESH_INTERVAL`] after it began. What is withdrawn meanwhile
//! is not announced again: the answer is drawn from the Adj-RIB-Out as it then is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rustbgpd_wire::RouteRefreshSubtype;
use tidegate_model::Timestamp;

use crate::family::Family;

/// Least time between the beginnings of two answers for a family. Requests within it are answered
/// together.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The requests of one session.
#[derive(Debug)]
pub(super) struct Refresh {
    /// Whether the peer is told where an answer begins and ends.
    enhanced: bool,
    /// Whether the routes that the session began with are out. An answer does not begin before.
    open: bool,
    requested: BTreeSet<Family>,
    ripe: BTreeSet<Family>,
    running: BTreeSet<Family>,
    begun: BTreeMap<Family, Timestamp>,
    /// Messages to send. At most one for each family of each kind.
    markers: VecDeque<Vec<u8>>,
}

impl Refresh {
    /// For a session that has just come up.
    pub(super) fn new(enhanced: bool) -> Self {
        Self {
            enhanced,
            open: false,
            requested: BTreeSet::new(),
            ripe: BTreeSet::new(),
            running: BTreeSet::new(),
            begun: BTreeMap::new(),
            markers: VecDeque::new(),
        }
    }

    pub(super) fn request(&mut self, now: Timestamp, family: Family) {
        self.requested.insert(family);
        self.ripen(now);
    }

    /// Lets the requests begin whose time has come.
    pub(super) fn ripen(&mut self, now: Timestamp) {
        for family in self.requested.clone() {
            if self.may_begin(family).is_some_and(|at| at <= now) {
                self.requested.remove(&family);
                self.ripe.insert(family);
            }
        }
    }

    /// The family whose answer begins now: all its routes are due.
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<Family> {
        let family = self.ripe.pop_first()?;
        self.requested.remove(&family);
        self.running.insert(family);
        self.begun.insert(family, now);
        self.mark(family, RouteRefreshSubtype::BoRR);
        Some(family)
    }

    /// Nothing is due any more: what runs is complete.
    pub(super) fn finish(&mut self, now: Timestamp) {
        self.open = true;
        while let Some(family) = self.running.pop_first() {
            self.mark(family, RouteRefreshSubtype::EoRR);
        }
        self.ripen(now);
    }

    /// Whether [`Self::begin`] has something.
    pub(super) fn is_ripe(&self) -> bool {
        !self.ripe.is_empty()
    }

    /// The next message to send, before any route.
    pub(super) fn poll_marker(&mut self) -> Option<Vec<u8>> {
        self.markers.pop_front()
    }

    /// When to call [`Self::ripen`].
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.requested.iter().filter_map(|family| self.may_begin(*family)).min()
    }

    fn may_begin(&self, family: Family) -> Option<Timestamp> {
        if !self.open || self.running.contains(&family) {
            return None;
        }
        let last = self.begun.get(&family);
        Some(last.map_or(Timestamp::ZERO, |begun| *begun + REFRESH_INTERVAL))
    }

    fn mark(&mut self, family: Family, subtype: RouteRefreshSubtype) {
        if self.enhanced {
            let mut message = vec![0xff; 16];
            message.extend([0, 23, 5]);
            message.extend(family.afi().to_be_bytes());
            message.extend([subtype.as_u8(), family.safi()]);
            self.markers.push_back(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_nanos(5_000_000_000);
    const FAMILY: Family = Family::Ipv4FlowSpec;

    fn markers(refresh: &mut Refresh) -> Vec<u8> {
        std::iter::from_fn(|| refresh.poll_marker())
            .filter_map(|marker| marker.get(21).copied())
            .collect()
    }

    #[test]
    fn one_answer_runs_and_one_waits() {
        let mut refresh = Refresh::new(true);
        refresh.request(NOW, FAMILY);
        assert_eq!((refresh.begin(NOW), refresh.poll_timeout()), (None, None), "End-of-RIB first");
        refresh.finish(NOW);
        for _ in 0..10_000 {
            refresh.request(NOW, FAMILY);
        }
        assert_eq!(refresh.poll_timeout(), None, "it waits for room, not for time");
        assert_eq!(refresh.begin(NOW), Some(FAMILY));
        for _ in 0..10_000 {
            refresh.request(NOW, FAMILY);
            assert_eq!(refresh.begin(NOW), None);
        }
        assert_eq!(refresh.poll_timeout(), None, "it runs");
        refresh.finish(NOW);
        assert_eq!(refresh.poll_timeout(), Some(NOW + REFRESH_INTERVAL));
        assert_eq!(refresh.begin(NOW), None);
        refresh.ripen(NOW + REFRESH_INTERVAL);
        assert_eq!(refresh.begin(NOW + REFRESH_INTERVAL), Some(FAMILY));
        refresh.finish(NOW + REFRESH_INTERVAL);
        assert_eq!(refresh.poll_timeout(), None);
        assert_eq!(markers(&mut refresh), [1, 2, 1, 2]);
    }

    #[test]
    fn without_the_capability_nothing_is_marked() {
        let mut refresh = Refresh::new(false);
        refresh.finish(NOW);
        refresh.request(NOW, FAMILY);
        assert_eq!(refresh.begin(NOW), Some(FAMILY));
        refresh.finish(NOW);
        assert_eq!(refresh.poll_marker(), None);
    }
}
