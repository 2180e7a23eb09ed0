//! The layers of an image or stage as a source of files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::base::digest::{ContentDigest, Sha256};
use crate::base::rooted::Root;
use crate::base::sparse::{SparseFile, SparseRead};
use crate::context::{Content, Error, FileKind, Inode, Meta, Node, SourceTree};
use crate::layer::{self, MergedEntry, MergedTree, RelPath};

/// Opens files of layers.
pub(crate) trait LayerFiles: Sync {
    /// Opens the regular file `found` for reading.
    fn open(&self, found: &MergedEntry<'_>) -> io::Result<File>;
}

/// Unpacked layers, bottom first, in the order of [`MergedTree::layers`].
#[derive(Debug, Default)]
pub(crate) struct LayerDirs(Vec<Root>);

impl LayerDirs {
    /// Opens the directories of the layers.
    pub(crate) fn open(dirs: &[PathBuf]) -> io::Result<Self> {
        dirs.iter().map(|dir| Root::open(dir)).collect::<io::Result<_>>().map(Self)
    }
}

impl LayerFiles for LayerDirs {
    fn open(&self, found: &MergedEntry<'_>) -> io::Result<File> {
        let dir = found.layer.and_then(|layer| self.0.get(layer)).ok_or(io::ErrorKind::NotFound)?;
        dir.open_file(found.inode().path.as_os_str())
    }
}

/// Layers to copy from (C-18). Files are read only where the tree of their layer lacks the digest.
pub(crate) struct LayerTree<'a> {
    tree: &'a MergedTree,
    files: &'a dyn LayerFiles,
    /// Numbers of the files that have hard links, by layer and first name.
    linked: BTreeMap<(usize, &'a RelPath), u64>,
    learnt: Mutex<Vec<Learnt>>,
}

/// The digest of a file that the tree of its layer lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Learnt {
    /// Index of the layer in [`MergedTree::layers`].
    pub layer: usize,
    /// Path in the layer.
    pub path: RelPath,
    /// Digest of its bytes.
    pub content: ContentDigest,
}

impl<'a> LayerTree<'a> {
    /// The files of `tree`, opened by `files`.
    pub(crate) fn new(tree: &'a MergedTree, files: &'a dyn LayerFiles) -> Self {
        let mut linked = BTreeMap::new();
        for (number, layer) in tree.layers().iter().enumerate() {
            for entry in layer.entries() {
                if let layer::EntryKind::Hardlink { target } = &entry.kind {
                    let next = linked.len() as u64;
                    linked.entry((number, target)).or_insert(next);
                }
            }
        }
        Self { tree, files, linked, learnt: Mutex::default() }
    }

    /// The digests of the files that had to be read, for [`layer::Tree::set_content`].
    pub(crate) fn learnt(&self) -> Vec<Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, path: &[u8]) -> Option<MergedEntry<'a>> {
        self.tree.get(&RelPath::parse(path).ok()?)
    }

    fn meta(&self, found: &MergedEntry<'_>) -> Option<Meta> {
        let (kind, size) = match found.kind() {
            layer::EntryKind::File { size, .. } => (FileKind::File, *size),
            layer::EntryKind::Dir => (FileKind::Dir, 0),
            layer::EntryKind::Symlink { target } => (FileKind::Symlink, target.len() as u64),
            layer::EntryKind::Char { major, minor } => (FileKind::Char { major: *major, minor: *minor }, 0),
            layer::EntryKind::Block { major, minor } => (FileKind::Block { major: *major, minor: *minor }, 0),
            layer::EntryKind::Fifo => (FileKind::Fifo, 0),
            layer::EntryKind::Hardlink { .. } | layer::EntryKind::Whiteout | layer::EntryKind::Opaque => return None,
        };
        let meta = found.meta();
        let number = found.layer.and_then(|layer| self.linked.get(&(layer, &found.inode().path)));
        let inode = number.map(|&number| Inode { device: 0, number, links: 2 });
        let (mode, uid, gid, mtime) = (meta.mode, meta.uid, meta.gid, meta.mtime);
        Some(Meta { kind, mode, uid, gid, size, mtime, inode, ctime: Default::default() })
    }

    fn hash(&self, found: &MergedEntry<'_>) -> io::Result<Sha256> {
        let size = if let layer::EntryKind::File { size, .. } = found.kind() { *size } else { 0 };
        layer::digest_of_file(self.files.open(found)?, size)
    }
}

impl SourceTree for LayerTree<'_> {
    fn lookup(&self, path: &[u8]) -> Result<Option<Meta>, Error> {
        Ok(self.find(path).and_then(|found| self.meta(&found)))
    }

    fn children(&self, dir: &[u8]) -> Result<Vec<Node>, Error> {
        let Ok(dir) = RelPath::parse(dir) else { return Ok(Vec::new()) };
        let node = |found: MergedEntry<'_>| Some(Node { path: found.path().name().to_vec(), meta: self.meta(&found)? });
        Ok(self.tree.children(&dir).filter_map(node).collect())
    }

    fn content(&self, path: &[u8], _meta: &Meta) -> Result<Content, Error> {
        let gone = || Error::io("look up", path, io::ErrorKind::NotFound);
        let found = self.find(path).ok_or_else(gone)?;
        let mut content = Content { xattrs: (*found.meta().xattrs).clone(), ..Content::default() };
        match found.kind() {
            layer::EntryKind::File { content: Some(digest), .. } => content.digest = Some(digest.0),
            layer::EntryKind::File { content: None, .. } => {
                let digest = self.hash(&found).map_err(|e| Error::io("read", path, e))?;
                if let Some(layer) = found.layer {
                    let (path, content) = (found.inode().path.clone(), ContentDigest(digest));
                    self.learnt.lock().unwrap_or_else(PoisonError::into_inner).push(Learnt { layer, path, content });
                }
                content.digest = Some(digest);
            }
            layer::EntryKind::Symlink { target } => content.link.clone_from(target),
            _ => {}
        }
        Ok(content)
    }

    fn open(&self, path: &[u8], meta: &Meta) -> Result<Box<dyn SparseRead + Send + '_>, Error> {
        let found = self.find(path).ok_or_else(|| Error::io("open", path, io::ErrorKind::NotFound))?;
        let file = self.files.open(&found).map_err(|e| Error::io("open", path, e))?;
        Ok(Box::new(SparseFile::new(file, meta.size)))
    }
}
