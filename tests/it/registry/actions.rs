//! Test caches in GitHub Actions: requests and entries, branches and scopes, and what a service that fails costs (O-44, O-45).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::actions::{Actions, token, word};
use crate::support::env::Done;
use crate::support::{Reply, TestEnv};

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
const LOOKUP: &str = "GetCacheEntryDownloadURL";
const CREATE: &str = "CreateCacheEntry";
const MAIN: &str = "refs/heads/main";
const PULL: &str = "refs/pull/7/merge";
const BOTH: [&str; 4] = ["--cache-from", "type=gha", "--cache-to", "type=gha,mode=max"];
const FROM: [&str; 2] = ["--cache-from", "type=gha"];
const TO: [&str; 2] = ["--cache-to", "type=gha,mode=max"];

/// A build of a job with this token. No message shows what is hidden.
fn build(env: &TestEnv, actions: &Actions, token: &str, args: &[&str], context: &Path) -> Done {
    let args = [&["-t", "app"], args].concat();
    let build =
        env.build(&args, context).env("ACTIONS_RESULTS_URL", &actions.url()).env("ACTIONS_RUNTIME_TOKEN", token);
    let done = build.ok();
    done.never_says("hidden");
    done
}

fn warnings(done: &Done) -> Vec<&str> {
    done.stderr.lines().filter(|line| line.starts_with("warning: ")).collect()
}

fn noise(env: &TestEnv) -> String {
    env.kiln(&["run", "app", "md5sum", "/usr/bin/noise"]).ok().stdout
}

#[test]
fn actions_cache_serves_fresh_stores_with_few_requests() {
    requires!(userns, overlay);
    let (env, actions, main) = (TestEnv::with_busybox(), Actions::start(), token(&[MAIN], true));
    let context = env.context(LINES);
    build(&env, &actions, &main, &BOTH, &context).never_says("warning");
    assert_eq!(actions.requests(CREATE), 2, "a pack and an index: {:?}", actions.asked());
    // Is there an index: asked by the reader, which may be two processes, by the writer, and before the new one is written.
    let create = [CREATE, "PUT blob", "FinalizeCacheEntryUpload"];
    let asked = actions.asked();
    let (first, second) = asked.split_at(asked.len() - 7);
    assert!((2..=3).contains(&first.len()) && first.iter().all(|asked| asked == LOOKUP), "{asked:?}");
    assert_eq!(second, [&create[..], &[LOOKUP], &create].concat(), "{asked:?}");

    let fresh = TestEnv::with_busybox();
    let asked = actions.asked().len();
    let done = build(&fresh, &actions, &main, &BOTH, &context);
    done.never_says("warning");
    assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    let asked = actions.asked().split_off(asked);
    // The index, then its pack, then layers out of it.
    assert_eq!(asked[..3], [LOOKUP, "GET blob", LOOKUP], "{asked:?}");
    assert_eq!(actions.requests(CREATE), 2, "nothing is written twice: {asked:?}");
    assert_eq!(noise(&fresh), noise(&env));

    // An edit runs what it changes, and adds what that made.
    fs::write(context.join("src/a"), "b\n").expect("write");
    let edited = TestEnv::with_busybox();
    let before = actions.entries();
    let done = build(&edited, &actions, &main, &BOTH, &context);
    done.never_says("warning");
    assert!(done.progress().cached().iter().any(|step| step.contains("/dev/urandom")), "{done}");
    assert_eq!(actions.requests(CREATE), 4);
    let added: Vec<String> = actions.entries().into_keys().filter(|key| !before.contains_key(key)).collect();
    assert!(
        matches!(&added[..], [index, pack] if index == "kiln-kiln-index-00000002" && pack.contains("-pack-")),
        "{added:?}"
    );

    // The next store finds both builds.
    for content in ["b\n", "a\n"] {
        fs::write(context.join("src/a"), content).expect("write");
        let next = TestEnv::with_busybox();
        let done = build(&next, &actions, &main, &FROM, &context);
        assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
        assert_eq!(next.kiln(&["run", "app"]).ok().stdout, content);
        assert_eq!(noise(&next), noise(&env));
    }
}

#[test]
fn branches_and_scopes_see_what_they_may() {
    requires!(userns, overlay);
    let (env, actions) = (TestEnv::with_busybox(), Actions::start());
    let (main, pull) = (token(&[MAIN], true), token(&[PULL, MAIN], true));
    let context = env.context(LINES);
    build(&env, &actions, &main, &BOTH, &context).never_says("warning");
    fs::write(context.join("src/a"), "b\n").expect("write");
    let branch = TestEnv::with_busybox();
    let done = build(&branch, &actions, &pull, &BOTH, &context);
    assert!(done.progress().cached().iter().any(|step| step.contains("/dev/urandom")), "{done}");
    let all_cached = |token: &str, args: &[&str], want: bool| {
        let fresh = TestEnv::with_busybox();
        let done = build(&fresh, &actions, token, args, &context);
        done.never_says("warning");
        assert_eq!(done.progress().ran().is_empty(), want, "{done}");
    };
    all_cached(&pull, &FROM, true);
    all_cached(&main, &FROM, false);
    all_cached(&token(&["refs/heads/other", MAIN], true), &FROM, false);
    // What the branch made of layers of main is whole, also when main has gone on.
    fs::write(context.join("src/a"), "c\n").expect("write");
    build(&TestEnv::with_busybox(), &actions, &main, &BOTH, &context).never_says("warning");
    all_cached(&pull, &FROM, true);

    // Other scopes are other caches.
    all_cached(&main, &["--cache-from", "type=gha,scope=app"], false);
    all_cached(&main, &["--cache-to", "type=gha,scope=app"], false);
    all_cached(&main, &["--cache-from", "type=gha,scope=other", "--cache-from", "type=gha,scope=app"], true);
    // A token that says nothing of branches has one, too.
    let other = Actions::with(|request| {
        let opaque = request.header("authorization").is_some_and(|header| header == "Bearer opaque");
        (request.target.starts_with("/twirp") && !opaque).then(|| Reply::new(401, ""))
    });
    build(&TestEnv::with_busybox(), &other, "opaque", &FROM, &context).says("bad token");
}

#[test]
fn token_that_only_reads_costs_one_warning() {
    requires!(userns, overlay);
    let (env, actions) = (TestEnv::with_busybox(), Actions::start());
    let context = env.context(LINES);
    build(&env, &actions, &token(&[MAIN], true), &TO, &context).never_says("warning");
    fs::write(context.join("src/a"), "b\n").expect("write");
    let fresh = TestEnv::with_busybox();
    let done = build(&fresh, &actions, &token(&[MAIN], false), &BOTH, &context);
    assert!(done.progress().cached().iter().any(|step| step.contains("/dev/urandom")), "{done}");
    assert_eq!(warnings(&done).len(), 1, "{done}");
    done.says("warning: cannot write to the cache in GitHub Actions at 127.0.0.1:");
    done.says("CreateCacheEntry: cache write denied: token has no writable scopes");
}

#[test]
fn service_that_refuses_costs_one_warning() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(LINES);
    type Answer = fn(&str) -> Option<Reply>;
    const EXPIRED: &str = r#"{"code":"unauthenticated","msg":"token has expired"}"#;
    let expired: Answer = |word| (!word.contains(' ')).then(|| Reply::new(401, EXPIRED));
    let expired_later: Answer = |word| (word == CREATE).then(|| Reply::new(401, EXPIRED));
    let limited: Answer =
        |word| (word == LOOKUP).then(|| Reply::new(429, r#"{"msg":"slow down"}"#).with("retry-after", "40"));
    let page: Answer = |_| Some(Reply::new(200, "<html>hi</html>"));
    let full: Answer = |word| word.starts_with("PUT").then(|| Reply::new(507, "disk full"));
    let no: Answer = |word| (word == CREATE).then(|| Reply::new(200, r#"{"ok":false,"message":"no space left"}"#));
    let away: Answer = |word| (word == CREATE).then(|| Reply::new(200, r#"{"ok":true,"signed_upload_url":"ftp://x"}"#));
    let unfinished: Answer = |word| (word == "FinalizeCacheEntryUpload").then(|| Reply::new(200, r#"{"ok":false}"#));
    for (answer, args, verb, why) in [
        (expired, &FROM[..], "cannot read", "401: token has expired"),
        (expired, &TO[..], "cannot write to", "401: token has expired"),
        (expired_later, &TO[..], "cannot write to", "401: token has expired"),
        (limited, &FROM[..], "cannot read", "429: slow down (the server asks to wait 40 s)"),
        (page, &FROM[..], "cannot read", "the answer is not valid"),
        (page, &TO[..], "cannot write to", "the answer is not valid"),
        (full, &TO[..], "cannot write to", "507: disk full"),
        (no, &TO[..], "cannot write to", "no space left"),
        (away, &TO[..], "cannot write to", "the answer has no usable URL"),
        (unfinished, &TO[..], "cannot write to", "FinalizeCacheEntryUpload: refused"),
    ] {
        let actions = Actions::with(move |request| answer(&word(request)));
        let (fresh, began) = (TestEnv::with_busybox(), Instant::now());
        let done = build(&fresh, &actions, &token(&[MAIN], true), args, &context);
        assert!(began.elapsed() < Duration::from_secs(30), "{why}: {:?}", began.elapsed());
        let warnings = warnings(&done);
        assert_eq!(warnings.len(), 1, "{why}: {done}");
        let start = format!("warning: {verb} the cache in GitHub Actions at 127.0.0.1:");
        assert!(warnings[0].starts_with(&start) && warnings[0].contains(why), "{why}: {done}");
        assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "a\n");
        fresh.assert_swept();
    }
}

#[test]
fn service_that_asks_to_wait_is_waited_for_when_writing() {
    requires!(userns, overlay);
    let (env, refused) = (TestEnv::with_busybox(), AtomicUsize::new(0));
    let actions = Actions::with(move |request| {
        let first = word(request) == CREATE && refused.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| Reply::new(429, r#"{"msg":"slow down"}"#).with("retry-after", "1"))
    });
    let (context, main) = (env.context(LINES), token(&[MAIN], true));
    build(&env, &actions, &main, &TO, &context).never_says("warning");
    let fresh = TestEnv::with_busybox();
    assert_eq!(build(&fresh, &actions, &main, &FROM, &context).progress().ran(), BTreeSet::new());
}

#[test]
fn altered_or_evicted_entries_are_misses() {
    // S-50
    requires!(userns, overlay);
    let (env, main) = (TestEnv::with_busybox(), token(&[MAIN], true));
    let context = env.context(LINES);
    type Change = fn(&Actions);
    let changes: [(&str, Change, Option<&str>); 7] = [
        (
            "pack altered",
            |actions| actions.alter("-pack-", |content| content.iter_mut().for_each(|b| *b ^= 1)),
            Some("digest"),
        ),
        ("pack cut", |actions| actions.alter("-pack-", |content| content.truncate(10)), Some("")),
        ("pack evicted", |actions| actions.evict("-pack-"), None),
        ("index evicted", |actions| actions.evict("-index-"), None),
        (
            "no index",
            |actions| actions.alter("-index-", |content| *content = b"<html>".to_vec()),
            Some("expected value"),
        ),
        ("index cut", |actions| actions.alter("-index-", |content| content.truncate(content.len() / 2)), Some("EOF")),
        (
            "other entries",
            |actions| {
                actions.alter("-index-", |content| {
                    let text = String::from_utf8_lossy(content).replace("\"version\":1", "\"version\":9");
                    *content = text.into_bytes();
                })
            },
            Some("it has format 9"),
        ),
    ];
    for (what, change, warns) in changes {
        let actions = Actions::start();
        build(&TestEnv::with_busybox(), &actions, &main, &TO, &context).never_says("warning");
        change(&actions);
        let fresh = TestEnv::with_busybox();
        let done = build(&fresh, &actions, &main, &BOTH, &context);
        assert!(!done.progress().ran().is_empty(), "{what}: {done}");
        assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "a\n", "{what}");
        match warns {
            None => assert!(warnings(&done).is_empty(), "{what}: {done}"),
            Some(why) => assert!(warnings(&done)[0].contains(why), "{what}: {done}"),
        }
        if what.starts_with("pack") && what != "pack evicted" {
            // The entries are still there, and lead to what is not.
            continue;
        }
        // What was built then replaces it.
        let next = TestEnv::with_busybox();
        let done = build(&next, &actions, &main, &FROM, &context);
        assert_eq!(done.progress().ran(), BTreeSet::new(), "{what}: {done}");
        assert!(warnings(&done).is_empty(), "{what}: {done}");
    }
}

#[test]
fn large_layers_are_sent_in_blocks_and_again_if_refused() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM busybox
RUN head -c 40000000 /dev/urandom > /usr/bin/noise
RUN echo small > /small
RUN head -c 2000000 /dev/urandom > /more
",
    );
    let main = token(&[MAIN], true);
    for refused in [0, 1, 3] {
        let count = Arc::new(AtomicUsize::new(0));
        let blocks = Arc::clone(&count);
        let actions = Actions::with(move |request| {
            let refuse = word(request) == "PUT block" && blocks.fetch_add(1, Ordering::SeqCst) + 1 == refused;
            refuse.then(|| Reply::new(403, "<Error><Code>AuthenticationFailed</Code></Error>"))
        });
        let first = TestEnv::with_busybox();
        build(&first, &actions, &main, &TO, &context).never_says("warning");
        assert!(actions.requests("PUT block") >= 5, "{:?}", actions.asked());
        assert_eq!(actions.requests(CREATE), if refused == 0 { 2 } else { 3 }, "{:?}", actions.asked());
        let fresh = TestEnv::with_busybox();
        let done = build(&fresh, &actions, &main, &FROM, &context);
        assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
        assert_eq!(noise(&fresh), noise(&first));
    }
}

#[test]
fn jobs_that_end_together_lose_nothing() {
    requires!(userns, overlay);
    let (env, actions, main) = (TestEnv::with_busybox(), Actions::start(), token(&[MAIN], true));
    let contexts: Vec<_> = (0..4)
        .map(|number| {
            let context = env.context(LINES);
            fs::write(context.join("src/a"), format!("{number}\n")).expect("write");
            context
        })
        .collect();
    std::thread::scope(|scope| {
        for context in &contexts {
            let (actions, main) = (&actions, &main);
            scope.spawn(move || {
                build(&TestEnv::with_busybox(), actions, main, &BOTH, context).never_says("warning");
            });
        }
    });
    // A writer that died has taken the next number.
    actions.abandon("kiln-kiln-index-00000005");
    fs::write(contexts[0].join("src/b"), "more\n").expect("write");
    build(&TestEnv::with_busybox(), &actions, &main, &BOTH, &contexts[0]).never_says("warning");
    for context in &contexts {
        let done = build(&TestEnv::with_busybox(), &actions, &main, &FROM, context);
        assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
    }
}

#[test]
fn job_without_a_token_is_refused_at_once() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\n");
    for option in ["--cache-from", "--cache-to"] {
        let done = env.build(&[option, "type=gha"], &context).fails(2);
        done.says(&format!("error: {option} \"type=gha\": no token of the Actions cache"));
        done.says("hint: expose ACTIONS_RUNTIME_TOKEN to the step");
    }
}
