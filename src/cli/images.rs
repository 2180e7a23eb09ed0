//! `kiln images`: the images of the store.

use serde_json::json;

use crate::oci::descriptor::Descriptor;
use crate::oci::image::{Image, ImageError, manifests};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::{Entry, Store};

use super::args::{ImagesArgs, Shape};
use super::failure::{Done, Failure, SUCCESS, chain};
use super::filter::Filters;
use super::session::Session;
use super::{table, template};

/// Prints one line per name, newest first. The size is that of the compressed layers, each counted once per image. An
/// unreadable image is listed with a warning.
pub(super) fn run(args: &ImagesArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    let filter = args.name.as_deref().map(Filter::parse).transpose()?;
    let filters = Filters::parse(&args.filter, &store)?;
    let wanted = |e: &Entry| filter.as_ref().is_none_or(|f| f.admits(e)) && filters.admit_name(e);
    let entries = match &filter {
        Some(filter) => store.entries_in(&filter.name)?,
        None => store.entries()?,
    };
    let entries: Vec<Entry> = entries.into_iter().filter(wanted).collect();
    if args.quiet && !filters.need_images() {
        return ids(args, entries.iter(), session);
    }
    let mut rows: Vec<(Entry, Option<Image>)> = Vec::new();
    for entry in entries {
        match shown(&store, &entry.target) {
            Ok(image) => rows.push((entry, Some(image))),
            Err(e) => {
                session.console.labelled("warning", &format!("{}: {}", entry.familiar(), chain(&e)));
                rows.push((entry, None));
            }
        }
    }
    rows.retain(|(_, image)| filters.admit_image(image.as_ref()));
    // Newest first; equal times keep the order of names.
    rows.sort_by_key(|(_, image)| std::cmp::Reverse(image.as_ref().and_then(|i| i.config.created)));
    if args.quiet {
        return ids(args, rows.iter().map(|(entry, _)| entry), session);
    }
    match &args.format {
        Shape::Template(template) => {
            let items = rows.iter().map(|(entry, image)| for_template(args, entry, image.as_ref()));
            template::print(template, &headings(), items, session)?;
        }
        Shape::Json => {
            let list: Vec<_> = rows.iter().map(|(entry, image)| as_json(entry, image.as_ref())).collect();
            session.console.data(format_args!("{}", serde_json::Value::from(list)))?;
        }
        Shape::Text => {
            for line in table::lines(&text_rows(args, &rows)) {
                session.console.data(format_args!("{line}"))?;
            }
        }
    }
    Ok(SUCCESS)
}

/// The image that is shown: of several platforms, that of this machine, else the first.
fn shown(store: &Store, target: &Descriptor) -> Result<Image, ImageError> {
    match Image::read(store, target, &Platform::host()) {
        Err(error @ ImageError::NoPlatform { .. }) => match manifests(store, target)?.first() {
            Some((first, _)) => Image::read(store, first, &Platform::host()),
            None => Err(error),
        },
        other => other,
    }
}

/// Prints each image's id once.
fn ids<'a>(args: &ImagesArgs, entries: impl Iterator<Item = &'a Entry>, session: &mut Session<'_>) -> Done {
    let mut seen = Vec::new();
    for entry in entries {
        if !seen.contains(&entry.target.digest) {
            seen.push(entry.target.digest);
            session.console.data(format_args!("{}", table::id(entry.target.digest, args.no_trunc)))?;
        }
    }
    Ok(SUCCESS)
}

/// A repository, or one tag in it.
struct Filter {
    name: Reference,
    tag: bool,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Failure> {
        let name: Reference = text.parse().map_err(crate::store::Error::InvalidName)?;
        let last = text.rsplit('/').next().unwrap_or(text);
        Ok(Self { name, tag: last.contains(':') })
    }

    fn admits(&self, entry: &Entry) -> bool {
        entry
            .name
            .as_ref()
            .is_some_and(|name| name.name() == self.name.name() && (!self.tag || name.tag == self.name.tag))
    }
}

fn text_rows(args: &ImagesArgs, rows: &[(Entry, Option<Image>)]) -> Vec<Vec<String>> {
    let mut heading = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        heading.insert(2, "DIGEST");
    }
    let mut lines = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (entry, image) in rows {
        let (repository, tag) = parts(entry);
        let mut line = vec![
            repository,
            tag,
            table::id(entry.target.digest, args.no_trunc),
            table::time(image.as_ref().and_then(|i| i.config.created)),
            image.as_ref().map_or_else(|| "-".to_owned(), |i| table::size(i.size())),
        ];
        if args.digests {
            line.insert(2, entry.target.digest.to_string());
        }
        lines.push(line);
    }
    lines
}

fn parts(entry: &Entry) -> (String, String) {
    let none = || "<none>".to_owned();
    match &entry.name {
        None => (none(), none()),
        Some(name) => {
            let repository = Reference { tag: None, digest: None, ..name.clone() };
            (repository.familiar(), name.tag.clone().unwrap_or_else(none))
        }
    }
}

/// The fields of a template, as Docker names them.
fn for_template(args: &ImagesArgs, entry: &Entry, image: Option<&Image>) -> serde_json::Value {
    let (repository, tag) = parts(entry);
    let created = image.and_then(|image| image.config.created);
    json!({
        "Repository": repository,
        "Tag": tag,
        "ID": table::id(entry.target.digest, args.no_trunc),
        "Digest": entry.target.digest,
        "CreatedAt": table::time(created),
        "CreatedSince": table::since(created),
        "Size": image.map(|image| table::size(image.size())),
        "Platform": image.map(|image| image.config.platform.to_string()),
    })
}

fn headings() -> serde_json::Value {
    json!({
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "ID": "IMAGE ID",
        "Digest": "DIGEST",
        "CreatedAt": "CREATED AT",
        "CreatedSince": "CREATED",
        "Size": "SIZE",
        "Platform": "PLATFORM",
    })
}

fn as_json(entry: &Entry, image: Option<&Image>) -> serde_json::Value {
    let (repository, tag) = match &entry.name {
        Some(_) => {
            let (repository, tag) = parts(entry);
            (Some(repository), Some(tag))
        }
        None => (None, None),
    };
    json!({
        "name": entry.name.as_ref().map(Reference::familiar),
        "repository": repository,
        "tag": tag,
        "id": entry.target.digest,
        "mediaType": entry.target.media_type,
        "config": image.map(|i| i.manifest.config.digest),
        "platform": image.map(|i| i.config.platform.to_string()),
        "created": image.and_then(|i| i.config.created),
        "layers": image.map(|i| i.manifest.layers.len()),
        "size": image.map(Image::size),
    })
}
