//! Opening a store, or creating one.
//!
//! **Order.** `version` is written last: a store that has one is complete. An interrupted creation is completed by the next
//! process that opens the store.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::base::fs::{self, FsError};
use crate::base::publish;

use super::directory::Store;
use super::layout::MARKER;
use super::persist::{NEW_LAYOUT, SYNCED_LAYOUT};
use super::recover::{DIRECTORIES, foreign};
use super::{Error, scratch};

/// The format this code reads and writes.
pub const FORMAT: u64 = 1;

const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// What a store (or an image layout about to become one) may hold; anything else is somebody's files.
const OUR_NAMES: &[&str] = &[
    "blobs",
    "cache",
    "claims",
    "context",
    "fetched",
    "index.json",
    "layers",
    "lock",
    "lost+found",
    "mounts",
    "oci-layout",
    "scratch",
    "version",
];

impl Store {
    /// Opens the store at `root`, making it if the directory is missing or empty.
    ///
    /// Ok: the store has a format we know and the directories below exist. Scratch that dead processes left is
    /// removed as far as we may (S-132). Refuses stores of a later format (S-133) and directories that hold something
    /// else.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let mut store = Self::at(root);
        if store.check_version()? {
            store.mend_directories(DIRECTORIES);
        } else {
            store.create()?;
        }
        // What cannot be removed now (files of subordinate ids, a read-only store) waits for a process that may.
        store.pruner = scratch::sweep(&store.scratch_dir());
        Ok(store)
    }

    /// Whether the store exists in a format we know. A format that cannot be read any more is written again if everything
    /// around it is a store's.
    fn check_version(&self) -> Result<bool, Error> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root().join("version");
        let mut text = [0u8; 32];
        let read = fs::open(&path).and_then(|mut file| {
            let failed = |e| FsError::new("read", &path, e);
            let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
            self.layout_synced.store(mode == SYNCED_LAYOUT, Ordering::Relaxed);
            file.read(&mut text).map_err(failed)
        });
        let why = match read {
            Ok(n) => {
                let text = String::from_utf8_lossy(&text[..n]);
                match text.trim().parse::<u64>() {
                    Ok(found) if found > FORMAT => {
                        return Err(Error::Newer { root: self.root().to_owned(), found, known: FORMAT });
                    }
                    Ok(found) if found > 0 => return Ok(true),
                    _ => format!("want a format number, found {:?}", text.trim()),
                }
            }
            Err(e) if e.is_not_found() => return Ok(false),
            Err(e) if matches!(e.source.kind(), io::ErrorKind::NotADirectory) => return Err(self.unusable(e)),
            Err(e) => e.to_string(),
        };
        self.create().map_err(|_| Error::Damaged { path: path.clone(), why: why.clone() })?;
        self.notices().note(format!("wrote {} again", path.display()), why);
        Ok(true)
    }

    /// Lays the store out. Two processes may try at once; dying half way leaves what the next open completes.
    fn create(&self) -> Result<(), Error> {
        let laid = || -> Result<Option<String>, FsError> {
            fs::ensure_dir(self.root())?;
            let _lock = self.names_lock()?;
            if let Some(name) = foreign(fs::list(self.root())?, OUR_NAMES) {
                return Ok(Some(name));
            }
            make_private(self.root())?;
            for dir in DIRECTORIES {
                fs::make_dir(&self.root().join(dir))?;
            }
            for (name, content) in [("oci-layout", MARKER), ("index.json", EMPTY_INDEX)] {
                let path = self.root().join(name);
                if std::fs::symlink_metadata(&path).is_err() {
                    publish::atomic(&path, content, 0o644)?;
                }
            }
            fs::open_lock(&self.lock_path())?;
            // Last: from here on the store counts as laid out. Whoever names the first image syncs it.
            let version = format!("{FORMAT}\n");
            publish::atomic_over(&self.root().join("version"), version.as_bytes(), NEW_LAYOUT)?;
            self.layout_synced.store(false, Ordering::Relaxed);
            Ok(None)
        };
        match laid().map_err(|e| self.unusable(e))? {
            None => Ok(()),
            Some(example) => Err(Error::NotAStore { root: self.root().to_owned(), example }),
        }
    }

    fn unusable(&self, source: FsError) -> Error {
        Error::Unusable { root: self.root().to_owned(), source }
    }
}

/// Private code is in layers: nobody else may look (S-135).
fn make_private(root: &Path) -> Result<(), FsError> {
    use std::os::unix::fs::PermissionsExt;
    let dir = fs::open(root)?;
    let mode = dir.metadata().map_err(|e| FsError::new("stat", root, e))?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    dir.set_permissions(std::fs::Permissions::from_mode(0o700)).map_err(|e| FsError::new("set mode of", root, e))
}
