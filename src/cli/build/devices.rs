//! Finding the devices of a plan, before any step runs.

use crate::cli::failure::{Failure, Kind, word};
use crate::cli::request::BuildRequest;
use crate::device::{Devices, Refusal, Refused};
use crate::dockerfile::{Diagnostic, Source};
use crate::plan::Plan;

/// Ok: every device is found and allowed.
pub(super) fn find(plan: &Plan, dockerfile: &Source, request: &BuildRequest) -> Result<Devices, Failure> {
    Devices::find(plan, &request.spec_dirs, &request.grants).map_err(|refused| {
        // A missing entitlement is a fault of the build; everything else is a fault of the host.
        let forbidden = refused.iter().any(|refused| matches!(refused.why, Refusal::Forbidden { .. }));
        let problems = refused.iter().map(|refused| diagnostic(refused, plan, dockerfile)).collect();
        let mut failure = Failure::diagnostics(dockerfile, problems);
        failure.kind = if forbidden { Kind::Build } else { Kind::Host };
        failure
    })
}

fn diagnostic(refused: &Refused, plan: &Plan, dockerfile: &Source) -> Diagnostic {
    let meta = &plan.step(refused.step).meta;
    let span = word(dockerfile, meta.span, &format!("--device={}", refused.device), "");
    let mut problem = Diagnostic::error(span, refused.why.to_string());
    if let Some(origin) = &meta.origin {
        problem = problem.note(format!("this is an ONBUILD trigger: {origin}"));
    }
    match &refused.why {
        Refusal::Missing { unread, .. } => {
            let problem = unread.iter().fold(problem, |problem, file| problem.note(format!("not read: {file}")));
            problem.hint(match unread.is_empty() {
                true => "name the directory of its CDI file with --cdi-spec-dir, or remove `required`",
                false => "fix the files that could not be read",
            })
        }
        Refusal::Forbidden { device, .. } => problem.hint(format!("allow it with --allow device={device}")),
        Refusal::Ambiguous { .. } => problem.hint("remove one of the files"),
        Refusal::Unusable { .. } => problem,
    }
}
