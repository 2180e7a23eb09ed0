//! True owners and devices of files that carry no mark, found in the layers below.
//!
//! **Holds.** Symbolic links, pipes, and copies made without attributes (`cp -p`, tar) cannot carry a mark
//! ([`super::owners`]) and belong to the stand-in. The true owner follows from, in this order: the same file at the same path
//! below; a file that looks the same and has the same time, from which it was moved or copied; the setgid bit of its
//! directory; or the only possible owner.
//! **One id.** Where a single id is mapped, the stand-in is root, who also owns new files: only the same link or pipe at its
//! path, or one with the same time, decides.

use std::collections::BTreeMap;

use super::entry::{Entry, EntryKind, Meta, RelPath};
use super::error::Error;
use super::merged::{MergedEntry, MergedTree};
use super::owners::{Ids, Owners};
use super::walk::Item;

/// All entries of the layers whose owner is not mapped, also hidden ones, by time.
type Beyond<'l> = BTreeMap<i64, Vec<&'l Entry>>;

/// Puts the true owners, devices and attributes into `items`, which are sorted. `Err`: an owner cannot be known.
pub(super) fn complete(items: &mut [Item], lower: &MergedTree) -> Result<(), Error> {
    let mut candidates: Option<Beyond<'_>> = None;
    // Directories with the setgid bit: new files in them get their group.
    let mut giving: BTreeMap<RelPath, u32> = BTreeMap::new();
    let owners = Owners::here();
    for item in items {
        if let Some(device) = item.device.take().filter(|device| has_device(lower, device)) {
            item.kind = device;
        }
        if item.unknown.any() {
            let candidates = candidates.get_or_insert_with(|| beyond(lower, owners));
            if !candidates.is_empty() {
                find(item, lower, candidates, &giving)?;
            }
        }
        if item.kind == EntryKind::Dir && item.meta.mode & 0o2000 != 0 && !owners.gids.has(item.meta.gid) {
            giving.insert(item.path.clone(), item.meta.gid);
        }
        refused(item, lower);
    }
    Ok(())
}

fn beyond<'l>(lower: &'l MergedTree, owners: &Owners) -> Beyond<'l> {
    let mut beyond = Beyond::new();
    let all = lower.layers().iter().flat_map(|layer| layer.entries()).filter(|entry| !entry.kind.is_marker());
    for entry in all.filter(|entry| !owners.uids.has(entry.meta.uid) || !owners.gids.has(entry.meta.gid)) {
        beyond.entry(entry.meta.mtime.secs).or_default().push(entry);
    }
    beyond
}

fn has_device(lower: &MergedTree, device: &EntryKind) -> bool {
    lower.layers().iter().flat_map(|layer| layer.entries()).any(|entry| entry.kind == *device)
}

fn find(
    item: &mut Item,
    lower: &MergedTree,
    candidates: &Beyond<'_>,
    giving: &BTreeMap<RelPath, u32>,
) -> Result<(), Error> {
    let owners = Owners::here();
    let below = lower.get(&item.path).filter(|found| same_kind(found.kind(), &item.kind));
    let gives = item.path.parent().and_then(|dir| {
        let at_rest = || lower.get(&dir).filter(|f| f.is_dir() && f.meta().mode & 0o2000 != 0).map(|f| f.meta().gid);
        giving.get(&dir).copied().or_else(at_rest)
    });
    let same_time = candidates.get(&item.meta.mtime.secs).into_iter().flatten();
    let marks = matches!(item.kind, EntryKind::File { .. } | EntryKind::Dir);
    // The same link with another time: a new one would hardly be the same.
    let same =
        |found: &MergedEntry<'_>| is_twin(found.kind(), found.meta(), item) || !marks && *found.kind() == item.kind;
    let asked = Asked {
        before: below.map(|found| (found.meta(), same(&found))),
        gives: gives.filter(|gid| !owners.gids.has(*gid)),
        twins: same_time.copied().filter(|entry| is_twin(&entry.kind, &entry.meta, item)).collect(),
        candidates,
        kind: &item.kind,
        marks,
    };
    if item.unknown.uid {
        item.meta.uid = asked.answer(&owners.uids, |meta| meta.uid, None, &item.path)?;
    }
    if item.unknown.gid {
        item.meta.gid = asked.answer(&owners.gids, |meta| meta.gid, asked.gives, &item.path)?;
    }
    Ok(())
}

/// What may tell the owners of a file.
struct Asked<'a> {
    /// What the layers below have at its path, and whether it seems to be copied up unchanged.
    before: Option<(&'a Meta, bool)>,
    /// The group of its directory, if that has the setgid bit.
    gives: Option<u32>,
    /// Entries that it may have been moved or copied from.
    twins: Vec<&'a Entry>,
    candidates: &'a Beyond<'a>,
    /// Its kind. For links it tells more than the time, which copying changes.
    kind: &'a EntryKind,
    /// It could carry a mark.
    marks: bool,
}

impl Asked<'_> {
    fn answer(&self, ids: &Ids, of: fn(&Meta) -> u32, gives: Option<u32>, path: &RelPath) -> Result<u32, Error> {
        if ids.stand_in() == 0 {
            // New files belong to root, which is also the stand-in.
            return Ok(self.with_one_id(of, gives).unwrap_or(0));
        }
        self.with_many(ids, of, gives).ok_or_else(|| Error::NotRepresentable {
            path: path.clone(),
            reason: "its owner is beyond the ids that are mapped here, and nothing tells which one it is",
        })
    }

    fn with_many(&self, ids: &Ids, of: fn(&Meta) -> u32, gives: Option<u32>) -> Option<u32> {
        let only = |entries: &mut dyn Iterator<Item = &Entry>| {
            let mut found = entries.map(|entry| of(&entry.meta)).filter(|id| !ids.has(*id));
            let first = found.next()?;
            found.all(|id| id == first).then_some(first)
        };
        let stood_for = |(meta, _): (&Meta, bool)| Some(of(meta)).filter(|id| ids.on_disk(*id) == ids.stand_in());
        let all = || self.candidates.values().flatten().copied();
        // All owners are mapped: then it is the stand-in itself.
        let itself = || all().all(|entry| ids.has(of(&entry.meta))).then(|| ids.stand_in());
        let unchanged = self.before.filter(|(_, twin)| *twin).and_then(stood_for);
        unchanged
            .or_else(|| only(&mut self.twins.iter().copied()))
            .or_else(|| self.before.and_then(stood_for))
            .or(gives)
            .or_else(|| only(&mut all().filter(|entry| entry.kind == *self.kind)))
            .or_else(|| only(&mut all()))
            .or_else(itself)
    }

    fn with_one_id(&self, of: fn(&Meta) -> u32, gives: Option<u32>) -> Option<u32> {
        let unchanged = self.before.filter(|(_, twin)| *twin).map(|(meta, _)| of(meta));
        let moved = || self.twins.first().filter(|_| !self.marks).map(|twin| of(&twin.meta));
        unchanged.or(gives).or_else(moved)
    }
}

fn same_kind(a: &EntryKind, b: &EntryKind) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Whether `item` may have been moved or copied from an entry.
fn is_twin(kind: &EntryKind, meta: &Meta, item: &Item) -> bool {
    let looks = match (kind, &item.kind) {
        (EntryKind::File { size: a, .. }, EntryKind::File { size: b, .. }) => a == b,
        (a, b) => a == b,
    };
    looks && meta.mtime.secs == item.meta.mtime.secs
}

/// Restores `user.` attributes that no file system supports on this kind: a command cannot have removed them.
fn refused(item: &mut Item, lower: &MergedTree) {
    if matches!(item.kind, EntryKind::File { .. } | EntryKind::Dir) {
        return;
    }
    let Some(found) = lower.get(&item.path).filter(|found| *found.kind() == item.kind) else { return };
    for (name, value) in found.meta().xattrs.iter().filter(|(name, _)| name.starts_with(b"user.")) {
        item.meta.xattrs.insert(name.clone(), value.clone());
    }
}
