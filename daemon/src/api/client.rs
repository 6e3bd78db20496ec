//! The other end: what the command line and tests talk to a daemon with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost_reflect::{DynamicMessage, SerializeOptions};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{descriptors, usual_sockets};

/// How long a connection may take, and a call.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens.
    #[error(
        "the daemon is not running: nothing listens on {}; start it with `systemctl start tidegate` \
         or `tidegate run`, or name its socket with --socket PATH",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NotRunning(Vec<PathBuf>),
    /// The file's mode forbids it.
    #[error(
        "you may not connect to {}: ask the administrator for a role in `[api]` of tidegate.toml, \
         or use sudo",
        .0.display()
    )]
    Forbidden(PathBuf),
    /// Anything else.
    #[error("cannot connect to {}: {why}", .path.display())]
    Other {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// Connects to the daemon at `socket`, or where one usually is.
///
/// # Errors
/// [`ConnectError`], with the next step.
pub async fn connect(socket: Option<&Path>) -> Result<Channel, ConnectError> {
    let candidates = socket.map_or_else(usual_sockets, |path| vec![path.to_owned()]);
    for path in &candidates {
        match UnixStream::connect(path).await {
            Ok(_) => return channel(path.clone()).await,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(ConnectError::Forbidden(path.clone()));
            }
            Err(_) => {}
        }
    }
    Err(ConnectError::NotRunning(candidates))
}

async fn channel(path: PathBuf) -> Result<Channel, ConnectError> {
    let connecting = path.clone();
    let connector = service_fn(move |_| {
        let path = connecting.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let other = |error: tonic::transport::Error| ConnectError::Other {
        path: path.clone(),
        why: error.to_string(),
    };
    // The address is of no consequence on a socket, but HTTP wants one.
    let endpoint = Endpoint::try_from("http://localhost").map_err(other)?;
    endpoint.connect_timeout(CONNECT_WITHIN).connect_with_connector(connector).await.map_err(other)
}

/// A message of the interface as JSON, every field with its name in the interface.
///
/// # Errors
/// If `name` is no message, or `message` is not one of it. Neither is bad input.
pub fn to_json<M: prost::Message>(name: &str, message: &M) -> Result<serde_json::Value, String> {
    let full = format!("tidegate.v1.{name}");
    let kind = descriptors()
        .get_message_by_name(&full)
        .ok_or_else(|| format!("there is no message {full}"))?;
    let message = DynamicMessage::decode(kind, message.encode_to_vec().as_slice())
        .map_err(|error| error.to_string())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| error.to_string())
}
