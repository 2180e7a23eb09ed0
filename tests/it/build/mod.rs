//! `kiln build`, from the outside.

mod cache;
mod command;
mod instructions;
mod interrupt;
mod parity;
mod seen;
mod stages;
