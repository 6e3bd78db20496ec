//! Carries out what a renderer made, once.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, lookup_host};
use tokio::process::Command;
use tokio::time::timeout;

use super::config::{Channel, ChannelKind, Email, Exec, SmtpTls, SyslogAddress};
use super::escape;
use super::http::{self, HttpError};
use super::render::Delivery;
use super::verdict::{Verdict, judge};
use super::wall_now;

/// An SMTP exchange has several steps: all together may take this many times one.
const SMTP_STEPS: u32 = 4;

/// No more characters of a mail server's words are logged.
const MAX_WORDS: usize = 200;

/// Sends through one channel.
pub(super) struct Sender {
    client: reqwest::Client,
}

impl Sender {
    pub(super) fn new() -> Result<Self, HttpError> {
        Ok(Self { client: http::client()? })
    }

    /// Sends `delivery` once. `editing`: whether it changes a message that is there.
    pub(super) async fn send(
        &self,
        channel: &Channel,
        delivery: Delivery,
        editing: bool,
    ) -> Verdict {
        match (delivery, &channel.kind) {
            (Delivery::Http(request), kind) => {
                match http::exchange(&self.client, &request, channel.timeout).await {
                    Ok(answer) => judge(kind, &answer, editing, wall_now()),
                    Err(error @ HttpError::Request(_)) => refused(error.to_string()),
                    Err(error) => again(error.to_string()),
                }
            }
            (Delivery::Mail(mail), ChannelKind::Email(email)) => {
                send_mail(email, *mail, channel.timeout).await
            }
            (Delivery::Syslog(message), ChannelKind::Syslog { address, .. }) => {
                match timeout(channel.timeout, send_syslog(address, &message)).await {
                    Ok(Ok(())) => Verdict::Delivered { remote: None },
                    Ok(Err(error)) => again(error.to_string()),
                    Err(_) => again("not taken in time".to_owned()),
                }
            }
            (Delivery::Program { arguments, input }, ChannelKind::Exec(exec)) => {
                run_program(exec, &arguments, input, channel.timeout).await
            }
            _ => refused("the message is not for this channel".to_owned()),
        }
    }
}

fn again(why: String) -> Verdict {
    Verdict::Again { pause: None, why }
}

fn refused(why: String) -> Verdict {
    Verdict::Refused { why }
}

async fn send_mail(email: &Email, mail: lettre::Message, step: Duration) -> Verdict {
    type Transport = AsyncSmtpTransport<Tokio1Executor>;
    let builder = match email.tls {
        SmtpTls::StartTls => Transport::starttls_relay(&email.server),
        SmtpTls::Implicit => Transport::relay(&email.server),
        SmtpTls::Plain => Ok(Transport::builder_dangerous(&email.server)),
    };
    let mut builder = match builder {
        Ok(builder) => builder.port(email.port).timeout(Some(step)),
        Err(error) => return refused(error.to_string()),
    };
    if let Some((user, password)) = &email.login {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    let transport = builder.build();
    match timeout(step * SMTP_STEPS, transport.send(mail)).await {
        Ok(Ok(_)) => Verdict::Delivered { remote: None },
        Ok(Err(error)) => {
            let why = escape::cut(&escape::plain(&error.to_string()), MAX_WORDS);
            if error.is_permanent() { refused(why) } else { again(why) }
        }
        Err(_) => again("not taken in time".to_owned()),
    }
}

async fn send_syslog(address: &SyslogAddress, message: &[u8]) -> std::io::Result<()> {
    match address {
        SyslogAddress::Unix(path) => {
            UnixDatagram::unbound()?.send_to(message, path).await?;
        }
        SyslogAddress::Udp(host) => {
            let to = lookup_host(host).await?.next();
            let to = to.ok_or_else(|| std::io::Error::other("the name has no address"))?;
            let any = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
            socket.send_to(message, to).await?;
        }
        SyslogAddress::Tcp(host) => {
            let mut stream = TcpStream::connect(host).await?;
            // RFC 6587 §3.4.1: the length, a space, the message.
            stream.write_all(format!("{} ", message.len()).as_bytes()).await?;
            stream.write_all(message).await?;
            stream.shutdown().await?;
        }
    }
    Ok(())
}

/// A program that fails is not run again: what it did before it failed is not known.
async fn run_program(
    exec: &Exec,
    arguments: &[String],
    input: Vec<u8>,
    patience: Duration,
) -> Verdict {
    let Some((program, own)) = exec.command.split_first() else {
        return refused("no program is configured".to_owned());
    };
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let spawned = Command::new(program)
        .args(own)
        .args(arguments)
        // The environment may hold the secrets of other channels.
        .env_clear()
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return refused(format!("cannot run {program}: {error}")),
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let stdin = child.stdin.take();
    let running = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input has seen what it wants.
            let _ = stdin.write_all(&input).await;
        }
        child.wait().await
    };
    match timeout(patience, running).await {
        Ok(Ok(status)) if status.success() => Verdict::Delivered { remote: None },
        Ok(Ok(status)) => refused(format!("{program}: {status}")),
        Ok(Err(error)) => refused(format!("{program}: {error}")),
        Err(_) => {
            // What it started goes with it.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            refused(format!("{program} ran longer than {patience:?}; it was killed"))
        }
    }
}
