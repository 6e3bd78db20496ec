//! Asks a running console whether it takes our filters.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde_json::json;

use super::Console;
use crate::alerts::http;

/// What a console said of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// The filter.
    pub filter: String,
    /// What is wrong with it, in the console's words; `None` if it is taken.
    pub refused: Option<String>,
}

/// Why a console could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ValidationError {
    /// No answer.
    #[error(
        "the Akvorado console did not answer: {0}; check `akvorado.url`, or leave the check out"
    )]
    Unreachable(String),
    /// Another answer than a console gives.
    #[error(
        "what answered at `{url}` with status {status} is no Akvorado console, or wants a login; \
         name the console's own address in `akvorado.url`"
    )]
    NoConsole {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
    },
}

/// The answer of `console/filter.go`: 200 with `message` "ok", or what is wrong.
#[derive(Deserialize)]
struct Answer {
    message: String,
}

/// One filter of each form that links are made of.
#[must_use]
pub fn sample_filters() -> Vec<String> {
    let (v4, v6) = (Ipv4Addr::new(203, 0, 113, 7), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));
    vec![
        format!("DstAddr = {v4} AND Proto = 17 AND SrcPort = 53"),
        format!("DstAddr = {v6} AND Proto = 17 AND SrcPort IN (53, 123)"),
        "DstAddr << 203.0.113.0/24 AND Proto = 6".to_owned(),
        format!("ForwardingStatus >= 128 AND DstAddr = {v4}"),
    ]
}

/// Has the console check each of `filters`.
///
/// # Errors
/// [`ValidationError`] if it cannot be asked.
pub async fn validate(
    console: &Console,
    filters: &[String],
) -> Result<Vec<Validation>, ValidationError> {
    let client = http::client().map_err(|error| ValidationError::Unreachable(error.to_string()))?;
    let url = console.under("api/v0/console/filter/validate");
    let mut validations = Vec::with_capacity(filters.len());
    for filter in filters {
        let body = json!({ "filter": filter }).to_string().into_bytes();
        let request = http::Request::post(url.clone()).json(body);
        let answer = http::exchange(&client, &request, http::TIMEOUT)
            .await
            .map_err(|error| ValidationError::Unreachable(error.to_string()))?;
        let parsed: Option<Answer> = serde_json::from_slice(&answer.body).ok();
        let (200, Some(parsed)) = (answer.status, parsed) else {
            return Err(ValidationError::NoConsole { url, status: answer.status });
        };
        let refused = (parsed.message != "ok").then_some(parsed.message);
        validations.push(Validation { filter: filter.clone(), refused });
    }
    Ok(validations)
}
