//! The fuzzing oracle for layers: for any bytes, the reader, the unpacked files and the recorded tree agree, and
//! nothing outside the directory is touched (S-30…S-44). Shared with the coverage-guided targets in `fuzz/`.

use std::path::Path;
use std::sync::Arc;

use kiln::base::digest::{DiffId, Sha256};
use kiln::base::rooted::Root;
use kiln::layer::*;

fn names(dir: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = dir.read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Unpacks `tar` next to a canary in every form and compares the results.
pub fn unpacks_as_the_tree_says(tar: &[u8]) {
    let outer = tempfile::tempdir().unwrap();
    let at = |name: &str| outer.path().join(name);
    for dir in ["a", "plain", "overlay", "copy"] {
        std::fs::create_dir(at(dir)).unwrap();
    }
    let diff_id = DiffId(Sha256::of(tar));
    let read = read_tree(tar, diff_id);
    let unpacked = unpack(tar, &at("plain"), diff_id, Form::Plain);
    let overlay = unpack(tar, &at("overlay"), diff_id, Form::Overlay { userxattr: true });
    assert_eq!(names(outer.path()), ["a", "copy", "overlay", "plain"]);
    assert!(names(&at("a")).is_empty());
    let said = |r: &Result<Tree, Error>| r.as_ref().map(Tree::to_bytes).map_err(ToString::to_string);
    assert_eq!(said(&read), said(&overlay));
    let Ok(tree) = unpacked else {
        assert_eq!(said(&read), said(&unpacked));
        return;
    };
    assert_eq!(Tree::from_bytes(&tree.to_bytes()), Ok(tree.clone()));
    let entries = tree.entries().to_vec();
    assert_eq!(&Tree::new(entries), &tree);
    // Implicit directories belong to root; other users cannot create them so.
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) != 0 {
        return;
    }
    // The files on disk match the tree.
    let merged = MergedTree::over([Arc::new(tree)]);
    let changes = tree_changes(&Root::open(&at("plain")).unwrap(), &merged, &(), None, None).unwrap();
    let unexpected: Vec<_> = changes.entries().iter().filter(|e| !is_device(&merged, e)).collect();
    assert!(unexpected.is_empty(), "{:?} over {:?}", unexpected, merged.layers());
    copy_tree(&merged, &[at("plain")], &at("copy")).unwrap();
    let changes = tree_changes(&Root::open(&at("copy")).unwrap(), &merged, &(), None, None).unwrap();
    let unexpected: Vec<_> = changes.entries().iter().filter(|e| !is_device(&merged, e)).collect();
    assert!(unexpected.is_empty(), "{:?} over {:?}", unexpected, merged.layers());
    for found in merged.iter() {
        assert!(merged.resolve(found.path().as_bytes(), kiln::base::resolve::Last::Keep).is_ok());
    }
}

/// Recompressing keeps the tar, and an import accepts or refuses it without a panic.
pub fn passes_through(tar: &[u8]) {
    let diff_id = DiffId(Sha256::of(tar));
    if let Ok((blob, _)) = recompress(tar, diff_id, Vec::new(), &WriteOptions::default()) {
        let mut plain = Vec::new();
        let (_, mut reader) = decompress(&blob[..], &Limits::default()).expect("a blob of ours");
        std::io::Read::read_to_end(&mut reader, &mut plain).expect("a blob of ours");
        assert!(plain == tar);
    }
    let _ = repack(tar, std::io::sink(), Compression::Uncompressed, &Limits::default());
}

/// Whether the entry is a device or holds one: devices need privileges, and 0:0 is never created.
fn is_device(merged: &MergedTree, entry: &Entry) -> bool {
    matches!(merged.get(&entry.path).map(|f| f.kind()), Some(EntryKind::Char { .. } | EntryKind::Block { .. }))
        || entry.kind == EntryKind::Dir
            && merged
                .children(&entry.path)
                .any(|f| matches!(f.kind(), EntryKind::Char { .. } | EntryKind::Block { .. }))
}
