//! Slack: incoming webhooks, and `chat.postMessage` with `chat.update`.
//!
//! <https://docs.slack.dev/reference/block-kit/blocks>: 50 blocks, header 150 characters, section
//! text 3,000, a field 2,000 and 10 of them a section, a button's text 75 and URL 3,000.

use serde_json::{Value, json};

use super::super::escape::{fit, slack};
use super::super::http::Request;
use super::super::secret::Secret;
use super::{Words, bytes, set};

const MAX_HEADER: usize = 150;
const MAX_SECTION: usize = 3_000;
const MAX_FIELD: usize = 2_000;
const MAX_FIELDS: usize = 10;
const MAX_URL: usize = 3_000;
/// Of the fallback text that notifications show. Slack cuts at 40,000; nobody reads that far.
const MAX_FALLBACK: usize = 300;

/// For an incoming webhook: every event is a message of its own.
pub(super) fn webhook(url: &Secret, words: &Words) -> Request {
    Request::post(url.clone()).json(bytes(&body(words)))
}

/// For a bot: the first event posts, later ones change the message. `remote` is what Slack called
/// it: channel id and timestamp, separated by a space.
pub(super) fn bot(
    token: &Secret,
    channel: &str,
    base: &str,
    words: &Words,
    remote: Option<&str>,
) -> Request {
    let mut body = body(words);
    let posted = remote.and_then(|remote| remote.split_once(' '));
    let (method, channel) = match posted {
        Some((channel, timestamp)) => {
            set(&mut body, "ts", timestamp);
            ("chat.update", channel)
        }
        None => ("chat.postMessage", channel),
    };
    set(&mut body, "channel", channel);
    set(&mut body, "unfurl_links", false);
    set(&mut body, "unfurl_media", false);
    Request::post(format!("{base}{method}"))
        .json(bytes(&body))
        .header("authorization", format!("Bearer {}", token.expose()))
}

fn body(words: &Words) -> Value {
    let message = &words.message;
    let title = slack(words.title.as_deref().unwrap_or(&message.title));
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": words.plain_title(MAX_HEADER), "emoji": false },
    })];
    match &words.text {
        Some(text) => blocks.push(section(super::super::escape::cut(text, MAX_SECTION))),
        None => {
            blocks.push(section(fit(&message.summary, MAX_SECTION, slack)));
            for fields in message.fields.chunks(MAX_FIELDS) {
                let fields: Vec<Value> = fields.iter().map(self::field).collect();
                blocks.push(json!({ "type": "section", "fields": fields }));
            }
        }
    }
    let stamp = format!("tidegate, {}", message.time.for_people());
    blocks.push(json!({ "type": "context", "elements": [mrkdwn(slack(&stamp))] }));
    let buttons: Vec<Value> = message
        .links
        .iter()
        .filter(|(_, url)| url.chars().count() <= MAX_URL)
        .map(|(text, url)| {
            json!({
                "type": "button",
                "text": { "type": "plain_text", "text": text, "emoji": false },
                "url": url,
            })
        })
        .collect();
    if !buttons.is_empty() {
        blocks.push(json!({ "type": "actions", "elements": buttons }));
    }
    json!({ "text": super::super::escape::cut(&title, MAX_FALLBACK), "blocks": blocks })
}

fn section(text: String) -> Value {
    json!({ "type": "section", "text": mrkdwn(text) })
}

/// `verbatim` keeps Slack from finding links and names in it.
fn mrkdwn(text: String) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

fn field((name, value): &(&'static str, String)) -> Value {
    let heading = format!("*{name}*\n");
    let room = MAX_FIELD - heading.chars().count();
    mrkdwn(format!("{heading}{}", fit(value, room, slack)))
}
