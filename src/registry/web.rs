//! Plain files from any server, with the manners that registries get: redirects, proxies, retries, patience.

use std::io::Read;

use ureq::http::HeaderName;

use super::Error;
use super::http::{Ask, Http, Proxies};
use super::retry::Timing;
use super::url::Url;

/// A client for `GET`.
pub struct Web(Http);

/// A server's answer to a `GET`.
pub struct Page {
    /// 200, or 304 if what is held is still what the server has.
    pub status: u16,
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The `Last-Modified` header.
    pub modified: Option<String>,
    /// The `Date` header: the server's clock.
    pub date: Option<String>,
    /// How many bytes follow, if the server says so.
    pub length: Option<u64>,
    /// The body as it comes. A connection that ends early is an error.
    pub body: Box<dyn Read + Send>,
}

/// What is here already of a file, as its server named it.
#[derive(Clone, Copy, Debug)]
pub enum Held<'a> {
    /// Nothing that could be named.
    Nothing,
    /// The content with this `ETag`.
    Tag(&'a str),
    /// The content with this `Last-Modified`.
    Since(&'a str),
}

impl Web {
    /// A client; nothing is sent before something is asked for.
    pub fn new(proxies: Proxies, timing: Timing) -> Self {
        Self(Http::new(proxies, Vec::new(), timing))
    }

    /// Asks for `url`, following redirects but never from https to http; `authorization` stays with the host it is for.
    ///
    /// Ok: the server has the file, or says that what is `held` has not changed. What it says otherwise is
    /// an error; one that may pass was tried again.
    pub fn get(&self, url: &str, held: Held<'_>, authorization: Option<String>) -> Result<Page, Error> {
        let bad = || Error::Protocol { url: url.to_owned(), why: "not an http or https URL".to_owned() };
        let mut ask = Ask::get(Url::parse(url).ok_or_else(bad)?);
        ask.authorization = authorization;
        match held {
            Held::Nothing => {}
            Held::Tag(etag) => ask.headers.push(("if-none-match", etag.to_owned())),
            Held::Since(date) => ask.headers.push(("if-modified-since", date.to_owned())),
        }
        let answer = self.0.send(&ask)?;
        if answer.status != 200 && (answer.status != 304 || matches!(held, Held::Nothing)) {
            return Err(answer.into_error());
        }
        let header = |name: HeaderName| answer.header(name.as_str()).map(str::to_owned);
        use ureq::http::header::{CONTENT_LENGTH, DATE, ETAG, LAST_MODIFIED};
        Ok(Page {
            status: answer.status,
            etag: header(ETAG),
            modified: header(LAST_MODIFIED),
            date: header(DATE),
            length: header(CONTENT_LENGTH).and_then(|n| n.parse().ok()),
            body: answer.into_reader(),
        })
    }

    /// Ends what is running: it fails, and so does everything that is asked for later.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Waits before attempt number `next`; false if there is to be none.
    pub fn pause_before(&self, next: u32) -> bool {
        self.0.timing().pause_before(next, None).is_some_and(|pause| self.0.pause(pause).is_ok())
    }
}
