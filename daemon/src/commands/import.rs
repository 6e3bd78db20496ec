//! `tidegate import`.

use serde_json::json;

use super::Failure;
use crate::cli::{Import, ImportFastnetmon};
use crate::config;
use crate::import::fastnetmon::{self, Files, Known};

pub(super) fn import(command: &Import) -> Result<(), Failure> {
    match command {
        Import::Fastnetmon(arguments) => fastnetmon(arguments),
    }
}

fn fastnetmon(arguments: &ImportFastnetmon) -> Result<(), Failure> {
    let ImportFastnetmon { conf, networks, whitelist, .. } = arguments;
    let files = Files::read(conf, networks.as_deref(), whitelist.as_deref());
    let known = Known {
        asn: arguments.asn,
        router_id: arguments.router_id,
        neighbor: arguments.neighbor.zip(arguments.neighbor_as),
    };
    let imported = files.and_then(|files| fastnetmon::import(&files, &known));
    let imported = imported.map_err(Failure::BadInput)?;
    let written = imported.write(&arguments.to).map_err(|(path, error)| {
        Failure::BadInput(format!(
            "cannot write {}: {error}; choose another directory with --to",
            path.display()
        ))
    })?;
    let [config, policy] = &written;
    if arguments.json {
        println!("{}", json!({ "written": written, "account": imported.account.to_json() }));
    } else {
        print!("Wrote {} and {}.\n\n{}", config.display(), policy.display(), imported.account);
    }
    // The networks may hold what a policy refuses for a reason that only the whole shows.
    config::load(config).map(drop).map_err(Failure::from)
}
