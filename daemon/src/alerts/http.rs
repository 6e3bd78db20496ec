//! One HTTP exchange: bounded, without redirects, and with nothing secret in what is shown.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::secret::Secret;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a whole exchange may take, unless the configuration says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// No more octets of an answer than this are read: what we need of one is an identifier.
const MAX_ANSWER: usize = 64 * 1024;

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
}

impl Method {
    /// As on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

/// A request, complete. Its URL and some headers carry secrets, so `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: Secret,
    /// Names in lower case, and values.
    pub headers: Vec<(String, Secret)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A POST without headers or body.
    #[must_use]
    pub fn post(url: impl Into<Secret>) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { method: Method::Post, url: url.into(), headers, body }
    }

    /// The same with another method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The same with `body` as JSON.
    #[must_use]
    pub fn json(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self.header("content-type", "application/json; charset=utf-8")
    }

    /// The same with one more header; `name` in lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Secret>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        formatter
            .debug_struct("Request")
            .field("method", &self.method.name())
            .field("headers", &names)
            .field("body", &format_args!("{} octets", self.body.len()))
            .finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The `Retry-After` header as it was sent.
    pub retry_after: Option<String>,
    /// The first octets of the body.
    pub body: Vec<u8>,
}

/// Why there is no answer. Never names the URL, which may carry a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The request cannot be made.
    #[error("the request is not valid HTTP: {0}")]
    Request(String),
    /// Nobody took it.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke.
    #[error("the exchange broke off: {0}")]
    Broken(String),
}

/// A client for [`exchange`].
///
/// # Errors
/// If the system's certificates cannot be read.
pub fn client() -> Result<reqwest::Client, HttpError> {
    // Fails if one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // A receiver that redirects would have us talk to whom it likes, with our secrets.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(1)
        .build()
        .map_err(|error| HttpError::Request(innermost(&error)))
}

/// Sends `request` and reads what comes back, within `timeout`.
///
/// # Errors
/// [`HttpError`] if nothing does. Any status is an answer.
pub async fn exchange(
    client: &reqwest::Client,
    request: &Request,
    timeout: Duration,
) -> Result<Answer, HttpError> {
    let invalid = |what: &str| HttpError::Request(what.to_owned());
    let url = reqwest::Url::parse(request.url.expose()).map_err(|_| invalid("the URL"))?;
    let method = match request.method {
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid(name))?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid(name))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let sending = client.request(method, url).headers(headers).body(request.body.clone());
    let mut response = sending.timeout(timeout).send().await.map_err(failure)?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after = retry_after.map(ToOwned::to_owned);
    let mut body = Vec::new();
    // A body that breaks off does not undo the status that came before it.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if room < chunk.len() {
            break;
        }
    }
    Ok(Answer { status, retry_after, body })
}

fn failure(error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    if error.is_timeout() {
        HttpError::TimedOut
    } else if error.is_connect() {
        HttpError::Connect(innermost(&error))
    } else if error.is_builder() {
        HttpError::Request(innermost(&error))
    } else {
        HttpError::Broken(innermost(&error))
    }
}

/// The cause at the bottom, which says most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
