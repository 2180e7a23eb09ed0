//! `kiln du` and `kiln cache ls`: what takes space in the store, and for which images.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::base::digest::DiffId;
use crate::base::time::Timestamp;
use crate::cli::args::{CacheLsArgs, Format};
use crate::cli::failure::{Done, SUCCESS};
use crate::cli::session::Session;
use crate::cli::table;
use crate::oci::reference::Reference;
use crate::store::Survey;

/// One row of the table.
struct Row {
    kind: &'static str,
    id: String,
    /// Of its blob or files.
    bytes: u64,
    /// Of the unpacked layer.
    unpacked: u64,
    used: Option<Timestamp>,
    images: Vec<String>,
}

/// Lists layers of cached steps, other unpacked layers, cache mounts and the rest. The longest unused come first, the order
/// in which `prune --keep-storage` removes them.
pub(in crate::cli) fn run(args: &CacheLsArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    if let Some(code) = session.as_owner(&store)? {
        return Ok(code);
    }
    let survey = super::survey::survey(&store)?;
    let rows = rows(&survey, args.no_trunc);
    if args.format == Format::Json {
        let list: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "type": row.kind, "id": row.id, "size": row.bytes, "unpacked": row.unpacked,
                    "used": row.used, "images": row.images,
                })
            })
            .collect();
        session.console.data(format_args!("{}", serde_json::Value::from(list)))?;
        return Ok(SUCCESS);
    }
    let heading = ["TYPE", "ID", "SIZE", "UNPACKED", "LAST USED", "IMAGES"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for row in rows {
        let images = if row.images.is_empty() { "-".to_owned() } else { row.images.join(", ") };
        let (size, unpacked) = (table::size(row.bytes), table::size(row.unpacked));
        lines.push(vec![row.kind.to_owned(), row.id, size, unpacked, table::time(row.used), images]);
    }
    for line in table::lines(&lines) {
        session.console.data(format_args!("{line}"))?;
    }
    let (total, named) = (table::size(survey.total()), table::size(survey.named()));
    session.console.data(format_args!("{total} in total, {named} of it tagged images"))?;
    Ok(SUCCESS)
}

fn rows(survey: &Survey, whole: bool) -> Vec<Row> {
    let mut images: BTreeMap<DiffId, Vec<String>> = BTreeMap::new();
    for image in survey.images.values() {
        for layer in &image.layers {
            images.entry(*layer).or_default().extend(image.names.iter().map(Reference::familiar));
        }
    }
    let short = |hex: String| if whole { hex } else { hex[..12].to_owned() };
    let row = |kind, layer: &DiffId| Row {
        kind,
        id: short(layer.hex()),
        bytes: 0,
        unpacked: survey.unpacked.get(layer).map_or(0, |u| u.files + u.beside),
        used: survey.unpacked.get(layer).map(|u| u.used),
        images: images.get(layer).cloned().unwrap_or_default(),
    };
    let mut layers: BTreeMap<DiffId, Row> = BTreeMap::new();
    let mut counted = BTreeSet::new();
    for step in &survey.steps {
        let row = layers.entry(step.layer).or_insert_with(|| row("step", &step.layer));
        row.used = row.used.max(Some(step.used));
        let new = step.blobs.iter().filter(|blob| counted.insert(**blob));
        row.bytes += new.filter_map(|blob| survey.blobs.get(blob)).sum::<u64>();
    }
    for layer in survey.unpacked.keys() {
        layers.entry(*layer).or_insert_with(|| row("base", layer));
    }
    let mut rows: Vec<Row> = layers.into_values().collect();
    let plain = |kind, id: String, bytes, used| Row { kind, id, bytes, unpacked: 0, used, images: Vec::new() };
    for (digest, image) in survey.images.iter().filter(|(_, image)| image.names.is_empty()) {
        let bytes = image.blobs.iter().filter_map(|blob| survey.blobs.get(blob)).sum();
        rows.push(plain("image", short(digest.hex()), bytes, None));
    }
    for mount in &survey.mounts {
        rows.push(plain("mount", mount.id.clone(), mount.bytes, Some(mount.used)));
    }
    if let Some(used) = survey.cache_files.iter().map(|file| file.used).max() {
        let bytes = survey.cache_files.iter().map(|file| file.bytes).sum();
        rows.push(plain("other", format!("{} files", survey.cache_files.len()), bytes, Some(used)));
    }
    rows.sort_by_key(|row| row.used);
    rows
}
