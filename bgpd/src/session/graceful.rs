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

use super::config::{SessionConfig, codec_family};
use crate::family::Family;

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
