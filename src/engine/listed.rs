//! The files of contexts that a RUN mounts, or that a FROM takes whole: which of them changed since the previous build.

use crate::cache::{FileChanges, Listing, step_key};
use crate::copy;
use crate::plan::{Base, ContextName, CopyFrom, Mount, Step, StepKind};

use super::error::StepError;
use super::history;
use super::shared::Shared;

/// Notes what `step` reads so, for [`changes`] of the next build.
pub(super) fn note(shared: &Shared<'_>, step: &Step) -> Result<(), StepError> {
    for (part, name, source) in parts(step) {
        history::note_part(shared, step, &part, &list(shared, name, source)?)?;
    }
    Ok(())
}

/// The files that differ where a part of the key of `step` differs. `None`: the part stands for no such files, or they were not
/// noted.
pub(super) fn changes(shared: &Shared<'_>, step: &Step, part: &str) -> Result<Option<FileChanges>, StepError> {
    let Some((part, name, source)) = parts(step).into_iter().find(|(known, ..)| known == part) else { return Ok(None) };
    let Some(before) = history::last_part(shared, step, &part) else { return Ok(None) };
    Ok(list(shared, name, source)?.changes(&before))
}

/// A part of a key that stands for files of a context, with the place in it.
type Part<'s> = (String, &'s ContextName, &'s str);

fn parts(step: &Step) -> Vec<Part<'_>> {
    match &step.kind {
        StepKind::Base(Base::Context(name)) => vec![(step_key::FILES_OF_CONTEXT.to_owned(), name, "/")],
        StepKind::Run(run) => run.mounts.iter().filter_map(mounted).collect(),
        _ => Vec::new(),
    }
}

fn mounted(mount: &Mount) -> Option<Part<'_>> {
    match mount {
        Mount::Bind { from: CopyFrom::Context(name), source, target, .. } => {
            Some((step_key::files_of_mount(target), name, source))
        }
        _ => None,
    }
}

fn list(shared: &Shared<'_>, name: &ContextName, source: &str) -> Result<Listing, StepError> {
    Ok(copy::Mounted::new(&shared.context(name).tree, source)?.listing())
}
