//! A blob being fetched: a reader that survives broken connections.
//!
//! **Holds.** The bytes come in order and each once, however often the connection breaks (S-61): the rest is asked for
//! with `Range`. Nothing is verified here; the sink the bytes go to does, over the whole.

use std::io::{self, Read};

use crate::oci::descriptor::Descriptor;

use super::Error;
use super::client::Repository;
use super::http::{Answer, io_reason};
use super::pace::is_slow;

/// However much progress each connection makes, more than these are not for one blob.
const MAX_CONNECTIONS: u32 = 1000;

pub(super) struct Download<'a> {
    repository: &'a Repository<'a>,
    blob: Descriptor,
    body: Option<Box<dyn Read + Send>>,
    at: u64,
    etag: Option<String>,
    /// Breaks since the last byte of progress.
    breaks: u32,
    connections: u32,
    /// How often it came too slowly.
    slow: u32,
    /// What ended it, for a caller that wants more than an `io::Error`.
    failure: Option<Error>,
}

impl<'a> Download<'a> {
    /// Starts it. Ok: the registry has the blob.
    pub(super) fn start(repository: &'a Repository<'a>, blob: &Descriptor) -> Result<Self, Error> {
        let mut download = Self {
            repository,
            blob: blob.clone(),
            body: None,
            at: 0,
            etag: None,
            breaks: 0,
            connections: 0,
            slow: 0,
            failure: None,
        };
        download.connect()?;
        Ok(download)
    }

    pub(super) fn into_failure(self) -> Option<Error> {
        self.failure
    }

    fn connect(&mut self) -> Result<(), Error> {
        self.connections += 1;
        let answer = self.repository.get_blob(&self.blob, self.at, self.etag.as_deref())?;
        let length = answer.header("content-length").and_then(|n| n.parse::<u64>().ok());
        let protocol = |answer: &Answer, why: String| Error::Protocol { url: answer.url.shown(), why };
        let skip = match answer.status {
            206 => {
                let start = answer.header("content-range").and_then(range_start);
                if start != Some(self.at) {
                    return Err(protocol(&answer, format!("asked for bytes from {}, answered with others", self.at)));
                }
                0
            }
            _ => {
                // The whole of it, even if the rest was asked for: read past what we have.
                if let Some(length) = length.filter(|n| *n != self.blob.size) {
                    let why = format!("has {length} bytes, its manifest says {}", self.blob.size);
                    return Err(protocol(&answer, why));
                }
                self.at
            }
        };
        self.etag = answer.header("etag").map(str::to_owned);
        let mut body = answer.into_reader();
        let skipped = io::copy(&mut body.by_ref().take(skip), &mut io::sink());
        // A break while skipping shows as a short read of what follows.
        self.body = matches!(skipped, Ok(n) if n == skip).then_some(body);
        Ok(())
    }

    /// Connects again after a break, or gives up with the reason for the break.
    fn resume(&mut self, reason: String) -> Result<(), Error> {
        self.body = None;
        self.breaks += 1;
        let http = self.repository.http();
        let pause = http
            .timing()
            .pause_before(self.breaks + 1, None)
            .filter(|_| self.connections < MAX_CONNECTIONS && self.slow < http.timing().attempts);
        let Some(pause) = pause else {
            let url = self.repository.blob_url(&self.blob).shown();
            return Err(Error::Network { url, reason, attempts: self.connections });
        };
        http.pause(pause)?;
        self.connect()
    }

    fn fail(&mut self, error: Error) -> io::Error {
        let text = io::Error::other(error.to_string());
        self.failure = Some(error);
        text
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let broken = match &mut self.body {
                None => "connection broke while resuming".to_owned(),
                Some(body) => match body.read(buf) {
                    Ok(0) if buf.is_empty() || self.at >= self.blob.size => return Ok(0),
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
            if self.at >= self.blob.size {
                // Everything is here; how the connection ended does not matter.
                return Ok(0);
            }
            if let Err(error) = self.resume(broken) {
                return Err(self.fail(error));
            }
        }
    }
}

/// `bytes 5-9/10` → 5
fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
