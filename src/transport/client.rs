//! Sends requests: routes, redirects, retries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, SendBody, http};

use crate::base::url::redacted;

use super::certificates::Certificates;
use super::encoding::form_encode;
use super::error::{HttpError, io_reason};
use super::fault::{TlsFault, Unreachable};
use super::proxy::Proxies;
use super::request::{Payload, Request};
use super::response::Response;
use super::retry::{self, Timing};
use super::tls::TlsConnector;
use super::url::{Url, host_of, is_loopback};

const MAX_REDIRECTS: usize = 10;

/// What decides which connection pool a request uses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    tls: bool,
    verify: bool,
    proxied: bool,
    /// A host that has certificates of its own.
    host: Option<String>,
}

/// Which servers' certificates are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verification {
    /// Those of all hosts but loopback and the hosts listed as insecure.
    #[default]
    Usual,
    /// Those on loopback, too.
    Strict,
    /// None; plain HTTP is allowed as well.
    Off,
}

/// An HTTP client; shared by threads.
pub(crate) struct HttpClient {
    proxies: Proxies,
    /// Hosts whose certificates are not verified: `host` or `host:port`.
    insecure: Vec<String>,
    /// By host, as URLs name it; or why they cannot be used.
    certificates: BTreeMap<String, Result<Certificates, String>>,
    /// For all hosts.
    common: Certificates,
    verification: Verification,
    timing: Timing,
    agents: Mutex<BTreeMap<Route, Agent>>,
    /// Hosts that have answered: one that then refuses connections is being restarted.
    answered: Mutex<BTreeSet<String>>,
    cancelled: AtomicBool,
}

impl HttpClient {
    /// A client; nothing is sent before the first request.
    pub(crate) fn new(proxies: Proxies, insecure: Vec<String>, timing: Timing) -> Self {
        let (certificates, cancelled) = (BTreeMap::new(), AtomicBool::new(false));
        let (common, verification) = (Certificates::default(), Verification::default());
        let (agents, answered) = (Mutex::default(), Mutex::default());
        Self { proxies, insecure, certificates, common, verification, timing, agents, answered, cancelled }
    }

    /// The same with certificates for single hosts, or the reasons why they cannot be used.
    pub(crate) fn with_certificates(self, certificates: BTreeMap<String, Result<Certificates, String>>) -> Self {
        Self { certificates, ..self }
    }

    /// The same with certificates for all hosts.
    pub(crate) fn with_common(self, common: Certificates) -> Self {
        Self { common, ..self }
    }

    /// The same with another decision on whose certificates are verified.
    pub(crate) fn verifying(self, verification: Verification) -> Self {
        Self { verification, ..self }
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Ends running requests and refuses new ones, until [`HttpClient::resume`].
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        let agents = std::mem::take(&mut *self.agents.lock().unwrap_or_else(PoisonError::into_inner));
        for agent in agents.into_values() {
            agent.shutdown();
        }
    }

    /// Accepts requests again.
    pub(crate) fn resume(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), HttpError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(HttpError::Cancelled) } else { Ok(()) }
    }

    /// Waits before another attempt; a cancellation ends the wait.
    pub(crate) fn pause(&self, pause: Duration) -> Result<(), HttpError> {
        if retry::sleep(pause, &self.cancelled) { Ok(()) } else { Err(HttpError::Cancelled) }
    }

    /// Whether a host's certificate is not verified, and plain HTTP to it is allowed (S-60).
    pub(crate) fn is_insecure(&self, authority: &str) -> bool {
        match self.verification {
            Verification::Off => true,
            Verification::Usual if is_loopback(authority) => true,
            _ => self.insecure.iter().any(|i| i == authority || i == host_of(authority)),
        }
    }

    /// Whether a registry is asked over plain HTTP first: one on loopback, unless certificates there are verified.
    pub(crate) fn prefers_plain(&self, authority: &str) -> bool {
        is_loopback(authority) && self.is_insecure(authority)
    }

    /// Sends a request once. `Err(Attempt::Retry)`: another attempt may succeed, but the server may have received a part
    /// of the body.
    pub(crate) fn send_once(&self, request: &Request<'_>) -> Result<Response, Attempt> {
        self.check_cancelled().map_err(Attempt::Fail)?;
        self.follow(request)
    }

    /// Sends a request, and again while an error may be transient (S-61).
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Response, HttpError> {
        let mut attempt = 1;
        loop {
            self.check_cancelled()?;
            let result = self.follow(request);
            let retry_after = match &result {
                Ok(response) if retry::is_transient(response.status) => response.retry_after(),
                Err(Attempt::Retry(_)) => None,
                _ => return after(result, attempt),
            };
            match self.timing.pause_before(attempt + 1, retry_after) {
                Some(pause) => self.pause(pause)?,
                None => return after(result, attempt),
            }
            attempt += 1;
        }
    }

    /// Sends a request once, following redirects.
    fn follow(&self, request: &Request<'_>) -> Result<Response, Attempt> {
        let mut request = request.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(&request)?;
            let location = match (response.status, response.header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => location.to_owned(),
                _ => return Ok(response),
            };
            let refuse = |why: String| Attempt::Fail(HttpError::Redirect { url: request.url.without_query(), why });
            let Some(next) = request.url.join(&location) else {
                return Err(refuse(format!(
                    "redirects to {:?}, which is not an http or https URL",
                    redacted(&location)
                )));
            };
            if request.url.tls && !next.tls {
                return Err(refuse(format!("redirects from https to {}", next.without_query())));
            }
            if !next.same_origin(&request.url) {
                request.authorization = None;
                if matches!(request.payload, Payload::Form(_)) {
                    return Err(refuse(format!("redirects credentials to {}", next.without_query())));
                }
            }
            request.url = next;
        }
        let why = format!("more than {MAX_REDIRECTS} redirects");
        Err(Attempt::Fail(HttpError::Redirect { url: request.url.without_query(), why }))
    }

    /// Sends a request and receives the head of the response.
    fn exchange(&self, request: &Request<'_>) -> Result<Response, Attempt> {
        let url = &request.url;
        let invalid = |why: &str| Attempt::Fail(HttpError::Protocol { url: url.without_query(), why: why.to_owned() });
        let mut message = http::Request::builder().method(request.method.clone()).uri(url.to_string());
        for (name, value) in &request.headers {
            message = message.header(*name, value);
        }
        if let Some(value) = &request.authorization {
            let mut value = http::HeaderValue::from_str(value)
                .map_err(|_| invalid("the credentials contain characters that a header cannot hold"))?;
            value.set_sensitive(true);
            message = message.header("authorization", value);
        }
        let agent = self.agent(url).map_err(Attempt::Fail)?;
        let malformed = |_| invalid("not a valid request");
        let sent = match request.payload {
            Payload::None if request.method == http::Method::GET || request.method == http::Method::HEAD => {
                agent.run(message.body(()).map_err(malformed)?)
            }
            Payload::None => agent.run(message.header("content-length", "0").body(&[][..]).map_err(malformed)?),
            Payload::Form(form) => {
                let message = message.header("content-type", "application/x-www-form-urlencoded");
                agent.run(message.body(form_encode(form)).map_err(malformed)?)
            }
            Payload::Bytes(media_type, bytes) => {
                agent.run(message.header("content-type", media_type).body(bytes).map_err(malformed)?)
            }
            Payload::Stream(length, open) => {
                let mut body = open().map_err(|e| invalid(&e.to_string()))?;
                let message = message.header("content-type", "application/octet-stream");
                let message = message.header("content-length", length);
                let message = message.body(SendBody::from_reader(&mut body)).map_err(malformed)?;
                // The server may store all of it before it answers.
                let message = agent.configure_request(message).timeout_recv_response(Some(self.timing.commit)).build();
                agent.run(message)
            }
        };
        let response = sent.map_err(|e| self.classify(url, &e))?;
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(url.authority.clone());
        let (parts, body) = response.into_parts();
        let (status, headers) = (parts.status.as_u16(), parts.headers);
        let secrets = request.secrets();
        Ok(Response { url: url.clone(), status, headers, body, attempts: 1, pace: self.timing.pace, secrets })
    }

    /// Decides whether another attempt may succeed: it may after a failure of the server or the network.
    fn classify(&self, url: &Url, error: &ureq::Error) -> Attempt {
        if self.cancelled.load(Ordering::Relaxed) {
            return Attempt::Fail(HttpError::Cancelled);
        }
        let network = |reason: String| HttpError::Network { url: url.without_query(), reason, attempts: 1 };
        let unreachable = |why| HttpError::Unreachable { url: url.without_query(), why };
        let host = host_of(&url.authority);
        if let Some(fault) = tls_fault(error) {
            // Many servers refuse a certificate that they did not get.
            let fault = match fault {
                TlsFault::RefusesCertificate if !self.has_identity(url) => TlsFault::WantsCertificate,
                other => other,
            };
            let closed = fault == TlsFault::Closed;
            let error = HttpError::Tls { host: url.authority.clone(), fault };
            // A server that is being restarted closes connections, too.
            return if closed { Attempt::Retry(error) } else { Attempt::Fail(error) };
        }
        if let ureq::Error::Io(e) = error
            && let Some(why) = Unreachable::of(e, host)
        {
            let answered = || self.answered.lock().unwrap_or_else(PoisonError::into_inner).contains(&url.authority);
            return match why {
                // A name server may answer later, and so may a server that has answered before.
                Unreachable::NoNameServer(_) => Attempt::Retry(unreachable(why)),
                Unreachable::Refused if answered() => Attempt::Retry(network(why.to_string())),
                _ => Attempt::Fail(unreachable(why)),
            };
        }
        match error {
            ureq::Error::HostNotFound => Attempt::Fail(unreachable(Unreachable::NoHost(host.to_owned()))),
            ureq::Error::Io(e) => Attempt::Retry(network(io_reason(e))),
            ureq::Error::Timeout(_) => Attempt::Retry(network(error.to_string())),
            ureq::Error::ConnectionFailed => Attempt::Retry(network("connection failed".to_owned())),
            ureq::Error::Protocol(e) => Attempt::Retry(network(e.to_string())),
            other => Attempt::Fail(HttpError::Protocol { url: url.without_query(), why: other.to_string() }),
        }
    }

    /// Whether kiln has a certificate to show to the host.
    fn has_identity(&self, url: &Url) -> bool {
        let own = self.certificates.get(&url.authority).and_then(|own| own.as_ref().ok());
        own.is_some_and(|own| own.client.is_some()) || self.common.client.is_some()
    }

    /// The connection pool for `url`.
    fn agent(&self, url: &Url) -> Result<Agent, HttpError> {
        let proxy = self.proxies.select(url);
        let verify = !self.is_insecure(&url.authority);
        let own = if url.tls { self.certificates.get(&url.authority) } else { None };
        let host = own.map(|_| url.authority.clone());
        let route = Route { tls: url.tls, verify, proxied: proxy.is_some(), host };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&route) {
            return Ok(agent.clone());
        }
        let proxy = proxy.map(ureq::Proxy::new).transpose().map_err(|e| HttpError::Protocol {
            url: url.without_query(),
            why: format!("the proxy for {}:// is not valid: {e}", url.scheme()),
        })?;
        let own = own
            .cloned()
            .transpose()
            .map_err(|why| HttpError::Tls { host: url.authority.clone(), fault: TlsFault::OwnCertificate(why) })?;
        let certificates = own.unwrap_or_default().with(&self.common);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
            // A blob must arrive as it is stored (S-62).
            .accept_encoding("identity")
            .timeout_connect(Some(self.timing.connect))
            .timeout_recv_response(Some(self.timing.stall))
            .timeout_per_read(Some(self.timing.stall))
            .timeout_per_write(Some(self.timing.stall))
            .max_idle_connections_per_host(8)
            .build();
        let connector = ConnectProxyConnector::default().chain(TcpConnector::default());
        let connector = connector.chain(TlsConnector::new(certificates, verify));
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        agents.insert(route, agent.clone());
        Ok(agent)
    }
}

/// A failed attempt.
pub(crate) enum Attempt {
    /// Another one may succeed.
    Retry(HttpError),
    /// Another one fails the same way.
    Fail(HttpError),
}

/// The result of the last of `attempts` attempts.
fn after(result: Result<Response, Attempt>, attempts: u32) -> Result<Response, HttpError> {
    match result {
        Ok(response) => Ok(Response { attempts, ..response }),
        Err(Attempt::Retry(error)) => Err(error.after(attempts)),
        Err(Attempt::Fail(error)) => Err(error),
    }
}

/// What is wrong with TLS, if that is what the error is about.
fn tls_fault(error: &ureq::Error) -> Option<TlsFault> {
    match error {
        ureq::Error::Io(e) => TlsFault::of(e),
        ureq::Error::Other(e) => e.downcast_ref().cloned(),
        _ => None,
    }
}
