//! A shared cache in a repository of a registry.
//!
//! An entry is the annotation of a manifest, so that one request reads it; the manifest lists the blobs that the entry leads
//! to, so that the registry keeps them. The tag of `ref` is not used: entries have tags of their own.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::oci::blob::{BlobSource, BlobStore};
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::Manifest;
use crate::oci::reference::Reference;
use crate::registry::{Arrival, Client, Holders, PushObserver, is_behind};

use super::parts::Bytes;
use super::{Entry, EntryName, Remote, RemoteError};

/// The annotation with the entry.
const ANNOTATION: &str = "kiln.cache.entry";
/// The type of manifests with entries.
const ARTIFACT: &str = "application/vnd.kiln.cache.v1";
/// The media type of an empty document (image-spec, "Guidance for an Empty Descriptor").
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";

/// A cache in a repository.
pub(crate) struct RegistryCache {
    client: Arc<Client>,
    name: String,
    repository: Reference,
    /// Repositories of the same registry that may have a blob.
    holders: Box<Holders>,
    /// Whether the repository has the empty document.
    prepared: OnceLock<()>,
}

impl RegistryCache {
    /// The cache in the repository of `at`; blobs are taken from `holders` where they have them.
    pub(crate) fn new(client: Arc<Client>, at: Reference, holders: Box<Holders>) -> Self {
        let name = format!("registry {}", at.name());
        Self { client, name, repository: at, holders, prepared: OnceLock::new() }
    }

    fn tagged(&self, name: &EntryName) -> Reference {
        Reference { tag: Some(name.to_string()), digest: None, ..self.repository.clone() }
    }
}

impl Remote for RegistryCache {
    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, name: &EntryName) -> Result<Option<Entry>, RemoteError> {
        let Some(bytes) = self.client.artifact(&self.tagged(name))? else { return Ok(None) };
        let invalid = |why: String| RemoteError::Invalid { name: name.to_string(), why };
        let manifest = Manifest::parse(&bytes).map_err(|e| invalid(e.to_string()))?;
        let entry =
            manifest.annotations.get(ANNOTATION).ok_or_else(|| invalid("it is not a cache entry".to_owned()))?;
        Entry::parse(name, entry.as_bytes()).map(Some).map_err(invalid)
    }

    fn has(&self, name: &EntryName) -> Result<bool, RemoteError> {
        Ok(self.client.has_artifact(&self.tagged(name))?)
    }

    fn fetch(&self, blob: &Descriptor, store: &dyn BlobStore) -> Result<(), RemoteError> {
        Ok(self.client.fetch(&self.repository, std::slice::from_ref(blob), store, 1)?)
    }

    fn part(&self, blob: &Descriptor, range: Range<u64>) -> Result<Box<dyn Read + Send + '_>, RemoteError> {
        Ok(self.client.part(&self.repository, blob, range)?)
    }

    fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        Ok(self.client.has_blob(&self.repository, blob)?)
    }

    fn put_blob(&self, blob: &Descriptor, from: &dyn BlobSource) -> Result<(), RemoteError> {
        Ok(self.client.push_blob(&self.repository, blob, from, &Quiet(&self.holders))?)
    }

    fn put(&self, entry: &Entry) -> Result<(), RemoteError> {
        let mut empty = Descriptor::of(EMPTY_TYPE, EMPTY);
        if self.prepared.get().is_none() {
            self.client.push_blob(&self.repository, &empty, &Bytes(EMPTY.to_vec()), &Quiet(&self.holders))?;
            let _ = self.prepared.set(());
        }
        empty.other.insert("data".to_owned(), "e30=".into());
        let mut layers = entry.stored();
        if layers.is_empty() {
            layers.push(empty.clone());
        }
        let annotations = BTreeMap::from([(ANNOTATION.to_owned(), text(entry))]);
        let artifact_type = Some(ARTIFACT.to_owned());
        let manifest = Manifest { artifact_type, annotations, ..Manifest::new(empty, layers) };
        let put = self.client.put_artifact(&self.tagged(&entry.name), &manifest.to_bytes());
        put.map_err(|error| if is_behind(&error) { RemoteError::Behind(error) } else { error.into() })
    }

    fn repository(&self) -> Option<&Reference> {
        Some(&self.repository)
    }

    fn remark(&self) -> Option<String> {
        self.repository.tag.as_ref()?;
        let bytes = self.client.artifact(&self.repository).ok()??;
        let is_entry = Manifest::parse(&bytes).is_ok_and(|manifest| manifest.annotations.contains_key(ANNOTATION));
        (!is_entry).then(|| format!("{} is an image or another builder's cache", self.repository.familiar()))
    }

    fn cancel(&self) {
        self.client.cancel();
    }
}

fn text(entry: &Entry) -> String {
    String::from_utf8(entry.to_bytes()).expect("JSON is UTF-8")
}

/// Watches no push.
struct Quiet<'a>(&'a Holders);

impl PushObserver for Quiet<'_> {
    fn holders(&self, blob: &Descriptor) -> Vec<String> {
        (self.0)(blob)
    }

    fn begins(&self, _: u64) {}

    fn sent(&self, _: u64) {}

    fn arrived(&self, _: &Descriptor, _: Arrival) {}
}
