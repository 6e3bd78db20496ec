//! Graceful Restart (RFC 4724, RFC 8538) and its long-lived form (RFC 9494).
//!
//! A peer that keeps routes of a speaker that is gone keeps blackholes that nobody can lift. So
//! nothing is offered unless it is asked for, LLGR never, and every announcement carries NO_LLGR
//! (RFC 9494 §4.2): a peer that has it of others would keep routes for days.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rustbgpd_fsm::NegotiatedSession;
use rustbgpd_wire::notification::{cease_subcode, encode_shutdown_communication};
use rustbgpd_wire::{Capability, GracefulRestartFamily, NotificationCode, NotificationMessage};
use tidegate_model::Timestamp;

use super::config::{SessionConfig, codec_family};
use super::connection::Origin;
use super::{Session, SessionError, SessionEvent, Up};
use crate::family::Family;
use crate::learnt::{News, Update};

/// The longest time that a peer is asked to keep our routes.
pub const MAX_RESTART_TIME: Duration = Duration::from_secs(5);
/// The longest time that a peer's routes are kept while it restarts, whatever it asks for.
pub const MAX_HELPER_TIME: Duration = Duration::from_secs(120);

/// What is offered to the peer about restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GracefulRestart {
    /// Nothing. Each side drops the other's routes with the session.
    #[default]
    Off,
    /// The peer's routes are kept while it restarts, for as long as it asks for and
    /// [`MAX_HELPER_TIME`] at most. Ours it drops with the session.
    Helper,
    /// The same, and the peer is asked to keep ours for this long, in whole seconds and
    /// [`MAX_RESTART_TIME`] at most. Withdrawn meanwhile, a route is gone when the session is back,
    /// or after that time.
    Restarting(Duration),
}

/// What a peer offered about restarts (RFC 4724 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRestart {
    /// How long it asks to keep its routes.
    pub time: Duration,
    /// Families whose routes it asks to keep, and whether it has kept its own state of each.
    pub families: BTreeSet<(Family, bool)>,
    /// Whether it says that it has restarted.
    pub restarted: bool,
    /// Whether a NOTIFICATION is no reason to drop routes for it, except Hard Reset (RFC 8538).
    pub notification: bool,
}

/// The capability that an OPEN offers. `replayed`: the Adj-RIB-Out is complete, so that what a
/// peer has kept of us can be taken for true until it hears otherwise. `first`: no session has been
/// up before.
pub(super) fn capability(
    config: &SessionConfig,
    replayed: bool,
    first: bool,
) -> Option<Capability> {
    let (time, families) = match config.options.graceful_restart {
        GracefulRestart::Off => return None,
        // Without families nothing of ours is to be kept, and End-of-RIB is understood.
        GracefulRestart::Helper => (Duration::ZERO, Vec::new()),
        GracefulRestart::Restarting(time) => {
            let family = |family: &Family| {
                let (afi, safi) = codec_family(*family);
                GracefulRestartFamily { afi, safi, forwarding_preserved: replayed }
            };
            (time.min(MAX_RESTART_TIME), config.families.iter().map(family).collect())
        }
    };
    let keeps = !families.is_empty();
    Some(Capability::GracefulRestart {
        restart_state: keeps && replayed && first,
        notification: keeps,
        restart_time: u16::try_from(time.as_secs()).unwrap_or_default(),
        families,
    })
}

/// What the peer offered, and whether it has Long-Lived Graceful Restart.
pub(super) fn of_peer(session: &NegotiatedSession) -> (Option<PeerRestart>, bool) {
    let mut restart = None;
    let mut long_lived = false;
    for capability in &session.peer_capabilities {
        match capability {
            Capability::GracefulRestart { restart_state, notification, restart_time, families } => {
                let families = families.iter().filter_map(|family| {
                    let known = Family::from_codes(family.afi as u16, family.safi as u8)?;
                    Some((known, family.forwarding_preserved))
                });
                restart = Some(PeerRestart {
                    time: Duration::from_secs(u64::from(*restart_time)),
                    families: families.collect(),
                    restarted: *restart_state,
                    notification: *notification,
                });
            }
            Capability::LongLivedGracefulRestart(_) => long_lived = true,
            _ => {}
        }
    }
    (restart, long_lived)
}

/// Cease, Administrative Shutdown with `text` (RFC 9003). `hard`: within a Hard Reset, which makes
/// a peer drop routes that it would keep after any other NOTIFICATION (RFC 8538 §3).
pub(super) fn shutdown(text: &str, hard: bool) -> NotificationMessage {
    let shutdown = cease_subcode::ADMINISTRATIVE_SHUTDOWN;
    let communication = encode_shutdown_communication(text);
    let code = NotificationCode::Cease;
    if !hard {
        return NotificationMessage::new(code, shutdown, communication);
    }
    let data = [&[code.as_u8(), shutdown][..], &communication].concat();
    NotificationMessage::new(code, cease_subcode::HARD_RESET, Bytes::from(data))
}

/// How a session ended, for the routes of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The connection was lost (RFC 4724 §4.2).
    Lost,
    /// A NOTIFICATION, of either side, that is no reason to drop routes under the N bit (RFC 8538
    /// §4).
    Notified,
    /// Hard Reset, or an end of our own choice.
    Final,
}

pub(super) fn ending(error: Option<&(Origin, SessionError)>) -> Ending {
    const CEASE: u8 = 6;
    const HOLD_TIMER: u8 = 4;

    match error {
        None => Ending::Lost,
        Some((Origin::Peers, error)) => match (error.code, error.subcode) {
            (CEASE, cease_subcode::HARD_RESET) => Ending::Final,
            _ => Ending::Notified,
        },
        Some((Origin::Ours, error)) if error.code == HOLD_TIMER => Ending::Notified,
        Some((Origin::Ours, _)) => Ending::Final,
    }
}

/// Routes of the peer are kept though its session is gone.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Until then at most.
    pub(super) until: Timestamp,
    families: BTreeSet<Family>,
}

impl Session {
    /// Something is learnt of the peer's routes, as far as they are of a family that both sides have.
    pub(super) fn learn(&mut self, mut update: Box<Update>) {
        let Some(up) = &self.up else { return };
        let families = &up.negotiated.families;
        update.announced.retain(|nlri| families.contains(&Family::of(nlri)));
        update.withdrawn.retain(|nlri| families.contains(&Family::of(nlri)));
        if let Some(family) = update.end_of_rib {
            let complete = self.waiting.as_mut().is_some_and(|waiting| {
                waiting.families.remove(&family);
                waiting.families.is_empty()
            });
            if complete {
                self.waiting = None;
            }
        }
        self.events.push_back(SessionEvent::Learnt(News::Update(update)));
    }

    /// The session is lost: so are the peer's routes, unless it asks to wait for it.
    pub(super) fn lose_learnt(&mut self, now: Timestamp, up: &Up, ending: Ending) {
        let offered = self.config.options.graceful_restart;
        let ours_n = matches!(offered, GracefulRestart::Restarting(_));
        let restart = up.negotiated.restart.as_ref().filter(|restart| match ending {
            Ending::Lost => true,
            Ending::Notified => ours_n && restart.notification,
            Ending::Final => false,
        });
        let restart = restart.filter(|_| offered != GracefulRestart::Off);
        let asked = restart.into_iter().flat_map(|restart| &restart.families);
        let negotiated = &up.negotiated.families;
        let families: BTreeSet<Family> =
            asked.map(|(family, _)| *family).filter(|one| negotiated.contains(one)).collect();
        let (Some(restart), false) = (restart, families.is_empty()) else {
            self.waiting = None;
            self.events.push_back(SessionEvent::Learnt(News::Lost));
            return;
        };
        let until = now + restart.time.min(MAX_HELPER_TIME);
        self.waiting = Some(Waiting { until, families: families.clone() });
        self.events.push_back(SessionEvent::Learnt(News::Restarting(families)));
    }

    /// The session is back. Of what was kept for it, only that stays of which the peer has kept its
    /// own state, until End-of-RIB (RFC 4724 §4.2).
    pub(super) fn resume_learnt(&mut self, now: Timestamp) {
        let restart = self.up.as_ref().and_then(|up| up.negotiated.restart.as_ref());
        let preserved = restart.into_iter().flat_map(|restart| &restart.families);
        let preserved = preserved.filter(|(_, forwarding)| *forwarding).map(|(family, _)| *family);
        let kept: BTreeSet<Family> = match self.waiting.take() {
            Some(waiting) => preserved.filter(|one| waiting.families.contains(one)).collect(),
            None => BTreeSet::new(),
        };
        if !kept.is_empty() {
            self.waiting = Some(Waiting { until: now + MAX_HELPER_TIME, families: kept.clone() });
        }
        self.events.push_back(SessionEvent::Learnt(News::Back(kept)));
    }
}
