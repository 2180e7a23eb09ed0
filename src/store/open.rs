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
pub(crate) const FORMAT: u64 = 1;

const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// What the directory of a store, or of an image layout that becomes one, may hold. Anything else is foreign.
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
    /// Opens the store at `root`, and creates it if the directory is missing or empty.
    ///
    /// Ok: the store has a known format, and its directories exist. Scratch of dead processes is removed as far as this
    /// process may (S-132). Stores of a later format (S-133) and directories with foreign files are errors.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let mut store = Self::at(root);
        if store.check_version()? {
            store.repair_directories(DIRECTORIES);
        } else {
            store.create()?;
        }
        // What this process may not remove (files of subordinate ids, a read-only store) is left to others.
        store.pruner = scratch::sweep(&store.scratch_dir());
        Ok(store)
    }

    /// Whether there is a store, of a known format. A damaged format file is written again if the directory has nothing but
    /// a store's files.
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

    /// Creates the store. Two processes may try at once, and the next one completes an interrupted creation.
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
            // Last: from here on the store is complete. It is synced when the first image is named.
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

/// Layers may hold private code: nobody else may read the store (S-135).
fn make_private(root: &Path) -> Result<(), FsError> {
    use std::os::unix::fs::PermissionsExt;
    let dir = fs::open(root)?;
    let mode = dir.metadata().map_err(|e| FsError::new("stat", root, e))?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    dir.set_permissions(std::fs::Permissions::from_mode(0o700)).map_err(|e| FsError::new("set mode of", root, e))
}
