//! A shared cache in a directory, for example on a disk that many machines mount.

use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::base::fs::{self, FsError};
use crate::base::publish::Draft;
use crate::base::verify::Verified;
use crate::oci::blob::{BlobSource, BlobStore};
use crate::oci::descriptor::Descriptor;

use super::entry::MAX_ENTRY;
use super::{Entry, EntryName, Remote, RemoteError, UploadClaim};

/// A cache in a directory.
pub(crate) struct Directory {
    dir: PathBuf,
    name: String,
}

impl Directory {
    /// The cache in `dir`; the first write creates it.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), name: format!("directory {}", dir.display()) }
    }

    fn entry(&self, name: &EntryName) -> PathBuf {
        let hex = name.key().hex();
        self.dir.join("v1").join(name.kind()).join(&hex[..2]).join(hex)
    }

    fn claimed(&self, name: &EntryName) -> PathBuf {
        let hex = name.key().hex();
        self.dir.join("v1/claim").join(&hex[..2]).join(hex)
    }

    fn blob(&self, blob: &Descriptor) -> PathBuf {
        self.dir.join("blobs/sha256").join(blob.digest.hex())
    }

    /// A new file beside `path`, whose directory is made.
    fn draft(path: &Path) -> Result<Draft, FsError> {
        let dir = path.parent().expect("files of a cache are in directories");
        std::fs::create_dir_all(dir).map_err(|e| FsError::new("create", dir, e))?;
        Draft::new(dir)
    }
}

impl Remote for Directory {
    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, name: &EntryName) -> Result<Option<Entry>, RemoteError> {
        let path = self.entry(name);
        let invalid = |why: String| RemoteError::Invalid { name: path.display().to_string(), why };
        match fs::read_opt(&path)? {
            None => Ok(None),
            Some(bytes) if bytes.len() > MAX_ENTRY => Err(invalid("it is too long for an entry".to_owned())),
            Some(bytes) => Entry::parse(name, &bytes).map(Some).map_err(invalid),
        }
    }

    fn has(&self, name: &EntryName) -> Result<bool, RemoteError> {
        Ok(self.entry(name).exists())
    }

    fn fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> Result<(), RemoteError> {
        let path = self.blob(blob);
        let mut file = fs::open(&path)?;
        Ok(store.accept(blob, &mut file)?)
    }

    fn part(&self, blob: &Descriptor, range: Range<u64>) -> Result<Box<dyn Read + Send + '_>, RemoteError> {
        let path = self.blob(blob);
        let mut file = fs::open(&path)?;
        file.seek(SeekFrom::Start(range.start)).map_err(|e| FsError::new("read", &path, e))?;
        Ok(Box::new(file.take(range.end - range.start)))
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        let meta = std::fs::symlink_metadata(self.blob(blob));
        Ok(meta.is_ok_and(|meta| meta.is_file() && meta.len() == blob.size))
    }

    fn put_blob(&self, blob: &Descriptor, from: &dyn BlobSource) -> Result<(), RemoteError> {
        let path = self.blob(blob);
        if self.has_blob(blob)? {
            return Ok(());
        }
        let failed = |e: io::Error| FsError::new("write", &path, e);
        let mut draft = Self::draft(&path)?;
        let mut content = Verified::new(from.open(blob)?, blob.digest.0, blob.size);
        io::copy(&mut content, &mut draft).map_err(failed)?;
        Ok(draft.publish(&path, 0o644)?)
    }

    fn put(&self, entry: &Entry, replaces: bool) -> Result<bool, RemoteError> {
        let path = self.entry(&entry.name);
        let mut draft = Self::draft(&path)?;
        io::Write::write_all(&mut draft, &entry.to_bytes()).map_err(|e| FsError::new("write", &path, e))?;
        let new = match replaces {
            true => draft.publish(&path, 0o644).map(|()| true)?,
            false => draft.publish_new(&path, 0o644)?,
        };
        // A claim that stays ends by itself.
        let _ = fs::remove(&self.claimed(&entry.claimed()));
        Ok(new)
    }

    fn claim(&self, claim: &UploadClaim) -> Result<Option<UploadClaim>, RemoteError> {
        let path = self.claimed(&claim.name);
        let draft = || -> Result<Draft, FsError> {
            let mut draft = Self::draft(&path)?;
            io::Write::write_all(&mut draft, &claim.to_bytes()).map_err(|e| FsError::new("write", &path, e))?;
            Ok(draft)
        };
        if draft()?.publish_new(&path, 0o644)? {
            return Ok(None);
        }
        let held = fs::read_opt(&path)?.and_then(|bytes| UploadClaim::parse(&bytes)).filter(|held| held.bars(claim));
        if held.is_none() {
            draft()?.publish(&path, 0o644)?;
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::digest::{DiffId, Sha256, StepKey};
    use crate::base::sparse::SparseRead;
    use crate::cache::Made;
    use crate::cache::remote::LayerEntry;
    use crate::oci::blob::BlobError;
    use crate::oci::descriptor::LAYER_TAR;

    struct Bytes(&'static [u8]);

    impl BlobSource for Bytes {
        fn open(&self, _: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
            Ok(Box::new(self.0))
        }
    }

    #[test]
    fn entry_is_written_once_and_blobs_are_verified() {
        let scratch = tempfile::tempdir().expect("a directory");
        let cache = Directory::new(&scratch.path().join("cache"));
        let key = StepKey(Sha256::of(b"key"));
        let blob = Descriptor::of(LAYER_TAR, b"layer");
        let entry = |plain: &[u8]| {
            let (diff_id, blobs) = (DiffId(Sha256::of(plain)), BTreeMap::from([("plain".to_owned(), blob.clone())]));
            Entry::of_layer(key, LayerEntry { key, diff_id, blobs, parts: None, made: Made::default() })
        };
        let name = EntryName::Step(key);
        assert!(cache.get(&name).expect("no entry").is_none());
        assert!(cache.put_blob(&blob, &Bytes(b"other")).is_err());
        cache.put_blob(&blob, &Bytes(b"layer")).expect("the right bytes");
        assert!(cache.put(&entry(b"first"), false).expect("a new entry"));
        assert!(!cache.put(&entry(b"second"), false).expect("one that is there"));
        assert_eq!(cache.get(&name).expect("an entry"), Some(entry(b"first")));
        assert!(cache.put(&entry(b"second"), true).expect("another one"));
        assert_eq!(cache.get(&name).expect("an entry"), Some(entry(b"second")));
        assert!(cache.has(&name).expect("an entry"));
    }
}
