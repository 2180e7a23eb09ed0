//! Test S3 stores that fail: each fault is one warning and a miss, and delays no build (O-44, S-61).

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::env::Done;
use crate::support::s3::{BUCKET, S3, WRITER, refuse};
use crate::support::{Reply, Request, TestEnv};

/// No command, so that a build takes little time without the cache.
const LINES: &str = "-- Dockerfile --\nFROM busybox\nCOPY a /a\nCOPY b /b\n-- a --\na\n-- b --\nb\n";

/// The patience of a build, and the most that a fault may cost it besides: a few attempts, and a busy machine.
const PATIENCE: &str = "1s";
const MOST: Duration = Duration::from_secs(15);

fn build(env: &TestEnv, args: &[&str], context: &Path) -> Done {
    let args = [&["-t", "app", "--cache-timeout", PATIENCE], args].concat();
    let build = env.build(&args, context).env("AWS_ACCESS_KEY_ID", WRITER.0).env("AWS_SECRET_ACCESS_KEY", WRITER.1);
    build.env("AWS_SESSION_TOKEN", WRITER.2).env("SOURCE_DATE_EPOCH", "1000000000").ok()
}

fn warnings(done: &Done) -> Vec<&str> {
    done.stderr.lines().filter(|line| line.starts_with("warning: ")).collect()
}

/// Whether a warning gives the reason, or that attempts took longer than the build waits.
fn tells(warning: &str, why: &str) -> bool {
    warning.contains(why) || warning.contains("no answer within 1 s")
}

/// A bucket with the entries of a context.
fn filled() -> (TestEnv, S3) {
    let (env, s3) = (TestEnv::with_busybox(), S3::start());
    let context = env.context(LINES);
    build(&env, &["--cache-to", &format!("{},mode=max", s3.cache(BUCKET))], &context).never_says("warning");
    (env, s3)
}

type Answer = fn(&Request) -> Option<Reply>;

/// Answers of a store that fails, and a part of the warning.
const FAULTS: [(&str, Answer, &str); 10] = [
    ("dead", |_| Some(Reply { mute: true, ..Reply::default() }), "http://127.0.0.1:"),
    ("silent", |_| Some(Reply { late: Duration::from_secs(60), ..Reply::new(200, "") }), "within 1 s"),
    ("slow", |_| Some(Reply { drip: Some(Duration::from_millis(100)), ..Reply::new(200, vec![b' '; 1000]) }), ""),
    ("truncated", |_| Some(Reply { cut: Some(10), ..Reply::new(200, vec![b' '; 1000]) }), ""),
    ("garbage", |_| Some(Reply::new(200, "<html>welcome</html>")), "expected value"),
    ("throttled", |_| Some(refuse(503, "SlowDown")), "503: SlowDown (tried 3 times)"),
    ("skewed", |_| Some(refuse(403, "RequestTimeTooSkewed")), "403: RequestTimeTooSkewed"),
    ("elsewhere", |_| Some(refuse(301, "PermanentRedirect")), "301: PermanentRedirect"),
    ("limited", |_| Some(refuse(429, "TooManyRequests").with("retry-after", "3600")), "asks to wait 3600 s"),
    ("broken", |_| Some(refuse(500, "InternalError")), "500: InternalError (tried 3 times)"),
];

#[test]
fn store_that_fails_costs_one_warning_and_no_time() {
    let (_kept, s3) = filled();
    let cache = s3.cache(BUCKET);
    for (fault, answer, why) in FAULTS {
        s3.fault.set(answer);
        let fresh = TestEnv::with_busybox();
        let began = Instant::now();
        let done = build(&fresh, &["--cache-from", &cache], &fresh.context(LINES));
        assert!(began.elapsed() < MOST, "{fault}: {:?}", began.elapsed());
        assert_eq!(done.progress().ran().len(), 2, "{fault}: {done}");
        let warnings = warnings(&done);
        assert!(warnings.len() == 1 && tells(warnings[0], why), "{fault}: {done}");
        assert!(warnings[0].starts_with("warning: cannot read the cache in bucket"), "{fault}: {done}");
    }
}

#[test]
fn store_that_takes_nothing_costs_one_warning() {
    let held = S3::start();
    let cache = held.cache(BUCKET);
    for (fault, answer, why) in FAULTS {
        held.fault.set(answer);
        let fresh = TestEnv::with_busybox();
        let began = Instant::now();
        let done = build(&fresh, &["--cache-to", &cache], &fresh.context(LINES));
        assert!(began.elapsed() < MOST, "{fault}: {:?}", began.elapsed());
        let warnings = warnings(&done);
        // Whoever says yes to everything keeps nothing, and nobody notices before the next build. An answer to HEAD has no words.
        let why = why.split(':').next().unwrap_or_default();
        let told = fault == "garbage" || warnings.len() == 1 && tells(warnings[0], why);
        assert!(told && warnings.len() <= 1, "{fault}: {done}");
    }
    assert!(held.objects().is_empty());
}

#[test]
fn layer_that_does_not_come_is_made_again() {
    let (env, s3) = filled();
    let cache = s3.cache(BUCKET);
    for (fault, answer, why) in FAULTS {
        s3.fault.set(move |request| request.target.contains("/blobs/").then(|| answer(request)).flatten());
        let fresh = TestEnv::with_busybox();
        let began = Instant::now();
        let out = format!("type=oci,dest={}", fresh.dir().join("x.tar").display());
        let done = build(&fresh, &["--cache-from", &cache, "-o", &out], &fresh.context(LINES));
        assert!(began.elapsed() < MOST, "{fault}: {:?}", began.elapsed());
        let warnings = warnings(&done);
        assert!(warnings.len() == 1 && warnings[0].starts_with("warning: cannot read the cache"), "{fault}: {done}");
        // What a store sends in place of a layer is found by its size or its digest.
        let shown = ["silent", "slow", "garbage"].contains(&fault) || tells(warnings[0], why);
        assert!(shown, "{fault}: {done}");
        assert_eq!(fresh.image("app").digest, env.image("app").digest, "{fault}");
    }
}

#[test]
fn redirect_to_another_region_is_followed_or_reported() {
    let (_kept, s3) = filled();
    let cache = s3.cache(BUCKET);
    // The other one has the bucket, but the request is not signed for it.
    let other = S3::start();
    let url = other.url();
    s3.fault.set(move |request| {
        let path = request.target.split('?').next()?;
        Some(refuse(307, "TemporaryRedirect").with("location", format!("{url}{path}")))
    });
    let fresh = TestEnv::with_busybox();
    let done = build(&fresh, &["--cache-from", &cache, "--cache-to", &cache], &fresh.context(LINES));
    let warnings = warnings(&done);
    assert!(warnings.len() == 2 && warnings.iter().all(|warning| warning.contains("403")), "{done}");
    assert_eq!(done.progress().ran().len(), 2, "{done}");
    assert!(other.objects().is_empty());
}
