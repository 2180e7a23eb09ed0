//! Executes COPY, ADD and WORKDIR: writes their files directly into a layer.

use std::sync::Arc;

use crate::copy::{self, Dest};
use crate::layer::MergedTree;
use crate::plan::{Copy, Step, Workdir};

use super::chain::Sealed;
use super::commit;
use super::error::StepError;
use super::event::Event;
use super::history::{self, History};
use super::message::Reporter;
use super::second_key;
use super::shared::Shared;
use super::sources::Sources;
use super::task::Task;
use super::unpacked::Unpacked;

/// Executes `copy`. Ok: its layer is stored.
pub(super) fn copy<'a>(
    shared: &Shared<'a>,
    sources: &Sources<'a>,
    history: &History,
    copy: &Copy,
    task: Task<'_>,
    reporter: &Reporter,
) -> Result<Sealed, StepError> {
    let made = sources.with(shared, copy, task, |prepared, remote| {
        prepared.complete(copy, remote)?;
        for note in prepared.notes() {
            warn(reporter, task.step, note);
        }
        history::note_files(shared, task.step, prepared.listing())?;
        let mut tree = task.parent().outline(&shared.layers)?;
        let mut passed = Vec::new();
        if copy.link {
            // C-19: a linked layer depends only on the directories that its destination passes through.
            passed = second_key::passed(copy, &tree);
            tree = Arc::new(MergedTree::new());
        }
        let files = Unpacked::new(task.parent(), shared.snapshots().ok());
        let scratch = shared.scratch_dir(task.step, "copy")?;
        commit::write_layer(shared, history, task.step, reporter, |writer| {
            let dest = Dest { tree: &tree, files: &files, passed: &passed };
            copy::execute(copy, prepared, &dest, &scratch, writer).map_err(|e| files.explain(e))
        })
    });
    sources.forget(task.step.id);
    made
}

/// Executes WORKDIR. Ok: its layer is stored.
pub(super) fn workdir(
    shared: &Shared<'_>,
    history: &History,
    workdir: &Workdir,
    task: Task<'_>,
    reporter: &Reporter,
) -> Result<Sealed, StepError> {
    let tree = task.parent().outline(&shared.layers)?;
    let files = Unpacked::new(task.parent(), shared.snapshots().ok());
    commit::write_layer(shared, history, task.step, reporter, |writer| {
        let dest = Dest { tree: &tree, files: &files, passed: &[] };
        let notes = copy::workdir(workdir, &dest, writer).map_err(|e| files.explain(e))?;
        for note in notes {
            warn(reporter, task.step, &note);
        }
        Ok(())
    })
}

fn warn(reporter: &Reporter, step: &Step, note: &copy::Note) {
    reporter.event(Event::Noted { name: step.meta.name.clone(), note: note.clone() });
}
