//! Test caches that machines share, in a registry and in a directory: what is asked, what runs, and what a cache that fails
//! costs (O-44, O-45).

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::env::fixture;
use crate::support::web::Web;
use crate::support::{Registry, TestEnv};

const LINES: &str = "
FROM BASE AS tool
RUN echo tool > /tool && head -c 100000 /dev/urandom > /noise

FROM BASE
WORKDIR /app
COPY src/ src/
RUN cat src/* > all
COPY --from=tool /tool /noise /usr/bin/
RUN --mount=type=bind,from=tool,target=/t cat /t/tool >> all
CMD [\"cat\", \"all\"]
-- src/a --
a
";

/// The Dockerfile on `base`, with its files.
fn lines(base: &str) -> String {
    format!("-- Dockerfile --{}", LINES.replace("BASE", base))
}

/// `type=registry,ref=…`.
fn at(registry: &Registry) -> String {
    format!("type=registry,ref={}", registry.name("cache"))
}

/// A registry with a base image, and a context on it.
fn served(env: &TestEnv) -> (Registry, PathBuf) {
    let registry = Registry::start();
    let base = registry.push_layout(&fixture("busybox").join("layout"), "latest", "base:1");
    let context = env.context(&lines(&base));
    (registry, context)
}

#[test]
fn fresh_runner_asks_once_and_fetches_nothing() {
    requires!(userns, overlay, docker_registry, skopeo);
    let env = TestEnv::new();
    let (registry, context) = served(&env);
    let cache = at(&registry);
    env.build(&["-t", "app", "--cache-to", &format!("{cache},mode=max")], &context).ok().never_says("cannot");
    let first = env.image("app");

    let fresh = TestEnv::new();
    let (asked, blobs) = (registry.requests("/v2/cache/"), registry.requests("GET /v2/cache/blobs/"));
    let layers = registry.requests("GET /v2/base/blobs/");
    let done = fresh.build(&["-t", "app", "--cache-from", &cache], &context).ok();
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    assert_eq!(registry.requests("/v2/cache/") - asked, 1, "{done}");
    assert_eq!(registry.requests("GET /v2/cache/blobs/"), blobs);
    assert_eq!(registry.requests("GET /v2/base/blobs/") - layers, 1, "the config of the base");
    let id = |env: &TestEnv| env.kiln(&["inspect", "--format", "{{.Id}}", "app"]).ok().stdout;
    assert_eq!(id(&fresh), id(&env));

    // A push moves nothing either.
    let name = registry.name("team/app:1");
    fresh.kiln(&["tag", "app", &name]).ok();
    fresh.kiln(&["push", &name]).ok().says("sent 1 blob");
    assert_eq!(registry.requests("GET /v2/cache/blobs/"), blobs);

    // What needs the files fetches them.
    assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "a\ntool\n");
    assert_eq!(fresh.image("app").digest, first.digest);
    let other = TestEnv::new();
    let archive = other.dir().join("app.tar");
    let out = format!("type=oci,dest={}", archive.display());
    other.build(&["-t", "app", "--cache-from", &cache, "-o", &out], &context).ok();
    assert_eq!(other.image("app").tree(), first.tree());
    other.kiln(&["load", "-i", archive.to_str().expect("a path")]).ok();
    let derived = other.context("-- Dockerfile --\nFROM app\nRUN cat all\n");
    let third = TestEnv::new();
    third.build(&["-t", "app", "--cache-from", &cache], &context).ok();
    third.build(&[], &derived).ok();
    third.assert_swept();
}

#[test]
fn edit_on_fresh_runner_runs_only_what_changed() {
    requires!(userns, overlay, docker_registry, skopeo);
    let env = TestEnv::new();
    let (registry, context) = served(&env);
    let cache = at(&registry);
    env.build(&["-t", "app", "--cache-to", &format!("{cache},mode=max")], &context).ok();
    fs::write(context.join("src/a"), "b\n").expect("write");
    let fresh = TestEnv::new();
    let done = fresh.build(&["-t", "app", "--cache-from", &cache, "--cache-to", &cache], &context).ok();
    let tool = "RUN echo tool > /tool && head -c 100000 /dev/urandom > /noise";
    assert!(done.progress().cached().contains(tool), "{done}");
    assert_eq!(done.progress().ran().len(), 4, "{done}");
    // The tool's layer differs each time it is made: the one of the cache was used.
    let noise = |env: &TestEnv| env.kiln(&["run", "app", "md5sum", "/usr/bin/noise"]).ok().stdout;
    assert_eq!(noise(&fresh), noise(&env));
    // The next runner finds what this one made.
    let next = TestEnv::new();
    let done = next.build(&["-t", "app", "--cache-from", &cache], &context).ok();
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    assert_eq!(next.kiln(&["run", "app"]).ok().stdout, "b\ntool\n");
}

#[test]
fn what_one_cache_has_is_written_to_others() {
    requires!(userns, overlay, docker_registry, skopeo);
    let env = TestEnv::new();
    let (registry, context) = served(&env);
    let first = at(&registry);
    env.build(&["-t", "app", "--cache-to", &format!("{first},mode=max")], &context).ok();
    let branch = format!("type=registry,ref={}", registry.name("branch"));
    let dir = env.dir().join("shared");
    for (edited, ran) in [(false, 0), (true, 4)] {
        if edited {
            fs::write(context.join("src/a"), "b\n").expect("write");
        }
        let middle = TestEnv::new();
        let blobs = registry.requests("GET /v2/cache/blobs/");
        let to = format!("{branch},mode=max");
        let done = middle.build(&["-t", "app", "--cache-from", &first, "--cache-to", &to], &context).ok();
        done.never_says("warning");
        assert_eq!(done.progress().ran().len(), ran, "{done}");
        let fetched = registry.requests("GET /v2/cache/blobs/") - blobs;
        assert!(edited || fetched == 0, "the registry copies what it has");
        let other = TestEnv::new();
        let to = format!("type=local,dest={},mode=max", dir.display());
        other.build(&["--cache-from", &branch, "--cache-to", &to], &context).ok().never_says("warning");
        for from in [branch.clone(), format!("type=local,src={}", dir.display())] {
            let fresh = TestEnv::new();
            let done = fresh.build(&["-t", "app", "--cache-from", &from], &context).ok();
            assert_eq!(done.progress().ran(), BTreeSet::new(), "{from} {done}");
            assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, if edited { "b\ntool\n" } else { "a\ntool\n" });
        }
    }
}

#[test]
fn cache_in_a_directory_serves_other_stores() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(&lines("busybox"));
    let dir = env.dir().join("shared");
    let (to, from) =
        (format!("type=local,dest={},mode=max", dir.display()), format!("type=local,src={}", dir.display()));
    env.build(&["-t", "app", "--cache-from", &from, "--cache-to", &to], &context).ok().never_says("warning");
    let written = files(&dir);
    env.build(&["-t", "app", "--cache-to", &to], &context).ok();
    assert_eq!(files(&dir), written, "nothing is written twice");
    let fresh = TestEnv::with_busybox();
    let done = fresh.build(&["-t", "app", "--cache-from", &from], &context).ok();
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    assert_eq!(fresh.image("app").tree(), env.image("app").tree());
}

#[test]
fn mode_min_has_what_the_image_needs() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(&lines("busybox"));
    let [all, least] = ["all", "least"].map(|name| env.dir().join(name));
    let to = |dir: &Path, rest: &str| format!("type=local,dest={},{rest}", dir.display());
    let min = to(&least, "mode=min,ignore-error=true,image-manifest=true,oci-mediatypes=true");
    let args = ["-t", "app", "--cache-to", &to(&all, "mode=max"), "--cache-to", &min];
    env.build(&args, &context).ok().never_says("warning");
    assert!(files(&least).len() < files(&all).len());
    let fresh = TestEnv::with_busybox();
    let from = format!("type=local,src={}", least.display());
    let done = fresh.build(&["--cache-from", &from], &context).ok();
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
}

/// The files below `dir`, with their sizes and times.
fn files(dir: &Path) -> BTreeSet<(PathBuf, u64, std::time::SystemTime)> {
    let mut found = BTreeSet::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("list").map(|entry| entry.expect("an entry")) {
            let meta = entry.metadata().expect("stat");
            match meta.is_dir() {
                true => open.push(entry.path()),
                false => drop(found.insert((entry.path(), meta.len(), meta.modified().expect("a time")))),
            }
        }
    }
    found
}

#[test]
fn altered_cache_is_a_warning_and_a_miss() {
    // S-50, S-130
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(&lines("busybox"));
    let dir = env.dir().join("shared");
    let (to, from) =
        (format!("type=local,dest={},mode=max", dir.display()), format!("type=local,src={}", dir.display()));
    env.build(&["-t", "app", "--cache-to", &to], &context).ok();
    let whole = env.image("app").tree();
    let of = |kind: &str| -> Vec<PathBuf> {
        files(&dir).into_iter().map(|(path, ..)| path).filter(|path| path.to_string_lossy().contains(kind)).collect()
    };
    let check = |why: &str| {
        let fresh = TestEnv::with_busybox();
        let out = format!("type=oci,dest={}", fresh.dir().join("x.tar").display());
        let done = fresh.build(&["-t", "app", "--cache-from", &from, "-o", &out], &context).ok();
        done.says("warning: cannot read the cache in directory");
        assert!(!done.progress().ran().is_empty(), "{why}: {done}");
        assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "a\ntool\n", "{why}");
        assert_eq!(fresh.image("app").tree().names(), whole.names(), "{why}");
    };
    let restore = |saved: &[(PathBuf, Vec<u8>)]| {
        for (path, bytes) in saved {
            fs::write(path, bytes).expect("write");
        }
    };
    let save = |paths: &[PathBuf]| -> Vec<(PathBuf, Vec<u8>)> {
        paths.iter().map(|path| (path.clone(), fs::read(path).expect("read"))).collect()
    };
    // Blobs with other bytes, too short, and gone.
    let blobs = save(&of("/blobs/"));
    for (path, bytes) in &blobs {
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        fs::write(path, flipped).expect("write");
    }
    check("other bytes");
    restore(&blobs);
    for (path, bytes) in &blobs {
        fs::write(path, &bytes[..bytes.len() / 2]).expect("write");
    }
    check("too short");
    restore(&blobs);
    blobs.iter().for_each(|(path, _)| fs::remove_file(path).expect("remove"));
    check("gone");
    restore(&blobs);
    // Entries that answer another key, are no entries, or are of a newer format.
    let entries = save(&of("/v1/"));
    for (path, _) in &entries {
        let other = entries.iter().find(|(other, _)| other != path).expect("two");
        fs::write(path, &other.1).expect("write");
    }
    check("another key");
    for (path, _) in &entries {
        fs::write(path, b"<html>").expect("write");
    }
    check("no entry");
    for (path, bytes) in &entries {
        let newer = String::from_utf8_lossy(bytes).replace("\"version\":1", "\"version\":9");
        fs::write(path, newer).expect("write");
    }
    check("newer");
}

/// A server that accepts connections and never answers.
fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let host = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            held.push(stream);
        }
    });
    host
}

/// A server that answers everything with these bytes.
fn answering(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let host = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(text.as_bytes());
        }
    });
    host
}

#[test]
fn failing_cache_delays_and_fails_no_build() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(&lines("busybox"));
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        listener.local_addr().expect("an address").to_string()
    };
    let full = "HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 9\r\nConnection: close\r\n\r\ndisk full";
    let teapot = "HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: close\r\n\r\nnot for you\n";
    let page =
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>hi</html>";
    let web = Web::serve(&[]);
    for (host, why) in [
        (gone, "refused"),
        (silent(), "no answer within 1 s"),
        (answering(full), "507"),
        (answering(teapot), "403"),
        (answering(page), "not a manifest"),
        (web.url["http://".len()..].to_owned(), "not found"),
    ] {
        let fresh = TestEnv::with_busybox();
        let cache = format!("type=registry,ref={host}/cache");
        let began = Instant::now();
        let args = ["-t", "app", "--cache-from", &cache, "--cache-to", &cache, "--cache-timeout", "1s"];
        let done = fresh.build(&args, &context).ok();
        assert!(began.elapsed() < Duration::from_secs(30), "{why}: {:?}", began.elapsed());
        assert_eq!(done.progress().ran().len(), 6, "{why}: {done}");
        let warnings: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
        assert!(warnings.iter().any(|line| line.contains(why)), "{why}: {done}");
        assert!(warnings.len() <= 2 && warnings.iter().all(|line| line.contains("the cache in registry")), "{done}");
        fresh.assert_swept();
    }
}

#[test]
fn image_in_place_of_a_cache_is_noted() {
    requires!(userns, overlay, docker_registry, skopeo);
    let env = TestEnv::with_busybox();
    let registry = Registry::start();
    let name = registry.push_layout(&fixture("busybox").join("layout"), "latest", "app:1");
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN true\n");
    let done = env.build(&["--cache-from", &name], &context).ok();
    done.says(&format!("note: cache not found: {name} is an image or another builder's cache"));
}

#[test]
fn runners_that_start_together_lose_nothing() {
    requires!(userns, overlay, docker_registry, skopeo);
    let env = TestEnv::new();
    let (registry, context) = served(&env);
    let cache = at(&registry);
    let runners: Vec<TestEnv> = (0..4).map(|_| TestEnv::new()).collect();
    std::thread::scope(|scope| {
        for (number, runner) in runners.iter().enumerate() {
            let (cache, context) = (&cache, &context);
            scope.spawn(move || {
                let own = runner.context("-- marker --\n");
                let file = own.join("own");
                fs::create_dir(&file).expect("make");
                copy(context, &file);
                // Every second one differs.
                if number % 2 == 1 {
                    fs::write(file.join("src/b"), format!("{number}\n")).expect("write");
                }
                let to = format!("{cache},mode=max");
                let args = ["-t", "app", "--cache-from", cache, "--cache-to", &to];
                runner.build(&args, &file).ok().never_says("warning");
            });
        }
    });
    let fresh = TestEnv::new();
    let done = fresh.build(&["-t", "app", "--cache-from", &cache], &context).ok();
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "a\ntool\n");
}

/// Copies the Dockerfile and sources of a context.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to.join("src")).expect("make");
    for name in ["Dockerfile", "src/a"] {
        fs::copy(from.join(name), to.join(name)).expect("copy");
    }
}
