//! Test many runners that share a cache at the same time: what is uploaded how often, and what is there afterwards (O-44, O-45).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::env::Done;
use crate::support::random::{Random, seeds, soaking};
use crate::support::s3::{BUCKET, S3, WRITER, refuse};
use crate::support::{Registry, Relay, Reply, Request, TestEnv};

/// The first, third and last step make other bytes each time.
const LINES: &str = "
-- Dockerfile --
FROM busybox AS tool
RUN head -c 70000 /dev/urandom > /tool

FROM busybox
COPY common/ /common/
RUN head -c 300000 /dev/urandom > /noise
RUN cat /common/* /common/* > /twice
COPY --from=tool /tool /tool
COPY own/ /own/
RUN cat /own/* /noise > /last
CMD [\"cat\", \"/own/name\"]
-- common/a --
a
-- common/b --
b
-- own/name --
";

/// The document `{}`, to which all manifests of entries refer.
const EMPTY: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// How many runners start together.
fn runners() -> usize {
    if soaking() { 16 } else { 6 }
}

/// A shared cache, and what is known about it from outside.
trait Cache: Sync {
    fn option(&self) -> String;
    /// The digests of all uploads that the server accepted.
    fn uploads(&self) -> Vec<String>;
    /// All entries.
    fn entries(&self) -> Vec<Value>;
}

impl Cache for S3 {
    fn option(&self) -> String {
        self.cache(BUCKET)
    }

    fn uploads(&self) -> Vec<String> {
        let puts = self.asked().into_iter().filter(|asked| asked.starts_with("PUT "));
        puts.filter_map(|asked| Some(asked.rsplit_once("/blobs/sha256/")?.1.to_owned())).collect()
    }

    fn entries(&self) -> Vec<Value> {
        let objects = self.objects().into_iter();
        let entries = objects.filter(|(path, _)| path.contains("/v1/root/") || path.contains("/v1/step/"));
        entries.map(|(_, bytes)| serde_json::from_slice(&bytes).expect("an entry")).collect()
    }
}

/// A registry, and the relay before it.
struct Repository {
    registry: Registry,
    relay: Relay,
}

impl Repository {
    fn start() -> Self {
        let registry = Registry::start_with(Relay::CONFIG);
        let relay = Relay::to(&registry);
        Self { registry, relay }
    }
}

impl Cache for Repository {
    fn option(&self) -> String {
        format!("type=registry,ref={}", self.relay.name("cache"))
    }

    fn uploads(&self) -> Vec<String> {
        let puts = self.relay.log().into_iter().filter(|asked| asked.method == "PUT");
        puts.filter_map(|put| Some(put.target.rsplit_once("digest=sha256")?.1[1..].replace("3A", ""))).collect()
    }

    fn entries(&self) -> Vec<Value> {
        let tags = self.registry.data().join("docker/registry/v2/repositories/cache/_manifests/tags");
        let blobs = self.registry.data().join("docker/registry/v2/blobs/sha256");
        let tags = fs::read_dir(tags).expect("tags").map(|tag| tag.expect("a tag").path());
        let entries = tags.filter(|tag| !tag.to_string_lossy().contains("/claim-"));
        let entry = |tag: PathBuf| {
            let link = fs::read_to_string(tag.join("current/link")).expect("a tag");
            let hex = link.trim().trim_start_matches("sha256:");
            let manifest = fs::read(blobs.join(&hex[..2]).join(hex).join("data")).expect("a manifest");
            let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
            serde_json::from_str(manifest["annotations"]["kiln.cache.entry"].as_str().expect("an entry")).expect("JSON")
        };
        entries.map(entry).collect()
    }
}

/// A context for a runner: equal ones have the same `kind`.
fn context(runner: &TestEnv, kind: usize) -> PathBuf {
    runner.context(&format!("{LINES}{kind}\n"))
}

fn build(runner: &TestEnv, context: &Path, args: &[&str]) -> Done {
    let args = [&["-t", "app"], args].concat();
    let build = runner.build(&args, context).env("AWS_ACCESS_KEY_ID", WRITER.0).env("AWS_SECRET_ACCESS_KEY", WRITER.1);
    build.env("AWS_SESSION_TOKEN", WRITER.2).env("SOURCE_DATE_EPOCH", "1000000000").ok()
}

/// Builds on all runners at once; the third part of them has contexts of their own.
fn all_at_once(cache: &dyn Cache, runners: &[TestEnv]) -> Vec<Done> {
    let option = cache.option();
    let to = format!("{option},mode=max");
    let done = |(number, runner): (usize, &TestEnv)| {
        build(runner, &context(runner, kind(number)), &["--cache-from", &option, "--cache-to", &to])
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = runners.iter().enumerate().map(|one| scope.spawn(move || done(one))).collect();
        running.into_iter().map(|one| one.join().expect("it ended")).collect()
    })
}

fn kind(number: usize) -> usize {
    if number % 3 == 2 { number } else { 0 }
}

/// The blobs that entries of steps lead to, by the key of the step.
fn layers(cache: &dyn Cache) -> BTreeMap<String, BTreeSet<String>> {
    let mut layers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in cache.entries() {
        let Some(key) = entry["layer"]["key"].as_str() else { continue };
        for blob in entry["layer"]["blobs"].as_object().expect("blobs").values() {
            let digest = blob["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
            layers.entry(key.to_owned()).or_default().insert(digest.to_owned());
        }
    }
    layers
}

/// The blobs that entries of images lead to.
fn image_layers(cache: &dyn Cache) -> BTreeSet<String> {
    let entries = cache.entries();
    let short = entries.iter().flat_map(|entry| entry["image"]["layers"].as_array().into_iter().flatten());
    let digest = |short: &Value| {
        let digest = short.as_str().expect("a layer").split('.').nth(1).expect("its blob");
        let bytes = URL_SAFE_NO_PAD.decode(digest).expect("base64");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    short.map(digest).collect()
}

/// `spare`: how many uploads may be needless.
fn check_runners_together(cache: &dyn Cache, spare: usize) {
    let envs: Vec<TestEnv> = (0..runners()).map(|_| TestEnv::with_busybox()).collect();
    for (number, done) in all_at_once(cache, &envs).iter().enumerate() {
        done.never_says("warning");
        assert_eq!(envs[number].kiln(&["run", "app"]).ok().stdout, format!("{}\n", kind(number)));
        envs[number].assert_swept();
    }
    let layers = layers(cache);
    assert!(layers.values().all(|blobs| blobs.len() == 1), "one result of each step: {layers:#?}");
    let mut uploads = cache.uploads();
    uploads.retain(|digest| digest != EMPTY);
    uploads.sort();
    let distinct: BTreeSet<String> = uploads.iter().cloned().collect();
    assert!(uploads.len() <= distinct.len() + spare, "layers were uploaded twice: {uploads:#?}");
    let of_steps: BTreeSet<String> = layers.into_values().flatten().collect();
    let wanted: BTreeSet<String> = of_steps.union(&image_layers(cache)).cloned().collect();
    assert!(distinct.is_superset(&wanted), "everything that entries lead to is there");
    // An image has three layers that no other build has, at most.
    let images = cache.entries().iter().filter(|entry| entry["image"].is_object()).count();
    assert!(distinct.len() <= of_steps.len() + 3 * images + spare, "{distinct:#?} for {of_steps:#?}");
    // Nothing was lost: whoever comes later runs nothing.
    let option = cache.option();
    for number in [0, 2, 5] {
        let fresh = TestEnv::with_busybox();
        let done = build(&fresh, &context(&fresh, kind(number)), &["--cache-from", &option]);
        assert_eq!(done.progress().ran(), BTreeSet::new(), "{done}");
        done.never_says("warning");
        let whole = fresh.kiln(&["run", "app", "sh", "-c", "cat /own/name /noise | cmp - /last && cat /own/name"]);
        assert_eq!(whole.ok().stdout, format!("{}\n", kind(number)), "the steps of one image belong together");
    }
}

#[test]
fn runners_with_one_bucket_upload_each_layer_once() {
    requires!(userns, overlay);
    check_runners_together(&S3::start(), 0);
}

#[test]
fn runners_with_one_registry_upload_each_layer_once() {
    requires!(userns, overlay, docker_registry);
    // No request creates a tag only if it is absent: on a busy machine, claims cross.
    check_runners_together(&Repository::start(), runners());
}

type Answer = fn(&Request) -> Option<Reply>;

/// What happens to a store in the middle of builds, and whether it lies about what it has.
const FAULTS: [(&str, Answer, bool); 7] = [
    ("dead", |_| Some(Reply { mute: true, ..Reply::default() }), false),
    ("garbage", |_| Some(Reply::new(200, "<html>welcome</html>")), true),
    ("slow", |_| Some(Reply { late: Duration::from_secs(20), ..Reply::new(500, "") }), false),
    ("full", |request| (request.method == "PUT").then(|| refuse(507, "InsufficientStorage")), false),
    ("broken", |_| Some(refuse(500, "InternalError")), false),
    ("limited", |_| Some(refuse(429, "TooManyRequests").with("retry-after", "600")), false),
    (
        "other people's blobs",
        |request| {
            let read = request.method == "GET" && request.target.contains("/blobs/");
            read.then(|| Reply::new(200, "somebody else's layer"))
        },
        false,
    ),
];

/// Fills a cache, lets it fail after some requests of three runners, and checks what they built and what is left.
fn check_fault_in_the_middle(s3: &S3, fault: (&str, Answer, bool), after: usize) {
    let (name, answer, lies) = fault;
    let option = s3.cache(BUCKET);
    let to = format!("{option},mode=max");
    let args = ["--cache-from", &option, "--cache-to", &to, "--cache-timeout", "3s"];
    let first = TestEnv::with_busybox();
    build(&first, &context(&first, 0), &args).never_says("warning");
    let count = AtomicUsize::new(0);
    s3.fault.set(move |request| {
        let fails = count.fetch_add(1, Ordering::Relaxed) >= after;
        fails.then(|| answer(request)).flatten()
    });
    let began = Instant::now();
    std::thread::scope(|scope| {
        for kind in 1..4 {
            let args = &args;
            scope.spawn(move || {
                let runner = TestEnv::with_busybox();
                let done = build(&runner, &context(&runner, kind), args);
                let warnings = done.stderr.lines().filter(|line| line.starts_with("warning: ")).count();
                assert!(warnings <= 2, "{name} after {after}: {done}");
                assert_eq!(runner.kiln(&["run", "app"]).ok().stdout, format!("{kind}\n"), "{name} after {after}");
                runner.assert_swept();
            });
        }
    });
    assert!(began.elapsed() < Duration::from_secs(40), "{name} after {after}: {:?}", began.elapsed());
    s3.fault.clear();
    if !lies {
        check_entries(s3);
    }
    let fresh = TestEnv::with_busybox();
    let done = build(&fresh, &context(&fresh, 1), &["--cache-from", &option]);
    assert!(lies || !done.stderr.contains("warning"), "{name} after {after}: {done}");
    assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "1\n", "{name} after {after}");
}

/// Every entry leads to blobs that are there and have their digests.
fn check_entries(s3: &S3) {
    let objects = s3.objects();
    let mut wanted: BTreeSet<String> = layers(s3).into_values().flatten().collect();
    wanted.extend(image_layers(s3));
    for digest in wanted {
        let blob = objects.iter().find(|(path, _)| path.ends_with(&format!("/blobs/sha256/{digest}")));
        let (_, blob) = blob.unwrap_or_else(|| panic!("an entry leads to {digest}, which is not there"));
        let found: String = Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest);
    }
}

#[test]
fn store_that_fails_in_the_middle_breaks_no_build_or_entry() {
    requires!(userns, overlay);
    for seed in seeds(2) {
        let mut random = Random::new(seed);
        // Two of them in the suite, one of which lies.
        let fault = if soaking() { *random.of(&FAULTS) } else { FAULTS[seed as usize] };
        check_fault_in_the_middle(&S3::start(), fault, random.below(60));
    }
}

#[test]
fn registry_that_is_restarted_in_the_middle_breaks_no_build() {
    requires!(userns, overlay, docker_registry);
    for seed in seeds(1) {
        let mut cache = Repository::start();
        let option = cache.option();
        let to = format!("{option},mode=max");
        let args = ["--cache-from", &option, "--cache-to", &to];
        let first = TestEnv::with_busybox();
        build(&first, &context(&first, 0), &args).never_says("warning");
        let pause = Duration::from_millis(Random::new(seed).below(2000) as u64);
        std::thread::scope(|scope| {
            for kind in 1..4 {
                let args = &args;
                scope.spawn(move || {
                    let runner = TestEnv::with_busybox();
                    build(&runner, &context(&runner, kind), args);
                    assert_eq!(runner.kiln(&["run", "app"]).ok().stdout, format!("{kind}\n"), "seed {seed}");
                    runner.assert_swept();
                });
            }
            std::thread::sleep(pause);
            cache.registry.crash();
            std::thread::sleep(Duration::from_millis(200));
            cache.registry.come_back();
        });
        let fresh = TestEnv::with_busybox();
        build(&fresh, &context(&fresh, 1), &args).never_says("warning");
        assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "1\n", "seed {seed}");
    }
}

#[test]
fn killed_writer_leaves_no_broken_entry() {
    // S-82
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    for seed in seeds(3) {
        let shared = env.dir().join(format!("shared-{seed}"));
        let to = format!("type=local,dest={},mode=max", shared.display());
        let runner = TestEnv::with_busybox();
        let context = context(&runner, 1);
        let mut child = runner.build(&["--cache-to", &to], &context).spawn();
        std::thread::sleep(Duration::from_millis(300 + Random::new(seed).below(1500) as u64));
        child.kill().expect("kill");
        child.wait().expect("wait");
        let files = walkdir::WalkDir::new(&shared).into_iter().flatten().filter(|file| file.file_type().is_file());
        for file in files.filter(|file| file.path().to_string_lossy().contains("/v1/step/")) {
            let entry: Value = serde_json::from_slice(&fs::read(file.path()).expect("read")).expect("an entry");
            for blob in entry["layer"]["blobs"].as_object().expect("blobs").values() {
                let hex = blob["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
                let bytes = fs::read(shared.join("blobs/sha256").join(hex)).expect("the blob of an entry");
                let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(found, hex, "seed {seed}");
            }
        }
        let fresh = TestEnv::with_busybox();
        let from = format!("type=local,src={}", shared.display());
        build(&fresh, &context, &["--cache-from", &from]).never_says("warning");
        assert_eq!(fresh.kiln(&["run", "app"]).ok().stdout, "1\n", "seed {seed}");
    }
}
