//! Test cache mounts that machines share: restored on another store, owners and all, and never in the way (O-44, O-45).

use std::fs;
use std::path::{Path, PathBuf};

use super::context;
use crate::support::TestEnv;
use crate::support::env::{Done, each_user};
use crate::support::s3::{BUCKET, S3, WRITER};

/// Downloads what its cache mount lacks, and counts that.
const LINES: &str = "ARG V
RUN --mount=type=cache,target=/c : $V; touch /log; \
    for n in a b c d e; do [ -e /c/$n ] || { echo $n >> /log; echo content of $n > /c/$n; }; done
RUN --mount=type=cache,target=/other : $V; ls /other > /listed; touch /other/file";

fn downloaded(env: &TestEnv) -> String {
    String::from_utf8(env.image("app").content("log")).expect("text")
}

/// A build of which each `version` runs the commands again.
fn build(env: &TestEnv, version: &str, args: &[&str], dir: &Path) -> Done {
    let version = format!("V={version}");
    let build = env.build(&[&["-t", "app", "--build-arg", &version], args].concat(), dir);
    let variables =
        [("AWS_ACCESS_KEY_ID", WRITER.0), ("AWS_SECRET_ACCESS_KEY", WRITER.1), ("AWS_SESSION_TOKEN", WRITER.2)];
    variables.iter().fold(build, |build, (name, value)| build.env(name, value)).ok()
}

/// A shared cache in a directory, to be read and to be written.
fn place(env: &TestEnv) -> (String, String) {
    let dir = env.dir().join("shared");
    (format!("type=local,src={}", dir.display()), format!("type=local,dest={}", dir.display()))
}

#[test]
fn cache_mount_is_restored_on_another_store() {
    requires!(userns, overlay);
    for (first, second) in each_user().into_iter().zip(each_user()) {
        let (from, to) = place(&first);
        let dir = context(&first, LINES, "");
        build(&first, "1", &["--cache-to", &format!("{to},mounts=/c")], &dir).never_says("not written");
        assert_eq!(downloaded(&first), "a\nb\nc\nd\ne\n");
        let dir = context(&second, LINES, "");
        let named = format!("{from},mounts=/c,mounts=/other");
        build(&second, "2", &["--cache-from", &named], &dir).never_says("warning");
        assert_eq!(downloaded(&second), "", "everything was restored");
        assert_eq!(second.image("app").content("listed"), b"", "only what was named is written");
        // What is here is not replaced.
        build(&second, "3", &["--cache-from", &named], &dir).never_says("warning");
        assert_eq!(second.image("app").content("listed"), b"file\n");
        second.assert_swept();
        first.assert_swept();
    }
}

#[test]
fn cache_mount_that_is_not_named_is_not_restored() {
    requires!(userns, overlay);
    let (first, second) = (TestEnv::with_busybox(), TestEnv::with_busybox());
    let (from, to) = place(&first);
    let dir = context(&first, LINES, "");
    build(&first, "1", &["--cache-to", &format!("{to},mounts=all")], &dir);
    build(&second, "2", &["--cache-from", &from], &dir);
    assert_eq!(downloaded(&second), "a\nb\nc\nd\ne\n");
    let done = build(&second, "3", &["--cache-from", &format!("{from},mounts=/d")], &dir);
    done.says("warning: --cache-from mounts=/d has no effect: no RUN has a cache mount with this id");
}

#[test]
fn cache_mount_keeps_owners_modes_and_links() {
    requires!(userns, overlay);
    let make = "cd /c && mkdir -m 2750 d && echo x > d/f && chmod 640 d/f && chown -R 1000:1001 d && ln d/f hard && ln -s d/f soft \
        && touch -d @1000000000 d/f";
    let list = "cd /c && stat -c '%n %a %u %g %h %F %Y' d/f hard soft && stat -c '%n %a %u %g' . d && cat soft";
    for (first, second) in each_user().into_iter().zip(each_user()) {
        let (from, to) = place(&first);
        let mount = "RUN --mount=type=cache,id=tree,target=/c,uid=7,mode=0711";
        let dir = context(&first, &format!("{mount} {make} && ({list}) > /list"), "");
        first.build(&["-t", "app", "--cache-to", &format!("{to},mounts=tree")], &dir).ok().never_says("not written");
        let other = context(&second, &format!("{mount} ({list}) > /list"), "");
        second.build(&["-t", "app", "--cache-from", &format!("{from},mounts=tree")], &other).ok().never_says("warning");
        let listed = |env: &TestEnv| String::from_utf8(env.image("app").content("list")).expect("text");
        let without_time = |text: String| {
            let links = |line: &str| line.contains("soft").then(|| line.rsplit_once(' ').expect("a time").0.to_owned());
            text.lines().map(|line| links(line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(without_time(listed(&second)), without_time(listed(&first)));
    }
}

#[test]
fn cache_mount_sends_only_what_changed() {
    requires!(userns, overlay);
    let s3 = S3::start();
    let cache = format!("{},mounts=all", s3.cache(BUCKET));
    let lines = "ARG V\nRUN --mount=type=cache,target=/c : $V; for n in 0 1 2 3 4 5 6 7; do \
        [ -e /c/$n ] || head -c 1500000 /dev/urandom > /c/$n; done; echo $V > /c/version; cat /c/0 | md5sum > /sum";
    let first = TestEnv::with_busybox();
    let dir = context(&first, lines, "");
    let args = ["--cache-from", &cache, "--cache-to", &cache];
    build(&first, "1", &args, &dir).never_says("warning");
    assert!(s3.uploaded() > 12_000_000);
    let before = s3.uploaded();
    let second = TestEnv::with_busybox();
    build(&second, "2", &args, &dir).never_says("warning");
    assert_eq!(second.image("app").content("sum"), first.image("app").content("sum"));
    assert!(s3.uploaded() - before < 3_000_000, "{} bytes were sent", s3.uploaded() - before);
    let third = TestEnv::with_busybox();
    build(&third, "3", &args, &dir).never_says("warning");
    assert_eq!(third.image("app").content("sum"), first.image("app").content("sum"));
}

/// What becomes of the bytes of a blob.
type Fault = fn(&[u8]) -> Vec<u8>;

/// The paths of all blobs of a cache in a directory.
fn blobs(env: &TestEnv) -> Vec<PathBuf> {
    let listed = fs::read_dir(env.dir().join("shared/blobs/sha256")).expect("list");
    listed.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn cache_mount_that_is_damaged_is_a_warning() {
    // S-50
    requires!(userns, overlay);
    let first = TestEnv::with_busybox();
    let (from, to) = place(&first);
    let dir = context(&first, LINES, "");
    build(&first, "1", &["--cache-to", &format!("{to},mounts=/c")], &dir);
    let held: Vec<(PathBuf, Vec<u8>)> =
        blobs(&first).into_iter().map(|path| (path.clone(), fs::read(&path).expect("read"))).collect();
    let faults: [(&str, Fault); 3] = [
        ("altered", |bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("short", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("empty", |_| Vec::new()),
    ];
    for (why, fault) in faults {
        held.iter().for_each(|(path, bytes)| fs::write(path, fault(bytes)).expect("write"));
        let fresh = TestEnv::with_busybox();
        let done = build(&fresh, "2", &["--cache-from", &format!("{from},mounts=/c")], &dir);
        assert_eq!(done.stderr.matches("warning: cannot read the cache in directory").count(), 1, "{why}: {done}");
        assert_eq!(downloaded(&fresh), "a\nb\nc\nd\ne\n", "{why}");
        fresh.assert_swept();
    }
}

#[test]
fn cache_mount_in_use_elsewhere_is_noted() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let (_, to) = place(&env);
    let dir = context(&env, LINES, "");
    build(&env, "1", &[], &dir);
    let id = &crate::support::image::sha256(b"/c")[..32];
    let lock = fs::File::open(env.store().join("mounts").join(id).join("0/lock")).expect("the lock");
    lock.lock_shared().expect("lock");
    let done = build(&env, "2", &["--cache-to", &format!("{to},mounts=/c")], &dir);
    done.says("note: the cache mount /c is not written to shared caches (another build uses it)");
}
