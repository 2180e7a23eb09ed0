//! User namespaces: root without being root of the host.
//!
//! **Holds.** [`enter()`] runs the same command line again, in a new process, as uid 0 of a new user and mount
//! namespace. Its other ids are the user's subordinate ids (`maps`), or there are none, for a reason that is reported
//! ([`single_id_reason`]). The outer process forwards signals and the exit status; the terminal is shared. `nested`
//! gives one command its own user namespace. [`NamespaceObstacle`] is what refuses a namespace.
//! **Not here.** What the inner process does.

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

pub(crate) use enter::enter;
pub(crate) use error::Error;
pub(super) use handshake::ARGUMENT;
pub(crate) use idmap::ENOUGH as ENOUGH_IDS;
pub(super) use inside::inside;
pub(crate) use maps::subordinate_problem;
pub(crate) use obstacle::NamespaceObstacle;
pub(super) use origin::explain;
pub(crate) use origin::{outer_uid, payload, single_id_reason};
pub(super) use privilege::limits;
pub(crate) use privilege::{Privilege, own_mounts, privilege};
pub(crate) use reason::{Powerless, SingleIdReason};
