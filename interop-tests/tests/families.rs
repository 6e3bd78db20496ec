//! The whole chain in all four address families at once: what BIRD holds is exactly what the policy
//! says, and in the end nothing.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::time::Duration;

use tidegate_interop_tests::demo::POLICY;
use tidegate_interop_tests::lab::bird::{BirdRoute, DISCARD_NEXT_HOPS};

const LIMIT: Duration = Duration::from_secs(30);
/// Floods are over before the first blackhole is lifted, after ten seconds.
const END_LIMIT: Duration = Duration::from_secs(60);

/// NO_LLGR (RFC 9494 §4.2), BLACKHOLE (RFC 7999 §5) and NO_EXPORT (RFC 1997).
const RTBH_COMMUNITIES: [(u16, u16); 3] = [(65535, 7), (65535, 666), (65535, 65281)];
/// 1 Mbit/s as bytes a second in IEEE 754 binary32 (RFC 8955 §7.1).
const RATE_LIMIT: u32 = 125_000_f32.to_bits();

fn only<'a>(routes: &'a [BirdRoute], prefix: &str) -> &'a BirdRoute {
    let found: Vec<&BirdRoute> = routes.iter().filter(|route| route.is_toward(prefix)).collect();
    let [route] = found.as_slice() else { panic!("{prefix}: {routes:#?}") };
    route
}

#[test]
fn bird_holds_what_the_policy_says() {
    let test = "bird_holds_what_the_policy_says";
    // Far over the threshold for a blackhole, even where the machine sends slower than it should.
    let usual = "amplification = { packets = \"500\", bits = \"2M\" }";
    assert!(POLICY.contains(usual));
    let policy = POLICY.replace(usual, "amplification = { packets = \"100\" }");
    let Some((_turn, mut stage)) = common::stage(test, &policy) else { return };
    stage.bird.wait_established(LIMIT).unwrap();
    let mut floods = Vec::new();
    for (name, stream) in [
        ("syn4", "syn-flood,target=203.0.113.10,rate=5k,for=8s"),
        ("syn6", "syn-flood,target=2001:db8:1::10,rate=5k,for=8s"),
        ("ntp4", "ntp-amplification,target=203.0.113.20,rate=12k,for=8s"),
        ("ntp6", "ntp-amplification,target=2001:db8:1::20,rate=12k,for=8s"),
        // Never touched, however much of it there is.
        ("spared", "syn-flood,target=203.0.113.53,rate=5k,for=8s"),
    ] {
        floods.push(stage.send(name, stream).unwrap());
    }
    let complete = |routes: &[BirdRoute]| {
        let has = |prefix, flowspec| {
            routes.iter().any(|route| route.is_toward(prefix) && route.is_flowspec() == flowspec)
        };
        has("203.0.113.10/32", true)
            && has("2001:db8:1::10/128", true)
            && has("203.0.113.20/32", false)
            && has("2001:db8:1::20/128", false)
    };
    let routes = stage.bird.wait_routes("four routes", LIMIT, complete).unwrap();
    for (prefix, next_hop) in
        [("203.0.113.20/32", DISCARD_NEXT_HOPS.0), ("2001:db8:1::20/128", DISCARD_NEXT_HOPS.1)]
    {
        let route = routes
            .iter()
            .find(|route| route.is_toward(prefix) && !route.is_flowspec())
            .unwrap_or_else(|| panic!("{prefix}: {routes:#?}"));
        assert!(route.is_blackhole(), "{route:#?}");
        assert_eq!(route.communities, RTBH_COMMUNITIES, "{route:#?}");
        assert_eq!(route.attributes["bgp_next_hop"], next_hop, "{route:#?}");
    }
    for prefix in ["203.0.113.10/32", "2001:db8:1::10/128"] {
        let rule = only(&routes, prefix);
        let [action] = rule.extended_communities.as_slice() else { panic!("{rule:#?}") };
        // Traffic-rate in bytes, type 0x8006; the AS number between is informative.
        assert_eq!(action >> 48, 0x8006, "{rule:#?}");
        assert_eq!(u32::try_from(action & 0xffff_ffff).unwrap(), RATE_LIMIT, "{rule:#?}");
    }
    assert!(!routes.iter().any(|route| route.is_toward("203.0.113.53/32")), "{routes:#?}");
    for flood in &mut floods {
        flood.wait_for_success(LIMIT).unwrap();
    }
    stage.bird.wait_routes("no route", END_LIMIT, <[_]>::is_empty).unwrap();
}
