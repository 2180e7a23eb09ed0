//! Lets a command replace a bundle of authorities that kiln has mounted over.
//!
//! **Holds.** A file that is a mount cannot be renamed over or removed, which is how `update-ca-certificates` writes the
//! bundle. When a command is about to rename or remove a file of such a name, the mounts over the image's bundles go
//! away, and the call continues. The bundle that the environment names stays.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::process::WaitOptions;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::dispatch::{Answerer, Listener, Reply};
use crate::sandbox::authorities;
use crate::sandbox::seccomp::{self, Operand};
use crate::sandbox::sys::{self, Fork, Notification};

/// The mounts over the bundles of one command.
#[derive(Debug)]
pub(in crate::sandbox) struct Bundles {
    /// Pid 1 of the command's namespaces.
    init: OwnedFd,
    mounted: bool,
}

impl Bundles {
    /// The mounts in the mount namespace of `init`.
    pub(in crate::sandbox) fn new(init: OwnedFd) -> Self {
        Self { init, mounted: true }
    }

    /// Ok: the mounts over the image's bundles are gone. A process with more than one thread cannot change its mount
    /// namespace, and one that did could not return: another process does it.
    fn release(&self) -> std::io::Result<()> {
        match sys::fork()? {
            Fork::Parent(pid) => {
                while let Err(rustix::io::Errno::INTR) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) {}
                Ok(())
            }
            Fork::Child => {
                let entered = move_into_thread_name_spaces(self.init.as_fd(), ThreadNameSpaceType::MOUNT);
                let done = entered.map_err(Into::into).and_then(|()| authorities::unmount());
                std::process::exit(i32::from(done.is_err()))
            }
        }
    }
}

impl Answerer for Bundles {
    fn answer(&mut self, call: &Notification, listener: &dyn Listener) -> Option<Reply> {
        if !seccomp::replaces_names(call) {
            return None;
        }
        let names = seccomp::decode(call, |_| None);
        let named = names.iter().any(|(_, operand)| match operand {
            Operand::Path { address, .. } => {
                path(call, *address).is_some_and(|path| authorities::is_bundle_name(&path))
            }
            Operand::Fd(_) => false,
        });
        if self.mounted && named && listener.is_waiting(call.id) {
            // If it fails, so does the call, which names the file.
            self.mounted = self.release().is_err();
        }
        Some(Reply::Continue)
    }
}

/// The path at an address of the calling thread.
fn path(call: &Notification, address: u64) -> Option<Vec<u8>> {
    let memory = File::open(format!("/proc/{}/mem", call.thread)).ok()?;
    let mut text = vec![0; libc::PATH_MAX as usize];
    let read = memory.read_at(&mut text, address).ok()?;
    text.truncate(text[..read].iter().position(|&b| b == 0)?);
    Some(text)
}
