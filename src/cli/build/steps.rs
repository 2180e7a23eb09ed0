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
use super::caches::Caches;
use super::early::Early;
use super::inputs::{Handover, Inputs};
use super::observer::{Recorder, observer};
use super::{prepare, shell, ssh};

/// Everything that is known before the first step runs.
pub(super) struct Build<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) request: &'a BuildRequest,
    pub(super) store: &'a Store,
    pub(super) images: &'a Images<'a>,
    pub(super) resolved: &'a Resolved,
    pub(super) devices: &'a Devices,
    pub(super) caches: &'a Caches,
    pub(super) warnings: Vec<Diagnostic>,
    /// Uploads layers while the build runs.
    pub(super) early: Option<Early<'a>>,
}

/// Where the build ran.
pub(super) enum Ended {
    /// In this process.
    Here(Box<Outcome>),
    /// In a process inside a user namespace, with this exit code.
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
                // The process inside must not read the files again.
                save(&contexts)?;
                // Where the image is pushed to.
                self.request
                    .tags
                    .iter()
                    .filter(|_| self.request.push)
                    .for_each(|name| self.images.registry.ask_helper(name));
                session.hand_over(&Handover {
                    images: self.resolved.bases.clone().into_iter().collect(),
                    times: self.request.source.options.context_times.clone(),
                    secrets: Some(self.inputs.secrets.clone()),
                    helpers: self.images.registry.helper_answers(),
                });
                // Protects what was found here from pruning until the process inside uses it.
                drop(self.store.lease()?);
                match session.as_root() {
                    Ok(code) => return Ok(Ended::Inside(code.unwrap_or(SUCCESS))),
                    Err(refused) => self.without_commands(refused)?,
                }
                session.interruptible()?;
                settings.warm_only = false;
                // Without RUN steps no root is needed, so any method will do.
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
        // Already root of a namespace; it may still need a mount namespace.
        session.as_root()?;
        session.announce_single_id();
        let agents = ssh::agents(&self.request.ssh, self.store)?;
        settings.ssh.clone_from(&agents.sockets);
        self.warn(session);
        let built = {
            let mut observer = observer(self.request.progress, session);
            match &self.early {
                None => self.build(&contexts, &settings, &cancel, observer.as_mut()),
                Some(early) => {
                    early.during(observer.as_mut(), |observer| self.build(&contexts, &settings, &cancel, observer))
                }
            }
        };
        self.done(built, &contexts)
    }

    /// Ok: no step is a RUN, so the build works without a user namespace. Err: some step is, and `refused` says what is
    /// missing.
    fn without_commands(&self, refused: Failure) -> Result<(), Failure> {
        let Some(step) = self.resolved.plan.steps.iter().find(|step| matches!(step.kind, StepKind::Run(_))) else {
            return Ok(());
        };
        let place =
            Diagnostic::error(step.meta.span, "this command needs a user namespace, which this host does not allow");
        let mut failure = refused.note("COPY, ADD and instructions that set metadata work without one");
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
            remotes: &self.caches.remotes,
            sender: &self.caches.sender,
            contexts,
            settings,
            cancel,
            on_failure: self.request.shell.as_ref().map(|_| &look as _),
        };
        builder.build(plan, observer)
    }

    fn done(&self, built: Result<Outcome, Error>, contexts: &BTreeMap<ContextName, Context>) -> Result<Ended, Failure> {
        // The stat index is kept even if the build failed.
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

    /// Prints the warnings.
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

/// Saves the stat indexes of the contexts for the next build or the process inside.
pub(super) fn save(contexts: &BTreeMap<ContextName, Context>) -> Result<(), Failure> {
    for context in contexts.values() {
        context.tree.save().map_err(|e| Failure::from_error(Kind::Host, &e))?;
    }
    Ok(())
}
