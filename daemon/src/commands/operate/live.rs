//! `tidegate top`: asks once a second, draws, and ends with a key.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tonic::Status;
use tonic::transport::Channel;

use super::screen::{Shown, draw};
use super::{Failure, ask, client, print, text};
use crate::api::v1;
use crate::cli::Top;

/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);
/// More targets than the largest screen shows.
const TARGETS: u32 = 64;

pub(super) fn top(arguments: &Top) -> Result<(), Failure> {
    let connection = &arguments.connection;
    if connection.json || !io::stdout().is_terminal() {
        // One look, for programs and pipes: rates need a second of watching.
        let answer = ask(connection, async |channel| {
            let mut client = client!(detector_client::DetectorClient, channel);
            let request = v1::GetTopRequest { limit: TARGETS };
            client.get_top(request).await?;
            tokio::time::sleep(EVERY + EVERY / 2).await;
            Ok(client.get_top(request).await?.into_inner())
        })?;
        return print(connection, "GetTopResponse", &answer, |top| {
            text::top(top, text::now(), text::width())
        });
    }
    // Whoever is not let in is told so on the usual screen.
    ask(connection, async |channel| look(&channel).await.map(drop))?;
    let mut terminal = ratatui::init();
    let ended = ask(connection, async |channel| {
        let mut shown = Shown::default();
        loop {
            match look(&channel).await {
                Ok(seen) => shown = seen,
                Err(status) => shown.trouble = Some(format!("no news: {}", status.message())),
            }
            let drawn = terminal.draw(|frame| draw(frame, &shown, text::now()));
            if let Err(error) = drawn {
                return Ok(Err(Failure::Running(format!("cannot draw: {error}"))));
            }
            match pressed_within(EVERY) {
                Ok(true) => return Ok(Ok(())),
                Ok(false) => {}
                Err(error) => {
                    return Ok(Err(Failure::Running(format!("cannot read the keyboard: {error}"))));
                }
            }
        }
    });
    ratatui::restore();
    ended?
}

async fn look(channel: &Channel) -> Result<Shown, Status> {
    let mut control = client!(control_client::ControlClient, channel.clone());
    let mut detector = client!(detector_client::DetectorClient, channel.clone());
    let mut mitigations = client!(mitigations_client::MitigationsClient, channel.clone());
    Ok(Shown {
        top: detector.get_top(v1::GetTopRequest { limit: TARGETS }).await?.into_inner(),
        status: control.get_status(v1::GetStatusRequest {}).await?.into_inner(),
        mitigations: mitigations
            .list_mitigations(v1::ListMitigationsRequest::default())
            .await?
            .into_inner(),
        trouble: None,
    })
}

/// Whether a key that ends was pressed; returns sooner if the screen has changed its size.
fn pressed_within(span: Duration) -> io::Result<bool> {
    if !event::poll(span)? {
        return Ok(false);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
            _ => false,
        },
        _ => false,
    })
}
