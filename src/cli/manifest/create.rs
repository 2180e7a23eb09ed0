//! `kiln manifest create`.

use crate::cli::all_platforms::{self, Parts};
use crate::cli::args::ManifestCreateArgs;
use crate::cli::failure::{Done, Failure, SUCCESS};
use crate::cli::session::Session;
use crate::layer::Limits;
use crate::oci::descriptor::Descriptor;
use crate::oci::image::{Image, manifests};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::Client;
use crate::store::{Error, Store};

use super::list::{List, client, in_registry, same_platform};

/// Ok: the store has the list under its name, and the manifests and configs of its images.
pub(super) fn run(args: &ManifestCreateArgs, session: &mut Session<'_>) -> Done {
    if args.list.digest.is_some() {
        let name = args.list.familiar();
        return Err(Failure::usage(format!("{name}: a new name has a tag, not a digest")));
    }
    let limits = Limits::until(&session.interruptible()?);
    let store = session.store()?;
    drop(session.lease(&store)?);
    let mut list = match store.resolve(&args.list)? {
        None => List::new(&args.list),
        Some(_) if args.amend => List::open(&store, &args.list)?,
        Some(target) => {
            let failure = Failure::build(format!("{} exists in the store", args.list.familiar()));
            return Err(match target.is_index() {
                true => failure.hint("add to the list with --amend, or remove it with kiln manifest rm"),
                false => failure.hint("choose another name, or remove that image with kiln rmi"),
            });
        }
    };
    let names = args.images.iter().cloned();
    let client = client(&args.registry, names, session)?;
    let mut found = Vec::new();
    for text in &args.images {
        let images = images(text, &client, &store, &limits);
        session.announce_registries(&client);
        found.extend(images?);
    }
    add(&mut list, found, session);
    list.save(&store)?;
    session.console.data(format_args!("Created manifest list {}", list.name.familiar()))?;
    Ok(SUCCESS)
}

/// Adds images, and says so. An image replaces one for the same platform that is not among them.
pub(super) fn add(list: &mut List, found: Vec<Found>, session: &mut Session<'_>) {
    let mut added: Vec<Descriptor> = Vec::new();
    for Found { descriptor, name, from } in found {
        let platform = descriptor.platform.as_ref().map_or_else(|| "no platform".to_owned(), ToString::to_string);
        session.console.message(&format!("adding {} for {platform} from {from}", descriptor.digest));
        if let Some(other) =
            added.iter().find(|other| other.digest != descriptor.digest && same_platform(other, &descriptor))
        {
            let text = format!("{} and {} are both for {platform}", other.digest, descriptor.digest);
            session.console.labelled("warning", &text);
        }
        let is_new = |other: &Descriptor| added.iter().any(|new| new.digest == other.digest);
        for old in list
            .remove(|other| other.digest != descriptor.digest && !is_new(other) && same_platform(other, &descriptor))
        {
            session.console.message(&format!("replacing {} for {platform}", old.digest));
        }
        name.into_iter().for_each(|name| list.sources.add(descriptor.digest, name));
        // An image that is listed keeps what `annotate` set.
        if list.index.manifests.iter().all(|listed| listed.digest != descriptor.digest) {
            list.index.manifests.push(descriptor.clone());
        }
        added.push(descriptor);
    }
}

/// An image for a list.
pub(super) struct Found {
    /// Its manifest, with its platform.
    descriptor: Descriptor,
    /// Its name; `None`: it was given by its id.
    name: Option<Reference>,
    /// Where it was found, for people.
    from: &'static str,
}

/// The images that a name or id stands for. Ok: the store has their manifests and configs.
pub(super) fn images(text: &str, client: &Client, store: &Store, limits: &Limits) -> Result<Vec<Found>, Failure> {
    let stored = match in_registry(text) {
        Some(_) => None,
        None => match store.find(text) {
            Ok(found) => Some(found),
            Err(Error::NoSuchImage { .. }) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let (name, from, all) = match stored {
        Some(found) => (found.name, "the store", manifests(store, &found.target).map_err(Error::from)?),
        None => {
            let name: Reference = in_registry(text).unwrap_or(text).parse().map_err(Error::InvalidName)?;
            let found = all_platforms::fetch(client, &name, store, Parts::Documents, limits)?;
            (Some(name), "its registry", found.manifests)
        }
    };
    let mut found = Vec::new();
    for (mut descriptor, manifest) in all {
        if descriptor.platform.is_none() && all_platforms::is_image(&manifest) {
            let image = Image::read(store, &descriptor, &Platform::host()).map_err(Error::from)?;
            descriptor.platform = Some(image.config.platform.normalized());
        }
        found.push(Found { descriptor, name: name.clone(), from });
    }
    Ok(found)
}
