//! `kiln manifest annotate`, `remove` and `rm`.

use crate::cli::args::{ManifestAnnotateArgs, ManifestRemoveArgs, ManifestRmArgs};
use crate::cli::failure::{Done, Failure, SUCCESS};
use crate::cli::session::Session;
use crate::oci::platform::Platform;

use super::list::List;

/// Ok: the list has the new platform and annotations of the image.
pub(super) fn annotate(args: &ManifestAnnotateArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    session.share(&store)?;
    let mut list = List::open(&store, &args.list)?;
    let at = list.find(&store, &args.image)?;
    let descriptor = &mut list.index.manifests[at];
    for text in &args.annotation {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::usage(format!("--annotation {text:?}: want KEY=VALUE")));
        };
        descriptor.annotations.insert(key.to_owned(), value.to_owned());
    }
    let given = [&args.os, &args.arch, &args.variant, &args.os_version];
    if given.iter().any(|value| value.is_some()) || !args.os_features.is_empty() {
        let mut platform = descriptor.platform.take().unwrap_or_else(Platform::host);
        let set = |field: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        set(&mut platform.os, &args.os);
        set(&mut platform.architecture, &args.arch);
        // The variant of another architecture means nothing.
        if args.arch.is_some() {
            platform.variant = None;
        }
        let optional = |field: &mut Option<String>, value: &Option<String>| {
            if let Some(value) = value {
                *field = Some(value.clone()).filter(|value| !value.is_empty());
            }
        };
        optional(&mut platform.variant, &args.variant);
        optional(&mut platform.os_version, &args.os_version);
        if !args.os_features.is_empty() {
            platform.os_features.clone_from(&args.os_features);
        }
        if platform.os.is_empty() || platform.architecture.is_empty() {
            return Err(Failure::usage("a platform has an operating system and an architecture"));
        }
        descriptor.platform = Some(platform.normalized());
    }
    list.save(&store)?;
    Ok(SUCCESS)
}

/// Ok: the list has none of the images.
pub(super) fn remove(args: &ManifestRemoveArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    session.share(&store)?;
    let mut list = List::open(&store, &args.list)?;
    for text in &args.images {
        let at = list.find(&store, text)?;
        let gone = list.index.manifests[at].digest;
        list.remove(|one| one.digest == gone);
    }
    list.save(&store)?;
    Ok(SUCCESS)
}

/// Ok: the store has no lists of these names. Their images stay.
pub(super) fn rm(args: &ManifestRmArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    for name in &args.lists {
        let list = List::open(&store, name)?;
        store.untag(std::slice::from_ref(&list.name))?;
        session.console.data(format_args!("Deleted manifest list {}", name.familiar()))?;
    }
    Ok(SUCCESS)
}
