//! One command inside one root.
//!
//! **Holds.** [`Launcher::run`] runs a [`Spec`] with three actors: this process; a `warden`, a new copy of this
//! program that owns the pid namespace; and `init`, process 1 inside, which sets everything up and starts the
//! command, or becomes the command if that is to be process 1. A non-zero exit is `Ok`; `Err` means that the command
//! never ran, and names the step that failed. When `run` returns, every process of the command is dead and no mount
//! is left: mounts live in init's own mount namespace. What the host does not allow is left out as a [`Fallback`] if
//! it is no protection; a failure may carry a [`Hint`]. Both are facts: `cli` has the words.
//! **Order.** `main` calls [`reentry()`] before anything else.
//! **Not here.** Layers, images, Dockerfiles: the caller gives a root and a mount list.

mod agent;
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
mod stubs;
mod supervise;
mod sys;
mod system;
mod terminal;
mod user;
pub mod userns;
mod wait;
mod warden;
mod wire;

pub use crate::base::cancel::Cancel;
pub use agent::{AgentProxy, agent_listens};
pub use error::Error;
pub use failure::{Fault, SetupFailure, Stage};
pub use fallback::{Fallback, Feature, Limit};
pub use hint::Hint;
pub use launch::{Io, Launcher, RunOptions};
pub use network_helper::{NetworkHelper, NoPrivateNetwork, private_network};
pub use outcome::Outcome;
pub use program::ExecObstacle;
pub use publish::Ports;
pub use reentry::{Reentry, reentry};
pub use seccomp::{FileOperation, Notice, WatchScope};
pub use signals::Signals;
pub use spec::{
    DataFile, Device, Exit, Mount, Network, Publish, Resources, Rlimit, Rootfs, Scratch, Security, Source, Spec,
};
pub use stubs::usual_targets;
pub use supervise::{Effect, Watch, WatchedFile};
