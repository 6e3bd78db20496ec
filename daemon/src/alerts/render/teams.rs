//! Microsoft Teams: a workflow that posts an Adaptive Card.
//!
//! A message may have 28 KB. Text goes into `RichTextBlock`, which shows it as it is: a `TextBlock`
//! would read Markdown.

use serde_json::{Value, json};

use super::super::escape::{cut, fit, plain};
use super::super::event::AlertEvent;
use super::super::http::Request;
use super::super::secret::Secret;
use super::{Words, bytes};

const MAX_BODY: usize = 27 * 1024;
const MAX_TITLE: usize = 250;
const MAX_TEXT: usize = 4_000;
const MAX_VALUE: usize = 600;

pub(super) fn request(url: &Secret, words: &Words) -> Request {
    let mut facts = words.message.fields.len();
    loop {
        let body = bytes(&card(words, facts));
        if body.len() <= MAX_BODY || facts == 0 {
            return Request::post(url.clone()).json(body);
        }
        facts -= 1;
    }
}

fn card(words: &Words, facts: usize) -> Value {
    let message = &words.message;
    let color = match message.event {
        AlertEvent::Ended | AlertEvent::Withdrawn => "good",
        _ => "attention",
    };
    let mut body = vec![json!({
        "type": "RichTextBlock",
        "inlines": [{
            "type": "TextRun",
            "text": words.plain_title(MAX_TITLE),
            "weight": "bolder",
            "size": "large",
            "color": color,
        }],
    })];
    let text = match &words.text {
        Some(text) => cut(text, MAX_TEXT),
        None => fit(&message.summary, MAX_TEXT, plain),
    };
    body.push(rich(&[("", &text)]));
    if words.text.is_none() {
        for (name, value) in message.fields.iter().take(facts) {
            body.push(rich(&[(&format!("{name}: "), &fit(value, MAX_VALUE, plain))]));
        }
    }
    let actions: Vec<Value> = message
        .links
        .iter()
        .map(|(title, url)| json!({ "type": "Action.OpenUrl", "title": title, "url": url }))
        .collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "msteams": { "width": "Full" },
                "body": body,
                "actions": actions,
            },
        }],
    })
}

fn rich(runs: &[(&str, &str)]) -> Value {
    let inlines: Vec<Value> = runs
        .iter()
        .flat_map(|(name, value)| {
            let name = (!name.is_empty())
                .then(|| json!({ "type": "TextRun", "text": name, "weight": "bolder" }));
            name.into_iter().chain([json!({ "type": "TextRun", "text": value })])
        })
        .collect();
    json!({ "type": "RichTextBlock", "inlines": inlines, "spacing": "small" })
}
