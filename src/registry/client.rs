//! Requests to one repository.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ureq::http::Method;

use crate::base::digest::{BlobDigest, Sha256};
use crate::base::sparse::SparseRead;
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::MAX_DOCUMENT;
use crate::oci::reference::{DEFAULT_REGISTRY, Reference};

use super::Error;
use super::auth::{Auth, Party};
use super::credentials::Credentials;
use super::document::{self, ACCEPT};
use super::download::Download;
use super::http::{Answer, Ask, Http, Proxies};
use super::retry::Timing;
use super::url::{Url, is_loopback};

/// Docker Hub's API is not at its name.
const HUB_HOST: &str = "registry-1.docker.io";

/// Everything the environment and the command line have to say about registries.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who we are.
    pub credentials: Credentials,
    /// Registries (`host` or `host:port`) that need not prove who they are: certificates are not checked, and plain
    /// HTTP is spoken if there is no TLS. Loopback ones are insecure without being listed (S-60).
    pub insecure: Vec<String>,
    /// Hosts that are asked first, each for the images of one registry (named as in references: `docker.io`).
    pub mirrors: Vec<(String, String)>,
    /// Proxies.
    pub proxies: Proxies,
    /// Patience.
    pub timing: Timing,
}

/// A client for all registries; shared by threads.
pub struct Client {
    http: Http,
    auth: Auth,
    /// Insecure hosts that turned out to speak TLS, or not.
    speaks_tls: Mutex<BTreeMap<String, bool>>,
    mirrors: Vec<(String, String)>,
    /// What mirrors failed to give, to be said.
    fallbacks: Mutex<Vec<String>>,
    /// What is wrong with credential files, to be said.
    problems: Mutex<Vec<String>>,
}

/// One repository on one registry.
pub struct Repository<'a> {
    client: &'a Client,
    /// Host and port of the API.
    host: String,
    party: Party,
}

impl Client {
    /// A client; nothing is sent before something is asked for.
    pub fn new(options: Options) -> Self {
        let problems = options.credentials.problems().map(|(origin, why)| format!("{origin}: {why}")).collect();
        Self {
            http: Http::new(options.proxies, options.insecure, options.timing),
            auth: Auth::new(options.credentials),
            speaks_tls: Mutex::new(BTreeMap::new()),
            mirrors: options.mirrors,
            fallbacks: Mutex::default(),
            problems: Mutex::new(problems),
        }
    }

    /// Which credential files cannot be used since this was last asked, and why, in words.
    pub fn credential_problems(&self) -> Vec<String> {
        std::mem::take(&mut self.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which mirrors did not give what they were asked for since this was last asked, in words.
    pub fn fallbacks(&self) -> Vec<String> {
        std::mem::take(&mut self.fallbacks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks `name`'s mirrors in order and then its own registry, until one gives an answer. What a mirror serves is
    /// verified like anything else (S-50); that one fails is kept to be said, and costs nothing but time.
    pub(super) fn first<'a, T>(
        &'a self,
        name: &Reference,
        ask: impl Fn(&Repository<'a>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for (_, host) in self.mirrors.iter().filter(|(registry, _)| *registry == name.registry) {
            match ask(&self.repository_at(host, name)) {
                Ok(answer) => return Ok(answer),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => {
                    let text = format!("the mirror {host} was of no use: {error}");
                    let mut said = self.fallbacks.lock().unwrap_or_else(PoisonError::into_inner);
                    if !said.contains(&text) {
                        said.push(text);
                    }
                }
            }
        }
        ask(&self.repository(name))
    }

    /// The same repository on another host, which has credentials of its own.
    fn repository_at(&self, host: &str, name: &Reference) -> Repository<'_> {
        let party = Party { registry: host.to_owned(), repository: name.repository.clone(), actions: "pull" };
        Repository { client: self, host: host.to_ascii_lowercase(), party }
    }

    /// Takes requests again after [`Client::cancel`].
    pub fn resume(&self) {
        self.http.resume();
    }

    /// Ends running requests and refuses new ones: for Ctrl-C.
    pub fn cancel(&self) {
        self.http.cancel();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.http.check_cancelled().is_err()
    }

    /// The repository a reference names.
    pub fn repository(&self, reference: &Reference) -> Repository<'_> {
        let host = match reference.registry.as_str() {
            DEFAULT_REGISTRY => HUB_HOST.to_owned(),
            other => other.to_ascii_lowercase(),
        };
        let party =
            Party { registry: reference.registry.clone(), repository: reference.repository.clone(), actions: "pull" };
        Repository { client: self, host, party }
    }

    /// How a host is spoken to: TLS always, except plain HTTP first for loopback.
    fn tls(&self, host: &str) -> bool {
        let known = self.speaks_tls.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        known.unwrap_or(!is_loopback(host))
    }
}

impl Repository<'_> {
    pub(super) fn http(&self) -> &Http {
        &self.client.http
    }

    /// Which manifest a tag stands for, without fetching it; `None` = the registry does not tell.
    pub fn head(&self, tag: &str) -> Result<Option<Descriptor>, Error> {
        let what = self.what(&format!(":{tag}"));
        let answer = self.send(Method::HEAD, &format!("manifests/{tag}"), &[("accept", ACCEPT)], &what)?;
        let digest = answer.header("docker-content-digest").and_then(|d| d.parse::<BlobDigest>().ok());
        let size = answer.header("content-length").and_then(|n| n.parse::<u64>().ok());
        let media_type = answer.header("content-type").and_then(|t| document::known(t.split(';').next()?.trim()));
        Ok(match (digest, size, media_type) {
            (Some(digest), Some(size), Some(media_type)) => Some(Descriptor::new(media_type, digest, size)),
            _ => None,
        })
    }

    /// The manifest or index a tag stands for: its descriptor, computed from the body, and its bytes (S-51).
    pub fn manifest_by_tag(&self, tag: &str) -> Result<(Descriptor, Vec<u8>), Error> {
        self.manifest(tag, &self.what(&format!(":{tag}")))
    }

    /// The manifest or index with a digest. Ok: the bytes hash to it.
    pub fn manifest_by_digest(&self, digest: BlobDigest) -> Result<(Descriptor, Vec<u8>), Error> {
        let (descriptor, bytes) = self.manifest(&digest.to_string(), &self.what(&format!("@{digest}")))?;
        if descriptor.digest != digest {
            let reason = format!("digest mismatch: got {}", descriptor.digest);
            return Err(BlobError { operation: "fetch", digest, reason, missing: false }.into());
        }
        Ok((descriptor, bytes))
    }

    fn manifest(&self, key: &str, what: &str) -> Result<(Descriptor, Vec<u8>), Error> {
        let answer = self.send(Method::GET, &format!("manifests/{key}"), &[("accept", ACCEPT)], what)?;
        let url = answer.url.shown();
        let content_type = answer.header("content-type").map(str::to_owned);
        let bytes = answer.into_bytes(MAX_DOCUMENT)?;
        let media_type =
            document::media_type(content_type.as_deref(), &bytes).map_err(|why| Error::Protocol { url, why })?;
        let digest = BlobDigest(Sha256::of(&bytes));
        Ok((Descriptor::new(media_type, digest, bytes.len() as u64), bytes))
    }

    /// A blob's bytes, unverified: for a sink that verifies.
    pub(super) fn download(&self, blob: &Descriptor) -> Result<Download<'_>, Error> {
        Download::start(self, blob)
    }

    pub(super) fn blob_url(&self, blob: &Descriptor) -> Url {
        self.url(&format!("blobs/{}", blob.digest))
    }

    /// A blob from an offset on. `urls` of foreign layers are never followed (S-57).
    pub(super) fn get_blob(&self, blob: &Descriptor, from: u64, etag: Option<&str>) -> Result<Answer, Error> {
        let range = format!("bytes={from}-");
        let mut headers = Vec::new();
        if from > 0 {
            headers.push(("range", range.as_str()));
            // A weak validator cannot promise that ranges fit together (RFC 9110 §13.1.5).
            headers.extend(etag.filter(|e| !e.starts_with("W/")).map(|e| ("if-range", e)));
        }
        let foreign = if blob.urls.is_empty() { "" } else { " (a foreign layer, which its registry need not hold)" };
        let what = format!("{}{foreign}", self.what(&format!(": blob {}", blob.digest)));
        self.send(Method::GET, &format!("blobs/{}", blob.digest), &headers, &what)
    }

    /// Sends to the repository, with credentials once it asks for them; 401 and 404 become errors that name `what`.
    fn send(&self, method: Method, path: &str, headers: &[(&'static str, &str)], what: &str) -> Result<Answer, Error> {
        let client = self.client;
        let mut authorization = client.auth.known(&self.party);
        // The first request, one with a token, one more if the token we had was too old.
        for round in 0..3 {
            let ask = Ask {
                method: method.clone(),
                headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
                authorization: authorization.clone(),
                ..Ask::get(self.url(path))
            };
            let answer = self.send_plain_or_tls(ask, path)?;
            match answer.status {
                401 if round < 2 => {
                    let url = self.url(path);
                    let values: Vec<String> = answer
                        .headers
                        .get_all("www-authenticate")
                        .iter()
                        .filter_map(|v| v.to_str().ok().map(str::to_owned))
                        .collect();
                    let values: Vec<&str> = values.iter().map(String::as_str).collect();
                    let sent = authorization.as_deref();
                    match client.auth.answer(&client.http, &self.party, &url, &values, sent)? {
                        Some(next) if Some(next.as_str()) != sent => authorization = Some(next),
                        _ => return Err(self.denied(answer, what)),
                    }
                }
                401 | 403 => return Err(self.denied(answer, what)),
                404 => return Err(Error::NotFound { what: what.to_owned(), host: self.host.clone() }),
                status if (200..300).contains(&status) => return Ok(answer),
                _ => return Err(answer.into_error()),
            }
        }
        Err(Error::Protocol { url: self.url(path).shown(), why: "keeps asking for credentials".to_owned() })
    }

    /// Finds out which of TLS and plain HTTP an insecure host speaks, and remembers it.
    fn send_plain_or_tls(&self, ask: Ask, path: &str) -> Result<Answer, Error> {
        let http = &self.client.http;
        let first = http.send(&ask);
        if !http.is_insecure(&self.host) {
            return first;
        }
        let other = match &first {
            // What Go's server answers to plain HTTP on a TLS port.
            Ok(answer) if !ask.url.tls && answer.status == 400 => true,
            Err(Error::Tls { .. }) if ask.url.tls => false,
            Err(Error::Network { .. }) if ask.url.tls => false,
            _ => return first,
        };
        if self.client.speaks_tls.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&self.host) {
            return first;
        }
        let second = http.send(&Ask { url: Url { tls: other, ..self.url(path) }, ..ask });
        match second {
            Ok(answer) => {
                let mut known = self.client.speaks_tls.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(self.host.clone(), other);
                Ok(answer)
            }
            Err(_) => first,
        }
    }

    fn denied(&self, answer: Answer, what: &str) -> Error {
        let anonymous = self.client.auth.anonymous(&self.party);
        let status = answer.status;
        let reason = format!("{status} {}", answer.reason());
        Error::Denied {
            what: what.to_owned(),
            host: self.host.clone(),
            anonymous,
            reason: reason.trim_end().to_owned(),
        }
    }

    fn url(&self, path: &str) -> Url {
        let target = format!("/v2/{}/{path}", self.party.repository);
        Url::new(self.client.tls(&self.host), &self.host, &target)
    }

    fn what(&self, suffix: &str) -> String {
        format!("{}/{}{suffix}", self.party.registry, self.party.repository)
    }
}

impl BlobSource for Repository<'_> {
    /// Manifests and indexes come from `manifests/`, everything else from `blobs/`, into memory: for documents.
    /// Layers go through [`Client::fetch`].
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        let fail = |error: Error| match error {
            Error::Blob(error) => error,
            other => {
                let missing = matches!(other, Error::NotFound { .. });
                BlobError { operation: "fetch", digest: blob.digest, reason: other.to_string(), missing }
            }
        };
        let bytes = if blob.is_manifest() || blob.is_index() {
            self.manifest_by_digest(blob.digest).map_err(fail)?.1
        } else {
            let answer = self.get_blob(blob, 0, None).map_err(fail)?;
            answer.into_bytes(blob.size.min(MAX_DOCUMENT)).map_err(fail)?
        };
        let size = bytes.len() as u64;
        let verified = crate::base::verify::Verified::new(std::io::Cursor::new(bytes), blob.digest.0, blob.size);
        if size == blob.size {
            return Ok(Box::new(verified));
        }
        let reason = format!("size mismatch: want {} bytes, got {size}", blob.size);
        Err(BlobError { operation: "fetch", digest: blob.digest, reason, missing: false })
    }
}
