//! COPY, ADD, WORKDIR and contexts: the steps whose input is files and whose output is written straight to a layer.
//!
//! **Order.** What the sweep selected and digested of a context is kept until the step is executed, so that a context
//! is walked once. Files of layers are unpacked only when one of them must be read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_channel::Sender;

use crate::base::digest::Sha256;
use crate::base::fs::FsError;
use crate::base::sparse::{SparseFile, SparseWriter};
use crate::context::{self, Given, Options};
use crate::layer::{self, Compression, Form, LayerWriter, MergedEntry, MergedTree, Output, WriteOptions};
use crate::plan::{ContextName, Copy, CopyFrom, CopySource, Step, Workdir};
use crate::snapshot::Layers;

use super::builder::{Context, Message};
use super::chain::{Sealed, State};
use super::event::Event;
use super::mounts::input;
use super::worker::Worker;
use super::{Error, StepError, reuse};
use crate::copy::{self, Dest, LayerDirs, LayerFiles, LayerTree, Prepared};
use crate::fetch::{Remote, Secrets};

/// Says something that is no error.
fn warn(sender: &Sender<Message>, step: &Step, note: &copy::Note) {
    // The coordinator outlives its workers; if it is gone, nobody is interested.
    let _ = sender.send(Message::Event(Event::Warning(format!("{}: {note}", step.meta.name))));
}

impl<'a> Worker<'a> {
    /// What `copy` reads: part of its key.
    pub(super) fn copy_digest(&self, copy: &Copy, step: &Step, inputs: &[Arc<State>]) -> Result<Sha256, StepError> {
        self.with_sources(copy, step, inputs, |prepared, _| Ok(prepared.digest()))
    }

    /// Executes `copy`. Ok: its layer is stored.
    pub(super) fn copy(
        &self,
        copy: &Copy,
        step: &Step,
        inputs: &[Arc<State>],
        sender: &Sender<Message>,
    ) -> Result<Sealed, StepError> {
        let made = self.with_sources(copy, step, inputs, |prepared, remote| {
            prepared.complete(copy, remote)?;
            for note in prepared.notes() {
                warn(sender, step, note);
            }
            self.remember_files(step, prepared.listing())?;
            let parent = &inputs[0];
            // C-19: a linked layer knows nothing of what it will lie on but which directories it passes through.
            let mut tree = parent.outline(&self.layers)?;
            let mut passed = Vec::new();
            if copy.link {
                passed = reuse::passed(copy, &tree);
                tree = Arc::new(MergedTree::new());
            }
            let files = Unpacked::new(parent, &self.layers);
            let scratch = self.scratch_dir(step, "copy")?;
            self.write_layer(step, sender, |writer| {
                let dest = Dest { tree: &tree, files: &files, passed: &passed };
                copy::execute(copy, prepared, &dest, &scratch, writer).map_err(|e| files.explain(e))
            })
        });
        self.selected.lock().unwrap_or_else(PoisonError::into_inner).remove(&step.id);
        made
    }

    /// Executes WORKDIR. Ok: its layer is stored.
    pub(super) fn workdir(
        &self,
        step: &Step,
        workdir: &Workdir,
        parent: &Arc<State>,
        sender: &Sender<Message>,
    ) -> Result<Sealed, StepError> {
        let tree = parent.outline(&self.layers)?;
        let files = Unpacked::new(parent, &self.layers);
        self.write_layer(step, sender, |writer| {
            let dest = Dest { tree: &tree, files: &files, passed: &[] };
            let notes = copy::workdir(workdir, &dest, writer).map_err(|e| files.explain(e))?;
            for note in notes {
                warn(sender, step, &note);
            }
            Ok(())
        })
    }

    /// Selects and digests what `copy` reads, or takes what was selected before, and gives it to `use_it`.
    pub(super) fn with_sources<R>(
        &self,
        copy: &Copy,
        step: &Step,
        inputs: &[Arc<State>],
        use_it: impl FnOnce(&mut Prepared<'_>, &Remote<'_>) -> Result<R, StepError>,
    ) -> Result<R, StepError> {
        let cache = self.builder.store.fetched_dir();
        let fetches = copy.sources.iter().any(|s| matches!(s, CopySource::Http(_) | CopySource::Git(_)));
        let scratch = match fetches {
            true => self.scratch()?.join(format!("{}-fetch", step.id.0)),
            false => PathBuf::new(),
        };
        let settings = self.builder.settings;
        let remote = Remote {
            proxies: settings.proxies.clone(),
            env: &settings.git_environment,
            secrets: Secrets(&settings.secrets),
            since: Some(settings.began),
            stop: Some(self.stop),
            max_bytes: settings.max_download,
            ..Remote::new(&cache, &scratch)
        };
        match &copy.from {
            CopyFrom::Context(name) => {
                let context: &'a Context = self.context(name)?;
                let known = self.selected.lock().unwrap_or_else(PoisonError::into_inner).remove(&step.id);
                let mut prepared = match known {
                    Some(prepared) => prepared,
                    None => copy::prepare(copy, &context.tree, &remote)?,
                };
                let result = use_it(&mut prepared, &remote);
                self.selected.lock().unwrap_or_else(PoisonError::into_inner).insert(step.id, prepared);
                result
            }
            CopyFrom::Step(id) => {
                let state = input(step, inputs, *id);
                let tree = state.merged(&self.layers)?;
                let files = Unpacked::new(state, &self.layers);
                let from = LayerTree::new(&tree, &files);
                let mut prepared = copy::prepare(copy, &from, &remote).map_err(|e| files.explain(e))?;
                self.remember_contents(state, &tree, &from)?;
                use_it(&mut prepared, &remote)
            }
        }
    }

    /// Digests that had to be computed go into the trees of their layers: the next build knows them.
    fn remember_contents(&self, state: &State, tree: &MergedTree, from: &LayerTree<'_>) -> Result<(), StepError> {
        let learnt = from.learnt();
        let mut layers: Vec<usize> = learnt.iter().map(|l| l.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        if layers.is_empty() {
            return Ok(());
        }
        let diff_ids = state.diff_ids()?;
        for layer in layers {
            let mut knowing = layer::Tree::clone(&tree.layers()[layer]);
            for one in learnt.iter().filter(|l| l.layer == layer) {
                knowing.set_content(&one.path, one.content);
            }
            self.layers.keep_tree(diff_ids[layer], &Arc::new(knowing)).map_err(Error::from)?;
        }
        Ok(())
    }

    /// What a bind mount of `source` in a context shows: part of the key.
    pub(super) fn context_digest(&self, name: &ContextName, source: &str) -> Result<Sha256, StepError> {
        let context = self.context(name)?;
        let selected = context::select(&context.tree, source.as_bytes(), Options { parents: false, exclude: None });
        let digested = selected.and_then(|selected| context::digest(&context.tree, &selected, Given::default()));
        Ok(digested.map_err(copy::Error::from)?.digest.0)
    }

    /// The context called `name`.
    pub(super) fn context(&self, name: &ContextName) -> Result<&'a Context, StepError> {
        Ok(self.builder.contexts.get(name).expect("every context of a plan was opened"))
    }

    /// Fills the directory `data` with what mount `number` starts from (M-8).
    pub(super) fn seed(
        &self,
        from: &CopyFrom,
        data: &Path,
        step: &Step,
        number: usize,
        inputs: &[Arc<State>],
    ) -> Result<(), StepError> {
        match from {
            CopyFrom::Step(id) => {
                let state = input(step, inputs, *id);
                let (tree, dirs) = (state.merged(&self.layers)?, state.directories(&self.layers)?);
                Ok(layer::copy_tree(&tree, &dirs, data)?)
            }
            CopyFrom::Context(name) => {
                let scratch = self.scratch_dir(step, &format!("mount-{number}-seed"))?;
                let path = scratch.join("layer");
                let file = File::create_new(&path).map_err(|e| FsError::new("create", &path, e))?;
                let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
                let mut writer = LayerWriter::new(SparseWriter::new(file), &options);
                self.write_context(name, &scratch, &mut writer)?;
                let (file, written) = writer.finish()?;
                file.finish().map_err(|e| FsError::new("write", &path, e))?;
                let file = File::open(&path).map_err(|e| FsError::new("open", &path, e))?;
                layer::unpack(SparseFile::new(file, written.size), data, written.diff_id, Form::Plain)?;
                Ok(())
            }
        }
    }

    /// FROM of a context: the layer that holds all of it. Ok: it is stored.
    pub(super) fn context_layer(
        &self,
        name: &ContextName,
        step: &Step,
        sender: &Sender<Message>,
    ) -> Result<Sealed, StepError> {
        let scratch = self.scratch_dir(step, "context")?;
        self.write_layer(step, sender, |writer| self.write_context(name, &scratch, writer))
    }

    fn write_context<W: Output>(
        &self,
        name: &ContextName,
        scratch: &Path,
        writer: &mut LayerWriter<W>,
    ) -> Result<(), StepError> {
        let copy = copy::whole(CopyFrom::Context(name.clone()));
        let (tree, nothing) = (MergedTree::new(), LayerDirs::default());
        let prepared = copy::prepare(&copy, &self.context(name)?.tree, &Remote::new(scratch, scratch))?;
        copy::execute(&copy, &prepared, &Dest { tree: &tree, files: &nothing, passed: &[] }, scratch, writer)?;
        Ok(())
    }
}

/// The files of a chain of layers, unpacked when the first of them is read.
struct Unpacked<'s> {
    state: &'s State,
    layers: &'s Layers<'s>,
    dirs: OnceLock<Option<LayerDirs>>,
    failed: Mutex<Option<Error>>,
}

impl<'s> Unpacked<'s> {
    fn new(state: &'s State, layers: &'s Layers<'s>) -> Self {
        Self { state, layers, dirs: OnceLock::new(), failed: Mutex::default() }
    }

    fn dirs(&self) -> Result<LayerDirs, Error> {
        if !self.layers.is_settled() {
            return Err(Error::Cold);
        }
        let dirs = self.state.directories(self.layers)?;
        LayerDirs::open(&dirs).map_err(|e| FsError::new("open", Path::new("unpacked layers"), e).into())
    }

    /// Why a copy failed: `error`, unless it is only that a layer could not be unpacked.
    fn explain(&self, error: copy::Error) -> StepError {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reason) => reason.into(),
            None => error.into(),
        }
    }
}

impl LayerFiles for Unpacked<'_> {
    fn open(&self, found: &MergedEntry<'_>) -> io::Result<File> {
        let dirs = self.dirs.get_or_init(|| match self.dirs() {
            Ok(dirs) => Some(dirs),
            Err(reason) => {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                None
            }
        });
        match dirs {
            Some(dirs) => dirs.open(found),
            None => Err(io::Error::other("the layers could not be unpacked")),
        }
    }
}
