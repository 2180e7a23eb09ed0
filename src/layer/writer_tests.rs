//! Promises of the layer writer.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::segment::SegmentKey;
use super::*;
use crate::base::digest::{BlobDigest, Sha256};
use crate::base::sparse::SparseRead;
use crate::base::time::Timestamp;

fn path(p: &[u8]) -> RelPath {
    RelPath::parse(p).unwrap()
}

fn file(p: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let kind = EntryKind::File { size: content.len() as u64, content: None };
    (Entry::new(path(p.as_bytes()), kind, Meta::with_mode(0o644)), content.to_vec())
}

fn other(p: &[u8], kind: EntryKind) -> (Entry, Vec<u8>) {
    (Entry::new(path(p), kind, Meta::with_mode(0o755)), Vec::new())
}

fn write(entries: &[(Entry, Vec<u8>)], options: &WriteOptions) -> (Vec<u8>, Written) {
    let mut writer = LayerWriter::new(Vec::new(), options);
    for (entry, content) in entries {
        writer.append(entry.clone(), &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn plain() -> WriteOptions {
    WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() }
}

/// Deterministic bytes that compress somewhat.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x % 23) as u8 + b'a'
        })
        .collect()
}

/// Small files around two large ones: many segments.
fn many() -> Vec<(Entry, Vec<u8>)> {
    let mut all = vec![other(b"d", EntryKind::Dir)];
    for i in 0..700u64 {
        all.push(file(&format!("d/{i:04}"), &noise(i, 3000 + (i as usize * 37) % 9000)));
    }
    all.push(file("d/big", &noise(9, 3 << 20)));
    all.push(file("d/exact", &noise(10, 1 << 20)));
    all.push(file("z", b"end"));
    all.sort_by(|a, b| a.0.order(&b.0));
    all
}

fn gunzip(blob: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut out).unwrap();
    out
}

#[test]
fn empty_layer_has_well_known_digest() {
    //
    let (_, written) = write(&[], &WriteOptions::default());
    let known = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(written.diff_id.to_string(), known);
    assert!(written.tree.is_empty());
}

#[test]
fn bytes_do_not_depend_on_threads_or_read_slicing() {
    let entries = many();
    let (tar, reference) = write(&entries, &plain());
    assert_eq!(Sha256::of(&tar), reference.diff_id.0);
    assert_eq!(BlobDigest(reference.diff_id.0), reference.blob);
    for compression in [Compression::Gzip { level: 4 }, Compression::Zstd { level: 3 }] {
        let mut blobs = Vec::new();
        for threads in [1, 2, 7] {
            let options = WriteOptions { compression, threads: NonZeroUsize::new(threads), ..WriteOptions::default() };
            let mut writer = LayerWriter::new(Vec::new(), &options);
            for (entry, content) in &entries {
                writer.append(entry.clone(), &mut Dribble(content, threads * 511)).unwrap();
            }
            let (blob, written) = writer.finish().unwrap();
            assert_eq!(written.diff_id, reference.diff_id);
            assert_eq!((Sha256::of(&blob), blob.len() as u64), (written.blob.0, written.size));
            assert_eq!(written.plain_size, tar.len() as u64);
            blobs.push(blob);
        }
        assert!(blobs.windows(2).all(|w| w[0] == w[1]), "{compression:?}");
        let unpacked = match compression {
            Compression::Zstd { .. } => zstd::decode_all(&blobs[0][..]).unwrap(),
            _ => gunzip(&blobs[0]),
        };
        assert!(unpacked == tar);
    }
}

/// Hands out a few bytes at a time.
struct Dribble<'a>(&'a [u8], usize);

impl SparseRead for Dribble<'_> {}

impl Read for Dribble<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = buf.len().min(self.1).min(self.0.len());
        self.0.read(&mut buf[..n])
    }
}

#[test]
fn one_edited_file_recompresses_one_segment() {
    let mut entries = many();
    let (blob, first) = write(&entries, &WriteOptions::default());
    assert!(first.segments.0.len() > 6, "{} segments", first.segments.0.len());
    let index = SegmentIndex::from_bytes(&first.segments.to_bytes()).unwrap();
    assert_eq!(index, first.segments);
    let mut stored = tempfile::tempfile().unwrap();
    stored.write_all(&blob).unwrap();
    let previous = PreviousBlob::new(stored, &index);
    entries[300].1[5] ^= 1;
    let counting = Arc::new(Counting(previous, std::sync::atomic::AtomicUsize::new(0)));
    let options = WriteOptions { previous: Some(counting.clone()), ..WriteOptions::default() };
    let (reused, second) = write(&entries, &options);
    let (fresh, _) = write(&entries, &WriteOptions::default());
    assert!(reused == fresh);
    assert_eq!(second.segments.0.len(), first.segments.0.len());
    assert_eq!(counting.1.load(std::sync::atomic::Ordering::Relaxed), 1);
}

struct Counting(Arc<PreviousBlob>, std::sync::atomic::AtomicUsize);

impl SegmentSource for Counting {
    fn get(&self, key: &SegmentKey, out: &mut Vec<u8>) -> Option<[u8; 32]> {
        let found = self.0.get(key, out);
        if found.is_none() {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        found
    }
}

#[test]
fn damaged_previous_blob_is_not_reused() {
    let entries = many();
    let (mut blob, first) = write(&entries, &WriteOptions::default());
    let good = blob.clone();
    for i in (0..blob.len()).step_by(10_000) {
        blob[i] ^= 0x55;
    }
    let mut stored = tempfile::tempfile().unwrap();
    stored.write_all(&blob[..blob.len() - 5]).unwrap();
    let previous: Option<Arc<dyn SegmentSource>> = Some(PreviousBlob::new(stored, &first.segments));
    let (again, _) = write(&entries, &WriteOptions { previous, ..WriteOptions::default() });
    assert!(again == good);
}

#[test]
fn file_of_another_size_is_an_error() {
    // S-93
    for (promised, actual) in [(10, 3), (3, 10), (0, 1), (1 << 21, (1 << 21) - 1), (1 << 21, (1 << 21) + 1)] {
        let mut writer = LayerWriter::new(std::io::sink(), &WriteOptions::default());
        let entry = Entry::new(path(b"log"), EntryKind::File { size: promised, content: None }, Meta::with_mode(0o644));
        let result = writer.append(entry, &mut &vec![b'x'; actual][..]);
        assert!(matches!(result, Err(Error::Changed { .. })), "{promised} {actual}: {result:?}");
    }
}

#[test]
fn writer_rejects_what_layers_cannot_hold() {
    for (entry, _) in [
        file(".wh.x", b""),
        file("a/.wh..wh..opq", b""),
        other(b"a/.wh.d", EntryKind::Dir),
        other(b"l", EntryKind::Symlink { target: Vec::new() }),
        other(b"h", EntryKind::Hardlink { target: path(b"missing") }),
    ] {
        let result = LayerWriter::new(std::io::sink(), &plain()).append_empty(entry);
        assert!(matches!(result, Err(Error::NotRepresentable { .. })), "{result:?}");
    }
}

#[test]
fn write_error_ends_the_layer() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut writer = LayerWriter::new(Full, &WriteOptions::default());
    let result = many().iter().try_for_each(|(e, c)| writer.append(e.clone(), &mut &c[..]));
    let result = result.and_then(|()| writer.finish().map(|_| ()));
    assert!(matches!(&result, Err(Error::Write(e)) if e.kind() == std::io::ErrorKind::StorageFull), "{result:?}");
}

/// One of everything a tar can hold (round trip).
fn zoo() -> Vec<(Entry, Vec<u8>)> {
    let long = [&[b'l'; 150][..], b"/", &[b'n'; 149]].concat();
    let mut all = vec![
        other(b"", EntryKind::Dir),
        other(&[b'l'; 150], EntryKind::Dir),
        file("plain", b"content"),
        other(b"hard", EntryKind::Symlink { target: b"plain".to_vec() }),
        other(b"plain2", EntryKind::Hardlink { target: path(b"plain") }),
        other(b"fifo", EntryKind::Fifo),
        other(b"null", EntryKind::Char { major: 1, minor: 3 }),
        other(b"disk", EntryKind::Block { major: 259, minor: 70_000 }),
        other(b"raw-\xff\xfe", EntryKind::Symlink { target: vec![b't'; 300] }),
        other(b"new\nline", EntryKind::Dir),
        other(b"gone", EntryKind::Whiteout),
        other(b"new\nline", EntryKind::Opaque),
    ];
    all.push((Entry::new(path(&long), EntryKind::File { size: 1, content: None }, Meta::with_mode(0o600)), vec![b'1']));
    let mut odd = file("odd", b"").0;
    odd.meta =
        Meta { mode: 0o6755, uid: 3_000_000, gid: u32::MAX, mtime: Timestamp { secs: -7, nanos: 5 }, ..odd.meta };
    odd.meta.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 0, 2, 10, 0, 10, b'=']);
    odd.meta.xattrs.insert(b"user.overlay.opaque".to_vec(), b"y".to_vec());
    all.push((odd, Vec::new()));
    all.sort_by(|a, b| a.0.order(&b.0));
    all
}

#[test]
fn gnu_tar_reads_written_layers() {
    let (tar, written) = write(&zoo(), &plain());
    let mut child = Command::new("tar")
        .args([
            "--numeric-owner",
            "--utc",
            "--full-time",
            "--quoting-style=escape",
            "--xattrs",
            "--xattrs-include=*",
            "-tvvf",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&tar));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    for want in [
        "drwxr-xr-x  0/0               0 1970-01-01 00:00:00 ./\n",
        "-rwsr-sr-x* 3000000/4294967295 0 1969-12-31 23:59:53 odd\n",
        "hrwxr-xr-x",
        "plain2 link to plain\n",
        "crwxr-xr-x  0/0             1,3 ",
        "brwxr-xr-x  0/0       259,70000 ",
        "raw-\\377\\376 -> ttt",
        "new\\nline/\n",
        "new\\nline/.wh..wh..opq\n",
        ".wh.gone\n",
        "prwxr-xr-x",
    ] {
        let loose = want.replace("hrwxr-xr-x", "hrw-r--r--");
        assert!(listing.contains(&loose), "{loose:?} not in:\n{listing}");
    }
    assert_eq!(written.tree.len(), zoo().len());
    let plain = written.tree.get(&path(b"plain")).unwrap();
    let content = Some(crate::base::digest::ContentDigest(Sha256::of(b"content")));
    assert_eq!(plain.kind, EntryKind::File { size: 7, content });
    let odd = written.tree.get(&path(b"odd")).unwrap();
    assert_eq!(odd.meta.mtime, Timestamp::from_secs(-7));
    assert_eq!(odd.meta.xattrs.len(), 1);
}

#[test]
fn recompressed_layer_equals_written_one() {
    let mut entries = many();
    entries.push((Entry::whiteout(path(b"zz")), Vec::new()));
    let methods = [Compression::Gzip { level: 4 }, Compression::Zstd { level: 3 }, Compression::Uncompressed];
    let layers = methods.map(|compression| write(&entries, &WriteOptions { compression, ..WriteOptions::default() }));
    for (from, _) in &layers {
        for (want, written) in &layers {
            let compression = methods[layers.iter().position(|(blob, _)| std::ptr::eq(blob, want)).unwrap()];
            let options = WriteOptions { compression, ..WriteOptions::default() };
            let (blob, done) = recompress(Dribble(from, 10_007), written.diff_id, Vec::new(), &options).unwrap();
            assert!(blob == *want, "{compression:?}");
            assert_eq!((done.blob, done.size, done.plain_size), (written.blob, written.size, written.plain_size));
            assert_eq!((done.media_type, &done.segments), (written.media_type, &written.segments));
        }
    }
    let wrong = recompress(&layers[0].0[..], crate::base::digest::DiffId(Sha256::of(b"")), Vec::new(), &plain());
    assert!(matches!(wrong, Err(Error::DiffId { .. })));
    let cut = recompress(&layers[0].0[..1000], layers[0].1.diff_id, Vec::new(), &plain());
    assert!(matches!(cut, Err(Error::Stream(_))), "{:?}", cut.err());
}

#[test]
fn foreign_archive_is_recompressed_in_bounded_segments() {
    // An entry that readers skip, larger than a segment; and padding without end.
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(9 << 20);
    builder.append_data(&mut header, ".wh..wh.aufs", &noise(3, 9 << 20)[..]).unwrap();
    header.set_size(3);
    builder.append_data(&mut header, "f", &b"abc"[..]).unwrap();
    let mut tar = builder.into_inner().unwrap();
    tar.resize(tar.len() + (11 << 20), 0);
    let diff_id = crate::base::digest::DiffId(Sha256::of(&tar));
    let mut blobs = Vec::new();
    for slice in [777, 1 << 20] {
        let (blob, done) = recompress(Dribble(&tar, slice), diff_id, Vec::new(), &WriteOptions::default()).unwrap();
        assert!(gunzip(&blob) == tar);
        assert!(done.segments.0.iter().all(|s| s.plain_len as usize <= 8 << 20));
        blobs.push(blob);
    }
    assert!(blobs[0] == blobs[1]);
}

#[test]
fn writer_rejects_what_cannot_be_read_back() {
    // N-10
    let dir = |path: &str| Entry::new(RelPath::parse(path.as_bytes()).unwrap(), EntryKind::Dir, Meta::default());
    let link =
        |len| Entry::new(RelPath::root().join(b"l"), EntryKind::Symlink { target: vec![b'x'; len] }, Meta::default());
    let attribute = |name: usize, value: usize| {
        let name = [b"user.".to_vec(), vec![b'a'; name - 5]].concat();
        let xattrs = [(name, vec![b'v'; value])].into_iter().collect::<std::collections::BTreeMap<_, _>>();
        Entry::new(RelPath::root().join(b"x"), EntryKind::Dir, Meta { xattrs: xattrs.into(), ..Meta::default() })
    };
    let longest = ["x".repeat(255).as_str(); 15].join("/") + &"/y".repeat(128);
    for (entry, why) in [
        (dir(&"d/".repeat(1024)), None),
        (dir(&"d/".repeat(1025)), Some("1024 directories")),
        (dir(&"n".repeat(255)), None),
        (dir(&"n".repeat(256)), Some("255 bytes")),
        (dir(&format!("a/{}/b", "n".repeat(256))), Some("255 bytes")),
        (dir(&longest), None),
        (dir(&format!("{longest}z")), Some("4095 bytes")),
        (link(4095), None),
        (link(4096), Some("4095 bytes")),
        (attribute(255, 64 << 10), None),
        (attribute(256, 1), Some("attribute")),
        (attribute(10, (64 << 10) + 1), Some("attribute")),
    ] {
        let mut writer = LayerWriter::new(Vec::new(), &WriteOptions::default());
        let appended = writer.append_empty(entry.clone()).map_err(|e| e.to_string());
        match why {
            Some(why) => assert!(appended.is_err_and(|e| e.contains(why)), "{why}"),
            None => {
                appended.unwrap();
                let (blob, written) = writer.finish().unwrap();
                let tree = crate::layer::read_tree(&blob[..], written.diff_id).unwrap();
                assert_eq!(tree.entries().last().map(|e| &e.path), Some(&entry.path));
            }
        }
    }
}
