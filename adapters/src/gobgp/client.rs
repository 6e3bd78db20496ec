//! gRPC to GoBGP: the methods that are needed, of whichever version answers.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::client::Grpc;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, IntoStreamingRequest, Request, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use super::proto::{
    AddPathRequest, AddPathStreamRequest, Family, ListPathRequest, ListPathResponse, LookupPrefix,
    Nothing, Path,
};
use crate::external::{ExternalError, within};

/// Longest wait for an answer to anything but a listing.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a listing or a batch.
const LONG_LIMIT: Duration = Duration::from_secs(30);
/// Paths in one message of a stream.
const CHUNK: usize = 1000;
/// Most paths that a listing may have.
const MOST_PATHS: usize = 2_000_000;
/// Most bytes of one message, that of a destination with all its paths.
const MOST_MESSAGE: usize = 16 * 1024 * 1024;

/// The API of one major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// GoBGP 3, package `apipb`.
    Three,
    /// GoBGP 4, package `api`, whose enumerations have a value 0 for "unspecified".
    Four,
}

impl Version {
    const ALL: [Self; 2] = [Self::Three, Self::Four];

    const fn service(self) -> &'static str {
        match self {
            Self::Three => "apipb.GobgpApi",
            Self::Four => "api.GoBgpService",
        }
    }

    /// TableType GLOBAL.
    const fn global_table(self) -> i32 {
        match self {
            Self::Three => 0,
            Self::Four => 1,
        }
    }
}

/// A connection to a gobgpd.
#[derive(Clone, Debug)]
pub(super) struct Client {
    grpc: Grpc<Channel>,
    version: Version,
}

impl Client {
    /// Connects, and finds out which version it is.
    pub(super) async fn connect(address: &str) -> Result<Self, ExternalError> {
        let what = format!("GoBGP at {address}");
        let lost = |error: tonic::transport::Error| {
            let cause = std::error::Error::source(&error);
            let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
            ExternalError::Lost(format!("cannot reach {what}: {cause}"))
        };
        // The URI is for HTTP alone; where to connect is the connector's to know.
        let endpoint = Endpoint::from_static("http://gobgp.invalid");
        let connect = async { endpoint.connect_with_connector(once(address)).await.map_err(lost) };
        let channel = within(&what, ANSWER_LIMIT, connect).await?;
        for version in Version::ALL {
            let grpc = Grpc::new(channel.clone()).max_decoding_message_size(MOST_MESSAGE);
            let mut client = Self { grpc, version };
            match client.get_bgp().await {
                Ok(_) => return Ok(client),
                Err(Failure::Status(status)) if status.code() == Code::Unimplemented => {}
                Err(failure) => return Err(failure.into_error(&what)),
            }
        }
        Err(ExternalError::unreadable(
            what,
            "it has neither the API of GoBGP 3 nor that of GoBGP 4",
        ))
    }

    pub(super) const fn version(&self) -> Version {
        self.version
    }

    /// Whether it answers.
    pub(super) async fn get_bgp(&mut self) -> Result<(), Failure> {
        self.unary::<_, Nothing>("GetBgp", Nothing {}).await.map(drop)
    }

    /// Adds or withdraws paths, in order, until one is refused.
    pub(super) async fn add_stream(&mut self, paths: Vec<Path>) -> Result<(), Failure> {
        let table_type = self.version.global_table();
        let chunks = paths
            .chunks(CHUNK)
            .map(|paths| AddPathStreamRequest { table_type, paths: paths.to_vec() });
        let requests = tokio_stream::iter(chunks.collect::<Vec<_>>()).into_streaming_request();
        let path = self.path("AddPathStream");
        let grpc = &mut self.grpc;
        limited(LONG_LIMIT, async {
            ready(grpc).await?;
            let codec = ProstCodec::<AddPathStreamRequest, Nothing>::default();
            grpc.client_streaming(requests, path, codec).await.map(drop)
        })
        .await
    }

    /// Adds or withdraws one path.
    pub(super) async fn add(&mut self, path: Path) -> Result<(), Failure> {
        let table_type = self.version.global_table();
        self.unary::<_, Nothing>("AddPath", AddPathRequest { table_type, path: Some(path) })
            .await
            .map(drop)
    }

    /// Every path of the global table of `family`; or, for unicast, of these prefixes.
    pub(super) async fn list(
        &mut self,
        family: Family,
        prefixes: &[String],
    ) -> Result<Vec<Path>, Failure> {
        let request = ListPathRequest {
            table_type: self.version.global_table(),
            family: Some(family),
            prefixes: prefixes.iter().cloned().map(|prefix| LookupPrefix { prefix }).collect(),
            enable_only_binary: true,
        };
        let path = self.path("ListPath");
        let grpc = &mut self.grpc;
        limited(LONG_LIMIT, async {
            ready(grpc).await?;
            let codec = ProstCodec::<ListPathRequest, ListPathResponse>::default();
            let answers = grpc.server_streaming(Request::new(request), path, codec).await?;
            let mut answers = answers.into_inner();
            let mut paths = Vec::new();
            while let Some(answer) = answers.message().await? {
                paths.extend(answer.destination.into_iter().flat_map(|one| one.paths));
                if paths.len() > MOST_PATHS {
                    let why = format!("more than {MOST_PATHS} paths");
                    return Err(Status::resource_exhausted(why));
                }
            }
            Ok(paths)
        })
        .await
    }

    async fn unary<Q, A>(&mut self, method: &str, request: Q) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let path = self.path(method);
        let grpc = &mut self.grpc;
        limited(ANSWER_LIMIT, async {
            ready(grpc).await?;
            let codec = ProstCodec::<Q, A>::default();
            Ok(grpc.unary(Request::new(request), path, codec).await?.into_inner())
        })
        .await
    }

    fn path(&self, method: &str) -> PathAndQuery {
        let path = format!("/{}/{method}", self.version.service());
        PathAndQuery::try_from(path).unwrap_or_else(|_| PathAndQuery::from_static("/"))
    }
}

/// A connection of either kind.
type Stream = Pin<Box<dyn Duplex>>;

trait Duplex: AsyncRead + AsyncWrite + Send {}

impl Duplex for UnixStream {}
impl Duplex for TcpStream {}

/// Connects once and never again: a GoBGP behind a second connection may have been restarted.
fn once(
    address: &str,
) -> impl Service<Uri, Response = TokioIo<Stream>, Error = io::Error, Future: Send> + Send + 'static
{
    let mut address = Some(address.to_owned());
    tower::service_fn(move |_: Uri| {
        let address = address.take();
        async move {
            let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
            let stream = match address.strip_prefix("unix://") {
                Some(path) => Box::pin(UnixStream::connect(path).await?) as Stream,
                None => {
                    let host = address.strip_prefix("http://").unwrap_or(&address);
                    Box::pin(TcpStream::connect(host).await?)
                }
            };
            Ok(TokioIo::new(stream))
        }
    })
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// What GoBGP or the connection said.
    Status(Status),
    /// Nothing was said.
    Silent(Duration),
}

impl Failure {
    /// What GoBGP said of the request itself; `None` if it was not heard or cannot be reached.
    pub(super) fn refusal(&self) -> Option<String> {
        match self {
            Self::Status(status) => match status.code() {
                Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => None,
                _ => Some(crate::external::shown(status.message())),
            },
            Self::Silent(_) => None,
        }
    }

    pub(super) fn into_error(self, what: &str) -> ExternalError {
        match self {
            Self::Status(status) => ExternalError::refused(what, status.message()),
            Self::Silent(limit) => ExternalError::Silent { what: what.to_owned(), limit },
        }
    }
}

async fn limited<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>> + Send,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(Failure::Status),
        Err(_) => Err(Failure::Silent(limit)),
    }
}
