//! Events and diagnostics as text.
//!
//! **Holds.** `console` owns both streams. `sanitize` makes bytes from files, registries and commands safe for a terminal (S-99).
//! Progress is shown as `plain` lines, `json` lines or a view on a `terminal`, that of a push or pull by a `meter`;
//! `excerpt` renders diagnostics, `explain` what `kiln cache explain` found.
//! **Order.** Standard output carries data only; progress, warnings and errors go to standard error (O-71).
//! **Not here.** What an error means and its exit code: `cli::failure`.

pub(crate) mod console;
pub mod excerpt;
pub(crate) mod explain;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod meter;
pub(crate) mod password;
pub(crate) mod plain;
pub(crate) mod sanitize;
pub(crate) mod step;
pub(crate) mod template;
pub(crate) mod terminal;

#[cfg(test)]
mod tests;
