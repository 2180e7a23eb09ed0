//! The limit on the size of expanded variables.

use crate::dockerfile::{Diagnostic, Span};

use super::options::Options;

/// The error for variables that exceed [`Options::variable_limit`].
pub(super) fn over_variable_limit(span: Span, options: &Options) -> Diagnostic {
    let limit = options.variable_limit >> 20;
    let problem = Diagnostic::error(span, format!("the expanded variables of this file exceed {limit} MiB"));
    problem.hint("look for a variable that includes itself: it grows with every line")
}
