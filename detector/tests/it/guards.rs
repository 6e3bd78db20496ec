//! What keeps the detector from crying wolf, from being blinded and from starting all over again.

use std::net::IpAddr;

use tidegate_detector::Config;
use tidegate_model::{Attack, AttackEvent, AttackVector, Metric};

use crate::lab::{
    ACK, Lab, SYN, config, icmp, ip, numbered, source, target_of, tcp, thresholds, udp,
    usual_thresholds,
};

const VICTIM: &str = "203.0.113.9";
const ALL: &[&str] = &["0.0.0.0/0", "::/0"];

/// Ticks from a SYN to the segment that completes its handshake.
const ROUND_TRIP: usize = 6;

fn victim(port: u16) -> (IpAddr, u16) {
    (ip(VICTIM), port)
}

fn updates(lab: &Lab) -> usize {
    lab.events.iter().filter(|event| matches!(event, AttackEvent::Updated(_))).count()
}

/// The number that the server chose for connection `n`.
fn server_number(n: u64) -> u32 {
    u32::try_from(n.wrapping_mul(0x9e37_79b9) & 0xffff_ffff).unwrap()
}

fn client_port(n: u64) -> u16 {
    u16::try_from(n % 60_000 + 1025).unwrap()
}

/// Clients that open connections to the victim, which answers every SYN.
struct Crowd {
    clients: u64,
    /// Whether they have seen the answers that they acknowledge.
    proved: bool,
    opened: u64,
    /// What is under way, oldest first: as many ticks as a round trip takes.
    waiting: std::collections::VecDeque<std::ops::Range<u64>>,
}

impl Crowd {
    fn new(clients: u64, proved: bool) -> Self {
        Self { clients, proved, opened: 0, waiting: Default::default() }
    }

    fn see(&mut self, lab: &mut Lab, number: u64) {
        let clients = self.clients;
        let client = |n| (source(n % clients), client_port(n));
        let opened = self.opened..self.opened + number;
        for n in opened.clone() {
            lab.see(&tcp(client(n), victim(443), SYN, 0));
            lab.see(&numbered(victim(443), client(n), SYN | ACK, (server_number(n), 2), 0));
        }
        self.opened = opened.end;
        self.waiting.push_back(opened);
        if self.waiting.len() <= ROUND_TRIP {
            return;
        }
        for n in self.waiting.pop_front().unwrap() {
            let number = server_number(n).wrapping_add(if self.proved { 1 } else { 99 });
            lab.see(&numbered(client(n), victim(443), ACK, (2, number), 0));
            lab.see(&numbered(client(n), victim(443), ACK | 8, (2, number), 400));
        }
    }

    fn run(&mut self, lab: &mut Lab, ticks: u64, per_tick: u64) {
        for _ in 0..ticks {
            self.see(lab, per_tick);
            lab.tick();
        }
    }
}

#[test]
fn a_crowd_of_new_clients_is_no_flood() {
    let mut lab = Lab::everything();
    let mut crowd = Crowd::new(1_000_000, true);
    // Five times the threshold for SYNs, rising over a second.
    for per_tick in 1..50 {
        crowd.run(&mut lab, 2, per_tick);
    }
    crowd.run(&mut lab, 300, 50);
    assert!(lab.started().is_empty(), "{:#?}", lab.started());
}

#[test]
fn forged_acknowledgements_excuse_nothing() {
    let mut lab = Lab::everything();
    Crowd::new(1_000_000, false).run(&mut lab, 60, 50);
    let attack = lab.only_attack();
    assert_eq!(attack.trigger.metric, Metric::TcpSyn);
    let vectors: Vec<_> = attack.vectors.iter().map(|estimate| estimate.vector).collect();
    assert!(vectors.contains(&AttackVector::SynFlood), "{vectors:?}");
    assert!(attack.detected.since(attack.onset).as_millis() <= 140, "{attack:?}");

    // Nor do they when the server's answers are not seen at all: a tap of one direction.
    let mut lab = Lab::everything();
    lab.run(30, 100, |n| {
        let client = (source(n / 2), client_port(n / 2));
        tcp(client, victim(443), if n % 2 == 0 { SYN } else { ACK }, 0)
    });
    let mut vectors = lab.only_attack().vectors.iter().map(|estimate| estimate.vector);
    assert!(vectors.any(|vector| vector == AttackVector::SynFlood));
}

#[test]
fn a_flood_is_not_hidden_by_a_crowd() {
    let mut lab = Lab::everything();
    let mut crowd = Crowd::new(1_000_000, true);
    crowd.run(&mut lab, 100, 5);
    let onset = lab.now;
    for tick in 0..20 {
        for n in 0..100 {
            lab.see(&tcp((source(tick * 100 + n), 4000), victim(443), SYN, 0));
        }
        crowd.run(&mut lab, 1, 5);
    }
    let attack = lab.expect(VICTIM, AttackVector::SynFlood);
    assert!(attack.detected.since(onset).as_millis() <= 100, "{attack:?}");
}

#[test]
fn few_peers_that_connect_without_end_are_a_connection_flood() {
    let mut lab = Lab::everything();
    Crowd::new(40, true).run(&mut lab, 100, 50);
    let attack = lab.only_attack();
    assert_eq!(attack.trigger.metric, Metric::TcpSyn);
    assert_eq!(lab.latest().main_vector(), AttackVector::TcpConnectionFlood);
}

#[test]
fn allowed_peers_are_counted_apart() {
    let judged = config(ALL, usual_thresholds());
    let allowed = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
    let mut lab = Lab::new(Config { allowed, ..judged.clone() });
    let flood =
        |n: u64| udp((ip("192.0.2.7"), 5000), victim(u16::try_from(n % 900).unwrap()), b"", 90);
    lab.run(30, 200, flood);
    lab.run(30, 200, |_| udp((ip("2001:db8:1::7"), 5000), (ip("2001:db8::9"), 9), b"", 90));
    lab.see(&flood(1));
    let summary = lab.tick();
    let target = target_of(&summary, VICTIM);
    assert_eq!((target.allowed.packets, target.unasked.get(Metric::Total).packets), (1, 0));
    assert!(lab.started().is_empty());
    // Its neighbour is not, and nobody is under another policy.
    lab.run(30, 200, |n| {
        udp((ip("192.0.3.7"), 5000), victim(1), &[u8::try_from(n % 9).unwrap()], 90)
    });
    assert_eq!(lab.started().len(), 1);
    let mut lab = Lab::new(judged);
    lab.run(30, 200, flood);
    assert_eq!(lab.started().len(), 1);
}

#[test]
fn what_the_capture_lost_counts_as_what_it_kept() {
    let flood = |n: u64| udp((source(n), 5000), victim(9), b"", 90);
    // Half of the threshold is seen, three quarters of everything are lost: twice the threshold.
    let mut lab = Lab::everything();
    lab.run(100, 10, flood);
    assert!(lab.started().is_empty());
    lab.lost = 30;
    lab.run(150, 10, flood);
    let attack = lab.expect(VICTIM, AttackVector::UdpFlood);
    let rate = attack.trigger.rate.packets.0;
    assert!((2500..=4500).contains(&rate), "{rate}");
    assert!(attack.confidence().get() < 0.9, "{attack:?}");
}

#[test]
fn errors_about_others_packets_are_no_attack_unless_they_do_harm() {
    for (per_tick, expected) in [(30, 0), (90, 0), (150, 1)] {
        let mut lab = Lab::everything();
        lab.run(200, per_tick, |n| icmp(source(n), ip(VICTIM), 3));
        assert_eq!(lab.started().len(), expected, "{per_tick} a tick");
        assert_eq!(lab.detector.borne() > 0, expected == 0, "{per_tick} a tick");
        for attack in lab.started() {
            assert_eq!(attack.main_vector(), AttackVector::IcmpBackscatter);
        }
    }
    // Something else beside them is an attack.
    let mut lab = Lab::everything();
    lab.run(200, 90, |n| match n % 2 {
        0 => icmp(source(n), ip(VICTIM), 3),
        _ => udp((source(n), 5000), victim(9), b"", 90),
    });
    assert_eq!(lab.started().len(), 1);
}

#[test]
fn a_long_time_of_bearable_errors_does_not_hide_a_flood_of_them() {
    let mut lab = Lab::everything();
    let error = |n| icmp(source(n), ip(VICTIM), 3);
    lab.run(12_000, 20, error);
    assert!(lab.started().is_empty() && lab.detector.borne() > 0);
    // Thirty times the threshold.
    let begin = lab.now;
    lab.run(100, 300, error);
    let detected = lab.only_attack().detected;
    assert!(detected.since(begin).as_millis() <= 500, "{:?}", detected.since(begin));

    // What is borne is not looked at in every tick, and yet something else is soon seen.
    let mut lab = Lab::everything();
    lab.run(400, 20, error);
    let begin = lab.now;
    lab.run(60, 80, |n| match n % 4 {
        0 => error(n),
        _ => tcp((source(n), 5000), victim(9), ACK, 0),
    });
    let detected = lab.only_attack().detected;
    assert!(detected.since(begin).as_millis() <= 600, "{:?}", detected.since(begin));
}

/// Pulses of one second every `period` seconds for `total`.
fn pulses(lab: &mut Lab, period: u64, total: u64) {
    for _ in 0..total / period {
        lab.run(100, 60, |n| udp((source(n), 5000), victim(9), b"", 90));
        lab.quiet((period - 1) * 100);
    }
}

fn evidence(attack: &Attack, fact: &str) -> String {
    let mut all = attack.vectors[0].evidence.iter();
    all.find(|evidence| evidence.fact == fact).map(|found| found.seen.clone()).unwrap_or_default()
}

#[test]
fn an_hour_of_pulses_is_one_attack() {
    let mut lab = Lab::everything();
    pulses(&mut lab, 10, 3600);
    assert_eq!((lab.started().len(), lab.ended()), (1, 0));
    assert!((300..=800).contains(&updates(&lab)), "{} updates", updates(&lab));
    let seen = evidence(lab.latest(), "pulses");
    assert!(seen.starts_with("came back 359 times"), "{seen}");
    // The last pulse is not waited for without end.
    lab.quiet(3000);
    assert_eq!(lab.ended(), 1);
}

#[test]
fn pulses_with_longer_pauses_are_soon_expected() {
    let mut lab = Lab::everything();
    pulses(&mut lab, 30, 900);
    let [first, second, third] = lab.started()[..] else { panic!("{:#?}", lab.events) };
    let delay = |attack: &Attack| attack.detected.since(attack.onset);
    assert!(delay(second) < delay(first), "{:?} {:?}", delay(first), delay(second));
    assert!(delay(third) < delay(first), "{:?} {:?}", delay(first), delay(third));
    assert!(evidence(third, "pulses").starts_with("came back 2 times, the last time after 2"));
    // After ten minutes of peace nobody expects anything.
    lab.quiet(100 * 1000);
    pulses(&mut lab, 30, 30);
    let fourth = lab.started()[3].clone();
    assert_eq!(delay(&fourth), delay(lab.started()[0]));
}

#[test]
fn a_flood_over_many_networks_is_one_on_the_interface() {
    let member = |n: u64| IpAddr::from([203, 0, u8::try_from(n % 97).unwrap(), 9]);
    let together = thresholds(&[(Metric::Total, 8000), (Metric::Udp, 5000)]);
    let judged = Config { interface: Some(together), ..config(ALL, usual_thresholds()) };
    let mut lab = Lab::new(judged.clone());
    lab.run(60, 400, |n| udp((source(n), 5000), (member(n), 9), b"", 300));
    let attack = lab.only_attack();
    assert_eq!(
        (attack.target.to_string().as_str(), attack.group.as_str()),
        ("0.0.0.0/0", "interface")
    );
    assert_eq!(attack.main_vector(), AttackVector::UdpFlood);
    lab.quiet(2000);
    assert_eq!(lab.ended(), 1);

    // A flood on one address is that address's matter, and so is one on the other family's.
    let mut lab = Lab::new(judged.clone());
    lab.run(60, 400, |n| udp((source(n), 5000), victim(9), b"", 300));
    lab.expect(VICTIM, AttackVector::UdpFlood);
    lab.detector.handle_config(lab.now, Config { interface: None, ..judged });
    lab.run(60, 400, |n| udp((source(n), 5000), (member(n), 9), b"", 300));
    assert_eq!(lab.started().len(), 1);
}

#[test]
fn an_interface_that_is_dark_holds_open_what_was_known_before_and_for_a_while() {
    let flood = |n: u64| udp((source(n), 5000), victim(9), b"", 90);
    let mut lab = Lab::everything();
    lab.run(30, 100, flood);
    lab.dark_since = Some(lab.now);
    lab.quiet(9 * 60 * 100);
    assert_eq!((lab.started().len(), lab.ended()), (1, 0));
    lab.quiet(2 * 60 * 100);
    assert_eq!(lab.ended(), 1);

    // What began later ends as usual, though the interface never comes back.
    lab.run(30, 100, flood);
    lab.quiet(30 * 100);
    assert_eq!((lab.started().len(), lab.ended()), (2, 2));
}

#[test]
fn what_only_comes_near_the_threshold_is_no_pulse() {
    let mut lab = Lab::everything();
    let flood = |n: u64| udp((source(n), 5000), victim(9), b"", 90);
    lab.run(100, 60, flood);
    // Three quarters of the threshold now and then: above the way out, below the way in.
    for _ in 0..20 {
        lab.quiet(500);
        lab.run(200, 15, flood);
    }
    assert_eq!(evidence(lab.latest(), "pulses"), "");
    lab.quiet(1200);
    assert_eq!((lab.started().len(), lab.ended()), (1, 1));
}

#[test]
fn so_many_attacks_go_on_at_once_and_more_are_said() {
    let mut config = config(ALL, thresholds(&[(Metric::Udp, 10)]));
    config.judging.max_targets = 8192;
    let mut lab = Lab::new(config);
    for _ in 0..30 {
        for host in 0..5000_u64 {
            let [.., high, low] = host.to_be_bytes();
            let target = IpAddr::from([203, 0, high, low]);
            (0..4).for_each(|n| lab.see(&udp((source(n), 5000), (target, 9), b"", 90)));
        }
        lab.tick();
    }
    assert_eq!(lab.started().len(), 4096);
    assert!(lab.detector.overlooked() >= 5000 - 4096, "{}", lab.detector.overlooked());
}
