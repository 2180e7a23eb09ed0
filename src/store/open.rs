//! Opening a store, and where things are in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::digest::DiffId;
use crate::base::durable::Unsynced;
use crate::base::fs::{self, FsError};
use crate::base::notice::Notices;
use crate::base::publish;
use crate::base::time::Timestamp;

use super::Error;
use super::persist::{NEW_LAYOUT, SYNCED_LAYOUT};
use super::recover::{DIRECTORIES, foreign};
use super::scratch::{self, Scratch};
use super::tags::Known;
use super::using::Using;

/// The format this code reads and writes.
pub const FORMAT: u64 = 1;

pub(super) const LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
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

/// An open store. Cheap to open when it exists: one file read, one directory listed.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Where drafts are written until they are published; made when first needed.
    drafts: Mutex<Option<Arc<Scratch>>>,
    /// How this process uses it.
    pub(super) using: Mutex<Using>,
    /// It has a lease.
    pub(super) leased: AtomicBool,
    /// Somebody who wanted to remove something when the store was opened.
    pub(super) pruner: Option<PathBuf>,
    /// `index.json` as last read.
    pub(super) index: Mutex<Option<Known>>,
    /// What this process published and nothing durable names yet.
    pub(super) unsynced: Arc<Unsynced>,
    /// When this machine started, once somebody asked.
    booted: OnceLock<Timestamp>,
    notices: Notices,
    pub(super) removed: Arc<AtomicUsize>,
    /// The store's own directories are on the disk.
    pub(super) layout_synced: AtomicBool,
}

impl Store {
    /// Opens the store at `root`, making it if the directory is missing or empty.
    ///
    /// Ok: the store has a format we know and the directories below exist. Scratch that dead processes left is
    /// removed as far as we may (S-132). Refuses stores of a later format (S-133) and directories that hold something
    /// else.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let mut store = Self {
            root: root.to_owned(),
            drafts: Mutex::default(),
            using: Mutex::default(),
            leased: AtomicBool::new(false),
            pruner: None,
            index: Mutex::default(),
            unsynced: Arc::default(),
            booted: OnceLock::new(),
            notices: Notices::default(),
            removed: Arc::default(),
            layout_synced: AtomicBool::new(false),
        };
        if store.check_version()? {
            store.mend_directories(DIRECTORIES);
        } else {
            store.create()?;
        }
        // What cannot be removed now (files of subordinate ids, a read-only store) waits for a process that may.
        store.pruner = scratch::sweep(&store.scratch_dir());
        Ok(store)
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was found damaged and is derived again.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// How many damaged blobs were found and removed since the store was opened.
    pub fn removed(&self) -> usize {
        self.removed.load(Ordering::Relaxed)
    }

    /// When this machine started.
    pub(super) fn booted(&self) -> Timestamp {
        *self.booted.get_or_init(Timestamp::boot)
    }

    /// A directory of our own that disappears with its guard, or, should we be killed, at somebody's next open.
    pub fn scratch(&self) -> Result<Scratch, Error> {
        Ok(Scratch::new(&self.scratch_dir())?)
    }

    /// `layers/<diff-id>`: what is known of a layer, its files included once they are unpacked (`snapshot`).
    pub fn layer_dir(&self, diff_id: DiffId) -> PathBuf {
        self.layers_dir().join(diff_id.hex())
    }

    /// Parent of all unpacked layers.
    pub fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Gives a finished directory (in [`Store::scratch`]) its name under `layers/`.
    /// Ok: the layer is there whole; whether this call or another process put it there does not matter.
    pub fn adopt_layer(&self, finished: &Path, diff_id: DiffId) -> Result<PathBuf, Error> {
        let to = self.layer_dir(diff_id);
        match fs::rename(finished, &to) {
            Err(e) if matches!(e.source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                fs::remove_tree(finished)?;
            }
            other => other?,
        }
        Ok(to)
    }

    /// `cache/v1`: step records.
    pub fn records_dir(&self) -> PathBuf {
        self.root.join("cache/v1")
    }

    /// `cache/slots`: the last key of each slot.
    pub fn slots_dir(&self) -> PathBuf {
        self.root.join("cache/slots")
    }

    /// `context`: stat indexes.
    pub fn contexts_dir(&self) -> PathBuf {
        self.root.join("context")
    }

    /// `fetched`: what ADD and remote contexts brought from elsewhere.
    pub fn fetched_dir(&self) -> PathBuf {
        self.root.join("fetched")
    }

    /// `mounts`: cache mounts.
    pub fn mounts_dir(&self) -> PathBuf {
        self.root.join("mounts")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn claims_dir(&self) -> PathBuf {
        self.root.join("claims")
    }

    pub(super) fn scratch_dir(&self) -> PathBuf {
        self.root.join("scratch")
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// A draft in this process's scratch, so that a killed writer leaves nothing in the layout.
    pub(super) fn draft(&self) -> Result<publish::Draft, FsError> {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = match &*drafts {
            Some(scratch) => Arc::clone(scratch),
            None => {
                let scratch = Arc::new(Scratch::new(&self.scratch_dir())?);
                *drafts = Some(Arc::clone(&scratch));
                scratch
            }
        };
        drop(drafts);
        publish::Draft::new(scratch.path())
    }

    /// Held by whoever changes `index.json` or lays the store out: a flock of the root directory itself, because
    /// `index.json` is replaced, not written. Held only as long as a read and a rename take.
    pub(super) fn names_lock(&self) -> Result<File, FsError> {
        let dir = fs::open(&self.root)?;
        dir.lock().map_err(|e| FsError::new("lock", &self.root, e))?;
        Ok(dir)
    }

    /// Whether the store exists in a format we know. A format that cannot be read any more is written again if everything
    /// around it is a store's.
    fn check_version(&self) -> Result<bool, Error> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root.join("version");
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
                        return Err(Error::Newer { root: self.root.clone(), found, known: FORMAT });
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
        self.notices.note(format!("wrote {} again", path.display()), why);
        Ok(true)
    }

    /// Lays the store out. Two processes may try at once; dying half way leaves what the next open completes.
    fn create(&self) -> Result<(), Error> {
        let laid = || -> Result<Option<String>, FsError> {
            fs::ensure_dir(&self.root)?;
            let _lock = self.names_lock()?;
            if let Some(name) = foreign(fs::list(&self.root)?, OUR_NAMES) {
                return Ok(Some(name));
            }
            make_private(&self.root)?;
            for dir in DIRECTORIES {
                fs::make_dir(&self.root.join(dir))?;
            }
            for (name, content) in [("oci-layout", LAYOUT_FILE), ("index.json", EMPTY_INDEX)] {
                let path = self.root.join(name);
                if std::fs::symlink_metadata(&path).is_err() {
                    publish::atomic(&path, content, 0o644)?;
                }
            }
            fs::open_lock(&self.lock_path())?;
            // Last: from here on the store counts as laid out. Whoever names the first image syncs it.
            let version = format!("{FORMAT}\n");
            publish::atomic_over(&self.root.join("version"), version.as_bytes(), NEW_LAYOUT)?;
            self.layout_synced.store(false, Ordering::Relaxed);
            Ok(None)
        };
        match laid().map_err(|e| self.unusable(e))? {
            None => Ok(()),
            Some(example) => Err(Error::NotAStore { root: self.root.clone(), example }),
        }
    }

    fn unusable(&self, source: FsError) -> Error {
        Error::Unusable { root: self.root.clone(), source }
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
