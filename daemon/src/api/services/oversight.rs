//! The policy, the detector, and the daemon as a whole.

use std::net::IpAddr;
use std::time::Duration;

use tidegate_detector::{InForce, Origin};
use tidegate_model::{Confidence, Limit, Prefix, Signature, Timestamp};
use tidegate_policy::explain::{Question, explain};
use tidegate_reconciler::EntryState;
use tonic::{Request, Response, Status};

use super::super::convert;
use super::super::door::Audited;
use super::super::link::{Applied, Ask, PanicOrder};
use super::super::serve::Desk;
use super::super::v1::{
    self, apply_policy_response::Result as Outcome, control_server::Control,
    detector_server::Detector, policy_server::Policy,
};
use super::super::view::View;
use super::{caller, plain};
use crate::clock::Clock;

/// Targets of one answer, unless it is asked for fewer or more, and at most.
const USUAL_TOP: u32 = 20;
const MOST_TOP: u32 = 64;
/// How long the busiest targets are counted after somebody asked.
const TOP_WANTED: Duration = Duration::from_secs(5);
/// How long a policy may take to be read: it may be in a large repository.
const APPLY_WITHIN: Duration = Duration::from_secs(60);
/// How long backends may take to be audited.
const AUDIT_WITHIN: Duration = Duration::from_secs(10);
/// How long a panic waits for backends to confirm, and how often it looks.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);
const CONFIRM_EVERY: Duration = Duration::from_millis(50);
/// Longest reason, in characters.
const MAX_REASON: usize = tidegate_policy::planner::MAX_ORDER_TEXT;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Policy for Desk {
    async fn get_policy(
        &self,
        _request: Request<v1::GetPolicyRequest>,
    ) -> Answer<v1::GetPolicyResponse> {
        let policy = &self.engine.view().await?.policy;
        let prefixes = |prefixes: &[Prefix]| prefixes.iter().map(ToString::to_string).collect();
        let groups = policy.groups.iter().map(|group| v1::Group {
            name: group.name.clone(),
            prefixes: prefixes(&group.prefixes),
        });
        let responses = policy.responses.iter().map(|response| v1::Response {
            name: response.name.clone(),
            action: convert::action(response.action),
            peers: response.peers.clone(),
        });
        Ok(Response::new(v1::GetPolicyResponse {
            directory: self.about.directory.display().to_string(),
            commit: commit(policy),
            owned: prefixes(&policy.space.owned),
            protected: prefixes(&policy.space.never_touch),
            groups: groups.collect(),
            responses: responses.collect(),
            peers: policy.peers.iter().map(|peer| peer.name.clone()).collect(),
        }))
    }

    async fn apply_policy(
        &self,
        request: Request<v1::ApplyPolicyRequest>,
    ) -> Answer<v1::ApplyPolicyResponse> {
        let by = caller(&request)?;
        tracing::info!(%by, "the policy is to be read again");
        let applied = self.engine.ask_patiently(APPLY_WITHIN, Ask::Apply).await?;
        let (result, errors) = match applied {
            Applied::Applied => (Outcome::Applied, String::new()),
            Applied::Unchanged => (Outcome::Unchanged, String::new()),
            Applied::Refused(why) => (Outcome::Refused, why),
        };
        let commit = commit(&self.engine.view().await?.policy);
        Ok(Response::new(v1::ApplyPolicyResponse { result: result.into(), errors, commit }))
    }

    async fn explain_policy(
        &self,
        request: Request<v1::ExplainPolicyRequest>,
    ) -> Answer<v1::ExplainPolicyResponse> {
        let request = request.into_inner();
        let attack = match request.vector.as_str() {
            "" => None,
            vector => Some((convert::vector(vector)?, convert::to_rate(request.rate))),
        };
        let ports = |ports: &[u32]| {
            let ports = ports.iter().map(|port| u16::try_from(*port));
            ports
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| Status::invalid_argument("a port is above 65535"))
        };
        let question = Question {
            target: convert::prefix(&request.target)?,
            attack,
            confidence: Confidence::new(request.confidence.unwrap_or(1.0)),
            signature: Signature {
                source_ports: ports(&request.source_ports)?,
                destination_ports: ports(&request.destination_ports)?,
                ..Signature::default()
            },
            unix: Some(Clock::unix_seconds()),
        };
        let policy = std::sync::Arc::clone(&self.engine.view().await?.policy);
        let explained = explain(&policy, &question);
        Ok(Response::new(v1::ExplainPolicyResponse {
            text: explained.text,
            document: explained.json.to_string(),
        }))
    }
}

#[tonic::async_trait]
impl Detector for Desk {
    async fn get_top(&self, request: Request<v1::GetTopRequest>) -> Answer<v1::GetTopResponse> {
        let limit = request.into_inner().limit;
        let limit = if limit == 0 { USUAL_TOP } else { limit.min(MOST_TOP) };
        self.engine.want_top(self.clock.now() + TOP_WANTED);
        let view = self.engine.view().await?;
        let attacks = view.attacks.iter().map(|it| convert::attack(it, self.wall())).collect();
        let Some(second) = &view.top else {
            return Ok(Response::new(v1::GetTopResponse { attacks, ..Default::default() }));
        };
        let attacked = |address: IpAddr| {
            let of = view.attacks.iter().find(|it| it.attack.target == Prefix::host(address));
            of.map(|it| it.attack.id.to_string()).unwrap_or_default()
        };
        let targets = second.targets.iter().take(usize::try_from(limit).unwrap_or(0));
        let targets = targets.map(|(address, rates)| v1::TargetRate {
            target: address.to_string(),
            unasked: Some(convert::rate(rates.unasked)),
            asked: Some(convert::rate(rates.asked)),
            attack: attacked(*address),
        });
        Ok(Response::new(v1::GetTopResponse {
            time: convert::time(self.wall(), second.end),
            targets: targets.collect(),
            attacks,
            captured: Some(convert::rate(second.captured)),
            lost: second.lost,
            blind: second.blind,
        }))
    }

    async fn get_baseline(
        &self,
        request: Request<v1::GetBaselineRequest>,
    ) -> Answer<v1::GetBaselineResponse> {
        let text = request.into_inner().address;
        let address: IpAddr = text
            .parse()
            .map_err(|_| Status::invalid_argument(format!("`{text}` is no address")))?;
        let in_force = self.engine.ask(|to| Ask::Baseline(address, to)).await?;
        if in_force.is_empty() {
            return Err(Status::not_found(format!("{address} lies in no owned prefix")));
        }
        let thresholds = in_force.iter().map(threshold).collect();
        Ok(Response::new(v1::GetBaselineResponse { thresholds }))
    }
}

fn threshold(in_force: &InForce) -> v1::Threshold {
    use v1::threshold::Origin as To;
    let packets = |limit: Limit| limit.packets.map(|packets| packets.0);
    let bits = |limit: Limit| limit.bits.map(|bits| bits.0);
    v1::Threshold {
        metric: in_force.metric.name().to_owned(),
        packets: packets(in_force.limit),
        bits: bits(in_force.limit),
        policy_packets: packets(in_force.policy),
        policy_bits: bits(in_force.policy),
        origin: match in_force.origin {
            Origin::Policy => To::Policy,
            Origin::LearnedOfGroup => To::Group,
            Origin::LearnedOfHost => To::Host,
        }
        .into(),
        maturity: in_force.maturity,
    }
}

fn commit(policy: &tidegate_policy::Policy) -> String {
    policy.revision.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[tonic::async_trait]
impl Control for Desk {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        let caller = caller(&request)?;
        let view = self.engine.view().await?;
        let applied = view.mitigations.iter().filter(|it| it.state == EntryState::Applied);
        let attacks = view.attacks.iter().filter(|it| is_attack(it));
        let proposals: usize = view.attacks.iter().map(|it| it.proposals.len()).sum();
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: convert::time(self.wall(), Timestamp::ZERO),
            interfaces: self.about.interfaces.clone(),
            policy_commit: commit(&view.policy),
            policy_directory: self.about.directory.display().to_string(),
            attacks: convert::count(attacks.count()),
            mitigations: convert::count(view.mitigations.len()),
            applied: convert::count(applied.count()),
            proposals: convert::count(proposals),
            backends: convert::backends(&view, self.wall()),
            panic: view.panic.as_ref().map(|panic| v1::PanicState {
                by: panic.by.clone(),
                reason: panic.reason.clone(),
                since: convert::time(self.wall(), panic.since),
            }),
            packets: view.packets,
            lost: view.lost,
            blind: view.blind,
            caller: caller.to_string(),
        }))
    }

    async fn panic(&self, request: Request<v1::PanicRequest>) -> Answer<v1::PanicResponse> {
        let by = caller(&request)?.name;
        let reason = plain(&request.into_inner().reason).chars().take(MAX_REASON).collect();
        let order = PanicOrder { by, reason, since: Timestamp::ZERO };
        let withdrawing = self.engine.ask_urgently(|to| Ask::Panic(order, to)).await?;
        let unconfirmed = self.wait_until_gone().await.unwrap_or(withdrawing);
        Ok(Response::new(v1::PanicResponse { withdrawing, unconfirmed }))
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Answer<v1::ReleaseResponse> {
        let by = caller(&request)?.name;
        let ended = self.engine.ask(|to| Ask::Release(by, to)).await?;
        let ended = ended
            .ok_or_else(|| Status::failed_precondition("no panic is in force; nothing to end"))?;
        Ok(Response::new(v1::ReleaseResponse { by: ended.by }))
    }

    async fn audit(&self, _request: Request<v1::AuditRequest>) -> Answer<v1::AuditResponse> {
        let audited = self.engine.ask_patiently(AUDIT_WITHIN, Ask::Audit).await?;
        let clean = audited.iter().all(Audited::is_clean);
        let backends = audited.iter().map(audit).collect();
        Ok(Response::new(v1::AuditResponse { backends, clean }))
    }
}

fn is_attack(it: &super::super::view::AttackView) -> bool {
    it.attack.id.0 < tidegate_model::AttackId::MANUAL && !it.over
}

fn audit(audited: &Audited) -> v1::BackendAudit {
    let texts = |nlris: &[tidegate_model::Nlri]| nlris.iter().map(ToString::to_string).collect();
    let backend = audited.backend.to_string();
    match &audited.found {
        Ok(found) => v1::BackendAudit {
            backend,
            answered: true,
            matching: found.matching,
            missing: texts(&found.missing),
            unexpected: texts(&found.unexpected),
            why: String::new(),
        },
        Err(why) => v1::BackendAudit { backend, why: why.clone(), ..Default::default() },
    }
}

impl Desk {
    /// Waits a little for backends to let go of everything; what they may hold still.
    async fn wait_until_gone(&self) -> Option<u32> {
        let held = |view: &View| view.mitigations.iter().filter(|it| it.may_be_held).count();
        let mut left = None;
        let looking = async {
            loop {
                let view = self.engine.view().await.ok()?;
                left = Some(convert::count(held(&view)));
                if left == Some(0) {
                    return left;
                }
                tokio::time::sleep(CONFIRM_EVERY).await;
            }
        };
        drop(tokio::time::timeout(CONFIRM_WITHIN, looking).await);
        left
    }
}
