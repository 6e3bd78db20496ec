//! Single stories that once went wrong, or must never.

use super::*;

/// An engine and its backends, stepped by hand.
struct Story {
    simulation: Simulation,
}

impl Story {
    fn new(text: &str, floods: &[(&str, Flood, u32)]) -> Self {
        let policy = policy(text);
        let traffic = |(target, flood, packets): &(&str, Flood, u32)| {
            listed(&policy, target.parse().unwrap(), *flood, *packets)
        };
        let traffic: Vec<_> = floods.iter().map(traffic).collect();
        let policies = [Arc::clone(&policy), policy];
        let mut simulation = Simulation::new(1, &policies, &traffic);
        simulation.faults = false;
        for truth in simulation.floods.values_mut() {
            truth.on = true;
        }
        Self { simulation }
    }

    fn up(mut self) -> Self {
        for id in self.simulation.world.ids() {
            self.simulation.world.set_up(&id, true);
        }
        self
    }

    fn run(&mut self, span: Duration) {
        let until = self.simulation.now + span;
        while self.simulation.now < until {
            self.simulation.step();
        }
    }

    fn calm(&mut self) {
        self.set_flood(false);
    }

    fn set_flood(&mut self, on: bool) {
        for truth in self.simulation.floods.values_mut() {
            truth.on = on;
        }
    }

    fn peer(&mut self, name: &str) -> &mut world::Peer {
        self.simulation.world.peers.get_mut(&BackendId::Peer(name.to_owned())).unwrap()
    }
}

const SECOND: Duration = Duration::from_secs(1);
const CRITICAL: [(&str, Flood, u32); 1] = [("203.0.113.10", Flood::Udp, 600)];

/// The probe lifts the blackhole, but the peer does not read: the target stays hidden, and its
/// quiet proves nothing. The simulation's check of every end is what fails here.
#[test]
fn a_withdraw_that_is_stuck_proves_no_end() {
    let mut story = Story::new(POLICY, &CRITICAL).up();
    story.run(SECOND * 5);
    assert_eq!(story.peer("one").held.len(), 1);
    story.peer("one").stuck = true;
    story.run(SECOND * 60);
    assert_eq!(story.peer("one").held.len(), 1, "the withdraw was not to get through");
}

/// A blackhole that no peer has taken hides nothing: the end of the attack is seen as it is.
#[test]
fn a_blackhole_at_a_peer_that_is_down_hides_nothing() {
    let mut story = Story::new(POLICY, &CRITICAL).up();
    for id in story.simulation.world.ids() {
        story.simulation.world.set_up(&id, false);
    }
    story.run(SECOND * 60);
    story.calm();
    story.run(SECOND * 5);
    assert_eq!(story.simulation.ended, 1);
}

#[test]
fn without_peers_nothing_is_announced_and_nothing_breaks() {
    let text = POLICY.split("[[peers]]").next().unwrap();
    let text = text.replace("\"rtbh\"", "\"observe\"").replace("\"flowspec\"", "\"local\"");
    let mut story = Story::new(&text, &FLOODS).up();
    story.run(SECOND * 10);
    let held = story.simulation.world.held();
    assert!(held.iter().all(|(backend, _)| *backend == BackendId::Kernel), "{held:?}");
    story.calm();
    story.simulation.run_until_clear(CLEAR_WITHIN);
}

#[test]
fn ipv6_alone_is_enough() {
    let text = POLICY
        .replace("\"203.0.113.0/24\", \"198.51.100.0/24\", ", "")
        .replace("never-touch = [\"203.0.113.53\"]", "")
        .replace("10.99.0.2", "2001:db8:ffff::2")
        .replace("10.99.0.3", "2001:db8:ffff::3");
    let mut story = Story::new(&text, &[("2001:db8:1::7", Flood::Udp, 600)]).up();
    story.run(SECOND * 3);
    assert_eq!(story.peer("one").held.len(), 1);
    assert_eq!(story.peer("two").held.len(), 1);
    story.calm();
    story.simulation.run_until_clear(CLEAR_WITHIN);
}

/// Flapping neither leaves a route behind nor stops the mitigation for good.
#[test]
fn a_peer_that_flaps_every_second_is_served_whenever_it_is_there() {
    let mut story = Story::new(POLICY, &[("203.0.113.20", Flood::Syn, 140)]).up();
    let one = BackendId::Peer("one".to_owned());
    story.run(SECOND * 2);
    for _ in 0..30 {
        story.simulation.world.set_up(&one, false);
        story.run(SECOND / 2);
        story.simulation.world.set_up(&one, true);
        story.run(SECOND / 2);
        assert_eq!(story.peer("one").held.len(), 1);
    }
    story.calm();
    story.simulation.run_until_clear(CLEAR_WITHIN);
}

/// Time that was not watched is no quiet, however long it was.
#[test]
fn a_stalled_engine_ends_no_attack() {
    let mut story = Story::new(POLICY, &[("203.0.113.20", Flood::Syn, 140)]).up();
    story.run(SECOND * 2);
    for _ in 0..5 {
        story.simulation.stalled = story.simulation.now + SECOND * 20;
        story.run(SECOND * 21);
        assert_eq!(story.peer("one").held.len(), 1);
    }
}

/// The sensor loses nearly everything: what is left is below every threshold, and no end.
#[test]
fn lost_packets_end_no_attack() {
    let mut story = Story::new(POLICY, &[("203.0.113.20", Flood::Syn, 140)]).up();
    story.run(SECOND * 2);
    assert_eq!(story.peer("one").held.len(), 1);
    let policy = Arc::clone(&story.simulation.policies[0]);
    let target = "203.0.113.20".parse().unwrap();
    let rest = listed_with_loss(&policy, target, Flood::Syn, (7, 133));
    for _ in 0..100 {
        let start = story.simulation.now;
        story.simulation.now = start + STEP;
        let mut tick = summary(start, story.simulation.now, vec![rest.clone()]);
        tick.lost = 133;
        story.simulation.handle(EngineInput::Summary(&tick));
        story.simulation.deliver();
    }
    assert_eq!(story.peer("one").held.len(), 1);
}

/// Over an hour of pulses a route at a peer comes and goes at most twice, whatever it is and however
/// soon the detector calls a pulse over. Rules in the kernel harm nobody by coming and going.
#[test]
fn a_pulse_wave_makes_at_most_two_cycles() {
    for (packets, exit_hold) in [(600, "2s"), (600, "10s"), (100, "2s"), (100, "10s"), (60, "2s")] {
        let text = POLICY
            .replace("exit-hold = \"2s\"", &format!("exit-hold = \"{exit_hold}\""))
            .replace("cycles = 1000", "")
            .replace("120s", "6h");
        let mut story = Story::new(&text, &[("203.0.113.10", Flood::Udp, packets)]).up();
        for _ in 0..360 {
            story.set_flood(true);
            story.run(SECOND);
            story.set_flood(false);
            story.run(SECOND * 9);
        }
        let Simulation { announced, withdrawn, .. } = &story.simulation;
        assert!(*announced > 0, "{packets} packets, exit hold {exit_hold}: nothing was done");
        let at_peers = withdrawn.iter().filter(|((backend, _), _)| *backend != BackendId::Kernel);
        assert!(
            at_peers.clone().all(|(_, times)| *times <= 2),
            "{packets} packets, exit hold {exit_hold}: {withdrawn:?}"
        );
    }
}

/// A blackhole that waits for its peer hides nothing and learns nothing: its hold does not grow.
#[test]
fn a_blackhole_that_waits_for_its_peer_does_not_grow() {
    let text = POLICY.replace("if-not-enforced = \"next\"", "").replace("120s", "6h");
    let mut story = Story::new(&text, &CRITICAL).up();
    for name in ["one", "two"] {
        let id = BackendId::Peer(name.to_owned());
        story.simulation.world.set_up(&id, false);
    }
    story.run(SECOND * 600);
    assert!(story.simulation.decided.contains(&"not-enforced"), "nobody was told");
    for name in ["one", "two"] {
        let id = BackendId::Peer(name.to_owned());
        story.simulation.world.set_up(&id, true);
    }
    story.run(SECOND * 2);
    assert_eq!(story.peer("one").held.len(), 1);
    story.calm();
    // The shortest hold, two looks and the end of the attack.
    story.simulation.run_until_clear(SECOND * 30);
}

#[test]
fn what_the_kernel_refuses_is_tried_at_a_peer() {
    let mut story = Story::new(POLICY, &[("203.0.113.20", Flood::Syn, 60)]);
    story.simulation.world.kernel.refuses = true;
    let mut story = story.up();
    story.run(SECOND * 10);
    let decided = story.simulation.decided.clone();
    assert!(decided.contains(&"not-enforced"), "nobody was told: {decided:?}");
    assert_eq!(story.peer("one").held.len(), 1);
    story.calm();
    story.simulation.world.kernel.refuses = false;
    story.simulation.run_until_clear(CLEAR_WITHIN);
}

/// Who is blind does not look: the blackhole stays as long as nobody would see the flood.
#[test]
fn no_blackhole_is_lifted_while_the_sensor_is_blind() {
    let mut story = Story::new(POLICY, &CRITICAL).up();
    story.run(SECOND * 5);
    assert_eq!(story.peer("one").held.len(), 1);
    story.simulation.blind = true;
    for _ in 0..60 {
        story.run(SECOND);
        assert_eq!(story.peer("one").held.len(), 1);
    }
    story.simulation.blind = false;
    story.calm();
    story.simulation.run_until_clear(CLEAR_WITHIN);
}

/// With two peers the first look behind a blackhole opens one of them; the flood shows there.
#[test]
fn a_look_opens_one_peer_at_a_time() {
    let mut story = Story::new(POLICY, &CRITICAL).up();
    story.run(SECOND * 3);
    let mut looked = false;
    for _ in 0..600 {
        story.run(STEP);
        let held = story.peer("one").held.len() + story.peer("two").held.len();
        assert!(held >= 1, "both peers were opened to a flood that goes on");
        looked |= held == 1;
    }
    assert!(looked, "nobody looked");
}
