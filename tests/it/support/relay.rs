//! A registry behind a server that counts what it is asked.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Registry, Reply, Request, Server};

/// Passes requests on to a registry.
pub struct Relay {
    server: Server,
}

impl Relay {
    /// A relay to `registry`, which must write relative addresses ([`Relay::CONFIG`]).
    pub fn to(registry: &Registry) -> Relay {
        let host = registry.host();
        // A registry that is gone closes connections.
        let gone = || Reply { mute: true, ..Reply::default() };
        Relay { server: Server::start(move |request| pass_on(request, &host).unwrap_or_else(gone)) }
    }

    /// For [`Registry::start_with`].
    pub const CONFIG: &str = "  relativeurls: true\n";

    /// `127.0.0.1:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.server.authority)
    }

    /// All requests so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.server.log()
    }
}

fn pass_on(request: &Request, host: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(host).ok()?;
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", request.method, request.target);
    for name in ["accept", "authorization", "content-type", "content-range", "range"] {
        head.extend(request.header(name).map(|value| format!("{name}: {value}\r\n")));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", request.bytes.len()));
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&request.bytes).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut reply = Reply::new(status, &answer[end + 4..]);
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "location" => reply = reply.with("location", value),
            "docker-content-digest" => reply = reply.with("docker-content-digest", value),
            "content-type" => reply = reply.with("content-type", value),
            "content-range" => reply = reply.with("content-range", value),
            "range" => reply = reply.with("range", value),
            "etag" => reply = reply.with("etag", value),
            "content-length" => reply.length = value.parse().ok(),
            _ => {}
        }
    }
    Some(reply)
}
