//! A request as its sender describes it.

use ureq::http::Method;

use super::url::Url;

/// What to send.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The `Authorization` header; dropped when a redirect leaves the origin.
    pub(crate) authorization: Option<String>,
    /// The body: an encoded form.
    pub(crate) form: Option<String>,
}

impl Request {
    pub(crate) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), authorization: None, form: None }
    }
}
