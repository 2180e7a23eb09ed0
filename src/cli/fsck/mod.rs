//! `kiln fsck`: whether the store is whole, and its repair.
//!
//! **Holds.** Every file whose content kiln knows is read: blobs, names, cache records, stat indexes, downloads, trees and
//! unpacked layers. Not read are the files of cache mounts, which are whatever commands wrote, and git repositories, which git
//! verifies. Builds and pruning go on meanwhile.
//! **Exit code.** 0: the store is whole, or all damage was repaired; 1: damage is left.

mod check;
mod repair;
mod report;

use super::args::FsckArgs;
use super::failure::{Done, SUCCESS};
use super::session::Session;

/// The exit code if damage is left.
const DAMAGED: u8 = 1;

pub(super) fn run(args: &FsckArgs, session: &mut Session<'_>) -> Done {
    let stop = session.interruptible()?;
    let store = session.store()?;
    if let Some(code) = session.as_owner(&store)? {
        return Ok(code);
    }
    let found = check::check(&store, &stop)?;
    let outcome = match args.repair {
        true => repair::run(&found, &store, &stop, session)?,
        false => repair::Outcome::of(&found),
    };
    report::print(args, &found, &outcome, &store, session)?;
    Ok(if outcome.is_whole() { SUCCESS } else { DAMAGED })
}
