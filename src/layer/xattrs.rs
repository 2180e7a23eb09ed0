//! Which extended attributes a layer may hold.

/// Whether an attribute may enter a layer or be taken from one (C-14, S-37).
///
/// Left out are attributes of overlayfs (a layer must not control kiln's mounts), SELinux and integrity labels and ACLs of the
/// host, `trusted.*`, which images cannot set portably, and the mark of files whose owner this host cannot express.
pub(super) fn belongs(name: &[u8]) -> bool {
    match name.split(|&b| b == b'.').next() {
        Some(b"user") => !name.starts_with(b"user.overlay.") && name != super::owners::MARK,
        Some(b"security") => name == b"security.capability",
        _ => false,
    }
}

const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// A `security.capability` value as the image should have it: one that the kernel tied to a user namespace's root
/// (revision 3) loses that id and becomes revision 2, so root and rootless builds give the same bytes.
pub(super) fn portable_capability(value: &[u8]) -> Vec<u8> {
    let Some((head, rest)) = value.split_first_chunk::<4>() else { return value.to_vec() };
    let magic = u32::from_le_bytes(*head);
    if magic & REVISION_MASK != REVISION_3 || rest.len() < 20 {
        return value.to_vec();
    }
    let mut out = ((magic & !REVISION_MASK) | REVISION_2).to_le_bytes().to_vec();
    out.extend_from_slice(&rest[..16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belongs_rejects_host_attributes() {
        // C-14, S-37
        for (name, kept) in [
            ("user.mime_type", true),
            ("security.capability", true),
            ("user.overlay.opaque", false),
            ("user.kiln.owner", false),
            ("user.kiln.owner.mine", true),
            ("trusted.overlay.redirect", false),
            ("trusted.md5", false),
            ("security.selinux", false),
            ("security.ima", false),
            ("system.posix_acl_access", false),
            ("", false),
        ] {
            assert_eq!(belongs(name.as_bytes()), kept, "{name}");
        }
    }

    #[test]
    fn namespaced_capability_becomes_revision_2() {
        let plain = [&0x0200_0001u32.to_le_bytes()[..], &[1u8; 16]].concat();
        let tied = [&0x0300_0001u32.to_le_bytes()[..], &[1u8; 16], &100_000u32.to_le_bytes()].concat();
        assert_eq!(portable_capability(&tied), plain);
        assert_eq!(portable_capability(&plain), plain);
        assert_eq!(portable_capability(&[1, 2]), [1, 2]);
    }
}
