//! Judges what a peer announces, and resets the session only where the standards leave no choice
//! (RFC 7606).

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use rustbgpd_wire::constants::attr_type::{MP_REACH_NLRI, MP_UNREACH_NLRI};
use rustbgpd_wire::notification::update_subcode;
use rustbgpd_wire::validate::{UpdateError, validate_update_attributes};
use rustbgpd_wire::{
    AsPathSegment, DecodeError, ErrorDisposition, MpReachNlri, MpUnreachNlri, NotificationCode,
    NotificationMessage, ParsedUpdate, PathAttribute, Safi, UpdateDecodeError, UpdateMessage,
};
use tidegate_model::TrafficFilteringAction;

use super::options::Role;
use crate::convert::received;
use crate::family::Family;
use crate::learnt::{Path, Update};

const AS_TRANS: u32 = 23456;

/// What to do about an UPDATE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Take its routes.
    Fine(Box<Update>),
    /// The same, without the attributes that are discarded; or what there is to take is withdrawn
    /// (RFC 7606 §2).
    Tolerated(Box<Update>),
    /// Reset the session with this NOTIFICATION.
    Reset(NotificationMessage),
}

/// Who sends it, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// Whether AS numbers have four octets.
    pub(crate) four_octet_as: bool,
    pub(crate) local_as: u32,
    pub(crate) peer_as: u32,
    pub(crate) router_id: Ipv4Addr,
    /// What we are to it.
    pub(crate) role: Option<Role>,
}

impl Sender {
    fn is_internal(&self) -> bool {
        self.local_as == self.peer_as
    }

    /// RFC 9234 §5: a route that came down may not come from below, and one between peers not from a
    /// third.
    fn leaks(&self, only_to_customer: Option<u32>) -> bool {
        match (self.role, only_to_customer) {
            (Some(Role::Provider | Role::RouteServer), Some(_)) => true,
            (Some(Role::Peer), Some(asn)) => asn != self.peer_as,
            _ => false,
        }
    }
}

/// Judges `update`.
pub(crate) fn judge(update: &UpdateMessage, sender: &Sender) -> Verdict {
    let internal = sender.is_internal();
    let parsed = match update.parse_revised_observed_with_error_context(
        sender.four_octet_as,
        internal,
        false,
        &[],
    ) {
        Ok((parsed, _)) => parsed,
        Err(error) if disables_a_family(&error) => {
            let update = Update { is_unreadable: true, ..Update::default() };
            return Verdict::Tolerated(Box::new(update));
        }
        Err(error) => {
            let (code, subcode, data) = error.error.to_notification();
            return Verdict::Reset(NotificationMessage::new(code, subcode, data));
        }
    };
    let attributes = &parsed.update.attributes;
    let body = !parsed.update.announced.is_empty();
    let mut read = read(&parsed.update, sender);
    let announced = read.announced_count > 0;
    let mut worst = parsed.malformed.iter().map(|attribute| attribute.disposition).max();
    let mut subcode = update_subcode::MALFORMED_ATTRIBUTE_LIST;
    let mut data = Vec::new();
    if let Err(error) = validate_update_attributes(attributes, announced, body, !internal)
        && let disposition = disposition(&error)
        && worst < Some(disposition)
    {
        worst = Some(disposition);
        subcode = error.subcode;
        data = error.data;
    }
    if worst < Some(ErrorDisposition::TreatAsWithdraw) && announced && read.is_unacceptable {
        worst = Some(ErrorDisposition::TreatAsWithdraw);
    }
    let any = announced || read.withdrawn_count > 0;
    let update = &mut read.update;
    match worst {
        None => Verdict::Fine(Box::new(read.update)),
        Some(ErrorDisposition::AttributeDiscard) => Verdict::Tolerated(Box::new(read.update)),
        // RFC 7606 §5.2: without any NLRI there is nothing to treat as withdrawn.
        Some(ErrorDisposition::TreatAsWithdraw) if any => {
            update.withdrawn.append(&mut update.announced);
            Verdict::Tolerated(Box::new(read.update))
        }
        Some(ErrorDisposition::TreatAsWithdraw | ErrorDisposition::SessionReset) => {
            let code = NotificationCode::UpdateMessage;
            Verdict::Reset(NotificationMessage::new(code, subcode, Bytes::from(data)))
        }
    }
}

struct Read {
    update: Update,
    /// NLRI of the message, those of no interest included.
    announced_count: usize,
    withdrawn_count: usize,
    /// Whether what is announced is to be treated as withdrawn, though each attribute is
    /// well-formed.
    is_unacceptable: bool,
}

fn read(parsed: &ParsedUpdate, sender: &Sender) -> Read {
    let mut update = Update {
        announced: received::classic(&parsed.announced).collect(),
        withdrawn: received::classic(&parsed.withdrawn).collect(),
        path: Path { originator: (sender.peer_as, sender.router_id), ..Path::default() },
        ..Update::default()
    };
    update.path.is_internal = sender.is_internal();
    let mut read = Read {
        announced_count: parsed.announced.len(),
        withdrawn_count: parsed.withdrawn.len(),
        is_unacceptable: false,
        update,
    };
    for attribute in &parsed.attributes {
        read.take(attribute, sender);
    }
    let Read { update, .. } = &mut read;
    update.path.leaks = sender.leaks(update.path.only_to_customer);
    let silent = parsed.announced.is_empty() && parsed.withdrawn.is_empty();
    if silent && parsed.attributes.is_empty() {
        update.end_of_rib = Some(Family::Ipv4Unicast);
    }
    // RFC 4271 §6.3, except behind a route server, which leaves its AS out (RFC 7947 §2.2.2).
    read.is_unacceptable |= !sender.is_internal()
        && sender.role != Some(Role::RouteServerClient)
        && read.update.path.as_path_length > 0
        && read.update.path.neighbor_as != Some(sender.peer_as);
    read
}

impl Read {
    fn take(&mut self, attribute: &PathAttribute, sender: &Sender) {
        use PathAttribute as Attribute;

        let path = &mut self.update.path;
        match attribute {
            Attribute::Origin(origin) => path.origin = *origin as u8,
            Attribute::AsPath(as_path) => {
                path.as_path_length = as_path.len();
                let first = as_path.segments.iter().find_map(|segment| match segment {
                    AsPathSegment::AsSequence(numbers) => numbers.first().copied(),
                    _ => None,
                });
                // RFC 6793 §4.2.2: what stands for it where numbers have two octets.
                let stands_in = first == Some(AS_TRANS) && !sender.four_octet_as;
                path.neighbor_as = if stands_in { Some(sender.peer_as) } else { first };
            }
            Attribute::Med(metric) => path.metric = *metric,
            Attribute::LocalPref(preference) if sender.is_internal() => {
                path.local_preference = *preference;
            }
            Attribute::OriginatorId(id) if sender.is_internal() => {
                path.originator = (sender.local_as, *id);
            }
            Attribute::NextHop(address) => path.next_hop = Some(IpAddr::V4(*address)),
            Attribute::MpReachNlri(reach) => self.reach(reach),
            Attribute::MpUnreachNlri(unreach) => self.unreach(unreach),
            other => {
                path.only_to_customer = path.only_to_customer.or(other.only_to_customer());
                path.actions.extend(received::actions(other));
                tame(&mut path.actions);
                self.is_unacceptable |= received::has_senseless_rate(other);
            }
        }
    }

    fn reach(&mut self, reach: &MpReachNlri) {
        self.announced_count += reach.announced.len() + reach.flowspec_announced.len();
        if let Some(family) = Family::from_codes(reach.afi as u16, reach.safi as u8) {
            let (nlris, unsupported) =
                received::multiprotocol(family, &reach.announced, &reach.flowspec_announced);
            self.update.announced.extend(nlris);
            self.update.unsupported += unsupported;
            if reach.safi == Safi::Unicast {
                self.update.path.next_hop = Some(reach.next_hop);
            }
        }
    }

    fn unreach(&mut self, unreach: &MpUnreachNlri) {
        let count = unreach.withdrawn.len() + unreach.flowspec_withdrawn.len();
        self.withdrawn_count += count;
        if let Some(family) = Family::from_codes(unreach.afi as u16, unreach.safi as u8) {
            let (nlris, _) =
                received::multiprotocol(family, &unreach.withdrawn, &unreach.flowspec_withdrawn);
            self.update.withdrawn.extend(nlris);
            if count == 0 {
                self.update.end_of_rib = Some(family);
            }
        }
    }
}

/// Rates below zero count as zero.
fn tame(actions: &mut [TrafficFilteringAction]) {
    for action in actions {
        if let TrafficFilteringAction::RateLimitBytes(rate)
        | TrafficFilteringAction::RateLimitPackets(rate) = action
        {
            *rate = rate.max(0.0);
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
/// leaves the choice to ignore the routes of that family instead of a reset, which would take our own
/// routes down. Only an attribute that stands twice must reset (RFC 7606 §3 g).
fn disables_a_family(error: &UpdateDecodeError) -> bool {
    let multiprotocol = matches!(error.type_code, Some(MP_REACH_NLRI | MP_UNREACH_NLRI));
    let duplicate = matches!(
        error.error,
        DecodeError::UpdateAttributeError { subcode: update_subcode::MALFORMED_ATTRIBUTE_LIST, .. }
    );
    multiprotocol && !duplicate
}
