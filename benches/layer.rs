//! Writing, reading and unpacking layers: `cargo bench --bench layer`. Compare with the plain tools in the same run
//! (`sha256`, `gzip_6`), never with yesterday's numbers.

use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use kiln::base::digest::{DiffId, Hasher};
use kiln::layer::{
    Compression, Entry, EntryKind, Form, LayerWriter, MergedTree, Meta, PreviousBlob, RelPath, SegmentSource,
    WriteOptions, Written, read_tree, unpack,
};

fn main() {
    divan::main();
}

/// Entries with their content: 4,000 small files and one large one, 48 MiB, as compressible as program text.
fn sample() -> Vec<(Entry, Vec<u8>)> {
    let mut state = 1u64;
    let mut text = |len: usize| -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 16);
        while out.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // A word out of some thousands, now and then something new.
            if state.is_multiple_of(7) {
                out.extend_from_slice(&state.to_le_bytes());
            } else {
                write!(out, "{:x} ", (state >> 20) % 3000 * 7919).expect("memory");
            }
        }
        out.truncate(len);
        out
    };
    let path = |name: String| RelPath::parse(name.as_bytes()).expect("a clean path");
    let mut all = Vec::new();
    for dir in 0..40 {
        all.push((Entry::new(path(format!("d{dir:02}")), EntryKind::Dir, Meta::with_mode(0o755)), Vec::new()));
        for file in 0..100 {
            let content = text(2000 + (dir * 131 + file * 37) % 12_000);
            let kind = EntryKind::File { size: content.len() as u64, content: None };
            all.push((Entry::new(path(format!("d{dir:02}/f{file:02}")), kind, Meta::with_mode(0o644)), content));
        }
    }
    let content = text(16 << 20);
    let kind = EntryKind::File { size: content.len() as u64, content: None };
    all.push((Entry::new(path("z-large".to_owned()), kind, Meta::with_mode(0o644)), content));
    all
}

fn write(sample: &[(Entry, Vec<u8>)], options: &WriteOptions) -> (Vec<u8>, Written) {
    let mut writer = LayerWriter::new(Vec::new(), options);
    for (entry, content) in sample {
        writer.append(entry.clone(), &mut &content[..]).expect("entries in order");
    }
    writer.finish().expect("memory")
}

fn options(name: &str, threads: usize) -> WriteOptions {
    let compression = match name {
        "gzip" => Compression::default(),
        "zstd" => Compression::Zstd { level: 3 },
        _ => Compression::Uncompressed,
    };
    WriteOptions { compression, threads: NonZeroUsize::new(threads), ..WriteOptions::default() }
}

#[divan::bench(args = ["gzip", "zstd", "uncompressed"], consts = [1, 2])]
fn layer_write<const THREADS: usize>(bencher: Bencher, compression: &str) {
    let (sample, options) = (sample(), options(compression, THREADS));
    let size = write(&sample, &options).1.plain_size;
    bencher.counter(BytesCount::new(size)).bench_local(|| write(&sample, &options));
}

/// One file edited, everything else copied from the previous blob.
#[divan::bench]
fn layer_write_after_an_edit(bencher: Bencher) {
    let mut sample = sample();
    let (blob, written) = write(&sample, &options("gzip", 2));
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&blob).expect("disk");
    let previous: Arc<dyn SegmentSource> = PreviousBlob::new(file, &written.segments);
    let options = WriteOptions { previous: Some(previous), ..options("gzip", 2) };
    let edited = sample.iter().position(|(e, _)| matches!(e.kind, EntryKind::File { .. })).expect("a file");
    sample[edited].1[7] ^= 1;
    bencher.counter(BytesCount::new(written.plain_size)).bench_local(|| write(&sample, &options));
}

#[divan::bench(args = ["gzip", "zstd", "uncompressed"])]
fn tree_read(bencher: Bencher, compression: &str) {
    let (blob, written) = write(&sample(), &options(compression, 2));
    bencher
        .counter(BytesCount::new(written.plain_size))
        .bench_local(|| read_tree(&blob[..], written.diff_id).expect("a layer"));
}

#[divan::bench(args = ["gzip", "zstd", "uncompressed"])]
fn layer_unpack(bencher: Bencher, compression: &str) {
    let (blob, written) = write(&sample(), &options(compression, 2));
    bencher
        .counter(BytesCount::new(written.plain_size))
        .with_inputs(|| tempfile::tempdir().expect("a directory"))
        .bench_local_values(|dir| {
            unpack(&blob[..], dir.path(), written.diff_id, Form::Plain).expect("a layer");
            // Removing it is not measured.
            dir
        });
}

#[divan::bench]
fn trees_merge(bencher: Bencher) {
    let tree = Arc::new(write(&sample(), &options("uncompressed", 2)).1.tree);
    bencher.bench_local(|| MergedTree::over(std::iter::repeat_n(Arc::clone(&tree), 20)));
}

/// What one digest of the same bytes costs.
#[divan::bench]
fn sha256(bencher: Bencher) {
    let (tar, written) = write(&sample(), &options("uncompressed", 2));
    bencher.counter(BytesCount::new(written.plain_size)).bench_local(|| {
        let mut hasher = Hasher::new();
        hasher.update(&tar);
        DiffId(hasher.finish())
    });
}

/// What `gzip -6` makes of the same bytes, in the same process.
#[divan::bench(sample_count = 10)]
fn gzip_6(bencher: Bencher) {
    let (tar, written) = write(&sample(), &options("uncompressed", 2));
    bencher.counter(BytesCount::new(written.plain_size)).bench_local(|| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        out.write_all(&tar).expect("memory");
        out.finish().expect("memory")
    });
}
