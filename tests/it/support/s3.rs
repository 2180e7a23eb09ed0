//! A server of one S3 bucket, which checks signatures with code of its own (AWS Signature Version 4, in the query).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use super::{Fault, Reply, Request, Server};

/// The bucket that there is.
pub const BUCKET: &str = "layers";
/// A key that may read and write: id, key, token.
pub const WRITER: (&str, &str, &str) = ("WRITER", "hidden/writer+key", "hidden/writer=token");
/// A key that may only read.
pub const READER: (&str, &str, &str) = ("READER", "hidden/reader+key", "hidden/reader=token");

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A running server; it ends with the test process.
pub struct S3 {
    server: Server,
    objects: Objects,
    ranges: Arc<AtomicBool>,
    /// What it answers instead, while a test says so.
    pub fault: Fault,
}

impl S3 {
    /// A server that writes only new objects where it is asked to.
    pub fn start() -> Self {
        Self::with(412)
    }

    /// A server that knows no conditions, and answers one with this status.
    pub fn without_conditions(status: u16) -> Self {
        Self::with(status)
    }

    fn with(condition: u16) -> Self {
        let (objects, fault) = (Objects::default(), Fault::default());
        let ranges = Arc::new(AtomicBool::new(true));
        let (shared, first, by_range) = (Arc::clone(&objects), fault.clone(), Arc::clone(&ranges));
        let server = Server::start(move |request| {
            let usual = || answer(request, &shared, condition, by_range.load(Ordering::Relaxed));
            first.answer(request).unwrap_or_else(usual)
        });
        Self { server, objects, ranges, fault }
    }

    /// The attributes of a cache in a bucket of the server.
    pub fn cache(&self, bucket: &str) -> String {
        format!("type=s3,bucket={bucket},region=here,prefix=team/app,endpoint_url={}", self.url())
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.authority)
    }

    /// How many requests had this method, for paths with this text.
    pub fn requests(&self, method: &str, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.starts_with(method) && asked.contains(path)).count()
    }

    /// All requests so far: method and path.
    pub fn asked(&self) -> Vec<String> {
        let line = |asked: &Request| format!("{} {}", asked.method, asked.target.split('?').next().unwrap_or_default());
        self.server.log().iter().map(line).collect()
    }

    /// The requests that wrote a key again.
    pub fn written_twice(&self) -> BTreeSet<String> {
        let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for put in self.asked().into_iter().filter(|asked| asked.starts_with("PUT ")) {
            if !once.insert(put.clone()) {
                twice.insert(put);
            }
        }
        twice
    }

    /// The stored objects by path.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.objects.lock().expect("lock").clone()
    }

    /// How many bytes of bodies were sent to it.
    pub fn uploaded(&self) -> usize {
        self.server.log().iter().map(|asked| asked.bytes.len()).sum()
    }

    /// How many bytes of blobs were asked for.
    pub fn downloaded(&self) -> usize {
        let objects = self.objects();
        let length = |asked: &Request| match asked.header("range").and_then(range) {
            Some((first, last)) => last + 1 - first,
            None => asked.target.split('?').next().and_then(|path| objects.get(path)).map_or(0, Vec::len),
        };
        let log = self.server.log();
        log.iter().filter(|asked| asked.method == "GET" && asked.target.contains("/blobs/")).map(length).sum()
    }

    /// From here on, whole objects are sent to whoever asks for a range.
    pub fn ignore_ranges(&self) {
        self.ranges.store(false, Ordering::Relaxed);
    }

    /// Removes an object.
    pub fn remove(&self, path: &str) {
        self.objects.lock().expect("lock").remove(path);
    }

    /// Replaces an object.
    pub fn replace(&self, path: &str, content: Vec<u8>) {
        self.objects.lock().expect("lock").insert(path.to_owned(), content);
    }
}

/// An error as S3 tells it.
pub(crate) fn refuse(status: u16, code: &str) -> Reply {
    // Real servers repeat what was signed.
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{} {} {}</Message></Error>",
        WRITER.0, WRITER.1, WRITER.2
    );
    Reply::new(status, body).with("content-type", "application/xml")
}

fn answer(request: &Request, objects: &Mutex<BTreeMap<String, Vec<u8>>>, condition: u16, ranges: bool) -> Reply {
    let key_id = match signer(request) {
        Ok(key_id) => key_id,
        Err(why) => return refuse(403, why),
    };
    let path = request.target.split('?').next().unwrap_or_default().to_owned();
    if !path.starts_with(&format!("/{BUCKET}/")) {
        return refuse(404, "NoSuchBucket");
    }
    let mut objects = objects.lock().expect("lock");
    match (request.method.as_str(), objects.get(&path)) {
        ("GET", Some(content)) if ranges => ranged(request, content),
        ("GET" | "HEAD", Some(content)) => Reply::new(200, content.clone()),
        ("GET" | "HEAD", None) => refuse(404, "NoSuchKey"),
        ("PUT", _) if key_id != WRITER.0 => refuse(403, "AccessDenied"),
        ("PUT", held) => match (request.header("if-none-match"), condition) {
            (Some("*"), 412) if held.is_some() => refuse(412, "PreconditionFailed"),
            (Some("*"), 412) | (None, _) => {
                objects.insert(path, request.bytes.clone());
                Reply::new(200, "")
            }
            _ => refuse(condition, "NotImplemented"),
        },
        _ => refuse(405, "MethodNotAllowed"),
    }
}

/// The object, or the range of it that was asked for.
fn ranged(request: &Request, content: &[u8]) -> Reply {
    match request.header("range").and_then(range) {
        Some((first, last)) if first < content.len() => {
            let part = content[first..content.len().min(last + 1)].to_vec();
            let range = format!("bytes {first}-{}/{}", first + part.len() - 1, content.len());
            Reply::new(206, part).with("content-range", &range)
        }
        Some(_) => refuse(416, "InvalidRange"),
        None => Reply::new(200, content.to_vec()),
    }
}

/// `bytes=5-9` → (5, 9).
fn range(header: &str) -> Option<(usize, usize)> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Whose signature the request has.
fn signer(request: &Request) -> Result<&'static str, &'static str> {
    let (path, query) = request.target.split_once('?').ok_or("AccessDenied")?;
    let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let value = |name: &str| {
        let found = pairs.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| decoded(value)).ok_or("AuthorizationQueryParametersError")
    };
    let credential = value("X-Amz-Credential")?;
    let (key_id, scope) = credential.split_once('/').ok_or("AuthorizationQueryParametersError")?;
    let known = [WRITER, READER].into_iter().find(|known| known.0 == key_id).ok_or("InvalidAccessKeyId")?;
    if value("X-Amz-Algorithm")? != "AWS4-HMAC-SHA256" || value("X-Amz-Security-Token")? != known.2 {
        return Err("InvalidToken");
    }
    let signed = value("X-Amz-SignedHeaders")?;
    let mut headers = String::new();
    for name in signed.split(';') {
        headers.push_str(&format!("{name}:{}\n", request.header(name).ok_or("AccessDenied")?));
    }
    let conditional = request.header("if-none-match").is_some();
    if !signed.split(';').any(|name| name == "host") || conditional != signed.contains("if-none-match") {
        return Err("AccessDenied");
    }
    let mut canonical: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    canonical.sort_unstable();
    let canonical = canonical.join("&");
    let method = &request.method;
    let whole = format!("{method}\n{path}\n{canonical}\n{headers}\n{signed}\nUNSIGNED-PAYLOAD");
    let time = value("X-Amz-Date")?;
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(whole)));
    let parts: Vec<&str> = scope.split('/').collect();
    let [day, "here", "s3", "aws4_request"] = parts[..] else { return Err("AuthorizationQueryParametersError") };
    if !time.starts_with(day) {
        return Err("AuthorizationQueryParametersError");
    }
    let start = format!("AWS4{}", known.1).into_bytes();
    let key = parts.iter().fold(start, |key, part| hmac(&key, part.as_bytes()));
    match hex(&hmac(&key, text.as_bytes())) == value("X-Amz-Signature")? {
        true => Ok(known.0),
        false => Err("SignatureDoesNotMatch"),
    }
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    match key.len() > block.len() {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let mixed = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([mixed(0x36).as_slice(), text].concat());
    Sha256::digest([mixed(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value of a query without its percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| text.get(text.len() - tail.len()..)?.get(..2)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
