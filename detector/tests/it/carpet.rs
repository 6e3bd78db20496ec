//! Floods over a network of which no address gets much.

use std::net::IpAddr;

use tidegate_model::{AttackEvent, AttackVector, EndReason, Metric, Occlusion, Prefix, Reflector};

use crate::lab::{Lab, SYN, ip, source, tcp, thresholds, together, udp, usual_thresholds};

const NETWORK: &str = "203.0.113.0/24";
const ALL: &[&str] = &["0.0.0.0/0", "::/0"];

fn network() -> tidegate_model::Thresholds {
    thresholds(&[(Metric::Total, 8000), (Metric::Udp, 5000), (Metric::TcpSyn, 5000)])
}

fn carpeted() -> Lab {
    Lab::new(together(ALL, usual_thresholds(), network()))
}

fn member(number: u64) -> IpAddr {
    IpAddr::from([203, 0, 113, u8::try_from(number % 256).unwrap()])
}

fn member6(number: u64) -> IpAddr {
    ip(&format!("2001:db8:0:7::{:x}", number % 5000))
}

fn targets(lab: &Lab) -> Vec<String> {
    lab.started().iter().map(|attack| attack.target.to_string()).collect()
}

#[test]
fn a_thin_flood_over_a_network_is_an_attack_on_the_network() {
    let mut lab = carpeted();
    lab.run(30, 200, |n| udp((source(n), 1024), (member(n.wrapping_mul(97)), 9), b"", 300));
    let attack = lab.only_attack();
    assert_eq!(attack.target, NETWORK.parse::<Prefix>().unwrap());
    assert_eq!(attack.main_vector(), AttackVector::UdpFlood);
    assert_eq!(attack.vectors[0].signature.destination_ports, [9]);
    assert!(attack.excess > 3.0 && attack.detected.since(attack.onset).as_millis() <= 200);

    let mut lab = carpeted();
    lab.run(30, 200, |n| udp((ip("2a00::1"), 1024), (member6(n * 31), 9), b"", 300));
    assert_eq!(targets(&lab), ["2001:db8:0:7::/64"]);
}

#[test]
fn a_thick_one_is_one_attack_and_not_one_for_each_address() {
    let mut lab = carpeted();
    // 100,000 packets a second: 4,000 to each of 25 addresses, four times what one bears.
    lab.run(60, 1000, |n| tcp((source(n), 1024), (member(n % 25), 443), SYN, 0));
    assert_eq!(targets(&lab), [NETWORK]);
    assert_eq!(lab.latest().main_vector(), AttackVector::SynFlood);
}

#[test]
fn a_flood_on_one_address_is_not_one_on_its_network() {
    let mut lab = carpeted();
    lab.run(60, 600, |n| udp((source(n), 1024), (member(7), 9), b"", 300));
    assert_eq!(targets(&lab), ["203.0.113.7/32"]);

    // Nor where one address alone is not judged.
    let mut lab = Lab::new(together(ALL, thresholds(&[]), network()));
    lab.run(60, 600, |n| udp((source(n), 1024), (member(7), 9), b"", 300));
    assert!(lab.started().is_empty());
}

#[test]
fn an_address_that_is_clearly_over_has_an_attack_of_its_own() {
    let mut lab = carpeted();
    let carpet = |n| udp((source(n), 1024), (member(n), 9), b"", 300);
    lab.run(30, 200, carpet);
    lab.run(60, 600, |n| match n % 3 {
        0 => carpet(n),
        _ => udp((source(n), 1024), (member(7), 9), b"", 300),
    });
    assert_eq!(targets(&lab), [NETWORK, "203.0.113.7/32"]);
}

#[test]
fn thresholds_of_one_address_do_not_judge_a_network() {
    let mut lab = Lab::everything();
    lab.run(60, 400, |n| udp((source(n), 1024), (member(n), 9), b"", 300));
    assert!(lab.started().is_empty());
}

#[test]
fn it_ends_as_others_do() {
    let carpet = |n| udp((source(n), 1024), (member(n), 9), b"", 300);
    let mut lab = carpeted();
    lab.run(30, 200, carpet);
    lab.quiet(2000);
    assert!(matches!(lab.events.last(), Some(AttackEvent::Ended(_, EndReason::Quiet(_)))));

    let mut lab = carpeted();
    lab.run(30, 200, carpet);
    lab.detector.handle_occlusion(NETWORK.parse().unwrap(), Occlusion::Blackholed);
    lab.quiet(2000);
    assert_eq!((lab.ended(), lab.detector.attacks().count()), (0, 1));

    let config = crate::lab::config(ALL, usual_thresholds());
    lab.detector.handle_config(lab.now, config);
    lab.tick();
    assert!(matches!(lab.events.last(), Some(AttackEvent::Ended(_, EndReason::NotProtected))));

    let mut lab = carpeted();
    lab.run(30, 200, carpet);
    lab.detector.handle_input_end(lab.now);
    lab.quiet(1);
    assert!(matches!(lab.events.last(), Some(AttackEvent::Ended(_, EndReason::InputEnded))));
}

#[test]
fn a_smaller_prefix_of_the_policy_is_the_target() {
    let mut lab = Lab::new(together(&["203.0.113.64/26"], usual_thresholds(), network()));
    lab.run(30, 1200, |n| {
        let answer = [0, 1, 0x81, 0x80, 0, 1];
        udp((source(n), 53), (member(n), 9), &answer, 900)
    });
    let attack = lab.only_attack();
    assert_eq!(attack.target.to_string(), "203.0.113.64/26");
    assert_eq!(attack.main_vector(), AttackVector::Amplification(Reflector::Dns));
}

#[test]
fn a_flood_that_goes_from_address_to_address_is_one_on_the_network() {
    // All of a tick goes to one address, and after one or two ticks to the next.
    for (stay, most) in [(1, 100), (2, 100), (5, 200)] {
        let mut lab = carpeted();
        let begin = lab.now;
        lab.run(60, 400, |n| udp((source(n), 1024), (member(n / 400 / stay as u64), 9), b"", 300));
        // Who gets ten times what one bears for 50 ms has been flooded, until the network is known.
        let started = lab.started();
        let known = started.iter().position(|attack| attack.target == NETWORK.parse().unwrap());
        assert!(known == Some(started.len() - 1) && started.len() <= stay / 2 + 1, "{started:#?}");
        let delay = started[started.len() - 1].detected.since(begin);
        assert!(delay.as_millis() <= most, "{stay} ticks each: {delay:?}");
    }
    // That it was spread before says nothing of what is over the threshold now.
    let mut lab = Lab::new(together(ALL, thresholds(&[]), network()));
    lab.run(1000, 49, |n| udp((source(n), 1024), (member(n), 9), b"", 300));
    lab.run(60, 600, |n| udp((source(n), 1024), (member(7), 9), b"", 300));
    assert!(lab.started().is_empty());
}
