//! Rules at the limits of a daemon's profiles, and beyond: compiled, announced, and looked for at
//! the daemon and at the third router behind it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_bgpd::convert::encode_nlri;
use tidegate_model::{
    AddressFamily, BitmaskMatch, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch,
    NumericOperator, NumericTest, Prefix, TrafficFilteringAction,
};
use tidegate_policy::Widen;
use tidegate_policy::profile::{ActionKind, FlowSpecProfile, NotAccepted, builtin, compile};

use super::InteropError;
use super::bench::{Bench, wait};
use super::peer::ThirdRouter;
use super::route::{self, CUT_OFF, Held, Kind};

const UDP: u64 = 17;
const TCP: u64 = 6;
const SYN: u16 = 0x02;
const ACK: u16 = 0x10;
const FIRST_FRAGMENT: u16 = 4;
/// Every other port from here on, so that no two of them are neighbours.
const PORTS_FROM: u64 = 40_001;
/// Most values that are tried in one component: what is beyond comes from splitting.
const MOST_VALUES: usize = 64;

fn answer(error: impl ToString) -> InteropError {
    InteropError::Answer(error.to_string())
}

fn ports(count: usize) -> NumericMatch {
    let ports = (0..count as u64).map(|index| PORTS_FROM + 2 * index);
    NumericMatch::one_of(PORTS_FROM, ports.skip(1))
}

fn not(value: u64) -> Result<NumericMatch, InteropError> {
    let test = NumericTest { operator: NumericOperator::NotEqual, value };
    NumericMatch::new(vec![vec![test]]).map_err(answer)
}

/// Rules that make use of what the profile accepts, and of more than one rule can say to it.
fn intents(
    profile: &FlowSpecProfile,
    destination: Prefix,
    source: Prefix,
) -> Result<Vec<FlowSpecRule>, InteropError> {
    use FlowSpecComponent as C;
    let most = profile.max_values.min(MOST_VALUES);
    let protocol = |number| C::IpProtocol(NumericMatch::equal(number));
    let all: Vec<Vec<C>> = vec![
        vec![protocol(UDP), C::SourcePort(ports(most))],
        vec![protocol(UDP), C::DestinationPort(ports(2 * most + 1))],
        vec![protocol(TCP), C::DestinationPort(not(80)?)],
        vec![
            protocol(UDP),
            C::PacketLength(NumericMatch::range(100, 200)),
            C::Dscp(NumericMatch::one_of(10, [46])),
        ],
        vec![C::SourcePrefix(source), protocol(UDP), C::Port(NumericMatch::range(1000, 2000))],
        vec![protocol(TCP), C::TcpFlags(BitmaskMatch::set_and_clear(SYN, ACK))],
        vec![protocol(UDP), C::Fragment(BitmaskMatch::all_of(FIRST_FRAGMENT))],
    ];
    all.into_iter()
        .map(|mut components| {
            components.insert(0, C::DestinationPrefix(destination));
            FlowSpecRule::new(destination.family(), components).map_err(answer)
        })
        .collect()
}

/// What the profile must refuse, and put otherwise, before anything is sent.
fn check_refusals(
    profile: &FlowSpecProfile,
    destination: Prefix,
    rule: &FlowSpecRule,
) -> Result<(), InteropError> {
    let limit = TrafficFilteringAction::RateLimitBytes(125_000.0);
    let limited = compile(profile, std::slice::from_ref(rule), limit, Widen::Never);
    let refused = matches!(limited, Err(NotAccepted::Action { .. }));
    if refused == profile.actions.contains(&ActionKind::RateLimitBytes) {
        return Err(answer("a rate limit is refused where it is honoured, or the reverse"));
    }
    let wide = Prefix::new(destination.address(), 8).ok_or_else(|| answer("no /8"))?;
    let components = vec![FlowSpecComponent::DestinationPrefix(wide)];
    let wide = FlowSpecRule::new(destination.family(), components).map_err(answer)?;
    match compile(profile, &[wide], TrafficFilteringAction::DISCARD, Widen::Never) {
        Err(NotAccepted::Length { .. }) => Ok(()),
        other => Err(answer(format!("a /8 becomes {other:?}"))),
    }
}

/// Everything for one profile, as the texts that our side reads.
fn texts(profile: &FlowSpecProfile, family: AddressFamily) -> Result<Vec<String>, InteropError> {
    let (destination, source) = match family {
        AddressFamily::Ipv4 => ("203.0.113.9/32", "198.51.100.0/24"),
        AddressFamily::Ipv6 => ("2001:db8:1::9/128", "2001:db8:2::/48"),
    };
    let destination: Prefix = destination.parse().map_err(answer)?;
    let intents = intents(profile, destination, source.parse().map_err(answer)?)?;
    intents.iter().take(1).try_for_each(|rule| check_refusals(profile, destination, rule))?;
    let limit = TrafficFilteringAction::RateLimitBytes(125_000.0);
    let limits = profile.actions.contains(&ActionKind::RateLimitBytes);
    let mut texts = Vec::new();
    for (number, rule) in intents.iter().enumerate() {
        let action =
            if limits && number % 2 == 1 { limit } else { TrafficFilteringAction::DISCARD };
        let compiled = compile(profile, std::slice::from_ref(rule), action, Widen::Never);
        let compiled = compiled.map_err(answer)?;
        if number == 1 && compiled.rules.len() < 2 {
            return Err(answer(format!("{rule} is not split")));
        }
        for rule in compiled.rules {
            if rule.to_string().contains("!=") {
                return Err(answer(format!("{rule} has a `!=`")));
            }
            let octets = encode_nlri(&Nlri::FlowSpec(rule)).map_err(answer)?;
            let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            let rate = if action == limit { 125_000 } else { 0 };
            texts.push(format!("rule {family} {hex} rate {rate}"));
        }
    }
    Ok(texts)
}

/// Announces all rules of each of these profiles; fails unless the peer, and the third router if
/// there is one, hold exactly them and the session never goes down.
pub(super) fn check(bench: &mut Bench, names: &[&str]) -> Result<(), InteropError> {
    for name in names {
        let profile = builtin().get(*name).ok_or_else(|| answer(format!("no profile {name}")))?;
        check_one(bench, &profile.flowspec)
            .map_err(|error| answer(format!("profile {name}: {error}")))?;
    }
    Ok(())
}

fn check_one(bench: &mut Bench, profile: &FlowSpecProfile) -> Result<(), InteropError> {
    let texts = texts(profile, bench.family())?;
    let before = bench.ours()?.status()?.established;
    for text in &texts {
        bench.ours()?.announce(text)?;
    }
    let routes = texts.iter().map(|text| route::parse(text));
    let wanted = routes.map(|route| Ok(Outline::of(&Held::of(&route.map_err(answer)?))));
    let wanted = sorted(wanted.collect::<Result<_, InteropError>>()?);
    expect(bench, &wanted)?;
    for text in &texts {
        bench.ours()?.withdraw(text)?;
    }
    expect(bench, &[])?;
    let status = bench.ours()?.status()?;
    if status.established == before && status.state == "Established" {
        return Ok(());
    }
    Err(answer(format!("the session went down: {}", status.trouble)))
}

fn expect(bench: &mut Bench, wanted: &[Outline]) -> Result<(), InteropError> {
    wait(|| {
        let status = bench.ours()?.status()?;
        let held = bench.router()?.held()?.into_iter();
        let held = held.filter(|held| held.kind == Kind::FlowSpec);
        let held = sorted(held.map(|held| Outline::of(&held)).collect());
        let third = bench.third.as_mut().map(ThirdRouter::held).transpose()?;
        let third: Option<Vec<Outline>> =
            third.map(|held| sorted(held.iter().map(Outline::of).collect()));
        let there = match third {
            _ if !agree(&held, wanted) => held,
            Some(third) if !agree(&third, wanted) => third,
            _ => return Ok(Ok(())),
        };
        let missing: Vec<_> =
            wanted.iter().filter(|one| !there.iter().any(|it| it.is(one))).collect();
        let more: Vec<_> = there.iter().filter(|it| !wanted.iter().any(|one| it.is(one))).collect();
        let refusals = bench.ours()?.refusals().join("; ");
        let trouble = status.trouble;
        Ok(Err(format!(
            "{} rules are held; missing {missing:?}; instead {more:?}; {trouble} {refusals}",
            there.len()
        )))
    })
}

/// Whether each is there, and nothing else.
fn agree(held: &[Outline], wanted: &[Outline]) -> bool {
    held.len() == wanted.len()
        && wanted.iter().all(|one| held.iter().any(|it| it.is(one)))
        && held.iter().all(|it| wanted.iter().any(|one| it.is(one)))
}

fn sorted(mut outlines: Vec<Outline>) -> Vec<Outline> {
    outlines.sort();
    outlines
}

/// A rule as far as all daemons tell it: prefixes, comparisons with their values, and for bitmasks
/// that they are there. How comparisons are joined is not: FRR puts a comma in either case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Outline {
    components: BTreeMap<String, BTreeSet<String>>,
    /// In whole octets a second.
    rate: Option<u64>,
}

impl Outline {
    /// Whether it is `wanted`, as far as it is shown.
    fn is(&self, wanted: &Self) -> bool {
        let mut shown = self.components.clone();
        if shown.remove(CUT_OFF).is_none() {
            return self == wanted;
        }
        let known = |(name, values): (&String, &BTreeSet<String>)| {
            wanted.components.get(name).is_some_and(|all| values.is_subset(all))
        };
        self.rate == wanted.rate && shown.iter().all(known)
    }

    fn of(held: &Held) -> Self {
        let components = held.matches.iter().map(|text| {
            let (name, values) = text.split_once(' ').unwrap_or((text, ""));
            let values = match name {
                "destination" | "source" => BTreeSet::from([values.trim().to_owned()]),
                "tcp-flags" | "fragment" => BTreeSet::new(),
                _ => comparisons(values),
            };
            (name.to_owned(), values)
        });
        Self { components: components.collect(), rate: held.rate.map(|rate| rate as u64) }
    }
}

/// `=53`, `>=1000` and `<=2000` of `==53 >=1000&<=2000`, `53,1000..2000` or `= 53 , >= 1000`.
fn comparisons(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut sign = String::new();
    let mut number = String::new();
    // A mark at the end ends the last number.
    for character in text.chars().chain([' ', '.']) {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        if !number.is_empty() {
            let comparison = match (sign.as_str(), character) {
                ("..", _) => "<=",
                ("" | "=" | "==", '.') if text.contains("..") => ">=",
                ("" | "==", _) => "=",
                (sign, _) => sign,
            };
            found.insert(format!("{comparison}{number}"));
            number.clear();
            sign.clear();
        }
        if matches!(character, '<' | '>' | '=' | '!' | '.') {
            sign.push(character);
        } else if sign == "." {
            sign.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_comparisons_of_every_daemon() {
        for (text, expected) in [
            ("123", &["=123"][..]),
            ("=53 >=1000&<=2000", &["=53", ">=1000", "<=2000"]),
            ("53 ==54", &["=53", "=54"]),
            ("= 53 , >= 1000 , <= 2000", &["=53", ">=1000", "<=2000"]),
            ("53,1000..2000,7", &["=53", ">=1000", "<=2000", "=7"]),
            ("1000..2000", &[">=1000", "<=2000"]),
            ("< 80 || > 80", &["<80", ">80"]),
            ("", &[]),
        ] {
            let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(comparisons(text), expected, "{text}");
        }
    }

    #[test]
    fn every_profile_has_rules_within_its_limits() {
        for name in ["rfc", "bird", "frr", "frr-relay", "gobgp", "exabgp"] {
            for family in [AddressFamily::Ipv4, AddressFamily::Ipv6] {
                let profile = &builtin()[name].flowspec;
                for text in texts(profile, family).unwrap() {
                    let octets = text.split(' ').nth(2).unwrap().len() / 2;
                    assert!(octets <= profile.max_octets + 2, "{name}: {text}");
                    route::parse(&text).unwrap();
                }
            }
        }
    }
}
