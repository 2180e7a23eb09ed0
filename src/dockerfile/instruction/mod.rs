//! One logical line to one typed instruction.
//!
//! **Order.** `statement` reads the keyword, its flags, the heredoc bodies (`bodies`) and the arguments. The arguments
//! (`args`) are read by one file per kind of instruction: `stage`, `files`, `pairs`, `lists`, `health`, `onbuild`.

mod args;
mod bodies;
mod cursor;
mod files;
mod health;
mod lists;
mod onbuild;
mod pairs;
mod parsed;
mod stage;
mod statement;
mod unknown;

pub(super) use args::description;
pub(super) use cursor::Cursor;
pub(super) use parsed::Parsed;
pub(super) use statement::statement;
