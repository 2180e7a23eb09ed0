//! The file system of an image, and the tar of it.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::base::fs::{self, FsError};
use crate::base::rooted::Root;
use crate::base::sparse::SparseFile;
use crate::layer::{
    self, Compression, Entry, EntryKind, Form, LayerWriter, MergedEntry, MergedTree, Output, WriteOptions,
};
use crate::oci::blob::BlobSource;
use crate::oci::descriptor::Descriptor;
use crate::oci::image::Image;
use crate::oci::platform::Platform;
use crate::store::{Scratch, Store};

use super::error::RootfsError;
use super::links::Links;

/// The file system of one image, its layers unpacked in scratch for as long as this lives.
pub(crate) struct Rootfs {
    pub(super) merged: MergedTree,
    layers: Vec<Root>,
    _scratch: Scratch,
}

impl Rootfs {
    /// Unpacks the layers of the image `target`. Ok: every layer matched its digest.
    pub(crate) fn open(store: &Store, target: &Descriptor) -> Result<Self, RootfsError> {
        let image = Image::read(store, target, &Platform::host())?;
        let scratch = store.scratch()?;
        let pairs: Vec<_> = image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids).enumerate().collect();
        let unpacked: Result<Vec<_>, RootfsError> = pairs
            .into_par_iter()
            .map(|(number, (blob, diff_id))| {
                let dir = scratch.path().join(number.to_string());
                fs::create_dir(&dir, 0o700)?;
                let tree = layer::unpack(store.open(blob)?, &dir, *diff_id, Form::Plain)?;
                let root = Root::open(&dir).map_err(|e| FsError::new("open", &dir, e))?;
                Ok((Arc::new(tree), root))
            })
            .collect();
        let (trees, layers): (Vec<_>, Vec<_>) = unpacked?.into_iter().unzip();
        Ok(Self { merged: MergedTree::over(trees), layers, _scratch: scratch })
    }

    /// Writes everything as one tar. Ok: `out`, which errors call `path`, took all of it.
    pub(crate) fn write_tar<W: Output>(&self, out: W, path: &Path) -> Result<W, RootfsError> {
        let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
        let mut writer = LayerWriter::new(out, &options);
        let mut links = Links::default();
        for found in self.merged.iter() {
            let mut entry = Entry::new(found.path().clone(), found.kind().clone(), found.meta().clone());
            if let Some(first) = links.first(&found) {
                entry.kind = EntryKind::Hardlink { target: first.clone() };
            }
            if let EntryKind::File { size: size @ 1.., .. } = entry.kind {
                let file = self.content(&found)?;
                writer.append(entry, &mut SparseFile::new(file, size))?;
            } else {
                writer.append_empty(entry)?;
            }
        }
        let (mut out, _) = writer.finish()?;
        out.flush().map_err(|e| FsError::new("write", path, e))?;
        Ok(out)
    }

    /// The bytes of a file.
    pub(super) fn content(&self, found: &MergedEntry<'_>) -> Result<std::fs::File, layer::Error> {
        let source = found.layer.and_then(|layer| self.layers.get(layer));
        let file = match source {
            Some(root) => root.open_file(found.inode().path.as_os_str()),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        file.map_err(|source| layer::Error::Read { path: found.path().clone(), source })
    }
}
