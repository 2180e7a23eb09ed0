//! A tar archive as a layer.
//!
//! **Holds.** The layer's tar is the archive itself, decompressed: entries, attributes and times stay. Only sparse files are
//! written out in full, because most readers of layers reject them. The archive is read as `TarReader` reads layers, so that
//! what is stored can be unpacked; names that a layer uses for deletions are rejected.
//! **Order.** Equal tars give equal blobs, however they were compressed.

use super::compress::Compression;
use super::decompress::decompress;
use super::entry::RelPath;
use super::error::Error;
use super::ledger::Ledger;
use super::limits::{Limits, check_entry};
use super::pipeline::Output;
use super::recut::{Passage, recut};
use super::segment::SegmentIndex;
use super::tar_read::Dialect;
use super::writer::WriteOptions;
use crate::base::digest::{BlobDigest, DiffId};
use crate::base::sparse::SparseRead;

/// An archive that was taken in to the end.
#[derive(Clone, Debug)]
pub struct Repacked {
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Digest of the bytes that were written.
    pub blob: BlobDigest,
    /// How many bytes that were.
    pub size: u64,
    /// How long the tar is.
    pub plain_size: u64,
    /// The OCI media type.
    pub media_type: &'static str,
    /// How many files, directories and others it holds.
    pub entries: u64,
    /// It has `oci-layout` or `manifest.json` at its top: an archive of images rather than a root file system.
    pub holds_images: bool,
    /// Where which compressed segment lies.
    pub segments: SegmentIndex,
}

/// Reads an archive in any compression to its end and writes it to `out` as a layer blob.
pub fn repack<W: Output>(
    from: impl SparseRead + Send,
    out: W,
    compression: Compression,
    limits: &Limits,
) -> Result<(W, Repacked), Error> {
    let (_, plain) = decompress(from, limits).map_err(Error::Stream)?;
    let options = WriteOptions { compression, ..WriteOptions::default() };
    let passage = Passage { dialect: Dialect::Plain, limits: limits.clone(), options: &options, expand: true };
    // What reading the layer refuses is refused here.
    let mut ledger = Ledger::new(limits.clone());
    let (mut entries, mut holds_images) = (0, false);
    let done = recut(plain, out, &passage, |entry| {
        entries += 1;
        holds_images |= matches!(entry.path.as_bytes(), b"oci-layout" | b"manifest.json");
        if is_marker(&entry.path) {
            let reason = "a layer cannot hold a name that begins with .wh.".to_owned();
            return Err(Error::Entry { path: entry.path.clone(), reason });
        }
        check_entry(entry)?;
        ledger.admit(entry.clone()).map(drop)
    })?;
    if entries == 0 {
        return Err(Error::Malformed { entry: 0, reason: "there is nothing in it".to_owned() });
    }
    let repacked = Repacked {
        diff_id: done.diff_id,
        blob: done.blob,
        size: done.size,
        plain_size: done.plain_size,
        media_type: compression.media_type(),
        entries,
        holds_images,
        segments: done.segments,
    };
    Ok((done.out, repacked))
}

fn is_marker(path: &RelPath) -> bool {
    path.as_bytes().split(|&b| b == b'/').any(|name| name.starts_with(b".wh."))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::base::digest::Sha256;

    fn tar(names: &[&str], size: usize) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_ustar();
            header.set_size(size as u64);
            header.set_mode(0o644);
            header.set_mtime(7);
            builder.append_data(&mut header, name, &vec![b'x'; size][..]).expect("append");
        }
        builder.into_inner().expect("archive")
    }

    #[test]
    fn repack_keeps_tar_bytes() {
        let plain = tar(&["a", "b"], 1_500_000);
        let zstd = zstd::encode_all(&plain[..], 1).expect("zstd");
        let mut results = Vec::new();
        for archive in [&plain, &zstd] {
            let (blob, done) =
                repack(&archive[..], Vec::new(), Compression::default(), &Limits::default()).expect("repacked");
            assert_eq!(done.diff_id.0, Sha256::of(&plain));
            assert_eq!((done.blob.0, done.size), (Sha256::of(&blob), blob.len() as u64));
            assert_eq!((done.entries, done.plain_size), (2, plain.len() as u64));
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut back).expect("gzip");
            assert!(back == plain);
            results.push(blob);
        }
        assert!(results[0] == results[1]);
    }

    #[test]
    fn repack_rejects_entries_that_cannot_be_unpacked() {
        // N-10
        let entry = |name: &str, kind, link: &str| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(0);
            builder.append_link(&mut header, name, link).expect("append");
            builder.into_inner().expect("archive")
        };
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..2].copy_from_slice(b"./");
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_link_name("etc").expect("link");
        header.set_size(0);
        header.set_cksum();
        let root = [&header.as_bytes()[..], &[0; 1024]].concat();
        let deep = "d/".repeat(1100);
        let long = "n".repeat(256);
        for (bad, why) in [
            (root, "only a directory can be the root"),
            (entry("h", tar::EntryType::Link, "gone"), "hard link to /gone"),
            (entry("h", tar::EntryType::Link, "h"), "hard link"),
            (entry("l", tar::EntryType::Symlink, &"x/".repeat(2048)), "longer than 4095 bytes"),
            (tar(&[&deep], 0), "1024 directories"),
            (tar(&[&long], 1), "longer than 255 bytes"),
            (tar(&[&format!("a/{long}/b")], 1), "longer than 255 bytes"),
        ] {
            let error = repack(&bad[..], Vec::new(), Compression::default(), &Limits::default()).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn repack_rejects_what_is_not_an_archive() {
        let cut = tar(&["a"], 5000)[..3000].to_vec();
        for (bad, why) in [
            (tar(&["etc/.wh.passwd"], 1), "begins with .wh."),
            (b"not a tar at all".to_vec(), "archive"),
            (Vec::new(), "nothing in it"),
            (vec![0; 1024], "nothing in it"),
            (cut, "archive"),
        ] {
            let error = repack(&bad[..], Vec::new(), Compression::default(), &Limits::default()).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
