//! The lower directories of an overlay.
//!
//! **Holds.** A directory occurs once: overlayfs refuses (ELOOP) a directory that occurs twice, and an image may have equal
//! layers anywhere (N-1). Of equal layers only the topmost is in the stack. The overlay shows the same files:
//!
//! Let L be a layer that occurs twice, with other layers between, and p any path. Unpacked, L has an inode for every
//! path that it names, parents included.
//! - L has a file at p, or a whiteout or file above p: the upper L decides, whatever is below it.
//! - L has a directory at p: its mode, owner and attributes are the upper L's, and it is opaque in both or in neither.
//!   What is inside are paths of their own.
//! - L has nothing at p, and only directories above p that are not opaque: the lower L neither shows nor hides p.
//! - L has nothing at p, and an opaque directory above p: the upper L hides all below it, the lower L included.
//!
//! So the lower L changes nothing that is visible above the upper L. This holds for directories on disk. Where an image's
//! layer names a directory only by what is in it, [`Snapshotter::floor`](super::Snapshotter::floor) corrects what the
//! stack shows; it is made from the whole chain, so it is the same with and without the lower L.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Error;

/// Overlayfs stacks at most this many lower layers (`OVL_MAX_STACK`), two of which hold mount targets.
const MAX_LOWERS: usize = 498;

/// Directories that overlayfs can stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack(Vec<PathBuf>);

impl Stack {
    /// The stack of `dirs`, given bottom first. Ok: it shows what all of them show, has each once, and overlayfs supports it.
    pub fn new(dirs: &[PathBuf]) -> Result<Self, Error> {
        let mut seen: BTreeSet<&Path> = BTreeSet::new();
        let lowers: Vec<PathBuf> = dirs.iter().rev().filter(|dir| seen.insert(dir)).cloned().collect();
        if lowers.len() > MAX_LOWERS {
            return Err(Error::TooManyLayers { count: lowers.len(), max: MAX_LOWERS });
        }
        Ok(Self(lowers))
    }

    /// The directories, topmost first.
    pub fn into_lowers(self) -> Vec<PathBuf> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(names: &[&str]) -> Result<Vec<String>, Error> {
        let dirs: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        Ok(Stack::new(&dirs)?.into_lowers().iter().map(|dir| dir.display().to_string()).collect())
    }

    #[test]
    fn stack_keeps_topmost_of_equal_directories() {
        for (dirs, want) in [
            (&[][..], &[][..]),
            (&["a"], &["a"]),
            (&["a", "a"], &["a"]),
            (&["a", "b", "a"], &["a", "b"]),
            (&["e", "a", "e", "b", "e", "a", "c"], &["c", "a", "e", "b"]),
        ] {
            assert_eq!(stack(dirs).expect("a stack"), want, "{dirs:?}");
        }
    }

    #[test]
    fn stack_height_is_counted_without_repeats() {
        let names: Vec<String> = (0..=MAX_LOWERS).map(|n| n.to_string()).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(matches!(stack(&names), Err(Error::TooManyLayers { count, .. }) if count == MAX_LOWERS + 1));
        names.pop();
        let repeated = [&names[..], &names[..]].concat();
        assert_eq!(stack(&repeated).expect("a stack").len(), MAX_LOWERS);
    }
}
