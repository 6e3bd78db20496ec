//! The commands that talk to a running daemon, and those about this program.

mod bench;
mod live;
mod orders;
mod screen;
mod show;
mod story;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, IsTerminal as _, Write as _};

use clap::CommandFactory as _;
use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use super::Failure;
use crate::alerts;
use crate::api::client::{ConnectError, connect, to_json};
use crate::api::v1;
use crate::cli::{
    AlertTest, Cli, CommandLine, Completions, Connection, Incidents, Manual, Mitigations,
};
use crate::config;
use crate::incident::WallTime;

/// Answers are read up to this size, in bytes: the largest Adj-RIB-Out fits.
const MAX_ANSWER: usize = 64 << 20;

/// A client of one service.
macro_rules! client {
    ($module:ident :: $client:ident, $channel:expr) => {
        crate::api::v1::$module::$client::new($channel)
            .max_decoding_message_size(crate::commands::operate::MAX_ANSWER)
    };
}
use client;

/// Runs one of them.
pub(super) fn operate(command: &CommandLine) -> Result<(), Failure> {
    match command {
        CommandLine::Status(arguments) => show::status(&arguments.connection),
        CommandLine::Incidents(arguments) if arguments.watch => watch_incidents(arguments),
        CommandLine::Incidents(arguments) => show::incidents(arguments),
        CommandLine::Incident(arguments) => show::incident(arguments),
        CommandLine::Mitigations(arguments) if arguments.watch => watch_mitigations(arguments),
        CommandLine::Mitigations(arguments) => show::mitigations(arguments),
        CommandLine::Peers(arguments) => show::peers(arguments),
        CommandLine::Explain(arguments) => show::explain(arguments),
        CommandLine::Top(arguments) => live::top(arguments),
        CommandLine::Withdraw(arguments) => orders::withdraw(arguments),
        CommandLine::Hold(arguments) => orders::hold(arguments),
        CommandLine::Resume(arguments) => orders::resume(arguments),
        CommandLine::Approve(arguments) => orders::approve(arguments),
        CommandLine::Renew(arguments) => orders::renew(arguments),
        CommandLine::Announce(arguments) => orders::announce(arguments),
        CommandLine::Panic(arguments) => orders::panic(arguments),
        CommandLine::Audit(arguments) => orders::audit(&arguments.connection),
        CommandLine::AlertTest(arguments) => alert_test(arguments),
        CommandLine::BenchSelf(arguments) => bench::measure(arguments),
        CommandLine::Completions(arguments) => completions(arguments),
        CommandLine::Man(arguments) => manual(arguments),
        CommandLine::Run(_)
        | CommandLine::Replay(_)
        | CommandLine::Check(_)
        | CommandLine::Policy(_)
        | CommandLine::Adapters(_)
        | CommandLine::Init(_)
        | CommandLine::Import(_)
        | CommandLine::Reaper
        | CommandLine::ExabgpSidecar(_) => Ok(()),
    }
}

pub(super) use orders::apply;

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NotRunning(_) | ConnectError::Other { .. } => {
                Self::Unreachable(error.to_string())
            }
            ConnectError::Forbidden(_) => Self::Forbidden(error.to_string()),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let message = text::escape(status.message());
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => Self::Forbidden(message),
            Code::InvalidArgument | Code::NotFound => Self::BadInput(message),
            Code::Unavailable | Code::DeadlineExceeded => {
                Self::Unreachable(format!("the daemon does not answer: {message}"))
            }
            Code::Unimplemented => Self::Running(
                "the running daemon does not know this command; restart it to run this version"
                    .to_owned(),
            ),
            _ => Self::Running(message),
        }
    }
}

/// Asks the daemon, and waits for its answer.
fn ask<T>(
    connection: &Connection,
    call: impl AsyncFnOnce(Channel) -> Result<T, Status>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Running(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let channel = connect(connection.socket.as_deref()).await?;
        Ok(call(channel).await?)
    })
}

/// Prints the answer `message`, of the kind `name`, as JSON if that is wanted, or as `people` has it.
fn print<M: prost::Message>(
    connection: &Connection,
    name: &str,
    message: &M,
    people: impl FnOnce(&M) -> String,
) -> Result<(), Failure> {
    let text = if connection.json {
        let document = to_json(name, message).map_err(Failure::Running)?;
        format!("{document}\n")
    } else {
        people(message)
    };
    write(&text)
}

/// Writes to standard output, without styles where they do not belong.
fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::AutoStream::auto(io::stdout().lock());
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Closed),
        Err(error) => Err(Failure::Running(format!("cannot write: {error}"))),
    }
}

fn watch_incidents(arguments: &Incidents) -> Result<(), Failure> {
    ask_stream(
        &arguments.connection,
        "WatchIncidentsResponse",
        text::incident_change,
        async |channel| {
            let request = v1::WatchIncidentsRequest {};
            client!(incidents_client::IncidentsClient, channel).watch_incidents(request).await
        },
    )
}

fn watch_mitigations(arguments: &Mitigations) -> Result<(), Failure> {
    ask_stream(
        &arguments.connection,
        "WatchMitigationsResponse",
        text::mitigation_event,
        async |channel| {
            let request = v1::WatchMitigationsRequest {};
            client!(mitigations_client::MitigationsClient, channel).watch_mitigations(request).await
        },
    )
}

/// Prints a line for each message of a stream, until it or the reader ends.
fn ask_stream<M: prost::Message>(
    connection: &Connection,
    name: &str,
    people: impl Fn(&M) -> String,
    call: impl AsyncFnOnce(Channel) -> Result<Response<Streaming<M>>, Status>,
) -> Result<(), Failure> {
    let printed = ask(connection, async |channel| {
        let mut stream = call(channel).await?.into_inner();
        while let Some(message) = stream.next().await {
            let message = message?;
            if let Err(failure) = print(connection, name, &message, |message| people(message)) {
                return Ok(Err(failure));
            }
        }
        Ok(Ok(()))
    });
    printed?
}

fn alert_test(arguments: &AlertTest) -> Result<(), Failure> {
    let (config, _) = config::load(&arguments.config)?;
    let channels = &config.records.alerts.channels;
    let wanted = |channel: &&alerts::Channel| {
        arguments.channel.as_ref().is_none_or(|name| *name == channel.name)
    };
    let chosen: Vec<&alerts::Channel> = channels.iter().filter(wanted).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
        let place = arguments.config.display();
        return Err(Failure::BadInput(match &arguments.channel {
            Some(name) => format!(
                "{place} has no channel `{name}`; it has {}",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            ),
            None => format!("{place} has no channel; add one, such as `[alerts.slack]`"),
        }));
    }
    let now = WallTime::from_nanos(crate::clock::Clock::unix_seconds() * 1_000_000_000);
    let console = config.records.console.as_ref();
    let results: Vec<_> = chosen
        .iter()
        .map(|channel| (channel.name.as_str(), alerts::test(channel, console, now)))
        .collect();
    let failed = results.iter().any(|(_, result)| result.is_err());
    if arguments.json {
        let shown: Vec<_> = results
            .iter()
            .map(|(name, result)| match result {
                Ok(sent) => json!({ "channel": name, "ok": true, "sent": sent }),
                Err(why) => json!({ "channel": name, "ok": false, "why": why }),
            })
            .collect();
        write(&format!("{}\n", json!({ "ok": !failed, "channels": shown })))?;
    } else {
        for (_, result) in &results {
            let (style, word, text) = match result {
                Ok(sent) => (text::GOOD, "sent", sent),
                Err(why) => (text::BAD, "failed", why),
            };
            write(&format!("{style}{word:<7}{style:#} {}\n", text::escape(text)))?;
        }
    }
    if failed { Err(Failure::Found) } else { Ok(()) }
}

fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "tidegate", &mut text);
    write(&String::from_utf8_lossy(&text))
}

fn manual(arguments: &Manual) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let failed = |error: io::Error| {
        Failure::BadInput(format!("cannot write into {}: {error}", directory.display()))
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)
}

/// Whether whoever sits at the terminal agrees to `what`. Where there is no terminal nobody is asked.
fn confirmed(what: &str, yes: bool) -> Result<(), Failure> {
    if yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    eprint!("{what} Type `yes` to go on: ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::Running("nothing was done".to_owned()))
    }
}
