//! `kiln manifest inspect`.

use serde_json::{Value, json};

use crate::cli::args::ManifestInspectArgs;
use crate::cli::failure::{Done, Failure, SUCCESS};
use crate::cli::session::Session;
use crate::oci::descriptor::{DOCKER_MANIFEST, Descriptor};
use crate::oci::image::manifests;
use crate::oci::manifest::{Index, Manifest};
use crate::oci::reference::Reference;
use crate::registry::Client;
use crate::store::{Error, Sources, Store};

use super::list::{List, client, in_registry};

/// Prints a manifest or index, of the store or a registry; with `--verbose`, one object for each manifest.
pub(super) fn run(args: &ManifestInspectArgs, session: &mut Session<'_>) -> Done {
    session.interruptible()?;
    let store = session.store()?;
    drop(session.lease(&store)?);
    let client = client(&args.registry, [args.name.clone()], session)?;
    let (target, name) = match &args.image {
        None => {
            let found = find(&args.name, &client, &store);
            session.announce_registries(&client);
            found?
        }
        Some(image) => {
            let name: Reference = args.name.parse().map_err(Error::InvalidName)?;
            let list = List::open(&store, &name)?;
            let one = list.index.manifests[list.find(&store, image)?].clone();
            (one, Some(name))
        }
    };
    let text = match args.verbose {
        true => serde_json::to_string_pretty(&verbose(&target, name.as_ref(), &store)?),
        false if target.is_index() => {
            serde_json::to_string_pretty(&Index::parse(&store.get(&target)?).map_err(|e| wrong(&target, &e))?)
        }
        false => serde_json::to_string_pretty(&Manifest::parse(&store.get(&target)?).map_err(|e| wrong(&target, &e))?),
    };
    let text = text.map_err(|e| wrong(&target, &e))?;
    session.console.data(format_args!("{text}"))?;
    Ok(SUCCESS)
}

fn wrong(target: &Descriptor, why: &dyn std::fmt::Display) -> Failure {
    Failure::build(format!("{}: {why}", target.digest))
}

/// What a name stands for. Ok: the store has it, and the manifests that it lists.
fn find(text: &str, client: &Client, store: &Store) -> Result<(Descriptor, Option<Reference>), Failure> {
    if in_registry(text).is_none() {
        match store.find(text) {
            Ok(found) => return Ok((found.target, found.name)),
            Err(Error::NoSuchImage { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let name: Reference = in_registry(text).unwrap_or(text).parse().map_err(Error::InvalidName)?;
    Ok((client.resolve_all(&name, store)?.target, Some(name)))
}

/// As docker prints it: an object, or an array of one for each manifest of an index.
fn verbose(target: &Descriptor, name: Option<&Reference>, store: &Store) -> Result<Value, Failure> {
    let sources = Sources::of(target);
    let mut all = Vec::new();
    for (descriptor, manifest) in manifests(store, target).map_err(Error::from)? {
        let name = sources.name_of(descriptor.digest).or(name);
        let kind = if descriptor.media_type == DOCKER_MANIFEST { "SchemaV2Manifest" } else { "OCIManifest" };
        let shown = match name {
            Some(name) if target.is_index() => {
                Reference { digest: Some(descriptor.digest), ..name.clone() }.to_string()
            }
            Some(name) => name.to_string(),
            None => descriptor.digest.to_string(),
        };
        all.push(json!({ "Ref": shown, "Descriptor": descriptor, kind: manifest }));
    }
    Ok(match target.is_index() {
        true => all.into(),
        false => all.pop().unwrap_or_default(),
    })
}
