//! `kiln build`: a Dockerfile and a context become an image.
//!
//! **Order.** Dockerfile → images looked up → plan → warnings → steps → outputs → names. Names come last, so that a
//! name never stands for half an image. A plain user's build first looks whether everything is cached, which needs no
//! namespace; only then does kiln start again as root of one.
//! **Not here.** What options mean: `request`. How progress looks: `ui`. Why a build failed, in words: `failure`.

pub(super) mod bases;
mod devices;
mod outputs;
mod prepare;
mod shell;
mod ssh;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;
use crate::device::Devices;
use crate::dockerfile::Diagnostic;
use crate::engine::source::Origin;
use crate::engine::{BaseImage, Builder, Context, Error, Event, Images, Observer, Outcome, Settings};
use crate::fetch::GitUrl;
use crate::plan::{self, ContextName, CopySource, EpochSource, ImageRequest, Plan, StepKind};
use crate::registry::Client;
use crate::sandbox::userns::{self, Standing};
use crate::sandbox::{Cancel, Spec};
use crate::snapshot::Method;
use crate::store::Store;
use crate::ui::console::Console;
use crate::ui::json::Json;
use crate::ui::plain::{DEFAULT_LOG_LIMIT, Plain};
use crate::ui::terminal::{self, Terminal};
use crate::ui::{excerpt, step};

use super::Session;
use super::args::{BuildArgs, Format, Progress};
use super::check::{self, Question};
use super::failure::{Done, Failure, Kind, SUCCESS};
use super::fetch::Fetched;
use super::interrupt;
use super::read::{Read, read, without_effect};
use super::request::{self, BuildRequest, DockerfileFrom};
use bases::Resolved;
use ssh::ForGit;

/// `kiln build`. Ok: the image is stored, written where `-o` says, and has its names.
pub(super) fn run(args: &BuildArgs, session: &mut Session<'_>) -> Done {
    interrupt::deafen_pool();
    let mut request = request::build(args, session.environment)?;
    if let Some(call) = &args.call {
        let (question, format) = check::parse_call(call)?;
        return check::answer(question, format, request.source, session);
    }
    if args.check {
        return check::answer(Question::Check, Format::Text, request.source, session);
    }
    if request.progress == Progress::Json {
        session.console.speak_json();
    }
    // What standard input said cannot be read a second time.
    // What is somewhere else is fetched only once, and belongs to whoever builds.
    if (request.source.file == DockerfileFrom::Stdin || request.source.origin.is_some() || !request.remotes.is_empty())
        && !args.print_plan
        && let Some(code) = session.as_root()?
    {
        return Ok(code);
    }
    let cancel = session.interruptible()?;
    outputs::check_places(&request)?;
    outputs::forget_old(&request)?;
    let handed = Session::handed_over::<Handed>().unwrap_or_default();
    let secrets = match handed.secrets {
        Some(secrets) => secrets,
        None => prepare::secrets(&request.secrets)?,
    };
    let by_ssh = |origin: &Origin| matches!(origin, Origin::Git { url, .. } if url.is_ssh());
    let mut remotes = request.source.origin.iter().chain(request.remotes.values());
    let context_by_ssh = remotes.any(|remote| by_ssh(&remote.origin));
    let users_agent = session.environment.agent();
    let mut for_git = match context_by_ssh {
        true => Some(ForGit::new(&request.ssh, users_agent, true, || session.store())?),
        false => None,
    };
    let agent = for_git.as_ref().and_then(ForGit::socket);
    let fetched = session.fetch(&mut request.source, &request.remotes, &secrets, agent, &cancel)?;
    let read = read(&request.source)?;
    request.source.options.context_times.extend(handed.times);
    if let Some(source) = epoch_source(&read, &request)? {
        if for_git.is_none() && is_by_ssh(&source.url) {
            for_git = Some(ForGit::new(&request.ssh, users_agent, false, || session.store())?);
        }
        let agent = for_git.as_ref().and_then(ForGit::socket);
        let time = session.time_of(&source, &secrets, agent, &cancel)?;
        request.source.options.context_times.insert(source.stage, time);
    }
    let store = session.store()?;
    session.share(&store)?;
    let client =
        Client::new(session.environment.registry_options(&request.insecure_registries, &request.registry_mirrors)?);
    let pinned = handed.images.into_iter().collect();
    let images = Images { store: &store, registry: &client, pull: request.pull, pinned: &pinned };
    let resolved = bases::plan(&read, &request, &images);
    session.announce_registries(&client);
    let resolved = resolved?;
    let (mut warnings, fatal) = read.warnings(&resolved.plan)?;
    if args.print_plan {
        session.console.data(format_args!("{}", resolved.plan.to_string().trim_end()))?;
    }
    if fatal {
        let failure = Failure::diagnostics(&read.dockerfile.source, warnings);
        return Err(failure.note("this Dockerfile asks for warnings to be errors (# check=error=true)"));
    }
    if args.print_plan {
        return Ok(SUCCESS);
    }
    let devices = devices::find(&resolved.plan, &read.dockerfile.source, &request)?;
    warnings.extend(without_effect(&resolved.plan, &read.dockerfile, &request.source));
    let for_git = match for_git {
        None if adds_by_ssh(&resolved.plan) => Some(ForGit::new(&request.ssh, users_agent, false, || session.store())?),
        started => started,
    };
    let agent = for_git.as_ref().and_then(ForGit::socket);
    let (images, resolved) = (&images, &resolved);
    let (request, fetched, secrets, devices) = (&request, &fetched, &secrets, &devices);
    let (read, store) = (&read, &store);
    let build = Build { read, request, fetched, secrets, agent, store, images, resolved, devices, warnings };
    let ended = build.run(session);
    session.announce_registries(&client);
    let outcome = match ended? {
        Ended::Here(outcome) => outcome,
        Ended::Inside(code) => return Ok(code),
    };
    outputs::deliver(store, request, &outcome, session)?;
    Ok(SUCCESS)
}

/// Some ADD takes a repository through ssh.
fn adds_by_ssh(plan: &Plan) -> bool {
    let sources = plan.steps.iter().flat_map(|step| match &step.kind {
        StepKind::Copy(copy) => copy.sources.as_slice(),
        _ => &[],
    });
    let mut urls = sources.filter_map(|source| if let CopySource::Git(url) = source { Some(url) } else { None });
    urls.any(|url| is_by_ssh(url))
}

/// What is no URL is said by whoever fetches it.
fn is_by_ssh(url: &str) -> bool {
    GitUrl::parse(url).is_ok_and(|url| url.is_ssh())
}

/// What has to be fetched to know what SOURCE_DATE_EPOCH means, unless it was handed over.
fn epoch_source(read: &Read, request: &BuildRequest) -> Result<Option<EpochSource>, Failure> {
    let source = plan::epoch_source(&read.dockerfile, &request.source.options)
        .map_err(|problem| Failure::diagnostics(&read.dockerfile.source, vec![*problem]))?;
    Ok(source.filter(|source| !request.source.options.context_times.contains_key(&source.stage)))
}

/// What the process inside is handed: names are looked up once in a build (N-66), and a secret may be a pipe.
#[derive(Default, Serialize, Deserialize)]
struct Handed {
    images: Vec<(ImageRequest, BaseImage)>,
    /// Of what was asked when it changed.
    times: BTreeMap<String, Option<Timestamp>>,
    secrets: Option<BTreeMap<String, Vec<u8>>>,
}

/// Everything that is known before the first step.
struct Build<'a> {
    read: &'a Read,
    request: &'a BuildRequest,
    fetched: &'a Fetched,
    secrets: &'a BTreeMap<String, Vec<u8>>,
    /// The one that git may ask.
    agent: Option<&'a Path>,
    store: &'a Store,
    images: &'a Images<'a>,
    resolved: &'a Resolved,
    devices: &'a Devices,
    warnings: Vec<Diagnostic>,
}

/// Where a build took place.
enum Ended {
    /// In this process.
    Here(Box<Outcome>),
    /// In another, as root of a user namespace; this is its exit code.
    Inside(u8),
}

impl Build<'_> {
    fn run(&self, session: &mut Session<'_>) -> Result<Ended, Failure> {
        let standing = userns::standing().map_err(|e| Failure::from_error(Kind::Host, &e))?;
        let cancel = session.interruptible()?;
        let contexts = prepare::contexts(self.read, self.request, self.fetched, self.store, &cancel)?;
        let mut settings =
            prepare::settings(self.request, self.read, self.secrets.clone(), session, standing, self.agent)?;
        if standing == Standing::Plain {
            let mut recorded = Recorder::default();
            let mut tried = self.build(&contexts, &settings, &cancel, &mut recorded);
            if matches!(tried, Err(Error::Cold)) {
                // What was read to look must not be read again inside.
                save(&contexts)?;
                session.hand_over(&Handed {
                    images: self.resolved.bases.clone().into_iter().collect(),
                    times: self.request.source.options.context_times.clone(),
                    secrets: Some(self.secrets.clone()),
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
        failure.places.push((self.read.dockerfile.source.clone(), place));
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
                let (read, plan) = (&self.read.dockerfile, &self.resolved.plan);
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
        let source = &self.read.dockerfile.source;
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

/// Tells the build as `--progress` says.
fn observer<'s>(progress: Progress, session: &'s mut Session<'_>) -> Box<dyn Observer + 's> {
    if progress == Progress::Auto
        && session.environment.can_redraw()
        && let Some(screen) = session.console.screen()
    {
        return Box::new(Terminal::new(Box::new(screen), terminal::size_of_stderr, session.console.colour()));
    }
    match progress {
        Progress::Quiet => Box::new(Quiet),
        Progress::Json => Box::new(Json::new(session.console.err())),
        Progress::Auto | Progress::Plain => Box::new(Plain::new(session.console.err(), Some(DEFAULT_LOG_LIMIT))),
    }
}

/// Says nothing.
struct Quiet;

impl Observer for Quiet {
    fn event(&mut self, _: &Event) {}
}

/// Keeps what a build said until it is known whether this process is the one that does it.
#[derive(Default)]
struct Recorder(Vec<Event>);

impl Observer for Recorder {
    fn event(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}
