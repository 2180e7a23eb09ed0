//! Where chains start: the layers of an image.

use std::sync::Arc;

use crate::cache::KeyParts;
use crate::oci::blob::BlobSink as _;
use crate::oci::descriptor::Descriptor;
use crate::plan::{ImageRequest, Step};

use super::builder::Message;
use super::chain::State;
use super::event::Event;
use super::fetched::Fetched;
use super::images::BaseImage;
use super::worker::{Look, Worker};
use super::{StepError, keys};

impl Worker<'_> {
    /// An image is a hit if every layer's blob is stored.
    pub(super) fn look_up_image(&self, request: &ImageRequest) -> Result<Look, StepError> {
        let image = self.base_image(request)?;
        if self.missing(image)?.is_empty() {
            return Ok(Look::Hit(image_state(image)));
        }
        let mut parts = KeyParts::new();
        parts.add("base image", image.manifest.digest.to_string().as_bytes());
        Ok(Look::Miss(parts))
    }

    /// Fetches what is missing of an image. Ok: every layer's blob is stored.
    pub(super) fn fetch_image(
        &self,
        step: &Step,
        request: &ImageRequest,
        tell: &dyn Fn(Message),
    ) -> Result<Arc<State>, StepError> {
        let image = self.base_image(request)?;
        let missing = self.missing(image)?;
        let bytes = missing.iter().map(|blob| blob.size).sum();
        tell(Message::Event(Event::Fetching { step: step.id, bytes }));
        let fetched = Fetched::new(step.id, bytes, self.coordinator.get().cloned());
        self.builder.images.fetch(request, image, &missing, &|more| fetched.came(more))?;
        Ok(image_state(image))
    }

    fn base_image(&self, request: &ImageRequest) -> Result<&BaseImage, StepError> {
        Ok(self.builder.bases.get(request).expect("every image of a plan was resolved to make the plan"))
    }

    /// Blobs of `image` that the store lacks or does not know to be its layers, each once.
    fn missing(&self, image: &BaseImage) -> Result<Vec<Descriptor>, StepError> {
        let mut missing: Vec<Descriptor> = Vec::new();
        for layer in &image.layers {
            if !missing.iter().any(|m| m.digest == layer.blob.digest)
                && !(self.builder.store.has(&layer.blob).map_err(crate::store::Error::from)?
                    && (image.named || self.builder.store.is_layer(layer.blob.digest, layer.diff_id)))
            {
                missing.push(layer.blob.clone());
            }
        }
        Ok(missing)
    }
}

fn image_state(image: &BaseImage) -> Arc<State> {
    let chain: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
    State::base(keys::base(&chain), image.layers.iter().cloned())
}
