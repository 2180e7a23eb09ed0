//! Test `kiln run`.

mod commit;
mod foreground;
mod pull;
mod spec;
mod streams;
