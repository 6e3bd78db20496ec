//! Judges what a peer announces. tidegate wants no routes: it counts them, drops them, and resets
//! the session only where the standards leave no choice (RFC 7606).

use bytes::Bytes;
use rustbgpd_wire::constants::attr_type::{MP_REACH_NLRI, MP_UNREACH_NLRI};
use rustbgpd_wire::notification::update_subcode;
use rustbgpd_wire::validate::{UpdateError, validate_update_attributes};
use rustbgpd_wire::{
    DecodeError, ErrorDisposition, NotificationCode, NotificationMessage, PathAttribute,
    UpdateDecodeError, UpdateMessage,
};

/// What to do about an UPDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Count its routes.
    Fine {
        /// Routes announced.
        announced: usize,
        /// Routes withdrawn.
        withdrawn: usize,
    },
    /// Attribute discard or treat-as-withdraw (RFC 7606 §2): as nothing is kept, both mean to go on.
    Tolerated,
    /// Reset the session with this NOTIFICATION.
    Reset(NotificationMessage),
}

/// Judges `update`, received in a session whose AS numbers take four octets or not.
pub(crate) fn judge(update: &UpdateMessage, four_octet_as: bool, internal: bool) -> Verdict {
    let parsed =
        match update.parse_revised_observed_with_error_context(four_octet_as, internal, false, &[])
        {
            Ok((parsed, _)) => parsed,
            Err(error) if disables_a_family(&error) => return Verdict::Tolerated,
            Err(error) => {
                let (code, subcode, data) = error.error.to_notification();
                return Verdict::Reset(NotificationMessage::new(code, subcode, data));
            }
        };
    let attributes = &parsed.update.attributes;
    let (mp_announced, mp_withdrawn) = count_multiprotocol(attributes);
    let announced = parsed.update.announced.len() + mp_announced;
    let withdrawn = parsed.update.withdrawn.len() + mp_withdrawn;
    let body = !parsed.update.announced.is_empty();
    let mut worst = parsed.malformed.iter().map(|attribute| attribute.disposition).max();
    let mut subcode = update_subcode::MALFORMED_ATTRIBUTE_LIST;
    let mut data = Vec::new();
    if let Err(error) = validate_update_attributes(attributes, announced > 0, body, !internal)
        && let disposition = disposition(&error)
        && worst < Some(disposition)
    {
        worst = Some(disposition);
        subcode = error.subcode;
        data = error.data;
    }
    match worst {
        None => Verdict::Fine { announced, withdrawn },
        Some(ErrorDisposition::AttributeDiscard) => Verdict::Tolerated,
        // RFC 7606 §5.2: without any NLRI there is nothing to treat as withdrawn.
        Some(ErrorDisposition::TreatAsWithdraw) if announced + withdrawn > 0 => Verdict::Tolerated,
        Some(ErrorDisposition::TreatAsWithdraw | ErrorDisposition::SessionReset) => {
            let code = NotificationCode::UpdateMessage;
            Verdict::Reset(NotificationMessage::new(code, subcode, Bytes::from(data)))
        }
    }
}

/// What `error` leads to. An unknown attribute that claims to be well-known resets the session
/// (RFC 4271 §6.3): RFC 7606 has no other answer to it.
fn disposition(error: &UpdateError) -> ErrorDisposition {
    match error.subcode {
        update_subcode::UNRECOGNIZED_WELLKNOWN => ErrorDisposition::SessionReset,
        _ => error.disposition,
    }
}

/// Whether `error` is a malformed or unknown MP_REACH_NLRI or MP_UNREACH_NLRI. RFC 7606 §7.11
/// leaves the choice to ignore the rest of that family instead of a reset. Everything of every
/// family is ignored here anyway, and a reset would take our own routes down. Only an attribute that
/// stands twice must reset (RFC 7606 §3 g).
fn disables_a_family(error: &UpdateDecodeError) -> bool {
    let multiprotocol = matches!(error.type_code, Some(MP_REACH_NLRI | MP_UNREACH_NLRI));
    let duplicate = matches!(
        error.error,
        DecodeError::UpdateAttributeError { subcode: update_subcode::MALFORMED_ATTRIBUTE_LIST, .. }
    );
    multiprotocol && !duplicate
}

/// How many routes MP_REACH_NLRI announces and MP_UNREACH_NLRI withdraws (RFC 4760), in the
/// families that are spoken here.
fn count_multiprotocol(attributes: &[PathAttribute]) -> (usize, usize) {
    let (mut announced, mut withdrawn) = (0, 0);
    for attribute in attributes {
        match attribute {
            PathAttribute::MpReachNlri(reach) => {
                announced += reach.announced.len() + reach.flowspec_announced.len();
            }
            PathAttribute::MpUnreachNlri(unreach) => {
                withdrawn += unreach.withdrawn.len() + unreach.flowspec_withdrawn.len();
            }
            _ => {}
        }
    }
    (announced, withdrawn)
}
