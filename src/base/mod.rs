//! What every module shares.
//!
//! **Holds.** Digests with one type per use (`digest`), framed hashing (`stable`), verified readers (`verify`), paths
//! confined to a directory (`rooted`), the resolver of symbolic links (`resolve`), user and group files (`passwd`), atomic
//! publication (`publish`), syncing (`durable`), temporary names (`unique`), temporary files that are removed on exit
//! (`unfinished`), locks (`lock`), claims on work (`claim`), the clock (`time`), cancellation (`cancel`, `watch`),
//! notices of repaired damage (`notice`), damage that a check finds (`damage`), files with their digest (`sealed`), sparse
//! files (`sparse`).
//! **Not here.** Anything about layers, images or Dockerfiles.

pub(crate) mod cancel;
pub(crate) mod claim;
pub(crate) mod damage;
pub mod digest;
pub(crate) mod durable;
pub(crate) mod fs;
pub(crate) mod json;
pub(crate) mod lock;
pub(crate) mod notice;
pub(crate) mod passwd;
pub(crate) mod publish;
pub mod resolve;
pub mod rooted;
pub(crate) mod sealed;
pub(crate) mod sparse;
pub(crate) mod stable;
pub(crate) mod time;
pub(crate) mod unfinished;
pub(crate) mod unique;
pub(crate) mod url;
pub(crate) mod verify;
pub(crate) mod watch;
