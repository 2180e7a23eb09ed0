//! Atomic publication of files.
//!
//! **Order.** A file is written under a temporary name in the same file system, then renamed to its final name: a reader
//! sees the old file, the new file or none, never a part. [`durable()`] also syncs file and directory, so that the name
//! survives a power cut; other files are synced later, if at all ([`super::durable`]). Long files are written back while they
//! are written, which makes a later sync short.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::durable::{self, Unsynced, WriteBack};
use super::fs::{self, FsError};
use super::sparse::SparseWriter;
use super::unfinished::Unfinished;
use super::unique;

/// How the names of drafts begin.
const DRAFT: &str = ".draft-";

/// A file that is being written; dropping it without [`Draft::publish`] removes it.
#[derive(Debug)]
pub(crate) struct Draft {
    file: SparseWriter<File>,
    path: Unfinished,
    kept: bool,
    /// Bytes written since write-back was last requested.
    fresh: u64,
    back: Option<WriteBack>,
}

impl Draft {
    /// Creates a draft in `dir`, which must be on the file system of the final name.
    pub(crate) fn new(dir: &Path) -> Result<Self, FsError> {
        loop {
            let path = Unfinished::new(&dir.join(unique::name(DRAFT)));
            match fs::create_new(path.path()) {
                Ok(file) => {
                    let file = SparseWriter::new(file);
                    return Ok(Self { file, path, kept: false, fresh: 0, back: None });
                }
                Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {}
                // The temporary name means nothing to the user; the directory does.
                Err(e) => return Err(FsError::new("create a file in", dir, e.source)),
            }
        }
    }

    /// The open file. Its length is right only after [`Draft::set_len`].
    pub(crate) fn file(&self) -> &File {
        self.file.inner()
    }

    /// Ok: the file has its full length, also if it ends in zeros, which are stored as a hole.
    pub(crate) fn set_len(&mut self) -> io::Result<()> {
        self.file.set_len()
    }

    /// The path of the draft until it is published.
    pub(crate) fn path(&self) -> &Path {
        self.path.path()
    }

    /// Writes back what was written, in the background.
    fn write_back(&mut self) -> io::Result<()> {
        self.fresh = 0;
        match &self.back {
            Some(back) => back.request(),
            None => self.back = Some(WriteBack::start(self.file.inner())?),
        }
        Ok(())
    }

    /// Ok: `to` names exactly what was written; a file that was there was replaced atomically.
    pub(crate) fn publish(self, to: &Path, mode: u32) -> Result<(), FsError> {
        match self.name(to, mode)? {
            Some(back) => back.finish().map_err(|e| FsError::new("write", to, e)),
            None => Ok(()),
        }
    }

    /// [`Draft::publish`] that first removes a directory in the file's place, left there by damage.
    fn publish_over(self, to: &Path, mode: u32) -> Result<(), FsError> {
        fs::clear(to)?;
        self.publish(to, mode)
    }

    /// `publish_over` that notes the file in `unsynced`.
    pub(crate) fn publish_unsynced(self, to: &Path, mode: u32, unsynced: &Unsynced) -> Result<(), FsError> {
        fs::clear(to)?;
        let back = self.name(to, mode)?;
        unsynced.note(to, back);
        Ok(())
    }

    /// Ok: `to` names what was written; the write-back that is returned may still be running.
    fn name(mut self, to: &Path, mode: u32) -> Result<Option<WriteBack>, FsError> {
        use std::os::unix::fs::PermissionsExt;
        self.set_len().map_err(|e| FsError::new("write", self.path.path(), e))?;
        self.file()
            .set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(|e| FsError::new("set mode of", self.path.path(), e))?;
        if let Some(back) = &self.back {
            back.request();
        }
        fs::rename(self.path.path(), to)?;
        self.kept = true;
        Ok(self.back.take())
    }

    /// Ok(true): `to` names exactly what was written. Ok(false): the name was taken, and what was written is gone.
    pub(crate) fn publish_new(mut self, to: &Path, mode: u32) -> Result<bool, FsError> {
        use std::os::unix::fs::PermissionsExt;
        self.set_len().map_err(|e| FsError::new("write", self.path.path(), e))?;
        let permissions = std::fs::Permissions::from_mode(mode);
        self.file().set_permissions(permissions).map_err(|e| FsError::new("set mode of", self.path.path(), e))?;
        self.kept = fs::rename_new(self.path.path(), to)?;
        Ok(self.kept)
    }

    /// [`Draft::publish`] that survives a power cut.
    pub(crate) fn publish_durably(mut self, to: &Path, mode: u32) -> Result<(), FsError> {
        self.set_len().map_err(|e| FsError::new("write", to, e))?;
        self.file().sync_all().map_err(|e| FsError::new("sync", to, e))?;
        let dir = parent(to);
        self.publish(to, mode)?;
        durable::sync(&[dir.to_owned()].into())
    }
}

impl Write for Draft {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.fresh += n as u64;
        if self.fresh >= durable::PIECE {
            self.write_back()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: the next sweep removes what is left.
            let _ = fs::remove_file(self.path.path());
        }
    }
}

/// Ok: `path` holds exactly `bytes`, atomically and durably (file and directory synced).
pub(crate) fn durable(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let mut draft = Draft::new(parent(path))?;
    draft.write_all(bytes).map_err(|e| FsError::new("write", path, e))?;
    draft.publish_durably(path, mode)
}

/// Ok: `path` holds exactly `bytes`, atomically; a power cut may lose it.
pub(crate) fn atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    atomic_by(path, mode, |draft| draft.write_all(bytes))
}

/// [`atomic`] that creates the directory if it is missing and removes what damage left in the way.
pub(crate) fn atomic_over(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let mut draft = match Draft::new(parent(path)) {
        Err(_) => {
            fs::make_dir(parent(path))?;
            Draft::new(parent(path))?
        }
        made => made?,
    };
    draft.write_all(bytes).map_err(|e| FsError::new("write", path, e))?;
    draft.publish_over(path, mode)
}

/// [`atomic`] with the content that `write` writes.
pub(crate) fn atomic_by(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut Draft) -> io::Result<()>,
) -> Result<(), FsError> {
    let mut draft = Draft::new(parent(path))?;
    write(&mut draft).map_err(|e| FsError::new("write", path, e))?;
    draft.publish(path, mode)
}

/// Whether a draft that was not published has the name of `path`.
pub(crate) fn is_draft(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(DRAFT.as_bytes()))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
