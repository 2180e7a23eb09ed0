//! The result of a check, as text or JSON.

use std::path::Path;

use serde_json::json;

use crate::cli::args::{Format, FsckArgs};
use crate::cli::failure::Failure;
use crate::cli::session::Session;
use crate::cli::table;
use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;
use crate::store::{Lacking, Part, Store, Unusable};
use crate::ui::sanitize;

use super::check::Found;
use super::repair::{Fate, Outcome};

/// Prints what was found and what became of it.
pub(super) fn print(
    args: &FsckArgs,
    found: &Found,
    outcome: &Outcome,
    store: &Store,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let left = outcome.files.iter().filter(|fate| !fate.is_repaired()).count()
        + outcome.images.iter().filter(|(_, fate, _)| !fate.is_repaired()).count()
        + outcome.lost.len();
    if args.format == Format::Json {
        return Ok(session.console.data(format_args!("{}", as_json(found, outcome, store, left)))?);
    }
    let lines = lines(found, outcome, store);
    let result = match (lines.len(), left) {
        (0, _) => "no damage".to_owned(),
        (_, 0) => "all damage repaired".to_owned(),
        (_, left) => format!("{left} damaged"),
    };
    for line in lines {
        session.console.data(format_args!("{}", sanitize::text(&line)))?;
    }
    let (files, bytes) = (found.checked.files, table::size(found.checked.bytes));
    session.console.data(format_args!("{files} files with {bytes} read: {result}"))?;
    if left > 0 {
        session.console.labelled("hint", hint(args, outcome));
    }
    Ok(())
}

/// A line for each damaged file and each part that an image lacks.
fn lines(found: &Found, outcome: &Outcome, store: &Store) -> Vec<String> {
    let mut lines = Vec::new();
    for (damage, fate) in found.checked.damage.iter().zip(&outcome.files) {
        lines.push(format!("{}: {}{}", below(store, &damage.path), damage.why, ending(*fate)));
    }
    for (image, fate, why) in &outcome.images {
        for blob in &image.blobs {
            lines.push(format!("{}: {}{}", shown(image), lacks(blob), ending(*fate)));
        }
        lines.extend(why.as_ref().map(|why| format!("{}: cannot fetch it again: {why}", shown(image))));
    }
    lines.extend(outcome.lost.iter().map(|name| format!("{}: the name is lost", name.familiar())));
    lines
}

fn as_json(found: &Found, outcome: &Outcome, store: &Store, left: usize) -> serde_json::Value {
    let files = found.checked.damage.iter().zip(&outcome.files);
    let damage = files
        .map(|(damage, fate)| json!({ "path": below(store, &damage.path), "why": damage.why, "result": word(*fate) }));
    let images = outcome.images.iter().map(|(image, fate, why)| {
        let lacks = image
            .blobs
            .iter()
            .map(|(blob, part, why)| json!({ "digest": blob.digest, "part": part_word(*part), "why": unusable(why) }));
        json!({
            "id": image.target.digest, "names": names(image), "lacks": lacks.collect::<Vec<_>>(),
            "result": word(*fate), "why": why,
        })
    });
    json!({
        "files": found.checked.files, "bytes": found.checked.bytes, "damage": damage.collect::<Vec<_>>(),
        "images": images.collect::<Vec<_>>(), "left": left,
        "lostNames": outcome.lost.iter().map(Reference::familiar).collect::<Vec<_>>(),
    })
}

/// The path of a file in the store.
fn below(store: &Store, path: &Path) -> String {
    path.strip_prefix(store.root()).unwrap_or(path).display().to_string()
}

fn hint(args: &FsckArgs, outcome: &Outcome) -> &'static str {
    match args.repair {
        false => "repair the store with `kiln fsck --repair`",
        true if outcome.files.contains(&Fate::InUse) => "run `kiln fsck --repair` again when no build is running",
        true => "build, pull or load these images again",
    }
}

fn names(image: &Lacking) -> Vec<String> {
    image.names.iter().map(Reference::familiar).collect()
}

/// How an image is called.
fn shown(image: &Lacking) -> String {
    match image.names.is_empty() {
        true => format!("unnamed image {}", image.target.digest),
        false => names(image).join(", "),
    }
}

fn lacks((blob, part, why): &(Descriptor, Part, Unusable)) -> String {
    format!("{} {} {}", part_word(*part), blob.digest, unusable(why))
}

fn part_word(part: Part) -> &'static str {
    match part {
        Part::Manifest => "manifest",
        Part::Config => "config",
        Part::Layer => "layer",
    }
}

fn unusable(why: &Unusable) -> String {
    match why {
        Unusable::Missing => "is missing".to_owned(),
        Unusable::Damaged => "is damaged".to_owned(),
        Unusable::Size(size) => format!("has {size} bytes, which is wrong"),
        Unusable::Invalid(why) => format!("is not valid: {why}"),
    }
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Found => "found",
        Fate::Removed => "removed",
        Fate::Restored => "restored",
        Fate::InUse => "in use",
        Fate::Left => "left",
    }
}

/// What is added to a line.
fn ending(fate: Fate) -> &'static str {
    match fate {
        Fate::Found | Fate::Left => "",
        Fate::Removed => "; removed",
        Fate::Restored => "; restored",
        Fate::InUse => "; left, because a running build may use it",
    }
}
