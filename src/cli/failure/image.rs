//! Failures to find or fetch an image.

use crate::engine::ImageError;
use crate::registry::RegistryError;
use crate::transport::HttpError;

use super::message::{Kind, chain};
use super::registry;

/// Whether the name may be wrong: no registry has it, or there is none to ask.
fn may_be_mistyped(asked: Option<&RegistryError>) -> bool {
    matches!(
        asked,
        None | Some(
            RegistryError::NotFound { .. }
                | RegistryError::Http(HttpError::Network { .. } | HttpError::Unreachable { .. })
        )
    )
}

/// Kind, message and hint for an image that was not found or fetched.
pub(in crate::cli) fn describe(error: &ImageError) -> (Kind, String, Option<String>) {
    let message = chain(error);
    match error {
        ImageError::NotFound { asked, similar, .. } => {
            let kind = asked.as_deref().map_or(Kind::Build, registry::kind);
            let own = asked.as_deref().filter(|error| !matches!(error, RegistryError::NotFound { .. }));
            let hint = match (similar, own.and_then(registry::hint)) {
                (Some(similar), _) if may_be_mistyped(asked.as_deref()) => {
                    format!("did you mean {similar}? `kiln images` lists the store")
                }
                (_, Some(own)) => own,
                _ if asked.is_none() => {
                    "pull it with `kiln pull`: --pull never uses only images in the store".to_owned()
                }
                _ => "list images with `kiln images`, or create one from a directory or tar with `kiln import`"
                    .to_owned(),
            };
            (kind, message, Some(hint))
        }
        ImageError::Registry { source, .. } => (registry::kind(source), message, registry::hint(source)),
        ImageError::Lost { source, .. } => {
            (registry::kind(source), message, Some("pull or import the image again".to_owned()))
        }
        ImageError::Store { .. } => (Kind::Build, message, None),
    }
}
