//! How far each route is, on the session as it is now.

use tidegate_model::{Nlri, Route};

use super::AdjRibOut;

/// How far a route is on its way to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// Not handed out since the session came up, or there is no session.
    Due,
    /// Handed out, and due once more: the attributes have changed, or the peer has asked for it.
    DueAgain,
    /// Handed out as it is wanted.
    HandedOut,
}

impl AdjRibOut {
    /// The wanted routes, in order of their NLRI, each with how far it is.
    pub fn progress(&self) -> impl Iterator<Item = (&Route, Progress)> {
        self.routes.iter().map(|(nlri, entry)| {
            let progress = match (self.announces.contains_key(nlri), entry.sent) {
                (true, false) => Progress::Due,
                (true, true) => Progress::DueAgain,
                (false, _) => Progress::HandedOut,
            };
            (&*entry.route, progress)
        })
    }

    /// What the peer holds and should not, and has not been told yet. In order.
    pub fn due_withdraws(&self) -> impl Iterator<Item = &Nlri> {
        self.withdraws.keys()
    }
}
