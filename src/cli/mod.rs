//! Arguments and environment in, exit code out.
//!
//! **Holds.** One file per command (`build`, `check`, …), each with a `run` that takes its arguments and a `Session` and
//! returns an exit code or a `Failure`. `args` is the command line as typed; `request` turns it into values for this
//! host and is the only reader of the environment; `failure` turns every error into a message, hints and an exit code.
//! **Order.** argv → `args` → `request` → the modules below → `failure` → exit code. `entry` prints the message, once.
//! **Not here.** How events and diagnostics look: `ui`.

mod all_platforms;
mod args;
mod build;
mod cache;
mod check;
mod completions;
mod diff;
mod doctor;
mod entry;
mod export;
mod failure;
mod fetch;
mod filter;
mod fsck;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod interrupt;
mod load;
mod locate;
mod login;
mod manifest;
mod names;
mod namespace;
mod outline;
mod pull;
mod push;
mod read;
mod request;
mod run;
mod save;
mod session;
mod sourced;
mod store;
mod table;
mod template;
mod version;

pub use entry::main;
