//! What a server answered, after redirects.

use std::io::Read;
use std::time::Duration;

use ureq::Body;
use ureq::http::HeaderMap;

use super::error::{HttpError, io_reason};
use super::pace::{Pace, Paced};
use super::retry::retry_after;
use super::url::Url;

/// A shorter text occurs in every explanation.
const SHORTEST_SECRET: usize = 4;

/// The most bytes of an error's body that are read.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// A response whose body is not read yet.
pub(crate) struct Response {
    pub(crate) url: Url,
    pub(crate) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Requests sent until it came.
    pub(super) attempts: u32,
    pub(super) pace: Pace,
    /// What the request carried; a server may repeat it.
    pub(super) secrets: Vec<String>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of a header that may be repeated.
    pub(crate) fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as a stream. A connection that ends early is an error.
    pub(crate) fn into_reader(self) -> Box<dyn Read + Send> {
        Box::new(Paced::new(self.body.into_reader(), self.pace))
    }

    /// The whole body. More than `limit` bytes are an error and are not read (S-53).
    pub(crate) fn into_bytes(self, limit: u64) -> Result<Vec<u8>, HttpError> {
        let url = self.url.without_query();
        let too_large =
            || HttpError::Protocol { url: url.clone(), why: format!("the response is larger than {limit} bytes") };
        if self.body.content_length().is_some_and(|n| n > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let read = self.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| HttpError::Network { url: url.clone(), reason: io_reason(&e), attempts: 1 })?;
        if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
    }

    /// How long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after").and_then(retry_after)
    }

    /// The response if it is one of success, else the error that it stands for.
    pub(crate) fn into_success(self) -> Result<Self, HttpError> {
        if self.is_success() { Ok(self) } else { Err(self.into_error()) }
    }

    /// The error that the response stands for, with the server's explanation.
    pub(crate) fn into_error(self) -> HttpError {
        let (url, status, attempts) = (self.url.without_query(), self.status, self.attempts);
        let retry_after = self.retry_after();
        HttpError::Status { url, status, reason: self.into_reason(), attempts, retry_after }
    }

    /// The server's explanation, without the credentials that it was sent; empty if it gives none.
    pub(crate) fn into_reason(mut self) -> String {
        let secrets = std::mem::take(&mut self.secrets);
        let mut bytes = Vec::new();
        // What was received before a break may still explain the error.
        let _ = self.into_reader().take(MAX_ERROR_BODY).read_to_end(&mut bytes);
        without(&secrets, explain(&bytes))
    }
}

/// The messages of a distribution-spec error list, else a JSON message, else the code of an S3 error, else the first line of
/// a text.
fn explain(body: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let listed: Vec<String> = json["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| text(&e["message"]).filter(|m| !m.is_empty()).or_else(|| text(&e["code"])))
            .collect();
        if !listed.is_empty() {
            return shorten(&listed.join("; "));
        }
        let single =
            ["details", "message", "msg", "error_description", "error"].iter().find_map(|key| text(&json[*key]));
        return shorten(&single.unwrap_or_default());
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') { error_code(&text).unwrap_or_default() } else { shorten(&text) }
}

/// The code of an error of S3, such as `AccessDenied`. What else it says may repeat what was signed.
fn error_code(xml: &str) -> Option<String> {
    let code = xml.split_once("<Error>")?.1.split_once("<Code>")?.1.split_once("</Code>")?.0;
    let is_word = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}

/// A text in which nothing is left of the secrets; a short one would not be hidden by its removal.
fn without(secrets: &[String], text: String) -> String {
    let long = secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET);
    long.fold(text, |text, secret| text.replace(secret.as_str(), "xxxxx"))
}

/// The first line, at most 300 characters.
fn shorten(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_explanation_is_found_and_shortened() {
        assert_eq!(explain(br#"{"errors":[{"code":"X","message":"no"},{"code":"DENIED"}]}"#), "no; DENIED");
        assert_eq!(explain(br#"{"details":"incorrect username or password"}"#), "incorrect username or password");
        assert_eq!(explain(br#"{"code":"unauthenticated","msg":"token has expired"}"#), "token has expired");
        assert_eq!(explain(b"<html>"), "");
        let denied = b"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>key x</Message></Error>";
        assert_eq!(explain(denied), "AccessDenied");
        assert_eq!(explain(b"<Error><Code>two words</Code></Error>"), "");
        assert_eq!(explain(b"plain\nsecond line"), "plain");
        assert_eq!(explain(&[b'x'; 1000]).len(), 300);
    }
}
