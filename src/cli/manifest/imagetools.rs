//! `kiln imagetools`: manifest lists that are made and looked at in registries.
//!
//! **Holds.** Names mean registries, never the store. Nothing gets a name in the store.

use serde_json::{Map, Value, json};

use crate::cli::all_platforms::{self, Parts};
use crate::cli::args::{ImagetoolsArgs, ImagetoolsCommand, ImagetoolsCreateArgs, ImagetoolsInspectArgs};
use crate::cli::failure::{Done, Failure, SUCCESS};
use crate::cli::inspect::write_raw;
use crate::cli::push::{self, Transfer};
use crate::cli::session::Session;
use crate::cli::template;
use crate::layer::Limits;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::Index;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{Client, Manifests};
use crate::store::{Sources, Store};
use crate::ui::console::Console;
use crate::ui::sanitize;

use super::create;
use super::list::{List, TRANSPORT, client};

pub(in crate::cli) fn run(args: &ImagetoolsArgs, session: &mut Session<'_>) -> Done {
    match &args.command {
        ImagetoolsCommand::Create(args) => create(args, session),
        ImagetoolsCommand::Inspect(args) => inspect(args, session),
    }
}

/// Ok: the registries have the new image under all its names; with `--dry-run`, it is printed.
fn create(args: &ImagetoolsCreateArgs, session: &mut Session<'_>) -> Done {
    let sources: Vec<&Reference> = args.tag.first().filter(|_| args.append).into_iter().chain(&args.sources).collect();
    if sources.is_empty() {
        return Err(
            Failure::usage("no source: want the name of an image").hint("name at least one image in a registry")
        );
    }
    if args.tag.is_empty() && !args.dry_run {
        return Err(Failure::usage("the new image has no name").hint("name it with --tag NAME, or pass --dry-run"));
    }
    if let Some(pinned) = args.tag.iter().find(|name| name.digest.is_some()) {
        return Err(Failure::usage(format!("--tag {}: a digest cannot be chosen", pinned.familiar())));
    }
    let annotations = args.annotation.iter().map(|text| annotation(text)).collect::<Result<Vec<_>, _>>()?;
    let limits = Limits::until(&session.interruptible()?);
    let store = session.store()?;
    let _lease = session.lease(&store)?;
    let names = sources.iter().copied().chain(&args.tag).map(ToString::to_string);
    let client = client(&args.registry, names, session)?;
    let target = match copied(args, &sources, &annotations, &client, &store) {
        Ok(Some(copied)) => Ok(copied),
        Ok(None) => joined(args, &sources, annotations, (&client, &store, &limits), session),
        Err(error) => Err(error),
    };
    session.announce_registries(&client);
    let target = target?;
    if args.dry_run {
        write_raw(session, &store.get(&target)?)?;
        return Ok(SUCCESS);
    }
    for name in &args.tag {
        let console = Console::stdio(session.console.colour());
        let pushed = push::push(&client, &target, &Transfer::new(&store, name, Some(console)));
        session.announce_registries(&client);
        pushed?;
        let tag = name.tag.as_deref().unwrap_or_default();
        session.console.data(format_args!("{tag}: digest: {} size: {}", target.digest, target.size))?;
    }
    Ok(SUCCESS)
}

/// What an annotation is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Index,
    Descriptors,
}

/// `[TYPE:]KEY=VALUE`
fn annotation(text: &str) -> Result<(Place, String, String), Failure> {
    let usage = |why: &str| Failure::usage(format!("--annotation {text:?}: {why}"));
    let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        return Err(usage("want [TYPE:]KEY=VALUE"));
    };
    let (place, key) = match key.split_once(':') {
        Some(("index", key)) => (Place::Index, key),
        Some(("manifest-descriptor", key)) => (Place::Descriptors, key),
        Some((kind, _)) if kind.starts_with("manifest") || kind.starts_with("index") => {
            return Err(usage("manifests keep their annotations").hint("use the type index or manifest-descriptor"));
        }
        _ => (Place::Index, key),
    };
    if key.is_empty() { Err(usage("the key is empty")) } else { Ok((place, key.to_owned(), value.to_owned())) }
}

/// The only source, if it becomes the new image as it is. Ok: the store has its manifests.
fn copied(
    args: &ImagetoolsCreateArgs,
    sources: &[&Reference],
    annotations: &[(Place, String, String)],
    client: &Client,
    store: &Store,
) -> Result<Option<Descriptor>, Failure> {
    let [name] = sources else { return Ok(None) };
    if !annotations.is_empty() || !args.platform.is_empty() {
        return Ok(None);
    }
    let Manifests { mut target, manifests } = client.resolve_all(name, store)?;
    if !target.is_index() && args.prefer_index {
        return Ok(None);
    }
    let mut found = Sources::default();
    manifests.iter().for_each(|(descriptor, _)| found.add(descriptor.digest, (*name).clone()));
    found.keep(&mut target);
    Ok(Some(target))
}

/// An index of all sources. Ok: the store has it, and its manifests and configs.
fn joined(
    args: &ImagetoolsCreateArgs,
    sources: &[&Reference],
    annotations: Vec<(Place, String, String)>,
    (client, store, limits): (&Client, &Store, &Limits),
    session: &mut Session<'_>,
) -> Result<Descriptor, Failure> {
    let mut list = List::new(sources[0]);
    for name in sources {
        let found = create::images(&format!("{TRANSPORT}{name}"), client, store, limits)?;
        create::add(&mut list, found, session);
    }
    if !args.platform.is_empty() {
        let all = list.platforms();
        let is = |platform: &Platform, one: &Platform| platform.distance(&one.clone().normalized()) == Some(0);
        if let Some(missing) = args.platform.iter().find(|wanted| !all.iter().any(|one| is(wanted, one))) {
            let have = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Failure::build(format!("no source is for {missing}; they are for {have}")));
        }
        list.remove(|one| {
            let own = one.platform.as_ref().filter(|_| !List::is_attestation(one));
            own.is_some_and(|own| !args.platform.iter().any(|wanted| is(wanted, own)))
        });
    }
    for (place, key, value) in annotations {
        match place {
            Place::Index => drop(list.index.annotations.insert(key, value)),
            Place::Descriptors => {
                for one in list.index.manifests.iter_mut().filter(|one| !List::is_attestation(one)) {
                    one.annotations.insert(key.clone(), value.clone());
                }
            }
        }
    }
    list.put(store)
}

/// Prints what a registry has under a name.
fn inspect(args: &ImagetoolsInspectArgs, session: &mut Session<'_>) -> Done {
    let limits = Limits::until(&session.interruptible()?);
    let store = session.store()?;
    let _lease = session.lease(&store)?;
    let client = client(&args.registry, [args.name.to_string()], session)?;
    let found = match &args.format {
        None => client.pin(&args.name, &store).map(|target| Manifests { target, manifests: Vec::new() }),
        Some(_) => all_platforms::fetch(&client, &args.name, &store, Parts::Documents, &limits),
    };
    session.announce_registries(&client);
    let found = found?;
    let bytes = store.get(&found.target)?;
    match &args.format {
        _ if args.raw => write_raw(session, &bytes)?,
        Some(template) => {
            let value = json!({
                "Name": args.name.to_string(),
                "Manifest": manifest(&found.target, &bytes)?,
                "Image": images(&found, &store)?,
            });
            template::print(template, &Value::Null, [value], session)?;
        }
        None => show(&args.name, &found.target, &bytes, session)?,
    }
    Ok(SUCCESS)
}

fn wrong(target: &Descriptor, why: &dyn std::fmt::Display) -> Failure {
    Failure::build(format!("{}: {why}", target.digest))
}

/// The descriptor of a manifest; of an index, the index with its digest and size.
fn manifest(target: &Descriptor, bytes: &[u8]) -> Result<Value, Failure> {
    if !target.is_index() {
        return Ok(json!(target));
    }
    let mut index: Map<String, Value> = serde_json::from_slice(bytes).map_err(|e| wrong(target, &e))?;
    index.insert("digest".to_owned(), json!(target.digest));
    index.insert("size".to_owned(), json!(target.size));
    Ok(index.into())
}

/// The config of the image; of several, each by its platform.
fn images(found: &Manifests, store: &Store) -> Result<Value, Failure> {
    let mut all = Map::new();
    for (descriptor, manifest) in &found.manifests {
        if List::is_attestation(descriptor) || !all_platforms::is_image(manifest) {
            continue;
        }
        let config: Value =
            serde_json::from_slice(&store.get(&manifest.config)?).map_err(|e| wrong(&manifest.config, &e))?;
        let platform = descriptor.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        all.insert(platform, config);
    }
    match all.len() {
        1 => Ok(all.into_iter().next().map(|(_, config)| config).unwrap_or_default()),
        _ => Ok(all.into()),
    }
}

/// As docker buildx prints it.
fn show(name: &Reference, target: &Descriptor, bytes: &[u8], session: &mut Session<'_>) -> Result<(), Failure> {
    let mut lines = vec![
        format!("Name:      {name}"),
        format!("MediaType: {}", target.media_type),
        format!("Digest:    {}", target.digest),
    ];
    if target.is_index() {
        let index = Index::parse(bytes).map_err(|e| wrong(target, &e))?;
        lines.extend([String::new(), "Manifests:".to_owned()]);
        for (number, one) in index.manifests.iter().enumerate() {
            let pinned = Reference { digest: Some(one.digest), ..name.clone() };
            lines.extend((number > 0).then(String::new));
            lines.push(format!("  Name:      {pinned}"));
            lines.push(format!("  MediaType: {}", one.media_type));
            lines.extend(one.platform.iter().map(|own| format!("  Platform:  {own}")));
            lines.extend((!one.annotations.is_empty()).then(|| "  Annotations:".to_owned()));
            lines.extend(one.annotations.iter().map(|(key, value)| format!("    {key}: {value}")));
        }
    }
    for line in lines {
        session.console.data(format_args!("{}", sanitize::plain(&line)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_name_what_they_are_added_to() {
        let of = |text: &str| annotation(text).map(|(place, key, value)| format!("{place:?} {key} {value}"));
        for (text, want) in [
            ("a.b=c", "Index a.b c"),
            ("index:a=b=c", "Index a b=c"),
            ("manifest-descriptor:a=", "Descriptors a "),
            ("urn:a=b:c", "Index urn:a b:c"),
        ] {
            assert_eq!(of(text).ok().as_deref(), Some(want), "{text}");
        }
        for text in ["a", "=b", "index:=b", "manifest:a=b", "manifest[linux/amd64]:a=b", "index-descriptor:a=b"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
