//! An image to a registry: blobs, then manifests, the named one last (O-61).

use std::cmp::Reverse;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ureq::http::Method;

use crate::base::digest::BlobDigest;
use crate::oci::blob::{BlobError, BlobFault, BlobSource};
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::{Index, MAX_DOCUMENT, Manifest};
use crate::oci::reference::Reference;
use crate::transport::{HttpError, Payload, Request};

use super::RegistryError;
use super::client::Client;
use super::repository::Repository;
use super::upload::Arrival;

/// Blobs sent at the same time.
const JOBS: usize = 16;
/// The deepest nesting of indexes (S-55).
const MAX_DEPTH: usize = 4;

/// Repositories of a registry that may have a blob.
pub(crate) type Holders = dyn Fn(&Descriptor) -> Vec<String> + Send + Sync;

/// What the caller of [`Client::push`] knows and wants to know.
pub(crate) trait PushObserver: Sync {
    /// Repositories of the target's registry that may have the blob.
    fn holders(&self, blob: &Descriptor) -> Vec<String>;
    /// The registry will have so many bytes of blobs.
    fn begins(&self, bytes: u64);
    /// Bytes of a blob were sent; after a broken connection some are sent again.
    fn sent(&self, bytes: u64);
    /// A blob is in the repository.
    fn arrived(&self, blob: &Descriptor, arrival: Arrival);
}

/// A manifest or index that goes to the registry as it is.
struct Document {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

/// What a push sends.
#[derive(Default)]
struct Cargo {
    /// Each blob once, longest first.
    blobs: Vec<Descriptor>,
    /// What others refer to comes first.
    documents: Vec<Document>,
}

impl Client {
    /// Sends an image, or all images of an index, to the repository of `name`.
    ///
    /// Ok: the registry has every blob and manifest, and its tag, if `name` has one, stands for `target`. After an error
    /// complete blobs stay, and the tag stands for what it stood for before.
    pub(crate) fn push(
        &self,
        name: &Reference,
        target: &Descriptor,
        source: &dyn BlobSource,
        observer: &dyn PushObserver,
    ) -> Result<(), RegistryError> {
        let mut cargo = Cargo::default();
        cargo.add(target, source, 0)?;
        cargo.blobs.sort_by_key(|blob| Reverse(blob.size));
        observer.begins(cargo.blobs.iter().map(|blob| blob.size).sum());
        let repository = self.repository_to_push_to(name);
        let mut attempt = 1;
        loop {
            self.send_all(&repository, &cargo.blobs, source, observer)?;
            match self.put_all(&repository, name, target, &cargo.documents) {
                Err(error) if is_behind(&error) => {
                    attempt += 1;
                    let Some(pause) = self.http.timing().pause_before(attempt, None) else { return Err(error) };
                    self.http.pause(pause)?;
                }
                put => return put,
            }
        }
    }

    /// Stores manifests whose blobs are there, the named one last.
    fn put_all(
        &self,
        repository: &Repository<'_>,
        name: &Reference,
        target: &Descriptor,
        documents: &[Document],
    ) -> Result<(), RegistryError> {
        let key = name.tag.clone().unwrap_or_else(|| target.digest.to_string());
        for document in documents {
            let own = document.descriptor.digest == target.digest;
            let key = if own { key.clone() } else { document.descriptor.digest.to_string() };
            repository.put_manifest(&key, &document.descriptor, &document.bytes)?;
        }
        Ok(())
    }

    /// Brings one blob to the repository of `name`, before the manifest that needs it exists.
    pub(crate) fn push_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        source: &dyn BlobSource,
        observer: &dyn PushObserver,
    ) -> Result<(), RegistryError> {
        send(&self.repository_to_push_to(name), blob, source, observer)
    }

    /// Sends the blobs that the repository lacks, up to [`JOBS`] at a time.
    fn send_all(
        &self,
        repository: &Repository<'_>,
        blobs: &[Descriptor],
        source: &dyn BlobSource,
        observer: &dyn PushObserver,
    ) -> Result<(), RegistryError> {
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<RegistryError>> = Mutex::new(None);
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = send(repository, blob, source, observer) {
                    next.store(blobs.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..JOBS.min(blobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Whether a registry does not know blobs yet that it has just said to have: somebody else is uploading them, too.
pub(crate) fn is_behind(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Http(HttpError::Status { status: 400, reason, .. }) if reason.contains("blob unknown"))
}

fn send(
    repository: &Repository<'_>,
    blob: &Descriptor,
    source: &dyn BlobSource,
    observer: &dyn PushObserver,
) -> Result<(), RegistryError> {
    let arrival = match repository.has_blob(blob)? {
        true => Arrival::Present,
        false => repository.bring_blob(blob, &observer.holders(blob), source, &|bytes| observer.sent(bytes))?,
    };
    observer.arrived(blob, arrival);
    Ok(())
}

impl Cargo {
    /// Adds a manifest or index and all that it refers to.
    fn add(&mut self, target: &Descriptor, source: &dyn BlobSource, depth: usize) -> Result<(), RegistryError> {
        if self.documents.iter().any(|known| known.descriptor.digest == target.digest) {
            return Ok(());
        }
        let bytes = read_document(source, target)?;
        let invalid =
            |reason: String| BlobError { operation: "push", digest: target.digest, reason, fault: BlobFault::Other };
        if target.is_index() {
            if depth >= MAX_DEPTH {
                return Err(invalid("indexes are nested too deep".to_owned()).into());
            }
            let index = Index::parse(&bytes).map_err(|e| invalid(e.to_string()))?;
            for manifest in &index.manifests {
                self.add(manifest, source, depth + 1)?;
            }
        } else {
            let manifest = Manifest::parse(&bytes).map_err(|e| invalid(e.to_string()))?;
            for blob in manifest.layers.into_iter().chain([manifest.config]) {
                // What a foreign layer holds may not be distributed; its address is in the manifest (S-57).
                if blob.urls.is_empty() && !self.blobs.iter().any(|known| known.digest == blob.digest) {
                    self.blobs.push(blob);
                }
            }
        }
        self.documents.push(Document { descriptor: target.clone(), bytes });
        Ok(())
    }
}

fn read_document(source: &dyn BlobSource, target: &Descriptor) -> Result<Vec<u8>, RegistryError> {
    let failed =
        |reason: String| BlobError { operation: "read", digest: target.digest, reason, fault: BlobFault::Other };
    if target.size > MAX_DOCUMENT {
        return Err(failed(format!("it has {} bytes, more than {MAX_DOCUMENT}", target.size)).into());
    }
    let mut bytes = Vec::new();
    source.open(target)?.read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    Ok(bytes)
}

impl Repository<'_> {
    /// Ok: `key`, a tag or the digest itself, stands for the document.
    pub(super) fn put_manifest(&self, key: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{key}"));
        let separator = if descriptor.digest.to_string() == key { '@' } else { ':' };
        let payload = Payload::Bytes(&descriptor.media_type, bytes);
        let request = Request { method: Method::PUT, payload, ..Request::get(url) };
        let response = self.request(request, &self.what(&format!("{separator}{key}")))?;
        let stored = response.header("docker-content-digest").and_then(|digest| digest.parse::<BlobDigest>().ok());
        match stored.filter(|stored| *stored != descriptor.digest) {
            None => Ok(()),
            Some(other) => {
                let why = format!("stored the manifest as {other}, not as {}", descriptor.digest);
                Err(HttpError::Protocol { url: response.url.without_query(), why }.into())
            }
        }
    }
}
