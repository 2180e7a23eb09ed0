//! `kiln manifest push`.

use crate::base::publish;
use crate::cli::args::ManifestPushArgs;
use crate::cli::failure::{Done, Failure, SUCCESS};
use crate::cli::push::{self, Transfer};
use crate::cli::session::Session;
use crate::oci::reference::Reference;
use crate::store::Error;
use crate::ui::console::Console;

use super::list::{List, client, in_registry};

/// Ok: the registry has the list and all its images.
pub(super) fn run(args: &ManifestPushArgs, session: &mut Session<'_>) -> Done {
    session.interruptible()?;
    let store = session.store()?;
    let _lease = session.lease(&store)?;
    let list = List::open(&store, &args.list)?;
    let Some(target) = list.target() else { return Err(Failure::build("the list is not in the store")) };
    if list.index.manifests.is_empty() {
        return Err(Failure::build(format!("{} has no images", args.list.familiar()))
            .hint("add some with kiln manifest create --amend"));
    }
    let to: Reference = match args.destination.as_deref() {
        Some(text) => in_registry(text).unwrap_or(text).parse().map_err(Error::InvalidName)?,
        None => args.list.clone(),
    };
    let names = [to.to_string()].into_iter().chain(list.sources.iter().map(|(_, name)| name.to_string()));
    let client = client(&args.registry, names, session)?;
    let console = Console::stdio(session.console.colour());
    let pushed = push::push(&client, target, &Transfer::new(&store, &to, Some(console)));
    session.announce_registries(&client);
    pushed?;
    session.console.data(format_args!("{}", target.digest))?;
    if let Some(path) = &args.digestfile {
        publish::atomic(path, target.digest.to_string().as_bytes(), 0o644)?;
    }
    if args.purge {
        store.untag(std::slice::from_ref(&list.name))?;
    }
    Ok(SUCCESS)
}
