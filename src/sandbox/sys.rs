//! System calls without a safe wrapper in the crates that kiln uses.
//!
//! **Holds.** The crate's only `unsafe` code. Each function is safe to call: it checks or sets whatever the kernel
//! relies on.

#![expect(unsafe_code, reason = "the one module of raw system calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::raw::{c_int, c_long, c_ulong};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// The result of a system call.
fn check(answer: c_long) -> io::Result<c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Which side of a fork this is.
pub(super) enum Fork {
    /// The original, with the child's pid.
    Parent(Pid),
    /// The copy.
    Child,
}

/// Forks. Err(`EBUSY`) if this process has several threads: the child could inherit a lock that is never released.
pub(super) fn fork() -> io::Result<Fork> {
    let threads = rustix::fs::stat("/proc/self/task")?.st_nlink;
    if threads != 3 {
        return Err(rustix::io::Errno::BUSY.into());
    }
    // SAFETY: one thread, so the copy's locks and allocator are in the state this thread left them in.
    let pid = check(c_long::from(unsafe { libc::fork() }))?;
    Ok(match Pid::from_raw(pid as i32) {
        Some(pid) => Fork::Parent(pid),
        None => Fork::Child,
    })
}

/// The socket that the parent left open as this descriptor; `None` if there is none.
pub(super) fn inherited_socket(number: i32) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: passes a number; the call fails with EBADF if it is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if flags < 0 {
        return None;
    }
    // SAFETY: it is open, above the standard three, and this runs first in `main`: nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let stat = rustix::fs::fstat(&fd).ok()?;
    (rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket).then_some(fd)
}

/// Gives every signal its default action.
pub(super) fn default_signals() {
    // The kernel's `struct sigaction`, at its largest; all zeroes is SIG_DFL without flags. The C library's call
    // refuses the two signals that it reserves, which a caller may have left ignored too.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: no handler is installed; the call fails for KILL and STOP, as intended. The set is 8 bytes.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal as c_long, default.as_ptr(), 0 as c_long, 8 as c_ulong) };
    }
}

/// Unblocks every signal.
pub(super) fn unblock_signals() {
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Blocks every signal.
pub(super) fn block_signals() {
    let _ = nix::sys::signal::SigSet::all().thread_block();
}

/// Moves this process to new namespaces.
pub(super) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    if namespaces.contains(UnshareFlags::FILES) {
        return Err(rustix::io::Errno::INVAL.into());
    }
    // SAFETY: without `FILES`, no descriptor that another thread knows changes its meaning.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces) }?)
}

/// Sets close-on-exec on every descriptor from `first` on.
pub(super) fn close_range_on_exec(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_ulong = 4;
    // SAFETY: only a flag of descriptors changes; none is closed.
    let answer = unsafe {
        libc::syscall(libc::SYS_close_range, c_ulong::from(first), c_ulong::from(u32::MAX), CLOSE_RANGE_CLOEXEC)
    };
    match check(answer) {
        Ok(_) => Ok(()),
        // Linux before 5.11 lacks the flag, and before 5.9 the call: set it one by one.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {
            for fd in first..1024 {
                // SAFETY: as above; the call fails with EBADF if the number is not open.
                unsafe { libc::fcntl(fd as c_int, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// Closes every descriptor but one, in a process that does not use the others any more.
pub(super) fn close_all_but(kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = kept.as_raw_fd() as u32;
    for (first, last) in [(0, kept.checked_sub(1)), (kept + 1, Some(u32::MAX))] {
        let Some(last) = last else { continue };
        // SAFETY: no owner of these descriptors in this process uses or closes them again: the caller never returns to
        // such code before it exits.
        let answer = unsafe { libc::syscall(libc::SYS_close_range, c_ulong::from(first), c_ulong::from(last), 0) };
        match check(answer) {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                for fd in first..=last.min(1023) {
                    // SAFETY: as above; the call fails with EBADF if the number is not open.
                    unsafe { libc::close(fd as c_int) };
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Adds mount attributes (`MOUNT_ATTR_*`) to a mount, or to its whole tree.
pub(super) fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    change_mount_attributes(mount, attributes, 0, recursive)
}

/// Removes mount attributes from a mount.
pub(super) fn clear_mount_attributes(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    change_mount_attributes(mount, 0, attributes, false)
}

fn change_mount_attributes(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attr = MountAttr { set, clear, propagation: 0, userns_fd: 0 };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a constant C string, `attr` is laid out as `struct mount_attr` and its size is given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            c_long::from(mount.as_raw_fd()),
            c"".as_ptr(),
            c_ulong::from(flags as u32),
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(answer).map(drop)
}

/// Joins a new, empty session keyring: the inherited one is the user's (S-74).
pub(super) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) }).map(drop)
}

/// One classic BPF instruction, as `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    /// Operation.
    pub(super) code: u16,
    /// How far to jump if true.
    pub(super) jt: u8,
    /// How far to jump if false.
    pub(super) jf: u8,
    /// Operand.
    pub(super) k: u32,
}

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: does not force a speculation mitigation, which the program could enable itself.
const SPEC_ALLOW: c_ulong = 1 << 2;

/// Installs a system call filter, which cannot be removed. Needs `CAP_SYS_ADMIN` or no-new-privs.
pub(super) fn install_filter(program: &[Instruction]) -> io::Result<()> {
    match seccomp(program, SPEC_ALLOW) {
        // Kernels before 4.17 lack the flag.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => seccomp(program, 0).map(drop),
        other => other.map(drop),
    }
}

/// Installs a filter that stops calls until the holder of the returned listener has replied.
pub(super) fn install_filter_with_listener(program: &[Instruction]) -> io::Result<OwnedFd> {
    const NEW_LISTENER: c_ulong = 1 << 3;
    let fd = seccomp(program, NEW_LISTENER | SPEC_ALLOW)?;
    // SAFETY: the call succeeded with this flag, so it returned a new descriptor (close-on-exec), which nothing else
    // owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

fn seccomp(program: &[Instruction], flags: c_ulong) -> io::Result<c_long> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const Instruction,
    }
    const SECCOMP_SET_MODE_FILTER: c_long = 1;
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = Program { len, filter: program.as_ptr() };
    // SAFETY: `program` points at `len` instructions that live until the call returns; the kernel verifies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
}

/// A stopped call, as `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Notification {
    /// The id of this stop.
    pub(super) id: u64,
    /// The thread's id, in the pid namespace of this process.
    pub(super) thread: u32,
    flags: u32,
    /// The number of the call.
    pub(super) number: u32,
    /// Its architecture (`AUDIT_ARCH_*`).
    pub(super) arch: u32,
    instruction: u64,
    /// Its arguments.
    pub(super) args: [u64; 6],
}

/// Receives the next stopped call.
pub(super) fn next_stopped(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    const RECEIVE: c_ulong = 0xC050_2100;
    let mut call = Notification::default();
    // SAFETY: `call` is laid out as the kernel's struct, whose size is part of the request, and all zeroes as demanded.
    check(c_long::from(unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut call) }))?;
    Ok(call)
}

/// Whether the thread still waits. If so, everything read from it before belongs to it, and not to another thread with
/// the same id.
pub(super) fn still_stopped(listener: BorrowedFd<'_>, id: u64) -> bool {
    const VALID: c_ulong = 0x4008_2102;
    // SAFETY: the kernel reads eight bytes.
    unsafe { libc::ioctl(listener.as_raw_fd(), VALID as _, &raw const id) == 0 }
}

/// Continues a stopped call, or makes it fail with `errno`.
pub(super) fn answer_stopped(listener: BorrowedFd<'_>, id: u64, errno: Option<i32>) -> io::Result<()> {
    #[repr(C)]
    struct Response {
        id: u64,
        value: i64,
        error: i32,
        flags: u32,
    }
    const SEND: c_ulong = 0xC018_2101;
    const CONTINUE: u32 = 1;
    let (error, flags) = errno.map_or((0, CONTINUE), |errno| (-errno, 0));
    let response = Response { id, value: 0, error, flags };
    // SAFETY: `response` is laid out as the kernel's struct, whose size is part of the request.
    check(c_long::from(unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw const response) })).map(drop)
}

/// Replaces descriptor `number` of the process whose call is stopped with `fd`.
pub(super) fn replace_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    number: i32,
    close_on_exec: bool,
) -> io::Result<()> {
    #[repr(C)]
    struct Added {
        id: u64,
        flags: u32,
        source: u32,
        number: u32,
        fd_flags: u32,
    }
    const ADD: c_ulong = 0x4018_2103;
    const AT_NUMBER: u32 = 1;
    let (source, number) = (fd.as_raw_fd() as u32, number as u32);
    let fd_flags = if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 };
    let added = Added { id, flags: AT_NUMBER, source, number, fd_flags };
    // SAFETY: `added` is laid out as the kernel's struct, whose size is part of the request; only the other process's
    // descriptors change.
    check(c_long::from(unsafe { libc::ioctl(listener.as_raw_fd(), ADD as _, &raw const added) })).map(drop)
}

/// Brings up the loopback interface of this network namespace.
pub(super) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as _;
    request.ifr_name[1] = b'o' as _;
    // SAFETY: both calls get a socket and an `ifreq` with a terminated name; the union field read was set by the first.
    unsafe {
        check(c_long::from(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request)))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as i16;
        check(c_long::from(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fork_refuses_in_threaded_process() {
        let answer = std::thread::spawn(|| fork().err().and_then(|e| e.raw_os_error()));
        assert_eq!(answer.join().ok().flatten(), Some(libc::EBUSY));
    }
}
