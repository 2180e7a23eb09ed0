//! What a command is about to do to its files, told before it happens.
//!
//! **Holds.** A [`Watch`] is asked about every call that changes a file or a name, while the thread that made it is
//! stopped (seccomp's user notification). It sees the file as the kernel would find it: paths are resolved by a thread
//! that takes on the other's root and working directory.
//! **Order.** The filter is installed by init, last; its listener comes here, and one thread answers until the command
//! is dead. Whatever cannot be looked at goes on: this is about what a layer will hold, not about what is allowed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use super::seccomp::{self, Deed, Operand};
use super::sys::{self, Notification};

/// Whoever wants to know.
pub trait Watch: Sync {
    /// All calls matter; otherwise only those that move names.
    fn files(&self) -> bool;

    /// `deed` is about to be done to `file`. An error makes the call fail with it.
    fn before(&self, deed: Deed, file: &Watched) -> io::Result<Answer>;
}

/// A file somebody is about to touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Where it is below the command's root: what the path or descriptor in question was resolved to.
    pub path: PathBuf,
    /// Major and minor number of the device it is on.
    pub device: (u32, u32),
    /// Its number there.
    pub inode: u64,
    /// It is a directory.
    pub is_dir: bool,
    /// When it was made, in seconds and nanoseconds, where the file system knows.
    pub born: Option<(i64, u32)>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It goes on.
    GoOn,
    /// It goes on, and the name leads to another file now.
    Renewed,
}

/// The filter that stops what `files` says, or why this host has none. Needs what any filter needs.
pub(super) fn install(files: bool) -> io::Result<OwnedFd> {
    if !lets_calls_go_on() {
        return Err(io::Error::other("that takes Linux 5.5"));
    }
    sys::install_watching_filter(&seccomp::watching(files))
}

/// A call that was stopped can go on as if it had not been.
pub(super) fn lets_calls_go_on() -> bool {
    release_lets_calls_go_on(&rustix::system::uname().release().to_string_lossy())
}

/// Linux 5.5 was the first.
fn release_lets_calls_go_on(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(5))
}

/// Answers every stopped call until nobody is left who could make one, or the other end of `stop` is closed. Some: why
/// nothing could be looked at.
pub(super) fn serve(listener: &OwnedFd, stop: &PipeReader, watch: &dyn Watch) -> Option<String> {
    let (view, mut blind) = match View::new() {
        Ok(view) => (Some(view), None),
        Err(e) => (None, Some(e.to_string())),
    };
    while let Some(call) = next(listener, stop) {
        let mut refuse = None;
        if let Some(view) = &view {
            let stopped = Stopped { view, listener: listener.as_fd(), call };
            match stopped.look(watch) {
                Ok(()) => {}
                Err(Trouble::Refused(e)) => refuse = Some(e.raw_os_error().unwrap_or(libc::EIO)),
                Err(Trouble::Blind(e)) => blind = blind.or_else(|| Some(e.to_string())),
                // It will fail by itself, or is gone.
                Err(Trouble::Theirs) => {}
            }
        }
        // Killed in the meantime is as good.
        let _ = sys::answer_stopped(listener.as_fd(), call.id, refuse);
    }
    blind
}

fn next(listener: &OwnedFd, stop: &PipeReader) -> Option<Notification> {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
        let [calls, stopped] = [fds[0].revents(), fds[1].revents()];
        if calls.contains(PollFlags::IN) {
            // Otherwise it was killed before we looked.
            if let Ok(call) = sys::next_stopped(listener.as_fd()) {
                return Some(call);
            }
        } else if !calls.is_empty() || !stopped.is_empty() {
            return None;
        }
    }
}

/// Why a call was not looked at.
enum Trouble {
    /// What it names is not there, or it has ended.
    Theirs,
    /// We may not.
    Blind(io::Error),
    /// The watch says no.
    Refused(io::Error),
}

impl From<Errno> for Trouble {
    fn from(_: Errno) -> Self {
        Trouble::Theirs
    }
}

/// Where this thread looks from.
struct View {
    /// The host's `/proc`.
    proc: OwnedFd,
    /// Descriptors of this process, as links there.
    own: OwnedFd,
    /// The root of this thread.
    root: OwnedFd,
}

const DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl View {
    /// From here on this thread has a root and a working directory of its own.
    fn new() -> io::Result<Self> {
        sys::unshare(UnshareFlags::FS)?;
        let proc = rustix::fs::open("/proc", DIR, Mode::empty())?;
        let me = rustix::fs::readlinkat(&proc, "self", Vec::new())?;
        if me.to_bytes() != rustix::process::getpid().as_raw_nonzero().to_string().as_bytes() {
            return Err(io::Error::other("/proc numbers processes otherwise"));
        }
        let own = rustix::fs::openat(&proc, "self/fd", DIR, Mode::empty())?;
        let root = rustix::fs::open("/", DIR, Mode::empty())?;
        Ok(Self { proc, own, root })
    }

    /// What `fd` is called in the tree of mounts it belongs to.
    fn name(&self, fd: &OwnedFd) -> Result<PathBuf, Trouble> {
        let name = rustix::fs::readlinkat(&self.own, fd.as_raw_fd().to_string(), Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(name.into_bytes())))
    }
}

/// One call, and who made it.
struct Stopped<'a> {
    view: &'a View,
    listener: BorrowedFd<'a>,
    call: Notification,
}

impl Stopped<'_> {
    fn look(&self, watch: &dyn Watch) -> Result<(), Trouble> {
        let how = |address| self.how(address).ok();
        for (deed, operand) in seccomp::decode(&self.call, how) {
            let (fd, number) = match self.resolve(&operand) {
                // `rename` to a name that is not there yet.
                Err(Trouble::Theirs) if deed != Some(Deed::Change) => continue,
                other => other?,
            };
            let Some(deed) = deed else { return Ok(()) };
            let file = self.describe(&fd)?;
            if !sys::still_stopped(self.listener, self.call.id) {
                return Err(Trouble::Theirs);
            }
            let answer = watch.before(deed, &file).map_err(Trouble::Refused)?;
            if let (Answer::Renewed, Some(number)) = (answer, number) {
                self.renew(number, &file)?;
            }
        }
        Ok(())
    }

    /// Opens `what` of the calling thread in `/proc`.
    fn open(&self, what: &str, flags: OFlags) -> Result<OwnedFd, Trouble> {
        let path = format!("{}/{what}", self.call.thread);
        rustix::fs::openat(&self.view.proc, path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| match e {
            Errno::PERM | Errno::ACCESS => Trouble::Blind(io::Error::from(e)),
            _ => Trouble::Theirs,
        })
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<usize, Trouble> {
        let memory = File::from(self.open("mem", OFlags::RDONLY)?);
        memory.read_at(into, address).map_err(|_| Trouble::Theirs)
    }

    /// Flags and resolve of a `struct open_how`.
    fn how(&self, address: u64) -> Result<(u64, u64), Trouble> {
        let mut how = [[0u8; 8]; 3];
        if self.read(address, how.as_flattened_mut())? < 24 {
            return Err(Trouble::Theirs);
        }
        Ok((u64::from_le_bytes(how[0]), u64::from_le_bytes(how[2])))
    }

    /// What the operand means; and by which descriptor, if it means one.
    fn resolve(&self, operand: &Operand) -> Result<(OwnedFd, Option<i32>), Trouble> {
        match *operand {
            Operand::Fd(libc::AT_FDCWD) => Ok((self.open("cwd", DIR)?, None)),
            Operand::Fd(number) => Ok((self.open(&format!("fd/{number}"), OFlags::PATH)?, Some(number))),
            Operand::Path { dir, address, follow, empty, resolve } => {
                let mut text = vec![0; libc::PATH_MAX as usize];
                let read = self.read(address, &mut text)?;
                text.truncate(text[..read].iter().position(|&b| b == 0).ok_or(Trouble::Theirs)?);
                match descriptor(&text) {
                    Some(number) if follow => return self.resolve(&Operand::Fd(number)),
                    _ if text.is_empty() && empty => return self.resolve(&Operand::Fd(dir)),
                    _ => {}
                }
                let dir = match dir {
                    libc::AT_FDCWD => self.open("cwd", DIR)?,
                    number => self.open(&format!("fd/{number}"), DIR)?,
                };
                Ok((self.walk(&dir, &text, follow, ResolveFlags::from_bits_truncate(resolve))?, None))
            }
        }
    }

    /// Finds `path` as the calling thread would.
    fn walk(&self, dir: &OwnedFd, path: &[u8], follow: bool, resolve: ResolveFlags) -> Result<OwnedFd, Trouble> {
        let root = self.open("root", DIR)?;
        let stand = |root: &OwnedFd| rustix::process::fchdir(root).and_then(|()| rustix::process::chroot("."));
        stand(&root).map_err(|e| Trouble::Blind(e.into()))?;
        let flags = OFlags::PATH | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let found = rustix::process::fchdir(dir)
            .and_then(|()| rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve));
        stand(&self.view.root).map_err(|e| Trouble::Blind(e.into()))?;
        Ok(found?)
    }

    fn describe(&self, fd: &OwnedFd) -> Result<Watched, Trouble> {
        let want = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, want)?;
        let knows = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Watched {
            path: self.view.name(fd)?,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            is_dir: FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory,
            born: knows.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
        })
    }

    /// Lets the descriptor lead where the name it was opened by leads now.
    fn renew(&self, number: i32, file: &Watched) -> Result<(), Trouble> {
        let root = self.open("root", DIR)?;
        // In a root of its own the name would have to be another; nobody does this there.
        if self.view.name(&root)?.as_os_str() != "/" {
            return Ok(());
        }
        let mut info = vec![0; 256];
        let read = File::from(self.open(&format!("fdinfo/{number}"), OFlags::RDONLY)?).read_at(&mut info, 0);
        let info = String::from_utf8_lossy(&info[..read.unwrap_or(0)]).into_owned();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let flags = field("flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(0);
        let was = OFlags::from_bits_retain(flags);
        let flags = was & (OFlags::PATH | OFlags::NONBLOCK) | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let new = rustix::fs::openat2(&root, &file.path, flags, Mode::empty(), resolve)?;
        if let Some(position) = field("pos:").and_then(|pos| pos.parse().ok()).filter(|pos| *pos > 0) {
            rustix::fs::seek(&new, rustix::fs::SeekFrom::Start(position))?;
        }
        let close = was.contains(OFlags::CLOEXEC);
        sys::replace_fd(self.listener, self.call.id, new.as_fd(), number, close).map_err(|_| Trouble::Theirs)
    }
}

/// The descriptor that a path means for whoever uses it.
fn descriptor(path: &[u8]) -> Option<i32> {
    let number = match path {
        b"/dev/stdin" => return Some(0),
        b"/dev/stdout" => return Some(1),
        b"/dev/stderr" => return Some(2),
        _ => [&b"/proc/self/fd/"[..], b"/proc/thread-self/fd/", b"/dev/fd/"].iter().find_map(|p| path.strip_prefix(*p)),
    };
    std::str::from_utf8(number?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_cannot_let_a_call_go_on_are_not_asked_to() {
        for (release, can) in [
            ("5.5.0", true),
            ("6.18.5-cloud", true),
            ("5.10.0-30-amd64", true),
            ("5.4.99", false),
            ("4.4.0", false),
            ("x", false),
        ] {
            assert_eq!(release_lets_calls_go_on(release), can, "{release}");
        }
    }

    #[test]
    fn paths_that_mean_the_users_own_descriptors_are_known() {
        for (path, number) in [
            ("/proc/self/fd/7", Some(7)),
            ("/dev/fd/10", Some(10)),
            ("/dev/stdout", Some(1)),
            ("/proc/self/fd/7/x", None),
            ("/proc/1/fd/7", None),
            ("/dev/fd/", None),
        ] {
            assert_eq!(descriptor(path.as_bytes()), number, "{path}");
        }
    }
}
