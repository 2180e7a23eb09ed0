//! Root without being root of the host: user namespaces.
//!
//! **Holds.** [`enter()`] starts the same command line once more, in a new process, as uid 0 of a new user and mount
//! namespace. Its other ids are the user's subordinate ids (`maps`), or there are none, for a reason that is
//! announced ([`single_id_reason`]). The process outside passes signals and the exit status through; the terminal is
//! shared. `nested` gives one command a user namespace of its own. [`NamespaceObstacle`] says what refuses a
//! namespace.
//! **Not here.** What is done inside.

mod enter;
mod error;
mod handshake;
mod idmap;
mod inside;
mod maps;
pub(super) mod nested;
mod obstacle;
mod origin;
mod privilege;
mod reason;

pub use enter::enter;
pub use error::Error;
pub(super) use handshake::ARGUMENT;
pub use idmap::ENOUGH as ENOUGH_IDS;
pub(super) use inside::inside;
pub use maps::subordinate_problem;
pub use obstacle::NamespaceObstacle;
pub(super) use origin::explain;
pub use origin::{outer_uid, payload, single_id_reason};
pub(super) use privilege::limits;
pub use privilege::{Privilege, own_mounts, privilege};
pub use reason::{Powerless, SingleIdReason};
