//! A setup step that did not work, on its way up to where the stage is known.

use std::io;

use super::message::{Blame, Failure, Stage};

/// What a step of init, or of the code it calls, ends with.
pub(super) type Step<T> = Result<T, Problem>;

/// A [`Failure`] without its stage.
#[derive(Debug)]
pub(super) struct Problem {
    what: String,
    errno: Option<i32>,
    hint: Option<String>,
    blame: Blame,
    code: u8,
    ids: bool,
}

impl Problem {
    /// The request cannot be met on any host.
    pub(super) fn request(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: None, hint: None, blame: Blame::Request, code: 125, ids: false }
    }

    /// This host lacks something, and no system call said so.
    pub(super) fn lacking(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: None, hint: None, blame: Blame::Host, code: 125, ids: false }
    }

    /// This host does not allow it.
    pub(super) fn host(what: impl Into<String>, error: &io::Error) -> Self {
        Self { what: what.into(), errno: error.raw_os_error(), hint: None, blame: Blame::Host, code: 125, ids: false }
    }

    /// Adds what would help.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An id was wanted that may not be mapped: the system's answer says whether.
    pub(super) fn about_ids(mut self) -> Self {
        self.ids = matches!(self.errno, Some(libc::EINVAL | libc::EPERM | libc::EOVERFLOW));
        self
    }

    /// Sets what a shell would report.
    pub(super) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// It was what was asked for, not the host.
    pub(super) fn requested(mut self) -> Self {
        self.blame = Blame::Request;
        self
    }

    /// The system's answer.
    pub(super) fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// What a shell would report.
    pub(super) fn code_now(&self) -> u8 {
        self.code
    }

    /// Complete, now that the stage is known.
    pub(super) fn at(self, stage: Stage) -> Failure {
        let Self { what, errno, hint, blame, code, ids } = self;
        Failure { stage, what, errno, hint, blame, code, ids }
    }
}

/// Ties a system's refusal to what was being done.
pub(super) trait Doing<T> {
    /// `what` is built only if it failed.
    fn doing(self, what: impl FnOnce() -> String) -> Step<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Step<T> {
        self.map_err(|e| Problem::host(what(), &e.into()))
    }
}
