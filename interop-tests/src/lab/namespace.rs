//! Network namespaces without names, and the links between them.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Signal, getgid, getpid, getppid, getuid, set_parent_process_death_signal,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::{LabError, Process, require};

/// Counts the laboratories of this process, for the names of their folders.
static LABORATORIES: AtomicU32 = AtomicU32::new(0);

/// One laboratory: a folder for configurations and logs, and the right to make namespaces.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    /// The user namespace that owns the network namespaces, unless this process may make them
    /// without one.
    user: Option<Arc<OwnedFd>>,
    keep_directory: bool,
}

/// A network namespace. It goes when the last clone and the last process in it are gone.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
    directory: PathBuf,
    user: Option<Arc<OwnedFd>>,
    network: Arc<OwnedFd>,
}

/// One end of a virtual link.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where the interface appears.
    pub namespace: &'a Namespace,
    /// Its name, at most 15 characters.
    pub interface: &'a str,
    /// Its addresses with prefix lengths.
    pub addresses: &'a [&'a str],
}

impl Lab {
    /// Prepares a laboratory.
    ///
    /// # Errors
    /// [`LabError::Denied`] if this user may not make network namespaces, [`LabError::NoProgram`]
    /// without iproute2, [`LabError::File`] if the folder cannot be made.
    pub fn new() -> Result<Self, LabError> {
        require::program("ip")?;
        let user = match Holder::start(None, Unshare::Network) {
            Ok(_) => None,
            Err(_) => Some(Arc::new(Holder::start(None, Unshare::UserAndNetwork)?.open("user")?)),
        };
        let number = LABORATORIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-lab-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&directory).map_err(LabError::file(&directory))?;
        Ok(Self { directory, user, keep_directory: false })
    }

    /// Where configurations and logs are. Removed on drop.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Leaves the folder in place, for somebody to look into.
    pub fn keep_directory(&mut self) {
        self.keep_directory = true;
    }

    /// Makes a namespace with its loopback up. `name` is for file names and messages.
    ///
    /// # Errors
    /// [`LabError::Denied`], [`LabError::Failed`].
    pub fn namespace(&self, name: &str) -> Result<Namespace, LabError> {
        let network = Holder::start(self.user.as_deref(), Unshare::Network)?.open("net")?;
        let namespace = Namespace {
            name: name.to_owned(),
            directory: self.directory.clone(),
            user: self.user.clone(),
            network: Arc::new(network),
        };
        namespace.run("ip", ["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Joins two namespaces with a virtual Ethernet link that is up.
    ///
    /// # Errors
    /// [`LabError::Failed`] with what `ip` said.
    pub fn link(&self, left: End<'_>, right: End<'_>) -> Result<(), LabError> {
        let mut command = left.namespace.command(require::program("ip")?);
        let other = inherit(&mut command, &right.namespace.network);
        command.args(["link", "add", left.interface, "type", "veth", "peer", "name"]);
        command.args([right.interface, "netns", &other]);
        succeed(command)?;
        for end in [left, right] {
            for address in end.addresses {
                // Without `nodad` an IPv6 address cannot be used for the first second or two.
                let nodad = address.contains(':').then_some("nodad");
                let arguments = ["address", "add", address, "dev", end.interface];
                end.namespace.run("ip", arguments.into_iter().chain(nodad))?;
            }
            end.namespace.run("ip", ["link", "set", end.interface, "up"])?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.keep_directory {
            // A folder of logs that cannot be removed harms nobody.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

impl Namespace {
    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in this namespace, in a process group of its own, and not outlive
    /// the thread that spawns it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.process_group(0);
        let (user, network, parent) = (self.user.clone(), Arc::clone(&self.network), getpid());
        let enter = move || {
            enter(user.as_deref().map(AsFd::as_fd), network.as_fd())?;
            die_with(parent)
        };
        // SAFETY: the closure only makes system calls on descriptors that it holds; it allocates
        // nothing and takes no lock, so it may run between fork and exec of a threaded process.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a program of the search path to its end and returns what it wrote.
    ///
    /// # Errors
    /// [`LabError::NoProgram`], [`LabError::Start`], [`LabError::Failed`].
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, LabError> {
        let mut command = self.command(require::program(program)?);
        command.args(arguments);
        succeed(command)
    }

    /// Starts a command made by [`Namespace::command`], output in `<name>.out` and `<name>.err`.
    ///
    /// # Errors
    /// [`LabError::Start`], [`LabError::File`].
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process, LabError> {
        Process::start(name, &self.directory, command)
    }

    /// The laboratory's folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn succeed(mut command: Command) -> Result<String, LabError> {
    let program = format!("{command:?}").replace('"', "");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Failed { program, status: output.status, output: said })
}

/// Lets the child of `command` keep `descriptor`; returns the path by which it can open it.
fn inherit(command: &mut Command, descriptor: &Arc<OwnedFd>) -> String {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let descriptor = Arc::clone(descriptor);
    let keep = move || Ok(fcntl_setfd(&*descriptor, FdFlags::empty())?);
    // SAFETY: as in `Namespace::command`: one system call on a descriptor that the closure holds.
    unsafe { command.pre_exec(keep) };
    path
}

/// Moves the calling process, which must have one thread, into the namespaces.
fn enter(user: Option<BorrowedFd<'_>>, network: BorrowedFd<'_>) -> io::Result<()> {
    if let Some(user) = user {
        move_into_link_name_space(user, Some(LinkNameSpaceType::User))?;
    }
    move_into_link_name_space(network, Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Asks for SIGKILL when the parent dies. Comes after every change of credentials: those reset it.
fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the request.
    if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
}

/// What a [`Holder`] gets of its own.
#[derive(Clone, Copy)]
enum Unshare {
    Network,
    UserAndNetwork,
}

/// A child that does nothing but be in new namespaces until they have been opened.
struct Holder(Child);

impl Holder {
    fn start(user: Option<&OwnedFd>, unshare: Unshare) -> Result<Self, LabError> {
        let user = user.map(OwnedFd::try_clone).transpose().map_err(LabError::file("/proc"))?;
        let (uid, gid, parent) = (getuid(), getgid(), getpid());
        let maps: [(&'static CStr, String); 3] = [
            (c"/proc/self/uid_map", format!("0 {uid} 1\n")),
            // Without this the kernel does not let an ordinary user write the next.
            (c"/proc/self/setgroups", "deny".to_owned()),
            (c"/proc/self/gid_map", format!("0 {gid} 1\n")),
        ];
        let prepare = move || {
            if let Some(user) = &user {
                move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?;
            }
            let flags = match unshare {
                Unshare::Network => UnshareFlags::NEWNET,
                Unshare::UserAndNetwork => UnshareFlags::NEWUSER | UnshareFlags::NEWNET,
            };
            // SAFETY: the flags do not unshare descriptors, which is all that the function asks.
            unsafe { unshare_unsafe(flags)? };
            if matches!(unshare, Unshare::UserAndNetwork) {
                for (path, text) in &maps {
                    let file = rustix::fs::open(*path, OFlags::WRONLY, Mode::empty())?;
                    rustix::io::write(&file, text.as_bytes())?;
                }
            }
            die_with(parent)
        };
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: the closure only makes system calls, on paths and texts prepared before the fork;
        // it allocates nothing and takes no lock.
        unsafe { command.pre_exec(prepare) };
        let denied = |source| LabError::Denied { source, advice: advice() };
        command.spawn().map(Self).map_err(denied)
    }

    /// Opens the holder's namespace of this kind.
    fn open(&self, kind: &str) -> Result<OwnedFd, LabError> {
        let path = format!("/proc/{}/ns/{kind}", self.0.id());
        File::open(&path).map(OwnedFd::from).map_err(LabError::file(path))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // `cat` ends when its input ends; should the kill fail, it already has.
        if let Some(mut input) = self.0.stdin.take() {
            let _ = input.flush();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which switch of the kernel denies namespaces, as far as it can be read.
fn advice() -> String {
    for (path, denying, name) in [
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "1"),
        ("/proc/sys/user/max_user_namespaces", "0", "10000"),
    ] {
        if fs::read_to_string(path).is_ok_and(|value| value.trim() == denying) {
            let switch = path.trim_start_matches("/proc/sys/").replace('/', ".");
            return format!("run it as root, or allow it: sudo sysctl {switch}={name}");
        }
    }
    "run it as root; in a container, with the capability SYS_ADMIN".to_owned()
}
