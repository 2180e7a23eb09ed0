//! The requests of the Actions cache service, and those of the blobs that it names.
//!
//! The service is spoken to in Twirp, as JSON. It reserves a key and answers with the URL of an Azure block blob to write to;
//! once the blob is there, the entry is finalized. Reading begins with the URL of a blob, too. Such URLs are signed and carry
//! no other credentials.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::transport::{HttpClient, HttpError, Payload, Request, Response, Url};

use super::super::RemoteError;

const METHODS: &str = "twirp/github.actions.results.api.v1.CacheService/";
/// The most bytes of an answer of the service.
const MAX_ANSWER: u64 = 64 << 10;
const BINARY: &str = "application/octet-stream";

/// A key of the service. Entries with another version are other entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) key: String,
    pub(super) version: String,
}

/// An entry that was found.
pub(super) struct Found {
    /// Its whole key.
    pub(super) key: String,
    /// Where its content is, for some minutes.
    pub(super) url: Url,
}

/// A cache service.
pub(super) struct Service {
    http: HttpClient,
    url: Url,
    authorization: String,
}

#[derive(Deserialize)]
struct Reserved {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedUploadUrl")]
    signed_upload_url: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Finalized {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Located {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedDownloadUrl")]
    signed_download_url: String,
    #[serde(default, alias = "matchedKey")]
    matched_key: String,
}

impl Service {
    /// The service at `url`, which is asked with this token.
    pub(super) fn new(http: HttpClient, url: Url, token: &str) -> Self {
        Self { http, url, authorization: format!("Bearer {token}") }
    }

    pub(super) fn cancel(&self) {
        self.http.cancel();
    }

    /// Waits; [`Service::cancel`] ends it.
    pub(super) fn pause(&self, pause: std::time::Duration) -> Result<(), RemoteError> {
        Ok(self.http.pause(pause)?)
    }

    /// The newest entry whose key begins with that of `key`.
    pub(super) fn newest(&self, key: &Key) -> Result<Option<Found>, RemoteError> {
        self.locate(key, &[&key.key])
    }

    /// The entry with this key.
    pub(super) fn exactly(&self, key: &Key) -> Result<Option<Found>, RemoteError> {
        // A longer key is found, too.
        Ok(self.locate(key, &[])?.filter(|found| found.key == key.key))
    }

    fn locate(&self, key: &Key, prefixes: &[&str]) -> Result<Option<Found>, RemoteError> {
        let method = "GetCacheEntryDownloadURL";
        let question = json!({ "key": key.key, "restore_keys": prefixes, "version": key.version });
        let located: Located = self.call(method, &question)?;
        if !located.ok {
            return Ok(None);
        }
        let url = self.signed(method, &located.signed_download_url)?;
        Ok(Some(Found { key: located.matched_key, url }))
    }

    /// Reserves a key. Ok(Some): where to write its content. Ok(None): it is reserved or there already.
    pub(super) fn reserve(&self, key: &Key) -> Result<Option<Url>, RemoteError> {
        let method = "CreateCacheEntry";
        let reserved = self.call::<Reserved>(method, &json!({ "key": key.key, "version": key.version }));
        match reserved {
            Ok(Reserved { ok: true, signed_upload_url, .. }) => self.signed(method, &signed_upload_url).map(Some),
            Ok(Reserved { message, .. }) if message.contains("already exists") => Ok(None),
            Ok(Reserved { message, .. }) => Err(self.refused(method, message)),
            Err(RemoteError::Http(HttpError::Status { status: 409, .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends what [`Service::reserve`] began. Ok: the entry can be found.
    pub(super) fn finalize(&self, key: &Key, size: u64) -> Result<(), RemoteError> {
        let method = "FinalizeCacheEntryUpload";
        // A 64-bit number of the protocol is a text in JSON.
        let entry = json!({ "key": key.key, "version": key.version, "size_bytes": size.to_string() });
        let finalized: Finalized = self.call(method, &entry)?;
        if finalized.ok { Ok(()) } else { Err(self.refused(method, finalized.message)) }
    }

    /// The bytes of a blob, or some of them.
    pub(super) fn read(&self, url: &Url, range: Option<Range<u64>>) -> Result<Response, HttpError> {
        let headers = range.map(|range| ("range", format!("bytes={}-{}", range.start, range.end - 1)));
        let request = Request { headers: headers.into_iter().collect(), ..Request::get(url.clone()) };
        self.http.send(&request)?.into_success()
    }

    /// Writes a whole blob.
    pub(super) fn write(&self, url: &Url, bytes: &[u8]) -> Result<(), HttpError> {
        self.put(url.clone(), vec![("x-ms-blob-type", "BlockBlob".to_owned())], Payload::Bytes(BINARY, bytes))
    }

    /// Writes a block of a blob, which appears with [`Service::write_list`]. All blocks of a blob have ids of one length.
    pub(super) fn write_block(&self, url: &Url, id: &str, bytes: &[u8]) -> Result<(), HttpError> {
        // The digits of an id give letters and digits only.
        let query = format!("comp=block&blockid={}", STANDARD.encode(id));
        self.put(with_query(url, &query), Vec::new(), Payload::Bytes(BINARY, bytes))
    }

    /// Puts a blob together of blocks, in this order.
    pub(super) fn write_list(&self, url: &Url, ids: &[String]) -> Result<(), HttpError> {
        let blocks: String = ids.iter().map(|id| format!("<Latest>{}</Latest>", STANDARD.encode(id))).collect();
        let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{blocks}</BlockList>");
        self.put(with_query(url, "comp=blocklist"), Vec::new(), Payload::Bytes("application/xml", list.as_bytes()))
    }

    fn put(&self, url: Url, headers: Vec<(&'static str, String)>, payload: Payload<'_>) -> Result<(), HttpError> {
        let request = Request { method: Method::PUT, headers, payload, ..Request::get(url) };
        self.http.send(&request)?.into_success().map(drop)
    }

    fn call<T: DeserializeOwned>(&self, method: &str, question: &Value) -> Result<T, RemoteError> {
        let body = question.to_string();
        let request = Request {
            method: Method::POST,
            authorization: Some(self.authorization.clone()),
            payload: Payload::Bytes("application/json", body.as_bytes()),
            ..Request::get(self.method(method))
        };
        let answer = self.http.send(&request)?.into_success()?.into_bytes(MAX_ANSWER)?;
        serde_json::from_slice(&answer).map_err(|e| self.refused(method, format!("the answer is not valid: {e}")))
    }

    fn method(&self, method: &str) -> Url {
        let target = format!("{}/{METHODS}{method}", self.url.target.trim_end_matches('/'));
        Url { target, ..self.url.clone() }
    }

    /// A URL that the service gave. It may be on another host, but never without TLS if the service has it.
    fn signed(&self, method: &str, text: &str) -> Result<Url, RemoteError> {
        let url = Url::parse(text).filter(|url| url.tls || !self.url.tls);
        url.ok_or_else(|| self.refused(method, "the answer has no usable URL".to_owned()))
    }

    fn refused(&self, method: &str, why: String) -> RemoteError {
        let why = if why.is_empty() { "refused".to_owned() } else { why };
        RemoteError::Invalid { name: self.method(method).without_query(), why }
    }
}

/// The URL with more in its query.
fn with_query(url: &Url, more: &str) -> Url {
    let join = if url.target.contains('?') { '&' } else { '?' };
    Url { target: format!("{}{join}{more}", url.target), ..url.clone() }
}
