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

/// Threads that wait for the disk at once. They cost nothing but their start.
const THREADS: usize = 16;

/// Write-back of a long file begins each time as many bytes have been written.
pub const PIECE: u64 = 8 << 20;

/// Files that have their names and may not be on the disk yet.
#[derive(Debug, Default)]
pub struct Unsynced(Mutex<(BTreeSet<PathBuf>, Vec<(PathBuf, WriteBack)>)>);

impl Unsynced {
    /// The file at `path` was just published, and may be on its way to the disk.
    pub fn note(&self, path: &Path, back: Option<WriteBack>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.0.insert(path.to_owned());
        noted.1.extend(back.map(|back| (path.to_owned(), back)));
    }

    /// All that was noted; from here on the caller answers for it. Waits for what is on its way. Ok: none of that failed.
    pub fn take(&self) -> Result<BTreeSet<PathBuf>, FsError> {
        let (paths, backs) = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, back) in backs {
            back.end().map_err(|e| FsError::new("write", &path, e))?;
        }
        Ok(paths)
    }
}

/// A long file that reaches the disk while it is written: the disk works beside the processor, and a sync at the end
/// waits for the rest only.
#[derive(Debug)]
pub struct WriteBack {
    more: Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl WriteBack {
    /// Starts with what was written to `file` so far.
    pub fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (more, wanted) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("write-back".to_owned()).stack_size(64 << 10).spawn(move || {
                file.sync_data()?;
                while wanted.recv().is_ok() {
                    // What was asked for while the disk was busy is one request.
                    while wanted.try_recv().is_ok() {}
                    file.sync_data()?;
                }
                Ok(())
            })?;
        Ok(Self { more, thread })
    }

    /// More was written.
    pub fn go_on(&self) {
        // A thread that has failed says so in the end.
        let _ = self.more.send(());
    }

    /// Waits for what goes on. Ok: nothing failed so far; what was written since may not be on the disk.
    pub fn end(self) -> io::Result<()> {
        drop(self.more);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes files back has ended")))
    }
}

/// Asks the kernel to start writing `file` to the disk, without waiting for it. Best effort.
fn begin(file: &File) {
    // Advice to drop pages writes dirty ones back; what is being written is not dropped.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
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
        let metadata = file.metadata().map_err(|e| FsError::new("stat", path, e))?;
        // What is longer is being written back since it was written.
        if metadata.is_file() && metadata.len() < PIECE {
            begin(&file);
        }
        open.push((path, file, metadata.is_dir()));
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
