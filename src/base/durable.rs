//! Files that must reach the disk before something durable names them.
//!
//! **Order.** Write-back of all files starts first, then every file and directory is synced at the same time: a
//! journaling file system then commits them together, once, instead of once per file.
//! **Not here.** Which files belong together: their owners note them in an [`Unsynced`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::fs::{self, FsError};

/// Threads that wait for the disk at once. They cost nothing but their start.
const THREADS: usize = 16;

/// Files that have their names and may not be on the disk yet.
#[derive(Debug, Default)]
pub struct Unsynced(Mutex<BTreeSet<PathBuf>>);

impl Unsynced {
    /// The file at `path` was just published.
    pub fn note(&self, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    /// All that was noted; from here on the caller answers for it.
    pub fn take(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks the kernel to start writing a range of `file` to the disk, without waiting for it. Best effort.
pub fn begin(file: &File, from: u64, len: u64) {
    // Advice to drop the pages writes those back that are dirty; what is being written is not dropped.
    let _ = rustix::fs::fadvise(file, from, std::num::NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
}

/// Ok: the content of the files at `paths` is on the disk, and the names in those that are directories. Paths that are
/// gone are skipped. Repeating is harmless.
pub fn sync(paths: &BTreeSet<PathBuf>) -> Result<(), FsError> {
    let mut open: Vec<(&PathBuf, File, bool)> = Vec::new();
    for path in paths {
        let file = match fs::open(path) {
            Err(e) if e.is_not_found() => continue,
            other => other?,
        };
        let dir = file.metadata().map_err(|e| FsError::new("stat", path, e))?.is_dir();
        if !dir {
            begin(&file, 0, 0);
        }
        open.push((path, file, dir));
        // Bounded by what a process may have open; whatever is left over goes in a further round.
        if open.len() == 256 {
            sync_open(&open)?;
            open.clear();
        }
    }
    sync_open(&open)
}

fn sync_open(open: &[(&PathBuf, File, bool)]) -> Result<(), FsError> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<FsError>> = Mutex::new(None);
    let work = || {
        while let Some((path, file, dir)) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(e) = sync_one(file, *dir) {
                let error = FsError::new("sync", path, e);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..open.len().min(THREADS) {
            scope.spawn(work);
        }
        work();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn sync_one(file: &File, dir: bool) -> io::Result<()> {
    match if dir { file.sync_all() } else { file.sync_data() } {
        // Some file systems have nothing to sync in a directory.
        Err(e) if dir && e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "what is synced is written plainly")]
mod tests {
    use super::*;

    #[test]
    fn sync_takes_files_and_directories_and_skips_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let noted = Unsynced::default();
        for number in 0..300 {
            let path = dir.path().join(number.to_string());
            std::fs::write(&path, "x").unwrap();
            noted.note(&path);
        }
        noted.note(dir.path());
        noted.note(&dir.path().join("gone"));
        let paths = noted.take();
        assert_eq!(paths.len(), 302);
        sync(&paths).unwrap();
        assert!(noted.take().is_empty());
    }
}
