//! A failed setup step, before its stage is known.

use std::io;

use super::failure::{Fault, SetupFailure, Stage};
use super::hint::Hint;

/// The result of a setup step.
pub(super) type StepResult<T> = Result<T, Problem>;

/// A [`SetupFailure`] without its stage.
#[derive(Debug)]
pub(super) struct Problem {
    what: String,
    errno: Option<i32>,
    hint: Option<Hint>,
    fault: Fault,
    code: u8,
    ids: bool,
}

impl Problem {
    /// The request cannot be met on any host.
    pub(super) fn request(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: None, hint: None, fault: Fault::Request, code: 125, ids: false }
    }

    /// This host lacks something, and no system call failed.
    pub(super) fn lacking(what: impl Into<String>) -> Self {
        Self { fault: Fault::Host, ..Self::request(what) }
    }

    /// The system call for `action` failed on this host. `action` completes `cannot …`: `mount /proc`.
    pub(super) fn host(action: impl std::fmt::Display, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self { errno: Some(errno), ..Self::lacking(format!("cannot {action}")) },
            None => Self::lacking(format!("cannot {action}: {error}")),
        }
    }

    /// Adds what would help.
    pub(super) fn hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The step used a user or group id; with these errors, the id is not mapped.
    pub(super) fn about_ids(mut self) -> Self {
        self.ids = matches!(self.errno, Some(libc::EINVAL | libc::EPERM | libc::EOVERFLOW));
        self
    }

    /// Sets the exit status that a shell would report.
    pub(super) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The request is at fault, not the host.
    pub(super) fn requested(mut self) -> Self {
        self.fault = Fault::Request;
        self
    }

    /// The error of the system call.
    pub(super) fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// The exit status that a shell would report.
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// The failure of this stage.
    pub(super) fn at(self, stage: Stage) -> SetupFailure {
        let Self { what, errno, hint, fault, code, ids } = self;
        SetupFailure { stage, what, errno, hint, fault, code, ids }
    }
}

/// Adds the action to the error of a system call: `cannot ACTION: ERROR`.
pub(super) trait Context<T> {
    /// `action` is called only if the system call failed.
    fn context(self, action: impl FnOnce() -> String) -> StepResult<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: impl FnOnce() -> String) -> StepResult<T> {
        self.map_err(|e| Problem::host(action(), &e.into()))
    }
}
