//! Names: `index.json`.
//!
//! **Holds.** One entry per name. `org.opencontainers.image.ref.name` is the name as users type it (`app:1`,
//! `localhost:5000/app:1`), so `skopeo inspect oci:<root>:app:1` and `umoci unpack --image <root>:app:1` work;
//! `io.containerd.image.name` is the full name. An image without a name (built without `-t`, or its name was given to another
//! image) has an entry with neither, which keeps it listed and stored.
//! **Order.** `index.json` is read, changed and replaced under a flock of the store's directory. It is synced before and
//! after the rename, together with all blobs that it names (`persist`). A change that has no effect writes nothing.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crate::base::digest::BlobDigest;
use crate::base::fs::FsError;
use crate::base::sealed;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::InvalidDocument;
use crate::oci::reference::Reference;

use super::Error;
use super::directory::Store;
use super::index::CachedIndex;
use super::layout::MARKER;
use super::names::{CONTAINERD_NAME, Edit, Entry, Names, REF_NAME};

impl Store {
    /// All named and unnamed images, in the order of `index.json`: by name, unnamed ones last.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, Error> {
        self.ask(|names| Ok(names.entries()?.to_vec()))
    }

    /// The entries whose names are in the repository of `name`, whatever their tags. The others are not parsed.
    pub(crate) fn entries_in(&self, name: &Reference) -> Result<Vec<Entry>, Error> {
        let mut found: Vec<Entry> = self.ask(|names| names.in_repository(name).collect())?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The names of an image. Other entries are not parsed.
    pub(crate) fn names_of(&self, digest: BlobDigest) -> Result<Vec<Reference>, Error> {
        let mut found: Vec<Reference> = self.ask(|names| {
            let found = names.of(digest).collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().filter_map(|(_, entry)| entry.name).collect())
        })?;
        found.sort();
        Ok(found)
    }

    /// The entries that mention a registry, in their names or as where images of a list were found.
    pub(super) fn entries_mentioning(&self, registry: &str) -> Result<Vec<Entry>, Error> {
        self.ask(|names| names.mentioning(registry).collect())
    }

    /// The manifest or index of a name; `None`: there is no such name.
    pub(crate) fn resolve(&self, name: &Reference) -> Result<Option<Descriptor>, Error> {
        Ok(self.entry_named(name)?.map(|entry| entry.target))
    }

    /// The entry of a name. Only candidates are parsed.
    pub(super) fn entry_named(&self, name: &Reference) -> Result<Option<Entry>, Error> {
        self.ask(|names| Ok(names.named(name).next().transpose()?.map(|(_, entry)| entry)))
    }

    /// Gives `names` to `target`, which must be stored; without names, lists it as an unnamed image.
    /// Ok: the image has them, atomically and durably. Repeating is harmless and writes nothing. An image that loses its last
    /// name stays listed as an unnamed one.
    pub(crate) fn tag(&self, names: &[Reference], target: &Descriptor) -> Result<(), Error> {
        let unsynced = self.unsynced_of(target)?;
        let mut bare = target.clone();
        bare.annotations.remove(REF_NAME);
        bare.annotations.remove(CONTAINERD_NAME);
        self.change(unsynced, |index, edit| {
            for name in names.iter().filter(|name| name.tag.is_some()) {
                let name = Reference { digest: None, ..name.clone() };
                let mut has_it = false;
                for found in index.named(&name) {
                    let (at, entry) = found?;
                    if entry.target == bare {
                        has_it = true;
                    } else {
                        edit.gone.insert(at, entry);
                    }
                }
                if !has_it {
                    edit.add(Entry { name: Some(name), target: bare.clone() });
                }
            }
            if !edit.lists(index, bare.digest)? {
                edit.add(Entry { name: None, target: bare.clone() });
            }
            for (at, lost) in edit.gone.clone() {
                if !edit.lists(index, lost.target.digest)? {
                    edit.add_nameless(index, at, lost);
                }
            }
            // An image needs an unnamed entry only while it has no name.
            if edit.names(bare.digest) {
                for found in index.nameless(bare.digest) {
                    let (at, entry) = found?;
                    edit.gone.insert(at, entry);
                }
            }
            Ok(())
        })
    }

    /// Removes names. Ok: nothing has them. Returns the images that are left without a name: they are no longer listed, and
    /// their blobs stay until the store is pruned.
    pub(crate) fn untag(&self, names: &[Reference]) -> Result<Vec<Descriptor>, Error> {
        self.change(BTreeSet::new(), |index, edit| {
            let mut orphans = Vec::new();
            for name in names.iter().filter(|name| name.digest.is_none()) {
                for found in index.named(name) {
                    let (at, entry) = found?;
                    edit.gone.insert(at, entry);
                }
            }
            for gone in edit.gone.values() {
                if !edit.lists(index, gone.target.digest)? {
                    orphans.push(gone.target.clone());
                }
            }
            Ok(orphans)
        })
    }

    /// Removes an image from the list, unless it has a name. Its blobs stay until the store is pruned.
    pub(crate) fn forget_unnamed(&self, digest: BlobDigest) -> Result<(), Error> {
        self.change(BTreeSet::new(), |index, edit| {
            let found = index.of(digest).collect::<Result<Vec<_>, _>>()?;
            if found.iter().all(|(_, entry)| entry.name.is_none()) {
                edit.gone.extend(found);
            }
            Ok(())
        })
    }

    /// Removes an image with all its names. Ok: nothing in `index.json` refers to it. Returns the names it had.
    pub(crate) fn forget(&self, digest: BlobDigest) -> Result<Vec<Reference>, Error> {
        self.change(BTreeSet::new(), |index, edit| {
            let mut names = Vec::new();
            for found in index.of(digest) {
                let (at, entry) = found?;
                names.extend(entry.name.clone());
                edit.gone.insert(at, entry);
            }
            Ok(names)
        })
    }

    /// Asks `index.json`; a damaged one is repaired first.
    fn ask<T>(&self, ask: impl Fn(&Names) -> Result<T, InvalidDocument>) -> Result<T, Error> {
        if let Ok(names) = self.known_index()
            && let Ok(answer) = ask(&names)
        {
            return Ok(answer);
        }
        let _lock = self.names_lock()?;
        self.ask_locked(ask)
    }

    /// [`Store::ask`] for whoever holds the lock on names.
    fn ask_locked<T>(&self, ask: impl Fn(&Names) -> Result<T, InvalidDocument>) -> Result<T, Error> {
        let answer = self.known_index().and_then(|names| ask(&names).map_err(io::Error::other));
        answer.or_else(|e| {
            let (path, why) = (self.index_path(), e.to_string());
            let damaged = |why: String| Error::Damaged { path: path.clone(), why };
            let index = self.recover_index(&why).map_err(|_| damaged(why))?;
            Names::read(index.to_bytes()).and_then(|names| ask(&names)).map_err(|e| damaged(e.to_string()))
        })
    }

    /// `index.json`, read again only if it was replaced.
    pub(super) fn known_index(&self) -> io::Result<Arc<Names>> {
        let path = self.index_path();
        let known = self.index.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(index) = known.filter(|index| index.is_current(&path)) {
            return Ok(index.names());
        }
        let index = Arc::new(CachedIndex::read(&path)?);
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&index));
        Ok(index.names())
    }

    /// Edits the entries under the lock. Ok: they are on the disk, after the files in `unsynced`.
    fn change<T>(
        &self,
        mut unsynced: BTreeSet<PathBuf>,
        edit: impl Fn(&Names, &mut Edit) -> Result<T, InvalidDocument>,
    ) -> Result<T, Error> {
        let lock = self.names_lock()?;
        let (answer, text) = self.ask_locked(|names| {
            let mut edits = Edit::default();
            let answer = edit(names, &mut edits)?;
            Ok((answer, names.edited(edits)))
        })?;
        let Some(text) = text else {
            drop(lock);
            self.persist(unsynced)?;
            return Ok(answer);
        };
        let path = self.index_path();
        let mut draft = self.draft()?;
        draft.write_all(&text).map_err(|e| FsError::new("write", &path, e))?;
        sealed::note(draft.file(), &text);
        self.repair_marker(MARKER)?;
        unsynced.insert(draft.path().to_owned());
        self.persist(unsynced)?;
        self.keep_previous();
        draft.publish(&path, 0o644)?;
        lock.sync_all().map_err(|e| FsError::new("sync", self.root(), e))?;
        Ok(answer)
    }
}
