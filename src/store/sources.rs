//! The names under which the images of an index were found.
//!
//! **Holds.** `kiln manifest create` makes an index of images whose layers may be only in a registry; a build that found
//! everything in a shared cache makes an image whose layers are there, and in the registry of its base image. Layers are
//! mounted or fetched from there when they are needed ([`super::Elsewhere`]). The names are kept in an annotation of the entry in
//! `index.json`, not in the index or manifest: its bytes, and so its digest, say only what it holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::digest::BlobDigest;
use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;

/// `DIGEST=NAME`, separated by spaces.
const ANNOTATION: &str = "kiln.sources";

/// Names by the digests of the manifests that they stood for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources(BTreeMap<BlobDigest, Reference>);

impl Sources {
    /// What is kept with `target`.
    pub(crate) fn of(target: &Descriptor) -> Self {
        let text = target.annotations.get(ANNOTATION).map(String::as_str).unwrap_or_default();
        let pairs = text.split_ascii_whitespace().filter_map(|pair| pair.split_once('='));
        Self(pairs.filter_map(|(digest, name)| Some((digest.parse().ok()?, name.parse().ok()?))).collect())
    }

    /// Keeps the names with `target`, in place of those that it has.
    pub(crate) fn keep(&self, target: &mut Descriptor) {
        Self::remove(target);
        if !self.0.is_empty() {
            let pairs: Vec<String> = self.0.iter().map(|(digest, name)| format!("{digest}={name}")).collect();
            target.annotations.insert(ANNOTATION.to_owned(), pairs.join(" "));
        }
    }

    /// Removes all names from `target`, which leaves the store.
    pub(crate) fn remove(target: &mut Descriptor) {
        target.annotations.remove(ANNOTATION);
    }

    /// Adds the name of a manifest.
    pub(crate) fn add(&mut self, manifest: BlobDigest, name: Reference) {
        self.0.insert(manifest, name);
    }

    /// Forgets the name of a manifest.
    pub(crate) fn forget(&mut self, manifest: BlobDigest) {
        self.0.remove(&manifest);
    }

    /// The name of a manifest.
    pub(crate) fn name_of(&self, manifest: BlobDigest) -> Option<&Reference> {
        self.0.get(&manifest)
    }

    /// The names under which the layers of a manifest may be found: its own, and those of images that `listed`, the manifests
    /// of the target, does not have: base images.
    pub(crate) fn names_for(
        &self,
        manifest: BlobDigest,
        listed: &BTreeSet<BlobDigest>,
    ) -> impl Iterator<Item = &Reference> {
        let bases = self.0.iter().filter(|(digest, _)| !listed.contains(digest)).map(|(_, name)| name);
        self.name_of(manifest).into_iter().chain(bases)
    }

    /// All manifests with their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BlobDigest, &Reference)> {
        self.0.iter().map(|(digest, name)| (*digest, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Sha256;
    use crate::oci::descriptor::INDEX;

    #[test]
    fn sources_are_kept_with_a_descriptor() {
        let mut target = Descriptor::of(INDEX, b"x");
        let plain = target.clone();
        let mut sources = Sources::default();
        for (content, name) in [("a", "app:1"), ("b", "[::1]:5000/team/app:1")] {
            sources.add(BlobDigest(Sha256::of(content.as_bytes())), name.parse().expect("a name"));
        }
        sources.keep(&mut target);
        assert_eq!(Sources::of(&target), sources);
        assert_eq!(sources.iter().count(), 2);
        // Such text needs no escapes, which would make the entry slow to find.
        let text = serde_json::to_string(&target).expect("JSON");
        assert!(!text.contains('\\'), "{text}");
        sources.forget(BlobDigest(Sha256::of(b"a")));
        sources.keep(&mut target);
        assert_eq!(Sources::of(&target).name_of(BlobDigest(Sha256::of(b"a"))), None);
        target.annotations.insert(ANNOTATION.to_owned(), "noise x=y sha256:1=app".to_owned());
        assert_eq!(Sources::of(&target), Sources::default());
        Sources::default().keep(&mut target);
        assert_eq!(target, plain);
    }
}
