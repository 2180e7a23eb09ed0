//! Files by URL (C-23, C-24).

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::digest::{Hashing, Sha256};
use crate::base::fs::{self, FsError};
use crate::base::publish::{self, Draft};
use crate::base::sealed;
use crate::base::time::Timestamp;
use crate::base::url::{percent_decode, redacted};
use crate::base::watch::beside;
use crate::transport::{Authorities, HttpClient, HttpError, Request, Response, Url};

use super::address::Address;
use super::error::FetchError;
use super::remote::Remote;

/// The name of a file whose URL ends in no usable name.
const UNNAMED: &str = "__unnamed__";

/// A file in the cache.
#[derive(Clone, Debug)]
pub(crate) struct FetchedFile {
    /// The last element of the URL's path; safe as a file name (S-9).
    pub name: String,
    /// Where the file is.
    pub path: PathBuf,
    /// Its digest.
    pub digest: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// `Last-Modified`, else the epoch.
    pub mtime: Timestamp,
}

/// A file to fetch.
struct Wanted<'u> {
    /// As given, with credentials.
    text: &'u str,
    address: Address<'u>,
    url: Url,
    name: String,
    checksum: Option<Sha256>,
}

/// What a server said about a URL.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    etag: Option<String>,
    modified: Option<String>,
    /// `modified` is a strong validator: content with the same date is the same.
    #[serde(default, rename = "settled")]
    is_strong: bool,
    digest: String,
    size: u64,
    /// When the server was asked.
    #[serde(default, rename = "at")]
    asked: String,
}

/// A file that the server sent, not published yet.
struct Download {
    draft: Draft,
    digest: Sha256,
    size: u64,
    etag: Option<String>,
    modified: Option<String>,
    date: Option<String>,
}

impl Remote<'_> {
    /// Fetches `url`, unless the server answers that it has not changed, or the cache has a file with `checksum`.
    ///
    /// Ok: the file is complete, has the checksum, and stays in the cache.
    pub(crate) fn http(&self, url: &str, checksum: Option<&str>) -> Result<FetchedFile, FetchError> {
        let wanted = Wanted::parse(url, checksum)?;
        fs::ensure_dir(self.cache)?;
        let record_path = self.cache.join(Sha256::of(url.as_bytes()).hex());
        let known = self.known(&record_path, &wanted.name)?;
        if let Some(file) = self.cached(&wanted, known.as_ref()) {
            return Ok(file);
        }
        let asked = Timestamp::now().to_string();
        let request = self.request(&wanted, known.as_ref().map(|(record, _)| record))?;
        let download = self.transfer(&wanted, &request)?;
        let digest = match (&download, &known) {
            (Some(download), _) => Some(download.digest),
            (None, known) => known.as_ref().map(|(_, file)| file.digest),
        };
        if let (Some(want), Some(got)) = (wanted.checksum, digest)
            && want != got
        {
            let (want, got) = (format!("sha256:{}", want.hex()), format!("sha256:{}", got.hex()));
            return Err(FetchError::Checksum { url: redacted(url), want, got });
        }
        let (record, file) = match (download, known) {
            (Some(download), _) => self.keep(&wanted, download, asked)?,
            (None, Some((record, file))) => (Record { asked, ..record }, file),
            (None, None) => unreachable!("only a conditional request is answered with 304"),
        };
        let record = serde_json::to_vec(&record).expect("strings and numbers");
        publish::atomic(&record_path, &sealed::seal(record), 0o600)?;
        Ok(file)
    }

    /// The file that the URL named last time, if the cache still has it.
    fn known(&self, record: &Path, name: &str) -> Result<Option<(Record, FetchedFile)>, FsError> {
        let record = fs::read_opt(record)?.and_then(sealed::open);
        let record = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        Ok(record.and_then(|record| {
            let digest = Sha256::from_hex(&record.digest).ok()?;
            let is_whole = std::fs::metadata(self.content(digest)).is_ok_and(|meta| meta.len() == record.size);
            let file = is_whole.then(|| self.file(name, digest, record.size, record.modified.as_deref()))?;
            Some((record, file))
        }))
    }

    /// The file, if the cache has it and the server need not be asked.
    fn cached(&self, wanted: &Wanted<'_>, known: Option<&(Record, FetchedFile)>) -> Option<FetchedFile> {
        match (wanted.checksum, known) {
            (Some(want), Some((_, file))) if file.digest == want => Some(file.clone()),
            (Some(want), _) => {
                let meta = std::fs::metadata(self.content(want)).ok()?;
                Some(self.file(&wanted.name, want, meta.len(), None))
            }
            (None, Some((record, file))) if self.is_recent(&record.asked) => Some(file.clone()),
            (None, _) => None,
        }
    }

    /// A request for the file, unless it is still the one that `known` describes.
    fn request(&self, wanted: &Wanted<'_>, known: Option<&Record>) -> Result<Request<'static>, FetchError> {
        let mut request = Request::get(wanted.url.clone());
        request.authorization = match wanted.address.authorization() {
            Some(header) => Some(header),
            None => self.secrets.for_http(&wanted.address)?,
        };
        match known {
            Some(Record { etag: Some(etag), .. }) => request.headers.push(("if-none-match", etag.clone())),
            Some(Record { modified: Some(date), is_strong: true, .. }) => {
                request.headers.push(("if-modified-since", date.clone()));
            }
            _ => {}
        }
        Ok(request)
    }

    /// Sends the request, until it is cancelled. `None`: the file has not changed.
    fn transfer(&self, wanted: &Wanted<'_>, request: &Request) -> Result<Option<Download>, FetchError> {
        let common = self.authorities.map(Authorities::certificates).unwrap_or_default();
        let client = HttpClient::new(self.proxies.clone(), Vec::new(), self.timing.clone()).with_common(common);
        let transfer = || self.receive(&client, wanted, request);
        match self.stop {
            Some(stop) => {
                beside(stop, None, |_| client.cancel(), transfer).map_err(|e| FsError::new("watch", self.cache, e))?
            }
            None => transfer(),
        }
    }

    /// Receives the file, and requests it again after a broken transfer.
    fn receive(
        &self,
        client: &HttpClient,
        wanted: &Wanted<'_>,
        request: &Request,
    ) -> Result<Option<Download>, FetchError> {
        let is_conditional = !request.headers.is_empty();
        let mut attempts = 1;
        loop {
            let response = client.send(request)?;
            match response.status {
                200 => {}
                304 if is_conditional => return Ok(None),
                _ => return Err(response.into_error().into()),
            }
            let reason = match self.download(wanted, response) {
                Ok(download) => return Ok(Some(download)),
                Err(Broken::Local(error)) => return Err(error),
                Err(Broken::Transfer(reason)) => reason,
            };
            match client.timing().pause_before(attempts + 1, None) {
                Some(pause) => client.pause(pause)?,
                None => {
                    let url = redacted(wanted.text);
                    return Err(HttpError::Network { url, reason, attempts }.into());
                }
            }
            attempts += 1;
        }
    }

    /// Writes the body of a response to a draft in the cache.
    fn download(&self, wanted: &Wanted<'_>, response: Response) -> Result<Download, Broken> {
        let local = |e: FsError| Broken::Local(e.into());
        let too_large = || Broken::Local(FetchError::TooLarge { url: redacted(wanted.text), max: self.max_bytes });
        let header = |name: &str| response.header(name).map(str::to_owned);
        let [etag, modified, date, length] = ["etag", "last-modified", "date", "content-length"].map(header);
        let length = length.and_then(|length| length.parse::<u64>().ok());
        // Refuse before the transfer where the server gives the length.
        if length.is_some_and(|length| length > self.max_bytes) {
            return Err(too_large());
        }
        let mut body = response.into_reader().take(self.max_bytes.saturating_add(1));
        let mut out = Hashing::new(Draft::new(self.cache).map_err(local)?);
        let mut buffer = vec![0; 128 * 1024];
        let mut received = 0;
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    received += n;
                    out.write_all(&buffer[..n]).map_err(|e| local(FsError::new("write", self.cache, e)))?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Broken::Transfer(format!("the transfer broke after {received} bytes: {e}"))),
            }
        }
        let (draft, digest, size) = out.finish();
        if size > self.max_bytes {
            return Err(too_large());
        }
        match length {
            Some(length) if length != size => {
                Err(Broken::Transfer(format!("the transfer ended after {size} of {length} bytes")))
            }
            _ => Ok(Download { draft, digest, size, etag, modified, date }),
        }
    }

    /// Publishes a download.
    fn keep(&self, wanted: &Wanted<'_>, download: Download, asked: String) -> Result<(Record, FetchedFile), FsError> {
        let Download { draft, digest, size, etag, modified, date } = download;
        draft.publish(&self.content(digest), 0o600)?;
        let is_strong = is_strong(modified.as_deref(), date.as_deref());
        let file = self.file(&wanted.name, digest, size, modified.as_deref());
        Ok((Record { etag, modified, is_strong, digest: digest.hex(), size, asked }, file))
    }

    fn content(&self, digest: Sha256) -> PathBuf {
        self.cache.join(format!("sha256-{}", digest.hex()))
    }

    fn file(&self, name: &str, digest: Sha256, size: u64, modified: Option<&str>) -> FetchedFile {
        let mtime = modified.and_then(parse_date).unwrap_or_default();
        FetchedFile { name: name.to_owned(), path: self.content(digest), digest, size, mtime }
    }
}

impl<'u> Wanted<'u> {
    fn parse(text: &'u str, checksum: Option<&str>) -> Result<Self, FetchError> {
        let bad = |why: String| FetchError::Url { url: redacted(text), why };
        let want_http = || bad("want http://HOST/… or https://HOST/…".into());
        let address = Address::parse(text).filter(|address| !address.lacks_host()).ok_or_else(want_http)?;
        let url = Url::parse(&address.without_user()).ok_or_else(want_http)?;
        let checksum = checksum.map(str::parse::<Sha256>).transpose().map_err(|e| bad(e.to_string()))?;
        let name = name_of(url.target.split('?').next().unwrap_or_default());
        Ok(Self { text, address, url, name, checksum })
    }
}

/// Why a response did not become a file.
enum Broken {
    /// Another attempt may succeed.
    Transfer(String),
    /// Another attempt fails the same way.
    Local(FetchError),
}

/// Whether `Last-Modified` is a strong validator: the content may still change within the second it names, unless the
/// server's own clock is well past that (RFC 9110 §8.8.2.2).
fn is_strong(modified: Option<&str>, date: Option<&str>) -> bool {
    let (Some(modified), Some(date)) = (modified.and_then(parse_date), date.and_then(parse_date)) else { return false };
    date.secs.saturating_sub(modified.secs) >= 60
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_secs(time.as_second()))
}

/// The last element of a URL's path, decoded, or [`UNNAMED`] if it cannot be a file name (S-9).
fn name_of(path: &str) -> String {
    let decoded = percent_decode(path);
    let decoded = String::from_utf8_lossy(&decoded);
    let name = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let usable = !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    if usable { name.to_owned() } else { UNNAMED.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_comes_from_the_url_and_is_safe() {
        // C-23, S-9
        for (path, want) in [
            ("/a/b.tar.gz", "b.tar.gz"),
            ("/a/", "a"),
            ("/", UNNAMED),
            ("", UNNAMED),
            ("/a/%2e%2e", UNNAMED),
            ("/x%2f..%2fetc%2fpasswd", "passwd"),
            ("/a%00b", UNNAMED),
            ("/with%20space", "with space"),
            ("/100%", "100%"),
        ] {
            assert_eq!(name_of(path), want, "{path}");
        }
        assert_eq!(name_of(&format!("/{}", "x".repeat(256))), UNNAMED);
    }

    #[test]
    fn http_dates_are_parsed_and_compared() {
        let at = parse_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        assert_eq!(at, Timestamp::from_secs(1_445_412_480));
        assert_eq!(parse_date("yesterday"), None);
        let (early, late) = ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:29:00 GMT");
        assert!(is_strong(Some(early), Some(late)) && !is_strong(Some(late), Some(late)));
        assert!(!is_strong(Some(early), None) && !is_strong(None, Some(late)));
    }
}
