//! The filesystem after a step: a stack of layers, some of which are still being packed.
//!
//! As soon as a RUN has ended, its upper directory can be the next step's lower (design §6); its digests come later.
//! Whoever needs digests or the tree waits for them here, nobody else does.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::base::digest::{DiffId, Sha256, StepKey};
use crate::layer::{MergedTree, RelPath, Tree};
use crate::oci::descriptor::Layer;
use crate::snapshot::Layers;

use super::Error;
use super::promise::Promise;

/// A layer that is whole: its blob is stored.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    /// Digest and blob.
    pub(super) layer: Layer,
    /// What it holds, if whoever made it knows; else read on demand.
    pub(super) tree: Option<Arc<Tree>>,
}

/// The step that was to make the layer stopped; its own error is reported by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped;

/// One layer of a chain.
#[derive(Clone, Debug)]
pub(super) struct Link {
    sealed: Promise<Result<Sealed, Stopped>>,
    /// Where its files already are, if it was just made.
    fresh: Option<PathBuf>,
}

impl Link {
    /// A stored layer.
    pub(super) fn stored(layer: Layer) -> Self {
        Self { sealed: Promise::kept(Ok(Sealed { layer, tree: None })), fresh: None }
    }

    /// A layer that has just been made.
    pub(super) fn made(sealed: Sealed) -> Self {
        Self { sealed: Promise::kept(Ok(sealed)), fresh: None }
    }

    /// A layer whose digests will be given to the returned promise; its files may already be in the directory `fresh`.
    pub(super) fn packing(fresh: Option<PathBuf>) -> (Self, Promise<Result<Sealed, Stopped>>) {
        let sealed = Promise::new();
        (Self { sealed: sealed.clone(), fresh }, sealed)
    }

    /// The layer is stored and changes nothing.
    fn is_known_empty(&self) -> bool {
        self.sealed.now().is_some_and(|sealed| sealed.is_ok_and(|sealed| sealed.layer.diff_id == empty()))
    }

    /// Waits until the layer is stored.
    pub(super) fn sealed(&self) -> Result<Sealed, Error> {
        self.sealed.wait().map_err(|Stopped| Error::Stopped)
    }
}

/// What a step left behind.
#[derive(Debug)]
pub(super) struct State {
    /// The step's key.
    pub(super) key: StepKey,
    /// What is below; `None` at the bottom.
    parent: Option<Arc<State>>,
    /// The layers this step added: all of an image's for a base, else at most one.
    added: Vec<Link>,
    merged: OnceLock<Arc<MergedTree>>,
    /// At a bottom: what its layers cannot say of directories, if that was needed.
    floor: OnceLock<PathBuf>,
}

impl State {
    /// A bottom: the layers of an image, or none.
    pub(super) fn base(key: StepKey, layers: impl IntoIterator<Item = Layer>) -> Arc<Self> {
        let added = layers.into_iter().map(Link::stored).collect();
        Arc::new(Self { key, parent: None, added, merged: OnceLock::new(), floor: OnceLock::new() })
    }

    /// `parent` with one more layer.
    pub(super) fn over(parent: &Arc<State>, key: StepKey, link: Link) -> Arc<Self> {
        Arc::new(Self {
            key,
            parent: Some(Arc::clone(parent)),
            added: vec![link],
            merged: OnceLock::new(),
            floor: OnceLock::new(),
        })
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

    /// Where the files of each layer are, bottom first; unpacks what is not there yet.
    pub(super) fn directories(&self, layers: &Layers<'_>) -> Result<Vec<PathBuf>, Error> {
        let links = self.links();
        let stored: Vec<Option<Layer>> = links
            .iter()
            .map(|link| match link.fresh {
                Some(_) => Ok(None),
                None => link.sealed().map(|sealed| Some(sealed.layer)),
            })
            .collect::<Result<_, Error>>()?;
        layers.unpack(stored.iter().flatten())?;
        Ok(links
            .iter()
            .zip(&stored)
            .map(|(link, layer)| match (&link.fresh, layer) {
                (Some(path), _) => path.clone(),
                (None, Some(layer)) => layers.path(layer.diff_id),
                (None, None) => unreachable!("a layer is fresh or stored"),
            })
            .collect())
    }

    /// What to stack for an overlay that looks as the chain does, bottom first.
    ///
    /// Layers of images may name directories only by what is in them and hide what layers below say of those. A layer of
    /// our own that lies over them sets that right; layers that we make name every directory.
    pub(super) fn lowers(&self, layers: &Layers<'_>) -> Result<Vec<PathBuf>, Error> {
        let mut dirs = self.directories(layers)?;
        let bottom = self.bottom();
        // What changed nothing only makes the stack higher, and every mount dearer.
        let mut links = self.links().into_iter().enumerate();
        dirs.retain(|_| links.next().is_none_or(|(i, link)| i < bottom.added.len() || !link.is_known_empty()));
        if !bottom.added.is_empty() {
            let merged = bottom.merged(layers)?;
            dirs.insert(bottom.added.len(), bottom.floor(layers)?);
            dirs.drain(..merged.bottom());
        }
        Ok(dirs)
    }

    /// A directory whose mode, owner and times `/` has: the topmost layer's that says something of it.
    pub(super) fn root(&self, layers: &Layers<'_>) -> Result<Option<PathBuf>, Error> {
        let mut state = self;
        while let Some(parent) = &state.parent {
            for link in &state.added {
                if let Some(fresh) = &link.fresh {
                    // Every upper directory was begun as a copy of the one below.
                    return Ok(Some(fresh.clone()));
                }
                let sealed = link.sealed()?;
                let tree = match sealed.tree {
                    Some(tree) => tree,
                    None => layers.tree(&sealed.layer)?,
                };
                if tree.get(&RelPath::root()).is_some() {
                    return Ok(Some(layers.path(sealed.layer.diff_id)));
                }
            }
            state = parent;
        }
        if state.added.is_empty() { Ok(None) } else { state.floor(layers).map(Some) }
    }

    fn bottom(&self) -> &State {
        self.parent.as_deref().map_or(self, State::bottom)
    }

    fn floor(&self, layers: &Layers<'_>) -> Result<PathBuf, Error> {
        if let Some(made) = self.floor.get() {
            return Ok(made.clone());
        }
        let made = layers.floor(&*self.merged(layers)?)?;
        Ok(self.floor.get_or_init(|| made).clone())
    }

    /// What the chain looks like from above; waits for layers being packed.
    pub(super) fn merged(&self, layers: &Layers<'_>) -> Result<Arc<MergedTree>, Error> {
        if let Some(merged) = self.merged.get() {
            return Ok(Arc::clone(merged));
        }
        let mut merged = match &self.parent {
            Some(parent) => MergedTree::clone(&*parent.merged(layers)?),
            None => MergedTree::new(),
        };
        for link in &self.added {
            let sealed = link.sealed()?;
            let tree = match sealed.tree {
                Some(tree) => tree,
                None => layers.tree(&sealed.layer)?,
            };
            merged.push(tree);
        }
        Ok(Arc::clone(self.merged.get_or_init(|| Arc::new(merged))))
    }

    /// The diff-ids of the whole chain, bottom first.
    pub(super) fn diff_ids(&self) -> Result<Vec<DiffId>, Error> {
        Ok(self.layers()?.into_iter().map(|layer| layer.diff_id).collect())
    }
}

/// A layer that changes nothing: the two zero blocks every tar ends with.
fn empty() -> DiffId {
    DiffId(Sha256::of(&[0; 1024]))
}
