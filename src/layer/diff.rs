//! What differs between two trees, by path and by attribute.
//!
//! **Holds.** Either side is what a chain of layers shows, one layer with its deletions, or a directory. Names are
//! compared component by component, times by the second (layers keep no more), files by their digests; a directory's
//! file is read only where the other side has one as long.
//! **Not here.** How differences are shown: `cli`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;

use rayon::prelude::*;

use super::changes::Changes;
use super::entry::{Entry, EntryKind, Meta, RelPath, shown};
use super::error::Error;
use super::merged::MergedTree;
use super::tree::Tree;
use crate::base::digest::ContentDigest;
use crate::base::time::Timestamp;

/// One thing to compare.
pub(crate) struct Side<'a> {
    items: Vec<Item<'a>>,
    /// Opens files whose digest is not known.
    files: Option<&'a Changes>,
}

/// A path with all its attributes.
struct Item<'a> {
    path: &'a RelPath,
    kind: &'a EntryKind,
    meta: &'a Meta,
    opaque: bool,
    /// The first of several names of this file.
    link: Option<&'a RelPath>,
}

/// One path that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Which.
    pub path: RelPath,
    /// How it differs.
    pub change: Change,
}

/// How a path differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Only the second side has it, with these attributes.
    Added(Vec<(String, String)>),
    /// Only the first side has it, with these attributes.
    Removed(Vec<(String, String)>),
    /// Both have it.
    Changed(Vec<Changed>),
}

/// An attribute that differs. `None`: that side does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// `kind`, `size`, `content`, `mode`, `uid`, `gid`, `mtime`, `target`, `device`, `link`, `opaque` or `xattr NAME`.
    pub attribute: String,
    /// On the first side.
    pub a: Option<String>,
    /// On the second.
    pub b: Option<String>,
}

impl<'a> Side<'a> {
    /// What a chain of layers shows.
    pub(crate) fn chain(merged: &'a MergedTree) -> Self {
        let mut first: BTreeMap<(Option<usize>, &RelPath), &RelPath> = BTreeMap::new();
        let mut linked: BTreeMap<&RelPath, usize> = BTreeMap::new();
        for found in merged.iter().filter(|f| !f.is_dir()) {
            let name = first.entry((found.layer, &found.inode().path)).or_insert(found.path());
            *linked.entry(name).or_default() += 1;
        }
        let link = |found: super::merged::MergedEntry<'a>| {
            let name = *first.get(&(found.layer, &found.inode().path))?;
            (linked.get(name) > Some(&1)).then_some(name)
        };
        let item = |found: super::merged::MergedEntry<'a>| Item {
            path: found.path(),
            kind: found.kind(),
            meta: found.meta(),
            opaque: false,
            link: link(found),
        };
        Self { items: merged.iter().map(item).collect(), files: None }
    }

    /// One layer as it is: deletions are entries.
    pub(crate) fn layer(tree: &'a Tree) -> Self {
        Self { items: items(tree.entries()), files: None }
    }

    /// Everything below a directory, as [`tree_changes`](super::tree_changes) finds it over nothing.
    pub(crate) fn directory(all: &'a Changes) -> Self {
        Self { items: items(all.entries()), files: Some(all) }
    }

    fn digest(&self, item: &Item<'_>) -> Result<Option<ContentDigest>, Error> {
        let EntryKind::File { content: None, size } = item.kind else { return Ok(known(item)) };
        let Some(files) = self.files else { return Ok(None) };
        let fail = |source| Error::Read { path: item.path.clone(), source };
        let digest =
            super::changes::digest_of_file(File::from(files.open(item.path).map_err(fail)?), *size).map_err(fail)?;
        debug_assert!(*size > 0 || digest == crate::base::digest::Sha256::of(b""));
        Ok(Some(ContentDigest(digest)))
    }
}

/// Sorted entries, hard links resolved, opaque markers put to their directories.
fn items(entries: &[Entry]) -> Vec<Item<'_>> {
    let by_path: BTreeMap<&RelPath, &Entry> =
        entries.iter().filter(|e| e.kind != EntryKind::Opaque).map(|e| (&e.path, e)).collect();
    let mut named: BTreeMap<&RelPath, usize> = BTreeMap::new();
    for entry in entries {
        if let EntryKind::Hardlink { target } = &entry.kind {
            *named.entry(target).or_default() += 1;
        }
    }
    let mut items: Vec<Item<'_>> = Vec::with_capacity(entries.len());
    for entry in entries {
        if entry.kind == EntryKind::Opaque
            && let Some(dir) = items.last_mut().filter(|i| *i.path == entry.path)
        {
            dir.opaque = true;
            continue;
        }
        let (inode, link) = match &entry.kind {
            EntryKind::Hardlink { target } => (by_path.get(target).copied().unwrap_or(entry), Some(target)),
            _ => (entry, named.contains_key(&entry.path).then_some(&entry.path)),
        };
        items.push(Item { path: &entry.path, kind: &inode.kind, meta: &inode.meta, opaque: false, link });
    }
    items
}

fn known(item: &Item<'_>) -> Option<ContentDigest> {
    if let EntryKind::File { content, .. } = item.kind { *content } else { None }
}

/// Every path that differs, in path order. The root itself counts only if both sides describe it.
pub(crate) fn diff(a: &Side<'_>, b: &Side<'_>) -> Result<Vec<Difference>, Error> {
    let mut differences = Vec::new();
    let mut both = Vec::new();
    let (mut i, mut j) = (0, 0);
    loop {
        let order = match (a.items.get(i), b.items.get(j)) {
            (Some(x), Some(y)) => x.path.cmp(y.path),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        match order {
            Ordering::Less => {
                let item = &a.items[i];
                differences.push((item.path, Change::Removed(attributes(item).into_iter().collect())));
                i += 1;
            }
            Ordering::Greater => {
                let item = &b.items[j];
                differences.push((item.path, Change::Added(attributes(item).into_iter().collect())));
                j += 1;
            }
            Ordering::Equal => {
                both.push((&a.items[i], &b.items[j]));
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    differences.retain(|(path, _)| !path.is_root());
    let changed: Vec<_> = both
        .into_par_iter()
        .filter_map(|(x, y)| match compare(a, x, b, y) {
            Ok(changed) if changed.is_empty() => None,
            Ok(changed) => Some(Ok((x.path, Change::Changed(changed)))),
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_, Error>>()?;
    differences.extend(changed);
    differences.sort_by(|x, y| x.0.cmp(y.0));
    Ok(differences.into_iter().map(|(path, change)| Difference { path: path.clone(), change }).collect())
}

fn compare(a: &Side<'_>, x: &Item<'_>, b: &Side<'_>, y: &Item<'_>) -> Result<Vec<Changed>, Error> {
    let (mut left, mut right) = (attributes(x), attributes(y));
    left.remove("content");
    right.remove("content");
    if let (EntryKind::File { size, .. }, EntryKind::File { size: other, .. }) = (x.kind, y.kind) {
        // Of files that are not equally long the content differs for certain.
        let digests = if size == other { (a.digest(x)?, b.digest(y)?) } else { (known(x), known(y)) };
        if size != other || digests.0 != digests.1 {
            let text = |digest: Option<ContentDigest>| digest.map_or("unknown".to_owned(), |d| d.to_string());
            left.insert("content".to_owned(), text(digests.0));
            right.insert("content".to_owned(), text(digests.1));
        }
    }
    let mut changed = Vec::new();
    for name in ORDER {
        let (was, is) = (left.remove(*name), right.remove(*name));
        if was != is || (*name == "content" && was.is_some()) {
            changed.push(Changed { attribute: (*name).to_owned(), a: was, b: is });
        }
    }
    // Extended attributes are left.
    let names: Vec<String> = left.keys().chain(right.keys().filter(|k| !left.contains_key(*k))).cloned().collect();
    for attribute in names {
        let (was, is) = (left.remove(&attribute), right.remove(&attribute));
        if was != is {
            changed.push(Changed { attribute, a: was, b: is });
        }
    }
    Ok(changed)
}

/// The order in which attributes are shown.
const ORDER: &[&str] =
    &["kind", "content", "size", "target", "device", "mode", "uid", "gid", "mtime", "link", "opaque"];

fn attributes(item: &Item<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    let kind = match item.kind {
        EntryKind::File { size, content } => {
            put("size", size.to_string());
            if let Some(digest) = content {
                put("content", digest.to_string());
            }
            "file"
        }
        EntryKind::Dir => "directory",
        EntryKind::Symlink { target } => {
            put("target", shown(target));
            "symlink"
        }
        // A link whose file is missing: a damaged layer.
        EntryKind::Hardlink { .. } => "hard link",
        EntryKind::Char { major, minor } | EntryKind::Block { major, minor } => {
            put("device", format!("{major}:{minor}"));
            if matches!(item.kind, EntryKind::Char { .. }) { "character device" } else { "block device" }
        }
        EntryKind::Fifo => "fifo",
        EntryKind::Whiteout => "deletion",
        EntryKind::Opaque => "opaque directory",
    };
    put("kind", kind.to_owned());
    if item.kind.is_marker() {
        return all;
    }
    let meta = item.meta;
    // The mode of a symlink means nothing.
    if !matches!(item.kind, EntryKind::Symlink { .. }) {
        put("mode", format!("{:04o}", meta.mode & 0o7777));
    }
    put("uid", meta.uid.to_string());
    put("gid", meta.gid.to_string());
    put("mtime", Timestamp::from_secs(meta.mtime.secs).to_string());
    if item.opaque {
        put("opaque", "yes".to_owned());
    }
    if let Some(first) = item.link {
        put("link", first.to_string());
    }
    for (name, value) in &meta.xattrs {
        put(&format!("xattr {}", shown(name)), shown_value(value));
    }
    all
}

/// Text as text, everything else in hexadecimal.
fn shown_value(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => value.iter().fold("0x".to_owned(), |hex, byte| hex + &format!("{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Sha256;

    fn path(p: &str) -> RelPath {
        RelPath::parse(p.as_bytes()).unwrap()
    }

    fn file(p: &str, content: &str) -> Entry {
        let digest = ContentDigest(Sha256::of(content.as_bytes()));
        Entry::new(
            path(p),
            EntryKind::File { size: content.len() as u64, content: Some(digest) },
            Meta::with_mode(0o644),
        )
    }

    fn at(p: &str, kind: EntryKind) -> Entry {
        Entry::new(path(p), kind, Meta::with_mode(0o755))
    }

    fn said(a: Vec<Entry>, b: Vec<Entry>) -> Vec<String> {
        let (a, b) = (Tree::new(a), Tree::new(b));
        let line = |d: Difference| match d.change {
            Change::Added(_) => format!("+ {}", d.path),
            Change::Removed(_) => format!("- {}", d.path),
            Change::Changed(all) => {
                let word = |c: &Changed| match c.attribute.as_str() {
                    "content" => "content".to_owned(),
                    name => format!("{name} {:?} {:?}", c.a.as_deref().unwrap_or(""), c.b.as_deref().unwrap_or("")),
                };
                format!("~ {} {}", d.path, all.iter().map(word).collect::<Vec<_>>().join(", "))
            }
        };
        diff(&Side::layer(&a), &Side::layer(&b)).unwrap().into_iter().map(line).collect()
    }

    #[test]
    fn diff_compares_every_attribute() {
        let change = |f: fn(&mut Entry)| {
            let mut entry = file("f", "one");
            f(&mut entry);
            said(vec![file("f", "one")], vec![entry])
        };
        assert_eq!(change(|_| {}), [""; 0]);
        assert_eq!(change(|e| *e = file("f", "two")), ["~ /f content"]);
        assert_eq!(change(|e| *e = file("f", "three")), [r#"~ /f content, size "3" "5""#]);
        assert_eq!(change(|e| e.meta.mode = 0o4755), [r#"~ /f mode "0644" "4755""#]);
        assert_eq!(change(|e| (e.meta.uid, e.meta.gid) = (1, 2)), [r#"~ /f uid "0" "1", gid "0" "2""#]);
        assert_eq!(change(|e| e.meta.mtime.nanos = 5), [""; 0]);
        let time = r#"~ /f mtime "1970-01-01T00:00:00Z" "1970-01-01T00:00:05Z""#;
        assert_eq!(change(|e| e.meta.mtime.secs = 5), [time]);
        let attribute = |e: &mut Entry| drop(e.meta.xattrs.insert(b"user.a".to_vec(), b"\n".to_vec()));
        assert_eq!(change(attribute), [r#"~ /f xattr user.a "" "0x0a""#]);
        assert_eq!(change(|e| *e = at("g", EntryKind::Fifo)), ["- /f", "+ /g"]);
        let link = |target: &str| at("l", EntryKind::Symlink { target: target.into() });
        assert_eq!(said(vec![link("a")], vec![link("b")]), [r#"~ /l target "a" "b""#]);
        let device = |minor| at("d", EntryKind::Char { major: 1, minor });
        assert_eq!(said(vec![device(3)], vec![device(5)]), [r#"~ /d device "1:3" "1:5""#]);
        let replaced = said(vec![at("d", EntryKind::Dir)], vec![file("d", "")]);
        assert_eq!(replaced, [r#"~ /d kind "directory" "file", size "" "0", mode "0755" "0644""#]);
    }

    #[test]
    fn hard_links_differ_from_copies() {
        let linked = || vec![file("a", "x"), at("b", EntryKind::Hardlink { target: path("a") })];
        assert_eq!(said(linked(), linked()), [""; 0]);
        let copied = || vec![file("a", "x"), file("b", "x")];
        assert_eq!(said(linked(), copied()), [r#"~ /a link "/a" """#, r#"~ /b link "/a" """#]);
        let (a, b) = (Tree::new(linked()), Tree::new(copied()));
        let (a, b) = (MergedTree::over([a.into()]), MergedTree::over([b.into()]));
        assert_eq!(diff(&Side::chain(&a), &Side::chain(&b)).unwrap().len(), 2);
        assert_eq!(diff(&Side::chain(&a), &Side::chain(&a)).unwrap(), []);
        let opaque = || vec![at("d", EntryKind::Dir), Entry::opaque(path("d")), Entry::whiteout(path("w"))];
        assert_eq!(said(vec![at("d", EntryKind::Dir)], opaque()), [r#"~ /d opaque "" "yes""#, "+ /w"]);
        assert_eq!(said(opaque(), opaque()), [""; 0]);
    }
}
