//! Manifests that are no images, by tag, and parts of blobs: what a build cache has.

use std::io::Read;
use std::ops::Range;

use ureq::http::Method;

use crate::oci::blob::{BlobError, BlobFault};
use crate::oci::descriptor::{Descriptor, MANIFEST};
use crate::oci::reference::Reference;
use crate::transport::{HttpError, Request};

use super::RegistryError;
use super::client::Client;
use super::download::Download;
use super::repository::Repository;
use super::rules::Place;

impl Client {
    /// The manifest that the tag of `name` stands for, not verified; `None`: there is none. Mirrors are not asked: they may be
    /// behind.
    pub(crate) fn artifact(&self, name: &Reference) -> Result<Option<Vec<u8>>, RegistryError> {
        let found = self.own_repository(name).manifest_by_tag(tag_of(name)?);
        present(found.map(|(_, bytes)| bytes))
    }

    /// Whether the tag of `name` stands for something.
    pub(crate) fn has_artifact(&self, name: &Reference) -> Result<bool, RegistryError> {
        let repository = self.repository_to_push_to(name);
        let url = repository.url(&format!("manifests/{}", tag_of(name)?));
        let request = Request {
            method: Method::HEAD,
            headers: vec![("accept", super::document::ACCEPT.to_owned())],
            ..Request::get(url)
        };
        Ok(present(repository.request(request, &name.to_string()))?.is_some())
    }

    /// Stores a manifest whose blobs the repository has, under the tag of `name`.
    pub(crate) fn put_artifact(&self, name: &Reference, bytes: &[u8]) -> Result<(), RegistryError> {
        let descriptor = Descriptor::of(MANIFEST, bytes);
        self.repository_to_push_to(name).put_manifest(tag_of(name)?, &descriptor, bytes)
    }

    /// Some bytes of a blob, unverified; a broken connection is continued.
    pub(crate) fn part(
        &self,
        name: &Reference,
        blob: &Descriptor,
        range: Range<u64>,
    ) -> Result<Box<dyn Read + Send + '_>, RegistryError> {
        Ok(Box::new(Download::start_part(&self.own_repository(name), blob, range)?))
    }

    /// Whether the repository of a name has a blob.
    pub(crate) fn has_blob(&self, name: &Reference, blob: &Descriptor) -> Result<bool, RegistryError> {
        self.repository_to_push_to(name).has_blob(blob)
    }

    /// The repository of a name on its registry itself.
    fn own_repository(&self, name: &Reference) -> Repository<'_> {
        let place = Place { registry: name.registry.clone(), repository: name.repository.clone() };
        self.repository_at(place)
    }
}

fn tag_of(name: &Reference) -> Result<&str, RegistryError> {
    let why = "the name has no tag".to_owned();
    Ok(name.tag.as_deref().ok_or_else(|| HttpError::Protocol { url: name.to_string(), why })?)
}

/// `None`, if the registry says that there is no such thing.
fn present<T>(answer: Result<T, RegistryError>) -> Result<Option<T>, RegistryError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(RegistryError::NotFound { .. } | RegistryError::Blob(BlobError { fault: BlobFault::Missing, .. })) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
