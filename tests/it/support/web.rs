//! A web server on loopback: fixed answers, files of a directory, and ways to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Serves until the process ends.
pub struct Web {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
    dir: PathBuf,
}

/// Headers and body by path.
type Answers = BTreeMap<String, (String, Vec<u8>)>;

impl Web {
    /// Serves `answers`: path, more headers (an `ETag` is honoured), body. Also `/loop`, `/to-file`, `/short`,
    /// `/status-NNN`.
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
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, files) = (Arc::clone(&asked), dir.clone());
        std::thread::spawn(move || {
            let answers = &answers;
            std::thread::scope(|scope| {
                for stream in listener.incoming().flatten() {
                    let (log, files) = (&log, &files);
                    scope.spawn(move || answer(stream, answers, files, log));
                }
            });
        });
        Web { url, asked, dir }
    }

    /// The directory that is served.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `PATH If-None-Match` of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").clone()
    }
}

fn answer(mut stream: TcpStream, answers: &Answers, dir: &Path, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    while reader.read_line(&mut head).ok()? > 2 {}
    let target = head.split(' ').nth(1)?.to_owned();
    let etag = head.lines().find(|l| l.to_ascii_lowercase().starts_with("if-none-match")).unwrap_or_default();
    let etag = etag.split_once(": ").map_or("", |(_, value)| value).to_owned();
    log.lock().expect("lock").push(format!("{target} {etag}"));
    let mut say = |status: &str, headers: &str, body: &[u8], length: usize| {
        let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    let path = target.split('?').next()?;
    if let Some((headers, body)) = answers.get(path) {
        return match !etag.is_empty() && headers.contains(&etag) {
            true => say("304 Not Modified", headers, b"", 0),
            false => say("200 OK", headers, body, body.len()),
        };
    }
    match path {
        "/loop" => say("302 Found", "Location: /loop", b"", 0),
        "/to-file" => say("302 Found", "Location: file:///etc/passwd", b"", 0),
        "/short" => say("200 OK", "", b"not all of it", 1000),
        _ => match (path.strip_prefix("/status-"), std::fs::read(dir.join(path.trim_start_matches('/')))) {
            (Some(status), _) => say(&format!("{status} Said So"), "", b"", 0),
            (None, Ok(body)) if !dir.as_os_str().is_empty() => say("200 OK", "", &body, body.len()),
            _ => say("404 Not Found", "", b"", 0),
        },
    }
}
