//! Telegram bots: `sendMessage`, then `editMessageText`.
//!
//! <https://core.telegram.org/bots/api#sendmessage>: 4,096 characters after the markup is read.

use serde_json::json;

use super::super::escape::{cut, fit, html};
use super::super::http::Request;
use super::super::secret::Secret;
use super::{Words, bytes, set};

/// Of 4,096, counted before the markup is read, which can only make it shorter. URLs do not count.
const MAX_TEXT: usize = 4_000;
const MAX_TITLE: usize = 300;
const MAX_VALUE: usize = 600;

pub(super) fn request(
    token: &Secret,
    chat: &str,
    base: &str,
    words: &Words,
    remote: Option<&str>,
) -> Request {
    let method = if remote.is_some() { "editMessageText" } else { "sendMessage" };
    let mut body = json!({
        "chat_id": chat,
        "text": text(words),
        "parse_mode": "HTML",
        "link_preview_options": { "is_disabled": true },
    });
    if let Some(id) = remote.and_then(|id| id.parse::<i64>().ok()) {
        set(&mut body, "message_id", id);
    }
    let url = format!("{base}bot{}/{method}", token.expose());
    Request::post(url).json(bytes(&body))
}

fn text(words: &Words) -> String {
    let message = &words.message;
    let title = match &words.title {
        Some(title) => cut(title, MAX_TITLE),
        None => format!("<b>{}</b>", fit(&message.title, MAX_TITLE, html)),
    };
    let mut text = match &words.text {
        // Cut markup would be refused; a template that long is told without its markup.
        Some(own) if own.chars().count() > MAX_TEXT - MAX_TITLE => {
            format!("{title}\n{}", fit(own, MAX_TEXT - MAX_TITLE - 8, html))
        }
        Some(own) => format!("{title}\n{own}"),
        None => format!("{title}\n{}", fit(&message.summary, MAX_VALUE * 2, html)),
    };
    if words.text.is_none() {
        for (name, value) in &message.fields {
            let line = format!("\n<b>{name}</b>: {}", fit(value, MAX_VALUE, html));
            if text.chars().count() + line.chars().count() > MAX_TEXT {
                break;
            }
            text += &line;
        }
    }
    for (name, url) in &message.links {
        text += &format!("\n<a href=\"{}\">{name}</a>", html(url));
    }
    text
}
