//! `kiln build`, from the outside.

mod cache;
mod instructions;
mod parity;
mod seen;
mod stages;
