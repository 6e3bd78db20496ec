//! Mitigations, and the orders of people.

use std::pin::Pin;
use std::sync::Arc;

use tidegate_model::AttackId;
use tidegate_policy::Order;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::super::convert;
use super::super::link::Ask;
use super::super::serve::Desk;
use super::super::v1::{self, mitigations_server::Mitigations};
use super::{caller, plain, stream};
use crate::clock::WallOrigin;
use crate::event::Event;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Mitigations for Desk {
    async fn list_mitigations(
        &self,
        request: Request<v1::ListMitigationsRequest>,
    ) -> Answer<v1::ListMitigationsResponse> {
        let attack = match request.into_inner().attack.as_str() {
            "" => None,
            attack => Some(convert::attack_id(attack)?),
        };
        let view = self.engine.view().await?;
        let holds = view.attacks.iter().filter_map(|it| {
            let by = it.held_by.clone()?;
            Some(v1::Hold { attack: it.attack.id.to_string(), by })
        });
        Ok(Response::new(v1::ListMitigationsResponse {
            mitigations: convert::mitigations(&view, attack, self.wall()),
            holds: holds.collect(),
        }))
    }

    type WatchMitigationsStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchMitigationsResponse, Status>> + Send>>;

    async fn watch_mitigations(
        &self,
        _request: Request<v1::WatchMitigationsRequest>,
    ) -> Answer<Self::WatchMitigationsStream> {
        let place = self.watch_place()?;
        let (events, wall) = (self.engine.events(), self.wall());
        let next = move |watching| next_event(watching, wall);
        Ok(Response::new(stream::unfold((events, place, 0), next)))
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Answer<v1::OrderResponse> {
        let by = caller(&request)?.name;
        let request = request.into_inner();
        let response = Some(request.response).filter(|response| !response.is_empty());
        let attack = convert::attack_id(&request.attack)?;
        self.order(Order::Approve { attack, response, by }).await
    }

    async fn hold(&self, request: Request<v1::HoldRequest>) -> Answer<v1::OrderResponse> {
        let by = caller(&request)?.name;
        let attack = convert::attack_id(&request.into_inner().attack)?;
        self.order(Order::Hold { attack, by }).await
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Answer<v1::OrderResponse> {
        let by = caller(&request)?.name;
        let attack = convert::attack_id(&request.into_inner().attack)?;
        self.order(Order::Resume { attack, by }).await
    }

    async fn withdraw(&self, request: Request<v1::WithdrawRequest>) -> Answer<v1::OrderResponse> {
        let by = caller(&request)?.name;
        let request = request.into_inner();
        let attack = convert::attack_id(&request.attack)?;
        let order = Order::Withdraw { attack, by, reason: plain(&request.reason) };
        let ordered = self.engine.ask_urgently(|to| Ask::Order(order, to)).await?;
        self.ordered(ordered?).await
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Answer<v1::OrderResponse> {
        let by = caller(&request)?.name;
        let request = request.into_inner();
        let attack = convert::attack_id(&request.attack)?;
        let extra = convert::to_span("extra", request.extra.as_ref())?;
        self.order(Order::Renew { attack, extra, by }).await
    }

    async fn announce(&self, request: Request<v1::AnnounceRequest>) -> Answer<v1::OrderResponse> {
        let by = caller(&request)?.name;
        let request = request.into_inner();
        let target = convert::prefix(&request.target)?;
        let action = convert::manual_action(target, request.action)?;
        let ttl = convert::to_span("ttl", request.ttl.as_ref())?;
        let reason = plain(&request.reason);
        self.order(Order::Announce { target, action, peers: request.peers, ttl, by, reason }).await
    }
}

/// What happens, the place of who watches, and how many events were missed.
type Watching = (broadcast::Receiver<Arc<Event>>, OwnedSemaphorePermit, u64);

async fn next_event(
    (mut events, place, mut missed): Watching,
    wall: WallOrigin,
) -> Option<(Result<v1::WatchMitigationsResponse, Status>, Watching)> {
    loop {
        match events.recv().await {
            Ok(event) => {
                if let Some(told) = convert::event(&event, wall) {
                    let told = v1::WatchMitigationsResponse { missed, ..told };
                    return Some((Ok(told), (events, place, 0)));
                }
            }
            Err(RecvError::Lagged(number)) => missed += number,
            Err(RecvError::Closed) => return None,
        }
    }
}

impl Desk {
    async fn order(&self, order: Order) -> Answer<v1::OrderResponse> {
        let ordered = self.engine.ask(|to| Ask::Order(order, to)).await?;
        self.ordered(ordered?).await
    }

    /// What is wanted after an order. The order counts, also if that cannot be told.
    async fn ordered(&self, attack: AttackId) -> Answer<v1::OrderResponse> {
        let mitigations = match self.engine.view().await {
            Ok(view) => convert::mitigations(&view, Some(attack), self.wall()),
            Err(_) => Vec::new(),
        };
        Ok(Response::new(v1::OrderResponse { attack: attack.to_string(), mitigations }))
    }
}
