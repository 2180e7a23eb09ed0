//! Small files that end with a digest of themselves, so that damage which is still well formed is noticed.
//!
//! **On disk.** The content, then its BLAKE3. A file that other programs read keeps its own form; its digest is in the
//! attribute `user.kiln.sum`, which belongs to the inode and so follows renames and hard links.

use std::fs::File;
use std::path::Path;

use rustix::fs::XattrFlags;

use super::fs;

const LEN: usize = blake3::OUT_LEN;
/// The attribute with the digest of a file in a form of others.
const ATTRIBUTE: &str = "user.kiln.sum";

/// The file to write for `content`.
pub(crate) fn seal(mut content: Vec<u8>) -> Vec<u8> {
    let sum = blake3::hash(&content);
    content.extend_from_slice(sum.as_bytes());
    content
}

/// The content of a sealed file; `None`: it is damaged, or was never sealed.
pub(crate) fn open(mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let at = sealed.len().checked_sub(LEN)?;
    let sum = sealed.split_off(at);
    (blake3::hash(&sealed).as_bytes()[..] == sum).then_some(sealed)
}

/// Notes the digest of `content` at `file`, which holds it. Best effort: not every file system has attributes.
pub(crate) fn note(file: &File, content: &[u8]) {
    let _ = rustix::fs::fsetxattr(file, ATTRIBUTE, blake3::hash(content).as_bytes(), XattrFlags::empty());
}

/// Whether the file at `path`, which holds `content`, has the digest that was noted; `None`: none was.
pub(crate) fn is_as_noted(path: &Path, content: &[u8]) -> Option<bool> {
    let (file, mut sum) = (fs::open(path).ok()?, [0; LEN]);
    let len = rustix::fs::fgetxattr(&file, ATTRIBUTE, &mut sum[..]).ok()?;
    Some(sum[..len] == blake3::hash(content).as_bytes()[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_content_tells_every_changed_byte() {
        for content in [&b""[..], b"x", b"a longer text"] {
            let sealed = seal(content.to_vec());
            assert_eq!(open(sealed.clone()).as_deref(), Some(content));
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(open(changed), None, "{at}");
                assert_eq!(open(sealed[..at].to_vec()), None, "{at}");
            }
        }
    }
}
