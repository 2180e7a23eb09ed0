//! Blobs that are read only until the build is to end.

use std::io::Read;

use crate::base::cancel::{Cancel, Cancellable};
use crate::oci::blob::{BlobError, BlobSource};
use crate::oci::descriptor::Descriptor;

/// The blobs of `from`; reading one fails once `stop` is set.
pub(super) struct Until<'a> {
    pub(super) from: &'a dyn BlobSource,
    pub(super) stop: &'a Cancel,
}

impl BlobSource for Until<'_> {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>, BlobError> {
        Ok(Box::new(Cancellable::new(self.from.open(blob)?, self.stop)))
    }
}
