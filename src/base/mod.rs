//! Words every floor shares; knows nothing of images.
//!
//! **Holds.** Digests with names that cannot be swapped (`digest`), framed hashing (`stable`), readers that
//! verify (`verify`), paths that stay inside a directory (`rooted`), files that appear whole (`publish`)
//! and reach the disk (`durable`), what was found damaged (`notice`),
//! what must not outlive the process (`unfinished`), locks (`lock`), the only clock (`time`), the flag that stops work
//! (`cancel`), runs of zeros that are neither read nor stored (`sparse`).
//! **Not here.** Anything that knows what a layer, an image or a Dockerfile is.

pub mod cancel;
pub mod digest;
pub mod durable;
pub mod fs;
pub mod json;
pub mod lock;
pub mod notice;
pub mod passwd;
pub mod publish;
pub mod resolve;
pub mod rooted;
pub mod sparse;
pub mod stable;
pub mod time;
pub mod unfinished;
pub mod unique;
pub mod verify;
pub mod watch;
