//! Exporting images: as a tar archive, or into an OCI image layout (O-62, O-63).
//!
//! **Holds.** Equal images and names give equal archives: sorted entries, no owners, no times. An existing layout keeps its
//! other images; its index is replaced atomically, under a flock of the directory, after the blobs are on the disk. Blobs are
//! verified while they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::json;

use crate::base::digest::BlobDigest;
use crate::base::durable;
use crate::base::fs::{self, FsError};
use crate::base::publish::{self, Draft};
use crate::oci::blob::BlobSource;
use crate::oci::descriptor::Descriptor;
use crate::oci::image::{Image, ImageError, manifests};
use crate::oci::manifest::{Index, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::blobs::{blob_error, copy};
use super::layout::MARKER;
use super::{CONTAINERD_NAME, Error, REF_NAME, Sources, Store};

/// The format of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archive {
    /// An OCI image layout in a tar file.
    Oci,
    /// The same with a `manifest.json`, which every version of `docker load` reads.
    Docker,
}

/// An image to export, with the names that it gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    /// Its manifest or index.
    pub target: &'a Descriptor,
    /// All of its names.
    pub names: &'a [Reference],
}

impl Store {
    /// Writes images under all their names as a tar archive.
    /// Ok: `out`, which errors call `path`, took all of it, and every blob matched its digest.
    pub(crate) fn export(
        &self,
        images: &[Named<'_>],
        archive: Archive,
        path: &Path,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let mut blobs = BTreeMap::new();
        let mut entries = Vec::new();
        for image in images {
            blobs.extend(self.closure(image.target)?);
            let added = index_entries(image.target, image.names, &entries);
            entries.extend(added);
        }
        let index = Index::new(entries).to_bytes();
        let mut small: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        small.insert("index.json".to_owned(), index);
        small.insert("oci-layout".to_owned(), MARKER.to_vec());
        if archive == Archive::Docker {
            small.insert("manifest.json".to_owned(), self.docker_manifest(images)?);
        }
        let wrap = |e: io::Error| Error::Fs(FsError::new("write", path, e));
        header(out, "blobs/", 0, true).map_err(wrap)?;
        header(out, "blobs/sha256/", 0, true).map_err(wrap)?;
        for blob in blobs.values() {
            header(out, &format!("blobs/sha256/{}", blob.digest.hex()), blob.size, false).map_err(wrap)?;
            let mut content = self.open(blob)?;
            transfer(blob, &mut content, out, path)?;
            pad(out, blob.size).map_err(wrap)?;
        }
        for (name, bytes) in small {
            header(out, &name, bytes.len() as u64, false).map_err(wrap)?;
            out.write_all(&bytes).map_err(wrap)?;
            pad(out, bytes.len() as u64).map_err(wrap)?;
        }
        out.write_all(&[0; 1024]).and_then(|()| out.flush()).map_err(wrap)
    }

    /// [`Store::export`] into a file. Ok: `path` holds the whole archive. A regular file is replaced atomically; anything else
    /// (a fifo, `/dev/stdout`) is written to.
    pub(crate) fn export_file(&self, images: &[Named<'_>], archive: Archive, path: &Path) -> Result<(), Error> {
        let mut target = Target::open(path)?;
        let mut buffered = io::BufWriter::with_capacity(1 << 18, &mut target);
        self.export(images, archive, path, &mut buffered)?;
        drop(buffered);
        Ok(target.finish(path, 0o644)?)
    }

    /// Adds an image under all its names to the image layout at `dir`, made if missing.
    /// Ok: the layout has all of the image. Images with the same names are replaced, others are untouched.
    pub(crate) fn export_layout(&self, target: &Descriptor, names: &[Reference], dir: &Path) -> Result<(), Error> {
        let wrong = |why: String| Error::NotALayout { root: dir.to_owned(), why };
        make_output_dir(&dir.join("blobs/sha256"))?;
        // An earlier export may have been interrupted before it synced blobs that exist already.
        let mut paths = BTreeSet::from([dir.join("blobs"), dir.join("blobs/sha256")]);
        for blob in self.closure(target)?.values() {
            let to = dir.join("blobs/sha256").join(blob.digest.hex());
            paths.insert(to.clone());
            if std::fs::metadata(&to).is_ok_and(|m| m.len() == blob.size) {
                continue;
            }
            let mut draft = Draft::new(dir)?;
            let mut content = self.open(blob)?;
            transfer(blob, &mut content, &mut draft, &to)?;
            draft.publish(&to, 0o644)?;
        }
        durable::sync(&paths)?;
        let lock = fs::open(dir)?;
        lock.lock().map_err(|e| FsError::new("lock", dir, e))?;
        let marker = dir.join("oci-layout");
        if fs::read_opt(&marker)?.is_none() {
            publish::durable(&marker, MARKER, 0o644)?;
        }
        let path = dir.join("index.json");
        let mut index = match fs::read_opt(&path)? {
            Some(bytes) => Index::parse(&bytes).map_err(|e| wrong(format!("index.json: {e}")))?,
            None => Index::new(Vec::new()),
        };
        let replaced = |old: &Descriptor| match (old.annotations.get(CONTAINERD_NAME), old.annotations.get(REF_NAME)) {
            (Some(full), _) => names.iter().any(|n| n.to_string() == *full),
            (None, Some(tag)) => names.iter().any(|n| n.tag.as_ref() == Some(tag)),
            (None, None) => old.digest == target.digest,
        };
        index.manifests.retain(|old| !replaced(old));
        let added = index_entries(target, names, &index.manifests);
        index.manifests.extend(added);
        publish::durable(&path, &index.to_bytes(), 0o644)?;
        Ok(())
    }

    /// Every blob of an image, by digest.
    fn closure(&self, target: &Descriptor) -> Result<BTreeMap<BlobDigest, Descriptor>, Error> {
        let mut blobs = BTreeMap::new();
        let mut todo = vec![target.clone()];
        while let Some(blob) = todo.pop() {
            if blobs.contains_key(&blob.digest) {
                continue;
            }
            let damaged =
                |e: &dyn std::fmt::Display| Error::Damaged { path: self.blob_path(blob.digest), why: e.to_string() };
            if blob.is_index() {
                todo.extend(Index::parse(&self.get(&blob)?).map_err(|e| damaged(&e))?.manifests);
            } else if blob.is_manifest() {
                let manifest = Manifest::parse(&self.get(&blob)?).map_err(|e| damaged(&e))?;
                todo.push(manifest.config);
                todo.extend(manifest.layers);
            }
            blobs.insert(blob.digest, blob);
        }
        Ok(blobs)
    }

    /// The image that readers of `manifest.json` get, which know no indexes: of several, as with Docker, that of this machine's
    /// platform, else the first.
    fn docker_image(&self, target: &Descriptor) -> Result<Manifest, Error> {
        match Image::read(self, target, &Platform::host()) {
            Ok(image) => Ok(image.manifest),
            Err(ImageError::NoPlatform { .. }) => {
                let first = manifests(self, target)?.into_iter().next();
                let why = "the index is empty".to_owned();
                Ok(first.ok_or(ImageError::NotAnImage { digest: target.digest, why })?.1)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// `manifest.json`.
    fn docker_manifest(&self, images: &[Named<'_>]) -> Result<Vec<u8>, Error> {
        let mut list = Vec::new();
        for Named { target, names } in images {
            let manifest = self.docker_image(target)?;
            let path = |blob: &Descriptor| format!("blobs/sha256/{}", blob.digest.hex());
            let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
            let layers: Vec<String> = manifest.layers.iter().map(path).collect();
            list.push(json!({ "Config": path(&manifest.config), "RepoTags": tags, "Layers": layers }));
        }
        Ok(serde_json::Value::from(list).to_string().into_bytes())
    }
}

/// Where an archive is written.
#[derive(Debug)]
pub(crate) enum Target {
    /// A regular file, which gets its name when it is complete.
    Draft(Draft),
    /// A fifo or device, which is written to directly.
    Special(std::fs::File),
}

impl Target {
    /// Ok: what is written goes to `path`, or is there after [`Target::finish`].
    pub(crate) fn open(path: &Path) -> Result<Self, FsError> {
        if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            let file = std::fs::OpenOptions::new().write(true).open(path);
            return file.map(Self::Special).map_err(|e| FsError::new("open", path, e));
        }
        if path.is_dir() {
            return Err(FsError::new("write", path, io::ErrorKind::IsADirectory));
        }
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        Draft::new(dir).map(Self::Draft)
    }

    /// Ok: `path` has all of it, also after a power cut. A regular file was replaced atomically.
    pub(crate) fn finish(self, path: &Path, mode: u32) -> Result<(), FsError> {
        match self {
            Self::Draft(draft) => draft.publish_durably(path, mode),
            Self::Special(_) => Ok(()),
        }
    }
}

impl Write for Target {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Draft(draft) => draft.write(buf),
            Self::Special(file) => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Draft(draft) => draft.flush(),
            Self::Special(file) => file.flush(),
        }
    }
}

/// The entries of an image for an index: one per name, or a single one without. As other builders do, `ref.name` is the tag;
/// if `others` has another image under that tag, it is the whole name.
fn index_entries(target: &Descriptor, names: &[Reference], others: &[Descriptor]) -> Vec<Descriptor> {
    let mut bare = target.clone();
    bare.annotations.remove(REF_NAME);
    bare.annotations.remove(CONTAINERD_NAME);
    Sources::remove(&mut bare);
    if names.is_empty() {
        return vec![bare];
    }
    let mut entries: Vec<Descriptor> = Vec::new();
    for name in names {
        let tag = name.tag.clone().unwrap_or_default();
        let taken = |d: &Descriptor| d.annotations.get(REF_NAME) == Some(&tag);
        let short = if others.iter().chain(&entries).any(taken) { name.familiar() } else { tag.clone() };
        let mut entry = bare.clone();
        entry.annotations.insert(REF_NAME.to_owned(), short);
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
        entries.push(entry);
    }
    entries
}

/// Copies a blob. Errors of reading and of writing are told apart.
fn transfer(blob: &Descriptor, from: &mut dyn Read, to: &mut dyn Write, path: &Path) -> Result<(), Error> {
    let mut writer = TrackedWriter { inner: to, failed: false };
    match copy(from, &mut writer) {
        Ok(_) => Ok(()),
        Err(e) if writer.failed => Err(FsError::new("write", path, e).into()),
        Err(e) => Err(blob_error("read", blob.digest, &e).into()),
    }
}

/// A writer that knows whether it failed.
struct TrackedWriter<'a> {
    inner: &'a mut dyn Write,
    failed: bool,
}

impl Write for TrackedWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write(buf).inspect_err(|_| self.failed = true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn header(out: &mut dyn Write, name: &str, size: u64, dir: bool) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(if dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(if dir { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let rest = (size % 512) as usize;
    if rest == 0 { Ok(()) } else { out.write_all(&[0; 512][rest..]) }
}

/// Creates an output directory, which is not private like the store's.
fn make_output_dir(path: &Path) -> Result<(), FsError> {
    std::fs::create_dir_all(path).map_err(|e| FsError::new("create directory", path, e))
}
