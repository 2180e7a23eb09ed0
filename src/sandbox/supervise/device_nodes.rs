//! Lets a command open the device nodes that it creates (N-53).

use rustix::process::Pid;

use super::dispatch::{Answerer, Listener, Reply};
use crate::sandbox::cgroup::Groups;
use crate::sandbox::devices;
use crate::sandbox::fallback::{Fallback, Feature};
use crate::sandbox::seccomp::{self, Notice};
use crate::sandbox::spec::Device;
use crate::sandbox::sys::Notification;

/// Permits the usual devices when the command creates its first node.
#[derive(Debug)]
pub(in crate::sandbox) struct DeviceNodes {
    init: Pid,
    devices: Vec<Device>,
    access: Access,
    fallback: Option<Fallback>,
}

/// Whether device nodes can be opened.
#[derive(Debug)]
enum Access {
    /// No node has been created yet.
    Untried,
    /// They can, as long as these groups exist.
    Granted { _groups: Groups },
    /// They cannot.
    Unavailable,
}

impl DeviceNodes {
    /// For the processes of the pid namespace of `init`; `devices` may be opened besides the usual ones.
    pub(in crate::sandbox) fn new(init: Pid, devices: Vec<Device>) -> Self {
        Self { init, devices, access: Access::Untried, fallback: None }
    }

    /// Why nodes cannot be opened; returned once.
    pub(in crate::sandbox) fn take_fallback(&mut self) -> Option<Fallback> {
        self.fallback.take()
    }
}

impl Answerer for DeviceNodes {
    fn answer(&mut self, call: &Notification, _: &dyn Listener) -> Option<Reply> {
        if seccomp::notice(call) != Notice::Device {
            return None;
        }
        if matches!(self.access, Access::Untried) {
            self.access = match devices::open(self.init, &self.devices) {
                Ok(groups) => Access::Granted { _groups: groups },
                Err(cause) => {
                    // No cause: no process may create nodes on this host, so nothing is left out.
                    self.fallback = cause.map(|cause| Fallback::new(Feature::DeviceNodes, cause));
                    Access::Unavailable
                }
            };
        }
        matches!(self.access, Access::Granted { .. }).then_some(Reply::Continue)
    }
}
