//! Answers to the calls that a seccomp filter reports or stops.
//!
//! **Holds.** The kernel allows a command one listener. `dispatch` takes a call from it, asks each answerer in order
//! and sends the first reply; a call without a reply continues. The answerers are `device_nodes` (device nodes
//! that the command makes can be opened) and `notices` (calls that cannot work here are remembered), both in the
//! warden, and `files` (a [`Watch`] is asked before the command changes a file), in kiln.
//! **Not here.** Which calls are reported: [`super::seccomp`].

mod device_nodes;
mod dispatch;
mod files;
mod notices;

pub(super) use device_nodes::DeviceNodes;
pub(super) use dispatch::answer_next;
pub use files::{Effect, Watch, WatchedFile};
pub(super) use files::{can_continue_calls, install_file_filter, watch_files};
pub(super) use notices::Notices;
