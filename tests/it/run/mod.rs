//! Test `kiln run`.

mod commit;
mod foreground;
mod spec;
mod streams;
