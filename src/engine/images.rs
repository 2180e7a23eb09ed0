//! Base images: resolves names to pinned digests, and fetches layers into the store.

use std::collections::BTreeMap;

use crate::base::digest::{BlobDigest, DiffId};
use crate::layer::Limits;
use crate::oci::blob::{BlobError, BlobSink, BlobSource};
use crate::oci::descriptor::Descriptor;
use crate::oci::image::Image;
use crate::oci::manifest::Index;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::plan::{ImageName, ImageRequest};
use crate::registry::{Client, RegistryError};
use crate::snapshot::Arrivals;
use crate::store::{Layout, Store};
use crate::transport::HttpError;

use super::base_image::BaseImage;
use super::error::ImageError;
use super::fetched::{Counted, OnBytes};
use super::verifying_store::VerifyingStore;

/// Where base images come from.
pub(crate) trait ImageSource: Sync {
    /// Resolves a name; nothing else reads a mutable tag. Fetches manifest and config, no layer.
    fn resolve(&self, request: &ImageRequest) -> Result<BaseImage, ImageError>;

    /// Fetches layers of a resolved image into the store; `on_bytes` counts bytes, layers are also read as
    /// `arrivals` says. Ok: they are stored and verified.
    fn fetch(
        &self,
        request: &ImageRequest,
        image: &BaseImage,
        layers: &[Descriptor],
        on_bytes: &OnBytes<'_>,
        arrivals: Option<Arrivals<'_>>,
    ) -> Result<(), ImageError>;

    /// Cancels fetches in progress; may be called from any thread.
    fn cancel(&self);

    /// Allows fetches again after [`ImageSource::cancel`].
    fn resume(&self);
}

/// Looks in the store first, then asks the registry of the name.
pub(crate) struct Images<'a> {
    /// The local store.
    pub store: &'a Store,
    /// The client for all registries.
    pub registry: &'a Client,
    /// When to ask a registry.
    pub pull: Pull,
    /// Images that an earlier process resolved and handed over: they are not resolved again.
    pub pinned: &'a BTreeMap<ImageRequest, BaseImage>,
}

/// When a registry is asked to resolve a name (`--pull`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// Also for names that the store knows.
    Always,
    /// For names that the store does not know.
    Missing,
    /// Never: the store must have it.
    Never,
}

/// Layers fetched at once.
const CONNECTIONS: usize = 4;

impl ImageSource for Images<'_> {
    fn resolve(&self, request: &ImageRequest) -> Result<BaseImage, ImageError> {
        if let Some(image) = self.pinned.get(request) {
            return Ok(image.clone());
        }
        match &request.image {
            ImageName::Layout(at) => self.layout(at, &request.platform),
            ImageName::Reference(name) => self.reference(name, &request.platform),
        }
    }

    fn fetch(
        &self,
        request: &ImageRequest,
        image: &BaseImage,
        layers: &[Descriptor],
        on_bytes: &OnBytes<'_>,
        arrivals: Option<Arrivals<'_>>,
    ) -> Result<(), ImageError> {
        let failed = |e| ImageError::Store { name: request.image.to_string(), source: Box::new(e) };
        let sink = VerifyingStore::new(self.store, image.layers.clone(), &Limits::default());
        let sink = match arrivals {
            Some(arrivals) => sink.reading(arrivals),
            None => sink,
        };
        // Layers may be elsewhere than where the name says. Those that nobody gives are asked for below.
        for layer in layers {
            if !self.store.has(layer).map_err(|e| failed(e.into()))? {
                let _ = self.store.open(layer);
            }
        }
        match &request.image {
            ImageName::Reference(name) => {
                self.registry.fetch(name, layers, &Counted { inner: &sink, on_bytes }, CONNECTIONS).map_err(|e| {
                    let (source, known) = (Box::new(e), matches!(self.store.resolve(name), Ok(Some(_))));
                    let name = name.familiar();
                    if known { ImageError::Lost { name, source } } else { ImageError::Registry { name, source } }
                })?;
                // The image is complete now: tagged, the next build need not ask for it. A name that stands for all platforms
                // keeps them.
                if name.digest.is_none() && !self.lists(name, image.manifest.digest).map_err(failed)? {
                    self.store.tag(std::slice::from_ref(name), &image.manifest).map_err(failed)?;
                }
                Ok(())
            }
            ImageName::Layout(at) => {
                let (layout, _) = open_layout(at).map_err(failed)?;
                layers.iter().try_for_each(|blob| transfer(blob, &layout, &sink)).map_err(|e| failed(e.into()))
            }
        }
    }

    fn cancel(&self) {
        self.registry.cancel();
    }

    fn resume(&self) {
        self.registry.resume();
    }
}

impl Images<'_> {
    /// Gives the name to an image of the registry if the store has all of it already: then nothing will be fetched, which
    /// would do it.
    fn move_name(&self, name: &Reference, image: &Image) -> Result<(), crate::store::Error> {
        let mut layers = image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids);
        let known = |(blob, diff_id): (&Descriptor, &DiffId)| {
            Ok::<bool, BlobError>(self.store.has(blob)? && self.store.is_layer(blob.digest, *diff_id))
        };
        let whole = layers.try_fold(true, |whole, layer| Ok::<bool, BlobError>(whole && known(layer)?))?;
        if whole && name.digest.is_none() && !self.lists(name, image.descriptor.digest)? {
            self.store.tag(std::slice::from_ref(name), &image.descriptor)?;
        }
        Ok(())
    }

    /// Whether the name stands for an index with this manifest.
    fn lists(&self, name: &Reference, manifest: BlobDigest) -> Result<bool, crate::store::Error> {
        let Some(target) = self.store.resolve(name)?.filter(Descriptor::is_index) else { return Ok(false) };
        let index = Index::parse(&self.store.get(&target)?);
        Ok(index.is_ok_and(|index| index.manifests.iter().any(|listed| listed.digest == manifest)))
    }

    fn reference(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ImageError> {
        // A digest is immutable: no need to ask again (O-42).
        let named = self.store.resolve(name).is_ok_and(|found| found.is_some_and(|target| !target.is_index()));
        let ask_always = self.pull == Pull::Always && name.digest.is_none();
        // A registry may have what is missing from the store.
        let (stored, damage) = match if ask_always { Ok(None) } else { self.stored(name, platform) } {
            Ok(stored) => (stored, None),
            Err(damage) => (None, Some(damage)),
        };
        if let Some((image, true)) = &stored {
            return Ok(BaseImage { named, ..image.clone().into() });
        }
        let answer = match self.pull {
            Pull::Never => None,
            Pull::Always | Pull::Missing => {
                // A registry may be slow: other processes need not wait.
                let failed = |e| ImageError::Store { name: name.familiar(), source: Box::new(e) };
                drop(self.store.lease().map_err(failed)?);
                Some(self.registry.resolve(name, platform, self.store))
            }
        };
        let (asked, name) = (name, name.familiar());
        match (answer, stored) {
            (Some(Ok(pinned)), _) => {
                self.move_name(asked, &pinned.image)
                    .map_err(|e| ImageError::Store { name: name.clone(), source: Box::new(e) })?;
                if let Some(damage) = damage {
                    let what = format!("fetched the missing parts of {name} again");
                    self.store.notices().note(what, damage.to_string());
                }
                Ok(pinned.image.into())
            }
            // An image for another platform is better than none; the plan warns about it (F-6).
            (
                None
                | Some(Err(
                    RegistryError::NotFound { .. }
                    | RegistryError::Http(HttpError::Network { .. } | HttpError::Unreachable { .. }),
                )),
                Some((image, _)),
            ) => Ok(BaseImage { named, ..image.into() }),
            (None | Some(Err(_)), None) if damage.is_some() => Err(damage.expect("just seen")),
            (
                Some(Err(
                    asked @ (RegistryError::NotFound { .. }
                    | RegistryError::Http(HttpError::Network { .. } | HttpError::Unreachable { .. })
                    | RegistryError::Denied { .. }),
                )),
                None,
            ) => Err(self.not_found(name, Some(Box::new(asked)))),
            (Some(Err(e)), _) => Err(ImageError::Registry { name, source: Box::new(e) }),
            (None, None) => Err(self.not_found(name, None)),
        }
    }

    /// The image as the store has it, and whether it is for `platform`.
    fn stored(&self, name: &Reference, platform: &Platform) -> Result<Option<(Image, bool)>, ImageError> {
        let failed = |e| ImageError::Store { name: name.familiar(), source: Box::new(e) };
        let target = match (self.store.resolve(name).map_err(failed)?, name.digest) {
            (Some(target), _) => Some(target),
            (None, Some(digest)) => self.store.document(digest).map_err(failed)?,
            (None, None) => None,
        };
        let Some(target) = target else { return Ok(None) };
        match Image::read(self.store, &target, platform) {
            Ok(image) => {
                let fits = platform.distance(&image.config.platform.clone().normalized()).is_some();
                Ok(Some((image, fits)))
            }
            // The store has another platform of this index: a registry may have this one.
            Err(crate::oci::image::ImageError::NoPlatform { .. }) => Ok(None),
            Err(e) => Err(failed(e.into())),
        }
    }

    fn not_found(&self, name: String, asked: Option<Box<RegistryError>>) -> ImageError {
        let similar = match self.store.find(&name) {
            Err(crate::store::Error::NoSuchImage { similar, .. }) => similar,
            _ => None,
        };
        ImageError::NotFound { name, asked, similar }
    }

    /// Reads manifest and config of an image in a layout.
    fn layout(&self, at: &str, platform: &Platform) -> Result<BaseImage, ImageError> {
        let failed = |e| ImageError::Store { name: format!("oci-layout://{at}"), source: Box::new(e) };
        let (layout, target) = open_layout(at).map_err(failed)?;
        let image = Image::read(&layout, &target, platform).map_err(|e| failed(e.into()))?;
        Ok(image.into())
    }
}

/// Copies `blob` from where it is to where it is wanted, unless it is there already.
fn transfer(blob: &Descriptor, from: &dyn BlobSource, to: &dyn BlobSink) -> Result<(), BlobError> {
    if to.has(blob)? { Ok(()) } else { to.accept(blob, &mut *from.open(blob)?) }
}

/// `dir`, `dir:tag`, `dir@digest` (O-5).
fn open_layout(at: &str) -> Result<(Layout, Descriptor), crate::store::Error> {
    let (rest, digest) = match at.split_once('@') {
        Some((rest, digest)) => (rest, digest.parse().ok()),
        None => (at, None),
    };
    let (dir, tag) = match rest.rsplit_once(':') {
        Some((dir, tag)) if !tag.contains('/') && !std::path::Path::new(rest).is_dir() => (dir, Some(tag)),
        _ => (rest, None),
    };
    let layout = Layout::open(std::path::Path::new(dir))?;
    let target = layout.find(tag, digest)?.clone();
    Ok((layout, target))
}
