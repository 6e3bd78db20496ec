//! Thresholds that are learned, over weeks of virtual time.

use std::time::Duration;

use tidegate_detector::{
    Config, Detector, InForce, Learning, Origin, RestoreError, SavedBaselines, TargetTraffic,
    TrafficSummary,
};
use tidegate_model::{AttackEvent, Metric, Timestamp};

use crate::lab::{Lab, config, ip, target_of, thresholds, udp};

const HOST: &str = "203.0.113.9";
const NEW: &str = "203.0.113.77";
const HOUR: u64 = 3600;
/// Monday, 1 January 2024, 00:00 UTC.
const MONDAY: Duration = Duration::from_secs(1_704_067_200);
const POLICY: u64 = 100_000;

fn learning() -> Config {
    let limits = thresholds(&[(Metric::Total, POLICY), (Metric::Udp, POLICY)]);
    Config { learning: Some(Learning::default()), ..config(&["203.0.113.0/24"], limits) }
}

/// A detector that lives in hours of which it sees a hundred seconds each, a second at a time.
struct Weeks {
    detector: Detector,
    now: Timestamp,
    /// One datagram to the host.
    datagram: TargetTraffic,
    events: Vec<AttackEvent>,
    lost: u64,
}

impl Weeks {
    fn new() -> Self {
        let mut lab = Lab::new(learning());
        lab.see(&udp((ip("192.0.2.1"), 5000), (ip(HOST), 9), b"", 72));
        let datagram = target_of(&lab.tick(), HOST);
        let mut detector = Detector::new(learning());
        detector.handle_wall_clock(Timestamp::ZERO, MONDAY);
        Self { detector, now: Timestamp::ZERO, datagram, events: Vec::new(), lost: 0 }
    }

    fn second(&mut self, host: &str, rate: u64) {
        let start = self.now;
        self.now = start + Duration::from_secs(1);
        let mut target = TargetTraffic { address: ip(host), ..self.datagram.clone() };
        target.unasked = target.unasked.times(rate);
        let summary = TrafficSummary {
            start,
            end: self.now,
            targets: vec![target],
            packets: rate,
            lost: self.lost,
            ..TrafficSummary::default()
        };
        self.detector.handle_summary(&summary);
        while let Some(event) = self.detector.poll_event() {
            self.events.push(event);
        }
    }

    fn live(&mut self, hours: u64, rate: impl Fn(u64) -> u64) {
        for _ in 0..hours {
            let hour = self.now.as_nanos() / 1_000_000_000 / HOUR;
            for _ in 0..100 {
                self.second(HOST, rate(hour));
            }
            self.now = Timestamp::ZERO + Duration::from_secs((hour + 1) * HOUR);
        }
    }

    fn in_force(&self, host: &str) -> InForce {
        let all = self.detector.in_force(ip(host));
        *all.iter().find(|threshold| threshold.metric == Metric::Udp).unwrap()
    }

    fn limit(&self, host: &str) -> u64 {
        self.in_force(host).limit.packets.unwrap().0
    }

    fn total(&self) -> u64 {
        self.detector.in_force(ip(HOST))[0].limit.packets.unwrap().0
    }
}

#[test]
fn thresholds_tighten_between_the_first_day_and_the_third() {
    let mut weeks = Weeks::new();
    assert_eq!(weeks.limit(HOST), POLICY, "the policy's from the first second");
    weeks.live(24, |_| 4000);
    assert_eq!((weeks.limit(HOST), weeks.in_force(HOST).origin), (POLICY, Origin::Policy));
    let mut last = POLICY;
    for _ in 0..5 {
        weeks.live(11, |_| 4000);
        let now = weeks.limit(HOST);
        assert!(now < last || now < 23_000, "{now} after {last}");
        last = now;
    }
    let threshold = weeks.in_force(HOST);
    assert!((19_000..=23_000).contains(&last), "five times the usual: {last}");
    assert!((threshold.maturity - 1.0).abs() < 1e-9);
    assert_ne!(threshold.origin, Origin::Policy);
    // A neighbour that was never seen is judged by what the group is used to.
    assert_eq!(weeks.in_force(NEW).origin, Origin::LearnedOfGroup);
    assert!((19_000..=23_000).contains(&weeks.limit(NEW)), "{}", weeks.limit(NEW));
}

#[test]
fn each_hour_of_the_week_has_its_own() {
    let mut weeks = Weeks::new();
    let rate = |hour: u64| if hour % 24 == 12 { 10_000 } else { 3000 };
    weeks.live(3 * 168 + 3, rate);
    let night = weeks.total();
    weeks.live(9, rate);
    let noon = weeks.total();
    assert!(noon > 2 * night, "{noon} at noon, {night} at night");
    assert!(night >= 15_000 && noon <= 60_000, "{noon} at noon, {night} at night");
}

#[test]
fn no_threshold_falls_below_its_floor() {
    let mut weeks = Weeks::new();
    weeks.live(100, |_| 10);
    assert_eq!(weeks.limit(HOST), POLICY / 10);
}

#[test]
fn a_flood_below_the_policys_threshold_is_found_and_teaches_nothing() {
    let mut weeks = Weeks::new();
    weeks.live(100, |_| 2000);
    let before = weeks.limit(HOST);
    for _ in 0..3 * HOUR {
        weeks.second(HOST, POLICY * 9 / 10);
    }
    let started = weeks.events.iter().filter(|event| matches!(event, AttackEvent::Started(_)));
    assert_eq!(started.count(), 1);
    let attack = weeks.events[0].attack();
    assert!(attack.excess > 4.0, "{attack:?}");
    assert!(attack.trigger.limit.packets.unwrap().0 <= before);
    assert!(weeks.limit(HOST) <= before * 21 / 20, "{before} became {}", weeks.limit(HOST));
}

#[test]
fn slow_poison_works_slowly() {
    let mut weeks = Weeks::new();
    weeks.live(100, |_| 2000);
    let before = weeks.limit(HOST);
    // As much as is borne, day after day.
    for day in 1..=3 {
        weeks.live(24, |_| 9000);
        let bound = before as f64 * 1.25_f64.powi(day) * 1.13;
        assert!((weeks.limit(HOST) as f64) < bound, "day {day}: {}", weeks.limit(HOST));
    }
}

#[test]
fn what_the_capture_lost_teaches_nothing() {
    let mut weeks = Weeks::new();
    weeks.lost = 1000;
    weeks.live(100, |_| 2000);
    assert_eq!(weeks.in_force(HOST).maturity.to_bits(), 0.0_f64.to_bits());
}

#[test]
fn what_was_learned_survives_a_restart() {
    let mut weeks = Weeks::new();
    weeks.live(200, |hour| 1000 + 500 * (hour % 24));
    let text = serde_json::to_string(&weeks.detector.save_baselines()).unwrap();
    let saved: SavedBaselines = serde_json::from_str(&text).unwrap();
    let mut other = Weeks::new();
    other.detector.restore_baselines(&saved).unwrap();
    other.now = weeks.now;
    weeks.second(HOST, 10);
    other.second(HOST, 10);
    assert_eq!(other.detector.in_force(ip(HOST)), weeks.detector.in_force(ip(HOST)));
    assert_eq!(other.detector.in_force(ip(NEW)), weeks.detector.in_force(ip(NEW)));
    assert!(text.len() < 8000, "{}", text.len());
}

#[test]
fn damaged_baselines_are_refused_as_a_whole() {
    let mut weeks = Weeks::new();
    weeks.live(100, |_| 2000);
    let good = weeks.detector.save_baselines();
    type Damage = fn(&mut SavedBaselines);
    let damages: [(&str, Damage); 7] = [
        ("version 2", |saved| saved.version = 2),
        ("no address", |saved| saved.hosts[0].name = "web".into()),
        ("168 octets", |saved| saved.hosts[0].hourly[0].truncate(9)),
        ("168 octets", |saved| saved.hosts[0].hourly[0].replace_range(0..1, "x")),
        ("number of series", |saved| saved.groups[0].hourly.clear()),
        ("number of levels", |saved| saved.groups[0].levels.push(1)),
        ("number of levels", |saved| saved.hosts[0].quantiles.clear()),
    ];
    for (says, damage) in damages {
        let mut saved = good.clone();
        damage(&mut saved);
        let mut fresh = Weeks::new();
        let error: RestoreError = fresh.detector.restore_baselines(&saved).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains("starts from nothing"), "{error}");
        assert_eq!(fresh.limit(HOST), POLICY);
    }
    assert!(serde_json::from_str::<SavedBaselines>("{\"version\":1}").is_err());
}

#[test]
fn hosts_are_remembered_up_to_a_bound() {
    let mut weeks = Weeks::new();
    let few = Learning { max_hosts: 10, ..Learning::default() };
    let config = Config { learning: Some(few), ..learning() };
    weeks.detector.handle_config(weeks.now, config);
    for round in 0..3 {
        for host in 0..100 {
            weeks.second(&format!("203.0.113.{host}"), 500);
        }
        assert!(weeks.detector.save_baselines().hosts.len() <= 10, "round {round}");
    }
    assert!(weeks.detector.unlearned() >= 100);
}

#[test]
fn junk_makes_room_soon_and_no_step_of_the_clock_makes_hosts_forgotten() {
    let mut weeks = Weeks::new();
    let few = Learning { max_hosts: 10, ..Learning::default() };
    weeks.detector.handle_config(weeks.now, Config { learning: Some(few), ..learning() });
    for host in 0..100 {
        weeks.second(&format!("203.0.113.{}", host + 100), 500);
    }
    let hosts = |weeks: &Weeks| {
        let saved = weeks.detector.save_baselines().hosts;
        saved.into_iter().map(|host| host.name).collect::<Vec<_>>()
    };
    assert_eq!(hosts(&weeks).len(), 10);
    weeks.now = Timestamp::ZERO + Duration::from_secs(HOUR);
    weeks.live(4, |_| 4000);
    assert_eq!(hosts(&weeks), [HOST]);

    weeks.live(96, |_| 4000);
    let before = weeks.limit(HOST);
    for years in [30, 1, 60] {
        let wall = Duration::from_secs(years * 365 * 24 * HOUR);
        weeks.detector.handle_wall_clock(weeks.now, wall);
        weeks.live(2, |_| 4000);
    }
    assert_eq!((hosts(&weeks), weeks.limit(HOST)), (vec![HOST.to_owned()], before));
    // Two years by the clock that does not step are another matter.
    weeks.now = weeks.now + Duration::from_secs(2 * 365 * 24 * HOUR);
    weeks.second(NEW, 500);
    assert_eq!(hosts(&weeks), [] as [String; 0]);
}

/// However the world's clock flickers, an hour takes an hour.
#[test]
fn a_flickering_clock_teaches_no_faster() {
    let mut weeks = Weeks::new();
    weeks.live(30, |_| 1000);
    let (learned, hour) = (weeks.detector.save_baselines().hosts[0].learned, HOUR * 30);
    for flicker in 0..200 {
        let wall = MONDAY + Duration::from_secs(hour + HOUR * (flicker % 2));
        weeks.detector.handle_wall_clock(weeks.now, wall);
        (0..15).for_each(|_| weeks.second(HOST, 9000));
    }
    assert!(weeks.detector.save_baselines().hosts[0].learned <= learned + 2);
}

#[test]
fn people_are_shown_what_is_usual_and_what_follows_from_it() {
    let mut weeks = Weeks::new();
    weeks.live(100, |_| 2000);
    let table = weeks.detector.baselines(None, 10);
    let [group] = table.groups.as_slice() else { panic!("{table:?}") };
    let [host] = table.hosts.as_slice() else { panic!("{table:?}") };
    assert_eq!((group.name.as_str(), host.name.as_str()), ("all", HOST));
    assert_eq!((host.hours, table.known_hosts, table.unlearned), (99, 1, 0));
    assert_eq!(table.hour, 99);
    let [total, udp] = host.metrics.as_slice() else { panic!("{host:?}") };
    assert_eq!((total.metric, udp.metric, udp.origin), ("total", "udp", "learned-of-host"));
    assert!((1900..2300).contains(&udp.usual_packets_per_second), "{udp:?}");
    assert_eq!(udp.limit_packets_per_second, Some(weeks.limit(HOST)));
    assert_eq!(udp.limit_bits_per_second, None);
    let elsewhere = Some("203.0.113.128/25".parse().unwrap());
    assert!(weeks.detector.baselines(elsewhere, 10).hosts.is_empty());
    assert!(weeks.detector.baselines(None, 0).hosts.is_empty());
    assert!(serde_json::to_string(&table).unwrap().contains("\"limit_packets_per_second\""));
}
