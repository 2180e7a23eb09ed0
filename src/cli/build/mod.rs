//! `kiln build`: a Dockerfile and a context become an image.
//!
//! **Order.** Dockerfile → images looked up → plan → warnings → steps → outputs → names. Names come last, so that a name
//! never stands for an incomplete image. A plain user's build first looks everything up in the cache, which needs no
//! namespace; only a miss starts kiln again as root of a user namespace.
//! **Not here.** What options mean: `request`. How progress looks: `ui`. Why a build failed, in words: `failure`.

mod bases;
mod caches;
mod devices;
mod early;
mod explain;
mod inputs;
mod observer;
mod outputs;
mod prepare;
mod secrets;
mod shell;
mod ssh;
mod steps;

pub(super) use explain::{Asked, explain};

use std::sync::Arc;

use crate::dockerfile::Diagnostic;
use crate::engine::{Images, StorageLimit};
use crate::registry::Client;
use crate::store::Store;
use crate::ui::console::Console;

use super::args::{BuildArgs, Format, Progress, RegistryArgs};
use super::check::{self, Question};
use super::failure::{Done, Failure, Kind, SUCCESS};
use super::interrupt;
use super::push::Transfer;
use super::read::without_effect;
use super::request::{self, BuildRequest, DockerfileFrom};
use super::session::Session;
use super::sourced::Sourced;
use bases::Resolved;
use caches::Caches;
use early::Early;
use inputs::Inputs;
use steps::{Build, Ended};

/// `kiln build`. Ok: the image is stored, written where `-o` says, and has its names.
pub(super) fn run(args: &BuildArgs, session: &mut Session<'_>) -> Done {
    interrupt::block_signals_in_pool();
    let mut request = request::build(args, session.environment)?;
    if let Some((question, format)) = question(args)? {
        return check::answer(question, format, request.source, session);
    }
    if request.progress == Progress::Json {
        session.console.use_json();
    }
    if can_be_read_once_only(&request)
        && !args.print_plan
        && let Some(code) = session.as_root()?
    {
        return Ok(code);
    }
    let cancel = session.interruptible()?;
    outputs::check_places(&request)?;
    outputs::forget_old(&request)?;
    let mut inputs = inputs::read(&mut request, session, &cancel)?;
    let store = session.store()?;
    session.share(&store)?;
    let registries = RegistryArgs { insecure_registry: request.insecure_registries.clone(), ..args.registries.clone() };
    let options = session.environment.pulling(&registries)?;
    options.credentials.remember(std::mem::take(&mut inputs.helpers));
    store.fetch_missing_from(Arc::new(Sourced::new(session.environment, Some(options.clone()))));
    let caches = Caches::open(&request, &options, &store)?;
    let client = Client::new(options);
    let images = Images { store: &store, registry: &client, pull: request.pull, pinned: &inputs.pinned };
    let resolved = bases::plan(&inputs.read, &request, &images);
    session.announce_registries(&client);
    let resolved = resolved?;
    if args.print_plan {
        session.console.data(format_args!("{}", resolved.plan.to_string().trim_end()))?;
    }
    let mut warnings = warnings(&inputs, &resolved)?;
    if args.print_plan {
        return Ok(SUCCESS);
    }
    let devices = devices::find(&resolved.plan, &inputs.read.dockerfile.source, &request)?;
    warnings.extend(without_effect(&resolved.plan, &inputs.read.dockerfile, &request.source));
    warnings.extend(caches::unknown_mounts(&request, &resolved.plan));
    if ssh::is_needed_by(&resolved.plan) {
        ssh::start(&mut inputs.git_agent, &request, session, false)?;
    }
    let pushes = pushes(&request, &store, session);
    let build = Build {
        inputs: &inputs,
        request: &request,
        store: &store,
        images: &images,
        resolved: &resolved,
        devices: &devices,
        caches: &caches,
        warnings,
        early: request.push.then(|| Early::new(&client, &store, &pushes, &resolved)),
    };
    let ended = build.run(session);
    session.announce_registries(&client);
    // The process inside a user namespace has asked the same caches.
    if !matches!(ended, Ok(Ended::Inside(_))) {
        caches.announce(session);
    }
    match ended? {
        Ended::Here(outcome) => {
            outputs::deliver(&store, &request, &outcome, (&client, &pushes), session)?;
            match session.environment.storage_limit()?.filter(|_| outcome.grew) {
                Some(bytes) => {
                    let limit = StorageLimit { store: &store, bytes, began: session.began, cancel: &cancel };
                    let mut observer = observer::observer(request.progress, session);
                    limit.enforce(observer.as_mut()).map_err(|e| Failure::from_error(Kind::Build, &e))?;
                    Ok(SUCCESS)
                }
                None => Ok(SUCCESS),
            }
        }
        Ended::Inside(code) => Ok(code),
    }
}

/// The pushes that the request asks for.
fn pushes<'a>(request: &'a BuildRequest, store: &'a Store, session: &Session<'_>) -> Vec<Transfer<'a>> {
    let quiet = matches!(request.progress, Progress::Quiet | Progress::Json);
    let console = || (!quiet).then(|| Console::stdio(session.console.colour()));
    let names = request.tags.iter().filter(|_| request.push);
    names.map(|name| Transfer::new(store, name, console())).collect()
}

/// `--check` and `--call`.
fn question(args: &BuildArgs) -> Result<Option<(Question, Format)>, Failure> {
    match &args.call {
        Some(call) => check::parse_call(call).map(Some),
        None => Ok(args.check.then_some((Question::Check, Format::Text))),
    }
}

/// Standard input cannot be read twice, and what is fetched belongs to whoever builds: such a build enters its user
/// namespace before it reads anything.
fn can_be_read_once_only(request: &BuildRequest) -> bool {
    let source = &request.source;
    source.file == DockerfileFrom::Stdin || source.origin.is_some() || !request.remotes.is_empty()
}

/// The warnings about what the plan needs. Err: the Dockerfile asks for them to be errors.
fn warnings(inputs: &Inputs, resolved: &Resolved) -> Result<Vec<Diagnostic>, Failure> {
    let (warnings, fatal) = inputs.read.warnings(&resolved.plan)?;
    if fatal {
        let failure = Failure::diagnostics(&inputs.read.dockerfile.source, warnings);
        return Err(failure.note("this Dockerfile asks for warnings to be errors (# check=error=true)"));
    }
    Ok(warnings)
}
