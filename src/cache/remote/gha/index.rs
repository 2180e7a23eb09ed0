//! The list of what a branch has in the Actions cache: its entries, and where their blobs are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::digest::BlobDigest;
use crate::oci::descriptor::Descriptor;

use super::super::{Entry, EntryName};

/// The most bytes of an index that are read.
pub(super) const MAX_BYTES: u64 = 4 << 20;
/// About how many bytes of an index are written.
const MAX_KEPT: usize = 3 << 20;
/// The most packs that an index refers to: each costs a request.
const MAX_PACKS: usize = 64;

/// Where a blob is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The id of a pack.
    pub(super) pack: String,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The content of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    packs: Vec<String>,
    /// By digest: the position of the pack, offset and length.
    blobs: BTreeMap<BlobDigest, (usize, u64, u64)>,
    entries: BTreeMap<String, Listed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    /// The number of the index whose build used it last.
    used: u64,
    /// As it was written: another version of kiln may know more of it.
    entry: Value,
}

/// What a build adds to an index.
#[derive(Clone, Debug, Default)]
pub(super) struct Additions {
    pub(super) entries: BTreeMap<EntryName, Entry>,
    /// Those of them that take the place of others.
    pub(super) replaced: BTreeSet<EntryName>,
    /// Entries that were there, and are still of use.
    pub(super) used: BTreeSet<EntryName>,
    /// Packs that are not there any more.
    pub(super) gone: BTreeSet<String>,
}

impl Listed {
    /// Where the blobs of this entry are. `None`: nowhere, or kiln does not know the entry.
    fn places<'p>(
        &self,
        name: &str,
        places: &'p BTreeMap<BlobDigest, Location>,
    ) -> Option<Vec<(BlobDigest, &'p Location)>> {
        let entry = Entry::parse(&name.parse().ok()?, self.entry.to_string().as_bytes()).ok()?;
        entry.stored().iter().map(|blob| Some((blob.digest, places.get(&blob.digest)?))).collect()
    }
}

impl Index {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an index has only string keys")
    }

    /// The entry with this name, if all its blobs are somewhere.
    pub(super) fn entry(&self, name: &EntryName) -> Option<Result<Entry, String>> {
        let listed = self.entries.get(&name.to_string())?;
        let entry = Entry::parse(name, listed.entry.to_string().as_bytes());
        match entry {
            Ok(entry) if entry.stored().iter().any(|blob| self.location(blob).is_none()) => None,
            entry => Some(entry),
        }
    }

    /// Where a blob is.
    pub(super) fn location(&self, blob: &Descriptor) -> Option<Location> {
        let (pack, offset, length) = *self.blobs.get(&blob.digest)?;
        let end = offset.checked_add(length);
        let location = Location { pack: self.packs.get(pack)?.clone(), offset, length };
        (length == blob.size && length > 0 && end.is_some()).then_some(location)
    }

    /// The index with this number that follows: with what a build made, whose blobs are where `locate` says. What was used least
    /// recently is left out if it would become too large.
    pub(super) fn with(
        mut self,
        number: u64,
        added: &Additions,
        locate: impl Fn(&Descriptor) -> Option<Location>,
    ) -> Self {
        let mut places: BTreeMap<BlobDigest, Location> = self.places();
        places.retain(|_, location| !added.gone.contains(&location.pack));
        // The others are made again.
        self.entries.retain(|name, listed| listed.places(name, &places).is_some());
        for name in &added.used {
            if let Some(listed) = self.entries.get_mut(&name.to_string()) {
                listed.used = number;
            }
        }
        for name in &added.replaced {
            self.entries.remove(&name.to_string());
        }
        for (name, entry) in &added.entries {
            let found: Vec<(BlobDigest, Location)> =
                entry.stored().iter().filter_map(|blob| Some((blob.digest, locate(blob)?))).collect();
            let entry = serde_json::from_slice(&entry.to_bytes()).expect("an entry is JSON");
            let listed = self.entries.entry(name.to_string()).or_insert(Listed { used: number, entry });
            listed.used = number;
            for (digest, location) in found {
                places.entry(digest).or_insert(location);
            }
        }
        Self::bounded(self.entries, &places)
    }

    fn places(&self) -> BTreeMap<BlobDigest, Location> {
        let place = |(digest, (pack, offset, length)): (&BlobDigest, &(usize, u64, u64))| {
            let location = Location { pack: self.packs.get(*pack)?.clone(), offset: *offset, length: *length };
            Some((*digest, location))
        };
        self.blobs.iter().filter_map(place).collect()
    }

    /// The entries that were used most recently and whose blobs are somewhere, as many as fit.
    fn bounded(entries: BTreeMap<String, Listed>, places: &BTreeMap<BlobDigest, Location>) -> Self {
        let mut recent: Vec<(String, Listed)> = entries.into_iter().collect();
        recent.sort_by_key(|(_, listed)| std::cmp::Reverse(listed.used));
        let (mut index, mut bytes) = (Self::default(), 0);
        for (name, listed) in recent {
            let text = listed.entry.to_string();
            let Some(blobs) = listed.places(&name, places) else { continue };
            let packs = blobs.iter().map(|(_, location)| &location.pack);
            let more: BTreeSet<&String> = packs.filter(|pack| !index.packs.contains(pack)).collect();
            bytes += text.len() + name.len() + 120 * blobs.len();
            if bytes > MAX_KEPT {
                break;
            }
            if index.packs.len() + more.len() > MAX_PACKS {
                continue;
            }
            index.packs.extend(more.into_iter().cloned());
            for (digest, location) in blobs {
                let pack = index.packs.iter().position(|pack| *pack == location.pack).expect("it was just added");
                index.blobs.insert(digest, (pack, location.offset, location.length));
            }
            index.entries.insert(name, listed);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::{DiffId, Sha256, StepKey};
    use crate::cache::Made;
    use crate::cache::remote::LayerEntry;
    use crate::oci::descriptor::LAYER_TAR;

    fn step(text: &str) -> Entry {
        let (key, blob) = (StepKey(Sha256::of(text.as_bytes())), Descriptor::of(LAYER_TAR, text.as_bytes()));
        let blobs = BTreeMap::from([("plain".to_owned(), blob)]);
        let (diff_id, made) = (DiffId(Sha256::of(text.as_bytes())), Made::default());
        Entry::of_layer(key, LayerEntry { key, diff_id, blobs, parts: None, made })
    }

    fn add(index: Index, number: u64, entry: &Entry, used: &[&Entry], gone: &[&str]) -> Index {
        let added = Additions {
            entries: BTreeMap::from([(entry.name, entry.clone())]),
            replaced: BTreeSet::new(),
            used: used.iter().map(|entry| entry.name).collect(),
            gone: gone.iter().map(|pack| (*pack).to_owned()).collect(),
        };
        let pack = format!("pack {number}");
        index.with(number, &added, |blob| Some(Location { pack: pack.clone(), offset: 3, length: blob.size }))
    }

    #[test]
    fn index_keeps_what_is_used_and_forgets_the_rest() {
        let (first, second) = (step("first"), step("second"));
        let mut index = add(add(Index::default(), 1, &first, &[], &[]), 2, &second, &[], &[]);
        for number in 3..100 {
            index = add(index, number, &step(&number.to_string()), &[&first], &[]);
        }
        assert_eq!(index.packs.len(), MAX_PACKS);
        assert_eq!(index.entry(&first.name), Some(Ok(first.clone())));
        assert_eq!(index.entry(&second.name), None);
        assert_eq!(Index::parse(&index.to_bytes()), Ok(index.clone()));
        // What is lost is added again, and replaces what led to it.
        let again = add(index, 100, &first, &[], &["pack 1"]);
        assert_eq!(again.location(&first.stored()[0]).map(|location| location.pack), Some("pack 100".to_owned()));
    }

    #[test]
    fn location_that_cannot_be_is_none() {
        let entry = step("first");
        let index = add(Index::default(), 1, &entry, &[], &[]);
        let text = String::from_utf8(index.to_bytes()).expect("JSON");
        for (from, to) in [("[0,3,5]", "[1,3,5]"), ("[0,3,5]", "[0,3,6]"), ("[0,3,5]", "[0,18446744073709551615,5]")] {
            assert!(text.contains(from), "{text}");
            let changed = Index::parse(text.replace(from, to).as_bytes()).expect("an index");
            assert_eq!((changed.entry(&entry.name), changed.location(&entry.stored()[0])), (None, None), "{to}");
        }
    }
}
