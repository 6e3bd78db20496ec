//! Sockets, and how many may be connected to them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

use super::access::{ApiSettings, Caller, Role, SocketPlace, Users};
use super::gate::Bucket;

/// Connections at once, administrators' not counted. Further ones are closed at once.
const MAX_CONNECTIONS: usize = 128;
/// Those of one user or address, and those of one administrator.
const MAX_OF_ONE: usize = 16;
const MAX_OF_ADMIN: usize = 64;
/// Connections that are accepted and wait to be served.
const QUEUE: usize = 16;
/// How long to wait when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// The socket of a system service, under the directory that systemd makes for it.
const SYSTEM_SOCKET: &str = "/run/tidegate/tidegate.sock";

/// Where the Unix socket usually is, the first that can be used.
#[must_use]
pub fn usual_sockets() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR");
    let own = own.map(|directory| Path::new(&directory).join("tidegate/tidegate.sock"));
    [PathBuf::from(SYSTEM_SOCKET)].into_iter().chain(own).collect()
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon is there.
    #[error(
        "a daemon answers at {} already; stop it, or give this one another `socket` in `[api]`",
        .0.display()
    )]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen on {at}: {source}; name another place in `[api]` of tidegate.toml")]
    System {
        /// Path or address.
        at: String,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates that cannot be used.
    #[error("cannot serve TLS: {0}")]
    Tls(String),
    /// The thread could not be started.
    #[error("cannot start the thread of the API: {0}")]
    Thread(io::Error),
}

/// Listens on the Unix socket; `None` if there is to be none, or the usual places cannot be used.
///
/// # Errors
/// [`ListenError`] if a place was named and cannot be used.
pub(super) fn open_socket(
    settings: &ApiSettings,
) -> Result<Option<(UnixListener, PathBuf)>, ListenError> {
    match &settings.socket {
        SocketPlace::Off => Ok(None),
        SocketPlace::At(path) => open_at(path, settings).map(Some),
        SocketPlace::Usual => {
            let mut last = None;
            for path in usual_sockets() {
                match open_at(&path, settings) {
                    Ok(opened) => return Ok(Some(opened)),
                    Err(error) => last = Some(error),
                }
            }
            if let Some(error) = last {
                tracing::warn!(%error, "nobody can ask or order anything of this daemon");
            }
            Ok(None)
        }
    }
}

fn open_at(path: &Path, settings: &ApiSettings) -> Result<(UnixListener, PathBuf), ListenError> {
    let error = |source| ListenError::System { at: path.display().to_string(), source };
    if let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(error)?;
    }
    if fs::symlink_metadata(path).is_ok() {
        if UnixStream::connect(path).is_ok() {
            return Err(ListenError::InUse(path.to_owned()));
        }
        // Left by a daemon that was killed; what is no socket makes `bind` fail.
        let is_socket = fs::symlink_metadata(path)
            .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()));
        if is_socket {
            fs::remove_file(path).map_err(error)?;
        }
    }
    let listener = UnixListener::bind(path).map_err(error)?;
    // Who has no role is turned away by the kernel's word, not by the file's mode.
    let mode = if settings.roles.is_empty() { 0o600 } else { 0o666 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    Ok((listener, path.to_owned()))
}

/// Listens for TCP.
pub(super) fn open_tcp(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    let error = |source| ListenError::System { at: address.to_string(), source };
    let listener = std::net::TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    Ok(listener)
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// On the Unix socket, who asks. Over TCP the certificate says so later.
    pub(super) caller: Option<Caller>,
    /// How often it may call.
    pub(super) calls: Bucket,
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    User(u32),
    Address(IpAddr),
}

/// How many connections there are.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: Mutex<BTreeMap<Owner, usize>>,
}

impl Slots {
    fn take(self: &Arc<Self>, owner: Owner, is_admin: bool) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&owner).copied().unwrap_or(0);
        let room =
            if is_admin { own < MAX_OF_ADMIN } else { own < MAX_OF_ONE && all < MAX_CONNECTIONS };
        room.then(|| {
            *taken.entry(owner).or_default() += 1;
            Slot { owner, slots: Arc::clone(self) }
        })
    }
}

/// The place of one connection.
#[derive(Debug)]
struct Slot {
    owner: Owner,
    slots: Arc<Slots>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = taken.get_mut(&self.owner) {
            *number -= 1;
            if *number == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}

/// A stream with what is known of it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    connection: Arc<Connection>,
    _slot: Slot,
}

impl<S> Connected for Wire<S> {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What has been accepted.
pub(super) type Incoming<S> = mpsc::Receiver<io::Result<Wire<S>>>;

/// Accepts on the Unix socket until nobody takes what is accepted.
pub(super) fn accept_local(
    listener: tokio::net::UnixListener,
    settings: Arc<ApiSettings>,
    slots: Arc<Slots>,
) -> Incoming<tokio::net::UnixStream> {
    let (accepted, incoming) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let own = rustix::process::geteuid().as_raw();
        while !accepted.is_closed() {
            let stream = tokio::select! {
                () = accepted.closed() => return,
                stream = listener.accept() => stream,
            };
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            };
            let Ok(peer) = stream.peer_cred() else { continue };
            let role = settings.role_of(peer.uid(), peer.gid(), own);
            let owner = Owner::User(peer.uid());
            let Some(slot) = slots.take(owner, role == Some(Role::Admin)) else { continue };
            // Read anew: users come and go while the daemon runs.
            let name = Users::of_this_host().name_of(peer.uid());
            let caller = Some(Caller { name, role });
            let connection = Arc::new(Connection { caller, calls: Bucket::default() });
            if accepted.send(Ok(Wire { stream, connection, _slot: slot })).await.is_err() {
                return;
            }
        }
    });
    incoming
}

/// Accepts TCP connections until nobody takes what is accepted.
pub(super) fn accept_tcp(
    listener: tokio::net::TcpListener,
    slots: Arc<Slots>,
) -> Incoming<tokio::net::TcpStream> {
    let (accepted, incoming) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while !accepted.is_closed() {
            let stream = tokio::select! {
                () = accepted.closed() => return,
                stream = listener.accept() => stream,
            };
            let Ok((stream, address)) = stream else {
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            };
            let Some(slot) = slots.take(Owner::Address(address.ip()), false) else { continue };
            let connection = Arc::new(Connection { caller: None, calls: Bucket::default() });
            if accepted.send(Ok(Wire { stream, connection, _slot: slot })).await.is_err() {
                return;
            }
        }
    });
    incoming
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_does_not_take_all_places() {
        let slots = Arc::new(Slots::default());
        let mut held: Vec<Slot> = Vec::new();
        for user in 0..100 {
            held.extend(std::iter::from_fn(|| slots.take(Owner::User(user), false)));
        }
        assert_eq!(held.len(), MAX_CONNECTIONS);
        let of_first = held.iter().filter(|slot| slot.owner == Owner::User(0)).count();
        assert_eq!(of_first, MAX_OF_ONE);
        assert!(slots.take(Owner::User(7), true).is_some(), "an administrator always comes in");
        held.clear();
        assert!(slots.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/tidegate.sock");
        let settings =
            ApiSettings { socket: SocketPlace::At(path.clone()), ..ApiSettings::default() };
        let (first, _) = open_socket(&settings).unwrap().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else has a role");
        assert!(matches!(open_socket(&settings), Err(ListenError::InUse(_))));
        drop(first);
        let (_second, _) = open_socket(&settings).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(open_socket(&settings), Err(ListenError::System { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
