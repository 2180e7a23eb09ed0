//! A server whose responses a test determines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A received request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The start of a `Range`.
    pub(super) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }

    /// The end of a `Range`, exclusive, if it has one.
    pub(super) fn to(&self) -> Option<usize> {
        let last: usize = self.header("range")?.split('-').nth(1)?.parse().ok()?;
        Some(last + 1)
    }
}

/// The response to send.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Close after so many bytes of the body.
    pub(super) cut: Option<usize>,
    /// The pause before the body.
    pub(super) stall: Duration,
    /// Send the body byte by byte, with this pause before each.
    pub(super) drip: Option<Duration>,
    /// The `Content-Length`, if not that of the body.
    pub(super) length: Option<usize>,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A running server; its thread ends with the process.
pub(super) struct Server {
    /// `127.0.0.1:port`
    pub(super) authority: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) fn start(handle: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let authority = listener.local_addr().expect("address").to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let handle = Arc::new(handle);
        let server = Self { authority, log: Arc::clone(&log) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handle, log) = (Arc::clone(&handle), Arc::clone(&log));
                std::thread::spawn(move || {
                    // Some tests disconnect.
                    let _ = serve(stream, &*handle, &log);
                });
            }
        });
        server
    }

    pub(super) fn log(&self) -> Vec<Request> {
        self.log.lock().expect("log").clone()
    }

    /// How many requests had this method and a target containing `part`.
    pub(super) fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|r| r.method == method && r.target.contains(part)).count()
    }
}

fn serve(
    mut stream: TcpStream,
    handle: &(dyn Fn(&Request) -> Reply + Send + Sync),
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            match header.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        let mut request =
            Request { method: method.to_owned(), target: target.to_owned(), headers, body: String::new() };
        let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        request.body = String::from_utf8_lossy(&body).into_owned();
        log.lock().expect("log").push(request.clone());
        let reply = handle(&request);
        let length = reply.length.unwrap_or(reply.body.len());
        let mut head = format!("HTTP/1.1 {} Word\r\ncontent-length: {length}\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if method == "HEAD" {
            continue;
        }
        std::thread::sleep(reply.stall);
        let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        match reply.drip {
            None => stream.write_all(&reply.body[..end])?,
            Some(pause) => reply.body[..end].iter().try_for_each(|byte| {
                std::thread::sleep(pause);
                stream.write_all(&[*byte])
            })?,
        }
        if reply.cut.is_some() {
            stream.shutdown(std::net::Shutdown::Both)?;
            return Ok(());
        }
    }
}
