//! `kiln import`: creates an image from a root file system.

use std::io::Read;
use std::path::Path;

use crate::base::fs::{self, FsError};
use crate::base::rooted::Root;
use crate::base::sparse::Dense;
use crate::base::time::Timestamp;
use crate::dockerfile::{self, Diagnostic, Instruction, Severity, Source};
use crate::layer::{self, Compression, LayerWriter, Limits, WriteOptions};
use crate::oci::config::{History, ImageConfig};
use crate::oci::descriptor::{CONFIG, Descriptor, Layer, MANIFEST};
use crate::oci::manifest::Manifest;
use crate::oci::platform::Platform;
use crate::plan::{self, Options, Planned};
use crate::store::Store;

use super::args::ImportArgs;
use super::failure::{Done, Failure, SUCCESS};
use super::session::Session;

/// Stores a tar archive (compressed or not, or on standard input) or a directory as an image of one layer. Ok: the image
/// is stored and named. Equal file systems give equal images. A plain user's directory is read in a user namespace, whose
/// ids become the owners in the image.
pub(super) fn run(args: &ImportArgs, session: &mut Session<'_>) -> Done {
    if args.name.digest.is_some() {
        return Err(Failure::usage(format!("{}: a new image cannot be named by a digest", args.name.familiar())));
    }
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let mut config = configure(args, platform)?;
    let from_stdin = args.source.as_os_str() == "-";
    let dir = !from_stdin && is_dir(&args.source)?;
    if dir && let Some(code) = session.as_root()? {
        return Ok(code);
    }
    let limits = Limits::until(&session.interruptible()?);
    let store = session.store()?;
    drop(session.lease(&store)?);
    let layer = if dir {
        session.announce_single_id();
        take_dir(&store, &args.source)?
    } else if from_stdin {
        take_archive(&store, std::io::stdin(), Path::new("standard input"), &limits)?
    } else {
        take_archive(&store, fs::open(&args.source)?, &args.source, &limits)?
    };
    config.rootfs.diff_ids = vec![layer.diff_id];
    let config = config.checked_bytes().map_err(|e| Failure::usage(format!("--change: {e}")))?;
    let config = store.put(CONFIG, &config)?;
    let manifest = store.put(MANIFEST, &Manifest::new(config, vec![layer.blob]).to_bytes())?;
    store.tag(std::slice::from_ref(&args.name), &manifest)?;
    session.console.data(format_args!("{}", manifest.digest))?;
    Ok(SUCCESS)
}

/// The image config: that of a Dockerfile `FROM scratch` with the changes as instructions.
fn configure(args: &ImportArgs, platform: Platform) -> Result<ImageConfig, Failure> {
    let mut text = String::from("FROM scratch\n");
    for change in &args.change {
        text.push_str(change.trim_end());
        text.push('\n');
    }
    let source = Source::new("--change", text);
    let wrong = |found: Vec<Diagnostic>| {
        let first = found.into_iter().find(|d| d.severity == Severity::Error);
        Failure::usage(format!("--change: {}", first.map(|d| d.message).unwrap_or_default()))
    };
    let parsed = dockerfile::parse(&source).map_err(wrong)?;
    for instruction in parsed.stages.iter().flat_map(|stage| &stage.instructions) {
        match &instruction.node {
            Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) | Instruction::Arg(_) => {
                let keyword = instruction.node.keyword();
                return Err(Failure::usage(format!("--change: {keyword} does not set metadata"))
                    .hint("build FROM the imported image with a Dockerfile"));
            }
            _ => {}
        }
    }
    if parsed.stages.len() != 1 {
        return Err(Failure::usage("--change: FROM does not set metadata"));
    }
    let planned = plan::plan(&parsed, &Options::new(platform), &plan::Configs::new()).map_err(wrong)?;
    let Planned::Done(plan) = planned else {
        return Err(Failure::usage("--change: other images cannot be named"));
    };
    let mut config = plan.image.config;
    let created = Timestamp::EPOCH;
    config.created = Some(created);
    let comment = args.message.clone().unwrap_or_else(|| "imported".to_owned());
    config.history = vec![History {
        created: Some(created),
        created_by: Some("kiln import".to_owned()),
        comment: Some(comment),
        ..History::default()
    }];
    for entry in plan.image.history {
        config.history.push(History {
            created: Some(created),
            created_by: Some(entry.created_by),
            author: entry.author,
            comment: Some(entry.comment),
            empty_layer: true,
        });
    }
    Ok(config)
}

fn is_dir(path: &Path) -> Result<bool, Failure> {
    let metadata = std::fs::metadata(path).map_err(|e| FsError::new("open", path, e))?;
    Ok(metadata.is_dir())
}

fn take_archive(store: &Store, from: impl Read + Send, path: &Path, limits: &Limits) -> Result<Layer, Failure> {
    let draft = store.draft_blob()?;
    let packed = layer::repack(Dense(from), draft, Compression::default(), limits);
    let (draft, packed) = packed.map_err(|e| unusable(path, &e))?;
    if packed.holds_images {
        return Err(Failure::build(format!("{} is an archive of images, not of a root file system", path.display()))
            .hint("load the images with `kiln load -i FILE`"));
    }
    draft.finish(packed.blob, packed.size)?;
    let blob = Descriptor::new(packed.media_type, packed.blob, packed.size);
    Ok(Layer { diff_id: packed.diff_id, blob })
}

fn take_dir(store: &Store, path: &Path) -> Result<Layer, Failure> {
    let root = Root::open(path).map_err(|e| FsError::new("open", path, e))?;
    let changes = layer::whole_tree(&root).map_err(|e| unusable(path, &e))?;
    let mut writer = LayerWriter::new(store.draft_blob()?, &WriteOptions::default());
    changes.write_to(&mut writer).map_err(|e| unusable(path, &e))?;
    let (draft, written) = writer.finish().map_err(|e| unusable(path, &e))?;
    draft.finish(written.blob, written.size)?;
    let blob = Descriptor::new(written.media_type, written.blob, written.size);
    Ok(Layer { diff_id: written.diff_id, blob })
}

fn unusable(path: &Path, error: &layer::Error) -> Failure {
    Failure::of_archive(&format!("import {}", path.display()), error)
}
