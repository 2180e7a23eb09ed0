//! Test the store: its commands, robustness, sharing between processes, and outputs.

mod crafted;
mod crash;
mod damage;
mod export;
mod fsck;
mod import;
mod kills;
mod load;
mod many;
mod mounts;
mod outputs;
mod prune;
mod robust;
mod sharing;
