//! One command inside one root.
//!
//! **Holds.** [`Launcher::run`] starts a [`Spec`] as three actors: this process, a `warden` (a fresh copy of this program
//! that owns the pid namespace and outlives the command), and `init` (process 1 inside, which sets everything up and starts
//! the command, or becomes it where that asks to be process 1). A non-zero exit is `Ok`; `Err` means the command never ran and names the step that failed. When it
//! returns, every process of the command is dead and no mount is left: mounts live in init's own namespace.
//! **Order.** `main` calls [`reentry`] before anything else.
//! **Not here.** Layers, images, Dockerfiles: the caller gives a root and a mount list.

mod agent;
mod apart;
mod cgroup;
mod confine;
mod devices;
mod error;
mod exec;
mod first;
mod idmap;
mod init;
mod launch;
mod listen;
mod message;
mod mountfs;
mod mounts;
mod network;
mod obstacle;
mod pipes;
mod problem;
mod program;
mod publish;
mod raw;
mod resolv;
mod rootfs;
mod seccomp;
mod signals;
mod spec;
mod stubs;
mod sys;
mod system;
mod terminal;
mod user;
pub mod userns;
mod wait;
mod warden;
mod watch;
mod wire;

pub use crate::base::cancel::Cancel;
pub use agent::{AgentProxy, agent_listens};
pub use error::Error;
pub use launch::{Beside, Io, Launcher, Outcome, Reentry, reentry};
pub use message::{Blame, Failure, Stage};
pub use network::{NetworkHelper, private_network};
pub use program::{CRLF, Obstacle};
pub use publish::Ports;
pub use seccomp::{Deed, Notice};
pub use signals::Signals;
pub use spec::{
    DataFile, Device, Exit, Mount, Network, Publish, Resources, Rlimit, Rootfs, Scratch, Security, Source, Spec,
};
pub use stubs::usual_targets;
pub use watch::{Answer, Watch, Watched};
