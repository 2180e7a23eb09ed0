//! Replies to the calls that a seccomp filter reports or stops.
//!
//! **Holds.** `dispatch` takes a call from a listener, asks each answerer in order and sends the first reply; a call
//! without a reply continues. The answerers are `bundles` (lets the command replace bundles of
//! authorities), `device_nodes` (lets it open device nodes that it creates) and `notices` (records calls that cannot work
//! on this host), all in the warden, and `files` (calls a [`Watch`] before
//! the command changes a file), in kiln. The kernel allows a command one listener.
//! **Not here.** Which calls are reported: [`super::seccomp`].

mod bundles;
mod device_nodes;
mod dispatch;
mod files;
mod notices;

pub(super) use bundles::Bundles;
pub(super) use device_nodes::DeviceNodes;
pub(super) use dispatch::{Answerer, answer_next};
pub(crate) use files::{Effect, Watch, WatchedFile};
pub(super) use files::{can_continue_calls, install_file_filter, watch_files};
pub(super) use notices::Notices;
