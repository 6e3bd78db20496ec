//! The embedded BGP speaker as a backend: each of its peers is one.

use tidegate_bgpd::Family;
use tidegate_bgpd::session::Delivery;
use tidegate_bgpd::speaker::{SpeakerEvent, SpeakerHandle};
use tidegate_model::{BackendId, Command, CommandKind, Outcome, OutcomeKind};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use crate::backend::{Backend, BackendEvent, Capabilities, EventSender, Held, answer};

/// The peers of a running speaker.
///
/// The speaker keeps what each peer is to hold across the loss of its session, and sends all of it
/// when the session is back: commands for a peer that is down are pending until then.
#[derive(Debug)]
pub struct SpeakerBackend {
    handle: SpeakerHandle,
    events: EventSender,
    forwarding: JoinHandle<()>,
}

impl SpeakerBackend {
    /// Commands the speaker of `handle`, and passes its `news` on as backend events. To be called
    /// in a tokio runtime.
    #[must_use]
    pub fn new(handle: SpeakerHandle, news: Receiver<SpeakerEvent>, events: EventSender) -> Self {
        let forwarding = tokio::spawn(forward(news, events.clone()));
        Self { handle, events, forwarding }
    }

    /// The speaker, to ask for its peers and to shut it down.
    #[must_use]
    pub fn handle(&self) -> &SpeakerHandle {
        &self.handle
    }
}

impl Drop for SpeakerBackend {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

async fn forward(mut news: Receiver<SpeakerEvent>, events: EventSender) {
    while let Some(event) = news.recv().await {
        let event = if let SpeakerEvent::Outcome(outcome) = event {
            BackendEvent::Outcome(outcome)
        } else if let SpeakerEvent::State { peer, state } = event {
            BackendEvent::State { backend: BackendId::Peer(peer), state }
        } else if let SpeakerEvent::FlowSpec(change) = event {
            BackendEvent::Learnt(Box::new(change))
        } else {
            // What else there is to tell is for people: commands have their outcomes.
            tracing::warn!(?event, "news from the speaker");
            continue;
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

impl Backend for SpeakerBackend {
    fn serves(&self, backend: &BackendId) -> bool {
        matches!(backend, BackendId::Peer(_))
    }

    /// The families of the session; every family while there is none.
    fn capabilities(&self, backend: &BackendId) -> Capabilities {
        let peers = self.handle.peers();
        let status = peers
            .iter()
            .find(|status| matches!(backend, BackendId::Peer(name) if *name == status.name));
        let agreed = status.and_then(|status| status.session.negotiated.as_ref());
        let families = agreed.map_or(Family::ALL.into(), |agreed| agreed.families.clone());
        Capabilities { families, ..Capabilities::default() }
    }

    fn submit(&self, command: Command) -> Result<(), Box<Outcome>> {
        let BackendId::Peer(peer) = &command.backend else {
            let why = "it is not a peer".to_owned();
            return Err(Box::new(answer(&command, OutcomeKind::Rejected { why })));
        };
        let submitted = match &command.kind {
            CommandKind::Announce { route, .. } => {
                self.handle.announce(peer, command.id, route.clone())
            }
            CommandKind::Withdraw(nlri) => self.handle.withdraw(peer, command.id, nlri),
        };
        submitted.map_err(|unknown| {
            let kind = match &command.kind {
                // Nobody is there from a prefix, and somebody may come.
                CommandKind::Announce { .. } => OutcomeKind::Failed { why: unknown.to_string() },
                // And until then it holds nothing.
                CommandKind::Withdraw(_) => OutcomeKind::Applied { bytes: [].into() },
            };
            Box::new(answer(&command, kind))
        })
    }

    /// What the peer has been sent on the present session. What it makes of that, BGP does not tell.
    fn observe(&self, backend: &BackendId) {
        let BackendId::Peer(peer) = backend else { return };
        let Ok(deliveries) = self.handle.deliveries(peer) else { return };
        let sent = deliveries.into_iter().filter(|(_, how)| *how != Delivery::Waiting);
        let held = sent.map(|(route, _)| Held { nlri: route.nlri, dropped: None });
        let backend = backend.clone();
        // When the engine is too busy to listen, the next observation will do.
        drop(self.events.try_send(BackendEvent::Observed { backend, held: held.collect() }));
    }
}
