//! `kiln run`: an image's command, tried out.

mod commit;
mod foreground;
mod spec;
mod streams;
