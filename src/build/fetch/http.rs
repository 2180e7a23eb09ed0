//! Files by URL (C-23, C-24).

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, Request, Response};
use ureq::{Agent, Body};

use super::{FetchError, Remote, shown};
use crate::base::digest::{Hashing, Sha256};
use crate::base::fs;
use crate::base::publish::{self, Draft};
use crate::base::time::Timestamp;

const MAX_REDIRECTS: u32 = 10;
const ATTEMPTS: u32 = 3;
/// A server that says nothing for so long has died.
const STALL: Duration = Duration::from_secs(30);
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
    digest: String,
    size: u64,
}

impl Remote<'_> {
    /// Fetches `url`, unless the server says that it has not changed, or `checksum` names bytes that are here already.
    ///
    /// Ok: the file is whole, has the checksum, and stays in the cache.
    pub fn http(&self, url: &str, checksum: Option<&str>) -> Result<Fetched, FetchError> {
        let bad = |why: String| FetchError::Url { url: shown(url), why };
        let uri: ureq::http::Uri = url.parse().map_err(|e: ureq::http::uri::InvalidUri| bad(e.to_string()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(bad("want http://HOST/… or https://HOST/…".into()));
        }
        let want = checksum.map(str::parse::<Sha256>).transpose().map_err(|e| bad(e.to_string()))?;
        fs::ensure_dir(self.cache)?;
        let said_path = self.cache.join(Sha256::of(url.as_bytes()).hex());
        let said = fs::read_opt(&said_path)?.and_then(|bytes| serde_json::from_slice::<Said>(&bytes).ok());
        let name = name_of(uri.path());
        let here = |said: &Said| {
            let digest = Sha256::from_hex(&said.digest).ok()?;
            let path = self.content(digest);
            let mtime = said.modified.as_deref().and_then(parse_date).unwrap_or_default();
            let whole = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == said.size);
            whole.then(|| Fetched { name: name.clone(), path, digest, size: said.size, mtime })
        };
        let known = said.as_ref().and_then(here);
        if let Some(want) = want {
            if let Some(known) = known.as_ref().filter(|known| known.digest == want) {
                return Ok(known.clone());
            }
            if let Ok(meta) = std::fs::metadata(self.content(want)) {
                let (path, mtime) = (self.content(want), Timestamp::EPOCH);
                return Ok(Fetched { name, path, digest: want, size: meta.len(), mtime });
            }
        }
        let etag = known.as_ref().and_then(|_| said.as_ref()?.etag.clone());
        let response = self.get(url, etag.as_deref())?;
        if response.status() == 304
            && let Some(known) = known
        {
            return Ok(known);
        }
        let header = |name: &str| text(response.headers(), name);
        let (etag, modified) = (header("etag"), header("last-modified"));
        let (draft, digest, size) = self.download(url, response)?;
        if let Some(want) = want.filter(|want| *want != digest) {
            return Err(FetchError::Checksum { url: shown(url), want: want.to_string(), got: digest.to_string() });
        }
        let path = self.content(digest);
        draft.publish(&path, 0o600)?;
        let said = Said { etag, modified, digest: digest.hex(), size };
        let bytes = serde_json::to_vec(&said).unwrap_or_default();
        publish::atomic(&said_path, &bytes, 0o600)?;
        let mtime = said.modified.as_deref().and_then(parse_date).unwrap_or_default();
        Ok(Fetched { name, path, digest, size, mtime })
    }

    fn content(&self, digest: Sha256) -> PathBuf {
        self.cache.join(format!("sha256-{}", digest.hex()))
    }

    fn get(&self, url: &str, etag: Option<&str>) -> Result<Response<Body>, FetchError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
            // The digest is of the file, not of a compressed transfer of it.
            .accept_encoding("identity")
            .timeout_connect(Some(STALL))
            .timeout_recv_response(Some(STALL))
            .timeout_per_read(Some(STALL))
            .build();
        let agent = config.new_agent();
        let mut attempt = 1;
        loop {
            let mut request = Request::get(url);
            if let Some(etag) = etag {
                request = request.header("if-none-match", etag);
            }
            let request = request.body(()).map_err(|e| FetchError::Url { url: shown(url), why: e.to_string() })?;
            let last = attempt == ATTEMPTS;
            match agent.run(request) {
                Ok(response) => match response.status().as_u16() {
                    200 => return Ok(response),
                    304 if etag.is_some() => return Ok(response),
                    429 | 500..=599 if !last => {}
                    status => return Err(FetchError::Status { url: shown(url), status }),
                },
                Err(ureq::Error::Io(e)) if !last && e.kind() != io::ErrorKind::ConnectionRefused => {}
                Err(ureq::Error::Timeout(_)) if !last => {}
                Err(e) => return Err(FetchError::Network { url: shown(url), why: e.to_string() }),
            }
            std::thread::sleep(Duration::from_millis(200) * attempt);
            attempt += 1;
        }
    }

    fn download(&self, url: &str, response: Response<Body>) -> Result<(Draft, Sha256, u64), FetchError> {
        let network = |why: String| FetchError::Network { url: shown(url), why };
        let mut body = response.into_body().into_reader().take(self.max_bytes + 1);
        let mut out = Hashing::new(Draft::new(self.cache)?);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let n = body.read(&mut buffer).map_err(|e| network(e.to_string()))?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n]).map_err(|e| fs::FsError::new("write", self.cache, e))?;
        }
        let (draft, digest, size) = out.finish();
        if size > self.max_bytes {
            return Err(network(format!("larger than {} bytes", self.max_bytes)));
        }
        Ok((draft, digest, size))
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn parse_date(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_secs(time.as_second()))
}

/// The last element of a URL's path, decoded; a name that is none, or cannot be a file's, is replaced (S-9).
fn name_of(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut bytes = path.as_bytes();
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
    let decoded = String::from_utf8_lossy(&decoded);
    let name = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let usable = !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    if usable { name.to_owned() } else { UNNAMED.to_owned() }
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
    }
}
