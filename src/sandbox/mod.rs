//! Runs one command in a sandbox.
//!
//! **Holds.** [`Launcher::run`] runs a [`Spec`] with four processes: this one; a `starter`, a copy of this program
//! that forks the others; a `warden`, which owns the pid namespace; and `init`, pid 1 of the namespace, which sets the
//! sandbox up and starts the command, or becomes the command if that is to be pid 1. A non-zero exit is `Ok`; `Err` means that the command never ran, and
//! names the step that failed. When `run` returns, every process of the command is dead and no mount is left: mounts
//! are in init's own mount namespace. A feature that the host refuses and that protects nothing is left out, as a
//! [`Fallback`]; a failure may have a [`Hint`]. Both are data: `cli` has their texts.
//! **Order.** `main` calls [`reentry()`] first.
//! **Not here.** Layers, images, Dockerfiles: the caller passes a root and a list of mounts.

mod agent;
mod authorities;
mod cgroup;
mod confine;
mod devices;
mod error;
mod exec;
mod failure;
mod fallback;
mod hint;
mod init;
mod launch;
mod message;
mod monitor;
mod mountfs;
mod mounts;
mod network;
mod network_helper;
mod outcome;
mod pipes;
mod problem;
mod process;
mod program;
mod publish;
mod raw;
mod reaper;
mod reentry;
mod resolv;
mod rootfs;
mod seccomp;
mod signals;
mod spec;
mod starter;
mod stubs;
mod supervise;
mod sys;
mod system;
mod terminal;
mod user;
pub(crate) mod userns;
mod wait;
mod warden;
mod wire;

pub use crate::base::cancel::Cancel;
pub(crate) use agent::{AgentProxy, agent_listens};
pub use error::Error;
pub use failure::Stage;
pub use fallback::Fallback;
pub(crate) use fallback::{Feature, Limit};
pub use hint::Hint;
pub use launch::{Io, Launcher, RunOptions};
pub(crate) use network_helper::{NoPrivateNetwork, private_network};
pub use outcome::Outcome;
pub use program::ExecObstacle;
pub use publish::Ports;
pub use reentry::{Reentry, reentry};
pub(crate) use seccomp::{FileOperation, Notice, WatchScope};
pub(crate) use signals::Signals;
pub use spec::{Authorities, Exit, Mount, Network, Publish, Resources, Rlimit, Rootfs, Security, Source, Spec};
pub(crate) use spec::{Device, Scratch};
pub(crate) use stubs::usual_targets;
pub(crate) use supervise::{Effect, Watch, WatchedFile};
