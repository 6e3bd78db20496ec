//! HTTP, for one path, on a thread of its own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_bgpd::speaker::SpeakerHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::{Counters, exposition};
use crate::api::EngineHandle;

/// Connections at once. Further ones are closed at once.
const MAX_CONNECTIONS: usize = 8;
/// How long a request may take to arrive, and a connection altogether.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
const CONNECTION_WITHIN: Duration = Duration::from_secs(15);
/// How long to wait when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// OpenMetrics 1.0 in text, which Prometheus asks for.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address cannot be used.
    #[error("cannot serve metrics at {address}: {source}; change `listen` in `[metrics]`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error("cannot start the thread of the metrics: {0}")]
    Thread(io::Error),
}

/// What is asked at each scrape.
#[derive(Clone, Debug)]
struct Sources {
    counters: Arc<Counters>,
    engine: EngineHandle,
    speaker: SpeakerHandle,
}

/// The running server. Dropping it ends it.
#[derive(Debug)]
pub struct Metrics {
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Metrics {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Serves metrics at `address`.
///
/// # Errors
/// [`MetricsError`] if the address cannot be used.
pub fn start(
    address: SocketAddr,
    counters: Arc<Counters>,
    engine: EngineHandle,
    speaker: SpeakerHandle,
) -> Result<Metrics, MetricsError> {
    let failed = |source| MetricsError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (stop, mut stopping) = watch::channel(false);
    let sources = Sources { counters, engine, speaker };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MetricsError::Thread)?;
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => {}
                () = accept(listener, sources) => {}
            }
        });
        runtime.shutdown_background();
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(work).map_err(MetricsError::Thread)?;
    Ok(Metrics { address, stop })
}

async fn accept(listener: std::net::TcpListener, sources: Sources) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "metrics cannot be served"),
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(EXHAUSTED).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let sources = sources.clone();
        tokio::spawn(async move {
            let _place = place;
            // Whoever does not ask or read in time is not waited for.
            drop(tokio::time::timeout(CONNECTION_WITHIN, serve(stream, sources)).await);
        });
    }
}

async fn serve(stream: TcpStream, sources: Sources) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| answer(request, sources.clone()));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .max_buf_size(16 << 10)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    request: Request<Incoming>,
    sources: Sources,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            // A full queue or a stuck engine is a figure, not an error.
            let view = sources.engine.view().await.ok();
            let peers = sources.speaker.peers();
            (StatusCode::OK, exposition(&sources.counters, view.as_deref(), &peers))
        }
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    Ok(response)
}
