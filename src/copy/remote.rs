//! URLs and repositories as trees.

use std::fs::File;

use crate::base::sparse::{SparseFile, SparseRead};
use crate::base::verify::Verified;
use crate::context::{Content, Dir, DirOptions, Error, FileKind, Meta, Node, Selected, SourceTree};
use crate::fetch::{Commit, FetchedFile, GitUrl, Remote};

/// A fetched file: mode 0600, owned by root, with the time that its server reports (C-23).
pub(super) struct Download(FetchedFile);

/// Fetches `url`.
pub(super) fn http(url: &str, checksum: Option<&str>, remote: &Remote<'_>) -> Result<Download, super::Error> {
    Ok(Download(remote.http(url, checksum)?))
}

/// A repository at a commit.
pub(super) struct Pinned {
    url: GitUrl,
    commit: Commit,
    keep: bool,
}

impl Pinned {
    /// Resolves the commit of `url`; nothing is fetched.
    pub(super) fn new(
        url: &str,
        checksum: Option<&str>,
        keep: bool,
        remote: &Remote<'_>,
    ) -> Result<Self, super::Error> {
        let url = GitUrl::parse(url)?;
        let commit = remote.commit(&url, checksum, false)?;
        Ok(Self { url, commit, keep })
    }

    /// The commit's id.
    pub(super) fn id(&self) -> &str {
        &self.commit.id
    }

    /// Fetches the files of the commit. Ignore files do not apply to them (G-2).
    pub(super) fn checkout(&self, remote: &Remote<'_>) -> Result<Dir, super::Error> {
        let dir = remote.checkout(&self.url, &self.commit, self.keep, false)?;
        let options = DirOptions { stop: remote.stop.cloned(), ..DirOptions::default() };
        Ok(Dir::open(&dir, &options)?)
    }
}

impl Download {
    /// The selection of the file.
    pub(super) fn selected(&self) -> Selected {
        let name = self.0.name.clone().into_bytes();
        Selected { name: name.clone(), path: name, meta: self.meta(FileKind::File), below: Vec::new() }
    }

    fn meta(&self, kind: FileKind) -> Meta {
        let mode = if kind == FileKind::Dir { 0o755 } else { 0o600 };
        let ctime = crate::base::time::Timestamp::EPOCH;
        Meta { kind, mode, uid: 0, gid: 0, size: self.0.size, mtime: self.0.mtime, inode: None, ctime }
    }
}

impl SourceTree for Download {
    fn lookup(&self, path: &[u8]) -> Result<Option<Meta>, Error> {
        let kind = if path.is_empty() { FileKind::Dir } else { FileKind::File };
        Ok((path.is_empty() || path == self.0.name.as_bytes()).then(|| self.meta(kind)))
    }

    fn children(&self, _dir: &[u8]) -> Result<Vec<Node>, Error> {
        Ok(vec![Node { path: self.0.name.clone().into_bytes(), meta: self.meta(FileKind::File) }])
    }

    fn content(&self, _path: &[u8], _meta: &Meta) -> Result<Content, Error> {
        Ok(Content { digest: Some(self.0.digest), ..Content::default() })
    }

    fn open(&self, path: &[u8], _meta: &Meta) -> Result<Box<dyn SparseRead + Send + '_>, Error> {
        let file = File::open(&self.0.path).map_err(|e| Error::io("open", path, e))?;
        // It may have been in the cache for a long time.
        Ok(Box::new(Verified::new(SparseFile::new(file, self.0.size), self.0.digest, self.0.size)))
    }
}
