//! The demonstration as its users run it, to its end and interrupted.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Turn, processes_with};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidegate_interop_tests::lab::{Lab, LabError, require, until};

const LIMIT: Duration = Duration::from_secs(20);

/// A running `tidegate-lab demo --json`, or a line that says what is missing for it.
fn demo(test: &str) -> Option<(Turn, Child)> {
    require::or_skip(test, require::program("bird"))?;
    require::or_skip(test, Lab::new())?;
    let programs = common::programs();
    let turn = Turn::wait();
    let mut command = Command::new(&programs.lab);
    let child = command.args(["demo", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    Some((turn, child))
}

/// Lines that the demonstration prints until one has this step.
fn read_until(output: &mut impl BufRead, step: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    for line in output.lines() {
        let entry: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let found = entry["step"] == step;
        seen.push(entry);
        if found {
            break;
        }
    }
    assert!(seen.last().is_some_and(|entry| entry["step"] == step), "no {step}: {seen:#?}");
    seen
}

/// What is left of the demonstration of process `id`: processes, and its folder.
fn remains(id: u32) -> (Vec<String>, PathBuf) {
    let name = format!("tidegate-lab-{id}-0");
    (processes_with(&name), std::env::temp_dir().join(name))
}

#[test]
fn it_shows_routes_come_and_go() {
    let Some((_turn, mut child)) = demo("it_shows_routes_come_and_go") else { return };
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let entries = read_until(&mut output, "result");
    assert!(child.wait().unwrap().success(), "{entries:#?}");
    for (attack, vector) in [("SYN flood", "syn-flood"), ("NTP amplification", "ntp-amplification")]
    {
        let first = |step: &str| {
            let found = entries.iter().find(|e| e["attack"] == attack && e["step"] == step);
            found.unwrap_or_else(|| panic!("{attack}: no {step}: {entries:#?}"))
        };
        let order = ["onset", "detected", "announced", "last-packet", "gone-from-bird"];
        let times = order.map(|step| first(step)["time_ns"].as_u64().unwrap());
        assert!(times.is_sorted(), "{attack}: {order:?} at {times:?}");
        assert!(first("classified")["text"].as_str().unwrap().starts_with(vector));
        let seen = first("seen-in-bird");
        assert!(seen["time_ns"].as_u64() >= first("onset")["time_ns"].as_u64(), "{seen}");
        for step in ["decided", "end-recognised", "withdrawn"] {
            first(step);
        }
    }
    let (processes, directory) = remains(child.id());
    assert!(processes.is_empty(), "{processes:#?}");
    assert!(!directory.exists());
}

#[test]
fn interrupted_it_leaves_nothing_behind() {
    let Some((_turn, mut child)) = demo("interrupted_it_leaves_nothing_behind") else { return };
    let mut output = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut output, "seen-in-bird");
    let id = child.id();
    assert!(!remains(id).0.is_empty(), "the demonstration runs without processes");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = until("the end of the demonstration", LIMIT, || ended(&mut child)).unwrap();
    assert_eq!(status, Some(130));
    let (processes, directory) = remains(id);
    assert!(processes.is_empty(), "{processes:#?}");
    assert!(!directory.exists());
}

#[test]
fn killed_it_leaves_no_process_behind() {
    let Some((_turn, mut child)) = demo("killed_it_leaves_no_process_behind") else { return };
    let mut output = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut output, "benign");
    let id = child.id();
    child.kill().unwrap();
    child.wait().unwrap();
    until("the end of its processes", LIMIT, || Ok(remains(id).0.is_empty().then_some(())))
        .unwrap();
    // Only the folder of logs is left.
    let (_, directory) = remains(id);
    std::fs::remove_dir_all(directory).unwrap();
}

fn ended(child: &mut Child) -> Result<Option<Option<i32>>, LabError> {
    Ok(child.try_wait().unwrap().map(|status| status.code()))
}
