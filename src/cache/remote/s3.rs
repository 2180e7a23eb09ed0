//! A shared cache in a bucket of an S3 store.
//!
//! URLs are signed for an hour, so that no header of a request is a secret; whoever sees one can do for that time what it is
//! for. Content is not part of a signature: the store verifies what it reads.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusty_s3::{Bucket, BucketError, Credentials, S3Action, UrlStyle};
use ureq::http::Method;

use crate::base::verify::Verified;
use crate::oci::blob::{BlobError, BlobFault, BlobSource, BlobStore};
use crate::oci::descriptor::Descriptor;
use crate::transport::{HttpClient, HttpError, Payload, Request, Response, Url};

use super::claim::MAX_CLAIM;
use super::entry::MAX_ENTRY;
use super::{Entry, EntryName, Remote, RemoteError, UploadClaim};

/// How long a URL can be used; an upload may last longer, it must only begin before.
const VALID: Duration = Duration::from_secs(3600);
/// The most bytes that one request may store.
const MAX_UPLOAD: u64 = 5 << 30;
/// The media type of entries and claims.
const JSON: &str = "application/json";
/// The most attempts to write an entry that others write at the same time.
const MAX_CONFLICTS: usize = 4;

/// A bucket, as a user names it.
pub(crate) struct S3Settings {
    /// The name of the bucket.
    pub(crate) bucket: String,
    /// Its region.
    pub(crate) region: String,
    /// The URL of the store; `None`: that of Amazon for the region.
    pub(crate) endpoint: Option<String>,
    /// What all keys begin with, as a directory.
    pub(crate) prefix: String,
    /// Whether the bucket is part of the path, or of the host. `None`: of the host, if that has a name.
    pub(crate) path_style: Option<bool>,
    /// The id of the access key.
    pub(crate) key_id: String,
    /// The access key.
    pub(crate) secret: String,
    /// The token that belongs to a temporary key.
    pub(crate) token: Option<String>,
}

/// Why a bucket cannot be named so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum S3PlaceError {
    /// The endpoint.
    #[error("the endpoint is not an http or https URL without a user name")]
    Endpoint,
    /// The name of the bucket.
    #[error("the bucket has a name that no host can have")]
    Bucket,
}

/// A place in a bucket, and the key to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3Place {
    bucket: Bucket,
    credentials: Credentials,
    /// Empty, or with a slash at its end.
    prefix: String,
}

impl S3Place {
    /// The place that `settings` describe. Ok: its URLs are valid.
    pub(crate) fn new(settings: S3Settings) -> Result<Self, S3PlaceError> {
        let S3Settings { bucket, region, endpoint, prefix, path_style, key_id, secret, token } = settings;
        let endpoint = endpoint.unwrap_or_else(|| amazon(&region));
        Url::parse(&endpoint).ok_or(S3PlaceError::Endpoint)?;
        let open = |style| {
            let url = endpoint.parse().map_err(|_| S3PlaceError::Endpoint)?;
            Bucket::new(url, style, bucket.clone(), region.clone()).map_err(|why| match why {
                BucketError::ParseError(_) => S3PlaceError::Bucket,
                BucketError::UnsupportedScheme | BucketError::MissingHost => S3PlaceError::Endpoint,
            })
        };
        let by_path = open(UrlStyle::Path)?;
        // An address has no subdomains.
        let named = by_path.base_url().domain().is_some_and(|domain| domain != "localhost");
        let bucket = if path_style.unwrap_or(!named) { by_path } else { open(UrlStyle::VirtualHost)? };
        let credentials = match token {
            Some(token) => Credentials::new_with_token(key_id, secret, token),
            None => Credentials::new(key_id, secret),
        };
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Self { bucket, credentials, prefix })
    }

    fn entry(&self, name: &EntryName) -> String {
        let hex = name.key().hex();
        format!("{}v1/{}/{}/{hex}", self.prefix, name.kind(), &hex[..2])
    }

    fn claimed(&self, name: &EntryName) -> String {
        let hex = name.key().hex();
        format!("{}v1/claim/{}/{hex}", self.prefix, &hex[..2])
    }

    fn blob(&self, blob: &Descriptor) -> String {
        format!("{}blobs/sha256/{}", self.prefix, blob.digest.hex())
    }
}

/// The endpoint of Amazon's own store.
fn amazon(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.{region}.{domain}")
}

/// A cache in a bucket.
pub(crate) struct S3Cache {
    http: HttpClient,
    place: S3Place,
    name: String,
    /// Whether the store refuses to write only what is not there.
    unconditional: AtomicBool,
}

impl S3Cache {
    /// The cache at `place`.
    pub(crate) fn new(http: HttpClient, place: S3Place) -> Self {
        let name = format!("bucket {}{}", place.bucket.base_url(), place.prefix);
        let name = name.trim_end_matches('/').to_owned();
        Self { http, place, name, unconditional: AtomicBool::new(false) }
    }

    fn send<'a>(
        &self,
        method: Method,
        action: &impl S3Action<'a>,
        headers: Vec<(&'static str, String)>,
        payload: Payload<'_>,
    ) -> Result<Response, HttpError> {
        let url = Url::parse(action.sign(VALID).as_str()).expect("the place has valid URLs");
        self.http.send(&Request { method, headers, payload, ..Request::get(url) })
    }

    /// The object, or some of it, if the store knows ranges; `None`: there is none.
    fn read(&self, key: &str, range: Option<&Range<u64>>) -> Result<Option<Response>, HttpError> {
        let action = self.place.bucket.get_object(Some(&self.place.credentials), key);
        let headers = range.map(|range| ("range", format!("bytes={}-{}", range.start, range.end - 1)));
        let response = self.send(Method::GET, &action, headers.into_iter().collect(), Payload::None)?;
        match response.into_success() {
            Err(HttpError::Status { status: 404, reason, .. }) if reason != "NoSuchBucket" => Ok(None),
            other => other.map(Some),
        }
    }

    /// The size of an object; `None`: there is none.
    fn size(&self, key: &str) -> Result<Option<u64>, HttpError> {
        let action = self.place.bucket.head_object(Some(&self.place.credentials), key);
        let response = self.send(Method::HEAD, &action, Vec::new(), Payload::None)?;
        match response.status {
            404 => Ok(None),
            _ => {
                let response = response.into_success()?;
                Ok(response.header("content-length").and_then(|length| length.parse().ok()))
            }
        }
    }

    /// Writes an object, or an entry that is not there yet. The response may be of any status.
    fn write(&self, key: &str, payload: Payload<'_>, only_new: bool) -> Result<Response, HttpError> {
        const CONDITION: (&str, &str) = ("if-none-match", "*");
        let mut action = self.place.bucket.put_object(Some(&self.place.credentials), key);
        let mut headers = Vec::new();
        if only_new {
            action.headers_mut().insert(CONDITION.0, CONDITION.1);
            headers.push((CONDITION.0, CONDITION.1.to_owned()));
        }
        self.send(Method::PUT, &action, headers, payload)
    }
}

fn gone(blob: &Descriptor) -> RemoteError {
    RemoteError::Invalid { name: blob.digest.to_string(), why: "the blob is not there".to_owned() }
}

impl Remote for S3Cache {
    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, name: &EntryName) -> Result<Option<Entry>, RemoteError> {
        let Some(response) = self.read(&self.place.entry(name), None)? else { return Ok(None) };
        let bytes = response.into_bytes(MAX_ENTRY as u64)?;
        let invalid = |why: String| RemoteError::Invalid { name: name.to_string(), why };
        Entry::parse(name, &bytes).map(Some).map_err(invalid)
    }

    fn has(&self, name: &EntryName) -> Result<bool, RemoteError> {
        Ok(self.size(&self.place.entry(name))?.is_some())
    }

    fn fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> Result<(), RemoteError> {
        let response = self.read(&self.place.blob(blob), None)?.ok_or_else(|| gone(blob))?;
        Ok(store.accept(blob, &mut response.into_reader())?)
    }

    fn part(&self, blob: &Descriptor, range: Range<u64>) -> Result<Box<dyn Read + Send + '_>, RemoteError> {
        let response = self.read(&self.place.blob(blob), Some(&range))?.ok_or_else(|| gone(blob))?;
        let begins = format!("bytes {}-", range.start);
        let answers = match response.status {
            206 => response.header("content-range").is_some_and(|range| range.trim().starts_with(&begins)),
            _ => range == (0..blob.size),
        };
        if !answers {
            let why = format!("asked for bytes from {}, got others", range.start);
            return Err(RemoteError::Invalid { name: blob.digest.to_string(), why });
        }
        Ok(response.into_reader())
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        Ok(self.size(&self.place.blob(blob))? == Some(blob.size))
    }

    fn put_blob(&self, blob: &Descriptor, from: &dyn BlobSource) -> Result<(), RemoteError> {
        if blob.size > MAX_UPLOAD {
            let why = format!("it has {} bytes, and one upload holds {MAX_UPLOAD}", blob.size);
            return Err(RemoteError::Invalid { name: blob.digest.to_string(), why });
        }
        let key = self.place.blob(blob);
        if self.has_blob(blob)? {
            return Ok(());
        }
        let unreadable = Mutex::new(None);
        let open = || -> io::Result<Box<dyn Read + '_>> {
            let content = Verified::new(from.open(blob).map_err(io::Error::other)?, blob.digest.0, blob.size);
            Ok(Box::new(Whole { content, left: blob.size, unreadable: &unreadable }))
        };
        let answer = self.write(&key, Payload::Stream(blob.size, &open), false).and_then(Response::into_success);
        if let Some(reason) = unreadable.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let (operation, digest, fault) = ("read", blob.digest, BlobFault::Other);
            return Err(BlobError { operation, digest, reason, fault }.into());
        }
        answer?;
        Ok(())
    }

    fn put(&self, entry: &Entry, replaces: bool) -> Result<bool, RemoteError> {
        let (key, bytes) = (self.place.entry(&entry.name), entry.to_bytes());
        let payload = Payload::Bytes(JSON, &bytes);
        let mut conflicts = 0;
        while !replaces && !self.unconditional.load(Ordering::Relaxed) {
            let response = self.write(&key, payload, true)?;
            match response.status {
                // It is there already.
                412 => return Ok(false),
                // The store does not know the condition.
                400 | 501 => self.unconditional.store(true, Ordering::Relaxed),
                // Another writer is at it.
                409 if conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                    self.http.pause(self.http.timing().pause)?;
                }
                _ => {
                    response.into_success()?;
                    return Ok(true);
                }
            }
        }
        self.write(&key, payload, false)?.into_success()?;
        Ok(true)
    }

    fn claim(&self, claim: &UploadClaim) -> Result<Option<UploadClaim>, RemoteError> {
        if self.unconditional.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (key, bytes) = (self.place.claimed(&claim.name), claim.to_bytes());
        let payload = Payload::Bytes(JSON, &bytes);
        let response = self.write(&key, payload, true)?;
        match response.status {
            // Another build was first, or is at it.
            412 | 409 => {}
            400 | 501 => {
                self.unconditional.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            _ => {
                response.into_success()?;
                return Ok(None);
            }
        }
        let held = self.read(&key, None)?.map(|response| response.into_bytes(MAX_CLAIM as u64)).transpose()?;
        let held = held.and_then(|bytes| UploadClaim::parse(&bytes)).filter(|held| held.bars(claim));
        if held.is_none() {
            self.write(&key, payload, false)?.into_success()?;
        }
        Ok(held)
    }

    fn cancel(&self) {
        self.http.cancel();
    }
}

/// A blob that is sent: the last bytes are given only if it has its digest, so that no store gets all of a wrong one.
struct Whole<'a, R> {
    content: R,
    left: u64,
    unreadable: &'a Mutex<Option<String>>,
}

impl<R: Read> Whole<'_, R> {
    fn verified(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buf)?;
        self.left = self.left.saturating_sub(n as u64);
        if self.left == 0 && n > 0 {
            io::copy(&mut self.content, &mut io::sink())?;
        }
        Ok(n)
    }
}

impl<R: Read> Read for Whole<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.verified(buf);
        if let Err(error) = &read {
            let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
            unreadable.get_or_insert_with(|| error.to_string());
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Sha256;

    fn settings(endpoint: Option<&str>, path_style: Option<bool>) -> S3Settings {
        S3Settings {
            bucket: "layers".to_owned(),
            region: "eu-west-1".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            prefix: "/team/".to_owned(),
            path_style,
            key_id: "id".to_owned(),
            secret: "hidden-key".to_owned(),
            token: Some("hidden-token".to_owned()),
        }
    }

    #[test]
    fn bucket_is_in_the_host_unless_that_is_an_address() {
        for (endpoint, path_style, want) in [
            (None, None, Ok("https://layers.s3.eu-west-1.amazonaws.com/")),
            (None, Some(true), Ok("https://s3.eu-west-1.amazonaws.com/layers/")),
            (Some("https://s3.example:9000/"), None, Ok("https://layers.s3.example:9000/")),
            (Some("http://localhost:9000"), None, Ok("http://localhost:9000/layers/")),
            (Some("http://127.0.0.1:9000/s3"), None, Ok("http://127.0.0.1:9000/s3/layers/")),
            (Some("http://127.0.0.1:9000"), Some(false), Err(S3PlaceError::Bucket)),
            (Some("https://user:key@s3.example"), None, Err(S3PlaceError::Endpoint)),
            (Some("s3.example"), None, Err(S3PlaceError::Endpoint)),
        ] {
            let place = S3Place::new(settings(endpoint, path_style));
            let url = place.as_ref().map(|place| place.bucket.base_url().as_str()).map_err(|why| *why);
            assert_eq!(url, want, "{endpoint:?}");
        }
        assert!(amazon("cn-north-1").ends_with(".cn"));
    }

    #[test]
    fn end_of_a_wrong_blob_is_not_given() {
        let sent = |bytes: &[u8]| {
            let unreadable = Mutex::new(None);
            let content = Verified::new(bytes, Sha256::of(b"layer"), 5);
            let mut sent = Vec::new();
            let ended = Whole { content, left: 5, unreadable: &unreadable }.read_to_end(&mut sent);
            assert_eq!(ended.is_err(), unreadable.into_inner().expect("no panic").is_some());
            ended.map(|_| sent).ok()
        };
        assert_eq!(sent(b"layer"), Some(b"layer".to_vec()));
        for wrong in [&b"Layer"[..], b"laye", b"layers"] {
            assert_eq!(sent(wrong), None);
        }
    }

    #[test]
    fn keys_are_below_the_prefix_and_secrets_are_not_shown() {
        let place = S3Place::new(settings(None, None)).expect("a place");
        assert_eq!(place.prefix, "team/");
        assert!(!format!("{place:?}").contains("hidden"));
        let root = S3Place::new(S3Settings { prefix: "/".to_owned(), ..settings(None, None) }).expect("a place");
        assert_eq!(root.prefix, "");
    }
}
