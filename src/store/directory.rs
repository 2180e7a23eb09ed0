//! The store's directory: where things are in it, and what this process knows of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::claim::{Claiming, Claims};
use crate::base::digest::DiffId;
use crate::base::durable::Unsynced;
use crate::base::fs::{self, FsError};
use crate::base::lock::{Patience, Shared};
use crate::base::notice::Notices;
use crate::base::publish;
use crate::base::time::Timestamp;
use crate::oci::blob::BlobError;
use crate::oci::descriptor::Descriptor;

use super::Error;
use super::index::CachedIndex;
use super::scratch::Scratch;

/// How this process keeps others from removing what it uses: see `lease`.
#[derive(Debug, Default)]
pub(super) enum Protection {
    /// Not yet.
    #[default]
    None,
    /// Nobody removes anything.
    Shared(Shared),
    /// Nobody removes what was made or marked since the lease began.
    Leased(Scratch),
}

/// Fetches blobs that the store lacks from where their images say that they are.
pub(crate) trait Elsewhere: Send + Sync {
    /// Ok(true): the store has the blob now. Ok(false): no image says where it is.
    fn fetch(&self, store: &Store, blob: &Descriptor) -> Result<bool, BlobError>;
}

/// An open store. Cheap to open when it exists: one file read, one directory listed.
pub(crate) struct Store {
    root: PathBuf,
    /// Where drafts are written until they are published; made when first needed.
    drafts: OnceLock<Scratch>,
    pub(super) protection: Mutex<Protection>,
    /// This process has a lease.
    pub(super) leased: AtomicBool,
    /// A process that waited to remove something when the store was opened.
    pub(super) pruner: Option<PathBuf>,
    /// `index.json` as last read.
    pub(super) index: Mutex<Option<Arc<CachedIndex>>>,
    /// Files that this process published and that may not be on the disk yet.
    pub(super) unsynced: Arc<Unsynced>,
    /// When this machine started; looked up when first needed.
    booted: OnceLock<Timestamp>,
    notices: Notices,
    pub(super) removed: Arc<AtomicUsize>,
    /// Who fetches blobs that are missing.
    pub(super) elsewhere: Mutex<Option<Arc<dyn Elsewhere>>>,
    /// Images without a name in the store that say where their layers are.
    mentioned: Mutex<Vec<Descriptor>>,
    /// The store's own directories are known to be on the disk.
    pub(super) layout_synced: AtomicBool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Store {
    /// The store at `root`, before anything in it was looked at.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            drafts: OnceLock::new(),
            protection: Mutex::default(),
            leased: AtomicBool::new(false),
            pruner: None,
            index: Mutex::default(),
            unsynced: Arc::default(),
            booted: OnceLock::new(),
            notices: Notices::default(),
            removed: Arc::default(),
            elsewhere: Mutex::default(),
            mentioned: Mutex::default(),
            layout_synced: AtomicBool::new(false),
        }
    }

    /// Lets `elsewhere` fetch blobs that are opened and missing.
    pub(crate) fn fetch_missing_from(&self, elsewhere: Arc<dyn Elsewhere>) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = Some(elsewhere);
    }

    /// Takes an image that needs no name in the store for one of those that say where their layers are.
    pub(crate) fn mention(&self, target: &Descriptor) {
        self.mentioned.lock().unwrap_or_else(PoisonError::into_inner).push(target.clone());
    }

    /// The images that were mentioned.
    pub(crate) fn mentioned(&self) -> Vec<Descriptor> {
        self.mentioned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The store's directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Damage that was found and repaired.
    pub(crate) fn notices(&self) -> &Notices {
        &self.notices
    }

    /// How many damaged blobs were found and removed since the store was opened.
    pub(crate) fn removed(&self) -> usize {
        self.removed.load(Ordering::Relaxed)
    }

    /// When this machine started.
    pub(super) fn booted(&self) -> Timestamp {
        *self.booted.get_or_init(Timestamp::boot)
    }

    /// A new scratch directory. It is removed with its guard; if this process is killed, by the next one that opens the store.
    pub(crate) fn scratch(&self) -> Result<Scratch, Error> {
        Ok(Scratch::new(&self.scratch_dir())?)
    }

    /// `layers/<diff-id>`: what `snapshot` keeps of a layer.
    pub(super) fn layer_dir(&self, diff_id: DiffId) -> PathBuf {
        self.layers_dir().join(diff_id.hex())
    }

    /// `layers`: what `snapshot` keeps of all layers.
    pub(crate) fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// `cache/slots`: the last key of each slot.
    pub(crate) fn slots_dir(&self) -> PathBuf {
        self.root.join("cache/slots")
    }

    /// `context`: stat indexes.
    pub(crate) fn contexts_dir(&self) -> PathBuf {
        self.root.join("context")
    }

    /// `fetched`: downloads of ADD and remote contexts.
    pub(crate) fn fetched_dir(&self) -> PathBuf {
        self.root.join("fetched")
    }

    /// `mounts`: cache mounts.
    pub(crate) fn mounts_dir(&self) -> PathBuf {
        self.root.join("mounts")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The claims on work that is done once for all who use the store.
    ///
    /// A claim on a step is taken when everything that the step needs is there but layers and blobs; claims on those are
    /// taken below it, and their holders wait for no other claim. So no two holders wait for each other.
    pub(crate) fn claims(&self) -> Claims {
        Claims::new(self.root.join("claims"))
    }

    /// [`Claims::wait`] for the work called `name`.
    pub(crate) fn claim(&self, name: &str, patience: &mut Patience<'_>) -> Result<Claiming, Error> {
        Ok(self.claims().wait(name, patience)?)
    }

    pub(super) fn scratch_dir(&self) -> PathBuf {
        self.root.join("scratch")
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// A draft in this process's scratch: a killed writer leaves nothing elsewhere.
    pub(super) fn draft(&self) -> Result<publish::Draft, FsError> {
        if let Some(scratch) = self.drafts.get() {
            return publish::Draft::new(scratch.path());
        }
        let made = Scratch::new(&self.scratch_dir())?;
        // Of two threads that made one, the slower one's is removed again.
        publish::Draft::new(self.drafts.get_or_init(|| made).path())
    }

    /// The lock for changing `index.json` or creating the store: a flock of the root directory, because `index.json` is
    /// replaced. Held no longer than a read and a rename take.
    pub(super) fn names_lock(&self) -> Result<File, FsError> {
        let dir = fs::open(&self.root)?;
        dir.lock().map_err(|e| FsError::new("lock", &self.root, e))?;
        Ok(dir)
    }
}
