//! What `kiln cache explain` asks: the plan of a build, looked up and not run.

use std::sync::Arc;

use crate::cli::args::CacheExplainArgs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::read::without_effect;
use crate::cli::request;
use crate::cli::session::Session;
use crate::engine::{Builder, Explanation, Images};
use crate::plan::Plan;
use crate::registry::Client;
use crate::sandbox::userns;
use crate::ui::excerpt;

use super::caches::Caches;
use super::{bases, can_be_read_once_only, devices, inputs, prepare, steps};

/// Where the question was answered.
pub(in crate::cli) enum Asked {
    /// In this process.
    Here(Arc<Plan>, Vec<Explanation>),
    /// In a process inside a user namespace, with this exit code.
    Inside(u8),
}

/// Explains every step of the build that these arguments describe. Needs no user namespace, unless something is fetched
/// that only root of one can unpack.
pub(in crate::cli) fn explain(args: &CacheExplainArgs, session: &mut Session<'_>) -> Result<Asked, Failure> {
    let args = args.to_build();
    let mut request = request::build(&args, session.environment)?;
    if can_be_read_once_only(&request)
        && let Some(code) = session.as_root()?
    {
        return Ok(Asked::Inside(code));
    }
    let cancel = session.interruptible()?;
    let mut inputs = inputs::read(&mut request, session, &cancel)?;
    let store = session.store()?;
    session.share(&store)?;
    let options = session.environment.pulling(&args.registries)?;
    options.credentials.remember(std::mem::take(&mut inputs.helpers));
    let caches = Caches::open(&request, &options, &store)?;
    let client = Client::new(options);
    let images = Images { store: &store, registry: &client, pull: request.pull, pinned: &inputs.pinned };
    let resolved = bases::plan(&inputs.read, &request, &images);
    session.announce_registries(&client);
    let resolved = resolved?;
    let useless = without_effect(&resolved.plan, &inputs.read.dockerfile, &request.source);
    if !useless.is_empty() {
        let source = &inputs.read.dockerfile.source;
        session.console.message(&excerpt::render_with(source, &useless, session.console.colour()));
    }
    let devices = devices::find(&resolved.plan, &inputs.read.dockerfile.source, &request)?;
    let privilege = userns::privilege().map_err(|e| Failure::from_error(Kind::Host, &e))?;
    let contexts = prepare::contexts(&inputs.read, &request, &inputs.fetched, &store, &cancel)?;
    let mut settings = prepare::settings(&request, &inputs, session, privilege)?;
    (settings.explain_only, settings.warm_only) = (true, false);
    let builder = Builder {
        store: &store,
        images: &images,
        bases: &resolved.bases,
        devices: &devices,
        remotes: &caches.remotes,
        sender: &caches.sender,
        contexts: &contexts,
        settings: &settings,
        cancel: &cancel,
        on_failure: None,
    };
    let explained = builder.explain(&resolved.plan);
    steps::save(&contexts)?;
    caches.announce(session);
    match explained {
        Ok(steps) => Ok(Asked::Here(resolved.plan, steps)),
        Err(error) => {
            let context = Some(request.source.context.as_path());
            Err(Failure::of_build(&error, &resolved.plan, &inputs.read.dockerfile, context))
        }
    }
}
