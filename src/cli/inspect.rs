//! `kiln inspect`: images as JSON.

use serde_json::{Value, json};

use crate::oci::descriptor::Descriptor;
use crate::oci::image::Image;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::{Error, Store};

use super::args::InspectArgs;
use super::failure::{Done, SUCCESS};
use super::session::Session;
use super::store::check_platform;
use super::template;

/// Prints an array with one object per image, in the given order. Field names are those of `docker inspect`, plus
/// `Manifest` and `History`. `--raw` and `--config` print the stored bytes.
pub(super) fn run(args: &InspectArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let mut list = Vec::new();
    for text in &args.images {
        let found = store.find(text)?;
        if args.raw {
            let bytes = store.get(&found.target)?;
            write_raw(session, &bytes)?;
            continue;
        }
        let image = Image::read(&store, &found.target, &platform).map_err(Error::from)?;
        check_platform(text, &image, args.platform.as_ref())?;
        if args.config {
            let bytes = store.get(&image.manifest.config)?;
            write_raw(session, &bytes)?;
        } else {
            list.push(describe(&store, &found.target, &image)?);
        }
    }
    if let Some(template) = &args.format {
        template::print(template, &Value::Null, list, session)?;
    } else if !args.raw && !args.config {
        let text = serde_json::to_string_pretty(&list).unwrap_or_default();
        session.console.data(format_args!("{text}"))?;
    }
    Ok(SUCCESS)
}

/// Writes bytes to standard output as they are.
pub(super) fn write_raw(session: &mut Session<'_>, bytes: &[u8]) -> Result<(), super::failure::Failure> {
    let out = session.console.raw();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(crate::ui::console::Unwritten)?;
    Ok(())
}

fn describe(store: &Store, target: &Descriptor, image: &Image) -> Result<Value, Error> {
    let names = store.names_of(target.digest)?;
    let mut digests: Vec<String> = names
        .iter()
        .map(|name| Reference { tag: None, digest: Some(target.digest), ..name.clone() }.familiar())
        .collect();
    digests.dedup();
    let config = &image.config;
    Ok(json!({
        "Id": image.descriptor.digest,
        "Digest": target.digest,
        "ConfigDigest": image.manifest.config.digest,
        "MediaType": image.descriptor.media_type,
        "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.platform.architecture,
        "Variant": config.platform.variant,
        "Os": config.platform.os,
        "Platform": config.platform.to_string(),
        "Size": image.size(),
        "Config": config.config,
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        "History": config.history,
        "Manifest": image.manifest,
        "Annotations": image.manifest.annotations,
    }))
}
