//! Test large layers that shared caches have in parts: what is sent and fetched after an edit, and what a cache that lost a part
//! costs (O-44, O-45).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::env::Done;
use crate::support::random::Random;
use crate::support::s3::{BUCKET, S3, WRITER};
use crate::support::{Registry, TestEnv};

/// Bytes of all files of the layer.
const SIZE: usize = 10 << 20;
/// The most that an edit of one file sends.
const FEW: usize = 3 << 20;

/// A context whose layer has [`SIZE`] bytes that cannot be compressed, in many files.
fn context(env: &TestEnv) -> PathBuf {
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY data /data\n");
    let mut random = Random::new(14);
    for number in 0..SIZE >> 14 {
        let dir = context.join(format!("data/d{:02}", number / 50));
        fs::create_dir_all(&dir).expect("make");
        let content: Vec<u8> = (0..1 << 14).map(|_| random.below(256) as u8).collect();
        fs::write(dir.join(format!("f{number:04}")), content).expect("write");
    }
    context
}

/// Changes one file.
fn edit(context: &Path, number: usize, text: &str) {
    fs::write(context.join(format!("data/d{:02}/f{number:04}", number / 50)), text).expect("write");
}

/// Damages what a bucket has; some objects are new since an edit.
type Fault = dyn Fn(&S3, &BTreeSet<String>);

fn build(env: &TestEnv, args: &[&str], context: &Path) -> Done {
    named("app", env, args, context)
}

fn named(name: &str, env: &TestEnv, args: &[&str], context: &Path) -> Done {
    let args = [&["-t", name], args].concat();
    let build = env.build(&args, context);
    let variables =
        [("AWS_ACCESS_KEY_ID", WRITER.0), ("AWS_SECRET_ACCESS_KEY", WRITER.1), ("AWS_SESSION_TOKEN", WRITER.2)];
    variables.iter().fold(build, |build, (name, value)| build.env(name, value)).ok()
}

/// Bytes of all files below `dir`.
fn usage(dir: &Path) -> usize {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let meta = entry.metadata().expect("stat");
        bytes += if meta.is_dir() { usage(&entry.path()) } else { meta.len() as usize };
    }
    bytes
}

/// Builds, edits and builds again with one cache. `held` says how many bytes the cache has, or was sent.
fn edits_are_small(from: &str, to: &str, held: &dyn Fn() -> usize) {
    let first = TestEnv::new();
    let context = context(&first);
    build(&first, &["--cache-to", to], &context).never_says("warning");
    assert!(held() > SIZE, "the first layer is sent whole");

    // On a fresh runner, which has no earlier layer.
    edit(&context, 400, "edited\n");
    let before = held();
    let second = TestEnv::new();
    build(&second, &["--cache-from", from, "--cache-to", to], &context).never_says("warning");
    assert!(held() - before < FEW, "{} bytes were sent", held() - before);

    // On the first one, which knows nothing of the second.
    edit(&context, 600, "edited, too\n");
    let before = held();
    build(&first, &["--cache-to", to], &context).never_says("warning");
    assert!(held() - before < FEW, "{} bytes were sent", held() - before);
    let same = held();
    build(&first, &["--cache-to", to], &context).never_says("warning");
    assert_eq!(held(), same, "nothing is sent twice");

    let fresh = TestEnv::new();
    let done = build(&fresh, &["--cache-from", from], &context);
    done.never_says("warning");
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    let (made, found) = (first.image("app"), fresh.image("app"));
    assert_eq!(found.digest, made.digest);
    assert_eq!(fs::read(&found.layers[0]).expect("read"), fs::read(&made.layers[0]).expect("read"));
    assert_eq!(found.content("data/d12/f0600"), b"edited, too\n");
    fresh.kiln(&["fsck"]).ok();
    fresh.assert_swept();
}

#[test]
fn edit_sends_few_bytes_to_a_directory() {
    let env = TestEnv::new();
    let dir = env.dir().join("shared");
    let at = |key: &str| format!("type=local,{key}={}", dir.display());
    edits_are_small(&at("src"), &at("dest"), &|| usage(&dir));
}

#[test]
fn edit_sends_few_bytes_to_a_bucket() {
    let s3 = S3::start();
    let cache = s3.cache(BUCKET);
    edits_are_small(&cache, &cache, &|| s3.uploaded());
}

#[test]
fn edit_sends_few_bytes_to_a_registry() {
    requires!(docker_registry);
    let registry = Registry::start();
    let cache = format!("type=registry,ref={}", registry.name("cache"));
    edits_are_small(&cache, &cache, &|| usage(&registry.data()));
}

#[test]
fn layer_that_is_here_is_not_fetched_again() {
    let (env, s3) = (TestEnv::new(), S3::start());
    let context = context(&env);
    let cache = s3.cache(BUCKET);
    build(&env, &["--cache-to", &cache], &context);
    let second = TestEnv::new();
    build(&second, &["--cache-from", &cache], &context);
    let whole = s3.downloaded();
    assert!(whole > SIZE);
    edit(&context, 77, "edited\n");
    build(&env, &["--cache-to", &cache], &context);
    let before = s3.downloaded();
    let done = build(&second, &["--cache-from", &cache], &context);
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    assert!(s3.downloaded() - before < FEW, "{} bytes were fetched", s3.downloaded() - before);
    assert_eq!(second.image("app").digest, env.image("app").digest);

    // A blob here that is damaged is no reason to give the cache up.
    edit(&context, 78, "edited\n");
    build(&env, &["--cache-to", &cache], &context);
    let blobs = second.store().join("blobs/sha256");
    for entry in fs::read_dir(blobs).expect("list").map(|entry| entry.expect("an entry")) {
        let mut content = fs::read(entry.path()).expect("read");
        if content.len() > SIZE {
            let middle = content.len() / 2;
            content[middle] ^= 1;
            fs::remove_file(entry.path()).expect("remove");
            fs::write(entry.path(), content).expect("write");
        }
    }
    let done = build(&second, &["--cache-from", &cache], &context);
    done.never_says("warning: cannot read the cache");
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    assert_eq!(second.image("app").digest, env.image("app").digest);
}

#[test]
fn layer_that_lost_a_part_is_a_warning_and_a_miss() {
    // S-50
    let faults: &[(&str, &Fault)] = &[
        ("gone", &|s3, new| new.iter().for_each(|path| s3.remove(path))),
        ("altered", &|s3, new| {
            for path in new {
                let mut content = s3.objects()[path].clone();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                s3.replace(path, content);
            }
        }),
        ("short", &|s3, new| new.iter().for_each(|path| s3.replace(path, s3.objects()[path][..9].to_vec()))),
        ("no ranges", &|s3, _| s3.ignore_ranges()),
        ("all gone", &|s3, _| {
            let all = s3.objects().into_keys().filter(|path| path.contains("/blobs/"));
            all.for_each(|path| s3.remove(&path));
        }),
    ];
    let (env, s3) = (TestEnv::new(), S3::start());
    let context = context(&env);
    let cache = s3.cache(BUCKET);
    build(&env, &["--cache-to", &cache], &context);
    let before: BTreeSet<String> = s3.objects().into_keys().collect();
    edit(&context, 500, "edited\n");
    build(&env, &["--cache-to", &cache], &context);
    let held = s3.objects();
    let new: BTreeSet<String> =
        held.keys().filter(|path| path.contains("/blobs/") && !before.contains(*path)).cloned().collect();
    assert_eq!(new.len(), 2, "a pack and a list: {new:?}");
    for (why, fault) in faults {
        held.iter().for_each(|(path, content)| s3.replace(path, content.clone()));
        fault(&s3, &new);
        let fresh = TestEnv::new();
        let done = build(&fresh, &["--cache-from", &cache, "--cache-to", &cache], &context);
        let warnings: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
        assert_eq!(warnings.len(), 1, "{why}: {done}");
        assert!(warnings[0].starts_with("warning: cannot read the cache in bucket"), "{why}: {done}");
        assert_eq!(done.progress().ran().len(), 1, "{why}: {done}");
        assert_eq!(fresh.image("app").digest, env.image("app").digest, "{why}");
        fresh.assert_swept();
    }
}

#[test]
fn layers_of_a_pushed_image_are_whole_in_the_registry() {
    requires!(docker_registry);
    let (env, registry) = (TestEnv::new(), Registry::start());
    let context = context(&env);
    let cache = format!("type=registry,ref={}", registry.name("cache"));
    let name = registry.name("app:1");
    let args = ["--push", "--cache-from", &cache, "--cache-to", &cache];
    named(&name, &env, &args, &context).never_says("warning");
    edit(&context, 3, "edited\n");
    named(&name, &env, &args, &context).never_says("warning");

    // Nothing of the layer is fetched, and it moves from one repository to another.
    let fresh = TestEnv::new();
    let fetched = registry.requests("GET /v2/cache/blobs/");
    let other = registry.name("other:1");
    named(&other, &fresh, &["--push", "--cache-from", &cache], &context).never_says("warning");
    assert_eq!(registry.requests("GET /v2/cache/blobs/"), fetched);
    let puller = TestEnv::new();
    puller.kiln(&["pull", &other]).ok();
    assert_eq!(puller.image(&other).content("data/d00/f0003"), b"edited\n");
}
