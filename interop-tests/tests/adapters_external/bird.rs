//! BIRD by its include files and control socket.

use std::fs;

use tidegate_adapters::bird::BirdConfig;
use tidegate_adapters::external::ExternalConfig;
use tidegate_interop_tests::lab::bird::Bird;
use tidegate_model::OutcomeKind;

use crate::stage::{
    Driven, ROUTER, Stage, THIRD, announce, applied, blackhole, four, nlris, rule, withdraw,
};

/// The configuration of a BIRD that passes our routes on to the third router.
fn configuration(config: &BirdConfig) -> String {
    format!(
        "log stderr all;
router id {ROUTER};
ipv4 table master4;
ipv6 table master6;
protocol device {{ }}
{}
protocol static mine {{ ipv4; route 203.0.113.200/32 blackhole; }}
protocol bgp third {{
    local {ROUTER} as 65001;
    neighbor {THIRD} as 65003;
    passive on;
    ipv4 {{ import none; export where proto = \"tidegate_rtbh4\"; next hop keep; }};
    ipv6 {{ import none; export where proto = \"tidegate_rtbh6\"; next hop keep; }};
    flow4 {{ table flowtab4; import none; export all; }};
    flow6 {{ table flowtab6; import none; export all; }};
}}
",
        config.snippet()
    )
}

fn config(stage: &Stage) -> BirdConfig {
    let directory = stage.router.directory();
    BirdConfig {
        control: directory.join("router.ctl"),
        directory: directory.join("tidegate"),
        ..BirdConfig::default()
    }
}

/// BIRD with empty include files.
pub(crate) fn run(test: &str) -> Option<(Stage, BirdConfig, Bird)> {
    let stage = Stage::new(test, &[])?;
    let config = config(&stage);
    fs::create_dir(&config.directory).unwrap();
    for kind in ["rtbh4", "rtbh6", "flow4", "flow6"] {
        fs::write(config.directory.join(format!("{kind}.conf")), "").unwrap();
    }
    let bird = Bird::start(&stage.router, "router", &configuration(&config)).unwrap();
    Some((stage, config, bird))
}

/// The same, and its driver.
pub(crate) fn start(test: &str) -> Option<(Stage, BirdConfig, Bird, Driven)> {
    let (stage, config, bird) = run(test)?;
    let mut driven = Driven::start(ExternalConfig::Bird(config.clone()));
    driven.wait_up();
    Some((stage, config, bird, driven))
}

#[test]
fn bird_holds_what_it_is_told_in_all_families() {
    let test = "bird_holds_what_it_is_told_in_all_families";
    let Some((mut stage, _config, _bird, mut driven)) = start(test) else { return };
    driven.goes_through_all_families(&mut stage);
}

#[test]
fn a_configuration_that_does_not_check_changes_nothing() {
    let test = "a_configuration_that_does_not_check_changes_nothing";
    let Some((mut stage, config, _bird, mut driven)) = start(test) else { return };
    let [first, _, flow, _] = four();
    assert_eq!(driven.announce(&first), applied());
    stage.expect_third(&[&first]);
    let file = stage.write("router.conf", &(configuration(&config) + "protocol nonsense {\n"));

    let OutcomeKind::Failed { why } = driven.announce(&flow) else { panic!("not failed") };
    assert!(why.contains("router.conf"), "{why}");
    stage.expect_third(&[&first]);
    assert_eq!(driven.observe(), nlris([&first]));
    let text = fs::read_to_string(config.directory.join("flow4.conf")).unwrap();
    assert!(!text.contains("route"), "{text}");

    // It can go nevertheless.
    assert_eq!(driven.withdraw(&first), applied());
    stage.expect_third(&[]);

    fs::write(file, configuration(&config)).unwrap();
    assert_eq!(driven.announce(&flow), applied());
    assert_eq!(driven.announce(&first), applied());
    stage.expect_third(&[&first, &flow]);
}

#[test]
fn a_withdraw_needs_neither_a_disk_nor_a_sound_configuration_nor_its_company() {
    let test = "a_withdraw_needs_neither_a_disk_nor_a_sound_configuration_nor_its_company";
    let Some((mut stage, config, _bird, mut driven)) = start(test) else { return };
    let (one, two, flow) =
        (blackhole("203.0.113.7"), blackhole("203.0.113.8"), rule("203.0.113.9", 0.0));
    let all = [&one, &two, &flow];
    assert_eq!(driven.tell_all(all.map(announce)), vec![applied(); 3]);
    stage.expect_third(&all);

    // In the way of the new file: nothing can be written.
    let beside = config.directory.join("rtbh4.new");
    fs::create_dir(&beside).unwrap();
    let answers = driven.tell_all([announce(&blackhole("203.0.113.10")), withdraw(&one)]);
    assert!(matches!(&answers[0], OutcomeKind::Failed { why } if why.contains("rtbh4.new")));
    assert_eq!(answers[1], applied());
    // With its protocol goes what else that held, and is seen to be missing.
    stage.expect_third(&[&flow]);
    assert_eq!(driven.observe(), nlris([&flow]));
    fs::remove_dir(&beside).unwrap();
    assert_eq!(driven.observe(), nlris([&flow]));
    assert_eq!(driven.announce(&two), applied());
    stage.expect_third(&[&two, &flow]);

    let sound = configuration(&config);
    let file = stage.write("router.conf", &(sound.clone() + "protocol nonsense {\n"));
    assert_eq!(driven.withdraw(&flow), applied());
    stage.expect_third(&[&two]);
    fs::write(file, sound).unwrap();
    assert_eq!(driven.announce(&flow), applied());
    stage.expect_third(&[&two, &flow]);
}

/// A crash between writing the files and configuring: what BIRD holds counts.
#[test]
fn what_was_written_but_never_configured_does_not_come_up_later() {
    let test = "what_was_written_but_never_configured_does_not_come_up_later";
    let Some((mut stage, config, _bird, mut driven)) = start(test) else { return };
    let (held, never) = (blackhole("203.0.113.7"), blackhole("203.0.113.8"));
    assert_eq!(driven.announce(&held), applied());
    stage.expect_third(&[&held]);
    drop(driven);
    let file = config.directory.join("rtbh4.conf");
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replace("203.0.113.7/32", "203.0.113.8/32");
    assert_ne!(text, changed);
    fs::write(&file, changed).unwrap();

    let mut driven = Driven::start(ExternalConfig::Bird(config.clone()));
    driven.wait_up();
    assert_eq!(driven.observe(), nlris([&held]));
    // Somebody else configures BIRD.
    let control = config.control.to_str().unwrap();
    stage.router.run("birdc", ["-s", control, "configure"]).unwrap();
    assert_eq!(driven.observe(), nlris([&held]));
    stage.expect_third(&[&held]);
    assert_eq!(driven.withdraw(&held), applied());
    assert_eq!(driven.withdraw(&never), applied());
    stage.expect_third(&[]);
}

#[test]
fn what_is_left_behind_in_bird_is_found_and_can_be_withdrawn() {
    let test = "what_is_left_behind_in_bird_is_found_and_can_be_withdrawn";
    let Some((mut stage, config, bird, mut driven)) = start(test) else { return };
    let routes = [blackhole("203.0.113.7"), rule("203.0.113.9", 0.0)];
    for route in &routes {
        assert_eq!(driven.announce(route), applied());
    }
    // Our end dies, and BIRD is restarted: its files keep the routes.
    drop(driven);
    drop(bird);
    fs::remove_file(&config.control).unwrap();
    let mut driven = Driven::start(ExternalConfig::Bird(config.clone()));
    assert!(driven.wait_down().contains("router.ctl"));
    let refused = driven.announce(&routes[0]);
    assert!(matches!(refused, OutcomeKind::Failed { .. }), "{refused:?}");
    let _bird = Bird::start(&stage.router, "router", &configuration(&config)).unwrap();
    driven.wait_up();
    assert_eq!(driven.observe(), nlris(&routes));
    stage.expect_third(&[&routes[0], &routes[1]]);
    for route in &routes {
        assert_eq!(driven.withdraw(route), applied());
    }
    stage.expect_third(&[]);
}

#[test]
fn a_protocol_that_is_missing_in_bird_is_named() {
    let test = "a_protocol_that_is_missing_in_bird_is_named";
    let Some((_stage, config, _bird, _driven)) = start(test) else { return };
    let other = BirdConfig { prefix: "other".to_owned(), ..config };
    let why = Driven::start(ExternalConfig::Bird(other)).wait_down();
    assert!(why.contains("other_rtbh4") && why.contains("snippet bird"), "{why}");
}
