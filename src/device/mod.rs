//! Devices of the host for `RUN --device`, as Container Device Interface files describe them (R-10, O-22).
//!
//! **Holds.** [`Devices`]: for every device name in a plan, the devices that match and how they change a command. `spec` reads
//! one file, `host` the directories; `devices` selects and checks permission.
//! **Order.** Files are read only if the plan asks for a device, once, before any step is looked up. A later directory
//! overrides an earlier one. A device that two files of one directory describe is an error.
//! **Not here.** The device nodes: the sandbox opens them when the command starts.
//!
//! A step's key has the names of its devices, as in BuildKit, not the content of their files: paths of a driver differ
//! between hosts. An optional device that is missing is not in the key, so a command that ran without it runs again when the
//! device is available.

mod devices;
mod host;
mod refusal;
mod spec;

#[cfg(test)]
mod tests;

pub(crate) use devices::{Devices, Grants};
pub(crate) use host::{SPEC_DIRS, described};
pub(crate) use refusal::{Refusal, Refused};
