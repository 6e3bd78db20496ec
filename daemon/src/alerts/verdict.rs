//! What a service's answer means.

use std::time::Duration;

use serde_json::Value;

use super::config::ChannelKind;
use super::escape;
use super::http::Answer;
use crate::incident::WallTime;

/// No more characters of a refusal are logged.
const MAX_WORDS: usize = 200;

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The service has it.
    Delivered {
        /// What it calls the message, if it can be changed.
        remote: Option<String>,
    },
    /// The message that was to be changed is not there any more: send a new one.
    Gone,
    /// Not now.
    Again {
        /// For how long it asks to be left alone.
        pause: Option<Duration>,
        /// What it said.
        why: String,
    },
    /// Never: trying again would be refused again.
    Refused {
        /// What it said.
        why: String,
    },
}

/// Judges an answer of the service of `kind`, received at `now`. `editing`: whether the request was
/// to change a message.
#[must_use]
pub fn judge(kind: &ChannelKind, answer: &Answer, editing: bool, now: WallTime) -> Verdict {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let why = words(answer);
    match answer.status {
        200..=299 => match kind {
            ChannelKind::SlackBot { .. } => slack(&body, answer, editing, now),
            ChannelKind::Discord { .. } => Verdict::Delivered { remote: name(body.get("id")) },
            ChannelKind::Telegram { .. } => {
                Verdict::Delivered { remote: name(body.pointer("/result/message_id")) }
            }
            _ => Verdict::Delivered { remote: None },
        },
        429 | 503 => Verdict::Again { pause: pause(answer, &body, now), why },
        408 | 425 | 500..=599 => Verdict::Again { pause: None, why },
        404 if editing && matches!(kind, ChannelKind::Discord { .. }) => Verdict::Gone,
        400 if editing && matches!(kind, ChannelKind::Telegram { .. }) => {
            let description = text(&body, "description");
            if description.contains("message is not modified") {
                Verdict::Delivered { remote: None }
            } else if description.contains("message to edit not found")
                || description.contains("message can't be edited")
            {
                Verdict::Gone
            } else {
                Verdict::Refused { why }
            }
        }
        // OpsGenie and JSM: the alert was closed by hand, or never came to be.
        404 if matches!(kind, ChannelKind::OpsGenie { .. }) => {
            Verdict::Refused { why: format!("{why}; was the alert deleted?") }
        }
        _ => Verdict::Refused { why },
    }
}

/// Slack's Web API answers 200 whatever happens.
fn slack(body: &Value, answer: &Answer, editing: bool, now: WallTime) -> Verdict {
    if body.get("ok") == Some(&Value::Bool(true)) {
        let channel = body.get("channel").and_then(Value::as_str);
        let remote = channel.zip(body.get("ts").and_then(Value::as_str));
        return Verdict::Delivered {
            remote: remote.map(|(channel, ts)| format!("{channel} {ts}")),
        };
    }
    let error = escape::cut(&escape::plain(text(body, "error")), MAX_WORDS);
    let why = format!("Slack said `{error}`");
    match error.as_str() {
        "message_not_found" | "cant_update_message" | "edit_window_closed" if editing => {
            Verdict::Gone
        }
        "ratelimited" | "rate_limited" => Verdict::Again { pause: pause(answer, body, now), why },
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" | "" => {
            Verdict::Again { pause: None, why }
        }
        _ => Verdict::Refused { why },
    }
}

/// The text of a field; empty if there is none.
fn text<'a>(body: &'a Value, field: &str) -> &'a str {
    body.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// An identifier, if it can be one: it will stand in a URL.
fn name(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let fits = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_digit());
    fits.then_some(text)
}

fn words(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let words = escape::cut(&escape::plain(body.trim()), MAX_WORDS);
    if words.is_empty() {
        format!("status {}", answer.status)
    } else {
        format!("status {}: {words}", answer.status)
    }
}

/// How long the service asks to be left alone: `Retry-After` in seconds or as a date (RFC 9110
/// §10.2.3), or as Discord and Telegram say it in the body.
fn pause(answer: &Answer, body: &Value, now: WallTime) -> Option<Duration> {
    let seconds = body.get("retry_after").or(body.pointer("/parameters/retry_after"));
    let seconds = seconds.and_then(Value::as_f64);
    let from_body = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let from_header = answer.retry_after.as_deref().and_then(|text| retry_after(text.trim(), now));
    from_body.into_iter().chain(from_header).max()
}

fn retry_after(text: &str, now: WallTime) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let date: WallTime = date.to_string().parse().ok()?;
    Some(date.since(now))
}

#[cfg(test)]
mod tests {
    use super::super::secret::Secret;
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Answer {
        let retry_after = retry_after.map(ToOwned::to_owned);
        Answer { status, retry_after, body: body.as_bytes().to_vec() }
    }

    fn kinds() -> [ChannelKind; 4] {
        let base = "https://api.example.net/".to_owned();
        let token = Secret::from("t");
        [
            ChannelKind::SlackBot {
                token: token.clone(),
                channel: "C1".to_owned(),
                base: base.clone(),
            },
            ChannelKind::Discord { url: token.clone() },
            ChannelKind::Telegram { token: token.clone(), chat: "1".to_owned(), base },
            ChannelKind::Teams { url: token },
        ]
    }

    #[test]
    fn answers_mean_what_the_services_say() {
        let [slack, discord, telegram, teams] = kinds();
        let delivered =
            |remote: Option<&str>| Verdict::Delivered { remote: remote.map(ToOwned::to_owned) };
        let now: WallTime = "1994-11-06T08:49:00Z".parse().unwrap();
        for (kind, editing, answer, verdict) in [
            (
                &slack,
                false,
                answer(200, None, r#"{"ok":true,"channel":"C1","ts":"1.2"}"#),
                delivered(Some("C1 1.2")),
            ),
            (
                &slack,
                true,
                answer(200, None, r#"{"ok":false,"error":"message_not_found"}"#),
                Verdict::Gone,
            ),
            (&discord, false, answer(200, None, r#"{"id":"123"}"#), delivered(Some("123"))),
            (&discord, false, answer(200, None, r#"{"id":"../../x"}"#), delivered(None)),
            (&discord, true, answer(404, None, "{}"), Verdict::Gone),
            (&discord, true, answer(200, None, "not json"), delivered(None)),
            (
                &telegram,
                false,
                answer(200, None, r#"{"ok":true,"result":{"message_id":7}}"#),
                delivered(Some("7")),
            ),
            (
                &telegram,
                true,
                answer(400, None, r#"{"description":"Bad Request: message is not modified: x"}"#),
                delivered(None),
            ),
            (
                &telegram,
                true,
                answer(400, None, r#"{"description":"Bad Request: message to edit not found"}"#),
                Verdict::Gone,
            ),
            (&teams, false, answer(202, None, ""), delivered(None)),
        ] {
            assert_eq!(judge(kind, &answer, editing, now), verdict, "{answer:?}");
        }
        for (kind, answer, seconds) in [
            (&slack, answer(429, Some("30"), ""), Some(30)),
            (&slack, answer(200, Some("7"), r#"{"ok":false,"error":"ratelimited"}"#), Some(7)),
            (&discord, answer(429, Some("1"), r#"{"retry_after":2.0}"#), Some(2)),
            (&telegram, answer(429, None, r#"{"parameters":{"retry_after":9}}"#), Some(9)),
            (&teams, answer(429, Some("Sun, 06 Nov 1994 08:49:37 GMT"), ""), Some(37)),
            (&teams, answer(503, Some("soon"), ""), None),
            (&teams, answer(503, Some("-1"), ""), None),
            (&teams, answer(503, Some("1e300"), ""), None),
            (&teams, answer(502, Some("30"), ""), None),
        ] {
            match judge(kind, &answer, false, now) {
                Verdict::Again { pause, .. } => {
                    assert_eq!(pause, seconds.map(Duration::from_secs), "{answer:?}");
                }
                other => panic!("{answer:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_succeed_is_not_tried_again() {
        let [slack, discord, telegram, teams] = kinds();
        let now = WallTime::default();
        for (kind, answer) in [
            (&slack, answer(200, None, r#"{"ok":false,"error":"invalid_auth"}"#)),
            (&discord, answer(400, None, "{}")),
            (&telegram, answer(401, None, "{}")),
            (&teams, answer(302, None, "")),
        ] {
            let verdict = judge(kind, &answer, false, now);
            assert!(matches!(verdict, Verdict::Refused { .. }), "{answer:?}: {verdict:?}");
        }
    }

    #[test]
    fn a_refusal_is_logged_on_one_short_line() {
        let [.., teams] = kinds();
        let hostile = format!("\u{1b}[2Jbad\nnews{}", "x".repeat(10_000));
        let verdict = judge(&teams, &answer(400, None, &hostile), false, WallTime::default());
        let Verdict::Refused { why } = verdict else { panic!("{verdict:?}") };
        assert!(why.chars().count() < 250 && !why.chars().any(char::is_control), "{why}");
    }
}
