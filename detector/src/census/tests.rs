use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use super::*;

const HASHER: FixedState = FixedState::with_seed(7);

fn address(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from(number).into()
}

fn add(census: &mut Census, source: IpAddr, ttl: u8, room: &mut usize) {
    census.add((source, address_hash(&HASHER, source)), ttl, 64, room);
}

fn census() -> Census {
    Census::new("203.0.113.9".parse().unwrap(), 7)
}

/// A number as if drawn by lot, a different one for each.
fn scattered(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1).rotate_left(13).wrapping_mul(0x85eb_ca6b)
}

#[test]
fn sources_are_exact_while_there_is_room() {
    let (mut census, mut room) = (census(), MEMORY);
    for round in 0..3 {
        for number in 0..200_000 {
            add(&mut census, address(scattered(number)), 60, &mut room);
        }
        assert_eq!(census.distinct(), Distinct::Exact(200_000), "round {round}");
    }
    for number in 0..1000_u128 {
        let source = std::net::Ipv6Addr::from((0x2a00 << 112) | (number * number));
        add(&mut census, source.into(), 60, &mut room);
    }
    assert_eq!(census.distinct(), Distinct::Exact(201_000));
    assert_eq!(census.distinct().to_string(), "201000 (exact)");
    assert_eq!(census.counted(), (601_000, 601_000 * 64));
    let sources: Vec<IpAddr> = census.sources().collect();
    assert_eq!(sources.len(), 201_000);
    assert_eq!(sources.iter().collect::<std::collections::BTreeSet<_>>().len(), 201_000);
    assert_eq!(room + census.cost(), MEMORY);
}

#[test]
fn more_sources_than_there_is_room_for_are_estimated() {
    let (mut census, mut room) = (census(), 100_000);
    for number in 0..3_000_000 {
        add(&mut census, address(scattered(number)), 60, &mut room);
    }
    let Distinct::Estimate { sources, error } = census.distinct() else {
        panic!("{}", census.distinct());
    };
    assert!(error < 0.01);
    let off = (sources as f64 / 3e6 - 1.0).abs();
    assert!(off < 4.0 * error, "{sources}");
    assert!(census.cost() <= 100_000);
    assert!(census.distinct().to_string().contains("±0.8 %"), "{}", census.distinct());
    assert!(census.sources().count() >= 1000, "what was kept is still there");
}

#[test]
fn what_is_taken_is_charged_and_never_more_than_there_is() {
    for (all, families) in [(100_000, 1), (1 << 20, 2), (3 << 20, 2)] {
        let (mut census, mut room) = (census(), all);
        for number in 0..200_000 {
            let source = match number % families {
                0 => address(scattered(number)),
                _ => std::net::Ipv6Addr::from(u128::from(scattered(number)) << 64).into(),
            };
            let before = census.cost();
            add(&mut census, source, 60, &mut room);
            assert_eq!(census.cost() + room, all);
            // While a table grows the old one is there as well.
            assert!(census.cost() <= before || before + census.cost() <= all + census.cost() / 2);
        }
        assert!(census.sources().count() * 40 >= all, "{all}: the room is used");
    }
}

#[test]
fn the_largest_talkers_are_found_among_a_million() {
    let (mut census, mut room) = (census(), MEMORY);
    for number in 0..1_000_000_u32 {
        add(&mut census, address(scattered(number)), 60, &mut room);
        if number % 20 == 0 {
            add(&mut census, address(7), 60, &mut room);
        }
        if number % 50 == 0 {
            add(&mut census, address(8), 60, &mut room);
        }
    }
    let talkers = census.talkers(10);
    let named: Vec<IpAddr> = talkers.iter().map(|talker| talker.source).take(2).collect();
    assert_eq!(named, [address(7), address(8)], "{talkers:?}");
    for (talker, real) in talkers.iter().zip([50_000, 20_000]) {
        assert!(talker.packets >= real && talker.packets - talker.error <= real, "{talker:?}");
        assert!(talker.bytes <= real * 64, "{talker:?}");
    }
}

#[test]
fn censuses_of_two_meters_add_up_to_one() {
    let (mut one, mut left, mut right) = (census(), census(), census());
    let mut room = MEMORY;
    for number in 0..50_000 {
        let source = address(scattered(number % 30_000));
        add(&mut one, source, 60, &mut room);
        let half = if number % 2 == 0 { &mut left } else { &mut right };
        add(half, source, 60, &mut room);
    }
    left.merge(&right, &mut room);
    assert_eq!(left.distinct(), one.distinct());
    assert_eq!(left.counted(), one.counted());
    assert_eq!(left.spoofing(), one.spoofing());
}

#[test]
fn forged_sources_are_told_from_plausible_ones() {
    let judge = |count: u32, make: &dyn Fn(u32) -> (IpAddr, u8)| {
        let (mut census, mut room) = (census(), MEMORY);
        for number in 0..count {
            let (source, ttl) = make(number);
            add(&mut census, source, ttl, &mut room);
        }
        census.spoofing()
    };
    let ttl = |number: u32| u8::try_from(scattered(number) >> 24).unwrap();
    let hops = |number: u32| 64 - u8::try_from(number % 17).unwrap();
    // Drawn by lot from everything.
    let forged = judge(20_000, &|n| (address(scattered(n)), ttl(n)));
    assert_eq!(forged.verdict, Verdict::Forged, "{forged:?}");
    assert!(forged.evenness > 0.95 && forged.novelty > 0.95 && forged.bogons > 0.05);
    // A botnet of five thousand in forty networks, each sending again and again.
    let bot =
        |n: u32| (address((20 + n % 5000 % 40) << 24 | scattered(n % 5000) >> 8), hops(n % 5000));
    let real = judge(20_000, &bot);
    assert_eq!(real.verdict, Verdict::Plausible, "{real:?}");
    assert_eq!(judge(100, &bot).verdict, Verdict::TooFew);
}

#[test]
fn all_attacks_share_the_room() {
    let mut censuses = Censuses::new(MEMORY, 7);
    let target = |number: u32| (AttackId(number.into()), Prefix::host(address(number)));
    let attacks: Vec<_> = (0..40).map(target).collect();
    assert!(censuses.choose(&attacks).over.is_empty());
    assert_eq!((censuses.all().count(), censuses.refused()), (MAX_CENSUSES, 8));
    assert_eq!(censuses.index_of(address(3)), 3);
    assert_eq!(censuses.index_of(address(99)), NO_CENSUS);
    for (_, census) in censuses.all.iter_mut().flatten() {
        for number in 0..1000 {
            add(census, address(scattered(number)), 60, &mut censuses.room);
        }
    }
    let each = censuses.all().next().unwrap().cost();
    assert_eq!(censuses.room, MEMORY - MAX_CENSUSES * each);
    let Chosen { over, changed } = censuses.choose(&attacks[3..4]);
    assert_eq!((over.len(), changed.len()), (MAX_CENSUSES - 1, MAX_CENSUSES - 1));
    assert_eq!(over[0].1.distinct(), Distinct::Exact(1000));
    assert_eq!(censuses.room, MEMORY - each);
    assert_eq!(censuses.index_of(address(3)), 3, "it keeps its place");
    // The longest prefix counts.
    let network = (AttackId(77), "0.0.0.0/24".parse().unwrap());
    censuses.choose(&[network, attacks[7]]);
    assert_eq!((censuses.index_of(address(7)), censuses.index_of(address(8))), (1, 0));
    // The same target again is another attack.
    let again = (AttackId(99), attacks[7].1);
    let over = censuses.choose(&[network, again]).over;
    assert_eq!(over.iter().map(|(attack, _)| *attack).collect::<Vec<_>>(), [attacks[7].0]);
}

#[test]
fn the_shares_of_all_meters_stay_within_the_memory() {
    for workers in 0..=64 {
        let Shares { attacks, meter, sums } = Shares::of(workers);
        let meters = workers.max(1);
        // What a meter has, what it has handed over, and the sums.
        let exact = 3 * meters * meter + sums;
        let fixed = attacks * FIXED * (2 * meters + 1);
        assert!(attacks > 0 && exact + fixed <= 64 << 20, "{workers}: {exact} and {fixed}");
    }
}

/// Ten million here; `cargo bench -p tidegate-detector` puts a thousand million through.
#[test]
fn ten_million_random_sources_stay_within_the_memory() {
    let mut censuses = Censuses::new(MEMORY, 7);
    censuses.choose(&[(AttackId(1), "203.0.113.9".parse().unwrap())]);
    for number in 0..10_000_000_u32 {
        let source = address(scattered(number));
        let hash = HASHER.hash_one(number);
        if let Some(Some((_, census))) = censuses.all.first_mut() {
            census.add((source, hash), 60, 64, &mut censuses.room);
        }
    }
    let census = censuses.all().next().unwrap();
    assert!(census.cost() + censuses.room <= MEMORY, "{}", census.cost());
    assert!(
        (9_600_000..10_400_000).contains(&census.distinct().sources()),
        "{}",
        census.distinct()
    );
}

struct Halves;

impl Labels for Halves {
    fn country(&self, address: IpAddr) -> Option<String> {
        let IpAddr::V4(address) = address else { return None };
        Some(if u32::from(address) < 1000 { "XA" } else { "XB" }.to_owned())
    }

    fn network(&self, address: IpAddr) -> Option<(u32, String)> {
        let IpAddr::V4(address) = address else { return None };
        (u32::from(address) < 10).then(|| (64_496, "Example".to_owned()))
    }
}

#[test]
fn sources_are_labelled() {
    let (mut census, mut room) = (census(), MEMORY);
    (0..4000).for_each(|number| add(&mut census, address(number), 60, &mut room));
    assert_eq!(census.origins(&Halves, 100).looked_up, 100);
    let origins = census.origins(&Halves, MAX_LOOKED_UP);
    assert_eq!(origins.looked_up, 4000);
    let countries = [("XB", 3000), ("XA", 1000)];
    let expected = countries.map(|(label, sources)| Share { label: label.to_owned(), sources });
    assert_eq!(origins.countries, expected);
    let label = (64_496, "Example".to_owned());
    assert_eq!(origins.networks, [Share { label, sources: 10 }]);
}
