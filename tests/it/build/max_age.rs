//! Test that results which are too old are made again, here and from shared caches, with what depends on them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::actions::{Actions, token};
use crate::support::env::Done;
use crate::support::s3::{BUCKET, S3, WRITER};
use crate::support::{Registry, TestEnv};

const CONTEXT: &str = "
-- Dockerfile --
FROM busybox AS tool
RUN date > /made; head -c 1000 /dev/urandom > /noise
RUN cp /noise /copied
FROM busybox
RUN mkdir /same
RUN cp -r /same /twice
COPY --from=tool /noise /copied /
";
const NOISE: &str = "RUN date > /made; head -c 1000 /dev/urandom > /noise";
const COPIED: &str = "RUN cp /noise /copied";

/// A build whose commands make the same files whenever they run, unless they look at the clock.
fn build(env: &TestEnv, args: &[&str], context: &Path) -> Done {
    env.build(&[&["-t", "app"], args].concat(), context).env("SOURCE_DATE_EPOCH", "86400").ok()
}

/// The same, of a context whose image has two equal files.
fn build_pair(env: &TestEnv, args: &[&str], context: &Path) -> Done {
    let done = build(env, args, context);
    check_pair(env, &done);
    done
}

fn check_pair(env: &TestEnv, done: &Done) {
    assert_eq!(env.kiln(&["run", "app", "cmp", "/noise", "/copied"]).ok().stdout, "", "{done}");
}

fn ran(done: &Done) -> BTreeSet<String> {
    done.progress().ran().into_iter().map(str::to_owned).collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// A shared cache, with the variables of whoever uses it.
struct Cache {
    from: String,
    to: String,
    variables: Vec<(&'static str, String)>,
}

impl Cache {
    fn new(option: &str, variables: &[(&'static str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { from: option.to_owned(), to: format!("{option},mode=max"), variables }
    }

    fn in_directory(dir: &Path) -> Self {
        let option = |key| format!("type=local,{key}={}", dir.display());
        Self { from: option("src"), to: format!("{},mode=max", option("dest")), variables: Vec::new() }
    }

    fn in_registry(registry: &Registry) -> Self {
        Self::new(&format!("type=registry,ref={}", registry.name("cache")), &[])
    }

    fn in_bucket(s3: &S3) -> Self {
        let (id, secret, token) = WRITER;
        let variables = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_SESSION_TOKEN", token)];
        Self::new(&s3.cache(BUCKET), &variables)
    }

    fn in_actions(actions: &Actions) -> Self {
        let token = token(&["refs/heads/main"], true);
        Self::new("type=gha", &[("ACTIONS_RESULTS_URL", &actions.url()), ("ACTIONS_RUNTIME_TOKEN", &token)])
    }

    /// A build on a fresh runner that reads and writes it: what ran, and the noise of its image.
    fn build(&self, context: &Path, max_age: &str) -> (BTreeSet<String>, String, Done) {
        let mut args = vec!["-t", "app", "--cache-from", &self.from, "--cache-to", &self.to];
        if !max_age.is_empty() {
            args.extend(["--max-age", max_age]);
        }
        let fresh = TestEnv::with_busybox();
        let build = fresh.build(&args, context).env("SOURCE_DATE_EPOCH", "86400");
        let done = self.variables.iter().fold(build, |build, (name, value)| build.env(name, value)).ok();
        done.never_says("warning");
        check_pair(&fresh, &done);
        (ran(&done), fresh.kiln(&["run", "app", "md5sum", "/noise"]).ok().stdout, done)
    }
}

fn wait() {
    std::thread::sleep(Duration::from_secs(3));
}

#[test]
fn result_that_is_too_old_is_made_again() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(CONTEXT);
    build_pair(&env, &[], &context);
    assert_eq!(ran(&build_pair(&env, &["--max-age", "RUN date*=1h"], &context)), names(&[]), "it is young enough");
    wait();
    let done = build_pair(&env, &["--max-age", "RUN date*=1h", "--max-age", "RUN mkdir*=1s"], &context);
    assert_eq!(ran(&done), names(&["RUN mkdir /same"]), "an equal layer changes nothing above: {done}");
    let old = |done: &Done, limit: &str| {
        let why = done.stderr.lines().find(|line| line.contains("why: result is ")).unwrap_or_default();
        assert!(why.contains("s old (--max-age ") && why.ends_with(&format!("{limit})")), "{done}");
    };
    old(&done, "1s");
    let done = build_pair(&env, &["--max-age", "RUN date*=1s"], &context);
    assert_eq!(ran(&done), names(&[NOISE, COPIED, "COPY --from=tool /noise /copied /"]), "{done}");
    old(&done, "1s");
    done.says("why: parent step changed");
    assert_eq!(ran(&build_pair(&env, &["--max-age", "RUN*=1h"], &context)), names(&[]));
    let plain = build_pair(&env, &["--max-age", "RUN date*=1h"], &context);
    assert_eq!(ran(&plain), names(&[]), "{plain}");
}

#[test]
fn time_is_in_no_key_and_no_image() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN mkdir /same\nRUN cp -r /same /twice\n");
    build(&env, &[], &context);
    let first = env.image("app").digest;
    wait();
    let done = build(&env, &["--max-age", "*=1s"], &context);
    assert_eq!(ran(&done), names(&["RUN mkdir /same", "RUN cp -r /same /twice"]), "{done}");
    assert_eq!(env.image("app").digest, first);
    // What an earlier version recorded has no age.
    let mut open = vec![env.store().join("cache/v1")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("list").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                open.push(entry);
                continue;
            }
            let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&entry).expect("read")).expect("JSON");
            let fields = record.as_object_mut().expect("an object");
            assert!(fields.remove("made").is_some() && fields.remove("sum").is_some(), "{fields:?}");
            fs::write(&entry, record.to_string()).expect("write");
        }
    }
    assert_eq!(ran(&build(&env, &[], &context)), names(&[]));
    let done = build(&env, &["--max-age", "RUN mkdir*=1h"], &context);
    done.says("why: result is of unknown age (--max-age 1h)");
    assert_eq!(ran(&done), names(&["RUN mkdir /same"]), "{done}");
}

/// Fills all kinds of caches, waits until what is there is old, and checks each.
fn check_all_kinds(check: impl Fn(&Cache, &Path, &str)) {
    let (env, registry, s3, actions) = (TestEnv::with_busybox(), Registry::start(), S3::start(), Actions::start());
    let context = env.context(CONTEXT);
    let caches = [
        Cache::in_directory(&env.dir().join("shared")),
        Cache::in_registry(&registry),
        Cache::in_bucket(&s3),
        Cache::in_actions(&actions),
    ];
    let old: Vec<String> = caches.iter().map(|cache| cache.build(&context, "").1).collect();
    wait();
    for (cache, old) in caches.iter().zip(&old) {
        check(cache, &context, old);
    }
}

#[test]
fn shared_results_that_are_too_old_are_replaced() {
    requires!(userns, overlay, docker_registry);
    check_all_kinds(|cache, context, old| {
        let (again, noise, done) = cache.build(context, "RUN date*=1h");
        assert_eq!((again, &*noise), (names(&[]), old), "{done}");
        let (again, noise, done) = cache.build(context, "RUN date*=1s");
        assert_eq!(again, names(&[NOISE, COPIED, "COPY --from=tool /noise /copied /"]), "{done}");
        done.says("s old (--max-age 1s)");
        assert_ne!(noise, old);
        // The next runner finds what this one made.
        for max_age in ["RUN date*=1h", ""] {
            let (again, third, done) = cache.build(context, max_age);
            assert_eq!((again, &third), (names(&[]), &noise), "{done}");
        }
    });
}

#[test]
fn age_goes_along_from_cache_to_cache() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(CONTEXT);
    let (first, second) =
        (Cache::in_directory(&env.dir().join("first")), Cache::in_directory(&env.dir().join("second")));
    let (_, old, _) = first.build(&context, "");
    wait();
    let between = Cache { from: first.from, to: second.to.clone(), variables: Vec::new() };
    let (again, noise, done) = between.build(&context, "");
    assert_eq!((again, &noise), (names(&[]), &old), "{done}");
    let (again, noise, done) = second.build(&context, "RUN date*=1h");
    assert_eq!((again, &noise), (names(&[]), &old), "{done}");
    let (again, _, done) = second.build(&context, "RUN date*=2s");
    assert!(again.contains(NOISE), "{done}");
    done.says("s old (--max-age 2s)");
}

#[test]
fn runners_that_replace_the_same_results_all_end_well() {
    requires!(userns, overlay, docker_registry);
    check_all_kinds(|cache, context, old| {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let (again, noise, done) = cache.build(context, "RUN date*=1s");
                    assert!(again.contains(NOISE) && noise != old, "{done}");
                });
            }
        });
        // Results of several runners may meet: what does not belong to the rest runs again, once.
        let (again, noise, done) = cache.build(context, "RUN date*=1h");
        assert!(!again.contains(NOISE) && noise != old, "{done}");
        let (again, same, done) = cache.build(context, "RUN date*=1h");
        assert_eq!((again, &same), (names(&[]), &noise), "{done}");
        // The image may be that of another runner.
        let (again, noise, done) = cache.build(context, "");
        assert!(again.is_empty() && noise != old, "{done}");
    });
}

#[test]
fn wrong_max_age_is_refused_and_useless_one_noted() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    for (text, why) in [
        ("RUN apt*", "want PATTERN=DURATION"),
        ("RUN apt*=", "is not a duration"),
        ("RUN apt*=1d", "is not a duration"),
        ("=12h", "the pattern is empty"),
        ("RUN \\n=12h", "is not an escape"),
    ] {
        let done = env.build(&["--max-age", text], &context).fails(2);
        done.says("error: --max-age ");
        done.says(why);
    }
    let (context, useless) = (context.to_str().expect("UTF-8"), ["--max-age", "COPY*=12h"]);
    for command in [&["build"][..], &["cache", "explain"]] {
        let done = env.kiln(&[command, &useless, &[context]].concat()).ok();
        done.says("--max-age \"COPY*\" has no effect: it matches no RUN instruction of this build");
    }
}
