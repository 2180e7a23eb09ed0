//! The only way a named file appears.
//!
//! **Order.** Write under a temporary name in the same file system → rename over the final name. A reader sees the
//! old file, the new file or none, never a part. With `durable`, file and directory are also synced, so
//! the name survives a power cut. Others are synced later, if at all: see [`super::durable`]. What is long is written back
//! while it is written, so that syncing it later waits for its end only.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::durable::{self, Unsynced, WriteBack};
use super::fs::{self, FsError};
use super::sparse::SparseWriter;
use super::unfinished::Unfinished;
use super::unique;

/// A file being written; dropping it without [`Draft::publish`] removes it.
#[derive(Debug)]
pub struct Draft {
    file: SparseWriter<File>,
    path: Unfinished,
    kept: bool,
    /// Bytes that were written since they were last written back.
    fresh: u64,
    back: Option<WriteBack>,
}

impl Draft {
    /// Opens a draft in `dir`, which must be on the file system of the final name.
    pub fn new(dir: &Path) -> Result<Self, FsError> {
        loop {
            let path = Unfinished::new(&dir.join(unique::name(".draft-")));
            match fs::create_new(path.path()) {
                Ok(file) => {
                    let file = SparseWriter::new(file);
                    return Ok(Self { file, path, kept: false, fresh: 0, back: None });
                }
                Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {}
                // The name is ours and says nothing to anybody; what is wrong is the directory.
                Err(e) => return Err(FsError::new("create a file in", dir, e.source)),
            }
        }
    }

    /// The open file, for reading back what was written before [`Draft::settle`].
    pub fn file(&self) -> &File {
        self.file.inner()
    }

    /// Ok: the file is as long as what was written, also where that ended in zeros, which take no space.
    pub fn settle(&mut self) -> io::Result<()> {
        self.file.settle()
    }

    /// Where the draft is until it is published.
    pub fn path(&self) -> &Path {
        self.path.path()
    }

    /// Writes back what was written, beside what goes on here.
    fn write_back(&mut self) -> io::Result<()> {
        self.fresh = 0;
        match &self.back {
            Some(back) => back.go_on(),
            None => self.back = Some(WriteBack::start(self.file.inner())?),
        }
        Ok(())
    }

    /// Ok: `to` names exactly what was written, atomically; a file that was there is replaced.
    pub fn publish(self, to: &Path, mode: u32) -> Result<(), FsError> {
        match self.name(to, mode)? {
            Some(back) => back.end().map_err(|e| FsError::new("write", to, e)),
            None => Ok(()),
        }
    }

    /// [`Draft::publish`] for a name of ours: a directory that damage put there goes.
    pub fn publish_over(self, to: &Path, mode: u32) -> Result<(), FsError> {
        fs::clear(to)?;
        self.publish(to, mode)
    }

    /// [`Draft::publish_over`] of a file that `unsynced` is to know.
    pub fn publish_unsynced(self, to: &Path, mode: u32, unsynced: &Unsynced) -> Result<(), FsError> {
        fs::clear(to)?;
        let back = self.name(to, mode)?;
        unsynced.note(to, back);
        Ok(())
    }

    /// Ok: `to` names what was written, which may still be on its way to the disk.
    fn name(mut self, to: &Path, mode: u32) -> Result<Option<WriteBack>, FsError> {
        use std::os::unix::fs::PermissionsExt;
        self.settle().map_err(|e| FsError::new("write", self.path.path(), e))?;
        self.file()
            .set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(|e| FsError::new("set mode of", self.path.path(), e))?;
        if let Some(back) = &self.back {
            back.go_on();
        }
        fs::rename(self.path.path(), to)?;
        self.kept = true;
        Ok(self.back.take())
    }

    /// [`Draft::publish`]. Ok: `to` names what was written after a power cut, too.
    pub fn publish_durably(mut self, to: &Path, mode: u32) -> Result<(), FsError> {
        self.settle().map_err(|e| FsError::new("write", to, e))?;
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
            // Already failing, or scratch that the next sweep takes: nothing better to do with the error.
            let _ = fs::remove_file(self.path.path());
        }
    }
}

/// Ok: `path` holds exactly `bytes`, atomically and durably (file and directory synced).
pub fn durable(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let mut draft = Draft::new(parent(path))?;
    draft.write_all(bytes).map_err(|e| FsError::new("write", path, e))?;
    draft.publish_durably(path, mode)
}

/// Ok: `path` holds exactly `bytes`, atomically; a power cut may lose it.
pub fn atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    atomic_by(path, mode, |draft| draft.write_all(bytes))
}

/// [`atomic`] for a name of ours: its directory is made if it is missing, and what damage put in the way goes.
pub fn atomic_over(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
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

/// The same for what `write` writes.
pub fn atomic_by(path: &Path, mode: u32, write: impl FnOnce(&mut Draft) -> io::Result<()>) -> Result<(), FsError> {
    let mut draft = Draft::new(parent(path))?;
    write(&mut draft).map_err(|e| FsError::new("write", path, e))?;
    draft.publish(path, mode)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
