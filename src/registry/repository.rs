//! Requests to one repository, on its registry or on a mirror.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;

use ureq::http::Method;

use crate::base::digest::{BlobDigest, Sha256};
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::MAX_DOCUMENT;
use crate::oci::reference::{DEFAULT_REGISTRY, Reference};
use crate::transport::{Attempt, HttpClient, HttpError, Request, Response, TlsFault, Url, is_transient};

use super::RegistryError;
use super::challenge::Challenge;
use super::client::Client;
use super::document::{self, ACCEPT};
use super::error::{Missing, Refusal};
use super::rules::Place;
use super::scope::Scope;

/// The host of Docker Hub's API.
const HUB_HOST: &str = "registry-1.docker.io";

/// A response that refuses access.
struct Refused {
    host: String,
    status: u16,
    challenges: Vec<String>,
    /// The server's explanation.
    reason: String,
}

impl From<Response> for Refused {
    fn from(response: Response) -> Self {
        let (host, status) = (response.url.authority.clone(), response.status);
        let challenges = response.header_values("www-authenticate").into_iter().map(str::to_owned).collect();
        Self { host, status, challenges, reason: response.into_reason() }
    }
}

/// One repository on one host.
#[derive(Clone)]
pub(super) struct Repository<'a> {
    client: &'a Client,
    /// Host and port of the API.
    host: String,
    scope: Scope,
}

impl Client {
    /// Asks the mirrors of `name`'s registry in order, then the registry itself, until one answers. What a mirror serves
    /// is verified like everything else (S-50); its failures are kept for [`Client::take_mirror_failures`].
    pub(super) fn try_hosts<'a, T>(
        &'a self,
        name: &Reference,
        ask: impl Fn(&Repository<'a>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let (mirrors, own) = self.rules.places(name)?;
        for mirror in mirrors {
            let host = mirror.registry.clone();
            match ask(&self.repository_at(mirror)) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_cancelled() => return Err(error),
                Err(error) => self.mirror_failed(&host, error),
            }
        }
        ask(&self.repository_at(own))
    }

    /// The repository that a reference names, to be written to.
    pub(super) fn repository_to_push_to(&self, name: &Reference) -> Repository<'_> {
        // What is pushed goes where its name says: mirrors and other places are for pulls.
        let place = Place { registry: name.registry.clone(), repository: name.repository.clone() };
        let mut repository = self.repository_at(place);
        repository.scope.actions = "pull,push";
        repository
    }

    /// A repository, with the credentials of its registry.
    pub(super) fn repository_at(&self, place: Place) -> Repository<'_> {
        let Place { registry, repository } = place;
        let host = Self::host_of_registry(&registry);
        Repository { client: self, host, scope: Scope { registry, repository, actions: "pull", also: None } }
    }

    /// Host and port of a registry's API.
    pub(super) fn host_of_registry(registry: &str) -> String {
        match registry {
            DEFAULT_REGISTRY => HUB_HOST.to_owned(),
            other => other.to_ascii_lowercase(),
        }
    }
}

impl Repository<'_> {
    pub(super) fn http(&self) -> &HttpClient {
        &self.client.http
    }

    /// The number of threads that help with downloads.
    pub(super) fn helpers(&self) -> &AtomicUsize {
        &self.client.helpers
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The descriptor that a tag stands for, without its manifest; `None` = the registry does not say, or refuses: why is
    /// in its answer to another request.
    pub(super) fn head(&self, tag: &str) -> Result<Option<Descriptor>, RegistryError> {
        let what = self.what(&format!(":{tag}"));
        let path = format!("manifests/{tag}");
        let response = match self.send(Method::HEAD, &path, &[("accept", ACCEPT)], &what) {
            Err(RegistryError::Denied { .. }) => return Ok(None),
            Err(RegistryError::Http(HttpError::Status { status, .. })) if !is_transient(status) => return Ok(None),
            response => response.map_err(|error| self.explained(error, &path, &[("accept", ACCEPT)], &what))?,
        };
        let digest = response.header("docker-content-digest").and_then(|d| d.parse::<BlobDigest>().ok());
        let size = response.header("content-length").and_then(|n| n.parse::<u64>().ok());
        let media_type = response.header("content-type").and_then(|t| document::known(t.split(';').next()?.trim()));
        Ok(match (digest, size, media_type) {
            (Some(digest), Some(size), Some(media_type)) => Some(Descriptor::new(media_type, digest, size)),
            _ => None,
        })
    }

    /// The manifest or index that a tag stands for: its descriptor, computed from the body, and its bytes (S-51).
    pub(super) fn manifest_by_tag(&self, tag: &str) -> Result<(Descriptor, Vec<u8>), RegistryError> {
        self.manifest(tag, &self.what(&format!(":{tag}")))
    }

    /// The manifest or index with a digest. Ok: the bytes have the digest.
    pub(super) fn manifest_by_digest(&self, digest: BlobDigest) -> Result<(Descriptor, Vec<u8>), RegistryError> {
        let (descriptor, bytes) = self.manifest(&digest.to_string(), &self.what(&format!("@{digest}")))?;
        if descriptor.digest != digest {
            let reason = format!("digest mismatch: want {digest}, got {}", descriptor.digest);
            return Err(self.wrong_content(&format!("@{digest}"), reason));
        }
        Ok((descriptor, bytes))
    }

    fn manifest(&self, key: &str, what: &str) -> Result<(Descriptor, Vec<u8>), RegistryError> {
        let mut attempt = 1;
        let (url, content_type, bytes) = loop {
            let response = self.send(Method::GET, &format!("manifests/{key}"), &[("accept", ACCEPT)], what)?;
            let url = response.url.without_query();
            let content_type = response.header("content-type").map(str::to_owned);
            let error = match response.into_bytes(MAX_DOCUMENT) {
                Ok(bytes) => break (url, content_type, bytes),
                Err(error @ HttpError::Network { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            attempt += 1;
            match self.http().timing().pause_before(attempt, None) {
                Some(pause) => self.http().pause(pause)?,
                None => return Err(error.after(attempt - 1).into()),
            }
        };
        let media_type =
            document::media_type(content_type.as_deref(), &bytes).map_err(|why| HttpError::Protocol { url, why })?;
        let digest = BlobDigest(Sha256::of(&bytes));
        Ok((Descriptor::new(media_type, digest, bytes.len() as u64), bytes))
    }

    pub(super) fn blob_url(&self, blob: &Descriptor) -> Url {
        self.url(&format!("blobs/{}", blob.digest))
    }

    /// Some of a blob's bytes, unverified; the server may send all of them. The `urls` of foreign layers are never followed (S-57).
    pub(super) fn get_blob(
        &self,
        blob: &Descriptor,
        range: Range<u64>,
        etag: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let last = if range.end < blob.size { (range.end - 1).to_string() } else { String::new() };
        let bytes = format!("bytes={}-{last}", range.start);
        let mut headers = Vec::new();
        if range.start > 0 || range.end < blob.size {
            headers.push(("range", bytes.as_str()));
            // A weak validator does not promise that ranges fit together (RFC 9110 §13.1.5).
            headers.extend(etag.filter(|e| !e.starts_with("W/")).map(|e| ("if-range", e)));
        }
        let foreign = if blob.urls.is_empty() { "" } else { " (a foreign layer, which its registry need not hold)" };
        let what = format!("{}{foreign}", self.what(&format!(": blob {}", blob.digest)));
        let found = self.send(Method::GET, &format!("blobs/{}", blob.digest), &headers, &what);
        found.map_err(|error| match error {
            RegistryError::NotFound { what, host, .. } => {
                RegistryError::NotFound { what, host, missing: Missing::Blob }
            }
            other => other,
        })
    }

    /// The error of a HEAD request with the registry's words, which only other responses have: asks once with GET.
    pub(super) fn explained(
        &self,
        error: RegistryError,
        path: &str,
        headers: &[(&'static str, &str)],
        what: &str,
    ) -> RegistryError {
        let RegistryError::Http(HttpError::Status { status, attempts, reason, .. }) = &error else { return error };
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let request = Request { headers, ..Request::get(self.url(path)) };
        let once = |request: &Request<'_>| match self.http().send_once(request) {
            Ok(response) => Ok(response),
            Err(Attempt::Retry(error) | Attempt::Fail(error)) => Err(RegistryError::from(error)),
        };
        match self.authorized(request, &self.scope, what, once) {
            Ok(response) if reason.is_empty() && response.status == *status => {
                response.into_error().after(*attempts).into()
            }
            _ => error,
        }
    }

    /// What the registry sent is something else than `suffix` names.
    pub(super) fn wrong_content(&self, suffix: &str, reason: String) -> RegistryError {
        RegistryError::WrongContent { what: self.what(suffix), host: self.host.clone(), reason }
    }

    /// Sends a request without body, with credentials once the registry asks for them. `what` names the image or blob in
    /// errors.
    fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        what: &str,
    ) -> Result<Response, RegistryError> {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.request(Request { method, headers, ..Request::get(self.url(path)) }, what)
    }

    /// [`send`](Self::send) for any request to this repository.
    pub(super) fn request(&self, request: Request<'_>, what: &str) -> Result<Response, RegistryError> {
        let response = self.authorized(request, &self.scope, what, |request| {
            self.send_plain_or_tls(request).map_err(RegistryError::from)
        })?;
        self.accepted(response, what)
    }

    /// Ok: the response is a success.
    pub(super) fn accepted(&self, response: Response, what: &str) -> Result<Response, RegistryError> {
        match response.status {
            404 => {
                let (what, host) = (what.to_owned(), self.host.clone());
                let writes = self.scope.writes();
                let missing = if writes { Missing::Repository(response.into_reason()) } else { Missing::Image };
                Err(RegistryError::NotFound { what, host, missing })
            }
            _ if response.is_success() => Ok(response),
            _ => Err(response.into_error().into()),
        }
    }

    /// Repeats a request until it has the credentials that the registry asks for. Ok: neither 401 nor 403.
    pub(super) fn authorized<E: From<RegistryError>>(
        &self,
        mut request: Request<'_>,
        scope: &Scope,
        what: &str,
        send: impl Fn(&Request<'_>) -> Result<Response, E>,
    ) -> Result<Response, E> {
        let Client { http, auth, .. } = self.client;
        request.authorization = auth.known(http, scope);
        // Without a token, with one, and once more if the token had expired.
        for round in 0..3 {
            let response = send(&request)?;
            if !matches!(response.status, 401 | 403) {
                return Ok(response);
            }
            // With its body read, the connection serves the next request.
            let refused = Refused::from(response);
            // Whoever a registry redirects to must not learn its credentials, nor say where to send them (S-58).
            if round == 2 || refused.status == 403 || refused.host != request.url.authority {
                return Err(self.denied(refused, what).into());
            }
            let sent = request.authorization.as_deref();
            match auth.respond(http, scope, &request.url, &refused.challenges, sent)? {
                Some(next) if Some(next.as_str()) != sent => request.authorization = Some(next),
                _ => return Err(self.denied(refused, what).into()),
            }
        }
        let (url, why) = (request.url.without_query(), "keeps asking for credentials".to_owned());
        Err(RegistryError::from(HttpError::Protocol { url, why }).into())
    }

    /// Tries TLS and plain HTTP with an insecure host, and remembers which one works.
    fn send_plain_or_tls(&self, request: &Request<'_>) -> Result<Response, HttpError> {
        let http = self.http();
        let first = http.send(request);
        if !http.is_insecure(&self.host) {
            return first;
        }
        let known = || self.client.speaks_tls.lock().unwrap_or_else(PoisonError::into_inner);
        let tls = match &first {
            // Go's server answers this to plain HTTP on a TLS port.
            Ok(response) if !request.url.tls && response.status == 400 => true,
            Err(HttpError::Tls { fault: TlsFault::NotPlain, .. }) if !request.url.tls => true,
            Err(HttpError::Tls { .. } | HttpError::Network { .. } | HttpError::Unreachable { .. })
                if request.url.tls =>
            {
                false
            }
            Ok(_) => {
                // What it refuses from now on, it does not refuse for that.
                known().entry(self.host.clone()).or_insert(request.url.tls);
                return first;
            }
            Err(_) => return first,
        };
        // Another thread may have found meanwhile what works.
        if known().get(&self.host).is_some_and(|works| *works != tls) {
            return first;
        }
        match http.send(&Request { url: Url { tls, ..request.url.clone() }, ..request.clone() }) {
            Ok(response) => {
                known().insert(self.host.clone(), tls);
                Ok(response)
            }
            // Why TLS failed says more than that plain HTTP was refused.
            Err(error) if tls && error.speaks_tls() => Err(error),
            Err(_) => first,
        }
    }

    fn denied(&self, refused: Refused, what: &str) -> RegistryError {
        let Refused { host, status, challenges, reason } = refused;
        let challenges = Challenge::all(&challenges);
        let insufficient = challenges.iter().any(|c| c.parameter("error") == Some("insufficient_scope"));
        let refusal = match (self.client.auth.is_anonymous(&self.scope), status) {
            _ if host != self.host => Refusal::Elsewhere,
            (true, _) => Refusal::Anonymous,
            (false, 401) if !insufficient => Refusal::Credentials,
            (false, _) => Refusal::Access,
        };
        let reason = format!("{status} {reason}").trim_end().to_owned();
        RegistryError::Denied { what: what.to_owned(), registry: self.scope.registry.clone(), host, refusal, reason }
    }

    /// TLS, except plain HTTP first for loopback.
    pub(super) fn url(&self, path: &str) -> Url {
        let known = self.client.speaks_tls.lock().unwrap_or_else(PoisonError::into_inner).get(&self.host).copied();
        let tls = known.unwrap_or(!self.client.http.prefers_plain(&self.host));
        Url::new(tls, &self.host, &format!("/v2/{}/{path}", self.scope.repository))
    }

    /// The name of the image or blob in errors.
    pub(super) fn what(&self, suffix: &str) -> String {
        format!("{}/{}{suffix}", self.scope.registry, self.scope.repository)
    }
}
