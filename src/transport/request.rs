//! A request as its sender describes it.

use std::io::{self, Read};

use ureq::http::Method;

use super::url::Url;

/// What to send.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The `Authorization` header; dropped when a redirect leaves the origin.
    pub(crate) authorization: Option<String>,
    pub(crate) payload: Payload<'a>,
}

/// The body of a request. All of it can be sent again.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    /// No body.
    None,
    /// An encoded form.
    Form(&'a str),
    /// Bytes and their media type.
    Bytes(&'a str, &'a [u8]),
    /// A stream of a known length.
    Stream(u64, &'a Open<'a>),
}

/// Opens a stream at its beginning.
pub(crate) type Open<'a> = dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a;

impl<'a> Request<'a> {
    pub(crate) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), authorization: None, payload: Payload::None }
    }
}
