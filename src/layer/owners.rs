//! Owners and devices that this host cannot express.
//!
//! **Holds.** A user namespace maps some ids. A file with another owner belongs, on disk, to the stand-in, which is the
//! highest mapped id, and carries its true owner in an attribute, the [`Mark`]. Overlayfs copies the mark up with the file, so
//! it survives renames, hard links and `cp -a`. If a command changes the owner, the id on disk is not the stand-in any more.
//! A device that cannot be created is an empty file with a mark.
//! **Trust.** Commands can write marks too. A mark counts only for unmapped ids on a file that belongs to the stand-in; a
//! device only if a layer below has the same.
//! **Not here.** Files without a mark that belong to the stand-in: [`super::origin`].

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use crate::base::digest::Sha256;

use super::entry::{EntryKind, Meta};

/// The attribute with the true owner. No layer has it, and none may bring it.
pub(super) const MARK: &[u8] = b"user.kiln.owner";

/// The ids of a process's user namespace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owners {
    /// Files can be given to other owners: as root, with more than one id.
    pub(super) gives: bool,
    /// The process is root, who may read and replace every file of a mapped owner.
    pub(super) root: bool,
    pub(super) uids: Ids,
    pub(super) gids: Ids,
}

impl Owners {
    /// Those of this process, which keeps its namespace.
    pub(super) fn here() -> &'static Self {
        static HERE: OnceLock<Owners> = OnceLock::new();
        HERE.get_or_init(|| {
            let map = |path: &str| crate::base::fs::read(Path::new(path)).map(|text| Ids::parse(&text));
            // Unreadable means no user namespaces, so no map that could be too small.
            let [uids, gids] = ["/proc/self/uid_map", "/proc/self/gid_map"].map(|path| map(path).unwrap_or_default());
            let root = rustix::process::geteuid().is_root();
            Self { gives: root && uids.count() > 1, root, uids, gids }
        })
    }

    /// The mark that a file with this metadata needs here. None: its owner can be had.
    fn mark(&self, meta: &Meta) -> Option<Mark> {
        let known = self.uids.has(meta.uid) && self.gids.has(meta.gid);
        // Without root, no command runs on unpacked files.
        (self.root && !known).then_some(Mark { uid: meta.uid, gid: meta.gid, device: None })
    }
}

/// The mark that a file or directory with this metadata needs here. None: its owner can be had.
pub(super) fn mark(meta: &Meta) -> Option<Vec<u8>> {
    Owners::here().mark(meta).map(|mark| mark.to_bytes())
}

/// A suffix for directories of unpacked files, one per way to express owners: empty for root of the machine.
pub(crate) fn id_map_name() -> String {
    let owners = Owners::here();
    let whole = owners.uids == Ids::default() && owners.gids == Ids::default();
    match (owners.root, whole) {
        (true, true) => String::new(),
        (false, _) => "-one".to_owned(),
        (true, false) => {
            let ranges = format!("{:?} {:?}", owners.uids.ranges, owners.gids.ranges);
            format!("-{}", &Sha256::of(ranges.as_bytes()).hex()[..8])
        }
    }
}

/// The ids of one kind that are mapped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ids {
    /// First id inside, first id outside, how many.
    ranges: Vec<(u32, u32, u32)>,
}

impl Default for Ids {
    /// All of them: what the machine's own namespace has.
    fn default() -> Self {
        Self { ranges: vec![(0, 0, u32::MAX)] }
    }
}

impl Ids {
    /// Of `/proc/self/uid_map` or `gid_map`.
    fn parse(map: &[u8]) -> Self {
        let text = String::from_utf8_lossy(map);
        let ranges = text.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map_while(|n| n.parse().ok());
            Some((numbers.next()?, numbers.next()?, numbers.next()?))
        });
        Self { ranges: ranges.collect() }
    }

    fn count(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.2)).sum()
    }

    /// Whether files can belong to it.
    pub(super) fn has(&self, id: u32) -> bool {
        self.ranges.iter().any(|&(first, _, count)| id >= first && id - first < count)
    }

    /// The owner on disk of files whose owner is not mapped.
    pub(super) fn stand_in(&self) -> u32 {
        self.ranges.iter().map(|&(first, _, count)| first.saturating_add(count.saturating_sub(1))).max().unwrap_or(0)
    }

    /// The owner on disk of a file that belongs to `id`.
    pub(super) fn on_disk(&self, id: u32) -> u32 {
        if self.has(id) { id } else { self.stand_in() }
    }

    /// The true owner of a file that belongs to `on_disk`, as far as the id or the mark tells.
    fn truth(&self, on_disk: u32, marked: Option<u32>) -> Owner {
        match marked {
            _ if on_disk != self.stand_in() => Owner::Known(on_disk),
            None => Owner::Unknown,
            Some(marked) if self.has(marked) => Owner::Known(on_disk),
            Some(marked) => Owner::Known(marked),
        }
    }
}

/// One of the two owners of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Known(u32),
    /// The stand-in, or an owner that it stands for.
    Unknown,
}

/// The owners that a file on disk does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) uid: bool,
    pub(super) gid: bool,
}

impl Unknown {
    pub(super) fn any(self) -> bool {
        self.uid || self.gid
    }
}

/// Replaces the owners on disk in `meta` by the true ones. Returns which are unknown.
pub(super) fn truth(meta: &mut Meta, mark: Option<&Mark>) -> Unknown {
    let owners = Owners::here();
    if !owners.root {
        return Unknown::default();
    }
    let mut unknown = Unknown::default();
    let all = [
        (&owners.uids, &mut meta.uid, mark.map(|m| m.uid), &mut unknown.uid),
        (&owners.gids, &mut meta.gid, mark.map(|m| m.gid), &mut unknown.gid),
    ];
    for (ids, id, marked, unknown) in all {
        match ids.truth(*id, marked) {
            Owner::Known(true_id) => *id = true_id,
            Owner::Unknown => *unknown = true,
        }
    }
    unknown
}

/// The true owner of a file, and that it is a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) device: Option<EntryKind>,
}

impl Mark {
    /// `UID:GID`, and for a device ` c MAJOR MINOR` or ` b MAJOR MINOR`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}:{}", self.uid, self.gid);
        match self.device {
            Some(EntryKind::Char { major, minor }) => text.push_str(&format!(" c {major} {minor}")),
            Some(EntryKind::Block { major, minor }) => text.push_str(&format!(" b {major} {minor}")),
            _ => {}
        }
        text.into_bytes()
    }

    /// `None`: not a mark.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut words = text.split(' ');
        let (uid, gid) = words.next()?.split_once(':')?;
        let device = match words.next() {
            None => None,
            Some(kind) => {
                let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                match kind {
                    "c" => Some(EntryKind::Char { major, minor }),
                    "b" => Some(EntryKind::Block { major, minor }),
                    _ => return None,
                }
            }
        };
        let done = words.next().is_none();
        done.then_some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()?, device })
    }
}

/// Whether the host or file system does not accept an attribute.
pub(super) fn is_refusal(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::PERM | Errno::NOTSUP | Errno::ACCESS)
}

/// Sets the owner of the open file `fd` to that in `meta`, or its stand-in.
pub(super) fn give(fd: std::os::fd::BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
    let owners = Owners::here();
    if !owners.gives {
        return Ok(());
    }
    let (uid, gid) = (owners.uids.on_disk(meta.uid), owners.gids.on_disk(meta.gid));
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(fd, Some(uid), Some(gid))?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(map: &str) -> Ids {
        Ids::parse(map.as_bytes())
    }

    #[test]
    fn unmapped_ids_become_highest_mapped_id() {
        let usual = ids("         0       1000          1\n         1    1000000      65536\n");
        assert_eq!((usual.on_disk(0), usual.on_disk(65_536), usual.on_disk(65_537)), (0, 65_536, 65_536));
        assert_eq!((ids("0 1000 1").on_disk(0), ids("0 1000 1").on_disk(5)), (0, 0));
        let all = ids("0 0 4294967295");
        assert_eq!(all, Ids::default());
        assert_eq!((all.on_disk(4_294_967_294), all.on_disk(u32::MAX)), (4_294_967_294, 4_294_967_294));
    }

    #[test]
    fn marks_count_only_for_unmapped_ids() {
        let usual = ids("0 1000 1\n1 1000000 65536");
        // Changed by the command; forged for a mapped id; never marked.
        assert_eq!(usual.truth(7, Some(445_605)), Owner::Known(7));
        assert_eq!(usual.truth(0, Some(445_605)), Owner::Known(0));
        assert_eq!(usual.truth(65_536, Some(0)), Owner::Known(65_536));
        assert_eq!(usual.truth(65_536, Some(445_605)), Owner::Known(445_605));
        assert_eq!(usual.truth(65_536, None), Owner::Unknown);
        assert_eq!(ids("0 1000 1").truth(0, Some(33)), Owner::Known(33));
    }

    proptest! {
        #[test]
        fn stand_in_with_mark_gives_true_owner(
            starts in prop::collection::vec((1u32..70_000, 1u32..70_000), 0..3),
            id in prop_oneof![0u32..150_000, any::<u32>()],
        ) {
            let mut map = "0 1000 1\n".to_owned();
            let mut next = 1;
            for (gap, count) in starts {
                next += gap;
                map.push_str(&format!("{next} {} {count}\n", next + 100_000));
                next += count;
            }
            let ids = ids(&map);
            let on_disk = ids.on_disk(id);
            prop_assert!(ids.has(on_disk));
            let marked = (!ids.has(id)).then_some(id);
            match ids.truth(on_disk, marked) {
                Owner::Known(found) => prop_assert_eq!(found, id),
                // An owner that can be had, and happens to be the stand-in.
                Owner::Unknown => prop_assert_eq!(on_disk, id),
            }
        }

        #[test]
        fn marks_are_read_as_written(uid: u32, gid: u32, major: u32, minor: u32, kind in 0..3) {
            let device = match kind {
                0 => None,
                1 => Some(EntryKind::Char { major, minor }),
                _ => Some(EntryKind::Block { major, minor }),
            };
            let mark = Mark { uid, gid, device };
            prop_assert_eq!(Mark::parse(&mark.to_bytes()), Some(mark));
        }

        #[test]
        fn mark_parser_accepts_any_bytes(bytes: Vec<u8>) {
            if let Some(mark) = Mark::parse(&bytes) {
                prop_assert_eq!(Mark::parse(&mark.to_bytes()), Some(mark));
            }
        }
    }
}
