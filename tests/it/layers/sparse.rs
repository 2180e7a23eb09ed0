//! Test that holes of sparse files are not read, stored or filled, and stay holes everywhere (N-5).

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::TestEnv;

/// Large enough to be noticed if it is read, stored or kept in memory.
const HOLE: u64 = 1 << 30;

/// The memory limit of a process.
const MIB: u64 = 320;

/// Bytes on disk of everything below `path`.
fn used(path: &Path) -> u64 {
    let own = fs::symlink_metadata(path).expect("stat").blocks() * 512;
    let below = if path.is_symlink() { None } else { fs::read_dir(path).ok() };
    own + below.into_iter().flatten().map(|entry| used(&entry.expect("entry").path())).sum::<u64>()
}

#[test]
fn hole_is_never_stored_in_build_save_load_or_run() {
    requires!(prlimit);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "-- Dockerfile --\nFROM busybox\nRUN truncate -s 1G /big && printf end >> /big\nRUN stat -c '%s %b' /big > /said\n",
    );
    for compression in ["gzip", "zstd", "uncompressed"] {
        env.build(&["--compression", compression, "-t", &format!("hole:{compression}")], &context).ok();
        assert!(used(&env.store()) < 64 << 20, "{compression}: {} bytes", used(&env.store()));
        let archive = env.dir().join("image.tar");
        let path = archive.to_str().expect("UTF-8");
        env.kiln_within(MIB, &["save", "-o", path, &format!("hole:{compression}")]).ok();
        assert!(used(&archive) < 16 << 20, "{compression}: {} bytes", used(&archive));
        if compression == "zstd" {
            // Load and run do the same as for the other formats.
            continue;
        }
        let other = TestEnv::new();
        other.kiln_within(MIB, &["load", "-i", path]).ok();
        let said = other.kiln(&["run", &format!("hole:{compression}"), "stat", "-c", "%s %b", "/big"]).ok();
        let (size, blocks) = said.trim().split_once(' ').expect("two numbers");
        assert_eq!(size, (HOLE + 3).to_string());
        assert!(blocks.parse::<u64>().expect("a number") < 64, "{blocks} blocks");
        assert!(used(&other.store()) < 64 << 20, "{compression}: {} bytes", used(&other.store()));
    }
}

/// Writes a file like that of a database: `pages` times a page of data and a hole, and a hole at the end.
fn database(path: &Path, pages: u64) {
    let mut file = File::create(path).expect("create");
    for page in 0..pages {
        file.write_all(&[page as u8 | 1; 4096]).expect("write");
        file.seek(SeekFrom::Current(4096 * (1 + (page * 7 % 13) as i64))).expect("seek");
    }
    let end = file.stream_position().expect("position");
    file.set_len(end + 12_345).expect("truncate");
}

/// The data ranges of the file, as reported by the kernel.
fn map(path: &Path) -> Vec<(u64, u64)> {
    let file = File::open(path).expect("open");
    let (mut at, mut map) = (0, Vec::new());
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).expect("seek");
        map.push((data, at));
    }
    map
}

fn sh(dir: &Path, script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("run sh");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// Builds with `-o type=local` and returns the output directory.
fn files(env: &TestEnv, context: &Path, args: &[&str], out: &str) -> PathBuf {
    let out = env.dir().join(out);
    let output = format!("type=local,dest={}", out.display());
    env.build(&[args, &["-o", &output]].concat(), context).ok();
    out
}

#[test]
fn thousand_holes_survive_a_build() {
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY db /copied\n");
    let db = context.join("db");
    database(&db, 1000);
    let out = files(&env, &context, &["-t", "db"], "out");
    assert_eq!(map(&db).len(), 1000);
    assert_eq!(map(&out.join("copied")), map(&db));
    sh(&out, &format!("cmp copied {}", db.display()));
    assert!(env.image("db").content("copied") == fs::read(&db).expect("read"));
}

#[test]
fn holes_survive_every_path_through_a_build() {
    let env = TestEnv::with_busybox();
    let context = env.context(
        "-- Dockerfile --\nFROM busybox AS one\nCOPY db /copied\nRUN cp /copied /ran && chmod 600 /ran && sync\nADD db.tar /added/\n\
         FROM busybox\nCOPY --from=one /copied /ran /added/db /\n",
    );
    let db = context.join("db");
    database(&db, 40);
    sh(&context, "tar -Scf db.tar db");
    let (want, size) = (map(&db), fs::metadata(&db).expect("stat").len());
    for snapshotter in ["overlay", "copy"] {
        let out = files(&env, &context, &["--no-cache", "--snapshotter", snapshotter, "-t", "db"], snapshotter);
        for name in ["copied", "ran", "db"] {
            assert_eq!(map(&out.join(name)), want, "{snapshotter}: {name}");
            assert_eq!(fs::metadata(out.join(name)).expect("stat").len(), size);
            sh(&out, &format!("cmp {name} {}", db.display()));
        }
    }
    // As commands see it.
    let said = env.kiln(&["run", "db", "stat", "-c", "%b", "/copied", "/ran", "/db"]).ok();
    let blocks: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(blocks, ["320"; 3]);
    // Other tools read a regular file.
    let tar = env.dir().join("db.tar");
    env.build(&["-o", &format!("type=tar,dest={}", tar.display())], &context).ok();
    let listed = sh(env.dir(), "tar --numeric-owner -tvf db.tar copied");
    assert!(listed.contains(&format!(" {size} ")), "{listed}");
    assert!(env.image("db").content("copied") == fs::read(&db).expect("read"));
}

#[test]
fn holes_and_zeros_have_the_same_key() {
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nCOPY db /\n");
    database(&context.join("db"), 40);
    env.build(&["-t", "holes"], &context).ok();
    sh(&context, "cat db > dense && mv dense db && touch -d @5 db");
    // The key covers the content, not the time.
    env.build(&["-t", "dense"], &context).ok().says("CACHED [2/2] COPY db /");
    let holes = env.image("holes");
    assert_eq!(env.image("dense").digest, holes.digest);
    let other = TestEnv::with_busybox();
    sh(&context, &format!("touch -d @{} db", holes.tree().0["db"].mtime.expect("a time")));
    other.build(&["-t", "dense"], &context).ok();
    assert_eq!(other.image("dense").digest, holes.digest);
}
