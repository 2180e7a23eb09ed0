//! Setup that all processes of kiln's own share: the process name, death with the parent, and `/dev/null`.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;

/// Sets the name that a process shows in `ps`.
pub(super) fn name_process(name: &OsStr) {
    if let Ok(name) = CString::new(name.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Ok: the kernel kills this process when its parent dies.
pub(super) fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// `/dev/null`, for reading and writing; close-on-exec.
pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}
