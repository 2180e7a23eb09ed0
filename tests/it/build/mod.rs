//! Test `kiln build` through the binary.

mod cache;
mod command;
mod edits;
mod ending;
mod explain;
mod instructions;
mod interrupt;
mod max_age;
mod parity;
mod seen;
mod stages;
