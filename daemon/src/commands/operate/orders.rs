//! Orders: what people have done, and what they are told of it.

use super::{Failure, ask, client, confirmed, print, text};
use crate::api::v1::{self, announce_request, filter};
use crate::cli::{Action, Announce, Attack, Connection, Panic, Renew, Withdraw};

pub(super) fn withdraw(arguments: &Withdraw) -> Result<(), Failure> {
    let attack = arguments.attack.to_string();
    let what = format!("Withdraw what is done about {attack}, and do nothing more about it?");
    confirmed(&what, arguments.yes)?;
    let request = v1::WithdrawRequest { attack, reason: arguments.reason.clone() };
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(mitigations_client::MitigationsClient, channel);
        Ok(client.withdraw(request).await?.into_inner())
    })?;
    told(&arguments.connection, &answer, "withdrawn")
}

pub(super) fn hold(arguments: &Attack) -> Result<(), Failure> {
    let request = v1::HoldRequest { attack: arguments.attack.to_string() };
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(mitigations_client::MitigationsClient, channel);
        Ok(client.hold(request).await?.into_inner())
    })?;
    told(&arguments.connection, &answer, "held as it is until `tidegate resume`")
}

pub(super) fn resume(arguments: &Attack) -> Result<(), Failure> {
    let request = v1::ResumeRequest { attack: arguments.attack.to_string() };
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(mitigations_client::MitigationsClient, channel);
        Ok(client.resume(request).await?.into_inner())
    })?;
    told(&arguments.connection, &answer, "held no more")
}

pub(super) fn approve(arguments: &Attack) -> Result<(), Failure> {
    let request = v1::ApproveRequest {
        attack: arguments.attack.to_string(),
        response: arguments.response.clone().unwrap_or_default(),
    };
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(mitigations_client::MitigationsClient, channel);
        Ok(client.approve(request).await?.into_inner())
    })?;
    told(&arguments.connection, &answer, "approved")
}

pub(super) fn renew(arguments: &Renew) -> Result<(), Failure> {
    let request = v1::RenewRequest {
        attack: arguments.attack.to_string(),
        extra: Some(text::to_span(arguments.extra)),
    };
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(mitigations_client::MitigationsClient, channel);
        Ok(client.renew(request).await?.into_inner())
    })?;
    told(&arguments.connection, &answer, "renewed")
}

pub(super) fn announce(arguments: &Announce) -> Result<(), Failure> {
    let request = announcement(arguments)?;
    let answer = ask(&arguments.connection, async |channel| {
        let mut client = client!(mitigations_client::MitigationsClient, channel);
        Ok(client.announce(request).await?.into_inner())
    })?;
    let note = format!("announced; withdraw it with `tidegate withdraw {}`", answer.attack);
    told(&arguments.connection, &answer, &note)
}

fn announcement(arguments: &Announce) -> Result<v1::AnnounceRequest, Failure> {
    let narrow = |ports: &[u16]| ports.iter().map(|port| u32::from(*port)).collect::<Vec<_>>();
    let rule = v1::Filter {
        protocols: arguments.protocol.iter().map(|number| u32::from(*number)).collect(),
        source_ports: narrow(&arguments.source_port),
        destination_ports: narrow(&arguments.port),
        action: Some(match arguments.rate_limit {
            None => filter::Action::Discard(v1::Discard {}),
            Some(rate) => filter::Action::RateLimitBytes(rate),
        }),
    };
    let is_plain = rule.protocols.is_empty()
        && rule.source_ports.is_empty()
        && rule.destination_ports.is_empty()
        && arguments.rate_limit.is_none();
    let action = match arguments.action {
        Action::Blackhole if is_plain => announce_request::Action::Blackhole(v1::Blackhole {}),
        Action::Blackhole => {
            return Err(Failure::BadInput(
                "a blackhole drops everything; for protocols, ports and rates give `--action \
                 flowspec` or `--action local`"
                    .to_owned(),
            ));
        }
        Action::Flowspec => announce_request::Action::Flowspec(rule),
        Action::Local => announce_request::Action::Local(rule),
    };
    Ok(v1::AnnounceRequest {
        target: arguments.target.to_string(),
        action: Some(action),
        peers: arguments.peer.clone(),
        ttl: Some(text::to_span(arguments.ttl)),
        reason: arguments.reason.clone(),
    })
}

fn told(connection: &Connection, answer: &v1::OrderResponse, done: &str) -> Result<(), Failure> {
    print(connection, "OrderResponse", answer, |answer| text::order(answer, done, text::width()))
}

pub(super) fn panic(arguments: &Panic) -> Result<(), Failure> {
    let connection = &arguments.connection;
    if arguments.release {
        confirmed("End the panic? What the policy wants is announced again.", arguments.yes)?;
        let answer = ask(connection, async |channel| {
            let mut client = client!(control_client::ControlClient, channel);
            Ok(client.release(v1::ReleaseRequest {}).await?.into_inner())
        })?;
        return print(connection, "ReleaseResponse", &answer, |answer| {
            format!(
                "The panic that {} ordered is over; what the policy wants is announced again.\n",
                text::escape(&answer.by)
            )
        });
    }
    confirmed("Withdraw EVERYTHING everywhere, and announce nothing?", arguments.yes)?;
    let request = v1::PanicRequest { reason: arguments.reason.clone() };
    let answer = ask(connection, async |channel| {
        let mut client = client!(control_client::ControlClient, channel);
        Ok(client.panic(request).await?.into_inner())
    })?;
    print(connection, "PanicResponse", &answer, |it| text::panicked(it, text::width()))?;
    if answer.unconfirmed == 0 { Ok(()) } else { Err(Failure::Found) }
}

pub(super) fn audit(connection: &Connection) -> Result<(), Failure> {
    let answer = ask(connection, async |channel| {
        let mut client = client!(control_client::ControlClient, channel);
        Ok(client.audit(v1::AuditRequest {}).await?.into_inner())
    })?;
    print(connection, "AuditResponse", &answer, |answer| text::audit(answer, text::width()))?;
    if answer.clean { Ok(()) } else { Err(Failure::Found) }
}

/// `tidegate policy apply`.
pub(in super::super) fn apply(connection: &Connection) -> Result<(), Failure> {
    use v1::apply_policy_response::Result as Outcome;
    let answer = ask(connection, async |channel| {
        let mut client = client!(policy_client::PolicyClient, channel);
        Ok(client.apply_policy(v1::ApplyPolicyRequest {}).await?.into_inner())
    })?;
    let refused = answer.result() == Outcome::Refused;
    print(connection, "ApplyPolicyResponse", &answer, |answer| {
        let commit = match answer.commit.as_str() {
            "" => String::new(),
            commit => format!(" (commit {commit})"),
        };
        match answer.result() {
            Outcome::Applied => format!("The policy is in force{commit}.\n"),
            Outcome::Unchanged => format!("The policy{commit} was in force already.\n"),
            Outcome::Refused | Outcome::Unspecified => format!(
                "The policy is refused, what was in force{commit} stays:\n{}\n",
                answer.errors.trim_end()
            ),
        }
    })?;
    if refused { Err(Failure::Told) } else { Ok(()) }
}
