//! `kiln build`, from the outside.

mod cache;
mod command;
mod ending;
mod instructions;
mod interrupt;
mod parity;
mod seen;
mod stages;
