//! The store and the commands that deal with what is in it.

mod crafted;
mod crash;
mod damage;
mod import;
mod load;
mod many;
mod mounts;
mod outputs;
mod prune;
mod robust;
mod sharing;
