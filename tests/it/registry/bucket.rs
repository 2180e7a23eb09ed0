//! Test caches in a bucket of an S3 store: what runs, what is signed, and what a bucket that refuses costs (O-44, O-45).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::TestEnv;
use crate::support::env::Done;
use crate::support::s3::{BUCKET, READER, S3, WRITER, refuse};

const LINES: &str = "
-- Dockerfile --
FROM busybox AS tool
RUN echo tool > /tool && head -c 100000 /dev/urandom > /noise

FROM busybox
WORKDIR /app
COPY src/ src/
RUN cat src/* > all
COPY --from=tool /tool /noise /usr/bin/
CMD [\"cat\", \"all\"]
-- src/a --
a
";

/// A build with an access key of the environment. No message shows a key.
fn build(env: &TestEnv, key: (&str, &str, &str), args: &[&str], context: &Path) -> Done {
    let args = [&["-t", "app"], args].concat();
    let variables = [("AWS_ACCESS_KEY_ID", key.0), ("AWS_SECRET_ACCESS_KEY", key.1), ("AWS_SESSION_TOKEN", key.2)];
    let build = env.build(&args, context);
    let done = variables.iter().fold(build, |build, (name, value)| build.env(name, value)).ok();
    done.never_says("hidden");
    done
}

fn warnings(done: &Done) -> Vec<&str> {
    done.stderr.lines().filter(|line| line.starts_with("warning: ")).collect()
}

#[test]
fn bucket_serves_fresh_stores_and_is_written_once() {
    requires!(userns, overlay);
    let (env, s3) = (TestEnv::with_busybox(), S3::start());
    let context = env.context(LINES);
    let cache = s3.cache(BUCKET);
    let to = format!("{cache},mode=max,use_path_style=true");
    build(&env, WRITER, &["--cache-from", &cache, "--cache-to", &to], &context).never_says("warning");
    let held = s3.objects();
    assert!(held.keys().any(|key| key.starts_with("/layers/team/app/v1/root/")), "{:?}", held.keys());
    assert!(held.keys().any(|key| key.starts_with("/layers/team/app/blobs/sha256/")), "{:?}", held.keys());
    assert_eq!(s3.written_twice(), BTreeSet::new());

    let fresh = TestEnv::with_busybox();
    let asked = s3.asked().len();
    let done = build(&fresh, READER, &["--cache-from", &cache], &context);
    done.never_says("warning");
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    let mut asked = s3.asked().split_off(asked);
    assert!(asked.remove(0).starts_with("GET /layers/team/app/v1/root/"), "one entry says it all");
    // An image of the store keeps its layers there: no registry has them.
    assert!(asked.iter().all(|asked| asked.starts_with("GET /layers/team/app/blobs/")), "{asked:?}");
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "{asked:?}");

    // An edit runs what it changes; layers that are needed are fetched, and the next store finds what was made.
    fs::write(context.join("src/a"), "b\n").expect("write");
    let edited = TestEnv::with_busybox();
    let done = build(&edited, WRITER, &["--cache-from", &cache, "--cache-to", &to], &context);
    done.never_says("warning");
    assert!(done.progress().cached().iter().any(|step| step.contains("/dev/urandom")), "{done}");
    assert_eq!(edited.kiln(&["run", "app"]).ok().stdout, "b\n");
    let noise = |env: &TestEnv| env.kiln(&["run", "app", "md5sum", "/usr/bin/noise"]).ok().stdout;
    assert_eq!(noise(&edited), noise(&env));
    let next = TestEnv::with_busybox();
    let done = build(&next, READER, &["--cache-from", &cache], &context);
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    let now = s3.objects();
    assert!(held.iter().all(|(key, content)| now.get(key) == Some(content)), "nothing was changed");
}

#[test]
fn bucket_that_refuses_costs_one_warning() {
    requires!(userns, overlay);
    let (env, s3) = (TestEnv::with_busybox(), S3::start());
    let context = env.context(LINES);
    let (cache, absent) = (s3.cache(BUCKET), s3.cache("absent"));
    let wrong = (WRITER.0, "hidden", WRITER.2);
    let unknown = ("NOBODY", "hidden", "hidden");
    for (key, option, cache, verb, why) in [
        (wrong, "--cache-from", &cache, "cannot read", "403: SignatureDoesNotMatch"),
        (unknown, "--cache-from", &cache, "cannot read", "403: InvalidAccessKeyId"),
        (wrong, "--cache-to", &cache, "cannot write to", "403"),
        (READER, "--cache-to", &cache, "cannot write to", "403: AccessDenied"),
        (WRITER, "--cache-from", &absent, "cannot read", "404: NoSuchBucket"),
        (WRITER, "--cache-to", &absent, "cannot write to", "404: NoSuchBucket"),
    ] {
        let fresh = TestEnv::with_busybox();
        let done = build(&fresh, key, &[option, cache], &context);
        assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "a\n");
        let warnings = warnings(&done);
        assert_eq!(warnings.len(), 1, "{why}: {done}");
        assert!(warnings[0].starts_with(&format!("warning: {verb} the cache in bucket http://127.0.0.1:")), "{done}");
        assert!(warnings[0].contains(why), "{why}: {done}");
        fresh.assert_swept();
    }
    assert!(s3.objects().is_empty());
}

#[test]
fn bucket_without_conditions_is_written_plainly() {
    requires!(userns, overlay);
    for status in [501, 400] {
        let (env, s3) = (TestEnv::with_busybox(), S3::without_conditions(status));
        let context = env.context(LINES);
        let cache = s3.cache(BUCKET);
        build(&env, WRITER, &["--cache-to", &cache], &context).never_says("warning");
        let fresh = TestEnv::with_busybox();
        let done = build(&fresh, READER, &["--cache-from", &cache], &context);
        assert_eq!(done.progress().ran(), BTreeSet::new(), "{status}: {done}");
    }
}

#[test]
fn entry_that_another_writer_made_stays() {
    requires!(userns, overlay);
    let (env, s3) = (TestEnv::with_busybox(), S3::start());
    let context = env.context(LINES);
    let cache = s3.cache(BUCKET);
    build(&env, WRITER, &["--cache-to", &cache], &context).never_says("warning");
    let entries = || s3.requests("PUT", "/v1/step/") + s3.requests("PUT", "/v1/root/");
    let sent = entries();
    let mut held = s3.objects();
    held.retain(|path, _| !path.contains("/v1/claim/"));
    // Nothing seems to be there, as if others wrote it at the same moment. The second one's layers are others: the tool makes
    // noise.
    s3.fault.set(|request| (request.method != "PUT").then(|| refuse(404, "NoSuchKey")));
    let second = TestEnv::with_busybox();
    build(&second, WRITER, &["--cache-to", &cache], &context).never_says("warning");
    s3.fault.clear();
    assert!(entries() >= 2 * sent, "{:?}", s3.asked());
    let now = s3.objects();
    assert!(now.len() > held.len(), "the second one's layers");
    assert!(held.iter().all(|(key, content)| now.get(key) == Some(content)), "the first one's entries");
    let fresh = TestEnv::with_busybox();
    let done = build(&fresh, READER, &["--cache-from", &cache], &context);
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    assert_eq!(fresh.image("app").digest, env.image("app").digest);
}

#[test]
fn altered_blob_of_a_bucket_is_a_warning_and_a_miss() {
    // S-50
    requires!(userns, overlay);
    let (env, s3) = (TestEnv::with_busybox(), S3::start());
    let context = env.context(LINES);
    let cache = s3.cache(BUCKET);
    build(&env, WRITER, &["--cache-to", &cache], &context);
    for (path, mut content) in s3.objects().into_iter().filter(|(path, _)| path.contains("/blobs/")) {
        let middle = content.len() / 2;
        content[middle] ^= 1;
        s3.replace(&path, content);
    }
    let fresh = TestEnv::with_busybox();
    let out = format!("type=oci,dest={}", fresh.dir().join("x.tar").display());
    let done = build(&fresh, READER, &["--cache-from", &cache, "-o", &out], &context);
    done.says("warning: cannot read the cache in bucket");
    assert!(!done.progress().ran().is_empty(), "{done}");
    assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "a\n");
}
