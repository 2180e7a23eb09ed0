//! Test many concurrent commands of many kiln processes in one store.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::TestEnv;

const PROCESSES: usize = 8;
const COMMANDS: usize = 25;
/// Every fifth command uses a locked cache mount.
const TURNS: usize = 5;

/// A build of [`COMMANDS`] independent commands, one of them the same in all processes, and a stage that collects their
/// outputs.
fn context(env: &TestEnv, process: usize) -> PathBuf {
    let mut file = "-- Dockerfile --\n".to_owned();
    for n in 0..COMMANDS {
        let who = if n == 0 { "all".to_owned() } else { format!("{process}-{n}") };
        // The background process ends with its command.
        let run = format!("echo {who} > /out && (sleep 1000 & true) && sleep 0.5 && touch /t/x");
        file.push_str(&match n % TURNS {
            0 => format!(
                "FROM busybox AS s{n}\nRUN --mount=type=cache,target=/c,id=count,sharing=locked --mount=type=tmpfs,target=/t \
                 echo $(($(cat /c/n || echo 0) + 1)) > /c/n && {}\n",
                run.replace("sleep 0.5", "true")
            ),
            _ => format!("FROM busybox AS s{n}\nRUN --mount=type=tmpfs,target=/t {run}\n"),
        });
    }
    file.push_str("FROM scratch\n");
    (0..COMMANDS).for_each(|n| file.push_str(&format!("COPY --from=s{n} /out /{n}\n")));
    env.context(&file)
}

#[test]
fn two_hundred_concurrent_commands_leave_only_results() {
    // S-77, S-82, S-131, M-7
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let contexts: Vec<PathBuf> = (0..PROCESSES).map(|process| context(&env, process)).collect();
    let jobs = COMMANDS.to_string();
    std::thread::scope(|scope| {
        for (process, context) in contexts.iter().enumerate() {
            let (env, jobs) = (&env, &jobs);
            scope.spawn(move || {
                env.build(&["--jobs", jobs, "--pids-limit", "50", "-t", &format!("app{process}")], context).ok()
            });
        }
    });
    for process in 0..PROCESSES {
        let image = env.image(&format!("app{process}"));
        assert_eq!(image.content("0"), b"all\n");
        for n in 1..COMMANDS {
            assert_eq!(image.content(&n.to_string()), format!("{process}-{n}\n").as_bytes());
        }
    }
    env.assert_swept();
    assert_eq!(processes_with(&env), [""; 0], "processes are left");
    // Each of those had the cache for itself; the command that all processes share ran once (N-65).
    let count = env.kiln(&["run", "-v", &volume(&env), "busybox", "cat", "/c/n"]).ok();
    let count: usize = count.parse().unwrap();
    let own = PROCESSES * (COMMANDS / TURNS - 1);
    assert_eq!(count, own + 1);
    assert_eq!(locks_in(&env.store()), [""; 0], "locks are held");
    assert_eq!(stale_control_groups(), [""; 0]);
    // Everything is cached.
    assert!(env.build(&[], &contexts[3]).ok().progress().ran().is_empty());
}

/// A `-v` value that shows the files of the cache mount at `/c`.
fn volume(env: &TestEnv) -> String {
    let mounts = env.store().join("mounts");
    let one = fs::read_dir(mounts).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(&one).unwrap().count(), 1, "a locked cache has one instance");
    format!("{}:/c:ro", one.join("0/data").display())
}

/// Command lines of processes that use the store of this test.
fn processes_with(env: &TestEnv) -> Vec<String> {
    let store = format!("KILN_ROOT={}", env.store().display());
    let running = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    running
        .filter(|dir| {
            let environ = fs::read(dir.join("environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|variable| variable == store.as_bytes())
        })
        .filter_map(|dir| fs::read(dir.join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

/// Files of the store that a process holds a lock on.
fn locks_in(store: &Path) -> Vec<String> {
    let locked = fs::read_to_string("/proc/locks").unwrap();
    let inodes: Vec<u64> =
        locked.lines().filter_map(|line| line.split_whitespace().nth(5)?.rsplit(':').next()?.parse().ok()).collect();
    let names = ["", "lock", "scratch"].map(|name| store.join(name)).into_iter();
    let files = names
        .chain(walkdir::WalkDir::new(store.join("mounts")).max_depth(3).into_iter().flatten().map(|e| e.into_path()));
    files
        .filter(|file| fs::metadata(file).is_ok_and(|meta| inodes.contains(&meta.ino())))
        .map(|file| file.display().to_string())
        .collect()
}

/// Control groups whose kiln process has ended.
fn stale_control_groups() -> Vec<String> {
    let groups = walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten();
    groups
        .filter(|entry| entry.file_type().is_dir())
        .filter(|entry| {
            let pid = entry.file_name().to_str().and_then(|name| name.strip_prefix("kiln-"));
            pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists() && entry.path().exists())
        })
        .map(|entry| entry.path().display().to_string())
        .collect()
}
