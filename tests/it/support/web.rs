//! A web server on loopback with fixed answers, files of a directory, and faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A web server, which runs until the test process ends.
pub struct Web {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
    heads: Arc<Mutex<Vec<String>>>,
    dir: PathBuf,
}

/// Headers and body by path.
type Answers = BTreeMap<String, (String, Vec<u8>)>;

impl Web {
    /// Serves `answers`: path, more headers, body. `ETag` and `Last-Modified` are honoured, a `Location` makes a
    /// redirect, and a `WWW-Authenticate` requires some `Authorization`. Also serves `/loop`, `/to-file`, `/short`,
    /// `/stall`, `/status-NNN`, and endless answers: `/vast` with a length, `/chunks` and `/flood` without.
    ///
    /// Everything is also below `/private/`, which requires some `Authorization`; `/away/` redirects to the same path
    /// under another name of this host.
    pub fn serve(answers: &[(&str, &str, &[u8])]) -> Web {
        let own =
            |(path, headers, body): &(&str, &str, &[u8])| ((*path).to_owned(), ((*headers).to_owned(), body.to_vec()));
        Web::start(answers.iter().map(own).collect(), PathBuf::new())
    }

    /// Serves the files below `dir`.
    pub fn serve_dir(dir: &Path) -> Web {
        Web::start(Answers::new(), dir.to_owned())
    }

    fn start(answers: Answers, dir: PathBuf) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, heads) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (log, all, files) = (Arc::clone(&asked), Arc::clone(&heads), dir.clone());
        std::thread::spawn(move || {
            let answers = &answers;
            std::thread::scope(|scope| {
                for stream in listener.incoming().flatten() {
                    let (log, all, files) = (&log, &all, &files);
                    scope.spawn(move || answer(stream, answers, files, log, all));
                }
            });
        });
        Web { url, asked, heads, dir }
    }

    /// The directory that is served.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The header of every request so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("lock").clone()
    }

    /// `PATH If-None-Match` of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").clone()
    }
}

fn answer(
    mut stream: TcpStream,
    answers: &Answers,
    dir: &Path,
    log: &Mutex<Vec<String>>,
    heads: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    while reader.read_line(&mut head).ok()? > 2 {}
    let target = head.split(' ').nth(1)?.to_owned();
    let etag = head.lines().find(|l| l.to_ascii_lowercase().starts_with("if-none-match")).unwrap_or_default();
    let etag = etag.split_once(": ").map_or("", |(_, value)| value).to_owned();
    log.lock().expect("lock").push(format!("{target} {etag}"));
    heads.lock().expect("lock").push(head.clone());
    let header = |name: &str| {
        let value = head.lines().filter_map(|l| l.split_once(": ")).find(|(n, _)| n.eq_ignore_ascii_case(name));
        value.map_or("", |(_, value)| value)
    };
    let since = header("if-modified-since");
    let mut say = |status: &str, headers: &str, body: &[u8], length: usize| {
        let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    if let Some(rest) = target.strip_prefix("/away/") {
        let port = header("host").rsplit_once(':').map_or("", |(_, port)| port);
        return say("302 Found", &format!("Location: http://localhost:{port}/{rest}"), b"", 0);
    }
    let mut path = target.split('?').next()?;
    if let Some(rest) = path.strip_prefix("/private") {
        if header("authorization").is_empty() {
            return say("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"", b"", 0);
        }
        path = rest;
    }
    if let Some((headers, body)) = answers.get(path) {
        if headers.contains("WWW-Authenticate") && header("authorization").is_empty() {
            return say("401 Unauthorized", headers, b"", 0);
        }
        if headers.contains("Location: ") {
            return say("302 Found", headers, b"", 0);
        }
        let held = [etag.as_str(), since].iter().any(|held| !held.is_empty() && headers.contains(held));
        return match held {
            true => say("304 Not Modified", headers, b"", 0),
            false => say("200 OK", headers, body, body.len()),
        };
    }
    match path {
        "/loop" => say("302 Found", "Location: /loop", b"", 0),
        "/to-file" => say("302 Found", "Location: file:///etc/passwd", b"", 0),
        "/stall" | "/stall/r.git/info/refs" => {
            let _ = say("200 OK", "", b"a part", 1000);
            std::thread::sleep(std::time::Duration::from_secs(600));
            None
        }
        "/vast" => say("200 OK", "", b"the first of it", 1 << 40),
        "/chunks" | "/flood" => {
            let chunked = path == "/chunks";
            let coding = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n{coding}\r\n").ok()?;
            let block = [0; 65536];
            loop {
                // Until the client closes the connection.
                if chunked {
                    stream.write_all(b"10000\r\n").ok()?;
                }
                stream.write_all(&block).ok()?;
                if chunked {
                    stream.write_all(b"\r\n").ok()?;
                }
            }
        }
        "/short" => say("200 OK", "", b"not all of it", 1000),
        _ => match (path.strip_prefix("/status-"), std::fs::read(dir.join(path.trim_start_matches('/')))) {
            (Some(status), _) => say(&format!("{status} Said So"), "", b"", 0),
            (None, Ok(body)) if !dir.as_os_str().is_empty() => say("200 OK", "", &body, body.len()),
            _ => say("404 Not Found", "", b"", 0),
        },
    }
}
