//! `kiln load`: loads images from an archive or layout into the store.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::digest::{BlobDigest, Hashing};
use crate::base::fs::{self, FsError};
use crate::base::json::null_default;
use crate::base::rooted::Root;
use crate::base::sparse::{Dense, SparseFile, SparseWriter};
use crate::engine::VerifyingStore;
use crate::layer::{self, Compression, Form, Limits};
use crate::oci::blob::{BlobError, BlobFault, BlobSink, BlobSource};
use crate::oci::config::ImageConfig;
use crate::oci::descriptor::{CONFIG, Descriptor, LAYER_GZIP, LAYER_TAR, MANIFEST};
use crate::oci::image::{Image, ImageError, manifests};
use crate::oci::manifest::{Index, MAX_DOCUMENT, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::{CONTAINERD_NAME, Error, Layout, REF_NAME, Sources, Store};
use crate::ui::sanitize;

use super::all_platforms::is_image;
use super::args::LoadArgs;
use super::failure::{Done, Failure, SUCCESS};
use super::session::Session;
use super::store::check_platform;

/// One entry of `manifest.json` in a Docker archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "null_default")]
    layers: Vec<String>,
}

/// Loads OCI archives and layouts, Docker archives and directories of blobs, as `kiln save`, `docker save`, podman, buildah and
/// skopeo write them. Ok: every image
/// is verified and stored under its names; of a multi-platform image, all platforms or the requested one.
pub(super) fn run(args: &LoadArgs, session: &mut Session<'_>) -> Done {
    let limits = Limits::until(&session.interruptible()?);
    let store = session.store()?;
    drop(session.lease(&store)?);
    let scratch = store.scratch()?;
    let stdin = Path::new("standard input");
    let (dir, shown) = match args.input.as_deref().filter(|path| *path != Path::new("-")) {
        None => (unpack(io::stdin(), scratch.path(), stdin, &limits)?, stdin),
        Some(path) if path.is_dir() => (path.to_owned(), path),
        Some(path) => (unpack(fs::open(path)?, scratch.path(), path, &limits)?, path),
    };
    let (loaded, absent) = read(&store, &dir, shown, args.platform.as_ref(), &limits)?;
    if !absent.is_empty() {
        let text = format!("{} lacks the images for {}; one platform is loaded", shown.display(), absent.join(", "));
        session.console.labelled("note", &sanitize::text(&text));
    }
    for (manifest, names) in loaded {
        store.tag(&names, &manifest)?;
        for name in &names {
            session.console.data(format_args!("loaded {}", name.familiar()))?;
        }
        if names.is_empty() {
            session.console.data(format_args!("loaded {}", manifest.digest))?;
        }
    }
    Ok(scratch.remove().map(|()| SUCCESS)?)
}

/// Reads the images of an unpacked archive or a directory. Ok: the store has them.
fn read(store: &Store, dir: &Path, shown: &Path, asked: Option<&Platform>, limits: &Limits) -> Result<Found, Failure> {
    if let Some(flat) = Layout::open_flat(dir)? {
        return from_layout(store, &flat, &[], asked, limits);
    }
    let wrong = |why: String| Failure::build(format!("{}: manifest.json: {why}", shown.display()));
    let lines = docker_lines(dir).map_err(wrong)?;
    match (dir.join("oci-layout").exists(), &lines) {
        (true, _) => from_layout(store, &Layout::open(dir)?, lines.as_deref().unwrap_or_default(), asked, limits),
        (false, Some(lines)) => Ok((from_docker(store, dir, lines, shown, limits)?, Vec::new())),
        (false, None) if is_first_format(dir) => {
            let text = format!(
                "{} is an archive in the format that Docker saved before version 1.10 (layers with a json each, no \
                 manifest.json), which kiln does not read",
                shown.display()
            );
            Err(Failure::build(text)
                .hint("load it with the Docker that saved it, and push the image or save it with a newer one"))
        }
        (false, None) => {
            let text =
                format!("{} is not an image archive: it has neither oci-layout nor manifest.json", shown.display());
            Err(Failure::build(text).hint("create an image from a root file system with `kiln import`"))
        }
    }
}

/// Unpacks an untrusted archive in `scratch`; nothing is written outside it.
fn unpack(from: impl Read + Send, scratch: &Path, source: &Path, limits: &Limits) -> Result<PathBuf, Failure> {
    let wrong = |e: layer::Error| Failure::of_archive(&format!("load {}", source.display()), &e);
    let plain = scratch.join("load.tar");
    let out = SparseWriter::new(fs::create_new(&plain)?);
    let (out, packed) = layer::repack(Dense(from), out, Compression::Uncompressed, limits).map_err(wrong)?;
    out.finish().map_err(|e| FsError::new("write", &plain, e))?;
    let made = scratch.join("made");
    fs::create_dir(&made, 0o700)?;
    let plain = SparseFile::new(fs::open(&plain)?, packed.size);
    layer::unpack_within(plain, &made, packed.diff_id, Form::Plain, limits).map_err(wrong)?;
    Ok(made)
}

/// `manifest.json`, if there is one.
fn docker_lines(dir: &Path) -> Result<Option<Vec<Line>>, String> {
    let root = Root::open(dir).map_err(|e| e.to_string())?;
    let file = match root.open_file(OsStr::new("manifest.json")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| e.to_string())?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| e.to_string())
}

/// Whether a directory has the files of Docker's first format: `repositories`, or a directory with a `json` per layer.
fn is_first_format(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        entry.file_name() == "repositories" || path.join("json").is_file() && path.join("layer.tar").is_file()
    })
}

/// Manifests or indexes, with their names.
type Loaded = Vec<(Descriptor, Vec<Reference>)>;
/// What is loaded, and the platforms that the archive lists but does not have.
type Found = (Loaded, Vec<String>);

fn from_layout(
    store: &Store,
    layout: &Layout,
    lines: &[Line],
    asked: Option<&Platform>,
    limits: &Limits,
) -> Result<Found, Failure> {
    let platform = asked.cloned().unwrap_or_else(Platform::host);
    let mut loaded: Loaded = Vec::new();
    let mut absent = Vec::new();
    for target in &layout.index().manifests {
        let listed = match asked {
            None if target.is_index() => listed(layout, target)?,
            _ => Listed::default(),
        };
        absent.extend(listed.absent);
        let (stored, configs) = match listed.whole {
            Some(all) => (all_platforms(store, layout, target, &all, limits)?, configs(&all)),
            None => {
                let image = Image::read(layout, target, &platform).map_err(Error::from)?;
                check_platform(&format!("image {}", image.descriptor.digest), &image, asked)?;
                copy(layout, &VerifyingStore::of(store, &image, limits), &image.descriptor, &image.manifest)?;
                (image.descriptor, vec![image.manifest.config.digest.hex()])
            }
        };
        let is_named = |line: &&Line| configs.iter().any(|config| line.config.contains(config));
        let tags = lines.iter().filter(is_named).filter_map(|line| line.repo_tags.as_ref());
        // A bare tag in `ref.name` is not a name; other tools then keep the name elsewhere.
        let own = [CONTAINERD_NAME, REF_NAME].map(|key| target.annotations.get(key));
        let own = own.into_iter().flatten().find(|name| name.contains(['/', ':']));
        let names: Vec<Reference> = tags.flatten().chain(own).filter_map(|name| name.parse().ok()).collect();
        match loaded.iter_mut().find(|(known, _)| known.digest == stored.digest) {
            Some((_, known)) => known.extend(names),
            None => loaded.push((stored, names)),
        }
    }
    for (_, names) in &mut loaded {
        names.sort();
        names.dedup();
    }
    absent.sort();
    absent.dedup();
    Ok((loaded, absent))
}

/// The images of an index in a layout.
#[derive(Default)]
struct Listed {
    /// All of them, with attestations; `None`: the layout does not have them all.
    whole: Option<Vec<(Descriptor, Manifest)>>,
    /// The platforms that are listed but missing.
    absent: Vec<String>,
}

/// Finds out which images of an index a layout has: Docker's containerd store saves an index as it is in the registry, with
/// only those of its images that were pulled.
fn listed(layout: &Layout, target: &Descriptor) -> Result<Listed, Failure> {
    let lacks = |e: ImageError| match e {
        ImageError::Blob(BlobError { fault: BlobFault::Missing, .. }) => Ok(None),
        other => Err(Failure::from(Error::from(other))),
    };
    let mut whole = Some(Vec::new());
    let mut absent = Vec::new();
    for one in index(layout, target)?.manifests {
        let found = manifests(layout, &one).map(Some).or_else(lacks)?;
        let found = found.filter(|all| all.iter().all(|(_, manifest)| has_blobs(layout, manifest)));
        match (found, &mut whole) {
            (Some(found), Some(whole)) => whole.extend(found),
            (Some(_), None) => {}
            (None, _) => {
                whole = None;
                absent.extend(one.platform.filter(|platform| platform.os != "unknown").map(|own| own.to_string()));
            }
        }
    }
    Ok(Listed { whole, absent })
}

/// Whether config and layers can be opened. A foreign layer is fetched from its URL.
fn has_blobs(layout: &Layout, manifest: &Manifest) -> bool {
    let layers = manifest.layers.iter().filter(|layer| layer.urls.is_empty());
    layers.chain([&manifest.config]).all(|blob| layout.open(blob).is_ok())
}

fn configs(all: &[(Descriptor, Manifest)]) -> Vec<String> {
    all.iter().map(|(_, manifest)| manifest.config.digest.hex()).collect()
}

/// Ok: the store has an index as it is, and everything below it.
fn all_platforms(
    store: &Store,
    layout: &Layout,
    target: &Descriptor,
    all: &[(Descriptor, Manifest)],
    limits: &Limits,
) -> Result<Descriptor, Failure> {
    for (descriptor, manifest) in all {
        if is_image(manifest) {
            let image = Image::read(layout, descriptor, &Platform::host()).map_err(Error::from)?;
            copy(layout, &VerifyingStore::of(store, &image, limits), descriptor, manifest)?;
        } else {
            copy(layout, store, descriptor, manifest)?;
        }
    }
    let mut indexes = vec![target.clone()];
    while let Some(next) = indexes.pop() {
        let inner = index(layout, &next)?.manifests;
        indexes.extend(inner.into_iter().filter(Descriptor::is_index));
        copy_blob(layout, store, &next)?;
    }
    let mut target = target.clone();
    // Where its images were found is for this store to say, not for an archive.
    Sources::remove(&mut target);
    Ok(target)
}

fn index(layout: &Layout, target: &Descriptor) -> Result<Index, Failure> {
    let digest = target.digest;
    let mut bytes = Vec::new();
    let blob = layout.open(target).map_err(Error::from)?;
    let read = blob.take(MAX_DOCUMENT).read_to_end(&mut bytes);
    read.map_err(|e| Failure::build(format!("{digest}: {e}")))?;
    Index::parse(&bytes).map_err(|source| Error::from(ImageError::Document { digest, source }).into())
}

/// Ok: `to` has the manifest, its config and its layers.
fn copy(layout: &Layout, to: &dyn BlobSink, descriptor: &Descriptor, manifest: &Manifest) -> Result<(), Failure> {
    let layers = manifest.layers.iter().filter(|layer| layer.urls.is_empty());
    layers.chain([&manifest.config, descriptor]).try_for_each(|blob| copy_blob(layout, to, blob))
}

fn copy_blob(layout: &Layout, to: &dyn BlobSink, blob: &Descriptor) -> Result<(), Failure> {
    if !to.has(blob).map_err(Error::from)? {
        to.accept(blob, &mut *layout.open(blob).map_err(Error::from)?).map_err(Error::from)?;
    }
    Ok(())
}

/// Loads the format that `docker save` used before layouts: a config and the tars of the layers, by path.
fn from_docker(store: &Store, dir: &Path, lines: &[Line], shown: &Path, limits: &Limits) -> Result<Loaded, Failure> {
    let wrong = |what: &str, why: &dyn std::fmt::Display| Failure::build(format!("{}: {what}: {why}", shown.display()));
    let root = Root::open(dir).map_err(|e| FsError::new("open", dir, e))?;
    let mut loaded = Vec::new();
    for line in lines {
        let file = root.open_file(OsStr::new(&line.config)).map_err(|e| wrong(&line.config, &e))?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT).read_to_end(&mut bytes).map_err(|e| wrong(&line.config, &e))?;
        let config = ImageConfig::parse(&bytes).map_err(|e| wrong(&line.config, &e))?;
        if config.rootfs.diff_ids.len() != line.layers.len() {
            return Err(wrong(
                &line.config,
                &format!("its number of layers differs from the {} in the archive", line.layers.len()),
            ));
        }
        let mut layers = Vec::new();
        for (path, diff_id) in line.layers.iter().zip(&config.rootfs.diff_ids) {
            // Equal layers are links to each other in such archives; they are resolved inside the directory.
            let file = root.open_file(OsStr::new(path)).map_err(|e| wrong(path, &e))?;
            let long = file.metadata().map_err(|e| wrong(path, &e))?.len();
            let mut from = io::BufReader::with_capacity(1 << 18, SparseFile::new(file, long));
            let gzip = io::BufRead::fill_buf(&mut from).map_err(|e| wrong(path, &e))?.starts_with(&[0x1f, 0x8b]);
            let mut out = Hashing::new(store.draft_blob()?);
            io::copy(&mut from, &mut out).map_err(|e| FsError::new("store", Path::new(path), e))?;
            let (draft, digest, size) = out.finish();
            if !gzip && digest != diff_id.0 {
                return Err(wrong(path, &format!("digest mismatch: want {diff_id}, got {digest}")));
            }
            draft.finish(BlobDigest(digest), size)?;
            let blob = Descriptor::new(if gzip { LAYER_GZIP } else { LAYER_TAR }, BlobDigest(digest), size);
            if gzip {
                let content = store.open(&blob).map_err(Error::from)?;
                let got = layer::diff_id_of(content, limits).map_err(|e| wrong(path, &e))?;
                if got != *diff_id {
                    return Err(wrong(path, &format!("digest mismatch: want {diff_id}, got {got}")));
                }
            }
            layers.push(blob);
        }
        let config = store.put(CONFIG, &bytes)?;
        let manifest = store.put(MANIFEST, &Manifest::new(config, layers).to_bytes())?;
        let names = line.repo_tags.iter().flatten().map(|name| name.parse().map_err(|e| wrong(name, &e)));
        loaded.push((manifest, names.collect::<Result<_, _>>()?));
    }
    Ok(loaded)
}
