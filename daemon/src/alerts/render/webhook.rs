//! The generic webhook: the record or the operator's template, signed.

use ring::hmac::{HMAC_SHA256, Key, sign};

use super::super::config::Webhook;
use super::super::http::Request;
use super::super::snapshot::Snapshot;
use super::{RenderError, Words, bytes, document};
use crate::incident::WallTime;
use crate::json::hex;

pub(super) fn request(
    webhook: &Webhook,
    snapshot: &Snapshot,
    words: &Words,
    now: WallTime,
) -> Result<Request, RenderError> {
    let body = match &webhook.body {
        Some(template) => template.render(snapshot)?.into_bytes(),
        None => bytes(&document(snapshot, words)),
    };
    let event = snapshot.event.name();
    let once = format!("{}/{event}/{}", snapshot.alert, snapshot.revision);
    let mut request = Request::post(webhook.url.clone())
        .header("content-type", webhook.content_type.as_str())
        .header("x-tidegate-event", event)
        .header("idempotency-key", once);
    if let Some(value) = &webhook.authorization {
        request = request.header("authorization", value.clone());
    }
    if let Some(key) = &webhook.signing {
        let time = now.as_seconds().to_string();
        let signature = signature(key.expose(), &time, &body);
        request = request
            .header("x-tidegate-timestamp", time)
            .header("x-tidegate-signature", format!("sha256={signature}"));
    }
    request.body = body;
    Ok(request)
}

/// HMAC-SHA256 (RFC 2104) over the timestamp, a dot and the body, in hexadecimal. The timestamp is
/// in it so that a request that was listened to cannot be sent again later.
pub(super) fn signature(key: &str, timestamp: &str, body: &[u8]) -> String {
    let key = Key::new(HMAC_SHA256, key.as_bytes());
    let signed = [timestamp.as_bytes(), b".", body].concat();
    hex(sign(&key, &signed).as_ref())
}
