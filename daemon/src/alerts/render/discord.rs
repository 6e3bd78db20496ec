//! Discord webhooks, whose messages are changed in place.
//!
//! <https://docs.discord.com/developers/resources/message#embed-object>: title 256, description
//! 4,096, 25 fields, name 256, value 1,024, all of it together 6,000.

use serde_json::{Value, json};

use super::super::escape::{cut, discord, fit};
use super::super::http::{Method, Request};
use super::super::secret::Secret;
use super::{Words, bytes, color};

const MAX_TITLE: usize = 256;
const MAX_DESCRIPTION: usize = 4_096;
const MAX_FIELDS: usize = 25;
const MAX_VALUE: usize = 1_024;
/// Of 6,000, with room for how Discord counts characters beyond the basic plane.
const MAX_TOTAL: usize = 5_500;
const MAX_URL: usize = 2_048;

/// Posts the message, or changes it if it is there.
pub(super) fn request(url: &Secret, words: &Words, remote: Option<&str>) -> Request {
    let url = url.expose();
    // A thread or other options of the operator's stay.
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let options = |mark: char| match query {
        "" => String::new(),
        query => format!("{mark}{query}"),
    };
    let request = match remote {
        Some(id) => {
            Request::post(format!("{path}/messages/{id}{}", options('?'))).method(Method::Patch)
        }
        // With `wait` the answer names the message.
        None => Request::post(format!("{path}?wait=true{}", options('&'))),
    };
    request.json(bytes(&body(words)))
}

fn body(words: &Words) -> Value {
    let message = &words.message;
    let title = match &words.title {
        Some(title) => cut(title, MAX_TITLE),
        None => fit(&message.title, MAX_TITLE, discord),
    };
    let links: String = message
        .links
        .iter()
        .filter(|(_, url)| url.chars().count() <= MAX_URL)
        // The URL is ours: it holds nothing that ends the parenthesis.
        .map(|(text, url)| format!("\n[{text}](<{url}>)"))
        .collect();
    let room = MAX_DESCRIPTION.saturating_sub(links.chars().count());
    let text = match &words.text {
        Some(text) => cut(text, room),
        None => fit(&message.summary, room, discord),
    };
    let description = format!("{text}{links}");
    let mut total = title.chars().count() + description.chars().count();
    let mut fields = Vec::new();
    for (name, value) in message.fields.iter().take(MAX_FIELDS) {
        if words.text.is_some() {
            break;
        }
        let value = fit(value, MAX_VALUE, discord);
        total += name.chars().count() + value.chars().count();
        if total > MAX_TOTAL {
            break;
        }
        // An empty value is refused.
        let value = if value.is_empty() { "-".to_owned() } else { value };
        fields.push(json!({ "name": name, "value": value, "inline": value.chars().count() <= 40 }));
    }
    json!({
        "content": "",
        "embeds": [{
            "title": title,
            "description": description,
            "color": color(message),
            "timestamp": message.time.milliseconds(),
            "fields": fields,
        }],
        // Whatever the text says, nobody is pinged.
        "allowed_mentions": { "parse": [] },
    })
}
