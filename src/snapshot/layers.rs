//! What is kept of layers: their trees, and small files about them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::cancel::Cancel;
use crate::base::claim::{Claim, Claiming, Claims};
use crate::base::digest::DiffId;
use crate::base::fs::FsError;
use crate::base::lock::Patience;
use crate::base::notice::Notices;
use crate::base::sparse::SparseRead;
use crate::base::{fs, publish, sealed};
use crate::layer::{self, BadTree, Limits, Tree};
use crate::oci::blob::{BlobError, BlobFault, BlobSource};
use crate::oci::descriptor::Layer;

use super::Error;

/// The `layers/` directory of a store.
pub(crate) struct Layers<'a> {
    dir: PathBuf,
    blobs: &'a dyn BlobSource,
    /// A layer is unpacked and listed under the claim on it.
    claims: Claims,
    trees: Mutex<BTreeMap<DiffId, Arc<Tree>>>,
    /// How layers are read, and until when.
    pub(super) limits: Limits,
    /// Called with who is waited for, and why.
    tell: Option<Box<Tell<'a>>>,
    /// Makes a layer's directory if it is missing, and keeps it from being removed.
    keep: Option<Box<Keep<'a>>>,
    /// Moves a part of a layer's directory away, unless somebody uses it.
    take: Option<Box<Take<'a>>>,
    /// The layers for which `keep` was called.
    kept: Mutex<BTreeSet<DiffId>>,
    /// Receives damage that was found and repaired.
    pub(super) notices: Notices,
}

type Keep<'a> = dyn Fn(&Path) -> Result<(), FsError> + Send + Sync + 'a;

type Take<'a> = dyn Fn(&Path, &Path, &Path) -> Result<bool, FsError> + Send + Sync + 'a;

type Tell<'a> = dyn Fn(&str, &str) + Send + Sync + 'a;

impl<'a> Layers<'a> {
    /// The layers below `dir`, from `blobs`. Processes that share `dir` share `claims`, too.
    pub(crate) fn new(dir: PathBuf, claims: Claims, blobs: &'a dyn BlobSource) -> Self {
        Self {
            dir,
            blobs,
            claims,
            trees: Mutex::default(),
            limits: Limits::default(),
            tell: None,
            keep: None,
            take: None,
            kept: Mutex::default(),
            notices: Notices::default(),
        }
    }

    /// Calls `keep` with the directory of every layer that is used: it makes the directory if it is missing, and keeps it
    /// from being removed.
    pub(crate) fn kept_by(self, keep: impl Fn(&Path) -> Result<(), FsError> + Send + Sync + 'a) -> Self {
        Self { keep: Some(Box::new(keep)), ..self }
    }

    /// Calls `take` with a layer's directory, a directory in it and a new path: Ok(true) if the latter was moved there because
    /// nobody uses it.
    pub(crate) fn taken_by(
        self,
        take: impl Fn(&Path, &Path, &Path) -> Result<bool, FsError> + Send + Sync + 'a,
    ) -> Self {
        Self { take: Some(Box::new(take)), ..self }
    }

    /// Reports damage to `notices`.
    pub(crate) fn noticing(self, notices: &Notices) -> Self {
        Self { notices: notices.clone(), ..self }
    }

    /// Calls `tell` when another process is waited for noticeably long, with who it is and why.
    pub(crate) fn telling(self, tell: impl Fn(&str, &str) + Send + Sync + 'a) -> Self {
        Self { tell: Some(Box::new(tell)), ..self }
    }

    /// Reads layers only until `stop` is set.
    pub(crate) fn until(self, stop: &Cancel) -> Self {
        Self { limits: Limits::until(stop), ..self }
    }

    /// What a layer holds: remembered, stored beside it, or read from its blob.
    pub(crate) fn tree(&self, layer: &Layer) -> Result<Arc<Tree>, Error> {
        if let Some(tree) = self.known_tree(layer.diff_id) {
            self.remember(layer.diff_id, &tree);
            return Ok(tree);
        }
        let _claim = self.claim(layer.diff_id)?;
        self.claimed_tree(layer)
    }

    /// [`Layers::tree`] for the holder of the claim on the layer.
    pub(super) fn claimed_tree(&self, layer: &Layer) -> Result<Arc<Tree>, Error> {
        if let Some(tree) = self.known_tree(layer.diff_id) {
            self.remember(layer.diff_id, &tree);
            return Ok(tree);
        }
        let tree = layer::read_tree_within(self.open(layer)?, layer.diff_id, &self.limits);
        let tree = Arc::new(tree.map_err(|e| self.explain(layer, e))?);
        self.write_tree(layer.diff_id, &tree)?;
        self.remember(layer.diff_id, &tree);
        Ok(tree)
    }

    /// What a layer holds, if that is remembered or stored beside it: its blob is not read.
    pub(crate) fn known_tree(&self, diff_id: DiffId) -> Option<Arc<Tree>> {
        self.remembered(diff_id).or_else(|| self.stored_tree(diff_id).map(Arc::new))
    }

    /// Keeps the tree of a layer that was just made.
    pub(crate) fn keep_tree(&self, diff_id: DiffId, tree: &Arc<Tree>) -> Result<(), Error> {
        // Commands that change nothing all make the same layer.
        match self.remember(diff_id, tree) {
            Some(known) if known == *tree => Ok(()),
            _ => self.write_tree(diff_id, tree),
        }
    }

    /// Keeps a small file about a layer beside it, sealed and atomically.
    pub(crate) fn keep(&self, diff_id: DiffId, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.keep_dir(diff_id)?;
        Ok(publish::atomic_over(&self.beside(diff_id, name), &sealed::seal(bytes.to_vec()), 0o600)?)
    }

    /// A small file kept beside a layer; `None` also if it cannot be read.
    pub(crate) fn kept(&self, diff_id: DiffId, name: &str) -> Option<Vec<u8>> {
        fs::read_spare(&self.beside(diff_id, name)).and_then(sealed::open)
    }

    /// Makes the layer's directory if it is missing. Ok: the directory and what is in it are not removed while this lives.
    pub(super) fn keep_dir(&self, diff_id: DiffId) -> Result<(), Error> {
        if self.kept.lock().unwrap_or_else(PoisonError::into_inner).contains(&diff_id) {
            return Ok(());
        }
        let dir = self.dir.join(diff_id.hex());
        match &self.keep {
            Some(keep) => keep(&dir)?,
            None => fs::make_dir(&dir)?,
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id);
        Ok(())
    }

    /// Forgets which layers were kept: from here on, layers are kept again before they are used.
    pub(super) fn keep_again(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// `layers`.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The layer's blob.
    pub(super) fn open(&self, layer: &Layer) -> Result<Box<dyn SparseRead + Send>, Error> {
        Ok(self.blobs.open(&layer.blob)?)
    }

    /// Some bytes of the layer's blob, not verified.
    pub(super) fn part(&self, layer: &Layer, range: Range<u64>) -> Option<Box<dyn Read + Send>> {
        self.blobs.part(&layer.blob, range)
    }

    /// Moves `part` of the layer's directory to `to`, unless somebody uses it.
    pub(super) fn take(&self, diff_id: DiffId, part: &Path, to: &Path) -> Result<bool, Error> {
        match &self.take {
            Some(take) => Ok(take(&self.dir.join(diff_id.hex()), part, to)?),
            None => Ok(false),
        }
    }

    /// A file or directory beside the layer's others.
    pub(super) fn beside(&self, diff_id: DiffId, name: &str) -> PathBuf {
        self.dir.join(diff_id.hex()).join(name)
    }

    /// The claim on a layer, unless somebody has it.
    pub(super) fn try_claim(&self, diff_id: DiffId) -> Result<Option<Claim>, Error> {
        Ok(self.claims.try_take(&claim_name(diff_id))?)
    }

    /// Waits for the claim on a layer. `None`: its holder failed.
    pub(super) fn claim(&self, diff_id: DiffId) -> Result<Option<Claim>, Error> {
        let mut told = |who: &str| {
            if let Some(tell) = &self.tell {
                tell(who, "it unpacks a layer that is needed here");
            }
        };
        let mut patience = Patience::new(&mut told);
        if let Some(stop) = &self.limits.stop {
            patience = patience.until(stop);
        }
        Ok(match self.claims.wait(&claim_name(diff_id), &mut patience)? {
            Claiming::Ours(claim) => Some(claim),
            Claiming::Failed => None,
        })
    }

    /// Why a layer could not be read. A damaged blob mostly breaks its decompression before its digest can be compared:
    /// then the damage is the error to report, and reading the blob to its end makes the store remove it.
    pub(super) fn explain(&self, layer: &Layer, source: layer::Error) -> Error {
        if self.limits.stop.as_ref().is_some_and(Cancel::is_cancelled) {
            return Error::Layer { diff_id: layer.diff_id, source };
        }
        let damage = match self.blobs.open(&layer.blob) {
            Err(e) => Some(e),
            Ok(mut blob) => io::copy(&mut blob, &mut io::sink()).err().map(|e| BlobError {
                operation: "read",
                digest: layer.blob.digest,
                reason: e.to_string(),
                fault: BlobFault::Other,
            }),
        };
        damage.map_or(Error::Layer { diff_id: layer.diff_id, source }, Error::Blob)
    }

    fn write_tree(&self, diff_id: DiffId, tree: &Tree) -> Result<(), Error> {
        self.keep_dir(diff_id)?;
        let path = self.beside(diff_id, TREE);
        // Damage may have put something else in its place.
        fs::clear(&path)?;
        Ok(publish::atomic_by(&path, 0o600, |out| tree.write(out))?)
    }

    /// The tree stored beside a layer. `None`: there is none, or one that cannot be read and is derived again.
    fn stored_tree(&self, diff_id: DiffId) -> Option<Tree> {
        let read = || -> io::Result<Tree> {
            let file = std::fs::File::open(self.beside(diff_id, TREE))?;
            let len = file.metadata()?.len();
            Tree::read(BufReader::with_capacity(256 << 10, file), len)
        };
        match read() {
            Ok(tree) => return Some(tree),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) if matches!(e.get_ref().and_then(|e| e.downcast_ref()), Some(BadTree::Version(_))) => {}
            Err(e) => self.notices.note(format!("listed the files of layer {diff_id} again"), format!("tree: {e}")),
        }
        None
    }

    fn remembered(&self, diff_id: DiffId) -> Option<Arc<Tree>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).get(&diff_id).cloned()
    }

    /// Remembers `tree`; gives what was remembered before.
    fn remember(&self, diff_id: DiffId, tree: &Arc<Tree>) -> Option<Arc<Tree>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id, Arc::clone(tree))
    }
}

/// The file beside a layer that has its tree.
pub(super) const TREE: &str = "tree";
/// The file beside a layer with the index of its segments.
pub(crate) const SEGMENTS: &str = "segments";
/// The file beside a layer with the places from which the next layer can continue.
pub(crate) const MARKS: &str = "marks";
/// The file beside a layer that names another that differs little: its step made it before, or after.
pub(crate) const SIMILAR: &str = "similar";

fn claim_name(diff_id: DiffId) -> String {
    format!("layer-{}", diff_id.hex())
}
