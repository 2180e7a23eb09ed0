//! Holes and zeros: the same bytes however they are stored, and holes again wherever they go (N-5).

use std::fs::File;
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;

use super::compress::Codec;
use super::*;
use crate::base::digest::{ContentDigest, Sha256};
use crate::base::sparse::{SparseFile, SparseRead, is_zero};

/// Data, written zeros and holes: which, and how many half KiB.
fn pieces() -> impl Strategy<Value = Vec<(u8, usize)>> {
    let len = prop_oneof![1..40usize, 1000..5000usize, Just(2048), Just(4096), Just(8)];
    proptest::collection::vec((0..3u8, len), 1..6)
}

/// The file, what is in it, and how much of it is data.
fn make(pieces: &[(u8, usize)], odd: usize) -> (File, Vec<u8>) {
    let (file, mut plain) = (tempfile::tempfile().unwrap(), Vec::new());
    for &(kind, len) in pieces {
        let bytes: Vec<u8> = (0..len * 512).map(|i| if kind == 0 { (i / 3 + 1) as u8 | 1 } else { 0 }).collect();
        if kind < 2 {
            file.write_all_at(&bytes, plain.len() as u64).unwrap();
        }
        plain.extend_from_slice(&bytes);
    }
    plain.resize(plain.len() + odd, 0);
    file.set_len(plain.len() as u64).unwrap();
    (file, plain)
}

fn entry(name: &str, size: usize) -> Entry {
    let kind = EntryKind::File { size: size as u64, content: None };
    Entry::new(RelPath::parse(name.as_bytes()).unwrap(), kind, Meta::with_mode(0o644))
}

/// A layer of a small file, one with `content` and a small one again.
fn write(content: &mut dyn SparseRead, size: usize, options: &WriteOptions) -> (Vec<u8>, Written) {
    let mut writer = LayerWriter::new(Vec::new(), options);
    writer.append(entry("a", 3), &mut &b"one"[..]).unwrap();
    writer.append(entry("b", size), content).unwrap();
    writer.append(entry("c", 3), &mut &b"two"[..]).unwrap();
    writer.finish().unwrap()
}

/// The tar, without the help of the writer.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in [("a", &b"one"[..]), ("b", content), ("c", b"two")] {
        tar_write::head(&entry(name, content.len()), &mut tar).unwrap();
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn layer_options(compression: Compression, threads: usize) -> WriteOptions {
    WriteOptions { compression, threads: NonZeroUsize::new(threads), ..WriteOptions::default() }
}

const ALL: [Compression; 3] =
    [Compression::Gzip { level: 4 }, Compression::Zstd { level: 3 }, Compression::Uncompressed];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn holes_and_zeros_give_the_same_layer(pieces in pieces(), odd in 0..600usize) {
        let (file, plain) = make(&pieces, odd);
        let want = tar(&plain);
        for (compression, threads) in ALL.into_iter().zip([1, 2, 3]) {
            let options = layer_options(compression, threads);
            let (blob, written) = write(&mut SparseFile::new(&file, plain.len() as u64), plain.len(), &options);
            let (dense, other) = write(&mut &plain[..], plain.len(), &options);
            prop_assert!(blob == dense);
            prop_assert_eq!((&written.tree, &written.segments), (&other.tree, &other.segments));
            prop_assert_eq!(written.diff_id.0, Sha256::of(&want));
            prop_assert_eq!((written.blob.0, written.size), (Sha256::of(&blob), blob.len() as u64));
            let big = written.tree.get(&RelPath::parse(b"b").unwrap()).unwrap();
            let digest = ContentDigest(Sha256::of(&plain));
            prop_assert_eq!(&big.kind, &EntryKind::File { size: plain.len() as u64, content: Some(digest) });
            // Each segment is what compressing it by itself gives.
            let mut codec = Codec::new(compression).unwrap();
            let (mut at, mut packed) = (0, Vec::new());
            for segment in &written.segments.0 {
                let next = at + segment.plain_len as usize;
                packed.extend_from_slice(&codec.run(&want[at..next], None, Vec::new()).unwrap().bytes);
                at = next;
            }
            prop_assert!(at == want.len() && packed == blob);
            let mut back = Vec::new();
            decompress(&blob[..], &Limits::default()).unwrap().1.read_to_end(&mut back).unwrap();
            prop_assert!(back == want);
            for to in ALL {
                let from = Cursor::new(blob.clone());
                let (again, _) = recompress(from, written.diff_id, Vec::new(), &layer_options(to, threads)).unwrap();
                let (direct, _) = write(&mut &plain[..], plain.len(), &layer_options(to, 1));
                prop_assert!(again == direct, "{compression:?} to {to:?}");
            }
        }
    }

    #[test]
    fn unpacking_and_packing_keep_holes(pieces in pieces(), odd in 0..600usize) {
        let (file, plain) = make(&pieces, odd);
        let data = plain.chunks(4096).filter(|block| !is_zero(block)).count() as u64;
        for compression in ALL {
            let options = layer_options(compression, 2);
            let (blob, written) = write(&mut SparseFile::new(&file, plain.len() as u64), plain.len(), &options);
            let dir = tempfile::tempdir().unwrap();
            let tree = unpack(&blob[..], dir.path(), written.diff_id, Form::Plain).unwrap();
            prop_assert_eq!(&tree, &written.tree);
            prop_assert_eq!(read_tree(&blob[..], written.diff_id).unwrap(), tree.clone());
            let path = dir.path().join("b");
            prop_assert!(crate::base::fs::read(&path).unwrap() == plain);
            let blocks = crate::base::fs::open(&path).unwrap().metadata().unwrap().blocks();
            prop_assert!(blocks * 512 <= data * 4096, "{blocks} blocks for {data} with data");
            let copy = tempfile::tempdir().unwrap();
            let merged = MergedTree::over([std::sync::Arc::new(tree)]);
            copy_tree(&merged, &[dir.path().to_owned()], copy.path()).unwrap();
            let copied = crate::base::fs::open(&copy.path().join("b")).unwrap();
            prop_assert!(copied.metadata().unwrap().blocks() <= blocks.max(128));
            let (again, _) = write(&mut SparseFile::new(&copied, plain.len() as u64), plain.len(), &options);
            prop_assert!(again == blob);
        }
    }

    #[test]
    fn sparse_archive_gives_layer_of_its_files(pieces in pieces()) {
        let (_, plain) = make(&pieces, 0);
        // PAX 0.1: the map is a record, the parts follow.
        let (mut map, mut stored) = (Vec::new(), Vec::new());
        for (number, block) in plain.chunks(4096).enumerate().filter(|(_, block)| !is_zero(block)) {
            map.push(format!("{},{}", number * 4096, block.len()));
            stored.extend_from_slice(block);
        }
        // A map without parts is one part of nothing.
        let map = if map.is_empty() { "0,0".to_owned() } else { map.join(",") };
        let mut builder = ::tar::Builder::new(Vec::new());
        let size = plain.len().to_string();
        builder.append_pax_extensions([("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", size.as_bytes())]).unwrap();
        let mut header = ::tar::Header::new_ustar();
        header.set_size(stored.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "b", &stored[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        let (blob, packed) = repack(&archive[..], Vec::new(), Compression::default(), &Limits::default()).unwrap();
        let mut writer = LayerWriter::new(Vec::new(), &WriteOptions::default());
        writer.append(entry("b", plain.len()), &mut &plain[..]).unwrap();
        let (want, written) = writer.finish().unwrap();
        prop_assert_eq!(packed.diff_id, written.diff_id);
        prop_assert!(blob == want);
    }
}

/// An archive of one file of nothing but a hole of `size` bytes.
fn hole(size: u64) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    let size = size.to_string();
    let records = [("GNU.sparse.map", &b"0,0"[..]), ("GNU.sparse.size", size.as_bytes())];
    builder.append_pax_extensions(records).unwrap();
    let mut header = ::tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    builder.append_data(&mut header, "f", &b""[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn holes_are_limited_by_archive_size() {
    // S-39
    let limits = Limits { hole_floor: 1 << 20, hole_ratio: 10_000, ..Limits::default() };
    let take = |size, limits: &Limits| repack(&hole(size)[..], std::io::sink(), Compression::default(), limits);
    assert!(take(1 << 20, &limits).is_ok());
    assert!(take(512 * 10_000, &limits).is_ok());
    let error = take(512 * 10_001, &limits).unwrap_err();
    assert!(error.is_limit() && error.to_string().contains("10000 bytes of files"), "{error}");
    let error = take(1 << 36, &Limits::default()).unwrap_err();
    assert!(error.is_limit(), "{error}");
}

#[test]
fn layer_beyond_limits_is_not_written() {
    let limit = Limits::default().total_bytes;
    let size = usize::try_from(limit).unwrap();
    let mut writer = LayerWriter::new(Vec::new(), &WriteOptions::default());
    // It is refused before a byte of it is asked for.
    let error = writer.append(entry("disks/vm", size), &mut std::io::empty()).unwrap_err();
    assert_eq!(error.to_string(), "/disks/vm makes the layer larger than 128 GiB, the most that one layer can hold");
}

#[test]
fn long_runs_of_one_byte_are_within_limits() {
    // What a layer of ours may reach is below what is refused.
    let limits = Limits::default();
    for byte in [0, b'x'] {
        for compression in [Compression::Zstd { level: 3 }, Compression::Zstd { level: 22 }, Compression::default()] {
            let packed = Codec::new(compression).unwrap().run(&vec![byte; 1 << 20], None, Vec::new()).unwrap().bytes;
            let ratio = (1 << 20) / packed.len() as u64;
            assert!(ratio < limits.ratio, "{compression:?}: {ratio}");
        }
    }
}

#[test]
fn watch_error_ends_the_layer() {
    let watch: Watch = std::sync::Arc::new(|bytes| match bytes {
        ..20_000_000 => Ok(()),
        _ => Err(std::io::Error::other("enough")),
    });
    let (file, size) = (tempfile::tempfile().unwrap(), 1 << 30);
    file.set_len(size).unwrap();
    for threads in [1, 3] {
        let options = WriteOptions { watch: Some(watch.clone()), ..layer_options(Compression::default(), threads) };
        let mut writer = LayerWriter::new(std::io::sink(), &options);
        let error = writer.append(entry("f", size as usize), &mut SparseFile::new(&file, size)).unwrap_err();
        assert_eq!(error.to_string(), "cannot write the layer: enough");
    }
}
