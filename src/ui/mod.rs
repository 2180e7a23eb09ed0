//! Events and diagnostics as text.
//!
//! **Holds.** `console` owns both streams. `sanitize` makes bytes from files, registries and commands safe for a terminal (S-99).
//! Progress is shown as `plain` lines, `json` lines or a view on a `terminal`; `excerpt` renders diagnostics.
//! **Order.** Standard output carries data only; progress, warnings and errors go to standard error (O-71).
//! **Not here.** What an error means and its exit code: `cli::failure`.

pub mod console;
pub mod excerpt;
pub mod json;
pub mod lines;
pub mod plain;
pub mod sanitize;
pub mod step;
pub mod terminal;

#[cfg(test)]
mod tests;
