//! Cache mounts that machines share: restored from a shared cache before a command runs, and written when all commands have run.
//!
//! **Order.** A cache mount is restored under its lock, into the directory that becomes its files only when it is whole. It is
//! packed when no command of this build uses it any more, if no other process does either.
//! **Failures.** A build needs no content of a cache mount: each failure is reported, and nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::base::digest::DiffId;
use crate::base::fs;
use crate::base::rooted::Root;
use crate::base::sparse::SparseRead;
use crate::base::verify::Verified;
use crate::cache::Made;
use crate::cache::remote::{Cut, Entry, EntryName, LayerEntry, Segments};
use crate::layer::{self, Checked, Compression, Form, LayerWriter, Limits, WriteOptions};
use crate::oci::blob::{BlobError, BlobFault, BlobSink, BlobSource};
use crate::oci::descriptor::Descriptor;
use crate::sandbox::Cancel;

use super::error::StepError;
use super::event::{Event, Observer};
use super::shared::Shared;
use super::used_mounts::SharedMount;

/// Fast, because a cache mount may be as large as an image.
const COMPRESSION: Compression = Compression::Zstd { level: 1 };

/// Fills the empty directory `dir` with what a shared cache has of the mount. Ok(false): nothing, and `dir` is empty.
pub(super) fn restore(shared: &Shared<'_>, mount: &SharedMount, dir: &Path) -> Result<bool, StepError> {
    let remotes = shared.builder.remotes;
    let entry = remotes.mount(&mount.id, &EntryName::Mount(mount.key()));
    let Some((entry, blob)) = entry.and_then(|entry| Some((entry.diff_id, entry.blobs.into_values().next()?))) else {
        return Ok(false);
    };
    let restored = remotes.try_fetch(&blob, &Unpack { dir, diff_id: entry, stop: shared.stop });
    if !restored {
        empty(dir)?;
    }
    Ok(restored)
}

fn empty(dir: &Path) -> Result<(), fs::FsError> {
    fs::remove_tree(dir)?;
    fs::create_dir(dir, 0o700)
}

/// Unpacks a blob instead of storing it.
struct Unpack<'a> {
    dir: &'a Path,
    diff_id: DiffId,
    stop: &'a Cancel,
}

impl BlobSource for Unpack<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        let reason = "it is unpacked, not stored".to_owned();
        Err(BlobError { operation: "open", digest: blob.digest, reason, fault: BlobFault::Missing })
    }
}

impl BlobSink for Unpack<'_> {
    fn has(&self, _: &Descriptor) -> Result<bool, BlobError> {
        Ok(false)
    }

    fn accept(&self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), BlobError> {
        let failed = |fault, reason: String| BlobError { operation: "unpack", digest: blob.digest, reason, fault };
        // What an earlier attempt has left.
        empty(self.dir).map_err(|e| failed(BlobFault::Other, e.to_string()))?;
        let (dir, want, limits) = (self.dir.to_owned(), self.diff_id, Limits::until(self.stop));
        let unpack = move |blob| layer::unpack_within(blob, &dir, want, Form::Plain, &limits);
        let mut checked = Checked::new(content, unpack);
        let mut verified = Verified::new(&mut checked, blob.digest.0, blob.size);
        io::copy(&mut verified, &mut io::sink()).map_err(|e| failed(BlobFault::Mismatch, e.to_string()))?;
        checked.finish().map(drop).map_err(|e| failed(BlobFault::Other, e.to_string()))
    }
}

/// Packs and sends the cache mounts that commands of this build have used. To be called when no command runs.
pub(super) fn send_all(shared: &Shared<'_>, observer: &mut dyn Observer) {
    for (number, mount) in shared.used_mounts.take().iter().enumerate() {
        if let Err(why) = send(shared, mount, number) {
            let what = format!("the cache mount {} is not written to shared caches", mount.id);
            observer.event(&Event::Fallback { what, why });
        }
    }
}

fn send(shared: &Shared<'_>, mount: &SharedMount, number: usize) -> Result<(), String> {
    let store = shared.builder.store;
    let lock = store.try_lock_shared_mount(&mount.identity).map_err(|e| e.to_string())?;
    let lock = lock.ok_or("another build uses it")?;
    let path = shared.scratch().map_err(|e| e.to_string())?.join(format!("mount-{number}"));
    let (content, written) = pack(&lock.data(), &path, shared.stop).map_err(|e| e.to_string())?;
    let blob = Descriptor::new(written.media_type, written.blob, written.size);
    let (key, blobs) = (mount.key(), [(COMPRESSION.method(), blob)].into());
    let entry =
        Entry::of_mount(key, LayerEntry { key, diff_id: written.diff_id, blobs, parts: None, made: Made::default() });
    let segments = Segments::new(written.segments.0.iter().map(|segment| (segment.check, segment.len)));
    let cut = Cut { latest: entry.name, segments, content: Arc::new(content) };
    shared.builder.sender.send_mount(&mount.id, &entry, cut);
    Ok(())
}

/// Packs the files in `data` as a layer in the new file `path`.
fn pack(data: &Path, path: &Path, stop: &Cancel) -> Result<(File, layer::Written), StepError> {
    let root = Root::open(data).map_err(|e| fs::FsError::new("open", data, e))?;
    let stop = stop.clone();
    let watch: layer::Watch = Arc::new(move |_| stop.check());
    let options = WriteOptions { compression: COMPRESSION, watch: Some(watch), ..WriteOptions::default() };
    let mut writer = LayerWriter::new(fs::create_new(path)?, &options);
    layer::whole_tree(&root)?.write_to(&mut writer)?;
    Ok(writer.finish()?)
}
