//! Test the store after power cuts (N-60).
//!
//! A build is traced. From the trace, the test makes states of the store that have everything synced and a random part
//! of the rest. In each, every name leads to a whole image and the next build works.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::random::{Random, seeds};
use crate::support::{Image, TestEnv};

/// An operation of a build on its store.
#[derive(Clone, Debug)]
enum Op {
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Make(PathBuf),
    Sync(PathBuf),
}

/// The operations in the output of `strace -f -y -o`. An interrupted call counts when it is resumed.
fn parse(trace: &str, store: &Path) -> Vec<Op> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut ops = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.trim_start().split_once(' ') else { continue };
        let rest = rest.trim_start();
        let call = match rest.strip_suffix("<unfinished ...>") {
            Some(start) => {
                begun.insert(thread, start.trim_end().to_owned());
                continue;
            }
            None if rest.starts_with("<...") => {
                let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
                format!("{}{end}", begun.remove(thread).unwrap_or_default())
            }
            None => rest.to_owned(),
        };
        if call.trim_end().ends_with("= 0") {
            ops.extend(op(&call));
        }
    }
    let inside = |path: &PathBuf| path.starts_with(store);
    ops.retain(|op| match op {
        Op::Rename(_, path) | Op::Remove(path) | Op::Make(path) | Op::Sync(path) => inside(path),
    });
    ops
}

fn op(call: &str) -> Option<Op> {
    let name = call.split('(').next()?;
    let quoted: Vec<PathBuf> = call.split('"').skip(1).step_by(2).map(PathBuf::from).collect();
    Some(match (name, quoted.as_slice()) {
        ("fsync" | "fdatasync", []) => Op::Sync(call.split(['<', '>']).nth(1)?.into()),
        ("rename" | "renameat" | "renameat2", [from, to]) => Op::Rename(from.clone(), to.clone()),
        ("unlink" | "rmdir", [path]) => Op::Remove(path.clone()),
        ("unlinkat", [path]) if path.is_absolute() => Op::Remove(path.clone()),
        ("mkdir", [path]) => Op::Make(path.clone()),
        _ => return None,
    })
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("run cp");
    assert!(status.success(), "copy {}", from.display());
}

/// Writes a possible state of the store after a power cut that follows `ops`, which led from `before` to `after`.
fn state(ops: &[Op], before: &Path, after: &Path, store: &Path, to: &Path, dice: &mut Random) {
    copy(before, to);
    let at = |path: &Path, root: &Path| root.join(path.strip_prefix(store).expect("below the store"));
    let synced = |path: &Path, from: usize| ops[from..].iter().any(|op| matches!(op, Op::Sync(p) if p == path));
    for (number, op) in ops.iter().enumerate() {
        let parent = |path: &Path| path.parent().is_some_and(|dir| synced(dir, number + 1));
        match op {
            Op::Rename(draft, path) if !path.starts_with(store.join("scratch")) => {
                let (source, place) = (at(path, after), at(path, to));
                // A name is durable once its directory is synced; before that, it may or may not exist.
                if !source.exists() || (!parent(path) && dice.below(2) == 0) {
                    continue;
                }
                if fs::create_dir_all(place.parent().expect("a parent")).is_err() || source.is_dir() && place.exists() {
                    continue;
                }
                if source.is_dir() {
                    copy(&source, &place);
                    lose_unsynced(&place, dice);
                    continue;
                }
                fs::remove_file(&place).ok();
                copy(&source, &place);
                let whole =
                    ops[..number].iter().any(|op| matches!(op, Op::Sync(p) if p == draft)) || synced(path, number);
                if !whole {
                    lose_unsynced(&place, dice);
                }
            }
            Op::Remove(path) if parent(path) => drop(fs::remove_file(at(path, to))),
            Op::Make(path) if parent(path) || dice.below(2) == 0 => drop(fs::create_dir(at(path, to))),
            _ => {}
        }
    }
}

/// Damages content that was not synced: keeps all, nothing or half of it, or only zeros.
fn lose_unsynced(path: &Path, dice: &mut Random) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("list").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_file()) {
                lose_unsynced(&entry.path(), dice);
            }
        }
        return;
    }
    let meta = fs::metadata(path).expect("metadata");
    let mut bytes = fs::read(path).expect("read");
    match dice.below(4) {
        0 => return,
        1 => bytes.clear(),
        2 => bytes.truncate(bytes.len() / 2),
        _ => bytes.fill(0),
    }
    fs::remove_file(path).expect("remove");
    fs::write(path, bytes).expect("write");
    // The mode that marks a blob as synced is set only after the sync.
    let mode = if meta.permissions().mode() & 0o777 == 0o444 { 0o400 } else { meta.permissions().mode() };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn traced(env: &TestEnv, args: &[&str]) -> Vec<Op> {
    let trace = env.dir().join("trace");
    let calls = "trace=fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir";
    let out = Command::new("strace")
        .args(["-f", "-y", "-s", "4096", "-e", calls, "-o"])
        .arg(&trace)
        .arg(crate::support::env::binary())
        .args(args)
        .env("KILN_ROOT", env.store())
        .env("HOME", env.dir().join("home"))
        .output()
        .expect("run strace");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    parse(&String::from_utf8_lossy(&fs::read(trace).expect("trace")), &env.store())
}

#[test]
fn store_is_usable_after_simulated_power_cut() {
    requires!(root, userns, overlay, strace, unshare);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nCOPY f /f\nRUN cp /f /g\nRUN rm /f\n-- f --\none\n");
    let context = context.to_str().expect("UTF-8");
    let saved = env.dir().join("saved.tar");
    env.build(&["-t", "loaded"], &env.context("-- Dockerfile --\nFROM busybox\nCOPY h /h\n-- h --\nthree\n")).ok();
    let saved = saved.to_str().expect("UTF-8");
    env.kiln(&["save", "-o", saved, "loaded"]).ok();
    env.kiln(&["rmi", "loaded"]).ok();
    env.kiln(&["prune", "--all"]).ok();
    let mut cases: Vec<PathBuf> = Vec::new();
    // A first build, a build after an edit, a loaded image, a new and a removed name, and prunes.
    let rounds: &[&[&str]] = &[
        &["build", "-t", "app", context],
        &["build", "-t", "app", context],
        &["load", "-i", saved],
        &["tag", "loaded", "again"],
        &["rmi", "app"],
        &["prune"],
        &["prune", "--all"],
    ];
    for (round, args) in rounds.iter().enumerate() {
        if round == 1 {
            fs::write(format!("{context}/f"), "two").expect("edit");
        }
        let before = env.dir().join(format!("before-{round}"));
        copy(&env.store(), &before);
        let ops = traced(&env, args);
        let names = !args.contains(&"prune");
        assert!(!names || ops.iter().any(|op| matches!(op, Op::Sync(_))), "nothing was synced: {ops:?}");
        for seed in seeds(2) {
            let mut dice = Random::new(seed);
            // Half of the cases include all operations: the moment after the build reported success.
            let until = if seed % 2 == 0 { ops.len() } else { dice.below(ops.len() + 1) };
            let case = env.dir().join(format!("case-{round}-{seed}"));
            state(&ops[..until], &before, &env.store(), &env.store(), &case, &mut dice);
            cases.push(case);
        }
        fs::remove_dir_all(before).expect("remove");
    }
    wait_past_boot_time();
    for case in cases {
        check(&env, &case, context, "two");
        fs::remove_dir_all(case).expect("remove");
    }
}

/// Waits until written files are older than the simulated start of the machine.
fn wait_past_boot_time() {
    std::thread::sleep(Duration::from_secs(4));
}

/// Checks the store at `root` as after a restart: every name leads to a whole image, the context builds to an image
/// with `content`, and a second build has no warnings.
fn check(env: &TestEnv, root: &Path, context: &str, content: &str) {
    for name in Image::names(root) {
        Image::open(root, &name).tree();
    }
    let shown = root.to_str().expect("UTF-8");
    let build = &["--root", shown, "build", "-t", "app", context];
    env.kiln_restarted(build).ok();
    Image::open(root, "app").tree();
    let quiet = env.kiln_restarted(build).ok();
    assert!(!quiet.stderr.contains("warning"), "{shown}\n{quiet}");
    env.kiln_restarted(&["--root", shown, "run", "app", "cat", "/g"]).ok().says(content);
}

/// A mounted disk image, unmounted when dropped.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn mount(image: &Path, at: &Path) -> Disk {
        fs::create_dir_all(at).expect("create");
        run(Command::new("mount").args(["-o", "loop"]).args([image, at]));
        Disk { at: at.to_owned() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a failed test may have left processes there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

fn run(command: &mut Command) {
    let out = command.output().expect("run");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn store_is_usable_on_ext4_copied_without_unmount() {
    requires!(root, userns, overlay, unshare, losetup, mke2fs);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nCOPY f /f\nRUN cp /f /g\nRUN rm /f\n-- f --\n0\n");
    let context = context.to_str().expect("UTF-8");
    let image = env.dir().join("disk");
    fs::File::create(&image).and_then(|file| file.set_len(96 << 20)).expect("create");
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&image));
    let disk = Disk::mount(&image, &env.dir().join("disk.d"));
    let store = disk.at.join("store");
    copy(&env.store(), &store);
    run(Command::new("sync").arg("--file-system").arg(&disk.at));
    let root = store.to_str().expect("UTF-8");
    let mut cases = Vec::new();
    for seed in seeds(3) {
        fs::write(format!("{context}/f"), seed.to_string()).expect("edit");
        env.kiln(&["--root", root, "build", "-t", "app", context]).ok();
        // The kernel writes back data in the following seconds.
        let wait = if seed == 0 { 0 } else { Random::new(seed).below(10_000) as u64 };
        std::thread::sleep(Duration::from_millis(wait));
        let case = env.dir().join(format!("disk-{seed}"));
        run(Command::new("cp").arg("--sparse=always").args([&image, &case]));
        cases.push((seed, case));
    }
    drop(disk);
    wait_past_boot_time();
    for (seed, case) in cases {
        let disk = Disk::mount(&case, &env.dir().join(format!("disk-{seed}.d")));
        let store = disk.at.join("store");
        assert!(Image::names(&store).iter().any(|name| name.contains("app")), "{seed}: the built image has its name");
        fs::write(format!("{context}/f"), seed.to_string()).expect("edit");
        check(&env, &store, context, &seed.to_string());
        drop(disk);
        fs::remove_file(case).expect("remove");
    }
}
