//! The steps of a build, in this process or in one inside a user namespace.

use std::collections::BTreeMap;

use crate::cli::args::Progress;
use crate::cli::failure::{Failure, Kind, SUCCESS};
use crate::cli::request::{BuildRequest, DockerfileFrom};
use crate::cli::session::Session;
use crate::device::Devices;
use crate::dockerfile::Diagnostic;
use crate::engine::{Builder, Context, Error, Images, Observer, Outcome, Settings};
use crate::plan::{ContextName, StepKind};
use crate::sandbox::userns::{self, Privilege};
use crate::sandbox::{Cancel, Spec};
use crate::snapshot::Method;
use crate::store::Store;
use crate::ui::console::Console;
use crate::ui::{excerpt, step};

use super::bases::Resolved;
use super::inputs::{Handed, Inputs};
use super::observer::{Recorder, observer};
use super::{prepare, shell, ssh};

/// Everything that is known before the first step.
pub(super) struct Build<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) request: &'a BuildRequest,
    pub(super) store: &'a Store,
    pub(super) images: &'a Images<'a>,
    pub(super) resolved: &'a Resolved,
    pub(super) devices: &'a Devices,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Where a build took place.
pub(super) enum Ended {
    /// In this process.
    Here(Box<Outcome>),
    /// In another, as root of a user namespace; this is its exit code.
    Inside(u8),
}

impl Build<'_> {
    pub(super) fn run(&self, session: &mut Session<'_>) -> Result<Ended, Failure> {
        let privilege = userns::privilege().map_err(|e| Failure::from_error(Kind::Host, &e))?;
        let cancel = session.interruptible()?;
        let contexts = prepare::contexts(&self.inputs.read, self.request, &self.inputs.fetched, self.store, &cancel)?;
        let mut settings = prepare::settings(self.request, self.inputs, session, privilege)?;
        if privilege == Privilege::Plain {
            let mut recorded = Recorder::default();
            let mut tried = self.build(&contexts, &settings, &cancel, &mut recorded);
            if matches!(tried, Err(Error::Cold)) {
                // What was read to look must not be read again inside.
                save(&contexts)?;
                session.hand_over(&Handed {
                    images: self.resolved.bases.clone().into_iter().collect(),
                    times: self.request.source.options.context_times.clone(),
                    secrets: Some(self.inputs.secrets.clone()),
                });
                // The process inside relies on what was looked up here.
                drop(self.store.lease()?);
                match session.as_root() {
                    Ok(code) => return Ok(Ended::Inside(code.unwrap_or(SUCCESS))),
                    Err(refused) => self.without_commands(refused)?,
                }
                session.interruptible()?;
                settings.warm_only = false;
                // No command: nothing needs a root file system, however it would be made.
                settings.snapshot = Some(Method::Copy);
                recorded.0.clear();
                tried = self.build(&contexts, &settings, &cancel, &mut recorded);
            }
            self.warn(session);
            let mut observer = observer(self.request.progress, session);
            recorded.0.iter().for_each(|event| observer.event(event));
            drop(observer);
            return self.done(tried, &contexts);
        }
        // Root of something already; it may still have to get mounts of its own.
        session.as_root()?;
        session.announce_single_id();
        let agents = ssh::agents(&self.request.ssh, self.store)?;
        settings.ssh.clone_from(&agents.sockets);
        self.warn(session);
        let built = {
            let mut observer = observer(self.request.progress, session);
            self.build(&contexts, &settings, &cancel, observer.as_mut())
        };
        self.done(built, &contexts)
    }

    /// Where nobody can be root of anything, a build still works if no step is a command. Err: some step is one, and
    /// `refused` says what stands in its way.
    fn without_commands(&self, refused: Failure) -> Result<(), Failure> {
        let Some(step) = self.resolved.plan.steps.iter().find(|step| matches!(step.kind, StepKind::Run(_))) else {
            return Ok(());
        };
        let place = Diagnostic::error(step.meta.span, "this command needs a user namespace, and none can be made here");
        let mut failure = refused.note("without one, COPY, ADD and everything that only sets metadata still work");
        failure.places.push((self.inputs.read.dockerfile.source.clone(), place));
        Err(failure)
    }

    fn build(
        &self,
        contexts: &BTreeMap<ContextName, Context>,
        settings: &Settings,
        cancel: &Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, Error> {
        let plan = &self.resolved.plan;
        let look = |step, spec: &Spec| {
            let shell = self.request.shell.as_ref().expect("only called if it was asked for");
            let name = step::title(&plan.step(step).meta.name);
            shell::open(&name, spec, &shell.term, &mut Console::stdio(shell.colour));
        };
        let builder = Builder {
            store: self.store,
            images: self.images,
            bases: &self.resolved.bases,
            devices: self.devices,
            contexts,
            settings,
            cancel,
            on_failure: self.request.shell.as_ref().map(|_| &look as _),
        };
        builder.build(plan, observer)
    }

    fn done(&self, built: Result<Outcome, Error>, contexts: &BTreeMap<ContextName, Context>) -> Result<Ended, Failure> {
        // What was read of the contexts is remembered for the next build, also if this one failed.
        let saved = save(contexts);
        match built {
            Ok(outcome) => {
                saved?;
                Ok(Ended::Here(Box::new(outcome)))
            }
            Err(error) => {
                let (read, plan) = (&self.inputs.read.dockerfile, &self.resolved.plan);
                let context = Some(self.request.source.context.as_path());
                let alone = matches!(self.request.source.file, DockerfileFrom::Text(..));
                Err(Failure::of_build(&error, plan, read, context.filter(|_| !alone)))
            }
        }
    }

    /// Says what is odd about the Dockerfile, once.
    fn warn(&self, session: &mut Session<'_>) {
        if self.request.progress == Progress::Quiet {
            return;
        }
        let source = &self.inputs.read.dockerfile.source;
        for warning in &self.warnings {
            let text = match session.console.is_json() {
                true => excerpt::json(source, warning).to_string(),
                false => excerpt::render_with(source, std::slice::from_ref(warning), session.console.colour()),
            };
            session.console.message(&text);
        }
    }
}

/// Keeps for the next build, or the process inside, what this one learnt of its contexts' files.
fn save(contexts: &BTreeMap<ContextName, Context>) -> Result<(), Failure> {
    for context in contexts.values() {
        context.tree.save().map_err(|e| Failure::from_error(Kind::Host, &e))?;
    }
    Ok(())
}
