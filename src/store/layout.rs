//! OCI image layouts of other tools, read only: `oci-layout:DIR[:TAG][@DIGEST]`.
//!
//! **Holds.** Only regular files inside the directory are opened (symlinks are resolved inside it), and every blob is
//! verified: a hostile layout cannot make kiln hang on a fifo or read files elsewhere (S-31, S-91).

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::base::digest::BlobDigest;
use crate::base::rooted::Root;
use crate::base::sparse::{SparseFile, SparseRead};
use crate::base::verify::Verified;
use crate::oci::blob::{BlobError, BlobFault, BlobSource};
use crate::oci::descriptor::{Descriptor, INDEX, MANIFEST};
use crate::oci::manifest::{Index, MAX_DOCUMENT, Manifest};
use crate::oci::reference::Reference;

use super::{CONTAINERD_NAME, Error, REF_NAME};

/// The content of `oci-layout`, which marks a directory as an image layout.
pub(super) const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The manifest or index in a directory of `dir:`.
const TOP: &str = "manifest.json";

/// An OCI image layout directory.
#[derive(Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
    root: Root,
    index: Index,
    /// Blobs are beside the manifest, as skopeo's `dir:` has them.
    flat: bool,
}

impl Layout {
    /// Opens the layout at `dir`. Ok: it has layout version 1 and a valid index.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::NotALayout { root: dir.to_owned(), why };
        let root = Root::open(dir).map_err(|e| wrong(e.to_string()))?;
        let marker = read_small(&root, "oci-layout").map_err(|e| wrong(format!("oci-layout: {e}")))?;
        let version = serde_json::from_slice::<serde_json::Value>(&marker)
            .ok()
            .and_then(|v| v.get("imageLayoutVersion")?.as_str().map(str::to_owned));
        match version.as_deref() {
            Some(v) if v.starts_with("1.") => {}
            Some(v) => return Err(wrong(format!("layout version {v}, this kiln knows 1"))),
            None => return Err(wrong("oci-layout names no imageLayoutVersion".to_owned())),
        }
        let bytes = read_small(&root, "index.json").map_err(|e| wrong(format!("index.json: {e}")))?;
        let index = Index::parse(&bytes).map_err(|e| wrong(format!("index.json: {e}")))?;
        Ok(Self { dir: dir.to_owned(), root, index, flat: false })
    }

    /// Opens a directory that skopeo's `dir:` or podman's `docker-dir` and `oci-dir` wrote: one image, whose blobs are files
    /// named by their digests. `None`: it is not one.
    pub(crate) fn open_flat(dir: &Path) -> Result<Option<Self>, Error> {
        let wrong = |why: String| Error::NotALayout { root: dir.to_owned(), why };
        let root = Root::open(dir).map_err(|e| wrong(e.to_string()))?;
        if !read_small(&root, "version").is_ok_and(|text| text.starts_with(b"Directory Transport Version: 1")) {
            return Ok(None);
        }
        let bytes = read_small(&root, TOP).map_err(|e| wrong(format!("{TOP}: {e}")))?;
        let media_type = match (Manifest::parse(&bytes), Index::parse(&bytes)) {
            (Ok(manifest), _) => manifest.media_type.unwrap_or_else(|| MANIFEST.to_owned()),
            (_, Ok(index)) => index.media_type.unwrap_or_else(|| INDEX.to_owned()),
            (Err(e), _) => return Err(wrong(format!("{TOP}: {e}"))),
        };
        let index = Index::new(vec![Descriptor::of(&media_type, &bytes)]);
        Ok(Some(Self { dir: dir.to_owned(), root, index, flat: true }))
    }

    /// Where a blob may be.
    fn places(&self, blob: &Descriptor) -> Vec<String> {
        let hex = blob.digest.hex();
        match self.flat {
            false => vec![format!("blobs/sha256/{hex}")],
            true if self.index.manifests.iter().any(|top| top.digest == blob.digest) => vec![TOP.to_owned()],
            true => vec![format!("{hex}.{TOP}"), hex],
        }
    }

    /// Its index.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The manifest or index of a tag or digest. Without either: `latest`, or the only image (O-5).
    /// A tag matches a `ref.name` as a whole, or the tag of a full name.
    pub(crate) fn find(&self, tag: Option<&str>, digest: Option<BlobDigest>) -> Result<&Descriptor, Error> {
        let all = &self.index.manifests;
        let has_tag = |d: &&Descriptor, tag: &str| {
            [REF_NAME, CONTAINERD_NAME].iter().filter_map(|key| d.annotations.get(*key)).any(|name| {
                name == tag
                    || name.parse::<Reference>().is_ok_and(|r| r.tag.as_deref() == Some(tag) && name.contains('/'))
            })
        };
        let found = match (digest, tag) {
            (Some(digest), _) => all.iter().find(|d| d.digest == digest),
            (None, Some(tag)) => all
                .iter()
                .find(|d| d.annotations.get(REF_NAME).is_some_and(|n| n == tag))
                .or_else(|| all.iter().find(|d| has_tag(d, tag))),
            (None, None) => match all.as_slice() {
                [one] => Some(one),
                _ => all.iter().find(|d| has_tag(d, "latest")),
            },
        };
        found.ok_or_else(|| {
            let wanted = digest.map(|d| d.to_string()).or(tag.map(str::to_owned));
            let names: Vec<&str> = all.iter().filter_map(|d| d.annotations.get(REF_NAME)).map(String::as_str).collect();
            let have = if names.is_empty() { "nothing with a name".to_owned() } else { names.join(", ") };
            let why = match wanted {
                _ if all.is_empty() => "holds no image".to_owned(),
                Some(wanted) => format!("holds no image {wanted}; it holds {have}"),
                None => format!("holds {} images, say which: {have}", all.len()),
            };
            Error::NotInLayout { root: self.dir.clone(), why }
        })
    }
}

impl BlobSource for Layout {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn SparseRead + Send>, BlobError> {
        let mut opened = Err(io::ErrorKind::NotFound.into());
        for path in self.places(blob) {
            opened = self.root.open_file(OsStr::new(&path));
            if opened.is_ok() {
                break;
            }
        }
        let file = opened.map_err(|e: io::Error| {
            let missing = e.kind() == io::ErrorKind::NotFound;
            let reason = if missing { format!("{} does not have it", self.dir.display()) } else { e.to_string() };
            let fault = if missing { BlobFault::Missing } else { BlobFault::Other };
            BlobError { operation: "open", digest: blob.digest, reason, fault }
        })?;
        Ok(Box::new(Verified::new(SparseFile::new(file, blob.size), blob.digest.0, blob.size)))
    }
}

fn read_small(root: &Root, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    root.open_file(OsStr::new(name))?.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_DOCUMENT} bytes")));
    }
    Ok(bytes)
}
