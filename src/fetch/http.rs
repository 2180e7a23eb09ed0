//! Files by URL (C-23, C-24).

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::auth::Address;
use super::{FetchError, Remote, shown};
use crate::base::digest::{Hashing, Sha256};
use crate::base::fs;
use crate::base::publish::{self, Draft};
use crate::base::time::Timestamp;
use crate::base::watch::beside;
use crate::registry::{Held, Page, Web};

/// What a file is called whose URL ends in no name.
const UNNAMED: &str = "__unnamed__";

/// A file that is here.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What the URL calls it; safe as a file name (S-9).
    pub name: String,
    /// Its bytes, in the cache.
    pub path: PathBuf,
    /// Their digest.
    pub digest: Sha256,
    /// Their number.
    pub size: u64,
    /// `Last-Modified`, else the epoch.
    pub mtime: Timestamp,
}

/// What the server said of a URL.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Said {
    etag: Option<String>,
    modified: Option<String>,
    /// `modified` was long past then: what has that date now is the same.
    #[serde(default)]
    settled: bool,
    digest: String,
    size: u64,
    /// When it said so.
    #[serde(default)]
    at: String,
}

impl Remote<'_> {
    /// Fetches `url`, unless the server says that it has not changed, or `checksum` names bytes that are here already.
    ///
    /// Ok: the file is whole, has the checksum, and stays in the cache.
    pub fn http(&self, url: &str, checksum: Option<&str>) -> Result<Fetched, FetchError> {
        let bad = |why: String| FetchError::Url { url: shown(url), why };
        let want_http = || bad("want http://HOST/… or https://HOST/…".into());
        let address = Address::parse(url).ok_or_else(want_http)?;
        if address.is_nowhere() {
            return Err(want_http());
        }
        let plain = address.plain();
        let uri: ureq::http::Uri = plain.parse().map_err(|e: ureq::http::uri::InvalidUri| bad(e.to_string()))?;
        let want = checksum.map(str::parse::<Sha256>).transpose().map_err(|e| bad(e.to_string()))?;
        fs::ensure_dir(self.cache)?;
        let said_path = self.cache.join(Sha256::of(url.as_bytes()).hex());
        let said = fs::read_opt(&said_path)?.and_then(|bytes| serde_json::from_slice::<Said>(&bytes).ok());
        let name = name_of(uri.path());
        let here = |said: &Said| {
            let digest = Sha256::from_hex(&said.digest).ok()?;
            let whole = self.has(digest, Some(said.size));
            whole.then(|| self.fetched(&name, digest, said.size, said.modified.as_deref()))
        };
        let known = said.as_ref().and_then(here);
        if let Some(want) = want {
            if let Some(known) = known.as_ref().filter(|known| known.digest == want) {
                return Ok(known.clone());
            }
            if let Ok(meta) = std::fs::metadata(self.content(want)) {
                return Ok(self.fetched(&name, want, meta.len(), None));
            }
        }
        let mismatch = |want: Sha256, got: Sha256| {
            let (want, got) = (format!("sha256:{}", want.hex()), format!("sha256:{}", got.hex()));
            FetchError::Checksum { url: shown(url), want, got }
        };
        if let (None, Some(known), Some(said)) = (want, &known, &said)
            && self.is_recent(&said.at)
        {
            return Ok(known.clone());
        }
        let authorization = match address.user() {
            Some(header) => Some(header),
            None => self.secrets.for_http(&address)?,
        };
        let at = Timestamp::now().to_string();
        let web = Web::new(self.proxies.clone(), self.timing.clone());
        let held = match (&known, &said) {
            (Some(_), Some(Said { etag: Some(etag), .. })) => Held::Tag(etag),
            (Some(_), Some(Said { modified: Some(date), settled: true, .. })) => Held::Since(date),
            _ => Held::Nothing,
        };
        let get = || self.get(&web, url, &plain, held, authorization.as_deref());
        let got = match self.stop {
            Some(stop) => {
                beside(stop, None, |_| web.cancel(), get).map_err(|e| fs::FsError::new("watch", self.cache, e))?
            }
            None => get(),
        };
        let (page, draft, digest, size) = match got? {
            Got::File(page, draft, digest, size) => (page, draft, digest, size),
            Got::Same => {
                let known = known.expect("what is held is known");
                // What was wanted and is known was taken above.
                if let Some(want) = want {
                    return Err(mismatch(want, known.digest));
                }
                self.remember(&said_path, &Said { at, ..said.expect("it is known") })?;
                return Ok(known);
            }
        };
        if let Some(want) = want.filter(|want| *want != digest) {
            return Err(mismatch(want, digest));
        }
        draft.publish(&self.content(digest), 0o600)?;
        let Page { etag, modified, date, .. } = *page;
        let settled = is_settled(modified.as_deref(), date.as_deref());
        let fetched = self.fetched(&name, digest, size, modified.as_deref());
        self.remember(&said_path, &Said { etag, modified, settled, digest: digest.hex(), size, at })?;
        Ok(fetched)
    }

    fn remember(&self, path: &Path, said: &Said) -> Result<(), fs::FsError> {
        publish::atomic(path, &serde_json::to_vec(said).expect("strings and numbers"), 0o600)
    }

    /// Gets `plain`, trying again while that may help.
    fn get(&self, web: &Web, url: &str, plain: &str, held: Held<'_>, who: Option<&str>) -> Result<Got, FetchError> {
        let mut attempt = 1;
        loop {
            let mut page = web.get(plain, held, who.map(str::to_owned))?;
            if page.status == 304 {
                return Ok(Got::Same);
            }
            let body = std::mem::replace(&mut page.body, Box::new(io::empty()));
            match self.download(url, page.length, body) {
                Ok((draft, digest, size)) => return Ok(Got::File(Box::new(page), draft, digest, size)),
                Err(Broken::Transfer(why)) => {
                    attempt += 1;
                    if !web.pause_before(attempt) {
                        return Err(FetchError::Network { url: shown(url), why });
                    }
                }
                Err(Broken::Here(e)) => return Err(e),
            }
        }
    }

    fn content(&self, digest: Sha256) -> PathBuf {
        self.cache.join(format!("sha256-{}", digest.hex()))
    }

    fn has(&self, digest: Sha256, size: Option<u64>) -> bool {
        std::fs::metadata(self.content(digest)).is_ok_and(|meta| size.is_none_or(|size| meta.len() == size))
    }

    fn fetched(&self, name: &str, digest: Sha256, size: u64, modified: Option<&str>) -> Fetched {
        let mtime = modified.and_then(parse_date).unwrap_or_default();
        Fetched { name: name.to_owned(), path: self.content(digest), digest, size, mtime }
    }

    fn download(&self, url: &str, length: Option<u64>, body: impl Read) -> Result<(Draft, Sha256, u64), Broken> {
        let here = |e: fs::FsError| Broken::Here(e.into());
        let too_large = || Broken::Here(FetchError::TooLarge { url: shown(url), max: self.max_bytes });
        // Refused before it is transferred, where the server is honest.
        if length.is_some_and(|length| length > self.max_bytes) {
            return Err(too_large());
        }
        let mut body = body.take(self.max_bytes.saturating_add(1));
        let mut out = Hashing::new(Draft::new(self.cache).map_err(here)?);
        let mut buffer = vec![0; 128 * 1024];
        let mut came = 0;
        loop {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    came += n;
                    out.write_all(&buffer[..n]).map_err(|e| here(fs::FsError::new("write", self.cache, e)))?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Broken::Transfer(format!("the transfer broke after {came} bytes: {e}"))),
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
            _ => Ok((draft, digest, size)),
        }
    }
}

/// What a server gave.
enum Got {
    /// A file, and what was said of it.
    File(Box<Page>, Draft, Sha256, u64),
    /// What is held is what it has.
    Same,
}

/// Why there is no whole file.
enum Broken {
    /// Another attempt may succeed.
    Transfer(String),
    /// It will not.
    Here(FetchError),
}

/// A date alone tells two contents apart only if it is older than what could still change within its second, by the
/// server's own clock.
fn is_settled(modified: Option<&str>, date: Option<&str>) -> bool {
    let (Some(modified), Some(date)) = (modified.and_then(parse_date), date.and_then(parse_date)) else { return false };
    date.secs.saturating_sub(modified.secs) >= 60
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_secs(time.as_second()))
}

/// The last element of a URL's path, decoded; a name that is none, or cannot be a file's, is replaced (S-9).
fn name_of(path: &str) -> String {
    let decoded = decode(path);
    let decoded = String::from_utf8_lossy(&decoded);
    let name = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let usable = !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    if usable { name.to_owned() } else { UNNAMED.to_owned() }
}

/// Without percent signs, where they stand for bytes.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut bytes = text.as_bytes();
    while let Some((&b, rest)) = bytes.split_first() {
        let hex = |at: usize| (bytes.get(at).copied()? as char).to_digit(16);
        match (b, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                bytes = &bytes[3..];
            }
            _ => {
                decoded.push(b);
                bytes = rest;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_url_and_are_harmless() {
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
    fn dates_of_servers_are_read() {
        let at = parse_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        assert_eq!(at, Timestamp::from_secs(1_445_412_480));
        assert_eq!(parse_date("yesterday"), None);
        let (early, late) = ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:29:00 GMT");
        assert!(is_settled(Some(early), Some(late)) && !is_settled(Some(late), Some(late)));
        assert!(!is_settled(Some(early), None) && !is_settled(None, Some(late)));
    }
}
