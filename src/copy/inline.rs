//! Files given in the Dockerfile as heredocs (P-19), as trees.

use crate::base::digest::Sha256;
use crate::base::sparse::SparseRead;
use crate::base::time::Timestamp;
use crate::context::{Content, Error, FileKind, Meta, Node, Selected, SourceTree};

/// One regular file, mode 0644, owned by root, at the epoch.
pub(super) struct Inline {
    name: Vec<u8>,
    content: Vec<u8>,
}

impl Inline {
    pub(super) fn new(name: &str, content: &str) -> Self {
        Self { name: name.as_bytes().to_vec(), content: content.as_bytes().to_vec() }
    }

    /// The selection of the file.
    pub(super) fn selected(&self) -> Selected {
        let (name, path) = (self.name.clone(), self.name.clone());
        Selected { name, path, meta: self.meta(FileKind::File), below: Vec::new() }
    }

    fn meta(&self, kind: FileKind) -> Meta {
        let mode = if kind == FileKind::Dir { 0o755 } else { 0o644 };
        let (size, time) = (self.content.len() as u64, Timestamp::EPOCH);
        Meta { kind, mode, uid: 0, gid: 0, size, mtime: time, inode: None, ctime: time }
    }
}

impl SourceTree for Inline {
    fn lookup(&self, path: &[u8]) -> Result<Option<Meta>, Error> {
        let kind = if path.is_empty() { FileKind::Dir } else { FileKind::File };
        Ok((path.is_empty() || path == self.name).then(|| self.meta(kind)))
    }

    fn children(&self, _dir: &[u8]) -> Result<Vec<Node>, Error> {
        Ok(vec![Node { path: self.name.clone(), meta: self.meta(FileKind::File) }])
    }

    fn content(&self, _path: &[u8], _meta: &Meta) -> Result<Content, Error> {
        Ok(Content { digest: Some(Sha256::of(&self.content)), ..Content::default() })
    }

    fn open(&self, _path: &[u8], _meta: &Meta) -> Result<Box<dyn SparseRead + Send + '_>, Error> {
        Ok(Box::new(self.content.as_slice()))
    }
}
