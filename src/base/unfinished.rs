//! Files and directories that are being written and must not outlive this process.
//!
//! **Order.** A path is registered before it is created and unregistered when it is finished or removed. Normally each guard
//! removes its own path; [`sweep`] is for a process that exits at once while its threads still run. It renames every path
//! before it removes it, so that no thread can publish something that is half removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fs;

/// A sweep has started, after which the process exits.
static ENDING: AtomicBool = AtomicBool::new(false);
static ALL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn all() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path that a sweep removes while this value exists.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// Registers `path`, which this process is about to create.
    pub(crate) fn new(path: &Path) -> Self {
        all().insert(path.to_owned());
        Self(path.to_owned())
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        all().remove(&self.0);
    }
}

/// Removes everything unfinished. The process must exit afterwards. Best effort: the next kiln removes what is left, as after
/// a kill.
pub(crate) fn sweep() {
    ENDING.store(true, Ordering::Release);
    remove(all().iter().cloned().collect());
}

/// Does not return once a sweep has started: errors that it causes in other threads must not decide the exit code.
pub(crate) fn wait_for_sweep() {
    while ENDING.load(Ordering::Acquire) {
        std::thread::park();
    }
}

fn remove(paths: Vec<PathBuf>) {
    let mut dirs = Vec::new();
    for path in paths {
        let mut away = path.clone().into_os_string();
        away.push(".ended");
        let away = PathBuf::from(away);
        if fs::rename(&path, &away).is_ok() {
            dirs.push(away);
        }
    }
    for dir in dirs {
        // A thread that has the directory open may add a file after it was listed.
        let _ = (0..20).find(|_| match std::fs::symlink_metadata(&dir) {
            Ok(meta) if meta.is_dir() => fs::remove_tree(&dir).is_ok(),
            Ok(_) => fs::remove_file(&dir).is_ok(),
            Err(_) => true,
        });
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test writes files as other threads would")]
mod tests {
    use super::*;

    #[test]
    fn sweep_removes_unfinished_paths_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // Other tests of this process register paths too.
        let ours = || all().iter().filter(|path| path.starts_with(dir.path())).cloned().collect();
        std::fs::write(at("kept"), "x").unwrap();
        drop(Unfinished::new(&at("kept")));
        std::fs::create_dir(at("made")).unwrap();
        let _made = Unfinished::new(&at("made"));
        std::fs::write(at("draft"), "x").unwrap();
        let _draft = Unfinished::new(&at("draft"));
        let _never = Unfinished::new(&at("never"));
        let (over, root) = (AtomicBool::new(false), crate::base::rooted::Root::open(&at("made")).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A thread that has the directory open continues to write.
                for i in 0..100_000 {
                    let name = format!("f{i}");
                    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
                    let made = rustix::fs::openat(&root, name.as_str(), flags, rustix::fs::Mode::from(0o600));
                    if made.is_err() || over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            while std::fs::read_dir(at("made")).unwrap().count() < 50 {
                std::thread::yield_now();
            }
            remove(ours());
            assert!(std::fs::rename(at("made"), at("layer")).is_err(), "it was renamed");
            over.store(true, Ordering::Relaxed);
        });
        remove(ours());
        assert!(at("kept").exists() && !at("draft").exists() && !at("draft.ended").exists() && !at("made").exists());
    }
}
