//! An image's file system leaves the store: as one tar, or as files in a directory (O-64, O-65).
//!
//! **Holds.** The tar has what a container would see, with its true owners, modes, devices and attributes and without
//! whiteouts; equal images give equal tars. The directory has the files as the caller's own: no owners, devices or
//! attributes, setuid and setgid bits cleared, and nothing in it is followed on the way (S-96).
//! **Order.** Layers are unpacked in scratch first: nothing is written before every one of them was what its digest
//! says.

mod local;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::base::fs::{self, FsError};
use crate::base::rooted::Root;
use crate::base::sparse::SparseFile;
use crate::layer::{
    self, Compression, Entry, Form, Found, Kind, LayerWriter, MergedTree, Output, RelPath, WriteOptions,
};
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::descriptor::Descriptor;
use crate::oci::image::{Image, ImageError};
use crate::oci::platform::Platform;
use crate::store::{self, Scratch, Store};

pub use local::Skipped;

/// Why a file system could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The image is none.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A layer is missing or damaged.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer cannot be unpacked or packed.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The file system said no.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A directory stands where the image has something else; what is in it may be somebody's.
    #[error("{} is a directory, the image has a file there", path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
    },
}

/// The file system of one image, its layers unpacked in scratch for as long as this lives.
pub struct Rootfs {
    merged: MergedTree,
    layers: Vec<Root>,
    _scratch: Scratch,
}

impl Rootfs {
    /// Unpacks the layers of the image `target`. Ok: they were what their digests say.
    pub fn open(store: &Store, target: &Descriptor) -> Result<Self, RootfsError> {
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
    pub fn write_tar<W: Output>(&self, out: W, path: &Path) -> Result<W, RootfsError> {
        let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
        let mut writer = LayerWriter::new(out, &options);
        let mut links = Links::default();
        for found in self.merged.iter() {
            let mut entry = Entry::new(found.path().clone(), found.kind().clone(), found.meta().clone());
            if let Some(first) = links.first(&found) {
                entry.kind = Kind::Hardlink { target: first.clone() };
            }
            if let Kind::File { size: size @ 1.., .. } = entry.kind {
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
    fn content(&self, found: &Found<'_>) -> Result<std::fs::File, layer::Error> {
        let source = found.layer.and_then(|layer| self.layers.get(layer));
        let file = match source {
            Some(root) => root.open_file(found.inode().path.as_os_str()),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        file.map_err(|source| layer::Error::Read { path: found.path().clone(), source })
    }
}

/// Which names are further names of a file that was written already.
#[derive(Default)]
struct Links<'a>(BTreeMap<(usize, &'a RelPath), &'a RelPath>);

impl<'a> Links<'a> {
    /// The first name of the file at `found`; `None`: this is it.
    fn first(&mut self, found: &Found<'a>) -> Option<&'a RelPath> {
        let inode = (found.layer?, &found.inode().path);
        if found.is_dir() {
            return None;
        }
        match self.0.entry(inode) {
            std::collections::btree_map::Entry::Occupied(first) => Some(first.get()),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(found.path());
                None
            }
        }
    }
}
