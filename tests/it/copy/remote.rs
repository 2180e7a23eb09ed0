//! Test ADD of URLs and repositories (C-23…C-25): number of requests, limits, and where credentials are sent.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::web::Web;
use crate::support::{TestEnv, canary};

/// Serves a repository with a branch, a tag and an annotated tag as `/r.git`; returns its commit.
fn publish(env: &TestEnv, web: &Web) -> String {
    let work = env.context("-- f --\none\n-- sub/g --\ng\n");
    let git = "git -c user.name=n -c user.email=e";
    super::add::sh(
        &work,
        &format!(
            "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'; git init -q -b main; git add -A; {git} commit -qm one; git tag plain; {git} tag -am x noted; git branch both; git rev-parse HEAD >../id; git clone -q --bare . {0}/r.git; git -C {0}/r.git update-server-info",
            web.dir().display()
        ),
    );
    std::fs::read_to_string(work.parent().expect("a parent").join("id")).expect("read").trim().to_owned()
}

/// Moves the branch to a new commit.
fn move_branch(web: &Web) {
    let dir = web.dir().join("r.git");
    let tree = "git -c user.name=n -c user.email=e commit-tree -p main -m two main:sub";
    super::add::sh(&dir, &format!("git update-ref refs/heads/main $({tree}); git update-server-info"));
}

fn objects(web: &Web, from: usize) -> usize {
    web.asked()[from..].iter().filter(|line| line.contains("/objects/")).count()
}

#[test]
fn repository_is_fetched_once_per_commit() {
    // C-25
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve_dir(&env.context("-- keep --\n"));
    let (context, commit) = (env.context("-- x --\n"), publish(&env, &web));
    let url = format!("{}/r.git", web.url);
    let build = |line: &str| {
        let from = web.asked().len();
        let (done, name) = super::build(&env, &context, line, &[]);
        assert_eq!(done.code, 0, "{line}\n{done}");
        (done, name, objects(&web, from), web.asked().len() - from)
    };
    for reference in ["", "#main", "#noted", "#refs/tags/plain", "?branch=both&subdir=sub", "?tag=noted&mtime=commit"] {
        let line = format!("ADD {url}{reference} /");
        let (_, first, fetched, _) = build(&line);
        assert_eq!(fetched > 0, reference.is_empty(), "{line}: all are one commit");
        let (done, second, fetched, _) = build(&line);
        done.says("CACHED [1/1] ADD");
        assert_eq!(fetched, 0, "{line}: only asked where the ref is");
        assert_eq!(env.image(&first).diff_ids(), env.image(&second).diff_ids());
    }
    // A full commit id needs no network.
    let line = format!("ADD --keep-git-dir {url}#{commit} /");
    build(&line);
    let (done, name, _, asked) = build(&line);
    assert_eq!(asked, 0, "{done}");
    assert!(env.image(&name).tree().0.contains_key(".git/HEAD"), "and is not in doubt because of what git writes");
    let (_, _, fetched, _) = build(&format!("ADD {url}?ref=gone&commit={commit}&fetch-by-commit=1 /"));
    assert_eq!(fetched, 0);
    // An abbreviated id is resolved once.
    let line = format!("ADD {url}#{} /", &commit[..9]);
    build(&line);
    let (_, _, _, asked) = build(&line);
    assert_eq!(asked, 0);
    // The ref moves: the key is the commit, not its files.
    move_branch(&web);
    let (done, name, fetched, _) = build(&format!("ADD {url}#main /"));
    assert!(fetched > 0 && env.image(&name).tree().0.contains_key("g"), "{done}");
    let (done, _) = super::build(&env, &context, &format!("ADD --checksum={commit} {url}#main /"), &[]);
    assert_eq!(done.code, 1);
    done.says("checksum mismatch").says(&commit).says("update the checksum");
    // The same ref twice in one Dockerfile is resolved once.
    let (_, _, _, once) = build(&format!("ADD {url}#both /a"));
    let from = web.asked().len();
    let (_, _, _, twice) = build(&format!("ADD {url}#plain /a\nADD {url}#plain /b"));
    let listed = web.asked()[from..].iter().filter(|line| line.contains("service=git-upload-pack")).count();
    assert!(listed <= 5 && twice < 2 * once, "{:?}", &web.asked()[from..]);
    env.assert_swept();
}

#[test]
fn plain_user_build_fetches_each_source_once() {
    // C-23, C-25: one process resolves sources, another one in a user namespace builds.
    requires!(git, kiln_test, root);
    let env = TestEnv::of_plain_user();
    let web = Web::serve_dir(&env.context("-- keep --\n-- plain.txt --\np\n"));
    publish(&env, &web);
    let context = env.context("-- x --\n");
    let line = format!("ADD {0}/r.git#main /r/\nADD {0}/plain.txt /", web.url);
    let (done, _) = super::build(&env, &context, &line, &[]);
    assert_eq!(done.code, 0, "{done}");
    let asked = web.asked();
    let mut unique: Vec<_> = asked.iter().filter(|line| line.contains("/objects/") || line.contains(".txt")).collect();
    unique.sort();
    let all = unique.len();
    unique.dedup();
    assert_eq!((unique.len(), all), (all, all), "{asked:?}");
}

#[test]
fn unchanged_url_is_not_downloaded_again() {
    // C-23: checked by ETag, or by date if it is old enough; C-24: with a checksum, without a request.
    let env = TestEnv::new();
    let old = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nDate: Wed, 21 Oct 2020 07:28:00 GMT";
    let fresh = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nDate: Wed, 21 Oct 2015 07:28:01 GMT";
    let web = Web::serve(&[("/tag", "ETag: \"t\"", b"t"), ("/old", old, b"o"), ("/fresh", fresh, b"f")]);
    let context = env.context("-- x --\n");
    let line = format!("ADD {0}/tag {0}/old {0}/fresh /", web.url);
    for _ in 0..2 {
        let (done, _) = super::build(&env, &context, &line, &[]);
        assert_eq!(done.code, 0, "{done}");
    }
    let heads = web.heads();
    let asked = |path: &str| heads.iter().filter(|head| head.contains(path)).collect::<Vec<_>>();
    assert_eq!((asked("GET /tag").len(), asked("GET /old").len(), asked("GET /fresh").len()), (2, 2, 2));
    assert!(asked("GET /tag")[1].to_ascii_lowercase().contains("if-none-match: \"t\""));
    assert!(asked("GET /old")[1].to_ascii_lowercase().contains("if-modified-since: wed, 21 oct 2015"));
    assert!(!asked("GET /fresh")[1].to_ascii_lowercase().contains("if-"), "{}", asked("GET /fresh")[1]);
    // A damaged download in the cache is not used.
    let path = env.store().join("cache");
    let sum = "sha256:e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8";
    let file = find(&path, &sum.replace(':', "-")).or_else(|| find(&env.store(), &sum.replace(':', "-")));
    std::fs::write(file.expect("it is kept"), "X").expect("write");
    let (done, _) = super::build(&env, &context, &format!("ADD --checksum={sum} {}/tag /other", web.url), &[]);
    assert_eq!(done.code, 1, "{done}");
    done.says("digest mismatch");
}

#[test]
fn oversized_download_is_refused_and_leaves_nothing() {
    // C-23, S-64
    for env in crate::support::env::each_user() {
        let web = Web::serve(&[("/small", "", b"small")]);
        let context = env.context("-- x --\n");
        env.build(&["-t", "warm"], &env.context("-- Dockerfile --\nFROM scratch\nCOPY x /\n-- x --\nx\n")).ok();
        let kept =
            || walkdir::WalkDir::new(env.store()).into_iter().flatten().filter(|e| e.file_type().is_file()).count();
        let before = kept();
        for path in ["vast", "chunks", "flood"] {
            let url = format!("{}/{path}", web.url);
            let file = context.join("Dockerfile.remote");
            std::fs::write(&file, format!("FROM scratch\nADD {url} /\n")).expect("write");
            let file = file.to_str().expect("UTF-8");
            let said = format!("error: fetch {url}: larger than the limit of 1048576 bytes");
            for args in
                [vec!["-f", file, "."], vec![url.as_str()], vec!["--build-context", "a=", "."], vec!["-f", &url, "."]]
            {
                let named = format!("a={url}");
                let args: Vec<&str> = args.iter().map(|arg| if *arg == "a=" { named.as_str() } else { arg }).collect();
                let all = [&["build"], &args[..]].concat();
                let done = env.kiln(&all).dir(&context).env("KILN_MAX_DOWNLOAD", "1m").fails(1);
                done.says(said.trim_start_matches("error: ")).says("KILN_MAX_DOWNLOAD");
                assert!(done.took.as_secs() < 20, "{done}");
                assert_eq!(kept(), before, "{done}");
            }
        }
        env.assert_swept();
        // A file of exactly the allowed size is accepted.
        let (done, _) = super::build(&env, &context, &format!("ADD {}/small /", web.url), &[]);
        assert_eq!(done.code, 0, "{done}");
        let done = env.kiln(&["build", &format!("{}/small", web.url)]).env("KILN_MAX_DOWNLOAD", "4").fails(1);
        done.says("larger than the limit of 4 bytes");
        let with_file = ["build", "-f", "Dockerfile.remote", "."];
        let wrong = env.kiln(&with_file).env("KILN_MAX_DOWNLOAD", "many").dir(&context).fails(2);
        wrong.says("KILN_MAX_DOWNLOAD");
        // The default limit.
        env.kiln(&["build", &format!("{}/vast", web.url)]).fails(1).says("larger than the limit of 68719476736 bytes");
    }
}

#[test]
fn unsupported_url_error_lists_supported_schemes() {
    // C-22, C-23, S-64
    let env = TestEnv::new();
    let context = env.context("-- x --\n");
    for source in ["ftp://127.0.0.1/x", "file:///etc/passwd", "s3://bucket/x", "HTTP://127.0.0.1/x"] {
        let (done, _) = super::build(&env, &context, &format!("ADD {source} /x"), &[]);
        assert_eq!(done.code, 1, "{done}");
        done.says(&format!("{source} not found in the context")).says("use a URL that begins with http://, https://");
    }
    env.build(&["-f", "-"], &context).stdin(b"FROM scratch\nCOPY http://127.0.0.1/x /\n").fails(1).says("replace COPY");
    let done = env.kiln(&["build", "ftp://127.0.0.1/x"]).fails(1);
    done.says("does not exist").says("use a URL that begins with");
}

#[test]
fn dockerfile_can_be_read_from_url() {
    // P-21
    for env in crate::support::env::each_user() {
        let web =
            Web::serve(&[("/d/Dockerfile", "", b"FROM busybox\nCOPY x /\nRUN test -s /x\n"), ("/bad", "", b"RUN x\n")]);
        let context = env.context("-- x --\nx\n-- Dockerfile --\nFROM nowhere\n");
        env.build(&["-f", &format!("{}/d/Dockerfile", web.url), "-t", "app"], &context).ok();
        assert!(env.image("app").tree().0.contains_key("x"));
        let transferred = web.asked().len();
        assert_eq!(transferred, 1, "once, although another process continues the build: {:?}", web.asked());
        env.build(&["-f", &format!("{}/bad", web.url)], &context).fails(1).says(&format!("{}/bad:1", web.url));
        env.kiln(&["check", "-f", &format!("{}/d/Dockerfile", web.url), "."]).dir(&context).ok();
        let gone = env.build(&["-f", &format!("{}/none", web.url)], &context).fails(1);
        gone.says("read Dockerfile: cannot fetch").says("404");
        let text = format!("{}/d/Dockerfile", web.url);
        env.kiln(&["build", "-f", &text, &text]).fails(2).says("is not an archive");
    }
}

fn find(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().find_map(|entry| match entry.path() {
        path if path.file_name().is_some_and(|n| n == name) => Some(path),
        path if path.is_dir() => find(&path, name),
        _ => None,
    })
}

#[test]
fn auth_secrets_are_sent_only_to_their_host() {
    // C-23, C-25, S-110, S-114
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve_dir(&env.context("-- file.txt --\nf\n"));
    publish(&env, &web);
    let secret = canary::text();
    let context = env.context("-- x --\n");
    write_token(&env, &secret);
    let host = web.url.strip_prefix("http://").expect("a URL").to_owned();
    let from = format!("src={}", env.dir().join("token").display());
    let build = |line: &str, id: &str| {
        let (done, name) = super::build(&env, &context, line, &["--secret", &format!("id={id},{from}")]);
        done.never_says(&secret);
        (done, name)
    };
    let bearer = format!("Bearer {secret}");
    let private = format!("ADD {}/private/file.txt /", web.url);
    for (id, code) in [
        ("HTTP_AUTH_TOKEN_127.0.0.1".to_owned(), 0),
        (format!("HTTP_AUTH_TOKEN_{host}"), 0),
        (format!("HTTP_AUTH_HEADER_{host}"), 0),
        ("HTTP_AUTH_TOKEN_example.com".to_owned(), 1),
        ("GIT_AUTH_TOKEN".to_owned(), 1),
    ] {
        let (done, _) = build(&format!("ARG X={id}\n{private}"), &id);
        assert_eq!(done.code, code, "{id}\n{done}");
        if code == 1 {
            done.says("401").says("--secret id=HTTP_AUTH_TOKEN_");
        }
    }
    assert!(web.heads().iter().any(|head| head.contains(&bearer)));
    // A redirect to another host carries no credentials.
    let from_here = web.heads().len();
    let (done, _) = build(&format!("ADD {}/away/private/file.txt /", web.url), "HTTP_AUTH_TOKEN_127.0.0.1");
    assert_eq!(done.code, 1, "{done}");
    let heads = web.heads().split_off(from_here);
    assert!(heads[0].contains(&bearer) && heads[1].contains("localhost") && !heads[1].contains(&secret), "{heads:?}");
    // Repositories, also as contexts; git sends no credentials after a redirect.
    let repo = format!("{}/private/r.git", web.url);
    let (done, _) = super::build(&env, &context, &format!("ADD {repo} /"), &[]);
    assert_eq!(done.code, 1);
    done.says("--secret id=GIT_AUTH_TOKEN");
    for id in ["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER.127.0.0.1", &format!("GIT_AUTH_TOKEN.{host}")] {
        let (done, _) = build(&format!("ARG X={id}\nADD {repo} /"), id);
        assert_eq!(done.code, 0, "{id}\n{done}");
    }
    let with_secret = ["--secret", &format!("id=GIT_AUTH_TOKEN,{from}")];
    let named = format!("other={repo}");
    let (done, _) = super::build(
        &env,
        &context,
        "COPY --from=other f /",
        &[&with_secret[..], &["--build-context", &named]].concat(),
    );
    assert_eq!(done.code, 0, "{done}");
    let from_here = web.heads().len();
    let (done, _) = build(&format!("ADD {}/away/r.git /", web.url), "GIT_AUTH_TOKEN");
    assert_eq!(done.code, 1);
    done.says("the server redirects, and credentials are not sent");
    assert!(web.heads()[from_here..].iter().all(|head| !head.contains("localhost")));
    // A secret with two lines is not a valid header.
    std::fs::write(env.dir().join("token"), "a\nb").expect("write");
    let (done, _) = build(&format!("ARG X=2\n{private}"), "HTTP_AUTH_TOKEN_127.0.0.1");
    assert_eq!(done.code, 1);
    done.says("the secret HTTP_AUTH_TOKEN_127.0.0.1 is empty, or not one line of text");
    let leaks = canary::leaks(&env.store(), &secret);
    assert!(leaks.is_empty(), "{leaks:?}");
}

fn write_token(env: &TestEnv, secret: &str) {
    std::fs::write(env.dir().join("token"), format!("{secret}\n")).expect("write");
}

#[test]
fn add_includes_submodules() {
    // C-25
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve_dir(&env.context("-- keep --\n"));
    publish(&env, &web);
    let work = env.context("-- top --\nt\n");
    super::add::sh(
        &work,
        &format!(
            "git init -q -b main; git add -A; git submodule --quiet add {1}/r.git part; git config -f .gitmodules submodule.part.url ../r.git; git add -A; git -c user.name=n -c user.email=e commit -qm x; git clone -q --bare . {0}/s.git; git -C {0}/s.git update-server-info",
            web.dir().display(),
            web.url
        ),
    );
    let context = env.context("-- x --\n");
    let secret = env.dir().join("token");
    write_token(&env, "tok");
    let secret = format!("id=GIT_AUTH_TOKEN,src={}", secret.display());
    for (query, has) in [("", true), ("?submodules=0", false)] {
        let line = format!("ADD {}/private/s.git{query} /", web.url);
        let (done, name) = super::build(&env, &context, &line, &["--secret", &secret]);
        assert_eq!(done.code, 0, "{done}");
        let tree = env.image(&name).tree();
        assert!(tree.0.contains_key("top") && tree.0.contains_key("part/f") == has, "{query}: {tree:?}");
        // The path is relative, so that it contains no host path (N-33).
        assert_eq!(tree.0.contains_key("part/.git"), has);
        if has {
            assert_eq!(env.image(&name).content("part/.git"), b"gitdir: ../.git/modules/part\n");
        }
    }
}

#[test]
fn stalled_download_ends_on_timeout_and_interrupt() {
    // C-23, C-25, S-61
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve(&[]);
    let context = env.context("-- x --\n");
    for (before, source) in [("", "stall"), ("COPY x /\n", "stall"), ("", "stall/r.git")] {
        let line = format!("{before}ADD {}/{source} /", web.url);
        let began = std::time::Instant::now();
        let (done, _) = super::build(&env, &context, &line, &["--timeout", "1s"]);
        assert_eq!(done.code, 1, "{done}");
        done.says("the build took longer than 1s").says("--timeout");
        assert!(began.elapsed().as_secs() < 20, "{done}");
        let file = env.dir().join("Dockerfile").display().to_string();
        let asked = web.asked().len();
        let mut child = env.build(&["-f", &file], &context).spawn();
        while web.asked().len() == asked {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let began = std::time::Instant::now();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("kill");
        let ended = child.wait().expect("wait");
        // For a plain user the build may end by the signal itself, which shells report as 130 too.
        assert!(ended.code() == Some(130) || ended.signal() == Some(2), "{source}: {ended:?}");
        assert!(began.elapsed().as_secs() < 20, "{source}");
        if ended.code().is_some() {
            env.assert_swept();
        }
    }
}
