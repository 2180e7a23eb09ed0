//! Test ADD of archives, URLs and repositories (C-23…C-27, C-31).

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{check_in, refuse};
use crate::support::TestEnv;
use crate::support::web::Web;

/// Runs a shell command in `dir`.
#[track_caller]
pub(super) fn sh(dir: &Path, line: &str) {
    let done = Command::new("sh").args(["-ec", line]).current_dir(dir).output().expect("run sh");
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn add_unpacks_local_archives_regardless_of_name() {
    // C-26, C-27
    requires!(xz, bzip2, zstd);
    let env = TestEnv::new();
    let context = env.context("-- in/d/f 0640 --\nf\n-- in/run 4755 --\nr\n-- in/l -> d/f --\n-- in/h = in/run --\n-- notes.gz --\nno gzip\n-- empty.tar --\n-- f --\nf\n");
    fs::write(context.join("empty.tar"), "").expect("write");
    sh(&context, "tar --owner=a:11 --group=b:12 --numeric-owner -C in -cf plain.tar d run l h");
    sh(&context, "gzip -k plain.tar; bzip2 -k plain.tar; xz -k plain.tar; zstd -q plain.tar");
    sh(&context, "gzip -c f >text.gz; mv plain.tar.bz2 odd.name; mkdir many; cp plain.tar.gz f many/");
    sh(&context, "ln -s plain.tar.xz link");
    let want: &[&str] =
        &["d/ 0755 11:12", "d/f 0640 11:12 \"f\"", "h 4755 11:12 \"r\"", "l -> d/f 11:12", "run 4755 11:12 \"r\""];
    check_in(
        &env,
        &context,
        &[
            ("C-26", "ADD plain.tar /", want),
            ("C-26", "ADD plain.tar.gz /", want),
            ("C-26", "ADD odd.name /", want),
            ("C-26", "ADD plain.tar.xz /", want),
            ("C-26", "ADD plain.tar.zst /", want),
            ("C-26: through a link", "ADD link /", want),
            (
                "C-26: the destination is a directory",
                "ADD --exclude=x plain.tar /n",
                &[
                    "n/ 0755",
                    "n/d/ 0755 11:12",
                    "n/d/f 0640 11:12 \"f\"",
                    "n/h 4755 11:12 \"r\"",
                    "n/l -> d/f 11:12",
                    "n/run 4755 11:12 \"r\"",
                ],
            ),
            (
                "C-26 N-8: --chown and --chmod are for entries too",
                "ADD --chown=1:2 --chmod=710 plain.tar /n",
                &[
                    "n/ 0710 1:2",
                    "n/d/ 0710 1:2",
                    "n/d/f 0710 1:2 \"f\"",
                    "n/h 0710 1:2 \"r\"",
                    "n/l -> d/f 1:2",
                    "n/run 0710 1:2 \"r\"",
                ],
            ),
            (
                "C-26 N-8: so is --exclude",
                "ADD --exclude=d/* --exclude=l --chmod=go= plain.tar /n/",
                &["n/ 0755", "n/d/ 0700 11:12", "n/h 4700 11:12 \"r\"", "n/run 4700 11:12 \"r\""],
            ),
            (
                "C-26: each match by itself",
                "ADD many/* /n/",
                &[
                    "n/ 0755",
                    "n/d/ 0755 11:12",
                    "n/d/f 0640 11:12 \"f\"",
                    "n/f 0644 \"f\"",
                    "n/h 4755 11:12 \"r\"",
                    "n/l -> d/f 11:12",
                    "n/run 4755 11:12 \"r\"",
                ],
            ),
            (
                "C-26: compressed, but no tar",
                "ADD notes.gz empty.tar /n/",
                &["n/ 0755", "n/empty.tar 0644 \"\"", "n/notes.gz 0644 \"no gzip\""],
            ),
            (
                "C-26: not within a directory",
                "ADD many/ /n/\nCOPY f /n/plain.tar.gz",
                &["n/ 0755", "n/f 0644 \"f\"", "n/plain.tar.gz 0644 \"f\""],
            ),
            ("C-26: over what is there", "COPY f /d/f\nCOPY f /l\nADD plain.tar /", want),
        ],
    );
    let (done, name) =
        super::build(&env, &context, "ADD --unpack=false plain.tar text.gz /\nCOPY plain.tar /copied", &[]);
    assert_eq!(done.code, 0, "{done}");
    let image = env.image(&name);
    let plain = fs::read(context.join("plain.tar")).expect("read");
    assert!(image.content("plain.tar") == plain && image.content("copied") == plain, "C-27");
    assert_eq!(image.content("text.gz"), fs::read(context.join("text.gz")).expect("read"));
}

#[test]
fn add_downloads_urls_and_verifies_checksums() {
    // C-23, C-24, C-31
    let env = TestEnv::new();
    let web = Web::serve(&[
        ("/dir/file.txt", "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: \"1\"", b"hello"),
        ("/", "", b"index"),
        ("/app.tar", "", &fs::read(tar(&env)).expect("read")),
    ]);
    let (url, empty) = (&web.url, env.context("-- x --\n"));
    let line = format!(
        "ADD {url}/dir/file.txt?query=1 /\nADD --chown=3:4 --chmod=644 {url}/dir/file.txt /n/m\nADD {url}/ /n/"
    );
    let (done, name) = super::build(&env, &empty, &line, &[]);
    assert_eq!(done.code, 0, "{done}");
    let image = env.image(&name);
    let want = ["file.txt 0600 \"hello\"", "n/ 0644 3:4", "n/__unnamed__ 0600 \"index\"", "n/m 0644 3:4 \"hello\""];
    assert_eq!(super::list(&image), want);
    assert_eq!(image.tree()["file.txt"].mtime, Some(1_445_412_480));
    // The server answers that the file is unchanged: nothing is downloaded and the step is cached.
    let asked = web.asked().len();
    let (done, _) = super::build(&env, &empty, &line, &[]);
    assert_eq!(done.stderr.matches("CACHED").count(), 4, "{done}");
    assert!(web.asked()[asked..].iter().any(|line| line.contains("/dir/file.txt") && line.contains("\"1\"")));
    let (_, name) = super::build(&env, &empty, &format!("ADD {url}/app.tar /"), &[]);
    assert_eq!(env.image(&name).tree()["app.tar"].mode, 0o600, "not unpacked");
    let (_, name) = super::build(&env, &empty, &format!("ADD --unpack {url}/app.tar /"), &[]);
    assert_eq!(super::list(&env.image(&name)), ["f 0644 \"f\""]);
    // C-24
    let sum = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let (done, _) = super::build(&env, &empty, &format!("ARG S={sum}\nADD --checksum=$S {url}/dir/file.txt /"), &[]);
    assert_eq!(done.code, 0, "{done}");
    let asked = web.asked().len();
    let (done, _) = super::build(&env, &empty, &format!("ADD --checksum={sum} {url}/other-name /"), &[]);
    assert!(done.code == 0 && web.asked().len() == asked, "no network for what is known\n{done}");
    let wrong = sum.replace("2cf2", "0000");
    let (done, _) = super::build(&env, &empty, &format!("ADD --checksum={wrong} {url}/dir/file.txt /"), &[]);
    assert_eq!(done.code, 1);
    done.says("checksum mismatch").says(&wrong).says(sum);
    // Also for a URL that was never downloaded.
    let (done, _) = super::build(&env, &empty, &format!("ADD --checksum={wrong} {url}/dir/file.txt?new /"), &[]);
    assert_eq!(done.code, 1, "{done}");
    done.says("checksum mismatch").says(&wrong).says(sum);
    // S-6, C-31: a password in a URL is in no message, image or file of the store.
    let secret = url.replace("http://", "http://me:hunter2@");
    let (done, name) = super::build(&env, &empty, &format!("ADD {secret}/dir/file.txt /\nADD {secret}/gone /"), &[]);
    assert_eq!(done.code, 1);
    done.never_says("hunter2").says("404");
    let (done, name2) = super::build(&env, &empty, &format!("ADD {secret}/dir/file.txt /"), &[]);
    assert_eq!(done.code, 0, "{done}");
    let _ = name;
    assert!(!env.image(&name2).config.to_string().contains("hunter2"));
    assert!(crate::support::canary::leaks(&env.store(), "hunter2").is_empty(), "in the store");
}

fn tar(env: &TestEnv) -> std::path::PathBuf {
    let dir = env.context("-- f --\nf\n");
    sh(&dir, "tar --owner=0 --group=0 --numeric-owner -cf app.tar f");
    dir.join("app.tar")
}

#[test]
fn add_reports_server_errors() {
    // C-23
    let env = TestEnv::new();
    let web = Web::serve(&[]);
    let context = env.context("-- x --\n");
    for (path, says, helps) in [
        ("missing", "404", "check the URL"),
        ("status-403", "403", "HTTP_AUTH_TOKEN"),
        ("loop", "more than 10 redirects", "use the URL of the file itself"),
        ("to-file", "not an http or https URL", "use the URL of the file itself"),
        ("short", "the transfer", "or try again"),
    ] {
        let (done, _) = super::build(&env, &context, &format!("COPY x /\nADD {}/{path} /", web.url), &[]);
        assert_eq!(done.code, 1, "{path}\n{done}");
        done.says(says).says(helps).says("ADD");
    }
    let (done, _) = super::build(&env, &context, "ADD http://127.0.0.1:1/x /", &[]);
    assert_ne!(done.code, 0);
    done.says("connection refused").says("check the port, and whether the server runs");
}

#[test]
fn add_checks_out_git_repositories() {
    // C-25
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve_dir(&env.context("-- keep --\n"));
    let context =
        env.context("-- work/a 0755 --\na\n-- work/sub/b --\nb\n-- work/.dockerignore --\nsub\n-- work/l -> a --\n");
    let work = context.join("work");
    sh(
        &work,
        "git init -q -b main; git add -A; git -c user.name=n -c user.email=e commit -qm one; git tag v1; echo 2 >a; git -c user.name=n -c user.email=e commit -qam two",
    );
    sh(&work, "git clone -q --bare . ../r.git; git -C ../r.git update-server-info");
    sh(&context, &format!("mv r.git {}/r.git", web.dir().display()));
    let url = format!("{}/r.git", web.url);
    let rows = [
        (
            format!("ADD {url} /"),
            vec![".dockerignore 0644 \"sub\"", "a 0755 \"2\"", "l -> a", "sub/ 0755", "sub/b 0644 \"b\""],
        ),
        (format!("ADD {url}#v1:sub /n"), vec!["n/ 0755", "n/b 0644 \"b\""]),
        (
            format!("ADD --exclude=sub {url}?tag=v1 /n/"),
            vec!["n/ 0755", "n/.dockerignore 0644 \"sub\"", "n/a 0755 \"a\"", "n/l -> a"],
        ),
    ];
    for (line, want) in rows {
        let (done, name) = super::build(&env, &context, &line, &[]);
        assert_eq!(done.code, 0, "{line}\n{done}");
        assert_eq!(super::list(&env.image(&name)), want, "{line}");
    }
    let (done, name) = super::build(&env, &context, &format!("ADD --keep-git-dir=true {url} /"), &[]);
    assert_eq!(done.code, 0, "{done}");
    assert!(env.image(&name).tree().0.contains_key(".git/HEAD"));
    for (line, says) in [
        (format!("ADD {url}#gone /"), "gone"),
        (format!("ADD --checksum=0123456789 {url} /"), "checksum mismatch"),
        (format!("ADD {url}#main:l /"), "not a directory of the repository"),
        (format!("ADD {url}#--upload-pack=x /"), "not a ref"),
    ] {
        let (done, _) = super::build(&env, &context, &line, &[]);
        assert_eq!(done.code, 1, "{line}\n{done}");
        done.says(says);
    }
}

#[test]
fn add_fails_on_truncated_archives() {
    // C-26, S-40
    let env = TestEnv::new();
    let context = env.context("-- f --\nf\n");
    sh(
        &context,
        "tar -cf whole.tar f; head -c 513 whole.tar >cut.tar; head -c 3000 /dev/urandom >r; tar -czf r.tgz r; head -c 2000 r.tgz >cut.tgz",
    );
    for archive in ["cut.tar", "cut.tgz"] {
        let (done, _) = super::build(&env, &context, &format!("ADD {archive} /"), &[]);
        assert_eq!(done.code, 1, "{archive}\n{done}");
        done.says(archive).says("unpack");
    }
    refuse("-- f --\nf\n", &[("C-24", "ADD --checksum=sha256:00 f /", &["--checksum"])]);
}
