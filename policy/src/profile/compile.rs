//! Rules in the form that one receiver takes.
//!
//! What can be said otherwise is: comparisons and bit tests are rewritten, long lists of values are
//! spread over several rules. All rules together then match exactly the same packets. What cannot
//! be said at all is left out if widening is allowed, and reported as a [`Loss`]; the guard has to
//! judge the outcome like any other rule.

use tidegate_model::{
    BitmaskMatch, ComponentValue, FlowSpecComponent, FlowSpecRule, NumericMatch, Prefix,
    TrafficFilteringAction,
};

use super::mask::{self, Rewritten};
use super::{ActionKind, Component, FlowSpecProfile, Lengths, Widen, numeric};
use crate::guard;

/// Most rules that the rules of one attack become for one peer.
pub const MAX_COMPILED: usize = 32;

const TCP: u64 = 6;

/// Rules that a receiver takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// Each once, at most [`MAX_COMPILED`].
    pub rules: Vec<FlowSpecRule>,
    /// What is done with the packets that match.
    pub action: TrafficFilteringAction,
    /// What the rules do not say any more, each once; empty if they match what was asked for.
    pub losses: Vec<Loss>,
}

/// Something that a receiver's rules do not say any more.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Loss {
    /// A component is not there.
    #[error("wider, without `{component}`")]
    Without {
        /// The component.
        component: &'static str,
    },
    /// Some bits of a component are not tested.
    #[error("wider, with fewer bits of `{component}`")]
    FewerBits {
        /// The component.
        component: &'static str,
    },
    /// Everything is dropped where a part was to pass.
    #[error("discard in place of {asked}")]
    Discard {
        /// What was asked for.
        asked: TrafficFilteringAction,
    },
}

/// Why a receiver cannot be given a mitigation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotAccepted {
    /// A prefix of a length that it does not accept.
    #[error(
        "takes no /{} but only /{} to /{}", .destination.length(), .lengths.shortest,
        .lengths.longest
    )]
    Length {
        /// The prefix.
        destination: Prefix,
        /// What it accepts.
        lengths: Lengths,
    },
    /// A component that it does not honour.
    #[error(
        "does not honour `{component}`, and `widen` of the response does not allow to leave it out"
    )]
    Component {
        /// The component.
        component: &'static str,
    },
    /// Values that cannot be put in comparisons, forms or bits that it honours.
    #[error(
        "does not honour such values of `{component}`, and `widen` of the response does not allow to leave them out"
    )]
    Values {
        /// The component.
        component: &'static str,
    },
    /// An action that it does not honour.
    #[error("does not honour {action}")]
    Action {
        /// The action.
        action: TrafficFilteringAction,
    },
    /// Without what it does not honour, the rule would cut off the target.
    #[error(
        "honours too little of the rule: what is left would match nearly everything to {destination}"
    )]
    TooWide {
        /// The target.
        destination: Prefix,
    },
    /// A rule that is too long however it is split.
    #[error("takes rules of {most} octets, and the shortest that says this has more")]
    TooLong {
        /// The most that it takes.
        most: usize,
    },
    /// The rules would be too many.
    #[error("would need more than {MAX_COMPILED} rules for this attack")]
    TooMany,
}

/// `rules` with `action` in the form that `profile` takes. Without losses, they match exactly the
/// packets that `rules` match.
///
/// # Errors
/// [`NotAccepted`] if one of the rules, or the action, cannot be had from it.
pub fn compile(
    profile: &FlowSpecProfile,
    rules: &[FlowSpecRule],
    action: TrafficFilteringAction,
    widen: Widen,
) -> Result<Compiled, NotAccepted> {
    let mut losses = Vec::new();
    let action = honoured_action(profile, action, widen, &mut losses)?;
    let mut compiled = Vec::new();
    for rule in rules {
        for part in compile_rule(profile, rule, widen, &mut losses)? {
            if !compiled.contains(&part) {
                compiled.push(part);
            }
        }
        if compiled.len() > MAX_COMPILED {
            return Err(NotAccepted::TooMany);
        }
    }
    let mut distinct: Vec<Loss> = Vec::new();
    losses.into_iter().for_each(|loss| {
        if !distinct.contains(&loss) {
            distinct.push(loss);
        }
    });
    Ok(Compiled { rules: compiled, action, losses: distinct })
}

/// Whether `profile` takes `rule` with `actions` as it stands.
#[must_use]
pub fn takes(
    profile: &FlowSpecProfile,
    rule: &FlowSpecRule,
    actions: &[TrafficFilteringAction],
) -> bool {
    let same = |compiled: &[FlowSpecRule]| compiled == std::slice::from_ref(rule);
    actions.iter().all(|action| profile.actions.contains(&ActionKind::of(action)))
        && compile_rule(profile, rule, Widen::Never, &mut Vec::new())
            .is_ok_and(|compiled| same(&compiled))
}

fn honoured_action(
    profile: &FlowSpecProfile,
    action: TrafficFilteringAction,
    widen: Widen,
    losses: &mut Vec<Loss>,
) -> Result<TrafficFilteringAction, NotAccepted> {
    let kind = ActionKind::of(&action);
    if profile.actions.contains(&kind) {
        return Ok(action);
    }
    let limit = matches!(kind, ActionKind::RateLimitBytes | ActionKind::RateLimitPackets);
    if limit && widen == Widen::Allow && profile.actions.contains(&ActionKind::Discard) {
        losses.push(Loss::Discard { asked: action });
        return Ok(TrafficFilteringAction::DISCARD);
    }
    Err(NotAccepted::Action { action })
}

fn compile_rule(
    profile: &FlowSpecProfile,
    rule: &FlowSpecRule,
    widen: Widen,
    losses: &mut Vec<Loss>,
) -> Result<Vec<FlowSpecRule>, NotAccepted> {
    let mut components: Vec<FlowSpecComponent> = Vec::new();
    let before = losses.len();
    for component in rule.components() {
        match put(profile, rule, component)? {
            Put::Whole(component) => components.push(component),
            Put::Wider(component, _) if widen == Widen::Allow => {
                losses.push(Loss::FewerBits { component: component.name() });
                components.push(component);
            }
            Put::Not(_) if widen == Widen::Allow => {
                losses.push(Loss::Without { component: component.name() });
            }
            Put::Wider(_, why) | Put::Not(why) => return Err(why),
        }
    }
    if losses.len() > before
        && let Some(destination) = rule.destination()
        && cuts_off(&components)
    {
        return Err(NotAccepted::TooWide { destination });
    }
    split(profile, rule, &components)
}

/// Whether nothing but the destination, or TCP as a whole, is left: the target's whole business.
fn cuts_off(components: &[FlowSpecComponent]) -> bool {
    components.iter().all(|component| match component {
        FlowSpecComponent::DestinationPrefix(_) => true,
        FlowSpecComponent::IpProtocol(numeric) => numeric.matches(TCP),
        _ => false,
    })
}

/// A component as a receiver takes it.
enum Put {
    /// It matches the same.
    Whole(FlowSpecComponent),
    /// It matches more, and why it cannot match the same.
    Wider(FlowSpecComponent, NotAccepted),
    /// It cannot be had.
    Not(NotAccepted),
}

fn put(
    profile: &FlowSpecProfile,
    rule: &FlowSpecRule,
    component: &FlowSpecComponent,
) -> Result<Put, NotAccepted> {
    let family = rule.family();
    let name = component.name();
    let honoured = profile.components(family).contains(&Component::of(component));
    if let FlowSpecComponent::DestinationPrefix(destination) = component {
        let lengths = profile.lengths(family);
        if !lengths.contain(destination.length()) {
            return Err(NotAccepted::Length { destination: *destination, lengths });
        }
        // Without it the rule would be for everybody.
        if !honoured {
            return Err(NotAccepted::TooWide { destination: *destination });
        }
    }
    if !honoured {
        return Ok(Put::Not(NotAccepted::Component { component: name }));
    }
    let values = || NotAccepted::Values { component: name };
    if let Some((numeric, bounds)) = guard::numeric_part(component, family) {
        let rewritten = numeric::rewrite(numeric, bounds.high(), &profile.operators)
            .filter(|numeric| fits(profile, numeric.groups()));
        let rewritten = rewritten.and_then(|numeric| with_numeric(component, numeric));
        return Ok(rewritten.map_or_else(|| Put::Not(values()), Put::Whole));
    }
    let (mask, bits) = match component {
        FlowSpecComponent::TcpFlags(mask) => (mask, profile.tcp_flags),
        FlowSpecComponent::Fragment(mask) => (mask, profile.fragment_bits),
        _ => return Ok(Put::Whole(component.clone())),
    };
    Ok(match mask::rewrite(mask, bits, &profile.bitmasks) {
        Rewritten::Exact(mask) if fits(profile, mask.groups()) => {
            Put::Whole(with_mask(component, mask))
        }
        Rewritten::Wider(mask) if fits(profile, mask.groups()) => {
            Put::Wider(with_mask(component, mask), values())
        }
        _ => Put::Not(values()),
    })
}

/// Whether every group can stand in a rule: a group is not split.
fn fits<T>(profile: &FlowSpecProfile, groups: &[Vec<T>]) -> bool {
    groups.iter().all(|group| group.len() <= profile.max_values)
}

/// The rules that together match what `components` match.
fn split(
    profile: &FlowSpecProfile,
    rule: &FlowSpecRule,
    components: &[FlowSpecComponent],
) -> Result<Vec<FlowSpecRule>, NotAccepted> {
    let too_long = NotAccepted::TooLong { most: profile.max_octets };
    let mut most = profile.max_values;
    loop {
        let pieces: Vec<Vec<FlowSpecComponent>> =
            components.iter().map(|component| pieces(component, most)).collect();
        let count = pieces.iter().fold(1_usize, |count, each| count.saturating_mul(each.len()));
        if count > MAX_COMPILED {
            return Err(if most < profile.max_values { too_long } else { NotAccepted::TooMany });
        }
        let mut combined: Vec<Vec<FlowSpecComponent>> = vec![Vec::new()];
        for choices in &pieces {
            combined = combined
                .iter()
                .flat_map(|so_far| {
                    choices
                        .iter()
                        .map(|choice| [so_far.as_slice(), std::slice::from_ref(choice)].concat())
                })
                .collect();
        }
        let rules: Vec<FlowSpecRule> = combined
            .into_iter()
            .filter_map(|components| FlowSpecRule::new(rule.family(), components).ok())
            .collect();
        if rules.iter().all(|rule| guard::encoded_octets(rule) <= profile.max_octets) {
            return Ok(rules);
        }
        if most == 1 {
            return Err(too_long);
        }
        // Fewer values in each rule make shorter rules; half of what there is, or nothing changes.
        let longest = rules.iter().flat_map(FlowSpecRule::components).map(values).max();
        most = (longest.unwrap_or(most).min(most) / 2).max(1);
    }
}

fn values(component: &FlowSpecComponent) -> usize {
    match component.value() {
        ComponentValue::Prefix(_) => 0,
        ComponentValue::Bitmask(mask) => mask.groups().iter().flatten().count(),
        ComponentValue::Numeric(numeric) => numeric.groups().iter().flatten().count(),
    }
}

/// `component` spread over several of at most `most` values each, as far as its groups can be kept
/// whole; any of them matches what it matches.
fn pieces(component: &FlowSpecComponent, most: usize) -> Vec<FlowSpecComponent> {
    let whole = || vec![component.clone()];
    if values(component) <= most {
        return whole();
    }
    let pieces: Vec<FlowSpecComponent> = match component {
        FlowSpecComponent::TcpFlags(mask) | FlowSpecComponent::Fragment(mask) => {
            let chunks = chunks(mask.groups(), most).into_iter();
            let masks = chunks.filter_map(|groups| BitmaskMatch::new(groups).ok());
            masks.map(|mask| with_mask(component, mask)).collect()
        }
        _ => {
            let chunks = guard::numeric_part(component, tidegate_model::AddressFamily::Ipv6)
                .map(|(numeric, _)| chunks(numeric.groups(), most))
                .unwrap_or_default();
            let numerics = chunks.into_iter().filter_map(|groups| NumericMatch::new(groups).ok());
            numerics.filter_map(|numeric| with_numeric(component, numeric)).collect()
        }
    };
    if pieces.is_empty() { whole() } else { pieces }
}

/// `groups` in order, as many in each chunk as make no more than `most` tests.
fn chunks<T: Clone>(groups: &[Vec<T>], most: usize) -> Vec<Vec<Vec<T>>> {
    let mut chunks: Vec<Vec<Vec<T>>> = Vec::new();
    let mut used = 0;
    for group in groups {
        match chunks.last_mut() {
            Some(chunk) if used + group.len() <= most => chunk.push(group.clone()),
            _ => {
                used = 0;
                chunks.push(vec![group.clone()]);
            }
        }
        used += group.len();
    }
    chunks
}

fn with_mask(component: &FlowSpecComponent, mask: BitmaskMatch) -> FlowSpecComponent {
    match component {
        FlowSpecComponent::Fragment(_) => FlowSpecComponent::Fragment(mask),
        _ => FlowSpecComponent::TcpFlags(mask),
    }
}

/// `None` if the component is not numeric.
fn with_numeric(component: &FlowSpecComponent, numeric: NumericMatch) -> Option<FlowSpecComponent> {
    Some(match component {
        FlowSpecComponent::IpProtocol(_) => FlowSpecComponent::IpProtocol(numeric),
        FlowSpecComponent::Port(_) => FlowSpecComponent::Port(numeric),
        FlowSpecComponent::DestinationPort(_) => FlowSpecComponent::DestinationPort(numeric),
        FlowSpecComponent::SourcePort(_) => FlowSpecComponent::SourcePort(numeric),
        FlowSpecComponent::IcmpType(_) => FlowSpecComponent::IcmpType(numeric),
        FlowSpecComponent::IcmpCode(_) => FlowSpecComponent::IcmpCode(numeric),
        FlowSpecComponent::PacketLength(_) => FlowSpecComponent::PacketLength(numeric),
        FlowSpecComponent::Dscp(_) => FlowSpecComponent::Dscp(numeric),
        FlowSpecComponent::FlowLabel(_) => FlowSpecComponent::FlowLabel(numeric),
        FlowSpecComponent::DestinationPrefix(_)
        | FlowSpecComponent::SourcePrefix(_)
        | FlowSpecComponent::TcpFlags(_)
        | FlowSpecComponent::Fragment(_) => return None,
    })
}
