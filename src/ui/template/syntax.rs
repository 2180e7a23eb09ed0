//! What templates are made of.

use serde_json::Value;

/// The functions, in the order of the error that lists them.
pub(super) const FUNCTIONS: [&str; 17] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "println",
    "split", "upper",
];
/// Why a template cannot be used; one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TemplateError(pub(super) String);

pub(super) type Parsed<T> = Result<T, TemplateError>;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Vec<Command>),
    Set(String, Vec<Command>),
    If { test: Vec<Command>, with: bool, then: Vec<Node>, otherwise: Vec<Node> },
    Range { over: Vec<Command>, key: Option<String>, item: Option<String>, body: Vec<Node>, otherwise: Vec<Node> },
}

/// A function or operand, and its arguments.
pub(super) type Command = Vec<Operand>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// `.`, `.A.B`, or `$x.A`: the variable's name, empty for `.`, and field names.
    Path(String, Vec<String>),
    Literal(Value),
    Function(String),
    Nested(Vec<Vec<Operand>>, Vec<String>),
}

pub(super) fn wrong(why: impl Into<String>) -> TemplateError {
    TemplateError(why.into())
}
