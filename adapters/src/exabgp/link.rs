//! A way to ExaBGP's API: a command out, lines back up to `done` or `error`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};

use super::ExabgpAccess;
use crate::external::{ExternalError, within};

/// Longest wait for the answer to a command.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a listing.
const LISTING_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a sidecar to connect, and for what an earlier reader of the pipe left.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Most bytes of an answer.
const MOST_ANSWER: usize = 64 * 1024 * 1024;
/// Most bytes of a line: a received UPDATE as JSON with the routes of a full message.
const MOST_LINE: usize = 4 * 1024 * 1024;
/// A command without effect, whose answer shows that earlier ones have none any more.
const SYNC: &str = "version";

/// What ExaBGP said to a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// What came before the last line.
    pub(super) lines: Vec<String>,
    pub(super) end: End,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// `done`
    #[default]
    Done,
    /// `error`
    Error,
    /// Nothing came: 4.2 forgets to answer some commands that it cannot read.
    Swallowed,
}

type Reader = Box<dyn AsyncBufRead + Send + Sync + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// A connection, through a sidecar or the named pipes.
pub(super) struct Link {
    reader: Reader,
    writer: Writer,
    /// The beginning of a line whose end was not waited for.
    partial: Vec<u8>,
}

impl Link {
    fn new(
        reader: impl AsyncRead + Send + Sync + Unpin + 'static,
        writer: impl AsyncWrite + Send + Sync + Unpin + 'static,
    ) -> Self {
        Self {
            reader: Box::new(BufReader::new(reader)),
            writer: Box::new(writer),
            partial: Vec::new(),
        }
    }

    /// Over standard input and output of a process that ExaBGP runs.
    pub(super) fn standard() -> Self {
        Self::new(tokio::io::stdin(), tokio::io::stdout())
    }

    /// Over the named pipes. Nothing here waits for the other end to open them.
    async fn pipes(input: &Path, output: &Path) -> Result<Self, ExternalError> {
        let name = |path: &Path| format!("{} of ExaBGP", path.display());
        // Without a reader this fails at once: ExaBGP is not running.
        let writer = pipe::OpenOptions::new().open_sender(input);
        let writer = writer.map_err(ExternalError::io("open", name(input)))?;
        // Open for both, it does not end when ExaBGP closes it between two answers.
        let reader = pipe::OpenOptions::new().read_write(true).open_receiver(output);
        let reader = reader.map_err(ExternalError::io("open", name(output)))?;
        let mut link = Self::new(reader, writer);
        link.synchronise().await?;
        Ok(link)
    }

    /// Sends a command and takes the answer.
    pub(super) async fn ask(&mut self, command: &str) -> Result<Reply, ExternalError> {
        let listing = command.starts_with("show ");
        let limit = if listing { LISTING_LIMIT } else { ANSWER_LIMIT };
        match within(command, limit, self.exchange(command)).await {
            Err(ExternalError::Silent { .. }) if !listing => {
                self.synchronise().await?;
                Ok(Reply { lines: Vec::new(), end: End::Swallowed })
            }
            answer => answer,
        }
    }

    /// Sends a command and skips everything up to its own answer.
    pub(super) async fn synchronise(&mut self) -> Result<(), ExternalError> {
        within("ExaBGP, asked for its version", ANSWER_LIMIT, async {
            self.send(SYNC).await?;
            loop {
                let reply = self.reply().await?;
                if reply.lines.iter().any(|line| line.starts_with("exabgp ")) {
                    return Ok(());
                }
            }
        })
        .await
    }

    async fn exchange(&mut self, command: &str) -> Result<Reply, ExternalError> {
        self.send(command).await?;
        self.reply().await
    }

    async fn send(&mut self, command: &str) -> Result<(), ExternalError> {
        let line = format!("{command}\n");
        let lost = ExternalError::io("write to", "ExaBGP");
        let sent = async {
            self.writer.write_all(line.as_bytes()).await?;
            self.writer.flush().await
        };
        sent.await.map_err(lost)
    }

    async fn reply(&mut self) -> Result<Reply, ExternalError> {
        let mut lines = Vec::new();
        let mut size = 0;
        loop {
            let gone = || ExternalError::Lost("ExaBGP is gone".to_owned());
            let line = self.line().await.ok_or_else(gone)?;
            size += line.len();
            if size > MOST_ANSWER {
                return Err(ExternalError::Lost(format!(
                    "an answer of more than {MOST_ANSWER} bytes"
                )));
            }
            match line.as_str() {
                "done" => return Ok(Reply { lines, end: End::Done }),
                "error" => return Ok(Reply { lines, end: End::Error }),
                // News of sessions, which come whenever they like.
                text if text.starts_with('{') => {}
                _ => lines.push(line),
            }
        }
    }

    /// Sends a line as it is, with its end.
    pub(super) async fn pass(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(line).await?;
        self.writer.flush().await
    }

    /// The next whole line, whatever it is; `None` at the end. Nothing is lost if it is not waited
    /// for.
    pub(super) async fn line(&mut self) -> Option<String> {
        loop {
            let available = self.reader.fill_buf().await.ok()?;
            if available.is_empty() || self.partial.len() > MOST_LINE {
                return None;
            }
            let end = available.iter().position(|octet| *octet == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            self.partial.extend_from_slice(available.get(..taken).unwrap_or_default());
            self.reader.consume(taken);
            if end.is_some() {
                let line = std::mem::take(&mut self.partial);
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Link")
    }
}

/// Where links come from.
#[derive(Debug)]
pub(super) enum Source {
    /// ExaBGP's pipes are opened when needed.
    Pipes,
    /// Sidecars connect here.
    Socket(UnixListener),
}

impl Source {
    pub(super) fn new(access: &ExabgpAccess) -> Result<Self, ExternalError> {
        let ExabgpAccess::Sidecar { socket, mode } = access else { return Ok(Self::Pipes) };
        let name = socket.display().to_string();
        // What an earlier run left; a socket that somebody listens on is not taken away.
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            let why = format!("another process listens on {name}");
            return Err(ExternalError::Lost(why));
        }
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).map_err(ExternalError::io("listen on", &name))?;
        fs::set_permissions(socket, fs::Permissions::from_mode(*mode))
            .map_err(ExternalError::io("set the mode of", &name))?;
        Ok(Self::Socket(listener))
    }

    /// The newest link.
    pub(super) async fn link(&self, access: &ExabgpAccess) -> Result<Link, ExternalError> {
        match (self, access) {
            (Self::Pipes, ExabgpAccess::Pipes { input, output }) => {
                Link::pipes(input, output).await
            }
            (Self::Socket(listener), ExabgpAccess::Sidecar { socket, .. }) => {
                let mut stream = match tokio::time::timeout(CONNECT_LIMIT, listener.accept()).await
                {
                    Ok(accepted) => {
                        accepted.map_err(ExternalError::io("accept on", "the socket"))?.0
                    }
                    Err(_) => {
                        let why = format!(
                            "no sidecar has connected to {}; does ExaBGP run `tidegate exabgp-sidecar`?",
                            socket.display()
                        );
                        return Err(ExternalError::Lost(why));
                    }
                };
                // One that was started again is behind its predecessor in the queue.
                while let Some(next) = waiting(listener).await {
                    stream = next;
                }
                let (reader, writer) = stream.into_split();
                let mut link = Link::new(reader, writer);
                link.synchronise().await?;
                Ok(link)
            }
            _ => Err(ExternalError::Lost("ExaBGP is not reached that way".to_owned())),
        }
    }
}

/// A connection that is there already.
async fn waiting(listener: &UnixListener) -> Option<UnixStream> {
    let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    Some(accepted.ok()?.ok()?.0)
}
