//! Fetching from a server on loopback that misbehaves on request, and from repositories on disk.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::base::fs;
use crate::base::time::Timestamp;
use crate::transport::Timing;

/// A server with one behaviour per path; it records the requests.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn serve() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || answer(stream, &log));
        }
    });
    Server { url, asked }
}

fn answer(mut stream: TcpStream, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    while reader.read_line(&mut head).ok()? > 2 {}
    let path = head.split(' ').nth(1)?.to_owned();
    let header = |name: &str| {
        let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with(name))?;
        Some(line.split_once(": ")?.1.to_owned())
    };
    let auth = header("authorization").unwrap_or_default();
    let etag = header("if-none-match").unwrap_or_default();
    log.lock().unwrap().push(format!("{path} {auth}{etag}").trim().to_owned());
    let tries = log.lock().unwrap().iter().filter(|asked| asked.starts_with(&path)).count();
    let mut say = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    let length = |n: usize| format!("Content-Length: {n}\r\n");
    match path.split('?').next()? {
        "/file.txt" if etag == "\"1\"" => say("304 Not Modified", "ETag: \"1\"\r\n", b""),
        "/file.txt" => {
            let headers = "ETag: \"1\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
            say("200 OK", &(headers.to_owned() + &length(5)), b"hello");
        }
        "/to-file" => say("302 Found", "Location: /file.txt\r\n", b""),
        "/loop" => say("302 Found", "Location: /loop\r\n", b""),
        "/elsewhere" => say("302 Found", "Location: file:///etc/passwd\r\n", b""),
        "/500" => say("500 Internal Server Error", &length(4), b"oops"),
        "/flaky" if tries < 3 => say("503 Service Unavailable", &length(0), b""),
        "/flaky" => say("200 OK", &length(2), b"ok"),
        "/short" => say("200 OK", &length(100), b"only this"),
        "/short-once" if tries < 2 => say("200 OK", &length(4), b"on"),
        "/short-once" => say("200 OK", &length(4), b"once"),
        "/large" => say("200 OK", &length(1 << 40), b"x"),
        "/endless" => {
            say("200 OK", "", b"");
            while stream.write_all(&[0; 4096]).is_ok() {}
        }
        "/stall" => {
            say("200 OK", &length(10), b"12345");
            let _ = stream.read(&mut [0; 1]);
        }
        "/silent" => drop(stream.read(&mut [0; 1])),
        "/gzip" => say("200 OK", &("Content-Encoding: gzip\r\n".to_owned() + &length(7)), b"as sent"),
        _ => say("404 Not Found", &length(0), b""),
    }
    Some(())
}

struct Scene {
    dir: tempfile::TempDir,
    max_bytes: u64,
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), max_bytes: 1 << 20 }
    }

    fn with<R>(&self, ask: impl FnOnce(&Remote<'_>) -> R) -> R {
        let (cache, scratch) = (self.dir.path().join("cache"), self.dir.path().join("scratch"));
        fs::ensure_dir(&scratch).unwrap();
        let timing = Timing {
            attempts: 3,
            pause: Duration::from_millis(1),
            stall: Duration::from_millis(1200),
            ..Timing::default()
        };
        ask(&Remote { timing, max_bytes: self.max_bytes, ..Remote::new(&cache, &scratch) })
    }

    fn http(&self, url: &str, checksum: Option<&str>) -> Result<FetchedFile, String> {
        self.with(|remote| remote.http(url, checksum).map_err(|e| e.to_string()))
    }

    fn git(&self, url: &str, checksum: Option<&str>, keep: bool) -> Result<Checkout, String> {
        let url = GitUrl::parse(url).map_err(|e| e.to_string())?;
        self.with(|remote| {
            let commit = remote.commit(&url, checksum, true)?;
            Ok(Checkout { dir: remote.checkout(&url, &commit, keep, true)?, commit: commit.id })
        })
        .map_err(|e: FetchError| e.to_string())
    }
}

/// A commit's files.
#[derive(Debug)]
struct Checkout {
    dir: std::path::PathBuf,
    commit: String,
}

const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn unchanged_file_is_not_transferred_again() {
    // C-23, C-24
    let (server, scene) = (serve(), Scene::new());
    let url = format!("{}/file.txt?x=1", server.url);
    for _ in 0..2 {
        let file = scene.http(&url, None).unwrap();
        assert_eq!((file.name.as_str(), file.size, file.mtime.secs), ("file.txt", 5, 1_445_412_480));
        assert_eq!(fs::read(&file.path).unwrap(), b"hello");
    }
    assert_eq!(*server.asked.lock().unwrap(), ["/file.txt?x=1", "/file.txt?x=1 \"1\""]);
    // A known digest needs no network.
    let other = scene.http("http://127.0.0.1:1/other-name", Some(HELLO)).unwrap();
    assert_eq!((other.name.as_str(), other.size), ("other-name", 5));
    let wrong = HELLO.replace("2cf2", "0000");
    let error = scene.http(&url, Some(&wrong)).unwrap_err();
    assert_eq!(error, format!("{url}: checksum mismatch: want {wrong}, got {HELLO}"));
    let file = scene.http(&format!("{}/to-file", server.url), None).unwrap();
    assert_eq!(file.name, "to-file");
    // The digest is that of the bytes as sent.
    let file = scene.http(&format!("{}/gzip", server.url), None);
    assert!(file.is_err() || fs::read(&file.unwrap().path).unwrap() == b"as sent");
}

#[test]
fn password_in_url_is_sent_and_never_shown() {
    // S-6, C-31
    let (server, scene) = (serve(), Scene::new());
    let url = server.url.replace("http://", "http://me:s%65cret@");
    let error = scene.http(&format!("{url}/missing"), None).unwrap_err();
    assert!(!error.contains("cret"), "{error}");
    assert_eq!(server.asked.lock().unwrap()[0], "/missing Basic bWU6c2VjcmV0");
    let error = scene.http(&format!("{url}/file.txt"), Some(&HELLO.replace("2cf2", "0000"))).unwrap_err();
    assert!(error.starts_with("http://xxxxx@127.0.0.1:") && !error.contains("cret"), "{error}");
}

#[test]
fn failed_transfer_leaves_nothing_in_the_cache() {
    let (server, mut scene) = (serve(), Scene::new());
    for (path, want) in [
        ("missing", "404"),
        ("500", "500: oops"),
        ("loop", "more than 10 redirects"),
        ("elsewhere", "redirects to \"file:///etc/passwd\", which is not an http or https URL"),
        ("short", "after 9 bytes"),
        ("large", "larger than the limit of 1048576 bytes"),
        ("endless", "larger than the limit of 1048576 bytes"),
        ("stall", "timeout"),
        ("silent", "timeout"),
    ] {
        let error = scene.http(&format!("{}/{path}", server.url), None).unwrap_err();
        assert!(error.contains(want), "{path}: {error}");
    }
    let left = fs::list(&scene.dir.path().join("cache")).unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert!(scene.http(&format!("{}/flaky", server.url), None).is_ok());
    assert!(scene.http(&format!("{}/short-once", server.url), None).is_ok());
    scene.max_bytes = 5;
    assert!(scene.http(&format!("{}/file.txt", server.url), None).is_ok());
    for bad in ["ftp://h/x", "http://", "http:///x", "https://h h/", "x"] {
        assert!(scene.http(bad, None).is_err(), "{bad}");
    }
}

/// A repository with one commit that holds `files` (`path=content`, `path -> target`).
fn repository(dir: &Path, files: &[&str]) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=main"])
            .args(["-c", "protocol.file.allow=always"])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    fs::ensure_dir(dir).unwrap();
    git(&["init", "-q"]);
    for file in files {
        let (name, target) = file.split_once(" -> ").unwrap_or((file, ""));
        let (name, content) = name.split_once('=').unwrap_or((name, ""));
        let path = dir.join(name);
        fs::ensure_dir(path.parent().unwrap()).unwrap();
        match target {
            "" => crate::base::publish::atomic(&path, content.as_bytes(), 0o644).unwrap(),
            target => std::os::unix::fs::symlink(target, &path).unwrap(),
        }
    }
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "v1"]);
    git(&["rev-parse", "HEAD"])
}

#[test]
fn checkout_holds_exactly_the_commit() {
    // C-25
    let scene = Scene::new();
    let repo = scene.dir.path().join("repo");
    let commit = repository(&repo, &["a=1", "sub/b=2", "sub/deep/c=3", ".dockerignore=a"]);
    let url = format!("file://{}", repo.display());
    for reference in ["", "#main", "#v1", "#refs/heads/main", &format!("#{commit}"), &format!("#{}", &commit[..8])] {
        let checkout = scene.git(&format!("{url}{reference}"), None, false).unwrap();
        assert_eq!(checkout.commit, commit, "{reference}");
        assert_eq!(fs::list(&checkout.dir).unwrap(), [".dockerignore", "a", "sub"], "{reference}");
        let meta = std::fs::metadata(checkout.dir.join("a")).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o644, 981_173_106));
    }
    for (url, want) in [
        (format!("{url}?branch=main&mtime=commit"), Ok(())),
        (format!("{url}?branch=refs/heads/main&commit={commit}"), Ok(())),
        (format!("{url}?ref=gone&commit={commit}&fetch-by-commit"), Ok(())),
        (format!("{url}?commit=0123456"), Err("checksum mismatch")),
    ] {
        let got = scene.git(&url, None, false).map(|_| ());
        assert!(got == want.map_err(str::to_owned) || got.unwrap_err().contains(want.unwrap_err()), "{url}");
    }
    let before = Timestamp::now().secs;
    let new = scene.git(&format!("{url}?mtime=checkout"), None, false).unwrap();
    for name in ["a", "sub/b", "sub"] {
        let time = std::fs::metadata(new.dir.join(name)).unwrap().modified().unwrap();
        let time = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        assert!(time >= before, "{name}: {time}");
    }
    for sub in ["#main:sub", "#:sub/", "?subdir=sub", "?tag=v1&subdir=./sub"] {
        let checkout = scene.git(&format!("{url}{sub}"), None, false).unwrap();
        assert_eq!(fs::list(&checkout.dir).unwrap(), ["b", "deep"], "{sub}");
    }
    let kept = scene.git(&url, Some(&commit[..9]), true).unwrap();
    assert!(kept.dir.join(".git/HEAD").exists());
    let error = scene.git(&url, Some("0123456"), false).unwrap_err();
    assert_eq!(error, format!("{url}: checksum mismatch: want 0123456, got {commit}"));
    let error = scene.git(&format!("{url}#gone"), None, false).unwrap_err();
    assert!(error.ends_with("the repository has no branch or tag gone"), "{error}");
    let gone = format!("file://{}/gone", scene.dir.path().display());
    let error = scene.git(&gone, None, false).unwrap_err();
    assert!(error.contains("does not appear to be a git repository"), "{error}");
}

#[test]
fn repository_cannot_leave_its_checkout_or_run_code() {
    // S-8, S-10
    let scene = Scene::new();
    let repo = scene.dir.path().join("repo");
    let hook = scene.dir.path().join("ran");
    let modules = "[submodule \"m\"]\n\tpath = m\n\turl = ext::sh -c \"touch ran\"\n";
    let files = [
        "etc -> /etc",
        "up -> ../..",
        "real/x=1",
        "real/out -> /etc",
        ".gitattributes=*.x filter=evil",
        "y.x=1",
        &format!(".gitmodules={modules}"),
    ];
    repository(&repo, &files);
    let url = format!("file://{}", repo.display());
    for sub in ["etc", "up", "real/out", "..", "real/..", "real/x", "gone", "/etc"] {
        let error = scene.git(&format!("{url}#main:{sub}"), None, false).unwrap_err();
        assert!(error.ends_with("not a directory of the repository"), "{sub}: {error}");
    }
    assert!(scene.git(&format!("{url}#main:real"), None, false).is_ok());
    assert!(!hook.exists());
    for bad in [
        "--upload-pack=touch x",
        "-x",
        "ext::sh -c touch",
        "ssh://-oProxyCommand=touch/x",
        "file:///r#--upload-pack=x",
        "file:///r#a..b",
        "file:///r#a b",
        "file:///r?ref=-x",
        "file:///r?nonsense=1",
        "file:///r?tag=a&branch=b",
        "file:///r?checksum=1234567&commit=7654321",
        "file:///r?mtime=now",
        "file:///r?fetch-by-commit",
        "file:///r?fetch-by-commit&checksum=1234567",
        "file:///r?checksum=xyz",
        "",
    ] {
        assert!(GitUrl::parse(bad).is_err(), "{bad}");
    }
}
