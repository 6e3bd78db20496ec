//! Giving up what a daemon started by root does not need.
//!
//! The kernel keeps capabilities for each thread: this has to happen while there is only one.

use std::ffi::CString;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

/// Capture, nftables and kernel routes, port 179.
const KEPT: [Capability; 3] =
    [Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN, Capability::CAP_NET_BIND_SERVICE];

/// Why privileges cannot be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is nobody to become.
    #[error("there is no user `{0}`; make one with `adduser --system --group {0}`")]
    Unknown(String),
    /// Only root may become somebody else.
    #[error("only root can become the user `{0}`; start as root, or leave `user` out")]
    NotRoot(String),
    /// The system refused.
    #[error("cannot {what}: {why}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        why: String,
    },
}

/// Becomes the user `name` with its groups. Of root's capabilities [`KEPT`] remain, and none can be
/// gained again by this process or what it starts. To be called before there are other threads.
///
/// # Errors
/// [`PrivilegeError`]; the process may have given up a part of its privileges then, and should end.
pub fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let refused =
        |what| move |why: nix::Error| PrivilegeError::Refused { what, why: why.to_string() };
    let limited = |what| {
        move |why: caps::errors::CapsError| PrivilegeError::Refused { what, why: why.to_string() }
    };
    let user = User::from_name(name).map_err(refused("look up the user"))?;
    let user = user.ok_or_else(|| PrivilegeError::Unknown(name.to_owned()))?;
    if geteuid() == user.uid {
        return prctl::set_no_new_privs().map_err(refused("forbid new privileges"));
    }
    if !geteuid().is_root() {
        return Err(PrivilegeError::NotRoot(name.to_owned()));
    }
    let kept = CapsHashSet::from(KEPT);
    for capability in caps::all().difference(&kept) {
        // One that this kernel does not know is not there.
        if caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, *capability)
                .map_err(limited("bound the capabilities"))?;
        }
    }
    prctl::set_keepcaps(true).map_err(refused("keep capabilities"))?;
    let c_name = CString::new(name).map_err(|_| PrivilegeError::Unknown(name.to_owned()))?;
    initgroups(&c_name, user.gid).map_err(refused("take the user's groups"))?;
    setgid(user.gid).map_err(refused("take the user's group"))?;
    setuid(user.uid).map_err(refused("become the user"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(limited("take the capabilities"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(limited("bound the capabilities"))?;
    prctl::set_no_new_privs().map_err(refused("forbid new privileges"))
}
