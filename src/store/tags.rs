//! Names: `index.json`.
//!
//! **Holds.** One entry per name. `org.opencontainers.image.ref.name` is the name people type (`app:1`,
//! `localhost:5000/app:1`), so `skopeo inspect oci:<root>:app:1` and `umoci unpack --image <root>:app:1` work;
//! `io.containerd.image.name` is the name in full. An image without a name (built without `-t`, or its name moved on)
//! has an entry without either, which keeps it listed and alive.
//! **Order.** Read, change and replace happen under a flock of the store's directory; the replacement is synced before
//! and after the rename, together with all that it names (`persist`). A change that changes nothing writes nothing.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crate::base::digest::BlobDigest;
use crate::base::fs::FsError;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::Index;
use crate::oci::reference::Reference;

use super::open::LAYOUT_FILE;
use super::{Error, Store};

/// The annotation other tools look names up by.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation containerd keeps the full name in.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// One line of `index.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `None` = an image without a name.
    pub name: Option<Reference>,
    /// Its manifest or index.
    pub target: Descriptor,
}

impl Entry {
    /// What people type for it: `app:1`, or `<none>`.
    pub fn familiar(&self) -> String {
        self.name.as_ref().map_or_else(|| "<none>".to_owned(), Reference::familiar)
    }
}

/// What `index.json` says.
#[derive(Debug)]
pub(super) struct Names {
    index: Index,
    entries: Vec<Entry>,
}

impl Names {
    fn of(index: Index) -> Self {
        let entries = index.manifests.iter().cloned().map(entry_of).collect();
        Self { index, entries }
    }
}

/// What a file said.
#[derive(Debug)]
pub(super) struct Known {
    _file: File,
    facts: Facts,
    names: Arc<Names>,
}

/// Device, inode, size and time of change: equal for a file that is still the same one.
type Facts = (u64, u64, u64, i64, i64);

fn facts_of(meta: &Metadata) -> Facts {
    (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
}

impl Store {
    /// All named and unnamed images, in the order of `index.json`: by name, unnamed ones last.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        Ok(self.read_index()?.entries.clone())
    }

    /// What a name stands for; `None` = nothing has it.
    pub fn resolve(&self, name: &Reference) -> Result<Option<Descriptor>, Error> {
        let names = self.read_index()?;
        let found = names.entries.iter().find(|entry| match (&entry.name, &name.digest) {
            (Some(n), None) => n == name,
            (Some(n), Some(digest)) => entry.target.digest == *digest && n.name() == name.name(),
            (None, _) => false,
        });
        Ok(found.map(|entry| entry.target.clone()))
    }

    /// Makes `names` stand for `target`, which must be stored; without names, keeps it as an unnamed image.
    /// Ok: they do, atomically and durably. Repeating is harmless and writes nothing. An image that loses its last
    /// name stays as an unnamed one.
    pub fn tag(&self, names: &[Reference], target: &Descriptor) -> Result<(), Error> {
        let unsynced = self.unsynced_of(target)?;
        self.change_keeping(true, unsynced, |entries| {
            let mut bare = target.clone();
            bare.annotations.remove(REF_NAME);
            bare.annotations.remove(CONTAINERD_NAME);
            for name in names {
                let name = Reference { digest: None, ..name.clone() };
                if name.tag.is_none() {
                    continue;
                }
                entries.retain(|e| e.name.as_ref() != Some(&name) || e.target == bare);
                if !entries.iter().any(|e| e.name.as_ref() == Some(&name)) {
                    entries.push(Entry { name: Some(name), target: bare.clone() });
                }
            }
            if !entries.iter().any(|e| e.target.digest == bare.digest) {
                entries.push(Entry { name: None, target: bare });
            }
        })
    }

    /// Takes names away. Ok: they stand for nothing. Returns the images that are left without any name; they are no
    /// longer listed, their blobs stay until gc.
    pub fn untag(&self, names: &[Reference]) -> Result<Vec<Descriptor>, Error> {
        let mut orphans = Vec::new();
        self.change_keeping(false, BTreeSet::new(), |entries| {
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(entries).into_iter().partition(|e| e.name.as_ref().is_some_and(|n| names.contains(n)));
            let alive: BTreeSet<BlobDigest> = kept.iter().map(|e| e.target.digest).collect();
            orphans = gone.into_iter().map(|e| e.target).filter(|t| !alive.contains(&t.digest)).collect();
            *entries = kept;
        })?;
        Ok(orphans)
    }

    /// Forgets an image with all its names. Ok: nothing in `index.json` refers to it. Returns the names it had.
    pub fn forget(&self, digest: BlobDigest) -> Result<Vec<Reference>, Error> {
        let mut names = Vec::new();
        self.change_keeping(false, BTreeSet::new(), |entries| {
            names = entries.iter().filter(|e| e.target.digest == digest).filter_map(|e| e.name.clone()).collect();
            entries.retain(|e| e.target.digest != digest);
        })?;
        Ok(names)
    }

    /// What `index.json` says; a damaged one is mended.
    pub(super) fn read_index(&self) -> Result<Arc<Names>, Error> {
        self.known_index().or_else(|_| {
            let _lock = self.names_lock()?;
            self.locked_index()
        })
    }

    /// [`Store::read_index`] for whoever holds the lock on names.
    fn locked_index(&self) -> Result<Arc<Names>, Error> {
        self.known_index().or_else(|e| {
            let (path, why) = (self.index_path(), e.to_string());
            let index = self.recover_index(&why).map_err(|_| Error::Damaged { path, why })?;
            Ok(Arc::new(Names::of(index)))
        })
    }

    /// `index.json`, which is read again only if it is another file than last time: one is never written twice.
    fn known_index(&self) -> io::Result<Arc<Names>> {
        let path = self.index_path();
        let mut known = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Known { facts, names, .. }) = &*known
            && std::fs::symlink_metadata(&path).is_ok_and(|meta| facts_of(&meta) == *facts)
        {
            return Ok(Arc::clone(names));
        }
        let mut file = File::open(&path)?;
        let facts = facts_of(&file.metadata()?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let names = Arc::new(Names::of(Index::parse(&bytes).map_err(io::Error::other)?));
        // Kept open, its inode is nobody else's.
        *known = Some(Known { _file: file, facts, names: Arc::clone(&names) });
        Ok(names)
    }

    /// Edits the entries under the lock. With `keep_orphans`, an image that loses its last entry gets an unnamed one.
    /// Ok: they are on the disk, and before them the files in `unsynced`.
    fn change_keeping(
        &self,
        keep_orphans: bool,
        mut unsynced: BTreeSet<PathBuf>,
        edit: impl FnOnce(&mut Vec<Entry>),
    ) -> Result<(), Error> {
        let lock = self.names_lock()?;
        let names = self.locked_index()?;
        let mut after = names.entries.clone();
        edit(&mut after);
        if keep_orphans {
            let mut listed: BTreeSet<BlobDigest> = after.iter().map(|e| e.target.digest).collect();
            let lost = names.entries.iter().filter(|e| listed.insert(e.target.digest));
            after.extend(lost.map(|lost| Entry { name: None, target: lost.target.clone() }));
        }
        // An unnamed entry only matters while the image has no name.
        let named: BTreeSet<BlobDigest> = after.iter().filter(|e| e.name.is_some()).map(|e| e.target.digest).collect();
        after.retain(|e| e.name.is_some() || !named.contains(&e.target.digest));
        after.sort_by(|a, b| order(a).cmp(&order(b)));
        after.dedup();
        let manifests: Vec<Descriptor> = after.into_iter().map(descriptor_of).collect();
        if manifests == names.index.manifests {
            drop(lock);
            return self.persist(unsynced);
        }
        let index = Index { manifests, ..names.index.clone() };
        let path = self.index_path();
        let mut draft = self.draft()?;
        draft.write_all(&index.to_bytes()).map_err(|e| FsError::new("write", &path, e))?;
        self.mend_marker(LAYOUT_FILE)?;
        unsynced.insert(draft.path().to_owned());
        self.persist(unsynced)?;
        self.keep_previous();
        draft.publish(&path, 0o644)?;
        lock.sync_all().map_err(|e| FsError::new("sync", self.root(), e))?;
        Ok(())
    }
}

fn order(entry: &Entry) -> (bool, Option<&Reference>, BlobDigest) {
    (entry.name.is_none(), entry.name.as_ref(), entry.target.digest)
}

/// Reads the name off a descriptor. A `ref.name` that is no image name (other tools write any text) is left in place
/// and the entry counts as unnamed.
fn entry_of(mut target: Descriptor) -> Entry {
    let parse = |text: &String| text.parse::<Reference>().ok().filter(|name| name.digest.is_none());
    let full = target.annotations.get(CONTAINERD_NAME).and_then(parse);
    let name = full.or_else(|| target.annotations.get(REF_NAME).and_then(parse));
    if name.is_some() {
        target.annotations.remove(REF_NAME);
        target.annotations.remove(CONTAINERD_NAME);
    }
    Entry { name, target }
}

fn descriptor_of(entry: Entry) -> Descriptor {
    let mut target = entry.target;
    if let Some(name) = entry.name {
        target.annotations.insert(REF_NAME.to_owned(), name.familiar());
        target.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
    }
    target
}
