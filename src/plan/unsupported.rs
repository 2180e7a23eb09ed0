//! What the parser understands and nothing here can do yet. The only place that says so.

use crate::dockerfile::{Diagnostic, Span};

/// Something that is refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// BUILDKIT_INLINE_CACHE.
    InlineCache,
    /// BUILDKIT_MULTI_PLATFORM.
    SinglePlatformIndex,
}

/// The whole list: what it is called, and what to do instead.
const REFUSED: [(Feature, &str, &str); 2] = [
    (
        Feature::InlineCache,
        "the build argument BUILDKIT_INLINE_CACHE",
        "remove it: the build cache is kept in the store, and nothing of it is written into the image",
    ),
    (
        Feature::SinglePlatformIndex,
        "the build argument BUILDKIT_MULTI_PLATFORM",
        "remove it: an image for one platform is written as a manifest, without an index",
    ),
];

/// Refuses `feature`, naming it and the place that asks for it.
pub(super) fn unsupported(feature: Feature, span: Span) -> Diagnostic {
    let (name, advice) = REFUSED
        .iter()
        .find(|(listed, ..)| *listed == feature)
        .map_or(("this", ""), |(_, name, advice)| (*name, *advice));
    let refusal = Diagnostic::error(span, format!("{name} is not supported"));
    if advice.is_empty() { refusal } else { refusal.hint(advice) }
}
