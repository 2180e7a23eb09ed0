//! Unpacked layers and their trees.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

use crate::base::cancel::Cancel;
use crate::base::digest::DiffId;
use crate::base::fs::FsError;
use crate::base::lock::{Exclusive, Patience};
use crate::base::notice::Notices;
use crate::base::time::Timestamp;
use crate::base::{fs, publish, unique};
use crate::layer::{self, BadTree, Form, Limits, MergedTree, Tree};
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::descriptor::Layer;

use super::{Error, Method};

/// The `layers/` directory of a store.
pub struct Layers<'a> {
    dir: PathBuf,
    blobs: &'a dyn BlobSource,
    /// How roots are made, and the directory in which.
    settled: OnceLock<(Method, PathBuf)>,
    trees: Mutex<BTreeMap<DiffId, Arc<Tree>>>,
    /// Layers found unpacked: nothing removes them while we build.
    unpacked: Mutex<BTreeSet<DiffId>>,
    /// When this machine started.
    booted: Timestamp,
    /// How layers are read, and until when.
    limits: Limits,
    /// Told whom a wait is for, and why.
    tell: Option<Box<Tell<'a>>>,
    /// Makes a layer's directory, if it is not there, and keeps it from being removed.
    keep: Option<Box<Keep<'a>>>,
    /// What it was called for: once is enough.
    kept: Mutex<BTreeSet<DiffId>>,
    /// Told what was damaged and is derived again.
    notices: Notices,
}

/// Makes a directory and keeps it.
type Keep<'a> = dyn Fn(&Path) -> Result<(), FsError> + Send + Sync + 'a;

/// Takes who is waited for, and why.
type Tell<'a> = dyn Fn(&str, &str) + Send + Sync + 'a;

/// Held by whoever unpacks a layer.
const LOCK: &str = "lock";

impl<'a> Layers<'a> {
    /// Layers below `dir`, from `blobs`.
    pub fn new(dir: PathBuf, blobs: &'a dyn BlobSource) -> Self {
        let (trees, unpacked) = (Mutex::default(), Mutex::default());
        Self {
            dir,
            blobs,
            settled: OnceLock::new(),
            trees,
            unpacked,
            booted: Timestamp::boot(),
            limits: Limits::default(),
            tell: None,
            keep: None,
            kept: Mutex::default(),
            notices: Notices::default(),
        }
    }

    /// Keeps layers that are used from being removed: `keep` makes a directory, if it is not there, and sees to that.
    pub fn kept_by(self, keep: impl Fn(&Path) -> Result<(), FsError> + Send + Sync + 'a) -> Self {
        Self { keep: Some(Box::new(keep)), ..self }
    }

    /// Damage is told to `notices`.
    pub fn noticing(self, notices: &Notices) -> Self {
        Self { notices: notices.clone(), ..self }
    }

    /// Tells `tell` of noticeable waits for other processes: for whom, and why.
    pub fn telling(self, tell: impl Fn(&str, &str) + Send + Sync + 'a) -> Self {
        Self { tell: Some(Box::new(tell)), ..self }
    }

    /// Reads layers only until `stop` is set.
    pub fn until(self, stop: &Cancel) -> Self {
        Self { limits: Limits::until(stop), ..self }
    }

    /// Settles how roots are made, and that `scratch` (on the same file system) is where; the first call counts. Until
    /// then nothing is unpacked and no root made.
    pub fn settle(&self, method: Method, scratch: &Path) {
        self.settled.get_or_init(|| (method, scratch.to_owned()));
        // What was looked at before may not be kept any more.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// It was settled how roots are made.
    pub fn is_settled(&self) -> bool {
        self.settled.get().is_some()
    }

    /// How roots are made here.
    pub fn method(&self) -> Method {
        self.settled().0
    }

    /// Where the files of a layer are once [`Layers::unpack`] returned.
    pub fn path(&self, diff_id: DiffId) -> PathBuf {
        self.beside(diff_id, &name(self.form()))
    }

    /// Ok: the files of every layer are at [`Layers::path`], verified against the diff-id. Layers that are there are
    /// left alone; the others are unpacked in parallel, each by one thread of one process: others wait for it.
    pub fn unpack<'l>(&self, layers: impl IntoIterator<Item = &'l Layer>) -> Result<(), Error> {
        let mut wanted: BTreeMap<DiffId, &Layer> = layers.into_iter().map(|layer| (layer.diff_id, layer)).collect();
        loop {
            let (mut ours, mut theirs) = (Vec::new(), BTreeMap::new());
            for (diff_id, layer) in wanted {
                self.keep_dir(diff_id)?;
                if self.is_at_hand(diff_id)? {
                    continue;
                }
                match Exclusive::try_now(&self.beside(diff_id, LOCK))? {
                    Some(lock) if !self.is_whole(layer)? => ours.push((layer, lock)),
                    Some(_) => {}
                    None => drop(theirs.insert(diff_id, layer)),
                }
            }
            // Nobody waits with a lock in hand, least of all in the pool, whose threads others may need to go on.
            ours.par_iter().try_for_each(|(layer, _)| self.unpack_one(layer))?;
            let Some(first) = theirs.keys().next() else { return Ok(()) };
            if ours.is_empty() {
                self.wait_for(*first)?;
            }
            wanted = theirs;
        }
    }

    /// Waits until nobody unpacks the layer.
    fn wait_for(&self, diff_id: DiffId) -> Result<(), Error> {
        let mut told = |who: &str| {
            if let Some(tell) = &self.tell {
                tell(who, "it unpacks a layer that is needed here");
            }
        };
        let mut patience = Patience::new(&mut told);
        if let Some(stop) = &self.limits.stop {
            patience = patience.until(stop);
        }
        Exclusive::wait(&self.beside(diff_id, LOCK), &mut patience)?;
        Ok(())
    }

    /// A directory in scratch that, over the layers of `merged`, says what they cannot: see [`layer::prepare_upper`].
    pub fn floor(&self, merged: &MergedTree) -> Result<PathBuf, Error> {
        let dir = self.scratch_dir("floor")?;
        layer::prepare_upper(merged, &dir).map_err(Error::Copy)?;
        Ok(dir)
    }

    /// What a layer holds: remembered, stored beside it, or read from its blob.
    pub fn tree(&self, layer: &Layer) -> Result<Arc<Tree>, Error> {
        if let Some(tree) = self.remembered(layer.diff_id) {
            return Ok(tree);
        }
        let path = self.beside(layer.diff_id, "tree");
        let tree = match self.stored_tree(layer.diff_id, &path) {
            Some(tree) => Arc::new(tree),
            None => {
                let blob = self.blobs.open(&layer.blob)?;
                let tree = Arc::new(
                    layer::read_tree_within(blob, layer.diff_id, &self.limits).map_err(|e| self.explain(layer, e))?,
                );
                self.write_tree(layer.diff_id, &tree)?;
                tree
            }
        };
        self.remember(layer.diff_id, &tree);
        Ok(tree)
    }

    /// What a layer holds, if that is remembered or stored beside it: its blob is not read.
    pub fn known_tree(&self, diff_id: DiffId) -> Option<Arc<Tree>> {
        self.remembered(diff_id).or_else(|| self.stored_tree(diff_id, &self.beside(diff_id, "tree")).map(Arc::new))
    }

    /// Keeps the tree of a layer that was just made.
    pub fn keep_tree(&self, diff_id: DiffId, tree: &Arc<Tree>) -> Result<(), Error> {
        // Many a command leaves the same layer: one that changes nothing.
        match self.remember(diff_id, tree) {
            Some(known) if known == *tree => Ok(()),
            _ => self.write_tree(diff_id, tree),
        }
    }

    /// Keeps a small file about a layer beside it, atomically.
    pub fn keep(&self, diff_id: DiffId, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.keep_dir(diff_id)?;
        Ok(publish::atomic_over(&self.beside(diff_id, name), bytes, 0o600)?)
    }

    /// A small file kept beside a layer; `None` also if it cannot be read.
    pub fn kept(&self, diff_id: DiffId, name: &str) -> Option<Vec<u8>> {
        fs::read_spare(&self.beside(diff_id, name))
    }

    /// Gives the files in `made`, a directory in scratch that nobody uses any more, to the layer.
    /// Ok: the layer is unpacked, by this call or before; in the latter case `made` stays where it is.
    pub fn adopt(&self, diff_id: DiffId, made: &Path) -> Result<(), Error> {
        self.keep_dir(diff_id)?;
        let to = self.path(diff_id);
        if std::fs::symlink_metadata(&to).is_ok_and(|there| !there.is_dir()) {
            fs::remove_file(&to)?;
        }
        match fs::rename(made, &to) {
            Err(e) if matches!(e.source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// The layer's files are there and need not be looked at: they were made since this machine started, or found whole.
    fn is_at_hand(&self, diff_id: DiffId) -> Result<bool, Error> {
        if self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).contains(&diff_id) {
            return Ok(true);
        }
        let at_hand = self.standing(diff_id)? == Some(true);
        if at_hand {
            self.note(diff_id);
        }
        Ok(at_hand)
    }

    /// Whether the layer's files are there; `None`: that is to be found out. Nothing of them is synced when they are
    /// unpacked or made, which would cost more than that: what was there before this machine started may have lost what
    /// was not on the disk then, and is read once.
    fn standing(&self, diff_id: DiffId) -> Result<Option<bool>, Error> {
        let path = self.path(diff_id);
        if !std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
            return Ok(Some(false));
        }
        Ok(match fs::changed(&path)? {
            None => Some(false),
            Some(changed) if changed >= self.booted => Some(true),
            // Younger than the directory: it speaks of this one.
            Some(changed) if fs::modified(&self.seen(diff_id)).is_ok_and(|seen| seen >= changed) => Some(true),
            Some(_) => None,
        })
    }

    /// Says that the layer's files were read and found whole.
    fn seen(&self, diff_id: DiffId) -> PathBuf {
        self.beside(diff_id, &format!("whole-{}", name(self.form())))
    }

    /// Whether the layer's files are there, for whoever has the layer's lock. What is whole came from the disk and is not
    /// read again; what is not is not there any more afterwards.
    fn is_whole(&self, layer: &Layer) -> Result<bool, Error> {
        let path = self.path(layer.diff_id);
        match self.standing(layer.diff_id)? {
            Some(false) => return Ok(false),
            Some(true) => {}
            None if layer::is_whole(&path, &*self.tree(layer)?) => {
                fs::mark(&path);
                // Best effort: without it the layer is read again after the next start.
                let _ = publish::atomic_over(&self.seen(layer.diff_id), b"", 0o600);
            }
            None => {
                let away = self.settled().1.join(unique::name("short-"));
                fs::rename(&path, &away)?;
                fs::remove_tree(&away)?;
                self.notices.note(
                    format!("unpacked layer {} again", layer.diff_id),
                    "files of it were not on the disk when the machine went down",
                );
                return Ok(false);
            }
        }
        self.note(layer.diff_id);
        Ok(true)
    }

    /// Makes the layer's directory, if it is not there. Ok: it stays, and what is in it.
    fn keep_dir(&self, diff_id: DiffId) -> Result<(), Error> {
        let dir = self.dir.join(diff_id.hex());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contains(&diff_id) {
            match &self.keep {
                Some(keep) => keep(&dir)?,
                None => fs::make_dir(&dir)?,
            }
            kept.insert(diff_id);
        }
        Ok(())
    }

    /// Remembers that the layer is unpacked.
    fn note(&self, diff_id: DiffId) {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id);
    }

    fn unpack_one(&self, layer: &Layer) -> Result<(), Error> {
        let to = self.scratch_dir(&format!("unpack-{:.12}", layer.diff_id.hex()))?;
        let blob = self.blobs.open(&layer.blob)?;
        let tree = layer::unpack_within(blob, &to, layer.diff_id, self.form(), &self.limits);
        let tree = tree.map_err(|e| self.explain(layer, e))?;
        let tree = Arc::new(tree);
        self.keep_tree(layer.diff_id, &tree)?;
        self.adopt(layer.diff_id, &to)
    }

    /// Why a layer could not be read. A damaged blob mostly breaks its decompression before its digest can be compared:
    /// then the damage is what there is to say, and reading the blob to its end makes the store drop it.
    fn explain(&self, layer: &Layer, source: layer::Error) -> Error {
        if self.limits.stop.as_ref().is_some_and(Cancel::is_cancelled) {
            return Error::Layer { diff_id: layer.diff_id, source };
        }
        let damage = match self.blobs.open(&layer.blob) {
            Err(e) => Some(e),
            Ok(mut blob) => io::copy(&mut blob, &mut io::sink()).err().map(|e| BlobError {
                operation: "read",
                digest: layer.blob.digest,
                reason: e.to_string(),
                missing: false,
            }),
        };
        damage.map_or(Error::Layer { diff_id: layer.diff_id, source }, Error::Blob)
    }

    fn scratch_dir(&self, purpose: &str) -> Result<PathBuf, Error> {
        let dir = self.settled().1.join(unique::name(&format!("{purpose}-")));
        fs::create_dir(&dir, 0o755)?;
        Ok(dir)
    }

    fn settled(&self) -> &(Method, PathBuf) {
        self.settled.get().expect("the method is settled before anything runs")
    }

    fn form(&self) -> Form {
        match self.method() {
            Method::Overlay { userxattr } => Form::Overlay { userxattr },
            Method::Copy => Form::Plain,
        }
    }

    fn write_tree(&self, diff_id: DiffId, tree: &Tree) -> Result<(), Error> {
        self.keep_dir(diff_id)?;
        let path = self.beside(diff_id, "tree");
        // What damage put in its place goes.
        fs::clear(&path)?;
        Ok(publish::atomic_by(&path, 0o600, |out| tree.write(out))?)
    }

    /// The tree at `path`. `None`: there is none, or one that cannot be read: it is derived again.
    fn stored_tree(&self, diff_id: DiffId, path: &Path) -> Option<Tree> {
        let read = || -> io::Result<Tree> {
            let file = std::fs::File::open(path)?;
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

    fn beside(&self, diff_id: DiffId, name: &str) -> PathBuf {
        self.dir.join(diff_id.hex()).join(name)
    }

    fn remembered(&self, diff_id: DiffId) -> Option<Arc<Tree>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).get(&diff_id).cloned()
    }

    /// Remembers `tree`; gives what was remembered before.
    fn remember(&self, diff_id: DiffId, tree: &Arc<Tree>) -> Option<Arc<Tree>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id, Arc::clone(tree))
    }
}

/// What the directory is called that has a layer's files in this form. Where files cannot have every owner, which they
/// can have is part of it: with more ids, others stand for those that are left. The number changes with what is unpacked.
fn name(form: Form) -> String {
    let form = match form {
        Form::Overlay { userxattr: false } => "fs2",
        Form::Overlay { userxattr: true } => "fs2-user",
        Form::Plain => "fs2-plain",
    };
    format!("{form}{}", layer::id_map_name())
}
