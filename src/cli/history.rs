//! `kiln history`: the history of an image, newest entry first.

use serde_json::json;

use crate::oci::config::History;
use crate::oci::descriptor::Descriptor;
use crate::oci::image::Image;
use crate::oci::platform::Platform;

use super::args::{HistoryArgs, Shape};
use super::failure::{Done, SUCCESS};
use super::session::Session;
use super::store::check_platform;
use super::{table, template};

/// Longest instruction in the table, in characters.
const SHORT: usize = 60;

/// Prints one line per instruction, including those of the base. Sizes are those of the compressed layers; instructions
/// without a layer show 0B.
pub(super) fn run(args: &HistoryArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let (_, image) = store.image(&args.image, &platform)?;
    check_platform(&args.image, &image, args.platform.as_ref())?;
    let lines = newest_first(&image);
    match &args.format {
        Shape::Template(template) => {
            let items = lines.iter().map(|(entry, layer)| for_template(args, entry, layer.as_ref()));
            template::print(template, &headings(), items, session)?;
        }
        Shape::Json => {
            let list: Vec<_> = lines
                .iter()
                .map(|(entry, layer)| {
                    json!({
                        "created": entry.created,
                        "createdBy": entry.created_by.clone().unwrap_or_default(),
                        "comment": entry.comment.clone().unwrap_or_default(),
                        "author": entry.author,
                        "emptyLayer": layer.is_none(),
                        "size": layer.map_or(0, |l| l.size),
                        "layer": layer.map(|l| l.digest),
                    })
                })
                .collect();
            session.console.data(format_args!("{}", serde_json::Value::from(list)))?;
        }
        Shape::Text => {
            let heading = ["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
            let mut rows = vec![heading.map(str::to_owned).to_vec()];
            for (entry, layer) in lines {
                rows.push(vec![
                    layer.map_or_else(|| "-".to_owned(), |l| table::id(l.digest, args.no_trunc)),
                    table::time(entry.created),
                    shorten(entry.created_by.as_deref().unwrap_or_default(), args.no_trunc),
                    table::size(layer.map_or(0, |l| l.size)),
                    entry.comment.unwrap_or_default(),
                ]);
            }
            for line in table::lines(&rows) {
                session.console.data(format_args!("{line}"))?;
            }
        }
    }
    Ok(SUCCESS)
}

/// Each entry with its layer. An image without history (some tools write none) gets one entry per layer.
fn newest_first(image: &Image) -> Vec<(History, Option<&Descriptor>)> {
    let mut layers = image.manifest.layers.iter();
    let mut lines: Vec<_> = if image.config.history.is_empty() {
        layers.map(|layer| (History::default(), Some(layer))).collect()
    } else {
        let entries = image.config.history.iter();
        entries.map(|entry| (entry.clone(), if entry.empty_layer { None } else { layers.next() })).collect()
    };
    lines.reverse();
    lines
}

/// The fields of a template, as Docker names them.
fn for_template(args: &HistoryArgs, entry: &History, layer: Option<&&Descriptor>) -> serde_json::Value {
    json!({
        "ID": layer.map_or_else(|| "<missing>".to_owned(), |layer| table::id(layer.digest, args.no_trunc)),
        "CreatedAt": table::time(entry.created),
        "CreatedSince": table::since(entry.created),
        "CreatedBy": shorten(entry.created_by.as_deref().unwrap_or_default(), args.no_trunc),
        "Size": table::size(layer.map_or(0, |layer| layer.size)),
        "Comment": entry.comment.clone().unwrap_or_default(),
    })
}

fn headings() -> serde_json::Value {
    json!({
        "ID": "LAYER",
        "CreatedAt": "CREATED AT",
        "CreatedSince": "CREATED",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    })
}

fn shorten(text: &str, whole: bool) -> String {
    let text = text.replace(['\n', '\t'], " ");
    if whole || text.chars().count() <= SHORT {
        return text;
    }
    let short: String = text.chars().take(SHORT - 1).collect();
    format!("{short}…")
}
