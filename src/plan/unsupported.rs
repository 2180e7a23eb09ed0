//! The features that kiln recognizes but does not support, and the errors for them.

use crate::dockerfile::{Diagnostic, Span};

/// An unsupported feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// BUILDKIT_INLINE_CACHE.
    InlineCache,
    /// BUILDKIT_MULTI_PLATFORM.
    SinglePlatformIndex,
}

/// All unsupported features: what each is called, and what to do instead.
const REFUSED: [(Feature, &str, &str); 2] = [
    (
        Feature::InlineCache,
        "the build argument BUILDKIT_INLINE_CACHE",
        "remove it: the build cache is kept in the store, not in the image",
    ),
    (
        Feature::SinglePlatformIndex,
        "the build argument BUILDKIT_MULTI_PLATFORM",
        "remove it: an image for one platform is written as a manifest, without an index",
    ),
];

/// The error for `feature` at `span`.
pub(super) fn unsupported(feature: Feature, span: Span) -> Diagnostic {
    let (name, advice) = REFUSED
        .iter()
        .find(|(listed, ..)| *listed == feature)
        .map_or(("this", ""), |(_, name, advice)| (*name, *advice));
    let refusal = Diagnostic::error(span, format!("{name} is not supported"));
    if advice.is_empty() { refusal } else { refusal.hint(advice) }
}
