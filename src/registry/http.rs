//! One HTTP request with redirects and retries; who may be spoken to, and how.
//!
//! **Holds.** A response with any status is a response. Redirects are followed here, not by the HTTP library, so that
//! credentials stay with their origin and TLS is never left (S-58).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ureq::http::{HeaderMap, Method, Request};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::Error;
use super::pace::{Pace, Paced};
use super::retry::{self, Timing};
use super::url::{Url, host_of, is_loopback};

const MAX_REDIRECTS: usize = 10;
const MAX_ERROR_BODY: u64 = 64 << 10;

/// Proxies as the environment names them (S-63); empty = none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For `http://`.
    pub http: Option<String>,
    /// For `https://`.
    pub https: Option<String>,
    /// Hosts to be reached without: `example.com,.internal,10.0.0.1` or `*`.
    pub no_proxy: String,
}

/// How a request travels: over TLS or not, verified or not, through which proxy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    tls: bool,
    verify: bool,
    proxied: bool,
}

/// The HTTP client of one [`super::Client`].
pub(super) struct Http {
    proxies: Proxies,
    /// Registries that need not prove who they are: `host` or `host:port`.
    insecure: Vec<String>,
    timing: Timing,
    agents: Mutex<BTreeMap<Route, Agent>>,
    cancelled: AtomicBool,
}

/// What to ask for.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    /// `Authorization`; dropped when a redirect leaves the origin.
    pub(super) authorization: Option<String>,
    /// A form to POST.
    pub(super) form: Option<String>,
}

impl Ask {
    pub(super) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), authorization: None, form: None }
    }
}

/// What came back, after redirects.
pub(super) struct Answer {
    pub(super) url: Url,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: Body,
    /// How often was asked until this came.
    attempts: u32,
    pace: Pace,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as it comes.
    pub(super) fn into_reader(self) -> Box<dyn Read + Send> {
        Box::new(Paced::new(self.body.into_reader(), self.pace))
    }

    /// The whole body; more than `limit` bytes are an error and are not read (S-53).
    pub(super) fn into_bytes(self, limit: u64) -> Result<Vec<u8>, Error> {
        let url = self.url.shown();
        let too_large =
            || Error::Protocol { url: url.clone(), why: format!("the answer is larger than {limit} bytes") };
        if self.body.content_length().is_some_and(|n| n > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let read = self.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::Network { url: url.clone(), reason: io_reason(&e), attempts: 1 })?;
        if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
    }

    /// An error that carries the server's own words.
    pub(super) fn into_error(self) -> Error {
        let (url, status, attempts) = (self.url.shown(), self.status, self.attempts);
        let reason = self.reason();
        Error::Status { url, status, reason, attempts }
    }

    /// The server's explanation: the distribution-spec error list, else the beginning of a text.
    pub(super) fn reason(self) -> String {
        let mut bytes = Vec::new();
        let _ = self.into_reader().take(MAX_ERROR_BODY).read_to_end(&mut bytes);
        explain(&bytes)
    }
}

impl Http {
    pub(super) fn new(proxies: Proxies, insecure: Vec<String>, timing: Timing) -> Self {
        let agents = Mutex::new(BTreeMap::new());
        Self { proxies, insecure, timing, agents, cancelled: AtomicBool::new(false) }
    }

    pub(super) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Ends running requests and refuses new ones.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        let agents = std::mem::take(&mut *self.agents.lock().unwrap_or_else(PoisonError::into_inner));
        for agent in agents.into_values() {
            agent.shutdown();
        }
    }

    /// Takes requests again.
    pub(super) fn resume(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    pub(super) fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Waits before another attempt.
    pub(super) fn pause(&self, pause: std::time::Duration) -> Result<(), Error> {
        if retry::sleep(pause, &self.cancelled) { Ok(()) } else { Err(Error::Cancelled) }
    }

    /// The registry need not prove who it is.
    pub(super) fn is_insecure(&self, authority: &str) -> bool {
        is_loopback(authority) || self.insecure.iter().any(|i| i == authority || i == host_of(authority))
    }

    /// Sends until there is an answer that another attempt would not better (S-61).
    pub(super) fn send(&self, ask: &Ask) -> Result<Answer, Error> {
        let mut attempt = 1;
        loop {
            self.check_cancelled()?;
            let result = self.once(ask);
            let after = match &result {
                Ok(answer) if retry::is_transient(answer.status) => {
                    answer.header("retry-after").and_then(retry::retry_after)
                }
                Err(Failed::Again(_)) => None,
                _ => return tried(result, attempt),
            };
            attempt += 1;
            match self.timing.pause_before(attempt, after) {
                Some(pause) => self.pause(pause)?,
                None => return tried(result, attempt - 1),
            }
        }
    }

    /// Sends once, following redirects.
    fn once(&self, ask: &Ask) -> Result<Answer, Failed> {
        let mut ask = ask.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.exchange(&ask)?;
            let location = match (answer.status, answer.header("location")) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => location.to_owned(),
                _ => return Ok(answer),
            };
            let refuse = |why: String| Failed::For(Error::Protocol { url: ask.url.shown(), why });
            let Some(next) = ask.url.join(&location) else {
                return Err(refuse(format!("redirects to {location:?}, which is not an http or https URL")));
            };
            if ask.url.tls && !next.tls {
                return Err(refuse(format!("redirects from https to {}", next.shown())));
            }
            if !next.same_origin(&ask.url) {
                ask.authorization = None;
            }
            ask.url = next;
        }
        Err(Failed::For(Error::Protocol { url: ask.url.shown(), why: format!("more than {MAX_REDIRECTS} redirects") }))
    }

    fn exchange(&self, ask: &Ask) -> Result<Answer, Failed> {
        let invalid = |why: &str| Failed::For(Error::Protocol { url: ask.url.shown(), why: why.to_owned() });
        let mut request = Request::builder().method(ask.method.clone()).uri(ask.url.to_string());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(value) = &ask.authorization {
            let mut value = ureq::http::HeaderValue::from_str(value)
                .map_err(|_| invalid("the credentials contain characters that no header can hold"))?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        let agent = self.agent(&ask.url).map_err(Failed::For)?;
        let sent = match &ask.form {
            Some(form) => {
                let request = request.header("content-type", "application/x-www-form-urlencoded");
                agent.run(request.body(form.as_str()).map_err(|_| invalid("not a valid request"))?)
            }
            None => agent.run(request.body(()).map_err(|_| invalid("not a valid request"))?),
        };
        let response = sent.map_err(|e| self.classify(&ask.url, &e))?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            url: ask.url.clone(),
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            attempts: 1,
            pace: self.timing.pace,
        })
    }

    /// Errors that come from the other side or the way there may pass; those of ours do not.
    fn classify(&self, url: &Url, error: &ureq::Error) -> Failed {
        if self.cancelled.load(Ordering::Relaxed) {
            return Failed::For(Error::Cancelled);
        }
        let tls = |reason: String| Failed::For(Error::Tls { host: url.authority.clone(), reason });
        let network = |reason: String| Error::Network { url: url.shown(), reason, attempts: 1 };
        match error {
            ureq::Error::Rustls(e) => tls(e.to_string()),
            ureq::Error::Tls(e) => tls((*e).to_owned()),
            ureq::Error::Io(e) if is_tls(e) => tls(io_reason(e)),
            ureq::Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                Failed::For(network("connection refused".to_owned()))
            }
            ureq::Error::HostNotFound => Failed::For(network(no_address(url))),
            ureq::Error::Io(e) if e.to_string().contains("Name or service not known") => {
                Failed::For(network(no_address(url)))
            }
            ureq::Error::Io(e) => Failed::Again(network(io_reason(e))),
            ureq::Error::Timeout(_) => Failed::Again(network(error.to_string())),
            ureq::Error::ConnectionFailed => Failed::Again(network("connection failed".to_owned())),
            ureq::Error::Protocol(e) => Failed::Again(network(e.to_string())),
            other => Failed::For(Error::Protocol { url: url.shown(), why: other.to_string() }),
        }
    }

    fn agent(&self, url: &Url) -> Result<Agent, Error> {
        let host = host_of(&url.authority);
        let proxy = if url.tls { &self.proxies.https } else { &self.proxies.http };
        let proxy = proxy.as_deref().filter(|p| !p.is_empty());
        let proxy = proxy.filter(|_| !is_loopback(&url.authority) && !bypasses(&self.proxies.no_proxy, host));
        let route = Route { tls: url.tls, verify: !self.is_insecure(&url.authority), proxied: proxy.is_some() };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&route) {
            return Ok(agent.clone());
        }
        let proxy = proxy.map(ureq::Proxy::new).transpose().map_err(|e| Error::Protocol {
            url: url.shown(),
            why: format!("the proxy set for {}:// is of no use: {e}", url.scheme()),
        })?;
        let tls =
            TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).disable_verification(!route.verify).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .tls_config(tls)
            .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
            // A blob must arrive as it is stored (S-62).
            .accept_encoding("identity")
            .timeout_connect(Some(self.timing.connect))
            .timeout_recv_response(Some(self.timing.stall))
            .timeout_per_read(Some(self.timing.stall))
            .timeout_per_write(Some(self.timing.stall))
            .max_idle_connections_per_host(8)
            .build();
        let agent = config.new_agent();
        agents.insert(route, agent.clone());
        Ok(agent)
    }
}

/// The last of `attempts` results.
fn tried(result: Result<Answer, Failed>, attempts: u32) -> Result<Answer, Error> {
    match result {
        Ok(answer) => Ok(Answer { attempts, ..answer }),
        Err(failed) => Err(failed.into_error(attempts)),
    }
}

fn no_address(url: &Url) -> String {
    format!("there is no host {}", host_of(&url.authority))
}

/// A failed exchange, and whether another may succeed.
enum Failed {
    Again(Error),
    For(Error),
}

impl Failed {
    fn into_error(self, tried: u32) -> Error {
        match self {
            Self::Again(Error::Network { url, reason, .. }) => Error::Network { url, reason, attempts: tried },
            Self::Again(error) | Self::For(error) => error,
        }
    }
}

/// The conventional meaning of `NO_PROXY`: a name matches itself and what is below it.
fn bypasses(no_proxy: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let name = entry.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
        entry == "*" || host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.'))
    })
}

fn is_tls(error: &io::Error) -> bool {
    let text = error.to_string();
    error.kind() == io::ErrorKind::InvalidData
        || ["certificate", "received fatal alert", "corrupt message"].iter().any(|word| text.contains(word))
}

/// The reason without the library's own prefix.
pub(super) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("io: ").unwrap_or(&text);
    let text = text.split(" (os error").next().unwrap_or(text);
    let mut chars = text.chars();
    match chars.next() {
        // `Connection reset by peer` and friends; not `InvalidCertificate`.
        Some(first) if chars.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

fn explain(body: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let listed: Vec<String> = json["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| text(&e["message"]).filter(|m| !m.is_empty()).or_else(|| text(&e["code"])))
            .collect();
        if !listed.is_empty() {
            return shorten(&listed.join("; "));
        }
        let single = ["details", "message", "error_description", "error"].iter().find_map(|key| text(&json[*key]));
        return shorten(&single.unwrap_or_default());
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') { String::new() } else { shorten(&text) }
}

/// One line, at most 300 characters.
fn shorten(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_matches_names_below_s63() {
        for (list, host, want) in [
            ("example.com", "example.com", true),
            ("example.com", "r.example.com", true),
            (".example.com", "r.example.com", true),
            ("*.example.com", "r.example.com", true),
            ("example.com", "badexample.com", false),
            ("a, B.c ,", "b.c", true),
            ("*", "anything", true),
            ("", "anything", false),
        ] {
            assert_eq!(bypasses(list, host), want, "{list} {host}");
        }
    }

    #[test]
    fn a_servers_words_are_found_and_shortened() {
        assert_eq!(explain(br#"{"errors":[{"code":"X","message":"no"},{"code":"DENIED"}]}"#), "no; DENIED");
        assert_eq!(explain(br#"{"details":"incorrect username or password"}"#), "incorrect username or password");
        assert_eq!(explain(b"<html>"), "");
        assert_eq!(explain(b"plain\nsecond line"), "plain");
        assert_eq!(explain(&[b'x'; 1000]).len(), 300);
    }
}
