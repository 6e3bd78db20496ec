//! `tidegate policy`: what a policy would do, without a daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tidegate_model::{Confidence, Signature};
use tidegate_policy::diff::diff;
use tidegate_policy::explain::{Question, explain, rate};
use tidegate_policy::scenario::{self, Scenario};
use tidegate_policy::{Policy, read_files, schema};

use super::{Failure, check};
use crate::cli::{Check, PolicyCommand, PolicyDiff, PolicyExplain, PolicyTest};
use crate::clock::Clock;
use crate::policy_repo::{LoadError, PolicyRepo};
use crate::recorded;

/// Where scenarios are, below a policy directory, which is read without its subdirectories.
const SCENARIOS: &str = "tests";

pub(super) fn policy(command: &PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(arguments) => check(&Check {
            config: None,
            policy: Some(arguments.directory.clone()),
            json: arguments.json,
        }),
        PolicyCommand::Test(arguments) => test(arguments),
        PolicyCommand::Explain(arguments) => explained(arguments),
        PolicyCommand::Diff(arguments) => compare(arguments),
        PolicyCommand::Schema => {
            println!("{:#}", schema::json_schema());
            Ok(())
        }
        PolicyCommand::Apply(arguments) => super::operate::apply(&arguments.connection),
    }
}

fn load(directory: &Path) -> Result<Arc<Policy>, Failure> {
    let policy = PolicyRepo::new(directory.to_owned()).load(None);
    Ok(Arc::new(policy.map_err(LoadError::into_report)?))
}

/// The scenarios of a directory; `required` if the user asked for them.
fn scenarios(directory: &Path, required: bool) -> Result<Vec<Scenario>, Failure> {
    if !required && !directory.is_dir() {
        return Ok(Vec::new());
    }
    Ok(scenario::read(&read_files(directory)?)?)
}

fn test(arguments: &PolicyTest) -> Result<(), Failure> {
    let policy = load(&arguments.directory)?;
    let default = arguments.directory.join(SCENARIOS);
    let scenarios = scenarios(arguments.scenarios.as_deref().unwrap_or(&default), true)?;
    let results: Vec<_> = scenarios.iter().map(|scenario| scenario.run(&policy)).collect();
    let failed = results.iter().filter(|result| !result.passed()).count();
    if arguments.json {
        let results: Vec<_> = results.iter().map(scenario::ScenarioResult::to_json).collect();
        println!("{}", json!({ "ok": failed == 0, "scenarios": results }));
    } else {
        for result in &results {
            println!("{result}");
        }
        println!("{} passed, {failed} failed", results.len() - failed);
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Found) }
}

fn explained(arguments: &PolicyExplain) -> Result<(), Failure> {
    let policy = load(&arguments.policy)?;
    let attack = arguments.vector.zip(arguments.pps);
    let explanation = explain(
        &policy,
        &Question {
            target: arguments.target,
            attack: attack.map(|(vector, packets)| (vector, rate(packets, arguments.bps))),
            confidence: Confidence::new(arguments.confidence),
            signature: Signature {
                source_ports: arguments.source_port.clone(),
                destination_ports: arguments.port.clone(),
                ..Signature::default()
            },
            unix: Some(Clock::unix_seconds()),
        },
    );
    if arguments.json {
        println!("{}", explanation.json);
    } else {
        println!("{}", explanation.text.trim_end());
    }
    Ok(())
}

fn compare(arguments: &PolicyDiff) -> Result<(), Failure> {
    let new = load(&arguments.new)?;
    let old = old_policy(&arguments.old, &arguments.new)?;
    let default = arguments.new.join(SCENARIOS);
    let required = arguments.scenarios.is_some();
    let scenarios = scenarios(arguments.scenarios.as_deref().unwrap_or(&default), required)?;
    let mut incidents = Vec::new();
    for path in &arguments.incidents {
        incidents.extend(recorded::read(path, &new).map_err(Failure::BadInput)?);
    }
    let difference = diff(&old, &new, &incidents, &scenarios);
    if arguments.json {
        println!("{}", difference.to_json());
    } else {
        println!("{difference}");
    }
    let found = arguments.exit_code && !difference.changed.is_empty();
    if found { Err(Failure::Found) } else { Ok(()) }
}

/// The policy in the directory `old`, or, if there is none, in the commit of that name.
fn old_policy(old: &Path, new: &Path) -> Result<Arc<Policy>, Failure> {
    if old.is_dir() {
        return load(old);
    }
    let commit = old.to_string_lossy();
    let policy = PolicyRepo::new(PathBuf::from(new)).load_commit(&commit);
    Ok(Arc::new(policy.map_err(LoadError::into_report)?))
}
