//! A request as its sender describes it.

use std::io::{self, Read};

use ureq::http::Method;

use super::encoding::basic_password;
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
    /// A form, which is encoded for it; it is not sent to another origin than the one it is for.
    Form(&'a [(&'a str, &'a str)]),
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

    /// What it carries that no message may show, even if the server repeats it.
    pub(super) fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        if let Some((scheme, value)) = self.authorization.as_deref().and_then(|header| header.split_once(' ')) {
            secrets.push(value.to_owned());
            if scheme.eq_ignore_ascii_case("basic") {
                secrets.extend(basic_password(value));
            }
        }
        if let Payload::Form(fields) = self.payload {
            let secret = |name: &str| name.contains("token") || name.contains("password");
            secrets.extend(fields.iter().filter(|(name, _)| secret(name)).map(|(_, value)| (*value).to_owned()));
        }
        secrets
    }
}
