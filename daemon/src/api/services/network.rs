//! Peers and backends.

use tidegate_bgpd::speaker::UnknownPeer;
use tonic::{Request, Response, Status};

use super::super::convert;
use super::super::serve::Desk;
use super::super::v1::{self, backends_server::Backends, peers_server::Peers};

/// Received routes of one answer, unless it is asked for fewer or more, and at most.
const USUAL: u32 = 1_000;
const MOST: u32 = 5_000;

type Answer<T> = Result<Response<T>, Status>;

fn unknown(error: UnknownPeer) -> Status {
    Status::not_found(format!("{error}; `tidegate peers` lists them"))
}

#[tonic::async_trait]
impl Peers for Desk {
    async fn list_peers(
        &self,
        request: Request<v1::ListPeersRequest>,
    ) -> Answer<v1::ListPeersResponse> {
        let name = request.into_inner().name;
        let peers = self.speaker.peers();
        let wanted = peers.iter().filter(|peer| name.is_empty() || peer.name == name);
        let peers: Vec<v1::Peer> = wanted.map(convert::peer).collect();
        if peers.is_empty() && !name.is_empty() {
            return Err(unknown(UnknownPeer { name }));
        }
        Ok(Response::new(v1::ListPeersResponse { peers }))
    }

    async fn list_adj_rib_out(
        &self,
        request: Request<v1::ListAdjRibOutRequest>,
    ) -> Answer<v1::ListAdjRibOutResponse> {
        let peer = request.into_inner().peer;
        let routes = self.speaker.deliveries(&peer).map_err(unknown)?;
        let withdraws = self.speaker.unconfirmed_withdraws(&peer).map_err(unknown)?;
        let routes = routes.iter().map(|(route, delivery)| v1::AdjRibOutRoute {
            kind: convert::kind(&route.nlri),
            nlri: route.nlri.to_string(),
            route: Some(convert::route(route)),
            delivery: convert::delivery(*delivery),
        });
        Ok(Response::new(v1::ListAdjRibOutResponse {
            routes: routes.collect(),
            unconfirmed_withdraws: withdraws.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn list_received_routes(
        &self,
        request: Request<v1::ListReceivedRoutesRequest>,
    ) -> Answer<v1::ListReceivedRoutesResponse> {
        let request = request.into_inner();
        let limit = if request.limit == 0 { USUAL } else { request.limit.min(MOST) };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let learnt = self.speaker.learnt(&request.peer).map_err(unknown)?;
        let omitted = convert::count(learnt.len().saturating_sub(limit));
        let routes = learnt.iter().take(limit).map(|route| v1::ReceivedRoute {
            nlri: route.nlri.to_string(),
            next_hop: route.path.next_hop.map(|it| it.to_string()).unwrap_or_default(),
            as_path_length: convert::count(route.path.as_path_length),
            neighbor_as: route.path.neighbor_as.unwrap_or(0),
            stale: route.is_stale,
            verdict: route.verdict.as_ref().map(ToString::to_string).unwrap_or_default(),
            actions: route.path.actions.iter().map(ToString::to_string).collect(),
        });
        let routes = routes.collect();
        Ok(Response::new(v1::ListReceivedRoutesResponse { routes, omitted }))
    }
}

#[tonic::async_trait]
impl Backends for Desk {
    async fn list_backends(
        &self,
        _request: Request<v1::ListBackendsRequest>,
    ) -> Answer<v1::ListBackendsResponse> {
        let view = self.engine.view().await?;
        let backends = convert::backends(&view, self.wall());
        Ok(Response::new(v1::ListBackendsResponse { backends }))
    }
}
