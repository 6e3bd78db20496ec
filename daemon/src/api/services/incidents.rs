//! Incidents: those of this run from memory, those of earlier runs from the store.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::super::convert;
use super::super::serve::Desk;
use super::super::v1::{self, incidents_server::Incidents};
use super::stream;
use crate::incident::{self, Incident, WallTime};
use crate::store::{Listing, Reader, StoreError};

/// Incidents of one answer, unless it is asked for fewer or more, and at most.
const USUAL: u32 = 50;
const MOST: u32 = 500;
/// How long the disk may take.
const READ_WITHIN: Duration = Duration::from_secs(5);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Incidents for Desk {
    async fn list_incidents(
        &self,
        request: Request<v1::ListIncidentsRequest>,
    ) -> Answer<v1::ListIncidentsResponse> {
        let request = request.into_inner();
        let status = match request.status() {
            v1::IncidentStatus::Unspecified => None,
            v1::IncidentStatus::Active => Some(incident::Status::Active),
            v1::IncidentStatus::Ended => Some(incident::Status::Ended),
            v1::IncidentStatus::Closed => Some(incident::Status::Closed),
        };
        let target = match request.target.as_str() {
            "" => None,
            target => Some(convert::prefix(target)?.to_string()),
        };
        let before = request.before.as_ref().map(|it| WallTime::from_nanos(convert::to_nanos(it)));
        let limit = if request.limit == 0 { USUAL } else { request.limit.min(MOST) };
        let listing = Listing { status, target, before, limit };
        let mut found: BTreeMap<String, Arc<Incident>> = BTreeMap::new();
        // A status may have changed since it was written: what is in memory counts.
        let kept = self.read({
            let listing = Listing { status: None, ..listing.clone() };
            move |reader| reader.incidents(&listing)
        });
        for incident in kept.await?.unwrap_or_default() {
            found.insert(incident.id.clone(), Arc::new(incident));
        }
        for incident in self.recent.all() {
            found.insert(incident.id.clone(), incident);
        }
        let wanted = |incident: &&Arc<Incident>| {
            listing.status.is_none_or(|status| status == incident.status)
                && listing.target.as_ref().is_none_or(|it| *it == incident.target.to_string())
                && listing.before.is_none_or(|before| incident.times.onset < before)
        };
        let mut wanted: Vec<&Arc<Incident>> = found.values().filter(wanted).collect();
        wanted
            .sort_by(|one, other| (other.times.onset, &other.id).cmp(&(one.times.onset, &one.id)));
        let incidents = wanted.iter().take(usize::try_from(limit).unwrap_or(0));
        let incidents = incidents.map(|incident| convert::incident(incident)).collect();
        Ok(Response::new(v1::ListIncidentsResponse { incidents }))
    }

    async fn get_incident(
        &self,
        request: Request<v1::GetIncidentRequest>,
    ) -> Answer<v1::GetIncidentResponse> {
        let id = request.into_inner().id;
        let found = match self.recent.find(&id) {
            Some(found) => Some(found),
            None => {
                let id = id.clone();
                self.read(move |reader| reader.incident(&id)).await?.flatten().map(Arc::new)
            }
        };
        let found = found.ok_or_else(|| {
            Status::not_found(format!(
                "there is no incident `{id}`; `tidegate incidents` lists them"
            ))
        })?;
        let document = serde_json::to_string(&*found)
            .map_err(|error| Status::internal(format!("the record cannot be written: {error}")))?;
        let incident = Some(convert::incident(&found));
        Ok(Response::new(v1::GetIncidentResponse { incident, document }))
    }

    type WatchIncidentsStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchIncidentsResponse, Status>> + Send>>;

    async fn watch_incidents(
        &self,
        _request: Request<v1::WatchIncidentsRequest>,
    ) -> Answer<Self::WatchIncidentsStream> {
        let place = self.watch_place()?;
        let changes = self.recent.watch();
        Ok(Response::new(stream::unfold((changes, place, 0), next_change)))
    }
}

/// What changes, the place of who watches, and how many changes were missed.
type Watching = (broadcast::Receiver<incident::Change>, OwnedSemaphorePermit, u64);

async fn next_change(
    (mut changes, place, mut missed): Watching,
) -> Option<(Result<v1::WatchIncidentsResponse, Status>, Watching)> {
    loop {
        match changes.recv().await {
            Ok(incident::Change { kind, incident }) => {
                let (change, detail) = convert::change(&kind);
                let told = v1::WatchIncidentsResponse {
                    change: change.into(),
                    incident: Some(convert::incident(&incident)),
                    detail,
                    missed,
                };
                return Some((Ok(told), (changes, place, 0)));
            }
            Err(RecvError::Lagged(number)) => missed += number,
            Err(RecvError::Closed) => return None,
        }
    }
}

impl Desk {
    /// Reads from the store on a thread that may wait; `None` without a store.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Option<T>, Status> {
        let Some(path) = self.about.store.clone() else { return Ok(None) };
        let late = || Status::deadline_exceeded("the incident store does not answer in time");
        let place = Arc::clone(&self.reads).acquire_owned();
        let place = tokio::time::timeout(READ_WITHIN, place).await.map_err(|_| late())?;
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            Reader::open(&path).and_then(|reader| read(&reader))
        });
        let read = tokio::time::timeout(READ_WITHIN, reading).await.map_err(|_| late())?;
        let read = read.map_err(|_| Status::internal("reading the incident store failed"))?;
        read.map(Some).map_err(|error| Status::unavailable(error.to_string()))
    }
}
