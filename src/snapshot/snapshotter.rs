//! Layers as directories, in the form that one method of making roots needs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::base::digest::DiffId;
use crate::base::time::Timestamp;
use crate::base::{fs, publish, unique};
use crate::layer::{self, Form, MergedTree};
use crate::oci::descriptor::Layer;

use super::layers::Layers;
use super::{Error, Method};

/// Unpacks layers for one method, and finds them again.
pub(crate) struct Snapshotter<'a> {
    pub(super) layers: Arc<Layers<'a>>,
    method: Method,
    pub(super) scratch: PathBuf,
    /// Layers that are known to be unpacked: nothing removes them while this lives.
    unpacked: Mutex<BTreeSet<DiffId>>,
    /// When this machine started.
    booted: Timestamp,
}

impl<'a> Snapshotter<'a> {
    /// Roots are made by `method`. `scratch` is a directory on the same file system as the layers. Layers that were looked at
    /// before are marked as used again: the lease may have begun meanwhile.
    pub(crate) fn new(layers: Arc<Layers<'a>>, method: Method, scratch: &Path) -> Self {
        layers.keep_again();
        Self { layers, method, scratch: scratch.to_owned(), unpacked: Mutex::default(), booted: Timestamp::boot() }
    }

    /// What is known of the layers.
    pub(crate) fn layers(&self) -> &Layers<'a> {
        &self.layers
    }

    /// How roots are made.
    pub(crate) fn method(&self) -> Method {
        self.method
    }

    /// Where the files of a layer are once [`Snapshotter::unpack`] returned.
    pub(crate) fn path(&self, diff_id: DiffId) -> PathBuf {
        self.layers.beside(diff_id, &directory_name(self.form()))
    }

    /// Ok: the files of every layer are at [`Snapshotter::path`], verified against the diff-id. Layers that are unpacked
    /// already are left alone. The others are unpacked in parallel, each by one thread of one process: others wait for it.
    pub(crate) fn unpack<'l>(&self, layers: impl IntoIterator<Item = &'l Layer>) -> Result<(), Error> {
        let mut wanted: BTreeMap<DiffId, &Layer> = layers.into_iter().map(|layer| (layer.diff_id, layer)).collect();
        loop {
            let (mut ours, mut theirs) = (Vec::new(), BTreeMap::new());
            for (diff_id, layer) in wanted {
                self.layers.keep_dir(diff_id)?;
                if self.is_at_hand(diff_id)? {
                    continue;
                }
                match self.layers.try_claim(diff_id)? {
                    Some(claim) if !self.is_whole(layer)? => ours.push((layer, claim)),
                    Some(_) => {}
                    None => drop(theirs.insert(diff_id, layer)),
                }
            }
            // Nobody waits for a claim while having one: two could wait for each other, and the threads of the pool must
            // stay free for those who unpack.
            ours.into_par_iter().try_for_each(|(layer, _claim)| self.unpack_one(layer))?;
            let Some(first) = theirs.keys().next() else { return Ok(()) };
            self.layers.claim(*first)?;
            wanted = theirs;
        }
    }

    /// A directory in scratch that, over the layers of `merged`, says what they cannot: see [`layer::prepare_upper`].
    pub(crate) fn floor(&self, merged: &MergedTree) -> Result<PathBuf, Error> {
        let dir = self.scratch_dir("floor")?;
        layer::prepare_upper(merged, &dir).map_err(Error::Copy)?;
        Ok(dir)
    }

    /// Gives the files in `made`, a directory in scratch that nobody uses any more, to the layer.
    /// Ok: the layer is unpacked, by this call or before; in the latter case `made` stays where it is.
    pub(crate) fn adopt(&self, diff_id: DiffId, made: &Path) -> Result<(), Error> {
        self.layers.keep_dir(diff_id)?;
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

    /// Whether the layer's files are there and need not be read: they were made since this machine started, or found whole.
    fn is_at_hand(&self, diff_id: DiffId) -> Result<bool, Error> {
        if self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).contains(&diff_id) {
            return Ok(true);
        }
        let at_hand = self.condition(diff_id)? == Condition::Whole;
        if at_hand {
            self.remember(diff_id);
        }
        Ok(at_hand)
    }

    /// What can be said of the layer's files without reading them. They are not synced when they are unpacked, which would
    /// cost more than unpacking: those from before this machine started may be incomplete, and are read once.
    pub(super) fn condition(&self, diff_id: DiffId) -> Result<Condition, Error> {
        let path = self.path(diff_id);
        if !std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
            return Ok(Condition::Missing);
        }
        Ok(match fs::changed(&path)? {
            None => Condition::Missing,
            Some(changed) if changed >= self.booted => Condition::Whole,
            // Younger than the directory: it speaks of this one.
            Some(changed) if fs::modified(&self.whole_mark(diff_id)).is_ok_and(|read| read >= changed) => {
                Condition::Whole
            }
            Some(_) => Condition::Unknown,
        })
    }

    /// The file that says that the layer's files were read and found whole.
    fn whole_mark(&self, diff_id: DiffId) -> PathBuf {
        self.layers.beside(diff_id, &format!("whole-{}", directory_name(self.form())))
    }

    /// Whether the layer's files are there, for the holder of the claim on the layer. Files found whole are on the disk and
    /// not read again; incomplete ones are removed.
    fn is_whole(&self, layer: &Layer) -> Result<bool, Error> {
        let path = self.path(layer.diff_id);
        match self.condition(layer.diff_id)? {
            Condition::Missing => return Ok(false),
            Condition::Whole => {}
            Condition::Unknown if layer::is_whole(&path, &*self.layers.claimed_tree(layer)?) => {
                fs::mark(&path);
                // Best effort: without it the layer is read again after the next start.
                let _ = publish::atomic_over(&self.whole_mark(layer.diff_id), b"", 0o600);
            }
            Condition::Unknown => {
                let away = self.scratch.join(unique::name("short-"));
                fs::rename(&path, &away)?;
                fs::remove_tree(&away)?;
                self.layers.notices.note(
                    format!("unpacked layer {} again", layer.diff_id),
                    "files of it were not on the disk when the machine went down",
                );
                return Ok(false);
            }
        }
        self.remember(layer.diff_id);
        Ok(true)
    }

    /// Remembers that the layer is unpacked.
    fn remember(&self, diff_id: DiffId) {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id);
    }

    fn unpack_one(&self, layer: &Layer) -> Result<(), Error> {
        if self.unpack_from_similar(layer)? {
            return Ok(());
        }
        let to = self.unpack_dir(layer)?;
        let blob = self.layers.open(layer)?;
        let tree = layer::unpack_within(blob, &to, layer.diff_id, self.form(), &self.layers.limits);
        let tree = Arc::new(tree.map_err(|e| self.layers.explain(layer, e))?);
        self.layers.keep_tree(layer.diff_id, &tree)?;
        self.adopt(layer.diff_id, &to)
    }

    /// An empty directory to unpack a layer into.
    pub(super) fn unpack_dir(&self, layer: &Layer) -> Result<PathBuf, Error> {
        self.scratch_dir(&format!("unpack-{:.12}", layer.diff_id.hex()))
    }

    fn scratch_dir(&self, purpose: &str) -> Result<PathBuf, Error> {
        let dir = self.scratch.join(unique::name(&format!("{purpose}-")));
        fs::create_dir(&dir, 0o755)?;
        Ok(dir)
    }

    pub(super) fn form(&self) -> Form {
        match self.method {
            Method::Overlay { userxattr } => Form::Overlay { userxattr },
            Method::Copy => Form::Plain,
        }
    }
}

/// What is known of a layer's files without reading them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// They are not there.
    Missing,
    /// All are there.
    Whole,
    /// Some may be missing.
    Unknown,
}

/// The name of the directory that has a layer's files in this form. Where files cannot have every owner, the name says which
/// they can have: with more ids, others stand for those that are left. The number changes with what is unpacked.
pub(super) fn directory_name(form: Form) -> String {
    let form = match form {
        Form::Overlay { userxattr: false } => "fs2",
        Form::Overlay { userxattr: true } => "fs2-user",
        Form::Plain => "fs2-plain",
    };
    format!("{form}{}", layer::id_map_name())
}
