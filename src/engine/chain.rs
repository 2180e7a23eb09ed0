//! The filesystem after a step: a stack of layers, some of which are still being packed.
//!
//! As soon as a RUN has ended, its upper directory can be a lower directory of the next step; its digests come later.
//! Only callers that need digests wait for them: the entries of a layer are known before it is packed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::base::digest::{DiffId, Sha256, StepKey};
use crate::cache::step_key;
use crate::layer::{MergedTree, RelPath, Tree};
use crate::oci::descriptor::Layer;
use crate::snapshot::{self, Layers, Snapshotter, Stack};

use super::error::Error;
use super::promise::Promise;

/// A layer whose blob is stored.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    /// Digest and blob.
    pub(super) layer: Layer,
    /// Its entries, if they are known from packing; otherwise read on demand.
    pub(super) tree: Option<Arc<Tree>>,
}

/// The step that was making the layer stopped; it reports its own error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped;

/// The results of packing a layer, which the packer provides.
#[derive(Debug)]
pub(super) struct Packing {
    /// Its entries, without digests: known long before the layer is packed.
    pub(super) outline: Promise<Result<Arc<Tree>, Stopped>>,
    /// The stored layer.
    pub(super) sealed: Promise<Result<Sealed, Stopped>>,
}

/// One layer of a chain.
#[derive(Clone, Debug)]
pub(super) struct Link {
    sealed: Promise<Result<Sealed, Stopped>>,
    outline: Promise<Result<Arc<Tree>, Stopped>>,
    /// The directory with its files, if this build made it.
    fresh: Option<PathBuf>,
    /// The layer that the same slot produced in the previous build.
    before: Option<DiffId>,
}

impl Link {
    /// A stored layer.
    pub(super) fn stored(layer: Layer) -> Self {
        Self::made(Sealed { layer, tree: None })
    }

    /// A layer that this build made.
    pub(super) fn made(sealed: Sealed) -> Self {
        Self { sealed: Promise::kept(Ok(sealed)), outline: Promise::new(), fresh: None, before: None }
    }

    /// A layer that is still to be packed; its files may already be in the directory `fresh`. `before`: the layer of
    /// the previous build.
    pub(super) fn packing(fresh: Option<PathBuf>, before: Option<DiffId>) -> (Self, Packing) {
        let packing = Packing { outline: Promise::new(), sealed: Promise::new() };
        (Self { sealed: packing.sealed.clone(), outline: packing.outline.clone(), fresh, before }, packing)
    }

    /// The layer's digest, if it is packed.
    fn known(&self) -> Option<DiffId> {
        self.sealed.now().and_then(Result::ok).map(|sealed| sealed.layer.diff_id)
    }

    /// Waits until the layer is stored.
    pub(super) fn sealed(&self) -> Result<Sealed, Error> {
        self.sealed.wait().map_err(|Stopped| Error::Stopped)
    }

    /// The entries of the layer; waits until it is stored.
    fn tree(&self, layers: &Layers<'_>) -> Result<Arc<Tree>, Error> {
        let sealed = self.sealed()?;
        match sealed.tree {
            Some(tree) => Ok(tree),
            None => Ok(layers.tree(&sealed.layer)?),
        }
    }

    /// The entries of the layer, possibly without digests; waits only until they are known.
    fn outline(&self, layers: &Layers<'_>) -> Result<Arc<Tree>, Error> {
        match self.sealed.now() {
            Some(_) => self.tree(layers),
            None => self.outline.wait().map_err(|Stopped| Error::Stopped),
        }
    }
}

/// The file system that a step produced.
#[derive(Debug)]
pub(super) struct State {
    /// The step's key.
    pub(super) key: StepKey,
    /// The state below; `None` at the bottom.
    parent: Option<Arc<State>>,
    /// The layers this step added: all of an image's for a base, else at most one.
    added: Vec<Link>,
    /// Its key by content, once that was known and asked for.
    content: OnceLock<StepKey>,
    /// What identifies its layers, once they were known and asked for.
    identity: OnceLock<StepKey>,
    merged: OnceLock<Arc<MergedTree>>,
    outline: OnceLock<Arc<MergedTree>>,
    /// Metadata of directories that its layers have no entries for, if needed: [`State::floor`].
    floor: OnceLock<Option<PathBuf>>,
}

impl State {
    /// A bottom: the layers of an image, or none.
    pub(super) fn base(key: StepKey, layers: impl IntoIterator<Item = Layer>) -> Arc<Self> {
        let added = layers.into_iter().map(Link::stored).collect();
        Self::new(key, None, added)
    }

    /// `parent` with one more layer.
    pub(super) fn over(parent: &Arc<State>, key: StepKey, link: Link) -> Arc<Self> {
        Self::new(key, Some(Arc::clone(parent)), vec![link])
    }

    fn new(key: StepKey, parent: Option<Arc<State>>, added: Vec<Link>) -> Arc<Self> {
        let (content, identity, floor) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (merged, outline) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { key, parent, added, content, identity, merged, outline, floor })
    }

    /// The layers, bottom first.
    pub(super) fn links(&self) -> Vec<Link> {
        let mut links = self.parent.as_ref().map(|p| p.links()).unwrap_or_default();
        links.extend(self.added.iter().cloned());
        links
    }

    /// The layers as stored, bottom first; waits for those being packed.
    pub(super) fn layers(&self) -> Result<Vec<Layer>, Error> {
        self.links().iter().map(|link| Ok(link.sealed()?.layer)).collect()
    }

    /// This state and those below it, down to but without the base, bottom first.
    pub(super) fn over_base(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let mut states: Vec<_> = std::iter::successors(Some(self), |state| state.parent.as_ref()).cloned().collect();
        states.pop();
        states.reverse();
        states
    }

    /// Its key, unless it is a base.
    pub(super) fn made_key(&self) -> Option<StepKey> {
        self.parent.is_some().then_some(self.key)
    }

    /// The state below; `None` at the bottom.
    pub(super) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// The layer that this step added, if it is stored by now.
    pub(super) fn own_layer_now(&self) -> Option<Layer> {
        match &self.added[..] {
            [link] => link.sealed.now()?.ok().map(|sealed| sealed.layer),
            _ => None,
        }
    }

    /// The layer that this step added, as stored; waits until it is. `None`: it added none, or several.
    pub(super) fn own_layer(&self) -> Result<Option<Layer>, Error> {
        match &self.added[..] {
            [link] => Ok(Some(link.sealed()?.layer)),
            _ => Ok(None),
        }
    }

    /// Whether what the layers hold is known without their blobs.
    pub(super) fn is_listed(&self, layers: &Layers<'_>) -> bool {
        let listed = |link: &Link| match link.sealed.now() {
            Some(Ok(sealed)) => sealed.tree.is_some() || layers.known_tree(sealed.layer.diff_id).is_some(),
            _ => true,
        };
        self.links().iter().all(listed)
    }

    /// The directory of each layer, bottom first; unpacks those that are missing.
    pub(super) fn directories(&self, snapshots: &Snapshotter<'_>) -> Result<Vec<PathBuf>, Error> {
        let links = self.links();
        let stored: Vec<Option<Layer>> = links
            .iter()
            .map(|link| match link.fresh {
                Some(_) => Ok(None),
                None => link.sealed().map(|sealed| Some(sealed.layer)),
            })
            .collect::<Result<_, Error>>()?;
        snapshots.unpack(stored.iter().flatten())?;
        Ok(links
            .iter()
            .zip(&stored)
            .map(|(link, layer)| match (&link.fresh, layer) {
                (Some(path), _) => path.clone(),
                (None, Some(layer)) => snapshots.path(layer.diff_id),
                (None, None) => unreachable!("a layer is fresh or stored"),
            })
            .collect())
    }

    /// The lower directories of an overlay that shows the chain.
    ///
    /// A layer may imply a directory by its files, or mark it opaque, without an entry for it; unpacked, it then hides
    /// the directory's mode, owner and times in the layers below. The floor, a generated directory stacked over the
    /// layer, restores them (N-4).
    pub(super) fn lowers(&self, snapshots: &Snapshotter<'_>) -> Result<Stack, Error> {
        match self.stack(snapshots) {
            // Layers that are still being packed may turn out to be empty, or equal to others.
            Err(Error::Snapshot(snapshot::Error::TooManyLayers { .. })) => {
                self.layers()?;
                self.stack(snapshots)
            }
            other => other,
        }
    }

    /// [`State::lowers`], with the digests that are known now.
    fn stack(&self, snapshots: &Snapshotter<'_>) -> Result<Stack, Error> {
        let links = self.links();
        let mut dirs = self.directories(snapshots)?;
        // Equal layers of this build are in separate directories, but are stacked as one.
        let mut topmost: BTreeMap<DiffId, PathBuf> = BTreeMap::new();
        for (link, dir) in links.iter().zip(&mut dirs).rev() {
            if let Some(diff_id) = link.known() {
                *dir = topmost.entry(diff_id).or_insert_with(|| dir.clone()).clone();
            }
        }
        let (mut stacked, mut dirs) = (Vec::with_capacity(dirs.len()), dirs.into_iter());
        for state in self.bottom_up() {
            let hidden = if state.parent.is_none() { state.merged(snapshots.layers())?.bottom() } else { 0 };
            // An empty layer only makes the stack deeper and every mount slower.
            let added =
                state.added.iter().zip(&mut dirs).skip(hidden).filter(|(link, _)| link.known() != Some(empty()));
            stacked.extend(added.map(|(_, dir)| dir));
            stacked.extend(state.floor(snapshots)?);
        }
        Ok(Stack::new(&stacked)?)
    }

    /// The directory with the mode, owner and times of `/`: that of the topmost layer with an entry for it.
    pub(super) fn root(&self, snapshots: &Snapshotter<'_>) -> Result<Option<PathBuf>, Error> {
        let mut state = self;
        while let Some(parent) = &state.parent {
            for link in &state.added {
                if let Some(fresh) = &link.fresh {
                    // Every upper directory starts with the metadata of the one below.
                    return Ok(Some(fresh.clone()));
                }
                if link.tree(snapshots.layers())?.get(&RelPath::root()).is_some() {
                    return Ok(Some(snapshots.path(link.sealed()?.layer.diff_id)));
                }
            }
            state = parent;
        }
        state.floor(snapshots)
    }

    /// This state and those below it, lowest first.
    fn bottom_up(&self) -> Vec<&State> {
        let mut states = self.parent.as_ref().map(|parent| parent.bottom_up()).unwrap_or_default();
        states.push(self);
        states
    }

    /// The directory over this state's layers with the metadata of directories that they have no entry for.
    fn floor(&self, snapshots: &Snapshotter<'_>) -> Result<Option<PathBuf>, Error> {
        if let Some(made) = self.floor.get() {
            return Ok(made.clone());
        }
        // The bottom one also has the metadata of `/`. A RUN needs none: overlayfs copies directories up with theirs.
        let mut needed = self.parent.is_none() && !self.added.is_empty();
        for link in self.added.iter().filter(|link| self.parent.is_some() && link.fresh.is_none()) {
            needed |= !link.tree(snapshots.layers())?.implied_dirs().is_empty();
        }
        let made = if needed { Some(snapshots.floor(&*self.outline(snapshots.layers())?)?) } else { None };
        Ok(self.floor.get_or_init(|| made).clone())
    }

    /// The merged tree of the chain; waits for layers being packed.
    pub(super) fn merged(&self, layers: &Layers<'_>) -> Result<Arc<MergedTree>, Error> {
        if let Some(merged) = self.merged.get() {
            return Ok(Arc::clone(merged));
        }
        let below = self.parent.as_ref().map(|parent| parent.merged(layers)).transpose()?;
        let merged = union(below, self.added.iter().map(|link| link.tree(layers)))?;
        Ok(Arc::clone(self.merged.get_or_init(|| merged)))
    }

    /// The merged tree, in which files of layers being packed may lack digests; does not wait for packing.
    pub(super) fn outline(&self, layers: &Layers<'_>) -> Result<Arc<MergedTree>, Error> {
        if let Some(known) = self.merged.get().or(self.outline.get()) {
            return Ok(Arc::clone(known));
        }
        let Some(parent) = &self.parent else { return self.merged(layers) };
        let outline = union(Some(parent.outline(layers)?), self.added.iter().map(|link| link.outline(layers)))?;
        Ok(Arc::clone(self.outline.get_or_init(|| outline)))
    }

    /// The key by content: that of an image with the same layers. `None` while a layer is being packed.
    pub(super) fn content_key(&self) -> Option<StepKey> {
        if let Some(known) = self.content.get() {
            return Some(*known);
        }
        let mut chain = Vec::new();
        for state in self.bottom_up() {
            for link in &state.added {
                chain.push(link.known()?);
            }
        }
        Some(*self.content.get_or_init(|| step_key::layers(&chain)))
    }

    /// Identifies the layers: results say so over which they were made. Every step of a build asks, so each layer is digested
    /// once. `None` while a layer is being packed.
    pub(super) fn identity(&self) -> Option<StepKey> {
        if let Some(known) = self.identity.get() {
            return Some(*known);
        }
        let below = self.parent.as_ref().map_or_else(|| Some(step_key::layers(&[])), |parent| parent.identity())?;
        let own = self.added.iter().map(Link::known).collect::<Option<Vec<DiffId>>>()?;
        let identity = own.into_iter().fold(below, step_key::over);
        Some(*self.identity.get_or_init(|| identity))
    }

    /// Whether every layer being packed may turn out to equal the one of the previous build; waits until their entries
    /// are known.
    pub(super) fn may_be_as_before(&self, layers: &Layers<'_>) -> Result<bool, Error> {
        for link in self.links().iter().filter(|link| link.sealed.now().is_none()) {
            let Some(before) = link.before.and_then(|before| layers.known_tree(before)) else {
                return Ok(false);
            };
            if !link.outline(layers)?.resembles(&before) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The diff-ids of the whole chain, bottom first.
    pub(super) fn diff_ids(&self) -> Result<Vec<DiffId>, Error> {
        Ok(self.layers()?.into_iter().map(|layer| layer.diff_id).collect())
    }
}

/// `below` with more layers on it.
fn union(
    below: Option<Arc<MergedTree>>,
    trees: impl Iterator<Item = Result<Arc<Tree>, Error>>,
) -> Result<Arc<MergedTree>, Error> {
    let mut merged = below.map(|below| MergedTree::clone(&below)).unwrap_or_default();
    for tree in trees {
        merged.push(tree?);
    }
    Ok(Arc::new(merged))
}

/// A layer that changes nothing: the two zero blocks every tar ends with.
fn empty() -> DiffId {
    DiffId(Sha256::of(&[0; 1024]))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::base::claim::Claims;
    use crate::base::digest::BlobDigest;
    use crate::base::sparse::SparseRead;
    use crate::layer::{Entry, EntryKind, Meta};
    use crate::oci::blob::{BlobError, BlobSource};
    use crate::oci::descriptor::{Descriptor, LAYER_TAR};
    use crate::snapshot::Method;

    struct Nothing;

    impl BlobSource for Nothing {
        fn open(&self, _: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
            unreachable!("nothing is read")
        }
    }

    #[test]
    fn layer_entries_are_known_before_it_is_packed() {
        let layers = Arc::new(Layers::new("layers".into(), Claims::new("claims".into()), &Nothing));
        let key = StepKey(Sha256::of(b"key"));
        let (link, packing) = Link::packing(Some("upper".into()), None);
        let state = State::over(&State::base(key, []), key, link);
        let entry = Entry::new(RelPath::root().join(b"f"), EntryKind::Dir, Meta::default());
        packing.outline.keep(Ok(Arc::new(Tree::new(vec![entry.clone()]))));
        assert!(state.outline(&layers).is_ok_and(|tree| tree.get(&entry.path).is_some()));
        let scratch = tempfile::tempdir().expect("a directory");
        let snapshots = Snapshotter::new(Arc::clone(&layers), Method::Copy, scratch.path());
        assert_eq!(state.directories(&snapshots).ok(), Some(vec![PathBuf::from("upper")]));

        // A stopped step ends the wait.
        let (link, packing) = Link::packing(None, None);
        let state = State::over(&state, key, link);
        packing.outline.keep(Err(Stopped));
        assert!(matches!(state.outline(&layers), Err(Error::Stopped)));
    }

    /// A layer that has been made, of these entries.
    fn made(name: &[u8], entries: Vec<Entry>) -> Link {
        let blob = Descriptor::new(LAYER_TAR, BlobDigest(Sha256::of(name)), 1);
        let layer = Layer { diff_id: DiffId(Sha256::of(name)), blob };
        Link::made(Sealed { layer, tree: Some(Arc::new(Tree::new(entries))) })
    }

    #[test]
    fn floor_lies_over_each_layer_that_only_implies_directories() {
        let scratch = tempfile::tempdir().expect("a directory");
        let layers = Layers::new("layers".into(), Claims::new("claims".into()), &Nothing);
        let snapshots = Snapshotter::new(Arc::new(layers), Method::Overlay { userxattr: true }, scratch.path());
        let key = StepKey(Sha256::of(b"key"));
        let dir = RelPath::root().join(b"d");
        let own = Meta {
            mode: 0o700,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            ..Meta::default()
        };
        let named = made(b"named", vec![Entry::new(dir.clone(), EntryKind::Dir, own)]);
        let file = Entry::new(dir.join(b"f"), EntryKind::Fifo, Meta::default());
        let below = State::over(&State::base(key, []), key, named);
        let above = State::over(&below, key, made(b"implied", vec![file]));
        let opaque = State::over(&below, key, made(b"opaque", vec![Entry::opaque(dir)]));
        assert_eq!(below.floor(&snapshots).expect("no floor"), None);
        for state in [above, opaque] {
            let floor = state.floor(&snapshots).expect("a floor").expect("is needed");
            let mode = floor.join("d").metadata().expect("d is there").mode();
            assert_eq!(mode & 0o7777, 0o700);
        }
    }
}
