//! Temporary directories of tests. If a test is killed, the next run removes its directory.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use tempfile::TempDir;

/// The prefix of their names.
const PREFIX: &str = "kiln-it-";
/// The age below which a directory may not be locked yet.
const YOUNG: Duration = Duration::from_secs(60);

/// An empty directory, removed when dropped.
pub struct Dir {
    dir: TempDir,
    /// A lock on the directory, held while this process lives, which shows that it is in use.
    _lock: File,
}

impl Dir {
    pub fn new() -> Dir {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep(&std::env::temp_dir()));
        Dir::below(&std::env::temp_dir())
    }

    pub fn below(parent: &Path) -> Dir {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).expect("a directory for the test");
        let lock = File::open(dir.path()).expect("open the directory");
        lock.lock().expect("lock the directory");
        Dir { dir, _lock: lock }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        remove(self.dir.path());
    }
}

/// Removes directories that killed tests left below `parent`, except those of other users.
pub fn sweep(parent: &Path) {
    for item in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = item.file_name().to_string_lossy().starts_with(PREFIX);
        let old = item.metadata().and_then(|found| found.modified()).is_ok_and(|time| {
            // A time in the future means that the clock was set back.
            time.elapsed().map_or(true, |age| age > YOUNG)
        });
        let Some(dir) = (ours && old).then(|| File::open(item.path()).ok()).flatten() else { continue };
        let uid = rustix::process::geteuid().as_raw();
        let mine = uid == 0 || dir.metadata().is_ok_and(|found| found.uid() == uid);
        if mine && dir.try_lock().is_ok() {
            remove(&item.path());
        }
    }
}

/// Removes a directory. Files of subordinate ids in a rootless store can be removed only in a user namespace.
pub fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_err() && path.exists() {
        let script = "chmod -R u+rwX \"$1\" 2>/dev/null; rm -rf \"$1\"";
        Command::new("unshare")
            .args(["--user", "--map-root-user"])
            .args([subordinate("/etc/subuid", "users"), subordinate("/etc/subgid", "groups")].into_iter().flatten())
            .args(["sh", "-c", script, "sh"])
            .arg(path)
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

/// The option of `unshare` that maps the ids of `file` from 1 on, like kiln. `--map-auto` of some versions maps one id
/// less.
fn subordinate(file: &str, what: &str) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()??.name;
    let text = fs::read_to_string(file).ok()?;
    let (start, count) = text.lines().find_map(|line| line.strip_prefix(&user)?.strip_prefix(':')?.split_once(':'))?;
    Some(format!("--map-{what}={start},1,{count}"))
}
