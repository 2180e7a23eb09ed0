//! The store and the commands that deal with what is in it.

mod import;
mod load;
mod mounts;
mod outputs;
mod prune;
mod robust;
