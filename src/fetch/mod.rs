//! Files by URL and git repositories, for ADD and as contexts.
//!
//! **Holds.** A file is verified, limited in size and cached by its digest. A repository cannot run anything, and cannot be
//! read outside its checkout (S-8, S-10). No message contains a credential.
//! **On disk.** In the directory that the caller names: `sha256-<hex>` (a file), `<hex of the URL>` (what its server said
//! about it, sealed), `<hex of URL and ref>` (the commit of a ref, sealed), `git-<hex of URL and commit>` (a repository).
//! **Order.** `error` → `secrets` → `remote` → `file`; `giturl` → `git` (the command) → `checkout`.
//! **Not here.** What is done with the files: `copy`, `engine`. Images: `registry`. Connections: `transport`.

mod address;
mod check;
mod checkout;
mod error;
mod file;
mod git;
mod giturl;
mod remote;
mod secrets;

pub(crate) use check::check;
pub(crate) use error::{FetchError, GitFailure};
pub(crate) use file::FetchedFile;
pub(crate) use git::Commit;
pub(crate) use giturl::GitUrl;
pub(crate) use remote::MAX_BYTES;
pub(crate) use remote::Remote;
pub(crate) use secrets::Secrets;

#[cfg(test)]
mod tests;
