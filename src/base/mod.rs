//! Words every floor shares; knows nothing of images.
//!
//! **Holds.** Digests with names that cannot be swapped (`digest`), framed hashing (`stable`), readers that
//! verify (`verify`), paths that stay inside a directory (`rooted`), files that appear whole (`publish`),
//! locks (`lock`), the only clock (`time`).
//! **Not here.** Anything that knows what a layer, an image or a Dockerfile is.

pub mod digest;
pub mod fs;
pub mod lock;
pub mod publish;
pub mod rooted;
pub mod stable;
pub mod time;
pub mod verify;
