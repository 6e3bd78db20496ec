//! The texts of `policy/profiles`.

use super::*;

fn profile(name: &str) -> &'static Profile {
    builtin().get(name).unwrap_or_else(|| panic!("{name} reads"))
}

#[test]
fn every_text_reads_without_a_mistake() {
    let collector = Collector::new();
    let mut known = BTreeMap::new();
    for (name, text) in TEXTS {
        let profile = read_builtin(name, text, &known, &collector);
        assert!(profile.is_some(), "{name}");
        known.extend(profile.map(|profile| (name.to_owned(), profile)));
    }
    collector.finish(Some(())).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(builtin().len(), TEXTS.len());
}

#[test]
fn every_text_is_in_the_list() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let mut files: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut listed: Vec<String> = TEXTS.iter().map(|(name, _)| format!("{name}.toml")).collect();
    listed.sort();
    assert_eq!(files, listed);
}

/// Lines that are no comment, with the comment above each.
fn commented_fields(text: &str) -> Vec<(String, bool)> {
    let mut fields = Vec::new();
    let mut commented = false;
    let mut open = false;
    for line in text.lines() {
        if line.starts_with('#') {
            commented = true;
        } else if line.is_empty() || line.starts_with('[') {
            commented = false;
        } else if open {
            open = !line.starts_with(']');
        } else if let Some((key, value)) = line.split_once(" = ") {
            fields.push((key.to_owned(), commented));
            open = value == "[";
        }
    }
    fields
}

#[test]
fn every_field_says_where_it_is_known_from() {
    for (name, text) in TEXTS {
        let fields = commented_fields(text);
        assert!(fields.iter().any(|(key, _)| key == "summary"), "{name} has no summary");
        assert!(fields.iter().any(|(key, _)| key == "source"), "{name} has no source");
        // The next hops of both families share a comment, and so do the lengths.
        let mut above = false;
        for (key, commented) in fields {
            if ["like", "summary", "source"].contains(&key.as_str()) {
                continue;
            }
            assert!(commented || (above && key.ends_with("-v6")), "{name}: {key} has no source");
            above = commented;
        }
    }
}

#[test]
fn profiles_of_providers_say_what_counts() {
    for (name, text) in TEXTS {
        if ["de-cix", "seattle-ix", "hurricane-electric", "ntt", "tele2"].contains(&name) {
            assert!(text.starts_with("# The contract with the "), "{name}");
            assert!(profile(name).source.contains("http"), "{name}");
        }
    }
}

#[test]
fn rfc_is_the_default_and_says_everything() {
    let rfc = profile("rfc");
    let spoken =
        Profile { summary: rfc.summary.clone(), source: rfc.source.clone(), ..Profile::default() };
    assert_eq!(*rfc, spoken);
    let said: BTreeSet<String> =
        commented_fields(TEXTS[0].1).into_iter().map(|(key, _)| key).collect();
    let collector = Collector::new();
    assert!(read_builtin("rfc", TEXTS[0].1, &BTreeMap::new(), &collector).is_some());
    let asked: BTreeSet<String> = collector
        .keys()
        .iter()
        .map(|key| key.rsplit('.').next().unwrap().to_owned())
        .filter(|key| !["like", "rtbh", "flowspec"].contains(&key.as_str()))
        .collect();
    assert_eq!(said, asked);
}

#[test]
fn what_receivers_were_seen_to_take() {
    let frr = &profile("frr").flowspec;
    assert_eq!(frr.max_values, 5);
    assert!(!frr.operators.contains(&Comparison::NotEqual));
    assert!(!frr.actions.contains(&ActionKind::RateLimitBytes));
    assert!(profile("gobgp").flowspec.max_octets <= 239);
    assert!(profile("bird").flowspec.max_values > frr.max_values);
    assert_eq!(profile("bird").rtbh.next_hop_v4, NextHop::Session);
    let relay = profile("frr-relay");
    assert_eq!(relay.confined_by, ConfinedBy::Peer);
    assert!(!relay.rtbh.communities.contains(&Community::NO_EXPORT));
    assert_eq!(relay.flowspec.actions.len(), ActionKind::ALL.len());
}

#[test]
fn what_providers_publish() {
    for (name, community, lengths, confined_by) in [
        ("de-cix", Community::BLACKHOLE, (32, 32), ConfinedBy::Peer),
        ("seattle-ix", Community::BLACKHOLE, (32, 32), ConfinedBy::Peer),
        ("hurricane-electric", Community::new(6939, 666), (24, 32), ConfinedBy::Community),
        ("ntt", Community::new(2914, 666), (32, 32), ConfinedBy::Community),
        ("tele2", Community::new(1257, 666), (29, 32), ConfinedBy::Community),
    ] {
        let profile = profile(name);
        assert!(profile.rtbh.communities.contains(&community), "{name}");
        assert_eq!(
            (profile.rtbh.lengths_v4.shortest, profile.rtbh.lengths_v4.longest),
            lengths,
            "{name}"
        );
        assert_eq!(profile.confined_by, confined_by, "{name}");
        let marked = profile.rtbh.communities.contains(&Community::NO_EXPORT);
        assert_eq!(marked, confined_by == ConfinedBy::Community, "{name}");
        let flowspec = [Family::Ipv4FlowSpec, Family::Ipv6FlowSpec];
        assert!(flowspec.iter().all(|family| !profile.families.contains(family)), "{name}");
    }
    assert!(!profile("tele2").families.contains(&Family::Ipv6Unicast));
}
