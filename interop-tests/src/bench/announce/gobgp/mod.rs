//! GoBGP's way: gRPC, a call for each route or a stream of many.

mod message;

use std::fs;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use message::{AddPathRequest, AddPathResponse, AddPathStreamRequest, Empty, path};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoRequest, Status};
use tonic_prost::ProstCodec;

use super::speaker::runtime;
use super::{ANNOUNCER, Announcer, BenchError, Killed, Link, SESSION_LIMIT, system};
use crate::interop::Kind;
use crate::lab::{require, until};

/// Where gobgpd takes calls, in a network namespace that is ours.
const API: &str = "127.0.0.1:50051";
/// Paths in one message of a stream.
const BATCH: usize = 1000;
/// Messages that wait for the stream.
const QUEUE: usize = 16;

/// How GoBGP is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `AddPath`, one after the other.
    Unary,
    /// `AddPathStream`, a thousand paths in a message.
    Stream,
}

/// GoBGP as announcer.
pub(super) struct Gobgp {
    call: Call,
    client: Grpc<Channel>,
    stream: Option<mpsc::Sender<AddPathStreamRequest>>,
    done: Option<JoinHandle<Result<(), Status>>>,
    runtime: Runtime,
    #[expect(dead_code, reason = "held for its end")]
    process: Killed,
}

fn refused(status: &Status) -> BenchError {
    BenchError::Unexpected(format!("GoBGP refuses: {status}"))
}

async fn ready(client: &mut Grpc<Channel>) -> Result<(), Status> {
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))
}

fn service(method: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(method)
}

impl Gobgp {
    pub(super) fn start(link: Link, directory: &Path, call: Call) -> Result<Self, BenchError> {
        let file = directory.join("bench-gobgpd.toml");
        let mut text = format!(
            "[global.config]
as = 65010
router-id = \"192.0.2.40\"
port = {}
local-address-list = [\"{ANNOUNCER}\"]
[[neighbors]]
[neighbors.config]
neighbor-address = \"{}\"
peer-as = 65001
[neighbors.transport.config]
passive-mode = true
[neighbors.ebgp-multihop.config]
enabled = true
multihop-ttl = 2
",
            link.port,
            Ipv4Addr::LOCALHOST
        );
        for name in ["unicast", "flowspec"] {
            text.push_str(&format!(
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-{name}\"\n"
            ));
        }
        fs::write(&file, text).map_err(system("write GoBGP's configuration"))?;
        let child = Command::new(require::program("gobgpd")?)
            .arg("-f")
            .arg(&file)
            .args(["--api-hosts", API, "--pprof-disable"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(system("start GoBGP"))?;
        let process = Killed(child);
        let runtime = runtime()?;
        let endpoint = Endpoint::from_static("http://127.0.0.1:50051");
        let channel =
            until("GoBGP's gRPC", SESSION_LIMIT, || Ok(runtime.block_on(endpoint.connect()).ok()))?;
        let client = Grpc::new(channel);
        Ok(Self { call, client, stream: None, done: None, runtime, process })
    }

    fn unary(&mut self, kind: Kind, range: Range<usize>) -> Result<Instant, BenchError> {
        let requests: Vec<AddPathRequest> = range
            .map(|index| AddPathRequest { table_type: 0, path: Some(path(kind, index)) })
            .collect();
        let begin = Instant::now();
        let client = &mut self.client;
        self.runtime
            .block_on(async {
                for request in requests {
                    ready(client).await?;
                    let codec: ProstCodec<AddPathRequest, AddPathResponse> = ProstCodec::default();
                    let method = service("/apipb.GobgpApi/AddPath");
                    client.unary(request.into_request(), method, codec).await?;
                }
                Ok(())
            })
            .map_err(|status| refused(&status))?;
        Ok(begin)
    }

    /// The stream stays open: opening one is no part of announcing a route.
    fn stream(&mut self, kind: Kind, range: Range<usize>) -> Result<Instant, BenchError> {
        let paths: Vec<message::Path> = range.map(|index| path(kind, index)).collect();
        let requests: Vec<AddPathStreamRequest> = paths
            .chunks(BATCH)
            .map(|paths| AddPathStreamRequest { table_type: 0, paths: paths.to_vec() })
            .collect();
        let stream = match &self.stream {
            Some(stream) => stream.clone(),
            None => self.open(),
        };
        let begin = Instant::now();
        for request in requests {
            if stream.blocking_send(request).is_err() {
                let done = self.done.take().map(|done| self.runtime.block_on(done));
                return Err(BenchError::Unexpected(format!("GoBGP ended the stream: {done:?}")));
            }
        }
        Ok(begin)
    }

    fn open(&mut self) -> mpsc::Sender<AddPathStreamRequest> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut client = self.client.clone();
        self.done = Some(self.runtime.spawn(async move {
            ready(&mut client).await?;
            let codec: ProstCodec<AddPathStreamRequest, Empty> = ProstCodec::default();
            let method = service("/apipb.GobgpApi/AddPathStream");
            let requests = tonic::Request::new(ReceiverStream::new(receiver));
            client.client_streaming(requests, method, codec).await.map(drop)
        }));
        self.stream = Some(sender.clone());
        sender
    }
}

impl Announcer for Gobgp {
    fn announce(&mut self, kind: Kind, range: Range<usize>) -> Result<Instant, BenchError> {
        match self.call {
            Call::Unary => self.unary(kind, range),
            Call::Stream => self.stream(kind, range),
        }
    }
}
