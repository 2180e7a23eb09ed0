//! A server whose responses a test determines; the integration tests use it, too (`tests/it/support/mod.rs`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
    /// The bytes as text.
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// The response to send.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Close after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Close without any answer.
    pub(crate) mute: bool,
    /// The pause before the head.
    pub(crate) late: Duration,
    /// The pause before the body.
    pub(crate) stall: Duration,
    /// Send the body byte by byte, with this pause before each.
    pub(crate) drip: Option<Duration>,
    /// The `Content-Length`, if not that of the body.
    pub(crate) length: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A running server; its thread ends with the process.
pub(crate) struct Server {
    /// `127.0.0.1:port`
    pub(crate) authority: String,
    log: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(handle: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let authority = listener.local_addr().expect("address").to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let handle = Arc::new(handle);
        let connections = Arc::new(AtomicUsize::new(0));
        let server = Self { authority, log: Arc::clone(&log), connections: Arc::clone(&connections) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (handle, log) = (Arc::clone(&handle), Arc::clone(&log));
                std::thread::spawn(move || {
                    // Some tests disconnect.
                    let _ = serve(stream, &*handle, &log);
                });
            }
        });
        server
    }

    /// How many connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.log.lock().expect("log").clone()
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
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut request = Request { method, target, headers, bytes: Vec::new(), body: String::new() };
        let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        request.bytes = vec![0; length];
        reader.read_exact(&mut request.bytes)?;
        request.body = String::from_utf8_lossy(&request.bytes).into_owned();
        log.lock().expect("log").push(request.clone());
        let reply = handle(&request);
        let length = reply.length.unwrap_or(reply.body.len());
        let mut head = format!("HTTP/1.1 {} Word\r\ncontent-length: {length}\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        std::thread::sleep(reply.late);
        if reply.mute {
            return stream.shutdown(std::net::Shutdown::Both);
        }
        stream.write_all(head.as_bytes())?;
        if request.method == "HEAD" {
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
