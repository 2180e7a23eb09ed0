//! Promises of a layer that goes on from the one before.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::base::digest::{BlobDigest, ContentDigest, Sha256};

const ALL: [Compression; 3] =
    [Compression::Gzip { level: 1 }, Compression::Zstd { level: 1 }, Compression::Uncompressed];

/// A file as a selection knows it: with its digest. Its bytes are `seed` over and over.
fn file(name: &str, seed: u8, size: usize) -> (Entry, Vec<u8>) {
    let content = vec![seed; size];
    let digest = Some(ContentDigest(Sha256::of(&content)));
    let path = RelPath::parse(name.as_bytes()).unwrap();
    (Entry::new(path, EntryKind::File { size: size as u64, content: digest }, Meta::with_mode(0o644)), content)
}

/// About six segments, one of which is inside a large file.
fn many() -> Vec<(Entry, Vec<u8>)> {
    let mut all: Vec<_> = (0..60).map(|i| file(&format!("d/{i:03}"), i as u8, 20_000 + i * 2500)).collect();
    all.push(file("d/040-large", 7, 3 << 20));
    all.push((Entry::new(RelPath::parse(b"d").unwrap(), EntryKind::Dir, Meta::with_mode(0o755)), Vec::new()));
    let link = EntryKind::Hardlink { target: RelPath::parse(b"d/003").unwrap() };
    all.push((Entry::new(RelPath::parse(b"d/003-link").unwrap(), link, Meta::default()), Vec::new()));
    all.sort_by(|a, b| a.0.order(&b.0));
    all
}

fn options(compression: Compression, threads: usize, before: Option<Before>) -> WriteOptions {
    WriteOptions { compression, threads: NonZeroUsize::new(threads), before, ..WriteOptions::default() }
}

/// Writes what cannot be taken over, and says how much could.
fn write(entries: &[(Entry, Vec<u8>)], options: &WriteOptions) -> (Vec<u8>, Written, usize) {
    let mut writer = LayerWriter::new(Vec::new(), options);
    let coming: Vec<Entry> = entries.iter().map(|(entry, _)| entry.clone()).collect();
    let taken = writer.take_over(&coming);
    for (entry, content) in &entries[taken..] {
        writer.append(entry.clone(), &mut &content[..]).unwrap();
    }
    let (blob, written) = writer.finish().unwrap();
    (blob, written, taken)
}

fn stored(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// What was written, as the next build finds it.
fn kept(blob: &[u8], written: &Written) -> Before {
    let marks = Marks::from_bytes(&written.marks.to_bytes(written.blob), written.blob).unwrap();
    assert_eq!(marks, written.marks);
    let index = SegmentIndex::from_bytes(&written.segments.to_bytes()).unwrap();
    Before::new(stored(blob), index, marks)
}

/// Everything that is stored of a layer.
fn all_of((blob, written, _): (Vec<u8>, Written, usize)) -> (BlobDigest, Vec<u8>, Written) {
    assert_eq!((Sha256::of(&blob), blob.len() as u64), (written.blob.0, written.size));
    (written.blob, blob, Written { reused: 0, ..written })
}

fn assert_same(entries: &[(Entry, Vec<u8>)], compression: Compression, before: Before) -> usize {
    let went_on = write(entries, &options(compression, 2, Some(before)));
    let taken = went_on.2;
    let ((a, blob, went_on), (b, fresh, whole)) =
        (all_of(went_on), all_of(write(entries, &options(compression, 1, None))));
    assert_eq!((a, went_on.diff_id, went_on.plain_size), (b, whole.diff_id, whole.plain_size));
    assert!(blob == fresh);
    assert_eq!((went_on.tree, went_on.segments, went_on.marks), (whole.tree, whole.segments, whole.marks));
    taken
}

#[test]
fn resumed_layer_equals_complete_write() {
    let old = many();
    let last = old.len() - 1;
    for compression in ALL {
        let (blob, first, taken) = write(&old, &options(compression, 2, None));
        assert_eq!(taken, 0);
        assert!(first.marks.0.len() > 4 && first.marks.0.len() < first.segments.0.len(), "{:?}", first.marks);
        for at in [0, 1, last / 2, last] {
            let mut edited = old.clone();
            edited[at].0.meta.mode = 0o700;
            let inserted = [&old[..at], &[file(&format!("{}-new", old[at].0.path), 9, 5)], &old[at..]].concat();
            let mut grown = old.clone();
            grown[at.max(1)] = file(&old[at.max(1)].0.path.to_string(), 9, 1 << 21);
            let mut removed = old.clone();
            removed.remove(at);
            let kinds = if compression == ALL[0] { 4 } else { 1 };
            for mut new in [edited, inserted, grown, removed].into_iter().take(kinds) {
                new.sort_by(|a, b| a.0.order(&b.0));
                let taken = assert_same(&new, compression, kept(&blob, &first));
                let alike = new.iter().zip(&old).take_while(|(a, b)| a.0 == b.0).count();
                assert!(taken <= alike && taken + 40 >= alike, "{compression:?} {at}: {taken} of {alike}");
            }
        }
        // More at the end, less at the end, and nothing else.
        let longer = [&old[..], &[file("z", 1, 10)]].concat();
        assert!(assert_same(&longer, compression, kept(&blob, &first)) > 30);
        assert!(assert_same(&old, compression, kept(&blob, &first)) > 30);
        for count in [0, 1, 30] {
            assert!(assert_same(&old[..count], compression, kept(&blob, &first)) <= count);
        }
    }
}

#[test]
fn files_taken_over_are_not_read() {
    // S-93
    let old = many();
    let (blob, first, _) = write(&old, &options(ALL[0], 1, None));
    let mut changed = old.clone();
    let last = changed.len() - 1;
    changed[last] = file("d/059", 1, 17);
    let mut now = changed.clone();
    now[2].1.fill(b'!');
    let (went_on, _, taken) = write(&now, &options(ALL[0], 1, Some(kept(&blob, &first))));
    assert!(taken > 2);
    assert!(went_on == write(&changed, &options(ALL[0], 1, None)).0);
    // A file whose digest is not known must be read.
    now[0].0.kind = EntryKind::File { size: 1, content: None };
    now.remove(1);
    let coming: Vec<Entry> = now.into_iter().map(|(entry, _)| entry).collect();
    let mut writer = LayerWriter::new(Vec::new(), &options(ALL[0], 1, Some(kept(&blob, &first))));
    assert_eq!(writer.take_over(&coming), 0);
}

#[test]
fn damaged_or_foreign_blobs_are_not_taken_over() {
    let entries = many();
    let (blob, first, _) = write(&entries, &options(ALL[0], 1, None));
    let bytes = first.marks.to_bytes(first.blob);
    for at in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        assert_eq!(Marks::from_bytes(&damaged, first.blob), None, "byte {at}");
        assert_eq!(Marks::from_bytes(&bytes[..at], first.blob), None, "cut at {at}");
    }
    assert_eq!(Marks::from_bytes(&bytes, BlobDigest(first.diff_id.0)), None);

    let taken = |before| assert_same(&entries, ALL[0], before);
    let (marks, index) = (&first.marks, &first.segments);
    assert!(taken(kept(&blob, &first)) > 0);
    let mut damaged = blob.clone();
    damaged[20] ^= 1;
    assert_eq!(taken(Before::new(stored(&damaged), index.clone(), marks.clone())), 0);
    assert_eq!(taken(Before::new(stored(&blob[..blob.len() / 3]), index.clone(), marks.clone())), 0);
    assert_eq!(taken(Before::new(stored(&blob), SegmentIndex::default(), marks.clone())), 0);
    assert_eq!(taken(Before::new(stored(&blob), index.clone(), Marks::default())), 0);
    // An index that was since written for the same layer in another compression.
    let (other, packed, _) = write(&entries, &options(ALL[1], 1, None));
    assert_eq!(taken(Before::new(stored(&blob), packed.segments.clone(), marks.clone())), 0);
    assert_eq!(taken(Before::new(stored(&other), index.clone(), marks.clone())), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn series_of_resumed_layers_equals_complete_writes(
        sizes in proptest::collection::vec(0usize..400_000, 5..40),
        rounds in proptest::collection::vec(
            proptest::collection::vec((any::<proptest::sample::Index>(), 0u8..4, 0usize..1_500_000), 1..4), 1..4),
        which in 0usize..3,
    ) {
        let compression = ALL[which];
        let mut entries: Vec<_> =
            sizes.iter().enumerate().map(|(i, size)| file(&format!("{i:04}"), i as u8, *size)).collect();
        let (blob, first, _) = write(&entries, &options(compression, 1, None));
        let mut before = kept(&blob, &first);
        for round in rounds {
            for (at, what, size) in round {
                let at = at.index(entries.len());
                let name = entries[at].0.path.to_string();
                match what {
                    0 => entries[at] = file(&name, what.wrapping_add(size as u8), size),
                    1 => entries[at].0.meta.uid += 1,
                    2 => entries.insert(at + 1, file(&format!("{name}-{size}"), 3, size)),
                    _ if entries.len() > 1 => drop(entries.remove(at)),
                    _ => {}
                }
            }
            entries.sort_by(|a, b| a.0.order(&b.0));
            entries.dedup_by(|a, b| a.0.path == b.0.path);
            let went_on = write(&entries, &options(compression, 3, Some(before)));
            let whole = write(&entries, &options(compression, 1, None));
            prop_assert!(went_on.0 == whole.0);
            prop_assert_eq!(went_on.1.diff_id, whole.1.diff_id);
            prop_assert_eq!(&went_on.1.marks, &whole.1.marks);
            before = kept(&went_on.0, &went_on.1);
        }
    }
}
