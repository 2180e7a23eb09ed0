//! One entry as canonical tar bytes.
//!
//! **Order.** The same entry gives the same bytes everywhere: ustar header, numeric ids, empty names, no device
//! numbers but on devices, no atime or ctime, whole seconds. A PAX record is written only for what the header cannot
//! hold; records are sorted by key and framed by length.

use tar::{EntryType, Header};

use super::entry::{Entry, EntryKind, RelPath};
use super::error::Error;
use super::pax::Records;

/// Tar works in blocks of this many bytes.
pub(super) const BLOCK: usize = 512;
/// Two zero blocks end an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

pub(super) const WHITEOUT: &[u8] = b".wh.";
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";

const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// How many zero bytes follow `size` bytes of content.
pub(super) fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// Appends everything that precedes the entry's content.
pub(super) fn head(entry: &Entry, out: &mut Vec<u8>) -> Result<(), Error> {
    if !entry.kind.is_marker() && entry.path.components().any(|c| c.starts_with(WHITEOUT)) {
        return Err(refuse(entry, "a name that begins with .wh. means a deletion in a layer"));
    }
    let mut header = Header::new_ustar();
    let mut pax = Records::new();
    let name = name_in_tar(entry);
    if !set_name(&mut header, &name) {
        pax.insert(b"path".to_vec(), name.clone());
    }
    set_meta(entry, &mut header, &mut pax);
    let kind = set_kind(entry, &mut header, &mut pax)?;
    header.set_entry_type(kind);
    let size = if let EntryKind::File { size, .. } = entry.kind { size } else { 0 };
    header.set_size(size);
    if size > OCTAL_11 {
        pax.insert(b"size".to_vec(), size.to_string().into());
    }
    // The attributes of a hard link are those of its file, which are written once.
    if !matches!(entry.kind, EntryKind::Hardlink { .. }) {
        for (key, value) in &entry.meta.xattrs {
            if key.contains(&b'=') || key.contains(&0) || key.is_empty() {
                return Err(refuse(entry, "extended attribute with = or NUL in its name"));
            }
            pax.insert([b"SCHILY.xattr.", &key[..]].concat(), value.clone());
        }
    }
    header.set_cksum();
    if !pax.is_empty() {
        extended(&pax, &name, out);
    }
    out.extend_from_slice(header.as_bytes());
    Ok(())
}

fn refuse(entry: &Entry, reason: &'static str) -> Error {
    Error::NotRepresentable { path: entry.path.clone(), reason }
}

/// Mode, owner and time.
fn set_meta(entry: &Entry, header: &mut Header, pax: &mut Records) {
    let meta = &entry.meta;
    header.set_mode(if entry.kind.is_marker() { 0o600 } else { meta.mode & 0o7777 });
    for (key, id) in [("uid", meta.uid), ("gid", meta.gid)] {
        if u64::from(id) > OCTAL_7 {
            pax.insert(key.into(), id.to_string().into());
        }
    }
    // Ids that do not fit in octal are stored in base 256 too, for readers without PAX.
    header.set_uid(meta.uid.into());
    header.set_gid(meta.gid.into());
    match u64::try_from(meta.mtime.secs) {
        Ok(secs) if secs <= OCTAL_11 => header.set_mtime(secs),
        _ => {
            header.set_mtime(0);
            pax.insert(b"mtime".to_vec(), meta.mtime.secs.to_string().into());
        }
    }
}

/// The type of the entry, after its link target or device number was stored.
fn set_kind(entry: &Entry, header: &mut Header, pax: &mut Records) -> Result<EntryType, Error> {
    Ok(match &entry.kind {
        EntryKind::File { .. } | EntryKind::Whiteout | EntryKind::Opaque => EntryType::Regular,
        EntryKind::Dir => EntryType::Directory,
        EntryKind::Symlink { target } => {
            if target.contains(&0) || target.is_empty() {
                return Err(refuse(entry, "symlink target is empty or holds a NUL byte"));
            }
            set_link(header, target, pax);
            EntryType::Symlink
        }
        EntryKind::Hardlink { target } => {
            set_link(header, target.as_bytes(), pax);
            EntryType::Link
        }
        EntryKind::Char { major, minor } | EntryKind::Block { major, minor } => {
            let limit = OCTAL_7 as u32;
            if *major > limit || *minor > limit {
                return Err(refuse(entry, "device number too large for tar"));
            }
            if let Some(ustar) = header.as_ustar_mut() {
                ustar.set_device_major(*major);
                ustar.set_device_minor(*minor);
            }
            if matches!(entry.kind, EntryKind::Char { .. }) { EntryType::Char } else { EntryType::Block }
        }
        EntryKind::Fifo => EntryType::Fifo,
    })
}

/// The name as the archive has it: directories end in a slash, markers are `.wh.` names.
fn name_in_tar(entry: &Entry) -> Vec<u8> {
    let path = entry.path.as_bytes();
    match &entry.kind {
        EntryKind::Dir if path.is_empty() => b"./".to_vec(),
        EntryKind::Dir => [path, b"/"].concat(),
        EntryKind::Whiteout => {
            let name = [WHITEOUT, entry.path.name()].concat();
            entry.path.parent().unwrap_or_else(RelPath::root).join(&name).as_bytes().to_vec()
        }
        EntryKind::Opaque => entry.path.join(OPAQUE).as_bytes().to_vec(),
        _ => path.to_vec(),
    }
}

/// Stores `name` in the ustar fields, split at a slash if it must be. False: it does not fit.
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    let Some(ustar) = header.as_ustar_mut() else { return false };
    let (room, prefix_room) = (ustar.name.len(), ustar.prefix.len());
    if name.len() <= room {
        ustar.name[..name.len()].copy_from_slice(name);
        return true;
    }
    // The longest prefix: the split every other writer makes too. The last byte may be a directory's slash.
    let end = name.len().min(prefix_room + 1).min(name.len() - 1);
    if let Some(slash) = name[..end].iter().rposition(|&b| b == b'/')
        && name.len() - slash - 1 <= room
        && slash > 0
    {
        ustar.prefix[..slash].copy_from_slice(&name[..slash]);
        let rest = &name[slash + 1..];
        ustar.name[..rest.len()].copy_from_slice(rest);
        return true;
    }
    ustar.name.copy_from_slice(&name[..room]);
    false
}

fn set_link(header: &mut Header, target: &[u8], pax: &mut Records) {
    let field = &mut header.as_old_mut().linkname;
    let len = target.len().min(field.len());
    field[..len].copy_from_slice(&target[..len]);
    if target.len() > field.len() {
        pax.insert(b"linkpath".to_vec(), target.to_vec());
    }
}

/// Appends an extended header holding `records`.
fn extended(records: &Records, name: &[u8], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    for (key, value) in records {
        record(key, value, &mut body);
    }
    let mut header = Header::new_ustar();
    let shown = [b"PaxHeaders.0/", &name[..name.len().min(80)]].concat();
    set_name(&mut header, &shown);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(body.len() as u64);
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&body);
    out.resize(out.len() + padding(body.len() as u64), 0);
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + digits(rest);
    len = rest + digits(len);
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(n: usize) -> usize {
    n.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_record_counts_its_own_length() {
        for len in 0..1200 {
            let mut out = Vec::new();
            record(b"k", &vec![b'v'; len], &mut out);
            let space = out.iter().position(|&b| b == b' ').unwrap();
            let stated: usize = std::str::from_utf8(&out[..space]).unwrap().parse().unwrap();
            assert_eq!(stated, out.len(), "value of {len} bytes");
        }
    }

    #[test]
    fn long_names_are_split_into_prefix_and_name() {
        let fits = |name: &[u8]| set_name(&mut Header::new_ustar(), name);
        assert!(fits(&[b'a'; 100]));
        assert!(!fits(&[b'a'; 101]));
        assert!(fits(&[&[b'p'; 155][..], b"/", &[b'n'; 100]].concat()));
        assert!(!fits(&[&[b'p'; 156][..], b"/", &[b'n'; 100]].concat()));
        assert!(fits(&[&[b'p'; 60][..], b"/", &[b'n'; 90], b"/"].concat()));
    }
}
