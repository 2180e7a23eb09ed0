//! A layer is read once: by parallel users, and while it arrives.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use crate::base::claim::Claims;
use crate::base::digest::{BlobDigest, DiffId};
use crate::base::sparse::SparseRead;
use crate::layer::{Compression, Entry, EntryKind, LayerWriter, Meta, RelPath, WriteOptions};
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::descriptor::{Descriptor, LAYER_TAR, Layer};

use super::{Arrivals, Layers, Method, Snapshotter};

const USERS: usize = 8;

/// One layer's bytes, and how often they were read.
struct Counted {
    bytes: Vec<u8>,
    opened: AtomicUsize,
}

impl BlobSource for Counted {
    fn open(&self, _: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        // Long enough for all others to come and find the claim taken.
        std::thread::sleep(Duration::from_millis(100));
        Ok(Box::new(std::io::Cursor::new(self.bytes.clone())))
    }
}

/// A layer with one directory of our own.
fn layer() -> (Layer, Counted) {
    let own = Meta {
        mode: 0o755,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..Meta::default()
    };
    let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
    let mut writer = LayerWriter::new(Vec::new(), &options);
    writer.append_empty(Entry::new(RelPath::root().join(b"d"), EntryKind::Dir, own)).expect("append");
    let (bytes, written) = writer.finish().expect("finish");
    let blob = Descriptor::new(LAYER_TAR, BlobDigest(written.diff_id.0), bytes.len() as u64);
    (Layer { diff_id: written.diff_id, blob }, Counted { bytes, opened: AtomicUsize::new(0) })
}

fn layers<'a>(dir: &Path, blobs: &'a Counted) -> Arc<Layers<'a>> {
    Arc::new(Layers::new(dir.join("layers"), Claims::new(dir.join("claims")), blobs))
}

/// Has the layer unpacked by several threads at once: by those of one build, or each as a process of its own would.
fn unpack_together(one_build: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let (layer, blobs) = layer();
    let shared = layers(dir.path(), &blobs);
    let barrier = Barrier::new(USERS);
    std::thread::scope(|scope| {
        for number in 0..USERS {
            let scratch = dir.path().join(number.to_string());
            let known = if one_build { Arc::clone(&shared) } else { layers(dir.path(), &blobs) };
            let (layer, barrier) = (&layer, &barrier);
            scope.spawn(move || {
                crate::base::fs::create_dir(&scratch, 0o700).expect("scratch");
                let snapshots = Snapshotter::new(known, Method::Copy, &scratch);
                barrier.wait();
                snapshots.unpack([layer]).expect("unpacked");
                assert!(snapshots.path(layer.diff_id).join("d").is_dir());
                assert_eq!(snapshots.layers().tree(layer).expect("its tree").entries().len(), 1);
            });
        }
    });
    assert_eq!(blobs.opened.load(Ordering::Relaxed), 1);
    assert!(crate::base::fs::list(&dir.path().join("claims")).expect("claims").is_empty());
}

#[test]
fn parallel_steps_unpack_layer_once() {
    unpack_together(true);
}

#[test]
fn parallel_processes_unpack_layer_once() {
    unpack_together(false);
}

#[test]
fn parallel_lookups_list_layer_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (layer, blobs) = layer();
    let known = layers(dir.path(), &blobs);
    std::thread::scope(|scope| {
        for _ in 0..USERS {
            scope.spawn(|| assert_eq!(known.tree(&layer).expect("its tree").entries().len(), 1));
        }
    });
    assert_eq!(blobs.opened.load(Ordering::Relaxed), 1);
}

#[test]
fn layer_that_cannot_be_unpacked_fails_for_everybody() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut layer, blobs) = layer();
    layer.diff_id = DiffId(crate::base::digest::Sha256::of(b"another"));
    let known = layers(dir.path(), &blobs);
    let snapshots = Snapshotter::new(known, Method::Copy, dir.path());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!(snapshots.unpack([&layer]).is_err()));
        }
    });
}

#[test]
fn layer_that_arrived_is_not_read_again() {
    for files in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let (layer, blobs) = layer();
        let snapshots = Snapshotter::new(layers(dir.path(), &blobs), Method::Copy, dir.path());
        let arriving = Arrivals { snapshots: &snapshots, files };
        let begun = arriving.begin(&layer).expect("begun").expect("nobody else reads it");
        assert!(arriving.begin(&layer).expect("asked").is_none(), "it is read already");
        let tree = begun.reader()(Box::new(std::io::Cursor::new(blobs.bytes.clone()))).expect("it is the layer");
        assert!(!snapshots.path(layer.diff_id).exists(), "its blob is not verified yet");
        begun.arrived(tree).expect("kept");
        assert!(arriving.begin(&layer).expect("asked").is_none(), "it is known");
        assert_eq!(snapshots.layers().tree(&layer).expect("its tree").entries().len(), 1);
        assert_eq!(snapshots.path(layer.diff_id).join("d").is_dir(), files);
        assert_eq!(blobs.opened.load(Ordering::Relaxed), 0);
        snapshots.unpack([&layer]).expect("unpacked");
        assert_eq!(blobs.opened.load(Ordering::Relaxed), usize::from(!files));
    }
}

#[test]
fn arriving_bytes_of_another_layer_are_not_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut layer, blobs) = layer();
    layer.diff_id = DiffId(crate::base::digest::Sha256::of(b"another"));
    let snapshots = Snapshotter::new(layers(dir.path(), &blobs), Method::Copy, dir.path());
    let begun = Arrivals { snapshots: &snapshots, files: true }.begin(&layer).expect("begun").expect("ours");
    assert!(begun.reader()(Box::new(std::io::Cursor::new(blobs.bytes.clone()))).is_err());
    drop(begun);
    assert!(!snapshots.path(layer.diff_id).exists());
    assert!(snapshots.layers().known_tree(layer.diff_id).is_none());
}
