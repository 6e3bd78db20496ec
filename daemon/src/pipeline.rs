//! From the policy to the settings of each stage.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tidegate_bgpd::egress::GatePolicy;
use tidegate_bgpd::speaker::BlackholeProfile;
use tidegate_bgpd::{Family, SessionParameters};
use tidegate_model::Community;
use tidegate_policy::{Peer, Policy};

/// Protected hosts of which the detector keeps count at once. A target beyond it is counted with
/// the others of its group and not judged alone.
const MAX_TARGETS: usize = 65_536;

/// Routes that the ledger holds at once. What is beyond is refused and said so.
const MAX_LEDGER_ENTRIES: usize = 10_000;

/// What an earlier run left in routing daemons stays so long after the start: long enough to see an
/// attack that is still on, and then it does not flap.
const ADOPT_WITHIN: Duration = Duration::from_secs(5);

/// What the detector is told.
#[must_use]
pub fn detector_config(policy: &Policy) -> tidegate_detector::Config {
    let groups = policy
        .groups
        .iter()
        .map(|group| tidegate_detector::Group {
            name: group.name.clone(),
            prefixes: group.prefixes.clone(),
            thresholds: group.thresholds,
            aggregate: group.prefix_thresholds,
        })
        .collect();
    let judging = tidegate_detector::Judging {
        tolerance: policy.judging.tolerance,
        exit_ratio: policy.judging.exit_ratio,
        exit_hold: policy.judging.exit_hold,
        max_targets: MAX_TARGETS,
    };
    tidegate_detector::Config {
        groups,
        judging,
        interface: policy.judging.interface,
        learning: policy.judging.learning.map(|learning| tidegate_detector::Learning {
            margin: learning.margin,
            floor: learning.floor,
            max_hosts: learning.max_hosts,
        }),
        allowed: policy.trusted_remotes.clone(),
    }
}

/// What the reconciler is told. `seed` decides the jitter of its retries.
#[must_use]
pub fn reconciler_config(policy: &Policy, seed: u64) -> tidegate_reconciler::Config {
    tidegate_reconciler::Config {
        max_entries: MAX_LEDGER_ENTRIES,
        adopt_within: ADOPT_WITHIN,
        seed,
        ..tidegate_reconciler::Config::new(policy.space.clone())
    }
}

/// What the egress gate is told for every peer; each adds its [`blackhole_profile`].
/// `own_addresses` are those of our side of the sessions that the policy does not name.
#[must_use]
pub fn gate_policy(policy: &Policy, own_addresses: &[IpAddr]) -> GatePolicy {
    let mut session_addresses = policy.session_addresses();
    session_addresses.extend(own_addresses);
    let ports: BTreeSet<u16> =
        policy.peers.iter().map(|peer| peer.port).chain([Peer::DEFAULT_PORT]).collect();
    GatePolicy {
        space: policy.space.clone(),
        session_addresses: session_addresses.into_iter().collect(),
        session_ports: ports,
        ..GatePolicy::default()
    }
}

/// The communities by which `peer` knows a black hole, and those that keep it from spreading.
#[must_use]
pub fn blackhole_profile(peer: &Peer) -> BlackholeProfile {
    let scope = [Community::NO_EXPORT, Community::NO_ADVERTISE];
    let scope = scope.into_iter().filter(|community| peer.communities.contains(community));
    BlackholeProfile {
        communities: peer.rtbh.communities.iter().copied().chain(scope).collect(),
        large_communities: peer.rtbh.large_communities.clone(),
    }
}

/// The families of a peer in the speaker's words.
#[must_use]
pub fn families(peer: &Peer) -> BTreeSet<Family> {
    peer.families
        .iter()
        .map(|family| match family {
            tidegate_policy::Family::Ipv4Unicast => Family::Ipv4Unicast,
            tidegate_policy::Family::Ipv6Unicast => Family::Ipv6Unicast,
            tidegate_policy::Family::Ipv4FlowSpec => Family::Ipv4FlowSpec,
            tidegate_policy::Family::Ipv6FlowSpec => Family::Ipv6FlowSpec,
        })
        .collect()
}

/// The session with `peer` as it is if the peer agrees to everything that is offered.
#[must_use]
pub fn expected_session(policy: &Policy, peer: &Peer) -> SessionParameters {
    SessionParameters {
        local_as: policy.speaker.asn,
        peer_as: peer.asn,
        local_address: peer.local_address.unwrap_or(IpAddr::V4(policy.speaker.router_id)),
        four_octet_as: true,
        families: families(peer),
        role: None,
    }
}
