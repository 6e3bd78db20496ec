//! What the demonstration and the tests need from the distribution, and how it is brought.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;

use crate::apt::{Apt, Rights};
use crate::check::in_ci;
use crate::tools::Tools;
use crate::{Failure, python};

/// What the packages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Demo,
    Test,
    Bench,
    Accuracy,
    Fuzz,
    Interop,
}

/// How the absence of a package is noticed: by what it is needed for, whoever installed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// The C linker does not find `-l<name>` with this symbol.
    Library(&'static str, &'static str),
    /// No program of this name.
    Program(&'static str),
    /// `python3 -m <name>` does not run.
    Module(&'static str),
}

/// What a package does to a host that installs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Files only: it may be installed.
    Files,
    /// A service that the installation would enable or start: it is only unpacked.
    Service,
}

#[derive(Debug, PartialEq, Eq)]
struct Need {
    package: &'static str,
    sign: Sign,
    content: Content,
    why: &'static str,
    purposes: &'static [Purpose],
    /// Whether the command fails without it.
    required: bool,
}

const NEEDS: &[Need] = &[
    Need {
        package: "libpcap-dev",
        sign: Sign::Library("pcap", "pcap_create"),
        content: Content::Files,
        why: "to build the packet capture",
        purposes: &[
            Purpose::Demo,
            Purpose::Test,
            Purpose::Bench,
            Purpose::Accuracy,
            Purpose::Fuzz,
            Purpose::Interop,
        ],
        required: true,
    },
    Need {
        package: "g++",
        sign: Sign::Program("c++"),
        content: Content::Files,
        why: "to build libFuzzer",
        purposes: &[Purpose::Test, Purpose::Fuzz],
        required: true,
    },
    Need {
        package: "iproute2",
        sign: Sign::Program("ip"),
        content: Content::Files,
        why: "to link the network namespaces of the laboratory",
        purposes: &[Purpose::Demo, Purpose::Test, Purpose::Bench, Purpose::Interop],
        required: true,
    },
    Need {
        package: "bird2",
        sign: Sign::Program("bird"),
        content: Content::Service,
        why: "the router that receives the routes",
        purposes: &[Purpose::Demo, Purpose::Test, Purpose::Bench, Purpose::Interop],
        required: true,
    },
    Need {
        package: "nftables",
        sign: Sign::Program("nft"),
        content: Content::Service,
        why: "to see which rules the kernel holds",
        purposes: &[Purpose::Test],
        required: true,
    },
    Need {
        package: "frr",
        sign: Sign::Program("vtysh"),
        content: Content::Service,
        why: "FRR, one of the daemons that the speaker is tried with",
        purposes: &[Purpose::Test, Purpose::Interop],
        required: false,
    },
    Need {
        package: "gobgpd",
        sign: Sign::Program("gobgpd"),
        content: Content::Service,
        why: "GoBGP, one of the daemons that the speaker is tried with",
        purposes: &[Purpose::Test, Purpose::Bench, Purpose::Interop],
        required: false,
    },
    // Before ExaBGP, which would be unpacked with a python3 of its own.
    Need {
        package: "python3",
        sign: Sign::Program("python3"),
        content: Content::Files,
        why: "to run ExaBGP",
        purposes: &[Purpose::Test, Purpose::Bench, Purpose::Interop],
        required: false,
    },
    Need {
        package: "python3-pip",
        sign: Sign::Module("pip"),
        content: Content::Files,
        why: "to bring ExaBGP 5, which the distribution does not have",
        purposes: &[Purpose::Test, Purpose::Bench, Purpose::Interop],
        required: false,
    },
    Need {
        package: "exabgp",
        sign: Sign::Program("exabgp"),
        content: Content::Service,
        why: "ExaBGP, one of the daemons that the speaker is tried with",
        purposes: &[Purpose::Test, Purpose::Bench, Purpose::Interop],
        required: false,
    },
    Need {
        package: "openbgpd",
        sign: Sign::Program("bgpctl"),
        content: Content::Service,
        why: "OpenBGPD, one of the daemons that the speaker is tried with",
        purposes: &[Purpose::Test, Purpose::Interop],
        required: false,
    },
];

/// Who tries the speaker with ExaBGP 5.
const EXABGP_5_PURPOSES: &[Purpose] = &[Purpose::Test, Purpose::Bench, Purpose::Interop];

impl Need {
    fn is_met(&self, tools: &Tools) -> bool {
        match self.sign {
            Sign::Library(name, symbol) => tools.links_library(name, symbol),
            Sign::Program(name) => tools.find_program(name).is_some(),
            Sign::Module(name) => python::runs_module(tools, name),
        }
    }

    fn sign(&self) -> String {
        match self.sign {
            Sign::Library(name, _) => format!("the linker finds no lib{name}"),
            Sign::Program(name) => format!("there is no program `{name}`"),
            Sign::Module(name) => format!("python3 has no module `{name}`"),
        }
    }
}

fn missing(purpose: Purpose, tools: &Tools) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| need.purposes.contains(&purpose) && !need.is_met(tools)).collect()
}

fn names<'a>(needs: impl IntoIterator<Item = &'a &'static Need>) -> Vec<&'static str> {
    needs.into_iter().map(|need| need.package).collect()
}

/// Prints what is missing and how it would be brought. Code 0 if nothing is missing, else 1.
pub(crate) fn list(purpose: Purpose, tools: &Tools) -> ExitCode {
    let missing = missing(purpose, tools);
    let no_exabgp_5 =
        EXABGP_5_PURPOSES.contains(&purpose) && tools.find_program(python::EXABGP_5).is_none();
    if missing.is_empty() && !no_exabgp_5 {
        println!("nothing is missing");
        return ExitCode::SUCCESS;
    }
    println!("missing:");
    if no_exabgp_5 {
        println!(
            "  {:<12} there is no program `{0}`; ExaBGP 5, from the Python package index into {} (not necessary)",
            python::EXABGP_5,
            tools.root.display()
        );
    }
    if missing.is_empty() {
        return ExitCode::FAILURE;
    }
    for need in &missing {
        let optional = if need.required { "" } else { " (not necessary)" };
        println!("  {:<12} {}; {}{optional}", need.package, need.sign(), need.why);
    }
    println!("by hand: {}", by_hand(&missing));
    for need in missing.iter().filter(|need| need.content == Content::Service) {
        println!(
            "  by hand, {} also sets up its service; without --no-install it is only unpacked into {}",
            need.package,
            tools.root.display()
        );
    }
    ExitCode::FAILURE
}

fn by_hand(needs: &[&'static Need]) -> String {
    format!("sudo apt-get install --no-install-recommends {}", names(needs).join(" "))
}

/// Brings what is missing.
pub(crate) fn install(purpose: Purpose, tools: &Tools) -> Result<(), Failure> {
    let missing = missing(purpose, tools);
    for need in &missing {
        eprintln!("missing: {:<12} {}; {}", need.package, need.sign(), need.why);
    }
    let (required, optional): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|need| need.required);
    if !required.is_empty() {
        require_apt(&required)?;
        bring(&required, tools)?;
    }
    for need in optional {
        // One by one: the lack of one of them is no reason to do without the others.
        let brought = require_apt(&[need]).and_then(|()| bring(&[need], tools));
        if let Err(why) = brought.and_then(|()| still_missing(&[need], tools)) {
            do_without(need.package, &why, tools)?;
        }
    }
    if EXABGP_5_PURPOSES.contains(&purpose)
        && let Err(why) = python::install_exabgp_5(tools)
    {
        do_without(python::EXABGP_5, &why, tools)?;
    }
    still_missing(&required, tools)
}

/// Installs or unpacks.
fn bring(needs: &[&'static Need], tools: &Tools) -> Result<(), Failure> {
    let rights = Rights::of_this_user();
    let apt = Apt::new(tools, rights);
    let may_install = rights != Rights::None;
    let (installed, unpacked): (Vec<_>, Vec<_>) =
        needs.iter().partition(|need| may_install && need.content == Content::Files);
    if !installed.is_empty() {
        apt.install(&names(installed))?;
    }
    if !unpacked.is_empty() {
        apt.unpack(&names(unpacked))?;
    }
    Ok(())
}

/// Fails if they are.
fn still_missing(needs: &[&'static Need], tools: &Tools) -> Result<(), Failure> {
    let left: Vec<_> = needs.iter().copied().filter(|need| !need.is_met(tools)).collect();
    if left.is_empty() {
        return Ok(());
    }
    let signs: Vec<String> = left.iter().map(|need| need.sign()).collect();
    let text = format!("still missing: {}\n  by hand: {}", signs.join(", "), by_hand(&left));
    Err(Failure::new(text))
}

/// Says what is not there. Where `CI` is set, nothing is done without.
fn do_without(name: &str, why: &Failure, tools: &Tools) -> Result<(), Failure> {
    let Failure(why) = why;
    if in_ci() {
        return Err(Failure::new(format!("{name}: {why}")));
    }
    eprintln!("{name} is done without: {why}");
    tools.note_absent(name, why);
    Ok(())
}

/// Fails on a distribution without apt, naming what is needed.
fn require_apt(missing: &[&'static Need]) -> Result<(), Failure> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if is_debian_like(&release) {
        return Ok(());
    }
    let needed: BTreeSet<String> = missing
        .iter()
        .map(|need| match need.sign {
            Sign::Library(name, _) => format!("lib{name} with its development files"),
            Sign::Program(name) => format!("the program `{name}`"),
            Sign::Module(name) => format!("the Python module `{name}`"),
        })
        .collect();
    let needed: Vec<String> = needed.into_iter().collect();
    Err(Failure::new(format!(
        "packages are installed on Debian and Ubuntu only, this is {}\n  please install: {}",
        field(&release, "PRETTY_NAME").unwrap_or("an unknown system"),
        needed.join(", ")
    )))
}

fn is_debian_like(release: &str) -> bool {
    let words = [field(release, "ID"), field(release, "ID_LIKE")];
    words
        .into_iter()
        .flatten()
        .flat_map(str::split_whitespace)
        .any(|word| word == "debian" || word == "ubuntu")
}

fn field<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    release.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_the_family() {
        for (release, expected) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", true),
            ("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n", true),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", true),
            ("ID=fedora\nID_LIKE=\"rhel centos\"\n", false),
            ("VERSION_ID=debian\n", false),
            ("", false),
        ] {
            assert_eq!(is_debian_like(release), expected, "{release}");
        }
    }

    #[test]
    fn every_need_has_a_purpose_and_packages_are_named_once() {
        let packages: BTreeSet<&str> = NEEDS.iter().map(|need| need.package).collect();
        assert_eq!(packages.len(), NEEDS.len());
        assert!(NEEDS.iter().all(|need| !need.purposes.is_empty()));
    }
}
