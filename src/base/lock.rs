//! `flock` guards, and waiting for them.
//!
//! **Holds.** A lock ends when its guard is dropped or its process dies (S-132), so no lock file is ever stale. Every lock
//! file is close-on-exec: a child that inherited it would keep the lock. A long wait is announced with its holders
//! ([`Patience`]).

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::cancel::Cancel;
use super::fs::{self, FsError};
use super::time::Timestamp;

/// Longer waits are announced.
const NOTICEABLE: Duration = Duration::from_millis(900);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// The unit of times in `/proc`, on every architecture that kiln supports.
const TICKS_PER_SECOND: u64 = 100;
/// A message names so many holders; it counts the others.
const NAMED: usize = 3;

/// A shared lock.
#[derive(Debug)]
pub(crate) struct Shared {
    _file: File,
}

/// An exclusive lock.
#[derive(Debug)]
pub(crate) struct Exclusive {
    _file: File,
}

impl Shared {
    /// Waits for a shared lock on the file at `path`, which is created if it is missing; on a read-only file system it must
    /// exist.
    pub(crate) fn wait(path: &Path, patience: &mut Patience<'_>) -> Result<Self, FsError> {
        let file = match fs::open_lock(path) {
            Err(e) if e.source.kind() == io::ErrorKind::ReadOnlyFilesystem => fs::open(path).map_err(|_| e)?,
            other => other?,
        };
        patience.wait(path, || taken(file.try_lock_shared(), path))?;
        Ok(Self { _file: file })
    }
}

impl Exclusive {
    /// Waits for an exclusive lock on the file at `path`, which is created if it is missing.
    pub(crate) fn wait(path: &Path, patience: &mut Patience<'_>) -> Result<Self, FsError> {
        let file = fs::open_lock(path)?;
        patience.wait(path, || taken(file.try_lock(), path))?;
        Ok(Self { _file: file })
    }

    /// The exclusive lock on the file at `path`. `None`: somebody else has a lock on it.
    pub(crate) fn attempt(path: &Path) -> Result<Option<Self>, FsError> {
        let file = fs::open_lock(path)?;
        Ok(taken(file.try_lock(), path)?.map(|()| Self { _file: file }))
    }
}

/// The outcome of an attempt to lock the file at `path`; `None` if the lock is held.
pub(crate) fn taken(attempt: Result<(), TryLockError>, path: &Path) -> Result<Option<()>, FsError> {
    match attempt {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(FsError::new("lock", path, e)),
    }
}

/// How to wait for a lock: until when, and who is told the holders.
pub(crate) struct Patience<'a> {
    stop: Option<Box<dyn Fn() -> io::Result<()> + 'a>>,
    tell: &'a mut dyn FnMut(&str),
    /// The holder to report when another thread of this process has the lock.
    own: Option<&'a str>,
}

impl<'a> Patience<'a> {
    /// Waits without a limit. `tell` is called with the holders once a wait becomes noticeable.
    pub(crate) fn new(tell: &'a mut dyn FnMut(&str)) -> Self {
        Self { stop: None, tell, own: None }
    }

    /// Waits only until `stop` is set.
    pub(crate) fn until(self, stop: &'a Cancel) -> Self {
        self.checking(|| stop.check())
    }

    /// Waits only as long as `check` succeeds.
    pub(crate) fn checking(self, check: impl Fn() -> io::Result<()> + 'a) -> Self {
        Self { stop: Some(Box::new(check)), ..self }
    }

    /// Calls `tell` with `own` if another thread of this process holds the lock, too.
    pub(crate) fn naming_own(self, own: &'a str) -> Self {
        Self { own: Some(own), ..self }
    }

    /// Calls `attempt` until it returns something, for instance the lock of the file at `path`.
    pub(crate) fn wait<T>(
        &mut self,
        path: &Path,
        mut attempt: impl FnMut() -> Result<Option<T>, FsError>,
    ) -> Result<T, FsError> {
        let mut pause = Duration::from_millis(1);
        let mut since: Option<Instant> = None;
        let mut told = false;
        loop {
            if let Some(got) = attempt()? {
                return Ok(got);
            }
            if let Some(check) = &self.stop {
                check().map_err(|e| FsError::new("wait for", path, e))?;
            }
            if !told && since.get_or_insert_with(Instant::now).elapsed() >= NOTICEABLE {
                told = true;
                if let Some(holders) = holders(path).or(self.own.map(str::to_owned)) {
                    (self.tell)(&holders);
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The holders of the lock on the file at `path`, as far as `/proc` shows them:
/// `pid 12 (kiln build, running for 3 s)`. `None`: another thread of this process.
fn holders(path: &Path) -> Option<String> {
    let locks = fs::read_opt(Path::new("/proc/locks")).ok().flatten().unwrap_or_default();
    let mut pids = match std::fs::metadata(path) {
        Ok(meta) => holding(&String::from_utf8_lossy(&locks), meta.dev(), meta.ino()),
        Err(_) => Vec::new(),
    };
    if pids.is_empty() {
        return Some("another process".to_owned());
    }
    pids.retain(|pid| *pid != std::process::id());
    if pids.is_empty() {
        return None;
    }
    let mut text = pids.iter().take(NAMED).map(|pid| describe(*pid)).collect::<Vec<_>>().join(", ");
    if pids.len() > NAMED {
        let _ = write!(text, " and {} more", pids.len() - NAMED);
    }
    Some(text)
}

/// The processes that hold a file's flock according to `/proc/locks`. Some file systems show another device there: then the
/// inode number alone decides. A process of another pid namespace has the number 0.
fn holding(locks: &str, device: u64, inode: u64) -> Vec<u32> {
    let device = format!("{:02x}:{:02x}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut found: Vec<(bool, u32)> = Vec::new();
    for line in locks.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words.as_slice() else { continue };
        let (Ok(pid), Some((on, number))) = (pid.parse(), file.rsplit_once(':')) else { continue };
        if pid != 0 && number.parse() == Ok(inode) {
            found.push((on == device, pid));
        }
    }
    let exact = found.iter().any(|(exact, _)| *exact);
    let mut pids: Vec<u32> = found.into_iter().filter(|(e, _)| *e == exact).map(|(_, pid)| pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn describe(pid: u32) -> String {
    let read = |name: &str| fs::read_opt(Path::new(&format!("/proc/{pid}/{name}"))).ok().flatten().unwrap_or_default();
    let mut facts = Vec::new();
    facts.extend(command(&read("cmdline")));
    facts.extend(age(&String::from_utf8_lossy(&read("stat"))).map(|age| format!("running for {age} s")));
    if facts.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({})", facts.join(", ")) }
}

/// Program and subcommand of a command line. Other arguments may be secret.
fn command(cmdline: &[u8]) -> Option<String> {
    let words: Vec<&str> = cmdline.split(|b| *b == 0).map(|word| std::str::from_utf8(word).unwrap_or("")).collect();
    let name = |word: &&&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    let program = words.first()?.rsplit('/').next().filter(|word| name(&word))?;
    // Inside kiln's user namespace two words of kiln precede the program's name.
    let skip = if words.get(1).is_some_and(|word| word.starts_with('@')) { 4 } else { 1 };
    Some(words.iter().skip(skip).find(name).map_or_else(|| program.to_owned(), |word| format!("{program} {word}")))
}

/// The age in seconds of the process with this `/proc/<pid>/stat`.
fn age(stat: &str) -> Option<i64> {
    // The name in parentheses may contain anything.
    let began: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    let began = i64::try_from(began / TICKS_PER_SECOND).ok()?;
    Some((Timestamp::now().secs - Timestamp::boot().secs - began).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_holders_are_read_from_proc_locks() {
        let locks = "1: FLOCK  ADVISORY  READ 70 fd:01:42 0 EOF\n2: FLOCK  ADVISORY  READ 7 fd:01:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 8 fd:01:42 0 EOF\n3: POSIX  ADVISORY  WRITE 9 fd:01:42 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 10 fd:02:42 0 EOF\n5: FLOCK  ADVISORY  WRITE 0 fd:01:42 0 EOF\nodd\n";
        let device = rustix::fs::makedev(0xfd, 1);
        assert_eq!(holding(locks, device, 42), [7, 70]);
        assert_eq!(holding(locks, rustix::fs::makedev(1, 1), 42), [7, 10, 70]);
        assert!(holding(locks, device, 43).is_empty());
    }

    #[test]
    fn command_shows_program_and_subcommand_only() {
        for (line, shown) in [
            ("/usr/bin/kiln\0--root\0/x\0build\0--build-arg\0token=x\0.\0", Some("kiln build")),
            ("kiln\0@kiln-userns\x005\0kiln\0prune\0", Some("kiln prune")),
            ("kiln\0", Some("kiln")),
            ("", None),
        ] {
            assert_eq!(command(line.as_bytes()).as_deref(), shown, "{line:?}");
        }
    }

    #[test]
    fn wait_ends_when_stopped_and_when_lock_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Exclusive::wait(&path, &mut Patience::new(&mut |_| ())).unwrap();
        assert_eq!(holders(&path), None, "our own threads are not announced");
        let stop = Cancel::new().unwrap();
        stop.cancel();
        let ended = Shared::wait(&path, &mut Patience::new(&mut |_| ()).until(&stop));
        assert_eq!(ended.unwrap_err().source.raw_os_error(), Some(rustix::io::Errno::CANCELED.raw_os_error()));
        drop(held);
        Shared::wait(&path, &mut Patience::new(&mut |_| ())).unwrap();
        assert_eq!(holders(&path).as_deref(), Some("another process"));
    }

    #[test]
    fn holder_is_described_with_its_age() {
        let text = describe(std::process::id());
        assert!(text.starts_with(&format!("pid {} (", std::process::id())) && text.ends_with(" s)"), "{text}");
    }
}
