//! Failures to find or fetch an image.

use crate::engine::ImageError;
use crate::registry::RegistryError;

use super::message::{Kind, chain};
use super::registry;

/// Whether the registry's hint helps more than those for an image that is nowhere.
fn has_own_hint(error: &RegistryError) -> bool {
    !matches!(error, RegistryError::NotFound { .. }) && registry::hint(error).is_some()
}

/// Kind, message and hint for an image that was not found or fetched.
pub(in crate::cli) fn describe(error: &ImageError) -> (Kind, String, Option<String>) {
    let message = chain(error);
    match error {
        ImageError::NotFound { asked, similar, .. } => {
            let kind = asked.as_deref().map_or(Kind::Build, registry::kind);
            let hint = match (similar, asked) {
                (_, Some(asked)) if has_own_hint(asked) => registry::hint(asked).unwrap_or_default(),
                (Some(similar), _) => format!("did you mean {similar}? `kiln images` lists the store"),
                (None, None) => "pull it with `kiln pull`: --pull never uses only images in the store".to_owned(),
                (None, Some(_)) => {
                    "list images with `kiln images`, or create one from a directory or tar with `kiln import`"
                        .to_owned()
                }
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
