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
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use super::fs::{self, FsError};

/// Threads that wait for the disk at the same time.
const THREADS: usize = 16;

/// Write-back of a long file is requested after this many bytes.
pub(crate) const PIECE: u64 = 8 << 20;

/// Published files that may not be on the disk yet.
#[derive(Debug, Default)]
pub(crate) struct Unsynced(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    paths: BTreeSet<PathBuf>,
    write_backs: Vec<(PathBuf, WriteBack)>,
}

impl Unsynced {
    /// Notes that the file at `path` was published, and its write-back if one is running.
    pub(crate) fn note(&self, path: &Path, back: Option<WriteBack>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.paths.insert(path.to_owned());
        noted.write_backs.extend(back.map(|back| (path.to_owned(), back)));
    }

    /// Takes all noted paths, which the caller then syncs. Waits for running write-backs. Ok: none of them failed.
    pub(crate) fn take(&self) -> Result<BTreeSet<PathBuf>, FsError> {
        let Pending { paths, write_backs } =
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, back) in write_backs {
            back.finish().map_err(|e| FsError::new("write", &path, e))?;
        }
        Ok(paths)
    }
}

/// Writes a long file back to the disk while it is being written, so that a sync at the end is short.
#[derive(Debug)]
pub(crate) struct WriteBack {
    more: Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl WriteBack {
    /// Starts to write back what `file` holds so far.
    pub(crate) fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (more, wanted) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("write-back".to_owned()).stack_size(64 << 10).spawn(move || {
                file.sync_data()?;
                while wanted.recv().is_ok() {
                    // Requests that came while the disk was busy are one request.
                    while wanted.try_recv().is_ok() {}
                    file.sync_data()?;
                }
                Ok(())
            })?;
        Ok(Self { more, thread })
    }

    /// Requests write-back of what was written since.
    pub(crate) fn request(&self) {
        // If the thread has failed, `finish` returns its error.
        let _ = self.more.send(());
    }

    /// Waits for requests that are running. Ok: none failed; what was written after the last may not be on the disk.
    pub(crate) fn finish(self) -> io::Result<()> {
        drop(self.more);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the write-back thread panicked")))
    }
}

/// Asks the kernel to start writing `file` to the disk. Does not wait. Best effort.
fn begin(file: &File) {
    // The advice to drop pages starts to write dirty pages back.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Ok: the files at `paths`, and the entries of those that are directories, are on the disk. Missing paths are skipped.
/// Repeating is harmless.
pub(crate) fn sync(paths: &BTreeSet<PathBuf>) -> Result<(), FsError> {
    let mut open: Vec<(&PathBuf, File, bool)> = Vec::new();
    for path in paths {
        let file = match fs::open(path) {
            Err(e) if e.is_not_found() => continue,
            other => other?,
        };
        let metadata = file.metadata().map_err(|e| FsError::new("stat", path, e))?;
        // Longer files are written back while they are written.
        if metadata.is_file() && metadata.len() < PIECE {
            begin(&file);
        }
        open.push((path, file, metadata.is_dir()));
        // A process may have only so many files open.
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
        // Some file systems cannot sync directories.
        Err(e) if dir && e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test writes the files it syncs")]
mod tests {
    use super::*;

    #[test]
    fn sync_skips_missing_paths() {
        let dir = tempfile::tempdir().unwrap();
        let noted = Unsynced::default();
        for number in 0..300 {
            let path = dir.path().join(number.to_string());
            std::fs::write(&path, "x").unwrap();
            noted.note(&path, None);
        }
        noted.note(dir.path(), None);
        noted.note(&dir.path().join("gone"), None);
        let paths = noted.take().unwrap();
        assert_eq!(paths.len(), 302);
        sync(&paths).unwrap();
        assert!(noted.take().unwrap().is_empty());
    }
}
