//! `tidegate init` and `tidegate import`.

use std::path::{Path, PathBuf};

use serde_json::json;
use tidegate_detector::capture::live::survey;
use tidegate_model::Prefix;

use super::Failure;
use crate::cli::{Import, ImportFastnetmon, Init};
use crate::config;
use crate::import::fastnetmon::{self, Files, Known};
use crate::import::host::{Host, is_reachable};
use crate::import::write_new;

pub(super) fn init(arguments: &Init) -> Result<(), Failure> {
    let (interfaces, usual) = survey();
    if let Some(name) = &arguments.interface
        && !interfaces.iter().any(|it| it.name == *name)
    {
        let names: Vec<_> = interfaces.iter().map(|it| it.name.as_str()).collect();
        let names = names.join(", ");
        return Err(Failure::BadInput(format!("there is no interface `{name}`, but: {names}")));
    }
    let mut owned = arguments.owned.clone();
    if owned.is_empty() {
        let addresses = interfaces.iter().flat_map(|it| it.addresses.iter().copied());
        owned = addresses.filter(|address| is_reachable(*address)).map(Prefix::host).collect();
    }
    if owned.is_empty() {
        let why = "this host has no address that others can reach; name what is to be watched with \
                   --owned PREFIX";
        return Err(Failure::BadInput(why.to_owned()));
    }
    let host = Host::new(arguments.interface.clone(), &owned, arguments.asn.unwrap_or(Host::NO_AS));
    let [config, policy] = write(&arguments.to, &host.config(), &host.policy())?;
    let usual = usual.and_then(|index| interfaces.get(index)).map(|it| it.name.clone());
    let watched = arguments.interface.clone().or(usual);
    let owned: Vec<String> = host.owned.iter().map(ToString::to_string).collect();
    if arguments.json {
        println!(
            "{}",
            json!({ "written": [config, policy], "interface": watched, "owned": owned })
        );
        return Ok(());
    }
    println!(
        "Wrote {} and {}: {} on {}. Nothing is done about an attack yet.\n\n\
         Next:\n  \
         tidegate check --config {}\n  \
         tidegate run   --config {}",
        config.display(),
        policy.display(),
        owned.join(", "),
        watched
            .as_deref()
            .unwrap_or("the interface of the default route, of which there is none now"),
        config.display(),
        config.display(),
    );
    Ok(())
}

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
    let written = write(&arguments.to, &imported.config, &imported.policy)?;
    let [config, policy] = &written;
    if arguments.json {
        println!("{}", json!({ "written": written, "account": imported.account.to_json() }));
    } else {
        print!("Wrote {} and {}.\n\n{}", config.display(), policy.display(), imported.account);
    }
    // An AS number or an address that was given may be one that a policy refuses.
    config::load(config).map(drop).map_err(Failure::from)
}

fn write(directory: &Path, config: &str, policy: &str) -> Result<[PathBuf; 2], Failure> {
    write_new(directory, config, policy).map_err(|(path, error)| {
        Failure::BadInput(format!(
            "cannot write {}: {error}; choose another directory with --to",
            path.display()
        ))
    })
}
