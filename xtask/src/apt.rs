//! Packages through apt, without a service being started, enabled or configured.
//!
//! Packages of plain files are installed where the user may do that. Every other package is
//! downloaded and unpacked below the target directory: its maintainer scripts never run, and it is
//! used through search paths only.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::tools::Tools;
use crate::{Failure, progress};

/// What this user may do to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Everything.
    Root,
    /// Everything through `sudo`, which has asked for what it wants to know.
    Sudo,
    /// Nothing.
    None,
}

impl Rights {
    /// Asks `sudo`, with its own prompt if it needs one and there is a terminal.
    pub(crate) fn of_this_user() -> Self {
        if fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0) {
            return Self::Root;
        }
        let quiet = Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match quiet {
            Ok(status) if status.success() => Self::Sudo,
            Ok(_) if io::stdin().is_terminal() && io::stderr().is_terminal() => {
                eprintln!("sudo is asked for the right to install packages");
                let asked = Command::new("sudo").arg("-v").status();
                if asked.is_ok_and(|status| status.success()) { Self::Sudo } else { Self::None }
            }
            Ok(_) | Err(_) => Self::None,
        }
    }
}

/// apt, with the rights of this user.
pub(crate) struct Apt<'a> {
    tools: &'a Tools,
    rights: Rights,
    /// Downloaded packages, and apt's own state where the host's may not be written.
    directory: PathBuf,
}

impl<'a> Apt<'a> {
    pub(crate) fn new(tools: &'a Tools, rights: Rights) -> Self {
        Self { tools, rights, directory: tools.target.join("lab-apt") }
    }

    /// Installs packages that hold no service.
    pub(crate) fn install(&self, packages: &[&str]) -> Result<(), Failure> {
        let label = format!("apt-get install {}", packages.join(" "));
        let options = ["install", "-y", "--no-install-recommends", "--no-remove"];
        self.with_fresh_lists(|| {
            let mut command = self.privileged_apt();
            command.args(options).args(packages);
            run(&label, &mut command)
        })
    }

    /// Downloads packages and the libraries they lack, and unpacks them below the target directory.
    pub(crate) fn unpack(&self, packages: &[&str]) -> Result<(), Failure> {
        let list = packages.join(" ");
        eprintln!("unpacking into {} (nothing is installed): {list}", self.tools.root.display());
        let archives = self.directory.join("archives");
        let prepare = |path: &PathBuf| {
            fs::create_dir_all(path)
                .map_err(|error| Failure::new(format!("cannot make {}: {error}", path.display())))
        };
        prepare(&archives)?;
        prepare(&self.tools.root)?;
        // Old versions from an earlier run would be unpacked over the new ones.
        for archive in self.archives(&archives)? {
            fs::remove_file(&archive)
                .map_err(|error| Failure::new(format!("{}: {error}", archive.display())))?;
        }
        self.with_fresh_lists(|| {
            let wanted = self.closure(packages)?;
            let mut command = self.apt();
            command.arg("download").args(&wanted).current_dir(&archives);
            run(&format!("apt-get download {list}"), &mut command)
        })?;
        for archive in self.archives(&archives)? {
            let mut command = Command::new("dpkg-deb");
            command.arg("-x").arg(&archive).arg(&self.tools.root);
            let output = command.output().map_err(|error| not_started("dpkg-deb", &error))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Failure::new(format!("{}: {text}", archive.display())));
            }
        }
        let root = &self.tools.root;
        self.tools
            .mend_links()
            .map_err(|error| Failure::new(format!("links in {}: {error}", root.display())))
    }

    /// The packages themselves and every library that apt would bring along.
    fn closure(&self, packages: &[&str]) -> Result<Vec<String>, Failure> {
        let mut command = self.apt();
        command.args(["-s", "install", "--no-install-recommends"]).args(packages);
        let output = command.output().map_err(|error| not_started("apt-get", &error))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::new(format!("apt-get -s install: {text}")));
        }
        Ok(closure_of(packages, &String::from_utf8_lossy(&output.stdout)))
    }

    fn archives(&self, directory: &PathBuf) -> Result<Vec<PathBuf>, Failure> {
        let entries = fs::read_dir(directory)
            .map_err(|error| Failure::new(format!("{}: {error}", directory.display())))?;
        let mut archives: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        archives.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
        archives.sort();
        Ok(archives)
    }

    /// Tries; if that fails, the package lists may be missing or too old: renews them and tries
    /// once more.
    fn with_fresh_lists(
        &self,
        mut operation: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if operation().is_ok() {
            return Ok(());
        }
        eprintln!("the package lists are missing or out of date: they are renewed, once");
        let mut command = self.privileged_apt();
        command.arg("update");
        run("apt-get update", &mut command)?;
        operation()
    }

    /// `apt-get` for what changes the host.
    fn privileged_apt(&self) -> Command {
        if self.rights != Rights::Sudo {
            return self.apt();
        }
        let mut command = Command::new("sudo");
        // sudo does not pass the environment on.
        command.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "apt-get"]);
        command
    }

    /// `apt-get` for what reads or downloads only.
    fn apt(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        if self.rights == Rights::None {
            command.args(self.private_state());
        }
        command
    }

    /// Lists and caches of our own, the host's record of what is installed.
    fn private_state(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for (option, name) in [("Dir::State=", "state"), ("Dir::Cache=", "cache")] {
            let path = self.directory.join(name);
            // apt makes the rest below; if this fails, apt says so.
            let _ = fs::create_dir_all(path.join("lists/partial"));
            let _ = fs::create_dir_all(path.join("archives/partial"));
            let mut argument = OsString::from(option);
            argument.push(path);
            arguments.extend([OsString::from("-o"), argument]);
        }
        for option in ["Dir::State::status=/var/lib/dpkg/status", "APT::Sandbox::User=root"] {
            arguments.extend([OsString::from("-o"), OsString::from(option)]);
        }
        arguments
    }
}

/// Names of the packages to unpack, libraries and Python modules among them, from what `apt-get -s install` prints. The C library stays out:
/// one that differs from the host's would break every program that finds it.
fn closure_of(packages: &[&str], simulation: &str) -> Vec<String> {
    let installed = simulation.lines().filter_map(|line| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace();
        words.next()
    });
    let mut names: Vec<String> = installed
        .filter(|name| name.starts_with("lib") || name.starts_with("python3-"))
        .filter(|name| !name.starts_with("libc6"))
        .chain(packages.iter().copied())
        .map(ToOwned::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

fn run(label: &str, command: &mut Command) -> Result<(), Failure> {
    let finished =
        progress::run(label, command, |_| None).map_err(|error| not_started(label, &error))?;
    if finished.status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = finished.output.lines().rev().take(6).collect();
    let last: Vec<&str> = lines.into_iter().rev().collect();
    Err(Failure::new(format!("{label} failed:\n  {}", last.join("\n  "))))
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    Failure::new(format!("cannot run {program}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_the_package_and_its_libraries() {
        let simulation = "\
Reading package lists...
Inst libmnl0 (1.0.4-3 Debian:12.11/stable [amd64])
Inst libc6 [2.36-9] (2.36-9+deb12u10 Debian:12.11/stable [amd64]) []
Inst adduser (3.134 Debian:12.11/stable [all])
Inst libssh-gcrypt-4 (0.10.6-0+deb12u1 Debian:12.11/stable [amd64])
Inst python3-exabgp (4.2.21-1.1 Debian:12.11/stable [all])
Inst bird2 (2.0.12-7 Debian:12.11/stable [amd64])
Conf libmnl0 (1.0.4-3 Debian:12.11/stable [amd64])
";
        assert_eq!(
            closure_of(&["bird2"], simulation),
            ["bird2", "libmnl0", "libssh-gcrypt-4", "python3-exabgp"]
        );
        assert_eq!(closure_of(&["bird2"], ""), ["bird2"]);
    }
}
