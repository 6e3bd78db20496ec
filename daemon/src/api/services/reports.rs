//! Attacks that other detectors report.

use std::pin::Pin;
use std::time::Duration;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::super::convert;
use super::super::link::Ask;
use super::super::serve::Desk;
use super::super::v1::{self, report_attack_response::Result as Outcome, reports_server::Reports};
use super::{caller, stream};
use crate::reports::Reported;

/// Between two reports of one stream. A reporter that is faster is read more slowly.
const EACH: Duration = Duration::from_millis(5);

#[tonic::async_trait]
impl Reports for Desk {
    type ReportAttackStream =
        Pin<Box<dyn Stream<Item = Result<v1::ReportAttackResponse, Status>> + Send>>;

    async fn report_attack(
        &self,
        request: Request<Streaming<v1::ReportAttackRequest>>,
    ) -> Result<Response<Self::ReportAttackStream>, Status> {
        let place = self.watch_place()?;
        let reporter = caller(&request)?.name;
        let state = (request.into_inner(), self.clone(), reporter, place);
        let next = |(mut reports, desk, reporter, place): (Streaming<_>, Self, String, _)| async {
            tokio::time::sleep(EACH).await;
            let told = match reports.next().await? {
                Ok(report) => desk.take(&reporter, report).await,
                Err(status) => Err(status),
            };
            Some((told, (reports, desk, reporter, place)))
        };
        Ok(Response::new(stream::unfold(state, next)))
    }
}

impl Desk {
    async fn take(
        &self,
        reporter: &str,
        request: v1::ReportAttackRequest,
    ) -> Result<v1::ReportAttackResponse, Status> {
        let id = request.id.clone();
        let refused = |why: String| v1::ReportAttackResponse {
            id: id.chars().take(crate::reports::MAX_ID).collect(),
            result: Outcome::Refused.into(),
            why,
            ..Default::default()
        };
        let report = match convert::report(reporter, request, self.clock.now(), self.wall()) {
            Ok(report) => report,
            Err(status) => return Ok(refused(status.message().to_owned())),
        };
        let reported = self.engine.ask(|to| Ask::Report(Box::new(report), to)).await?;
        Ok(match reported {
            Ok(reported) => {
                let (result, attack) = match reported {
                    Reported::Started(attack) => (Outcome::Started, attack),
                    Reported::Renewed(attack) => (Outcome::Renewed, attack),
                    Reported::Ended(attack) => (Outcome::Ended, attack),
                };
                let attack = attack.to_string();
                v1::ReportAttackResponse { id, result: result.into(), attack, why: String::new() }
            }
            Err(why) => refused(why.to_string()),
        })
    }
}
