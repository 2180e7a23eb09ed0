//! A download that continues after a broken connection.
//!
//! **Holds.** Every byte is delivered once and in order, however often the connection breaks (S-61): the rest is
//! requested with `Range`.
//! **Not here.** Verification: the sink verifies the whole blob.

use std::io::{self, Read};
use std::ops::Range;

use crate::oci::descriptor::Descriptor;
use crate::transport::{HttpError, Response, io_reason, is_slow};

use super::RegistryError;
use super::repository::Repository;

/// The most connections for one blob, however much progress each of them makes.
const MAX_CONNECTIONS: u32 = 1000;

/// Reads a blob, unverified.
pub(super) struct Download<'a> {
    repository: Repository<'a>,
    blob: Descriptor,
    body: Option<Box<dyn Read + Send>>,
    /// The offset of the next byte.
    at: u64,
    /// Where the wanted range ends.
    end: u64,
    /// The server sends the range that was requested, not the whole blob.
    part: bool,
    etag: Option<String>,
    /// Breaks since the last byte.
    breaks: u32,
    connections: u32,
    /// Connections that were too slow.
    slow: u32,
    /// What ended the download; an `io::Error` cannot carry it.
    failure: Option<RegistryError>,
}

impl<'a> Download<'a> {
    /// Starts a download. Ok: the registry has the blob.
    pub(super) fn start(repository: &Repository<'a>, blob: &Descriptor) -> Result<Self, RegistryError> {
        Self::start_part(repository, blob, 0..blob.size)
    }

    /// Starts a download of some of a blob's bytes. Ok: the registry has the blob.
    pub(super) fn start_part(
        repository: &Repository<'a>,
        blob: &Descriptor,
        range: Range<u64>,
    ) -> Result<Self, RegistryError> {
        let mut download = Self {
            repository: repository.clone(),
            blob: blob.clone(),
            body: None,
            at: range.start,
            end: range.end,
            part: false,
            etag: None,
            breaks: 0,
            connections: 0,
            slow: 0,
            failure: None,
        };
        download.connect()?;
        Ok(download)
    }

    /// Whether the server sends the range that was requested, not the whole blob.
    pub(super) fn is_part(&self) -> bool {
        self.part
    }

    /// Reads on to the end of the blob.
    pub(super) fn whole(self) -> Self {
        Self { end: self.blob.size, ..self }
    }

    pub(super) fn into_failure(self) -> Option<RegistryError> {
        self.failure
    }

    fn connect(&mut self) -> Result<(), RegistryError> {
        self.connections += 1;
        let response = self.repository.get_blob(&self.blob, self.at..self.end, self.etag.as_deref())?;
        let length = response.header("content-length").and_then(|n| n.parse::<u64>().ok());
        let protocol = |response: &Response, why: String| {
            RegistryError::from(HttpError::Protocol { url: response.url.without_query(), why })
        };
        self.part = response.status == 206;
        let skip = match self.part {
            true => {
                let start = response.header("content-range").and_then(range_start);
                if start != Some(self.at) {
                    return Err(protocol(&response, format!("asked for bytes from {}, got others", self.at)));
                }
                0
            }
            false => {
                // The server sends the whole blob though the rest was requested: skip what was delivered.
                if let Some(length) = length.filter(|n| *n != self.blob.size) {
                    let why = format!("has {length} bytes, its manifest says {}", self.blob.size);
                    return Err(protocol(&response, why));
                }
                self.at
            }
        };
        self.etag = response.header("etag").map(str::to_owned);
        let mut body = response.into_reader();
        let skipped = io::copy(&mut body.by_ref().take(skip), &mut io::sink());
        // A break while skipping is handled by the next read.
        self.body = matches!(skipped, Ok(n) if n == skip).then_some(body);
        Ok(())
    }

    /// Connects again after a break, or fails with the reason for the break.
    fn resume(&mut self, reason: String) -> Result<(), RegistryError> {
        self.body = None;
        self.breaks += 1;
        let http = self.repository.http();
        let pause = http
            .timing()
            .pause_before(self.breaks + 1, None)
            .filter(|_| self.connections < MAX_CONNECTIONS && self.slow < http.timing().attempts);
        let Some(pause) = pause else {
            let url = self.repository.blob_url(&self.blob).without_query();
            return Err(HttpError::Network { url, reason, attempts: self.connections }.into());
        };
        http.pause(pause)?;
        self.connect()
    }

    fn fail(&mut self, error: RegistryError) -> io::Error {
        let text = io::Error::other(error.to_string());
        self.failure = Some(error);
        text
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.end < self.blob.size && self.at >= self.end {
                // Only a body that was read to its end gives its connection back.
                if let Some(mut body) = self.body.take() {
                    let _ = body.read(&mut [0]);
                }
                return Ok(0);
            }
            // What follows a part is not read; what follows a blob is the sink's error.
            let most = if self.end < self.blob.size { (self.end - self.at) as usize } else { buf.len() };
            let wanted = buf.len().min(most);
            let broken = match &mut self.body {
                None => "connection broke while resuming".to_owned(),
                Some(body) => match body.read(&mut buf[..wanted]) {
                    Ok(0) if buf.is_empty() || self.at >= self.end => return Ok(0),
                    Ok(0) => format!("connection closed after {} of {} bytes", self.at, self.blob.size),
                    Ok(n) => {
                        self.at += n as u64;
                        self.breaks = 0;
                        return Ok(n);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => {
                        self.slow += u32::from(is_slow(&e));
                        io_reason(&e)
                    }
                },
            };
            if self.at >= self.end {
                // All is there; how the connection ended does not matter.
                return Ok(0);
            }
            if let Err(error) = self.resume(broken) {
                return Err(self.fail(error));
            }
        }
    }
}

/// The first offset of a `Content-Range`: `bytes 5-9/10` → 5.
fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
