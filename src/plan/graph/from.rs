//! Finds where an instruction refers to another stage, an image or a context.

use crate::dockerfile::mount::{Mount, MountKey};
use crate::dockerfile::{Instruction, Word};

/// The words of an instruction that may refer to a stage, and whether a number means a stage index.
pub(in crate::plan) fn references(instruction: &Instruction) -> Vec<(&Word, bool)> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().map(|word| (word, true)).collect(),
        Instruction::Run(run) => {
            run.mounts.iter().filter_map(|mount| mount_from(mount).map(|word| (word, false))).collect()
        }
        _ => Vec::new(),
    }
}

/// The value of a mount's `from`, if it has one.
pub(in crate::plan) fn mount_from(mount: &Mount) -> Option<&Word> {
    let last = mount.options.iter().rev().find(|o| o.key == MountKey::From)?;
    last.value.as_ref().filter(|word| !word.text.is_empty())
}
