//! What every call passes first: who asks, how often, and whether they may.

use std::collections::BTreeMap;
use std::future::ready;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::transport::server::TlsConnectInfo;
use tower::{Layer, Service};

use super::access::{Caller, Fingerprint, TcpClient, needed};
use super::listen::Connection;

/// Calls of one connection: so many at once, and so many a second in the long run.
const BURST: u32 = 200;
const CALLS_PER_SECOND: u32 = 100;

/// A leaky bucket of calls.
#[derive(Debug)]
pub(super) struct Bucket {
    full_at: Mutex<Instant>,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { full_at: Mutex::new(Instant::now()) }
    }
}

impl Bucket {
    /// Takes one call out; whether there was one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / CALLS_PER_SECOND;
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full_at).max(now) + each;
        let room = next.duration_since(now) <= each * BURST;
        if room {
            *full_at = next;
        }
        room
    }
}

/// The layer.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// Clients of the TCP interface.
    pub(super) clients: Arc<BTreeMap<Fingerprint, TcpClient>>,
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, gate: self.clone() }
    }
}

/// A service behind the gate.
#[derive(Clone, Debug)]
pub(super) struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match self.gate.admit(&request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(status) => Box::pin(ready(Ok(status.into_http()))),
        }
    }
}

impl Gate {
    fn admit(&self, request: &http::Request<Body>) -> Result<Caller, Status> {
        let extensions = request.extensions();
        let local = extensions.get::<Arc<Connection>>();
        let remote = extensions.get::<TlsConnectInfo<Arc<Connection>>>();
        let connection = local
            .or(remote.map(TlsConnectInfo::get_ref))
            .ok_or_else(|| Status::unauthenticated("nobody knows who asks"))?;
        if !connection.calls.take(Instant::now()) {
            return Err(Status::resource_exhausted(format!(
                "more than {CALLS_PER_SECOND} calls a second on this connection; slow down"
            )));
        }
        let caller = match (&connection.caller, remote) {
            (Some(caller), _) => caller.clone(),
            (None, Some(remote)) => self.remote_caller(remote),
            (None, None) => Caller { name: "unknown".to_owned(), role: None },
        };
        let Some(role) = caller.role else {
            return Err(Status::permission_denied(format!(
                "{} has no role; name it in `[api]` of tidegate.toml",
                caller.name
            )));
        };
        match needed(request.uri().path()) {
            Some(needed) if !role.may(needed) => Err(Status::permission_denied(format!(
                "{caller} may not do this: it needs the role {}",
                needed.name()
            ))),
            _ => Ok(caller),
        }
    }

    fn remote_caller(&self, connection: &TlsConnectInfo<Arc<Connection>>) -> Caller {
        let certificates = connection.peer_certs();
        let own = certificates.as_ref().and_then(|certificates| certificates.first());
        let Some(fingerprint) = own.map(|certificate| Fingerprint::of(certificate)) else {
            return Caller { name: "a client without certificate".to_owned(), role: None };
        };
        match self.clients.get(&fingerprint) {
            Some(client) => Caller { name: client.name.clone(), role: Some(client.role) },
            None => Caller { name: "a client that is not listed".to_owned(), role: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let bucket = Bucket::default();
        let start = Instant::now() + Duration::from_secs(1);
        let taken = (0..1000).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, usize::try_from(BURST).unwrap());
        let later = start + Duration::from_millis(100);
        assert_eq!((0..1000).filter(|_| bucket.take(later)).count(), 10);
        let long_after = start + Duration::from_secs(3600);
        let taken = (0..1000).filter(|_| bucket.take(long_after)).count();
        assert_eq!(taken, usize::try_from(BURST).unwrap());
    }
}
