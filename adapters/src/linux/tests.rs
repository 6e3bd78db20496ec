//! Against a real kernel, in a network namespace of its own. Without root it says so on one line;
//! where `CI` is set that is a failure.

use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsFd, OwnedFd};
use tidegate_model::Route;

use super::*;
use crate::external::ExternalConfig;
use crate::reaper::withdraw_all;

/// A network namespace that goes with its value.
struct Namespace(String);

impl Namespace {
    fn new(test: &str) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        assert!(root || std::env::var_os("CI").is_none(), "{test} needs root");
        if !root {
            println!("skipped {test}: it needs root for network namespaces");
            return None;
        }
        let namespace = Self(format!("tgl-{}-{}", std::process::id(), test.len()));
        assert!(
            Command::new("ip").args(["netns", "add", &namespace.0]).status().unwrap().success()
        );
        namespace.ip("link set lo up");
        Some(namespace)
    }

    fn ip(&self, words: &str) -> String {
        let words = ["-n", &self.0].into_iter().chain(words.split(' '));
        let output = Command::new("ip").args(words).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `work` on a runtime of a thread in the namespace.
    fn enter<R: Send>(&self, work: impl AsyncFnOnce() -> R + Send) -> R {
        let path = format!("/var/run/netns/{}", self.0);
        let file: OwnedFd = std::fs::File::open(path).unwrap().into();
        std::thread::scope(|scope| {
            let entered = || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(work())
            };
            scope.spawn(entered).join().unwrap()
        })
    }

    /// What happens to a packet to `address`.
    fn fate(&self, address: &str) -> bool {
        let words = ["-n", &self.0, "route", "get", address];
        !Command::new("ip").args(words).output().unwrap().status.success()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.0]).status());
    }
}

fn blackhole(address: &str) -> Route {
    Route {
        nlri: Nlri::Unicast(address.parse().unwrap()),
        next_hop: None,
        communities: [].into(),
        large_communities: [].into(),
        actions: vec![],
    }
}

#[test]
fn blackholes_come_and_go_and_those_of_others_stay() {
    let test = "blackholes_come_and_go_and_those_of_others_stay";
    let Some(namespace) = Namespace::new(test) else { return };
    namespace.ip("route add default dev lo");
    namespace.ip("-6 route add default dev lo");
    let hosts = ["203.0.113.7", "2001:db8:1::7"];
    let routes = hosts.map(blackhole);
    namespace.enter(async || {
        let mut driver = LinuxDriver::new(LinuxConfig::default());
        driver.connect().await.unwrap();
        assert_eq!(driver.observe().await.unwrap(), Observation::default());
        let announce: Vec<_> = routes.iter().cloned().map(Change::Announce).collect();
        for _ in 0..2 {
            assert_eq!(driver.apply(&announce).await.unwrap(), vec![Ok(()); 2]);
        }
        assert!(hosts.iter().all(|host| namespace.fate(host)));
        assert!(!namespace.fate("203.0.113.8"));

        // Somebody's own, one of ours by hand, and the rule.
        namespace.ip("route add blackhole 203.0.113.9/32 table 29797 proto static");
        namespace.ip("route del blackhole 203.0.113.7/32 table 29797");
        namespace.ip("rule del pref 1000");
        assert!(!namespace.fate("203.0.113.9"));
        driver.probe().await.unwrap();
        assert!(namespace.fate("203.0.113.9"), "the rule is put back");
        let seen = driver.observe().await.unwrap();
        assert_eq!(seen.ours, [Seen { nlri: routes[1].nlri.clone(), route: None }]);
        assert_eq!(seen.foreign, [blackhole("203.0.113.9").nlri].into());
        let foreign = Change::Withdraw(blackhole("203.0.113.9").nlri);
        let withdraw: Vec<_> =
            routes.iter().map(|one| Change::Withdraw(one.nlri.clone())).collect();
        assert_eq!(driver.apply(&withdraw).await.unwrap(), vec![Ok(()); 2]);
        assert_eq!(driver.apply(&[foreign]).await.unwrap(), [Ok(())]);
        assert!(namespace.fate("203.0.113.9"), "it is not ours");
        assert!(hosts.iter().all(|host| !namespace.fate(host)));

        // What is left behind is found by another process.
        assert_eq!(driver.apply(&announce).await.unwrap(), vec![Ok(()); 2]);
        drop(driver);
        let backends = [("host".to_owned(), ExternalConfig::Linux(LinuxConfig::default()))].into();
        assert_eq!(withdraw_all(&backends).await["host"], Ok(2));
    });
    assert!(hosts.iter().all(|host| !namespace.fate(host)));
}
