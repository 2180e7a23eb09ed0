//! A shared cache in a repository of a registry.
//!
//! An entry is the annotation of a manifest, so that one request reads it; the manifest lists the blobs that the entry leads
//! to, so that the registry keeps them. The tag of `ref` is not used: entries have tags of their own. A claim is the annotation of a
//! manifest as well. No request writes a tag only if it is absent: whoever claims looks again after a moment.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::oci::blob::{BlobSource, BlobStore};
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::Manifest;
use crate::oci::reference::Reference;
use crate::registry::{Arrival, Client, Holders, PushObserver, RegistryError, is_behind};

use super::parts::Bytes;
use super::{Entry, EntryName, Remote, RemoteError, UploadClaim};

/// The annotation with the entry.
const ANNOTATION: &str = "kiln.cache.entry";
/// The annotation with a claim.
const CLAIM: &str = "kiln.cache.claim";
/// How long the claims of others may take to be seen.
const SETTLED: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(1));
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

    fn tagged(&self, tag: String) -> Reference {
        Reference { tag: Some(tag), digest: None, ..self.repository.clone() }
    }

    /// Stores a manifest of `layers` with an annotation.
    fn put_annotated(
        &self,
        at: &Reference,
        annotation: &str,
        text: Vec<u8>,
        mut layers: Vec<Descriptor>,
    ) -> Result<(), RegistryError> {
        let mut empty = Descriptor::of(EMPTY_TYPE, EMPTY);
        if self.prepared.get().is_none() {
            self.client.push_blob(&self.repository, &empty, &Bytes(EMPTY.to_vec()), &Quiet(&self.holders))?;
            let _ = self.prepared.set(());
        }
        empty.other.insert("data".to_owned(), "e30=".into());
        if layers.is_empty() {
            layers.push(empty.clone());
        }
        let text = String::from_utf8(text).expect("JSON is UTF-8");
        let annotations = BTreeMap::from([(annotation.to_owned(), text)]);
        let artifact_type = Some(ARTIFACT.to_owned());
        let manifest = Manifest { artifact_type, annotations, ..Manifest::new(empty, layers) };
        self.client.put_artifact(at, &manifest.to_bytes())
    }

    /// The claim at a tag.
    fn claim_at(&self, at: &Reference) -> Result<Option<UploadClaim>, RegistryError> {
        let manifest = self.client.artifact(at)?.and_then(|bytes| Manifest::parse(&bytes).ok());
        Ok(manifest.and_then(|manifest| UploadClaim::parse(manifest.annotations.get(CLAIM)?.as_bytes())))
    }
}

impl Remote for RegistryCache {
    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, name: &EntryName) -> Result<Option<Entry>, RemoteError> {
        let Some(bytes) = self.client.artifact(&self.tagged(name.to_string()))? else { return Ok(None) };
        let invalid = |why: String| RemoteError::Invalid { name: name.to_string(), why };
        let manifest = Manifest::parse(&bytes).map_err(|e| invalid(e.to_string()))?;
        let entry =
            manifest.annotations.get(ANNOTATION).ok_or_else(|| invalid("it is not a cache entry".to_owned()))?;
        Entry::parse(name, entry.as_bytes()).map(Some).map_err(invalid)
    }

    fn has(&self, name: &EntryName) -> Result<bool, RemoteError> {
        Ok(self.client.has_artifact(&self.tagged(name.to_string()))?)
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

    fn put(&self, entry: &Entry, _replaces: bool) -> Result<bool, RemoteError> {
        let at = self.tagged(entry.name.to_string());
        let put = self.put_annotated(&at, ANNOTATION, entry.to_bytes(), entry.stored());
        put.map_err(|error| if is_behind(&error) { RemoteError::Behind(error) } else { error.into() })?;
        Ok(true)
    }

    fn claim(&self, claim: &UploadClaim) -> Result<Option<UploadClaim>, RemoteError> {
        let at = self.tagged(format!("claim-{}", claim.name.key().hex()));
        let asked = Instant::now();
        let held = self.claim_at(&at)?.filter(|held| held.bars(claim));
        if held.is_some() {
            return Ok(held);
        }
        self.put_annotated(&at, CLAIM, claim.to_bytes(), Vec::new())?;
        // Whoever asked before this claim was there has written another one by then; the last one stays.
        std::thread::sleep((2 * asked.elapsed()).clamp(SETTLED.0, SETTLED.1));
        Ok(self.claim_at(&at)?.filter(|held| held.bars(claim)))
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
