//! Where programs and libraries are found: the host first, then what was unpacked beside the build.

use std::cell::RefCell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

/// The search paths of everything that is started from here.
#[derive(Debug)]
pub(crate) struct Tools {
    /// Root of the workspace.
    pub(crate) workspace: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// Where packages are unpacked that must not be installed.
    pub(crate) root: PathBuf,
    /// One line each.
    absent: RefCell<Vec<String>>,
}

/// Names that packages give their programs when they are installed, and the programs beside them.
const ALTERNATIVES: [(&str, &str); 1] = [("usr/sbin/exabgp", "python3-exabgp")];

/// Tells the laboratory why a program is not there: lines of a program's or package's name, a
/// colon, and why.
const ABSENT: &str = "TIDEGATE_ABSENT";

impl Tools {
    /// For the workspace in `workspace`.
    pub(crate) fn new(workspace: &Path) -> Self {
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace.join("target"), |path| workspace.join(path));
        let root = target.join("lab-root");
        Self { workspace: workspace.to_owned(), target, root, absent: RefCell::default() }
    }

    /// A command that finds the unpacked programs and libraries, and runs in the workspace.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.workspace);
        command.envs(self.variables());
        command
    }

    /// The environment variables that make the unpacked programs and libraries usable.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![("PATH", join(&self.program_directories()))];
        let libraries = library_directories(&self.root);
        if !libraries.is_empty() {
            for name in ["LD_LIBRARY_PATH", "LIBRARY_PATH"] {
                let own = env::var_os(name);
                let before = own.iter().flat_map(env::split_paths).filter(|path| path.is_dir());
                let all: Vec<PathBuf> = before.chain(libraries.iter().cloned()).collect();
                variables.push((name, join(&all)));
            }
        }
        let modules = self.root.join("usr/lib/python3/dist-packages");
        if modules.is_dir() {
            variables.push(("PYTHONPATH", modules.into_os_string()));
        }
        if let Some(directory) = libraries.iter().find(|path| path.join("libpcap.so").exists()) {
            variables.push(("LIBPCAP_LIBDIR", directory.clone().into_os_string()));
        }
        let absent = self.absent.borrow();
        if !absent.is_empty() {
            variables.push((ABSENT, absent.join("\n").into()));
        }
        variables
    }

    /// Remembers why a program is not there, for whoever misses it.
    pub(crate) fn note_absent(&self, name: &str, why: &str) {
        let line = format!("{name}: {}", why.split_whitespace().collect::<Vec<_>>().join(" "));
        self.absent.borrow_mut().push(line);
    }

    /// What stands before a command that people repeat in a shell: nothing, unless something was
    /// unpacked.
    pub(crate) fn environment_prefix(&self) -> String {
        if !self.root.is_dir() {
            return String::new();
        }
        let variables = self.variables().into_iter();
        let words = variables.map(|(name, value)| format!("{name}='{}' ", value.to_string_lossy()));
        words.collect()
    }

    /// The first file of this name on the search path. An ordinary user's `PATH` often lacks the
    /// `sbin` directories, so they are looked into as well.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.program_directories().iter().map(|path| path.join(name)).find(|path| path.is_file())
    }

    /// Whether the C linker finds `-l<name>` with `symbol` in it and all that the library needs.
    pub(crate) fn links_library(&self, name: &str, symbol: &str) -> bool {
        let output = self.target.join(format!("xtask-probe-{}.so", process::id()));
        if fs::create_dir_all(&self.target).is_err() {
            return false;
        }
        let mut linker = self.command("cc");
        linker.args(["-shared", "-Wl,-z,defs", "-u", symbol, "-o"]).arg(&output);
        linker.arg(format!("-l{name}"));
        let links = linker
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        // A leftover is harmless: the name is unique and the folder is for build products.
        let _ = fs::remove_file(&output);
        links
    }

    fn program_directories(&self) -> Vec<PathBuf> {
        let own = env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = env::split_paths(&own).collect();
        let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let unpacked = ["usr/sbin", "usr/bin", "sbin", "bin"].map(|path| self.root.join(path));
        for directory in system.into_iter().chain(unpacked) {
            if directory.is_dir() && !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        directories
    }

    /// Makes the links that an installation would make: those of development packages, whose
    /// library the host has already, point to the host's, and programs that are alternatives get
    /// their names.
    pub(crate) fn mend_links(&self) -> io::Result<()> {
        for (name, program) in ALTERNATIVES {
            let link = self.root.join(name);
            let there = link.with_file_name(program).is_file();
            if there && fs::symlink_metadata(&link).is_err() {
                symlink(program, &link)?;
            }
        }
        let host = library_directories(Path::new("/"));
        for directory in library_directories(&self.root) {
            for entry in fs::read_dir(&directory)? {
                let link = entry?.path();
                let Ok(target) = fs::read_link(&link) else { continue };
                if link.exists() {
                    continue;
                }
                let Some(name) = target.file_name() else { continue };
                if let Some(found) = host.iter().map(|path| path.join(name)).find(|p| p.exists()) {
                    fs::remove_file(&link)?;
                    symlink(found, &link)?;
                }
            }
        }
        Ok(())
    }
}

/// `usr/lib/<triplet>` and its like below `root`.
fn library_directories(root: &Path) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for base in ["usr/lib", "lib"].map(|path| root.join(path)) {
        let Ok(entries) = fs::read_dir(&base) else { continue };
        let mut triplets: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-"))
            .map(|entry| entry.path())
            .collect();
        triplets.sort();
        // FRR keeps its own libraries to itself.
        let frr = triplets.iter().map(|path| path.join("frr")).filter(|path| path.is_dir());
        directories.extend(frr.collect::<Vec<_>>());
        directories.extend(triplets);
        directories.push(base);
    }
    directories
}

/// A search path from directories. A directory with a colon in its name cannot be on one.
fn join(directories: &[PathBuf]) -> OsString {
    let usable = directories.iter().filter(|path| !path.to_string_lossy().contains(':'));
    env::join_paths(usable).unwrap_or_default()
}
