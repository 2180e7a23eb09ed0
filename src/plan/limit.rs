//! The limit of what variables may take.

use crate::dockerfile::{Diagnostic, Span};

use super::options::Options;

/// Variables take more than [`Options::variable_limit`].
pub(super) fn over_variable_limit(span: Span, options: &Options) -> Diagnostic {
    let limit = options.variable_limit >> 20;
    let problem = Diagnostic::error(span, format!("the variables of this file take more than {limit} MiB"));
    problem.hint("a variable that is made of itself grows with every line")
}
