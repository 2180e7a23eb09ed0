//! An image that cannot be found or fetched, in words.

use crate::engine::ImageError;

use super::message::{Kind, chain};
use super::registry;

/// Exit code, message and hint of an image that could not be had.
pub(in crate::cli) fn describe(error: &ImageError) -> (Kind, String, Option<String>) {
    let message = chain(error);
    match error {
        ImageError::NotFound { asked, similar, .. } => {
            let kind = asked.as_deref().map_or(Kind::Build, registry::kind);
            let hint = match (similar, asked) {
                (_, Some(asked)) if registry::hint(asked).is_some() => registry::hint(asked).unwrap_or_default(),
                (Some(similar), _) => format!("the store has {similar}; `kiln images` lists everything"),
                (None, None) => "--pull never uses only images of the store; `kiln pull` fetches one".to_owned(),
                (None, Some(_)) => {
                    "`kiln import` makes a base image of a directory or tar, `kiln images` lists what the store has"
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
