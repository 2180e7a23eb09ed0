//! What the parser understands and nothing here can do yet. The only place that says so.

use crate::dockerfile::{Diagnostic, Span};

/// Something that is refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// SOURCE_DATE_EPOCH taken from a context or a stage.
    EpochFromSource,
}

/// The whole list: what it is called, and what to do instead.
const REFUSED: [(Feature, &str, &str); 1] = [(
    Feature::EpochFromSource,
    "SOURCE_DATE_EPOCH from a context or a stage",
    "give whole seconds since 1970-01-01T00:00:00Z",
)];

/// Refuses `feature`, naming it and the place that asks for it.
pub(super) fn unsupported(feature: Feature, span: Span) -> Diagnostic {
    let (name, advice) = REFUSED
        .iter()
        .find(|(listed, ..)| *listed == feature)
        .map_or(("this", ""), |(_, name, advice)| (*name, *advice));
    let refusal = Diagnostic::error(span, format!("{name} is not supported"));
    if advice.is_empty() { refusal } else { refusal.hint(advice) }
}
