//! What every module shares.
//!
//! **Holds.** Digests with one type per use (`digest`), framed hashing (`stable`), verified readers (`verify`), paths
//! confined to a directory (`rooted`), the resolver of symbolic links (`resolve`), user and group files (`passwd`), atomic
//! publication (`publish`), syncing (`durable`), temporary names (`unique`), temporary files that are removed on exit
//! (`unfinished`), locks (`lock`), claims on work (`claim`), the clock (`time`), cancellation (`cancel`, `watch`),
//! notices of repaired damage (`notice`), sparse files (`sparse`).
//! **Not here.** Anything about layers, images or Dockerfiles.

pub mod cancel;
pub mod claim;
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
pub(crate) mod url;
pub mod verify;
pub mod watch;
