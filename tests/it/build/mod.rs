//! Test `kiln build` through the binary.

mod cache;
mod command;
mod edits;
mod ending;
mod instructions;
mod interrupt;
mod parity;
mod seen;
mod stages;
