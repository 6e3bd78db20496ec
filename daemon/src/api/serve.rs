//! The thread of the API.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use tidegate_bgpd::speaker::SpeakerHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::access::{ApiSettings, TcpSettings};
use super::gate::Gate;
use super::link::EngineHandle;
use super::listen::{
    Incoming, ListenError, Slots, accept_local, accept_tcp, open_socket, open_tcp,
};
use super::{DESCRIPTORS, v1};
use crate::clock::Clock;
use crate::incident::Recent;

/// Largest message that is taken from a client, in bytes. Larger ones are refused.
pub(super) const MAX_MESSAGE: usize = 256 << 10;
/// Calls of one connection that go on at once.
const MAX_STREAMS: u32 = 32;
/// Headers of one call, in bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// A client that does not answer a ping is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WITHIN: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Clients that watch at once. Further ones are refused.
const MAX_WATCHERS: usize = 64;
/// How long calls may go on when the daemon stops.
const STOP_WITHIN: Duration = Duration::from_millis(200);

/// What does not change while the daemon runs.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Interfaces that are captured on.
    pub interfaces: Vec<String>,
    /// The policy directory.
    pub directory: PathBuf,
    /// The SQLite file of incidents.
    pub store: Option<PathBuf>,
}

/// Everything that the services need.
#[derive(Clone, Debug)]
pub struct Desk {
    /// To ask the engine.
    pub engine: EngineHandle,
    /// To ask for peers.
    pub speaker: SpeakerHandle,
    /// The latest incidents.
    pub recent: Arc<Recent>,
    /// The clock of the engine.
    pub clock: Clock,
    /// What does not change.
    pub about: Arc<About>,
    /// Places of those who watch.
    pub(super) watchers: Arc<Semaphore>,
    /// Reads of the store at once: a disk that hangs does not take all threads.
    pub(super) reads: Arc<Semaphore>,
}

impl Desk {
    /// A desk with nobody at it.
    #[must_use]
    pub fn new(
        engine: EngineHandle,
        speaker: SpeakerHandle,
        recent: Arc<Recent>,
        clock: Clock,
        about: About,
    ) -> Self {
        Self {
            engine,
            speaker,
            recent,
            clock,
            about: Arc::new(about),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            reads: Arc::new(Semaphore::new(2)),
        }
    }
}

/// The running API. Dropping it ends it and removes its socket.
#[derive(Debug)]
pub struct Api {
    socket: Option<PathBuf>,
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
}

impl Api {
    /// Where it listens, if it has a socket.
    #[must_use]
    pub fn socket(&self) -> Option<&PathBuf> {
        self.socket.as_ref()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // Whoever comes now shall find nobody rather than wait.
            drop(std::fs::remove_file(socket));
        }
        self.stop.send_replace(true);
        // Closed when it has ended; if it does not end in time, so be it.
        let _ = self.ended.recv_timeout(STOP_WITHIN * 2);
    }
}

/// Starts the API; `None` if nothing is to be listened on.
///
/// # Errors
/// [`ListenError`] if a place that was named cannot be used.
pub fn start(settings: &ApiSettings, desk: Desk) -> Result<Option<Api>, ListenError> {
    let local = open_socket(settings)?;
    let tcp =
        settings.tcp.as_ref().map(|tcp| Ok::<_, ListenError>((open_tcp(tcp.listen)?, tls(tcp)?)));
    let tcp = tcp.transpose()?;
    if local.is_none() && tcp.is_none() {
        return Ok(None);
    }
    let (listener, socket) = local.unzip();
    let (stop, stopping) = watch::channel(false);
    let (ending, ended) = sync_channel::<()>(0);
    let settings = Arc::new(settings.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .map_err(ListenError::Thread)?;
    let work = move || {
        // Closed when the thread ends, however it does.
        let _ending = ending;
        runtime.block_on(serve_all(settings, listener, tcp, desk, stopping));
        runtime.shutdown_background();
    };
    thread::Builder::new().name("api".to_owned()).spawn(work).map_err(ListenError::Thread)?;
    Ok(Some(Api { socket, stop, ended }))
}

fn tls(settings: &TcpSettings) -> Result<ServerTlsConfig, ListenError> {
    let identity = Identity::from_pem(&settings.certificate.0, &settings.key.0);
    let config = ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(&settings.client_ca.0))
        .timeout(HANDSHAKE);
    // What cannot be used is found now and not by the first client.
    drop(builder(Some(config.clone()))?);
    Ok(config)
}

fn builder(tls: Option<ServerTlsConfig>) -> Result<Server, ListenError> {
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .concurrency_limit_per_connection(64)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_WITHIN));
    match tls {
        None => Ok(server),
        Some(tls) => server.tls_config(tls).map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            ListenError::Tls(why.unwrap_or_else(|| error.to_string()))
        }),
    }
}

async fn serve_all(
    settings: Arc<ApiSettings>,
    local: Option<std::os::unix::net::UnixListener>,
    tcp: Option<(std::net::TcpListener, ServerTlsConfig)>,
    desk: Desk,
    stopping: watch::Receiver<bool>,
) {
    let slots = Arc::new(Slots::default());
    let clients = settings.tcp.as_ref().map(|tcp| tcp.clients.clone()).unwrap_or_default();
    let gate = Gate { clients: Arc::new(clients) };
    let local = local.map(tokio::net::UnixListener::from_std).transpose();
    let tcp = tcp.map(|(listener, tls)| Ok((tokio::net::TcpListener::from_std(listener)?, tls)));
    let (local, tcp) = match (local, tcp.transpose()) {
        (Ok(local), Ok(tcp)) => (local, tcp),
        (Err(error), _) | (_, Err(error)) => {
            let error: io::Error = error;
            return tracing::error!(%error, "the API cannot be served");
        }
    };
    let unix = async {
        let Some(listener) = local else { return };
        let incoming = accept_local(listener, Arc::clone(&settings), Arc::clone(&slots));
        serve(incoming, None, &desk, &gate, stopping.clone()).await;
    };
    let remote = async {
        let Some((listener, tls)) = tcp else { return };
        let incoming = accept_tcp(listener, Arc::clone(&slots));
        serve(incoming, Some(tls), &desk, &gate, stopping.clone()).await;
    };
    tokio::join!(unix, remote);
}

async fn serve<S>(
    incoming: Incoming<S>,
    tls: Option<ServerTlsConfig>,
    desk: &Desk,
    gate: &Gate,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let (server, reflection) = match (builder(tls), reflection) {
        (Ok(server), Ok(reflection)) => (server, reflection),
        (Err(error), _) => return tracing::error!(%error, "the API cannot be served"),
        (_, Err(error)) => return tracing::error!(%error, "the API cannot describe itself"),
    };
    macro_rules! service {
        ($module:ident :: $server:ident) => {
            v1::$module::$server::new(desk.clone()).max_decoding_message_size(MAX_MESSAGE)
        };
    }
    let router = { server }
        .layer(gate.clone())
        .add_service(health)
        .add_service(reflection)
        .add_service(service!(incidents_server::IncidentsServer))
        .add_service(service!(mitigations_server::MitigationsServer))
        .add_service(service!(peers_server::PeersServer))
        .add_service(service!(backends_server::BackendsServer))
        .add_service(service!(policy_server::PolicyServer))
        .add_service(service!(detector_server::DetectorServer))
        .add_service(service!(reports_server::ReportsServer))
        .add_service(service!(control_server::ControlServer));
    let mut stopped = stopping.clone();
    let signal = async move { drop(stopping.wait_for(|stop| *stop).await) };
    let serving = router.serve_with_incoming_shutdown(ReceiverStream::new(incoming), signal);
    // Streams that are watched never end by themselves.
    let deadline = async move {
        drop(stopped.wait_for(|stop| *stop).await);
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::error!(%error, "the API has ended");
        },
        () = deadline => {}
    }
}
