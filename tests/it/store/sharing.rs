//! Test that work that several builds need at the same time is done once (N-65, N-67).

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::Registry;
use crate::support::TestEnv;
use crate::support::env::each_user;

/// A command that counts its executions in the cache mount `count` and has a different result each time.
fn counted(run: &str) -> String {
    format!(
        "RUN --mount=type=cache,id=count,target=/c echo x >> /c/n && cat /proc/sys/kernel/random/uuid > /u && {run}\n"
    )
}

fn context(env: &TestEnv, lines: &[String]) -> PathBuf {
    env.context(&format!("-- Dockerfile --\nFROM busybox\n{}-- f --\nf\n", lines.concat()))
}

/// The number of counted executions.
fn executions(env: &TestEnv) -> usize {
    let mounts = fs::read_dir(env.store().join("mounts")).expect("cache mounts").flatten();
    let counts = mounts.filter_map(|mount| fs::read_to_string(mount.path().join("0/data/n")).ok());
    counts.map(|count| count.lines().count()).sum()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A build whose messages are read while it runs.
struct Watched(Child, Arc<Mutex<String>>, JoinHandle<()>);

impl Watched {
    fn new(mut child: Child) -> Self {
        let (mut stream, said) = (child.stderr.take().expect("its messages"), Arc::<Mutex<String>>::default());
        let into = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                into.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..n]));
            }
        });
        Self(child, said, reader)
    }

    fn until_it_says(&self, text: &str) {
        until(text, || self.1.lock().expect("no panic").contains(text));
    }

    fn end(mut self) -> (Option<i32>, String) {
        let code = self.0.wait().expect("wait for kiln").code();
        self.2.join().expect("the reader");
        (code, self.1.lock().expect("no panic").clone())
    }
}

fn end(child: Child) -> (Option<i32>, String) {
    let out = child.wait_with_output().expect("wait for kiln");
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn concurrent_equal_builds_run_each_step_once() {
    requires!(userns, overlay);
    for env in each_user() {
        let lines = [counted("sleep 0.3"), "COPY f /f\nWORKDIR /w\n".to_owned(), counted("sleep 0.2")];
        let context = context(&env, &lines);
        let names: Vec<String> = (0..8).map(|n| format!("app{n}")).collect();
        std::thread::scope(|scope| {
            for name in &names {
                let (env, context) = (&env, &context);
                scope.spawn(move || env.build(&["-t", name], context).ok());
            }
        });
        assert_eq!(executions(&env), 2);
        let images: BTreeSet<String> = names.iter().map(|name| env.image(name).digest).collect();
        assert_eq!(images.len(), 1, "{images:?}");
        assert_eq!(fs::read_dir(env.store().join("claims")).expect("claims").count(), 0);
        env.assert_swept();
    }
}

#[test]
fn builds_with_steps_in_opposite_order_do_not_deadlock() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    // Two stages with equal steps that each build reaches in another order, one at a time.
    let stage = |n: usize| format!("FROM busybox AS s{n}\n{}", counted(&format!("sleep 0.7 && echo {n} > /{n}")));
    let last = |a: usize, b: usize| {
        let lines = format!("FROM busybox\nCOPY --from=s{a} /{a} /\nCOPY --from=s{b} /{b} /\n");
        env.context(&format!("-- Dockerfile --\n{}{}{lines}", stage(a), stage(b)))
    };
    let contexts = [last(1, 2), last(2, 1), last(1, 2), last(2, 1)];
    let builds: Vec<Child> = contexts
        .iter()
        .enumerate()
        .map(|(n, context)| {
            let tag = format!("app{n}");
            env.build(&["-t", &tag, "--jobs", "1", "--timeout", "60s"], context).spawn()
        })
        .collect();
    for child in builds {
        let (code, said) = end(child);
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(executions(&env), 2);
}

#[test]
fn step_of_killed_build_is_taken_over() {
    requires!(userns, overlay);
    for (signal, env) in ["KILL", "INT"].iter().flat_map(|signal| each_user().into_iter().map(move |env| (signal, env)))
    {
        // Only the first execution hangs.
        let context = context(&env, &[counted("if [ $(wc -l < /c/n) = 1 ]; then sleep 1000; fi")]);
        let maker = env.build(&[], &context).spawn();
        until("the first command runs", || env.store().join("mounts").exists() && executions(&env) == 1);
        let others: Vec<Watched> =
            (0..3).map(|n| Watched::new(env.build(&["-t", &format!("app{n}")], &context).spawn())).collect();
        others.iter().for_each(|other| other.until_it_says("waiting for pid "));
        let pid = maker.id().to_string();
        let killed = std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(killed.expect("run kill").success());
        end(maker);
        for other in others {
            let (code, said) = other.end();
            assert_eq!(code, Some(0), "{said}");
            assert!(
                said.contains("(kiln build, running for ") && said.contains("it runs a step of this build"),
                "{said}"
            );
        }
        assert_eq!(executions(&env), 2, "after SIG{signal}");
        assert_eq!((0..3).map(|n| env.image(&format!("app{n}")).digest).collect::<BTreeSet<_>>().len(), 1);
    }
}

#[test]
fn failing_step_fails_for_all_waiting_builds() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = context(&env, &[counted("sleep 1 && exit 3")]);
    let first = env.build(&[], &context).spawn();
    until("the first command runs", || env.store().join("mounts").exists() && executions(&env) == 1);
    let started = Instant::now();
    let others: Vec<Child> = (0..6).map(|_| env.build(&[], &context).spawn()).collect();
    for child in std::iter::once(first).chain(others) {
        let (code, said) = end(child);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("exit code 3") || said.contains("exited with 3") || said.contains('3'), "{said}");
    }
    assert_eq!(executions(&env), 7);
    assert!(started.elapsed() < Duration::from_secs(6), "one after the other: {:?}", started.elapsed());
}

#[test]
fn waiting_build_ends_on_timeout_and_signal() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = context(&env, &[counted("sleep 1000")]);
    let mut maker = env.build(&[], &context).spawn();
    until("the command runs", || env.store().join("mounts").exists() && executions(&env) == 1);
    env.build(&["--timeout", "1s"], &context).fails(1).says("longer than 1s");
    let waiting = env.build(&[], &context).spawn();
    let waiting = Watched::new(waiting);
    waiting.until_it_says("waiting for pid ");
    let pid = rustix::process::Pid::from_child(&waiting.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signal");
    let started = Instant::now();
    assert_eq!(waiting.end().0, Some(130));
    assert!(started.elapsed() < Duration::from_secs(3));
    maker.kill().expect("kill");
    maker.wait().expect("wait");
    assert_eq!(executions(&env), 1);
}

#[test]
fn no_cache_build_does_not_wait_for_others() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    // Each waits until both run.
    let context = context(&env, &[counted("until [ $(wc -l < /c/n) = 2 ]; do sleep 0.05; done")]);
    let both: Vec<Child> = (0..2).map(|_| env.build(&["--no-cache", "--timeout", "60s"], &context).spawn()).collect();
    for child in both {
        let (code, said) = end(child);
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn base_of_parallel_stages_and_builds_is_unpacked_once() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    // Unpacking takes long enough for all to wait for it.
    let many: String = (0..3000).map(|n| format!("-- many/{n} --\n{n}\n")).collect();
    let many = env.context(&format!("-- Dockerfile --\nFROM busybox\nCOPY many /many\n{many}"));
    env.build(&["-t", "base"], &many).ok();
    let stages: String = (0..3).map(|n| format!("FROM base AS s{n}\nRUN echo {n} > /{n}\n")).collect();
    let copies: String = (0..3).map(|n| format!("COPY --from=s{n} /{n} /{n}\n")).collect();
    let contexts: Vec<PathBuf> = (0..2)
        .map(|n| env.context(&format!("-- Dockerfile --\n{stages}FROM base\nRUN echo {n} > /own\n{copies}")))
        .collect();
    let name = format!("unpack-{:.12}-", env.image("base").diff_ids()[1].trim_start_matches("sha256:"));
    let (over, mut seen) = (AtomicBool::new(false), BTreeSet::new());
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let scratch = walkdir::WalkDir::new(env.store().join("scratch")).min_depth(2).max_depth(2);
                let dirs = scratch.into_iter().flatten().map(|entry| entry.into_path());
                seen.extend(dirs.filter(|dir| dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&name))));
                std::thread::sleep(Duration::from_millis(2));
            }
            seen
        });
        let builds: Vec<_> = contexts.iter().map(|context| env.build(&[], context).spawn()).collect();
        for child in builds {
            let (code, said) = end(child);
            assert_eq!(code, Some(0), "{said}");
        }
        over.store(true, Ordering::Relaxed);
        seen = watch.join().expect("the watcher");
    });
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[test]
fn layer_wanted_by_several_pulls_is_fetched_once() {
    requires!(docker_registry, userns, overlay);
    let registry = Registry::start();
    let made = TestEnv::with_busybox();
    let large = made.context("-- Dockerfile --\nFROM busybox\nRUN head -c 12000000 /dev/urandom > /large\n");
    made.build(&["-t", "large"], &large).ok();
    let layer = made.image("large").manifest["layers"][1]["digest"].as_str().expect("a digest").to_owned();
    // Two images that share their largest layer.
    for name in ["a", "b"] {
        let context = made.context(&format!("-- Dockerfile --\nFROM large\nLABEL name={name}\n"));
        made.build(&["-t", name], &context).ok();
        registry.push_layout(&made.store(), &format!("{name}:latest"), name);
    }
    let before = registry.requests(&format!("\"GET /v2/a/blobs/{layer}"))
        + registry.requests(&format!("\"GET /v2/b/blobs/{layer}"));
    assert_eq!(before, 0);
    let env = TestEnv::new();
    let (a, b) = (registry.name("a"), registry.name("b"));
    let context = env.context(&format!("-- Dockerfile --\nFROM {a} AS a\nFROM {b}\nCOPY --from=a /etc/group /x/\n"));
    std::thread::scope(|scope| {
        let env = &env;
        for name in [&a, &b] {
            scope.spawn(move || env.kiln(&["pull", name]).ok());
        }
        for _ in 0..2 {
            let context = &context;
            scope.spawn(move || env.build(&[], context).ok());
        }
    });
    let gets = ["a", "b"].map(|name| registry.requests(&format!("\"GET /v2/{name}/blobs/{layer}")));
    assert_eq!(gets.iter().sum::<usize>(), 1, "{gets:?}");
}

#[test]
fn each_tag_and_secret_is_read_once_per_build() {
    // N-66
    requires!(docker_registry, userns, overlay);
    let registry = Registry::start();
    let layout = crate::support::env::fixture("busybox").join("layout");
    let (a, b) = (registry.push_layout(&layout, "latest", "a"), registry.push_layout(&layout, "latest", "b"));
    for env in each_user() {
        let asked = |name: &str| registry.requests(&format!("/v2/{name}/manifests/latest"));
        let before = (asked("a"), asked("b"));
        let context = env.context(&format!(
            "-- Dockerfile --\nFROM {a} AS a\nRUN --mount=type=secret,id=s cat /run/secrets/s > /s\nFROM {b}\n\
             COPY --from=a /s /s\nRUN cat /s\n"
        ));
        // A pipe can be read once.
        let pipe = env.dir().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o666.into(), 0).expect("make a fifo");
        fs::set_permissions(&pipe, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("open it to all");
        std::thread::scope(|scope| {
            scope.spawn(|| fs::write(&pipe, "from a pipe\n"));
            env.build(&["--pull", "--secret", &format!("id=s,src={}", pipe.display()), "-t", "app"], &context).ok();
        });
        assert_eq!(env.image("app").content("s"), b"from a pipe\n");
        let after = (asked("a"), asked("b"));
        assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
        env.build(&["--pull", "--no-cache", "--secret", "id=s,env=S"], &context).env("S", "x").ok();
        assert_eq!((asked("a") - after.0, asked("b") - after.1), (1, 1));
        // Both are one image: the second name is known once a build has found all of it in the store.
        let heads = |name: &str| registry.requests(&format!("HEAD /v2/{name}/manifests/latest"));
        let before = (heads("a"), heads("b"));
        env.build(&["--pull", "--secret", "id=s,env=S"], &context).env("S", "x").ok();
        assert_eq!((heads("a") - before.0, heads("b") - before.1), (1, 1));
    }
}
