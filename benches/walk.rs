//! Listing a context of 50,000 files with everything a layer needs of them: `cargo bench --bench walk`. Compare the ways
//! with one another in the same run; the tree is in the page cache for all of them.

#![expect(clippy::disallowed_methods, reason = "a tree to look at is no file of the store")]

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use divan::{Bencher, black_box};
use kiln::context::{Dir, DirOptions, SourceTree};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags};
use tempfile::TempDir;

const DIRS: usize = 500;
const FILES: usize = 100;
/// The directory of directories is counted by some ways only: this is without it.
const ALL: usize = DIRS * (FILES + 1) + DIRS / 10;

/// 50,000 small files, 10 groups of directories deep enough to look like sources.
static TREE: LazyLock<TempDir> = LazyLock::new(|| {
    let tree = tempfile::tempdir().expect("a directory");
    for dir in 0..DIRS {
        let path = tree.path().join(format!("group{:02}/package{dir:03}", dir / 10));
        fs::create_dir_all(&path).expect("create");
        for file in 0..FILES {
            fs::write(path.join(format!("module_{file:02}.txt")), format!("{dir} {file}\n")).expect("write");
        }
    }
    tree
});

fn main() {
    LazyLock::force(&TREE);
    divan::main();
    // A static is never dropped.
    fs::remove_dir_all(TREE.path()).expect("remove");
}

/// As a build does it: sorted, rules applied, no link followed, by several threads where that helps.
#[divan::bench]
fn kiln(bencher: Bencher<'_, '_>) {
    bencher.bench(|| {
        let dir = Dir::open(TREE.path(), &DirOptions::default()).expect("open");
        let nodes = dir.walk(b"", &[]).expect("walk");
        assert_eq!(nodes.len(), ALL);
        nodes
    });
}

fn bare(dir: OwnedFd) -> usize {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
    let mut dirs = Vec::new();
    let mut seen = 0;
    while let Some(entry) = entries.next() {
        let entry = entry.expect("getdents");
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statx(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        black_box(stat.expect("statx"));
        seen += 1;
        if entry.file_type() == FileType::Directory {
            dirs.push(name.to_owned());
        }
    }
    for name in dirs {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        seen += bare(rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty()).expect("open"));
    }
    seen
}

/// The least that one thread can ask: names, and what they are; nothing is kept, nothing sorted.
#[divan::bench]
fn getdents_and_statx(bencher: Bencher<'_, '_>) {
    bencher.bench(|| {
        let top = rustix::fs::openat(CWD, TREE.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        assert_eq!(bare(top.expect("open")), ALL);
    });
}

#[divan::bench]
fn walkdir_sorted(bencher: Bencher<'_, '_>) {
    bencher.bench(|| {
        let walk = walkdir::WalkDir::new(TREE.path()).min_depth(1).sort_by_file_name();
        let all: Vec<_> = walk.into_iter().map(|entry| stat(entry.expect("entry"))).collect();
        assert_eq!(all.len(), ALL);
        all
    });
}

fn stat(entry: walkdir::DirEntry) -> (std::path::PathBuf, fs::Metadata) {
    let meta = entry.metadata().expect("metadata");
    (entry.into_path(), meta)
}

/// With its filters off: their rules are others than those of an ignore file here.
#[divan::bench]
fn ignore_parallel(bencher: Bencher<'_, '_>) {
    bencher.bench(|| {
        let seen = AtomicUsize::new(0);
        let walk = ignore::WalkBuilder::new(top()).standard_filters(false).threads(threads()).build_parallel();
        walk.run(|| {
            Box::new(|entry| {
                let entry = entry.expect("entry");
                if entry.depth() > 0 {
                    black_box(entry.metadata().expect("metadata"));
                    seen.fetch_add(1, Ordering::Relaxed);
                }
                ignore::WalkState::Continue
            })
        });
        assert_eq!(seen.into_inner(), ALL);
    });
}

fn top() -> &'static Path {
    TREE.path()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
