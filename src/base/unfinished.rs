//! What must not outlive this process: files and directories that are being written.
//!
//! **Order.** Whoever starts something says so before others can see it, and says when it is finished or gone. Normally
//! each guard removes its own; [`sweep`] is for a process that ends at once, whatever its other threads are doing. It
//! takes the names away first: what is half removed is then never given a final name by a thread that goes on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fs;

/// Somebody sweeps, and will end the process.
static ENDING: AtomicBool = AtomicBool::new(false);
static ALL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn all() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path that is swept while this lives.
#[derive(Debug)]
pub struct Unfinished(PathBuf);

impl Unfinished {
    /// `path` is about to be made by this process.
    pub fn new(path: &Path) -> Self {
        all().insert(path.to_owned());
        Self(path.to_owned())
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        all().remove(&self.0);
    }
}

/// Removes everything unfinished; the process has to end after it, for what its threads still write goes nowhere. Best
/// effort: what stays is swept by the next one, as after a kill.
pub fn sweep() {
    ENDING.store(true, Ordering::Release);
    remove(all().iter().cloned().collect());
}

/// Does not return while somebody sweeps: what went wrong since is no reason to end otherwise.
pub fn settle() {
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
        // A thread that has such a directory open may put one more file in it than was there when it was listed.
        let _ = (0..20).find(|_| match std::fs::symlink_metadata(&dir) {
            Ok(meta) if meta.is_dir() => fs::remove_tree(&dir).is_ok(),
            Ok(_) => fs::remove_file(&dir).is_ok(),
            Err(_) => true,
        });
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "what others write is written plainly")]
mod tests {
    use super::*;

    #[test]
    fn what_is_swept_is_never_given_a_name_and_what_is_finished_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // Other tests of this process have something unfinished too.
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
                // Somebody who has the directory open writes on.
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
            assert!(std::fs::rename(at("made"), at("layer")).is_err(), "its name is gone");
            over.store(true, Ordering::Relaxed);
        });
        remove(ours());
        assert!(at("kept").exists() && !at("draft").exists() && !at("draft.ended").exists() && !at("made").exists());
    }
}
