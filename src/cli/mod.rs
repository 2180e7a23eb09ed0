//! Arguments and environment in, exit code out.
//!
//! **Holds.** One file per command (`build`, `check`, …), each with one `run` that takes its arguments and a
//! `Session` and returns an exit code or a `Failure`. What was typed is `args`; what it means here, on this host
//! and with this environment, is `request`, the one place that reads the environment; every module's error becomes
//! words, hints and an exit code in `failure`.
//! **Order.** argv → `args` → `request` → the floors below → `failure` → exit code. A message is printed once, here.
//! **Not here.** How events and diagnostics look: `ui`.

mod args;
mod build;
mod cache;
mod check;
mod completions;
mod diff;
mod doctor;
mod entry;
mod failure;
mod fetch;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod interrupt;
mod load;
mod locate;
mod names;
mod namespace;
mod outline;
mod pull;
mod read;
mod request;
mod run;
mod save;
mod session;
mod store;
mod table;
mod version;

pub use entry::main;
