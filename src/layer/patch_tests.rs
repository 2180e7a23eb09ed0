//! A patched directory is what unpacking the layer makes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use proptest::prelude::*;

use super::apply::{Form, unpack};
use super::compress::Compression;
use super::delta::Delta;
use super::entry::{Entry, EntryKind, Meta, RelPath};
use super::limits::Limits;
use super::patch::patch;
use super::tree::Tree;
use super::writer::{LayerWriter, WriteOptions};
use crate::base::digest::{ContentDigest, DiffId, Sha256};
use crate::base::time::Timestamp;

/// What is put at a path.
#[derive(Clone, Debug)]
enum Put {
    File(u8),
    Dir(u32),
    Symlink(u8),
    Whiteout,
    Opaque,
    /// Another name of the file that comes first in the tree.
    Link,
    Nothing,
}

fn put() -> impl Strategy<Value = Put> {
    prop_oneof![
        4 => (0u8..3).prop_map(Put::File),
        4 => prop_oneof![Just(0o755), Just(0o700)].prop_map(Put::Dir),
        1 => (0u8..2).prop_map(Put::Symlink),
        1 => Just(Put::Whiteout),
        1 => Just(Put::Opaque),
        1 => Just(Put::Link),
        2 => Just(Put::Nothing),
    ]
}

fn path() -> impl Strategy<Value = RelPath> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    proptest::collection::vec(name, 1..4).prop_map(|names| RelPath::from_clean(names.join("/").as_bytes()))
}

type Puts = Vec<(RelPath, Put)>;

/// The contents of the files are their numbers.
fn file(path: &RelPath, number: u8) -> Entry {
    let content = Some(ContentDigest(Sha256::of(&[number])));
    Entry::new(path.clone(), EntryKind::File { size: 1, content }, own(0o644, number))
}

/// Metadata that any user can give a file.
fn own(mode: u32, time: u8) -> Meta {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta { mode, uid, gid, mtime: Timestamp::from_secs(1000 + i64::from(time)), ..Meta::default() }
}

/// The tree of a layer, as a writer makes it: what is put later replaces what it cannot be beside.
fn tree(puts: &Puts) -> Tree {
    let mut at: BTreeMap<RelPath, Put> = BTreeMap::new();
    for (path, put) in puts {
        let holds = |put: &Put| matches!(put, Put::Dir(_) | Put::Opaque | Put::Nothing);
        at.retain(|other, there| (holds(put) || !other.is_within(path)) && (holds(there) || !path.is_within(other)));
        at.insert(path.clone(), put.clone());
    }
    let first = at.iter().find(|(_, put)| matches!(put, Put::File(_))).map(|(path, _)| path.clone());
    let number = first.as_ref().map_or(0, |first| if let Some(Put::File(n)) = at.get(first) { *n } else { 0 });
    let entry = |(path, put): (&RelPath, &Put)| {
        Some(match put {
            Put::File(number) => file(path, *number),
            Put::Dir(mode) => Entry::new(path.clone(), EntryKind::Dir, own(*mode, 0)),
            Put::Symlink(n) => Entry::new(path.clone(), EntryKind::Symlink { target: vec![b'x' + n] }, own(0o777, 0)),
            Put::Whiteout => Entry::whiteout(path.clone()),
            Put::Opaque => Entry::opaque(path.clone()),
            Put::Link => {
                let target = first.clone().filter(|first| first < path)?;
                Entry::new(path.clone(), EntryKind::Hardlink { target }, own(0o644, number))
            }
            Put::Nothing => return None,
        })
    };
    Tree::new(at.iter().filter_map(entry).collect())
}

/// The layer with this tree.
fn blob(tree: &Tree) -> (Vec<u8>, DiffId) {
    let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
    let mut writer = LayerWriter::new(Vec::new(), &options);
    for entry in tree.entries() {
        let number = [(entry.meta.mtime.secs - 1000) as u8];
        match entry.kind {
            EntryKind::File { .. } => writer.append(entry.clone(), &mut &number[..]).map(drop),
            _ => writer.append_empty(entry.clone()),
        }
        .expect("append");
    }
    let (bytes, written) = writer.finish().expect("finish");
    (bytes, written.diff_id)
}

/// Everything below a directory that another process could see.
fn seen(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut names: Vec<_> =
        std::fs::read_dir(dir).expect("list").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    for path in names {
        let meta = path.symlink_metadata().expect("stat");
        let content = match meta.is_file() {
            true => crate::base::fs::read(&path).expect("read"),
            false => std::fs::read_link(&path).map(|to| to.as_os_str().as_encoded_bytes().to_vec()).unwrap_or_default(),
        };
        let attribute = rustix::fs::lgetxattr_query(&path, "user.overlay.opaque").is_ok();
        let (kind, time) = (meta.mode(), if meta.is_dir() || meta.is_file() { meta.mtime() } else { 0 });
        let (path, links, device) = (path.strip_prefix(dir).expect("below"), meta.nlink(), meta.rdev());
        found.push(format!("{path:?} {kind:o} {links} {device} {time} {content:?} {attribute}"));
        if meta.is_dir() {
            let inside = dir.join(path);
            found.extend(seen(&inside).into_iter().map(|line| format!("{path:?}/{line}")));
        }
    }
    found
}

const FORM: Form = Form::Overlay { userxattr: true };

fn unpacked((bytes, diff_id): &(Vec<u8>, DiffId)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    unpack(&bytes[..], dir.path(), *diff_id, FORM).expect("unpacked");
    dir
}

proptest! {
    #[test]
    fn patched_files_are_those_of_the_layer(
        base in proptest::collection::vec((path(), put()), 0..20),
        edits in proptest::collection::vec((path(), put()), 0..5),
    ) {
        let mut puts = base.clone();
        puts.extend(edits);
        let (base, layer) = (tree(&base), tree(&puts));
        let Some(delta) = Delta::between(&base, &layer) else { return Ok(()) };
        let (from, to) = (unpacked(&blob(&base)), blob(&layer));
        let done = patch(&delta, &to.0[..], from.path(), FORM, &Limits::default());
        prop_assert!(matches!(done, Ok(true)), "{:?}", done);
        prop_assert_eq!(seen(from.path()), seen(unpacked(&to).path()), "{:#?} {:#?}", base.entries(), delta);
    }
}

fn at(path: &str) -> RelPath {
    RelPath::from_clean(path.as_bytes())
}

fn dir(path: &str) -> Entry {
    Entry::new(at(path), EntryKind::Dir, own(0o755, 0))
}

fn shown<'p>(paths: impl IntoIterator<Item = &'p RelPath>) -> Vec<String> {
    paths.into_iter().map(ToString::to_string).collect()
}

#[test]
fn delta_has_what_differs_and_the_directories_it_is_in() {
    let base = || vec![dir("d"), file(&at("d/a"), 1), file(&at("d/b"), 2), dir("e"), file(&at("e/f"), 3)];
    let with = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = base();
        change(&mut entries);
        Tree::new(entries)
    };
    for (layer, gone, changed, dirs) in [
        (with(&|_| ()), &[][..], &[][..], &[][..]),
        (with(&|e| e[1] = file(&at("d/a"), 9)), &[], &["/d/a"], &["/", "/d"]),
        (with(&|e| e.push(file(&at("d/c"), 9))), &[], &["/d/c"], &["/", "/d"]),
        (with(&|e| drop(e.remove(2))), &["/d/b"], &[], &["/", "/d"]),
        (with(&|e| e.truncate(3)), &["/e"], &[], &["/"]),
        (with(&|e| e[0].meta.mode = 0o700), &[], &["/d"], &["/"]),
        (with(&|e| drop(e.splice(3.., [file(&at("e"), 1)]))), &[], &["/e"], &["/"]),
        (
            with(&|e| drop(e.splice(2..3, [dir("d/b"), file(&at("d/b/x"), 1)]))),
            &["/d/b"],
            &["/d/b", "/d/b/x"],
            &["/", "/d", "/d/b"],
        ),
    ] {
        let delta = Delta::between(&Tree::new(base()), &layer).expect("a delta");
        assert_eq!(shown(&delta.gone), gone);
        assert_eq!(shown(delta.changed.iter().map(|entry| &entry.path)), changed);
        assert_eq!(shown(delta.dirs.keys()), dirs);
    }
}

#[test]
fn names_of_one_file_stay_together() {
    let link = |path: &str| Entry::new(at(path), EntryKind::Hardlink { target: at("a") }, own(0o644, 1));
    let file = |path: &str, number| file(&at(path), number);
    let base = || vec![file("a", 1), link("b"), link("c"), file("z", 1)];
    for (layer, changed) in [
        (vec![file("a", 2), link("b"), link("c"), file("z", 1)], &["/a", "/b", "/c"][..]),
        (vec![file("a", 1), link("b"), file("z", 1)], &["/a", "/b"]),
        (vec![file("a", 1), file("z", 1)], &["/a"]),
        (vec![file("a", 1), link("b"), link("c"), link("y"), file("z", 1)], &["/a", "/b", "/c", "/y"]),
        (vec![file("a", 1), link("b"), link("c"), file("z", 2)], &["/z"]),
    ] {
        let delta = Delta::between(&Tree::new(base()), &Tree::new(layer)).expect("a delta");
        assert_eq!(shown(delta.changed.iter().map(|entry| &entry.path)), changed);
    }
}

#[test]
fn layers_that_differ_in_rare_or_many_ways_have_no_delta() {
    let marker = |path: &str| Entry::opaque(at(path));
    let mut attributed = dir("d");
    attributed.meta.xattrs.insert(b"user.a".to_vec(), b"1".to_vec());
    for (base, layer) in [
        (vec![dir("d"), marker("d")], vec![dir("d")]),
        (vec![dir("d")], vec![dir("d"), marker("d")]),
        (vec![attributed], vec![dir("d")]),
        // It becomes a directory without an entry.
        (vec![dir("d"), file(&at("d/a"), 1)], vec![file(&at("d/a"), 1)]),
    ] {
        assert_eq!(Delta::between(&Tree::new(base), &Tree::new(layer)), None);
    }
    let many = |content| Tree::new((0..200).map(|n| file(&at(&n.to_string()), content)).collect());
    assert_eq!(Delta::between(&many(1), &many(2)), None, "everything differs");
}

#[test]
fn missing_or_altered_content_is_noticed() {
    let trees = [1, 2].map(|number| Tree::new(vec![file(&at("f"), number)]));
    let delta = Delta::between(&trees[0], &trees[1]).expect("a delta");
    let mut altered = delta.clone();
    altered.changed[0].kind = EntryKind::File { size: 1, content: Some(ContentDigest(Sha256::of(b"other"))) };
    let (base, layer) = (blob(&trees[0]), blob(&trees[1]));
    let dir = unpacked(&base);
    let patch = |delta, part: &[u8]| patch(delta, part, dir.path(), FORM, &Limits::default());
    assert!(matches!(patch(&delta, &[0; 1024]), Ok(false)), "the file is not in it");
    assert!(matches!(patch(&altered, &layer.0), Ok(false)));
    assert!(patch(&delta, &layer.0[..512]).is_err(), "it ends early");
    assert!(matches!(patch(&delta, &layer.0), Ok(true)), "the same can be tried again");
    assert_eq!(seen(dir.path()), seen(unpacked(&layer).path()));
}
