//! Whatever is asked for: what is made of it satisfies the profile, stated here anew, and matches
//! the packets that were meant.

use proptest::prelude::*;

use super::*;

/// What a rule can look at. The prefixes are the same for all packets.
#[derive(Clone, Debug)]
struct Packet {
    protocol: u64,
    source_port: u64,
    destination_port: u64,
    icmp_type: u64,
    length: u64,
    tcp_flags: u16,
    fragment: u16,
}

fn matches(rule: &FlowSpecRule, packet: &Packet) -> bool {
    rule.components().iter().all(|component| match component {
        C::DestinationPrefix(_) | C::SourcePrefix(_) => true,
        C::IpProtocol(numeric) => numeric.matches(packet.protocol),
        C::Port(numeric) => {
            numeric.matches(packet.source_port) || numeric.matches(packet.destination_port)
        }
        C::DestinationPort(numeric) => numeric.matches(packet.destination_port),
        C::SourcePort(numeric) => numeric.matches(packet.source_port),
        C::IcmpType(numeric) => numeric.matches(packet.icmp_type),
        C::PacketLength(numeric) => numeric.matches(packet.length),
        C::TcpFlags(mask) => mask.matches(packet.tcp_flags),
        C::Fragment(mask) => mask.matches(packet.fragment),
        C::IcmpCode(_) | C::Dscp(_) | C::FlowLabel(_) => panic!("never generated"),
    })
}

/// Few different values, so that packets and rules meet.
fn port() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..40_u64, 1 => Just(65_535), 1 => 0..=65_535_u64]
}

fn numeric(value: impl Strategy<Value = u64>) -> impl Strategy<Value = NumericMatch> {
    let operator = prop::sample::select(vec![
        Op::Equal,
        Op::Equal,
        Op::Greater,
        Op::GreaterOrEqual,
        Op::Less,
        Op::LessOrEqual,
        Op::NotEqual,
    ]);
    let test = (operator, value).prop_map(|(operator, value)| NumericTest { operator, value });
    let group = prop::collection::vec(test, 1..3);
    prop::collection::vec(group, 1..12).prop_map(|groups| NumericMatch::new(groups).unwrap())
}

fn mask(bits: u16) -> impl Strategy<Value = BitmaskMatch> {
    let test = (any::<bool>(), any::<bool>(), 1..=bits)
        .prop_map(|(all, negated, bits)| BitmaskTest { all, negated, bits });
    let group = prop::collection::vec(test, 1..3);
    prop::collection::vec(group, 1..4).prop_map(|groups| BitmaskMatch::new(groups).unwrap())
}

fn any_rule() -> impl Strategy<Value = FlowSpecRule> {
    use prop::option::of;
    let numerics = (
        of(numeric(prop::sample::select(vec![1, 6, 17, 58]))),
        of(numeric(port())),
        of(numeric(port())),
        of(numeric(port())),
        of(numeric(0..256_u64)),
        of(numeric(port())),
    );
    (any::<bool>(), numerics, of(mask(0x1ff)), of(mask(0xf))).prop_map(
        |(v6, (protocol, either, destination, source, icmp, length), flags, fragment)| {
            let (family, target) = match v6 {
                false => (AddressFamily::Ipv4, "203.0.113.0/25"),
                true => (AddressFamily::Ipv6, "2001:db8:1::/64"),
            };
            let components: Vec<C> = [C::DestinationPrefix(prefix(target))]
                .into_iter()
                .chain(protocol.map(C::IpProtocol))
                .chain(either.map(C::Port))
                .chain(destination.map(C::DestinationPort))
                .chain(source.map(C::SourcePort))
                .chain(icmp.map(C::IcmpType))
                .chain(length.map(C::PacketLength))
                .chain(flags.map(C::TcpFlags))
                .chain(fragment.map(C::Fragment))
                .collect();
            FlowSpecRule::new(family, components).unwrap()
        },
    )
}

fn any_packet() -> impl Strategy<Value = Packet> {
    (
        prop::sample::select(vec![1_u64, 6, 17, 58]),
        port(),
        port(),
        0..256_u64,
        port(),
        0..0x200_u16,
        0..0x10_u16,
    )
        .prop_map(
            |(protocol, source_port, destination_port, icmp_type, length, tcp_flags, fragment)| {
                Packet {
                    protocol,
                    source_port,
                    destination_port,
                    icmp_type,
                    length,
                    tcp_flags,
                    fragment,
                }
            },
        )
}

fn some<T: Copy + Ord + std::fmt::Debug + 'static>(
    all: &'static [T],
) -> impl Strategy<Value = BTreeSet<T>> {
    // Half of the time everything, so that not every rule fails.
    prop_oneof![
        Just(all.iter().copied().collect::<BTreeSet<T>>()),
        prop::sample::subsequence(all, 0..=all.len()).prop_map(|some| some.into_iter().collect()),
    ]
}

fn any_profile() -> impl Strategy<Value = FlowSpecProfile> {
    let random = (
        (some(Component::ALL), some(Component::ALL)),
        some(Comparison::ALL),
        some(BitmaskForm::ALL),
        prop_oneof![Just(0x1ff_u16), 0..0x200_u16],
        prop_oneof![Just(0xf_u16), 0..0x10_u16],
        some(ActionKind::ALL),
        1..40_usize,
        32..=239_usize,
        24..=32_u8,
    )
        .prop_map(
            |(
                components,
                operators,
                bitmasks,
                tcp_flags,
                fragment_bits,
                actions,
                values,
                octets,
                longest,
            )| {
                FlowSpecProfile {
                    components_v4: components.0,
                    components_v6: components.1,
                    operators,
                    bitmasks,
                    tcp_flags,
                    fragment_bits,
                    actions,
                    lengths_v4: Lengths { shortest: 24, longest },
                    max_values: values,
                    max_octets: octets,
                    ..FlowSpecProfile::default()
                }
            },
        );
    let shipped: Vec<FlowSpecProfile> =
        builtin().values().map(|profile| profile.flowspec.clone()).collect();
    prop_oneof![random, prop::sample::select(shipped)]
}

fn any_action() -> impl Strategy<Value = TrafficFilteringAction> {
    prop::sample::select(vec![
        TrafficFilteringAction::DISCARD,
        TrafficFilteringAction::RateLimitBytes(1000.0),
        TrafficFilteringAction::RateLimitPackets(10.0),
    ])
}

/// Octets of a numeric component, counted by writing it (RFC 8955 §4.2.1.1).
fn numeric_octets(numeric: &NumericMatch) -> usize {
    let mut octets = vec![0_u8];
    for test in numeric.groups().iter().flatten() {
        octets.push(0);
        match test.value {
            value if value < 1 << 8 => octets.push(0),
            value if value < 1 << 16 => octets.extend([0; 2]),
            _ => octets.extend([0; 4]),
        }
    }
    octets.len()
}

fn name(operator: Op) -> &'static str {
    match operator {
        Op::Equal => "=",
        Op::Greater => ">",
        Op::GreaterOrEqual => ">=",
        Op::Less => "<",
        Op::LessOrEqual => "<=",
        Op::NotEqual => "!=",
        Op::True | Op::False => "none",
    }
}

/// What `profile` says, by the words and not by the code that obeys it.
fn satisfies(profile: &FlowSpecProfile, rule: &FlowSpecRule) -> Result<(), String> {
    let (components, lengths, offset) = match rule.family() {
        AddressFamily::Ipv4 => (&profile.components_v4, profile.lengths_v4, 0),
        AddressFamily::Ipv6 => (&profile.components_v6, profile.lengths_v6, 1),
    };
    let mut octets = 0;
    for component in rule.components() {
        if !components.iter().any(|known| known.name() == component.name()) {
            return Err(format!("{} is not honoured", component.name()));
        }
        let mut bits = |mask: &BitmaskMatch, allowed: u16| {
            let tests: Vec<&BitmaskTest> = mask.groups().iter().flatten().collect();
            octets +=
                1 + tests.iter().map(|test| if test.bits > 255 { 3 } else { 2 }).sum::<usize>();
            let formed = tests.iter().all(|test| {
                let has = |form: &str| profile.bitmasks.iter().any(|known| known.name() == form);
                let one = test.bits.is_power_of_two();
                (!test.negated || has("not"))
                    && (one || has(if test.all { "all-of" } else { "any-of" }))
                    && test.bits | allowed == allowed
            });
            (tests.len(), formed)
        };
        let (count, formed) = match component {
            C::DestinationPrefix(prefix) => {
                octets += 2 + offset + usize::from(prefix.length()).div_ceil(8);
                (0, prefix.length() >= lengths.shortest && prefix.length() <= lengths.longest)
            }
            C::TcpFlags(mask) => bits(mask, profile.tcp_flags),
            C::Fragment(mask) => bits(mask, profile.fragment_bits),
            C::IpProtocol(numeric)
            | C::Port(numeric)
            | C::DestinationPort(numeric)
            | C::SourcePort(numeric)
            | C::IcmpType(numeric)
            | C::PacketLength(numeric) => {
                octets += numeric_octets(numeric);
                let tests: Vec<&NumericTest> = numeric.groups().iter().flatten().collect();
                let known = |test: &&NumericTest| {
                    profile.operators.iter().any(|known| known.name() == name(test.operator))
                };
                (tests.len(), tests.iter().all(known))
            }
            _ => return Err(format!("{} was not asked for", component.name())),
        };
        if !formed || count > profile.max_values {
            return Err(format!("`{component}` is not accepted"));
        }
    }
    if octets > profile.max_octets { Err(format!("{octets} octets")) } else { Ok(()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn what_is_compiled_satisfies_the_profile_and_matches_what_was_meant(
        profile in any_profile(),
        rules in prop::collection::vec(any_rule(), 1..3),
        action in any_action(),
        widen in prop::sample::select(Widen::ALL),
        packets in prop::collection::vec(any_packet(), 64),
    ) {
        let Ok(compiled) = compile(&profile, &rules, action, widen) else { return Ok(()) };
        prop_assert!(!compiled.rules.is_empty() && compiled.rules.len() <= MAX_COMPILED);
        for rule in &compiled.rules {
            satisfies(&profile, rule).map_err(|why| TestCaseError::fail(format!("{rule}: {why}")))?;
            prop_assert!(takes(&profile, rule, &[compiled.action]), "{rule} is changed again");
        }
        let kind = match compiled.action {
            TrafficFilteringAction::RateLimitBytes(0.0) => "discard",
            TrafficFilteringAction::RateLimitBytes(_) => "rate-limit-bytes",
            _ => "rate-limit-packets",
        };
        prop_assert!(profile.actions.iter().any(|known| known.name() == kind), "{kind}");
        let exact = !compiled.losses.iter().any(|loss| !matches!(loss, Loss::Discard { .. }));
        prop_assert!(widen == Widen::Allow || compiled.losses.is_empty());
        for packet in &packets {
            let meant = rules.iter().any(|rule| matches(rule, packet));
            let hit = compiled.rules.iter().any(|rule| matches(rule, packet));
            prop_assert!(hit || !meant, "{packet:?} was meant");
            prop_assert!(!exact || hit == meant, "{packet:?} was not meant");
        }
    }

    /// The splitting and rewriting above is not vacuous: a profile that lacks only numbers and
    /// forms refuses nothing that has room.
    #[test]
    fn lists_of_values_always_have_a_way(
        max_values in 1..20_usize,
        count in 1..=20_u64,
        packets in prop::collection::vec(any_packet(), 64),
    ) {
        let profile = FlowSpecProfile { max_values, ..FlowSpecProfile::default() };
        let rule = udp(vec![C::SourcePort(equal(0..count))]);
        let compiled =
            compile(&profile, std::slice::from_ref(&rule), TrafficFilteringAction::DISCARD, Widen::Never)
                .map_err(|why| TestCaseError::fail(why.to_string()))?;
        prop_assert!(compiled.losses.is_empty());
        for packet in &packets {
            let hit = compiled.rules.iter().any(|rule| matches(rule, packet));
            prop_assert_eq!(hit, matches(&rule, packet));
        }
    }
}
