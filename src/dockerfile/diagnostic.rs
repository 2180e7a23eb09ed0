//! Problems of a Dockerfile, with their positions and hints.

use std::fmt;

use super::source::{Source, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The build cannot continue.
    Error,
    /// The build can continue; usually a lint rule.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A permission that a Dockerfile cannot give itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entitlement {
    /// The network of the host.
    HostNetwork,
    /// Commands without the restrictions of the sandbox.
    Insecure,
}

/// A second position that helps to understand the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there.
    pub text: String,
}

/// One problem: a message, a position, and help. `ui` renders it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// A lint rule's name, or nothing for an error.
    pub code: Option<&'static str>,
    /// Lower-case sentence without a period.
    pub message: String,
    /// Its position.
    pub span: Span,
    /// Text beside the caret.
    pub label: Option<String>,
    /// Further positions in the same source.
    pub labels: Vec<Label>,
    /// Facts that explain the problem.
    pub notes: Vec<String>,
    /// What to do; a "did you mean" is one of these.
    pub hints: Vec<String>,
    /// A permission that the build would need.
    pub needs: Option<Entitlement>,
    /// The source that the spans index if it is not the Dockerfile: an `ONBUILD` trigger of a base image.
    pub source: Option<Source>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: None,
            message: message.into(),
            span,
            label: None,
            labels: Vec::new(),
            notes: Vec::new(),
            hints: Vec::new(),
            needs: None,
            source: None,
        }
    }

    /// A warning of rule `code` at `span`.
    pub fn warning(span: Span, code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, code: Some(code), ..Self::error(span, message) }
    }

    /// Adds text beside the caret.
    #[must_use]
    pub fn labelled(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    /// Adds a second position.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }

    /// Says that the build would need a permission.
    #[must_use]
    pub fn needs(self, entitlement: Entitlement) -> Self {
        Self { needs: Some(entitlement), ..self }
    }

    /// Adds "did you mean" when one of `known` is close to `word`.
    #[must_use]
    pub fn suggest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match super::suggest::nearest(word, known) {
            Some(best) => {
                let text = format!("did you mean `{best}`?");
                self.hint(text)
            }
            None => self,
        }
    }

    /// The spans index `source` and not the Dockerfile.
    #[must_use]
    pub fn in_source(mut self, source: &Source) -> Self {
        self.source = Some(source.clone());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Diagnostic {}
