//! Calls a [`Watch`] before a command changes files.
//!
//! **Holds.** The watch is called for every system call that changes a file or a name, while the calling thread is
//! stopped. It gets the file that the kernel would find: paths are resolved by a thread that takes on the caller's
//! root and working directory.
//! **Order.** Init installs the filter and sends the listener to kiln, where one thread replies until the command is
//! dead.
//! **Not here.** Access control: a call whose file cannot be inspected continues. The watch affects what a layer will
//! contain, not what is allowed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use super::dispatch::{Answerer, Listener, Reply, answer_next};
use crate::sandbox::seccomp::{self, FileOperation, Operand, WatchScope};
use crate::sandbox::sys::{self, Notification};

/// Is called before a command changes files.
pub trait Watch: Sync {
    /// Which calls to stop.
    fn scope(&self) -> WatchScope;

    /// `operation` is about to be applied to `file`. An error makes the system call fail with it.
    fn before(&self, operation: FileOperation, file: &WatchedFile) -> io::Result<Effect>;
}

/// A file that a command is about to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFile {
    /// The path of the file below the command's root, resolved from the path or descriptor of the call.
    pub path: PathBuf,
    /// Major and minor number of its device.
    pub device: (u32, u32),
    /// Its inode number there.
    pub inode: u64,
    /// It is a directory.
    pub is_dir: bool,
    /// When it was created, in seconds and nanoseconds, if the file system knows.
    pub born: Option<(i64, u32)>,
}

/// What a [`Watch`] did to the file. The call continues either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Unchanged,
    /// Its path now names another file.
    Replaced,
}

/// Installs the filter that stops the calls of `scope`. Err: why this host has none. Needs the rights of any filter.
pub(in crate::sandbox) fn install_file_filter(scope: WatchScope) -> io::Result<OwnedFd> {
    if !can_continue_calls() {
        return Err(io::Error::other("Linux 5.5 or newer is required"));
    }
    sys::install_filter_with_listener(&seccomp::file_filter(scope))
}

/// Whether this kernel can continue a stopped call.
pub(in crate::sandbox) fn can_continue_calls() -> bool {
    release_continues_calls(&rustix::system::uname().release().to_string_lossy())
}

/// Linux 5.5 and newer.
fn release_continues_calls(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(5))
}

/// Replies to stopped calls until no process is left that could make one, or the other end of `stop` is closed.
/// `Some`: why files could not be inspected.
pub(in crate::sandbox) fn watch_files(listener: OwnedFd, stop: &PipeReader, watch: &dyn Watch) -> Option<String> {
    let (view, blind) = match View::new() {
        Ok(view) => (Some(view), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let mut files = Files { watch, view, blind };
    while wait_for_call(&listener, stop) {
        // Err: its thread was killed first.
        let _ = answer_next(&listener, &mut [&mut files]);
    }
    files.blind
}

/// Waits for a call. `false`: none will come.
fn wait_for_call(listener: &OwnedFd, stop: &PipeReader) -> bool {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        let [calls, stopped] = [fds[0].revents(), fds[1].revents()];
        if calls.contains(PollFlags::IN) {
            return true;
        }
        if !calls.is_empty() || !stopped.is_empty() {
            return false;
        }
    }
}

/// Calls a [`Watch`] for every file of a call.
struct Files<'a> {
    watch: &'a dyn Watch,
    /// `None`: files cannot be inspected.
    view: Option<View>,
    /// The first reason why a file could not be inspected.
    blind: Option<String>,
}

impl Answerer for Files<'_> {
    fn answer(&mut self, call: &Notification, listener: &dyn Listener) -> Option<Reply> {
        let stopped = Stopped { view: self.view.as_ref()?, listener, call };
        match stopped.ask(self.watch) {
            // The call fails anyway, or its thread is gone.
            Ok(()) | Err(Trouble::Caller) => None,
            Err(Trouble::Refused(e)) => Some(Reply::Fail(e.raw_os_error().unwrap_or(libc::EIO))),
            Err(Trouble::Blind(e)) => {
                self.blind.get_or_insert_with(|| e.to_string());
                None
            }
        }
    }
}

/// Why the files of a call were not inspected.
enum Trouble {
    /// They do not exist, or the thread has ended.
    Caller,
    /// kiln lacks the rights.
    Blind(io::Error),
    /// The watch refuses the call.
    Refused(io::Error),
}

impl From<Errno> for Trouble {
    fn from(_: Errno) -> Self {
        Trouble::Caller
    }
}

/// The descriptors from which this thread resolves paths.
struct View {
    /// The host's `/proc`.
    proc: OwnedFd,
    /// The links to the descriptors of this process in `/proc`.
    own: OwnedFd,
    /// The root of this thread.
    root: OwnedFd,
}

const DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl View {
    /// Gives this thread a root and a working directory of its own.
    fn new() -> io::Result<Self> {
        sys::unshare(UnshareFlags::FS)?;
        let proc = rustix::fs::open("/proc", DIR, Mode::empty())?;
        let me = rustix::fs::readlinkat(&proc, "self", Vec::new())?;
        if me.to_bytes() != rustix::process::getpid().as_raw_nonzero().to_string().as_bytes() {
            return Err(io::Error::other("/proc belongs to another pid namespace"));
        }
        let own = rustix::fs::openat(&proc, "self/fd", DIR, Mode::empty())?;
        let root = rustix::fs::open("/", DIR, Mode::empty())?;
        Ok(Self { proc, own, root })
    }

    /// The path of `fd` in its mount tree.
    fn name(&self, fd: &OwnedFd) -> Result<PathBuf, Trouble> {
        let name = rustix::fs::readlinkat(&self.own, fd.as_raw_fd().to_string(), Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(name.into_bytes())))
    }
}

/// A stopped call.
struct Stopped<'a> {
    view: &'a View,
    listener: &'a dyn Listener,
    call: &'a Notification,
}

impl Stopped<'_> {
    fn ask(&self, watch: &dyn Watch) -> Result<(), Trouble> {
        let how = |address| self.how(address).ok();
        for (operation, operand) in seccomp::decode(self.call, how) {
            let (fd, number) = match self.resolve(&operand) {
                // For example `rename` to a name that does not exist yet.
                Err(Trouble::Caller) if operation != Some(FileOperation::Modify) => continue,
                other => other?,
            };
            let Some(operation) = operation else { return Ok(()) };
            let file = self.describe(&fd)?;
            if !self.listener.is_waiting(self.call.id) {
                return Err(Trouble::Caller);
            }
            let effect = watch.before(operation, &file).map_err(Trouble::Refused)?;
            if let (Effect::Replaced, Some(number)) = (effect, number) {
                self.reopen(number, &file)?;
            }
        }
        Ok(())
    }

    /// Opens `what` in the calling thread's directory of `/proc`.
    fn open(&self, what: &str, flags: OFlags) -> Result<OwnedFd, Trouble> {
        let path = format!("{}/{what}", self.call.thread);
        rustix::fs::openat(&self.view.proc, path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| match e {
            Errno::PERM | Errno::ACCESS => Trouble::Blind(io::Error::from(e)),
            _ => Trouble::Caller,
        })
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<usize, Trouble> {
        let memory = File::from(self.open("mem", OFlags::RDONLY)?);
        memory.read_at(into, address).map_err(|_| Trouble::Caller)
    }

    /// The flags and resolve flags of a `struct open_how`.
    fn how(&self, address: u64) -> Result<(u64, u64), Trouble> {
        let mut how = [[0u8; 8]; 3];
        if self.read(address, how.as_flattened_mut())? < 24 {
            return Err(Trouble::Caller);
        }
        Ok((u64::from_le_bytes(how[0]), u64::from_le_bytes(how[2])))
    }

    /// The file that the operand names, and the number of its descriptor if it names one.
    fn resolve(&self, operand: &Operand) -> Result<(OwnedFd, Option<i32>), Trouble> {
        match *operand {
            Operand::Fd(libc::AT_FDCWD) => Ok((self.open("cwd", DIR)?, None)),
            Operand::Fd(number) => Ok((self.open(&format!("fd/{number}"), OFlags::PATH)?, Some(number))),
            Operand::Path { dir, address, follow, empty, resolve } => {
                let mut text = vec![0; libc::PATH_MAX as usize];
                let read = self.read(address, &mut text)?;
                text.truncate(text[..read].iter().position(|&b| b == 0).ok_or(Trouble::Caller)?);
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

    /// Resolves `path` as the calling thread would.
    fn walk(&self, dir: &OwnedFd, path: &[u8], follow: bool, resolve: ResolveFlags) -> Result<OwnedFd, Trouble> {
        let root = self.open("root", DIR)?;
        let enter = |root: &OwnedFd| rustix::process::fchdir(root).and_then(|()| rustix::process::chroot("."));
        enter(&root).map_err(|e| Trouble::Blind(e.into()))?;
        let flags = OFlags::PATH | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let found = rustix::process::fchdir(dir)
            .and_then(|()| rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve));
        enter(&self.view.root).map_err(|e| Trouble::Blind(e.into()))?;
        Ok(found?)
    }

    fn describe(&self, fd: &OwnedFd) -> Result<WatchedFile, Trouble> {
        let want = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, want)?;
        let knows = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(WatchedFile {
            path: self.view.name(fd)?,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            is_dir: FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory,
            born: knows.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
        })
    }

    /// Replaces the descriptor by one of the file that its path names now.
    fn reopen(&self, number: i32, file: &WatchedFile) -> Result<(), Trouble> {
        let root = self.open("root", DIR)?;
        // After a chroot the path would name another file: not supported.
        if self.view.name(&root)?.as_os_str() != "/" {
            return Ok(());
        }
        let mut info = vec![0; 256];
        let read = File::from(self.open(&format!("fdinfo/{number}"), OFlags::RDONLY)?).read_at(&mut info, 0);
        let info = String::from_utf8_lossy(&info[..read.unwrap_or(0)]).into_owned();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let flags = field("flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(0);
        let before = OFlags::from_bits_retain(flags);
        let flags = before & (OFlags::PATH | OFlags::NONBLOCK) | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let new = rustix::fs::openat2(&root, &file.path, flags, Mode::empty(), resolve)?;
        if let Some(position) = field("pos:").and_then(|pos| pos.parse().ok()).filter(|pos| *pos > 0) {
            rustix::fs::seek(&new, rustix::fs::SeekFrom::Start(position))?;
        }
        let close = before.contains(OFlags::CLOEXEC);
        let replaced = self.listener.replace_descriptor(self.call.id, new.as_fd(), number, close);
        replaced.map_err(|_| Trouble::Caller)
    }
}

/// The number of the process's own descriptor that a path names.
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
    fn calls_are_stopped_only_on_linux_5_5_and_newer() {
        for (release, can) in [
            ("5.5.0", true),
            ("6.18.5-cloud", true),
            ("5.10.0-30-amd64", true),
            ("5.4.99", false),
            ("4.4.0", false),
            ("x", false),
        ] {
            assert_eq!(release_continues_calls(release), can, "{release}");
        }
    }

    #[test]
    fn descriptor_reads_paths_of_own_descriptors() {
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
