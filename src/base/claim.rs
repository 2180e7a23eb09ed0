//! Claims on work: one thread does it, and others wait for its result.
//!
//! **Holds.** While a [`Claim`] lives, nobody else has one of the same name in the same directory, in this or any other
//! process. It ends with its process. Whoever waited for it then looks for the result, and does the work if there is none.
//! **On disk.** `<directory>/<name>`, flock'ed and removed by its holder. A file that a killed holder left is taken over.
//! **Order.** No two holders may wait for each other: see where claims are taken.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::fs::{self, FsError};
use super::lock::{Patience, taken};

/// A directory of claims.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    dir: PathBuf,
}

/// Keeps others from the same work.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    file: File,
}

/// The result of waiting for a claim.
#[derive(Debug)]
pub(crate) enum Claiming {
    /// The claim is ours. The result of the work may be there by now.
    Ours(Claim),
    /// The holder failed. Everybody who waited tries at once, without a claim, and gets the error first hand.
    Failed,
}

/// What one attempt found.
enum Attempt {
    Ours(File),
    Held,
    Failed,
}

impl Claims {
    /// The claims in `dir`, which is made when needed.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Waits until nobody has the claim `name` (a plain file name).
    pub(crate) fn wait(&self, name: &str, patience: &mut Patience<'_>) -> Result<Claiming, FsError> {
        let path = self.dir.join(name);
        let mut file = open(&path)?;
        patience.wait(&path, || {
            Ok(match attempt(&mut file, &path)? {
                Attempt::Ours(file) => Some(Claiming::Ours(Claim { path: path.clone(), file })),
                Attempt::Failed => Some(Claiming::Failed),
                Attempt::Held => None,
            })
        })
    }

    /// The claim `name`, unless somebody has it.
    pub(crate) fn try_take(&self, name: &str) -> Result<Option<Claim>, FsError> {
        let path = self.dir.join(name);
        let mut file = open(&path)?;
        loop {
            match attempt(&mut file, &path)? {
                Attempt::Ours(file) => return Ok(Some(Claim { path, file })),
                Attempt::Held => return Ok(None),
                Attempt::Failed => file = open(&path)?,
            }
        }
    }

    /// Removes what killed processes left.
    pub(crate) fn sweep(&self) -> Result<(), FsError> {
        for name in fs::list(&self.dir)? {
            let path = self.dir.join(name);
            let Ok(file) = fs::open(&path) else { continue };
            if taken(file.try_lock(), &path)?.is_some() && is_named(&file, &path)? {
                drop(Claim { path, file });
            }
        }
        Ok(())
    }
}

impl Claim {
    /// Ends the claim, and tells those who wait that the work failed: they try at once, not one after the other.
    pub(crate) fn failed(mut self) {
        // If they are not told, they try one after the other.
        let _ = self.file.write_all(b"failed\n");
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the lock is released: whoever gets the lock then sees that the file is no claim any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// Tries to lock `file`. One that is not at `path` any more was the claim of somebody who is done; then the file that is there
/// now is opened and tried.
fn attempt(file: &mut File, path: &Path) -> Result<Attempt, FsError> {
    while taken(file.try_lock(), path)?.is_some() {
        if is_named(file, path)? {
            // A killed process may have left text in it.
            file.set_len(0).map_err(|e| FsError::new("clear", path, e))?;
            let ours = file.try_clone().map_err(|e| FsError::new("open", path, e))?;
            return Ok(Attempt::Ours(ours));
        }
        if file.metadata().map_err(|e| FsError::new("stat", path, e))?.len() > 0 {
            return Ok(Attempt::Failed);
        }
        *file = open(path)?;
    }
    Ok(Attempt::Held)
}

fn open(path: &Path) -> Result<File, FsError> {
    match fs::open_lock(path) {
        Err(e) if e.is_not_found() || e.source.kind() == std::io::ErrorKind::NotADirectory => {
            if let Some(dir) = path.parent() {
                fs::make_dir(dir)?;
            }
            fs::open_lock(path)
        }
        other => other,
    }
}

/// Whether `path` still names `file`.
fn is_named(file: &File, path: &Path) -> Result<bool, FsError> {
    let ours = file.metadata().map_err(|e| FsError::new("stat", path, e))?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(FsError::new("stat", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(claims: &Claims, name: &str) -> Claiming {
        claims.wait(name, &mut Patience::new(&mut |_| ())).unwrap()
    }

    #[test]
    fn claim_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::new(dir.path().join("claims"));
        let claim = claims.try_take("a").unwrap().unwrap();
        assert!(claims.try_take("a").unwrap().is_none());
        assert!(claims.try_take("b").unwrap().is_some());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(wait(&claims, "a"), Claiming::Ours(_)));
            std::thread::sleep(std::time::Duration::from_millis(30));
            drop(claim);
            assert!(waiting.join().unwrap());
        });
        assert!(fs::list(&dir.path().join("claims")).unwrap().is_empty());
    }

    #[test]
    fn waiters_learn_that_the_holder_failed() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::new(dir.path().to_owned());
        let claim = claims.try_take("a").unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> =
                (0..3).map(|_| scope.spawn(|| matches!(wait(&claims, "a"), Claiming::Failed))).collect();
            std::thread::sleep(std::time::Duration::from_millis(50));
            claim.failed();
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap()));
        });
        assert!(matches!(wait(&claims, "a"), Claiming::Ours(_)), "who comes later is not told");
    }

    #[test]
    fn claim_of_dead_process_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::new(dir.path().to_owned());
        for name in ["a", "b"] {
            super::super::publish::atomic(&dir.path().join(name), b"failed\n", 0o600).unwrap();
        }
        assert!(claims.try_take("a").unwrap().is_some());
        claims.sweep().unwrap();
        assert!(fs::list(dir.path()).unwrap().is_empty());
    }
}
