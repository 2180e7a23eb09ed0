//! `kiln diff`: compares two images, layers or directories.
//!
//! **Holds.** Files are compared by path and attribute; of two images also the configs. A directory is read as `kiln import`
//! reads it: for a plain user in a user namespace, whose ids are shown as owners.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::base::digest::DiffId;
use crate::base::fs::FsError;
use crate::base::rooted::Root;
use crate::layer::{self, Change, Changes, Difference, EntryKind, MergedTree, Side, Tree};
use crate::oci::blob::BlobSource as _;
use crate::oci::config::ImageConfig;
use crate::oci::descriptor::Layer;
use crate::oci::image::Image;
use crate::oci::platform::Platform;
use crate::sandbox::userns::{self, Privilege};
use crate::snapshot::Layers;
use crate::store::{Error, Store};
use crate::ui::sanitize;

use super::args::{DiffArgs, Format};
use super::failure::{Done, Failure, Kind as Cause, SUCCESS};
use super::session::Session;
use super::store::check_platform;

mod config;

/// Fewer digits do not name a layer.
const MIN_ID: usize = 4;

/// Prints every path and config field that differs, and how. With `--exit-code` the exit code says whether any did.
pub(super) fn run(args: &DiffArgs, session: &mut Session<'_>) -> Done {
    compare(args, session).map_err(|mut failure| {
        // With --exit-code, 1 means that they differ.
        if args.exit_code && failure.kind == Cause::Build {
            failure.kind = Cause::Usage;
        }
        failure
    })
}

fn compare(args: &DiffArgs, session: &mut Session<'_>) -> Done {
    let directories: Vec<_> = [&args.a, &args.b].into_iter().filter_map(|text| directory(text)).collect();
    // Missing directories are reported without a namespace.
    if !directories.is_empty() && directories.iter().all(|dir| dir.is_dir()) {
        let privilege = userns::privilege().map_err(|e| Failure::from_error(Cause::Host, &e))?;
        if privilege == Privilege::Plain {
            match session.enter_namespace()? {
                Ok(code) => return Ok(code),
                Err(error) => session.console.labelled("note", &format!("directories are read as this user: {error}")),
            }
        } else {
            session.announce_single_id();
        }
    }
    session.interruptible()?;
    let sides = read_sides(args, session)?;
    let [a, b] = [&sides[0], &sides[1]].map(Operand::side);
    let mut found = layer::diff(&a, &b).map_err(|e| Failure::from_error(Cause::Build, &e))?;
    found.retain_mut(|difference| match &mut difference.change {
        Change::Changed(all) => {
            all.retain(|changed| !args.ignore.iter().any(|ignored| ignored.covers(&changed.attribute)));
            !all.is_empty()
        }
        _ => true,
    });
    let mut fields = match (&sides[0], &sides[1]) {
        (Operand::Image(_, a), Operand::Image(_, b)) => config::diff(a, b),
        _ => Vec::new(),
    };
    fields.retain(|field| !field.is_covered(&args.ignore));
    print(args, &fields, &found, session)?;
    Ok(if args.exit_code && !(found.is_empty() && fields.is_empty()) { DIFFERENT } else { SUCCESS })
}

/// The two operands, in their order.
fn read_sides(args: &DiffArgs, session: &Session<'_>) -> Result<Vec<Operand>, Failure> {
    let mut store = None;
    let mut sides = Vec::new();
    for text in [&args.a, &args.b] {
        sides.push(match directory(text) {
            Some(dir) => read_dir(&dir)?,
            None => {
                if store.is_none() {
                    store = Some(session.store()?);
                }
                let store = store.as_ref().expect("opened above");
                stored(store, text, args.platform.as_ref())?
            }
        });
    }
    Ok(sides)
}

fn print(
    args: &DiffArgs,
    fields: &[config::Field],
    found: &[Difference],
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    match args.format {
        Format::Json => {
            let list: Vec<Value> = found.iter().map(to_json).collect();
            let fields: Vec<Value> = fields.iter().map(config::Field::json).collect();
            let all = json!({ "a": args.a, "b": args.b, "config": fields, "differences": list });
            session.console.data(format_args!("{all}"))?;
        }
        Format::Text => {
            for field in fields {
                session.console.data(format_args!("{}", field.line()))?;
            }
            for difference in found {
                session.console.data(format_args!("{}", sanitize::text(&line(difference))))?;
            }
        }
    }
    Ok(())
}

/// The exit code of `--exit-code` if anything differs, as with diff(1).
const DIFFERENT: u8 = 1;

/// One operand, as read.
enum Operand {
    Image(MergedTree, Box<ImageConfig>),
    Layer(Arc<Tree>),
    Dir(Changes),
}

impl Operand {
    fn side(&self) -> Side<'_> {
        match self {
            Operand::Image(merged, _) => Side::chain(merged),
            Operand::Layer(tree) => Side::layer(tree),
            Operand::Dir(all) => Side::directory(all),
        }
    }
}

/// A directory: image names neither begin with a slash or a dot nor end with a slash.
fn directory(text: &str) -> Option<PathBuf> {
    (text.starts_with(['/', '.']) || text.ends_with('/')).then(|| PathBuf::from(text))
}

fn read_dir(path: &Path) -> Result<Operand, Failure> {
    let root = Root::open(path).map_err(|e| FsError::new("open", path, e))?;
    let all = layer::tree_changes(&root, &MergedTree::new(), &(), None, None);
    let all = all.map_err(|e| {
        let mut failure = Failure::from_error(Cause::Build, &e);
        failure.message = format!("{}: {}", path.display(), failure.message);
        failure
    })?;
    Ok(Operand::Dir(all))
}

fn stored(store: &Store, text: &str, asked: Option<&Platform>) -> Result<Operand, Failure> {
    let layers = Layers::new(store.layers_dir(), store.claims(), store).noticing(store.notices());
    match store.image(text, &asked.cloned().unwrap_or_else(Platform::host)) {
        Ok((_, image)) => {
            check_platform(text, &image, asked)?;
            let trees: Result<Vec<_>, Failure> = of(&image).map(|layer| tree(store, &layers, &layer)).collect();
            Ok(Operand::Image(MergedTree::over(trees?), Box::new(image.config)))
        }
        Err(missing @ Error::NoSuchImage { .. }) => match find_layer(store, text)? {
            Some(layer) => Ok(Operand::Layer(tree(store, &layers, &layer)?)),
            None => {
                let failure = Failure::from(missing);
                let is_dir = crate::base::fs::open(Path::new(text)).and_then(|f| {
                    f.metadata().map(|m| m.is_dir()).map_err(|e| FsError::new("stat", Path::new(text), e))
                });
                Err(match is_dir {
                    Ok(true) => failure.hint(format!("write ./{text} for the directory")),
                    _ => failure,
                })
            }
        },
        Err(error) => Err(error.into()),
    }
}

fn of(image: &Image) -> impl Iterator<Item = Layer> {
    let ids: Vec<DiffId> = image.config.rootfs.diff_ids.clone();
    ids.into_iter().zip(image.manifest.layers.clone()).map(|(diff_id, blob)| Layer { diff_id, blob })
}

/// A layer of any stored image, by the beginning of its diff-id or blob digest.
fn find_layer(store: &Store, text: &str) -> Result<Option<Layer>, Failure> {
    let id = text.strip_prefix("sha256:").unwrap_or(text);
    if id.len() < MIN_ID || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let mut found: Vec<Layer> = Vec::new();
    for entry in store.entries()? {
        // The layers of an unreadable image are not known.
        let Ok(image) = Image::read(store, &entry.target, &Platform::host()) else { continue };
        for layer in of(&image) {
            let is_it = layer.diff_id.hex().starts_with(id) || layer.blob.digest.hex().starts_with(id);
            if is_it && !found.iter().any(|f| f.diff_id == layer.diff_id) {
                found.push(layer);
            }
        }
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => {
            let ids: Vec<_> = found.iter().map(|layer| layer.diff_id.to_string()).collect();
            Err(Failure::usage(format!("{text} matches several layers: {}", ids.join(", "))))
        }
    }
}

/// A layer's tree with the digest of every file.
fn tree(store: &Store, layers: &Layers<'_>, layer: &Layer) -> Result<Arc<Tree>, Failure> {
    let fail = |e: &dyn std::error::Error| Failure::from_error(Cause::Build, e);
    let tree = layers.tree(layer).map_err(|e| fail(&e))?;
    if tree.entries().iter().all(|e| !matches!(e.kind, EntryKind::File { content: None, .. })) {
        return Ok(tree);
    }
    let blob = store.open(&layer.blob).map_err(|e| fail(&e))?;
    layer::read_tree(blob, layer.diff_id).map(Arc::new).map_err(|e| fail(&e))
}

fn to_json(difference: &Difference) -> Value {
    let object = |all: &[(String, String)]| -> Map<String, Value> {
        all.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect()
    };
    let path = difference.path.to_string();
    match &difference.change {
        Change::Added(all) => json!({ "path": path, "change": "added", "b": object(all) }),
        Change::Removed(all) => json!({ "path": path, "change": "removed", "a": object(all) }),
        Change::Changed(all) => {
            let side = |pick: fn(&layer::Changed) -> &Option<String>| -> Map<String, Value> {
                let known = all.iter().filter_map(|c| Some((c.attribute.clone(), pick(c).clone()?.into())));
                known.collect()
            };
            let names: Vec<&str> = all.iter().map(|c| c.attribute.as_str()).collect();
            json!({ "path": path, "change": "changed", "attributes": names, "a": side(|c| &c.a), "b": side(|c| &c.b) })
        }
    }
}

/// `changed /etc/passwd: content, mode 0644 → 0600`
fn line(difference: &Difference) -> String {
    let path = &difference.path;
    let one = |all: &[(String, String)]| {
        let get = |name: &str| all.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let words = [get("kind"), get("mode")].into_iter().flatten().map(str::to_owned);
        let owner = get("uid").zip(get("gid")).map(|(uid, gid)| format!("{uid}:{gid}"));
        let size = get("size").map(|size| format!("{size} bytes"));
        let target = get("target").map(|target| format!("→ {target}"));
        words.chain(owner).chain(size).chain(target).collect::<Vec<_>>().join(" ")
    };
    match &difference.change {
        Change::Added(all) => format!("added   {path}: {}", one(all)),
        Change::Removed(all) => format!("removed {path}: {}", one(all)),
        Change::Changed(all) => {
            let word = |c: &layer::Changed| match (c.attribute.as_str(), &c.a, &c.b) {
                ("content", _, _) => "content".to_owned(),
                (name, a, b) => {
                    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
                    format!("{name} {} → {}", text(a), text(b))
                }
            };
            format!("changed {path}: {}", all.iter().map(word).collect::<Vec<_>>().join(", "))
        }
    }
}
