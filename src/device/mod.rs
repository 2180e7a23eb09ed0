//! Devices of the host for `RUN --device`, as Container Device Interface files describe them (R-10, O-22).
//!
//! **Holds.** [`Devices`]: for every name a plan asks for, the devices that are meant and what they change about a
//! command. `spec` reads one file; this module reads the directories, chooses and permits.
//! **Order.** Files are read only if the plan asks for a device, once, before any step is looked up. Of two devices of
//! one name that of the later directory counts; two in one directory are nobody's.
//! **Not here.** The device nodes themselves: the sandbox opens them when the command starts.
//!
//! A step's key holds the names of the devices it gets, as BuildKit's does, not what their files say: the same driver
//! lies elsewhere on every host. An optional device that is missing is not in the key, so a command that ran without it
//! runs again once it is there.

mod devices;
mod host;
mod refusal;
mod spec;

#[cfg(test)]
mod tests;

pub use devices::{Devices, Grants};
pub use host::{SPEC_DIRS, described};
pub use refusal::{Refusal, Refused};
