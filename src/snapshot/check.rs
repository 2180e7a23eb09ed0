//! Verification of what is kept of layers: trees, small files, and unpacked files.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rayon::prelude::*;

use crate::base::damage::Checked;
use crate::base::digest::{BlobDigest, DiffId};
use crate::base::fs::{self, FsError};
use crate::base::sealed;
use crate::layer::{self, BadTree, EntryKind, Form, Tree};
use crate::oci::descriptor::Layer;

use super::Error;
use super::layers::{Layers, TREE};
use super::snapshotter::directory_name;

/// The forms in which layers are unpacked.
const FORMS: [Form; 3] = [Form::Overlay { userxattr: false }, Form::Overlay { userxattr: true }, Form::Plain];

/// Some whole blob of each layer.
type Blobs = BTreeMap<DiffId, Layer>;

impl Layers<'_> {
    /// Reads everything that is kept of all layers. Where no tree tells every content, the blob in `blobs` is read. What
    /// cannot be verified counts as damaged: it can be derived again.
    pub(crate) fn check(&self, blobs: &Blobs) -> Result<Checked, Error> {
        let names = fs::list(self.dir())?;
        let checked = names.par_iter().map(|name| {
            let path = self.dir().join(name);
            match name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                Some(diff_id) => self.check_one(&path, diff_id, blobs),
                None => Ok(Checked::file(&path, 0, Some("not the directory of a layer".to_owned()))),
            }
        });
        checked.try_reduce(Checked::default, |a, b| Ok(a.and(b)))
    }

    fn check_one(&self, dir: &Path, diff_id: DiffId, blobs: &Blobs) -> Result<Checked, Error> {
        let path = dir.join(TREE);
        let (tree, mut checked) = match read_tree(&path) {
            Ok(Some((tree, bytes))) => (Some(tree), Checked::file(&path, bytes, None)),
            Ok(None) => (None, Checked::default()),
            Err(e) => (None, Checked::file(&path, 0, Some(e.to_string()))),
        };
        for name in fs::list(dir)? {
            self.limits.go_on().map_err(|e| FsError::new("read", dir, e))?;
            let (path, name) = (dir.join(&name), name.to_string_lossy().into_owned());
            let unsealed =
                |content: Vec<u8>| sealed::open(content).is_none().then(|| "its digest does not match".to_owned());
            checked = checked.and(if name == TREE {
                Checked::default()
            } else if name.starts_with("fs") {
                self.check_files(&path, &name, tree.as_ref(), blobs.get(&diff_id))?
            } else if let Some(hex) = name.strip_prefix("of-") {
                empty(&path, format!("sha256:{hex}").parse::<BlobDigest>().is_ok())
            } else if name.starts_with("whole-") {
                empty(&path, true)
            } else {
                Checked::draft(&path).unwrap_or_else(|| Checked::read(&path, unsealed))
            });
        }
        Ok(checked)
    }

    /// Compares unpacked files with the layer's tree, or with its blob.
    fn check_files(
        &self,
        path: &Path,
        name: &str,
        tree: Option<&Tree>,
        blob: Option<&Layer>,
    ) -> Result<Checked, Error> {
        let here = FORMS.into_iter().find(|form| directory_name(*form) == name);
        let form = here.unwrap_or(match name {
            _ if name.starts_with("fs2-plain") => Form::Plain,
            _ => Form::Overlay { userxattr: name.starts_with("fs2-user") },
        });
        let read;
        let tree = match (tree.filter(|tree| tells_contents(tree)), blob) {
            (Some(tree), _) => tree,
            (None, Some(layer)) => {
                read = match layer::read_tree_within(self.open(layer)?, layer.diff_id, &self.limits) {
                    Ok(tree) => tree,
                    Err(e) => return Ok(Checked::file(path, 0, Some(format!("its blob is not the layer: {e}")))),
                };
                &read
            }
            (None, None) => {
                return Ok(Checked::file(
                    path,
                    0,
                    Some("neither a tree nor a blob tells what belongs in it".to_owned()),
                ));
            }
        };
        let altered = match layer::audit(path, tree, form, here.is_some()) {
            Ok(altered) => altered,
            // It was removed meanwhile.
            Err(_) if std::fs::symlink_metadata(path).is_err() => return Ok(Checked::default()),
            Err(e) => return Ok(Checked::file(path, 0, Some(e.to_string()))),
        };
        let why = altered.split_first().map(|(first, more)| match more.len() {
            0 => first.to_string(),
            more => format!("{first}, and {more} more"),
        });
        let sizes = tree.entries().iter().filter_map(|entry| match entry.kind {
            EntryKind::File { size, .. } => Some(size),
            _ => None,
        });
        let (files, bytes) = sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size));
        Ok(Checked { files, ..Checked::file(path, bytes, why) })
    }
}

/// The tree at `path` with its length; `None`: there is none, or one of another version.
fn read_tree(path: &Path) -> io::Result<Option<(Tree, u64)>> {
    let read = || -> io::Result<(Tree, u64)> {
        let file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        Ok((Tree::read(io::BufReader::with_capacity(256 << 10, file), len)?, len))
    };
    match read() {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if matches!(e.get_ref().and_then(|e| e.downcast_ref()), Some(BadTree::Version(_))) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the tree has the digest of every file that is not empty.
fn tells_contents(tree: &Tree) -> bool {
    !tree.entries().iter().any(|entry| matches!(entry.kind, EntryKind::File { size: 1.., content: None }))
}

/// A file whose name says everything.
fn empty(path: &Path, named: bool) -> Checked {
    Checked::read(path, |content| (!named || !content.is_empty()).then(|| "not a note of kiln".to_owned()))
}
