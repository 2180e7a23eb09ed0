//! One blob to a registry: is it there, can it be mounted, else upload it (distribution-spec, "Push").
//!
//! **Holds.** A blob is sent in one `PUT`, as a stream of known length. After a break the registry is asked what it has
//! received, and the rest is sent with `PATCH`; what cannot be continued begins anew (S-61). A registry or proxy that
//! refuses one large request gets the blob in pieces. Upload addresses on another host get no credentials (S-59).

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use ureq::http::Method;

use crate::oci::blob::{BlobError, BlobFault, BlobSource};
use crate::oci::descriptor::Descriptor;
use crate::transport::{Attempt, HttpError, Payload, Request, Response, Url, is_transient};

use super::RegistryError;
use super::repository::Repository;
use super::scope::Scope;

/// The piece of an upload in pieces: a registry in wide use takes no more at once.
const PIECE: u64 = 4 << 20;

/// How a blob came to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was there.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was uploaded.
    Uploaded,
}

/// What a failed attempt leaves.
enum Broken {
    /// Another attempt may succeed.
    Retry(HttpError),
    /// The body is too large for one request.
    TooLarge,
    /// Another attempt fails the same way.
    Fail(RegistryError),
}

impl From<RegistryError> for Broken {
    fn from(error: RegistryError) -> Self {
        Self::Fail(error)
    }
}

impl Repository<'_> {
    /// Whether the repository has the blob. `false` also if it is not said: an account may be allowed to push alone, and the
    /// answer to an upload has the registry's words. A registry that died while it stored a blob may fail at this one alone, until
    /// it is uploaded again (S-61).
    pub(super) fn has_blob(&self, blob: &Descriptor) -> Result<bool, RegistryError> {
        let what = self.what_blob(blob);
        let url = self.blob_url(blob);
        let request = Request { method: Method::HEAD, ..Request::get(url) };
        match self.request(request, &what) {
            Ok(_) => Ok(true),
            Err(RegistryError::NotFound { .. } | RegistryError::Denied { .. }) => Ok(false),
            Err(RegistryError::Http(HttpError::Status { status: 500, .. })) => Ok(false),
            // Of a blob that is there after all, no more than a byte is wanted.
            Err(error) => {
                Err(self.explained(error, &format!("blobs/{}", blob.digest), &[("range", "bytes=0-0")], &what))
            }
        }
    }

    /// Brings a blob to the repository: by mounting it from one of `holders`, repositories of the same registry, else
    /// from `source`. Ok: the registry has verified it. `sent` is called with numbers of bytes as they are sent.
    pub(super) fn bring_blob(
        &self,
        blob: &Descriptor,
        holders: &[String],
        source: &dyn BlobSource,
        sent: &dyn Fn(u64),
    ) -> Result<Arrival, RegistryError> {
        let mut open = None;
        for holder in holders {
            match self.mount(blob, holder)? {
                None => return Ok(Arrival::Mounted),
                Some(upload) => open = Some(upload),
            }
        }
        Upload { repository: self, blob, source, sent, at: open, pieces: false }.run()?;
        Ok(Arrival::Uploaded)
    }

    /// Asks the registry to take the blob from `holder`. `None`: it did; otherwise it opened an upload.
    fn mount(&self, blob: &Descriptor, holder: &str) -> Result<Option<Url>, RegistryError> {
        let scope = Scope { also: Some(holder.to_owned()), ..self.scope().clone() };
        let url = self.url(&format!("blobs/uploads/?mount={}&from={holder}", blob.digest));
        match self.post(url, &scope, blob) {
            Ok(response) if response.status == 201 => Ok(None),
            Ok(response) => self.location(&response).map(Some),
            // Some registries refuse instead of declining.
            Err(RegistryError::Denied { .. } | RegistryError::NotFound { .. }) => self.begin(blob).map(Some),
            Err(error) => Err(error),
        }
    }

    /// Opens an upload.
    fn begin(&self, blob: &Descriptor) -> Result<Url, RegistryError> {
        let response = self.post(self.url("blobs/uploads/"), self.scope(), blob)?;
        self.location(&response)
    }

    fn post(&self, url: Url, scope: &Scope, blob: &Descriptor) -> Result<Response, RegistryError> {
        let request = Request { method: Method::POST, ..Request::get(url) };
        let what = self.what_blob(blob);
        let response =
            self.authorized(request, scope, &what, |request| self.http().send(request).map_err(RegistryError::from))?;
        self.accepted(response, &what)
    }

    /// Where a response says that the upload goes on.
    fn location(&self, response: &Response) -> Result<Url, RegistryError> {
        let wrong = |why: String| HttpError::Protocol { url: response.url.without_query(), why }.into();
        let Some(location) = response.header("location") else {
            return Err(wrong("opened an upload, but did not say where".to_owned()));
        };
        let next = response.url.join(location);
        let next = next.filter(|next| next.tls || !response.url.tls);
        next.ok_or_else(|| wrong("names an upload address that is not an https URL".to_owned()))
    }

    fn what_blob(&self, blob: &Descriptor) -> String {
        self.what(&format!(": blob {}", blob.digest))
    }
}

/// An upload of one blob, however many requests it takes.
struct Upload<'a> {
    repository: &'a Repository<'a>,
    blob: &'a Descriptor,
    source: &'a dyn BlobSource,
    sent: &'a dyn Fn(u64),
    /// An upload that is open.
    at: Option<Url>,
    pieces: bool,
}

impl Upload<'_> {
    fn run(&mut self) -> Result<(), RegistryError> {
        let http = self.repository.http();
        let mut attempt = 1;
        // Bytes that the registry has received.
        let mut received = 0;
        loop {
            let at = match self.at.take() {
                Some(at) => at,
                None => self.repository.begin(self.blob)?,
            };
            let broken = match self.send_from(&at, received) {
                Ok(()) => return Ok(()),
                Err(Broken::Fail(error)) => return Err(error),
                Err(Broken::TooLarge) => {
                    (self.pieces, received) = (true, 0);
                    continue;
                }
                Err(Broken::Retry(error)) => error,
            };
            let now = self.received(&at);
            if now > received {
                attempt = 1;
            }
            attempt += 1;
            let Some(pause) = http.timing().pause_before(attempt, None) else {
                return Err(broken.after(attempt - 1).into());
            };
            http.pause(pause)?;
            received = now;
            self.at = (now > 0).then_some(at);
        }
    }

    /// How many bytes the registry has received; 0: the upload cannot be continued.
    fn received(&self, at: &Url) -> u64 {
        let Ok(response) = self.exchange(Method::GET, at.clone(), Vec::new(), Payload::None) else { return 0 };
        let last = response.header("range").and_then(|range| range.rsplit('-').next()?.trim().parse::<u64>().ok());
        // `0-0` is what registries say about an empty upload, too.
        last.filter(|last| response.status == 204 && *last > 0).map_or(0, |last| last + 1).min(self.blob.size)
    }

    fn send_from(&self, at: &Url, from: u64) -> Result<(), Broken> {
        if from == 0 && !self.pieces {
            return self.put(at, 0).map(drop);
        }
        let (mut at, mut from) = (at.clone(), from);
        while from < self.blob.size {
            let size = self.blob.size - from;
            let size = if self.pieces { size.min(PIECE) } else { size };
            at = self.patch(&at, from, size)?;
            from += size;
        }
        self.put(&at, from).map(drop)
    }

    /// Sends a piece. Ok: where the upload goes on.
    fn patch(&self, at: &Url, from: u64, size: u64) -> Result<Url, Broken> {
        let range = vec![("content-range", format!("{from}-{}", from + size - 1))];
        let response = self.stream(Method::PATCH, at.clone(), range, from, size)?;
        self.repository.location(&response).map_err(Broken::Fail)
    }

    /// Sends what is left from `from` on, and ends the upload.
    fn put(&self, at: &Url, from: u64) -> Result<Response, Broken> {
        let mut url = at.clone();
        let separator = if url.target.contains('?') { '&' } else { '?' };
        url.target = format!("{}{separator}digest={}", url.target, self.blob.digest);
        self.stream(Method::PUT, url, Vec::new(), from, self.blob.size - from)
    }

    /// Sends `size` bytes of the blob from `from` on.
    fn stream(
        &self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
        from: u64,
        size: u64,
    ) -> Result<Response, Broken> {
        let unreadable = Mutex::new(None);
        let open = || -> io::Result<Box<dyn Read + '_>> {
            let mut content = self.source.open(self.blob).map_err(io::Error::other)?;
            io::copy(&mut content.by_ref().take(from), &mut io::sink())?;
            let last = from + size == self.blob.size;
            Ok(Box::new(Counted { content, left: size, last, sent: self.sent, failure: &unreadable }))
        };
        let answer = self.exchange(method, url, headers, Payload::Stream(size, &open));
        let failure = unreadable.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (failure, answer) {
            (Some(reason), _) => {
                let (digest, operation) = (self.blob.digest, "read");
                Err(Broken::Fail(BlobError { operation, digest, reason, fault: BlobFault::Other }.into()))
            }
            (None, Err(broken)) => Err(broken),
            (None, Ok(response)) if response.is_success() => Ok(response),
            (None, Ok(response)) if response.status == 413 && !self.pieces => Err(Broken::TooLarge),
            (None, Ok(response)) => {
                // The upload is gone, or the registry lost count: begin anew.
                let again = is_transient(response.status) || matches!(response.status, 404 | 416);
                let error = response.into_error();
                Err(if again { Broken::Retry(error) } else { Broken::Fail(error.into()) })
            }
        }
    }

    /// One request to an upload address, which is the registry's own as a rule.
    fn exchange(
        &self,
        method: Method,
        url: Url,
        headers: Vec<(&'static str, String)>,
        payload: Payload<'_>,
    ) -> Result<Response, Broken> {
        let http = self.repository.http();
        let own = url.same_origin(&self.repository.url(""));
        let request = Request { method, headers, payload, ..Request::get(url) };
        let once = |request: &Request<'_>| {
            http.send_once(request).map_err(|attempt| match attempt {
                Attempt::Retry(error) => Broken::Retry(error),
                Attempt::Fail(error) => Broken::Fail(error.into()),
            })
        };
        if !own {
            return once(&request);
        }
        let what = self.repository.what_blob(self.blob);
        self.repository.authorized(request, self.repository.scope(), &what, once)
    }
}

/// Reads a blob, says how much, and keeps why it cannot be read: the sender would take that for a broken connection.
struct Counted<'a, R> {
    content: R,
    /// Bytes to send.
    left: u64,
    /// Whether they are the last ones of the blob.
    last: bool,
    sent: &'a dyn Fn(u64),
    failure: &'a Mutex<Option<String>>,
}

impl<R: Read> Counted<'_, R> {
    /// Reads; the last bytes are given only if the store finds that the blob has its digest.
    fn verified(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let n = self.content.read(&mut buf[..most])?;
        self.left -= n as u64;
        if self.last && self.left == 0 && n > 0 {
            io::copy(&mut self.content, &mut io::sink())?;
        }
        Ok(n)
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.verified(buf);
        match &read {
            Ok(n) => (self.sent)(*n as u64),
            Err(e) => {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e.to_string());
            }
        }
        read
    }
}
